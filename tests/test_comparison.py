"""What the comparison says of records whose answer is known."""

import numpy as np
import xarray as xr

from experiments import comparison
from study import tuning
from study.problems import Digits
from study.reporting import Results

RULES = ("SGD", "Momentum", "Adam")
RATES = np.array([0.01, 0.1, 1.0, 0.05, 0.2])


def records():
    """Momentum always at half of SGD, Adam diverges at 1 and is best at the edge 0.01."""
    objective = np.array(
        [[3.0, 2, 4, 2.5, 2.2], [1.5, 1, 2, 1.2, 1.1], [1, 5, np.nan, 3, 9]]
    )
    tried = objective[..., None] * np.array([1.0, 1.1, 0.9])
    noise = 1 + 0.01 * np.arange(12)
    curves = np.stack([np.full(12, 4.0), 1.5 * noise, noise], axis=-1)
    ends = np.stack([curves, curves / [1, 2, 2], curves * [1, 3, 3]])
    angle = np.radians([[0.0], [20.0], [60.0]]) * np.ones((3, 12))
    varied = np.full((3, len(tuning.VARIANTS), 3, 3), np.nan)
    varied[2, 0] = [[2, 2, 2], [0.5, 0.5, 0.5], [np.nan, 1, 1]]
    return comparison.condense(
        xr.Dataset(
            {
                "trial_objective": (("optimizer", "trial", "selection"), tried),
                "trial_rate": (("optimizer", "trial"), np.tile(RATES, (3, 1))),
                "variant_objective": (
                    ("optimizer", "variant", "factor", "selection"),
                    varied,
                ),
                "validation": (("optimizer", "seed", "evaluation"), ends),
                "test": (("optimizer", "seed", "evaluation"), ends),
                "accuracy": (("optimizer", "seed", "evaluation"), 0 * ends),
                "angle": (("optimizer", "seed", "step"), angle[..., None]),
            },
            {"optimizer": list(RULES), "evaluation": [0, 10, 20]},
        )
    )


class Known(Results):
    def selected(self, problem):
        return records()


FOUND = Known(comparison.DEFAULT, None)  # type: ignore[arg-type]


def test_rates_are_selected_over_grid_and_refinement_and_edges_are_told():
    found = records()
    np.testing.assert_array_equal(found.selected_rate, [0.1, 0.1, 0.01])
    np.testing.assert_array_equal(found.at_edge, [0, 0, 1])
    np.testing.assert_allclose(found.diverged, [0, 0, 0.2])


def test_rules_against_each_other():
    digits = Digits()
    assert comparison.ratio(FOUND, digits, "Momentum")[:3] == (0.5, 0.5, 0.5)
    assert comparison.ratio(FOUND, digits, "Adam").value == 3
    assert {n: r.value for n, r in comparison.ranks(FOUND, digits).items()} == {
        "SGD": 2,
        "Momentum": 1,
        "Adam": 3,
    }
    p, effect = comparison.pairs(FOUND, digits)["SGD", "Momentum"]
    assert effect == 1
    assert np.isclose(p, 3 * 2 / 2**12)
    assert np.isclose(comparison.turned(FOUND, digits)["Adam"], 60)
    assert comparison.helps(FOUND, digits).value == 0.5


def test_time_to_where_sgd_ends_is_censored():
    found = comparison.steps_to_sgd(FOUND, Digits())
    assert (found["Momentum"] == 10).all()
    assert np.isinf(found["Adam"]).all()
    assert set(found["SGD"]) == {20.0, np.inf}


def test_budgets_and_other_fields():
    after = comparison.budgets(FOUND, Digits())["Adam"]
    assert after[0] == np.mean([1, 4, 4, 3, 4])  # what diverges or rises leaves the start
    assert after[-1] == 1
    other = comparison.sensitivity(FOUND, Digits())
    assert other["Adam"][0] == 0.5
    assert np.isnan(other["Adam"][1:]).all()
    assert comparison.good_rates(FOUND, Digits())["SGD"] == 2
