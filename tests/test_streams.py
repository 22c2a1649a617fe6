"""Open loop: streams, their transformations, and rescaled gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import SMALL_DIGITS, SMALL_QUADRATIC, vector

from study import rescaling, streams, symmetry, train
from study.optimizers import OPTIMIZERS, SGD, Adam, NormalisedGD, SignDescent
from study.problems import RandomLayer, ReluRegression

SHAPES = [(4,), (3, 2)]


def stream_of(problem, steps=6):
    return streams.record(problem, SGD(), 0.1, steps, 0, problem.data())


def test_a_stream_on_its_guides_rule_leads_along_the_guides_path():
    problem = SMALL_QUADRATIC
    stream = stream_of(problem)
    made = streams.vector(streams.updates(SGD(), 0.1, stream))
    end = streams.vector(stream.params, 0) + made.sum(0)
    keys = train.keys(jnp.asarray(0, jnp.int32))
    state = train.start(SGD(), 0.1, problem.init(keys.init))
    zero = jnp.asarray(0, jnp.int32)
    after, _ = train.segment(
        problem, SGD(), (), 6, 6, problem.data(), 0.1, keys.data, state, zero
    )
    np.testing.assert_allclose(end, vector(after.params), rtol=1e-5)


def test_updates_equal_a_python_loop_over_optax():
    stream = stream_of(SMALL_DIGITS)
    found = np.asarray(streams.vector(streams.updates(Adam(), 0.1, stream)))
    rule, params = optax.adam(0.1), stream.params
    state = rule.init(params)
    for t, row in enumerate(found):
        grad = jax.tree.map(lambda g, t=t: g[t], stream.grads)
        update, state = rule.update(grad, state, params)
        np.testing.assert_allclose(row, vector(update), rtol=1e-4, atol=1e-7)


def test_decoupled_decay_is_left_out():
    stream = stream_of(SMALL_DIGITS)
    plain, decayed = OPTIMIZERS["Adam"](), OPTIMIZERS["AdamW"](weight_decay=0.5)
    a, b = (streams.vector(streams.updates(o, 0.1, stream)) for o in (plain, decayed))
    np.testing.assert_allclose(a, b, atol=2e-7)


def test_vectors_and_trees_are_inverse():
    params = SMALL_DIGITS.init(jax.random.key(0))
    back = streams.tree_like(streams.vector(params, 0), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), params, back))


def test_transformations_are_what_they_are_called():
    made = symmetry.changes(SHAPES, seed=3)
    assert list(made) == list(symmetry.OPEN_LOOP)
    for name in ("permutation", "rotation", "matrix_rotation"):
        matrix = made[name].matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(10), atol=1e-12)
        assert made[name].equivariant
    kernel = made["matrix_rotation"].matrix[4:, 4:]
    assert np.allclose(made["matrix_rotation"].matrix[:4, :4], np.eye(4))
    turned = (kernel @ np.outer([1, 2, 3], [1, -1]).ravel()).reshape(3, 2)
    assert np.linalg.matrix_rank(turned) == 1  # rows and columns turn, rank stays
    for name in ("element", "leaf", "loss_factor"):
        diagonal = np.diagonal(made[name].matrix)
        assert np.all(diagonal > 0)
        np.testing.assert_array_equal(made[name].matrix, np.diag(diagonal))


@pytest.mark.parametrize(
    ("first", "late", "law", "expected"),
    [
        (0, 1e-12, np.nan, "yes"),
        (1e-3, 1e-12, np.nan, "approximate"),
        (1e-3, 2.0, np.nan, "early"),
        (np.inf, 1e-3, np.nan, "late"),
        (2.0, 2.0, 0.01, "in law"),
        (1e-2, 1e-2, 0.01, "in law"),
        (2.0, np.inf, 1.0, "no"),
        (0.0, np.nan, np.nan, "undefined"),
    ],
)
def test_outcomes_by_their_thresholds(first, late, law, expected):
    assert symmetry.outcome(first, late, law) == expected


def test_floors_have_their_closed_form():
    """s / (s + eps) falls to half at eps, where its slope is 1/2."""
    scales = symmetry.SCALES
    floor, slope = symmetry.find_floor(scales / (scales + 1e-8))
    assert floor == pytest.approx(1e-8, rel=0.05)
    assert slope == pytest.approx(0.5, abs=0.1)
    assert np.isnan(symmetry.find_floor(scales)[0])
    assert symmetry.find_floor(np.ones_like(scales))[0] == 0


def test_measured_symmetries_of_rules_known_by_heart():
    problem = RandomLayer(dtype="float64")
    with jax.enable_x64(True):
        stream = stream_of(problem, steps=20)
        found = {o: symmetry.measure(o, 0.01, stream, 0) for o in (SGD(), SignDescent())}
        norm = symmetry.measure(NormalisedGD(eps=0.0), 0.01, stream, 0)
    errors = dict(zip(symmetry.OPEN_LOOP, found[SGD()]["error"].max(1), strict=True))
    assert errors["loss_factor"] == pytest.approx(symmetry.FACTOR - 1)
    assert errors["rotation"] < 1e-12
    assert found[SGD()]["degree"] == pytest.approx(1)
    signs = dict(zip(symmetry.OPEN_LOOP, found[SignDescent()]["error"].max(1), strict=True))
    assert signs["element"] == 0
    assert signs["rotation"] > 0.5
    assert norm["degree"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("balance", [0.1, 10.0])
def test_rescaled_layers_are_the_same_function(balance):
    plain = ReluRegression(dtype="float64")
    other = dataclasses.replace(plain, balance=balance)
    with jax.enable_x64(True):
        x = jnp.asarray(plain.data()[0])
        key = jax.random.key(0)
        one, two = (p.outputs(p.init(key), x) for p in (plain, other))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_a_rescaled_gradient_leaves_the_loss_alone():
    problem = SMALL_DIGITS
    params = problem.init(jax.random.key(0))
    data = jax.tree.map(jnp.asarray, problem.data())
    batch = problem.sample(data, jax.random.key(1))
    scales = rescaling.gradient_scales(problem, problem.data(), draws=4)
    logs = rescaling.log_factors("element", scales, jax.random.key(2))
    factors = rescaling.factors(logs, 2.0)
    told = rescaling.RescaledGradient(problem, factors)
    assert told.loss(params, batch) == problem.loss(params, batch)
    expected = vector(jax.grad(problem.loss)(params, batch)) * vector(factors)
    found = vector(jax.grad(told.loss)(params, batch))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_factors_by_kind():
    scales = {"a": jnp.asarray([1.0, 10.0, 100.0]), "b": jnp.full((400,), 10.0)}
    key = jax.random.key(0)
    by_leaf = rescaling.log_factors("leaf", scales, key)
    assert all(np.ptp(leaf) == 0 for leaf in jax.tree.leaves(by_leaf))
    tied = vector(rescaling.log_factors("correlated", scales, key))
    assert tied.mean() == pytest.approx(0, abs=1e-5)
    assert tied.std() == pytest.approx(1, rel=1e-5)
    assert tied[0] < tied[1] < tied[2]
    normal = vector(rescaling.log_factors("element", scales, key))
    assert normal.std() == pytest.approx(1, abs=0.15)
    none = rescaling.factors(rescaling.log_factors("element", scales, key), 0.0)
    assert np.all(vector(none) == 1)


def test_trainings_in_chunks_are_the_trainings(monkeypatch):
    """Two runs at a time give what all twelve give together."""
    problem, rates = SMALL_QUADRATIC, (0.01, 0.1)
    conditions = (("element", 0.0), ("leaf", 1.0), ("correlated", 2.0))
    train_all = functools.partial(
        rescaling.trainings, problem, Adam(), conditions, rates, steps=3, draws=1, each=2
    )
    together = train_all()
    monkeypatch.setattr(rescaling.programs, "abreast", lambda *_: 2)
    for name, found in train_all().items():
        np.testing.assert_allclose(found, together[name], rtol=1e-6)
