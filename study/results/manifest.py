"""The manifest of a folder: its experiment, its cells, their digests and costs."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from study import spec
from study.errors import UserError
from study.experiment import Comparison
from study.results import files, locks

SCHEMA = 1
MANIFEST, RECORDS, PUBLISHED = "manifest.json", "records", "records.nc"
FILE = re.compile(r"\w[\w.-]*\.nc", re.ASCII)
"""Names of cells' files: no separators, no leading dot, so inside their folder."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        UserError: there is none, it is of another schema, it is not one of ours, or it
            names a file elsewhere.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        schema = manifest["schema"]
    except FileNotFoundError:
        raise UserError(f"no results in {folder}: there is no {MANIFEST}") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UserError(_damaged(path)) from None
    if schema != SCHEMA:
        raise UserError(
            f"{path} has schema {schema!r}, this code reads {SCHEMA}; read it with the code"
            " of the commit that it names"
        )
    if not _ours(manifest):
        raise UserError(_damaged(path))
    for file in manifest["cells"]:
        if not FILE.fullmatch(file):
            raise UserError(f"{path} names {file!r}, no file of a cell; move it away")
    return manifest


def _damaged(path: Path) -> str:
    return f"{path} is damaged; move it away to start anew"


def _ours(manifest: dict[str, Any]) -> bool:
    """What every reader relies on is there and of its type."""
    types = {"experiment": str, "spec": dict, "cells": dict}
    if not all(isinstance(manifest.get(key), kind) for key, kind in types.items()):
        return False
    environments = manifest.get("environments", {})
    return isinstance(environments, dict) and all(map(_is_cell, manifest["cells"].values()))


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("sha256"), str):
        return False
    names = all(isinstance(cell.get(k, ""), str) for k in ("problem", "environment"))
    seconds = ("seconds", "run_seconds", "compile_seconds")
    return names and all(isinstance(cell.get(k, 0), int | float) for k in seconds)


def update_manifest(folder: Path, manifest: dict[str, Any], own: str = "") -> None:
    """Stores the manifest with what others have stored since it was read.

    Changes `manifest`. Of cells that both have, those on disk stay, but for `own`.
    """
    with locks.manifest(folder):
        if (folder / MANIFEST).exists():
            stored, mine = read_manifest(folder), manifest["cells"].get(own)
            for part in ("cells", "environments"):
                manifest[part] = manifest.get(part, {}) | stored.get(part, {})
            manifest["cells"] |= {own: mine} if mine else {}
        write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Stores the manifest with today's date, whatever is there."""
    cells = manifest["cells"].values()
    manifest["date"] = datetime.date.today().isoformat()
    manifest["seconds"] = sum(
        c.get("run_seconds", 0) + c.get("compile_seconds", 0) for c in cells
    )
    files.write(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def publish_manifest(folder: Path, target: Path) -> None:
    """Copies a manifest in few bytes: of each cell its digest, seconds and environment.

    A cell's file name says already which problem and optimizer it is.
    """
    manifest = read_manifest(folder)
    for file, cell in manifest["cells"].items():
        seconds = cell["compile_seconds"] + cell["run_seconds"]
        short = {"sha256": cell["sha256"], "seconds": round(seconds, 2)}
        if len(manifest["environments"]) > 1:
            short["environment"] = cell["environment"]
        manifest["cells"][file] = short
    content = json.dumps(manifest, indent=0, separators=(",", ":"))
    files.write(target / MANIFEST, content.encode())


def environment_name(environment: dict[str, Any]) -> str:
    """A short name for an environment, from its content."""
    content = json.dumps(environment, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def spec_differences(
    manifest: dict[str, Any], name: str, experiment: Comparison
) -> list[str]:
    """The fields in which a manifest's spec differs from this experiment's."""
    stored = {"experiment": manifest["experiment"], **manifest["spec"]}
    wanted = {"experiment": name, **spec.encode(experiment)}
    return spec.differences(stored, wanted)
