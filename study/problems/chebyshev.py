"""A tanh network that fits a polynomial: small enough to follow its curvature."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from study.problems.base import PROBLEMS, WholeData

if TYPE_CHECKING:
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class ChebyshevFit(WholeData):
    """factor mean (f(x) - T_k(x))^2 on points evenly spaced in [-1, 1], all at once.

    Cohen et al. (2021), arXiv:2103.00065, with their synthetic data (`src/synthetic.py` of
    their code): f is a tanh network, its kernels truncated normal of variance 1 / fan_in,
    its biases 0, T_k the Chebyshev polynomial of degree k.
    """

    label = "Chebyshev fit"

    degree: int = 4
    """K."""
    points: int = 20
    """Number of x."""
    width: int = 50
    """Units of each of the two hidden layers."""
    factor: float = 1.0
    """On the loss."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(degree=0, points=2, width=1)
        if not self.factor > 0:
            self.refuse("factor", "positive")

    def data(self) -> Data:
        """(x [point, 1], y [point], factor []), the factor an array so that it can vary."""
        x = np.linspace(-1, 1, self.points)
        y = np.polynomial.chebyshev.chebval(x, [0] * self.degree + [1])
        arrays = (x[:, None], y, np.asarray(self.factor))
        return tuple(array.astype(np.dtype(self.dtype)) for array in arrays)

    def init(self, key: Key) -> Params:
        """Of the network."""
        return self._network().init(key)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The factor times the mean squared error."""
        return batch[2] * self.error(params, batch)

    def error(self, params: Params, batch: Batch) -> Array:
        """The mean squared error [], whatever the factor."""
        import jax.numpy as jnp

        x, y, _ = batch
        return jnp.mean(jnp.square(self._network().apply(params, x)[:, 0] - y))

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The mean squared error as `objective`."""
        return {"objective": self.error(params, data)}

    def _network(self) -> Network:
        import jax.numpy as jnp

        from study import networks

        return networks.functional(
            lambda rngs: networks.MLP(
                1,
                1,
                width=self.width,
                depth=2,
                activation="tanh",
                initialisation="lecun",
                gain=1.0,
                dtype=jnp.dtype(self.dtype),
                rngs=rngs,
            )
        )
