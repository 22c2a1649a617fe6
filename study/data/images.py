"""Images with labels, split once for all."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from study.data import files
from study.errors import UserError


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


MNIST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""The files of MNIST's 10,000 test images."""


def mnist() -> Splits:
    """MNIST's 10,000 test images, 28 x 28 pixels in [0, 1], from files of the user's.

    LeCun, Cortes & Burges (1998). A fixed permutation splits them into 8,000 to train on,
    1,000 for validation and 1,000 for the test; the 60,000 others are not used.

    Raises:
        UserError: a file is missing or is not what its name says.
    """
    return _mnist(*map(_file, MNIST))


@functools.lru_cache(maxsize=1)
def _mnist(images: Path, classes_of: Path) -> Splits:
    pixels, labels = files.idx(images, 3), files.idx(classes_of, 1)
    if pixels.shape != (10_000, 28, 28) or labels.shape != (10_000,) or labels.max() > 9:
        raise UserError(f"{MNIST[0]} and {MNIST[1]} are not MNIST's 10,000 test images")
    order = np.random.default_rng(0).permutation(10_000)
    inputs, classes = pixels[order] / 255.0, labels[order].astype(np.int32)
    cuts = (slice(0, 8000), slice(8000, 9000), slice(9000, None))
    return Splits(*(Split(inputs[cut], classes[cut]) for cut in cuts))


def require_mnist() -> None:
    """Refuses to go on where MNIST is not there."""
    for name in MNIST:
        _file(name)


def _file(name: str) -> Path:
    """Plain or gzipped."""
    try:
        return files.find(f"{name}.gz")
    except UserError:
        return files.find(name)
