"""Pytrees as vectors: the study's linear algebra, accumulated in float32 or wider.

A tree stands for the vector of all its elements; with `by_leaf` each leaf stands for a
vector of its own, and the result gains a leading axis [leaf]. The whole is put together
from the leaves, so that both cost one pass.

The zero vector has no direction: every angle or cosine with it is NaN. Elements are
divided by their leaf's mean magnitude before they are squared, so a gradient of 1e-30
keeps its direction in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
Array = jax.Array


def names(tree: Tree) -> tuple[str, ...]:
    """The leaves' paths, such as `layers.0.kernel`, in the order of `jax.tree.leaves`."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    return tuple(jax.tree_util.keystr(p, simple=True, separator=".") for p in paths)


def flat(tree: Tree) -> list[Array]:
    """The leaves as vectors, half precisions widened to float32."""
    leaves = map(jnp.asarray, jax.tree.leaves(tree))
    return [x.astype(jnp.promote_types(x.dtype, jnp.float32)).ravel() for x in leaves]


def scale(factor: Any, tree: Tree) -> Tree:
    """factor * tree, in the dtype of each leaf."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


def subtract(a: Tree, b: Tree) -> Tree:
    """a - b."""
    return jax.tree.map(jnp.subtract, a, b)


def sizes(tree: Tree) -> list[int]:
    """The numbers of elements, by leaf."""
    return [leaf.size for leaf in jax.tree.leaves(tree)]


def size(tree: Tree, by_leaf: bool = False) -> Array:
    """The number of elements, a float."""
    return _total([jnp.asarray(n, jnp.float32) for n in sizes(tree)], by_leaf)


def count(tree: Tree, by_leaf: bool = False) -> Array:
    """How many elements of a boolean tree are true, as a float32: exact to 2^24."""
    return _total([jnp.sum(x.astype(jnp.float32)) for x in flat(tree)], by_leaf)


def dot(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """<a, b>."""
    pairs = zip(flat(a), flat(b), strict=True)
    return _total([jnp.sum(x * y) for x, y in pairs], by_leaf)


def one_norm(tree: Tree, by_leaf: bool = False) -> Array:
    """|a|_1."""
    return _total([jnp.sum(jnp.abs(x)) for x in flat(tree)], by_leaf)


def norm(tree: Tree, by_leaf: bool = False) -> Array:
    """|a|_2, with no overflow or underflow of the squares."""
    lengths = _polar(flat(tree)).lengths
    return lengths if by_leaf else _polar([lengths]).lengths[0]


def cosine(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """<a, b> / (|a| |b|), in [-1, 1]; NaN if either is zero."""
    apart, together = _chords(a, b, by_leaf)
    return (together - apart) / (together + apart)


def angle(
    a: Tree, b: Tree, by_leaf: bool = False, *, opposite: bool = False
) -> Array:
    """The angle between a and b, or -b, in radians, in [0, pi]; NaN if either is zero.

    2 atan2(|x - y|, |x + y|) on unit vectors x and y, since the arccos of a float32
    cosine is wrong below about 1e-3 (Kahan 2006, "How futile are mindless assessments of
    roundoff in floating-point computation?", section 12).
    """
    apart, together = _chords(a, b, by_leaf)
    if opposite:
        apart, together = together, apart
    return 2 * jnp.arctan2(jnp.sqrt(apart), jnp.sqrt(together))


def _total(values: list[Array], by_leaf: bool) -> Array:
    stacked = jnp.stack(values)
    return stacked if by_leaf else stacked.sum()


class _Chords(NamedTuple):
    """|x - y|^2 and |x + y|^2 of the unit vectors x and y along a and b."""

    apart: Array
    together: Array


def _chords(a: Tree, b: Tree, by_leaf: bool) -> _Chords:
    """By leaf, or of the whole vectors put together from the leaves.

    Let leaf l hold the shares p and q of the lengths of a and b. For unit vectors x, y
    along the leaves, |p x - q y|^2 = (p - q)^2 + p q |x - y|^2, and the same with plus.
    """
    one, other = _polar(flat(a)), _polar(flat(b))
    pairs = list(zip(one.units, other.units, strict=True))
    apart = jnp.stack([jnp.sum(jnp.square(x - y)) for x, y in pairs])
    together = jnp.stack([jnp.sum(jnp.square(x + y)) for x, y in pairs])
    if by_leaf:
        return _Chords(apart, together)
    p, q = _polar([one.lengths]).units[0], _polar([other.lengths]).units[0]
    both, rest = p * q, jnp.square(p - q)
    empty = both == 0  # a leaf without direction on one side adds its share alone
    return _Chords(
        jnp.sum(jnp.where(empty, rest, rest + both * apart)),
        jnp.sum(jnp.where(empty, rest, rest + both * together)),
    )


class _Polar(NamedTuple):
    """Vectors as lengths [leaf] and unit vectors, NaN where the length is zero."""

    lengths: Array
    units: list[Array]


def _polar(vectors: list[Array]) -> _Polar:
    kind = vectors[0].dtype
    elements = jnp.asarray([x.size for x in vectors], kind)
    means = jnp.stack([jnp.sum(jnp.abs(x)) for x in vectors]) / elements
    # Far from the ends of the range, where an approximate quotient overflows.
    end = 2.0**900 if kind == jnp.float64 else 2.0**100
    means = jnp.clip(means, 1 / end, end)
    # Of a vector known at compile time, XLA would take the factor out of the squares.
    means = jax.lax.optimization_barrier(means)
    shrunk = [x / means[i] for i, x in enumerate(vectors)]
    roots = jnp.sqrt(jnp.stack([jnp.sum(jnp.square(x)) for x in shrunk]))
    inverse = 1 / roots
    return _Polar(means * roots, [x * inverse[i] for i, x in enumerate(shrunk)])
