"""Block quadratics and the matrices frozen in front of gradient descent."""

import jax
import numpy as np
import pytest

from experiments import block_hessian
from study.problems import BlockQuadratic


@pytest.mark.parametrize("heterogeneous", [True, False])
def test_both_kinds_have_the_nine_eigenvalues(heterogeneous):
    problem = BlockQuadratic(heterogeneous=heterogeneous, rotation_seed=3)
    found = np.linalg.eigvalsh(problem.hessian())
    np.testing.assert_allclose(found, np.sort(problem.eigenvalues(), axis=1), rtol=1e-9)
    nine = [1, 2, 3, 99, 100, 101, 4998, 4999, 5000]
    np.testing.assert_allclose(np.sort(found.ravel()), nine, rtol=1e-9)
    within = found.max(1) / found.min(1)
    assert (within <= 3.001).all() if heterogeneous else (within > 1000).all()


def test_the_gradient_is_hessian_times_place(key):
    problem = BlockQuadratic(dtype="float64")
    with jax.enable_x64(True):
        params = problem.init(key)
        grad = jax.grad(problem.loss)(params, problem.data())
        for block, hessian in enumerate(problem.hessian()):
            found = np.asarray(grad[str(block)])
            np.testing.assert_allclose(found, hessian @ np.asarray(params[str(block)]))


@pytest.mark.parametrize("heterogeneous", [True, False])
def test_condition_and_rate_are_those_of_the_product(heterogeneous):
    problem = BlockQuadratic(heterogeneous=heterogeneous)
    hessian, start = problem.hessian(), np.random.default_rng(0).normal(size=(3, 3))
    made = block_hessian.matrices(problem, hessian, start)
    assert set(made) == set(block_hessian.FROZEN)
    for diagonal, condition in made.values():
        ends = np.concatenate(
            [
                np.linalg.eigvals(np.diag(d) @ h).real
                for d, h in zip(diagonal, hessian, strict=True)
            ]
        )
        assert ends.max() / ends.min() == pytest.approx(condition, rel=1e-6)
        assert ends.max() + ends.min() == pytest.approx(2, rel=1e-9)
    assert made["none"][1] == pytest.approx(5000)
    assert made["block"][1] == pytest.approx(3 if heterogeneous else 4998, rel=1e-6)
    gradient = np.einsum("bij,bj->bi", hessian, start)
    ratio = made["element"][0] * np.abs(gradient)
    np.testing.assert_allclose(ratio, ratio[0, 0])
