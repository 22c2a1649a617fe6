"""How the learning rate moves along a run: a factor on it, step by step.

A schedule is a spec with shares of the run as fields, so that another number of steps
keeps its shape. `train.step` is given the learning rate of its step, so every optimizer
goes with every schedule, built from Optax's own. Steps count from 0.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from study.catalogue import Catalogue
from study.spec import Spec

if TYPE_CHECKING:
    from study.types import Array, Scalar

Factor = Callable[[Any], Any]
"""From a step to a factor, as Optax calls a schedule."""


@dataclasses.dataclass(frozen=True)
class Schedule(Spec, abc.ABC):
    """A factor on the learning rate, a function of the step and of the run's length."""

    catalogue: ClassVar[Catalogue[type[Schedule]]]

    @abc.abstractmethod
    def factor(self, steps: int) -> Factor:
        """From step t [], an integer in [0, steps), to the factor on the learning rate."""

    def rates(self, steps: int) -> Callable[[Scalar, Array], Scalar]:
        """From a learning rate and step t to the learning rate of that step, its dtype."""
        import jax.numpy as jnp

        factor = self.factor(steps)

        def rate_at(rate: Scalar, t: Array) -> Scalar:
            return jnp.asarray(rate * factor(t), jnp.asarray(rate).dtype)

        return rate_at

    def refuse_beyond(self, *names: str) -> None:
        """Refuses fields that are no share in [0, 1]."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                self.refuse(name, "a share from 0 to 1")


SCHEDULES: Catalogue[Any] = Catalogue("schedule")
Schedule.catalogue = SCHEDULES


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """1 at every step: the learning rate itself, and the very program without schedule."""

    def factor(self, steps: int) -> Factor:
        """1."""
        del steps
        return lambda t: 1.0

    def rates(self, steps: int) -> Callable[[Scalar, Array], Scalar]:
        """The learning rate as it is."""
        del steps
        return lambda rate, t: rate


@dataclasses.dataclass(frozen=True)
class WarmedUp(Schedule, abc.ABC):
    """A linear warm-up over w steps, then a schedule of its own over the rest.

    w is the share `warm_up` of the run, rounded. Step t of the warm-up has the factor
    (t + 1) / (w + 1), so that the first update is not 0 and step w has 1.
    """

    warm_up: float = 0.0
    """Share of the run, in [0, 1]; 0 is none."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_beyond("warm_up")

    def factor(self, steps: int) -> Factor:
        """Optax's linear schedule, joined with the schedule after it."""
        import optax

        first = _place(self.warm_up, steps)
        after = self.after(steps, first)
        if not first:
            return after
        rise = optax.linear_schedule(1 / (first + 1), 1.0, first)
        return optax.join_schedules([rise, after], [first])

    @abc.abstractmethod
    def after(self, steps: int, first: int) -> Factor:
        """The factor from the end of the warm-up on.

        Args:
            steps: in the whole run.
            first: step at which the warm-up is over; the factor's steps count from it.
        """


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class WarmUp(WarmedUp):
    """A linear warm-up, then 1."""

    warm_up: float = 0.05
    """Share of the run, in [0, 1]; 0 is none."""

    def after(self, steps: int, first: int) -> Factor:
        """1."""
        import optax

        del steps, first
        return optax.constant_schedule(1.0)


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class Cosine(WarmedUp):
    """Warm-up, then half a cosine from 1 to `end`, met one step after the last.

    Loshchilov & Hutter (2017), arXiv:1608.03983, without restarts.
    """

    end: float = 0.0
    """Factor at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_beyond("end")

    def after(self, steps: int, first: int) -> Factor:
        """`optax.cosine_decay_schedule`."""
        import optax

        return optax.cosine_decay_schedule(1.0, max(1, steps - first), alpha=self.end)


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class Linear(WarmedUp):
    """Warm-up, then a straight line from 1 to `end`, met one step after the last."""

    end: float = 0.0
    """Factor at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_beyond("end")

    def after(self, steps: int, first: int) -> Factor:
        """`optax.linear_schedule`."""
        import optax

        return optax.linear_schedule(1.0, self.end, max(1, steps - first))


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class StepDecay(WarmedUp):
    """Warm-up, then 1, times `drop` from each of some places of the run on."""

    places: tuple[float, ...] = (0.5, 0.75)
    """Shares of the run, in [0, 1], ascending."""
    drop: float = 0.1
    """Factor of each step down, in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_beyond("drop")
        inside = all(self.warm_up <= place <= 1 for place in self.places)
        if not inside or list(self.places) != sorted(self.places):
            self.refuse("places", "shares from the warm-up's to 1, ascending")

    def after(self, steps: int, first: int) -> Factor:
        """`optax.piecewise_constant_schedule`; places rounded to one step drop at once."""
        import optax

        drops: dict[int, float] = {}
        for place in self.places:
            step = _place(place, steps) - first
            drops[step] = drops.get(step, 1.0) * self.drop
        return optax.piecewise_constant_schedule(1.0, drops)


@SCHEDULES.register
@dataclasses.dataclass(frozen=True)
class WSD(WarmedUp):
    """Warm-up, a stable part at 1, and a straight decay to `end` at the end.

    Hu et al. (2024), arXiv:2404.06395, whose decay is exponential; the straight one is
    among those of Hägele et al. (2024), arXiv:2405.18392. Both recalled.
    """

    warm_up: float = 0.05
    """Share of the run, in [0, 1]; 0 is none."""
    decay: float = 0.2
    """Share of the run, in [0, 1], in which the factor falls."""
    end: float = 0.0
    """Factor at the end, in [0, 1], met one step after the last."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_beyond("decay", "end")
        if self.warm_up + self.decay > 1:
            self.refuse("decay", "a share that leaves room for the warm-up")

    def after(self, steps: int, first: int) -> Factor:
        """Optax's constant and linear schedules, joined."""
        import optax

        falling = _place(self.decay, steps)
        stable = optax.constant_schedule(1.0)
        if not falling:
            return stable
        fall = optax.linear_schedule(1.0, self.end, falling)
        return optax.join_schedules([stable, fall], [steps - falling - first])


def _place(share: float, steps: int) -> int:
    """The step at this share of a run."""
    return round(share * steps)
