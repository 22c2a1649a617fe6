"""Runs what is missing of an experiment, cell by cell, into its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from study import results
from study.experiment import CellName, Comparison

Watch = Callable[[CellName, int, float], None]
RunCell = Callable[..., tuple[Any, Any]]


def missing(
    folder: Path, manifest: dict[str, Any], experiment: Comparison
) -> list[CellName]:
    """The cells without records, in the order in which they run."""
    cells = experiment.cells
    return [c for c in cells if not results.finished(folder, manifest, c)]


def run(
    folder: Path,
    manifest: dict[str, Any],
    experiment: Comparison,
    watch: Watch = lambda cell, index, share: None,
    run_cell: RunCell | None = None,
) -> None:
    """Runs the missing cells; each is stored as soon as it is finished.

    Args:
        folder: of the records.
        manifest: from `results.prepare`.
        experiment: what to run.
        watch: called with the cell, its index among the missing and its share done.
        run_cell: what a cell is; None trains, with `sweep.run_cell`.
    """
    from study import devices, sweep

    run_cell = run_cell or sweep.run_cell
    environment = {**devices.facts(), **results.commit()}
    for index, cell in enumerate(missing(folder, manifest, experiment)):
        watch(cell, index, 0.0)

        def within(share: float, cell: CellName = cell, index: int = index) -> None:
            if share < 1:  # done is what is stored
                watch(cell, index, share)

        dataset, cost = run_cell(experiment, cell.problem, cell.optimizer, within)
        results.write_cell(folder, manifest, cell, dataset, cost, environment)
        watch(cell, index, 1.0)
