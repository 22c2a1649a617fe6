import dataclasses
import json

import pytest
from helpers import EVERY_OPTIMIZER, EVERY_PROBLEM

from study import spec
from study.catalogue import Catalogue
from study.errors import UserError
from study.experiment import Experiment, log_grid
from study.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from study.problems import PROBLEMS, Digits, NoisyQuadratic, Problem

EXPERIMENT = Experiment(
    problem=Digits(width=3),
    optimizers=(SGD(), Adam(b1=0.0)),
    learning_rates=(0.1,),
    metrics=("angle",),
    steps=7,
)


@pytest.mark.parametrize("entry", EVERY_OPTIMIZER + EVERY_PROBLEM, ids=str)
def test_an_entry_survives_json_and_its_own_string(entry):
    family = Optimizer if isinstance(entry, Optimizer) else Problem
    assert spec.decode(json.loads(json.dumps(spec.encode(entry))), family) == entry
    assert family.catalogue.parse(str(entry), spec.construct) == entry


def test_the_string_shows_only_what_differs_from_default():
    assert str(Adam()) == "Adam"
    assert str(Adam(b1=0.5)) == "Adam(b1=0.5)"
    assert OPTIMIZERS.parse("adam(b1=0.5)", spec.construct) == Adam(b1=0.5)


def test_an_experiment_survives_json():
    data = json.loads(json.dumps(spec.encode(EXPERIMENT)))
    assert spec.decode(data, Experiment) == EXPERIMENT


def test_every_field_changes_the_digest():
    others = {
        "problem": Digits(width=4),
        "optimizers": (SGD(),),
        "learning_rates": (0.1, 1.0),
        "metrics": ("loss",),
    }
    digests = {spec.digest(EXPERIMENT)}
    for field in dataclasses.fields(EXPERIMENT):
        value = others.get(field.name, getattr(EXPERIMENT, field.name))
        value = value + 1 if isinstance(value, int) else value
        changed = dataclasses.replace(EXPERIMENT, **{field.name: value})
        digests.add(spec.digest(changed))
    assert len(digests) == 1 + len(dataclasses.fields(EXPERIMENT))


def test_an_int_for_a_float_is_the_same_spec():
    assert NoisyQuadratic(condition=10) == NoisyQuadratic(condition=10.0)
    assert spec.digest(NoisyQuadratic(condition=10)) == spec.digest(
        NoisyQuadratic(condition=10.0)
    )


def test_differences_name_the_fields():
    one, other = Digits(width=3), Digits(width=4)
    lines = spec.differences(spec.encode(one), spec.encode(other))
    assert lines == ["width: 3, not 4"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: OPTIMIZERS["Adma"],
            ["unknown optimizer 'Adma'", "did you mean 'Adam'"],
        ),
        (lambda: PROBLEMS["digit"], ["unknown problem 'digit'", "'Digits'"]),
        (lambda: Adam(b1="x"), ["Adam.b1 = 'x'", "float"]),  # type: ignore[arg-type]
        (lambda: Digits(width=True), ["Digits.width"]),
        (lambda: Digits(width=0), ["Digits.width = 0", "at least 1"]),
        (lambda: Digits(activation="rleu"), ["Digits.activation"]),  # type: ignore
        (
            lambda: OPTIMIZERS.parse("Adam(b3=1)", spec.construct),
            ["'b3'", "did you mean 'b"],
        ),
        (lambda: OPTIMIZERS.parse("Adam(", spec.construct), ["cannot read"]),
        (lambda: OPTIMIZERS.parse("Adam(print())", spec.construct), ["cannot read"]),
        (lambda: OPTIMIZERS.parse("Adam(b1=f())", spec.construct), ["cannot read"]),
        (lambda: spec.decode({"class": "Adm"}, Optimizer), ["unknown optimizer"]),
        (lambda: spec.decode({"class": "SGD", "x": 1}, Optimizer), ["no field 'x'"]),
        (lambda: spec.decode({"class": "Adam"}, Optimizer), ["lacks b1"]),
        (lambda: spec.decode([], Optimizer), ["mapping"]),
        (lambda: dataclasses.replace(EXPERIMENT, steps=-1), ["steps = -1"]),
        (lambda: dataclasses.replace(EXPERIMENT, seeds=0), ["seeds = 0"]),
        (lambda: dataclasses.replace(EXPERIMENT, learning_rates=()), ["not empty"]),
        (lambda: dataclasses.replace(EXPERIMENT, learning_rates=(-1.0,)), ["positive"]),
        (
            lambda: dataclasses.replace(EXPERIMENT, optimizers=(SGD(), SGD())),
            ["without repetitions"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_offender_and_remedy(make, words):
    with pytest.raises(UserError) as caught:
        make()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_name_is_taken_once():
    family = Catalogue("thing")
    family.add("a", 1)
    with pytest.raises(ValueError, match="registered already"):
        family.add("a", 2)


def test_look_up_ignores_case_only_where_that_is_clear():
    family = Catalogue("thing")
    family.add("Ab", 1)
    assert family["ab"] == 1
    family.add("aB", 2)
    with pytest.raises(UserError, match="unknown thing"):
        family["ab"]


def test_log_grid_has_round_ends_and_four_digits():
    assert log_grid(-2, 0, 2) == (0.01, 0.03162, 0.1, 0.3162, 1.0)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 203, 1000])
def test_the_clock_starts_at_the_first_step_and_evaluates_the_last(steps):
    e = dataclasses.replace(EXPERIMENT, steps=steps)
    assert e.recorded_steps[0] == 0
    assert len(e.recorded_steps) <= e.records
    assert e.evaluated_steps[0] == 0
    assert e.evaluated_steps[-1] == steps
    assert len(e.evaluated_steps) <= e.evaluations + 1
    assert e.evaluate_every % e.record_every == 0
