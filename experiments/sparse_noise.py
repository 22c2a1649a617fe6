"""Noise in one element of a hundred: which rules does it ruin?

Question.   f = |w|^2 / 2 with a hundred elements, and noise a hundred times as large as a
            gradient in one of them. What does each rule reach, does clipping each element
            repair those that suffer, and is it the sparsity of the noise that matters?
Prediction. After 100 steps SGD's loss is more than 20 times sign descent's, and the values
            of a calibration run come out again, to a factor of two. Clipping each element
            to 1 brings SGD within a factor of two of sign descent. With the same noise
            power in all elements signs win nothing: there every element is mostly noise,
            where the mean of a sign is linear in the gradient and its noise pi / 2 times
            as large as SGD's.
Varied.     Scientific: rule, clipping, noise in one element or in all. Nuisance: learning
            rate by half decades, constant in a run, selected for each horizon by the
            median loss on ten seeds of their own. Fixed: 100 elements, horizons of 100
            and 1,000 steps, fifty seeds, the limit of clipping.
Cost.       Half a minute on two CPU cores, most of it compilation.

    python -m experiments.sparse_noise             run, store, judge, draw
    python -m experiments.sparse_noise --draw      draw stored records again

Problem and rules: Karimireddy et al. (2019), arXiv:1901.09847, repository
epfml/error-feedback-SGD, utils/coord_opt.py (the code was read; the values are those of an
independent run over four seeds, whose grid and limit of clipping are not recorded).
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
from study.problems import Problem, SparseNoise
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Treatment = Literal["plain", "clipped"]
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)


@dataclasses.dataclass(frozen=True)
class Sparse(Comparison):
    """Every rule, plain and on clipped gradients, with sparse noise and with equal."""

    equal: SparseNoise = SparseNoise(noisy=100)
    """The same noise power, shared by all elements."""
    learning_rates: tuple[float, ...] = log_grid(-5, 1, per_decade=2)
    """The grid."""
    horizons: tuple[int, ...] = (100, 1000)
    """Numbers of updates after which the loss is read, ascending."""
    limit: float = 1.0
    """Of clipping, by element."""
    seeds: int = 50
    """Reported."""
    selection_seeds: int = 10
    """Only to select the rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "horizons")
        for name in ("seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        if self.horizons[0] < 1 or list(self.horizons) != sorted(self.horizons):
            self.refuse("horizons", "ascending, from 1")
        if not self.limit > 0:
            self.refuse("limit", "positive")


DEFAULT = Sparse(
    problem=SparseNoise(),
    optimizers=(
        optimizers.SGD(),
        optimizers.NormalisedGD(),
        optimizers.Adam(),
        optimizers.RescaledSignDescent(),
        optimizers.SignDescent(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=SparseNoise(dim=4),
        equal=SparseNoise(dim=4, noisy=4),
        optimizers=(optimizers.SGD(),),
        learning_rates=(0.01, 0.1),
        horizons=(2, 4),
        seeds=2,
        selection_seeds=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        learning_rates=log_grid(-6, 1, per_decade=4),
        horizons=(100, 1000, 10_000),
        seeds=200,
        selection_seeds=50,
    ),
}


def run_cell(
    experiment: Sparse,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`loss`, and `noisy`, the part of it in element 0.

    Over [seed, treatment, learning_rate, horizon], selection seeds last.
    """
    import xarray as xr

    from study import devices, sweep

    del progress
    begun = time.perf_counter()
    seeds = tuple(range(experiment.seeds + experiment.selection_seeds))
    with devices.precision(problem.dtype):
        shared = (sweep.starts(problem, seeds),)
        run = _trainer(experiment, problem, optimizer)
        found = devices.map_runs(run, shared, [np.asarray(seeds, np.int32)])
        dims = ("seed", "treatment", "learning_rate", "horizon")
        dataset = xr.Dataset(
            {name: (dims, values) for name, values in found.items()},
            {
                "treatment": list(TREATMENTS),
                "learning_rate": list(experiment.learning_rates),
                "horizon": list(experiment.horizons),
            },
            {"reported_seeds": experiment.seeds},
        )
        return sweep.finish(dataset, problem, optimizer, begun, found["loss"][..., 0].size)


def _trainer(experiment: Sparse, problem: Problem, optimizer: Optimizer) -> Any:
    """(starts, seed) -> {loss, noisy} [treatment, learning_rate, horizon]."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import trajectories

    def observe(state: Any, t: Any) -> dict[str, Any]:
        loss = problem.evaluate({}, state.params)["objective"]
        return {"loss": loss, "noisy": state.params["w"][0] ** 2 / 2}

    def run(starts: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)

        def one(limit: Any, rate: Any) -> Any:
            rule = trajectories.Treated(
                optimizer, lambda rule: optax.chain(optax.clip(limit), rule)
            )
            return trajectories.follow(
                problem,
                rule,
                lambda t: rate,
                experiment.horizons,
                observe,
                params=params,
                key=key,
            )[1]

        # Not clipped is clipped to infinity, so that both are one program.
        limits = jnp.asarray([jnp.inf, experiment.limit], problem.dtype)
        rates = jnp.asarray(experiment.learning_rates, problem.dtype)
        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(limits, rates)

    return run


KEPT = ("loss", "noisy", "rate", "at_edge", "finite", "of_four")


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule, plain and clipped, at its best rate for each horizon.

    Over [optimizer, treatment, horizon]: `rate`, `at_edge`, `finite` (the share of the
    reported runs at the best rate that end finite); `loss` and `noisy` have [seed] too.
    `of_four` [optimizer, treatment, horizon, four] is what a run over only four seeds
    would find: their median loss at the rate that is best for themselves.
    """
    import xarray as xr

    count, lead = dataset.attrs["reported_seeds"], ("optimizer", "treatment", "horizon")
    judged = dataset.loss.transpose(*lead, "learning_rate", "seed").values
    shape = judged.shape[:3]
    choices = [
        statistics.select(grid[:, count:]) for grid in judged.reshape(-1, *judged.shape[3:])
    ]
    place = np.reshape([choice.place for choice in choices], shape)
    found = np.reshape([choice.found for choice in choices], shape)
    edge = np.reshape([int(choice.at_edge) for choice in choices], shape).astype(np.int32)
    axes: Any = {n: xr.DataArray(np.arange(dataset.sizes[n]), dims=[n]) for n in lead}
    best = {"learning_rate": xr.DataArray(place, dims=lead), "seed": slice(count)}
    picked = dataset.isel(axes | best).drop_vars("learning_rate")  # pointwise
    four = min(4, count)
    fours = judged[..., : count - count % four].reshape(*judged.shape[:4], -1, four)
    rates = np.where(found, dataset.learning_rate.values[place], np.nan)
    return picked.where(xr.DataArray(found, dims=lead)).assign(
        rate=(lead, rates),
        at_edge=(lead, edge),
        finite=np.isfinite(picked.loss).mean("seed"),
        of_four=((*lead, "four"), np.median(statistics.worst(fours), -1).min(3)),
    )


# Verdicts ---------------------------------------------------------------------------------


KINDS = {"problem": "noise in one element", "equal": "the same noise in all"}
SIGN, SCALED, NORMALISED = "SignDescent", "RescaledSignDescent", "NormalisedGD"


def at(results: Results, kind: str, name: str, treatment: str, horizon: int) -> xr.Dataset:
    """One rule's runs [seed] at its selected rate."""
    records = results.selected(getattr(results.experiment, kind))
    return records.sel(optimizer=name, treatment=treatment, horizon=horizon)


def _loss(name: str, treatment: str, horizon: int) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        losses = at(results, "problem", name, treatment, horizon).loss.values
        return statistics.bootstrap(statistics.worst(losses))

    return measure


def _over_sign(kind: str, treatment: str, horizon: int) -> Callable[[Results], Estimate]:
    """SGD's loss over sign descent's, at equal seeds."""

    def measure(results: Results) -> Estimate:
        losses = at(results, kind, "SGD", treatment, horizon).loss.values
        signs = at(results, kind, SIGN, "plain", horizon).loss.values
        return statistics.bootstrap(statistics.worst(losses / signs))

    return measure


def _medians(results: Results) -> Estimate:
    """Median loss of SGD over that of sign descent after 100 steps, seeds resampled."""
    found = [
        at(results, "problem", rule, "plain", 100).loss.values for rule in ("SGD", SIGN)
    ]
    losses = statistics.worst(np.stack(found, axis=-1))
    shape = (statistics.RESAMPLES, len(losses))
    picks = np.random.default_rng(0).integers(0, len(losses), shape)
    ratios = np.divide(*np.median(losses[picks], axis=1).T)
    tail = (1 - statistics.LEVEL) / 2
    low, high = map(float, np.quantile(ratios, (tail, 1 - tail), method="nearest"))
    return Estimate(float(np.divide(*np.median(losses, axis=0))), low, high, len(losses))


def _against_fours(
    name: str, treatment: str, horizon: int, value: float
) -> Callable[[Results], Estimate]:
    """A value over the median of groups of four seeds; the interval is their range."""

    def measure(results: Results) -> Estimate:
        groups = at(results, "problem", name, treatment, horizon).of_four.values
        over = value / np.sort(groups)
        return Estimate(value / float(np.median(groups)), over[-1], over[0], len(groups))

    return measure


CALIBRATION = {
    ("SGD", "plain"): (26.7, 2.47),
    (NORMALISED, "plain"): (7.8, 0.23),
    ("Adam", "plain"): (0.63, 0.28),
    ("SGD", "clipped"): (0.48, 0.07),
    (SCALED, "plain"): (0.39, 0.26),
    (SIGN, "plain"): (0.36, 0.09),
}
"""Losses after 100 and 1,000 steps at the best rate of a half-decade grid."""
ADDED = "added after the first run, for completeness"
REPOSITORY = "Karimireddy et al. (2019), repository, utils/coord_opt.py, read at the source"

PREDICTIONS = (
    Prediction(
        "100 steps: SGD's loss is 20 times sign descent's or more",
        f"{REPOSITORY}; values from an independent calibration run",
        _over_sign("problem", "plain", 100),
        at_least=20,
        published=26.7 / 0.36,
    ),
    *(
        Prediction(
            f"{horizon} steps, {name}{', clipped' * (treatment == 'clipped')}: "
            f"median loss {values[i]:g}, within a factor of two",
            f"{REPOSITORY}; independent calibration run, four seeds",
            _loss(name, treatment, horizon),
            at_least=values[i] / 2,
            at_most=values[i] * 2,
            published=values[i],
        )
        for i, horizon in enumerate((100, 1000))
        for (name, treatment), values in CALIBRATION.items()
    ),
    *(
        Prediction(
            f"{horizon} steps: clipped SGD's loss is at most twice sign descent's",
            "own expectation: a clipped element is a sign where it is large",
            _over_sign("problem", "clipped", horizon),
            at_most=2,
        )
        for horizon in (100, 1000)
    ),
    *(
        Prediction(
            f"{horizon} steps, the same noise in all: SGD's loss is at most sign descent's",
            "own expectation: signs of mostly noise have pi / 2 times its power",
            _over_sign("equal", "plain", horizon),
            at_most=1,
        )
        for horizon in (100, 1000)
    ),
    Prediction(
        "100 steps: SGD's median loss is 20 times sign descent's or more",
        f"{REPOSITORY}; values from an independent calibration run; {ADDED}",
        _medians,
        at_least=20,
        published=26.7 / 0.36,
    ),
    *(
        Prediction(
            f"{horizon} steps, {name}{', clipped' * (treatment == 'clipped')}: "
            f"{values[i]:g} over the median loss of four seeds at their own best rate is "
            "1, within a factor of two (interval: all groups of four)",
            f"{REPOSITORY}; independent calibration run, four seeds; {ADDED}",
            _against_fours(name, treatment, horizon, values[i]),
            at_least=0.5,
            at_most=2,
            published=1.0,
        )
        for i, horizon in enumerate((100, 1000))
        for (name, treatment), values in CALIBRATION.items()
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each kind of noise, horizon, rule and treatment."""
    del manifest
    experiment: Any = results.experiment
    for kind, title in KINDS.items():
        for horizon in experiment.horizons:
            for name in map(str, experiment.optimizers):
                for treatment in TREATMENTS:
                    found = at(results, kind, name, treatment, horizon)
                    losses = statistics.worst(found.loss.values)
                    estimate = statistics.bootstrap(losses)
                    share = found.noisy.values / found.loss.values
                    yield {
                        "noise": title,
                        "steps": horizon,
                        "optimizer": name,
                        "treatment": treatment,
                        "loss": estimate.value,
                        "loss_low": estimate.low,
                        "loss_high": estimate.high,
                        "mean_loss": float(losses.mean()),
                        "share_of_first_element": float(np.median(share)),
                        "of_four_low": float(found.of_four.min()),
                        "of_four_median": float(found.of_four.median()),
                        "of_four_high": float(found.of_four.max()),
                        "learning_rate": float(found.rate),
                        "at_edge": int(found.at_edge),
                        "finite_share": float(found.finite),
                    }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Losses of all rules, plain and clipped: rows by noise, columns by horizon."""
    from study import figures

    experiment: Any = results.experiment
    horizons = experiment.horizons[:2]
    figure, axes = figures.panels(2, len(horizons), height=2.0, sharey=True, sharex=True)
    letters = iter("abcd")
    for row, (kind, title) in enumerate(KINDS.items()):
        for column, horizon in enumerate(horizons):
            panel = axes[row, column]
            _draw_losses(panel, results, kind, horizon)
            heading = f"{title[0].upper()}{title[1:]}, {horizon:,} steps"
            panel.set_title(f"{next(letters)}  {heading}")
    for panel in axes[-1]:
        panel.set_xlabel("Loss")
    names = [entry.label for entry in experiment.optimizers]
    axes[0, 0].set_yticks(np.arange(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_losses(axes: Axes, results: Results, kind: str, horizon: int) -> None:
    """Medians over seeds with bootstrap intervals; a dot, hollow where clipped."""
    for row, entry in enumerate(results.experiment.optimizers):
        for treatment, shift in (("plain", -0.13), ("clipped", 0.13)):
            losses = at(results, kind, str(entry), treatment, horizon).loss.values
            estimate = statistics.bootstrap(statistics.worst(losses))
            fill = "white" if treatment == "clipped" else entry.colour
            style: Any = {"color": entry.colour, "zorder": 3}
            axes.hlines(row + shift, estimate.low, estimate.high, **style)
            axes.plot(estimate.value, row + shift, "o", ms=5, markerfacecolor=fill, **style)
    for label, fill in (("plain", "#444444"), ("each element clipped to 1", "white")):
        axes.plot([], [], "o", ms=5, color="#444444", markerfacecolor=fill, label=label)
    axes.axvline(results.experiment.problem.dim / 2, color="#b10000", lw=0.8, ls=":")  # type: ignore[attr-defined]
    axes.set_xscale("log")


if __name__ == "__main__":
    cli.main(__spec__.name)
