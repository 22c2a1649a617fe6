"""Files of the user's: found in one data folder, checked before they are believed.

The folder is named by `--data` or by the environment variable STUDY_DATA. A spec names a
file and, where the file was given by hand, the first digits of its SHA-256, never a path:
`tinyshakespeare.txt@86c4e6aa9db7`.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from study.errors import UserError

VARIABLE = "STUDY_DATA"
DIGITS = 12
"""Of a SHA-256 in a spec."""


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
    """The file of this name in the data folder or its subfolders.

    Raises:
        UserError: no folder is named, or it has no such file, or one of other content.
    """
    name, digits = split(name)
    folder = os.environ.get(VARIABLE)
    remedy = f"put it in a folder and name that with --data or {VARIABLE}"
    if not folder:
        raise UserError(f"the file {name} is needed: {remedy}")
    if not name or Path(name).name != name:
        raise UserError(f"{name!r} is no file name: {remedy}")
    found = sorted(path for path in Path(folder).rglob(glob.escape(name)) if path.is_file())
    if not found:
        raise UserError(f"{folder} has no file {name}: {remedy}")
    for path in found:
        if not digits or pin(path) == f"{name}@{digits}":
            return path
    raise UserError(f"{found[0]} is another file than {name}@{digits}: its content differs")


def idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of bytes in IDX form, plain or gzipped, as MNIST has it.

    Raises:
        UserError: the file is no such array, or is longer or shorter than it says.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(f"{path} is no IDX file of {dimensions} dimensions of bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    if len(content) - head != np.prod(shape, dtype=object):
        raise UserError(f"{path} is damaged: it should hold {shape} bytes after its head")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
