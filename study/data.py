"""Arrays for the problems, as NumPy: embedded sets first. Imports no jax."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Inputs [sample, feature] float64 and labels [sample] int32."""

    inputs: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """Disjoint parts: updates see train, selection sees validation, reports test."""

    train: Split
    validation: Split
    test: Split


@functools.cache
def digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in [0, 1].

    A copy of the test part of the UCI set "Optical Recognition of Handwritten Digits"
    (Alpaydin & Kaynak 1998, doi:10.24432/C50P49). Split 60 / 20 / 20 % by class, the
    same in every process: 1,077 train, 360 validation, 360 test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    inputs, labels = np.asarray(pixels) / 16.0, np.asarray(classes, np.int32)
    held, seed = 360, 0
    places = np.arange(len(labels))
    rest, test = train_test_split(
        places, test_size=held, random_state=seed, stratify=labels
    )
    train, validation = train_test_split(
        rest, test_size=held, random_state=seed, stratify=labels[rest]
    )
    return Splits(
        *(Split(inputs[part], labels[part]) for part in (train, validation, test))
    )
