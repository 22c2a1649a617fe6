"""One cell of an experiment: all learning rates and seeds of one optimizer at once.

Runs are one flat axis, rate-major. It is cut into chunks of one width that fit in memory,
each sharded over the local devices; padding at the end repeats the last run and is
dropped. The start of a run is a program of its own, shared by all optimizers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from study import devices, metrics, programs, train, trees
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem
from study.programs import Programs, Shape
from study.types import Data, Params

Progress = Callable[[float], None]
Parts = dict[str, dict[str, np.ndarray]]  # records and evaluations, by name


class Cost(NamedTuple):
    """What a cell took.

    Attributes:
        compile_seconds: tracing and compiling, 0 if the programs were there.
        run_seconds: the rest of its wall-clock time.
        runs: learning rates times seeds.
        width: runs in one compiled program, over all devices.
        parameters: elements of theta.
        state_bytes: optimizer state of one run.
        group: of the width, the runs that a device takes at once; 0 where no sweep.
    """

    compile_seconds: float
    run_seconds: float
    runs: int
    width: int
    parameters: int
    state_bytes: int
    group: int = 0


def run_cell(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    progress: Progress = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """Runs one optimizer on one problem.

    Args:
        experiment: learning rates, seeds, steps, metrics.
        problem: one of the experiment's, or any.
        optimizer: one of the experiment's, or any.
        progress: called with the finished share in [0, 1] after each segment.

    Returns:
        Records [learning_rate, seed, step, (leaf, quantile or element)] and evaluations
        [learning_rate, seed, evaluation] by name, and the cost.
    """
    begun = time.perf_counter()
    for name in experiment.metrics:
        metrics.METRICS[name]  # an unknown metric is refused before anything runs
    with devices.precision(problem.dtype):
        begin = starts(problem, tuple(experiment.seed_numbers))
        runs = len(experiment.learning_rates) * len(experiment.seed_numbers)
        shape = Shape(
            tuple(experiment.metrics),
            experiment.record_every,
            tuple(np.diff(experiment.evaluated_steps).tolist()),
            experiment.schedule,
            len(experiment.seed_numbers),
            programs.width(problem, optimizer, runs),
        )
        rule = _rule(experiment, optimizer)
        made = programs.compiled.cache_info().misses
        ready = programs.compiled(problem, rule, shape)
        new = programs.compiled.cache_info().misses - made
        records = _run(experiment, problem, ready, shape, begin, progress)
        one, _ = programs.start_shapes(problem)
        state_bytes = programs.state_bytes(problem, optimizer)
        together = programs.group(problem, optimizer, shape.width)
    dataset = _label(experiment, problem, optimizer, records, trees.names(one))
    compiling = ready.seconds * new
    spent = time.perf_counter() - begun - compiling
    size = sum(trees.sizes(one))
    cost = Cost(compiling, spent, runs, shape.width, size, state_bytes, together)
    return dataset, cost


def finish(
    dataset: xr.Dataset, problem: Problem, optimizer: Optimizer, begun: float, runs: int
) -> tuple[xr.Dataset, Cost]:
    """A cell that was no sweep: its Dataset with the names it is stored under, its cost.

    Args:
        dataset: what was measured.
        problem: of the cell.
        optimizer: of the cell.
        begun: when, by `time.perf_counter`; compilation counts as running.
        runs: side by side.
    """
    names = {"problem": str(problem), "optimizer": str(optimizer), "dtype": problem.dtype}
    with devices.precision(problem.dtype):
        size = sum(trees.sizes(programs.start_shapes(problem)[0]))
        state = programs.state_bytes(problem, optimizer)
    cost = Cost(0.0, time.perf_counter() - begun, runs, runs, size, state)
    return dataset.assign_attrs(names), cost


def _rule(experiment: Experiment, optimizer: Optimizer) -> Any:
    """The optimizer, with the experiment's weight decay if it has one."""
    if not experiment.weight_decay:
        return optimizer
    leaves: Any = experiment.decays
    return train.Decayed(optimizer, experiment.weight_decay, leaves)


@functools.lru_cache(maxsize=8)
def starts(problem: Problem, seeds: tuple[int, ...]) -> tuple[Params, Any]:
    """theta_0 [seed, ...] and data keys [seed], the same for every optimizer."""
    keys = jax.jit(jax.vmap(train.keys))(jnp.asarray(seeds, jnp.int32))
    return jax.jit(jax.vmap(problem.init))(keys.init), keys.data


def _run(
    experiment: Experiment,
    problem: Problem,
    programs: Programs,
    shape: Shape,
    starts: tuple[Params, Any],
    progress: Progress,
) -> Parts:
    """Records and evaluations of all runs, chunk by chunk, [run, ...]."""
    by_run, replicated = devices.shardings()
    data, starts = jax.device_put((problem.data(), starts), replicated)
    runs = np.arange(len(experiment.learning_rates) * shape.seeds)
    chunks = [runs[i : i + shape.width] for i in range(0, len(runs), shape.width)]
    parts = []
    for i, chunk in enumerate(chunks):
        padded = np.pad(chunk, (0, shape.width - len(chunk)), mode="edge")
        rates = np.take(experiment.learning_rates, padded // shape.seeds)
        rates = rates.astype(jnp.dtype(problem.dtype))
        places = (padded % shape.seeds).astype(np.int32)
        rates, places = jax.device_put((rates, places), by_run)
        state, keys = programs.start(rates, places, starts)
        done = lambda share, i=i: progress((i + share) / len(chunks))  # noqa: E731
        part = _run_chunk(programs, shape, data, rates, keys, state, done)
        whole = slice(len(chunk))
        parts.append(jax.tree.map(lambda leaf, whole=whole: leaf[whole], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _run_chunk(
    programs: Programs,
    shape: Shape,
    data: Data,
    rates: Any,
    keys: Any,
    state: Any,
    progress: Progress,
) -> Parts:
    """Records and evaluations of `width` runs, [run, step or evaluation, ...]."""
    evaluate = lambda state: programs.evaluate(data, programs.evaluated(state))  # noqa: E731
    evaluations, records, first = [evaluate(state)], [], 0
    for i, steps in enumerate(shape.segments):
        state, record = programs.segments[steps](data, rates, keys, state, np.int32(first))
        first += steps
        records.append(record)
        evaluations.append(evaluate(state))
        jax.block_until_ready(evaluations[-1])
        progress((i + 1) / len(shape.segments))
    return {
        "records": jax.tree.map(lambda *x: _host(x, np.concatenate), *records),
        "evaluations": jax.tree.map(lambda *x: _host(x, np.stack), *evaluations),
    }


def _host(parts: tuple[Any, ...], join: Callable[..., np.ndarray]) -> np.ndarray:
    arrays = [np.asarray(part) for part in parts]
    return join([a if a.itemsize >= 4 else a.astype(np.float32) for a in arrays], 1)


def _label(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    parts: Parts,
    leaves: tuple[str, ...],
) -> xr.Dataset:
    """Named axes, coordinates and units on the records of all runs [run, ...]."""
    grid = (len(experiment.learning_rates), len(experiment.seed_numbers))
    variables = {}
    for name, array in parts["records"].items():
        entry = metrics.METRICS[name.removesuffix("_by_leaf")]
        by_leaf = ("leaf",) if name.endswith("_by_leaf") else ()
        axis = (entry.axis,) if entry.axis else ()
        shown = {"long_name": entry.label, "units": entry.unit, "log": int(entry.log)}
        dims = ("learning_rate", "seed", "step", *by_leaf, *axis)
        variables[name] = (dims, array.reshape(*grid, *array.shape[1:]), shown)
    for name, array in parts["evaluations"].items():
        dims = ("learning_rate", "seed", "evaluation")
        label = name.replace("_", " ").capitalize()
        shown = {"long_name": label, "units": "", "log": int("accuracy" not in name)}
        variables[name] = (dims, array.reshape(*grid, *array.shape[1:]), shown)
    chosen = np.arange(len(experiment.seed_numbers)) >= experiment.seeds
    coordinates = {
        "learning_rate": list(experiment.learning_rates),
        "seed": np.asarray(experiment.seed_numbers, np.int32),
        "for_selection": ("seed", chosen.astype(np.int32)),
        "step": np.asarray(experiment.recorded_steps, np.int32),
        "evaluation": np.asarray(experiment.evaluated_steps, np.int32),
        "leaf": list(leaves),
        "quantile": list(metrics.QUANTILES),
    }
    used = {dim for dims, *_ in variables.values() for dim in dims} | {"for_selection"}
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
