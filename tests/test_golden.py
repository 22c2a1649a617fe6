"""The first three updates of every entry against NumPy float64, written from the papers."""

import golden_trees  # noqa: F401  (registers its rules)
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN, LEAVES
from helpers import EVERY_OPTIMIZER

from study import streams
from study.optimizers import LBFGSLineSearch

RATE = 0.05
RANDOM = np.random.default_rng(7)
THETA, GRADS = RANDOM.normal(size=10), RANDOM.normal(size=(3, 10))
COMPARED = [o for o in EVERY_OPTIMIZER if not isinstance(o, LBFGSLineSearch)]
# In float32 Optax has: singular vectors, powers of t, roots of t.
LOOSE = {"GaLore": 1e-5, "Adafactor": 1e-7, "MADGRAD": 1e-7}


def tree_of(vector):
    return {
        name: jnp.asarray(vector[..., place].reshape(*vector.shape[:-1], *shape))
        for name, (place, shape) in LEAVES.items()
    }


def updates(entry):
    """Three updates [step, element] of an entry on the study's stream."""
    with jax.enable_x64(True):
        ones = jnp.ones(len(GRADS))
        stream = streams.Stream(tree_of(THETA), tree_of(GRADS), ones, jnp.asarray(1.0))
        run = jax.jit(lambda s: streams.vector(streams.updates(entry, RATE, s)))
        return np.asarray(run(stream))


@pytest.mark.parametrize("optimizer", COMPARED, ids=str)
def test_first_updates_equal_the_papers(optimizer):
    entry = optimizer.without_noise()
    expected = GOLDEN[type(entry).__name__](entry, RATE, THETA, GRADS)
    errors = np.linalg.norm(updates(entry) - expected, axis=1)
    limit = LOOSE.get(type(entry).__name__, 1e-10)
    assert np.all(errors <= limit * np.linalg.norm(expected, axis=1))


def test_every_entry_has_a_golden_rule():
    assert set(GOLDEN) == {type(o).__name__ for o in COMPARED}


def test_the_line_search_ends_where_the_strong_wolfe_conditions_hold():
    """On f = 1 + <g, d> + |d|^2 / 2: both conditions, along minus the gradient at first."""
    step, g = updates(LBFGSLineSearch())[0], GRADS[0]
    value = 1 + g @ step + step @ step / 2
    assert abs(step @ g) == pytest.approx(np.linalg.norm(step) * np.linalg.norm(g))
    assert value <= 1 + 1e-4 * g @ step
    assert abs((g + step) @ step) <= 0.9 * abs(g @ step)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_noise_has_the_stated_size(optimizer):
    quiet = optimizer.without_noise()
    if quiet == optimizer:
        return
    noise = (updates(optimizer) - updates(quiet)) / RATE
    steps = np.arange(1, len(GRADS) + 1)
    stated = {
        "NoisySGD": lambda o: np.sqrt(o.eta / steps**o.gamma),
        "DPSGD": lambda o: np.full(len(steps), o.noise_multiplier * o.l2_norm_clip),
    }[type(optimizer).__name__](optimizer)
    # The standard deviation of 30 normal numbers is within 40 % of theirs.
    assert np.std(noise / stated[:, None]) == pytest.approx(1, abs=0.4)
