"""What is wrong in a folder of results: `python -m study.results verify FOLDER`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from study.errors import UserError
from study.results import netcdf
from study.results.cells import problem_of
from study.results.manifest import PUBLISHED, RECORDS, read_manifest
from study.results.provenance import commit

DIGEST = re.compile(r"[0-9a-f]{12}")
KINDS = ("missing", "damaged", "stale", "orphaned")


class Finding(NamedTuple):
    """One thing that is not as it should be.

    Attributes:
        kind: `missing`, `damaged`, `stale` (of other code or another spec) or `orphaned`
            (a file that nothing lists).
        what: a file, or what is stale.
        why: in words.
    """

    kind: str
    what: str
    why: str


def verify(folder: Path) -> list[Finding]:
    """Everything wrong in a folder of a run or a published one; nothing is changed.

    Raises:
        UserError: there is no manifest to go by, or it is damaged.
    """
    manifest = read_manifest(folder)
    published = (folder / PUBLISHED).exists() or not (folder / RECORDS).exists()
    parts = [_of_spec(folder, manifest), _of_code(manifest)]
    parts.append(_of_published(folder) if published else _of_cells(folder, manifest))
    return [finding for part in parts for finding in part]


def _of_spec(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    text = json.dumps(manifest["spec"], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    if manifest.get("digest") != digest:
        yield Finding("damaged", "manifest.json", f"its spec has the digest {digest}")
    if DIGEST.fullmatch(folder.absolute().name) and folder.absolute().name != digest:
        yield Finding("stale", str(folder), f"holds the spec {digest}")


def _of_code(manifest: dict[str, Any]) -> Iterator[Finding]:
    here = commit()["commit"]
    for name, environment in manifest.get("environments", {}).items():
        there = environment.get("commit", "") if isinstance(environment, dict) else ""
        if here and there != here:
            yield Finding("stale", f"environment {name}", f"of commit {there or 'unknown'}")
        elif there and environment.get("dirty"):
            yield Finding("stale", f"environment {name}", "its code was not committed")


def _of_published(folder: Path) -> Iterator[Finding]:
    path = folder / PUBLISHED
    try:
        netcdf.decode(path.read_bytes(), path)
    except FileNotFoundError:
        yield Finding("missing", PUBLISHED, "the manifest is there without its records")
    except (OSError, UserError) as error:
        yield Finding("damaged", PUBLISHED, str(error))
    for name in ("claims.json", "summary.csv"):
        if not (folder / name).exists():
            yield Finding("missing", name, "every published folder has it")


def _of_cells(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    for file in manifest["cells"]:
        if not (folder / RECORDS / file).exists():
            yield Finding("missing", f"{RECORDS}/{file}", "the same command runs it again")
        elif why := problem_of(folder, manifest, file):
            yield Finding("damaged", f"{RECORDS}/{file}", why)
    for path in sorted((folder / RECORDS).iterdir()):
        if path.name not in manifest["cells"]:
            yield Finding("orphaned", f"{RECORDS}/{path.name}", "nothing lists it")
    for place in (".shards", ".checkpoints"):
        for path in sorted((folder / place).glob("*")):
            if f"{path.name}.nc" in manifest["cells"]:
                yield Finding("orphaned", f"{place}/{path.name}", "its cell is stored")
