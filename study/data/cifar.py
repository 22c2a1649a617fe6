"""CIFAR-10 from its archives or unpacked files, in its binary or its python version.

An archive is read in memory: nothing is extracted, members count by their exact name. A
pickle is read by an interpreter that knows arrays of bytes and containers and nothing else.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from study.data import files
from study.errors import UserError

BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
"""Five to train on, then one to test on."""
EACH, SHAPE = 10_000, (3, 32, 32)
GROUP, ARCHIVE = "cifar-10", "cifar-10-binary.tar.gz"
LARGEST = 2**26
"""Bytes of one batch in any version."""


def find() -> tuple[Path, ...]:
    """The archive, or the six files: in the data folder, else downloaded.

    Raises:
        UserError: no version is there, and it cannot be downloaded.
    """
    for name in (ARCHIVE, "cifar-10-python.tar.gz"):
        if found := files.in_folder(name, GROUP):
            return (found[0],)
    for ending in (".bin", ""):
        found = [files.in_folder(name + ending, GROUP) for name in BATCHES]
        if all(found):
            return tuple(paths[0] for paths in found)
    return tuple(files.find_all((ARCHIVE,), GROUP))


def read(paths: tuple[Path, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images [sample, 32, 32, 3] and labels [sample], uint8, to train on and to test on.

    Raises:
        UserError: a file is damaged, hostile or another; names it.
    """
    if len(paths) == 1:
        contents = archive(paths[0])
    else:
        contents = {str(path): files.unpacked(path, LARGEST) for path in paths}
    batches = [
        binary(content, name) if name.endswith(".bin") else pickled(content, name)
        for name, content in contents.items()
    ]
    *train, test = batches
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return [(images, labels), test]


def archive(path: Path) -> dict[str, bytes]:
    """The six batches of an archive by `path: member`, in the order of BATCHES.

    Raises:
        UserError: it is damaged, or a batch is missing, doubled or no plain file.
    """
    wanted = {f"cifar-10-batches-bin/{name}.bin": name for name in BATCHES}
    wanted |= {f"cifar-10-batches-py/{name}": name for name in BATCHES}
    found: dict[str, tuple[str, bytes]] = {}
    content = files.unpacked(path)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as members:
            for member in members:
                if (name := wanted.get(member.name)) is None:
                    continue
                stream = members.extractfile(member) if member.isreg() else None
                if name in found or stream is None or member.size > LARGEST:
                    raise UserError(f"{path}: {member.name} is doubled or no plain file")
                found[name] = f"{path}: {member.name}", stream.read()
    except UserError:
        raise
    except Exception as error:  # tarfile raises whatever a damaged head leads it to
        raise UserError(f"{path} is no archive that can be read: {error}") from None
    if lacking := [name for name in BATCHES if name not in found]:
        raise UserError(f"{path} lacks {', '.join(lacking)} of CIFAR-10")
    return dict(found[name] for name in BATCHES)


def binary(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch of the binary version: for each image its label, then its pixels."""
    length = 1 + int(np.prod(SHAPE))
    if len(content) != EACH * length:
        raise UserError(f"{name} has {len(content)} bytes, not {EACH * length}")
    rows = np.frombuffer(content, np.uint8).reshape(EACH, length)
    return _batch(rows[:, 1:], rows[:, 0], name)


def pickled(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch of the python version."""
    try:
        found = _Restricted(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = (
            found.get(key, found.get(key.encode())) for key in ("data", "labels")
        )
        if not isinstance(pixels, _Array) or not isinstance(labels, list):
            raise ValueError("it has no images or no labels")
        if not all(type(label) is int and 0 <= label < 256 for label in labels):
            raise ValueError("its labels are no small numbers")
        return _batch(pixels.array(), np.array(labels, np.uint8), name)
    except UserError:
        raise
    except Exception as error:  # the machine of a pickle fails in any way
        raise UserError(f"{name} is no batch of CIFAR-10: {error}") from None


def _batch(
    pixels: np.ndarray, labels: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    if pixels.shape != (EACH, int(np.prod(SHAPE))) or labels.shape != (EACH,):
        raise UserError(f"{name} is no batch of {EACH} images of 32 x 32")
    if labels.max() > 9:
        raise UserError(f"{name} has labels beyond 9")
    return pixels.reshape(EACH, *SHAPE).transpose(0, 2, 3, 1), labels


class _Array:
    """What a pickle says of an array; nothing of NumPy's runs until it is looked at."""

    def __init__(self, *start: Any) -> None:
        del start

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.by_column, self.content = state

    def array(self) -> np.ndarray:
        """The array, if it is one of bytes."""
        if self.dtype.kind not in ("u1", b"u1"):
            raise ValueError(f"its images are {self.dtype.kind!r}, not bytes")
        rows, columns = self.shape
        found = np.frombuffer(self.content, np.uint8)
        return found.reshape(rows, columns, order="F" if self.by_column else "C")


class _DType:
    """The name of a type of numbers."""

    def __init__(self, kind: Any, *rest: Any) -> None:
        del rest
        self.kind = kind

    def __setstate__(self, state: Any) -> None:
        del state


class _Encoded(bytes):
    """Bytes that newer pickles write as text."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> _Encoded:
        del encoding
        return super().__new__(cls, text, "latin1")

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"bytes have no state {state!r}")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Encoded,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


# The interpreter in Python, not the one in C: its memory does not grow with a number that a
# hostile file names.
class _Restricted(pickle._Unpickler):  # type: ignore[attr-defined]
    """Knows the names in ALLOWED, each with a stand-in, and refuses any other."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in."""
        if (module, name) not in ALLOWED:
            raise ValueError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]
