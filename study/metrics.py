"""What is measured: each metric is one function of one optimization step.

A metric sees the step before its update is applied. It is computed for the whole vector
under its own name and, where that means something, for each leaf alone under
`NAME_by_leaf`. Undefined is NaN.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from study import trees
from study.catalogue import Catalogue
from study.types import Array, Params, Scalar, Update

Compute = Callable[["Step", bool], Array]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Step(NamedTuple):
    """One step of a run, at the parameters where the gradient was taken.

    Attributes:
        params: theta.
        grad: g, of this step's batch.
        unscaled: the update of the optimizer's unscaled counterpart on the same
            gradients at the same learning rate; NaN where it has none.
        update: u without decoupled weight decay, a function of gradients only.
        decay: the decoupled weight decay; update + decay is added to theta.
        loss: of this step's batch, [].
        learning_rate: eta, [].
    """

    params: Params
    grad: Update
    unscaled: Update
    update: Update
    decay: Update
    loss: Array
    learning_rate: Scalar


@dataclasses.dataclass(frozen=True)
class Metric:
    """A function of a step with what a figure needs to show it.

    Attributes:
        name: its key in records.
        compute: (step, by_leaf) -> [] or [axis], with a leading [leaf] if by leaf.
        label: for axes.
        unit: of the stored numbers, empty if none.
        low: smallest possible value.
        high: largest possible value.
        log: shown on a logarithmic axis.
        by_leaf: also computed for each leaf.
        axis: name of the dimension of a metric that is no scalar.
        unscaled: reads the unscaled update, so that its shadow must be run.
        costly: as long as several steps; `train.segment` measures it only once.
    """

    name: str
    compute: Compute
    label: str
    unit: str = ""
    low: float = -jnp.inf
    high: float = jnp.inf
    log: bool = False
    by_leaf: bool = True
    axis: str | None = None
    unscaled: bool = False
    costly: bool = False


METRICS: Catalogue[Metric] = Catalogue("metric")


def metric(**shown: Any) -> Callable[[Compute], Metric]:
    """Decorator: registers a function of a Step; arguments are fields of Metric."""

    def add(compute: Compute) -> Metric:
        entry = Metric(compute.__name__, compute, **shown)
        METRICS.add(entry.name, entry)
        return entry

    return add


@functools.partial(jax.jit, static_argnums=0, inline=True)  # traced once
def measure(names: tuple[str, ...], step: Step) -> dict[str, Array]:
    """Records of one step: [] or [axis] by name, [leaf] or [leaf, axis] by leaf.

    >>> u, g = {"w": jnp.array([-1.0, -1.0])}, {"w": jnp.array([3.0, 4.0])}
    >>> step = Step(u, g, u, u, u, jnp.array(0.5), 0.1)
    >>> {k: round(float(v), 2) for k, v in measure(("norm_ratio", "loss"), step).items()
    ...  if not k.endswith("_by_leaf")}
    {'loss': 0.5, 'norm_ratio': 2.83}
    """
    vectors = ("params", "grad", "unscaled", "update", "decay")
    step = step._replace(**{v: trees.Vector(getattr(step, v)) for v in vectors})
    records = {}
    for name in names:
        entry = METRICS[name]
        records[entry.name] = entry.compute(step, False)
        if entry.by_leaf:
            records[f"{entry.name}_by_leaf"] = entry.compute(step, True)
    return records


def shapes(names: tuple[str, ...], params: Params) -> dict[str, Any]:
    """Shapes and dtypes of what `measure` gives for such params."""
    zero = jnp.zeros(())
    step = Step(params, params, params, params, params, zero, zero)
    return jax.eval_shape(functools.partial(measure, names), step)


@metric(label="Training loss", log=True, by_leaf=False)
def loss(step: Step, by_leaf: bool) -> Array:
    """Loss of this step's batch at theta."""
    del by_leaf
    return step.loss


@metric(label="$\\cos(u, -g)$", low=-1, high=1)
def alignment(step: Step, by_leaf: bool) -> Array:
    """cos(u, -g) in [-1, 1]; 1 is plain SGD's direction; NaN if either is zero."""
    return trees.cosine(step.update, step.grad, by_leaf, opposite=True)


@metric(label="Angle from $-g$", unit="radian", low=0, high=jnp.pi)
def angle(step: Step, by_leaf: bool) -> Array:
    """Angle between u and -g in [0, pi] radians; NaN if either is zero."""
    return trees.angle(step.update, step.grad, by_leaf, opposite=True)


@metric(label="$\\cos(u, \\mathrm{unscaled})$", low=-1, high=1, unscaled=True)
def rescaling_alignment(step: Step, by_leaf: bool) -> Array:
    """cos(u, unscaled u) in [-1, 1]: what rescaling alone turns; NaN if either is 0."""
    return trees.cosine(step.update, step.unscaled, by_leaf)


@metric(
    label="Angle from the unscaled update",
    unit="radian",
    low=0,
    high=jnp.pi,
    unscaled=True,
)
def rescaling_angle(step: Step, by_leaf: bool) -> Array:
    """Angle between u and the unscaled update in [0, pi]; NaN if either is zero."""
    return trees.angle(step.update, step.unscaled, by_leaf)


@metric(label="Share of elements that descend", low=0, high=1)
def sign_agreement(step: Step, by_leaf: bool) -> Array:
    """Share of elements with u_i g_i < 0 among those with g_i not 0; NaN if none."""
    opposed = trees.opposed(step.update, step.grad, by_leaf)
    return opposed / trees.nonzero(step.grad, by_leaf)


@metric(label="Share of zero gradient elements", low=0, high=1)
def zero_share(step: Step, by_leaf: bool) -> Array:
    """Share of elements with g_i = 0."""
    size = trees.size(step.grad, by_leaf)
    return (size - trees.nonzero(step.grad, by_leaf)) / size


@metric(label="$|u| / |\\eta g|$", low=0, log=True)
def norm_ratio(step: Step, by_leaf: bool) -> Array:
    """|u| / |eta g|: how much longer than plain SGD's step; NaN where g = 0."""
    return trees.norm(step.update, by_leaf) / (
        jnp.abs(step.learning_rate) * trees.norm(step.grad, by_leaf)
    )


@metric(label="$|u| / |\\theta|$", low=0, log=True)
def relative_update(step: Step, by_leaf: bool) -> Array:
    """|u| / |theta|; inf where theta = 0, NaN where both are."""
    return trees.norm(step.update, by_leaf) / trees.norm(step.params, by_leaf)


@metric(label="$|g|$", low=0, log=True)
def gradient_norm(step: Step, by_leaf: bool) -> Array:
    """|g|_2."""
    return trees.norm(step.grad, by_leaf)


@metric(label="$|u|$", low=0, log=True)
def update_norm(step: Step, by_leaf: bool) -> Array:
    """|u|_2."""
    return trees.norm(step.update, by_leaf)


@metric(label="$|\\mathrm{decay}| / |u|$", low=0, log=True)
def decay_ratio(step: Step, by_leaf: bool) -> Array:
    """Length of the decoupled weight decay over |u|; 0 without decay."""
    return trees.norm(step.decay, by_leaf) / trees.norm(step.update, by_leaf)


@metric(label="Predicted decrease $-\\langle g, u \\rangle$")
def predicted_decrease(step: Step, by_leaf: bool) -> Array:
    """-<g, u>, by which the loss falls to first order."""
    return -trees.dot(step.grad, step.update, by_leaf)


@metric(label="Gradient density", low=0, high=1)
def density(step: Step, by_leaf: bool) -> Array:
    """|g|_1^2 / (d |g|_2^2) in (0, 1]; 1 if all elements are equally large, NaN at 0.

    Bernstein et al. (2018), arXiv:1802.04434, section 3.
    """
    ratio = trees.one_norm(step.grad, by_leaf) / trees.norm(step.grad, by_leaf)
    return jnp.square(ratio) / trees.size(step.grad, by_leaf)


@metric(
    label="Spread of the rescaling, $\\max s / \\min s$",
    low=1,
    log=True,
    unscaled=True,
)
def anisotropy(step: Step, by_leaf: bool) -> Array:
    """Max |s| / min |s| of the rescaling s = u / unscaled, at least 1.

    Over elements that are not 0 in both; inf if one of them is 0 in u alone and does not
    move, NaN if there are none. An element-wise rescaling of spread k cannot turn a
    vector beyond the cosine 2 sqrt(k) / (1 + k) (Kantorovich's inequality).
    """
    return trees.spread(step.update, step.unscaled, by_leaf)


@metric(label="Effective learning rate", log=True, axis="quantile", costly=True)
def effective_rate(step: Step, by_leaf: bool) -> Array:
    """QUANTILES of u_i / -g_i over elements with g_i not 0; NaN if there are none."""
    pairs = zip(trees.flat(step.update), trees.flat(step.grad), strict=True)
    leaves = [_ascending(-u / g, g != 0) for u, g in pairs]
    if by_leaf:
        return jnp.stack([_quantiles(*leaf) for leaf in leaves])
    ordered, counts, lost = zip(*leaves, strict=True)
    # XLA sorts the leaves once for both, and what is sorted by leaf twice as fast.
    whole = jnp.sort(jnp.concatenate(ordered))
    return _quantiles(whole, jnp.sum(jnp.stack(counts)), jnp.any(jnp.stack(lost)))


@metric(label="Elements of $u$", by_leaf=False, axis="element")
def update_elements(step: Step, by_leaf: bool) -> Array:
    """U itself, flattened: for problems of a few elements."""
    del by_leaf
    return jnp.concatenate(trees.flat(step.update))


def _ascending(values: Array, valid: Array) -> tuple[Array, Array, Array]:
    """The valid values in ascending order, as integers; how many; whether one is NaN.

    As integers, floats sort the same (negative ones once reversed), four times faster.
    """
    whole = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(values, whole)
    ordered = jnp.sort(jnp.where(valid, _reversed(bits), jnp.iinfo(bits.dtype).max))
    return ordered, jnp.sum(valid), jnp.any(jnp.isnan(values) & valid)


def _quantiles(ordered: Array, count: Array, lost: Array) -> Array:
    """QUANTILES of what `_ascending` gives, with linear interpolation; NaN if lost."""
    dtype = jnp.float64 if ordered.dtype == jnp.int64 else jnp.float32
    last = count - 1
    places = jnp.asarray(QUANTILES, dtype) * last
    low = jnp.floor(places).astype(jnp.int32)
    around = jnp.stack([ordered[low], ordered[jnp.minimum(low + 1, last)]])
    below, above = jax.lax.bitcast_convert_type(_reversed(around), dtype)
    between = jnp.where(below == above, below, below + (places - low) * (above - below))
    return jnp.where((last < 0) | lost, jnp.nan, between)


def _reversed(bits: Array) -> Array:
    """Negative floats' bits in the order of their values, and back."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)
