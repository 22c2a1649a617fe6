"""The study's own Optax transformations: what the measurements need and Optax lacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from study import trees

Transformation = optax.GradientTransformation


class Counted(NamedTuple):
    """Steps done, and averages: trees shaped like params."""

    steps: jax.Array
    averages: tuple[Any, ...]


def _averages(number: int, rule: Any) -> Transformation:
    """A transformation over `number` averages that start at 0.

    Args:
        number: of averages.
        rule: (t, g, *averages) -> (update, averages), t counting from 1.
    """

    def init(params: optax.Params) -> Counted:
        zeros = tuple(optax.tree.zeros_like(params) for _ in range(number))
        return Counted(jnp.zeros([], jnp.int32), zeros)

    def update(
        updates: optax.Updates, state: Counted, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Counted]:
        del params
        count = state.steps + 1
        update, averages = rule(count, updates, *state.averages)
        return update, Counted(count, averages)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def _blend(decay: Any, average: Any, new: Any) -> Any:
    """Decay * average + (1 - decay) * new."""
    return jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, average, new)


def _over(tree: Any, divisor: Any) -> Any:
    """Tree / divisor, a scalar, in the dtype of each leaf."""
    return jax.tree.map(lambda x: (x / divisor).astype(x.dtype), tree)


# Averages without rescaling: the counterparts of rules that rescale them ----------------


def interpolated_average(b1: float, b2: float) -> Transformation:
    """C = b1 mu + (1 - b1) g, where mu <- b2 mu + (1 - b2) g afterwards, mu_0 = 0.

    The vector whose sign Lion takes (Chen et al. 2023, arXiv:2302.06675, Algorithm 2);
    `optax.scale_by_lion` is sign(c).
    """
    return _averages(1, lambda t, g, m: (_blend(b1, m, g), (_blend(b2, m, g),)))


def nesterov_average(b1: float) -> Transformation:
    """B1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t), m <- b1 m + (1 - b1) g.

    The numerator of `optax.scale_by_adam` with `nesterov` (Dozat 2016).
    """

    def rule(t: Any, g: Any, m: Any) -> Any:
        m = _blend(b1, m, g)
        ahead, now = _over(m, 1 - b1 ** (t + 1)), _over(g, 1 - b1**t)
        return _blend(b1, ahead, now), (m,)

    return _averages(1, rule)


def two_averages(b1: float, b3: float, alpha: float) -> Transformation:
    """M1 / (1 - b1^t) + alpha m2, averages with decays b1 and b3.

    The numerator of `optax.contrib.scale_by_ademamix` (arXiv:2409.03137).
    """

    def rule(t: Any, g: Any, fast: Any, slow: Any) -> Any:
        fast, slow = _blend(b1, fast, g), _blend(b3, slow, g)
        update = optax.tree.add_scale(_over(fast, 1 - b1**t), alpha, slow)
        return update, (fast, slow)

    return _averages(2, rule)


def difference_average(b1: float, b2: float) -> Transformation:
    """M / (1 - b1^t) + (1 - b2) v / (1 - b2^t), v averaging g_t - g_(t-1), 0 at first.

    The numerator of `optax.scale_by_adan` (arXiv:2208.06677).
    """

    def rule(t: Any, g: Any, m: Any, v: Any, last: Any) -> Any:
        change = jax.tree.map(lambda a, b: jnp.where(t == 1, 0, a - b), g, last)
        m, v = _blend(b1, m, g), _blend(b2, v, change)
        update = optax.tree.add_scale(_over(m, 1 - b1**t), 1 - b2, _over(v, 1 - b2**t))
        return update, (m, v, g)

    return _averages(3, rule)


# Rules that Optax lacks ------------------------------------------------------------------


def rescaled_sign() -> Transformation:
    """(|g|_1 / d) sign(g), d elements: as long as g in the 1-norm.

    Karimireddy et al. (2019), arXiv:1901.09847, section 4.
    """

    def update(updates: optax.Updates, state: Any, params: Any = None) -> Any:
        del params
        mean = trees.one_norm(updates) / trees.size(updates)
        return jax.tree.map(lambda g: (mean * jnp.sign(g)).astype(g.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def error_feedback(compressor: Transformation) -> Transformation:
    """The compressor applied to g + e, where e is what it left out so far.

    Karimireddy et al. (2019), arXiv:1901.09847, Algorithm 2, for a stateless compressor
    and a learning rate that does not change.
    """

    def rule(t: Any, g: Any, error: Any) -> Any:
        whole = jax.tree.map(jnp.add, g, error)
        update, _ = compressor.update(whole, compressor.init(whole))
        return update, (trees.subtract(whole, update),)

    return _averages(1, rule)


def normalise_leaves(eps: float) -> Transformation:
    """G / (|g| + eps) for each leaf by itself."""

    def update(updates: optax.Updates, state: Any, params: Any = None) -> Any:
        del params
        lengths = trees.norm(updates, by_leaf=True)
        leaves, structure = jax.tree.flatten(updates)
        scaled = [(g / (lengths[i] + eps)).astype(g.dtype) for i, g in enumerate(leaves)]
        return jax.tree.unflatten(structure, scaled), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def power(p: float, b1: float, b2: float, eps: float) -> Transformation:
    """M / ((max v)^p + eps), p in [0, 1/2] leading from momentum to AMSGrad.

    Padam: Chen et al. (2018), arXiv:1806.06763, Algorithm 1: m averages g, v averages g^2,
    neither bias corrected; eps is added to the power as in the authors' code.
    """

    def rule(t: Any, g: Any, m: Any, v: Any, top: Any) -> Any:
        m, v = _blend(b1, m, g), _blend(b2, v, jax.tree.map(jnp.square, g))
        top = jax.tree.map(jnp.maximum, top, v)
        update = jax.tree.map(lambda m, v: m / (v**p + eps), m, top)
        return update, (m, v, top)

    return _averages(3, rule)


def scale_by_variance(decay: float) -> Transformation:
    """Gamma m, gamma = m^2 / (m^2 + rho s): variance-adapted momentum.

    M-SVAG: Balles & Hennig (2018), arXiv:1705.07774, Algorithm 1: m and v are bias
    corrected averages of g and g^2 with one decay, s = (v - m^2) / (1 - rho) estimates
    the variance of g, and rho is that of m over that of g. At t = 1, where nothing is
    known of s, gamma is 1; where m = 0 it is 0.
    """

    def rule(t: Any, g: Any, m: Any, v: Any) -> Any:
        m, v = _blend(decay, m, g), _blend(decay, v, jax.tree.map(jnp.square, g))
        kept = decay**t
        rho = (1 - decay) * (1 + kept) / ((1 + decay) * (1 - kept))
        noise = rho / jnp.where(t == 1, 1.0, 1 - rho)

        def leaf(m: Any, v: Any) -> Any:
            mean, square = m / (1 - kept), v / (1 - kept)
            spread = jnp.where(t == 1, 0, noise * jnp.maximum(square - mean**2, 0))
            length = mean**2 + spread
            factor = jnp.where(length > 0, mean**2 / jnp.where(length > 0, length, 1), 0)
            return (factor * mean).astype(m.dtype)

        return jax.tree.map(leaf, m, v), (m, v)

    return _averages(2, rule)


class ShampooState(NamedTuple):
    """By leaf and axis, the sum of G G^T over the other axes, from eps I."""

    statistics: list[list[jax.Array]]


def scale_by_shampoo(eps: float) -> Transformation:
    """G multiplied along each of its k axes by (eps I + sum G G^T)^(-1 / 2k).

    Shampoo: Gupta, Koren & Singer (2018), arXiv:1802.09568, Algorithm 2 for tensors of
    order k; a vector has full-matrix Adagrad. Directions that no gradient has had, with
    eps = 0, are left out. Roots are taken in float32 or wider, a limit of LAPACK.
    """

    def init(params: optax.Params) -> ShampooState:
        eye = lambda n, kind: eps * jnp.eye(n, dtype=kind)  # noqa: E731
        return ShampooState(
            [[eye(n, x.dtype) for n in x.shape] for x in jax.tree.leaves(params)]
        )

    def update(
        updates: optax.Updates, state: ShampooState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ShampooState]:
        del params
        leaves, structure = jax.tree.flatten(updates)
        statistics, scaled = [], []
        for g, sums in zip(leaves, state.statistics, strict=True):
            new, root = [], g.astype(jnp.promote_types(g.dtype, jnp.float32))
            for axis, old in enumerate(sums):
                others = [i for i in range(g.ndim) if i != axis]
                total = (old + jnp.tensordot(g, g, (others, others))).astype(old.dtype)
                factor = _inverse_root(total.astype(root.dtype), 2 * g.ndim)
                root = jnp.moveaxis(jnp.tensordot(root, factor, (axis, 0)), -1, axis)
                new.append(total)
            statistics.append(new)
            scaled.append(root.astype(g.dtype))
        return jax.tree.unflatten(structure, scaled), ShampooState(statistics)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def _inverse_root(matrix: jax.Array, order: int) -> jax.Array:
    """matrix^(-1 / order) on its range, for a positive semidefinite matrix."""

    # Several batched eigh at once wait for each other forever on CPU (jaxlib 0.10.2), so
    # a batch is taken one by one.
    @jax.custom_batching.sequential_vmap
    def root(matrix: jax.Array) -> jax.Array:
        values, vectors = jnp.linalg.eigh(matrix)
        rounding = 10 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps * values[-1]
        real = values > rounding
        roots = jnp.where(real, jnp.where(real, values, 1) ** (-1 / order), 0)
        return (vectors * roots[None]) @ vectors.T

    return root(matrix)


# Wrappers --------------------------------------------------------------------------------


class LookaheadState(NamedTuple):
    """State of `optax.lookahead`, and the slow parameters beside it."""

    inner: Any
    slow: Any


def lookahead(
    fast: Transformation, sync_period: int, slow_step_size: float
) -> Transformation:
    """`optax.lookahead` with the slow parameters in its state: params are params."""
    rule = optax.lookahead(fast, sync_period, slow_step_size)

    def init(params: optax.Params) -> LookaheadState:
        return LookaheadState(rule.init(optax.LookaheadParams(params, params)), params)

    def update(updates: Any, state: LookaheadState, params: Any = None) -> Any:
        both = optax.LookaheadParams(params, state.slow)
        change: Any
        change, inner = rule.update(updates, state.inner, both)  # type: ignore[arg-type]
        slow = optax.apply_updates(state.slow, change.slow)
        return change.fast, LookaheadState(inner, slow)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def of_examples(rule: Transformation) -> optax.GradientTransformationExtraArgs:
    """A rule that sees the gradients of the examples [example, ...], not their mean."""

    def update(
        updates: Any, state: Any, params: Any = None, *, example_grads: Any, **rest: Any
    ) -> Any:
        del updates, rest
        return rule.update(example_grads, state, params)

    return optax.GradientTransformationExtraArgs(rule.init, update)  # type: ignore[arg-type]
