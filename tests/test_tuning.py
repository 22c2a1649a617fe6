"""Tuning: one program for trials, reports and other fields; budgets counted."""

import dataclasses

import numpy as np
import pytest

from study import optimizers, sweep, tuning
from study.experiment import Experiment
from study.problems import Digits, HeavyTailed, NoisyQuadratic, Problem
from study.tuning import Setting

SMALL = Experiment(
    problem=Digits(width=4, depth=1, batch_size=4),
    optimizers=(optimizers.Adam(),),
    learning_rates=(0.01, 0.1),
    metrics=("angle", "anisotropy"),
    steps=7,
    seeds=2,
    selection_seeds=1,
    records=4,
    evaluations=2,
)
BOWL = NoisyQuadratic(dim=4)


def ends(optimizer, settings, problem: Problem = BOWL, seeds=(0, 1)):
    spec = dataclasses.replace(SMALL, problem=problem, metrics=("angle",))
    return tuning.run(spec, problem, optimizer, settings, seeds, 6).evaluations["objective"]


def test_runs_are_those_of_a_sweep_whatever_their_place():
    found = tuning.run(
        SMALL,
        SMALL.problem,
        optimizers.Adam(),
        [Setting(rate, {}) for rate in SMALL.learning_rates],
        (1, 0),
        3,
    )
    swept, _ = sweep.run_cell(SMALL, SMALL.problem, optimizers.Adam())
    for name in ("test_loss", "validation_loss", "angle"):
        parts = found.evaluations if name in found.evaluations else found.records
        expected = swept[name].sel(seed=[1, 0]).values
        np.testing.assert_allclose(parts[name], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("optimizer", "field", "value"),
    [
        (optimizers.Adam(), "b1", 0.5),
        (optimizers.Adam(), "b2", 0.9),
        (optimizers.Adam(), "eps", 0.1),
        (optimizers.Momentum(), "decay", 0.0),
        (optimizers.RMSProp(), "decay", 0.5),
    ],
    ids=str,
)
def test_a_traced_field_is_the_field(optimizer, field, value):
    traced = ends(optimizer, [Setting(0.1, {field: value})])
    other = dataclasses.replace(optimizer, **{field: value})
    np.testing.assert_allclose(traced, ends(other, [Setting(0.1, {})]), rtol=1e-5)
    assert not np.allclose(traced[..., -1], ends(optimizer, [Setting(0.1, {})])[..., -1])


def test_decay_is_decoupled_and_spares_vectors():
    matrix = HeavyTailed(groups=2)
    adam = ends(optimizers.Adam(), [Setting(0.1, {}, 0.5)], matrix)
    adamw = ends(optimizers.AdamW(weight_decay=0.5), [Setting(0.1, {})], matrix)
    np.testing.assert_allclose(adam, adamw, rtol=1e-5)
    vector = ends(optimizers.SGD(), [Setting(0.1, {}), Setting(0.1, {}, 0.5)])
    np.testing.assert_array_equal(vector[0], vector[1])


def test_variants_by_hand():
    found = tuning.variants(optimizers.Adam(), 0.01, 200)
    assert tuple(found) == tuning.VARIANTS
    assert found["average longer"].fields == {"b1": pytest.approx(1 - 0.1 / 3)}
    assert found["average shorter"].fields == {"b1": pytest.approx(0.7)}
    assert found["squares shorter"].fields == {"b2": pytest.approx(0.997)}
    assert found["epsilon larger"].fields == {"eps": pytest.approx(1e-4)}
    assert found["decay 1"].weight_decay == pytest.approx(1 / (0.01 * 200))
    assert tuple(tuning.variants(optimizers.SGD(), 0.1, 10)) == ("decay 0.1", "decay 1")
    assert tuning.roles(optimizers.RMSProp()) == {"squares": "decay", "epsilon": "eps"}


def test_seeds_of_a_problem_without_noise_differ_in_its_data():
    found = ends(optimizers.SGD(), [Setting(0.1, {})], HeavyTailed(groups=2))
    assert found[0, 0, 0] == found[0, 1, 0]  # all classes alike at 0
    assert found[0, 0, -1] != found[0, 1, -1]
