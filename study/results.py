"""Results on disk: one labelled file a cell, a manifest beside them, and back again.

A folder of records holds `manifest.json` and `records/*.nc`, netCDF-3 files that any
reader of that format opens. Every file is written under a temporary name and moved into
place, and its SHA-256 stands in the manifest: a file is whole or it is not there. A
published folder holds one thinned `records.nc` in place of `records/`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from study import spec
from study.errors import UserError
from study.experiment import CellName, Comparison

if TYPE_CHECKING:
    from study.sweep import Cost

SCHEMA = 1
MANIFEST, RECORDS, PUBLISHED = "manifest.json", "records", "records.nc"


# Writing ------------------------------------------------------------------------------


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


def refuse_unwritable(folder: Path) -> None:
    """Raises a UserError if the folder cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to {folder}: {reason}; give --results") from None


def finished(folder: Path, manifest: dict[str, Any], cell: CellName) -> bool:
    """The cell's records are there, whole.

    Raises:
        UserError: they are there and damaged.
    """
    if cell.file not in manifest["cells"]:
        return False
    if not (folder / RECORDS / cell.file).exists():
        return False
    _read_cell(folder, manifest, cell.file)
    return True


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
    content = to_bytes(dataset)
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    write(folder / RECORDS / cell.file, content)
    name = environment_name(environment)
    manifest.setdefault("environments", {})[name] = environment
    manifest["cells"][cell.file] = {
        "problem": str(cell.problem),
        "optimizer": str(cell.optimizer),
        "sha256": hashlib.sha256(content).hexdigest(),
        **cost._asdict(),
        "environment": name,
    }
    write_manifest(folder, manifest)


def environment_name(environment: dict[str, Any]) -> str:
    """A short name for an environment, from its content."""
    content = json.dumps(environment, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Stores the manifest with today's date."""
    cells = manifest["cells"].values()
    manifest["date"] = datetime.date.today().isoformat()
    manifest["seconds"] = sum(c["run_seconds"] + c["compile_seconds"] for c in cells)
    write(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


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
    write(target / MANIFEST, content.encode())


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def commit() -> dict[str, Any]:
    """The commit of the code, and whether the tree differs from it, results aside."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        run = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        changed = git("status", "-s", "--", ":/", ":(top,exclude)results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except OSError:
        return {"commit": "", "dirty": False}


# Reading ------------------------------------------------------------------------------


def load(
    path: str | Path, problem: str | None = None, *, skip_damaged: bool = False
) -> xr.Dataset:
    """Records as one labelled Dataset.

    Args:
        path: a folder of records, or a published one (thinned, at the selected rates).
        problem: one of the problems by its string; None stacks all of them.
        skip_damaged: warn of a damaged file and go on, instead of raising.

    Returns:
        Variables over `optimizer`, `learning_rate`, `seed`, `step`, `evaluation`, `leaf`,
        `quantile`, with a leading `problem` if none was asked for; NaN where a cell has
        no value or is missing.

    Raises:
        UserError: there are no records, or one of them is damaged.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if (folder / PUBLISHED).exists():
        stacked = _decode((folder / PUBLISHED).read_bytes(), folder / PUBLISHED)
        return stacked if problem is None else _pick(stacked, problem)
    by_problem: dict[str, list[xr.Dataset]] = {}
    for file, cell in manifest["cells"].items():
        if problem not in (None, cell["problem"]):
            continue
        try:
            dataset = _read_cell(folder, manifest, file)
        except UserError as error:
            if not skip_damaged:
                raise
            warnings.warn(str(error), stacklevel=2)
            continue
        by_problem.setdefault(cell["problem"], []).append(dataset)
    if not by_problem:
        raise UserError(f"{folder} holds no records of {problem or 'any problem'}")
    stacked = {name: _stack(cells, "optimizer") for name, cells in by_problem.items()}
    if problem is not None:
        return stacked[problem]
    return stack_problems(stacked)


def stack_problems(datasets: dict[str, xr.Dataset]) -> xr.Dataset:
    """Datasets of several problems along `problem`.

    A variable that one problem alone has keeps its own dimensions, and the problem's name
    as an attribute.
    """
    own: dict[str, xr.DataArray] = {}
    for name, dataset in datasets.items():
        others = [d for other, d in datasets.items() if other != name]
        for variable in dataset.data_vars:
            if others and not any(variable in other for other in others):
                own[str(variable)] = dataset[variable].assign_attrs(problem=name)
    parts = [
        dataset.drop_vars([v for v in own if v in dataset]).assign_attrs(problem=name)
        for name, dataset in datasets.items()
    ]
    parts = [part.drop_dims(_unused(part)) for part in parts]
    every = {str(dim): part[dim] for part in parts for dim in part.indexes}
    whole = [
        part.assign_coords(every | {d: part[d] for d in part.indexes}) for part in parts
    ]
    shared = _stack(whole, "problem")
    arrays = [array.reset_coords(drop=True) for array in own.values()]
    shared, *arrays = xr.align(shared, *arrays, join="outer")  # lose nothing
    # With nothing shared there is no axis, but still the problems' names.
    named = shared.assign_coords(problem=list(datasets))
    return named.assign(dict(zip(own, arrays, strict=True)))


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


def spec_differences(
    manifest: dict[str, Any], name: str, experiment: Comparison
) -> list[str]:
    """The fields in which a manifest's spec differs from this experiment's."""
    stored = {"experiment": manifest["experiment"], **manifest["spec"]}
    wanted = {"experiment": name, **spec.encode(experiment)}
    return spec.differences(stored, wanted)


def to_bytes(dataset: xr.Dataset, pack: bool = False) -> bytes:
    """A netCDF-3 file, smaller with `pack`.

    Angles and arrays with the attribute `decimals` then have 16 bits, all else but `exact`
    arrays 32.
    """
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in dataset.data_vars.items():
        if pack and array.attrs.get("units") == "radian":
            encoding[str(name)] = {
                "dtype": "int16",
                "scale_factor": 1e-4,
                "_FillValue": -32768,
            }
        elif pack and "decimals" in array.attrs:
            encoding[str(name)] = {
                "dtype": "int16",
                "scale_factor": 10.0 ** -array.attrs["decimals"],
                "_FillValue": -32768,
            }
        elif pack and array.dtype == np.float64 and not array.attrs.get("exact"):
            encoding[str(name)] = {"dtype": "float32"}
    with np.errstate(over="ignore"):  # a diverging run beyond float32 is stored as inf
        content = dataset.to_netcdf(
            engine="scipy", format="NETCDF3_64BIT", encoding=encoding
        )
    return bytes(content)


def _read_cell(folder: Path, manifest: dict[str, Any], file: str) -> xr.Dataset:
    path = folder / RECORDS / file
    remedy = "; delete it and run again, the other cells stay"
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing{remedy}") from None
    if hashlib.sha256(content).hexdigest() != manifest["cells"][file]["sha256"]:
        raise UserError(f"{path} is truncated or not what was written{remedy}")
    return _decode(content, path)


def _decode(content: bytes, path: Path) -> xr.Dataset:
    try:
        dataset = xr.load_dataset(content, engine="scipy")
    except Exception:  # the reader raises whatever the damage leads it to
        raise UserError(f"{path} is not a readable record file") from None
    return dataset.assign(dataset.map(_native, keep_attrs=True))


def _native(array: xr.DataArray) -> xr.DataArray:
    return array.astype(array.dtype.newbyteorder("="))


def _refuse_strangers(folder: Path, experiment: Comparison) -> None:
    known = {cell.file for cell in experiment.cells}
    for path in sorted((folder / RECORDS).glob("*.nc")):
        if path.name not in known:
            raise UserError(
                f"{path} is no record of this experiment; move it away,"
                " the other cells stay"
            )


def _stack(parts: list[xr.Dataset], axis: str) -> xr.Dataset:
    return xr.concat(
        parts,
        xr.IndexVariable(axis, [part.attrs[axis] for part in parts]),
        data_vars="all",
        coords="different",
        compat="equals",
        join="outer",
        combine_attrs="drop_conflicts",
    )


def _unused(dataset: xr.Dataset) -> set[str]:
    """Dimensions that no variable has."""
    used = {dim for array in dataset.data_vars.values() for dim in array.dims}
    return {str(dim) for dim in dataset.dims} - {str(dim) for dim in used}


def _pick(stacked: xr.Dataset, problem: str) -> xr.Dataset:
    if problem not in stacked.problem.values:
        raise UserError(f"no records of {problem!r}")
    foreign = [
        n for n, array in stacked.items() if array.attrs.get("problem", problem) != problem
    ]
    one = stacked.drop_vars(foreign).sel(problem=problem).drop_vars("problem")
    one = one.drop_dims(_unused(one))
    for axis in ("leaf", "layer", "learning_rate", "step", "evaluation", "seed"):
        if axis in one.dims:
            one = one.dropna(axis, how="all")
    return one.dropna("optimizer", how="all") if "optimizer" in one.dims else one
