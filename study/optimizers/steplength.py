"""Rules that look for a step length of their own, from losses or distances."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import OfAverage
from study.optimizers.base import OPTIMIZERS
from study.optimizers.scalar import ScalarRule
from study.optimizers.theory import ELEMENTWISE, NORMED

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class PolyakSGD(ScalarRule):
    """u = -min(eta, (f - f_min) / |g|^2) g. Changes the magnitude, keeps the direction.

    Polyak (1969); stochastic by Loizou et al. (2021), arXiv:2002.10542. The learning rate
    is the longest step: while it binds, the rule is SGD.
    """

    label = "Polyak SGD"
    colour = "#00b14e"
    changes = "magnitude"
    factory = "polyak_sgd"
    asks = ("value",)
    theory = NORMED.but(
        loss_factor="yes", floor=0.83, epsilon="the longest step eta, below f / |g|^2"
    )
    f_min: float = 0.0
    """The smallest value of the loss."""
    eps: float = 0.0
    """Added to |g|^2."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class MoMo(ScalarRule):
    """u = -min(eta, (f_bar + <m, theta> - ...) / |m|^2) m. Changes both, by averaging.

    Schaipp et al. (2024), arXiv:2305.07583: Polyak's step length for an average m of
    gradients that starts at the first. The learning rate is the longest step.
    """

    label = "MoMo"
    colour = "#00769d"
    changes = "both"
    factory = "contrib.momo"
    asks = ("value",)
    theory = NORMED.but(
        loss_factor="yes",
        epsilon="the longest step eta",
        floor=0.084,
    )
    beta: float = 0.9
    """Share of the average that is kept, in [0, 1)."""
    lower_bound: float = 0.0
    """Of the loss."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class MoMoAdam(OfAverage):
    """Adam with Polyak's step length in Adam's norm where that is shorter. Changes both.

    Schaipp et al. (2024), arXiv:2305.07583. The learning rate is the longest step.
    """

    label = "MoMo-Adam"
    colour = "#b14e4e"
    changes = "both"
    float16 = "nan"
    factory = "contrib.momo_adam"
    asks = ("value",)
    theory = ELEMENTWISE.but(
        element="no",
        leaf="no",
        floor=8.9e-10,
        epsilon="eps = sqrt(v) for the direction; no step at all below |m|^2 = 2e-16",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    lower_bound: float = 0.0
    """Of the loss."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class DoG(ScalarRule):
    """u = -eta d g / sqrt(sum |g|^2 + eps), d the farthest distance so far. Magnitude.

    Ivgi, Hinder & Carmon (2023), arXiv:2302.12022. It needs no learning rate (1 by
    design); the first distance is 1e-6 (1 + |theta_0|).
    """

    label = "DoG"
    colour = "#76b14e"
    changes = "magnitude"
    factory = "contrib.dog"
    own_rate = True
    theory = NORMED.but(
        epsilon="eps under the root of sum |g|^2, compounded",
        loss_factor="yes",
        floor=1.2e-05,
    )
    eps: float = 1e-8
    """Under the root."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class DoWG(ScalarRule):
    """u = -eta d^2 g / (sqrt(sum d^2 |g|^2) + eps), d a farthest distance. Magnitude.

    Khaled, Mishchenko & Jin (2023), arXiv:2305.16284. It needs no learning rate.
    """

    label = "DoWG"
    colour = "#00c49d"
    changes = "magnitude"
    factory = "contrib.dowg"
    own_rate = True
    theory = NORMED.but(
        epsilon="eps beside the root, compounded",
        floor=0.0034,
    )
    init_estim_sq_dist: float = 1e-4
    """The first squared distance; Optax takes eps."""
    eps: float = 1e-4
    """Added to the root."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class DAdaptAdamW(OfAverage):
    """Adam times d, an estimate of the distance to the solution. Changes both.

    Defazio & Mishchenko (2023), arXiv:2301.07733. The learning rate is 1 by design. The
    estimate divides by sqrt(v) + eps from v = 0 on, so that eps cannot be 0. Optax always
    corrects the bias of m and v, an option in the authors' code.
    """

    label = "D-Adapt AdamW"
    colour = "#7676c4"
    changes = "both"
    float16 = "nan"
    factory = "contrib.dadapt_adamw"
    own_rate = True
    theory = ELEMENTWISE.but(
        loss_factor="approximate|undefined",
        element="early|undefined",
        leaf="early|undefined",
        permutation="yes|undefined",
        rotation="no|undefined",
        matrix_rotation="no|undefined",
        layer_rescaling="no|undefined",
        floor=1.6e-06,
        epsilon="eps in the estimate of d, compounded",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.dadapt_adamw`."""
        import optax

        betas = (self.b1, self.b2)
        return optax.contrib.dadapt_adamw(learning_rate, betas=betas, eps=self.eps)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Prodigy(OfAverage):
    """Adam times d, an estimate of the distance to the solution. Changes both.

    Mishchenko & Defazio (2023), arXiv:2306.06101. The learning rate is 1 by design. One
    d couples all elements: the direction is Adam's, the length is not. Optax always
    corrects the bias of m and v, an option in the authors' code.
    """

    label = "Prodigy"
    colour = "#767676"
    changes = "both"
    float16 = "nan"
    factory = "contrib.prodigy"
    own_rate = True
    theory = ELEMENTWISE.but(
        element="early",
        leaf="early",
        epsilon="d eps = sqrt(v), compounded",
        floor=3.2e-06,
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.prodigy`."""
        import optax

        betas = (self.b1, self.b2)
        return optax.contrib.prodigy(learning_rate, betas=betas, eps=self.eps)
