import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import EVERY_PROBLEM, SMALL_DIGITS, vector

from study import data
from study.problems import PROBLEMS, Digits, NoisyQuadratic, OneWeight, RandomGradient


@pytest.mark.parametrize("problem", EVERY_PROBLEM, ids=str)
def test_a_problem_is_a_function_of_its_fields_and_a_key(problem, key):
    twin = type(problem)(**{f.name: getattr(problem, f.name) for f in fields(problem)})
    for one, other in (
        (problem.data(), twin.data()),
        (problem.init(key), twin.init(key)),
    ):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    batches = [p.sample(p.data(), key) for p in (problem, twin)]
    jax.tree.map(np.testing.assert_array_equal, *batches)


@pytest.mark.parametrize("problem", EVERY_PROBLEM, ids=str)
def test_a_batch_drawn_ahead_is_that_of_its_step(problem, key):
    arrays = jax.tree.map(jnp.asarray, problem.data())
    steps = jnp.arange(3, 6)
    drawn = jax.vmap(functools.partial(problem.draw, arrays, key))(steps)
    for i, t in enumerate(steps):
        ahead = problem.take(arrays, jax.tree.map(lambda x, i=i: x[i], drawn))
        batch = problem.batch(arrays, key, t)
        jax.tree.map(np.testing.assert_array_equal, ahead, batch)


def test_what_no_segment_would_see_is_refused():
    with pytest.raises(TypeError, match="say it in `indices`"):
        type("Own", (Digits,), {"sample": lambda self, data, key: data})


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_and_gradient_are_finite_and_of_the_problems_dtype(name, dtype, key):
    problem = PROBLEMS[name](dtype=dtype)
    params, batch = problem.init(key), problem.sample(problem.data(), key)
    loss, grad = jax.jit(jax.value_and_grad(problem.loss))(params, batch)
    assert loss.shape == ()
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves((params, grad)):
        assert leaf.dtype == jnp.dtype(dtype)
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


@pytest.mark.parametrize(
    "problem",
    [
        Digits(width=4, depth=2, batch_size=8, activation="tanh"),
        NoisyQuadratic(dim=5, rotation="random"),
        RandomGradient(dim=4),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_finite_differences(problem, key):
    problem = dataclasses.replace(problem, dtype="float64")
    with jax.enable_x64(True):
        params, batch = problem.init(key), problem.sample(problem.data(), key)
        flat, back = jax.flatten_util.ravel_pytree(params)
        loss = jax.jit(lambda x: problem.loss(back(x), batch))
        direction = jax.random.normal(key, flat.shape, flat.dtype)
        h = 1e-6
        slope = (loss(flat + h * direction) - loss(flat - h * direction)) / (2 * h)
        np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, slope, rtol=1e-6)


@pytest.mark.parametrize("problem", EVERY_PROBLEM, ids=str)
def test_a_problem_evaluates_what_it_selects_and_reports_by(problem, key):
    found = problem.evaluate(problem.data(), problem.init(key))
    assert {problem.selects, problem.reports} - {None} <= set(found)
    assert all(value.shape == () and np.isfinite(value) for value in found.values())


def test_the_digits_are_split_once_for_all():
    splits = data.digits()
    assert [len(part.labels) for part in splits] == [1077, 360, 360]
    rows = np.concatenate([part.inputs for part in splits])
    assert rows.shape == (1797, 64)
    assert rows.min() == 0
    assert rows.max() == 1
    for part in splits:
        assert set(part.labels) == set(range(10))


def test_no_test_image_is_among_the_training_images():
    """The set itself has no duplicates, so a disjoint split shows as distinct rows."""
    splits = data.digits()
    rows = np.concatenate([part.inputs for part in splits])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_an_untrained_classifier_guesses(key):
    found = SMALL_DIGITS.evaluate(SMALL_DIGITS.data(), SMALL_DIGITS.init(key))
    assert 0 <= found["test_accuracy"] <= 0.35
    assert 2 < found["test_loss"] < 3.5


@pytest.mark.parametrize("rotation", [0.0, 30.0, "random"])
def test_rotation_keeps_the_eigenvalues(rotation):
    problem = NoisyQuadratic(dim=6, condition=50.0, rotation=rotation)
    basis = problem.basis()
    np.testing.assert_allclose(basis @ basis.T, np.eye(6), atol=1e-12)
    hessian = problem.data()["hessian"].astype(np.float64)
    found = np.sort(np.linalg.eigvalsh(hessian))[::-1]
    np.testing.assert_allclose(found, problem.eigenvalues(), atol=1e-6)
    assert np.isclose(found[0] / found[-1], 50, rtol=1e-3)


def test_an_angle_turns_the_steepest_axis_toward_the_flattest():
    turned = NoisyQuadratic(dim=4, rotation=30.0).basis()
    np.testing.assert_allclose(
        turned[:, 0], [np.cos(np.pi / 6), 0, 0, np.sin(np.pi / 6)], atol=1e-12
    )


def test_the_mean_gradient_is_that_of_the_objective(key):
    problem = NoisyQuadratic(dim=4, noise=0.5, noise_spread=9.0)
    arrays, params = problem.data(), problem.init(key)
    gradient = jax.vmap(
        lambda k: jax.grad(problem.loss)(params, problem.sample(arrays, k))["x"]
    )(jax.random.split(key, 4000))
    np.testing.assert_allclose(gradient.mean(0), arrays["hessian"] @ params["x"], atol=0.1)
    np.testing.assert_allclose(gradient.std(0), [1.5, 0.7211, 0.3467, 1 / 6], rtol=0.1)


def test_depth_zero_is_softmax_regression(key):
    assert vector(Digits(depth=0).init(key)).size == 64 * 10 + 10


def fields(problem):
    return dataclasses.fields(problem)


@pytest.mark.parametrize(
    ("shape", "at", "slope"),
    [
        ("slope", 5.0, 1.0),
        ("absolute", 0.3, -1.0),
        ("absolute", 0.7, 1.0),
        ("quadratic", 0.9, 2 * (0.9 - 0.437)),
        ("huber", 0.9, 1.0),
        ("huber", 0.447, 0.1),
    ],
)
def test_one_weights_slopes_have_their_closed_form(shape, at, slope):
    problem = OneWeight(shape=shape, curvature=2.0)
    gradient = jax.grad(problem.loss)({"w": jnp.float32(at)}, ())
    assert float(gradient["w"]) == pytest.approx(slope, rel=1e-4)
