"""Labelled records of consecutive runs, a shard, and the shards of a cell as one Dataset.

Runs are one flat axis, rate-major. A shard holds what one chunk of them, or one process
of several, has measured: [run, step or evaluation, (leaf, quantile or element)].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from study import metrics
from study.checkpoints import Checkpoints, Parts
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem


class Chunk(NamedTuple):
    """Consecutive runs through one program, first <= run < last.

    Attributes:
        first: the first of them.
        last: the one after them.
        width: runs of the program, padding included.
        group: of the width, the runs that a device takes at once. The last bits depend on
            both.
    """

    first: int
    last: int
    width: int
    group: int


class Shards:
    """The shards of a cell while it runs, in memory; `shards.Folder` keeps them on disk."""

    def __init__(self) -> None:
        self._there: dict[Chunk, xr.Dataset] = {}

    def chunks(self, runs: int, width: int, group: int) -> list[Chunk]:
        """This process's part of the runs of a cell, in chunks of one width."""
        first, last = self.part(runs)
        return [
            Chunk(at, min(last, at + width), width, group)
            for at in range(first, last, width)
        ]

    def part(self, runs: int) -> tuple[int, int]:
        """The runs of this process, from one to the one before the other."""
        return 0, runs

    def __contains__(self, chunk: Chunk) -> bool:
        """The chunk's records are there, whole."""
        return chunk in self._there

    def __setitem__(self, chunk: Chunk, shard: xr.Dataset) -> None:
        """Keeps the records of a chunk."""
        self._there[chunk] = shard

    def checkpoints(self, chunk: Chunk) -> Checkpoints | None:
        """Where states of the chunk's unfinished runs go; None: nowhere."""

    def merged(self, experiment: Experiment) -> xr.Dataset:
        """The records of all runs, [learning_rate, seed, ...]."""
        return merge(experiment, [self._there[chunk] for chunk in sorted(self._there)])


def label(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    runs: range,
    parts: Parts,
    leaves: tuple[str, ...],
) -> xr.Dataset:
    """Named axes, coordinates and units on the records of some runs [run, ...]."""
    variables = {}
    for name, array in parts["records"].items():
        entry = metrics.METRICS[name.removesuffix("_by_leaf")]
        by_leaf = ("leaf",) if name.endswith("_by_leaf") else ()
        axis = (entry.axis,) if entry.axis else ()
        clock = "step"
        if entry.costly:  # of the step after each evaluation; none follows the last
            clock, end = "evaluation", np.full_like(array[:, :1], np.nan)
            array = np.concatenate([array, end], axis=1)
        shown = {"long_name": entry.label, "units": entry.unit, "log": int(entry.log)}
        variables[name] = (("run", clock, *by_leaf, *axis), array, shown)
    for name, array in parts["evaluations"].items():
        title = name.replace("_", " ").capitalize()
        shown = {"long_name": title, "units": "", "log": int("accuracy" not in name)}
        variables[name] = (("run", "evaluation"), array, shown)
    coordinates = {
        "run": np.asarray(runs, np.int32),
        "step": np.asarray(experiment.recorded_steps, np.int32),
        "evaluation": np.asarray(experiment.evaluated_steps, np.int32),
        "leaf": list(leaves),
        "quantile": list(metrics.QUANTILES),
    }
    used = {dim for dims, *_ in variables.values() for dim in dims}
    return xr.Dataset(
        variables,
        {name: value for name, value in coordinates.items() if name in used},
        {
            "problem": str(problem),
            "optimizer": str(optimizer),
            "dtype": problem.dtype,
            "selects": problem.selects or "",
            "reports": problem.reports or "",
        },
    )


def merge(experiment: Experiment, shards: Sequence[xr.Dataset]) -> xr.Dataset:
    """The shards of a cell, in the order of their runs, as [learning_rate, seed, ...].

    One variable at a time is read and laid out, so shards on disk may be larger than the
    memory together.
    """
    rates, seeds = experiment.learning_rates, experiment.seed_numbers
    variables = {}
    for name in sorted(map(str, shards[0].data_vars)):
        array = shards[0][name]
        whole = shards[0][name].values
        if len(shards) > 1:
            whole = np.empty((experiment.runs, *array.shape[1:]), array.dtype)
            for shard in shards:
                runs = shard.run.values
                whole[runs[0] : runs[-1] + 1] = shard[name].values
        dims = ("learning_rate", "seed", *array.dims[1:])
        laid = whole.reshape(len(rates), len(seeds), *array.shape[1:])
        variables[name] = (dims, laid, array.attrs)
    chosen = np.arange(len(seeds)) >= experiment.seeds
    coordinates = {
        "learning_rate": list(rates),
        "seed": np.asarray(seeds, np.int32),
        "for_selection": ("seed", chosen.astype(np.int32)),
    }
    axes = ("step", "evaluation", "leaf", "quantile")  # a file has them in another order
    shared = {n: shards[0][n].drop_encoding() for n in axes if n in shards[0].coords}
    return xr.Dataset(variables, coordinates | shared, shards[0].attrs)
