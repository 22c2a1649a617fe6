"""Rules that divide each element by a length of its own, taken from its history."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import Averaging, OfAverage
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import Momentum, OfGradient
from study.optimizers.theory import ELEMENTWISE, PARTIAL

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adagrad(OfGradient):
    """v = v + g^2, u = -eta g / sqrt(v + eps), v_0 = initial_accumulator. Changes both.

    Duchi, Hazan & Singer (2011), JMLR 12. The start 0.1 is Optax's (and TensorFlow's),
    not the paper's; while v_0 outweighs the squared gradients the rule is SGD at
    eta / sqrt(v_0).
    """

    label = "Adagrad"
    colour = "#62eb9d"
    changes = "both"
    factory = "adagrad"
    theory = ELEMENTWISE.but(
        loss_factor="late|yes",
        element="no|yes",
        leaf="no|yes",
        floor=0.029,
        epsilon="initial accumulator v_0: sqrt(v_0 / 120)",
    )
    initial_accumulator: float = 0.1
    """v_0, at least 0."""
    eps: float = 1e-7
    """Added inside the root, as Optax does; the paper adds it outside."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.adagrad`."""
        import optax

        return optax.adagrad(learning_rate, self.initial_accumulator, self.eps)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Adadelta(OfGradient):
    """u = -eta sqrt(x + eps) / sqrt(v + eps) g, x averaging past updates squared. Both.

    Zeiler (2012), arXiv:1212.5701. eps alone sets the length of the first steps, so
    that nothing moves without it.
    """

    label = "Adadelta"
    colour = "#004ec4"
    changes = "both"
    factory = "adadelta"
    theory = ELEMENTWISE.but(
        loss_factor="approximate|undefined",
        element="late|undefined",
        leaf="no|undefined",
        permutation="yes|undefined",
        rotation="no|undefined",
        matrix_rotation="no|undefined",
        layer_rescaling="no|undefined",
        epsilon="eps in both roots",
        floor=0.0021,
    )
    rho: float = 0.9
    """Share of both averages that is kept, in [0, 1)."""
    eps: float = 1e-6
    """Inside both roots; the unit of the step."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class RMSProp(OfGradient):
    """v = decay v + (1 - decay) g^2, u = -eta g / (sqrt(v / (1 - decay^t)) + eps).

    Changes both. Tieleman & Hinton (2012), Coursera lecture 6.5. Deviation: v is bias
    corrected and eps stands outside the root, as in Adam; `PlainRMSProp` is Optax's own
    default.
    """

    label = "RMSProp"
    colour = "#278962"
    changes = "both"
    float16 = "nan"
    factory = "rmsprop"
    theory = ELEMENTWISE.but(floor=1e-8, epsilon="eps = sqrt(v)")
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


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class PlainRMSProp(OfGradient):
    """v = decay v + (1 - decay) g^2, u = -eta g / sqrt(v + eps). Changes both.

    RMSProp as Optax has it by default. Without bias correction the first step is
    1 / sqrt(1 - decay) = 3.2 times as long as the later ones, and eps inside the root is
    a floor of 1e-4, not of 1e-8.
    """

    label = "RMSProp (Optax)"
    colour = "#c4769d"
    changes = "both"
    float16 = "nan"
    factory = "rmsprop"
    theory = ELEMENTWISE.but(
        floor=5.8e-05,
        epsilon="eps inside the root: sqrt(eps / 3)",
        leaf="late|yes",
    )
    decay: float = 0.9
    """Share of the averages that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Inside the root."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class CentredRMSProp(OfGradient):
    """u = -eta g / sqrt(v - m^2 + eps), m and v averages of g and g^2. Changes both.

    Graves (2013), arXiv:1308.0850, section 4: divided by the standard deviation. On a
    constant gradient v - m^2 dies out, and the step grows to g / sqrt(eps).
    """

    label = "Centred RMSProp"
    colour = "#ffb176"
    changes = "both"
    float16 = "nan"
    factory = "rmsprop"
    theory = ELEMENTWISE.but(
        floor=0.00048,
        epsilon="eps beside the variance v - m^2",
        leaf="late|yes",
    )
    decay: float = 0.9
    """Share of the averages that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Inside the root."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.rmsprop`, centred."""
        import optax

        return optax.rmsprop(learning_rate, self.decay, self.eps, centered=True)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class MomentumRMSProp(Optimizer):
    """u = momentum u - eta g / sqrt(v + eps), v as in RMSProp. Changes both.

    RMSProp as Optax has it, with heavy-ball momentum on the rescaled gradients.
    """

    label = "RMSProp momentum"
    colour = "#277600"
    changes = "both"
    float16 = "nan"
    factory = "rmsprop"
    theory = ELEMENTWISE.but(
        floor=5.8e-05,
        epsilon="eps inside the root: sqrt(eps / 3)",
        leaf="late|yes",
    )
    decay: float = 0.9
    """Share of the averages that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Inside the root."""
    momentum: float = 0.9
    """Share of the last update that is kept, in [0, 1)."""

    def unscaled(self) -> Optimizer | None:
        """The same momentum, not rescaled."""
        return Momentum(self.momentum)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class ACProp(OfGradient):
    """u = -eta g / (sqrt(s) + eps), s averaging (g - m)^2 up to the step before. Both.

    Zhuang et al. (2021), arXiv:2110.05454, asynchronous and centred; the first step, with
    nothing to divide by, is SGD's. eps_root is added to s at every step, as in AdaBelief.
    Optax centres g on the m before it; on the m with it steps were 1 / b1 times as long.
    """

    label = "ACProp"
    colour = "#ff0000"
    changes = "both"
    float16 = "nan"
    factory = "contrib.acprop"
    theory = ELEMENTWISE.but(
        loss_factor="late",
        element="late",
        leaf="late",
        rotation="early",
        matrix_rotation="early",
        epsilon="eps_root, summed with s, which dies out",
        floor=4.7e-07,
    )
    b1: float = 0.9
    """Share of the average m that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-16
    """Added to the root."""
    eps_root: float = 1e-16
    """Added to s at each step."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class ADOPT(OfAverage):
    """c = clip(g / max(sqrt(v), eps)), m = b1 m + (1 - b1) c, u = -eta m. Changes both.

    Taniguchi et al. (2024), arXiv:2411.02853: v is of the steps before, and the gradient
    is divided before it is averaged, clipped at t^(1/4). The first step only fills v.
    """

    label = "ADOPT"
    colour = "#764e4e"
    changes = "both"
    factory = "contrib.adopt"
    theory = ELEMENTWISE.but(
        loss_factor="yes",
        element="yes",
        leaf="yes",
        floor=5e-7,
        epsilon="eps where sqrt(v) is below it: eps / 2",
    )
    b2: float = 0.9999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-6
    """Smallest divisor."""


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Padam(Optimizer):
    """u = -eta m / (max v)^p, m and v averages of g and g^2. Changes both.

    Chen et al. (2018), arXiv:1806.06763: p in [0, 1/2] leads from momentum to AMSGrad.
    The update scales as c^(1 - 2p).
    """

    label = "Padam"
    colour = "#b1c4eb"
    changes = "both"
    float16 = "nan"
    theory = PARTIAL.but(
        degree=0.75, epsilon="none of consequence: the update vanishes with g"
    )
    p: float = 0.125
    """The exponent, in [0, 1/2]."""
    b1: float = 0.9
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.999
    """Share of the average square that is kept, in [0, 1)."""
    eps: float = 1e-8
    """Added to the power."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.power`, then the learning rate."""
        import optax

        from study import transforms

        power = transforms.power(self.p, self.b1, self.b2, self.eps)
        return optax.chain(power, optax.scale_by_learning_rate(learning_rate))

    def unscaled(self) -> Optimizer | None:
        """The average of gradients, in length bias corrected."""
        return Averaging(self.b1)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class MSVAG(Optimizer):
    """u = -eta gamma m, gamma = m^2 / (m^2 + variance of m) in [0, 1]. Changes both.

    Balles & Hennig (2018), arXiv:1705.07774: elements are shortened where the gradient is
    noise, not where it is large. gamma has no unit, so the update scales with g.
    """

    label = "M-SVAG"
    colour = "#9d00eb"
    changes = "both"
    theory = PARTIAL.but(
        rotation="early",
        matrix_rotation="early",
    )
    decay: float = 0.9
    """Share of both averages that is kept, in [0, 1)."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.scale_by_variance`, then the learning rate."""
        import optax

        from study import transforms

        adapt = transforms.scale_by_variance(self.decay)
        return optax.chain(adapt, optax.scale_by_learning_rate(learning_rate))

    def unscaled(self) -> Optimizer | None:
        """The average, not shortened."""
        return Averaging(self.decay)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class MADGRAD(Optimizer):
    """z = theta_0 - s / (v^(1/3) + eps), u = (1 - momentum) (z - theta). Changes both.

    Defazio & Jelassi (2021), arXiv:2101.11075: s and v sum g and g^2 with weights
    eta sqrt(t). The cube root makes the update scale as c^(1/3).
    """

    label = "MADGRAD"
    colour = "#00274e"
    changes = "both"
    factory = "contrib.madgrad"
    theory = PARTIAL.but(degree=1 / 3, epsilon="eps beside the cube root")
    momentum: float = 0.9
    """Share of the iterate that is kept, in [0, 1)."""
    eps: float = 1e-6
    """Added to the cube root, and to the learning rate."""

    def unscaled(self) -> Optimizer | None:
        """None: a sum of all gradients from theta_0 is no average of recent ones."""
        return None


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class COCOB(Optimizer):
    """Bets on each coordinate: u from sums of its gradients and their largest. Both.

    Orabona & Tommasi (2017), arXiv:1705.07795. No learning rate: Optax's multiplies the
    gradient, to which the rule is invariant.
    """

    label = "COCOB"
    colour = "#4e2700"
    changes = "both"
    float16 = "nan"
    factory = "contrib.cocob"
    own_rate = True
    theory = ELEMENTWISE.but(
        loss_factor="yes",
        element="yes",
        leaf="yes",
        epsilon="eps, where the largest gradient starts",
        floor=9.4e-09,
    )
    alpha: float = 100.0
    """How slowly betting starts."""
    eps: float = 1e-8
    """The largest gradient starts here."""

    def unscaled(self) -> Optimizer | None:
        """None: the bet is on the sum of all gradients."""
        return None
