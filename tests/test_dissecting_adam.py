"""Closed forms and oracles of the experiments on the halves of Adam and on sparse noise."""

import dataclasses
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import integrate, optimize, stats

from experiments import dissecting_adam, dissecting_digits, sparse_noise
from study import devices, optimizers
from study.experiment import log_grid
from study.problems import NoisyQuadratic, SparseNoise


def error(kind, deviation, factor):
    """E (factor x - 1)^2 for a gradient x ~ N(1, deviation^2), or for its sign."""
    law: Any = stats.norm(1, deviation)
    if kind == "sign":
        right = law.sf(0)
        return right * (factor - 1) ** 2 + (1 - right) * (factor + 1) ** 2
    limits = 1 - 12 * deviation, 1 + 12 * deviation
    return integrate.quad(lambda g: (factor * g - 1) ** 2 * law.pdf(g), *limits)[0]


@pytest.mark.parametrize("kind", ["sign", "gradient"])
@pytest.mark.parametrize("deviation", [0.3, 0.5, 1.0, 2.0, 5.0])
def test_the_best_factor_minimises_the_expected_square(kind, deviation):
    found: Any = optimize.minimize_scalar(
        lambda c: error(kind, deviation, c), bounds=(0, 1.5)
    )
    expected = dissecting_adam.factors(deviation)[kind]
    assert found.x == pytest.approx(float(expected), abs=1e-5)


def test_the_largest_gaps_are_those_of_an_optimiser():
    gap = lambda d: -abs(np.diff(list(dissecting_adam.factors(d).values())[:2])[0])  # noqa: E731
    found: Any = optimize.minimize_scalar(gap, bounds=(1, 4))
    height, place = dissecting_adam.largest_gap("adam")
    assert -found.fun == pytest.approx(height, abs=1e-8)
    assert found.x == pytest.approx(place, rel=1e-3)
    assert dissecting_adam.largest_gap("sign")[0] == 0


def test_samples_come_to_the_closed_forms():
    for deviation in (0.5, 2.0):
        expected = dissecting_adam.factors(deviation)
        for name, values in dissecting_adam.sampled(deviation).items():
            assert values.mean() == pytest.approx(float(expected[name]), abs=1.5e-3)


def test_adam_with_long_averages_takes_the_factor_that_is_said_to_be_adams():
    deviations = jnp.asarray([0.1, 0.5, 1.0, 2.0])
    rule = optimizers.Adam(b1=0.9998, b2=0.9998).build(1.0)

    @jax.jit
    def last(key):
        def step(state, key):
            grad = 1 + deviations * jax.random.normal(key, (4,))
            update, state = rule.update(grad, state)
            return state, update

        keys = jax.random.split(key, 20_000)
        return jax.lax.scan(step, rule.init(deviations), keys)[1][-1]

    expected = dissecting_adam.factors(np.asarray(deviations))["adam"]
    np.testing.assert_allclose(-last(jax.random.key(0)), expected, atol=0.03)


# Quadratics -------------------------------------------------------------------------------

QUADRATIC = NoisyQuadratic(dim=4, dtype="float64")
TINY = dissecting_adam.DissectingAdam(
    problem=QUADRATIC,
    optimizers=(optimizers.Averaging(), optimizers.Signum()),
    spectra=("condition 10", "two groups"),
    noises=("0", "shaped"),
    learning_rates=(0.03, 0.3),
    steps=25,
    seeds=2,
    selection_seeds=1,
)


@pytest.fixture(scope="module")
def ran():
    return {
        str(rule): dissecting_adam.run_cell(TINY, QUADRATIC, rule)[0].relative
        for rule in TINY.optimizers
    }


def by_hand(name, hessian, x, rate, cosine):
    """Relative loss by a NumPy loop in the eigenbasis or out of it."""
    begun, m, steps = x @ hessian @ x, np.zeros_like(x), TINY.steps
    for t in range(steps):
        m = 0.9 * m + 0.1 * hessian @ x
        fall = (1 + np.cos(np.pi * t / steps)) / 2 if cosine else 1.0
        move = m / (1 - 0.9 ** (t + 1)) if name == "Averaging" else np.sign(m)
        x = x - rate * fall * move
    return x @ hessian @ x / begun


@pytest.mark.parametrize("name", ["Averaging", "Signum"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_without_noise_is_that_of_a_loop(ran, name, schedule):
    from study import sweep

    with devices.precision("float64"):
        start = np.asarray(sweep.starts(QUADRATIC, (0, 1, 2))[0]["x"])[1]
        made = dissecting_adam.arrays(TINY, QUADRATIC)
    for i, spectrum in enumerate(TINY.spectra):
        for j, basis in enumerate(TINY.bases):
            at = {"seed": 1, "learning_rate": 1}
            kind = {"spectrum": spectrum, "basis": basis, "noise": "0"}
            found = ran[name].isel(at).sel(schedule=schedule, **kind)
            expected = by_hand(
                name,
                made["hessian"][i, j],
                made["basis"][j] @ start,
                0.3,
                schedule == "cosine",
            )
            assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_average_does_not_see_the_basis_and_its_sign_does(ran):
    aligned, rotated = (
        {name: found.sel(noise="0", basis=basis) for name, found in ran.items()}
        for basis in ("aligned", "rotated")
    )
    np.testing.assert_allclose(aligned["Averaging"], rotated["Averaging"], rtol=1e-9)
    difference = np.abs(np.log(aligned["Signum"].values / rotated["Signum"].values))
    assert np.median(difference) > 0.1


@pytest.mark.parametrize("spectrum", get_args(dissecting_adam.Spectrum))
def test_quadratics_have_the_eigenvalues_and_the_noise_that_are_named(spectrum):
    kinds = get_args(dissecting_adam.Noise)
    experiment = dataclasses.replace(TINY, spectra=(spectrum,), noises=kinds)
    problem = NoisyQuadratic(dim=20, dtype="float64")
    made = dissecting_adam.arrays(experiment, problem)
    expected = dissecting_adam.eigenvalues(spectrum, 20)
    assert (expected > 0).all()
    assert (np.diff(expected) < 0).all()
    for hessian in made["hessian"][0]:
        np.testing.assert_allclose(np.linalg.eigvalsh(hessian)[::-1], expected, atol=1e-12)
    np.testing.assert_allclose(made["noise"][0, -1], expected)
    np.testing.assert_allclose(made["noise"][0, :-1, 3], list(map(float, kinds[:-1])))
    if spectrum != "two groups":
        twin = dataclasses.replace(problem, condition=float(spectrum.split()[1]))
        np.testing.assert_allclose(expected, twin.eigenvalues())
        np.testing.assert_allclose(made["hessian"][0, 0], twin.data()["hessian"])


def test_each_kind_has_its_own_best_rate_from_the_last_seeds():
    """Seeds 0 and 1 are reported, and like the other rate."""
    values = np.ones((1, 3, 1, 2, 1, 1, 2))  # optimizer, seed, ..., basis, ..., rate
    values[0, 2, 0, 0, 0, 0, 0] = values[0, 2, 0, 1, 0, 0, 1] = 0.5
    values[0, :2, 0, 0, 0, 0, 1] = values[0, :2, 0, 1, 0, 0, 0] = 0.1
    axes = ("optimizer", "seed", *dissecting_adam.AXES.values())
    rates = {"learning_rate": [0.1, 1.0]}
    dataset = xr.Dataset({"relative": (axes, values)}, rates, {"reported_seeds": 2})
    found = dissecting_adam.condense(dataset)
    np.testing.assert_array_equal(found.rate.values.ravel(), [0.1, 1.0])
    assert found.relative.sizes["seed"] == 2
    assert (found.relative == 1).all()
    assert (found.at_edge == 1).all()


def test_what_both_halves_add_is_the_sum_of_their_effects(monkeypatch):
    drawn = np.random.default_rng(0).normal(size=(4, 6))
    names = ("Averaging", "Signum", "MSVAG", "Adam")
    given = dict(zip(names, drawn, strict=True))
    monkeypatch.setattr(
        dissecting_digits, "losses", lambda results, name, schedule: given[name]
    )
    none: Any = None
    found = dissecting_digits.effects(none, "Adam", "cosine")
    total = given["Adam"] - given["Averaging"]
    np.testing.assert_allclose(found["sign"] + found["shortening"], total)


# Sparse noise -----------------------------------------------------------------------------


def test_noise_is_in_the_first_elements_and_has_one_power(key):
    for noisy in (1, 4):
        problem = SparseNoise(dim=6, noise=3.0, noisy=noisy)
        params = problem.init(key)
        keys = jax.random.split(key, 20_000)
        grads = jax.vmap(
            lambda k, p=problem, x=params: jax.grad(p.loss)(x, p.sample({}, k))["w"]
        )(keys)
        noise = np.asarray(grads - params["w"][None])
        np.testing.assert_array_equal(noise[:, noisy:], 0)
        np.testing.assert_allclose(noise[:, :noisy].std(0), 3 / np.sqrt(noisy), rtol=0.03)


def test_sgd_on_sparse_noise_has_its_mean_in_closed_form():
    rate, steps, dim, noise = 0.05, 20, 5, 10.0
    experiment = sparse_noise.Sparse(
        problem=SparseNoise(dim=dim, noise=noise, dtype="float64"),
        optimizers=(optimizers.SGD(),),
        learning_rates=(rate,),
        horizons=(steps,),
        seeds=4000,
        selection_seeds=1,
    )
    dataset = sparse_noise.run_cell(experiment, experiment.problem, optimizers.SGD())[0]
    found = dataset.loss.sel(treatment="plain").values.mean()
    kept = (1 - rate) ** (2 * steps)
    stationary = rate**2 * noise**2 * (1 - kept) / (1 - (1 - rate) ** 2)
    assert found == pytest.approx((dim * kept + stationary) / 2, rel=0.06)


def test_clipping_cuts_each_element_to_the_limit():
    problem = SparseNoise(dim=8, noise=0.0, dtype="float64")
    experiment = sparse_noise.Sparse(
        problem=problem,
        optimizers=(optimizers.SGD(),),
        learning_rates=log_grid(-1, 0),
        horizons=(1, 5),
        limit=0.5,
        seeds=2,
        selection_seeds=1,
    )
    dataset = sparse_noise.run_cell(experiment, problem, optimizers.SGD())[0]
    from study import sweep

    with devices.precision("float64"):
        w = np.asarray(sweep.starts(problem, (0, 1, 2))[0]["w"])[0]
    for _ in range(5):
        w = w - 0.1 * np.clip(w, -0.5, 0.5)
    found = dataset.loss.sel(treatment="clipped", learning_rate=0.1, horizon=5)[0]
    assert float(found) == pytest.approx(w @ w / 2, rel=1e-12)
