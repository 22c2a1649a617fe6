"""Quadratics, where curvature, basis and noise are known exactly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class NoisyQuadratic(Problem):
    """f(x) = x^T H x / 2, seen through gradients H x + xi with Gaussian noise xi.

    H = R diag(lambda) R^T, eigenvalues log-spaced from 1 down to 1 / condition. Noise is
    independent in each element of x (the basis that element-wise rules see), its standard
    deviation log-spaced over a factor `noise_spread` around `noise`, largest where an
    unrotated H is steepest. The start is standard normal.
    """

    label = "Noisy quadratic"
    selects = "objective"
    reports = "objective"

    dim: int = 64
    """Number of elements."""
    condition: float = 100.0
    """Largest eigenvalue over smallest, at least 1."""
    rotation: float | Literal["random"] = 0.0
    """Degrees by which each plane (i, dim - 1 - i) is turned, or `random`: Haar."""
    rotation_seed: int = 0
    """Of the Haar rotation."""
    noise: float = 0.1
    """Geometric mean of the elements' noise, a standard deviation."""
    noise_spread: float = 1.0
    """Largest noise over smallest; 1 is the same noise in every element."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(dim=1, condition=1, noise=0, noise_spread=1, rotation_seed=0)

    def eigenvalues(self) -> np.ndarray:
        """Of H [dim], descending from 1."""
        return np.geomspace(1.0, 1.0 / self.condition, self.dim)

    def basis(self) -> np.ndarray:
        """R [dim, dim], orthogonal; its columns are eigenvectors of H."""
        if self.rotation == "random":
            from scipy.stats import ortho_group

            if self.dim == 1:
                return np.eye(1)
            return ortho_group.rvs(self.dim, random_state=self.rotation_seed)
        assert isinstance(self.rotation, float)
        turned, radians = np.eye(self.dim), np.deg2rad(self.rotation)
        for i in range(self.dim // 2):
            j = self.dim - 1 - i
            turned[i, i] = turned[j, j] = np.cos(radians)
            turned[j, i], turned[i, j] = np.sin(radians), -np.sin(radians)
        return turned

    def data(self) -> Data:
        """{hessian [dim, dim], noise [dim]}."""
        import jax.numpy as jnp

        basis, kind = self.basis(), jnp.dtype(self.dtype)
        half = np.sqrt(self.noise_spread)
        return {
            "hessian": ((basis * self.eigenvalues()) @ basis.T).astype(kind),
            "noise": (self.noise * np.geomspace(half, 1 / half, self.dim)).astype(kind),
        }

    def init(self, key: Key) -> Params:
        """{x [dim]}, standard normal."""
        import jax

        return {"x": jax.random.normal(key, (self.dim,), self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """(H [dim, dim], xi [dim])."""
        import jax

        noise = jax.random.normal(key, (self.dim,), self.dtype)
        return data["hessian"], data["noise"] * noise

    def loss(self, params: Params, batch: Batch) -> Array:
        """x^T H x / 2 + xi^T x, whose gradient is H x + xi."""
        hessian, xi = batch
        return self._objective(hessian, params) + xi @ params["x"]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The objective without noise, at least 0 with optimum 0."""
        return {"objective": self._objective(data["hessian"], params)}

    def _objective(self, hessian: Array, params: Params) -> Array:
        import jax.numpy as jnp

        x = params["x"]
        return jnp.matmul(x, jnp.matmul(hessian, x, precision="highest")) / 2
