"""Open loop: what a rule makes of a stream of gradients that does not depend on it.

Parameters follow the rule's own updates, gradients do not follow the parameters. So two
rules, or one rule on two streams, can be compared step by step. For rules that ask for
more than a gradient, the loss of step t is

    f_t(theta) = value_t + <g_t, theta - theta_t> + curvature / 2 |theta - theta_t|^2,

whose gradient at theta_t is g_t.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from study import train, trees
from study.optimizers import Optimizer
from study.problems import Problem
from study.types import Array, Data, Params, Scalar, Update


class Stream(NamedTuple):
    """Gradients and the start they are applied to.

    Attributes:
        params: theta_0.
        grads: g_t, leaves [step, ...].
        values: of the loss at theta_t, [step].
        curvature: of the loss, in all directions alike, [].
    """

    params: Params
    grads: Update
    values: Array
    curvature: Array


def updates(optimizer: Optimizer, learning_rate: Scalar, stream: Stream) -> Update:
    """The updates on a stream, without decoupled weight decay: leaves [step, ...]."""

    def advance(carry: Any, seen: tuple[Update, Array]) -> tuple[Any, Update]:
        params, state = carry
        grad, value = seen

        def loss(at: Params) -> Array:
            away = trees.subtract(at, params)
            bend = optax.tree.vdot(away, away) * stream.curvature / 2
            return value + optax.tree.vdot(grad, away) + bend

        one = lambda: jax.tree.map(lambda g: g[None], grad)  # noqa: E731
        sight = train.Seen(params, value, grad, loss, one)
        applied, state = train.apply(optimizer, learning_rate, sight, state)
        decay = optimizer.decay_update(learning_rate, params)
        update = applied if decay is None else trees.subtract(applied, decay)
        return (optax.apply_updates(params, applied), state), update

    start = (stream.params, optimizer.build(learning_rate).init(stream.params))
    return jax.lax.scan(advance, start, (stream.grads, stream.values))[1]


def record(
    problem: Problem,
    guide: Optimizer,
    learning_rate: Scalar,
    steps: int,
    seed: Scalar,
    data: Data,
) -> Stream:
    """The gradients that a guide meets while it trains on a problem.

    Values are those of the batch losses there; curvature is 1. With the guide's own
    updates the stream leads along the guide's path.
    """
    data = jax.tree.map(jnp.asarray, data)
    keys = train.keys(jnp.asarray(seed, jnp.int32))
    params = problem.init(keys.init)
    kind = problem.state_dtype
    state = train.start(guide, learning_rate, params, shadowed=False, dtype=kind)

    def advance(state: train.State, t: Array) -> tuple[train.State, Any]:
        after, step = train.step(problem, guide, data, learning_rate, keys.data, state, t)
        return after, (step.grad, step.loss)

    _, (grads, values) = jax.lax.scan(advance, state, jnp.arange(steps))
    return Stream(params, grads, values, jnp.ones([], values.dtype))


def tree_like(vectors: Array, params: Params) -> Any:
    """The inverse of `vector`: elements [..., element] as leaves [..., shape]."""
    leaves, structure = jax.tree.flatten(params)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    parts = jnp.split(vectors, ends[:-1], axis=-1)
    shaped = [
        part.reshape(*vectors.shape[:-1], *leaf.shape)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)


def vector(tree: Update, axes: int = 1) -> Array:
    """Leaves [..., shape] as one array [..., element], after `axes` leading axes."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([x.reshape(*x.shape[:axes], -1) for x in leaves], -1)
