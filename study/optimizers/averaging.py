"""Averages of gradients without rescaling: counterparts of rules that rescale them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import ScalarRule

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


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


@dataclasses.dataclass(frozen=True)
class OfAverage(Optimizer):
    """A rule that rescales a bias-corrected average of gradients."""

    b1: float = 0.9
    """Share of the average gradient that is kept, in [0, 1)."""

    def unscaled(self) -> Optimizer | None:
        """The same average, neither rescaled nor decayed."""
        return Averaging(self.b1)


@dataclasses.dataclass(frozen=True)
class OfKeptAverage(OfAverage):
    """One whose state has that average as `mu`, of `count` gradients."""

    def shared(self, state: Any) -> Any:
        """The state of `Averaging`, whose sums are those of the rule's own `mu`."""
        import optax

        count, average = (optax.tree.get(state, name) for name in ("count", "mu"))
        return optax.EmaState(count, average), optax.EmptyState()


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class NesterovAveraging(ScalarRule):
    """u = -eta (b1 m' + (1 - b1) g / (1 - b1^t)), m' = m / (1 - b1^(t+1)). Changes both.

    The average inside NAdam and Muon without the rescaling; Dozat (2016), ICLR workshop,
    in the form of Optax.
    """

    label = "Nesterov averaging"
    colour = "#ff7600"
    changes = "both"
    b1: float = 0.9
    """Share of the average that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.nesterov_average`, then the learning rate."""
        import optax

        from study import transforms

        average = transforms.nesterov_average(self.b1)
        return optax.chain(average, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class TwoAverages(ScalarRule):
    """u = -eta (m1 / (1 - b1^t) + alpha m2), averages of two horizons. Changes both.

    AdEMAMix (arXiv:2409.03137) before it divides: the slow average is not corrected.
    """

    label = "Two averages"
    colour = "#4e004e"
    changes = "both"
    b1: float = 0.9
    """Share of the fast average that is kept, in [0, 1)."""
    b3: float = 0.9999
    """Share of the slow average that is kept, in [0, 1)."""
    alpha: float = 5.0
    """Weight of the slow average."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.two_averages`, then the learning rate."""
        import optax

        from study import transforms

        average = transforms.two_averages(self.b1, self.b3, self.alpha)
        return optax.chain(average, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class DifferenceAveraging(ScalarRule):
    """u = -eta (m + (1 - b2) d), d the average of g_t - g_(t-1). Changes both.

    Adan (arXiv:2208.06677) before it divides; both averages are bias corrected.
    """

    label = "Difference averaging"
    colour = "#ff004e"
    changes = "both"
    b1: float = 0.98
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.92
    """Share of the average difference that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.difference_average`, then the learning rate."""
        import optax

        from study import transforms

        average = transforms.difference_average(self.b1, self.b2)
        return optax.chain(average, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class OptimisticAveraging(ScalarRule):
    """Optimistic GD on Nesterov averages: optimistic Adam without division. Changes both.

    Daskalakis et al. (2018), arXiv:1711.00141.
    """

    label = "Optimistic averaging"
    colour = "#b1009d"
    changes = "both"
    alpha: float = 1.0
    """Weight of the average."""
    beta: float = 1.0
    """Weight of its change."""
    b1: float = 0.9
    """Share of the average that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.nesterov_average`, then `optax.optimistic_gradient_descent`."""
        import optax

        from study import transforms

        return optax.chain(
            transforms.nesterov_average(self.b1),
            optax.optimistic_gradient_descent(learning_rate, self.alpha, self.beta),
        )


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
