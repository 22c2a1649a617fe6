"""Sign descent on turned bowls: smoothness, closed forms, and steps counted in NumPy."""

import dataclasses
import itertools

import numpy as np
import pytest
import xarray as xr

from experiments import sign_geometry
from study.errors import UserError
from study.problems import NoisyQuadratic

SMALL = dataclasses.replace(
    sign_geometry.DEFAULT,
    wide=NoisyQuadratic(dim=4, noise=0.0, dtype="float64"),
    angles=(0.0, 30.0, 45.0),
    haar=1,
    conditions=(10.0, 30.0),
    factors=(1.0, 1.5),
    starts=3,
    selection_starts=1,
)


def turned(dim, angle, kappa):
    problem = NoisyQuadratic(dim=dim, condition=kappa, rotation=angle, noise=0.0)
    basis = problem.basis()
    return (basis * problem.eigenvalues()) @ basis.T, basis


def descend(hessian, x, step, tolerance):
    """Steps, mean density of the gradients, losses [step], of x <- x + step(g)."""
    height = lambda x: x @ hessian @ x / 2  # noqa: E731
    target, count, densities, losses = tolerance * height(x), 0, [], []
    while height(x) > target:
        g = hessian @ x
        losses.append((height(x), g))
        densities.append(np.abs(g).sum() ** 2 / len(g) / (g @ g))
        x, count = x + step(g), count + 1
    return count, np.mean(densities), losses


@pytest.mark.parametrize("angle", [0.0, 10.0, 30.0, 45.0, 70.0])
def test_the_max_norm_sees_turned_planes_as_in_closed_form(angle):
    """L_inf is the trace plus sin(2 angle) times the differences within the planes."""
    hessian, _ = turned(6, angle, 100.0)
    values = np.geomspace(1, 0.01, 6)
    inside = np.sum(np.abs(values[:3] - values[:2:-1]))
    two, most = sign_geometry.smoothness(hessian)
    assert two == pytest.approx(1, rel=1e-12)
    expected = values.sum() + np.sin(np.radians(2 * angle)) * inside
    assert most == pytest.approx(expected, rel=1e-12)


def test_the_max_norm_tries_every_sign_vector():
    random = np.random.default_rng(0)
    root = random.normal(size=(5, 5))
    hessian = root @ root.T
    signs = map(np.array, itertools.product((1, -1), repeat=5))
    expected = max(s @ hessian @ s for s in signs)
    assert sign_geometry.smoothness(hessian)[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kappa", [10.0, 100.0])
def test_on_the_axes_signs_contract_as_gradient_descent_at_its_best_rate(kappa):
    """By (kappa - 1) / (kappa + 1) a step, where g / L_2 has 1 - 1 / kappa."""
    hessian, _ = turned(2, 0.0, kappa)
    x, heights = np.array([1.0, 0.7]), []
    for _ in range(300):
        heights.append(x @ hessian @ x / 2)
        g = hessian @ x
        x = x - np.abs(g).sum() / (1 + 1 / kappa) * np.sign(g)
    rate = (heights[-1] / heights[100]) ** (1 / 398)
    assert rate == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-6)


@pytest.fixture(scope="module")
def cells():
    """Records and starts by dimension and rule."""
    from study import devices, sweep

    found = {}
    for dim, problem in zip((2, 4), SMALL.problems, strict=True):
        with devices.precision("float64"):
            begin = np.asarray(sweep.starts(problem, (0, 1, 2, 3))[0]["x"])
        for rule in SMALL.optimizers:
            records, _ = sign_geometry.run_cell(SMALL, problem, rule)
            found[dim, str(rule)] = records, begin
    return found


@pytest.mark.parametrize("dim", [2, 4])
@pytest.mark.parametrize("name", ["SGD", "RescaledSignDescent"])
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_steps_and_densities_are_those_of_a_loop_in_numpy(cells, dim, name, factor):
    records, begin = cells[dim, name]
    for angle, kappa in itertools.product((0.0, 30.0), (10.0, 30.0)):
        hessian, basis = turned(dim, angle, kappa)
        two, most = sign_geometry.smoothness(hessian)

        def step(g, two=two, most=most):
            if name == "SGD":
                return -factor * g / two
            return -factor * np.abs(g).sum() / most * np.sign(g)

        at = records.sel(basis=f"{angle:g}", condition=kappa)
        for start in range(4):
            count, density, seen = descend(hessian, basis @ begin[start], step, 1e-6)
            assert int(at.steps.sel(factor=factor).isel(target=0)[start]) == count
            if factor == 1:
                deep, *_ = descend(hessian, basis @ begin[start], step, 1e-15)
                assert int(at.steps.sel(factor=1).isel(target=1)[start]) == deep
                assert float(at.density[start]) == pytest.approx(density, rel=1e-6)
                guaranteed = [
                    g @ g / two / 2 / f
                    if name == "SGD"
                    else np.abs(g).sum() ** 2 / most / 2 / f
                    for f, g in seen
                ]
                share = np.mean(guaranteed)
                assert float(at.share[start]) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("dim", [2, 4])
def test_gradient_descent_does_not_see_the_rotation(cells, dim):
    steps = cells[dim, "SGD"][0].steps.values
    assert np.ptp(steps, axis=0).max() <= 1


@pytest.mark.parametrize("dim", [2, 4])
@pytest.mark.parametrize(
    ("name", "norm"), [("SGD", "two"), ("RescaledSignDescent", "most")]
)
def test_every_run_ends_when_its_smoothness_says(cells, dim, name, norm):
    """ln(1e6) L / mu steps, mu = 1 / kappa, by the Polyak-Lojasiewicz inequality."""
    records = cells[dim, name][0].sel(factor=1)
    for target, tolerance in enumerate((1e-6, 1e-15)):
        bound = np.ceil(-np.log(tolerance) * records[norm] * records.condition)
        steps = records.steps.isel(target=target)
        assert (steps >= 1).all()
        assert (steps <= bound).all()


def test_at_45_degrees_signs_are_gradient_descent_in_the_eigenbasis(cells):
    steps = [cells[2, name][0].steps.sel(basis="45", factor=1) for name in
             ("SGD", "RescaledSignDescent")]  # fmt: skip
    assert abs(steps[0] - steps[1]).max() <= 2


def test_factors_are_selected_on_starts_that_are_not_reported():
    """Two starts are reported, three select, where the lowest median is a gamble."""
    dims = ("optimizer", "basis", "condition", "factor", "start", "target")
    first = [[9, 8, 2, 2, 9], [1, -1, 5, 6, 6], [7, 6, 3, 8, 7]]
    steps = np.stack([first, [[99] * 5, [88] * 5, [77] * 5]], axis=-1)
    pair = (("optimizer", "basis", "condition"), np.ones((1, 1, 1)))
    found = sign_geometry.condense(
        xr.Dataset(
            {
                "steps": (dims, steps[None, None, None]),
                "density": ((*dims[:3], "start"), np.ones((1, 1, 1, 5))),
                "share": ((*dims[:3], "start"), np.ones((1, 1, 1, 5))),
                "two": pair,
                "most": pair,
            },
            {
                "optimizer": ["SGD"],
                "basis": ["0"],
                "condition": [10.0],
                "factor": [0.5, 1, 1.5],
            },
            {"reported": 2, "problem": "P"},
        )
    ).isel(optimizer=0, basis=0, condition=0)
    assert found.choice.values.tolist() == ["one", "best", "safe", "deep"]
    assert found.steps.values.tolist() == [[1, np.inf], [9, 8], [1, np.inf], [88, 88]]
    assert found.factor.values.tolist() == [1, 0.5, 1, 1]
    assert found.at_edge.values.tolist() == [0, 1, 0, 0]


def test_medians_are_compared_and_starts_stay_in_pairs():
    """Medians 10 and 10, of ratios 0.1, 10 and 2; a fixed ratio has no interval."""
    steps = np.array([[1.0, 10.0, 100.0], [10.0, 1.0, 50.0]])
    value, low, high, n = sign_geometry.of_medians(steps)
    assert (value, n) == (1, 3)
    assert low < 1 < high
    steps = np.stack([2 * steps[0], steps[0]])
    assert sign_geometry.of_medians(steps) == (2, 2, 2, 3)


def test_only_its_two_rules_and_a_factor_of_one():
    from study import optimizers

    with pytest.raises(UserError, match="SGD and RescaledSignDescent"):
        dataclasses.replace(SMALL, optimizers=(optimizers.Adam(),))
    with pytest.raises(UserError, match="factors"):
        dataclasses.replace(SMALL, factors=(1.5,))
