"""What an optimizer is to the study: a spec that builds an Optax transformation."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from study.catalogue import Catalogue
from study.spec import Spec

if TYPE_CHECKING:
    import optax

    from study.types import Params, Scalar, Update

Changes = Literal["neither", "magnitude", "direction", "both"]


@dataclasses.dataclass(frozen=True)
class Optimizer(Spec, abc.ABC):
    """An update rule. Every hyperparameter but the learning rate is a field.

    Letters in the formulas of its subclasses: g gradient, m average of gradients,
    v average of squared gradients, u update, eta learning rate; t counts from 1.

    Attributes:
        label: what figures and tables show.
        colour: hexadecimal; one for the whole study.
        changes: what of the gradient (or of its average) the rule changes.
    """

    catalogue: ClassVar[Catalogue[type[Optimizer]]]
    label: ClassVar[str]
    colour: ClassVar[str]
    changes: ClassVar[Changes]

    @property
    def title(self) -> str:
        """The label with what differs from the default: `Adam, b1 = 0.0`."""
        return ", ".join([self.label, *(f"{k} = {v}" for k, v in self.changed.items())])

    @abc.abstractmethod
    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """The Optax optimizer; the learning rate may be traced."""

    @abc.abstractmethod
    def unscaled(self) -> Optimizer | None:
        """The same averaging without the rescaling; None where no such rule exists.

        A rule that rescales by one scalar is its own counterpart.
        """

    def decay_update(self, learning_rate: Scalar, params: Params) -> Update | None:
        """The decoupled weight decay inside the update, None without one.

        It is no function of the gradient, so direction metrics leave it out.
        """
        rate = getattr(self, "weight_decay", 0.0)
        if rate == 0.0:
            return None
        from study import trees

        return trees.scale(-learning_rate * rate, params)


OPTIMIZERS: Catalogue[Any] = Catalogue("optimizer")
Optimizer.catalogue = OPTIMIZERS
