"""Quadratics, where curvature, basis and noise are known exactly."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar, Literal

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


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class DeepObsQuadratic(Problem):
    """f(theta) = mean of (theta - x)^T H (theta - x) / 2, as DeepOBS's `quadratic_deep`.

    Schneider, Balles & Hennig (2019), arXiv:1903.05499. 100 dimensions: 90 eigenvalues in
    (0, 1), 10 in (30, 60), one fixed random rotation; 1,000 points x ~ N(0, 0.6^2 I) to
    train on and 1,000 to test on; theta_0 = 1. An epoch is seven batches of 128 points
    (the last 104 are left out), and evaluations are on the first 896, as there. Matrix
    and points are DeepOBS's own numbers; the order of batches is not, for theirs came
    from TensorFlow. The published runs saw the same order in every epoch.
    """

    label = "Quadratic (DeepOBS)"
    selects = "train_loss"
    reports = "test_loss"

    order: Literal["fixed", "reshuffled"] = "fixed"
    """Of the points: one permutation for each seed, or a new one in every epoch."""
    batch_size: int = 128
    """Points in a batch."""

    points: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(batch_size=1)
        if self.batch_size > self.points:
            self.refuse("batch_size", f"at most {self.points}")

    @property
    def epoch(self) -> int:
        """Steps in an epoch."""
        return self.points // self.batch_size

    def hessian(self) -> np.ndarray:
        """H [100, 100]."""
        return _deepobs_hessian()

    def data(self) -> Data:
        """{hessian, points, heights, train, test}: `points` [1000, 100] to train on.

        `heights` [1000] are x^T H x / 2; `train` and `test` are (mean, spread), as in
        `sample`, of the points that evaluations see.
        """
        import jax.numpy as jnp

        hessian, drawn = self.hessian(), {}
        for name, seed in (("train", 42), ("test", 43)):
            points = np.random.RandomState(seed).normal(0, 0.6, (self.points, 100))
            drawn[name] = points, np.sum(points @ hessian * points, -1) / 2
        arrays = {"hessian": hessian, "points": drawn["train"][0]}
        arrays |= {"heights": drawn["train"][1]}
        arrays |= {name: self._moments(hessian, *pair) for name, pair in drawn.items()}
        kind = jnp.dtype(self.dtype)
        return {
            name: tuple(part.astype(kind) for part in x)
            if isinstance(x, tuple)
            else x.astype(kind)
            for name, x in arrays.items()
        }

    def _moments(
        self, hessian: np.ndarray, points: np.ndarray, heights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        seen = self.epoch * self.batch_size
        mean = points[:seen].mean(0)
        return mean, heights[:seen].mean() - mean @ hessian @ mean / 2

    def init(self, key: Key) -> Params:
        """{x [100]}, one everywhere."""
        import jax.numpy as jnp

        del key
        return {"x": jnp.ones(100, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """(H [100, 100], mean [100] of points, spread []), points without replacement.

        The spread is the part of the loss that no theta can change.
        """
        import jax

        order = jax.random.permutation(key, self.points)
        return self._batch(data, order[: self.batch_size])

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """The t-th of the run, epoch after epoch; as `sample`."""
        import jax

        if self.order == "reshuffled":
            key = jax.random.fold_in(key, t // self.epoch)
        order = jax.random.permutation(key, self.points)
        first = t % self.epoch * self.batch_size
        chosen = jax.lax.dynamic_slice_in_dim(order, first, self.batch_size)
        return self._batch(data, chosen)

    def _batch(self, data: Data, chosen: Array) -> Batch:
        hessian, mean = data["hessian"], data["points"][chosen].mean(0)
        spread = data["heights"][chosen].mean() - mean @ hessian @ mean / 2
        return hessian, mean, spread

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean of (theta - x)^T H (theta - x) / 2 over the points."""
        import jax.numpy as jnp

        hessian, mean, spread = batch
        away = params["x"] - mean
        return jnp.matmul(away, jnp.matmul(hessian, away, precision="highest")) / 2 + spread

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The loss on the points of whole batches, train and test."""
        return {
            f"{name}_loss": self.loss(params, (data["hessian"], *data[name]))
            for name in ("train", "test")
        }


@functools.cache
def _deepobs_hessian() -> np.ndarray:
    """H = R^T diag(lambda) R with R by the subgroup algorithm, from one generator.

    Diaconis & Shahshahani (1987), doi:10.1017/S0269964800000255.
    """
    random = np.random.RandomState(42)
    eigenvalues = np.concatenate([random.uniform(0, 1, 90), random.uniform(30, 60, 10)])
    turn = 2 * np.pi * random.uniform()
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    for size in range(3, 101):
        point = random.normal(size=size)
        mirror = -point / np.linalg.norm(point)
        mirror[0] += 1.0  # takes the first axis to a point of the sphere
        mirror /= np.linalg.norm(mirror)
        larger = np.eye(size)
        larger[1:, 1:] = rotation
        rotation = larger - 2 * np.outer(mirror, mirror @ larger)
    return rotation.T @ (eigenvalues[:, None] * rotation)
