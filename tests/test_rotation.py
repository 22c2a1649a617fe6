"""Quadratics and classifiers in other bases: closed forms, and loops in NumPy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import rotation, rotation_scopes
from study import devices
from study.optimizers import SGD, Adam, Momentum, SignDescent
from study.problems import HeavyTailed, RotatedQuadratic
from study.problems.rotated import turned_plane

ANGLES = [0.0, 1.0, 5.0, 30.0, 45.0, 70.0]


@pytest.mark.parametrize("turned", [0.0, 20.0, "random"])
def test_in_its_eigenbasis_the_problem_is_always_the_same(turned):
    problem = RotatedQuadratic(dim=6, condition=50.0, rotation=turned, dtype="float64")
    plain = dataclasses.replace(problem, rotation=0.0)
    with devices.precision("float64"):
        z = plain.init(jax.random.key(3))["x"]
        x = problem.init(jax.random.key(3))["x"]
        np.testing.assert_allclose(problem.basis().T @ x, z, rtol=1e-12)
        for at, one in ((x, problem), (z, plain)):
            expected = float(np.sum(plain.eigenvalues() * np.asarray(z) ** 2)) / 2
            assert float(one.loss({"x": at}, one.data())) == pytest.approx(expected)


def test_the_unturned_matrix_is_diagonal_to_the_bit():
    problem = RotatedQuadratic(dim=5)
    np.testing.assert_array_equal(problem.hessian(), np.diag(problem.eigenvalues()))


@pytest.mark.parametrize("condition", [2.0, 1e2, 1e4])
@pytest.mark.parametrize("degrees", ANGLES)
def test_a_scaled_plane_has_its_closed_form(condition, degrees):
    found = RotatedQuadratic(2, condition, degrees).geometry()["scaled_condition"]
    assert found == pytest.approx(turned_plane(condition, degrees), rel=1e-9)


def test_a_plane_in_its_eigenbasis_loses_its_condition_and_at_45_degrees_keeps_it():
    assert turned_plane(1e4, 0.0) == 1
    assert turned_plane(1e4, 45.0) == pytest.approx(1e4)
    assert turned_plane(1e4, 30.0) == pytest.approx(7500.49994, rel=1e-8)


def test_of_many_planes_the_worst_decides():
    found = RotatedQuadratic(8, 1e3, 10.0).geometry()["scaled_condition"]
    assert found == pytest.approx(turned_plane(1e3, 10.0), rel=1e-9)


def test_no_other_diagonal_does_better_in_a_plane():
    hessian = RotatedQuadratic(2, 1e3, 17.0).hessian()
    for ratio in np.geomspace(1e-3, 1e3, 301):
        scale = np.diag([1.0, ratio])
        found = np.linalg.cond(scale @ hessian @ scale)
        assert found >= turned_plane(1e3, 17.0) * (1 - 1e-9)


@pytest.mark.parametrize("degrees", [0.0, 10.0, 45.0])
def test_the_sum_of_elements_grows_with_the_sine(degrees):
    """Each plane adds sin(2 angle) times the difference of its eigenvalues."""
    problem = RotatedQuadratic(6, 1e2, degrees)
    values, said = problem.eigenvalues(), problem.geometry()
    spread = np.sum(values[:3] - values[:2:-1])
    expected = values.sum() + np.sin(2 * np.deg2rad(degrees)) * spread
    assert said["sum_abs"] == pytest.approx(expected)
    assert said["trace"] == pytest.approx(values.sum())
    assert said["largest"] == pytest.approx(1.0)


def descend(hessian, x, rate, steps, turn):
    """Relative loss after steps of -rate_t turn(g), a cosine to 0; in NumPy."""
    first = x @ hessian @ x
    for t in range(steps):
        x = x - rate * (1 + np.cos(np.pi * t / steps)) / 2 * turn(hessian @ x)
    return x @ hessian @ x / first


@pytest.mark.parametrize(("rule", "turn"), [(SGD(), lambda g: g), (SignDescent(), np.sign)])
def test_a_cell_of_rotation_is_a_loop(rule, turn):
    experiment: Any = dataclasses.replace(rotation.PRESETS["smoke"], steps=7)
    dataset, _ = rotation.run_cell(experiment, experiment.problem, rule)
    shape = dataset.relative.shape[:-1]
    for place, case in zip(np.ndindex(*shape), experiment.variants(), strict=True):
        with devices.precision("float64"):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), place[-1]))
            start = np.asarray(case.init(keys[0])["x"])
        for i, rate in enumerate(experiment.learning_rates):
            expected = descend(case.hessian(), start, rate, 7, turn)
            found = float(dataset.relative[place][i])
            assert found == pytest.approx(expected, rel=1e-9)


def test_condensed_rotation_takes_the_best_and_compares_rate_by_rate():
    losses = np.full((1, 1, 2, 1, 3), np.nan)
    losses[0, 0, 0, 0] = 0.1, 0.01, np.nan
    losses[0, 0, 1, 0] = 0.1, 0.02, 1e-400
    geometry = {name: (rotation.CASE, [[[4.0], [4.0]]]) for name in rotation.GEOMETRY}
    records = {k: v for k, v in geometry.items() if k != "trace"}
    records = {k: (("optimizer", *d), [v]) for k, (d, v) in records.items()}
    records["trace"] = (("optimizer", *rotation.CASE), [[[[4.0], [5.0]]]])
    dataset = xr.Dataset(
        {"relative": (("optimizer", *rotation.CASE, "learning_rate"), losses), **records},
        {"optimizer": ["SGD"], "basis": ["0", "Haar"], "learning_rate": [0.1, 1.0, 10.0]},
    )
    found = rotation.condense(dataset)
    np.testing.assert_allclose(found.best.values.ravel(), [-2, rotation.FLOOR])
    np.testing.assert_array_equal(found.rate.values.ravel(), [1, 10])
    np.testing.assert_array_equal(found.at_edge.values.ravel(), [0, 1])
    np.testing.assert_allclose(found.difference.values[0, 0, 1], [0, 1, np.nan])
    np.testing.assert_allclose(found.moved.values.ravel(), [0, 0.25])


SMALL: Any = dataclasses.replace(
    rotation_scopes.PRESETS["smoke"],
    problem=HeavyTailed(groups=2),
    scopes=rotation_scopes.SCOPES,
    steps=4,
)
"""Twelve inputs, three classes, two bases."""


def test_matrices_are_orthogonal_and_treat_the_mean_as_they_say():
    every, mean = rotation_scopes.bases(SMALL), np.ones(12) / np.sqrt(12)
    for name, matrices in every.items():
        for matrix in matrices:
            if name == "order":
                np.testing.assert_array_equal(np.sort(matrix), np.arange(36))
            else:
                near = np.eye(len(matrix))
                np.testing.assert_allclose(matrix @ matrix.T, near, atol=1e-6)
    np.testing.assert_allclose(every["aside"][0] @ mean, np.eye(12)[0], atol=1e-6)
    np.testing.assert_allclose(every["kept"][1] @ mean, mean, atol=1e-6)
    assert np.abs(every["kept"][0] - every["kept"][1]).max() > 0.1


@pytest.mark.parametrize("scope", [s for s in rotation_scopes.SCOPES if s != "none"])
def test_every_scope_has_a_way_back(scope):
    matrices = {name: x[1] for name, x in rotation_scopes.bases(SMALL).items()}
    basis = rotation_scopes.basis_of(scope, matrices)
    tree = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)))}
    there = basis.into(tree)["kernel"]
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(tree["kernel"]), rel=1e-5)
    assert np.abs(there - tree["kernel"]).max() > 0.1
    np.testing.assert_allclose(
        basis.back({"kernel": there})["kernel"], tree["kernel"], atol=1e-5
    )


def test_momentum_has_one_loss_in_every_basis_and_runs_the_grid_in_one():
    dataset, _ = rotation_scopes.run_cell(SMALL, SMALL.problem, Momentum())
    losses = dataset.loss.values
    np.testing.assert_allclose(losses[:, 0], losses[0, 0, 0], rtol=1e-5)
    assert np.isfinite(losses[0]).all()
    assert np.isnan(losses[1:, 1]).all()
    np.testing.assert_array_equal(dataset.swept, [1] + 7 * [0])


def adam(problem, q, rate, steps):
    """Losses by group of Adam on V = W Q^T, float64: the rotated problem, as itself."""
    x, classes = problem.data()
    x, turned = x.astype(float), np.zeros((problem.inputs, problem.classes))
    m, v, one_hot = 0.0, 0.0, np.eye(problem.classes)[classes]

    def probabilities(turned):
        logits = x @ turned @ q
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    for t in range(1, steps + 1):
        g = x.T @ (probabilities(turned) - one_hot) / len(x) @ q.T
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        turned = turned - rate * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    losses = -np.log(probabilities(turned)[np.arange(len(x)), classes])
    return losses.reshape(problem.groups, -1).mean(1)


@pytest.mark.parametrize("scope", ["none", "class"])
def test_a_turned_rule_trains_as_the_rule_on_the_turned_problem(scope):
    experiment = dataclasses.replace(SMALL, scopes=("none", "class"))
    dataset, _ = rotation_scopes.run_cell(experiment, SMALL.problem, Adam())
    for seed in range(2):
        q = rotation_scopes.bases(experiment)["class"][seed].astype(float)
        expected = adam(SMALL.problem, q if scope == "class" else np.eye(3), 0.1, 4)
        found = dataset.group_loss.sel(scope=scope, learning_rate=0.1)[seed]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert float(
            dataset.loss.sel(scope=scope, learning_rate=0.1)[seed]
        ) == pytest.approx(expected.mean(), rel=1e-4)


def test_condensed_scopes_leave_out_what_was_not_swept():
    losses = np.array([[[[3.0], [1.0], [2.0]], [[np.nan], [np.nan], [2.5]]]])
    dims = ("optimizer", "scope", "learning_rate", "seed")
    dataset = xr.Dataset(
        {
            "loss": (dims, losses),
            "group_loss": ((*dims, "group"), np.stack([losses, 2 * losses], -1)),
            "swept": (dims[:2], [[1, 0]]),
        },
        {"scope": ["none", "class"], "learning_rate": [0.1, 0.2, 0.3]},
        {"stable": 2},
    )
    found = rotation_scopes.condense(dataset)
    np.testing.assert_array_equal(found.loss.values.ravel(), [1, np.nan])
    np.testing.assert_array_equal(found.stable_loss.values.ravel(), [2, 2.5])
    np.testing.assert_array_equal(found.group_loss.values[0, :, 0], [[1, 2], [2.5, 5]])
    np.testing.assert_array_equal(found.rate.values.ravel(), [0.2, 0.3])
    np.testing.assert_array_equal(found.at_edge.values.ravel(), [0, 0])
    np.testing.assert_array_equal(found.finite.values.ravel(), [1, 1])
