"""One run watched where one likes: a schedule, a projection, a treated rule, chosen steps.

`sweep` runs grids of one shape for many rules; here a run is followed by `train.step` from
stop to stop, in one program whatever the stops are, and maps over anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from study import train
from study.optimizers import Optimizer
from study.problems import Problem
from study.types import Array, Data, Key, Params, Scalar

Rule = optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class Treated:
    """An optimizer with a transformation around it, for `train.step`; no counterpart.

    Attributes:
        optimizer: the rule.
        around: from its Optax transformation to another, such as `transforms.rotate`.
    """

    optimizer: Optimizer
    around: Callable[[Rule], Rule]

    @property
    def asks(self) -> tuple[str, ...]:
        """The rule's."""
        return self.optimizer.asks

    def build(self, learning_rate: Scalar) -> Rule:
        """The treated transformation."""
        return self.around(self.optimizer.build(learning_rate))

    def unscaled(self) -> None:
        """None."""

    def decay_update(self, learning_rate: Scalar, params: Params) -> None:
        """None: decay counts as part of the update."""
        del learning_rate, params


@dataclasses.dataclass(frozen=True)
class Made:
    """A rule of no entry, for `train.step`: made for each learning rate; no counterpart.

    Attributes:
        build: from a learning rate, possibly traced, to an Optax transformation.
        asks: names of `train.EXTRAS`.
    """

    build: Callable[[Scalar], Rule]
    asks: tuple[str, ...] = ()

    def unscaled(self) -> None:
        """None."""

    def decay_update(self, learning_rate: Scalar, params: Params) -> None:
        """None: decay counts as part of the update."""
        del learning_rate, params


def follow(
    problem: Problem,
    optimizer: Optimizer | Treated | Made | train.Decayed,
    schedule: Callable[[Array], Scalar],
    stops: Sequence[int] | Array,
    observe: Callable[[train.State, Array], Any],
    *,
    params: Params,
    key: Key | None = None,
    data: Data = None,
    project: Callable[[Params], Params] = lambda params: params,
) -> tuple[train.State, Any]:
    """Runs to the last stop and observes the state at each.

    Args:
        problem: whose batches and gradients.
        optimizer: the rule, a treated one, or one made for the purpose.
        schedule: from the index t [], an int32 from 0, to the learning rate of that step.
        stops: numbers of updates after which to observe, ascending; 0 is the start.
        observe: (state, t) -> a pytree of arrays; t is the number of updates done.
        params: theta_0.
        key: of the batches; key 0 if None, for problems without noise.
        data: of the problem; `problem.data()` if None.
        project: applied to params after each update.

    Returns:
        The last state, and observations with a leading axis [stop].

    Raises:
        ValueError: stops that do not ascend, where they are known.
    """
    if not isinstance(stops, jax.Array) and list(stops) != sorted(stops):
        raise ValueError(f"stops must ascend: {stops}")
    rule: Any = optimizer
    data = problem.data() if data is None else data
    key = jax.random.key(0) if key is None else key
    zero = jnp.zeros((), jnp.int32)

    def advance(t: Array, state: train.State) -> train.State:
        rate = jnp.asarray(schedule(t), problem.dtype)
        after, _ = train.step(problem, rule, data, rate, key, state, t)
        return after._replace(params=project(after.params))

    def reach(carry: tuple[train.State, Array], stop: Array) -> Any:
        state = jax.lax.fori_loop(carry[1], stop, advance, carry[0])
        return (state, stop), observe(state, stop)

    first = jnp.asarray(schedule(zero), problem.dtype)
    kind = problem.state_dtype
    begin = train.start(rule, first, params, shadowed=False, dtype=kind)
    places = jnp.asarray(stops, jnp.int32)
    (state, _), seen = jax.lax.scan(reach, (begin, zero), places)
    return state, seen


def by_epochs(
    problem: Problem,
    optimizer: Optimizer,
    rate: Array,
    epochs: tuple[int, int, Array],
    measured: tuple[tuple[str, ...], int],
    *,
    params: Params,
    key: Key,
    data: Data,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """One run, evaluated after each epoch, up to a budget that may be traced.

    Args:
        problem: whose batches, gradients and evaluations.
        optimizer: the rule.
        rate: the learning rate [].
        epochs: steps in one, the largest number of them, and the budget [], how many to
            run: runs of different budgets share a program.
        measured: names of metrics, and every how many steps of an epoch.
        params: theta_0.
        key: of the batches.
        data: of the problem.

    Returns:
        Evaluations [epoch] from 0 to the largest number, and records [epoch, record, ...],
        NaN beyond the budget.
    """
    length, longest, budget = epochs
    names, every = measured

    def train_on(state: train.State, epoch: Array) -> Any:
        first = epoch * length
        return train.segment(
            problem, optimizer, names, every, length, data, rate, key, state, first
        )

    def step(state: train.State, epoch: Array) -> Any:
        seen = _if(
            epoch <= budget, lambda: problem.evaluate(data, state.params), _undefined
        )
        state, records = _if(
            epoch < budget,
            lambda: train_on(state, epoch),
            lambda shapes: (state, _undefined(shapes[1])),
        )
        return state, (seen, records)

    begin = train.start(optimizer, rate, params, dtype=problem.state_dtype)
    _, (seen, records) = jax.lax.scan(step, begin, jnp.arange(longest + 1))
    return seen, jax.tree.map(lambda leaf: leaf[:-1], records)


def _if(yes: Array, do: Callable[[], Any], otherwise: Callable[[Any], Any]) -> Any:
    """What `do` gives, or else `otherwise` of its shapes, which is not computed."""
    shapes = jax.eval_shape(do)
    return jax.lax.cond(yes, do, lambda: otherwise(shapes))


def _undefined(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)


def power_law(rate: Scalar, exponent: float, shift: float = 1.0) -> Callable[..., Array]:
    """Rate * (t + shift)^-exponent, t from 0."""
    return lambda t: rate * (jnp.asarray(t, float) + shift) ** -exponent
