"""One quadratic, seen from any basis: what a rotation changes is the rule's doing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from study.problems.base import PROBLEMS, WholeData
from study.problems.quadratic import NoisyQuadratic

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


def turned_plane(condition: float, degrees: float) -> float:
    """Condition number of a turned plane after its diagonal is scaled to 1, closed form.

    With unit diagonal H has eigenvalues 1 + r and 1 - r, r its other element. Turned by an
    angle, the diagonal of H had the product (1 + q) / condition, where sqrt(q) =
    sinh(ln(condition) / 2) |sin(2 angle)|; so r^2 = q / (1 + q), and the condition is
    exp(2 asinh(sqrt q)): 1 at 0 degrees, all of it at 45. No other diagonal does better
    (Forsythe & Straus 1955, recalled).
    """
    root = np.sinh(np.log(condition) / 2) * np.abs(np.sin(2 * np.deg2rad(degrees)))
    return float(np.exp(2 * np.arcsinh(root)))


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RotatedQuadratic(WholeData):
    """f(x) = x^T H x / 2 with H = R diag(lambda) R^T, from x_0 = R z, without noise.

    Eigenvalues are log-spaced from 1 down to 1 / condition, z is standard normal. The start
    turns with the basis, unlike that of `NoisyQuadratic`: in their eigenbases the problems
    of one key are the same, whatever R is.
    """

    label = "Rotated quadratic"

    dim: int = 50
    """Number of elements."""
    condition: float = 1e4
    """Largest eigenvalue over smallest, at least 1."""
    rotation: float | Literal["random"] = 0.0
    """Degrees by which each plane (i, dim - 1 - i) is turned, or `random`: Haar."""
    rotation_seed: int = 0
    """Of the Haar rotation."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(dim=1, condition=1, rotation_seed=0)

    def eigenvalues(self) -> np.ndarray:
        """Of H [dim], descending from 1."""
        return self._bowl().eigenvalues()

    def basis(self) -> np.ndarray:
        """R [dim, dim], orthogonal; its columns are eigenvectors of H."""
        return self._bowl().basis()

    def hessian(self) -> np.ndarray:
        """H [dim, dim], float64; exactly diagonal at 0 degrees."""
        basis = self.basis()
        return (basis * self.eigenvalues()) @ basis.T

    def geometry(self) -> dict[str, float]:
        """What is said of H: `sum_abs` of its elements, `trace`, `largest` eigenvalue.

        And `scaled_condition`, its condition number once its diagonal is scaled to 1.
        """
        hessian = self.hessian()
        scale = 1 / np.sqrt(np.diag(hessian))
        scaled = np.linalg.eigvalsh(scale[:, None] * hessian * scale)
        return {
            "sum_abs": float(np.abs(hessian).sum()),
            "trace": float(np.trace(hessian)),
            "largest": float(np.linalg.eigvalsh(hessian)[-1]),
            "scaled_condition": float(scaled[-1] / scaled[0]),
        }

    def _bowl(self) -> NoisyQuadratic:
        """The noisy problem with the same H."""
        return NoisyQuadratic(
            dim=self.dim,
            condition=self.condition,
            rotation=self.rotation,
            rotation_seed=self.rotation_seed,
        )

    def data(self) -> Data:
        """H [dim, dim]."""
        import jax.numpy as jnp

        return self.hessian().astype(jnp.dtype(self.dtype))

    def init(self, key: Key) -> Params:
        """{x [dim]}, R z."""
        import jax
        import jax.numpy as jnp

        z = jax.random.normal(key, (self.dim,), self.dtype)
        basis = jnp.asarray(self.basis(), self.dtype)
        return {"x": jnp.matmul(basis, z, precision="highest")}

    def loss(self, params: Params, batch: Batch) -> Array:
        """x^T H x / 2."""
        import jax.numpy as jnp

        x = params["x"]
        return jnp.matmul(x, jnp.matmul(batch, x, precision="highest")) / 2
