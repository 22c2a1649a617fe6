"""Statistics of stored arrays: selection, intervals, paired differences. NumPy only.

A run that left the finite numbers is data: selection counts it as the worst, medians see
it as such, and shares of such runs are reported; it is never dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value with its interval, and the number of independent units behind it."""

    value: float
    low: float
    high: float
    n: int


def exact(value: float, n: int = 1) -> Estimate:
    """What has no chance in it, or holds for all of `n` units: its own interval."""
    return Estimate(float(value), float(value), float(value), n)


class Selection(NamedTuple):
    """The selected learning rate.

    Attributes:
        place: on the grid; 0 where nothing could be selected.
        objective: [learning_rate], the median over selection seeds, inf if not finite.
        at_edge: the best value lies at an end of the grid, so a better one may lie beyond.
        found: some run stayed finite.
    """

    place: int
    objective: np.ndarray
    at_edge: bool
    found: bool


def select(objective: np.ndarray) -> Selection:
    """The rate with the smallest median over seeds.

    Args:
        objective: [learning_rate, seed], smaller is better; non-finite is the worst.

    >>> found = select(np.array([[3.0, 2.0], [1.0, 1.2], [np.inf, 0.1]]))
    >>> found.place, found.at_edge
    (1, False)
    """
    medians = np.median(worst(objective), axis=1)
    place = int(np.argmin(medians))
    found = bool(np.isfinite(medians[place]))
    at_edge = len(medians) > 1 and place in (0, len(medians) - 1)
    return Selection(place, medians, found and at_edge, found)


def worst(values: np.ndarray) -> np.ndarray:
    """`values` as float64 with inf in place of what is not finite."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values, np.inf)


def bootstrap(values: np.ndarray, seed: int = 0) -> Estimate:
    """The median over units with its percentile bootstrap interval.

    Args:
        values: [unit]; a NaN makes the estimate NaN, for nothing is dropped.
        seed: of the resampling.

    >>> bootstrap(np.array([1.0, 2.0, 4.0]))
    Estimate(value=2.0, low=1.0, high=4.0, n=3)
    """
    values = np.asarray(values, np.float64).ravel()
    if values.size == 0 or np.isnan(values).any():
        return Estimate(np.nan, np.nan, np.nan, values.size)
    low, high = band(values[:, None], seed)
    return Estimate(float(np.median(values)), float(low[0]), float(high[0]), values.size)


def band(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap limits of the median over the first axis.

    Args:
        values: [unit, ...]; all positions are resampled together.
        seed: of the resampling.

    Returns:
        Lower and upper limits [...].
    """
    values = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), (RESAMPLES, len(values)))
    # Sorting rather than quantile(): runs at inf must not turn into inf - inf = NaN.
    medians = np.sort(np.median(values[picks], axis=1), axis=0)
    tail = (1 - LEVEL) / 2
    first = int(np.floor(tail * (RESAMPLES - 1)))
    return medians[first], medians[RESAMPLES - 1 - first]


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Estimate:
    """The median of a - b over units that saw the same start and batches, [unit]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return bootstrap(a - b, seed)


def mean(values: np.ndarray) -> Estimate:
    """The mean over units [unit] with Student's t interval; not finite if one is not."""
    from scipy import stats

    values = np.asarray(values, np.float64).ravel()
    middle = float(values.mean())
    if len(values) < 2 or not np.isfinite(middle):
        return Estimate(middle, middle, middle, len(values))
    reach = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values)
    return Estimate(middle, float(middle - reach), float(middle + reach), len(values))


def time_to_target(values: np.ndarray, times: np.ndarray, target: float) -> np.ndarray:
    """When each run first comes to the target or below, inf for one that never does.

    A run that never arrives is censored at the last time: it is as long as that or
    longer. As inf it takes its place in medians and their intervals, and is not dropped.

    Args:
        values: [..., time], smaller is better; NaN has not arrived.
        times: [time], ascending.
        target: to be reached.

    Returns:
        [...], float64.
    """
    with np.errstate(invalid="ignore"):
        reached = np.asarray(values) <= target
    first = np.asarray(times, np.float64)[reached.argmax(-1)]
    return np.where(reached.any(-1), first, np.inf)


def late(values: np.ndarray) -> np.ndarray:
    """The mean over the last quarter of the steps, [seed, step, ...] -> [seed, ...]."""
    return values[:, -max(1, values.shape[1] // 4) :].mean(axis=1)
