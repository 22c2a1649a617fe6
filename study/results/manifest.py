"""The manifest of a folder: its experiment, its cells, their digests and costs."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

from study import spec
from study.errors import UserError
from study.experiment import Comparison
from study.results import files

SCHEMA = 1
MANIFEST, RECORDS, PUBLISHED = "manifest.json", "records", "records.nc"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        UserError: there is none, or it is not one of ours.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["schema"] != SCHEMA:
            raise UserError(
                f"{path} has schema {manifest['schema']}, this code reads {SCHEMA}"
            )
        for key in ("spec", "cells"):
            manifest[key].items()
        str(manifest["experiment"])
    except FileNotFoundError:
        raise UserError(f"no results in {folder}: there is no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; move it away to start anew") from None
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Stores the manifest with today's date."""
    cells = manifest["cells"].values()
    manifest["date"] = datetime.date.today().isoformat()
    manifest["seconds"] = sum(c["run_seconds"] + c["compile_seconds"] for c in cells)
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
