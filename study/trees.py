"""Pytrees as vectors: the study's linear algebra, accumulated in float32 or wider.

A tree stands for the vector of all its elements; with `by_leaf` each leaf stands for a
vector of its own, and the result gains a leading axis [leaf]. The whole is put together
from the leaves, so that both cost one pass.

The zero vector has no direction: every angle or cosine with it is NaN. Elements are
divided by their leaf's mean magnitude before they are squared, so a gradient of 1e-30
keeps its direction in float32; subnormal elements count as the platform has them, on most
as zero.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Factor * tree, in the dtype of each leaf."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


def cast(tree: Tree, dtype: str) -> Tree:
    """The floating leaves in another type, all others as they are."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def subtract(a: Tree, b: Tree) -> Tree:
    """A - b."""
    return jax.tree.map(jnp.subtract, a, b)


def sizes(tree: Tree) -> list[int]:
    """The numbers of elements, by leaf."""
    return [leaf.size for leaf in jax.tree.leaves(tree)]


def size(tree: Tree, by_leaf: bool = False) -> Array:
    """The number of elements, a float."""
    return _total([jnp.asarray(n, jnp.float32) for n in sizes(tree)], by_leaf)


def nonzero(tree: Tree, by_leaf: bool = False) -> Array:
    """How many elements are not zero, as a float: exact to 2^24 in float32."""
    return _total([jnp.sum(jnp.abs(jnp.sign(x))) for x in flat(tree)], by_leaf)


def opposed(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """How many elements of a and b have opposite signs, as a float."""
    pairs = zip(flat(a), flat(b), strict=True)
    # Arithmetic on signs, for XLA fuses that into sums on CPU and comparisons not.
    against = [jnp.sum(jnp.maximum(-jnp.sign(x) * jnp.sign(y), 0)) for x, y in pairs]
    return _total(against, by_leaf)


def spread(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """Max |a_i / b_i| / min |a_i / b_i|, at least 1, over elements not zero in both.

    inf from 1e30 on, so where one of the two is zero alone; NaN if all are zero.
    """
    pairs = list(zip(flat(a), flat(b), strict=True))
    largest = jnp.stack([jnp.max(_quotient(x, y, jnp.abs)) for x, y in pairs])
    # |x| spelt otherwise, so that XLA stores neither: one pass for each maximum.
    other = lambda x: jnp.maximum(x, -x)  # noqa: E731
    inverse = jnp.stack([jnp.max(_quotient(y, x, other)) for x, y in pairs])
    if not by_leaf:
        largest, inverse = largest.max(), inverse.max()
    ratio = largest * inverse
    return jnp.where(ratio == 0, jnp.nan, jnp.where(ratio > 1e30, jnp.inf, ratio))


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


def cosine(a: Tree, b: Tree, by_leaf: bool = False, *, opposite: bool = False) -> Array:
    """<a, b> / (|a| |b|), or with -b, in [-1, 1]; NaN if either is zero."""
    chord = _chord(a, b, by_leaf, -1 if opposite else 1)
    return 1 - jnp.minimum(chord, 4) / 2


def angle(a: Tree, b: Tree, by_leaf: bool = False, *, opposite: bool = False) -> Array:
    """The angle between a and b, or -b, in radians, in [0, pi]; NaN if either is zero.

    2 atan2(|x - y|, |x + y|) on unit vectors x and y, since the arccos of a float32
    cosine is wrong below about 1e-3 (Kahan 2006, "How futile are mindless assessments of
    roundoff in floating-point computation?", section 12). |x + y|^2 is taken as
    4 - |x - y|^2, which costs accuracy (1e-3) only within 1e-3 of pi.
    """
    chord = _chord(a, b, by_leaf, -1 if opposite else 1)
    return 2 * jnp.arctan2(jnp.sqrt(chord), jnp.sqrt(jnp.maximum(4 - chord, 0)))


def _quotient(x: Array, y: Array, magnitude: Callable[[Array], Array]) -> Array:
    """|x / y|, 0 where both are zero."""
    return magnitude(x) / jnp.maximum(magnitude(y), jnp.finfo(y.dtype).tiny)


def _total(values: list[Array], by_leaf: bool) -> Array:
    stacked = jnp.stack(values)
    return stacked if by_leaf else stacked.sum()


def _chord(a: Tree, b: Tree, by_leaf: bool, sign: int) -> Array:
    """|x - sign y|^2 of the unit vectors x, y along a and b, by leaf or of the whole.

    Let leaf l hold the shares p and q of the lengths of a and b. For unit vectors x, y
    along the leaves, |p x - q y|^2 = (p - q)^2 + p q |x - y|^2.
    """
    one, other = _polar(flat(a)), _polar(flat(b))
    pairs = enumerate(zip(flat(a), flat(b), strict=True))
    chords = jnp.stack(
        [
            jnp.sum(jnp.square(x * one.factors[i] - y * (sign * other.factors[i])))
            for i, (x, y) in pairs
        ]
    )
    if by_leaf:
        return chords
    p, q = (t.lengths * _polar([t.lengths]).factors[0] for t in (one, other))
    both, rest = p * q, jnp.square(p - q)
    # A leaf without direction on one side adds its share of the other alone.
    return jnp.sum(jnp.where(both == 0, rest, rest + both * chords))


class _Polar(NamedTuple):
    """Lengths, and factors that make unit vectors (NaN for zero vectors), [leaf]."""

    lengths: Array
    factors: Array


def _polar(vectors: list[Array]) -> _Polar:
    """Each sum is a pass of its own over the vectors and stores none of them."""
    kind = jnp.finfo(vectors[0].dtype)
    elements = jnp.asarray([x.size for x in vectors], kind.dtype)
    means = jnp.stack([jnp.sum(jnp.abs(x)) for x in vectors]) / elements
    # Of a vector known at compile time, XLA would take the factor out of the squares.
    means = jax.lax.optimization_barrier(jnp.clip(means, kind.tiny, 1 / kind.tiny))
    squares = [jnp.sum(jnp.square(x / means[i])) for i, x in enumerate(vectors)]
    roots = jnp.sqrt(jnp.stack(squares))
    return _Polar(means * roots, 1 / means / roots)
