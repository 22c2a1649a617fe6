"""Schedules against closed forms, decoupled decay against Optax's, both in a sweep."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import SMALL_QUADRATIC, vector

from study import arguments, devices, programs, spec, sweep, train
from study.errors import UserError
from study.experiment import Experiment, Scheduled
from study.optimizers import SGD, Adam, AdamW, Lookahead, Momentum
from study.schedules import (
    SCHEDULES,
    WSD,
    Constant,
    Cosine,
    Linear,
    StepDecay,
    WarmUp,
)

PLAIN = Experiment(
    problem=SMALL_QUADRATIC,
    optimizers=(Adam(),),
    learning_rates=(0.01,),
    metrics=("loss", "decay_ratio"),
    steps=10,
    seeds=2,
    selection_seeds=0,
    records=10,
    evaluations=2,
)
FIELDS: dict[str, Any] = {f.name: getattr(PLAIN, f.name) for f in dataclasses.fields(PLAIN)}
COSINE = Cosine(warm_up=0.2, end=0.1)


def scheduled(**changes: Any) -> Scheduled:
    fields: dict[str, Any] = {**FIELDS, **changes}
    return Scheduled(**fields)


def factors(schedule, steps):
    return [float(x) for x in map(schedule.factor(steps), range(steps))]


# Closed forms ---------------------------------------------------------------------------


def cosine(t, steps, first, end):
    return end + (1 - end) * (1 + math.cos(math.pi * (t - first) / (steps - first))) / 2


@pytest.mark.parametrize(
    ("schedule", "steps", "wanted"),
    [
        (Constant(), 3, [1, 1, 1]),
        (WarmUp(warm_up=0.5), 6, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]),
        (WarmUp(warm_up=0.0), 2, [1, 1]),
        (Cosine(), 4, [cosine(t, 4, 0, 0.0) for t in range(4)]),
        (
            Cosine(warm_up=0.2, end=0.1),
            10,
            [1 / 3, 2 / 3, *(cosine(t, 10, 2, 0.1) for t in range(2, 10))],
        ),
        (Linear(end=0.2), 4, [1, 0.8, 0.6, 0.4]),
        (Linear(warm_up=0.25), 4, [1 / 2, 1, 2 / 3, 1 / 3]),
        (StepDecay(), 8, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        (StepDecay(warm_up=0.25, places=(0.5,), drop=0.5), 4, [1 / 2, 1, 0.5, 0.5]),
        (StepDecay(places=(0.5, 0.5)), 2, [1, 0.01]),
        (WSD(warm_up=0.1, decay=0.4), 10, [1 / 2, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (WSD(warm_up=0.0, decay=0.0), 2, [1, 1]),
        (WSD(warm_up=0.5, decay=0.5), 4, [1 / 3, 2 / 3, 1, 0.5]),
        (WarmUp(warm_up=1.0), 2, [1 / 3, 2 / 3]),
        (Cosine(warm_up=1.0), 2, [1 / 3, 2 / 3]),
    ],
    ids=str,
)
def test_factors_are_their_closed_forms(schedule, steps, wanted):
    np.testing.assert_allclose(factors(schedule, steps), wanted, atol=1e-6)


def test_cosine_is_optaxs_own_with_a_warm_up():
    ours = COSINE.factor(50)
    theirs = optax.warmup_cosine_decay_schedule(1 / 11, 1.0, 10, 50, 0.1)
    t = jnp.arange(50)
    np.testing.assert_array_equal(ours(t), theirs(t))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_every_schedule_keeps_within_0_and_1_and_its_shape(name, steps):
    schedule = SCHEDULES[name]()
    t = jnp.arange(steps)
    found = np.broadcast_to(jax.vmap(schedule.factor(steps))(t), steps)
    assert (found > 0).all()
    assert (found <= 1).all()
    assert found.max() == 1 or steps == 1
    assert spec.decode(spec.encode(schedule), type(schedule)) == schedule
    if steps == 1000:
        finer = np.broadcast_to(jax.vmap(schedule.factor(10 * steps))(10 * t), steps)
        np.testing.assert_allclose(finer, found, atol=0.02)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_the_rate_keeps_its_dtype(dtype):
    with devices.precision(dtype):
        rate_at = COSINE.rates(10)
        found = jax.jit(rate_at)(jnp.asarray(0.1, dtype), jnp.asarray(5))
        assert found.dtype == jnp.dtype(dtype)
        wanted = 0.1 * cosine(5, 10, 2, 0.1)
        tolerance = 4 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(float(found), wanted, rtol=tolerance)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Cosine(warm_up=-0.1), "warm_up"),
        (lambda: Linear(end=2.0), "end"),
        (lambda: WSD(warm_up=0.5, decay=0.6), "decay"),
        (lambda: StepDecay(places=(0.8, 0.5)), "places"),
        (lambda: StepDecay(drop=float("nan")), "drop"),
        (lambda: scheduled(weight_decay=-1.0), "weight_decay"),
        (lambda: scheduled(decays="biases"), "decays"),
    ],
)
def test_fields_out_of_range_are_refused(make, field):
    with pytest.raises(UserError, match=field):
        make()


# Sweep ----------------------------------------------------------------------------------


def test_an_experiment_without_schedule_has_no_new_field():
    """The digests of stored experiments stay."""
    names = [field.name for field in dataclasses.fields(Experiment)]
    assert not {"schedule", "weight_decay", "decays"} & set(names)
    assert PLAIN.schedule == Constant()
    assert spec.digest(PLAIN) != spec.digest(scheduled())


def test_constant_without_decay_is_the_same_program():
    other = scheduled()
    rows = [sweep.run_cell(PLAIN, SMALL_QUADRATIC, Adam())[0]]
    before = programs.compiled.cache_info().misses
    rows.append(sweep.run_cell(other, SMALL_QUADRATIC, Adam())[0])
    assert programs.compiled.cache_info().misses == before
    assert rows[0].identical(rows[1])
    rates = Constant().rates(10)
    assert rates(0.3, jnp.asarray(5)) == 0.3


def test_a_scheduled_decayed_sweep_is_a_python_loop_over_optax():
    """Optax's own AdamW on Optax's own schedule, across the sweep's segments."""
    problem, rule = SMALL_QUADRATIC, Adam()
    experiment = scheduled(schedule=COSINE, weight_decay=0.5, decays="all")
    cell, cost = sweep.run_cell(experiment, problem, rule)
    keys = train.keys(jnp.asarray(1, jnp.int32))
    params, arrays, losses, ratios = problem.init(keys.init), problem.data(), [], []
    schedule: Any = optax.warmup_cosine_decay_schedule(0.01 / 3, 0.01, 2, 10, 0.001)
    adamw = optax.adamw(schedule, weight_decay=0.5)
    state = adamw.init(params)
    for t in range(10):
        batch = problem.batch(arrays, keys.data, jnp.asarray(t))
        loss, grad = problem.slope(params, batch)
        update, state = adamw.update(grad, state, params)
        decay = -0.5 * float(schedule(t)) * vector(params)
        losses.append(loss)
        ratios.append(np.linalg.norm(decay) / np.linalg.norm(vector(update) - decay))
        params = optax.apply_updates(params, update)
    run = cell.sel(learning_rate=0.01, seed=1)
    np.testing.assert_allclose(run.loss, losses, rtol=1e-5)
    np.testing.assert_allclose(run.decay_ratio, ratios, rtol=1e-4)
    assert cost.state_bytes == 4 * (2 * cost.parameters + 1)  # the decay has no state


def test_a_schedule_is_applied_by_the_run_not_by_the_segment():
    base = scheduled(schedule=Linear())
    once = dataclasses.replace(base, evaluations=1)
    thrice = dataclasses.replace(base, evaluations=5)
    one, other = (sweep.run_cell(e, SMALL_QUADRATIC, Adam())[0] for e in (once, thrice))
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-6)


# Decay ----------------------------------------------------------------------------------

PARAMS: Any = {
    "kernel": jnp.array([[1.0, -2.0], [3.0, 4.0]]),
    "bias": jnp.array([5.0, 6.0]),
}
GRADS: Any = [jax.tree.map(lambda x, k=k: jnp.sin(k + x), PARAMS) for k in range(4)]


def walk(rule, params, steps=4):
    state = rule.init(params)
    for grad in GRADS[:steps]:
        update, state = rule.update(grad, state, params)
        params = optax.apply_updates(params, update)
    return vector(params)


def matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (train.Decayed(Adam(), 0.1), optax.adamw(0.2, weight_decay=0.1, mask=matrices)),
        (train.Decayed(Adam(), 0.1, "all"), optax.adamw(0.2, weight_decay=0.1)),
        (
            train.Decayed(SGD(), 0.1),
            optax.chain(optax.add_decayed_weights(0.1, matrices), optax.sgd(0.2)),
        ),
        (
            train.Decayed(SGD(), 0.1, "all"),
            optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.2)),
        ),
        (
            train.Decayed(AdamW(weight_decay=0.2), 0.1, "all"),
            optax.adamw(0.2, weight_decay=0.3),
        ),
    ],
    ids=["Adam", "Adam, all", "SGD", "SGD, all", "AdamW, all"],
)
def test_decay_is_that_of_optax(ours, theirs):
    np.testing.assert_allclose(
        walk(ours.build(0.2), PARAMS), walk(theirs, PARAMS), rtol=1e-6
    )


def test_momentum_does_not_average_the_decay():
    """Decoupled: theta' = (1 - eta lambda) theta + u, with u of the gradients alone."""
    decayed = train.Decayed(Momentum(), 0.1, "all").build(0.2)
    plain = Momentum().build(0.2)
    theta, state, other = PARAMS, decayed.init(PARAMS), plain.init(PARAMS)
    for grad in GRADS:
        update, state = decayed.update(grad, state, theta)
        own, other = plain.update(grad, other, theta)
        wanted = jax.tree.map(lambda u, x: u - 0.02 * x, own, theta)
        np.testing.assert_allclose(vector(update), vector(wanted), rtol=1e-6)
        theta = optax.apply_updates(theta, update)


def test_decay_is_reported_apart_from_the_update():
    problem = SMALL_QUADRATIC
    keys = train.keys(jnp.asarray(0, jnp.int32))
    params, t = problem.init(keys.init), jnp.asarray(0)

    def measured(rule: Any):
        state = train.start(rule, 0.5, params)
        return train.step(problem, rule, problem.data(), 0.5, keys.data, state, t)

    plain, plain_step = measured(Adam())
    decayed, step = measured(train.Decayed(Adam(), 0.1, "all"))
    close: Any = {"rtol": 1e-5, "atol": 1e-7}
    np.testing.assert_allclose(vector(step.update), vector(plain_step.update), **close)
    np.testing.assert_array_equal(vector(step.unscaled), vector(plain_step.unscaled))
    np.testing.assert_allclose(vector(step.decay), -0.05 * vector(params), rtol=1e-6)
    wanted = vector(plain.params) - 0.05 * vector(params)
    np.testing.assert_allclose(vector(decayed.params), wanted, **close)
    _, masked = measured(train.Decayed(Adam(), 0.1))  # one leaf of one axis
    assert not vector(masked.decay).any()


def test_a_rule_that_is_its_own_counterpart_stays_so_and_needs_no_shadow():
    rule: Any = train.Decayed(SGD(), 0.1)
    assert rule.unscaled() == rule
    assert train.start(rule, 0.1, PARAMS).shadow is None
    assert train.Decayed(Adam(), 0.1).unscaled() == Adam().unscaled()


def test_decay_may_be_traced_and_mapped():
    def end(decay):
        state = train.Decayed(Adam(), decay).build(0.2)
        update: Any = state.update(GRADS[0], state.init(PARAMS), PARAMS)[0]
        return update["kernel"]

    found = jax.jit(jax.vmap(end))(jnp.array([0.0, 0.1]))
    np.testing.assert_allclose(found[0] - found[1], 0.02 * PARAMS["kernel"], rtol=1e-4)


def test_what_is_evaluated_is_the_rules_own():
    tiny: dict[str, Any] = {"optimizers": (Lookahead(),), "steps": 3, "evaluations": 1}
    experiment = scheduled(**tiny, weight_decay=0.1)
    cell, _ = sweep.run_cell(experiment, SMALL_QUADRATIC, Lookahead())
    start, end = cell.objective.values[0, :, 0], cell.objective.values[0, :, -1]
    np.testing.assert_array_equal(start, end)  # slow weights move at the fifth step


# Command line -----------------------------------------------------------------------------


class Module:
    """A stand-in for an experiment's module."""

    __name__ = "experiments.scheduled"
    __doc__ = "Question.   Which?\nPrediction. None.\nVaried.     All.\nCost.       None."
    PRESETS = {"default": scheduled()}  # noqa: RUF012


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], Constant()),
        (["--schedule", "Cosine(warm_up=0.05)"], Cosine(warm_up=0.05)),
        (["--schedule", "wsd", "--schedule.warm-up", "0.1"], WSD(warm_up=0.1)),
        (
            ["--schedule", "StepDecay(places=(0.3,))", "--schedule.drop", "0.5"],
            StepDecay(places=(0.3,), drop=0.5),
        ),
    ],
)
def test_the_command_line_takes_schedules(words, wanted):
    module: object = Module()
    _, experiment, named = arguments.parse(module, words)  # type: ignore[arg-type]
    assert isinstance(experiment, Scheduled)
    assert experiment.schedule == wanted
    assert named == bool(words)
    assert spec.decode(spec.encode(experiment), Scheduled) == experiment


def test_a_misspelt_schedule_is_the_users_mistake():
    module: object = Module()
    with pytest.raises(UserError, match="did you mean 'Cosine'"):
        arguments.parse(module, ["--schedule", "Cosin"])  # type: ignore[arg-type]
