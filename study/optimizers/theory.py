"""Which symmetries an update rule has: the facts that every entry states of itself.

Feed a rule a stream of gradients, then the same stream transformed, and compare its two
sequences of updates. `experiments.symmetries` measures each fact; what is stated is
derived from the rule's formula, whose source the entry cites.

The notions are those of scale-free rules (invariance to factors per element: Orabona & Pal
2015, arXiv:1502.05744; Zhuang et al. 2022, arXiv:2202.00089), of rotation equivariance
(Maes et al. 2025, arXiv:2410.19964) and of functions that keep when layers are rescaled
(Neyshabur et al. 2015, arXiv:1506.02617; Dinh et al. 2017, arXiv:1703.04933).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

SYMMETRIES = {
    "loss_factor": "factor on the loss",
    "element": "factor per element",
    "leaf": "factor per leaf",
    "permutation": "permutation",
    "rotation": "rotation",
    "matrix_rotation": "rotation of rows and columns",
    "layer_rescaling": "layer rescaling",
}
"""Field of Theory -> what it is called."""

OUTCOMES = ("yes", "approximate", "early", "late", "in law", "no", "undefined")
"""Exact to rounding; with a small error; only at the first or only at the last steps; only
in distribution; not; the rule gives no finite update."""


class Stated(NamedTuple):
    """An outcome at the entry's own epsilon, and at epsilon 0."""

    default: str
    exact: str


@dataclasses.dataclass(frozen=True)
class Theory:
    """Facts of a rule u(g), derived from its formula.

    An outcome such as `approximate|yes` is `approximate` at the entry's own epsilon and
    `yes` at epsilon 0; one without a bar holds at both.

    Attributes:
        degree: k where u(c g) = c^k u(g), the loss and its Hessian multiplied by c too,
            far above epsilon.
        loss_factor: u(c g) = u(g), so k = 0.
        element: u(D g) = u(g) for positive diagonal D.
        leaf: the same with one factor per leaf.
        permutation: u(P g) = P u(g) for any permutation P of all elements, across leaves.
        rotation: u(Q g) = Q u(g) for orthogonal Q of the whole space.
        matrix_rotation: u(U G V') = U u(G) V' for each matrix leaf G.
        layer_rescaling: the trained function stays the same if layers of a ReLU network
            are rescaled so that it starts the same.
        floor: size s of every element of a constant gradient (60 elements in leaves of 48
            and 12, 40 steps at learning rate 0.01, 1 for an `own_rate`) at which the update
            is half as long as for large s; 0 if it never is, NaN if the update grows with s
            (no plateau).
        epsilon: what sets the floor.
    """

    degree: float
    loss_factor: str
    element: str
    leaf: str
    permutation: str
    rotation: str
    matrix_rotation: str
    layer_rescaling: str = "no"
    floor: float = math.nan
    epsilon: str = "none"

    def stated(self, symmetry: str) -> Stated:
        """The two outcomes of one of SYMMETRIES."""
        default, _, exact = getattr(self, symmetry).partition("|")
        return Stated(default, exact or default)

    def but(self, **changed: object) -> Theory:
        """A copy with other facts."""
        return dataclasses.replace(self, **changed)  # type: ignore[arg-type]


LINEAR = Theory(1, "no", "no", "no", "yes", "yes", "yes")
"""A weighted sum of gradients: rotates with them and scales with them."""

NORMED = LINEAR.but(degree=0, loss_factor="approximate|yes")
"""A weighted sum of gradients over a length of the whole vector."""

LEAFWISE = Theory(
    0, "approximate|yes", "no", "approximate|yes", "no", "no", matrix_rotation="yes"
)
"""Each leaf over a length of its own."""

ELEMENTWISE = Theory(
    degree=0,
    loss_factor="approximate|yes",
    element="approximate|yes",
    leaf="approximate|yes",
    permutation="yes",
    rotation="no",
    matrix_rotation="no",
)
"""Each element over a length of its own, epsilon added to the length."""

SIGN = Theory(0, "yes", "yes", "yes", "yes", "no", "no", floor=0.0)
"""Signs alone: no epsilon, no floor."""

PARTIAL = Theory(1, "no", "no", "no", "yes", "no", "no")
"""Each element rescaled, though not by all of its own length: scales with gradients."""
