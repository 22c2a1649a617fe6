"""The compiled programs of a cell: start, segments and evaluation, each for many runs.

Runs are sharded over the local devices. A CPU core takes its runs in groups whose state
fits its cache, each group through a whole segment before the next: measured, the metrics of
every step then cost half as much. An accelerator takes all its runs at once.
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
from jax.extend.core import jaxprs_in_params

from study import devices, metrics, train
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem
from study.schedules import Schedule
from study.types import Data, Params

CACHE = 1 << 20
"""Bytes of state that the runs of a group may have. With gradient, updates and what lies
between, of the order of a core's caches; half of it measures alike, double a little slower
where every step is measured."""


class Shape(NamedTuple):
    """What of an experiment the programs depend on, besides problem and optimizer."""

    metrics: tuple[str, ...]
    record_every: int
    segments: tuple[int, ...]
    schedule: Schedule
    seeds: int
    width: int


class Programs(NamedTuple):
    """The compiled functions of a cell, each over `width` runs."""

    start: Any
    segments: dict[int, Any]  # by number of steps
    evaluated: Callable[[train.State], Params]  # which params to evaluate
    evaluate: Any
    seconds: float


@functools.lru_cache(maxsize=32)
def compiled(problem: Problem, optimizer: Optimizer, shape: Shape) -> Programs:
    """Traces and compiles, once for equal arguments: rates and keys are inputs."""
    begun = time.perf_counter()
    by_run, replicated = devices.shardings()
    params, key = start_shapes(problem)
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
        shown = devices.jit(jax.vmap(show), out_shardings=by_run)
        evaluated = shown.lower(many(state)).compile()
    begin = devices.jit(jax.vmap(start, in_axes=(0, 0, None)), out_shardings=by_run)
    starts = _like((shape.seeds,), replicated, (params, key))
    together = group(problem, optimizer, shape.width)
    segments = {}
    for steps in set(shape.segments):
        segment = functools.partial(
            train.segment,
            *(problem, optimizer, shape.metrics, shape.record_every, steps),
            rate_at=shape.schedule.rates(sum(shape.segments)),
        )
        mapped = _by_groups(segment, (False, True, True, True, False), together)
        jitted = devices.jit(mapped, donate_argnums=3)
        lowered = jitted.lower(data, rates, many(key), many(state), first)
        segments[steps] = lowered.compile()
    return Programs(
        begin.lower(rates, many(np.int32(0)), starts).compile(),
        segments,
        evaluated,
        _evaluate(problem, shape.width, together),
        time.perf_counter() - begun,
    )


@functools.lru_cache(maxsize=8)
def _evaluate(problem: Problem, width: int, together: int) -> Any:
    """The compiled evaluation of a problem, shared by its optimizers of one layout."""
    by_run, replicated = devices.shardings()
    evaluate = _by_groups(problem.evaluate, (False, True), together)
    params = _like((width,), by_run, start_shapes(problem)[0])
    data = _like((), replicated, problem.data())
    return devices.jit(evaluate).lower(data, params).compile()


def _by_groups(
    function: Callable[..., Any], runs: tuple[bool, ...], together: int
) -> Callable[..., Any]:
    """A function mapped over [run, ...] arguments, a group at a time on each device.

    Each device by itself: what `trees` asks of a batch, it asks of a group.

    Args:
        function: of one run.
        runs: which of its arguments have the axis; the others are shared.
        together: runs in a group, a divisor of each device's.
    """
    by_run, replicated = devices.shardings()

    def of_a_device(*given: Any) -> Any:
        own = [x for x, many in zip(given, runs, strict=True) if many]

        def one(own: list[Any]) -> Any:
            rest = iter(own)
            pairs = zip(given, runs, strict=True)
            return function(*(next(rest) if many else x for x, many in pairs))

        if len(jax.tree.leaves(own)[0]) <= together:
            return jax.vmap(one)(own)
        return jax.lax.map(one, own, batch_size=together)

    return jax.shard_map(
        of_a_device,
        mesh=by_run.mesh,
        in_specs=tuple((by_run if many else replicated).spec for many in runs),
        out_specs=by_run.spec,
        check_vma=False,
    )


# Layout -------------------------------------------------------------------------------


def width(
    problem: Problem, optimizer: Optimizer, runs: int, recorded: int = 0, drawn: int = 0
) -> int:
    """Runs in one program: all, or equal chunks that fill the memory they may have.

    Args:
        problem: what they train on.
        optimizer: by which.
        runs: how many there are.
        recorded: bytes of what one run has measured at its end.
        drawn: bytes of what is drawn ahead for one run.
    """
    count = jax.local_device_count()
    held, work = _run_bytes(problem, optimizer)
    held += 3 * recorded  # as they come, joined, and on their way into a file
    work += drawn
    memory = devices.memory()
    if (largest := _largest(problem, optimizer)) is None:
        limit = memory // (held + work)
    else:
        limit = (memory - largest * work) // held
    chunks = math.ceil(runs / (max(1, limit) * count))
    each = math.ceil(math.ceil(runs / chunks) / count)
    return _in_groups(each, largest) * count


def halved(problem: Problem, optimizer: Optimizer, width: int) -> int:
    """A layout of half the runs or somewhat more; 0 if a device has one run already."""
    count = jax.local_device_count()
    each = width // count
    for fewer in range(math.ceil(each / 2), each):
        if (found := _in_groups(fewer, _largest(problem, optimizer))) < each:
            return found * count
    return 0


def _in_groups(each: int, largest: int | None) -> int:
    """At least `each` runs of a device, that can be cut into full groups."""
    if largest and each > largest:
        half = math.ceil(largest / 2)
        while all(each % size for size in range(half, largest + 1)):
            each += 1
    return each


def group(problem: Problem, optimizer: Optimizer, width: int) -> int:
    """Runs that a device takes at once, a divisor of its share of the width."""
    each = width // jax.local_device_count()
    largest = _largest(problem, optimizer) or each
    return max(size for size in range(1, min(each, largest) + 1) if each % size == 0)


def abreast(problem: Problem, optimizer: Optimizer, runs: int) -> int:
    """Runs for `devices.map_runs` to take side by side, of all devices, in equal chunks.

    So many as states fit the caches of the cores; all on an accelerator.

    Args:
        problem: what they train on.
        optimizer: by which.
        runs: how many there are.
    """
    count = jax.local_device_count()
    largest = _largest(problem, optimizer) or math.ceil(runs / count)
    chunks = math.ceil(runs / (largest * count))
    return math.ceil(runs / (chunks * count)) * count


def _largest(problem: Problem, optimizer: Optimizer) -> int | None:
    """Runs whose state fits the cache of a core; None where all are taken at once."""
    if jax.local_devices()[0].platform != "cpu":
        return None
    return max(1, CACHE // _bytes(_state(problem, optimizer)))


@functools.lru_cache(maxsize=32)
def _run_bytes(problem: Problem, optimizer: Optimizer) -> tuple[int, int]:
    """Of one run, held all the time and needed besides while it trains.

    State before and after; gradient, update and unscaled update, and what lies between
    parameters and loss: an upper bound, for much of it is never stored.
    """
    state, params = _bytes(_state(problem, optimizer)), _bytes(start_shapes(problem)[0])
    most = max(between(problem, part) for part in ("slope", "evaluate"))
    return 2 * state, 2 * state + 16 * params + most


@functools.lru_cache(maxsize=8)
def between(problem: Problem, part: str) -> int:
    """Bytes of all intermediate values in one slope or evaluation of a problem."""
    params, key = start_shapes(problem)

    def run(data: Data, params: Params, key: Any) -> Any:
        if part == "evaluate":
            return problem.evaluate(data, params)
        return problem.slope(params, problem.batch(data, key, jnp.zeros((), jnp.int32)))

    def size(jaxpr: Any) -> int:
        own = sum(_bytes([v.aval for v in eqn.outvars]) for eqn in jaxpr.eqns)
        inner = (x for eqn in jaxpr.eqns for x in jaxprs_in_params(eqn.params))
        return own + sum(map(size, inner))

    return size(jax.make_jaxpr(run)(_like((), None, problem.data()), params, key).jaxpr)


@functools.lru_cache(maxsize=8)
def record_bytes(problem: Problem, experiment: Experiment) -> int:
    """Of what one run has measured at its end; the evaluations are scalars, and few."""
    found = metrics.shapes(experiment.metrics, start_shapes(problem)[0])
    return len(experiment.recorded_steps) * _bytes(found)


@functools.lru_cache(maxsize=8)
def draw_bytes(problem: Problem, experiment: Experiment) -> int:
    """Of what is drawn ahead for one run's longest segment."""
    data, key = _like((), None, problem.data()), start_shapes(problem)[1]
    drawn = jax.eval_shape(problem.draw, data, key, np.int32(0))
    segments = np.diff(experiment.evaluated_steps).tolist()
    return max(segments, default=0) * _bytes(drawn)


def state_bytes(problem: Problem, optimizer: Optimizer) -> int:
    """Of one run's optimizer state."""
    return _bytes(_state(problem, optimizer, shadowed=False).optimizer)


@functools.lru_cache(maxsize=64)
def _state(problem: Problem, optimizer: Optimizer, shadowed: bool = True) -> train.State:
    """Shapes of what a run carries."""
    start = functools.partial(
        train.start, optimizer, 1.0, shadowed=shadowed, dtype=problem.state_dtype
    )
    return jax.eval_shape(start, start_shapes(problem)[0])


@functools.lru_cache(maxsize=8)
def start_shapes(problem: Problem) -> tuple[Params, Any]:
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


def _bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
