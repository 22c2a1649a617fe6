"""Rules around another rule, and rules on another iterate than the one evaluated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import OfGradient, ScalarRule
from study.optimizers.theory import ELEMENTWISE, LINEAR, NORMED
from study.spec import construct

if TYPE_CHECKING:
    import optax

    from study.types import Params, Scalar


@dataclasses.dataclass(frozen=True)
class Around(Optimizer):
    """A rule around another."""

    base: str = "SGD"
    """The inner rule, such as SGD or `Adam(b1=0.0)`."""

    @property
    def inner(self) -> Optimizer:
        """The inner rule."""
        return OPTIMIZERS.parse(self.base, construct)

    def unscaled(self) -> Optimizer | None:
        """The wrapper around the inner rule's counterpart."""
        counterpart = self.inner.unscaled()
        if counterpart is None:
            return None
        return dataclasses.replace(self, base=str(counterpart))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Lookahead(Around):
    """Every `sync_period` steps theta returns towards slow weights. Changes both.

    Zhang et al. (2019), arXiv:1907.08610. What is evaluated are the slow weights.
    """

    label = "Lookahead (SGD)"
    colour = "#ff9deb"
    changes = "both"
    factory = "lookahead"
    theory = LINEAR
    sync_period: int = 5
    """Steps of the inner rule between two of the slow weights."""
    slow_step_size: float = 0.5
    """How far the slow weights move."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.lookahead` around the inner rule."""
        from study import transforms

        fast = self.inner.build(learning_rate)
        return transforms.lookahead(fast, self.sync_period, self.slow_step_size)

    def evaluated(self, state: Any, params: Params) -> Params:
        """The slow weights."""
        del params
        return state.slow


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Mechanize(Around):
    """The inner rule's path from theta_0, stretched by a tuned factor. Changes both.

    Cutkosky, Defazio & Mehta (2023), arXiv:2306.00144. The factor starts at 1e-6. Optax's
    default weight decay is 1e-2, here 0.
    """

    label = "Mechanic (SGD)"
    colour = "#ff0076"
    changes = "both"
    float16 = "nan"
    factory = "contrib.mechanize"
    own_rate = True
    theory = LINEAR.but(
        epsilon="eps beside the betting terms",
        loss_factor="no|undefined",
        element="no|undefined",
        leaf="no|undefined",
        permutation="yes|undefined",
        rotation="yes|undefined",
        matrix_rotation="yes|undefined",
        layer_rescaling="no|undefined",
    )
    eps: float = 1e-8
    """Added to the divisors."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.mechanize` around the inner rule."""
        import optax

        inner = self.inner.build(learning_rate)
        return optax.contrib.mechanize(inner, weight_decay=0.0, eps=self.eps)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class SAM(Around):
    """The inner rule on the gradient at theta + rho g / |g|. Changes both.

    Foret et al. (2021), arXiv:2010.01412: two gradients of the same batch for one update.
    """

    label = "SAM (SGD)"
    colour = "#004e00"
    changes = "both"
    factory = "contrib.sam"
    asks = ("grad_fn",)
    theory = LINEAR
    rho: float = 0.05
    """How far the gradient is looked for."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.sam` around the inner rule, both gradients in one update."""
        import optax

        normalise = optax.contrib.normalize()
        return optax.contrib.sam(
            self.inner.build(learning_rate),
            optax.chain(normalise, optax.sgd(self.rho)),
            opaque_mode=True,
        )

    def unscaled(self) -> Optimizer | None:
        """None: a gradient taken elsewhere is no rescaling."""
        return None


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class ScheduleFreeSGD(ScalarRule):
    """Gradients at an interpolation of SGD's iterate and its mean. Changes both.

    Defazio et al. (2024), arXiv:2405.15682. What is trained is the interpolation; what is
    evaluated is the mean.
    """

    label = "Schedule-free SGD"
    colour = "#c49db1"
    changes = "both"
    factory = "contrib.schedule_free_sgd"
    b1: float = 0.9
    """Weight of the mean in the interpolation."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.schedule_free_sgd`."""
        import optax

        return optax.contrib.schedule_free_sgd(learning_rate, b1=self.b1)

    def evaluated(self, state: Any, params: Params) -> Params:
        """The mean."""
        import optax

        return optax.contrib.schedule_free_eval_params(state, params)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class ScheduleFreeAdamW(Optimizer):
    """RMSProp steps at an interpolation of its iterate and its mean. Changes both.

    Defazio et al. (2024), arXiv:2405.15682: Adam without an average of gradients inside
    the schedule-free scheme. What is trained is the interpolation; what is evaluated is
    the mean. Iterates weigh alike; the authors' first code weighed them by 1 - b2^t.
    """

    label = "Schedule-free AdamW"
    colour = "#769db1"
    changes = "both"
    float16 = "nan"
    factory = "contrib.schedule_free_adamw"
    theory = ELEMENTWISE.but(floor=1e-8, epsilon="eps = sqrt(v)")
    b1: float = 0.9
    """Weight of the mean in the interpolation."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.schedule_free_adamw`."""
        import optax

        return optax.contrib.schedule_free_adamw(
            learning_rate, b1=self.b1, b2=self.b2, eps=self.eps
        )

    def unscaled(self) -> Optimizer | None:
        """The same scheme around SGD."""
        return ScheduleFreeSGD(self.b1)

    def evaluated(self, state: Any, params: Params) -> Params:
        """The mean."""
        import optax

        return optax.contrib.schedule_free_eval_params(state, params)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class DPSGD(OfGradient):
    """u = -eta (mean of clip(g_i) + noise), example by example. Changes both.

    Abadi et al. (2016), arXiv:1607.00133. Each example's gradient is clipped to a length,
    then normal noise is added. Optax has no defaults; clip and noise here are ours. The
    noise comes from `seed` alone, the same for every run of a cell.
    """

    label = "DP-SGD"
    colour = "#b100c4"
    changes = "both"
    factory = "contrib.dpsgd"
    asks = ("example_grads",)
    theory = NORMED.but(
        loss_factor="yes",
        permutation="in law",
        rotation="in law",
        matrix_rotation="in law",
        floor=0.0,
        epsilon="the clip; below it noise holds the length up",
    )
    l2_norm_clip: float = 1.0
    """Longest gradient of an example."""
    noise_multiplier: float = 0.1
    """Standard deviation, over the clip, of the noise on the sum of the examples."""
    seed: int = 0
    """Of the noise."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.contrib.differentially_private_aggregate`, then the learning rate."""
        import optax

        from study import transforms

        private = optax.contrib.differentially_private_aggregate(
            self.l2_norm_clip, self.noise_multiplier, self.seed
        )
        rate = optax.scale_by_learning_rate(learning_rate)
        return optax.chain(transforms.of_examples(private), rate)
