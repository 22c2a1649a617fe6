"""Does a published benchmark come out again, and does it hang on the order of batches?

Question.   DeepOBS's quadratic_deep under its published protocol: do SGD, Momentum and Adam
            end where the published runs ended, once with the same order of batches in
            every epoch, as those had it, and once reshuffled; and which learning rates
            are best then?
Prediction. In fixed order each mean lies within two published standard deviations, and the
            threshold is reached within ten epochs of the published time. Reshuffled,
            Momentum with 0.99 ends at least one unit higher at its published rate: a
            hundred steps of memory average over fourteen epochs of one order, and noise
            of one order cancels over each epoch. SGD and Adam move by at most 0.3.
Varied.     Scientific: optimizer, order. Nuisance: learning rate, at the published value
            and retuned on the published grid by the training loss on three seeds apart
            (the problem has no validation set; the published grid was selected by test
            loss). Fixed: everything else.
Cost.       A minute and a half on two CPU cores.

    python -m experiments.deepobs_quadratic             run, store, judge, draw
    python -m experiments.deepobs_quadratic --draw      draw stored records again

Schneider, Balles & Hennig (2019), arXiv:1903.05499, version 1.1; published numbers are
those of its baselines, read at the source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Experiment, log_grid
from study.problems import DeepObsQuadratic
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results

EPOCH = 7
TARGET = 87.703
"""The published threshold on the test loss."""
FLOOR = 86.8735
"""The lowest test loss that any theta has."""


class Published(NamedTuple):
    """Of one optimizer: tuned rate, mean and standard deviation of ten seeds, speed."""

    rate: float
    mean: float
    deviation: float
    speed: float
    epochs: dict[float, float]
    """Mean test loss after some epochs at the tuned rate."""
    grid: dict[float, float]
    """Final test loss by learning rate, one seed; inf where it diverged."""


PUBLISHED = {
    "SGD": Published(
        1.585e-2,
        87.397,
        0.169,
        51.1,
        {1: 105.3, 2: 102.9, 5: 97.70, 10: 92.98, 20: 89.47, 50: 87.67, 100: 87.40},
        {1e-5: 236.1, 1e-4: 106.6, 1e-3: 95.9, 3.981e-3: 88.5, 1e-2: 87.3, 2.512e-2: 87.4},
    ),
    "Momentum(decay=0.99)": Published(
        2.512e-3,
        87.045,
        0.025,
        70.5,
        {1: 271.2, 2: 137.9, 5: 217.4, 10: 134.3, 20: 111.3, 50: 92.82, 100: 87.05},
        {
            1e-5: 96.8,
            1e-4: 87.3,
            1e-3: 87.1,
            3.981e-3: 87.2,
            1e-2: 87.6,
            2.512e-2: 100.9,
            3.981e-2: 89.0,
        },
    ),
    "Adam": Published(
        3.981e-2,
        87.112,
        0.024,
        39.9,
        {1: 141.8, 2: 110.8, 5: 101.4, 10: 94.73, 20: 89.90, 50: 87.39, 100: 87.11},
        {
            1e-5: 345.2,
            1e-4: 280.3,
            1e-3: 106.7,
            3.981e-3: 93.9,
            1e-2: 88.5,
            2.512e-2: 87.2,
            3.981e-2: 87.1,
            0.1: 87.2,
            0.3981: 93.1,
            1.0: 88.8,
            10.0: 143.2,
            100.0: 332.0,
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class DeepObs(Experiment):
    """The same runs with batches in one order and reshuffled."""

    reshuffled: DeepObsQuadratic = DeepObsQuadratic(order="reshuffled")
    """The problem with a new order in every epoch."""


DEFAULT = DeepObs(
    problem=DeepObsQuadratic(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(decay=0.99),
        optimizers.Adam(),
    ),
    learning_rates=log_grid(-5, 2, per_decade=5),
    metrics=("loss",),
    steps=100 * EPOCH,
    records=100,
    evaluations=100,
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        optimizers=(optimizers.SGD(),),
        learning_rates=(2.512e-3, 1.585e-2, 2.512e-2, 3.981e-2),
        steps=2 * EPOCH,
        seeds=2,
        selection_seeds=1,
        records=2,
        evaluations=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, seeds=100, selection_seeds=20),
}
KEPT = ("final", "curve")
RATES = ("published", "retuned")


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Ends at every rate, and curves at the published and at the retuned one.

    `final` [optimizer, learning_rate, seed] and `curve` [optimizer, choice, seed,
    evaluation] are test losses of the reported seeds (float32); coordinates
    `selected_rate` and `at_edge` [optimizer].
    """
    import xarray as xr

    from study import reporting

    tuned = reporting.select(dataset)
    reported = dataset.isel(seed=np.flatnonzero(dataset.for_selection == 0))
    loss = reported.test_loss.transpose("optimizer", "learning_rate", "seed", "evaluation")
    names, rates = dataset.optimizer.values, dataset.learning_rate.values
    retuned = tuned.test_loss.transpose("optimizer", "seed", "evaluation").values
    published = np.full_like(retuned, np.nan)
    for i, name in enumerate(names):
        known = PUBLISHED.get(str(name))
        if known and known.rate in rates:
            published[i] = loss.values[i, list(rates).index(known.rate)]
    return xr.Dataset(
        {
            "final": (loss.dims[:3], loss.values[..., -1]),
            "curve": (
                ("optimizer", "choice", "seed", "evaluation"),
                np.stack([published, retuned], 1),
            ),
        },
        {
            "optimizer": names,
            "learning_rate": rates,
            "choice": list(RATES),
            "evaluation": dataset.evaluation,
            "selected_rate": tuned.selected_rate,
            "at_edge": tuned.at_edge,
        },
        {"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------


def curves(results: Results, order: str, name: str, choice: str) -> xr.DataArray:
    """Test losses [seed, evaluation] of one optimizer in one order."""
    field = "problem" if order == "fixed" else "reshuffled"
    records = results.selected(getattr(results.experiment, field))
    return records.curve.sel(optimizer=name, choice=choice)


def ends(results: Results, order: str, name: str, choice: str = "published") -> np.ndarray:
    """Test losses [seed] after the last epoch."""
    return curves(results, order, name, choice).values[:, -1]


def epochs_to_target(
    results: Results, order: str, name: str, choice: str = "published"
) -> np.ndarray:
    """Epochs [seed] after which the test loss first is at the threshold, inf if never."""
    found = curves(results, order, name, choice)
    return statistics.time_to_target(found.values, found.evaluation / EPOCH, TARGET)


def _end(name: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.mean(ends(results, "fixed", name))


def _speed(name: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        away = epochs_to_target(results, "fixed", name) - PUBLISHED[name].speed
        return statistics.mean(away)

    return measure


def _moved(name: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        moved = ends(results, "reshuffled", name) - ends(results, "fixed", name)
        return statistics.mean(moved)

    return measure


def _start(results: Results) -> Estimate:
    return statistics.mean(curves(results, "fixed", "SGD", "published").values[:, 0])


def _finite(rate: float) -> Callable[[Results], Estimate]:
    """Share of SGD's runs that end finite at this rate."""

    def measure(results: Results) -> Estimate:
        final = results.selected(results.experiment.problem).final
        share = float(np.isfinite(final.sel(optimizer="SGD", learning_rate=rate)).mean())
        return Estimate(share, share, share, final.sizes["seed"])

    return measure


def _grid(name: str, rate: float) -> Callable[[Results], Estimate]:
    """End at a rate too small for order to matter, over the published one."""

    def measure(results: Results) -> Estimate:
        final = results.selected(results.experiment.problem).final
        at = final.sel(optimizer=name, learning_rate=rate)
        return statistics.mean(at.values / PUBLISHED[name].grid[rate] - 1)

    return measure


PREDICTIONS = (
    Prediction(
        "the test loss at the start is 353.4468, to 0.001",
        "DeepOBS 1.1, recomputed",
        _start,
        at_least=353.4458,
        at_most=353.4478,
    ),
    *(
        Prediction(
            f"{name}, fixed order: the mean lies within two published standard deviations",
            f"DeepOBS 1.1 baselines: {known.mean} +- {known.deviation}",
            _end(name),
            at_least=known.mean - 2 * known.deviation,
            at_most=known.mean + 2 * known.deviation,
        )
        for name, known in PUBLISHED.items()
    ),
    *(
        Prediction(
            f"{name}, fixed order: at the threshold within 10 epochs of the published time",
            f"DeepOBS 1.1 baselines: epoch {known.speed}",
            _speed(name),
            at_least=-10,
            at_most=10,
        )
        for name, known in PUBLISHED.items()
    ),
    Prediction(
        "Momentum, reshuffled: ends higher by 1 or more at its published rate",
        "own expectation",
        _moved("Momentum(decay=0.99)"),
        at_least=1,
    ),
    *(
        Prediction(
            f"{name}, reshuffled: moves by at most 0.3 at its published rate",
            "own expectation",
            _moved(name),
            at_least=-0.3,
            at_most=0.3,
        )
        for name in ("SGD", "Adam")
    ),
    *(
        Prediction(
            f"{name} at 0.0001 ends within 0.2 % of the published value",
            "DeepOBS 1.1 baselines, one seed",
            _grid(name, 1e-4),
            at_least=-0.002,
            at_most=0.002,
        )
        for name in ("SGD", "Adam")
    ),
    Prediction(
        "SGD at 0.0251: every run ends finite",
        "2 / lambda_max = 0.0376",
        _finite(2.512e-2),
        at_least=1,
    ),
    Prediction(
        "SGD at 0.0398: no run ends finite",
        "2 / lambda_max = 0.0376",
        _finite(3.981e-2),
        at_most=0,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each order, optimizer and choice of rate."""
    del manifest
    for order in ("fixed", "reshuffled"):
        field = "problem" if order == "fixed" else "reshuffled"
        records = results.selected(getattr(results.experiment, field))
        for optimizer in results.experiment.optimizers:
            name = str(optimizer)
            for choice in RATES:
                known = PUBLISHED.get(name)
                rate = float(records.selected_rate.sel(optimizer=name))
                if choice == "published":
                    rate = known.rate if known else np.nan
                final = ends(results, order, name, choice)
                epochs = epochs_to_target(results, order, name, choice)
                estimate = statistics.mean(final)
                yield {
                    "order": order,
                    "optimizer": name,
                    "choice": choice,
                    "learning_rate": rate,
                    "at_edge": int(records.at_edge.sel(optimizer=name)),
                    "test_loss": estimate.value,
                    "test_loss_low": estimate.low,
                    "test_loss_high": estimate.high,
                    "deviation": float(np.std(final, ddof=1)) if len(final) > 1 else np.nan,
                    "published_mean": known.mean if known else np.nan,
                    "published_deviation": known.deviation if known else np.nan,
                    "epochs_to_target": float(np.median(epochs)),
                    "never_at_target": float(np.isinf(epochs).mean()),
                }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Curves and ends by learning rate, in both orders, beside the published numbers."""
    from study import figures

    figure, axes = figures.panels(2, 3, height=2.5)
    looks = figures.look(results.experiment.optimizers)
    shared: list[Any] = []
    for column, (name, look) in enumerate(looks.items()):
        curve, grid = axes[0, column], axes[1, column]
        shared = [*_draw_curves(curve, results, name), *_draw_grid(grid, results, name)]
        curve.set_title(f"{'abc'[column]}  {look['label']}")
    axes[0, 0].set_ylabel("Test loss above its lowest")
    axes[1, 0].set_ylabel("The same after the last epoch")
    axes[1, 0].axvline(2 / 53.1290, color="#b10000", lw=0.8)
    axes[1, 0].text(2 / 53.129, 100, r" $2/\lambda_{\max}$", color="#b10000", fontsize=7)
    figure.legend(handles=shared[:3], loc="outside lower center", ncols=3)
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


COLOURS = {"fixed": "#0072b2", "reshuffled": "#d55e00"}


def _band(axes: Axes, x: np.ndarray, values: np.ndarray, order: str) -> Any:
    values = np.maximum(values - FLOOR, 1e-3)
    low, high = statistics.band(values)
    axes.fill_between(x, low, high, color=COLOURS[order], alpha=0.2, linewidth=0)
    label = {"fixed": "same order in every epoch", "reshuffled": "reshuffled"}[order]
    style = "-" if order == "fixed" else (0, (4, 1.5))
    middle = np.median(values, axis=0)
    return axes.plot(x, middle, color=COLOURS[order], ls=style, label=label)[0]


def _dots(axes: Axes, known: dict[float, float]) -> list[Any]:
    heights = np.array(list(known.values())) - FLOOR
    return axes.plot(list(known), heights, "ko", ms=3.5)


def _draw_curves(axes: Axes, results: Results, name: str) -> list[Any]:
    handles = []
    for order in COLOURS:
        found = curves(results, order, name, "published")
        epochs = found.evaluation.values / EPOCH
        handles.append(_band(axes, epochs[1:], found.values[:, 1:], order))
    if known := PUBLISHED.get(name):
        points = _dots(axes, known.epochs)
        points[0].set_label("published mean")
        handles += points
    axes.axhline(TARGET - FLOOR, color="#999999", lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", xlabel="Epoch", ylim=(0.1, 400))
    return handles


def _draw_grid(axes: Axes, results: Results, name: str) -> list[Any]:
    for order, field in (("fixed", "problem"), ("reshuffled", "reshuffled")):
        final = results.selected(getattr(results.experiment, field)).final
        values = final.sel(optimizer=name).transpose("seed", "learning_rate").values
        shown = np.where(np.isfinite(values), np.minimum(values, 1e4), 1e4)
        _band(axes, final.learning_rate.values, shown, order)
    if known := PUBLISHED.get(name):
        _dots(axes, known.grid)
    axes.set(xscale="log", yscale="log", xlabel="Learning rate", ylim=(0.1, 1000))
    return []


if __name__ == "__main__":
    cli.main(__spec__.name)
