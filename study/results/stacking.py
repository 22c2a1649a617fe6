"""Cells as one labelled Dataset."""

from __future__ import annotations

import warnings
from pathlib import Path

import xarray as xr

from study.errors import UserError
from study.results import netcdf
from study.results.cells import read_cell
from study.results.manifest import PUBLISHED, RECORDS, read_manifest


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
        stacked = _published(folder / PUBLISHED)
        return stacked if problem is None else _pick(stacked, problem)
    by_problem: dict[str, list[xr.Dataset]] = {}
    if not all("problem" in cell for cell in manifest["cells"].values()):
        raise UserError(f"{folder} was published, and its {PUBLISHED} is missing")
    for file, cell in manifest["cells"].items():
        if problem not in (None, cell["problem"]):
            continue
        try:
            dataset = read_cell(folder, manifest, file)
        except UserError as error:
            if not skip_damaged:
                raise
            warnings.warn(str(error), stacklevel=2)
            continue
        if not {"problem", "optimizer"} <= set(dataset.attrs):
            raise UserError(f"{folder / RECORDS / file} names no problem or no optimizer")
        by_problem.setdefault(cell["problem"], []).append(dataset)
    if not by_problem:
        raise UserError(f"{folder} holds no records of {problem or 'any problem'}")
    stacked = {name: _stack(cells, "optimizer") for name, cells in by_problem.items()}
    if problem is not None:
        return stacked[problem]
    return stack_problems(stacked)


def _published(path: Path) -> xr.Dataset:
    try:
        stacked = netcdf.decode(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if "problem" not in stacked.coords:
        raise UserError(f"{path} is no published record: it names no problem")
    return stacked


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
