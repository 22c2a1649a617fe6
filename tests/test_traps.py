"""The traps of Optax's zoo, one test each, and that the catalogue has all of it."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from helpers import EVERY_OPTIMIZER, SMALL_QUADRATIC, vector

from study import streams, sweep, train
from study.experiment import Experiment
from study.optimizers import EXCLUDED, OPTIMIZERS, Optimizer
from study.problems import NoisyQuadratic

STEPS = 40


def probe(dtype, scale=1.0):
    """Normal gradients in a matrix and a vector, one element of which is always 0."""
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape), dtype)  # noqa: E731
    params = {"W": draw(6, 8), "b": draw(12)}
    grads = {"W": scale * draw(STEPS, 6, 8), "b": scale * draw(STEPS, 12).at[:, 3].set(0)}
    return streams.Stream(params, grads, jnp.ones(STEPS, dtype), jnp.ones([], dtype))


def updates(optimizer, stream, rate=0.01):
    """Updates [step, element]."""
    run = jax.jit(lambda s, r: streams.vector(streams.updates(optimizer, r, s)))
    return np.asarray(run(stream, jnp.asarray(rate, stream.values.dtype)))


def first(name, gradient, dtype=jnp.float32, rate=1.0):
    """The first update on a vector."""
    stream = streams.Stream(
        jnp.zeros(len(gradient), dtype),
        jnp.asarray([gradient], dtype),
        jnp.ones(1, dtype),
        jnp.ones([], dtype),
    )
    return updates(OPTIMIZERS[name](), stream, rate)[0].astype(np.float64)


# Where a zero gradient moves theta, and why.
MOVES_AT_ZERO = {
    "NoisySGD": "noise",
    "DPSGD": "noise",
    "Fromage": "shrinks theta at every step",
    "Yogi": "starts its average at 1e-6",
    "SAM": "divides by the gradient's length",
    "DAdaptAdamW": "its distance estimate is 0 / 0",
    "Prodigy": "its distance estimate is 0 / 0",
}


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_1_no_hidden_decay_and_2_3_4_one_program_takes_any_rate(optimizer):
    """Without gradients nothing moves; rates are traced, mapped, and have an effect."""
    stream = probe(jnp.float32)
    still = jax.tree.map(lambda g: g.at[:].set(0), stream.grads)
    both = jax.tree.map(lambda a, b: jnp.stack([a, a, b]), stream.grads, still)

    def run(rate, grads):
        made = streams.updates(optimizer, rate, stream._replace(grads=grads))
        return streams.vector(made)

    rates = jnp.asarray([0.01, 0.02, 0.01], jnp.float32)
    one, other, none = np.asarray(jax.jit(jax.vmap(run))(rates, both))
    moves = not np.all(np.abs(none) < 1e-6)  # rounding, where new - old is returned
    assert moves == (type(optimizer).__name__ in MOVES_AT_ZERO)
    if not optimizer.own_rate:
        assert not np.allclose(one, other)


def test_2_rules_get_what_they_ask_for_and_refuse_the_rest():
    params = jnp.ones(3)
    seen = train.Seen(params, jnp.sum(params), params, jnp.sum, lambda: params)
    for name, extra in (("LBFGSLineSearch", "surprise"), ("SAM", "value")):
        entry = OPTIMIZERS[name]()
        rule = entry.build(0.1)
        asked = {key: train.EXTRAS[key](seen) for key in entry.asks} | {extra: 1.0}
        with pytest.raises(TypeError, match=f"{extra}|keyword arguments"):
            rule.update(params, rule.init(params), params, **asked)
    for optimizer in EVERY_OPTIMIZER:
        assert set(optimizer.asks) <= set(train.EXTRAS)


def test_5_structure_is_fixed_by_the_entry_and_small_matrices_are_factored():
    count = lambda rule: len(jax.tree.leaves(rule.init(jnp.ones(3))))  # noqa: E731
    assert count(optax.sgd(0.1)) != count(optax.sgd(0.1, momentum=0.0))
    assert count(OPTIMIZERS["Momentum"](decay=0.0).build(0.1)) == 1
    state = OPTIMIZERS["Adafactor"]().build(0.1).init({"w": jnp.ones((6, 8))})
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert {(6,), (8,)} <= shapes
    assert (6, 8) not in shapes


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_6_float32_stays_float32_while_float64_is_allowed(optimizer):
    with jax.enable_x64(True):
        found = jax.eval_shape(
            lambda s: streams.updates(optimizer, jnp.float32(0.01), s), probe(jnp.float32)
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_7_half_precision_is_as_documented(optimizer):
    found = updates(optimizer, probe(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    assert np.all(np.isfinite(found.astype(np.float32)))
    found = updates(optimizer, probe(jnp.float16))
    assert found.dtype == np.float16
    assert np.all(np.isfinite(found)) == (optimizer.float16 == "finite")


def test_8_first_steps_that_surprise():
    gradient = [0.0, 1.0, 1e-30]
    assert first("Yogi", gradient)[0] == pytest.approx(-2.8e-4, rel=0.2)
    assert np.all(first("Rprop", gradient) == 0)
    assert first("PlainRMSProp", gradient)[1] == pytest.approx(-np.sqrt(10), rel=1e-4)
    assert first("AdaBelief", gradient)[1] == pytest.approx(-1.11, rel=1e-2)
    assert first("Adam", gradient)[2] == pytest.approx(-1e-22, rel=1e-3)
    assert first("Adam", gradient)[0] == 0


def test_9_rules_that_find_their_own_step_are_marked():
    marked = {type(o).__name__ for o in EVERY_OPTIMIZER if o.own_rate}
    assert marked == {
        "COCOB",
        "DAdaptAdamW",
        "DoG",
        "DoWG",
        "LBFGSLineSearch",
        "Mechanize",
        "Prodigy",
        "Rprop",
    }


@pytest.mark.parametrize("name", ["Lookahead", "ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_10_what_is_evaluated_is_what_the_rule_returns(name):
    """The sweep's objective against a Python loop that asks Optax for the weights."""
    problem, rate, steps = SMALL_QUADRATIC, 0.05, 7
    entry = OPTIMIZERS[name]()
    experiment = Experiment(
        problem=problem,
        optimizers=(entry,),
        learning_rates=(rate,),
        metrics=("loss",),
        steps=steps,
        seeds=1,
        selection_seeds=0,
        evaluations=1,
    )
    dataset: xr.Dataset = sweep.run_cell(experiment, problem, entry)[0]

    data = jax.tree.map(jnp.asarray, problem.data())
    keys = train.keys(jnp.asarray(0, jnp.int32))
    params: Any = problem.init(keys.init)
    if name == "Lookahead":
        rule = optax.lookahead(optax.sgd(rate), 5, 0.5)
        params = optax.LookaheadParams.init_synced(params)
    else:
        rule = entry.build(rate)
    state = rule.init(params)
    for t in range(steps):
        batch = problem.sample(data, jax.random.fold_in(keys.data, t))
        at = params.fast if name == "Lookahead" else params
        update, state = rule.update(jax.grad(problem.loss)(at, batch), state, params)
        params = optax.apply_updates(params, update)  # type: ignore[arg-type]
    if name == "Lookahead":
        shown, trained = params.slow, params.fast
    else:
        shown = optax.contrib.schedule_free_eval_params(state, params)
        trained = params
    expected = problem.evaluate(data, shown)["objective"]
    assert float(dataset.objective[0, 0, -1]) == pytest.approx(float(expected), rel=1e-4)
    assert not np.allclose(vector(shown), vector(trained))


def test_10_sam_takes_its_gradient_elsewhere():
    problem = NoisyQuadratic(dim=3, noise=0.0)
    entry, rate = OPTIMIZERS["SAM"](rho=0.5), 0.1
    data = problem.data()
    params = problem.init(jax.random.key(0))
    state = train.start(entry, rate, params)
    step = train.step(problem, entry, data, rate, jax.random.key(1), state, jnp.asarray(0))[
        1
    ]
    hessian, x = data["hessian"], np.asarray(params["x"], np.float64)
    gradient = hessian @ x
    away = hessian @ (x + 0.5 * gradient / np.linalg.norm(gradient))
    np.testing.assert_allclose(vector(step.update), -rate * away, rtol=1e-5)


def exported():
    """Optimizers that Optax exports, by their path: those given a rate or another rule."""
    words = {"optimizer", "base_optimizer", "fast_optimizer", "adv_optimizer"}
    found = {}
    for prefix, module in (("", optax), ("contrib.", optax.contrib)):
        for name, value in vars(module).items():
            transforms = name.startswith(("scale_by_", "inject_", "_"))
            if transforms or not inspect.isfunction(value):
                continue
            parameters = set(inspect.signature(value).parameters)
            rate = any(word.endswith("learning_rate") for word in parameters)
            if rate or parameters & words or name == "split_real_and_imaginary":
                found[prefix + name] = value
    return found


# Exported, and given a rate or a rule, without being an optimizer.
NOT_OPTIMIZERS = {
    "contrib.reduce_on_plateau",
    "contrib.schedule_free_eval_params",
    "polynomial_schedule",
    "selective_transform",
}


def test_the_catalogue_is_what_optax_exports():
    # nadam, nadamw and adamw are partials of other functions in some versions.
    partial = {"nadam", "nadamw"}
    optimizers = (set(exported()) | partial) - NOT_OPTIMIZERS
    covered = {o.factory for o in EVERY_OPTIMIZER if o.factory}
    assert optimizers - covered == set(EXCLUDED)
    assert covered <= optimizers
    for path in EXCLUDED:
        assert EXCLUDED[path]


def test_11_nothing_in_the_catalogue_is_deprecated():
    """Warnings are errors here, so building is enough."""
    for optimizer in EVERY_OPTIMIZER:
        optimizer.build(0.1)
        optimizer.without_epsilon().build(0.1)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_every_entry_states_its_theory(optimizer):
    assert isinstance(optimizer, Optimizer)
    assert optimizer.theory is not None
    assert type(optimizer).__doc__
