"""Closed forms of bigram training against plain loops."""

import jax
import numpy as np
import pytest

from experiments import zipf
from study.problems import Bigrams

PROBLEM = Bigrams(words=7, exponent=1.3, dtype="float64")


def losses_of_a_loop(problem, step, count):
    pi, targets = problem.frequencies()
    w, found = np.zeros_like(targets), []
    for _ in range(count):
        w = w - step(pi[:, None] * (w - targets))
        found.append(np.sum(pi * np.square(w - targets).sum(1)))
    return np.array(found) / np.sum(pi * np.square(targets).sum(1))


@pytest.mark.parametrize("corpus", ["", "synthetic"])
def test_gradient_descent_is_its_closed_form(corpus):
    problem = Bigrams(words=7, corpus=corpus, dtype="float64")
    pi, _ = problem.frequencies()
    expected = losses_of_a_loop(problem, lambda g: g / pi.max(), 30)
    made = zipf.rows(problem)
    np.testing.assert_allclose([made.of_gradient(t + 1) for t in range(30)], expected)


@pytest.mark.parametrize("rate", [0.013, 0.2, 0.7])
@pytest.mark.parametrize("corpus", ["", "synthetic"])
def test_sign_descent_walks_and_swings_as_its_closed_form(corpus, rate):
    problem = Bigrams(words=7, corpus=corpus, dtype="float64")
    expected = losses_of_a_loop(problem, lambda g: rate * np.sign(g), 30)
    made = zipf.rows(problem)
    found = [made.at_rate(t + 1, rate) for t in range(30)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_prefix_sums_are_the_sum_over_elements():
    made, pi = zipf.rows(PROBLEM), PROBLEM.law()
    for t in (1, 5, 40):
        expected = []
        for rate in zipf.RATES * pi.max() / t:
            away = np.where(pi > rate * t, pi - rate * t, rate / 2)
            expected.append(np.sum(away**2) / np.sum(pi**2))
        assert made.of_sign(t) == pytest.approx(min(expected), rel=1e-9)


def test_an_even_number_of_steps_can_pass_for_arrival():
    """Why two steps in a row are asked for: one swing back is no progress."""
    made = zipf.rows(Bigrams(words=1000, exponent=2.0))
    half = made.targets[0] / 2
    assert made.at_rate(2, half) < 0.1
    assert made.at_rate(3, half) > 10
    assert made.of_swings(2) > 0.5


def test_the_search_finds_the_first_step():
    assert zipf.steps_to(lambda t: 1 / t, 0.1) == 10
    assert zipf.steps_to(lambda t: 0.95**t, 0.5) == 14
    assert zipf.steps_to(lambda t: 0.0, 0.5) == 1
    assert zipf.steps_to(lambda t: 1.0, 0.5) == np.inf


def test_bigrams_of_a_text_are_counts():
    pi, successors = Bigrams(words=20, corpus="synthetic").frequencies()
    assert pi.sum() == pytest.approx(1)
    np.testing.assert_allclose(successors.sum(1), 1)
    assert np.all(pi > 0)


def test_the_gradient_is_that_of_the_closed_form(key):
    pi, targets = PROBLEM.frequencies()
    with jax.enable_x64(True):
        w = np.random.default_rng(0).normal(size=targets.shape)
        found = jax.grad(PROBLEM.loss)({"W": jax.numpy.asarray(w)}, (pi, targets))["W"]
        np.testing.assert_allclose(found, pi[:, None] * (w - targets), rtol=1e-12)
