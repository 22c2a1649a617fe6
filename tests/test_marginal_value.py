"""The one-sided labels of Wilson et al., against dense algebra and the lemma."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import marginal_value
from study import devices, optimizers, solutions
from study.problems import OneSidedLabels

SMALL = OneSidedLabels(samples=10, data_seed=1, dtype="float64")
SPEC = dataclasses.replace(
    marginal_value.DEFAULT, problem=SMALL, epsilons=(1e-8, 100.0), steps=3000, seeds=2
)


@functools.lru_cache
def end(rule):
    """Cosines and errors of a rule on two small draws."""
    found, _ = marginal_value.run_cell(SPEC, SMALL, rule)
    return found


def test_rows_are_those_of_the_generator():
    """y; two ones; five inputs of one's own, one or all of them 1."""
    rows, labels = SMALL.rows(), SMALL.data()["labels"]
    assert rows.shape == (20, 103)
    assert set(labels) == {-1.0, 1.0}
    for i, (x, y) in enumerate(zip(rows, labels, strict=True)):
        expected = np.zeros(103)
        expected[:3] = y, 1, 1
        expected[3 + 5 * i : 4 + 5 * i + (0 if y > 0 else 4)] = 1
        np.testing.assert_array_equal(x, expected)


def test_half_is_trained_on_and_most_labels_are_positive():
    data = OneSidedLabels(samples=2000).data()
    assert data["trained"].sum() == 2000
    assert (data["labels"] > 0).mean() == pytest.approx(0.6, abs=0.03)


def test_loss_gradient_and_errors_are_those_of_dense_algebra():
    data, rows = SMALL.data(), SMALL.rows()
    seen, labels = data["trained"] > 0, data["labels"]
    w = np.random.default_rng(0).normal(size=SMALL.inputs)
    residual = rows[seen] @ w - labels[seen]
    with jax.enable_x64(True):
        loss, grad = SMALL.slope({"w": jnp.asarray(w)}, data)
        errors = SMALL.evaluate(data, {"w": jnp.asarray(w)})
    assert float(loss) == pytest.approx(np.mean(residual**2), rel=1e-12)
    np.testing.assert_allclose(grad["w"], 2 / 10 * rows[seen].T @ residual, atol=1e-12)
    wrong = np.sign(rows @ w) != labels
    assert float(errors["train_error"]) == pytest.approx(wrong[seen].mean())
    assert float(errors["test_error"]) == pytest.approx(wrong[~seen].mean())


@pytest.mark.parametrize("draw", SPEC.draws(), ids=str)
def test_the_lemma(draw):
    """X sign(X^T y) = 4 y; that w fits, and calls every unseen sample positive."""
    assert marginal_value._one_sided(draw)
    rows, labels, seen, least, sign, _ = marginal_value.geometry(draw)
    np.testing.assert_array_equal(rows[seen] @ sign, 4 * labels[seen])
    assert (rows[~seen] @ sign > 0).all()
    np.testing.assert_allclose(rows[seen] @ least, labels[seen], atol=1e-12)
    np.testing.assert_array_equal(np.sign(rows[~seen] @ least), labels[~seen])


def test_draws_have_one_sided_training_labels():
    draws = marginal_value.DEFAULT.draws()
    assert len({draw.data_seed for draw in draws}) == len(draws) == 10
    sums = [draw.data()["labels"] @ draw.data()["trained"] for draw in draws]
    assert min(sums) > 0
    skipped = set(range(draws[-1].data_seed)) - {draw.data_seed for draw in draws}
    for seed in skipped:
        data = dataclasses.replace(draws[0], data_seed=seed).data()
        assert data["labels"] @ data["trained"] <= 0


@pytest.mark.parametrize(
    "rule", [optimizers.SGD(), optimizers.NovoGrad(), optimizers.NormalisedGD()], ids=str
)
def test_rules_in_the_span_end_at_least_length(rule):
    assert (end(rule).least > 1 - 1e-9).all()
    assert (end(rule).outside < 1e-9).all()
    assert (end(rule).test_error == 0).all()


@pytest.mark.parametrize("rule", [optimizers.Adam(), optimizers.SignDescent()], ids=str)
def test_rules_by_element_end_along_the_sign(rule):
    assert (end(rule).sign > 1 - 1e-6).all()
    np.testing.assert_array_equal(end(rule).test_error, end(rule).negative)


def test_the_dial_is_adam_at_its_epsilon_and_averaged_sgd_far_above():
    found = end(optimizers.Adam())
    np.testing.assert_allclose(found.dial_sign.sel(eps=1e-8), found.sign, atol=1e-9)
    assert (found.dial_least.sel(eps=100.0) > 0.999).all()
    other = end(optimizers.SGD())
    assert np.isnan(other.dial_sign).all()


def test_sgd_is_gradient_descent_in_numpy():
    draw = SPEC.draws()[0]
    rows, labels, seen, *_ = marginal_value.geometry(draw)
    x, y = rows[seen], labels[seen]
    w = np.zeros(draw.inputs)
    for _ in range(30):
        w -= 0.1 * 2 / len(y) * x.T @ (x @ w - y)
    spec = dataclasses.replace(SPEC, steps=30)
    with devices.precision("float64"):
        found = marginal_value._paths(
            spec, [draw], optimizers.SGD(), (10, 30), [np.zeros(1, int)]
        )
    np.testing.assert_allclose(found[0, -1], w, atol=1e-13)


def test_the_lowest_test_loss_is_that_of_the_best_multiple_of_the_sign():
    """On multiples of sign(X^T y) an unseen x.w is 3 or 1 of them, by its label."""
    draw = SPEC.draws()[0]
    _, labels, seen, _, sign, _ = marginal_value.geometry(draw)
    sizes, share = np.linspace(0, 1, 1001), (labels[~seen] < 0).mean()
    losses = (1 - share) * (3 * sizes - 1) ** 2 + share * (sizes + 1) ** 2
    found = marginal_value._lowest(draw, sizes[:, None] * sign)
    assert found == pytest.approx(losses.min(), rel=1e-12)
    assert found == pytest.approx(marginal_value.lowest_on_sign(share), abs=1e-5)


def test_least_length_is_that_of_the_gram_matrix():
    draw = SPEC.draws()[0]
    rows, labels, seen, least, *_ = marginal_value.geometry(draw)
    x, y = rows[seen], labels[seen]
    np.testing.assert_allclose(least, x.T @ np.linalg.solve(x @ x.T, y), atol=1e-12)
    np.testing.assert_array_equal(least, solutions.minimum_norm(x, y))


def test_rates_of_the_dial_meet_adams():
    assert marginal_value.rate_of(optimizers.Adam()) == pytest.approx(0.01)
    assert marginal_value.rate_of(optimizers.Adam(eps=1.0)) == pytest.approx(0.11)
    assert marginal_value.rate_of(optimizers.Adagrad()) == 0.05
    assert marginal_value.rate_of(optimizers.Lion()) == 0.01
