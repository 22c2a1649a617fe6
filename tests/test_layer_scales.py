"""Deviations of trained functions, and sharpness at rescaled starts."""

import jax
import jax.flatten_util
import numpy as np
import pytest

from experiments import layer_scales
from study import curvature, devices, sweep
from study.problems import ReluRegression


def test_deviation_is_relative_to_the_way_gone_and_keeps_what_is_lost():
    outputs = np.zeros((3, 1, 2, 2, 4))
    outputs[0, 0, :, 1] = 2.0  # the plain run went a way of 4
    outputs[1, 0, 0, 1] = 3.0
    outputs[1, 0, 1, 1] = 2.0
    outputs[2, 0, :, 1] = np.nan
    found = layer_scales.deviations(outputs)[:, 0]
    np.testing.assert_allclose(found, [[0, 0], [0.5, 0], [np.inf, np.inf]])
    outputs[0, 0, 0, 1] = np.inf
    outputs[0, 0, 1, 1] = 0.0
    assert np.isnan(layer_scales.deviations(outputs)).all()


def test_the_hessian_of_a_rescaled_start_is_the_plain_one_seen_through_the_scales():
    """theta' = D theta with f the same, so H' = D^-1 H D^-1."""
    c, small = 3.0, {"width": 3, "samples": 6, "inputs": 2, "dtype": "float64"}
    plain, other = ReluRegression(**small), ReluRegression(balance=c, **small)
    with devices.precision("float64"):
        key, data = jax.random.key(0), plain.data()
        one, two = plain.init(key), other.init(key)
        np.testing.assert_allclose(
            plain.outputs(one, data[0]), other.outputs(two, data[0]), rtol=1e-12
        )
        flat, back = jax.flatten_util.ravel_pytree(one)
        hessian = np.asarray(jax.hessian(lambda x: plain.loss(back(x), data))(flat))
        scales = np.r_[np.full(6, 1 / c), np.full(3, c)]
        expected = np.linalg.eigvalsh(scales[:, None] * hessian * scales)[-1]
        found = curvature.largest(lambda p: other.loss(p, data), two)[0]
        assert found == pytest.approx(expected, rel=1e-8)
        stacked = jax.tree.map(lambda x: x[None], sweep.starts(other, (0, 1))[0])
        measured = layer_scales._sharpness(other, data, stacked)
        assert measured.shape == (1, 2)
        start = jax.tree.map(lambda x: x[0, 0], stacked)
        again = curvature.largest(lambda p: other.loss(p, data), start)[0]
        assert measured[0, 0] == pytest.approx(again, rel=1e-8)
