"""Rules that see more than elements: a matrix's spectrum, the curvature of the loss."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from study.optimizers.averaging import Averaging, NesterovAveraging, OfKeptAverage
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.scalar import OfGradient
from study.optimizers.theory import ELEMENTWISE, LEAFWISE, NORMED

if TYPE_CHECKING:
    import optax

    from study.types import Scalar


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Muon(Optimizer):
    """u = -eta orth(m) for matrices, Nesterov Adam for the rest. Changes both.

    Jordan et al. (2024), kellerjordan.github.io/posts/muon. orth is five Newton-Schulz
    steps towards U V' of m = U S V': singular values end between 0.7 and 1.2. Optax
    corrects the bias of the Nesterov average m, which the post does not.
    """

    label = "Muon"
    colour = "#76c4b1"
    changes = "both"
    float16 = "nan"
    factory = "contrib.muon"
    theory = LEAFWISE.but(
        floor=5.5e-09,
        epsilon="eps = |m| of a matrix; for vectors Adam's",
    )
    beta: float = 0.95
    """Share of the average gradient that is kept, in [0, 1)."""
    ns_steps: int = 5
    """Newton-Schulz steps."""
    eps: float = 1e-8
    """Added to |m|, and to Adam's root."""

    def unscaled(self) -> Optimizer | None:
        """The Nesterov average of the matrices."""
        return NesterovAveraging(self.beta)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class GaLore(Optimizer):
    """Adam in the space of a matrix's first singular vectors. Changes both.

    Zhao et al. (2024), arXiv:2403.03507. The singular vectors are those of the gradient
    every 200 steps, computed in float32; vectors take plain Adam. Deviation: rank 4, for
    Optax's 128 is more than small layers have. Optax takes the singular vectors of the
    longer side, where the authors take those of the shorter.
    """

    label = "GaLore"
    colour = "#9d764e"
    changes = "both"
    float16 = "nan"
    factory = "contrib.galore"
    theory = LEAFWISE.but(
        loss_factor="approximate",
        leaf="approximate",
        matrix_rotation="no",
        floor=1e-08,
        epsilon="eps = sqrt(v), for vectors Adam's",
    )
    rank: int = 4
    """Singular vectors kept."""
    update_proj_gap: int = 200
    """Steps between singular value decompositions."""

    def unscaled(self) -> Optimizer | None:
        """Adam's average."""
        return Averaging(0.9)


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Shampoo(OfGradient):
    """u = -eta L^(-1/4) G R^(-1/4), L and R sums of G G' and G' G. Changes both.

    Gupta, Koren & Singer (2018), arXiv:1802.09568; vectors have full-matrix Adagrad.
    """

    label = "Shampoo"
    colour = "#ff00b1"
    changes = "both"
    theory = LEAFWISE.but(
        floor=1.8e-06,
        epsilon="eps I, the start of L and R",
    )
    eps: float = 1e-8
    """L and R start at eps I."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`transforms.scale_by_shampoo`, then the learning rate."""
        import optax

        from study import transforms

        shampoo = transforms.scale_by_shampoo(self.eps)
        return optax.chain(shampoo, optax.scale_by_learning_rate(learning_rate))


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class LBFGS(Optimizer):
    """u = -eta H g, H from the last steps and changes of gradient. Changes both.

    Liu & Nocedal (1989), doi:10.1007/BF01589116, without line search: the learning rate
    scales the quasi-Newton step. Made for gradients without noise: on others its steps
    shrink until theta_t - theta_(t-1) has lost its digits, and with them the rotation.
    Optax keeps pairs of negative curvature, so that H may be indefinite.
    """

    label = "L-BFGS"
    colour = "#002776"
    changes = "both"
    float16 = "nan"
    factory = "lbfgs"
    theory = NORMED.but(
        loss_factor="yes",
        floor=float("nan"),
        epsilon="first step: |u| at most |g|",
        rotation="early",
        matrix_rotation="early",
    )
    memory_size: int = 10
    """Steps remembered."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.lbfgs` without line search."""
        import optax

        return optax.lbfgs(learning_rate, self.memory_size, linesearch=None)

    def unscaled(self) -> Optimizer | None:
        """None: the curvature is no rescaling of an average."""
        return None


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class LBFGSLineSearch(Optimizer):
    """L-BFGS with a zoom line search, its learning rate. Changes both.

    Liu & Nocedal (1989), doi:10.1007/BF01589116; Nocedal & Wright (2006), algorithm 3.5.
    The learning rate is not used. Made for gradients without noise: on others rounding
    grows from step to step.
    """

    label = "L-BFGS line search"
    colour = "#9db176"
    changes = "both"
    factory = "lbfgs"
    asks = ("value", "grad", "value_fn")
    own_rate = True
    theory = NORMED.but(
        loss_factor="approximate",
        floor=0.5,
        epsilon="the line search's first guess, 1",
        permutation="approximate",
        rotation="approximate",
        matrix_rotation="approximate",
    )
    memory_size: int = 10
    """Steps remembered."""

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """`optax.lbfgs`."""
        import optax

        del learning_rate
        return optax.lbfgs(memory_size=self.memory_size)

    def unscaled(self) -> Optimizer | None:
        """None: the curvature is no rescaling of an average."""
        return None


@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Sophia(OfKeptAverage):
    """u = -eta clip(m / max(gamma h, eps), 1), h averaging a Hessian diagonal. Both.

    Liu et al. (2023), arXiv:2305.14342. h comes from Hutchinson's estimator every ten
    steps; where m is large beside it the rule is sign descent. Optax's default weight
    decay is 1e-4, here 0. Deviations of Optax: m is bias corrected, and an estimate serves
    from the next step on, so the first update is a sign.
    """

    label = "Sophia"
    colour = "#c4004e"
    changes = "both"
    float16 = "nan"
    factory = "contrib.sophia"
    asks = ("obj_fn",)
    theory = ELEMENTWISE.but(
        loss_factor="yes",
        element="early",
        leaf="early",
        epsilon="eps where gamma h is below it: eps / 2",
        floor=5e-09,
    )
    b1: float = 0.965
    """Share of the average gradient that is kept, in [0, 1)."""
    b2: float = 0.99
    """Share of the average Hessian that is kept, in [0, 1)."""
    gamma: float = 0.01
    """Factor on the Hessian."""
    eps: float = 1e-8
    """Smallest divisor."""
    weight_decay: float = 0.0
    """Decoupled decay, multiplied by the learning rate."""
