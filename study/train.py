"""One run as pure functions: a start, one step, and segments of steps in one scan.

Nothing here knows of grids, files or devices. `sweep` maps these functions over runs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from study import metrics, trees
from study.metrics import METRICS, Step
from study.optimizers import Optimizer
from study.problems import Problem
from study.types import Array, Batch, Data, Key, Params, Scalar, Update


class State(NamedTuple):
    """What the next step needs: params, optimizer state, the shadow's state or None."""

    params: Params
    optimizer: Any
    shadow: Any


class Keys(NamedTuple):
    """The random keys of a run, by purpose; nothing depends on optimizer or rate."""

    init: Key
    data: Key


class Seen(NamedTuple):
    """What a rule may look at in one step.

    Attributes:
        params: theta.
        value: the loss [] of this step's batch at theta.
        grad: its gradient.
        loss: the loss [] of this batch as a function of params.
        examples: gives the gradients of the batch's examples [example, ...].
    """

    params: Params
    value: Array
    grad: Update
    loss: Callable[[Params], Array]
    examples: Callable[[], Update]


# What `Optimizer.asks` may name, as Optax's rules call it.
EXTRAS: dict[str, Callable[[Seen], Any]] = {
    "value": lambda seen: seen.value,
    "grad": lambda seen: seen.grad,
    "value_fn": lambda seen: seen.loss,
    "obj_fn": lambda seen: seen.loss,
    "grad_fn": lambda seen: lambda params, _: jax.grad(seen.loss)(params),
    "example_grads": lambda seen: seen.examples(),
}


def apply(
    optimizer: Optimizer, learning_rate: Scalar, seen: Seen, state: Any
) -> tuple[Update, Any]:
    """The update and the next state of a rule, in the dtypes of params and of its state.

    Each rule gets what it asks for and nothing else: some of Optax's refuse the rest.
    """
    extras = {name: EXTRAS[name](seen) for name in optimizer.asks}
    rule = optax.with_extra_args_support(optimizer.build(learning_rate))
    update, after = rule.update(seen.grad, state, seen.params, **extras)
    return _like(update, seen.params), _like(after, state)


def _like(tree: Any, pattern: Any) -> Any:
    """Some rules promote half precision on the way; a scan wants its dtypes back."""
    return jax.tree.map(
        lambda x, old: jnp.asarray(x, jnp.asarray(old).dtype), tree, pattern
    )


def keys(seed: Array) -> Keys:
    """The keys of the run with this seed [], an int32."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(0), seed)))


def start(
    optimizer: Optimizer,
    learning_rate: Scalar,
    params: Params,
    shadowed: bool = True,
    dtype: str | None = None,
) -> State:
    """The state before the first step.

    Args:
        optimizer: the rule.
        learning_rate: eta, possibly traced.
        params: theta_0.
        shadowed: also carry the unscaled counterpart, unless the rule shares its state;
            without either, `unscaled` is NaN.
        dtype: of the floating optimizer state, that of params if None.
    """
    shadow = _shadow(optimizer)

    def begin(rule: Optimizer) -> Any:
        state = rule.build(learning_rate).init(params)
        return trees.cast(state, dtype) if dtype else state

    own = begin(optimizer)
    carried = shadow and shadowed and optimizer.shared(own) is None
    return State(params, own, begin(shadow) if shadow and carried else None)


def step(
    problem: Problem,
    optimizer: Optimizer,
    data: Data,
    learning_rate: Scalar,
    data_key: Key,
    state: State,
    t: Array,
) -> tuple[State, Step]:
    """One step on batch t: Optax's update is applied, the shadow's only measured."""
    batch = problem.batch(data, data_key, t)
    return step_on(problem, optimizer, batch, learning_rate, state)


def step_on(
    problem: Problem,
    optimizer: Optimizer,
    batch: Batch,
    learning_rate: Scalar,
    state: State,
) -> tuple[State, Step]:
    """As `step`, on a batch that is there."""
    spec = isinstance(problem, Problem)
    slope = functools.partial(_slope, problem) if spec else problem.slope
    loss, grad = slope(state.params, batch)
    seen = Seen(
        state.params,
        loss,
        grad,
        lambda params: problem.loss(params, batch),
        lambda: jax.vmap(jax.grad(problem.loss), (None, 0))(
            state.params, problem.examples(batch)
        ),
    )
    applied, inner = apply(optimizer, learning_rate, seen, state.optimizer)

    decay = optimizer.decay_update(learning_rate, state.params)
    update = trees.stored(applied if decay is None else trees.subtract(applied, decay))
    decay = optax.tree.zeros_like(update) if decay is None else decay

    counterpart, shadow_state = _shadow(optimizer), state.shadow
    shared = counterpart and optimizer.shared(state.optimizer)
    if counterpart and shared is not None:
        unscaled, _ = apply(counterpart, learning_rate, seen, shared)
    elif counterpart is not None and shadow_state is not None:
        unscaled, shadow_state = apply(counterpart, learning_rate, seen, shadow_state)
    elif optimizer.unscaled() == optimizer:
        unscaled = update
    else:
        unscaled = optax.tree.full_like(update, jnp.nan)

    measured = Step(state.params, grad, unscaled, update, decay, loss, learning_rate)
    params = optax.apply_updates(state.params, applied)
    return State(params, inner, shadow_state), measured


@functools.partial(jax.jit, static_argnums=0)
def _slope(problem: Problem, params: Params, batch: Batch) -> tuple[Array, Update]:
    """The problem's, traced and batched once for all rules; not where fields are traced."""
    return problem.slope(params, batch)


_measure = jax.jit(metrics.measure, static_argnums=0)  # batched once for all rules


@dataclasses.dataclass(frozen=True)
class Decayed:
    """An optimizer with decoupled weight decay besides, for `step`: u - eta lambda theta.

    Loshchilov & Hutter (2019), arXiv:1711.05101, in Optax's convention, where the learning
    rate of the step multiplies the decay (theirs has the schedule's factor alone). It is
    added to what the rule does, a decay of its own included, and leaves its state alone: a
    rule with further iterates (Lookahead, the schedule-free ones) decays the trained one.

    Attributes:
        optimizer: the rule.
        weight_decay: lambda, possibly traced.
        decays: `matrices`, leaves of two axes or more (kernels and embeddings, neither
            biases nor the gains of norms), or `all` leaves.
    """

    optimizer: Optimizer
    weight_decay: Scalar
    decays: Literal["matrices", "all"] = "matrices"

    @property
    def asks(self) -> tuple[str, ...]:
        """The rule's."""
        return self.optimizer.asks

    def build(self, learning_rate: Scalar) -> optax.GradientTransformationExtraArgs:
        """The rule's transformation with the decay added, its state unchanged."""
        rule = optax.with_extra_args_support(self.optimizer.build(learning_rate))

        def update(
            updates: Update, state: Any, params: Params | None = None, **extras: Any
        ) -> tuple[Update, Any]:
            own, state = rule.update(updates, state, params, **extras)
            return optax.tree.add(own, self._added(learning_rate, params)), state

        return optax.GradientTransformationExtraArgs(rule.init, update)

    def unscaled(self) -> Optimizer | Decayed | None:
        """The rule's counterpart, without the decay; itself where the rule is its own."""
        counterpart = self.optimizer.unscaled()
        return self if counterpart == self.optimizer else counterpart

    def shared(self, state: Any) -> Any:
        """The rule's."""
        return self.optimizer.shared(state)

    def evaluated(self, state: Any, params: Params) -> Params:
        """The rule's."""
        return self.optimizer.evaluated(state, params)

    def decay_update(self, learning_rate: Scalar, params: Params) -> Update:
        """The decay, that of the rule itself included."""
        added = self._added(learning_rate, params)
        own = self.optimizer.decay_update(learning_rate, params)
        return added if own is None else optax.tree.add(own, added)

    def _added(self, learning_rate: Scalar, params: Params) -> Update:
        decays = lambda x: self.decays == "all" or jnp.ndim(x) > 1  # noqa: E731
        factor = -learning_rate * self.weight_decay
        return jax.tree.map(
            lambda x: (factor * x).astype(x.dtype) if decays(x) else jnp.zeros_like(x),
            params,
        )


def segment(
    problem: Problem,
    optimizer: Optimizer,
    names: tuple[str, ...],
    record_every: int,
    steps: int,
    data: Data,
    learning_rate: Scalar,
    data_key: Key,
    state: State,
    first: Array,
    rate_at: Callable[[Scalar, Array], Scalar] = lambda rate, t: rate,
) -> tuple[State, dict[str, Array]]:
    """Steps first, ..., first + steps - 1, the 1st and each `record_every`-th measured.

    `rate_at(learning_rate, t)` is the learning rate of step t, from `Schedule.rates`. What
    a problem can draw ahead is drawn for all steps at once.

    Returns:
        The state after the last step, and records [ceil(steps / record_every), ...];
        of costly metrics [1, ...], of the 1st step.
    """
    # As a call it is fused a little worse, which counts where it is called at every step.
    measure = _measure if record_every > 1 else metrics.measure
    often = tuple(name for name in names if not METRICS[name].costly)
    seldom = tuple(name for name in names if METRICS[name].costly)

    draw = functools.partial(problem.draw, data, data_key)
    drawn = jax.vmap(draw)(first + jnp.arange(steps))

    def advance(state: State, t: Array) -> tuple[State, Step]:
        batch = problem.take(data, jax.tree.map(lambda x: x[t - first], drawn))
        rate = rate_at(learning_rate, t)
        return step_on(problem, optimizer, batch, rate, state)

    def slot(length: int, carry: Any, start: Array) -> Any:
        """`length` steps from `start`, the first of them measured."""
        state, once = carry
        state, measured = advance(state, start)
        record = measure(often, measured)
        if once:
            costly = functools.partial(_measure, seldom, measured)
            once = jax.lax.cond(start == first, costly, lambda: once)
        if length > 1:
            rest = start + jnp.arange(1, length)
            state, _ = jax.lax.scan(lambda s, t: (advance(s, t)[0], None), state, rest)
        return (state, once), record

    nothing = optax.tree.full_like(metrics.shapes(seldom, state.params), jnp.nan)
    begin = state, nothing
    whole, rest = divmod(steps, record_every)
    starts = first + record_every * jnp.arange(whole)
    carry, records = jax.lax.scan(functools.partial(slot, record_every), begin, starts)
    if rest:
        carry, last = slot(rest, carry, first + whole * record_every)
        records = jax.tree.map(
            lambda many, one: jnp.concatenate([many, one[None]]), records, last
        )
    state, once = carry
    return state, records | {name: one[None] for name, one in once.items()}


def _shadow(optimizer: Optimizer) -> Optimizer | None:
    """The unscaled counterpart, if it is another rule."""
    counterpart = optimizer.unscaled()
    return None if counterpart == optimizer else counterpart
