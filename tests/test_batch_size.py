"""Batches of a problem's training data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vector

from experiments.batch_size import Sampled, training_data, whole_loss
from study.problems import Digits, HeavyTailed, Text

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
