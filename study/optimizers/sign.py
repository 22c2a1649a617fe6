"""Rules that bring every element to one length: the extreme of element-wise rescaling."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import SGD, ScalarRule

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SignDescent(Optimizer):
    """u = -eta sign(g). Changes both: the signs stay, the ratios go.

    Riedmiller & Braun (1993) in spirit; Bernstein et al. (2018), signSGD,
    arXiv:1802.04434.
    """

    label = "Sign descent"
    colour = "#b10000"
    changes = "both"

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.sign_sgd`."""
        import optax

        return optax.sign_sgd(learning_rate)

    def unscaled(self) -> Optimizer:
        """SGD: the vector whose sign is taken."""
        return SGD()


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class LionAveraging(ScalarRule):
    """c = b1 m + (1 - b1) g, m = b2 m + (1 - b2) g, u = -eta c. Changes both.

    Lion (arXiv:2302.06675) before it takes the sign; no bias correction, as there.
    """

    label = "Lion's average"
    colour = "#d8b1ff"
    changes = "both"
    b1: float = 0.9
    """Weight of the average in the step, in [0, 1)."""
    b2: float = 0.99
    """Share of the average that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.interpolated_average`, then the learning rate."""
        import optax

        from study import transforms

        average = transforms.interpolated_average(self.b1, self.b2)
        return optax.chain(average, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """u = -eta (sign(b1 m + (1 - b1) g) + weight_decay theta). Changes both.

    Chen et al. (2023), arXiv:2302.06675. Optax's default weight decay is 1e-3, here 0.
    """

    label = "Lion"
    colour = "#ff62b1"
    changes = "both"
    b1: float = 0.9
    """Weight of the average in the step, in [0, 1)."""
    b2: float = 0.99
    """Share of the average that is kept, in [0, 1)."""
    weight_decay: float = 0.0
    """Decoupled decay, multiplied by the learning rate."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.lion`."""
        import optax

        return optax.lion(
            learning_rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay
        )

    def unscaled(self) -> Optimizer:
        """The interpolated average whose sign is taken."""
        return LionAveraging(self.b1, self.b2)
