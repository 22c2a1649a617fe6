"""The experiment on Shakespeare: how rates are selected, and what is judged."""

import dataclasses
import math
import types
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments import shakespeare
from experiments.shakespeare import ADAM, DEFAULT, MEASURED, PARTS, SELECTION_SEED
from study import sweep
from study.optimizers import Adam
from study.schedules import Constant

LEAVES = ("token.embedding", "blocks.0.up.kernel", "blocks.0.up.bias", "readout.kernel")


def planted(best):
    """A sweep whose validation loss is least at 10^best; remembers what it was asked."""
    asked = []

    def run_cell(stage, problem, optimizer, progress):
        del problem, optimizer
        asked.append(stage)
        progress(0.5)
        loss = np.abs(np.log10(stage.learning_rates) - best)
        shape = (len(loss), stage.seeds, 2)
        values = np.broadcast_to(loss[:, None, None], shape)
        axes = ("learning_rate", "seed", "evaluation")
        rates = {"learning_rate": list(stage.learning_rates)}
        found = xr.Dataset({"validation_loss": (axes, values)}, rates)
        chosen = ("seed", np.zeros(stage.seeds, np.int32))
        found = found.assign_coords(for_selection=chosen)
        return found, sweep.Cost(1.0, 2.0, len(loss) * stage.seeds, 2, 10, 40)

    return run_cell, asked


@pytest.mark.parametrize(
    ("best", "rate", "edge"),
    [(-2.8, 10**-2.75, 0), (-2.3, 10**-2.25, 0), (-4.6, 10**-4.75, 1), (1.6, 10**1.75, 1)],
)
def test_two_grids_find_the_best_rate(monkeypatch, best, rate, edge):
    run_cell, asked = planted(best)
    monkeypatch.setattr(sweep, "run_cell", run_cell)
    shares: list[float] = []
    cell, cost = shakespeare.run_cell(DEFAULT, DEFAULT.problem, Adam(), shares.append)
    np.testing.assert_allclose(cell.rate, rate, rtol=1e-3)
    assert cell.at_edge == edge
    assert [stage.steps for stage in asked] == [200, 600, 3000]
    assert [len(stage.learning_rates) for stage in asked] == [6, 4, 1]
    assert {stage.schedule for stage in asked} == {DEFAULT.schedule}
    assert asked[-1].metrics == MEASURED
    assert (cost.runs, cost.compile_seconds, cost.run_seconds) == (12 + 8 + 2, 3.0, 6.0)
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_no_reported_seed_has_selected(monkeypatch):
    run_cell, asked = planted(-3)
    monkeypatch.setattr(sweep, "run_cell", run_cell)
    shakespeare.run_cell(DEFAULT, DEFAULT.problem, Adam())
    first, second, last = (set(stage.seed_numbers) for stage in asked)
    assert first == second == {SELECTION_SEED, SELECTION_SEED + 1}
    assert last == {0, 1}


def test_the_schedule_is_of_the_whole_experiment():
    plain = dataclasses.replace(DEFAULT, schedule=Constant())
    assert plain.stage(Adam(), (0.1,), steps=5).schedule == Constant()


# Judging --------------------------------------------------------------------------------

RULES = ("SGD", "Momentum", "Signum", ADAM)


def results() -> Any:
    """Two seeds; at evaluations 0, 1, 2 the validation loss is least at 1."""
    losses = {"SGD": 2.4, "Momentum": 2.2, "Signum": 1.85, ADAM: 1.8}
    shape = (len(RULES), 2, 3)
    ends = np.array([losses[name] for name in RULES])[:, None, None]
    validation = np.broadcast_to(ends + np.array([2.0, 0.0, 0.1]), shape)
    test = np.broadcast_to(ends + np.array([2.0, 0.05, 0.0]), shape)
    axes = ("optimizer", "seed", "evaluation")
    groups = {f"group_{i}_loss": (axes, i * test) for i in range(4)}
    turn = np.broadcast_to(np.radians([[10.0], [20], [50], [40]])[:, :, None], (4, 2, 8))
    data = xr.Dataset(
        {"validation_loss": (axes, validation), "test_loss": (axes, test), **groups}
        | {"rescaling_angle": (("optimizer", "seed", "step"), turn)},
        {"optimizer": list(RULES), "evaluation": [0, 100, 200]},
    )
    return types.SimpleNamespace(experiment=DEFAULT, selected=lambda problem: data)


def measured(word):
    (found,) = [p for p in shakespeare.PREDICTIONS if word in p.statement]
    return found.measure(results()).value


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("Adam's test loss", 1.85),
        ("SGD ends at least", 0.6),
        ("Momentum ends at least", 0.4),
        ("half of momentum's gap", 0.35 / 0.4),
        ("half of SGD's gap", 0.55 / 0.6),
        ("as many steps as Adam", 1.0),
        ("Adam's lead on SGD", 5 / 6),
        ("with Gaussian", 50.0),
        ("as far as Adam does", 10.0),
    ],
)
def test_predictions_measure_what_they_say(word, value):
    np.testing.assert_allclose(measured(word), value, rtol=1e-6)


def test_the_rarer_share_is_that_of_the_step():
    np.testing.assert_allclose(shakespeare.rarer_share(results(), "SGD", 190), 5 / 6)
    assert math.isnan(shakespeare.rarer_share(results(), ADAM, 190))


def test_validation_selects_the_evaluation_that_the_test_reports():
    np.testing.assert_allclose(shakespeare.reported(results(), "SGD"), 2.45)


def test_a_run_that_diverged_is_the_worst_and_no_gap_is_undefined():
    found = results()
    data = found.selected(None)
    for loss in ("validation_loss", "test_loss"):
        data[loss] = data[loss].where(data.optimizer != "SGD", np.nan)
    found.selected = lambda problem: data
    assert (shakespeare.reported(found, "SGD") == np.inf).all()
    assert not shakespeare.diverged(found, ADAM).any()
    equal = results()
    flat = equal.selected(None)
    flat["test_loss"] = flat.test_loss * 0 + 2.0
    equal.selected = lambda problem: flat
    assert math.isnan(shakespeare._closed("SGD")(equal).value)


def test_angles_are_put_together_by_part():
    degrees = np.array([10.0, 20.0, 30.0, 40.0])
    shape = (1, 1, 1, 4)
    dims = ("optimizer", "seed", "step", "leaf")
    by_leaf = (dims, np.broadcast_to(degrees, shape))
    turned = shakespeare.condense(
        xr.Dataset(
            {"angle_by_leaf": by_leaf, "rescaling_angle_by_leaf": by_leaf},
            {"leaf": list(LEAVES)},
        )
    )
    assert list(turned.part.values) == list(PARTS)
    np.testing.assert_array_equal(turned.turn[0, 0, 0], [10, np.nan, 20, 40, 30])


def test_every_leaf_of_the_network_belongs_to_one_part():
    import jax

    from study import trees
    from study.problems import Text

    shapes = jax.eval_shape(Text(depth=2).init, jax.random.key(0))
    for leaf in trees.names(shapes):
        assert sum(leaf.endswith(ends) for ends in PARTS.values()) == 1, leaf
