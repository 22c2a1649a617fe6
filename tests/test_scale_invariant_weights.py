"""Weights with a direction only: the loss, the rules' memory, and loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import scale_invariant_weights as experiment
from experiments.scale_invariant_weights import Way
from study import devices
from study.optimizers import SGD, Adam, Momentum, NormalisedGD, SignDescent
from study.problems import InvariantRegression

PROBLEM = InvariantRegression(samples=30, inputs=4, dtype="float64")
TINY = dataclasses.replace(
    experiment.DEFAULT, problem=PROBLEM, optimizers=(SGD(),), steps=30, seeds=2
)
RULES = (SGD(), Momentum(), NormalisedGD(eps=0.0), SignDescent(), Adam(eps=0.0))


def gradient(w, x, y):
    """Of mean (x.w / |w| - y)^2 / 2, by hand."""
    length = np.linalg.norm(w)
    unit = w / length
    plain = x.T @ (x @ unit - y) / len(y)
    return (plain - unit * (unit @ plain)) / length


def follow(optimizer, *ways, stops=(30,)):
    """W [way, seed, stop, element]."""
    with devices.precision("float64"):
        return experiment._follow(TINY, PROBLEM, optimizer, list(ways), np.array(stops))


def starts():
    with devices.precision("float64"):
        return follow(SGD(), Way(), stops=(0, 1))[0, :, 0]


def test_the_gradient_is_the_one_derived_by_hand():
    x, y = PROBLEM.data()
    w = np.random.default_rng(0).normal(size=4) * 3
    with devices.precision("float64"):
        found = jax.grad(lambda w: PROBLEM.loss({"w": w}, (x, y)))(jnp.asarray(w))
    np.testing.assert_allclose(found, gradient(w, x, y), rtol=1e-12)


def test_the_loss_sees_no_length():
    x, y = PROBLEM.data()
    w = np.random.default_rng(1).normal(size=4)
    with devices.precision("float64"):
        losses = [PROBLEM.loss({"w": c * jnp.asarray(w)}, (x, y)) for c in (1, 3e-4, 7e5)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-14)


def test_a_batch_is_drawn_from_the_samples_and_the_start_has_its_length(key):
    problem = InvariantRegression(samples=9, inputs=3, batch_size=5, length=7.0)
    x, y = problem.data()
    seen = problem.sample((x, y), key)
    assert seen[0].shape == (5, 3)
    for row, target in zip(*seen, strict=True):
        at = int(np.argmin(np.abs(x - row).sum(1)))
        np.testing.assert_array_equal(x[at], row)
        assert y[at] == target
    assert np.linalg.norm(problem.init(key)["w"]) == pytest.approx(7, rel=1e-5)
    one = jax.tree.map(lambda leaf: leaf[2], problem.examples(seen))
    assert [leaf.shape for leaf in one] == [(1, 3), (1,)]


def test_sgd_with_decay_is_a_loop_in_numpy():
    x, y = PROBLEM.data()
    w = starts()[0]
    for _ in range(30):
        w = 0.999 * w - 0.1 * gradient(w, x, y)
    found = follow(SGD(), Way(decay=0.01))[0, 0, 0]
    np.testing.assert_allclose(found, w, rtol=1e-12)


def test_a_growing_rate_is_a_loop_in_numpy():
    x, y = PROBLEM.data()
    w = 10 * starts()[1]
    for t in range(30):
        w = w - 3 * 0.1 * 0.999 ** -(2 * t + 1) * gradient(w, x, y)
    found = follow(SGD(), Way(power=2, offset=1, length=10, gain=3))[0, 1, 0]
    np.testing.assert_allclose(found, w, rtol=1e-12)


def test_adam_with_another_memory_is_a_loop_in_numpy():
    """The rate's correction is that of the derivation: averages over equal weights."""
    x, y = PROBLEM.data()
    w, m, v, p = starts()[0], np.zeros(4), np.zeros(4), 0.97
    a, b = 0.9 * p, 0.999 * p**2
    for t in range(1, 31):
        g = gradient(w, x, y)
        m, v = a * m + (1 - 0.9) * g, b * v + (1 - 0.999) * g**2
        w = w - 0.1 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.999**t))
    found = follow(Adam(eps=0.0), Way(memory=p))[0, 0, 0]
    np.testing.assert_allclose(found, w, rtol=1e-10)


@pytest.mark.parametrize("optimizer", RULES, ids=str)
def test_a_memory_of_one_is_the_rule_of_the_catalogue(optimizer):
    params = {"w": jnp.asarray([1.0, -2.0, 3.0])}
    grad = {"w": jnp.asarray([0.3, 0.1, -0.2])}
    made = experiment.varied(optimizer, 0.0, 1.0).build(0.1)
    own = optimizer.build(0.1)
    one, other = made.init(params), own.init(params)
    for _ in range(3):
        first, one = made.update(grad, one, params)
        second, other = own.update(grad, other, params)
        np.testing.assert_allclose(first["w"], second["w"], rtol=1e-5)
    assert float(experiment.correction(optimizer, 1.0, 7.0)) == pytest.approx(1)


def test_angles_are_right_where_cosines_are_not():
    turn = np.array([1e-12, 1e-7, 0.3, 2.0, np.pi])
    there = np.stack([np.cos(turn), np.sin(turn)], -1)
    found = experiment.between(np.array([1.0, 0.0]), 5 * there)
    np.testing.assert_allclose(found, turn, rtol=1e-6)


def test_normalised_descent_keeps_its_exact_length():
    plain, decayed = follow(NormalisedGD(eps=0.0), Way(), Way(decay=0.01))[:, :, 0]
    np.testing.assert_allclose((plain**2).sum(-1), 1 + 0.01 * 30, rtol=1e-12)
    kept = 0.999**60
    wanted = kept + 0.01 * (1 - kept) / (1 - 0.999**2)
    np.testing.assert_allclose((decayed**2).sum(-1), wanted, rtol=1e-12)
