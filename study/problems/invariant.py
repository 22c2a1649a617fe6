"""A loss that sees the direction of its weights and not their length."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from study.problems.base import PROBLEMS, Indexed

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class InvariantRegression(Indexed):
    """f(w) = mean (x.w / |w| - y)^2 / 2, so that f(c w) = f(w) for every c > 0.

    What a normalisation layer does to the weights before it. Inputs are normal, targets
    x.w* plus normal noise with |w*| = 1, the start has a random direction. The gradient is
    orthogonal to w and falls as 1 / |w|.
    """

    label = "Invariant regression"
    selects = "objective"
    reports = "objective"

    samples: int = 256
    """Number of x."""
    inputs: int = 12
    """Elements of x and of w, at least 2: one alone has no direction to change."""
    noise: float = 1.0
    """Standard deviation of the targets' noise."""
    batch_size: int | None = None
    """Samples in a batch, drawn anew with replacement; None takes all."""
    length: float = 1.0
    """|w| at the start, positive."""
    data_seed: int = 0
    """Of inputs, targets and w*."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(samples=1, inputs=2, noise=0, data_seed=0)
        if self.batch_size is not None:
            self.at_least(batch_size=1)
        if not self.length > 0:
            self.refuse("length", "positive")

    def data(self) -> Data:
        """(x [sample, input], y [sample])."""
        import jax.numpy as jnp

        random = np.random.default_rng(self.data_seed)
        x = random.normal(size=(self.samples, self.inputs))
        aim = random.normal(size=self.inputs)
        y = x @ (aim / np.linalg.norm(aim)) + self.noise * random.normal(size=self.samples)
        kind = jnp.dtype(self.dtype)
        return x.astype(kind), y.astype(kind)

    def init(self, key: Key) -> Params:
        """{w [input]}, of the start's length in a random direction."""
        import jax
        import jax.numpy as jnp

        w = jax.random.normal(key, (self.inputs,), self.dtype)
        return {"w": w * (jnp.asarray(self.length, w.dtype) / jnp.linalg.norm(w))}

    def indices(self, data: Data, key: Key) -> Array:
        """[batch]; none of all samples."""
        import jax

        del data
        return jax.random.randint(key, (self.batch_size or 0,), 0, self.samples)

    def take(self, data: Data, drawn: Array) -> Batch:
        """(x, y) of a batch."""
        import jax

        if self.batch_size is None:
            return data
        return jax.tree.map(lambda array: array[drawn], data)

    def examples(self, batch: Batch) -> Batch:
        """(x [sample, 1, input], y [sample, 1])."""
        x, y = batch
        return x[:, None], y[:, None]

    def loss(self, params: Params, batch: Batch) -> Array:
        """Half the mean squared error of the direction's predictions."""
        import jax.numpy as jnp

        x, y = batch
        w = params["w"]
        predicted = jnp.matmul(x, w / jnp.linalg.norm(w), precision="highest")
        return jnp.mean(jnp.square(predicted - y)) / 2

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The objective on all samples."""
        return {"objective": self.loss(params, data)}
