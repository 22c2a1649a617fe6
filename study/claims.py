"""Predictions made before a run, and their verdicts from its records.

A prediction states a threshold and how to measure; the verdict compares the interval with
the threshold. A prediction that fails stays where it is, as a finding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from study.statistics import Estimate

if TYPE_CHECKING:
    from study.reporting import Results

HOLDS, FAILS, OPEN, UNDEFINED = "holds", "fails", "undecided", "undefined"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What an experiment expects.

    Attributes:
        statement: one sentence with the threshold in it.
        source: where the expectation comes from.
        measure: from the stored records to a value with its interval.
        at_least: the value is expected here or above.
        at_most: the value is expected here or below.
        published: the source's own value where it gives one; shown beside, judges nothing.
    """

    statement: str
    source: str
    measure: Callable[[Results], Estimate]
    at_least: float = -math.inf
    at_most: float = math.inf
    published: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A prediction with what was measured.

    Attributes:
        verdict: `holds` if the whole interval agrees, `fails` if none of it does,
            `undecided` if a part does, `undefined` if the measure is NaN.
    """

    statement: str
    source: str
    at_least: float
    at_most: float
    value: float
    low: float
    high: float
    n: int
    verdict: str
    published: float | None = None


def judge(predictions: Sequence[Prediction], results: Results) -> list[Verdict]:
    """The verdict of each prediction."""
    return [_judge(prediction, results) for prediction in predictions]


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """For a file; what is not finite becomes None or a string."""
    return [
        {
            key: _plain(value)
            for key, value in dataclasses.asdict(verdict).items()
            if key != "published" or value is not None
        }
        for verdict in verdicts
    ]


def _judge(prediction: Prediction, results: Results) -> Verdict:
    try:
        estimate = prediction.measure(results)
    except KeyError:  # the records lack what it speaks of, an optimizer left out, say
        estimate = Estimate(math.nan, math.nan, math.nan, 0)
    inside = [
        prediction.at_least <= limit <= prediction.at_most
        for limit in (estimate.low, estimate.high)
    ]
    # Both limits on the same wrong side: no part of the interval agrees.
    apart = estimate.high < prediction.at_least or estimate.low > prediction.at_most
    if math.isnan(estimate.value):
        verdict = UNDEFINED
    elif all(inside):
        verdict = HOLDS
    else:
        verdict = FAILS if apart else OPEN
    return Verdict(
        prediction.statement,
        prediction.source,
        prediction.at_least,
        prediction.at_most,
        *estimate,
        verdict,
        prediction.published,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
