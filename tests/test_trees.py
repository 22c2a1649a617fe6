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
