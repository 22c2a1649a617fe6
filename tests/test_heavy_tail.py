"""The one-hot companion against training by Optax; the paper's preset."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import heavy_tail
from study import devices
from study.problems import HeavyTailed


def test_the_companion_is_softmax_regression_on_one_hot_inputs():
    """Gradient descent on logits W [class, class], inputs one-hot, frequencies Zipf's."""
    classes, steps = 6, 30
    pi = 1 / np.arange(1, classes + 1)
    pi /= pi.sum()
    with jax.enable_x64(True):
        labels = jnp.arange(classes)

        def losses(w):
            return optax.softmax_cross_entropy_with_integer_labels(w, labels)

        w, found = jnp.zeros((classes, classes)), []
        for _ in range(steps):
            w = w - jax.grad(lambda w: jnp.sum(pi * losses(w)))(w)
            found.append(np.asarray(losses(w)))
    places, times, law = heavy_tail.law(classes, steps)
    expected = np.array(found).T * pi[:, None] * np.arange(1, steps + 1)
    np.testing.assert_allclose(law, expected[places - 1][:, times - 1], rtol=1e-10)


def test_stops_hold_every_horizon():
    for preset in heavy_tail.PRESETS.values():
        stops = heavy_tail._stops(preset)
        assert {0, *preset.horizons} <= set(stops.tolist())
        assert np.all(np.diff(stops) > 0)


def test_inputs_are_drawn_as_in_one_piece():
    """Rows drawn some at a time are the rows drawn together."""
    problem = HeavyTailed(groups=8)
    x, classes = problem.data()
    assert x.size > 2**22  # in several pieces
    whole = np.random.default_rng(0).random((len(classes), problem.inputs))
    np.testing.assert_array_equal(x, whole.astype(np.float32))


def test_loss_and_gradient_are_those_of_softmax_regression():
    """NumPy in float64, at weights that are far from 0."""
    problem = HeavyTailed(groups=3, dtype="float64")
    with devices.precision("float64"):
        x, classes = problem.data()
        kernel = 3 * np.random.default_rng(1).normal(size=(problem.inputs, problem.classes))
        loss, grad = problem.slope({"kernel": jnp.asarray(kernel)}, (x, classes))
    odds = np.exp(x @ kernel)
    shares = odds / odds.sum(1, keepdims=True)
    each = np.arange(len(classes))
    np.testing.assert_allclose(loss, -np.log(shares[each, classes]).mean(), rtol=1e-12)
    shares[each, classes] -= 1
    np.testing.assert_allclose(grad["kernel"], x.T @ shares / len(x), atol=1e-14)


def test_the_paper_preset_is_the_published_size_and_its_runs_trace():
    """Kunstner et al. (2024): 22,528 samples, 24,576 inputs, 2,047 classes; as shapes."""
    paper = heavy_tail.PRESETS["paper"]
    problem, like = HeavyTailed(groups=11), jax.ShapeDtypeStruct
    assert problem == paper.problem
    samples = len(problem.class_of_samples())
    assert (samples, problem.inputs, problem.classes) == (22_528, 24_576, 2_047)
    data = like((1, samples, problem.inputs), jnp.float32), like((1, samples), jnp.int32)
    stops = heavy_tail._stops(paper)
    for optimizer in paper.optimizers:
        with devices.precision(problem.dtype):
            run = heavy_tail.trainer(problem, optimizer, stops)
            found = jax.eval_shape(run, data, like((), jnp.float32))
        assert found.shape == (1, len(stops), problem.groups)
    half_decades = np.log10(paper.learning_rates[::2])
    np.testing.assert_allclose(np.diff(half_decades), 0.5, atol=1e-3)
