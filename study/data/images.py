"""Images with labels, split once for all."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from study.data import cifar, files, published
from study.errors import UserError


class Split(NamedTuple):
    """Inputs [sample, ...], floating, and labels [sample] int32."""

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


MNIST = published.IDX[2:]
"""The files of MNIST's 10,000 test images."""


def mnist() -> Splits:
    """MNIST's 10,000 test images, 28 x 28 pixels in [0, 1].

    LeCun, Cortes & Burges (1998). A fixed permutation splits them into 8,000 to train on,
    1,000 for validation and 1,000 for the test; the 60,000 others are not used.

    Raises:
        UserError: a file is missing or is not what its name says.
    """
    return _mnist(*files.find_all(MNIST, "mnist"))


@functools.lru_cache(maxsize=1)
def _mnist(images: Path, classes_of: Path) -> Splits:
    pixels, labels = files.idx(images, 3), files.idx(classes_of, 1)
    if pixels.shape != (10_000, 28, 28) or labels.shape != (10_000,) or labels.max() > 9:
        raise UserError(f"{images} and {classes_of} are not MNIST's 10,000 test images")
    order = np.random.default_rng(0).permutation(10_000)
    inputs, classes = pixels[order] / 255.0, labels[order].astype(np.int32)
    cuts = (slice(0, 8000), slice(8000, 9000), slice(9000, None))
    return Splits(*(Split(inputs[cut], classes[cut]) for cut in cuts))


def require_mnist() -> None:
    """Refuses to go on where MNIST's 10,000 test images are not there."""
    files.find_all(MNIST, "mnist")


def images(name: str, held_back: int = 0) -> Splits:
    """A published data set of images: `mnist`, `fashion-mnist` or `cifar-10`.

    Pixels in [0, 1], float32 [sample, row, column, (color)]. The parts to train on and to
    test on are the publisher's. Validation is `held_back` images of the former, by a fixed
    permutation; with 0, all of them are trained on and validation is the test itself, as
    in benchmarks that select on it.

    Raises:
        UserError: a file is missing, damaged or another than its name says.
    """
    return _images(name, held_back, _find(name))


def require_images(name: str) -> None:
    """Refuses to go on without the files of a published data set."""
    _find(name)


def _find(name: str) -> tuple[Path, ...]:
    if published.IMAGES[name].form == "cifar":
        return cifar.find()
    return tuple(files.find_all(published.IDX, name))


@functools.lru_cache(maxsize=1)
def _images(name: str, held_back: int, paths: tuple[Path, ...]) -> Splits:
    about, where = published.IMAGES[name], ", ".join(map(str, paths))
    if about.form == "cifar":
        train, test = cifar.read(paths)
    else:
        arrays = [files.idx(path, (3, 1)[i % 2]) for i, path in enumerate(paths)]
        train, test = arrays[:2], arrays[2:]
    parts = []
    for (pixels, labels), counts in ((train, about.train), (test, about.test)):
        shape = (sum(counts), *about.shape)
        if pixels.shape != shape or labels.shape != shape[:1]:
            raise UserError(f"{where}: not {shape[0]} images and labels of {name}")
        if not np.array_equal(np.bincount(labels, minlength=len(counts)), counts):
            raise UserError(f"{where}: the labels are not those of {name}")
        parts.append(Split(pixels / np.float32(255), labels.astype(np.int32)))
    if not held_back:
        return Splits(parts[0], parts[1], parts[1])
    order = np.random.default_rng(0).permutation(len(parts[0].labels))
    held, rest = (Split(*(x[o] for x in parts[0])) for o in np.split(order, [held_back]))
    return Splits(rest, held, parts[1])
