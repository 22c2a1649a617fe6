"""Which learning rates leave training stuck, let it converge, or end it?

Question.   Over nine decades of learning rate: where is each optimizer stuck, where does it
            converge, oscillate, diverge; can the edges be computed beforehand; and is the
            region of good rates really wider for Adam?
Prediction. The lower edge lies where the first-order decrease of all steps together is a
            tenth of what there is to gain, within a factor of 3.2. The upper edge of SGD
            is 2 / lambda_max, of Momentum 2 (1 + b) / lambda_max; rules whose step does
            not grow with the gradient never leave the finite numbers on a quadratic, but
            oscillate. The region within 2 % of the best is not wider for Adam than for
            SGD on digits, and widest for Momentum 0.99 on the quadratic of DeepOBS, as
            in the published grids.
Varied.     Scientific: learning rate, optimizer, problem. Fixed: steps (400), ten seeds of
            starts and batches; no rate is selected.
Cost.       Two minutes on two CPU cores.

    python -m experiments.learning_rate             run, store, judge, draw
    python -m experiments.learning_rate --draw      draw stored records again

Published grids: DeepOBS 1.1 (Schneider et al. 2019, arXiv:1903.05499), grid points within
two points of accuracy, or 2 % of loss, of the best. Stability edges: Polyak (1964); Cohen
et al. (2021), arXiv:2103.00065.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Experiment, log_grid
from study.optimizers import OPTIMIZERS, Optimizer
from study.problems import DeepObsQuadratic, Digits, NoisyQuadratic, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

OUTCOMES = ("stuck", "converging", "oscillating", "diverged")
SHARE = 0.1
"""Of all there is to gain. Diverged: ends more above the start, or not finite.

Oscillating: rises by more in the second half, summed. Stuck: falls by less. The rest
converges.
"""


@dataclasses.dataclass(frozen=True)
class LearningRate(Experiment):
    """Every rate on three problems."""

    quadratic: NoisyQuadratic = NoisyQuadratic()
    """Known curvature, noise of one size."""
    deepobs: DeepObsQuadratic = DeepObsQuadratic()
    """The published quadratic."""


DEFAULT = LearningRate(
    problem=Digits(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Momentum(decay=0.99),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Adam(),
    ),
    learning_rates=log_grid(-7, 2, per_decade=2),
    metrics=("loss",),
    steps=400,
    selection_seeds=0,
    records=58,
    evaluations=58,  # every seventh step: an even number would not see a two-cycle
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(depth=0, batch_size=8),
        quadratic=NoisyQuadratic(dim=4),
        optimizers=(optimizers.SGD(),),
        learning_rates=(1e-3, 0.1, 10.0),
        steps=4,
        seeds=2,
        records=4,
        evaluations=4,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        optimizers=(
            *(OPTIMIZERS[name]() for name in OPTIMIZERS),
            optimizers.Momentum(decay=0.99),
        ),
        learning_rates=log_grid(-7, 2, per_decade=5),
        steps=2_000,
    ),
}
KEPT = ("outcome", "progress", "good", "gap", "slope", "curvature", "trace")


def run_cell(
    experiment: LearningRate,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """A sweep's cell, with what predicts its edges."""
    from study import sweep

    dataset, cost = sweep.run_cell(experiment, problem, optimizer, progress)
    slopes, curvature, trace = _first_order(problem)
    kind = _step_kind(optimizer)
    slope = slopes[kind] / (1 - getattr(optimizer, "decay", 0.0)) if kind else np.nan
    added = {"slope": slope, "curvature": curvature, "trace": trace}
    return dataset.assign(added), cost


def _step_kind(optimizer: Optimizer) -> str:
    """How a first step relates to its gradient; empty for a rule without a prediction."""
    name = type(optimizer).__name__
    kinds = {"SGD": "square", "Momentum": "square", "NormalisedGD": "length"}
    kinds |= {"SignDescent": "sum", "Adam": "sum"}
    return kinds.get(name, "")


@functools.lru_cache(maxsize=4)
def _first_order(problem: Problem) -> tuple[dict[str, float], float, float]:
    """Loss lost per unit of rate and step at the start; largest curvature; its trace.

    By steps along g, g / |g| and sign g: |g|^2, |g| and |g|_1. Of the mean loss of 32
    batches at seed 0; the trace only for at most 200 parameters, otherwise NaN.
    """
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    from study import curvature, devices, train

    with devices.precision(problem.dtype):
        keys = train.keys(jnp.asarray(0, jnp.int32))
        data, params = jax.tree.map(jnp.asarray, problem.data()), problem.init(keys.init)
        batch = jax.vmap(problem.batch, (None, None, 0))(data, keys.data, jnp.arange(32))

        def loss(params: Any) -> Any:
            return jax.vmap(problem.loss, (None, 0))(params, batch).mean()

        grad = np.asarray(ravel_pytree(jax.jit(jax.grad(loss))(params))[0], np.float64)
        flat, back = ravel_pytree(params)
        trace = np.nan
        if flat.size <= 200:
            trace = float(np.trace(jax.hessian(lambda x: loss(back(x)))(flat)))
        largest = float(curvature.largest(loss, params)[-1])
    slopes = {
        "square": float(grad @ grad),
        "length": float(np.linalg.norm(grad)),
        "sum": float(np.abs(grad).sum()),
    }
    return slopes, largest, trace


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """What became of each run.

    Over [optimizer, learning_rate, seed]: `progress`, the share of the gap that the
    reported loss has fallen at the end (a gap is from the start to the lowest loss that
    any run of the seed ever has, [seed]), `outcome`, a place in OUTCOMES, and `good`, 1
    within 2 % of the optimizer's best: two points of accuracy where there is one, 2 % of
    the loss where it has a floor above zero, else of the gap.
    """
    import xarray as xr

    order = ("optimizer", "learning_rate", "seed", "evaluation")
    loss = dataset[dataset.attrs["reports"]].transpose(*order).astype(np.float64)
    some = np.where(np.isfinite(loss.values), loss.values, np.inf)
    lowest = some.min((0, 1, 3))
    gap = some[0, 0, :, 0] - lowest
    progress = (some[0, 0, :, :1].T - some[..., -1]) / gap
    half = some[..., some.shape[-1] // 2 :]
    with np.errstate(invalid="ignore"):
        rises = np.nan_to_num(np.maximum(np.diff(half), 0), nan=np.inf).sum(-1) / gap
    outcome = np.where(progress < SHARE, 0, 1)
    outcome[rises > SHARE] = 2
    outcome[~(progress >= -SHARE)] = 3
    if "test_accuracy" in dataset:
        quality = dataset.test_accuracy.transpose(*order).values[..., -1]
    elif lowest.min() > gap.max() / 10:
        quality = -np.log(some[..., -1])
    else:
        quality = progress
    quality = np.where(np.isfinite(some[..., -1]), quality, -np.inf)
    good = (quality >= quality.max(1, keepdims=True) - 0.02) & np.isfinite(quality)
    dims = order[:3]
    return xr.Dataset(
        {
            "progress": (dims, np.maximum(progress, -1e30)),
            "outcome": (dims, outcome.astype(np.int8)),
            "good": (dims, good.astype(np.int8)),
            "gap": ("seed", gap),
            **{name: dataset[name] for name in ("slope", "curvature", "trace")},
        },
        {name: dataset[name] for name in dims},
        {"problem": dataset.attrs["problem"]},
    )


# Edges and widths -------------------------------------------------------------------------


def edges(results: Results, problem: Problem, optimizer: Optimizer) -> tuple[float, float]:
    """Predicted rates below which a run is stuck and above which it is lost; NaN if none.

    Below: all steps together lose SHARE of the gap to first order. Above: SGD and Momentum
    are unstable; along g / |g| and sign g the loss at the floor, of steps that overshoot,
    lambda_max eta^2 / 8 or trace eta^2 / 6, is all but SHARE of the gap.
    """
    at = results.selected(problem).sel(optimizer=str(optimizer))
    gap, top = float(at.gap.median()), float(at.curvature)
    experiment = results.experiment
    assert isinstance(experiment, Experiment)
    low = SHARE * gap / (experiment.steps * float(at.slope))
    kind, memory = _step_kind(optimizer), getattr(optimizer, "decay", 0.0)
    floor = (1 - SHARE) * gap
    high = {
        "square": 2 * (1 + memory) / top,
        "length": np.sqrt(8 * floor / top),
        "sum": np.sqrt(6 * floor / float(at.trace)),
    }
    # A network's curvature changes: only the edge that its start has is known.
    known = kind == "square" or np.isfinite(float(at.trace))
    return low, high.get(kind, np.nan) if known else np.nan


def lower_edge(results: Results, problem: Problem, optimizer: Optimizer) -> np.ndarray:
    """The rate [seed] at which progress first comes to SHARE, between grid points."""
    at = results.selected(problem).sel(optimizer=str(optimizer))
    rates = np.log10(at.learning_rate.values)
    found = []
    for progress in at.progress.transpose("seed", "learning_rate").values:
        over = np.flatnonzero(progress >= SHARE)
        if len(over) == 0 or over[0] == 0:
            found.append(np.nan)
            continue
        pair = slice(over[0] - 1, over[0] + 1)
        # Progress is about proportional to the rate there.
        logs = np.log(np.maximum(progress[pair], 1e-6))
        found.append(10 ** np.interp(np.log(SHARE), logs, rates[pair]))
    return np.array(found)


def widths(
    results: Results, problem: Problem, name: str, criterion: str = "good"
) -> np.ndarray:
    """Decades of rates [seed] that are `good`, or that reach `most` (90 %) of the gap."""
    at = results.selected(problem).sel(optimizer=name)
    inside = at.good if criterion == "good" else at.progress >= 0.9
    rates = at.learning_rate.values
    spacing = np.log10(rates[-1] / rates[0]) / (len(rates) - 1)
    return inside.transpose("seed", "learning_rate").values.sum(-1) * spacing


# Verdicts ---------------------------------------------------------------------------------


def _share(field: str, name: str, rate: float, outcome: str) -> Any:
    """Share of runs with an outcome at a rate."""

    def measure(results: Results) -> Estimate:
        records = results.selected(getattr(results.experiment, field))
        codes = records.outcome.sel(optimizer=name, learning_rate=rate)
        share = float((codes == OUTCOMES.index(outcome)).mean())
        return Estimate(share, share, share, codes.size)

    return measure


def _edge(field: str, name: str) -> Callable[[Results], Estimate]:
    """log10 of the measured lower edge over the predicted one."""

    def measure(results: Results) -> Estimate:
        problem = getattr(results.experiment, field)
        (optimizer,) = [o for o in results.experiment.optimizers if str(o) == name] or [
            None
        ]
        if optimizer is None:
            raise KeyError(name)
        low, _ = edges(results, problem, optimizer)
        return statistics.bootstrap(np.log10(lower_edge(results, problem, optimizer) / low))

    return measure


def _never_lost(name: str) -> Callable[[Results], Estimate]:
    """Share of runs on the two quadratics that end non-finite, at any rate."""

    def measure(results: Results) -> Estimate:
        ends = [
            results.selected(problem).progress.sel(optimizer=name).values
            for problem in results.experiment.problems[1:]
        ]
        lost = np.concatenate([end.ravel() <= -1e30 for end in ends])
        return Estimate(lost.mean(), lost.mean(), lost.mean(), lost.size)

    return measure


def _wider(field: str, name: str, others: tuple[str, ...]) -> Callable[[Results], Estimate]:
    """Decades by which one region is wider than the widest of the others, by seed."""

    def measure(results: Results) -> Estimate:
        problem = getattr(results.experiment, field)
        rest = np.max([widths(results, problem, other) for other in others], axis=0)
        return statistics.mean(widths(results, problem, name) - rest)

    return measure


STABLE = (
    ("deepobs", "SGD", 0.03162, 0.1),
    ("deepobs", "Momentum", 0.03162, 0.1),
    ("deepobs", "Momentum(decay=0.99)", 0.03162, 0.1),
    ("quadratic", "SGD", 1.0, 3.162),
    ("quadratic", "Momentum", 3.162, 10.0),
    ("quadratic", "Momentum(decay=0.99)", 3.162, 10.0),
)
RULES = tuple(str(optimizer) for optimizer in DEFAULT.optimizers)
TITLES = {
    "problem": "digits",
    "quadratic": "noisy quadratic",
    "deepobs": "quadratic of DeepOBS",
}

PREDICTIONS = (
    *(
        Prediction(
            f"{TITLES[field]}, {name}: {share} of the runs at {rate:g} diverge",
            "2 (1 + b) / lambda_max",
            _share(field, name, rate, "diverged"),
            at_least=int(share == "all"),
            at_most=int(share == "all"),
        )
        for field, name, below, above in STABLE
        for rate, share in ((below, "none"), (above, "all"))
    ),
    *(
        Prediction(
            f"{name}: no run on the quadratics ends non-finite, up to a rate of 100",
            "own expectation: its steps do not grow with the gradient",
            _never_lost(name),
            at_most=0,
        )
        for name in ("NormalisedGD", "SignDescent", "Adam")
    ),
    *(
        Prediction(
            f"{title}, {name}: the lower edge is as predicted within a factor of 3.2",
            "first-order decrease",
            _edge(field, name),
            at_least=-0.5,
            at_most=0.5,
        )
        for field, title in TITLES.items()
        for name in RULES
    ),
    Prediction(
        "digits: the region within 2 points of the best is not wider for Adam than for SGD",
        "DeepOBS 1.1 grids: 8 points against 11 on fmnist_2c2d",
        _wider("problem", "Adam", ("SGD",)),
        at_most=0,
    ),
    Prediction(
        "DeepOBS: the region within 2 % is wider for Momentum 0.99 than for SGD and Adam",
        "DeepOBS 1.1 grids: 13 points, Adam 8, SGD 5",
        _wider("deepobs", "Momentum(decay=0.99)", ("SGD", "Adam")),
        at_least=0,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each problem and optimizer: edges in rates, widths in decades."""
    del manifest
    for problem in results.experiment.problems:
        records = results.selected(problem)
        for optimizer in results.experiment.optimizers:
            name = str(optimizer)
            low, high = edges(results, problem, optimizer)
            codes = records.outcome.sel(optimizer=name)
            row: dict[str, Any] = {
                "problem": str(problem),
                "optimizer": name,
                "lower_edge": float(np.median(lower_edge(results, problem, optimizer))),
                "lower_edge_predicted": low,
                "upper_edge_predicted": high,
            }
            for i, outcome in enumerate(OUTCOMES):
                row[f"share_{outcome}"] = float((codes == i).mean())
            for criterion in ("good", "most"):
                estimate = statistics.mean(widths(results, problem, name, criterion))
                row[f"decades_{criterion}"] = estimate.value
                row[f"decades_{criterion}_low"] = estimate.low
                row[f"decades_{criterion}_high"] = estimate.high
            yield row


# Figure -----------------------------------------------------------------------------------

COLOURS = ("#d9d9d9", "#2a7f9e", "#f2b134", "#b10000")


def draw(results: Results) -> dict[str, Figure]:
    """Regions with predicted edges above, widths of the good region below."""
    from matplotlib.patches import Patch

    from study import figures

    problems = results.experiment.problems
    rows = len(results.experiment.optimizers)
    figure, axes = figures.panels(2, len(problems), height=1.1 + 0.16 * rows, sharey="row")
    for column, problem in enumerate(problems):
        _draw_regions(axes[0, column], results, problem)
        _draw_widths(axes[1, column], results, problem)
        axes[0, column].set_title(f"{'abc'[column]}  {problem.label}")
    labels = [optimizer.title for optimizer in results.experiment.optimizers]
    for row in axes:
        row[0].set_yticks(np.arange(rows) + 0.5, labels)
        row[0].set_ylim(rows, 0)
    handles: list[Any] = [
        Patch(color=colour, label=name)
        for name, colour in zip(OUTCOMES, COLOURS, strict=True)
    ]
    handles += axes[0, 0].plot([], [], "k", lw=1.6, label="predicted edges")
    handles += axes[1, 0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figures.note(
        figure,
        f"Shares of {results.count()} seeds; lines below: 95 % t intervals of the mean.",
    )
    return {"figure": figure}


def _draw_regions(axes: Axes, results: Results, problem: Problem) -> None:
    """Shares of outcomes as stacked bars in every cell, and the predicted edges."""
    records = results.selected(problem)
    rates = np.log10(records.learning_rate.values)
    step = rates[1] - rates[0]
    for row, optimizer in enumerate(results.experiment.optimizers):
        codes = records.outcome.sel(optimizer=str(optimizer))
        base = np.full(len(rates), row + 0.92)
        for i, colour in enumerate(COLOURS):
            share = (codes == i).mean("seed").values * 0.84
            axes.bar(rates, -share, step * 0.96, base, color=colour, linewidth=0)
            base = base - share
        for edge in edges(results, problem, optimizer):
            if np.isfinite(edge):
                ends = [row + 0.02, row + 0.98]
                axes.plot(2 * [np.log10(edge)], ends, "w", lw=3)
                axes.plot(2 * [np.log10(edge)], ends, "k", lw=1.6)
    axes.set_xlim(rates[0] - step / 2, rates[-1] + step / 2)
    ticks = np.arange(np.ceil(rates[0]), rates[-1] + 0.1, 3 if rates[-1] > 1 else 1)
    axes.set_xticks(ticks, [f"$10^{{{tick:.0f}}}$" for tick in ticks])
    axes.set_xlabel("Learning rate")
    axes.tick_params(axis="y", length=0)
    axes.grid(False)


def _draw_widths(axes: Axes, results: Results, problem: Problem) -> None:
    """Means over seeds with intervals, by both criteria."""
    labels = {"good": "within 2 % of its best", "most": "90 % of the gap closed"}
    for criterion, fill, shift in (("good", "black", 0.36), ("most", "white", 0.64)):
        for row, optimizer in enumerate(results.experiment.optimizers):
            estimate = statistics.mean(widths(results, problem, str(optimizer), criterion))
            axes.plot([estimate.low, estimate.high], 2 * [row + shift], "k", lw=1)
            label = labels[criterion] if row == 0 else None
            axes.plot(estimate.value, row + shift, "ko", mfc=fill, ms=4, lw=0, label=label)
    axes.set(xlabel="Decades of learning rate", xlim=(-0.15, None))
    axes.tick_params(axis="y", length=0)


if __name__ == "__main__":
    cli.main(__spec__.name)
