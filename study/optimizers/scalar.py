"""Rules that multiply the gradient, or an average of gradients, by one number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.base import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@dataclasses.dataclass(frozen=True)
class ScalarRule(Optimizer):
    """A rule that is its own unscaled counterpart."""

    def unscaled(self) -> Optimizer:
        """The rule itself."""
        return self


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SGD(ScalarRule):
    """u = -eta g. Changes neither: every other rule is measured against it.

    Robbins & Monro (1951), doi:10.1214/aoms/1177729586.
    """

    label = "SGD"
    colour = "#000000"
    changes = "neither"

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.sgd`."""
        import optax

        return optax.sgd(learning_rate)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Momentum(ScalarRule):
    """m = decay m + g, u = -eta m. Changes both, by averaging alone.

    Polyak (1964), heavy ball, doi:10.1016/0041-5553(64)90137-5. The sum is not
    normalised: at a constant gradient the step is 1 / (1 - decay) times SGD's.
    """

    label = "Momentum"
    colour = "#626289"
    changes = "both"
    decay: float = 0.9
    """Share of the running sum that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.sgd` with momentum."""
        import optax

        return optax.sgd(learning_rate, momentum=self.decay)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Nesterov(ScalarRule):
    """m = decay m + g, u = -eta (g + decay m). Changes both, by averaging alone.

    Nesterov (1983); in the form of Sutskever et al. (2013), ICML.
    """

    label = "Nesterov"
    colour = "#b16214"
    changes = "both"
    decay: float = 0.9
    """Share of the running sum that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.sgd` with Nesterov momentum."""
        import optax

        return optax.sgd(learning_rate, momentum=self.decay, nesterov=True)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NormalisedGD(ScalarRule):
    """u = -eta g / (|g| + eps). Changes the magnitude, keeps the direction.

    Nesterov (1984); Hazan, Levy & Shalev-Shwartz (2015), arXiv:1507.02030. Stochastic
    gradients are normalised as they come.
    """

    label = "Normalised GD"
    colour = "#3bb100"
    changes = "magnitude"
    eps: float = 1e-6
    """Added to |g|: below it the rule is SGD again."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.normalize_by_update_norm`, then the learning rate."""
        import optax

        normalise = optax.normalize_by_update_norm(eps=self.eps)
        return optax.chain(normalise, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Averaging(ScalarRule):
    """m = decay m + (1 - decay) g, u = -eta m / (1 - decay^t). Changes both, by averaging.

    The average inside Adam without Adam's rescaling (Kingma & Ba 2015, arXiv:1412.6980,
    Algorithm 1, the first moment and its bias correction).
    """

    label = "Averaging"
    colour = "#9d62c4"
    changes = "both"
    decay: float = 0.9
    """Share of the average that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.ema`, then the learning rate."""
        import optax

        average = optax.ema(self.decay, debias=True)
        return optax.chain(average, optax.scale_by_learning_rate(learning_rate))
