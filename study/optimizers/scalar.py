"""Rules that multiply the gradient, or a sum of gradients, by one number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.theory import LINEAR, NORMED

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@dataclasses.dataclass(frozen=True)
class ScalarRule(Optimizer):
    """A rule that is its own unscaled counterpart."""

    theory = LINEAR

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
    factory = "sgd"


@dataclasses.dataclass(frozen=True)
class OfGradient(Optimizer):
    """A rule that rescales the gradient and averages nothing but its squares."""

    def unscaled(self) -> Optimizer:
        """SGD."""
        return SGD()


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
    factory = "sgd"
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
    factory = "sgd"
    decay: float = 0.9
    """Share of the running sum that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.sgd` with Nesterov momentum."""
        import optax

        return optax.sgd(learning_rate, momentum=self.decay, nesterov=True)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class OptimisticGD(ScalarRule):
    """u = -eta ((alpha + beta) g_t - beta g_(t-1)). Changes both, by the last gradient.

    Mokhtari, Ozdaglar & Pattathil (2019), arXiv:1901.08511. The first step takes g_0 for
    the gradient before it.
    """

    label = "Optimistic GD"
    colour = "#ffb1b1"
    changes = "both"
    factory = "optimistic_gradient_descent"
    alpha: float = 1.0
    """Weight of the gradient."""
    beta: float = 1.0
    """Weight of its change."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NoisySGD(ScalarRule):
    """u = -eta (g + n_t), n_t normal with variance eta_noise / t^gamma. Changes both.

    Neelakantan et al. (2015), arXiv:1511.06807. The noise is no rescaling. It comes from
    `seed` alone, the same for every run of a cell, and does not scale with the gradient.
    """

    label = "Noisy SGD"
    colour = "#0000b1"
    changes = "both"
    factory = "noisy_sgd"
    theory = LINEAR.but(permutation="in law", rotation="in law", matrix_rotation="in law")
    eta: float = 0.01
    """Variance of the first noise."""
    gamma: float = 0.55
    """How fast the variance falls."""
    seed: int = 0
    """Of the noise."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.noisy_sgd`."""
        import jax
        import optax

        key = jax.random.key(self.seed)
        return optax.noisy_sgd(learning_rate, self.eta, self.gamma, key=key)


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
    theory = NORMED.but(floor=1.3e-7, epsilon="eps = |g|: 1e-6 / sqrt(60)")
    eps: float = 1e-6
    """Added to |g|: below it the rule is SGD again."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.normalize_by_update_norm`, then the learning rate."""
        import optax

        normalise = optax.normalize_by_update_norm(eps=self.eps)
        return optax.chain(normalise, optax.scale_by_learning_rate(learning_rate))
