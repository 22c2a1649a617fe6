"""A folder of records, cell by cell."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from study import spec
from study.errors import UserError
from study.experiment import CellName, Comparison
from study.results import files, netcdf
from study.results.manifest import (
    MANIFEST,
    PUBLISHED,
    RECORDS,
    SCHEMA,
    environment_name,
    read_manifest,
    spec_differences,
    update_manifest,
)

if TYPE_CHECKING:
    from study.sweep import Cost


def prepare(folder: Path, name: str, experiment: Comparison, preset: str) -> dict[str, Any]:
    """The manifest of a folder that may be new; it must belong to this experiment.

    Raises:
        UserError: the folder holds another spec, cannot be written or is damaged.
    """
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        if lines := spec_differences(manifest, name, experiment):
            raise UserError(
                f"{folder} holds another spec ({'; '.join(lines)});"
                " give another folder, or leave --results away"
            )
        _refuse_strangers(folder, experiment)
        return manifest
    if (folder / PUBLISHED).exists() or (folder / RECORDS).exists():
        raise UserError(f"{folder} holds records without their {MANIFEST}")
    return {
        "schema": SCHEMA,
        "experiment": name,
        "preset": preset,
        "digest": spec.digest(experiment),
        "spec": spec.encode(experiment),
        "cells": {},
    }


def finished(folder: Path, manifest: dict[str, Any], cell: CellName) -> bool:
    """The cell's records are there, whole."""
    return cell.file in manifest["cells"] and problem_of(folder, manifest, cell.file) == ""


def set_aside(folder: Path, manifest: dict[str, Any], cell: CellName) -> Path | None:
    """Moves a cell's file that is not what the manifest says to `*.damaged`.

    So nothing is lost when the cell runs again, not even what somebody put there.
    """
    path = folder / RECORDS / cell.file
    if cell.file not in manifest["cells"] or not path.exists():
        return None
    if not problem_of(folder, manifest, cell.file):
        return None
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    path.rename(aside)
    return aside


def problem_of(folder: Path, manifest: dict[str, Any], file: str) -> str:
    """What is wrong with a listed cell's file, as a line; nothing if it is whole."""
    try:
        read_cell(folder, manifest, file)
    except UserError as error:
        return str(error)
    return ""


def write_cell(
    folder: Path,
    manifest: dict[str, Any],
    cell: CellName,
    dataset: xr.Dataset,
    cost: Cost,
    environment: dict[str, Any],
) -> None:
    """Stores a finished cell, then says so in the manifest.

    Cells name their environment; the manifest holds each environment once.
    """
    content = netcdf.to_bytes(dataset)
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    files.write(folder / RECORDS / cell.file, content)
    name = environment_name(environment)
    manifest.setdefault("environments", {})[name] = environment
    manifest["cells"][cell.file] = {
        "problem": str(cell.problem),
        "optimizer": str(cell.optimizer),
        "sha256": hashlib.sha256(content).hexdigest(),
        **cost._asdict(),
        "environment": name,
    }
    update_manifest(folder, manifest, cell.file)


def read_cell(folder: Path, manifest: dict[str, Any], file: str) -> xr.Dataset:
    """The records of a cell.

    Raises:
        UserError: they are missing, or not what the manifest says was written.
    """
    path = folder / RECORDS / file
    remedy = "; run again without --draw, the other cells stay"
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing{remedy}") from None
    if hashlib.sha256(content).hexdigest() != manifest["cells"][file]["sha256"]:
        raise UserError(f"{path} is truncated or not what was written{remedy}")
    return netcdf.decode(content, path)


def _refuse_strangers(folder: Path, experiment: Comparison) -> None:
    known = {cell.file for cell in experiment.cells}
    for path in sorted((folder / RECORDS).glob("*.nc")):
        if path.name not in known:
            raise UserError(
                f"{path} is no record of this experiment; move it away,"
                " the other cells stay"
            )
