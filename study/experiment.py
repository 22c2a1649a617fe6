"""The spec of an experiment: everything that decides its records. Imports no jax."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

from study.errors import UserError
from study.optimizers import Optimizer
from study.problems import Problem
from study.schedules import Constant, Schedule
from study.spec import Spec


class CellName(NamedTuple):
    """A cell, that is all runs of one optimizer on one problem, and its file."""

    problem: Problem
    optimizer: Optimizer
    file: str


@dataclasses.dataclass(frozen=True)
class Comparison(Spec):
    """Every optimizer on every problem, a cell each; what a cell is, its experiment says.

    A subclass may add fields; each field that holds a Problem is run.
    """

    problem: Problem
    """What the optimizers meet."""
    optimizers: tuple[Optimizer, ...]
    """The rules compared, such as SGD or "Adam(b1=0.0)"."""

    def __post_init__(self) -> None:
        """Checks types, then that there is something to run."""
        super().__post_init__()
        self.refuse_repeated("optimizers")
        if len({str(problem) for problem in self.problems}) < len(self.problems):
            raise UserError(f"{type(self).__name__}: two of its problems are the same")

    def refuse_repeated(self, *names: str) -> None:
        """Refuses fields that are empty or hold something twice."""
        for name in names:
            if not getattr(self, name):
                self.refuse(name, "not empty")
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                self.refuse(name, "without repetitions")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The values of all fields that hold a problem."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(value for value in values if isinstance(value, Problem))

    @property
    def cells(self) -> tuple[CellName, ...]:
        """Every cell, in the order in which they run."""
        return tuple(
            CellName(p, o, f"{i}-{type(p).__name__}.{j:02d}-{type(o).__name__}.nc")
            for i, p in enumerate(self.problems)
            for j, o in enumerate(self.optimizers)
        )

    @property
    def runs(self) -> int:
        """Runs in a cell."""
        return 1


@dataclasses.dataclass(frozen=True)
class Experiment(Comparison):
    """Training: every optimizer on every problem at every learning rate and seed.

    The seeds of a run decide its start and its batches, alike for all optimizers and
    learning rates. The learning rate is selected on seeds of its own, apart from those
    reported.
    """

    learning_rates: tuple[float, ...]
    """The grid, the same for every optimizer."""
    metrics: tuple[str, ...]
    """What is measured on each recorded step; names in study/metrics.py."""
    steps: int
    """Updates in a run."""
    seeds: int = 10
    """Seeds reported."""
    selection_seeds: int = 3
    """Further seeds, only to select the learning rate."""
    first_seed: int = 0
    """Seeds count from here."""
    records: int = 50
    """Recorded steps in a run, evenly spaced from the first."""
    evaluations: int = 10
    """Evaluations in a run, evenly spaced, besides the one before the first step."""

    # No fields here: the digests of stored experiments would change. `Scheduled` has them.
    schedule = Constant()
    weight_decay = 0.0
    decays = "matrices"

    def __post_init__(self) -> None:
        """Checks types, then that there is something to run."""
        super().__post_init__()
        for name in ("steps", "seeds", "records", "evaluations"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        for name in ("selection_seeds", "first_seed"):
            if getattr(self, name) < 0:
                self.refuse(name, "at least 0")
        self.refuse_repeated("learning_rates", "metrics")
        if not all(math.isfinite(rate) and rate > 0 for rate in self.learning_rates):
            self.refuse("learning_rates", "positive and finite")

    @property
    def runs(self) -> int:
        """Learning rates times seeds, those for selection included."""
        return len(self.learning_rates) * len(self.seed_numbers)

    @property
    def record_every(self) -> int:
        """Steps from one recorded step to the next."""
        return math.ceil(self.steps / self.records)

    @property
    def evaluate_every(self) -> int:
        """Steps from one evaluation to the next, a multiple of `record_every`."""
        slots = math.ceil(self.steps / (self.evaluations * self.record_every))
        return slots * self.record_every

    @property
    def recorded_steps(self) -> range:
        """Indices of the measured steps."""
        return range(0, self.steps, self.record_every)

    @property
    def evaluated_steps(self) -> tuple[int, ...]:
        """Numbers of updates after which parameters are evaluated, from 0 to steps."""
        return (*range(0, self.steps, self.evaluate_every), self.steps)

    @property
    def seed_numbers(self) -> range:
        """The reported seeds, then those for selection."""
        return range(self.first_seed, self.first_seed + self.seeds + self.selection_seeds)


@dataclasses.dataclass(frozen=True)
class Scheduled(Experiment):
    """Training with a schedule on the learning rate and decoupled weight decay."""

    schedule: Schedule = Constant()
    """Of the learning rate, such as "Cosine(warm_up=0.05)"."""
    weight_decay: float = 0.0
    """Decoupled decay of every rule, multiplied by the learning rate, besides its own."""
    decays: Literal["matrices", "all"] = "matrices"
    """What decays: leaves of two axes or more, or all."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if not 0 <= self.weight_decay < math.inf:
            self.refuse("weight_decay", "at least 0 and finite")


def log_grid(low: int, high: int, per_decade: int = 1) -> tuple[float, ...]:
    """10^low, ..., 10^high with so many steps a decade, to four digits.

    The grid comes from integer exponents, so a rate is the same float everywhere.
    """
    exponents = range(low * per_decade, high * per_decade + 1)
    return tuple(float(f"{10 ** (k / per_decade):.4g}") for k in exponents)
