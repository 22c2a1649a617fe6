"""Curvature of a loss by products with its Hessian, which is never formed.

Eigenvalues come from SciPy's Lanczos iteration (ARPACK, Lehoucq et al. 1998,
doi:10.1137/1.9780898719628) on the products of Pearlmutter (1994),
doi:10.1162/neco.1994.6.1.147.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from study import trees
from study.types import Array, Params


def product(loss: Callable[[Params], Array], params: Params, along: Params) -> Params:
    """H v: the Hessian of a loss at params times a tree like params."""
    return jax.jvp(jax.grad(loss), (params,), (along,))[1]


def largest(loss: Callable[[Params], Array], params: Params, count: int = 1) -> np.ndarray:
    """The algebraically largest eigenvalues of the Hessian [count], ascending, float64.

    Args:
        loss: of params, twice differentiable.
        params: theta, of more than `count` elements.
        count: how many.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: the iteration has not converged.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    flat, back = ravel_pytree(params)
    if flat.size <= count + 1:
        dense = jax.hessian(lambda x: loss(back(x)))(flat)
        return np.linalg.eigvalsh(np.asarray(dense, np.float64))[-count:]

    @jax.jit
    def bend(vector: Array) -> Array:
        return ravel_pytree(product(loss, params, back(vector)))[0]

    def multiply(vector: Any) -> np.ndarray:
        return np.asarray(bend(np.asarray(vector.ravel(), flat.dtype)), np.float64)

    operator = LinearOperator((flat.size, flat.size), matvec=multiply, dtype=np.float64)  # type: ignore[call-arg]
    start = np.random.default_rng(0).normal(size=flat.size)
    single = flat.dtype != np.float64
    found = eigsh(
        operator,
        k=count,
        which="LA",
        v0=start,
        tol=1e-4 if single else 1e-10,  # pyright: ignore[reportArgumentType]
        return_eigenvectors=False,
    )
    return np.sort(found)


def along(loss: Callable[[Params], Array], params: Params, direction: Params) -> Array:
    """v^T H v / |v|^2 [] along a direction v, a tree like params; NaN where it is 0.

    The directional sharpness of Pan & Li (2023), arXiv:2306.00204.
    """
    bent = product(loss, params, direction)
    return trees.dot(direction, bent) / trees.dot(direction, direction)


def power_iteration(
    loss: Callable[[Params], Array],
    params: Params,
    scale: Params | None = None,
    iterations: int = 60,
) -> Array:
    """The eigenvalue [] of largest magnitude of S^1/2 H S^1/2, S = diag(scale) or 1.

    From a fixed normal vector, the Rayleigh quotient after so many products. Unlike
    `largest` it maps over runs and may stand inside a compiled run; where the two largest
    magnitudes are close it is a little low.

    Args:
        loss: of params, twice differentiable.
        params: theta.
        scale: positive, a tree like params, such as the inverse of Adam's preconditioner.
        iterations: products with the Hessian.
    """
    flat, back = ravel_pytree(params)
    root = 1.0 if scale is None else jnp.sqrt(ravel_pytree(scale)[0])

    def multiply(vector: Array) -> Array:
        return root * ravel_pytree(product(loss, params, back(root * vector)))[0]

    def advance(_: Any, vector: Array) -> Array:
        bent = multiply(vector)
        length = jnp.linalg.norm(bent)  # 0 where the loss is flat: so is the eigenvalue
        return jnp.where(length > 0, bent / jnp.where(length > 0, length, 1), vector)

    start = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
    vector = jax.lax.fori_loop(0, iterations, advance, start / jnp.linalg.norm(start))
    return vector @ multiply(vector)
