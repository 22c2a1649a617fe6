"""Power iteration against dense eigenvalues; thresholds against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import edge_of_stability as edge
from study import curvature, devices
from study.optimizers import SGD, Averaging, Momentum
from study.problems import ChebyshevFit, NoisyQuadratic

NET = ChebyshevFit(width=3, points=6, dtype="float64")


@pytest.mark.parametrize("scaled", [False, True])
def test_power_iteration_finds_the_largest_eigenvalue(scaled, key):
    with devices.precision("float64"):
        params, data = NET.init(key), NET.data()
        flat, back = ravel_pytree(params)
        scale = back(jnp.exp(jax.random.normal(key, flat.shape))) if scaled else None
        loss = lambda p: NET.loss(p, data)  # noqa: E731
        hessian = np.asarray(jax.hessian(lambda x: loss(back(x)))(flat))
        root = np.sqrt(np.asarray(ravel_pytree(scale)[0])) if scaled else np.ones(len(flat))
        values = np.linalg.eigvalsh(root[:, None] * hessian * root)
        largest = values[np.argmax(np.abs(values))]
        found = curvature.power_iteration(loss, params, scale, iterations=2000)
        assert float(found) == pytest.approx(largest, rel=1e-6)
        if not scaled and largest > 0:
            assert curvature.largest(loss, params)[0] == pytest.approx(largest, rel=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(), Momentum(), Averaging()], ids=str)
def test_bisection_finds_the_threshold(optimizer):
    problem = NoisyQuadratic(dim=1, noise=0.0, dtype="float64")
    with devices.precision("float64"):
        found = edge._threshold(problem, optimizer, 4000)
    assert found == pytest.approx(edge.THRESHOLDS[str(optimizer)], rel=2e-3)


def test_the_target_is_the_polynomial():
    x, y, factor = ChebyshevFit().data()
    np.testing.assert_allclose(y, np.cos(4 * np.arccos(x[:, 0])), atol=1e-6)
    assert factor == 1


def test_a_factor_multiplies_the_loss_alone(key):
    net = dataclasses.replace(NET, factor=3.0)
    with devices.precision("float64"):
        params, data = net.init(key), net.data()
        loss, error = net.loss(params, data), net.error(params, data)
        assert float(loss) == pytest.approx(3 * float(error))


def test_a_flat_loss_has_the_eigenvalue_zero():
    flat = curvature.power_iteration(lambda p: jnp.sum(p["w"]), {"w": jnp.ones(3)})
    assert float(flat) == 0
