"""Problems whose noise is the point: its shape, with nothing else in the way."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class SparseNoise(Problem):
    """f(w) = |w|^2 / 2, seen through gradients w + xi with Gaussian xi in one element.

    Karimireddy et al. (2019), arXiv:1901.09847, their repository
    epfml/error-feedback-SGD, utils/coord_opt.py. The start is standard normal.
    """

    label = "Sparse noise"
    selects = "objective"
    reports = "objective"

    dim: int = 100
    """Number of elements."""
    noise: float = 100.0
    """Standard deviation |xi| of the noise, whatever number of elements shares it."""
    noisy: int = 1
    """The first elements, so many of them, share the noise equally; `dim` is all."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(dim=1, noise=0, noisy=1)
        if self.noisy > self.dim:
            self.refuse("noisy", "at most dim")

    def init(self, key: Key) -> Params:
        """{w [dim]}, standard normal."""
        import jax

        return {"w": jax.random.normal(key, (self.dim,), self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """Xi [noisy]."""
        import jax
        import jax.numpy as jnp

        del data
        deviation = jnp.asarray(self.noise / math.sqrt(self.noisy), self.dtype)
        return deviation * jax.random.normal(key, (self.noisy,), self.dtype)

    def loss(self, params: Params, batch: Batch) -> Array:
        """|w|^2 / 2 + xi^T w, whose gradient is w + xi."""
        w = params["w"]
        return w @ w / 2 + batch @ w[: self.noisy]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The objective without noise, at least 0 with optimum 0."""
        del data
        w = params["w"]
        return {"objective": w @ w / 2}
