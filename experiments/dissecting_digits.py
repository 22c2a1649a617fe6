"""Sign or variance adaptation: which half of Adam helps on digits?

Question.   The average gradient, its sign (Signum), the average shortened where it is noise
            (M-SVAG), and both (Adam) train one network. Which half carries what Adam gains
            over the average?
Prediction. Both halves help: Adam ends below the average and below Signum, M-SVAG below the
            average. The sign is what marks Adam: Adam is nearer to Signum than to M-SVAG,
            and the sign lowers the loss by more than shortening does.
Varied.     Scientific: rule, schedule. Nuisance: learning rate by half decades, selected
            for each by the validation loss at the end on three seeds of their own. Fixed:
            300 steps, ten seeds, at equal seed the same start and batches. Predictions are
            judged by the test loss with a cosine schedule; a constant rate, Adam with
            M-SVAG's decay of squares, and rules without averages are there to say why.
Cost.       Half a minute on two CPU cores, more than half of it compilation.

    python -m experiments.dissecting_digits             run, store, judge, draw
    python -m experiments.dissecting_digits --draw      draw stored records again

Balles & Hennig (2018), arXiv:1705.07774, sections 5 and 6 (recalled; the abstract was
read). They trained larger networks for longer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import Digits, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Schedule = Literal["cosine", "constant"]


@dataclasses.dataclass(frozen=True)
class DissectingDigits(Comparison):
    """Every rule at every rate, with the rate falling and constant."""

    schedules: tuple[Schedule, ...] = get_args(Schedule)
    """Of the learning rate; cosine falls to 0 at the end."""
    learning_rates: tuple[float, ...] = log_grid(-4, 1, per_decade=2)
    """The grid."""
    steps: int = 300
    """Updates."""
    evaluations: int = 10
    """Evenly spaced, besides the one before the first step."""
    seeds: int = 10
    """Reported."""
    selection_seeds: int = 3
    """Only to select the rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("schedules", "learning_rates")
        for name in ("evaluations", "seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        if self.steps < self.evaluations:
            self.refuse("steps", "at least the evaluations")

    @property
    def stops(self) -> list[int]:
        """Numbers of updates after which there is an evaluation."""
        places = np.linspace(0, self.steps, self.evaluations + 1)
        return places.round().astype(int).tolist()


DEFAULT = DissectingDigits(
    problem=Digits(),
    optimizers=(
        optimizers.Averaging(),
        optimizers.Signum(),
        optimizers.MSVAG(),
        optimizers.Adam(),
        optimizers.Adam(b2=0.9),
        optimizers.SGD(),
        optimizers.SignDescent(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(width=4, depth=1, batch_size=4),
        optimizers=(optimizers.Averaging(),),
        schedules=("cosine",),
        learning_rates=(0.01, 0.1),
        steps=3,
        evaluations=1,
        seeds=2,
        selection_seeds=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        learning_rates=log_grid(-5, 1, per_decade=4),
        steps=3_000,
        seeds=30,
        selection_seeds=10,
    ),
}


def run_cell(
    experiment: DissectingDigits,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """The problem's evaluations [seed, schedule, learning_rate, evaluation].

    Seeds for selection are the last.
    """
    import xarray as xr

    from study import devices, sweep

    del progress
    begun = time.perf_counter()
    seeds = tuple(range(experiment.seeds + experiment.selection_seeds))
    with devices.precision(problem.dtype):
        shared = (sweep.starts(problem, seeds), problem.data())
        run = _trainer(experiment, problem, optimizer)
        found = devices.map_runs(run, shared, [np.asarray(seeds, np.int32)])
        coordinates = {
            "schedule": list(experiment.schedules),
            "learning_rate": list(experiment.learning_rates),
            "evaluation": experiment.stops,
        }
        dims = ("seed", *coordinates)
        dataset = xr.Dataset(
            {name: (dims, values) for name, values in found.items()},
            coordinates,
            {
                "selects": str(problem.selects),
                "reports": str(problem.reports),
                "reported_seeds": experiment.seeds,
            },
        )
        runs = found[str(problem.reports)][..., 0].size
        return sweep.finish(dataset, problem, optimizer, begun, runs)


def _trainer(experiment: DissectingDigits, problem: Problem, optimizer: Optimizer) -> Any:
    """(starts, data, seed) -> evaluations [schedule, learning_rate, evaluation]."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import trajectories

    falling = optax.cosine_decay_schedule(1.0, experiment.steps)
    cosine = jnp.asarray([schedule == "cosine" for schedule in experiment.schedules])
    rates = jnp.asarray(experiment.learning_rates, problem.dtype)

    def run(starts: Any, data: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)

        def one(falls: Any, rate: Any) -> Any:
            return trajectories.follow(
                problem,
                optimizer,
                lambda t: rate * jnp.where(falls, falling(t), 1),
                experiment.stops,
                lambda state, t: problem.evaluate(data, state.params),
                params=params,
                key=key,
                data=data,
            )[1]

        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(cosine, rates)

    return run


KEPT = ("loss", "accuracy", "rate", "at_edge", "finite")


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule at its best rate for each schedule.

    `loss` and `accuracy` on test images [optimizer, schedule, seed, evaluation]; over
    [optimizer, schedule] `rate`, `at_edge`, and `finite`, the share of reported runs at
    the selected rate that end finite.
    """
    import xarray as xr

    count, lead = dataset.attrs["reported_seeds"], ("optimizer", "schedule")
    judged = dataset[dataset.attrs["selects"]].isel(evaluation=-1)
    judged = judged.transpose(*lead, "learning_rate", "seed").values[..., count:]
    shape = judged.shape[:2]
    choices = [statistics.select(grid) for grid in judged.reshape(-1, *judged.shape[2:])]
    place = np.reshape([choice.place for choice in choices], shape)
    found = np.reshape([choice.found for choice in choices], shape)
    edge = np.reshape([int(choice.at_edge) for choice in choices], shape).astype(np.int32)
    axes: Any = {n: xr.DataArray(np.arange(dataset.sizes[n]), dims=[n]) for n in lead}
    best = {"learning_rate": xr.DataArray(place, dims=lead), "seed": slice(count)}
    picked = dataset.isel(axes | best).drop_vars("learning_rate")  # pointwise
    picked = picked.where(xr.DataArray(found, dims=lead))
    loss = picked[dataset.attrs["reports"]].transpose(*lead, "seed", "evaluation")
    rates = np.where(found, dataset.learning_rate.values[place], np.nan)
    return xr.Dataset(
        {
            "loss": loss,
            "accuracy": picked.test_accuracy.transpose(*loss.dims),
            "rate": (lead, rates),
            "at_edge": (lead, edge),
            "finite": np.isfinite(loss.isel(evaluation=-1)).mean("seed"),
        },
        attrs={"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------

AVERAGE, SIGN, SHORT, BOTH = "Averaging", "Signum", "MSVAG", "Adam"
ALIKE = "Adam(b2=0.9)"
"""Adam as M-SVAG has it: one decay for the averages of gradients and of squares."""


def losses(results: Results, name: str, schedule: str = "cosine") -> np.ndarray:
    """Test losses [seed] after the last step."""
    records = results.selected(results.experiment.problem).loss
    ends = records.sel(optimizer=name, schedule=schedule).isel(evaluation=-1)
    return statistics.worst(ends.values)


def effects(results: Results, both: str, schedule: str) -> dict[str, np.ndarray]:
    """What sign and shortening each add to the test loss, [seed].

    Main effects of the two by two: the mean of what one adds without the other and with.

    Args:
        results: of this experiment.
        both: the rule that has both, one of the two Adams.
        schedule: of the learning rate.
    """
    average, sign, short, all_ = (
        losses(results, name, schedule) for name in (AVERAGE, SIGN, SHORT, both)
    )
    return {
        "sign": (sign - average + all_ - short) / 2,
        "shortening": (short - average + all_ - sign) / 2,
    }


def _less(one: str, other: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.paired(losses(results, one), losses(results, other))


def _nearer(results: Results) -> Estimate:
    both = losses(results, BOTH)
    far, near = (np.abs(both - losses(results, name)) for name in (SHORT, SIGN))
    return statistics.paired(far, near)


def _carried(results: Results) -> Estimate:
    found = effects(results, BOTH, "cosine")
    return statistics.paired(found["sign"], found["shortening"])


PREDICTIONS = (
    *(
        Prediction(
            f"test loss of {one} minus {other}, at equal seeds: at most 0",
            source,
            _less(one, other),
            at_most=0,
        )
        for one, other, source in (
            (BOTH, AVERAGE, "own expectation, after the records of `alignment`"),
            (SHORT, AVERAGE, "Balles & Hennig (2018), section 5, recalled"),
            (BOTH, SIGN, "Balles & Hennig (2018), section 5, recalled"),
        )
    ),
    Prediction(
        "|Adam - M-SVAG| minus |Adam - Signum| in test loss: at least 0",
        "Balles & Hennig (2018), sections 5 and 6, recalled",
        _nearer,
        at_least=0,
    ),
    Prediction(
        "what the sign adds to the test loss minus what shortening adds: at most 0",
        "Balles & Hennig (2018): the sign marks Adam; from the abstract",
        _carried,
        at_most=0,
    ),
)


def differences(results: Results, schedule: str) -> dict[str, np.ndarray]:
    """Test losses minus the average's by rule, then effects, [seed]."""
    names = [str(entry) for entry in results.experiment.optimizers]
    base = losses(results, AVERAGE, schedule)
    found = {n: losses(results, n, schedule) - base for n in names if n != AVERAGE}
    for both in (BOTH, ALIKE):
        if {SIGN, SHORT, both} <= set(names):
            added = effects(results, both, schedule)
            found |= {f"{half} by {both}": values for half, values in added.items()}
    return found


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each schedule and rule; then paired differences and effects."""
    del manifest
    experiment: Any = results.experiment
    records = results.selected(experiment.problem)
    for schedule in experiment.schedules:
        for name in map(str, experiment.optimizers):
            at = records.sel(optimizer=name, schedule=schedule)
            estimate = statistics.bootstrap(losses(results, name, schedule))
            yield {
                "schedule": schedule,
                "what": name,
                "loss": estimate.value,
                "loss_low": estimate.low,
                "loss_high": estimate.high,
                "accuracy": float(at.accuracy.isel(evaluation=-1).median()),
                "learning_rate": float(at.rate),
                "at_edge": int(at.at_edge),
                "finite_share": float(at.finite),
            }
        for name, values in differences(results, schedule).items():
            estimate = statistics.bootstrap(values)
            rule = name in map(str, experiment.optimizers)
            yield {
                "schedule": schedule,
                "what": f"{name} - {AVERAGE}" if rule else f"effect of {name}",
                "loss": estimate.value,
                "loss_low": estimate.low,
                "loss_high": estimate.high,
            }


# Figure -----------------------------------------------------------------------------------


LIMIT = 0.06
"""Of the differences shown; what lies beyond is drawn there."""


def draw(results: Results) -> dict[str, Figure]:
    """Test losses at both schedules; differences from the average, and effects."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(1, 3, height=2.9, width_ratios=(1, 1, 1.35))
    shown = (AVERAGE, SIGN, SHORT, BOTH, ALIKE)
    looks = figures.look([o for o in experiment.optimizers if str(o) in shown])
    records = results.selected(experiment.problem).loss
    for panel, letter, schedule in zip(axes[0], "ab", experiment.schedules, strict=False):
        for i, (name, look) in enumerate(looks.items()):
            values = records.sel(optimizer=name, schedule=schedule).values
            figures.curve(panel, records.evaluation.values, values, look, i)
        panel.set(yscale="log", ylim=(0.12, 1.1), xlabel="Step")
        panel.set_yticks((0.15, 0.2, 0.3, 0.5, 1), ("0.15", "0.2", "0.3", "0.5", "1"))
        panel.minorticks_off()
        panel.set_title(f"{letter}  Test loss, {schedule} rate")
    _draw_differences(axes[0, 2], results)
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_differences(axes: Axes, results: Results) -> None:
    """Medians with bootstrap intervals; of rules also with a constant rate, hollow."""
    experiment: Any = results.experiment
    titles: Any = {str(entry): entry for entry in experiment.optimizers}
    rows: list[str] = []
    for i, schedule in enumerate(experiment.schedules):
        found = differences(results, schedule)
        rows = rows or list(found)
        for row, (name, values) in enumerate(found.items()):
            if i and name not in titles:
                continue
            estimate = statistics.bootstrap(values)
            shown = np.clip(estimate[:3], -LIMIT, LIMIT)
            colour = titles[name].colour if name in titles else "#000000"
            level = row + (0.26 * i - 0.13) * (name in titles)
            axes.hlines(level, shown[1], shown[2], color=colour)
            fill = "white" if i else colour
            axes.plot(shown[0], level, "o", ms=4.5, color=colour, markerfacecolor=fill)
            if abs(estimate.value) > LIMIT:
                place: Any = {"ha": "right", "va": "center", "fontsize": 6.5}
                axes.text(shown[0] - 0.004, level, f"{estimate.value:.2f}", **place)
    axes.axvline(0, color="#777777", lw=0.8)
    effects = {n: n.replace(ALIKE, "b2 = 0.9").replace(" by", ", by") for n in rows}
    labels = [titles[n].title if n in titles else effects[n] for n in rows]
    axes.set_yticks(np.arange(len(rows)), labels, fontsize=7)
    axes.set(xlim=(-LIMIT - 0.003, LIMIT + 0.003), ylim=(max(len(rows), 1) - 0.5, -0.5))
    axes.set_xticks((-0.05, 0, 0.05))
    axes.set_xlabel("Test loss minus the average's")
    axes.set_title("c  Differences, effects")


if __name__ == "__main__":
    cli.main(__spec__.name)
