"""The dials of `epsilon_dial`: traced settings, closed forms, a NumPy path, selection."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import epsilon_dial
from study import devices, optimizers
from study.problems import GivenGradient, LogisticRegression

SPEC = epsilon_dial.PRESETS["smoke"]


def updates(rule, grads):
    state, out = rule.init(grads[0]), []
    for grad in grads:
        update, state = rule.update(grad, state, grads[0])
        out.append(update)
    return jnp.stack(out)


@pytest.mark.parametrize(
    ("optimizer", "dial"),
    [
        (optimizers.Adam(eps=0.3), 0.3),
        (optimizers.Padam(p=0.375), 0.375),
        (optimizers.Padam(p=0.5, eps=0.0), 0.5),
        (optimizers.Averaging(), np.inf),
        (optimizers.SignDescent(), 0.0),
    ],
    ids=str,
)
def test_a_traced_dial_is_the_entry_with_that_field(optimizer, dial):
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    base = optimizer
    if isinstance(optimizer, optimizers.Adam):
        base = optimizers.Adam()
    elif isinstance(optimizer, optimizers.Padam):
        base = dataclasses.replace(optimizer, p=0.1)
    build = lambda dial: epsilon_dial.dialled(base, dial, 0.1).build(0.1)  # noqa: E731
    traced = jax.jit(lambda dial: updates(build(dial), grads))(jnp.float32(dial))
    np.testing.assert_allclose(traced, updates(optimizer.build(0.1), grads), rtol=2e-6)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 40.0])
def test_angles_of_a_constant_gradient_are_those_of_g_over_g_plus_epsilon(epsilon):
    gradient = np.array([3.0, -1.0, 0.2, 0.01])
    problem = GivenGradient(gradient=tuple(gradient))
    spec = dataclasses.replace(SPEC, steps=4)
    measure = epsilon_dial._direction(spec, problem, optimizers.Adam())
    with devices.precision("float32"):
        angles, size = jax.jit(measure)(problem.data(), jnp.float32(epsilon))

    def degrees(a, b):
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

    update, signs = gradient / (np.abs(gradient) + epsilon), np.sign(gradient)
    to_momentum, to_sign = degrees(update, gradient), degrees(update, signs)
    expected = [to_momentum, to_sign, to_sign, to_momentum, to_sign]
    np.testing.assert_allclose(np.degrees(angles), expected, atol=0.05)
    np.testing.assert_allclose(size, np.sqrt((gradient**2).mean()), rtol=1e-6)


def numpy_path(rows, steps, rate, epsilon):
    """Adam in NumPy, or bias-corrected averaging where epsilon is None: w [step, input]."""
    w, m, v, path = *np.zeros((3, rows.shape[1])), []
    for t in range(1, steps + 1):
        g = -(rows / (1 + np.exp(rows @ w))[:, None]).mean(0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t)
        if epsilon is not None:
            step = step / (np.sqrt(v / (1 - 0.999**t)) + epsilon)
        w = w - rate * step
        path.append(w)
    return np.stack(path)


def test_the_gap_is_that_of_paths_in_numpy_and_falls_as_one_over_epsilon():
    problem = LogisticRegression(samples=12, inputs=3, data_seed=4, dtype="float64")
    spec = dataclasses.replace(SPEC, logistic=problem, path_steps=30, gamma=0.2)
    with devices.precision("float64"):
        gap = epsilon_dial._gap(spec, problem, optimizers.Adam())
        many = jax.jit(jax.vmap(gap, (None, 0)))
        found = many(problem.data(), jnp.asarray([0.01, 1.0, 1e3, 2e3]))
    plain = numpy_path(problem.rows(), 30, 0.2, None)
    longest = np.linalg.norm(plain, axis=1).max()
    for epsilon, value in zip((0.01, 1.0, 1e3), found, strict=False):
        own = numpy_path(problem.rows(), 30, 0.2 * epsilon, epsilon)
        away = np.linalg.norm(own - plain, axis=1).max()
        np.testing.assert_allclose(value, away / longest, rtol=1e-8)
    np.testing.assert_allclose(found[2] / found[3], 2, rtol=1e-3)


def test_rates_lie_on_one_grid_of_integer_exponents_around_the_guess():
    for entry in epsilon_dial.DEFAULT.optimizers:
        for dial in epsilon_dial.dials(epsilon_dial.DEFAULT, entry):
            rates = epsilon_dial.rates(epsilon_dial.DEFAULT, entry, dial)
            exponents = 4 * np.log10(rates)
            assert len(rates) == 11
            np.testing.assert_allclose(exponents, np.round(exponents), atol=1e-3)


def test_condense_takes_each_seeds_best_and_says_where_it_lies():
    losses = np.full((1, 2, 5, 2), 9.0)
    losses[0, 0, :, 0] = 5, 2, 3, 4, np.nan
    losses[0, 0, :, 1] = 5, 4, 3, 2, 1
    rises = np.full(losses.shape, -1.0)
    rises[0, 0, 1, 0], rises[0, 0, 4, 1] = 0.5, np.nan
    rates = np.array([[[0.1, 0.1778, 0.3162, 0.5623, 1.0], [np.nan] * 5]])
    losses[0, 1] = np.nan
    dims = ("optimizer", "tuned", "place")
    dataset = xr.Dataset(
        {
            "loss_by_rate": ((*dims, "seed"), losses),
            "rises": ((*dims, "seed"), rises),
            "rates": (dims, rates),
        },
        {"tuned": [0.0, 1.0], "optimizer": ["Adam"]},
    )
    out = epsilon_dial.condense(dataset).isel(optimizer=0)
    first = out.isel(tuned=0)
    np.testing.assert_array_equal(first.loss, [2, 1])
    np.testing.assert_array_equal(first.coarse, [3, 1])
    np.testing.assert_array_equal(first.calm, [3, 2])
    np.testing.assert_array_equal(first.rate, [0.1778, 1.0])
    np.testing.assert_array_equal(first.edge, [0, 1])
    np.testing.assert_array_equal(first.finite, [0.8, 1])
    assert np.isnan(out.isel(tuned=1).loss).all()


class Found:
    """Results of one rule on one problem."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.experiment = SPEC

    def selected(self, problem):
        """The one."""
        del problem
        return self.dataset


def test_half_way_is_where_the_angles_cross_over_the_size_of_gradients():
    dial = [1e-4, 1e-2, 1.0]
    degrees = {
        "to_momentum": [[60, 60], [50, 50], [0, 0]],
        "to_sign": [[0, 70], [10, 70], [60, 70]],
    }
    dims = ("optimizer", "dial", "seed")
    results = Found(
        xr.Dataset(
            {n: (dims, np.radians([values])) for n, values in degrees.items()}
            | {"gradient": (("optimizer", "seed"), [[0.1, 0.1]])},
            {"dial": dial, "optimizer": ["Adam"]},
        )
    )
    at = epsilon_dial.half_way(results)  # type: ignore[arg-type]
    # The difference is -40 at 1e-2 and 60 at 1: two fifths of two decades.
    np.testing.assert_allclose(at[0], 10 ** (-2 + 0.8) / 0.1)
    assert np.isnan(at[1])
