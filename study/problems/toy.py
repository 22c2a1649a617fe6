"""Losses whose gradient is given: what a rule does, apart from any training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class GivenGradient(Problem):
    """loss = <g, w> from w = 0: the gradient is g at every step."""

    label = "Given gradient"

    gradient: tuple[float, ...] = (10.0, 20.0, 40.0)
    """The elements of g."""

    def __post_init__(self) -> None:
        """Checks types, then that there is an element."""
        super().__post_init__()
        if not self.gradient:
            self.refuse("gradient", "one element or more")

    def init(self, key: Key) -> Params:
        """{w [element]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(len(self.gradient), self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """G [element]."""
        import jax.numpy as jnp

        del data, key
        return jnp.asarray(self.gradient, self.dtype)

    def loss(self, params: Params, batch: Batch) -> Array:
        """<g, w>."""
        return batch @ params["w"]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RandomGradient(Problem):
    """loss = <g, w>, a new g at every step: normal times log-normal, by element."""

    label = "Random gradient"

    dim: int = 3
    """Number of elements."""
    sigma: float = 1.0
    """Standard deviation of the logarithm of the elements' scale."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(dim=1, sigma=0)

    def init(self, key: Key) -> Params:
        """{w [dim]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(self.dim, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """G [dim] = z exp(sigma y), with z and y standard normal."""
        import jax
        import jax.numpy as jnp

        del data
        z, y = jax.random.normal(key, (2, self.dim), self.dtype)
        return z * jnp.exp(jnp.asarray(self.sigma, self.dtype) * y)

    def loss(self, params: Params, batch: Batch) -> Array:
        """<g, w>."""
        return batch @ params["w"]
