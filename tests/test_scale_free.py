"""The wrappers of `scale_free` against catalogue entries, paths against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import scale_free
from study import devices, optimizers, train, trajectories
from study.problems import LogisticRegression, NoisyQuadratic

SMALL = LogisticRegression(samples=8, inputs=3, data_seed=1, dtype="float64")
QUADRATIC = NoisyQuadratic(dim=4, noise=0.0, dtype="float64")
SPEC = dataclasses.replace(
    scale_free.PRESETS["smoke"],
    problem=QUADRATIC,
    logistic=SMALL,
    conditions=(1.0, 50.0, 1e6),
    steps=40,
    factors=(1.0, 1e-2, 10.0),
    decayed_steps=40,
    data_seeds=1,
)


def test_a_traced_factor_and_l2_are_the_fields_of_the_problem():
    fields = dataclasses.replace(SMALL, factor=7.0, l2=0.3)
    with devices.precision("float64"):
        w = {"w": jnp.asarray([0.5, -1.0, 2.0])}
        ours = scale_free.Multiplied(SMALL, jnp.float64(7.0), jnp.float64(0.3))
        found, expected = (p.slope(w, SMALL.data()) for p in (ours, fields))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found[1]["w"], expected[1]["w"], rtol=1e-13)


@pytest.mark.parametrize(
    ("rule", "whole"),
    [
        (optimizers.Adam(), optimizers.AdamW(weight_decay=0.4)),
        (optimizers.Lion(), optimizers.Lion(weight_decay=0.4)),
    ],
    ids=str,
)
def test_decay_beside_the_update_is_the_decoupled_decay_of_the_entry(rule, whole):
    with devices.precision("float64"):
        ends = [
            trajectories.follow(
                SMALL,
                one,
                lambda t: 0.05,
                (30,),
                lambda state, t: state.params["w"],
                params=SMALL.init(jax.random.key(0)),
            )[1]
            for one in (train.Decayed(rule, 0.4, "all"), whole)
        ]
    np.testing.assert_allclose(*ends, rtol=1e-12)


def test_gradient_descent_shrinks_each_element_by_one_less_its_eigenvalue():
    with devices.precision("float64"):
        paths = scale_free._paths(SPEC, QUADRATIC, optimizers.SGD())[1]  # constant
    for condition, path in zip(SPEC.conditions, paths, strict=True):
        eigenvalues = np.geomspace(1, 1 / condition, 4)
        t = np.arange(41)[:, None]
        np.testing.assert_allclose(path, (1 - eigenvalues) ** t, rtol=1e-12, atol=1e-15)


def test_sign_descent_follows_the_cosine_at_every_condition_number():
    with devices.precision("float64"):
        paths = scale_free._paths(SPEC, QUADRATIC, optimizers.SignDescent())[0]
    x, expected = 1.0, [1.0]
    for t in range(40):
        x -= 0.02 * (1 + np.cos(np.pi * t / 40)) / 2 * np.sign(x)
        expected.append(x)
    whole = np.broadcast_to(np.array(expected)[:, None], paths[0].shape)
    for path in paths:
        np.testing.assert_allclose(path, whole, rtol=1e-12)


def test_without_epsilon_adam_does_not_see_the_condition_number_and_with_a_large_one_does():
    with devices.precision("float64"):
        blind, seeing = (
            scale_free._paths(SPEC, QUADRATIC, optimizers.Adam(eps=eps))[0]
            for eps in (0.0, 1e-3)
        )
    np.testing.assert_allclose(blind[2], blind[0], rtol=1e-9)
    assert np.abs(seeing[2] - seeing[0]).max() > 0.1


def test_a_factor_moves_the_end_only_where_decay_is_in_the_loss_and_not_multiplied():
    """Adam without epsilon: none, decoupled, coupled, coupled and multiplied."""
    with devices.precision("float64"):
        ends = scale_free._decayed(SPEC, SMALL, optimizers.Adam(eps=0.0))[:, :, 0]
        plain = scale_free._decayed(SPEC, SMALL, optimizers.SGD())[:, :, 0]
    away = np.abs(ends - ends[:, :1]).max((1, 2))
    assert (away[[0, 1, 3]] < 1e-12).all()
    assert away[2] > 0.01
    assert (np.abs(plain - plain[:, :1]).max((1, 2)) > 0.01).all()
    # Decay of SGD is the same beside the update as in the loss.
    np.testing.assert_allclose(plain[1], plain[2], rtol=1e-12)
