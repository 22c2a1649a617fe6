"""The one-hot companion against training by Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import heavy_tail


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
