"""From records to what is shown: each optimizer at its selected learning rate.

The rate is selected on seeds of its own by the problem's validation objective; everything
reported comes from the other seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from study import results, statistics
from study.errors import UserError
from study.experiment import Comparison
from study.problems import Problem


@dataclasses.dataclass(frozen=True)
class Results:
    """The records of an experiment, as drawing and judging see them."""

    experiment: Comparison
    folder: Path
    condense: Callable[[xr.Dataset], xr.Dataset] | None = None
    _read: dict[str, xr.Dataset] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def count(self, field: str = "seeds") -> int:
        """Of independent units: the experiment's field that says how many there are."""
        return getattr(self.experiment, field)

    def selected(self, problem: Problem) -> xr.Dataset:
        """One problem's records, condensed (by default `select`) or as published."""
        name = str(problem)
        if name not in self._read:
            dataset = results.load(self.folder, name)
            published = (self.folder / results.PUBLISHED).exists()
            self._read[name] = dataset if published else (self.condense or select)(dataset)
        return self._read[name]


def select(dataset: xr.Dataset) -> xr.Dataset:
    """Each optimizer at its selected learning rate, on the seeds kept for reporting.

    Args:
        dataset: of one problem, with `optimizer` and `learning_rate`.

    Returns:
        The same variables without `learning_rate`, and over [optimizer, learning_rate]
        `objective_by_rate` (the median that selected) and `diverged_share` (of reported
        runs that ended non-finite); coordinates `selected_rate` (NaN where all
        runs diverged) and `at_edge` [optimizer].
    """
    reported = dataset.isel(seed=np.flatnonzero(dataset.for_selection == 0))
    chosen = dataset.isel(seed=np.flatnonzero(dataset.for_selection == 1))
    chosen = chosen if chosen.sizes["seed"] else reported
    shape = (dataset.sizes["optimizer"], dataset.sizes["learning_rate"])
    objective, diverged = np.full(shape, np.nan), np.full(shape, np.nan)
    picks, edges = np.zeros(shape[0], int), np.zeros(shape[0], np.int32)
    found = np.ones(shape[0], bool)
    if name := dataset.attrs["selects"]:
        end = (
            reported[name]
            .isel(evaluation=-1)
            .transpose("optimizer", "learning_rate", "seed")
        )
        diverged = 1 - np.isfinite(end.values).mean(-1)
        final = chosen[name].isel(evaluation=-1)
        for i, values in enumerate(final.transpose(*end.dims).values):
            selection = statistics.select(values)
            picks[i], edges[i] = selection.place, selection.at_edge
            found[i] = selection.found
            objective[i] = selection.objective
    elif shape[1] > 1:
        raise UserError(f"{dataset.attrs['problem']} cannot select a learning rate")
    at = {
        "optimizer": xr.DataArray(np.arange(shape[0]), dims="optimizer"),
        "learning_rate": xr.DataArray(picks, dims="optimizer"),
    }
    some = xr.DataArray(found, dims="optimizer")  # a rate where all diverged is no choice
    out = reported.isel(at).drop_vars(("for_selection", "learning_rate")).where(some)
    rates, grid = dataset.learning_rate.values, ("optimizer", "learning_rate")
    coordinates = {
        "selected_rate": ("optimizer", np.where(found, rates[picks], np.nan)),
        "at_edge": ("optimizer", edges),
        "learning_rate": rates,
    }
    added = {"objective_by_rate": (grid, objective), "diverged_share": (grid, diverged)}
    return out.assign_coords(coordinates).assign(added)


def thin(dataset: xr.Dataset, names: tuple[str, ...], steps: int = 13) -> xr.Dataset:
    """A selected Dataset with these variables only, at most `steps` steps."""
    always = ("objective_by_rate", "diverged_share")
    if dataset.sizes.get("leaf") == 1:  # the leaf is the whole vector
        names = tuple(name for name in names if not name.endswith("_by_leaf"))
    kept = dataset[[n for n in (*names, *always) if n in dataset]]
    if "step" in kept.dims:
        kept = kept.isel(step=slice(None, None, -(-kept.sizes["step"] // steps)))
    return kept


def publish(folder: Path, found: Results, names: tuple[str, ...]) -> None:
    """Writes the thinned records of a finished run."""
    parts = {
        str(problem): thin(found.selected(problem), names)
        for problem in found.experiment.problems
    }
    content = results.to_bytes(results.stack_problems(parts), pack=True)
    results.write(folder / results.PUBLISHED, content)


def summary(found: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each optimizer on each problem, at its selected learning rate."""
    costs = {(c["problem"], c["optimizer"]): c for c in manifest["cells"].values()}
    for problem in found.experiment.problems:
        dataset = found.selected(problem)
        for optimizer in found.experiment.optimizers:
            at = dataset.sel(optimizer=str(optimizer))
            rate = float(at.selected_rate)
            share = at.diverged_share.where(at.learning_rate == rate).max()
            cost = costs[str(problem), str(optimizer)]
            yield {
                "problem": str(problem),
                "optimizer": str(optimizer),
                "changes": optimizer.changes,
                "unscaled": str(optimizer.unscaled() or ""),
                "learning_rate": rate,
                "at_edge": int(at.at_edge),
                "diverged_share": float(share),
                **_measured(at),
                "compile_seconds": cost["compile_seconds"],
                "run_seconds": cost["run_seconds"],
                "runs": cost["runs"],
                "parameters": cost["parameters"],
                "state_bytes": cost["state_bytes"],
            }


def _measured(at: xr.Dataset) -> dict[str, float]:
    """Medians over seeds: evaluations at the end, metrics first and late."""
    row: dict[str, float] = {}
    for name, array in at.data_vars.items():
        if array.dims == ("seed", "evaluation"):
            estimate = statistics.bootstrap(array.isel(evaluation=-1).values)
            row |= {
                f"{name}": estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
            }
        elif array.dims == ("seed", "step"):
            degrees = array.attrs.get("units") == "radian"
            values = np.degrees(array.values) if degrees else array.values
            name = f"{name}_degrees" if degrees else str(name)
            row[f"{name}_first"] = statistics.bootstrap(values[:, 0]).value
            row[f"{name}_late"] = statistics.bootstrap(statistics.late(values)).value
    return row
