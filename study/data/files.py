"""Files of the user's: found in one data folder, checked before they are believed.

The folder is named by `--data` or by the environment variable STUDY_DATA. A spec names a
file and, where the file was given by hand, the first digits of its SHA-256, never a path:
`tinyshakespeare.txt@86c4e6aa9db7`. Published files that are not there are downloaded.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.data import download, published
from study.errors import UserError

VARIABLE = "STUDY_DATA"
DIGITS = 12
"""Of a SHA-256 in a spec."""
LARGEST = 2**28
"""Bytes that a file may have once it is unpacked."""


def use(folder: Path) -> None:
    """Makes this the data folder of the process."""
    if not folder.is_dir():
        raise UserError(f"--data {folder}: there is no such folder or file")
    os.environ[VARIABLE] = str(folder)


def pin(file: Path) -> str:
    """The name of a file with the digits of its content, for a spec."""
    return f"{file.name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:DIGITS]}"


def split(name: str) -> tuple[str, str]:
    """The file's own name, and the digits of its content if the name has them."""
    own, _, digits = name.rpartition("@")
    pinned = len(digits) == DIGITS and set(digits) <= set("0123456789abcdef")
    return (own, digits) if own and pinned else (name, "")


def find(name: str) -> Path:
    """The file of this name, and content if the name says it.

    Raises:
        UserError: it is neither in the data folder nor published, cannot be downloaded,
            or has other content.
    """
    name, digits = split(name)
    found = in_folder(name) or find_all((name,))
    for path in found:
        if not digits or pin(path) == f"{name}@{digits}":
            return path
    raise UserError(f"{found[0]} is another file than {name}@{digits}: its content differs")


def find_all(names: Sequence[str], group: str = "") -> list[Path]:
    """Files of these names: in the data folder, else downloaded as published.

    Args:
        names: of files; one that ends in `.gz` may be there without it.
        group: their data set, for files whose names say too little.

    Raises:
        UserError: one for all that lack.
    """
    paths = {name: in_folder(name, group) for name in names}
    lacking = [name for name, found in paths.items() if not found]
    folder = os.environ.get(VARIABLE)
    known = [file for name in lacking if (file := download.known(name, group))]
    if len(known) < len(lacking):
        needed = ", ".join(lacking)
        lacks = f"{folder} has no file {needed}" if folder else f"{needed} is needed"
        raise UserError(f"{lacks}: {_remedy()}")
    what = "them" if len(known) > 1 else "it"
    remedy = _remedy(f"{what} in a folder {group}" if group else f"{what} in a folder")
    fetched = download.fetch(known, remedy) if known else []
    paths |= {name: [path] for name, path in zip(lacking, fetched, strict=True)}
    return [paths[name][0] for name in names]


def in_folder(name: str, group: str = "") -> list[Path]:
    """The files of this name in the data folder or its subfolders, the likeliest first.

    Args:
        name: of the file; one that ends in `.gz` may be there without it.
        group: its data set: files in a folder named after another one are left out.
    """
    if not name or Path(name).name != name:
        raise UserError(f"{name!r} is no file name: {_remedy()}")
    if not (folder := os.environ.get(VARIABLE)):
        return []
    found = [
        path
        for own in dict.fromkeys((name, name.removesuffix(".gz")))
        for path in sorted(Path(folder).rglob(glob.escape(own)))
        if path.is_file() and _owner(path) in ("", group)
    ]
    return sorted(found, key=lambda path: _owner(path) != group)


def _owner(path: Path) -> str:
    """The data set of images after which a folder above the file is named."""
    groups = {_letters(group): group for group in published.IMAGES}
    above = (groups.get(_letters(part)) for part in reversed(path.parent.parts))
    return next((group for group in above if group), "")


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _remedy(place: str = "it in a folder") -> str:
    return f"put {place} and name that with --data or {VARIABLE}"


def unpacked(path: Path, largest: int | None = None) -> bytes:
    """The content of a file, gzipped or not.

    Raises:
        UserError: it cannot be read, or has more bytes than a data set here.
    """
    largest = LARGEST if largest is None else largest
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            content = stream.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if len(content) > largest:
        raise UserError(
            f"{path} holds more than {largest} bytes: it is no data set of ours"
        )
    return content


def idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of bytes in IDX form, plain or gzipped, as MNIST has it.

    Raises:
        UserError: the file is no such array, or is longer or shorter than it says.
    """
    content, head = unpacked(path), 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(f"{path} is no IDX file of {dimensions} dimensions of bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    if len(content) - head != np.prod(shape, dtype=object):
        raise UserError(f"{path} is damaged: it should hold {shape} bytes after its head")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
