"""Quadratics whose minimum weight decay moves, and where to depends on the rule."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from study import solutions
from study.errors import UserError
from study.problems.base import PROBLEMS, WholeData

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


def onto_cross(x: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point of the l1 ball; Duchi et al. (2008), ICML, figure 1."""
    sizes = np.abs(x)
    if sizes.sum() <= radius:
        return x
    ordered = np.sort(sizes, axis=None)[::-1]
    excess = (np.cumsum(ordered) - radius) / np.arange(1, len(ordered) + 1)
    threshold = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.sign(x) * np.maximum(sizes - threshold, 0)


def onto_ball(x: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point of the l2 ball."""
    return x * (radius / max(float(np.linalg.norm(x)), radius))


def onto_spectral(x: np.ndarray, radius: float) -> np.ndarray:
    """The nearest matrix with singular values up to the radius; a vector is a column."""
    u, s, v = np.linalg.svd(x.reshape(len(x), -1), full_matrices=False)
    return ((u * np.minimum(s, radius)) @ v).reshape(x.shape)


def onto_box(x: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point with elements up to the radius."""
    return np.clip(x, -radius, radius)


BALLS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "l1 ball": onto_cross,
    "l2 ball": onto_ball,
    "box": onto_box,
    "spectral ball": onto_spectral,
}
"""Projections onto the balls of four norms."""


@dataclasses.dataclass(frozen=True)
class ShiftedQuadratic(WholeData, abc.ABC):
    """f(x) = <x - x*, H (x - x*)> / 2 + l2 |x|^2 / 2 from x = 0, without noise."""

    l2: float = dataclasses.field(default=0.0, kw_only=True)
    """Coupled decay: half of it times |x|^2 is part of the loss."""

    def __post_init__(self) -> None:
        """Checks types, then that decay does not push outwards."""
        super().__post_init__()
        self.at_least(l2=0)

    @abc.abstractmethod
    def curvature(self) -> np.ndarray:
        """H [row, row], symmetric and positive definite, float64."""

    @abc.abstractmethod
    def target(self) -> np.ndarray:
        """X* [row] or [row, column], where f is least without decay, float64."""

    def ridge(self, decay: float) -> np.ndarray:
        """Where f + decay |x|^2 / 2 is least, like x*, float64."""
        return solutions.ridge(self.curvature(), self.target(), self.l2 + decay)

    def within(self, ball: str, radius: float) -> np.ndarray:
        """Where f without l2 is least in one of BALLS, like x*, float64.

        By projected gradient steps to rounding.

        Raises:
            UserError: 100,000 of them are not enough, for H is badly conditioned.
        """
        hessian, optimum = self.curvature(), self.target()
        step, x = 1 / np.linalg.eigvalsh(hessian)[-1], np.zeros_like(optimum)
        for _ in range(100_000):
            after = BALLS[ball](x - step * hessian @ (x - optimum), radius)
            if np.abs(after - x).max() <= 1e-15 * max(1.0, np.abs(after).max()):
                return after
            x = after
        raise UserError(f"{self}: its minimum in the {ball} is not found in 100,000 steps")

    def data(self) -> Data:
        """{hessian [row, row], optimum [row] or [row, column]}."""
        import jax.numpy as jnp

        kind = jnp.dtype(self.dtype)
        return {
            "hessian": self.curvature().astype(kind),
            "optimum": self.target().astype(kind),
        }

    def init(self, key: Key) -> Params:
        """{x, of the optimum's shape}, zero."""
        import jax.numpy as jnp

        del key
        return {"x": jnp.zeros(self.target().shape, self.dtype)}

    def loss(self, params: Params, batch: Batch) -> Array:
        """f(x)."""
        import jax.numpy as jnp

        x = params["x"]
        away = x - batch["optimum"]
        bent = jnp.matmul(batch["hessian"], away, precision="highest")
        half = lambda factor: jnp.asarray(factor / 2, x.dtype)  # noqa: E731
        return half(1.0) * jnp.sum(away * bent) + half(self.l2) * jnp.sum(x * x)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class TiltedBowl(ShiftedQuadratic):
    """Two elements, H = [[2, 0.8], [0.8, 1]] and x* = (3, -2)."""

    label = "Tilted bowl"

    steep: float = 2.0
    """Curvature along the first element."""
    flat: float = 1.0
    """Curvature along the second."""
    tilt: float = 0.8
    """What couples them."""
    optimum: tuple[float, ...] = (3.0, -2.0)
    """X*."""

    def __post_init__(self) -> None:
        """Checks types, then that it is a bowl."""
        super().__post_init__()
        if len(self.optimum) != 2:
            self.refuse("optimum", "two numbers")
        if not (self.steep > 0 and self.steep * self.flat > self.tilt**2):
            self.refuse("tilt", "smaller than the geometric mean of the curvatures")

    def curvature(self) -> np.ndarray:
        """H [2, 2]."""
        return np.array([[self.steep, self.tilt], [self.tilt, self.flat]])

    def target(self) -> np.ndarray:
        """X* [2]."""
        return np.array(self.optimum)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class MatrixQuadratic(ShiftedQuadratic):
    """A matrix W [row, column] with H over its rows, in a random basis, and a random W*.

    H has eigenvalues log-spaced from 1 down to 1 / condition, W* normal elements. With at
    least as many rows as columns, Optax's Muon steps with singular values about 1.
    """

    label = "Matrix quadratic"

    rows: int = 6
    """Of W."""
    columns: int = 4
    """Of W."""
    condition: float = 10.0
    """Largest eigenvalue of H over its smallest, at least 1."""
    spread: float = 1.0
    """Standard deviation of the elements of W*."""
    data_seed: int = 0
    """Of the basis and of W*."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(rows=2, columns=1, condition=1, spread=0, data_seed=0)

    def curvature(self) -> np.ndarray:
        """H [row, row]."""
        from scipy.stats import ortho_group

        basis = ortho_group.rvs(self.rows, random_state=self.data_seed)
        return (basis * np.geomspace(1, 1 / self.condition, self.rows)) @ basis.T

    def target(self) -> np.ndarray:
        """W* [row, column]."""
        # A stream of its own: the basis uses up the seed's.
        random = np.random.default_rng((self.data_seed, 1))
        return self.spread * random.normal(size=(self.rows, self.columns))
