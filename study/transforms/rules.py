"""Rules that Optax lacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from study import trees
from study.transforms.averages import Transformation, averages, blend


def rescaled_sign() -> Transformation:
    """(|g|_1 / d) sign(g), d elements: as long as g in the 1-norm.

    Karimireddy et al. (2019), arXiv:1901.09847, section 4.
    """

    def update(updates: optax.Updates, state: Any, params: Any = None) -> Any:
        del params
        mean = trees.one_norm(updates) / trees.size(updates)
        return jax.tree.map(lambda g: (mean * jnp.sign(g)).astype(g.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def largest_element() -> Transformation:
    """Sign(g_i) e_i at the largest |g_i|, the first of equals: one element a step."""

    def update(updates: optax.Updates, state: Any, params: Any = None) -> Any:
        del params
        vector, form = ravel_pytree(updates)
        place = jnp.argmax(jnp.abs(vector))
        return form(jnp.zeros_like(vector).at[place].set(jnp.sign(vector[place]))), state

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

    return averages(1, rule)


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
        m, v = blend(b1, m, g), blend(b2, v, jax.tree.map(jnp.square, g))
        top = jax.tree.map(jnp.maximum, top, v)
        update = jax.tree.map(lambda m, v: m / (v**p + eps), m, top)
        return update, (m, v, top)

    return averages(3, rule)


def scale_by_variance(decay: float) -> Transformation:
    """Gamma m, gamma = m^2 / (m^2 + rho s): variance-adapted momentum.

    M-SVAG: Balles & Hennig (2018), arXiv:1705.07774, Algorithm 1: m and v are bias
    corrected averages of g and g^2 with one decay, s = (v - m^2) / (1 - rho) estimates
    the variance of g, and rho is that of m over that of g. At t = 1, where nothing is
    known of s, gamma is 1; where m = 0 it is 0.
    """

    def rule(t: Any, g: Any, m: Any, v: Any) -> Any:
        m, v = blend(decay, m, g), blend(decay, v, jax.tree.map(jnp.square, g))
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

    return averages(2, rule)


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
