"""A quadratic of three blocks whose eigenvalues are alike or unlike from block to block."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from study.problems.base import PROBLEMS, WholeData

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class BlockQuadratic(WholeData):
    """f(x) = sum of x_b^T H_b x_b / 2 over three blocks, each in a basis of its own.

    Zhang et al. (2024), arXiv:2402.16788, as restated by Orvieto & Gower (2025),
    arXiv:2505.21829, appendix D. The nine eigenvalues are 1, 2, 3, 99, 100, 101, 4998, 4999
    and 5000. Heterogeneous: each block has three neighbours. Homogeneous: each block has
    one of each three. Blocks are leaves; the start is standard normal.
    """

    label = "Block quadratic"

    heterogeneous: bool = True
    """Whether blocks differ from each other."""
    rotation_seed: int = 0
    """Of the blocks' Haar rotations."""

    nine: ClassVar[np.ndarray] = np.array([[1, 2, 3], [99, 100, 101], [4998, 4999, 5000]])

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(rotation_seed=0)

    def eigenvalues(self) -> np.ndarray:
        """[block, 3], float64."""
        return np.asarray(self.nine if self.heterogeneous else self.nine.T, np.float64)

    def hessian(self) -> np.ndarray:
        """H_b [block, 3, 3], float64."""
        from scipy.stats import ortho_group

        turn = ortho_group.rvs(3, size=3, random_state=self.rotation_seed)
        return np.einsum("bij,bj,bkj->bik", turn, self.eigenvalues(), turn)

    def data(self) -> Data:
        """H_b [block, 3, 3]."""
        return self.hessian().astype(np.dtype(self.dtype))

    def init(self, key: Key) -> Params:
        """{0: [3], 1: [3], 2: [3]}, standard normal."""
        import jax

        x = jax.random.normal(key, (3, 3), self.dtype)
        return {str(block): x[block] for block in range(3)}

    def loss(self, params: Params, batch: Batch) -> Array:
        """The objective."""
        import jax.numpy as jnp

        x = jnp.stack([params[str(block)] for block in range(3)])
        bent = jnp.einsum("bij,bj->bi", batch, x, precision="highest")
        return jnp.sum(x * bent) / 2
