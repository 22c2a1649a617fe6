"""Rules that divide each leaf, or its rows and columns, by a length of their own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import OfAverage, OfKeptAverage
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import Momentum, OfGradient
from study.optimizers.theory import LEAFWISE

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NormalisedByLeaf(OfGradient):
    """u = -eta g / (|g| + eps), leaf by leaf. Changes both: the leaves' ratios go.

    Layer-wise normalised gradients: Yu et al. (2017), arXiv:1707.04822.
    """

    label = "Normalised by leaf"
    colour = "#760000"
    changes = "both"
    theory = LEAFWISE.but(
        floor=2e-07,
        epsilon="eps = |g| of a leaf: 1e-6 / sqrt(size)",
    )
    eps: float = 1e-6
    """Added to |g|."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.normalise_leaves`, then the learning rate."""
        import optax

        from study import transforms

        normalise = transforms.normalise_leaves(self.eps)
        return optax.chain(normalise, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class LARS(Optimizer):
    """r = eta trust |theta| / |g| by leaf, u = momentum u - r g. Changes both.

    You, Gitman & Ginsburg (2017), arXiv:1708.03888. A leaf that is 0 takes plain steps.
    """

    label = "LARS"
    colour = "#c49d27"
    changes = "both"
    factory = "lars"
    theory = LEAFWISE.but(loss_factor="yes", leaf="yes", layer_rescaling="yes", floor=0.0)
    trust_coefficient: float = 0.001
    """The relative length of a step at learning rate 1."""
    momentum: float = 0.9
    """Share of the last update that is kept, in [0, 1)."""

    def unscaled(self) -> Optimizer | None:
        """The same momentum, not rescaled."""
        return Momentum(self.momentum)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class LAMB(OfKeptAverage):
    """u = -eta |theta| / |a| a by leaf, a Adam's direction. Changes both.

    You et al. (2020), arXiv:1904.00962. A leaf that is 0 takes Adam's steps. The ratio
    also takes away what a uniform epsilon does.
    """

    label = "LAMB"
    colour = "#7676ff"
    changes = "both"
    factory = "lamb"
    theory = LEAFWISE.but(
        element="approximate|yes",
        matrix_rotation="no",
        layer_rescaling="approximate|yes",
        floor=0.0,
        epsilon="eps changes directions where sqrt(v) is not uniform",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-6
    """Added to the root."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NovoGrad(Optimizer):
    """m = b1 m + g / (sqrt(v) + eps), v averaging |g|^2 of a leaf, u = -eta m. Both.

    Ginsburg et al. (2019), arXiv:1905.11286: momentum of gradients normalised by leaf.
    """

    label = "NovoGrad"
    colour = "#764e00"
    changes = "both"
    factory = "novograd"
    theory = LEAFWISE.but(
        floor=2e-07,
        epsilon="eps = |g| of a leaf: 1e-6 / sqrt(size)",
    )
    b1: float = 0.9
    """Share of the running sum that is kept, in [0, 1)."""
    b2: float = 0.25
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-6
    """Added to the root."""

    def unscaled(self) -> Optimizer | None:
        """The same sum, not rescaled."""
        return Momentum(self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Fromage(OfGradient):
    """theta = (theta - eta |theta| / |g| g) / sqrt(1 + eta^2), by leaf. Changes both.

    Bernstein et al. (2020), arXiv:2002.03432. The division by the root pulls theta to 0
    whatever the gradient.
    """

    label = "Fromage"
    colour = "#76274e"
    changes = "both"
    factory = "fromage"
    theory = LEAFWISE.but(
        loss_factor="yes|yes",
        leaf="yes|yes",
        layer_rescaling="yes|yes",
        floor=7.4e-8,
        epsilon="smallest |g| of a leaf",
    )
    min_norm: float = 1e-6
    """Smallest |theta| and |g|."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adafactor(OfGradient):
    """u = -eta |theta|_rms g / sqrt(r c), r and c averages over rows, columns. Both.

    Shazeer & Stern (2018), arXiv:1804.04235: the squares of a matrix as the product of
    their row and column means; clipped so that a leaf's root mean square is 1. Deviation:
    every matrix is factored; Optax leaves sides below 128 unfactored.
    """

    label = "Adafactor"
    colour = "#ff764e"
    changes = "both"
    float16 = "nan"
    factory = "adafactor"
    theory = LEAFWISE.but(
        loss_factor="yes|yes",
        leaf="yes|yes",
        matrix_rotation="no",
        layer_rescaling="yes",
        floor=5.8e-16,
        epsilon="eps beside g^2: sqrt(eps / 3)",
    )
    min_dim_size_to_factor: int = 2
    """Matrices with a shorter side are not factored."""
    decay_rate: float = 0.8
    """The average of squares keeps 1 - t^-rate."""
    multiply_by_parameter_scale: bool = True
    """Steps relative to the leaf's root mean square."""
    eps: float = 1e-30
    """Added to g^2."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SM3(OfAverage):
    """v = g^2 + min(row, column maximum of v), m averaging g / sqrt(v). Changes both.

    Anil et al. (2019), arXiv:1901.11150: Adagrad with one number a row and a column.
    Optax's fails on scalar parameters.
    """

    label = "SM3"
    colour = "#767600"
    changes = "both"
    factory = "sm3"
    theory = LEAFWISE.but(
        matrix_rotation="no",
        floor=1e-05,
        epsilon="eps under the root: sqrt(eps / 120)",
        element="early",
        permutation="early",
    )
    b1: float = 0.9
    """Share of the average that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Inside the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.scale_by_sm3`, then the learning rate: `optax.sm3` fixes eps."""
        import optax

        sm3 = optax.scale_by_sm3(self.b1, eps=self.eps)
        return optax.chain(sm3, optax.scale_by_learning_rate(learning_rate))
