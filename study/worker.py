"""What a worker of a cluster does: one cell, from its names to its records.

The worker's device is set in its environment before this process starts, so before jax is
imported. A cell run again, here or elsewhere, gives the same records.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from study import arguments, data, results, runner, spec


class Task(NamedTuple):
    """A cell, by what every machine of a cluster can read.

    Attributes:
        module: of the experiment, such as `experiments.alignment`.
        imports: further modules, that register entries.
        preset: of that module, of the experiment's class.
        fields: its spec, encoded.
        file: the cell's.
        folder: of the run; used for what is unfinished, where the worker sees it.
        place: of data files; None if not said.
        memory: GiB that the runs may fill; None if not said.
    """

    module: str
    imports: tuple[str, ...]
    preset: str
    fields: dict[str, Any]
    file: str
    folder: str
    place: str | None
    memory: float | None


class Board:
    """An actor that knows how far each cell is."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}

    def report(self, file: str, share: float) -> None:
        """A cell's finished share in [0, 1]."""
        self._shares[file] = share

    def shares(self) -> dict[str, float]:
        """Every cell's that was reported."""
        return self._shares


def run_cell(task: Task, board: Any) -> tuple[xr.Dataset, Any, dict[str, Any]]:
    """Runs a cell: its records, what they cost, and the environment they ran in."""
    for name in task.imports:
        arguments.load(name)
    if task.place is not None:
        data.use(Path(task.place))
    from study import compilation, devices, shards, sweep

    module = importlib.import_module(task.module)
    kind = type(module.PRESETS[task.preset])
    experiment: Any = spec.decode(task.fields, kind, "the driver's spec")
    devices.prepare(memory=task.memory)
    compilation.keep()
    (cell,) = [cell for cell in experiment.cells if cell.file == task.file]

    def progress(share: float) -> None:
        board.report.remote(task.file, share)

    environment = runner.facts()
    entries = (experiment, cell.problem, cell.optimizer, progress)
    own = getattr(module, "run_cell", None)
    if own or not (Path(task.folder) / results.MANIFEST).exists():
        dataset, cost = (own or sweep.run_cell)(*entries)
    else:
        name = results.environment_name(environment)
        kept = shards.Folder(Path(task.folder), task.file, name)
        cost = sweep.run_shards(*entries, kept)
        dataset = kept.merged(experiment)
    return dataset, cost, environment
