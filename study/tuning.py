"""Tuning by the same budget for every rule, then other seeds; and what tuning left out.

A trial is one learning rate on all selection seeds. First a logarithmic grid, then the
`REFINED` neighbours of its best; the best of all is run on the seeds that are reported.
Fields of the rule are inputs of the compiled program, so that trials, reports and
`variants` of a rule are one program.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from study import devices, metrics, sweep, train
from study.experiment import Experiment
from study.optimizers import Optimizer
from study.problems import Problem
from study.schedules import Schedule
from study.types import Array, Params, Scalar

REFINED = (10**-0.25, 10**-0.125, 10**0.125, 10**0.25)
"""Factors on the best rate of the grid, for a grid by half decades or wider."""
ROLES = {
    "average": ("beta", "b1", "decay"),
    "squares": ("b2",),
    "epsilon": ("eps",),
}
"""Fields by what they do; RMSProp's `decay` is of squares."""
FACTORS = {"average": 3.0, "squares": 3.0, "epsilon": 1e4}
"""On 1 - beta and on epsilon, down and up."""
SHRINKAGE = (0.1, 1.0)
"""Of the logarithm of the weights over a whole run, by decoupled decay."""
WAYS = {
    "average": ("longer", "shorter"),
    "squares": ("longer", "shorter"),
    "epsilon": ("smaller", "larger"),
}
VARIANTS = (
    *(f"{role} {way}" for role, ways in WAYS.items() for way in ways),
    *(f"decay {shrink:g}" for shrink in SHRINKAGE),
)
"""Names: `average longer` forgets a third as fast, `epsilon larger` is 1e4 epsilon."""


@dataclasses.dataclass(frozen=True, eq=False)
class Adjusted:
    """An entry with traced numbers for some of its fields; its counterpart has none.

    Attributes:
        optimizer: the entry.
        fields: traced values by name.
    """

    optimizer: Optimizer
    fields: dict[str, Scalar]

    @property
    def asks(self) -> tuple[str, ...]:
        """The rule's."""
        return self.optimizer.asks

    def build(self, learning_rate: Scalar) -> Any:
        """The rule's transformation with these numbers."""
        entry = copy.copy(self.optimizer)  # a spec itself refuses what is traced
        for name, value in self.fields.items():
            object.__setattr__(entry, name, value)
        return entry.build(learning_rate)

    def unscaled(self) -> Any:
        """Of the entry; this very object where that is its own counterpart."""
        counterpart = self.optimizer.unscaled()
        return self if counterpart == self.optimizer else counterpart

    def shared(self, state: Any) -> None:
        """None: the counterpart is that of the entry, whose decay may be another."""
        del state

    def evaluated(self, state: Any, params: Params) -> Params:
        """The entry's."""
        return self.optimizer.evaluated(state, params)

    def decay_update(self, learning_rate: Scalar, params: Params) -> Any:
        """The entry's."""
        return self.optimizer.decay_update(learning_rate, params)


class Setting(NamedTuple):
    """What a run may differ in besides its seed: rate, fields by name, further decay."""

    rate: float
    fields: dict[str, float]
    weight_decay: float = 0.0


class Runs(NamedTuple):
    """What a problem and a rule left, as NumPy arrays.

    Attributes:
        evaluations: by name, [setting, seed, evaluation].
        records: by metric, [setting, seed, step].
    """

    evaluations: dict[str, np.ndarray]
    records: dict[str, np.ndarray]


def roles(optimizer: Optimizer) -> dict[str, str]:
    """The rule's fields by role."""
    own = {field.name for field in dataclasses.fields(optimizer)}
    found = {role: name for role, names in ROLES.items() for name in names if name in own}
    if type(optimizer).__name__.endswith("RMSProp"):
        found["squares"] = found.pop("average")
    return found


def variants(optimizer: Optimizer, rate: float, steps: int) -> dict[str, Setting]:
    """Settings at a rate by name, of VARIANTS, as far as the rule has the fields."""
    found = {}
    for role, field in roles(optimizer).items():
        value, factor = getattr(optimizer, field), FACTORS[role]
        for way, by in zip(WAYS[role], (1 / factor, factor), strict=True):
            new = value * by if role == "epsilon" else max(0.0, 1 - (1 - value) * by)
            found[f"{role} {way}"] = Setting(rate, {field: new})
    for shrink in SHRINKAGE:
        found[f"decay {shrink:g}"] = Setting(rate, {}, shrink / (rate * steps))
    return found


def run(
    experiment: Experiment,
    problem: Problem,
    optimizer: Optimizer,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    width: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Runs:
    """Every setting on every seed, `width` runs side by side.

    Args:
        experiment: steps, records, evaluations, metrics, and all seeds.
        problem: to be trained on.
        optimizer: the rule.
        settings: what to run; fields that they leave out are the rule's own.
        seeds: of the experiment's `seed_numbers`.
        width: runs in one program, the same for every call that shares it.
        progress: called with the finished share in [0, 1].
    """
    fields = tuple(roles(optimizer).values())
    plain = [getattr(optimizer, field) for field in fields]
    every = tuple(experiment.seed_numbers)
    rows = [
        (
            setting.rate,
            every.index(seed),
            experiment.weight_decay + setting.weight_decay,
            *(setting.fields.get(f, p) for f, p in zip(fields, plain, strict=True)),
        )
        for setting in settings
        for seed in seeds
    ]
    table = np.array(rows, np.float64)
    function = trainer(
        problem,
        optimizer,
        fields,
        tuple(experiment.metrics),
        experiment.record_every,
        experiment.evaluate_every,
        experiment.steps,
        experiment.schedule,
        experiment.decays,
    )
    axes: list[Any] = [column.astype(problem.dtype) for column in table.T]
    axes[1] = table[:, 1].astype(np.int32)
    with devices.precision(problem.dtype):
        shared = (problem.instances(every), sweep.starts(problem, every))
        found = devices.map_runs(function, shared, axes, width, progress)
    grid = (len(settings), len(seeds))
    return Runs(*jax.tree.map(lambda x: x.reshape(*grid, *x.shape[1:]), found))


@functools.lru_cache(maxsize=2)
def trainer(
    problem: Problem,
    optimizer: Optimizer,
    fields: tuple[str, ...],
    names: tuple[str, ...],
    record_every: int,
    evaluate_every: int,
    steps: int,
    schedule: Schedule,
    decays: Literal["matrices", "all"],
) -> Callable[..., Any]:
    """(data [set], starts [seed], rate, seed's place, decay, *fields) -> one run's Runs."""

    def train_one(
        data: Any, starts: Any, rate: Array, place: Array, decay: Array, *values: Array
    ) -> tuple[Any, Any]:
        # One set of data for all is not looked up: that would copy it for each run.
        own = jax.tree.map(lambda x: x[0] if len(x) == 1 else x[place], data)
        params, key = jax.tree.map(lambda leaf: leaf[place], starts)
        adjusted: Any = Adjusted(optimizer, dict(zip(fields, values, strict=True)))
        rule: Any = train.Decayed(adjusted, decay, decays)
        shadowed = any(metrics.METRICS[name].unscaled for name in names)
        state = train.start(rule, rate, params, shadowed, problem.state_dtype)

        def evaluate(state: train.State) -> Any:
            shown = rule.evaluated(state.optimizer, state.params)
            return problem.evaluate(own, shown)

        def advance(count: int, state: train.State, first: Array) -> Any:
            state, records = train.segment(
                problem, rule, names, record_every, count, own, rate, key, state, first,
                schedule.rates(steps),
            )  # fmt: skip
            return state, (evaluate(state), records)

        begin = jax.tree.map(lambda x: x[None], evaluate(state))
        whole, rest = divmod(steps, evaluate_every)
        firsts = evaluate_every * jnp.arange(whole)
        state, (seen, records) = jax.lax.scan(
            functools.partial(advance, evaluate_every), state, firsts
        )
        records = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), records)
        if rest:
            _, (last, more) = advance(rest, state, jnp.asarray(whole * evaluate_every))
            seen = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), seen, last)
            records = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), records, more)
        seen = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), begin, seen)
        return seen, {n: x for n, x in records.items() if x.ndim == 1}

    return train_one
