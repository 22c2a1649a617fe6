"""Reference solutions against optimality conditions, duality and closed forms."""

import numpy as np
import pytest
from scipy import optimize

from study import solutions
from study.errors import UserError
from study.problems import LogisticRegression

SEEDS = (0, 1, 2)


def drawn(seed):
    problem = LogisticRegression(
        samples=12, inputs=20, spread=1.0, labels="random", data_seed=seed
    )
    return problem.rows()


def positive(seed, size=5):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return a @ a.T + 0.1 * np.eye(size)


@pytest.mark.parametrize("norm", solutions.NORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_largest_margin_is_the_dual_length_of_the_shortest_combination(norm, seed):
    """max over |w| = 1 of min x.w = min over weights on the simplex of |sum a x|_dual."""
    rows = drawn(seed)
    found = solutions.max_margin(rows, norm)
    length = np.linalg.norm(found.direction, solutions.ORDERS[norm])
    assert length == pytest.approx(1)
    assert (rows @ found.direction).min() == pytest.approx(found.value, rel=1e-12)
    shortest = shortest_by_slsqp if norm == "l2" else shortest_by_programme
    assert shortest(rows, norm) == pytest.approx(found.value, rel=1e-6)


def shortest_by_slsqp(rows, norm):
    """min |a.rows|_2 over the simplex."""
    assert norm == "l2"
    n = len(rows)
    found = optimize.minimize(
        lambda a: np.sum((a @ rows) ** 2),
        np.full(n, 1 / n),
        jac=lambda a: 2 * rows @ (a @ rows),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return np.sqrt(found.fun)


def shortest_by_programme(rows, norm):
    """min over the simplex of |a.rows|_1 (for linf) or its largest element (for l1)."""
    n, d = rows.shape
    spread = np.eye(d) if norm == "linf" else np.ones((d, 1))
    bounds = spread.shape[1]
    cost = np.r_[np.zeros(n), np.ones(bounds)]
    left = np.block([[rows.T, -spread], [-rows.T, -spread]])
    total = np.r_[np.ones(n), np.zeros(bounds)][None]
    return optimize.linprog(cost, left, np.zeros(2 * d), total, [1.0]).fun


@pytest.mark.parametrize("seed", SEEDS)
def test_the_l2_separator_satisfies_karush_kuhn_tucker(seed):
    """It is a non-negative combination of the rows nearest to it."""
    rows = drawn(seed)
    found = solutions.max_margin(rows, "l2")
    near = rows[rows @ found.direction < found.value * (1 + 1e-9)]
    weights, left = optimize.nnls(near.T, found.direction)
    assert left < 1e-9
    assert weights.sum() == pytest.approx(1 / found.value)


@pytest.mark.parametrize("norm", solutions.NORMS)
def test_no_direction_of_many_beats_it_and_each_norm_has_its_own(norm):
    rows = drawn(0)
    best = {other: solutions.max_margin(rows, other) for other in solutions.NORMS}
    near = best[norm].direction + np.random.default_rng(0).normal(
        size=(2000, rows.shape[1])
    ) * np.logspace(-4, 0, 2000)[:, None] / np.sqrt(rows.shape[1])
    tried = solutions.margin(rows, near, norm)
    assert tried.max() <= best[norm].value * (1 + 1e-9)
    assert tried.max() > 0.99 * best[norm].value
    for other in set(solutions.NORMS) - {norm}:
        ratio = solutions.margin(rows, best[other].direction, norm) / best[norm].value
        assert ratio < 0.99


def test_closed_forms_of_two_rows():
    """The hull of (1, 0) and (1, 2) is nearest to 0 at (1, 0)."""
    rows = np.array([[1.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(solutions.max_margin(rows, "l2").direction, [1, 0])
    assert solutions.max_margin(rows, "linf").value == pytest.approx(1)
    wide = np.array([[2.0, 0.0], [0.0, 1.0]])
    l2, cross = (solutions.max_margin(wide, norm) for norm in ("l2", "l1"))
    np.testing.assert_allclose(l2.direction, np.array([1, 2]) / np.sqrt(5))
    np.testing.assert_allclose(cross.direction, [1 / 3, 2 / 3])
    assert cross.value == pytest.approx(2 / 3)
    assert np.isnan(solutions.margin(wide, np.zeros(2), "l2"))
    np.testing.assert_allclose(solutions.margin(wide, np.eye(2), "linf"), [0, 0])


@pytest.mark.parametrize("norm", solutions.NORMS)
def test_what_cannot_be_separated_is_refused(norm):
    with pytest.raises(UserError, match="separates"):
        solutions.max_margin(np.array([[1.0, 0.5], [-1.0, -0.5]]), norm)


def test_the_minimum_norm_solution_fits_and_is_a_combination_of_rows():
    x, y = drawn(0), np.random.default_rng(1).normal(size=12)
    w = solutions.minimum_norm(x, y)
    np.testing.assert_allclose(x @ w, y, atol=1e-10)
    np.testing.assert_allclose(w, x.T @ np.linalg.solve(x @ x.T, y), atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_ridge_and_box_are_stationary(seed):
    hessian, optimum = positive(seed), np.random.default_rng(seed).normal(size=5)
    w = solutions.ridge(hessian, optimum, 0.3)
    np.testing.assert_allclose(hessian @ (w - optimum) + 0.3 * w, 0, atol=1e-10)
    w = solutions.box_minimum(hessian, optimum, 0.5)
    slope = hessian @ (w - optimum)
    assert np.abs(w).max() <= 0.5
    inside = np.abs(w) < 0.5 - 1e-9
    assert 0 < inside.sum() < 5
    np.testing.assert_allclose(slope[inside], 0, atol=1e-9)
    assert (slope * np.sign(w))[~inside].max() <= 1e-9
    np.testing.assert_allclose(solutions.box_minimum(hessian, optimum, 9.0), optimum)


def test_ridge_and_box_of_the_two_by_two_example():
    """H [[2, .8], [.8, 1]], optimum (3, -2): at w_1 = 1, w_2 = -2 + .8 (3 - 1)."""
    hessian, optimum = np.array([[2, 0.8], [0.8, 1]]), np.array([3.0, -2.0])
    np.testing.assert_allclose(solutions.box_minimum(hessian, optimum, 1.0), [1, -0.4])
    found = solutions.ridge(hessian, optimum, 1.0)
    np.testing.assert_allclose(found, [1.58209, -0.43284], atol=1e-5)


@pytest.mark.parametrize("norm", solutions.NORMS)
def test_a_margin_scales_with_its_rows_however_small_they_are(norm):
    plain, tiny = (solutions.max_margin(s * drawn(0), norm) for s in (1.0, 1e-12))
    assert tiny.value == pytest.approx(1e-12 * plain.value, rel=1e-6)
