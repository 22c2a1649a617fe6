"""Pytrees as vectors: the study's linear algebra, accumulated in float32 or wider.

A tree stands for the vector of all its elements; with `by_leaf` each leaf stands for a
vector of its own, and the result gains a leading axis [leaf]. The whole is put together
from the leaves, so that both cost one pass.

The zero vector has no direction: every angle or cosine with it is NaN. Elements are
divided by their leaf's mean magnitude before they are squared, in a `Vector` only where
that matters, so a gradient of 1e-30 keeps its direction in float32; subnormal elements
count as the platform has them, on most as zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
Array = jax.Array


@jax.tree_util.register_pytree_node_class
class Vector:
    """A tree to be measured in many ways: what has been found is not traced again.

    XLA merges equal sums, but not the choice in `_squares`, and tracing takes time too.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.found: dict[Any, Any] = {}

    def tree_flatten(self) -> tuple[tuple[Tree], None]:
        """For jax: the tree's leaves are its own."""
        return (self.tree,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Tree]) -> Vector:
        """For jax."""
        return cls(*children)


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function of trees; its first, if a Vector, remembers the result."""

    @functools.wraps(function)
    def find(first: Tree, *rest: Any) -> Any:
        if not isinstance(first, Vector):
            return function(first, *rest)
        key = function, *map(id, rest)
        if key not in first.found:
            first.found[key] = function(first, *rest), rest  # which keeps the ids taken
        return first.found[key][0]

    return find


def names(tree: Tree) -> tuple[str, ...]:
    """The leaves' paths, such as `layers.0.kernel`, in the order of `jax.tree.leaves`."""
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    return tuple(jax.tree_util.keystr(p, simple=True, separator=".") for p in paths)


@_once
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


def stored(tree: Tree) -> Tree:
    """The tree itself, its leaves computed once as `flat` has them.

    XLA on CPU computes what is quickly found again for each of its readers, and in each
    shape of theirs: an update that many metrics read is faster stored.
    """
    if jax.default_backend() != "cpu":
        return tree
    once = lambda x: jax.lax.optimization_barrier(x.ravel()).reshape(x.shape)  # noqa: E731
    return jax.tree.map(once, tree)


def sizes(tree: Tree) -> list[int]:
    """The numbers of elements, by leaf."""
    return [leaf.size for leaf in jax.tree.leaves(tree)]


def size(tree: Tree, by_leaf: bool = False) -> Array:
    """The number of elements, a float."""
    return _total(jnp.asarray(sizes(tree), jnp.float32), by_leaf)


def nonzero(tree: Tree, by_leaf: bool = False) -> Array:
    """How many elements are not zero, as a float: exact to 2^24 in float32."""
    return _total(_nonzero(tree), by_leaf)


def opposed(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """How many elements of a and b have opposite signs, as a float."""
    return _total(_opposed(a, b), by_leaf)


def spread(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """Max |a_i / b_i| / min |a_i / b_i|, at least 1, over elements not zero in both.

    inf from 1e30 on, so where one of the two is zero alone; NaN if all are zero.
    """
    largest, smallest = _extremes(a, b)
    if not by_leaf:
        largest, smallest = largest.max(), smallest.min()
    ratio = largest / smallest
    return jnp.where(ratio == 0, jnp.nan, jnp.where(ratio > 1e30, jnp.inf, ratio))


def dot(a: Tree, b: Tree, by_leaf: bool = False) -> Array:
    """<a, b>."""
    return _total(_dots(a, b), by_leaf)


def one_norm(tree: Tree, by_leaf: bool = False) -> Array:
    """|a|_1."""
    return _total(_one_norms(tree), by_leaf)


def norm(tree: Tree, by_leaf: bool = False) -> Array:
    """|a|_2, with no overflow or underflow of the squares."""
    return _polar(tree).lengths if by_leaf else _whole(tree).lengths[0]


def cosine(a: Tree, b: Tree, by_leaf: bool = False, *, opposite: bool = False) -> Array:
    """<a, b> / (|a| |b|), or with -b, in [-1, 1]; NaN if either is zero.

    >>> round(float(cosine(jnp.array([10.0, 20, 40]), jnp.array([1.0, 2, 100]))), 5)
    0.88356
    """
    chord = _chord(a, b, by_leaf, -1 if opposite else 1)
    return 1 - jnp.minimum(chord, 4) / 2


def angle(a: Tree, b: Tree, by_leaf: bool = False, *, opposite: bool = False) -> Array:
    """The angle between a and b, or -b, in radians, in [0, pi]; NaN if either is zero.

    2 atan2(|x - y|, |x + y|) on unit vectors x and y, since the arccos of a float32
    cosine is wrong below about 1e-3 (Kahan 2006, "How futile are mindless assessments of
    roundoff in floating-point computation?", section 12). |x + y|^2 is taken as
    4 - |x - y|^2, which costs accuracy (1e-3) only within 1e-3 of pi.

    >>> vectors = {"a": jnp.array([3.0]), "b": jnp.array([0.0])}
    >>> other = {"a": jnp.array([0.0]), "b": jnp.array([2.0])}
    >>> round(float(jnp.degrees(angle(vectors, other))), 3)
    90.0
    """
    chord = _chord(a, b, by_leaf, -1 if opposite else 1)
    return 2 * jnp.arctan2(jnp.sqrt(chord), jnp.sqrt(jnp.maximum(4 - chord, 0)))


def _fold(terms: Array, by: Callable[..., Array] = jnp.sum) -> Array:
    """The sum, or what else, over the last axis.

    XLA on CPU takes a sum of 33 terms or more through windows of 32, and where its library
    of kernels leaves that to it, for the smaller leaves, this costs more than the sum does.
    Rows and columns of at most 32 need no windows; the barrier keeps the two sums apart.
    """
    count = terms.shape[-1]
    rows = [r for r in range(2, 33) if count % r == 0 and count // r <= 32]
    if count <= 32 or not rows or jax.default_backend() != "cpu":
        return by(terms, -1)
    table = terms.reshape(*terms.shape[:-1], rows[0], -1)
    return by(jax.lax.optimization_barrier(by(table, -2)), -1)


def _apart(terms: Array) -> Array:
    """The terms of a sum, which XLA's library of kernels on CPU then only adds up.

    Taken into its sum they cost more than in a loop of XLA's that stores them. NaN stays
    NaN, so the choice changes nothing; but the library knows no choices.
    """
    return jnp.where(jnp.isnan(terms), jnp.nan, terms)


def _total(leaves: Array, by_leaf: bool) -> Array:
    return leaves if by_leaf else leaves.sum()


@_once
def _signs(tree: Tree) -> list[Array]:
    return [jnp.sign(x) for x in flat(tree)]


@_once
def _nonzero(tree: Tree) -> Array:
    return jnp.stack([_fold(jnp.square(x)) for x in _signs(tree)])


@_once
def _opposed(a: Tree, b: Tree) -> Array:
    # The product with a sign has no underflow; NaN, which no comparison counts, is found
    # in the lengths.
    pairs = zip(flat(a), _signs(b), strict=True)
    found = [_fold(jnp.where(x * s < 0, jnp.ones_like(x), 0)) for x, s in pairs]
    lost = jnp.isnan(_polar(a).lengths) | jnp.isnan(_polar(b).lengths)
    return jnp.where(lost, jnp.nan, jnp.stack(found))


@_once
def _dots(a: Tree, b: Tree) -> Array:
    return jnp.stack([_fold(x * y) for x, y in zip(flat(a), flat(b), strict=True)])


@_once
def _one_norms(tree: Tree) -> Array:
    return jnp.stack([_fold(jnp.abs(x)) for x in flat(tree)])


@_once
def _extremes(a: Tree, b: Tree) -> tuple[Array, Array]:
    """Largest and smallest |a_i / b_i| [leaf], 0 and inf where all elements are zero."""
    one, other = _polar(a).lengths, _polar(b).lengths
    nowhere, between = (one == 0) & (other == 0), one / other
    # By Cauchy's inequality the lengths' quotient lies between the elements'. Elements
    # zero in both take it, and one stored quotient serves both extremes.
    quotients = [
        jnp.where((x == 0) & (y == 0), between[i], jnp.abs(x / y))
        for i, (x, y) in enumerate(zip(flat(a), flat(b), strict=True))
    ]
    largest = jnp.where(nowhere, 0, jnp.stack([_fold(q, jnp.max) for q in quotients]))
    smallest = jnp.where(
        nowhere, jnp.inf, jnp.stack([_fold(q, jnp.min) for q in quotients])
    )
    return largest, smallest


@_once
def _chord(a: Tree, b: Tree, by_leaf: bool, sign: int) -> Array:
    """|x - sign y|^2 of the unit vectors x, y along a and b, by leaf or of the whole.

    Let leaf l hold the shares p and q of the lengths of a and b. For unit vectors x, y
    along the leaves, |p x - q y|^2 = (p - q)^2 + p q |x - y|^2.
    """
    chords = _chords(a, b, sign)
    if by_leaf:
        return chords
    p, q = (_polar(t).lengths * _whole(t).factors[0] for t in (a, b))
    both, rest = p * q, jnp.square(p - q)
    # A leaf without direction on one side adds its share of the other alone.
    return jnp.sum(jnp.where(both == 0, rest, rest + both * chords))


@_once
def _chords(a: Tree, b: Tree, sign: int) -> Array:
    one, other = _polar(a), _polar(b)
    gaps = [
        x * one.factors[i] - y * (sign * other.factors[i])
        for i, (x, y) in enumerate(zip(flat(a), flat(b), strict=True))
    ]
    return jnp.stack([_fold(_apart(jnp.square(gap))) for gap in gaps])


class _Polar(NamedTuple):
    """Lengths, and factors that make unit vectors (NaN for zero vectors), [leaf]."""

    lengths: Array
    factors: Array


@_once
def _polar(tree: Tree) -> _Polar:
    """Of each leaf."""
    lengths = _squares if isinstance(tree, Vector) else _scaled
    return _join(*lengths(flat(tree)))


def _join(means: Array, squares: Array) -> _Polar:
    roots = jnp.sqrt(squares)
    return _Polar(means * roots, 1 / means / roots)


@_once
def _whole(tree: Tree) -> _Polar:
    """Of the whole vector, from its leaves' lengths."""
    return _join(*_scaled([_polar(tree).lengths]))


@jax.custom_batching.custom_vmap
def _squares(vectors: list[Array]) -> tuple[Array, Array]:
    """As `_scaled` of vectors [..., element], with means of 1 for leaves in range.

    A plain sum of squares costs a quarter of a scaled one, which is computed for all if
    some leaf needs it; which one a leaf takes depends on itself alone. NaN is in range,
    for scaling does not cure it.
    """
    plain = jnp.stack([_fold(jnp.square(x)) for x in vectors], -1)
    kind = jnp.finfo(plain.dtype)
    # Above the lower limit, squares lost to underflow are less than a rounding error.
    outside = (plain < kind.tiny / kind.eps**2) | (plain == jnp.inf)

    def mixed(vectors: list[Array]) -> tuple[Array, Array]:
        means, squares = _scaled(vectors)
        return jnp.where(outside, means, 1), jnp.where(outside, squares, plain)

    ready = lambda _: (jnp.ones_like(plain), plain)  # noqa: E731
    return jax.lax.cond(jnp.any(outside), mixed, ready, vectors)


@_squares.def_vmap
def _squares_of_many(size: int, mapped: list[list[bool]], vectors: list[Array]) -> Any:
    """One predicate for the whole batch: one for each run would compute both for all."""
    pairs = zip(vectors, mapped[0], strict=True)
    many = [x if m else jnp.broadcast_to(x, (size, *x.shape)) for x, m in pairs]
    return _squares(many), (True, True)


def _scaled(vectors: list[Array]) -> tuple[Array, Array]:
    """Mean magnitudes, and sums of the squares of x / mean, [..., leaf].

    Each sum is a pass of its own over the vectors and stores none of them.
    """
    kind = jnp.finfo(vectors[0].dtype)
    means = jnp.stack([jnp.mean(jnp.abs(x), -1) for x in vectors], -1)
    # Of a vector known at compile time, XLA would take the factor out of the squares.
    means = jax.lax.optimization_barrier(jnp.clip(means, kind.tiny, 1 / kind.tiny))
    units = (x / means[..., i : i + 1] for i, x in enumerate(vectors))
    return means, jnp.stack([jnp.sum(jnp.square(x), -1) for x in units], -1)
