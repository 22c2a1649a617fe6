import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study import claims, statistics
from study.claims import Prediction
from study.statistics import Estimate

VALUES = arrays(np.float64, 9, elements=st.floats(-1e6, 1e6))


def test_the_smallest_median_is_selected():
    found = statistics.select(np.array([[3.0, 3, 0], [1, 2, 9], [5, 5, 5]]))
    assert (found.place, found.at_edge, found.found) == (1, False, True)
    np.testing.assert_array_equal(found.objective, [3, 2, 5])


def test_what_is_not_finite_is_the_worst_and_never_chosen():
    found = statistics.select(np.array([[np.nan, np.nan], [2, 2], [-np.inf, np.inf]]))
    assert found.place == 1
    assert found.objective[0] == np.inf


def test_a_best_value_at_the_edge_says_so():
    assert statistics.select(np.array([[1.0], [2], [3]])).at_edge
    assert not statistics.select(np.array([[1.0]])).at_edge


def test_nothing_is_selected_where_all_diverged():
    found = statistics.select(np.full((3, 2), np.nan))
    assert not found.found
    assert not found.at_edge


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_the_interval_holds_the_median_and_moves_with_the_values(values):
    one = statistics.bootstrap(values)
    assert one.low <= one.value <= one.high
    assert values.min() <= one.low
    assert one.high <= values.max()
    shifted = statistics.bootstrap(values + 1)
    np.testing.assert_allclose(shifted.low, one.low + 1, rtol=1e-9, atol=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = sum(
        found.low <= 0 <= found.high
        for found in (statistics.bootstrap(rng.normal(size=25)) for _ in range(300))
    )
    assert 0.90 <= hits / 300 <= 0.99


def test_a_nan_makes_the_estimate_nan_and_an_inf_does_not():
    assert math.isnan(statistics.bootstrap(np.array([1.0, np.nan, 2.0])).value)
    some = statistics.bootstrap(np.array([1.0, 2.0, np.inf]))
    assert some.value == 2
    assert some.high == np.inf


def test_pairing_removes_what_the_pairs_share():
    shared = np.random.default_rng(0).normal(scale=100, size=10)
    found = statistics.paired(shared + 1, shared)
    np.testing.assert_allclose(found[:3], 1)


def test_late_is_the_last_quarter():
    values = np.arange(8.0)[None]
    assert statistics.late(values) == 6.5
    assert statistics.late(values[:, :1]) == 0


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(5, 4, 6, 10), claims.HOLDS),
        (Estimate(3, 2, 4, 10), claims.OPEN),
        (Estimate(2, 1, 2.5, 10), claims.FAILS),
        (Estimate(12, 11, 13, 10), claims.FAILS),
        (Estimate(5, 2, 13, 10), claims.OPEN),
        (Estimate(math.nan, math.nan, math.nan, 10), claims.UNDEFINED),
    ],
)
def test_a_verdict_compares_the_interval_with_the_threshold(estimate, verdict):
    prediction = Prediction("", "", lambda results: estimate, at_least=3, at_most=10)
    (found,) = claims.judge([prediction], None)  # type: ignore[arg-type]
    assert found.verdict == verdict
    assert claims.as_json([found])[0]["at_least"] == 3


def test_a_prediction_about_an_absent_rule_is_undefined():
    def measure(results):
        raise KeyError("Lion")

    (found,) = claims.judge([Prediction("", "", measure)], None)  # type: ignore[arg-type]
    assert found.verdict == claims.UNDEFINED
