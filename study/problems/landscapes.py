"""Losses of one or two elements on which a path can be seen whole; no noise."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@dataclasses.dataclass(frozen=True)
class Landscape(Problem, abc.ABC):
    """A loss of the point {x [element]} alone."""

    selects = "objective"
    reports = "objective"

    @abc.abstractmethod
    def begin(self) -> tuple[float, ...]:
        """The start."""

    @abc.abstractmethod
    def height(self, x: Array) -> Array:
        """The loss [] at a point [element]."""

    def init(self, key: Key) -> Params:
        """{x [element]}, the start."""
        import jax.numpy as jnp

        del key
        return {"x": jnp.asarray(self.begin(), self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """Nothing."""
        del data, key
        return ()

    def loss(self, params: Params, batch: Batch) -> Array:
        """The height."""
        del batch
        return self.height(params["x"])

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The height again, as `objective`."""
        del data
        return {"objective": self.height(params["x"])}


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Bowl(Landscape):
    """f = (condition x^2 + y^2) / 2 from (1, 1); gradient flow follows x = y^condition."""

    label = "Bowl"

    condition: float = 10.0
    """Curvature along x; 1 along y."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(condition=1)

    def begin(self) -> tuple[float, ...]:
        """(1, 1)."""
        return (1.0, 1.0)

    def height(self, x: Array) -> Array:
        """(condition x^2 + y^2) / 2."""
        import jax.numpy as jnp

        return (jnp.asarray(self.condition, x.dtype) * x[0] ** 2 + x[1] ** 2) / 2


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Plateau(Landscape):
    """f = 1 - exp(-x^2 / 2) from x = radius: quasi-convex, and flat far from 0.

    A loss on which normalised steps are known to arrive (Hazan et al. 2015,
    arXiv:1507.02030).
    """

    label = "Plateau"

    radius: float = 4.0
    """The start."""

    def begin(self) -> tuple[float, ...]:
        """The radius."""
        return (self.radius,)

    def height(self, x: Array) -> Array:
        """1 - exp(-x^2 / 2), exact where it is small, its slope where that is."""
        import jax.numpy as jnp

        power = -(x[0] ** 2) / 2
        # The derivative of expm1 is expm1 + 1, which cancels far from 0.
        return jnp.where(power > -0.5, -jnp.expm1(power), 1 - jnp.exp(power))


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Saddle(Landscape):
    """f = (x^2 - y^2) / 2 + y^4 / 4 from (1, delta); minima at (0, 1) and (0, -1)."""

    label = "Saddle"

    delta: float = 0.01
    """How far from the ridge y = 0 it starts."""

    def begin(self) -> tuple[float, ...]:
        """(1, delta)."""
        return (1.0, self.delta)

    def height(self, x: Array) -> Array:
        """(x^2 - y^2) / 2 + y^4 / 4."""
        return (x[0] ** 2 - x[1] ** 2) / 2 + x[1] ** 4 / 4
