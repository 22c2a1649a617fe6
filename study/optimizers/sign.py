"""Rules that bring every element to one length: the extreme of element-wise rescaling."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import Averaging, LionAveraging
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import Momentum, OfGradient
from study.optimizers.theory import PARTIAL, SIGN

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SignDescent(OfGradient):
    """u = -eta sign(g). Changes both: the signs stay, the ratios go.

    Riedmiller & Braun (1993) in spirit; Bernstein et al. (2018), signSGD,
    arXiv:1802.04434.
    """

    label = "Sign descent"
    colour = "#b10000"
    changes = "both"
    factory = "sign_sgd"
    theory = SIGN


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class RescaledSignDescent(OfGradient):
    """u = -eta (|g|_1 / d) sign(g). Changes both: the signs stay, the ratios go.

    Karimireddy et al. (2019), arXiv:1901.09847, the scaled sign compressor: the length is
    the gradient's own, the direction that of its signs.
    """

    label = "Rescaled sign descent"
    colour = "#9dc400"
    changes = "both"
    theory = PARTIAL

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.rescaled_sign`, then the learning rate."""
        import optax

        from study import transforms

        sign = transforms.rescaled_sign()
        return optax.chain(sign, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class CoordinateDescent(OfGradient):
    """u = -eta sign(g_i) e_i at the largest |g_i|, 0 elsewhere. Changes both.

    Steepest descent in the 1-norm with steps of one length (Gunasekar et al. 2018,
    arXiv:1802.08246, have steps as long as the gradient).
    """

    label = "Coordinate descent"
    colour = "#76894e"
    changes = "both"
    theory = SIGN.but(element="no", leaf="no")

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.largest_element`, then the learning rate."""
        import optax

        from study import transforms

        largest = transforms.largest_element()
        return optax.chain(largest, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Signum(Optimizer):
    """u = -eta sign(m), m an average of gradients. Changes both.

    Bernstein et al. (2018), arXiv:1802.04434.
    """

    label = "Signum"
    colour = "#9d2776"
    changes = "both"
    factory = "signum"
    theory = SIGN
    beta: float = 0.9
    """Share of the average that is kept, in [0, 1)."""

    def unscaled(self) -> Optimizer:
        """The average, bias corrected: the same direction."""
        return Averaging(self.beta)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """u = -eta (sign(b1 m + (1 - b1) g) + weight_decay theta). Changes both.

    Chen et al. (2023), arXiv:2302.06675. Optax's default weight decay is 1e-3, here 0.
    """

    label = "Lion"
    colour = "#ff62b1"
    changes = "both"
    factory = "lion"
    theory = SIGN
    b1: float = 0.9
    """Weight of the average in the step, in [0, 1)."""
    b2: float = 0.99
    """Share of the average that is kept, in [0, 1)."""
    weight_decay: float = 0.0
    """Decoupled decay, multiplied by the learning rate."""

    def unscaled(self) -> Optimizer:
        """The interpolated average whose sign is taken."""
        return LionAveraging(self.b1, self.b2)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class ErrorFeedbackSign(Optimizer):
    """p = g' + e, u = -eta (|p|_1 / d) sign(p), e = p - its rescaled sign. Changes both.

    EF-signSGD with momentum: Karimireddy et al. (2019), arXiv:1901.09847, and Zheng et al.
    (2019), arXiv:1905.10936: g' is the momentum sum. What a sign step leaves out is added
    to the next gradient, so that nothing of the sum is lost. One scale for the whole
    vector, where they take one per layer; Zheng's momentum is Nesterov's.
    """

    label = "EF sign momentum"
    colour = "#274e27"
    changes = "both"
    theory = PARTIAL
    decay: float = 0.9
    """Share of the running sum that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.trace`, `transforms.error_feedback`, then the learning rate."""
        import optax

        from study import transforms

        return optax.chain(
            optax.trace(self.decay),
            transforms.error_feedback(transforms.rescaled_sign()),
            optax.scale_by_learning_rate(learning_rate),
        )

    def unscaled(self) -> Optimizer:
        """The momentum sum whose sign is taken."""
        return Momentum(self.decay)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Rprop(OfGradient):
    """u = -s sign(g), s grown by 1.2 where the sign stays, halved where not. Both.

    Riedmiller & Braun (1993), doi:10.1109/ICNN.1993.298623. The learning rate is the
    first s, and soon forgotten. Deviation of Optax 0.2.8: it returns the step before, and
    0 where the sign has changed since, so the first update is 0. The paper undoes the last
    step where the sign has changed.
    """

    label = "Rprop"
    colour = "#ff76eb"
    changes = "both"
    factory = "rprop"
    own_rate = True
    theory = SIGN
    eta_minus: float = 0.5
    """Factor on s where the sign changed."""
    eta_plus: float = 1.2
    """Factor on s where it stayed."""
    min_step_size: float = 1e-6
    """Smallest s."""
    max_step_size: float = 50.0
    """Largest s."""
