"""Around other rules: slow weights, single examples, another basis, another length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from study import trees
from study.transforms.averages import Transformation


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


# Another basis ----------------------------------------------------------------------------


class Basis(NamedTuple):
    """An orthogonal map on trees like params, and its inverse."""

    into: Callable[[Any], Any]
    back: Callable[[Any], Any]


def along_axes(matrices: Mapping[int, Any]) -> Basis:
    """Each leaf multiplied along axes by orthogonal matrices; leaves without one stay.

    Args:
        matrices: Q [n, n] by axis, negative ones counted from the last.
    """

    def turned(tree: Any, transposed: bool) -> Any:
        def leaf(x: Any) -> Any:
            for axis, matrix in matrices.items():
                if -x.ndim <= axis < x.ndim:
                    q = jnp.asarray(matrix, x.dtype)
                    x = jnp.moveaxis(
                        jnp.tensordot(x, q, (axis, int(not transposed))), -1, axis
                    )
            return x

        return jax.tree.map(leaf, tree)

    return Basis(lambda tree: turned(tree, False), lambda tree: turned(tree, True))


def whole(matrix: Any) -> Basis:
    """The whole vector multiplied by an orthogonal Q [element, element]."""

    def turned(tree: Any, transposed: bool) -> Any:
        vector, form = ravel_pytree(tree)
        q = jnp.asarray(matrix, vector.dtype)
        return form((q.T if transposed else q) @ vector)

    return Basis(lambda tree: turned(tree, False), lambda tree: turned(tree, True))


def in_blocks(matrix: Any, order: Any) -> Basis:
    """The whole vector, permuted, multiplied block by block by one orthogonal Q [n, n].

    A rotation of the whole space that costs n multiplications an element: each element is
    mixed with n - 1 from anywhere. Maes et al. (2025), arXiv:2410.19964, do the same.

    Args:
        matrix: Q; n divides the number of elements.
        order: a permutation of the elements, integers.
    """

    def into(tree: Any) -> Any:
        vector, form = ravel_pytree(tree)
        q = jnp.asarray(matrix, vector.dtype)
        return form((vector[order].reshape(-1, len(q)) @ q.T).ravel())

    def back(tree: Any) -> Any:
        vector, form = ravel_pytree(tree)
        q = jnp.asarray(matrix, vector.dtype)
        mixed = (vector.reshape(-1, len(q)) @ q).ravel()
        return form(jnp.zeros_like(vector).at[order].set(mixed))

    return Basis(into, back)


def rotate(rule: Transformation, basis: Basis) -> optax.GradientTransformationExtraArgs:
    """The rule in another basis: u = Q^T rule(Q g), with params turned likewise.

    Training with it is training the rotated problem, seen from the first basis, so that
    nothing of the problem changes (Maes et al. 2025, arXiv:2410.19964, section 2.1).
    """
    inner = optax.with_extra_args_support(rule)

    def init(params: optax.Params) -> Any:
        return inner.init(basis.into(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        turned = None if params is None else basis.into(params)
        update, state = inner.update(basis.into(updates), state, turned, **extra)
        return basis.back(update), state

    return optax.GradientTransformationExtraArgs(init, update)


# Another length, other elements -----------------------------------------------------------


class GraftState(NamedTuple):
    """States of the two rules of a graft."""

    magnitude: Any
    direction: Any


def graft(
    magnitude: Transformation, direction: Transformation, by_leaf: bool = False
) -> optax.GradientTransformationExtraArgs:
    """|M| D / |D|: as long as one rule's update M, along another's D.

    Agarwal et al. (2020), arXiv:2002.11803; as in their code both rules see the gradients
    of the run that they steer together. They graft by leaf and leave the whole vector as an
    option. Where D is 0 the update is 0.
    """
    first, second = map(optax.with_extra_args_support, (magnitude, direction))

    def init(params: optax.Params) -> GraftState:
        return GraftState(first.init(params), second.init(params))

    def update(updates: Any, state: GraftState, params: Any = None, **extra: Any) -> Any:
        m, of_magnitude = first.update(updates, state.magnitude, params, **extra)
        d, of_direction = second.update(updates, state.direction, params, **extra)
        length, own = trees.norm(m, by_leaf), trees.norm(d, by_leaf)
        factors = jnp.where(own > 0, length / jnp.where(own > 0, own, 1), 0)
        leaves, structure = jax.tree.flatten(d)
        factors = factors if by_leaf else [factors] * len(leaves)
        grafted = [(f * x).astype(x.dtype) for f, x in zip(factors, leaves, strict=True)]
        states = GraftState(of_magnitude, of_direction)
        return jax.tree.unflatten(structure, grafted), states

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def cross(
    rules: Sequence[Transformation], magnitude: Any, direction: Any, by_leaf: Any
) -> Transformation:
    """`graft` of two among many rules that run side by side; which ones may be traced.

    Args:
        rules: all see the gradients of the run; none asks for more than params.
        magnitude: index [] of the rule that gives the length.
        direction: index [] of the rule that gives the direction.
        by_leaf: [] bool, lengths leaf by leaf.
    """

    def init(params: optax.Params) -> tuple[Any, ...]:
        return tuple(rule.init(params) for rule in rules)

    def update(updates: Any, states: Any, params: Any = None) -> Any:
        both = [r.update(updates, s, params) for r, s in zip(rules, states, strict=True)]
        lengths = jnp.stack([trees.norm(u, by_leaf=True) for u, _ in both])
        whole = jnp.stack([trees.norm(u) for u, _ in both])
        lengths = jnp.where(by_leaf, lengths, whole[:, None])
        own, wanted = lengths[direction], lengths[magnitude]
        factors = jnp.where(own > 0, wanted / jnp.where(own > 0, own, 1), 0)
        stacked = jax.tree.map(lambda *u: jnp.stack(u), *(u for u, _ in both))
        leaves, structure = jax.tree.flatten(stacked)
        grafted = [
            (f * u[direction]).astype(u.dtype) for f, u in zip(factors, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, grafted), tuple(s for _, s in both)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def rescale_elements(factors: Any) -> Transformation:
    """Each element times a factor of its own, a tree like params; in the wider dtype."""

    def scaled(updates: Any, params: Any) -> Any:
        del params
        return jax.tree.map(lambda g, f: (g * f).astype(g.dtype), updates, factors)

    return optax.stateless(scaled)
