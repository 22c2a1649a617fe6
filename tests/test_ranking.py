"""Comparisons on synthetic runs whose answer is known."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from study import ranking


def test_a_rule_that_is_better_on_every_seed():
    values = np.random.default_rng(0).normal(size=12)
    found = ranking.pair(values - 1, values)
    assert found.p == pytest.approx(2 / 2**12)
    assert found.effect == -1
    assert ranking.pair(values, values - 1).effect == 1


def test_equal_runs_differ_by_nothing_and_divergence_is_the_worst():
    inf = np.array([np.inf, np.nan, 1.0])
    assert ranking.pair(inf, inf).effect == 0
    assert np.isnan(ranking.pair(inf, inf).p)
    assert ranking.pair(np.ones(3), np.array([np.nan, np.inf, 2.0])).effect == -1


def test_the_effect_is_the_difference_of_rank_sums():
    differences = np.array([3.0, -1.0, 2.0, -4.0])  # ranks 3, 1, 2, 4
    found = ranking.pair(differences, np.zeros(4))
    assert found.effect == pytest.approx((3 + 2 - 1 - 4) / 10)


def test_holm_by_hand_and_by_its_definition():
    np.testing.assert_allclose(
        ranking.holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan]
    )
    p = np.random.default_rng(1).random(20) ** 3
    adjusted, order = ranking.holm(p), np.argsort(p)
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for i, place in enumerate(order):  # step down until one stays
            if p[place] > alpha / (len(p) - i):
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected


def test_holm_keeps_its_level():
    rng = np.random.default_rng(2)

    def rejects() -> bool:
        p = [ranking.pair(row, np.zeros(12)).p for row in rng.normal(size=(6, 12))]
        return bool((ranking.holm(np.array(p)) <= 0.05).any())

    share = np.mean([rejects() for _ in range(200)])
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_ranks_of_runs_far_apart_are_certain_and_of_equal_ones_are_not():
    rng = np.random.default_rng(3)
    apart = np.arange(3)[:, None] * 100 + rng.normal(size=(3, 10))
    assert [tuple(r)[:3] for r in ranking.ranks(apart)] == [(k, k, k) for k in (1, 2, 3)]
    same = ranking.ranks(rng.normal(size=(3, 10)))
    assert max(r.high - r.low for r in same) >= 1
    diverged = ranking.ranks(np.stack([np.full(5, np.nan), np.ones(5)]))
    assert [r.value for r in diverged] == [2, 1]


def test_a_profile_by_hand():
    costs = np.array([[1.0, 2.0], [4.0, 1.0], [3.0, np.inf], [np.inf, np.inf]])
    np.testing.assert_allclose(
        ranking.profile(costs, np.array([1.0, 2.0, 4.0])),
        [[0.5, 0.25], [0.5, 0.5], [0.75, 0.5]],
    )


def test_the_expected_best_is_the_mean_over_all_subsets():
    values = np.random.default_rng(4).random(6)
    for k, expected in enumerate(ranking.expected_best(values), start=1):
        chosen = [min(subset) for subset in itertools.combinations(values, k)]
        assert expected == pytest.approx(np.mean(chosen))


def test_the_rank_correlation_is_scipys_and_knows_its_sign():
    x = np.random.default_rng(5).normal(size=12)
    y = x + np.random.default_rng(6).normal(size=12)
    found = ranking.correlation(x, y)
    oracle: Any = stats.spearmanr(x, y)
    assert found.value == pytest.approx(oracle.statistic)
    assert found.low < found.value < found.high
    perfect = ranking.correlation(x, np.where(x > x.max() - 1e-9, np.inf, -x * 2 + 9))
    assert perfect.value < 0
    assert ranking.correlation(x, np.exp(x))[:3] == pytest.approx((1, 1, 1))
    assert np.isnan(ranking.correlation(x, np.ones(12))).sum() == 3


def test_the_interval_of_the_rank_correlation_covers():
    rng, rho = np.random.default_rng(7), 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # of a bivariate normal
    inside = []
    for _ in range(200):
        x = rng.normal(size=20)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=20)
        found = ranking.correlation(x, y)
        inside.append(found.low <= truth <= found.high)
    assert 0.87 <= np.mean(inside) <= 0.99
