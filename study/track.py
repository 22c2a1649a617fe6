"""The study's metrics in anyone's training loop: one line around an Optax optimizer.

Example:
    >>> import jax.numpy as jnp, optax
    >>> from study import track
    >>> optimizer = track.track(optax.sign_sgd(0.1), metrics=("angle",))
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    >>> grad = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([0.0])}
    >>> update, state = optimizer.update(grad, optimizer.init(params), params)
    >>> {name: round(float(value), 3) for name, value in track.read(state).items()}
    {'step': 0.0, 'angle': 0.142, 'angle/b': nan, 'angle/w': 0.142}

The optimizer gets what it would get alone and its updates go out as they came: whatever
is measured is a dead end beside them, in the optimizer's state. No callback to the host.
An update compiled by itself is bitwise that of the optimizer alone; where XLA merges it
with what comes before or after, a look at a value can change how its last bit is rounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from study import metrics as metrics_
from study import trees
from study.errors import UserError
from study.metrics import METRICS, Step
from study.types import Array, Params, Scalar, Update

Rate: TypeAlias = "Scalar | Callable[[Array], Scalar]"

METRICS_ALONE = ("alignment", "angle", "gradient_norm", "update_norm")
METRICS_BESIDE_A_REFERENCE = ("rescaling_alignment", "rescaling_angle", "anisotropy")
BY_LEAF = "_by_leaf"


class Tracked(NamedTuple):
    """The state of a tracked optimizer.

    Attributes:
        inner: the state of the optimizer itself.
        reference: that of the reference, None without one.
        count: updates so far, [].
        step: the count before the update measured last, []; -1 before the first.
        values: what `metrics.measure` gave then, [value], NaN before the first: one
            array, since each one more costs every step some microseconds.
        layout: {text: None}, a tree without leaves that goes through every transformation
            of jax and every checkpoint; the text has the shapes of the records by their
            names and the paths of the params' leaves.
    """

    inner: Any
    reference: Any
    count: Array  # type: ignore[assignment]  # as Optax calls it
    step: Array
    values: Array
    layout: Any


def track(
    optimizer: optax.GradientTransformation | optax.MultiSteps,
    reference: optax.GradientTransformation | None = None,
    metrics: Sequence[str] | None = None,
    every: int = 1,
    *,
    learning_rate: Rate | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, which also measures what it does to the gradient.

    A drop-in for it, alone or inside others: `tx = track(optax.adamw(1e-3), every=10)`.
    Gradient is what comes in and update what goes out, a decoupled weight decay included;
    so inside `chain` after clipping, it is the clipped gradient, and around
    `optax.MultiSteps`, that of one small batch (inside it, the average).

    `loss` is the extra argument `value` of the update, if it is given. What an optimizer
    cannot know is NaN: `loss` without it, `norm_ratio` without `learning_rate`,
    `decay_ratio`, `relative_update` without params.

    Args:
        optimizer: any transformation of Optax.
        reference: its counterpart without the rescaling at the same learning rate, such
            as `optax.sgd(1e-3, momentum=0.9)`. It sees the same gradients at every
            step and changes nothing; some metrics compare the update with its own.
        metrics: names from `study.metrics.METRICS`; None takes METRICS_ALONE, and
            METRICS_BESIDE_A_REFERENCE if there is one. `relative_update` costs a copy of
            the params in every step, since the old ones must outlive it.
        every: updates 0, every, 2 every, ... are measured; in between the last values
            stay, at the cost of storing the update. Runs under one `vmap` are best started
            together: where one of them is due, all are computed.
        learning_rate: eta, or a schedule of the count of updates.
        axis_name: the axis of a `shard_map` over which leaves are split; a measured step
            puts the shards together by a psum. Not for replicated params or for global
            arrays under `jit`, where the sums are right by themselves.

    Raises:
        UserError: no such metric, one that needs a reference without it, `every` below 1,
            or no transformation.
    """
    names = _checked(optimizer, reference, metrics, every)
    rule, other = _extended(optimizer), _extended(reference or optax.identity())

    def init(params: Params) -> Tracked:
        return Tracked(
            rule.init(params),
            other.init(params) if reference else None,
            jnp.zeros([], jnp.int32),
            jnp.full([], -1, jnp.int32),
            *_unmeasured(names, params),
        )

    def update(
        updates: Update, state: Any, params: Params | None = None, **extras: Any
    ) -> tuple[Update, Tracked]:
        update, inner = rule.update(updates, state.inner, params, **extras)
        unscaled, shadow = None, None
        if reference:
            unscaled, shadow = other.update(updates, state.reference, params, **extras)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        seen = (params, updates, unscaled, update, extras.get("value"), rate)
        # Behind barriers, so that no compiler merges what is measured with what is used.
        seen = jax.tree.map(jax.lax.optimization_barrier, jax.lax.stop_gradient(seen))
        due = state.count % every == 0

        def measured() -> Array:
            found = metrics_.measure(names, _completed(*seen, axis_name=axis_name))
            new = jnp.concatenate([found[name].ravel() for name in sorted(found)])
            return jnp.where(due, new.astype(state.values.dtype), state.values)

        values = state.values
        if jax.tree.leaves(updates):  # a group of `optax.partition` may be empty
            values = jax.lax.cond(_somewhere(due), measured, lambda: state.values)
        step = jnp.where(due, state.count, state.step)
        count = jnp.asarray(optax.safe_increment(state.count))
        return update, Tracked(inner, shadow, count, step, values, state.layout)

    return optax.GradientTransformationExtraArgs(init, update)


def read(state: Any) -> dict[str, Any]:
    """The values measured last, ready for any logger.

    Args:
        state: an optimizer state or whatever holds one (a chain's, a training state, an
            `nnx.Optimizer`), with one tracked state inside; of several, take one from
            `find`. With leading axes, of runs for example, the values have them too.

    Returns:
        `step`, the count of updates before the one measured (-1: none yet); each metric
        by its name for the whole vector, and by `NAME/LEAF` for each leaf where it has
        one, such as `angle/layers.0.kernel`. NumPy arrays [] or [axis]; of `jax` if traced.

    Raises:
        UserError: no tracked state, or several.
    """
    found = find(state)
    if len(found) != 1:
        places = f"several, at {', '.join(found)}: read one of find(state)" if found else ""
        raise UserError(f"one tracked state expected; there is {places or 'none'}")
    (tracked,) = found.values()
    shown: dict[str, Any] = {"step": _array(tracked.step)}
    values, start = _array(tracked.values), 0
    lead = values.shape[:-1]
    (text,) = tracked.layout if values.shape[-1] else [json.dumps([{}, []])]
    shapes, paths = json.loads(text)
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        record, start = values[..., start:stop].reshape((*lead, *shape)), stop
        if not name.endswith(BY_LEAF):
            shown[name] = record
            continue
        for i, path in enumerate(paths):
            index = (*[slice(None)] * len(lead), i)
            shown[f"{name.removesuffix(BY_LEAF)}/{path}"] = record[index]
    return shown


def find(state: Any) -> dict[str, Tracked]:
    """Tracked states by their paths; what is inside another one is left out."""
    is_tracked = lambda x: isinstance(x, Tracked)  # noqa: E731
    leaves = jax.tree.leaves_with_path(state, is_leaf=is_tracked)
    path = lambda p: jax.tree_util.keystr(p, simple=True, separator=".")  # noqa: E731
    return {path(p): leaf for p, leaf in leaves if is_tracked(leaf)}


def _checked(
    optimizer: Any, reference: Any, metrics: Sequence[str] | None, every: int
) -> tuple[str, ...]:
    """The metrics' names as registered."""
    for rule in (optimizer, reference):
        if rule is not None and not (hasattr(rule, "init") and hasattr(rule, "update")):
            raise UserError(f"no Optax transformation: {rule!r}; pass optax.adam(1e-3)")
    if every < 1:
        raise UserError(f"every is {every}; it must be 1 or more")
    if metrics is None:
        metrics = METRICS_ALONE + (METRICS_BESIDE_A_REFERENCE if reference else ())
    entries = [METRICS[name] for name in metrics]
    lost = [entry.name for entry in entries if entry.unscaled and not reference]
    if lost:
        raise UserError(f"{', '.join(lost)}: compared with what? pass reference=")
    return tuple(entry.name for entry in entries)


def _extended(rule: Any) -> optax.GradientTransformationExtraArgs:
    """The rule with an `update` that takes extra arguments and drops what it ignores."""
    if isinstance(rule, optax.MultiSteps):
        rule = rule.gradient_transformation()
    return optax.with_extra_args_support(rule)


def _unmeasured(names: tuple[str, ...], params: Params) -> tuple[Array, Any]:
    """`Tracked.values`, NaN, and `Tracked.layout`.

    Params without leaves (an empty group, Optax's placeholder for params) have no values
    and are their own layout.
    """
    if not jax.tree.leaves(params):
        return jnp.zeros([0]), params
    found = metrics_.shapes(names, params)
    shapes = {name: found[name].shape for name in sorted(found)}
    size = sum(map(math.prod, shapes.values()))
    paths = trees.names(params)
    if all(path.endswith(".value") for path in paths):  # the variables of Flax NNX
        paths = [path.removesuffix(".value") for path in paths]
    nothing = jnp.full([size], jnp.nan, jnp.result_type(*found.values()))
    return nothing, {json.dumps([shapes, paths]): None}


def _completed(
    params: Any,
    grad: Any,
    unscaled: Any,
    update: Any,
    loss: Any,
    rate: Any,
    axis_name: Any,
) -> Step:
    """The step with its shards put together, and NaN for what is not known."""
    grad = _together(grad, axis_name)
    nan = optax.tree.full_like(grad, jnp.nan)
    params, unscaled, update = (
        nan if vector is None else _together(vector, axis_name)
        for vector in (params, unscaled, update)
    )
    loss, rate = (jnp.asarray(jnp.nan if x is None else x) for x in (loss, rate))
    return Step(params, grad, unscaled, update, nan, loss, rate)


def _together(tree: Any, axis_name: str | tuple[str, ...] | None) -> Any:
    """Leaves [shard, ...] where they are split over the axis, the same on all devices."""
    if axis_name is None:
        return tree
    here, size = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    split = jax.typeof(here).manual_axis_type.varying  # none if check_vma=False

    def place(x: Array) -> Array:
        if split and not split & jax.typeof(x).manual_axis_type.varying:
            return x
        own = jnp.arange(size).reshape(size, *[1] * x.ndim) == here
        return jax.lax.psum(jnp.where(own, x[None], 0), axis_name)

    return jax.tree.map(place, tree)


@jax.custom_batching.custom_vmap
def _somewhere(due: Array) -> Array:
    """Whether any run under vmap is due: a predicate for each would measure always."""
    return due


@_somewhere.def_vmap
def _somewhere_of_many(size: int, mapped: list[bool], due: Array) -> tuple[Array, bool]:
    del size, mapped
    return _somewhere(jnp.any(due)), False


def _array(leaf: Any) -> Any:
    """In NumPy unless traced; Flax NNX's variables hold one array each."""
    (array,) = jax.tree.leaves(leaf)
    return array if isinstance(array, Tracer) else np.asarray(array)
