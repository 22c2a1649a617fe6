"""Runs to the largest margin against loops in NumPy; log losses; lost updates; twins."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import max_margin
from study import devices, optimizers, solutions
from study.errors import UserError

TINY = dataclasses.replace(
    max_margin.DEFAULT,
    problem=dataclasses.replace(max_margin.DEFAULT.problem, samples=5, inputs=8),
    steps=60,
    data_seeds=2,
    epsilons=(0.0, 1e-2),
)
ROWS = max_margin.draws(TINY.problem, 2)


def slope(rows, w):
    return -(1 / (1 + np.exp(rows @ w))) @ rows / len(rows)


def largest(g):
    return np.where(np.abs(g) == np.abs(g).max(), np.sign(g), 0)


def in_numpy(rows, direction, rate, exponent):
    """w [stop, input] at TINY.stops."""
    w, seen = np.zeros(rows.shape[1]), []
    for t in range(TINY.steps):
        w = w - rate * (t + 2) ** -exponent * direction(slope(rows, w))
        if t + 1 in TINY.stops:
            seen.append(w)
    return np.array(seen)


def followed(optimizer, problem=TINY.problem, epsilon=0.0, factor=1.0):
    with devices.precision("float64"):
        run = max_margin.follower(TINY, problem, optimizer)
        runs = ([0, 1], [epsilon] * 2, [factor] * 2)
        return devices.map_runs(run, (ROWS,), [np.asarray(axis) for axis in runs])


def log_loss(problem):
    return max_margin.kinds(problem, optimizers.SignDescent())["guarded"]


@pytest.mark.parametrize(
    ("optimizer", "direction", "rate", "exponent"),
    [
        (optimizers.SGD(), lambda g: g, 0.1, 0.0),
        (optimizers.NormalisedGD(eps=0.0), lambda g: g / np.linalg.norm(g), 0.5, 0.5),
        (optimizers.SignDescent(), np.sign, 0.1, 0.5),
        (optimizers.CoordinateDescent(), largest, 0.5, 0.5),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),  # no addresses
)
def test_runs_are_loops_in_numpy_with_their_schedules(optimizer, direction, rate, exponent):
    found = followed(optimizer)
    for rows, w in zip(ROWS, found["w"], strict=True):
        np.testing.assert_allclose(
            w, in_numpy(rows, direction, rate, exponent), rtol=1e-9, atol=1e-12
        )
    assert (found["lost"] == -1).all()


def test_normalised_descent_takes_the_same_path_on_log_losses():
    rule = optimizers.NormalisedGD(eps=0.0)
    plain = followed(rule, factor=3.0)["w"]
    guarded = followed(rule, log_loss(TINY.problem), factor=3.0)["w"]
    np.testing.assert_allclose(guarded, plain, rtol=1e-9, atol=1e-9)


def test_adam_without_epsilon_takes_the_same_path_on_a_loss_2_to_the_480_times_as_large():
    rule = optimizers.Adam(b2=0.99, eps=0.0)
    large: Any = max_margin.kinds(TINY.problem, rule)["guarded"]
    assert large.factor == 2.0**480
    np.testing.assert_allclose(
        followed(rule, large)["w"], followed(rule)["w"], rtol=1e-12, atol=1e-14
    )


def test_an_epsilon_put_in_is_the_rule_with_that_epsilon():
    put = followed(optimizers.Adam(b2=0.99, eps=0.0), epsilon=1e-2)["w"]
    own = followed(optimizers.Adam(b2=0.99, eps=1e-2))["w"]
    np.testing.assert_allclose(put, own, rtol=1e-12)
    assert not np.allclose(put, followed(optimizers.Adam(b2=0.99, eps=0.0))["w"], rtol=1e-3)


@pytest.mark.parametrize("length", [0.1, 3.0, 100.0, 1e5])
def test_the_log_loss_has_the_direction_of_the_loss_and_never_vanishes(length):
    """Oracle: weights of the rows in extended range, exp(-margin + smallest margin)."""
    w = length * solutions.max_margin(ROWS[0], "l2").direction
    margins = ROWS[0] @ w
    weights = np.exp(-np.logaddexp(0, margins) + np.logaddexp(0, margins.min()))
    expected = -weights @ ROWS[0]
    with devices.precision("float64"):
        params = {"w": jnp.asarray(w)}
        value, grad = log_loss(TINY.problem).slope(params, jnp.asarray(ROWS[0]))
        plain = TINY.problem.loss(params, jnp.asarray(ROWS[0]))
    found = np.asarray(grad["w"])
    np.testing.assert_allclose(
        found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-12
    )
    assert 0.01 < np.linalg.norm(found) < np.abs(ROWS[0]).sum()
    if length < 1e4:
        assert float(value) == pytest.approx(np.log(float(plain)), rel=1e-9)


def test_optax_squares_a_gradient_below_1e_154_to_0_and_the_update_is_lost():
    with devices.precision("float64"):
        rule = max_margin.watch(optimizers.NormalisedGD(eps=0.0).build(1.0))
        state = rule.init({"w": jnp.zeros(2)})
        for size, lost in ((1e-100, -1), (1e-170, 2), (1.0, 2)):
            grad = {"w": jnp.asarray([size, -size])}
            _, state = jax.jit(rule.update)(grad, state)
            assert int(state.lost) == lost
        still = max_margin.watch(optimizers.SignDescent().build(1.0))
        state = still.init({"w": jnp.zeros(2)})
        _, state = still.update({"w": jnp.asarray([0.0, 1e-170])}, state)
        assert int(state.lost) == -1
        made, state = still.update({"w": jnp.zeros(2)}, state)
        assert int(state.lost) == 2
        assert not np.asarray(made["w"]).any()


def test_ratios_are_1_at_the_best_and_undefined_where_w_is():
    tops = [[solutions.max_margin(x, norm) for x in ROWS] for norm in solutions.NORMS]
    best = np.array([[top.value for top in line] for line in tops])
    for i, line in enumerate(tops):
        w = np.array([[top.direction, 7 * top.direction, -top.direction] for top in line])
        found = max_margin.ratios(ROWS, best, w)
        np.testing.assert_allclose(found[i, :, :2], 1)
        assert (found[i, :, 2] < 0).all()
        assert (found[:, :, :2] < 1 + 1e-12).all()
    lost = np.full((2, 3, 8), [[np.nan], [np.inf], [0.0]])
    assert np.isnan(max_margin.ratios(ROWS, best, lost)).all()


def test_the_best_w_have_their_margins_and_cosines_their_angles():
    largest, best = max_margin.references(ROWS)
    for norm, values, w in zip(solutions.NORMS, largest, best, strict=True):
        np.testing.assert_allclose(solutions.margin(ROWS, w, norm), values)
    np.testing.assert_allclose(max_margin.cosines(best, -3 * best), -1)
    a, b = np.array([[1.0, 0], [2, 2], [0, 0], [np.inf, 1]]), np.array([0.0, 3])
    np.testing.assert_allclose(max_margin.cosines(a, b), [0, 0.5**0.5, np.nan, np.nan])


def test_twins_are_found_at_equal_length():
    path = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 4.0], [np.nan, 0.0], [9.0, 0.0]])
    w = np.array([[2.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.5, 0.0], [9.0, 0.0]])
    found = max_margin.twins(w, path)
    np.testing.assert_allclose(found, [1, 0, 1, np.nan, np.nan])


def test_stops_hold_the_decades_and_the_end():
    stops = max_margin.DEFAULT.stops
    assert max_margin.DEFAULT.milestones == (100, 1_000, 10_000, 100_000, 200_000)
    assert {1, 100, 1_000, 10_000, 100_000, 200_000} <= set(stops)
    assert stops[-1] == max_margin.DEFAULT.steps
    assert list(stops) == sorted(set(stops))


def test_a_problem_with_a_minimum_is_refused():
    decayed = dataclasses.replace(TINY.problem, l2=0.1)
    with pytest.raises(UserError, match="l2"):
        dataclasses.replace(TINY, problem=decayed)
