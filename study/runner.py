"""Runs what is missing of an experiment, cell by cell, into its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from study import hosts, results
from study.experiment import CellName, Comparison
from study.hosts import Host

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
    host: Host = hosts.ALONE,
) -> None:
    """Runs the missing cells; each is stored as soon as it is finished.

    Where several processes share the run, each runs its part of every cell, and the first
    stores the cell.

    Args:
        folder: of the records.
        manifest: from `results.prepare`.
        experiment: what to run.
        watch: called with the cell, its index among the missing and its share done.
        run_cell: what a cell is; None trains, with `sweep`.
        host: this process among those of the run.
    """
    from study import shards, sweep

    environment = facts()
    name = results.environment_name(environment)
    for index, cell in enumerate(missing(folder, manifest, experiment)):
        watch(cell, index, 0.0)

        def within(share: float, cell: CellName = cell, index: int = index) -> None:
            if share < 1:  # done is what is stored
                watch(cell, index, share)

        entries = (cell.problem, cell.optimizer, within)
        kept = shards.Folder(folder, cell.file, name, host)
        if run_cell is None:
            trained: Any = experiment
            cost = sweep.run_shards(trained, *entries, kept)
            if host.process > 0:
                continue
            dataset = kept.merged(trained)
        else:
            dataset, cost = run_cell(experiment, *entries)
        results.write_cell(folder, manifest, cell, dataset, cost, environment)
        kept.remove()
        watch(cell, index, 1.0)


def facts() -> dict[str, Any]:
    """What the last bits of records depend on: devices, versions and code."""
    from study import devices

    return {**devices.facts(), **results.commit()}
