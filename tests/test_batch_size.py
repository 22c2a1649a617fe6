"""Batches of a problem's training data; images of another kind; the paper's preset."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vector

from experiments import batch_size
from experiments.batch_size import Sampled, training_data, whole_loss
from study import arguments, devices
from study.errors import UserError
from study.problems import Digits, GivenGradient, HeavyTailed, LeNet, Text

PROBLEMS = (
    HeavyTailed(groups=2),
    Digits(width=4, depth=1),
    Text(depth=1, width=4, heads=2, context=4, windows=6, batch_size=0, part=2),
)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_all_samples_have_the_mean_gradient_and_batches_are_samples(problem, key):
    data = jax.tree.map(lambda x: jnp.asarray(x[0]), training_data(problem, 1))
    params = problem.init(key)
    whole: tuple = Sampled(problem, 0).slope(params, data)
    expected = jax.value_and_grad(problem.loss)(params, data)
    np.testing.assert_allclose(vector(whole), vector(expected), rtol=1e-4, atol=1e-5)
    loss = whole_loss(problem, params, data)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    batch = Sampled(problem, 3).batch(data, key, jnp.asarray(5))
    rows = np.asarray(jax.tree.leaves(data)[0])
    for drawn in np.asarray(jax.tree.leaves(batch)[0]):
        assert (rows == drawn[None]).reshape(len(rows), -1).all(1).any()
    again = Sampled(problem, 3).batch(data, key, jnp.asarray(5))
    jax.tree.map(np.testing.assert_array_equal, batch, again)


def test_data_sets_differ_by_seed_where_there_are_several():
    one, other = training_data(HeavyTailed(groups=2), 2)[0]
    assert not np.array_equal(one, other)


def test_images_are_any_classification_and_nothing_else():
    _, spec, _ = arguments.parse(batch_size, ["--images", "LeNet(batch_size=0)"])
    assert spec == dataclasses.replace(batch_size.DEFAULT, images=LeNet(batch_size=0))
    _, spec, _ = arguments.parse(batch_size, ["--images.width", "8"])
    assert spec.problems[1] == Digits(width=8)
    options = ["--images", "LeNet(images='mnist')", "--images.part", "7"]
    _, spec, _ = arguments.parse(batch_size, options)
    assert spec.problems[1] == LeNet(images="mnist", part=7)
    with pytest.raises(UserError, match="images"):
        dataclasses.replace(batch_size.DEFAULT, images=HeavyTailed())


def test_momentum_on_updates_is_the_sources():
    """torch.optim.SGD's buffer over normalised gradients, as in `normalized_gd.py`."""
    problem = GivenGradient(gradient=(3.0, -4.0))
    rule = batch_size._with_momentum(batch_size.optimizers.SignDescent()).build(0.1)
    params = problem.init(jax.random.key(0))
    state, buffer = rule.init(params), 0.0
    for sign in (1.0, -1.0, 1.0):
        grad = jax.tree.map(lambda x: sign * jnp.ones_like(x), params)  # noqa: B023
        update, state = rule.update(grad, state, params)
        buffer = 0.9 * buffer + sign
        np.testing.assert_allclose(vector(update), -0.1 * buffer, rtol=1e-6)


@pytest.mark.parametrize("field", batch_size.FIELDS)
def test_a_run_of_the_paper_preset_traces(field):
    """Data and starts as shapes alone, all of the data in parts."""
    paper = batch_size.PRESETS["paper"]
    problem = getattr(paper, field)
    seeds, kind = paper.seeds, jnp.dtype(problem.dtype)
    like = jax.ShapeDtypeStruct
    data = {
        "problem": lambda: _heavy_tailed(problem, seeds),
        "images": lambda: (like((1, 8000, 28, 28), kind), like((1, 8000), jnp.int32)),
        "text": lambda: like((1, problem.windows, problem.context + 1), jnp.int32),
    }[field]()
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), seeds))
    starts = (jax.eval_shape(jax.vmap(problem.init), key), key)
    with devices.precision(problem.dtype):
        run = batch_size.trainer(paper, problem, paper.optimizers[-1], 0)
        found = jax.eval_shape(run, data, starts, like((), kind))
    assert found.shape == (seeds, len(paper.horizons))


def _heavy_tailed(problem, seeds):
    samples = problem.groups * 2**problem.groups
    shapes = ((seeds, samples, problem.inputs), jnp.float32), ((seeds, samples), jnp.int32)
    return tuple(jax.ShapeDtypeStruct(*one) for one in shapes)
