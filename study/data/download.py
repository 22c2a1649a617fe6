"""Published files in the user's cache folder, downloaded with pooch where they are not.

A download goes to a temporary file and takes its name only once its digest is right, so
that what lies in the cache is whole; a file that is there is not downloaded again. Pooch
does not continue within a file: an interrupted one starts anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from study.data.published import FILES, File
from study.errors import UserError

CACHE, OFFLINE = "STUDY_CACHE", "STUDY_OFFLINE"
"""Environment variables: the cache folder, and whether nothing may be downloaded."""


def known(name: str, group: str = "") -> File | None:
    """The published file of this name, of any group if none is said."""
    for file in FILES:
        if file.name == name and group in ("", file.group):
            return file
    return None


def cache() -> Path:
    """The folder of downloaded files."""
    if folder := os.environ.get(CACHE):
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("gradient-direction-study"))


def fetch(files: Sequence[File], remedy: str) -> list[Path]:
    """Where these files are in the cache, downloaded if they are not there.

    Args:
        files: of the table.
        remedy: what else the user can do, for the error.

    Raises:
        UserError: a file cannot be downloaded or is not the published one; names all
            that lack.
    """
    paths = [cache() / file.group / file.name for file in files]
    lacking = [f for f, path in zip(files, paths, strict=True) if not _is_whole(f, path)]
    for i, file in enumerate(lacking):
        try:
            _download(file, cache() / file.group)
        except UserError as error:
            names = ", ".join(f.name for f in lacking[i:])
            raise UserError(f"{names} cannot be downloaded ({error}): {remedy}") from None
    return paths


def _is_whole(file: File, path: Path) -> bool:
    """Whether a file of the right content is there.

    Raises:
        UserError: a file without a published digest is no longer the one first seen.
    """
    if not path.is_file():
        return False
    kind, _, digest = (file.digest or _pinned(file, path)).partition(":")
    if _digest(path, kind) == digest:
        return True
    if not file.digest:
        raise UserError(
            f"{path} is another file than the one first downloaded: remove it and"
            f" {_pin_of(path).name} to accept a new one"
        )
    return False


def _download(file: File, folder: Path) -> None:
    if os.environ.get(OFFLINE):
        raise UserError(f"{OFFLINE} is set")
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    print(f"downloading {file.address}", file=sys.stderr)
    with _left_as_it_was(folder):
        try:
            pooch.retrieve(file.address, file.digest or None, file.name, folder)
        except requests.exceptions.RequestException as error:
            raise UserError(f"no answer from {file.address}: {_brief(error)}") from None
        except ValueError:
            raise UserError(
                f"{file.address} is another file than that of {file.source}"
            ) from None
        except OSError as error:
            raise UserError(f"{folder}: {_brief(error)}") from None
    if not file.digest:
        _pinned(file, folder / file.name)


def _pinned(file: File, path: Path) -> str:
    """The digest beside a file that has no published one, written when first seen."""
    pin = _pin_of(path)
    if not pin.exists():
        text = f"sha256:{_digest(path, 'sha256')}"
        print(
            f"{file.name}: unverified, no digest is published; pinned {text}",
            file=sys.stderr,
        )
        partial = pin.with_suffix(".tmp")
        partial.write_text(text)
        partial.replace(pin)
    return pin.read_text().strip()


def _pin_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.pinned")


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


@contextlib.contextmanager
def _left_as_it_was(folder: Path) -> Iterator[None]:
    """Without folders that were made for a file that did not come."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):  # not there, or not empty
                place.rmdir()
        raise


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."
