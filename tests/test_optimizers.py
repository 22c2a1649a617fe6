from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import EVERY_OPTIMIZER, first_step, random_tree, tree_of, vector

from study import train, trees
from study.optimizers import (
    ADOPT,
    SGD,
    SM3,
    Adagrad,
    Adam,
    AdamW,
    Averaging,
    CoordinateDescent,
    Lion,
    LionAveraging,
    Momentum,
    Nesterov,
    NormalisedGD,
    Prodigy,
    RMSProp,
    Rprop,
    SignDescent,
)
from study.problems import NoisyQuadratic

STEPS = 50
RATE = 0.01
STREAM = [tree_of(g) for g in np.random.default_rng(0).normal(size=(STEPS, 12))]

# What each rule must be in Optax's own words, written apart from the catalogue.
FACTORIES = {
    SGD(): lambda lr: optax.sgd(lr),
    Momentum(): lambda lr: optax.sgd(lr, momentum=0.9),
    Nesterov(): lambda lr: optax.sgd(lr, momentum=0.9, nesterov=True),
    NormalisedGD(): lambda lr: optax.chain(optax.normalize_by_update_norm(), optax.sgd(lr)),
    SignDescent(): lambda lr: optax.sign_sgd(lr),
    Adagrad(): lambda lr: optax.adagrad(lr),
    RMSProp(): lambda lr: optax.rmsprop(
        lr, decay=0.9, eps=1e-8, eps_in_sqrt=False, bias_correction=True
    ),
    Adam(): lambda lr: optax.adam(lr),
    AdamW(): lambda lr: optax.adamw(lr, weight_decay=1e-2),
    Lion(): lambda lr: optax.lion(lr, weight_decay=0.0),
}
SIGN_RULES = (SignDescent(), Lion())


def by_hand(transformation, stream, params):
    """A plain Python loop over an Optax transformation: updates as vectors."""
    state, updates = transformation.init(params), []
    for grad in stream:
        update, state = transformation.update(grad, state, params)
        params = optax.apply_updates(params, update)
        updates.append(vector(update))
    return np.array(updates)


def as_run(optimizer, stream, params):
    """The same stream in one scan, the learning rate traced."""

    def run(rate, grads):
        def body(carry, grad):
            params, state = carry
            update, state = optimizer.build(rate).update(grad, state, params)
            return (optax.apply_updates(params, update), state), update

        start = (params, optimizer.build(rate).init(params))
        return jax.lax.scan(body, start, grads)[1]

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stream)
    updates = jax.jit(run)(jnp.float32(RATE), stacked)
    return np.array(
        [vector(jax.tree.map(lambda u, t=t: u[t], updates)) for t in range(len(stream))]
    )


@pytest.mark.parametrize("optimizer", FACTORIES, ids=str)
def test_optax_itself_runs_on_a_recorded_stream(optimizer):
    ours = as_run(optimizer, STREAM, random_tree(9))
    optax_own = by_hand(FACTORIES[optimizer](RATE), STREAM, random_tree(9))
    errors = np.linalg.norm(ours - optax_own, axis=1)
    assert np.all(errors <= 1e-6 * np.linalg.norm(optax_own, axis=1))


@pytest.mark.parametrize(
    "optimizer", [o for o in FACTORIES if o not in SIGN_RULES], ids=str
)
def test_closed_loop_runs_equal_a_python_loop_in_float64(optimizer):
    problem = NoisyQuadratic(dim=6, condition=10.0, noise=0.01, dtype="float64")
    with jax.enable_x64(True):
        data = jax.tree.map(jnp.asarray, problem.data())
        keys = train.keys(jnp.asarray(3, jnp.int32))
        params = problem.init(keys.init)
        state = train.start(optimizer, RATE, params)
        first = jnp.asarray(0, jnp.int32)
        run = jax.jit(
            lambda rate, state: train.segment(
                problem, optimizer, (), STEPS, STEPS, data, rate, keys.data, state, first
            )
        )
        ours = vector(run(jnp.float64(RATE), state)[0].params)

        rule = FACTORIES[optimizer](RATE)
        inner, gradient = rule.init(params), jax.jit(jax.grad(problem.loss))
        for t in range(STEPS):
            batch = problem.sample(data, jax.random.fold_in(keys.data, t))
            update, inner = rule.update(gradient(params, batch), inner, params)
            params = optax.apply_updates(params, update)
    expected = vector(params)
    assert np.linalg.norm(ours - expected) <= 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_an_update_looks_like_its_gradient_and_state_is_stable(optimizer, dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), random_tree(0))
    if isinstance(optimizer, SM3):
        del params["b"]["d"]  # it has no row or column for a scalar

    def two_steps(params):
        loss = lambda p: jnp.asarray(optax.tree.vdot(p, params))  # noqa: E731
        one = lambda: jax.tree.map(lambda g: g[None], params)  # noqa: E731
        seen = train.Seen(params, loss(params), params, loss, one)
        states = [optimizer.build(RATE).init(params)]
        for _ in range(2):
            states.append(train.apply(optimizer, RATE, seen, states[-1])[1])
        return train.apply(optimizer, RATE, seen, states[-1])[0], states

    update, states = jax.eval_shape(two_steps, params)
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shape(update) == shape(params)
    assert shape(states[0]) == shape(states[1]) == shape(states[2])


@pytest.mark.parametrize(
    "optimizer", [o for o in EVERY_OPTIMIZER if not isinstance(o, Prodigy)], ids=str
)
def test_a_zero_gradient_gives_a_finite_update(optimizer):
    """But Prodigy, whose distance estimate is 0 / 0."""
    assert np.all(np.isfinite(vector(first_step(optimizer, [0.0, 0.0]).update)))


GRADIENT = np.array([3.0, -0.5, 2.0])
# ADOPT's first step fills its average of squares; Optax's Rprop is a step late.
STILL_AT_FIRST = (ADOPT(), Rprop())


def first_update(optimizer):
    """On GRADIENT, at parameters where the loss is positive."""
    params = {"w": jnp.asarray(0.1 * GRADIENT, jnp.float32)}
    return first_step(optimizer, GRADIENT, params=params)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_the_first_update_descends_on_every_element(optimizer):
    update = vector(first_update(optimizer).update)
    if optimizer in STILL_AT_FIRST:
        assert np.all(update == 0)
    elif optimizer == CoordinateDescent():  # one element at a time, the largest
        np.testing.assert_array_equal(update * GRADIENT < 0, [True, False, False])
        assert np.all(update[1:] == 0)
    else:
        assert np.all(update * GRADIENT < 0)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_the_counterpart_rescales_nothing(optimizer):
    counterpart = optimizer.unscaled()
    assert counterpart is None or counterpart.unscaled() == counterpart


@pytest.mark.parametrize(
    "optimizer",
    [o for o in EVERY_OPTIMIZER if o.unscaled() and o not in STILL_AT_FIRST],
    ids=str,
)
def test_a_scalar_rule_multiplies_its_counterpart_by_one_number(optimizer):
    """Scalar rules: update and unscaled are parallel; the others keep the signs."""
    step = first_update(optimizer)
    ratio = vector(step.update) / vector(step.unscaled)
    moved = vector(step.update) != 0  # coordinate descent leaves the others where they are
    assert moved.all() or optimizer == CoordinateDescent()
    assert np.all(ratio[moved] > 0)
    if optimizer.unscaled() == optimizer:
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


SHARING = [
    o for o in EVERY_OPTIMIZER if o.shared(o.build(RATE).init(STREAM[0])) is not None
]


@pytest.mark.parametrize("optimizer", SHARING, ids=str)
def test_a_shared_average_is_the_one_the_counterpart_keeps(optimizer, key):
    """Bitwise, along a run that carries the counterpart's own state beside it."""
    counterpart, problem = optimizer.unscaled(), NoisyQuadratic(dim=4)
    data = jax.tree.map(jnp.asarray, problem.data())
    begin = train.start(optimizer, RATE, problem.init(key))
    assert begin.shadow is None  # nothing is carried

    def advance(carry, t):
        state, own = carry
        after, step = train.step(problem, optimizer, data, RATE, key, state, t)
        nothing: Any = None  # an average asks for neither loss nor examples
        seen = train.Seen(state.params, step.loss, step.grad, nothing, nothing)
        update, own = train.apply(counterpart, RATE, seen, own)
        shared = optimizer.shared(after.optimizer)
        return (after, own), ((step.unscaled, shared), (update, own))

    carried = counterpart.build(RATE).init(begin.params)
    _, (shared, carried) = jax.lax.scan(advance, (begin, carried), jnp.arange(20))
    jax.tree.map(np.testing.assert_array_equal, shared, carried)


def test_labels_and_colours_are_unique():
    assert len({o.label for o in EVERY_OPTIMIZER}) == len(EVERY_OPTIMIZER)
    assert len({o.colour for o in EVERY_OPTIMIZER}) == len(EVERY_OPTIMIZER)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), RMSProp()], ids=str)
def test_the_first_step_of_adam_and_rmsprop_is_a_sign_step(optimizer):
    grad = np.array([10.0, 20.0, -40.0])
    update = vector(first_step(optimizer, grad).update)
    np.testing.assert_allclose(update, -0.1 * np.sign(grad), rtol=1e-5)


def test_lion_takes_the_sign_of_its_counterpart():
    lion = by_hand(Lion().build(1.0), STREAM, random_tree(9))
    average = by_hand(LionAveraging().build(1.0), STREAM, random_tree(9))
    np.testing.assert_array_equal(lion, np.sign(average))


def test_adam_without_division_is_its_counterpart():
    """eps >> sqrt(v): Adam at rate eps is the bias-corrected average (Choi 2019)."""
    adam = by_hand(Adam(eps=1e6).build(1e6), STREAM, random_tree(9))
    average = by_hand(Averaging().build(1.0), STREAM, random_tree(9))
    np.testing.assert_allclose(adam, average, rtol=1e-4, atol=1e-6)


def test_decoupled_decay_is_left_out_of_the_update_and_reported():
    params = {"w": jnp.asarray([1.0, -2.0])}
    plain = first_step(Adam(), [3.0, 4.0], params=params)
    decayed = first_step(AdamW(weight_decay=0.5), [3.0, 4.0], params=params)
    np.testing.assert_allclose(vector(decayed.update), vector(plain.update), rtol=1e-5)
    np.testing.assert_allclose(vector(decayed.decay), [-0.05, 0.1], rtol=1e-6)
    applied = trees.norm(jax.tree.map(jnp.add, decayed.update, decayed.decay))
    own = optax.adamw(0.1, weight_decay=0.5)
    update, _ = own.update({"w": jnp.asarray([3.0, 4.0])}, own.init(params), params)
    np.testing.assert_allclose(applied, trees.norm(update), rtol=1e-6)
