"""Where does training sit: at the edge that the learning rate allows?

Question.   A learning rate allows curvature up to a threshold. Is the threshold exact on a
            quadratic, does a network's curvature rise to it and stay, and what does a
            factor on the loss do to the minimum in which training ends?
Prediction. On x^2 / 2 times a curvature: 2 / eta for gradient descent, 2 (1 + b) / eta for
            heavy ball, (2 + 2b) / ((1 + 2b) eta) for Nesterov, 2 (1 + b) / ((1 - b) eta)
            for an average of gradients. A network's sharpness rises to 2 / eta under
            gradient descent and stays there while the loss falls; under Adam the sharpness
            seen through its preconditioner stays at 38 / eta. Multiply the loss by c:
            gradient descent ends where the curvature of the unscaled loss is 2 / (c eta);
            Adam does not notice.
Varied.     Scientific: rule, learning rate, factor c. Five seeds of starts. Fixed: a tanh
            network of two layers of 50 on 20 points of the Chebyshev polynomial T_4, mean
            squared error on all points, 20,000 steps in float32; thresholds in float64.
Cost.       Half a minute on two CPU cores.

    python -m experiments.edge_of_stability             run, store, judge, draw
    python -m experiments.edge_of_stability --draw      draw stored records again

Cohen et al. (2021), arXiv:2103.00065 (their code read, `src/synthetic.py`); Cohen et al.
(2022), arXiv:2207.14484, for Adam's 38 / eta at b1 = 0.9 (abstract and several write-ups
that agree).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.optimizers.adam import Adam
from study.problems import ChebyshevFit, NoisyQuadratic, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

THRESHOLDS = {
    "SGD": 2.0,
    "Momentum": 2 * (1 + 0.9),
    "Nesterov": (2 + 2 * 0.9) / (1 + 2 * 0.9),
    "Averaging": 2 * (1 + 0.9) / (1 - 0.9),
    "Adam": 2 * (1 + 0.9) / (1 - 0.9),
}
"""Largest stable eta times curvature, of Adam through its preconditioner."""


@dataclasses.dataclass(frozen=True)
class EdgeOfStability(Comparison):
    """Thresholds on a quadratic, and a network's sharpness along training."""

    net: ChebyshevFit = ChebyshevFit()
    """What is trained."""
    levels: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0, 160.0)
    """Sharpness that the rates of all rules but Adam allow: eta = threshold / level."""
    adam_rates: tuple[float, ...] = (1e-3, 3e-4)
    """Of Adam."""
    factors: tuple[float, ...] = (0.5, 2.0)
    """C, besides 1, at the second level and at Adam's first rate."""
    steps: int = 20_000
    """Updates of the network."""
    watched: int = 40
    """Times at which its sharpness is measured, evenly spaced."""
    seeds: int = 5
    """Starts of the network."""
    bisected: int = 100_000
    """Updates on the quadratic in each trial of the bisection."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("levels", "adam_rates")
        for name in ("steps", "watched", "seeds", "bisected"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")

    def settings(self, optimizer: Optimizer) -> list[tuple[float, float]]:
        """(eta, c) of a rule's runs on the network."""
        if str(optimizer) == "Adam":
            rates, at = self.adam_rates, self.adam_rates[0]
        else:
            rates = tuple(THRESHOLDS[str(optimizer)] / level for level in self.levels)
            at = rates[min(1, len(rates) - 1)]
        factors = self.factors if str(optimizer) in ("SGD", "Adam") else ()
        return [(rate, 1.0) for rate in rates] + [(at, c) for c in factors]


DEFAULT = EdgeOfStability(
    problem=NoisyQuadratic(dim=1, noise=0.0, dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Nesterov(),
        optimizers.Averaging(),
        optimizers.Adam(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        net=ChebyshevFit(width=4, points=5),
        optimizers=(optimizers.SGD(),),
        levels=(20.0,),
        steps=4,
        watched=2,
        seeds=2,
        bisected=50,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        levels=(10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
        adam_rates=(3e-3, 1e-3, 3e-4, 1e-4),
        factors=(0.25, 0.5, 2.0, 4.0),
        steps=200_000,
        watched=200,
        seeds=10,
    ),
}
KEPT = ("threshold", "sharpness", "error", "rate", "factor")


def run_cell(
    experiment: EdgeOfStability,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """The quadratic: `threshold` [], eta times curvature, NaN for Adam. The network: runs.

    `sharpness` [setting, seed, stop] of the loss without its factor, times eta over the
    threshold; of Adam, that of its loss through its preconditioner. `error` [setting, seed,
    stop] is the mean squared error, `rate` and `factor` [setting].
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    with devices.precision(problem.dtype):
        if isinstance(problem, ChebyshevFit):
            dataset = _train(experiment, problem, optimizer)
        else:
            known = str(optimizer) != "Adam"
            found = _threshold(problem, optimizer, experiment.bisected) if known else np.nan
            dataset = xr.Dataset({"threshold": found})
        progress(0.9)
        return sweep.finish(dataset, problem, optimizer, begun, experiment.seeds)


def _threshold(problem: Problem, optimizer: Optimizer, steps: int) -> float:
    """The largest eta on x^2 / 2 at which |x| is not larger after `steps`, by bisection."""
    import jax
    import jax.numpy as jnp

    from study import trajectories

    start = {"x": jnp.ones(1, problem.dtype)}

    @jax.jit
    def grows(rate: Any) -> Any:
        _, found = trajectories.follow(
            problem,
            optimizer,
            lambda t: rate,
            (steps,),
            lambda state, t: jnp.abs(state.params["x"][0]),
            params=start,
        )
        return ~(found[0] <= 1)

    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    return low


def _train(
    experiment: EdgeOfStability, problem: ChebyshevFit, optimizer: Optimizer
) -> xr.Dataset:
    """All settings and seeds of one rule."""
    import jax
    import jax.numpy as jnp
    import optax
    import xarray as xr

    from study import curvature, devices, sweep, trajectories

    settings = experiment.settings(optimizer)
    stops = np.linspace(0, experiment.steps, experiment.watched + 1).round().astype(int)

    def run(data: Any, starts: Any, rate: Any, factor: Any, seed: Any) -> Any:
        params = jax.tree.map(lambda leaf: leaf[seed], starts)
        data = (*data[:2], factor)

        def observe(state: Any, t: Any) -> Any:
            if not isinstance(optimizer, Adam):
                loss, scale = (lambda p: problem.error(p, data)), None
            else:
                squares: Any = optax.tree.get(state.optimizer, "nu")
                kept = 1 - optimizer.b2 ** jnp.maximum(t, 1).astype(rate.dtype)
                eps = optimizer.eps
                scale = jax.tree.map(lambda v: 1 / (jnp.sqrt(v / kept) + eps), squares)
                loss = lambda p: problem.loss(p, data)  # noqa: E731
            sharp = curvature.power_iteration(loss, state.params, scale)
            return sharp, problem.error(state.params, data)

        _, found = trajectories.follow(
            problem,
            optimizer,
            lambda t: rate,
            stops.tolist(),
            observe,
            params=params,
            data=data,
        )
        return found

    seeds = np.arange(experiment.seeds, dtype=np.int32)
    places, each = np.meshgrid(np.arange(len(settings)), seeds, indexing="ij")
    rates, factors = np.asarray(settings, problem.dtype).T
    shared = (problem.data(), sweep.starts(problem, tuple(seeds.tolist()))[0])
    runs = (rates[places.ravel()], factors[places.ravel()], each.ravel())
    sharp, error = (
        found.reshape(*places.shape, -1).astype(np.float64)
        for found in devices.map_runs(run, shared, runs)
    )
    allowed = THRESHOLDS[str(optimizer)] / rates.astype(np.float64)
    dims = ("setting", "seed", "stop")
    return xr.Dataset(
        {
            "sharpness": (dims, sharp / allowed[:, None, None]),
            "error": (dims, error),
            "rate": ("setting", rates.astype(np.float64)),
            "factor": ("setting", factors.astype(np.float64)),
        },
        {
            "setting": np.arange(len(settings), dtype=np.int32),
            "seed": seeds,
            "stop": stops.astype(np.int32),
        },
    )


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """As it is."""
    return dataset


# Verdicts ---------------------------------------------------------------------------------


def setting(results: Results, rule: str, place: int, factor: float = 1.0) -> xr.Dataset:
    """The runs [seed, stop] of a rule at the rate number `place` of this factor."""
    records = _trained(results).sel(optimizer=rule)
    at = np.flatnonzero(records.factor.values == factor)
    if place >= len(at):
        raise KeyError(f"rate {place} of {rule}")  # undefined: the spec left it out
    return records.isel(setting=at[place])


def _trained(results: Results) -> xr.Dataset:
    return results.selected(results.experiment.net)  # type: ignore[attr-defined]


def late(values: xr.DataArray) -> np.ndarray:
    """Means [seed] over the second half of the run; NaN for a run that diverged."""
    values = values.transpose("seed", "stop")
    return values.values[:, values.sizes["stop"] // 2 :].mean(axis=1)


def _threshold_of(rule: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        records = results.selected(results.experiment.problem)
        return statistics.exact(float(records.threshold.sel(optimizer=rule)))

    return measure


def _edge(
    rule: str, place: int, factor: float = 1.0, times: float = 1.0
) -> Callable[[Results], Estimate]:
    """The mean over the second half, over the threshold, its median over seeds."""

    def measure(results: Results) -> Estimate:
        found = late(setting(results, rule, place, factor).sharpness)
        return statistics.bootstrap(times * found)

    return measure


def _diverged(results: Results) -> Estimate:
    """Share of seeds that gradient descent at eta = 0.2 leaves not finite."""
    ends = setting(results, "SGD", 0).error.transpose("seed", "stop").values[:, -1]
    return statistics.exact(np.mean(~np.isfinite(ends)), len(ends))


def _falls(results: Results) -> Estimate:
    """Error at the end over that in the middle, gradient descent at 0.1."""
    error = setting(results, "SGD", 1).error.transpose("seed", "stop").values
    return statistics.bootstrap(error[:, -1] / error[:, error.shape[1] // 2])


READ = "Cohen et al. 2021, code read; value of an independent run"
ADAM = "Cohen et al. 2022, abstract and write-ups; value of an independent run"
CALIBRATED = {"SGD": 2.0, "Momentum": 3.79993, "Nesterov": 1.35710, "Averaging": 37.9993}
PREDICTIONS = (
    *(
        Prediction(
            f"quadratic, {title}: stable up to {THRESHOLDS[rule]:.5g}, to 1e-3",
            "closed form; value of an independent run",
            _threshold_of(rule),
            at_least=THRESHOLDS[rule] - 1e-3,
            at_most=THRESHOLDS[rule] + 1e-3,
            published=CALIBRATED[rule],
        )
        for rule, title in (
            ("SGD", "gradient descent"),
            ("Momentum", "heavy ball"),
            ("Nesterov", "Nesterov"),
            ("Averaging", "average of gradients"),
        )
    ),
    *(
        Prediction(
            f"gradient descent, eta = {rate}: late sharpness at 2 / eta, to 2 %",
            READ,
            _edge("SGD", place),
            at_least=0.98,
            at_most=1.02,
            published=1.0,
        )
        for place, rate in ((1, 0.1), (2, 0.05))
    ),
    Prediction(
        "gradient descent, eta = 0.1: the error still falls, to half the middle's or less",
        "Cohen et al. 2021, recalled; threshold own",
        _falls,
        at_most=0.5,
    ),
    Prediction(
        "gradient descent, eta = 0.2: diverges on one seed or more",
        "independent run, seed 0",
        _diverged,
        at_least=0.2,
    ),
    *(
        Prediction(
            f"Adam, eta = {rate:g}: late preconditioned sharpness at 38 / eta, to 5 %",
            ADAM,
            _edge("Adam", place),
            at_least=0.95,
            at_most=1.05,
            published=1.0,
        )
        for place, rate in ((0, 1e-3), (1, 3e-4))
    ),
    Prediction(
        "heavy ball at 2 (1 + b) / 20: late sharpness at the threshold, to 10 %",
        "own expectation; an independent run found 0.63 to 1.0 by seed",
        _edge("Momentum", 1),
        at_least=0.9,
        at_most=1.1,
    ),
    Prediction(
        "heavy ball at 2 (1 + b) / 80: late sharpness at the threshold, to 10 %",
        "own expectation, after all runs at 20 had diverged in their first steps",
        _edge("Momentum", 3),
        at_least=0.9,
        at_most=1.1,
    ),
    Prediction(
        "an average of gradients at 38 / 20: as heavy ball, to 10 %",
        "own expectation: the same rule but for its first steps",
        _edge("Averaging", 1),
        at_least=0.9,
        at_most=1.1,
    ),
    *(
        Prediction(
            f"loss times {c:g}, gradient descent: unscaled sharpness 2 / (c eta), to 2 %",
            "closed form: eta c is one number",
            _edge("SGD", 0, c, times=c),
            at_least=0.98,
            at_most=1.02,
        )
        for c in (0.5, 2.0)
    ),
    *(
        Prediction(
            f"loss times {c:g}, Adam: preconditioned sharpness at 38 / eta, to 5 %",
            "own expectation: Adam divides the factor out",
            _edge("Adam", 0, c),
            at_least=0.95,
            at_most=1.05,
        )
        for c in (0.5, 2.0)
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, rate and factor."""
    del manifest
    records = _trained(results)
    for rule in map(str, results.experiment.optimizers):
        for place in range(records.sizes["setting"]):
            at = records.sel(optimizer=rule).isel(setting=place)
            if not np.isfinite(at.rate):
                continue  # this rule has fewer settings
            found = late(at.sharpness)
            ends = at.error.transpose("seed", "stop").values[:, -1]
            finite = found[np.isfinite(ends)]
            yield {
                "optimizer": rule,
                "learning_rate": float(at.rate),
                "factor": float(at.factor),
                "threshold": THRESHOLDS[rule] / float(at.rate),
                "late_over_threshold": statistics.bootstrap(found).value,
                "lowest_finite_seed": float(finite.min()) if len(finite) else np.nan,
                "highest_finite_seed": float(finite.max()) if len(finite) else np.nan,
                "diverged_share": float(np.mean(~np.isfinite(ends))),
                "error": float(np.median(statistics.worst(ends))),
            }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Sharpness over its threshold along training; then what a factor on the loss does."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.9)
    looks = figures.look(results.experiment.optimizers)
    _draw_edge(axes[0, 0], results, "SGD", looks)
    axes[0, 0].set_title(r"a  Gradient descent: sharpness $\cdot\ \eta\, /\, 2$")
    _draw_edge(axes[0, 1], results, "Adam", looks)
    axes[0, 1].set_title(r"b  Adam, preconditioned: sharpness $\cdot\ \eta\, /\, 38$")
    _draw_rules(axes[1, 0], results, looks)
    _draw_factors(axes[1, 1], results, looks)
    figures.note(
        figure,
        f"a to c: each of {results.count()} seeds. d: medians of those that are finite.",
    )
    return {"figure": figure}


SHADES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))


def _draw_edge(panel: Axes, results: Results, rule: str, looks: dict[str, Any]) -> None:
    records = _trained(results)
    if rule not in looks:
        return
    records = records.sel(optimizer=rule)
    for place in np.flatnonzero(records.factor.values == 1):
        at = records.isel(setting=place).sharpness.transpose("seed", "stop")
        values = np.where(np.isfinite(at.values), at.values, np.nan)
        style = {"color": looks[rule]["color"], "linestyle": SHADES[place % len(SHADES)]}
        panel.plot(at["stop"] / 1000, values.T, **style, lw=0.8, alpha=0.7)
        panel.plot([], [], **style, label=rf"$\eta$ = {float(records.rate[place]):.2g}")
    panel.axhline(1, color="black", lw=0.8)
    panel.set(xlabel="Thousand steps", ylim=(0, 1.6), ylabel="Over the threshold")
    panel.legend(loc="upper right", handlelength=3.2, ncols=2)


def _draw_rules(panel: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Late sharpness over the threshold of each seed, by rule and rate."""
    records = _trained(results)
    for row, (name, look) in enumerate(looks.items()):
        own = records.sel(optimizer=name)
        places = np.flatnonzero(own.factor.values == 1)
        for i, place in enumerate(places):
            found = late(own.isel(setting=place).sharpness)
            level = row + 0.18 * (i - (len(places) - 1) / 2)
            panel.plot(
                found, np.full(len(found), level), look["marker"], color=look["color"], ms=3
            )
            if lost := int(np.sum(~np.isfinite(found))):
                panel.text(
                    1.42, level, f"{lost} of {len(found)}", fontsize=5.5, va="center"
                )
    panel.text(1.42, -0.45, "diverge", fontsize=7, va="bottom")
    panel.axvline(1, color="black", lw=0.8)
    panel.set_yticks(range(len(looks)), [look["label"] for look in looks.values()])
    panel.set(ylim=(len(looks) - 0.5, -0.75), xlim=(0, 1.65))
    panel.set_xlabel("Sharpness over the threshold, mean of the second half")
    panel.set_title("c  All rules; each row a rate, each point a seed")


def _draw_factors(panel: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Late sharpness over its value at c = 1, against c; medians of the finite seeds."""
    experiment: Any = results.experiment
    for name in ("SGD", "Adam"):
        if name not in looks:
            continue
        place = min(1, len(experiment.levels) - 1) if name == "SGD" else 0
        base = late(setting(results, name, place).sharpness)
        factors = sorted((1.0, *experiment.factors))
        found = [
            late(setting(results, name, place if c == 1 else 0, c).sharpness) / base
            for c in factors
        ]
        panel.plot(factors, np.nanmedian(found, axis=1), **looks[name])
        for c, ratios in zip(factors, found, strict=True):
            alive = int(np.isfinite(ratios).sum())
            if alive < len(ratios):
                note = f"{alive} of {len(ratios)} seeds"
                panel.annotate(
                    note,
                    (c, np.nanmedian(ratios)),
                    (-52, 6),
                    textcoords="offset points",
                    fontsize=7,
                )
    fine = np.geomspace(min(experiment.factors), max(experiment.factors), 20)
    panel.plot(fine, 1 / fine, color="black", lw=0.8, ls=":", label="1 / c")
    panel.set(xscale="log", yscale="log", xlabel="Factor c on the loss")
    panel.set_xticks(sorted((1.0, *experiment.factors)))
    panel.set_xticklabels([f"{c:g}" for c in sorted((1.0, *experiment.factors))])
    panel.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
    panel.minorticks_off()
    panel.set_ylabel("Late sharpness over that at c = 1")
    panel.set_title("d  Loss multiplied by c (SGD: unscaled loss)")
    panel.legend(loc="upper right")


if __name__ == "__main__":
    cli.main(__spec__.name)
