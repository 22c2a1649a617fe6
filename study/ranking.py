"""Who is better, and how sure is that: pairs, ranks, profiles, tuning budgets.

Everywhere smaller is better and a run that is not finite is the worst. NumPy and SciPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from study import statistics
from study.statistics import Estimate


class Pair(NamedTuple):
    """Two rules on the same seeds.

    Attributes:
        p: two-sided, of Wilcoxon's signed-rank test (1945); with n seeds at least 2 / 2^n.
        effect: the matched-pairs rank-biserial correlation (Kerby 2014,
            doi:10.2466/11.IT.3.1) in [-1, 1]: the share of rank sums that favours the
            first rule less the share that favours the second; -1: first smaller always.
    """

    p: float
    effect: float


def pair(first: np.ndarray, second: np.ndarray) -> Pair:
    """Compares the values [seed] of two rules; NaN p where nothing differs."""
    from scipy import stats

    a, b = statistics.worst(first), statistics.worst(second)
    with np.errstate(invalid="ignore"):
        differences = np.where(a == b, 0.0, a - b)  # two that never end differ by nothing
    differences = differences[differences != 0]
    if not differences.size:
        return Pair(float("nan"), 0.0)
    ranks = stats.rankdata(np.abs(differences))
    effect = float((ranks * np.sign(differences)).sum() / ranks.sum())
    found: Any = stats.wilcoxon(differences)
    return Pair(float(found.pvalue), effect)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (1979) of a family of tests, at most 1; NaN stays apart.

    The chance that any true hypothesis is rejected at level alpha is alpha at most,
    however the tests depend on each other.
    """
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def ranks(values: np.ndarray, seed: int = 0) -> list[Estimate]:
    """The rank of each rule's median, from 1, with its bootstrap interval.

    Args:
        values: [rule, seed], paired: seeds are resampled for all rules together.
        seed: of the resampling.
    """
    from scipy import stats

    values = statistics.worst(values)
    rng = np.random.default_rng(seed)
    count = values.shape[1]
    picks = rng.integers(0, count, (statistics.RESAMPLES, count))
    found = stats.rankdata(np.median(values[:, picks], axis=-1), axis=0)
    tail = 100 * (1 - statistics.LEVEL) / 2
    low, high = np.percentile(found, (tail, 100 - tail), axis=1)
    own = stats.rankdata(np.median(values, axis=1))
    return [
        Estimate(float(a), float(b), float(c), count)
        for a, b, c in zip(own, low, high, strict=True)
    ]


def profile(costs: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Performance profile of Dolan & More (2002), arXiv:cs/0102001.

    Args:
        costs: [instance, rule], positive; inf where the rule never arrives.
        factors: [factor], at least 1.

    Returns:
        The share of instances that a rule solves within a factor of the best rule's cost,
        [factor, rule]. An instance that no rule solves counts for none.
    """
    costs = np.asarray(costs, np.float64)
    best = costs.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isfinite(costs), costs / best, np.inf)
    return (ratios[None] <= np.asarray(factors)[:, None, None]).mean(axis=1)


def expected_best(values: np.ndarray) -> np.ndarray:
    """The expected smallest of k of these trials drawn without replacement, k = 1, ..., n.

    After Dodge et al. (2019), arXiv:1909.03004, who draw with replacement: here k = n is
    the best trial itself.

    Args:
        values: [trial], finite: a trial that diverged is to be given the value of no
            training at all.

    Returns:
        [k].
    """
    from scipy.special import comb

    values = np.sort(np.asarray(values, np.float64))
    n = len(values)
    k, place = np.arange(1, n + 1)[:, None], np.arange(n)[None]
    return (comb(n - 1 - place, k - 1) / comb(n, k)) @ values


def correlation(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Estimate:
    """Spearman's rank correlation over units, with a bootstrap interval over them.

    Args:
        x: [unit].
        y: [unit]; inf is the largest.
        seed: of the resampling. Resamples without variation are left out.

    Returns:
        NaN where x or y does not vary.
    """
    from scipy import stats

    x, y = np.asarray(x, np.float64), statistics.worst(y)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(x), (statistics.RESAMPLES, len(x)))

    def rho(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1)
        a, b = (r - r.mean(-1, keepdims=True) for r in (a, b))
        with np.errstate(invalid="ignore"):
            return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))

    tail = 100 * (1 - statistics.LEVEL) / 2
    own, found = float(rho(x, y)), rho(x[picks], y[picks])
    if np.isnan(own):
        return Estimate(own, own, own, len(x))
    low, high = np.percentile(found[np.isfinite(found)], (tail, 100 - tail))
    return Estimate(own, float(low), float(high), len(x))
