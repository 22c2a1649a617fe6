"""Adam and its variants: an average of gradients, each element over its own root."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import (
    DifferenceAveraging,
    NesterovAveraging,
    OfAverage,
    OfKeptAverage,
    OptimisticAveraging,
    TwoAverages,
)
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import Momentum
from study.optimizers.theory import ELEMENTWISE

if TYPE_CHECKING:
    import optax

    from study.types import Scalar

ADAM = ELEMENTWISE.but(floor=1e-8, epsilon="eps = sqrt(v)")
"""At a constant gradient s Adam steps by eta s / (s + eps)."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adam(OfKeptAverage):
    """u = -eta m / (sqrt(v) + eps), m and v bias-corrected averages of g and g^2.

    Changes both, by averaging and by rescaling. Kingma & Ba (2015), arXiv:1412.6980.
    """

    label = "Adam"
    colour = "#4e0089"
    changes = "both"
    float16 = "nan"
    factory = "adam"
    theory = ADAM
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root: far below it the rule is averaged SGD."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AdamW(OfKeptAverage):
    """u = -eta (m / (sqrt(v) + eps) + weight_decay theta), as Adam otherwise.

    Changes both. Loshchilov & Hutter (2019), arXiv:1711.05101. The decay is multiplied
    by the learning rate, as in Optax and PyTorch; 1e-2 is PyTorch's default (Optax:
    1e-4). It is no function of the gradient: direction metrics leave it out, and
    `decay_ratio` reports it.
    """

    label = "AdamW"
    colour = "#c462ff"
    changes = "both"
    float16 = "nan"
    factory = "adamw"
    theory = ADAM
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    weight_decay: float = 1e-2
    """Decoupled decay, multiplied by the learning rate."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adamax(OfKeptAverage):
    """u = -eta m / v, v = max(b2 v, |g| + eps), m a bias-corrected average. Changes both.

    Kingma & Ba (2015), arXiv:1412.6980, section 7.1; eps is Optax's.
    """

    label = "Adamax"
    colour = "#0000ff"
    changes = "both"
    float16 = "nan"
    factory = "adamax"
    theory = ADAM.but(epsilon="eps = |g|")
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to |g|."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AdamaxW(OfKeptAverage):
    """Adamax with decoupled decay. Changes both.

    Kingma & Ba (2015), arXiv:1412.6980. Optax's default weight decay is 1e-4, here 0.
    """

    label = "AdamaxW"
    colour = "#00c4eb"
    changes = "both"
    float16 = "nan"
    factory = "adamaxw"
    theory = ADAM.but(epsilon="eps = |g|")
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to |g|."""
    weight_decay: float = 0.0
    """Decoupled decay, multiplied by the learning rate."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AMSGrad(OfKeptAverage):
    """u = -eta m / (sqrt(max v) + eps), the largest corrected v so far. Changes both.

    Reddi, Kale & Kumar (2018), arXiv:1904.09237; bias correction is Optax's.
    """

    label = "AMSGrad"
    colour = "#c4c44e"
    changes = "both"
    float16 = "nan"
    factory = "amsgrad"
    theory = ADAM
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NAdam(OfAverage):
    """Adam with Nesterov's look-ahead average in place of m. Changes both.

    Dozat (2016), ICLR workshop; as Optax, without the paper's factor b2 on v.
    """

    label = "NAdam"
    colour = "#c4b19d"
    changes = "both"
    float16 = "nan"
    factory = "nadam"
    theory = ADAM
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def unscaled(self) -> Optimizer | None:
        """The Nesterov average, not rescaled."""
        return NesterovAveraging(self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NAdamW(OfAverage):
    """NAdam with decoupled decay. Changes both.

    Dozat (2016), ICLR workshop. Optax's default weight decay is 1e-4, here 0.
    """

    label = "NAdamW"
    colour = "#760027"
    changes = "both"
    float16 = "nan"
    factory = "nadamw"
    theory = ADAM
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    weight_decay: float = 0.0
    """Decoupled decay, multiplied by the learning rate."""

    def unscaled(self) -> Optimizer | None:
        """The Nesterov average, not rescaled."""
        return NesterovAveraging(self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class RAdam(OfKeptAverage):
    """Adam times r_t once the variance of 1 / sqrt(v) can be trusted, m until then. Both.

    Liu et al. (2020), arXiv:1908.03265. With b2 = 0.999 the first five steps are averaged
    SGD, at the same learning rate. The paper's threshold is 4.
    """

    label = "RAdam"
    colour = "#4e4e00"
    changes = "both"
    float16 = "nan"
    factory = "radam"
    theory = ADAM.but(
        loss_factor="late",
        element="late",
        leaf="late",
        rotation="early",
        matrix_rotation="early",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    threshold: float = 5.0
    """Degrees of freedom from which v is trusted."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AdaBelief(OfKeptAverage):
    """u = -eta m / (sqrt(s) + eps), s averaging (g - m)^2 + eps_root. Changes both.

    Zhuang et al. (2020), arXiv:2010.07468. On a constant gradient s dies out: the step
    grows.
    """

    label = "AdaBelief"
    colour = "#ffb100"
    changes = "both"
    float16 = "nan"
    factory = "adabelief"
    theory = ADAM.but(
        floor=5.6e-7,
        epsilon="eps_root, summed with s, which dies out",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-16
    """Added to the root."""
    eps_root: float = 1e-16
    """Added to s at each step."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Yogi(OfAverage):
    """Adam with v moved towards g^2 by (1 - b2) g^2 whatever its distance. Both.

    Zaheer et al. (2018), NeurIPS. Optax starts m and v at 1e-6, so that an element moves
    before it has a gradient; bias correction, not the paper's, multiplies that v_0 by
    1000 at first.
    """

    label = "Yogi"
    colour = "#009dff"
    changes = "both"
    factory = "yogi"
    theory = ADAM.but(
        element="late|yes",
        leaf="no|yes",
        floor=0.0036,
        epsilon="v_0 / (1 - b2^t) under the root, and eps",
        loss_factor="late|yes",
    )
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-3
    """Added to the root."""
    initial_accumulator: float = 1e-6
    """m_0 and v_0."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.scale_by_yogi`, then the learning rate: `optax.yogi` fixes the start."""
        import optax

        yogi = optax.scale_by_yogi(
            self.b1,
            self.b2,
            self.eps,
            initial_accumulator_value=self.initial_accumulator,
        )
        return optax.chain(yogi, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adan(Optimizer):
    """u = -eta (m + (1 - b2) d) / (sqrt(n) + eps), d averaging g_t - g_(t-1). Both.

    Xie et al. (2022), arXiv:2208.06677; n averages (g + (1 - b2)(g_t - g_(t-1)))^2. Bias
    correction is that of the authors' code, eps_root Optax's; the paper has neither.
    """

    label = "Adan"
    colour = "#ff7676"
    changes = "both"
    float16 = "nan"
    factory = "adan"
    theory = ADAM.but(floor=5.8e-5, epsilon="eps_root inside the root: sqrt(eps_root / 3)")
    b1: float = 0.98
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.92
    """Share of the average difference that is kept, in [0, 1)."""
    b3: float = 0.99
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    eps_root: float = 1e-8
    """Inside the root."""

    def unscaled(self) -> Optimizer | None:
        """Both averages, not rescaled."""
        return DifferenceAveraging(self.b1, self.b2)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class OptimisticAdam(Optimizer):
    """u = -eta ((alpha + beta) a_t - beta a_(t-1)), a_t the update of NAdam. Changes both.

    Daskalakis et al. (2018), arXiv:1711.00141; `optax.optimistic_adam_v2`, whose Adam is
    Nesterov's by default. The first step takes a_1 for the update before it.
    """

    label = "Optimistic Adam"
    colour = "#004eff"
    changes = "both"
    float16 = "nan"
    factory = "optimistic_adam_v2"
    theory = ADAM
    alpha: float = 1.0
    """Weight of the update."""
    beta: float = 1.0
    """Weight of its change."""
    b1: float = 0.9
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def unscaled(self) -> Optimizer | None:
        """The same extrapolation of the average."""
        return OptimisticAveraging(self.alpha, self.beta, self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AdEMAMix(Optimizer):
    """u = -eta (m1 + alpha m2) / (sqrt(v) + eps), m2 a slow average from 0. Changes both.

    Pagliardini, Ablin & Grangier (2024), arXiv:2409.03137, without its schedules.
    """

    label = "AdEMAMix"
    colour = "#ff00ff"
    changes = "both"
    float16 = "nan"
    factory = "contrib.ademamix"
    theory = ADAM
    b1: float = 0.9
    """Share of the fast average that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    b3: float = 0.9999
    """Share of the slow average that is kept, in [0, 1)."""
    alpha: float = 5.0
    """Weight of the slow average."""
    eps: float = 1e-8
    """Added to the root."""

    def unscaled(self) -> Optimizer | None:
        """Both averages, not rescaled."""
        return TwoAverages(self.b1, self.b3, self.alpha)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SimplifiedAdEMAMix(Optimizer):
    """u = -eta (m + alpha g) / (sqrt(v) + eps), m = b1 m + g a sum. Changes both.

    Morwani et al. (2025), arXiv:2502.02431. The sum is not normalised: at a constant
    gradient the step is 1 / (1 - b1) times Adam's. Optax's alpha is 0.
    """

    label = "Simplified AdEMAMix"
    colour = "#004e4e"
    changes = "both"
    float16 = "nan"
    factory = "contrib.simplified_ademamix"
    theory = ADAM
    b1: float = 0.99
    """Share of the sum that is kept, in [0, 1)."""
    b2: float = 0.95
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def unscaled(self) -> Optimizer | None:
        """The same sum, not rescaled."""
        return Momentum(self.b1)
