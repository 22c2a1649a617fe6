"""Losses on which the signs, or the normalised gradients, point away from the minimum.

Each is convex, and its mean gradient points the right way. Large gradients are rare there,
or elements of one gradient disagree, so that a rule that drops their lengths goes astray.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from study.problems.base import PROBLEMS, Problem
from study.problems.landscapes import Landscape

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@dataclasses.dataclass(frozen=True)
class Spikes(Problem, abc.ABC):
    """f_t(x) = g_t x on [-1, 1] from x = 0, g_t = `large` now and then, else -`small`.

    Where the mean of g_t is positive the minimum of the mean is -1.
    """

    selects = "objective"
    reports = "objective"

    large: float = 1010.0
    """The rare gradient."""
    small: float = 10.0
    """The common one, with the opposite sign."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(large=0, small=0)

    @abc.abstractmethod
    def share(self) -> float:
        """Of the steps, those with the large gradient."""

    def mean(self) -> float:
        """The mean gradient, the slope of the mean loss."""
        return self.share() * self.large - (1 - self.share()) * self.small

    def init(self, key: Key) -> Params:
        """{x [1]}, zero."""
        import jax.numpy as jnp

        del key
        return {"x": jnp.zeros(1, self.dtype)}

    def project(self, params: Params) -> Params:
        """The nearest point of [-1, 1]."""
        import jax.numpy as jnp

        return {"x": jnp.clip(params["x"], -1, 1)}

    def loss(self, params: Params, batch: Batch) -> Array:
        """G x."""
        return batch * params["x"][0]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The mean loss."""
        import jax.numpy as jnp

        del data
        return {"objective": jnp.asarray(self.mean(), self.dtype) * params["x"][0]}


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class PeriodicSpike(Spikes):
    """f_t(x) = `large` x at the first step of each period, -`small` x at the others.

    Reddi, Kale & Kumar (2018), arXiv:1904.09237: t mod 101 = 1 with t from 1; in their
    Theorem 1 large C, small 1, period 3.
    """

    label = "Periodic spike"

    period: int = 101
    """Steps."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(period=1)

    def share(self) -> float:
        """1 / period."""
        return 1 / self.period

    def cycle(self) -> np.ndarray:
        """The gradients of one period [period], float64."""
        return np.where(np.arange(self.period) == 0, self.large, -self.small)

    def adam_drift(self, b2: float, b1: float = 0.9) -> float:
        """Adam's mean update over its rate, epsilon 0, long after the start.

        Both averages are then geometric sums over the cycle.
        """
        n, cycle = self.period, self.cycle()
        back = (np.arange(n)[:, None] - np.arange(n)) % n  # [step, how far back]

        def average(b: float, x: np.ndarray) -> np.ndarray:
            return (1 - b) / (1 - b**n) * (x[back] @ b ** np.arange(n))

        return float(-np.mean(average(b1, cycle) / np.sqrt(average(b2, cycle**2))))

    def adam_turns(self, b1: float = 0.9) -> float:
        """The memory 1 / (1 - b2) from which on Adam's drift has SGD's sign, to 1e8.

        About large / (4 mean) where b1 is 0 and the small gradients add little to v: the
        spike raises v by itself, by its square over the memory, and is divided by that.
        """
        low, high = 0.0, 8.0
        for _ in range(60):
            middle = (low + high) / 2
            wrong = self.adam_drift(1 - 10**-middle, b1) * self.mean() > 0
            low, high = (middle, high) if wrong else (low, middle)
        return float(10**low)

    def data(self) -> Data:
        """The cycle."""
        return self.cycle().astype(np.dtype(self.dtype))

    def sample(self, data: Data, key: Key) -> Batch:
        """The gradient of a random step of the period."""
        import jax
        import jax.numpy as jnp

        return jnp.asarray(data)[jax.random.randint(key, (), 0, len(data))]

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """The gradient of step t: these losses have an order."""
        import jax.numpy as jnp

        del key
        return jnp.asarray(data)[t % len(data)]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RandomSpike(Spikes):
    """f_t(x) = `large` x with a probability, else -`small` x, drawn anew at every step.

    After the first counterexample of Karimireddy et al. (2019), arXiv:1901.09847.
    """

    label = "Random spike"

    large: float = 4.0
    """The rare gradient."""
    small: float = 1.0
    """The common one, with the opposite sign."""
    probability: float = 0.25
    """Of the large gradient, in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if not 0 <= self.probability <= 1:
            self.refuse("probability", "in [0, 1]")

    def share(self) -> float:
        """The probability."""
        return self.probability

    def sample(self, data: Data, key: Key) -> Batch:
        """The gradient []."""
        import jax
        import jax.numpy as jnp

        del data
        rare = jax.random.bernoulli(key, self.probability)
        return jnp.where(rare, self.large, -self.small).astype(self.dtype)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class SlantedValley(Landscape):
    """f = fall |x + y| + |x - y| from (1.3, 0.7); minimum 0 at (0, 0).

    The elements of its gradient have opposite signs wherever the fall is below 1, so that
    the sign of the gradient keeps x + y. After a counterexample of Karimireddy et al.
    (2019), arXiv:1901.09847.
    """

    label = "Slanted valley"

    fall: float = 0.1
    """Along the floor of the valley, in [0, 1)."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if not 0 <= self.fall < 1:
            self.refuse("fall", "in [0, 1)")

    def begin(self) -> tuple[float, ...]:
        """(1.3, 0.7)."""
        return (1.3, 0.7)

    def height(self, x: Array) -> Array:
        """Fall |x + y| + |x - y|."""
        import jax.numpy as jnp

        fall = jnp.asarray(self.fall, x.dtype)
        return fall * jnp.abs(x[0] + x[1]) + jnp.abs(x[0] - x[1])


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class TwoSamples(Problem):
    """f = (a.x)^2 / 2 from (1, 1), a either (1 + e, -1 + e) or (-1 + e, 1 + e); minimum 0.

    Each gradient is along its sample, whose elements have opposite signs: the sign of a
    gradient keeps x_1 + x_2. After a counterexample of Karimireddy et al. (2019),
    arXiv:1901.09847.
    """

    label = "Two samples"
    selects = "objective"
    reports = "objective"

    tilt: float = 0.1
    """E, in [0, 1)."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if not 0 <= self.tilt < 1:
            self.refuse("tilt", "in [0, 1)")

    def data(self) -> Data:
        """The samples [sample, element]."""
        samples = np.array([[1.0, -1.0], [-1.0, 1.0]]) + self.tilt
        return samples.astype(np.dtype(self.dtype))

    def init(self, key: Key) -> Params:
        """{x [2]}, ones."""
        import jax.numpy as jnp

        del key
        return {"x": jnp.ones(2, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """One of the two [element]."""
        import jax
        import jax.numpy as jnp

        return jnp.asarray(data)[jax.random.randint(key, (), 0, 2)]

    def loss(self, params: Params, batch: Batch) -> Array:
        """(a.x)^2 / 2."""
        import jax.numpy as jnp

        return jnp.square(jnp.sum(batch * params["x"])) / 2

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The mean over both samples."""
        import jax

        losses = jax.vmap(self.loss, (None, 0))(params, data)
        return {"objective": losses.mean()}
