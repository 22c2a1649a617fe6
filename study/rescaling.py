"""Gradients whose elements are multiplied by factors: the dose, and a problem that has it.

The loss and its values stay as they are; only what the optimizer is told of its slope
changes. So what training gains or loses is due to the rescaling alone. `turns` measures
what updates make of it in open loop, `trainings` what training does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from study import devices, programs, streams, train, transforms, trees
from study.optimizers import SGD, Optimizer
from study.problems import Problem
from study.types import Array, Batch, Data, Key, Params, Scalar, Update

KINDS = ("element", "correlated", "leaf")
"""Log factors: normal by element, the element's standardised log scale, normal by leaf."""


def log_factors(kind: str, scales: Update, key: Key) -> Update:
    """Logarithms of factors of spread 1: multiply by sigma, then `exp`.

    Args:
        kind: one of KINDS.
        scales: positive sizes of gradient elements, a tree like theta; for `correlated`.
        key: of the normal draws.
    """
    leaves, structure = jax.tree.flatten(scales)
    keys = jax.random.split(key, len(leaves))
    if kind == "correlated":
        logs = [jnp.log(x) for x in leaves]
        every = jnp.concatenate([x.ravel() for x in logs])
        middle, spread = every.mean(), jnp.maximum(every.std(), 1e-6)
        drawn = [(x - middle) / spread for x in logs]
    elif kind == "leaf":
        drawn = [
            jnp.full_like(x, jax.random.normal(k, (), x.dtype))
            for x, k in zip(leaves, keys, strict=True)
        ]
    else:
        drawn = [
            jax.random.normal(k, x.shape, x.dtype)
            for x, k in zip(leaves, keys, strict=True)
        ]
    return jax.tree.unflatten(structure, drawn)


def factors(logs: Update, sigma: Scalar) -> Update:
    """exp(sigma logs), log-normal with spread sigma."""
    return jax.tree.map(lambda x: jnp.exp(jnp.asarray(sigma, x.dtype) * x), logs)


def gradient_scales(problem: Problem, data: Data, draws: int = 32) -> Update:
    """Root mean square of each element's gradient at starts of the problem.

    Steep directions have large ones. Elements that never have a gradient take the
    smallest of the others.
    """
    data = jax.tree.map(jnp.asarray, data)
    keys = jax.random.split(jax.random.key(0), (draws, 2))

    def square(pair: Array) -> Update:
        params, batch = problem.init(pair[0]), problem.sample(data, pair[1])
        return jax.tree.map(jnp.square, jax.grad(problem.loss)(params, batch))

    means = jax.tree.map(lambda x: x.mean(0), jax.vmap(square)(keys))
    smallest = jnp.stack(
        [jnp.min(jnp.where(x > 0, x, jnp.inf)) for x in jax.tree.leaves(means)]
    ).min()
    return jax.tree.map(lambda x: jnp.sqrt(jnp.maximum(x, smallest)), means)


class RescaledGradient(NamedTuple):
    """A problem whose gradient's elements are multiplied by factors, for `train.step`."""

    problem: Problem
    factors: Update

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """The problem's."""
        return self.problem.batch(data, key, t)

    def draw(self, data: Data, key: Key, t: Array) -> Any:
        """The problem's."""
        return self.problem.draw(data, key, t)

    def take(self, data: Data, drawn: Any) -> Batch:
        """The problem's."""
        return self.problem.take(data, drawn)

    def slope(self, params: Params, batch: Batch) -> tuple[Array, Update]:
        """The problem's loss, and its gradient multiplied in the wider of both types."""

        def told(grad: Update) -> Update:
            rule = transforms.rescale_elements(self.factors)
            return rule.update(grad, rule.init(grad))[0]

        return self.problem.slope(params, batch, told)

    def examples(self, batch: Batch) -> Batch:
        """The problem's."""
        return self.problem.examples(batch)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The problem's, whose gradient comes back multiplied."""
        told = jax.tree.map(_told, params, self.factors)
        return self.problem.loss(told, batch)


@jax.custom_vjp
def _told(x: Array, factor: Array) -> Array:
    del factor
    return x


def _forward(x: Array, factor: Array) -> tuple[Array, Array]:
    return x, factor


def _backward(factor: Array, slope: Array) -> tuple[Any, Any]:
    return (slope * factor).astype(slope.dtype), None


_told.defvjp(_forward, _backward)


def turns(
    problem: Problem,
    optimizer: Optimizer,
    learning_rate: float,
    sigmas: Sequence[float],
    *,
    steps: int,
    draws: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean angles [kind, draw, sigma], radians, over the last ten of `steps` updates.

    Between the updates on g and on g with rescaled elements; and between the gradients
    themselves.
    """
    stream, logs = _stream(problem, steps, draws)

    def updates(log: Update, sigma: Array) -> tuple[Update, Update]:
        multiplied = factors(log, sigma)
        grads = jax.tree.map(lambda g, f: g * f[None], stream.grads, multiplied)
        made = streams.updates(optimizer, learning_rate, stream._replace(grads=grads))
        return made, grads

    def turn(log: Update, sigma: Array) -> tuple[Array, Array]:
        plain, turned = updates(log, jnp.zeros_like(sigma)), updates(log, sigma)
        late = lambda tree: jax.tree.map(lambda x: x[-10:], tree)  # noqa: E731
        of_update, of_gradient = (
            jax.vmap(trees.angle)(late(a), late(b))
            for a, b in zip(plain, turned, strict=True)
        )
        return jnp.mean(of_update), jnp.mean(of_gradient)

    over_sigmas = jax.vmap(turn, in_axes=(None, 0))
    both = devices.jit(jax.vmap(jax.vmap(over_sigmas, (0, None)), (0, None)))
    found, expected = both(logs, jnp.asarray(sigmas, jnp.dtype(problem.dtype)))
    return np.asarray(found), np.asarray(expected)


@functools.lru_cache(maxsize=1)
def _stream(problem: Problem, steps: int, draws: int) -> tuple[streams.Stream, Update]:
    """The problem's gradients at its start, and log factors [kind, draw]."""
    data = problem.data()
    stream = streams.record(problem, SGD(), 0.0, steps, 0, data)
    stream = stream._replace(values=jnp.ones_like(stream.values))
    scales = gradient_scales(problem, data)
    keys = jax.random.split(jax.random.key(1), draws)
    kinds = [jax.vmap(functools.partial(log_factors, kind, scales))(keys) for kind in KINDS]
    return stream, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kinds)


def trainings(
    problem: Problem,
    optimizer: Optimizer,
    conditions: Sequence[tuple[str, float]],
    learning_rates: Sequence[float],
    *,
    steps: int,
    draws: int,
    each: int,
) -> dict[str, np.ndarray]:
    """Evaluations [condition, learning_rate, seed] after `steps` updates, by name.

    Args:
        problem: what is trained.
        optimizer: by which rule.
        conditions: kind and sigma of the factors.
        learning_rates: the grid.
        steps: updates.
        draws: of the factors; seeds 0, ..., each - 1 have the first, and so on.
        each: seeds of a draw.
    """
    shape = (len(conditions), len(learning_rates), draws * each)
    kinds = np.asarray([KINDS.index(kind) for kind, _ in conditions])
    sigmas = np.asarray([sigma for _, sigma in conditions], np.dtype(problem.dtype))

    def run(data: Data, scales: Update, condition: Array, rate: Array, seed: Array) -> Any:
        keys = train.keys(seed)
        params = problem.init(keys.init)
        key = jax.random.fold_in(jax.random.key(2), seed // each)
        drawn = [log_factors(kind, scales, key) for kind in KINDS]
        chosen = jnp.asarray(kinds)[condition]
        logs = jax.tree.map(lambda *x: jnp.stack(x)[chosen], *drawn)
        multiplied = factors(logs, jnp.asarray(sigmas)[condition])
        told: Any = RescaledGradient(problem, multiplied)
        kind = problem.state_dtype
        state = train.start(optimizer, rate, params, shadowed=False, dtype=kind)
        zero = jnp.asarray(0, jnp.int32)
        state, _ = train.segment(
            told, optimizer, (), steps, steps, data, rate, keys.data, state, zero
        )
        return problem.evaluate(data, optimizer.evaluated(state.optimizer, state.params))

    grid = np.meshgrid(
        np.arange(shape[0], dtype=np.int32),
        np.asarray(learning_rates, np.dtype(problem.dtype)),
        np.arange(shape[2], dtype=np.int32),
        indexing="ij",
    )
    shared = (problem.data(), _scales(problem))
    width = programs.abreast(problem, optimizer, grid[0].size)
    found = devices.map_runs(run, shared, [axis.ravel() for axis in grid], width)
    return {name: x.reshape(shape) for name, x in found.items()}


@functools.lru_cache(maxsize=4)
def _scales(problem: Problem) -> Update:
    return jax.jit(functools.partial(gradient_scales, problem))(problem.data())
