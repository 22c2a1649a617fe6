import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_tree, tree_of, vector
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study import trees

ELEMENTS = st.floats(-100, 100).map(lambda x: x if abs(x) > 1e-6 else 0.0)
VECTORS = arrays(np.float64, 12, elements=ELEMENTS)

norm, cosine, angle, dot = map(jax.jit, (trees.norm, trees.cosine, trees.angle, trees.dot))


def exact_angle(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))


@given(VECTORS, VECTORS)
@settings(max_examples=100, deadline=None)
def test_the_algebra_is_that_of_float64_vectors(a, b):
    x, y = vector(tree_of(a)), vector(tree_of(b))
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    np.testing.assert_allclose(dot(tree_of(a), tree_of(b)), x @ y, atol=1e-6 * scale)
    np.testing.assert_allclose(norm(tree_of(a)), np.linalg.norm(x), rtol=1e-5)
    if scale == 0:
        assert np.isnan(cosine(tree_of(a), tree_of(b)))
        assert np.isnan(angle(tree_of(a), tree_of(b)))
        return
    np.testing.assert_allclose(cosine(tree_of(a), tree_of(b)), x @ y / scale, atol=2e-6)
    np.testing.assert_allclose(angle(tree_of(a), tree_of(b)), exact_angle(x, y), atol=2e-6)


@pytest.mark.parametrize("turn", [1e-1, 1e-3, 1e-4, 1e-5])
def test_small_angles_are_right_where_arccos_is_not(turn):
    a = np.random.default_rng(0).normal(size=12)
    b = np.random.default_rng(1).normal(size=12)
    b -= a * (a @ b) / (a @ a)
    turned = a / np.linalg.norm(a) + np.tan(turn) * b / np.linalg.norm(b)
    one, other = tree_of(a), tree_of(turned)
    expected = exact_angle(vector(one), vector(other))
    np.testing.assert_allclose(trees.angle(one, other), expected, rtol=1e-2, atol=3e-7)
    flipped = trees.angle(one, trees.scale(-1, other), opposite=True)
    np.testing.assert_allclose(flipped, expected, rtol=1e-2, atol=3e-7)


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e36])
def test_a_direction_survives_any_scale(scale):
    a, b = random_tree(0), random_tree(1)
    tiny = trees.scale(jnp.float32(scale), a)
    np.testing.assert_allclose(trees.cosine(tiny, b), trees.cosine(a, b), atol=1e-6)
    np.testing.assert_allclose(trees.norm(tiny), scale * trees.norm(a), rtol=1e-5)


def test_each_leaf_alone_is_a_vector_of_its_own():
    a, b = random_tree(0), random_tree(1)
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    for function in (trees.dot, trees.cosine, trees.angle):
        alone = [function([x], [y]) for x, y in pairs]
        np.testing.assert_allclose(function(a, b, True), alone, rtol=1e-5, atol=1e-6)
    for function in (trees.norm, trees.one_norm, trees.size):
        alone = [function([x]) for x, _ in pairs]
        np.testing.assert_allclose(function(a, True), alone, rtol=1e-6)


def test_a_leaf_of_zeros_leaves_the_whole_defined():
    a, b = random_tree(0), random_tree(1)
    a["b"]["c"] = jnp.zeros(4)
    x, y = vector(a), vector(b)
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    np.testing.assert_allclose(trees.cosine(a, b), expected, atol=1e-6)
    assert np.isnan(trees.cosine(a, b, True)[1])


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_a_vector_known_at_compile_time_keeps_its_length(scale):
    """XLA once took the scaling out of the sum of squares: inf * 0."""
    constant = {"a": jnp.full(9, scale, jnp.float32)}
    value = jax.jit(lambda: trees.norm(constant))()
    np.testing.assert_allclose(value, 3 * scale, rtol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_no_direction_is_nan(bad):
    a = trees.scale(jnp.float32(bad), random_tree(0))
    assert np.isnan(trees.cosine(a, random_tree(1)))
    assert np.isnan(trees.angle(random_tree(1), a))


def test_half_precision_accumulates_in_float32():
    ones = {"a": jnp.ones(4096, jnp.bfloat16)}
    assert trees.dot(ones, ones) == 4096
    assert trees.norm(ones).dtype == jnp.float32


def test_leaves_are_named_by_path():
    assert trees.names(random_tree(0)) == ("a", "b.c", "b.d", "e")


KINDS = {
    "ordinary": [1.0, 1.0, 1.0, 1.0],
    "a tiny leaf": [1.0, 1e-30, 1.0, 1.0],
    "a huge leaf": [1.0, 1.0, 1e25, 1.0],
    "both": [1e-30, 1.0, 1e25, 1e-12],
    "a leaf of zeros": [1.0, 0.0, 1.0, 1.0],
    "zero": [0.0, 0.0, 0.0, 0.0],
    "inf": [1.0, np.inf, 1.0, 1.0],
    "NaN": [1.0, 1.0, np.nan, 1.0],
}


def stretched(seed, factors):
    leaves, shape = jax.tree.flatten(random_tree(seed))
    pairs = zip(leaves, factors, strict=True)
    return jax.tree.unflatten(shape, [x * jnp.float32(f) for x, f in pairs])


def measured(a, b):
    """Lengths, cosines and spreads, as `metrics.measure` computes them."""
    a, b = trees.Vector(a), trees.Vector(b)
    functions = (trees.cosine, trees.angle, trees.spread)
    lengths = [trees.norm(a, by_leaf) for by_leaf in (False, True)]
    return lengths, [f(a, b, by_leaf) for f in functions for by_leaf in (False, True)]


def batch_of(kinds):
    pairs = [(stretched(i, KINDS[k]), random_tree(50 + i)) for i, k in enumerate(kinds)]
    return jax.tree.map(lambda *x: jnp.stack(x), *pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_measured_vector_has_the_lengths_of_its_tree(kind):
    tree, other = stretched(0, KINDS[kind]), random_tree(1)
    (whole, by_leaf), (cosine, *_) = jax.jit(measured)(tree, other)
    x, y = vector(tree), vector(other)
    np.testing.assert_allclose(whole, np.linalg.norm(x), rtol=1e-6)
    exact = [np.linalg.norm(vector([leaf])) for leaf in jax.tree.leaves(tree)]
    np.testing.assert_allclose(by_leaf, exact, rtol=1e-6)
    with np.errstate(invalid="ignore"):
        expected = (x / np.linalg.norm(x)) @ (y / np.linalg.norm(y))
    np.testing.assert_allclose(cosine, expected, atol=1e-6)


@pytest.mark.parametrize(
    "kinds", [list(KINDS), ["ordinary"] * 3, ["ordinary", "NaN"], ["zero", "both"]]
)
def test_a_measured_run_does_not_depend_on_the_others(kinds):
    """Whether all of a batch is in range chooses what is computed, for each the same."""
    pairs = batch_of(kinds)
    found = jax.jit(jax.vmap(measured))(*pairs)
    in_scan = jax.jit(
        jax.vmap(lambda *p: jax.lax.scan(lambda c, _: (c, measured(*c)), p, None, 2)[1])
    )(*pairs)
    nested = jax.jit(jax.vmap(jax.vmap(measured)))(*jax.tree.map(lambda x: x[None], pairs))
    for i in range(len(kinds)):
        alone = jax.jit(measured)(*jax.tree.map(lambda x, i=i: x[i], pairs))
        for many in (
            jax.tree.map(lambda x, i=i: x[i], found),
            jax.tree.map(lambda x, i=i: x[i, 1], in_scan),
            jax.tree.map(lambda x, i=i: x[0, i], nested),
        ):
            jax.tree.map(
                lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-6),
                many,
                alone,
            )


def test_runs_in_range_never_scale():
    """One predicate for the batch: a branch, not a select that computes both."""
    many, _ = batch_of(["ordinary"] * 3)
    lengths = jax.vmap(lambda a: trees.norm(trees.Vector(a), True))
    assert "stablehlo.case" in jax.jit(lengths).lower(many).as_text()
    nested = jax.tree.map(lambda x: x[None], many)
    assert "stablehlo.case" in jax.jit(jax.vmap(lengths)).lower(nested).as_text()


def test_a_vector_mapped_in_part_is_measured():
    tree, fixed = random_tree(0), jnp.asarray([1e-30, 2e-30])
    norm = jax.vmap(lambda x: trees.norm(trees.Vector([x, fixed]), True))
    found = norm(jnp.stack([tree["a"], tree["a"]]))
    np.testing.assert_allclose(found[:, 1], np.sqrt(5) * 1e-30, rtol=1e-6)


def test_the_spread_ignores_elements_zero_in_both():
    a = {"w": jnp.asarray([0.0, 2.0, 3.0]), "v": jnp.zeros(2)}
    b = {"w": jnp.asarray([0.0, 1.0, -1.0]), "v": jnp.zeros(2)}
    np.testing.assert_allclose(trees.spread(a, b), 1.5, rtol=1e-6)
    np.testing.assert_allclose(trees.spread(a, b, True), [np.nan, 1.5], rtol=1e-6)
    a["w"] = a["w"].at[0].set(1.0)
    assert trees.spread(a, b) == trees.spread(b, a) == np.inf


@pytest.mark.parametrize("kind", [trees.Vector, lambda tree: tree])
def test_opposed_signs_count_at_any_size_and_nan_is_not_lost(kind):
    a = [[1e-30, -1e-30, 0, 1e30, -np.inf, 2], [0, 0], [1, np.nan], [1, -1]]
    b = [[-1e-30, -1e-30, 1, -1e30, 3, 0], [1, 0], [-1, 1], [np.nan, 1]]
    a, b = ([jnp.asarray(leaf, jnp.float32) for leaf in tree] for tree in (a, b))
    for one, other in ((a, b), (b, a)):
        found = trees.opposed(kind(one), kind(other), True)
        np.testing.assert_array_equal(found, [3, 0, np.nan, np.nan])
    assert trees.opposed(kind(a[:2]), kind(b[:2])) == 3


@pytest.mark.parametrize("count", [32, 64, 100, 101, 640, 1024, 1056])
@pytest.mark.parametrize("by", [np.sum, np.max, np.min])
def test_a_fold_is_what_numpy_says_of_the_last_axis(count, by):
    terms = np.random.default_rng(count).normal(size=(3, count))
    found = trees._fold(jnp.asarray(terms, jnp.float32), getattr(jnp, by.__name__))
    np.testing.assert_allclose(
        found, by(terms.astype(np.float32), -1), rtol=1e-5, atol=1e-5
    )


def test_a_vector_remembers_of_whom_and_what_it_was_asked():
    a, b, c = (trees.Vector({"w": jnp.arange(3.0) + i}) for i in (1, 2, 5))
    for _ in range(2):
        assert trees.dot(a, b) == 1 * 2 + 2 * 3 + 3 * 4
        assert trees.dot(a, c) == 1 * 5 + 2 * 6 + 3 * 7
        both = [trees.cosine(a, b, opposite=turned) for turned in (False, True)]
        assert both[0] > 0 > both[1]
        assert trees.cosine(a, b, True).shape == (1,)
