"""Direction or magnitude: which half of an update carries the gap between rules?

Question.   Take the length of every step from one rule and its direction from another.
            Which of the two decides how far training gets, and where?
Prediction. On the heavy-tailed softmax problem the direction does: momentum's lengths along
            Adam's direction end near Adam, Adam's lengths along momentum's direction far
            above, and steps of constant length along Adam's direction end lower than Adam.
            In a deep network whose gradients vanish a direction that ignores the scale of
            each element or layer is needed too. On digits neither half matters much; on a
            transformer the magnitude carries half of the gap or more, as in large networks.
Varied.     Scientific: the rule that gives the length, the one that gives the direction,
            and whether lengths are taken of the whole vector or leaf by leaf. Nuisance:
            learning rate, selected on the objective. Three seeds; two horizons.
Cost.       Four minutes and a quarter on two CPU cores.

    python -m experiments.grafting             run, store, judge, draw
    python -m experiments.grafting --draw      draw stored records again

Agarwal et al. (2020), arXiv:2002.11803 (abstract; code read, `adagraft.py`): they find that
the magnitude explains much of the gap on large networks. Both rules see the gradients of
the run that they steer together. Constant length is the magnitude of normalised descent.
Text: a transformer so small that 396 runs of it take seconds; `paper` has a GPT of four
layers and width 256, for hours on one GPU.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import DeepBlobs, Digits, HeavyTailed, Problem, Text
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class Grafting(Comparison):
    """Every rule's length with every rule's direction on four problems."""

    digits: Digits = Digits()
    """Real images."""
    deep: DeepBlobs = DeepBlobs(depth=12, activation="sigmoid", points=64)
    """Sigmoid layers, each of which divides the squared gradient by eighteen."""
    text: Text = Text(depth=1, width=16, heads=2, context=16, batch_size=32)
    """Characters, by a transformer."""
    text_by_leaf: bool = False
    """On the text, too, lengths leaf by leaf; it takes twice the time."""
    learning_rates: tuple[float, ...] = log_grid(-4, 1, per_decade=2)
    """The grid of the rule that gives the length."""
    horizons: tuple[int, ...] = (50, 200)
    """Steps at which the objective counts."""
    seeds: int = 3
    """Of data sets or starts and batches."""
    at_once: int = 0
    """Runs of the text side by side, 0 all, so that memory is enough."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "horizons")
        if list(self.horizons) != sorted(self.horizons) or self.horizons[0] < 1:
            self.refuse("horizons", "ascending, at least 1")
        if self.seeds < 1:
            self.refuse("seeds", "at least 1")
        if self.at_once < 0:
            self.refuse("at_once", "at least 0")


DEFAULT = Grafting(
    problem=HeavyTailed(groups=6),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Lion(),
        optimizers.Adam(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=2),
        digits=Digits(width=4, depth=1, batch_size=4),
        deep=DeepBlobs(depth=2, width=4, points=8, activation="sigmoid"),
        text=Text(depth=0, width=4, heads=1, context=4, batch_size=2),
        optimizers=(optimizers.SGD(), optimizers.SignDescent()),
        learning_rates=(0.01, 0.1),
        horizons=(1, 2),
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=7),
        text=Text(depth=4, width=256, heads=4, context=256, batch_size=32),
        text_by_leaf=True,
        horizons=(50, 200, 1_000),
        at_once=8,
    ),
}
KEPT = ("objective", "rate", "at_edge")
SCOPES = ("whole", "leaf")
FIELDS = {
    "problem": "Rare classes",
    "digits": "Digits",
    "deep": "Sigmoid, depth 12",
    "text": "Transformer",
}


def run_cell(
    experiment: Grafting,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One rule's lengths: `losses` [direction, scope, learning_rate, seed, horizon].

    The objective that the problem selects by. A problem of one leaf, and the text where
    that is not asked for, have the scope `whole` alone; the other is NaN.
    """
    import jax
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    rules, rates = experiment.optimizers, np.asarray(experiment.learning_rates)
    with devices.precision(problem.dtype):
        starts = sweep.starts(problem, tuple(range(experiment.seeds)))
        text = isinstance(problem, Text)
        single = len(jax.tree.leaves(starts[0])) == 1
        scopes = 1 if single or (text and not experiment.text_by_leaf) else 2
        grid = np.meshgrid(
            np.arange(len(rules)), np.arange(scopes), np.arange(len(rates)), indexing="ij"
        )
        direction, scope, rate = (axis.ravel().astype(np.int32) for axis in grid)
        runs = [
            np.full_like(direction, rules.index(optimizer)),
            direction,
            scope == 1,
            rates[rate].astype(problem.dtype),
        ]
        shared = (problem.instances(range(experiment.seeds)), starts)
        run = _trainer(problem, rules, experiment.horizons, experiment.seeds)
        found = devices.map_runs(run, shared, runs, experiment.at_once if text else 0)
        losses = np.full((len(rules), 2, len(rates), *found.shape[1:]), np.nan)
        losses[:, :scopes] = found.reshape(len(rules), scopes, len(rates), *found.shape[1:])
        names = ("direction", "scope", "learning_rate", "seed", "horizon")
        dataset = xr.Dataset(
            {"losses": (names, losses)},
            {
                "direction": [str(rule) for rule in rules],
                "scope": list(SCOPES),
                "learning_rate": list(experiment.learning_rates),
                "horizon": np.asarray(experiment.horizons, np.int32),
            },
        )
        return sweep.finish(dataset, problem, optimizer, begun, len(rate))


@functools.lru_cache(maxsize=4)
def _trainer(
    problem: Problem, rules: tuple[Optimizer, ...], horizons: tuple[int, ...], seeds: int
) -> Any:
    """(data, starts, magnitude, direction, by leaf, rate) -> objectives [seed, horizon]."""
    import jax
    import jax.numpy as jnp

    from study import trajectories, transforms

    def run(
        data: Any, starts: Any, magnitude: Any, direction: Any, by_leaf: Any, rate: Any
    ) -> Any:
        sets = len(jax.tree.leaves(data)[0])
        crossed = trajectories.Made(
            lambda rate: transforms.cross(
                [rule.build(rate) for rule in rules], magnitude, direction, by_leaf
            )
        )

        def of_seed(seed: Any) -> Any:
            own = jax.tree.map(lambda leaf: leaf[seed % sets], data)
            params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
            name = str(problem.selects)
            return trajectories.follow(
                problem,
                crossed,
                lambda t: rate,
                horizons,
                lambda state, t: problem.evaluate(own, state.params)[name],
                params=params,
                key=key,
                data=own,
            )[1]

        return jax.lax.map(of_seed, jnp.arange(seeds))

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each pair at the rate with the lowest median, by scope and horizon.

    `objective` [optimizer, direction, scope, horizon, seed], where `optimizer` gives the
    length; `rate` and `at_edge` without the seed.
    """
    import xarray as xr

    order = ("optimizer", "direction", "scope", "horizon")
    losses = dataset.losses.transpose(*order, "learning_rate", "seed").values
    shape = losses.shape[:4]
    objective = np.full((*shape, losses.shape[-1]), np.nan)
    rate, edge = np.full((2, *shape), np.nan)
    for place in np.ndindex(*shape):
        selection = statistics.select(losses[place])
        if selection.found:
            objective[place] = losses[place][selection.place]
            rate[place] = dataset.learning_rate.values[selection.place]
            edge[place] = selection.at_edge
    return xr.Dataset(
        {
            "objective": ((*order, "seed"), objective),
            "rate": (order, rate),
            "at_edge": (order, edge),
        },
        {name: dataset[name] for name in order},
        {"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------

CONSTANT = "NormalisedGD(eps=0.0)"


def objective(
    results: Results, field: str, magnitude: str, direction: str, horizon: int, scope: str
) -> np.ndarray:
    """Objectives [seed] of a pair at its selected rate."""
    records = results.selected(getattr(results.experiment, field)).objective
    at = records.sel(optimizer=magnitude, direction=direction, horizon=horizon)
    return at.sel(scope=scope).values


def _over(
    field: str,
    pair: tuple[str, str],
    base: tuple[str, str],
    horizon: int,
    scope: str = "whole",
) -> Callable[[Results], Estimate]:
    """Objective of a pair over that of another, paired by seed."""

    def measure(results: Results) -> Estimate:
        both = [objective(results, field, *p, horizon, scope) for p in (pair, base)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return statistics.bootstrap(both[0] / both[1])

    return measure


def carried(results: Results, field: str, horizon: int, scope: str) -> np.ndarray:
    """Share [seed] of the logarithmic gap, momentum to Adam, that the direction carries.

    The main effect of the direction over the sum of both main effects in the two by two
    table; 1 where the direction has all of it, 0 where the magnitude has.
    """
    m, a = "Momentum", "Adam"
    logs = {
        (i, j): np.log(objective(results, field, i, j, horizon, scope))
        for i in (m, a)
        for j in (m, a)
    }
    direction = logs[m, m] + logs[a, m] - logs[m, a] - logs[a, a]
    magnitude = logs[m, m] + logs[m, a] - logs[a, m] - logs[a, a]
    return direction / (direction + magnitude)


def _carried(field: str, horizon: int) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(carried(results, field, horizon, "whole"))


AA, MA, AM = ("Adam", "Adam"), ("Momentum", "Adam"), ("Adam", "Momentum")
RUN = "threshold of an independent run at m = 7; here m = 6"
PREDICTIONS = (
    Prediction(
        "softmax, 50 steps: momentum's length along Adam's direction: 1.3 of Adam at most",
        RUN,
        _over("problem", MA, AA, 50),
        at_most=1.3,
        published=0.632 / 0.608,
    ),
    Prediction(
        "softmax, 50 steps: Adam's length along momentum's direction: 2.5 of Adam or more",
        RUN,
        _over("problem", AM, AA, 50),
        at_least=2.5,
        published=1.895 / 0.608,
    ),
    Prediction(
        "softmax, 50 steps: constant length, Adam's direction: half of Adam at most",
        RUN,
        _over("problem", (CONSTANT, "Adam"), AA, 50),
        at_most=0.5,
        published=0.052 / 0.608,
    ),
    *(
        Prediction(
            f"softmax, {horizon} steps: the direction carries two thirds of the gap",
            "own expectation",
            _carried("problem", horizon),
            at_least=2 / 3,
        )
        for horizon in (50, 200)
    ),
    *(
        Prediction(
            f"digits, {horizon} steps: the direction carries half of the gap or less",
            "Agarwal et al. 2020, abstract, for large networks; threshold own",
            _carried("digits", horizon),
            at_most=0.5,
        )
        for horizon in (50, 200)
    ),
    *(
        Prediction(
            f"transformer, {horizon} steps: the direction carries half of the gap or less",
            "Agarwal et al. 2020, abstract, for large networks; threshold own",
            _carried("text", horizon),
            at_most=0.5,
        )
        for horizon in (50, 200)
    ),
    Prediction(
        "sigmoid layers, 200 steps: the direction carries two thirds of the gap or more",
        "own expectation",
        _carried("deep", 200),
        at_least=2 / 3,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each problem, pair, scope and horizon."""
    del manifest
    for field, title in FIELDS.items():
        records = results.selected(getattr(results.experiment, field))
        for place in np.ndindex(*records.rate.shape):
            at = records.isel(dict(zip(records.rate.dims, place, strict=True)))
            if not np.isfinite(at.rate):
                continue
            estimate = statistics.bootstrap(at.objective.values)
            yield {
                "problem": title,
                "magnitude": str(at.optimizer.values),
                "direction": str(at.direction.values),
                "scope": str(at.scope.values),
                "steps": int(at.horizon),
                "objective": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "learning_rate": float(at.rate),
                "at_edge": float(at.at_edge),
            }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """The matrix of lengths and directions, a panel for each problem."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(2, 2, height=2.9)
    rules = [str(rule) for rule in experiment.optimizers]
    labels = [rule.label for rule in experiment.optimizers]
    for place, (field, title) in enumerate(FIELDS.items()):
        horizon = experiment.horizons[0 if field == "problem" else -1]
        values = np.array(
            [
                [
                    np.median(
                        statistics.worst(objective(results, field, m, d, horizon, "whole"))
                    )
                    for d in rules
                ]
                for m in rules
            ]
        )
        logs = np.log10(np.maximum(values, 1e-6))
        finite = logs[np.isfinite(logs)]
        low, high = (finite.min(), max(finite.max(), finite.min() + 1e-3))
        panel = axes.flat[place]
        figures.heat_table(
            panel,
            logs,
            labels if place % 2 == 0 else [""] * len(rules),
            labels if place > 1 else [""] * len(rules),
            low=low,
            high=high,
        )
        for text, value in zip(panel.texts, values.ravel(), strict=True):
            digits = 3 if field == "text" else 2  # there all lie between 1.5 and 3
            text.set_text(f"{value:.{digits}g}" if np.isfinite(value) else "–")
            text.set_fontsize(6.5)
        panel.tick_params(axis="x", rotation=60)
        panel.set_title(f"{'abcd'[place]}  {title}, {horizon} steps", fontsize=8)
        if place > 1:
            panel.set_xlabel("Direction of")
        if place % 2 == 0:
            panel.set_ylabel("Length of")
    figures.note(figure, figures.medians(results.count(), bands=False))
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
