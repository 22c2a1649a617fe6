"""Losses and pixels changed in scale, against what algebra says of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vector

from experiments.loss_scale_in_the_wild import (
    CONDITIONS,
    POWER,
    Changed,
    _places,
    against_plain,
    begin,
    table,
    with_first_kernel,
)
from study import devices, optimizers
from study.problems import Digits

PROBLEM = Digits(width=5, depth=1, batch_size=6, dtype="float64")
NAMES = tuple(CONDITIONS)


@pytest.fixture(scope="module")
def made():
    """Per condition: (changed problem, params, key, data), in float64."""
    with devices.precision("float64"):
        rows = table(PROBLEM, NAMES)
        key = jax.random.key(3)
        starts = jax.tree.map(lambda leaf: leaf[None], (PROBLEM.init(key), key))
        data = jax.tree.map(jnp.asarray, PROBLEM.data())
        yield {
            name: (*begin(PROBLEM, starts, rows, i, 0), data)
            for i, name in enumerate(NAMES)
        }


@jax.jit
def _slopes(numbers, params, batch):
    """Loss, gradient, and gradients of single examples, of any condition."""
    changed = Changed(PROBLEM, *numbers)
    one = jax.vmap(jax.grad(changed.loss), (None, 0))
    return *changed.slope(params, batch), one(params, changed.examples(batch))


def numbers_of(changed):
    """Its fields but the problem."""
    fields = dataclasses.fields(changed)[1:]
    return tuple(jnp.asarray(getattr(changed, field.name)) for field in fields)


def first(made, name):
    """The batch of a condition's first step, then what `_slopes` gives."""
    changed, params, key, data = made[name]
    batch = changed.batch(data, key, jnp.asarray(0))
    return batch, *_slopes(numbers_of(changed), params, batch)


def slope(made, name):
    """Loss and gradient of a condition's first step."""
    return first(made, name)[1:3]


def examples(made, name):
    """Gradients of single examples [example, element]."""
    leaves = jax.tree.leaves(first(made, name)[3])
    return np.concatenate([np.asarray(x).reshape(len(x), -1) for x in leaves], axis=1)


def probabilities(made):
    """Of the labels [example], by NumPy, in the plain condition."""
    changed, params, key, data = made["plain"]
    images, labels = changed.batch(data, key, jnp.asarray(0))
    x = np.asarray(images)
    layers = jax.tree.map(np.asarray, params["layers"])
    hidden = np.maximum(x @ layers[0]["kernel"] + layers[0]["bias"], 0)
    logits = hidden @ layers[1]["kernel"] + layers[1]["bias"]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares[np.arange(len(x)), np.asarray(labels)]


def test_the_plain_condition_is_the_problem(made):
    _, params, key, data = made["plain"]
    loss, grad = slope(made, "plain")
    batch = PROBLEM.batch(data, key, jnp.asarray(0))
    own: tuple = jax.jit(PROBLEM.slope)(params, batch)
    np.testing.assert_allclose(loss, own[0], rtol=1e-12)
    np.testing.assert_allclose(vector(grad), vector(own[1]), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(loss, -np.log(probabilities(made)).mean(), rtol=1e-12)


def test_minus_p_weights_the_gradient_of_each_sample_by_its_probability(made):
    p, plain = probabilities(made), examples(made, "plain")
    np.testing.assert_allclose(
        examples(made, "minus p"), p[:, None] * plain, rtol=1e-9, atol=1e-14
    )
    np.testing.assert_allclose(
        examples(made, "power of p"), p[:, None] ** POWER * plain, rtol=1e-9, atol=1e-14
    )
    loss, grad = slope(made, "minus p")
    np.testing.assert_allclose(loss, -p.mean(), rtol=1e-12)
    _, weighted = slope(made, "p weights")
    np.testing.assert_allclose(vector(weighted) * p.mean(), vector(grad), rtol=1e-9)


def test_pixels_and_kernel_in_step_give_the_same_function_and_only_its_kernel_other_slopes(
    made,
):
    plain_loss, plain = slope(made, "plain")
    loss, grad = slope(made, "same function")
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-12)
    scaled = with_first_kernel(plain, 255.0)
    np.testing.assert_allclose(vector(grad), vector(scaled), rtol=1e-9, atol=1e-14)
    raw_loss, _ = slope(made, "255")
    assert abs(raw_loss - plain_loss) > 1


def test_standardised_pixels_have_mean_0_and_deviation_1(made):
    changed, _, _, data = made["standardised"]
    images = np.asarray(changed.images(data["train"])[0])
    np.testing.assert_allclose((images.mean(), images.std()), (0, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optimizers.SGD(), 255**2),
        (optimizers.Momentum(), 255**2),
        (optimizers.NormalisedByLeaf(eps=0.0), 255),
        (optimizers.SignDescent(), 255),
        (optimizers.Adam(eps=0.0), 255),
        (optimizers.LARS(), 1),
        (optimizers.LAMB(eps=0.0), 1),
    ],
    ids=str,
)
def test_the_first_kernel_moves_the_function_so_many_times_as_far(
    made, optimizer, expected
):
    updates = []
    for name, factor in (("plain", 1.0), ("same function", 255.0)):
        _, grad = slope(made, name)
        rule = optimizer.build(0.1)
        params = made[name][1]
        update, _ = jax.jit(rule.update)(grad, rule.init(params), params)
        updates.append(with_first_kernel(update, factor)["layers"])
    plain, own = updates
    for name, times in (("kernel", expected), ("bias", 1)):
        moved = np.asarray(own[0][name])
        np.testing.assert_allclose(moved, times * plain[0][name], rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(own[1]["kernel"], plain[1]["kernel"], rtol=1e-6, atol=1e-15)


def trained(made, name, rate, steps=4, kernel=1.0):
    """Params after gradient descent, the first kernel's rate divided by `kernel`^2."""
    changed, params, key, data = made[name]
    for t in range(steps):
        batch = changed.batch(data, key, jnp.asarray(t))
        _, grad, _ = _slopes(numbers_of(changed), params, batch)
        grad = with_first_kernel(grad, 1 / kernel**2)
        params = jax.tree.map(lambda theta, g: theta - rate * g, params, grad)
    return params


def test_a_rate_undoes_a_factor_on_the_loss_but_the_pixels_need_one_for_each_leaf(made):
    plain = trained(made, "plain", 0.25)
    shifted = trained(made, "loss x 256", 0.25 / 256)
    np.testing.assert_array_equal(vector(shifted), vector(plain))
    by_leaf = with_first_kernel(trained(made, "same function", 0.25, kernel=255.0), 255.0)
    np.testing.assert_allclose(vector(by_leaf), vector(plain), rtol=1e-7, atol=1e-12)
    for rate in (0.25, 0.25 / 255, 0.25 / 255**2):
        own = with_first_kernel(trained(made, "same function", rate), 255.0)
        assert np.abs(vector(own) - vector(plain)).max() > 1e-3


def test_weights_stay_finite_where_every_probability_underflows():
    problem = Digits(width=5, depth=1, batch_size=6)
    params = problem.init(jax.random.key(0))
    images, labels = (jnp.asarray(x[:4]) for x in problem.data()["train"])
    changed = Changed(problem, 1.0, 2, 1e6, 0.0)
    batch = changed.images((images, labels))
    loss, grad = jax.jit(changed.slope)(params, batch)
    assert np.isfinite(loss)
    assert np.isfinite(vector(grad)).all()


def test_products_with_the_plain_update():
    updates = np.array([[[3.0, 4.0]], [[6.0, 8.0]], [[4.0, -3.0]]])
    own, plain, both = against_plain(updates)
    np.testing.assert_array_equal(np.sqrt(own / plain)[:, 0], [1, 2, 1])
    np.testing.assert_array_equal((both / np.sqrt(own * plain))[:, 0], [1, 1, 0])


def test_a_network_that_says_one_class_has_lost_the_others(made):
    changed, params, _, data = made["same function"]
    params = jax.tree.map(jnp.zeros_like, params)
    found = jax.jit(changed.evaluate)(data, params)
    assert found["classes_lost"] == 9
    np.testing.assert_allclose(found["test_loss"], np.log(10))


def test_rates_are_selected_by_the_plain_condition_by_loss_and_by_accuracy():
    losses = np.array([[[1.0], [0.5], [2.0]], [[1.0], [np.nan], [0.7]]])
    accuracies = np.array([[[0.5], [0.6], [0.7]], [[0.8], [0.1], [0.2]]])
    places, edges = _places(losses, accuracies)
    np.testing.assert_array_equal(places, [[1, 1], [1, 2], [2, 0], [1, 2]])
    np.testing.assert_array_equal(edges, [0, 1])
