"""What an optimizer is to the study: a spec that builds an Optax transformation."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from study.catalogue import Catalogue
from study.optimizers.theory import Theory
from study.spec import Spec

if TYPE_CHECKING:
    import optax

    from study.types import Params, Scalar, Update

Changes = Literal["neither", "magnitude", "direction", "both"]
Extra = Literal["value", "grad", "value_fn", "obj_fn", "grad_fn", "example_grads"]
EPSILONS = ("eps", "eps_root", "initial_accumulator", "min_norm")
NOISES = ("eta", "noise_multiplier")


@dataclasses.dataclass(frozen=True)
class Optimizer(Spec, abc.ABC):
    """An update rule. Every hyperparameter but the learning rate is a field.

    Letters in the formulas of its subclasses: g gradient, m average of gradients,
    v average of squared gradients, u update, eta learning rate; t counts from 1.

    Attributes:
        label: what figures and tables show.
        colour: hexadecimal; one for the whole study.
        changes: what of the gradient (or of its average) the rule changes.
        factory: the Optax export behind it, such as `adam` or `contrib.muon`; empty for
            a rule that Optax lacks.
        theory: the symmetries it has.
        asks: keyword arguments of its `update` besides gradient and params; `train` has
            the list.
        own_rate: it finds its own step length, so that the learning rate means little.
        float16: `finite`, or `nan` if an element whose gradient stays 0 makes the update
            NaN, because epsilon is 0 there (below 3e-8) or the reciprocal overflows. In
            bfloat16 every entry stays finite. State and update keep the params' dtype.
    """

    catalogue: ClassVar[Catalogue[type[Optimizer]]]
    label: ClassVar[str]
    colour: ClassVar[str]
    changes: ClassVar[Changes]
    factory: ClassVar[str] = ""
    theory: ClassVar[Theory | None] = None
    asks: ClassVar[tuple[Extra, ...]] = ()
    own_rate: ClassVar[bool] = False
    float16: ClassVar[Literal["finite", "nan"]] = "finite"

    @property
    def title(self) -> str:
        """The label with what differs from the default: `Adam, b1 = 0.0`."""
        return ", ".join([self.label, *(f"{k} = {v}" for k, v in self.changed.items())])

    def build(self, learning_rate: Scalar) -> optax.GradientTransformation:
        """The Optax optimizer; the learning rate may be traced.

        Unless overridden, the factory called with all fields by their names.
        """
        import optax

        make = functools.reduce(getattr, self.factory.split("."), optax)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return make(learning_rate, **fields)  # type: ignore[operator]

    @abc.abstractmethod
    def unscaled(self) -> Optimizer | None:
        """The same averaging without the rescaling; None where no such rule exists.

        A rule that rescales by one scalar is its own counterpart.
        """

    def shared(self, state: Any) -> Any:
        """The state of the unscaled counterpart, where this rule's own state holds it.

        A shadow of such a rule need not be carried along. None where it does not.
        """
        del state
        return None

    def evaluated(self, state: Any, params: Params) -> Params:
        """The parameters to evaluate, where they are not those that are trained."""
        del state
        return params

    def without_epsilon(self) -> Optimizer:
        """The same rule with every epsilon 0; itself if it has none."""
        return self._zeroed(EPSILONS)

    def without_noise(self) -> Optimizer:
        """The same rule with noise 0; itself if it has none."""
        return self._zeroed(NOISES)

    def _zeroed(self, names: tuple[str, ...]) -> Optimizer:
        own = {f.name for f in dataclasses.fields(self)} & set(names)
        return dataclasses.replace(self, **dict.fromkeys(own, 0.0))

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
