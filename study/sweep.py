"""One cell of an experiment: all learning rates and seeds of one optimizer at once.

Runs are one flat axis, rate-major. It is cut into chunks of one width that fit in memory,
each sharded over the local devices; padding at the end repeats the last run and is
dropped. The records of a chunk are a shard, kept as soon as it is finished. The start of
a run is a program of its own, shared by all optimizers.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from study import devices, metrics, programs, records, train, trees
from study.checkpoints import Checkpoints
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem
from study.programs import Programs, Shape
from study.records import Chunk, Parts, Shards
from study.types import Data, Params

Progress = Callable[[float], None]
log = logging.getLogger(__name__)


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
    kept = Shards()
    cost = run_shards(experiment, problem, optimizer, progress, kept)
    return kept.merged(experiment), cost


def run_shards(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    progress: Progress,
    kept: Shards,
) -> Cost:
    """Runs what is missing of this process's part of a cell, chunk by chunk.

    Args:
        experiment: as for `run_cell`.
        problem: as for `run_cell`.
        optimizer: as for `run_cell`.
        progress: as for `run_cell`, of this process's part.
        kept: where the records of each chunk go as soon as it is finished.

    Raises:
        MemoryError or jax.errors.JaxRuntimeError: there is no memory even with one run a
            device at once; as long as there are more, they are halved.
    """
    begun = time.perf_counter()
    for name in experiment.metrics:
        metrics.METRICS[name]  # an unknown metric is refused before anything runs
    with devices.precision(problem.dtype):
        first, last = kept.part(experiment.runs)
        recorded = programs.record_bytes(problem, experiment)
        drawn = programs.draw_bytes(problem, experiment)
        width = programs.width(problem, optimizer, max(1, last - first), recorded, drawn)
        compiling = 0.0
        while width:
            try:
                compiling += _run_width(
                    experiment, problem, optimizer, progress, kept, width
                )
                break
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                fewer = programs.halved(problem, optimizer, width)
                if not (fewer and devices.is_out_of_memory(error)):
                    raise
                log.warning(
                    "%s, %s: out of memory with %d runs at once, again with %d",
                    *(problem, optimizer, width, fewer),
                )
            width = fewer  # after `except`, which lets go of the failed run's arrays
        one, _ = programs.start_shapes(problem)
        state_bytes = programs.state_bytes(problem, optimizer)
        together = programs.group(problem, optimizer, width)
    spent = time.perf_counter() - begun - compiling
    return Cost(
        *(compiling, spent, experiment.runs, width),
        *(sum(trees.sizes(one)), state_bytes, together),
    )


def _run_width(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    progress: Progress,
    kept: Shards,
    width: int,
) -> float:
    """Runs what is missing with so many runs at once; the seconds of compiling."""
    shape = Shape(
        tuple(experiment.metrics),
        experiment.record_every,
        tuple(np.diff(experiment.evaluated_steps).tolist()),
        experiment.schedule,
        len(experiment.seed_numbers),
        width,
    )
    begin = starts(problem, tuple(experiment.seed_numbers))
    made = programs.compiled.cache_info().misses
    ready = programs.compiled(problem, _rule(experiment, optimizer), shape)
    new = programs.compiled.cache_info().misses - made
    leaves = trees.names(programs.start_shapes(problem)[0])
    together = programs.group(problem, optimizer, width)
    chunks = kept.chunks(experiment.runs, width, together)
    for i, chunk in enumerate(chunks):
        done = lambda share, i=i: progress((i + share) / len(chunks))  # noqa: E731
        if chunk in kept:
            done(1.0)
            continue
        saved = kept.checkpoints(chunk)
        parts = _run(experiment, problem, ready, shape, begin, chunk, saved, done)
        runs = range(chunk.first, chunk.last)
        kept[chunk] = records.label(experiment, problem, optimizer, runs, parts, leaves)
    return ready.seconds * new


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
    keys = devices.jit(jax.vmap(train.keys))(jnp.asarray(seeds, jnp.int32))
    return devices.jit(jax.vmap(problem.init))(keys.init), keys.data


def _run(
    experiment: Experiment,
    problem: Problem,
    programs: Programs,
    shape: Shape,
    starts: tuple[Params, Any],
    chunk: Chunk,
    saved: Checkpoints | None,
    progress: Progress,
) -> Parts:
    """Records and evaluations of the runs of a chunk, [run, ...]."""
    by_run, replicated = devices.shardings()
    data, starts = jax.device_put((problem.data(), starts), replicated)
    runs = np.arange(chunk.first, chunk.last)
    padded = np.pad(runs, (0, chunk.width - len(runs)), mode="edge")
    rates = np.take(experiment.learning_rates, padded // shape.seeds)
    rates = rates.astype(jnp.dtype(problem.dtype))
    places = (padded % shape.seeds).astype(np.int32)
    rates, places = jax.device_put((rates, places), by_run)
    state, keys = programs.start(rates, places, starts)
    parts = _run_chunk(programs, shape, data, rates, keys, state, saved, progress)
    return jax.tree.map(lambda leaf: leaf[: len(runs)], parts)


def _run_chunk(
    programs: Programs,
    shape: Shape,
    data: Data,
    rates: Any,
    keys: Any,
    state: Any,
    saved: Checkpoints | None,
    progress: Progress,
) -> Parts:
    """Records and evaluations of `width` runs, [run, step or evaluation, ...].

    A segment is under way while what the one before has measured comes to the host.
    """
    evaluate = lambda state: programs.evaluate(data, programs.evaluated(state))  # noqa: E731
    found = saved.restore(state) if saved else None
    if found:
        done, state, parts = found
    else:
        done, parts = 0, _fetch({}, evaluate(state))
    pending: list[Parts] = []
    ahead: Any = None
    for i in range(done, len(shape.segments)):
        first = np.int32(sum(shape.segments[:i]))
        run = programs.segments[shape.segments[i]]
        state, measured = run(data, rates, keys, state, first)
        ahead, behind = (measured, evaluate(state)), ahead
        if behind:
            pending.append(_fetch(*behind))
            progress(i / len(shape.segments))
        if saved and saved.due():
            parts, pending, ahead = _join([parts, *pending, _fetch(*ahead)]), [], None
            saved.save(i + 1, state, parts)
            progress((i + 1) / len(shape.segments))
    if ahead:
        pending.append(_fetch(*ahead))
        progress(1.0)
    return _join([parts, *pending])


def _fetch(records: dict[str, Any], evaluations: dict[str, Any]) -> Parts:
    """What was measured, in host memory."""
    return {"records": _host(records), "evaluations": _host(evaluations, stacked=True)}


def _host(tree: dict[str, Any], stacked: bool = False) -> dict[str, np.ndarray]:
    """Arrays [run, ...] in host memory, half precision as float32; an axis after runs."""
    arrays = {name: np.asarray(array) for name, array in tree.items()}
    wide = {n: a if a.itemsize >= 4 else a.astype(np.float32) for n, a in arrays.items()}
    return {name: array[:, None] if stacked else array for name, array in wide.items()}


def _join(parts: list[Parts]) -> Parts:
    """What was measured in succession, along the second axis."""
    joined: Parts = {}
    for kind in ("records", "evaluations"):
        have = [part[kind] for part in parts if part[kind]]
        names = have[-1] if have else ()  # some problems have no evaluations
        joined[kind] = {
            name: np.concatenate([part[name] for part in have], axis=1) for name in names
        }
    return joined
