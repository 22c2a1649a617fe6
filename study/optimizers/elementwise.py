"""Rules that divide each element by a length of its own, taken from its history."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import SGD, Averaging

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """v = v + g^2, u = -eta g / sqrt(v + eps), v_0 = initial_accumulator. Changes both.

    Duchi, Hazan & Singer (2011), JMLR 12. The start 0.1 is Optax's (and TensorFlow's),
    not the paper's; while v_0 outweighs the squared gradients the rule is SGD at
    eta / sqrt(v_0).
    """

    label = "Adagrad"
    colour = "#62eb9d"
    changes = "both"
    initial_accumulator: float = 0.1
    """v_0, at least 0."""
    eps: float = 1e-7
    """Added inside the root, as Optax does; the paper adds it outside."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.adagrad`."""
        import optax

        return optax.adagrad(learning_rate, self.initial_accumulator, self.eps)

    def unscaled(self) -> Optimizer:
        """SGD: nothing is averaged but the squares."""
        return SGD()


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class RMSProp(Optimizer):
    """v = decay v + (1 - decay) g^2, u = -eta g / (sqrt(v / (1 - decay^t)) + eps).

    Changes both. Tieleman & Hinton (2012), Coursera lecture 6.5. Deviation: v is bias
    corrected and eps stands outside the root, as in Adam; Optax's own default starts
    1 / sqrt(1 - decay) times too long and moves eps into the root, a floor of 1e-4.
    """

    label = "RMSProp"
    colour = "#278962"
    changes = "both"
    decay: float = 0.9
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.rmsprop` with bias correction."""
        import optax

        return optax.rmsprop(
            learning_rate,
            decay=self.decay,
            eps=self.eps,
            eps_in_sqrt=False,
            bias_correction=True,
        )

    def unscaled(self) -> Optimizer:
        """SGD: nothing is averaged but the squares."""
        return SGD()


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """u = -eta m / (sqrt(v) + eps), m and v bias-corrected averages of g and g^2.

    Changes both, by averaging and by rescaling. Kingma & Ba (2015), arXiv:1412.6980.
    """

    label = "Adam"
    colour = "#4e0089"
    changes = "both"
    b1: float = 0.9
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root: far below it the rule is averaged SGD."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.adam`."""
        import optax

        return optax.adam(learning_rate, b1=self.b1, b2=self.b2, eps=self.eps)

    def unscaled(self) -> Optimizer:
        """The same bias-corrected average, not divided."""
        return Averaging(self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """u = -eta (m / (sqrt(v) + eps) + weight_decay theta), as Adam otherwise.

    Changes both. Loshchilov & Hutter (2019), arXiv:1711.05101. The decay is multiplied
    by the learning rate, as in Optax and PyTorch; 1e-2 is PyTorch's default (Optax:
    1e-4). It is no function of the gradient: direction metrics leave it out, and
    `decay_ratio` reports it.
    """

    label = "AdamW"
    colour = "#c462ff"
    changes = "both"
    b1: float = 0.9
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""
    weight_decay: float = 1e-2
    """Decoupled decay, multiplied by the learning rate."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.adamw`."""
        import optax

        return optax.adamw(
            learning_rate,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )

    def unscaled(self) -> Optimizer:
        """The same bias-corrected average, neither divided nor decayed."""
        return Averaging(self.b1)
