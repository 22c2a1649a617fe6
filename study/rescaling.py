"""Gradients whose elements are multiplied by factors: the dose, and a problem that has it.

The loss and its values stay as they are; only what the optimizer is told of its slope
changes. So what training gains or loses is due to the rescaling alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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

    def sample(self, data: Data, key: Key) -> Batch:
        """The problem's."""
        return self.problem.sample(data, key)

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
    return slope * factor, None


_told.defvjp(_forward, _backward)
