"""Locks of a folder of records, so that several commands share its work.

`flock` on files in `.locks/`: the kernel frees a lock when its process ends, however it
ends, and no clock is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from study.errors import UserError

LOCKS = ".locks"
MANIFEST = "manifest"


@contextlib.contextmanager
def manifest(folder: Path) -> Iterator[None]:
    """Holds the right to change the manifest, after waiting for it.

    Raises:
        UserError: the file system has no such locks, or cannot be written.
    """
    with _locked(folder, MANIFEST, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def cell(folder: Path, file: str) -> Iterator[bool]:
    """Claims a cell, without waiting: whether this process has it and nobody else.

    Raises:
        UserError: the file system has no such locks, or cannot be written.
    """
    with _locked(folder, file, fcntl.LOCK_EX | fcntl.LOCK_NB) as claimed:
        yield claimed


@contextlib.contextmanager
def _locked(folder: Path, name: str, kind: int) -> Iterator[bool]:
    path = folder / LOCKS / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, kind)
            claimed = True
        except BlockingIOError:
            claimed = False
        except OSError as error:
            raise UserError(
                f"the file system of {folder} has no file locks ({error.strerror});"
                " give --results on another"
            ) from None
        yield claimed
    finally:
        os.close(handle)
