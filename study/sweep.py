"""One cell of an experiment: all learning rates and seeds of one optimizer at once.

Runs are one flat axis, rate-major. It is cut into chunks of one width that fit in memory,
each sharded over the local devices; padding at the end repeats the last run and is
dropped. The start of a run is a program of its own, shared by all optimizers.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.extend.core import jaxprs_in_params

from study import devices, metrics, train, trees
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem
from study.schedules import Schedule
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
    """

    compile_seconds: float
    run_seconds: float
    runs: int
    width: int
    parameters: int
    state_bytes: int


class Programs(NamedTuple):
    """The compiled functions of a cell, each over `width` runs."""

    start: Any
    segments: dict[int, Any]  # by number of steps
    evaluated: Callable[[train.State], Params]  # which params to evaluate
    evaluate: Any
    seconds: float


class Shape(NamedTuple):
    """What of an experiment the programs depend on, besides problem and optimizer."""

    metrics: tuple[str, ...]
    record_every: int
    segments: tuple[int, ...]
    schedule: Schedule
    seeds: int
    width: int


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
            _width(problem, optimizer, runs),
        )
        rule = _rule(experiment, optimizer)
        made = _programs.cache_info().misses
        programs = _programs(problem, rule, shape)
        compiled = programs.seconds * (_programs.cache_info().misses - made)
        records = _run(experiment, problem, programs, shape, begin, progress)
        one, _ = _start_shapes(problem)
        state_bytes = _state_bytes(problem, optimizer)
    dataset = _label(experiment, problem, optimizer, records, trees.names(one))
    spent = time.perf_counter() - begun - compiled
    size = sum(trees.sizes(one))
    return dataset, Cost(compiled, spent, runs, shape.width, size, state_bytes)


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
        size = sum(trees.sizes(_start_shapes(problem)[0]))
        state = _state_bytes(problem, optimizer)
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


@functools.lru_cache(maxsize=32)
def _programs(problem: Problem, optimizer: Optimizer, shape: Shape) -> Programs:
    """Traces and compiles, once for equal arguments: rates and keys are inputs."""
    begun = time.perf_counter()
    by_run, replicated = devices.shardings()
    params, key = _start_shapes(problem)
    rate = jax.ShapeDtypeStruct((), jnp.dtype(problem.dtype))
    shadowed = any(metrics.METRICS[name].unscaled for name in shape.metrics)
    launch = functools.partial(
        train.start, optimizer, shadowed=shadowed, dtype=problem.state_dtype
    )
    state = jax.eval_shape(launch, rate, params)
    many = functools.partial(_like, (shape.width,), by_run)
    data = _like((), replicated, problem.data())
    rates, first = many(rate), _like((), replicated, np.int32(0))

    def start(rate: Any, place: Any, starts: tuple[Params, Any]) -> Any:
        params, data_key = jax.tree.map(lambda leaf: leaf[place], starts)
        return launch(rate, params), data_key

    evaluated = lambda state: state.params  # noqa: E731
    if type(optimizer).evaluated is not Optimizer.evaluated:
        show = lambda state: optimizer.evaluated(state.optimizer, state.params)  # noqa: E731
        shown = jax.jit(jax.vmap(show), out_shardings=by_run)
        evaluated = shown.lower(many(state)).compile()
    begin = jax.jit(jax.vmap(start, in_axes=(0, 0, None)), out_shardings=by_run)
    starts = _like((shape.seeds,), replicated, (params, key))
    segments = {}
    for steps in set(shape.segments):
        segment = functools.partial(
            train.segment,
            *(problem, optimizer, shape.metrics, shape.record_every, steps),
            rate_at=shape.schedule.rates(sum(shape.segments)),
        )
        # Each device by itself: what `trees` asks of a batch, it asks of its own runs.
        mapped = jax.shard_map(
            jax.vmap(segment, in_axes=(None, 0, 0, 0, None)),
            mesh=by_run.mesh,
            in_specs=tuple(s.spec for s in (replicated, *[by_run] * 3, replicated)),
            out_specs=by_run.spec,
            check_vma=False,
        )
        jitted = jax.jit(mapped, donate_argnums=3)
        lowered = jitted.lower(data, rates, many(key), many(state), first)
        segments[steps] = lowered.compile()
    return Programs(
        begin.lower(rates, many(np.int32(0)), starts).compile(),
        segments,
        evaluated,
        _evaluate(problem, shape.width),
        time.perf_counter() - begun,
    )


@functools.lru_cache(maxsize=8)
def _evaluate(problem: Problem, width: int) -> Any:
    """The compiled evaluation of a problem, shared by all its optimizers."""
    by_run, replicated = devices.shardings()
    evaluate = jax.vmap(problem.evaluate, in_axes=(None, 0))
    params = _like((width,), by_run, _start_shapes(problem)[0])
    data = _like((), replicated, problem.data())
    return jax.jit(evaluate, out_shardings=by_run).lower(data, params).compile()


def _start_shapes(problem: Problem) -> tuple[Params, Any]:
    """Shapes of theta_0 and of a key."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(problem.init, key), key


def _like(axes: tuple[int, ...], sharding: Any, tree: Any) -> Any:
    """The shapes of a tree, with leading axes and a sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (*axes, *leaf.shape), leaf.dtype, sharding=sharding
        ),
        tree,
    )


def _width(problem: Problem, optimizer: Optimizer, runs: int) -> int:
    """Runs in one program: all, or equal chunks that fill a quarter of the memory."""
    count = jax.local_device_count()
    params, _ = _start_shapes(problem)
    start = functools.partial(train.start, optimizer, 1.0)
    state = _bytes(jax.eval_shape(start, params))
    # Gradient, update and unscaled update besides the state itself, and what lies between
    # parameters and loss: an upper bound, for much of it is never stored.
    between = max(_between(problem, part) for part in ("slope", "evaluate"))
    each = 4 * state + 16 * _bytes(params) + between
    limit = max(1, devices.memory() // 4 // each) * count
    chunks = math.ceil(runs / limit)
    return math.ceil(math.ceil(runs / chunks) / count) * count


def _between(problem: Problem, part: str) -> int:
    """Bytes of all intermediate values in one slope or evaluation of a problem."""
    params, key = _start_shapes(problem)

    def run(data: Data, params: Params, key: Any) -> Any:
        if part == "evaluate":
            return problem.evaluate(data, params)
        return problem.slope(params, problem.batch(data, key, jnp.zeros((), jnp.int32)))

    def size(jaxpr: Any) -> int:
        own = sum(_bytes([v.aval for v in eqn.outvars]) for eqn in jaxpr.eqns)
        inner = (x for eqn in jaxpr.eqns for x in jaxprs_in_params(eqn.params))
        return own + sum(map(size, inner))

    return size(jax.make_jaxpr(run)(_like((), None, problem.data()), params, key).jaxpr)


def _state_bytes(problem: Problem, optimizer: Optimizer) -> int:
    """Of one run's optimizer state."""
    start = functools.partial(
        train.start, optimizer, 1.0, shadowed=False, dtype=problem.state_dtype
    )
    return _bytes(jax.eval_shape(start, _start_shapes(problem)[0]).optimizer)


def _bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


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
