"""Rotations of a tree's matrices by scope, traced: one program has all scopes.

Maes et al. (2025), arXiv:2410.19964: within an output, within an input, within a matrix, or
of all matrices together. Leaves with another number of axes than two are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from study.transforms.around import Basis


class Plan(NamedTuple):
    """Which parts of a basis a scope uses; [scope] in front where there are all of them.

    Attributes:
        left: [matrix] bool, rows turned: within an output.
        right: [matrix] bool, columns turned: within an input.
        layout: [] of `Drawn.orders`.
        mixed: [row of elements] bool, the blocks that are turned.
    """

    left: Any
    right: Any
    layout: Any
    mixed: Any


class Drawn(NamedTuple):
    """Random bases; [seed] in front where there are several.

    Attributes:
        left: by matrix, Haar [row, row].
        right: by matrix, Haar [column, column].
        orders: [layout, element] permutations: none, within each matrix, of all elements,
            of all elements of some matrices.
        returns: [layout, element], their inverses.
        block: Haar [n, n].
    """

    left: tuple[Any, ...]
    right: tuple[Any, ...]
    orders: Any
    returns: Any
    block: Any


def drawn(
    shapes: Sequence[tuple[int, int]], inside: np.ndarray, block: int, seed: int
) -> Drawn:
    """A random basis for matrices of these shapes, float64.

    Args:
        shapes: of the matrices [from, to].
        inside: [matrix] bool, those of the last layout.
        block: n.
        seed: of everything drawn.
    """
    random = np.random.default_rng(seed)
    sizes = [a * b for a, b in shapes]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    some = np.flatnonzero(np.repeat(inside, sizes))
    orders = np.tile(np.arange(sum(sizes), dtype=np.int32), (4, 1))
    orders[1] = np.concatenate([random.permutation(own) for own in places])
    orders[2] = random.permutation(sum(sizes))
    orders[3, some] = random.permutation(some)
    left, right = (tuple(_haar(shape[axis], random) for shape in shapes) for axis in (0, 1))
    returns = np.argsort(orders).astype(np.int32)
    return Drawn(left, right, orders, returns, _haar(block, random))


def _haar(size: int, random: np.random.Generator) -> np.ndarray:
    """Orthogonal, by NumPy: a batch of QRs can wait forever in jaxlib on CPU."""
    upper: Any
    q, upper = np.linalg.qr(random.normal(size=(size, size)))
    return q * np.sign(np.diag(upper))


def scoped(plan: Plan, drawn: Drawn) -> Basis:
    """The basis of one plan and one draw, both possibly traced."""

    def kept(turned: Any, matrices: tuple[Any, ...]) -> list[Any]:
        return [
            jnp.where(turned[i], q, jnp.eye(len(q), dtype=q.dtype))
            for i, q in enumerate(matrices)
        ]

    left, right = kept(plan.left, drawn.left), kept(plan.right, drawn.right)
    order, home = drawn.orders[plan.layout], drawn.returns[plan.layout]

    def mix(vector: Any, block: Any) -> Any:
        rows = vector.reshape(-1, len(block))
        return jnp.where(plan.mixed[:, None], rows @ block.T, rows).ravel()

    def into(found: list[Any]) -> list[Any]:
        turned = [q @ x @ r.T for q, x, r in zip(left, found, right, strict=True)]
        return _cut(mix(_joined(turned)[order], drawn.block), found)

    def back(found: list[Any]) -> list[Any]:
        turned = _cut(mix(_joined(found), drawn.block.T)[home], found)
        return [q.T @ x @ r for q, x, r in zip(left, turned, right, strict=True)]

    def on_matrices(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
        def changed(tree: Any) -> Any:
            leaves, structure = jax.tree.flatten(tree)
            made = iter(change([leaf for leaf in leaves if leaf.ndim == 2]))
            leaves = [next(made) if leaf.ndim == 2 else leaf for leaf in leaves]
            return jax.tree.unflatten(structure, leaves)

        return changed

    return Basis(on_matrices(into), on_matrices(back))


def _joined(found: Sequence[Any]) -> Any:
    return jnp.concatenate([x.ravel() for x in found])


def _cut(vector: Any, like: Sequence[Any]) -> list[Any]:
    ends = np.cumsum([x.size for x in like])[:-1]
    parts = jnp.split(vector, ends.tolist())
    return [part.reshape(x.shape) for part, x in zip(parts, like, strict=True)]
