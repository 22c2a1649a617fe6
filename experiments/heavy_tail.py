"""Many rare classes: who learns them, and is it the scale of each element that matters?

Question.   When half of all samples belong to classes that are rare one by one, which rules
            lower the loss of the rare ones? Does normalising the whole gradient help, or
            only rescaling each element? And what is the law of their time?
Prediction. SGD, momentum and normalised descent learn the frequent classes and leave the
            rare ones where they began; sign descent and Adam lower all groups. With one-hot
            inputs a class of frequency pi has the loss 1 / (pi t) under gradient descent,
            and falls exponentially, at one speed for all, under sign descent. The ranking
            depends on horizon and grid: the data can be separated, and at a long horizon
            SGD wins with a rate so large that it is unstable.
Varied.     Scientific: rule. Nuisance: learning rate, selected on the objective itself, as
            the source does, at half a decade and at a quarter. Horizons of 50 and 200
            steps. Three data sets; all samples in every step, from 0; float32.
Cost.       A minute and a quarter on two CPU cores.

    python -m experiments.heavy_tail             run, store, judge, draw
    python -m experiments.heavy_tail --draw      draw stored records again

Kunstner et al. (2024), arXiv:2402.19449: data and grids read in their code
(`synthetic_dataset.py`, `toy_models`), the theorem on time from a summary. `paper` has
their m = 11, 1,000 steps and half decades, for two hours on one GPU of 80 GB; default has
the m = 7 of their ablations, of which alone the predictions speak.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import HeavyTailed, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class HeavyTail(Comparison):
    """Every rule at every rate on every data set."""

    learning_rates: tuple[float, ...] = log_grid(-3, 1, per_decade=4)
    """The grid at the short horizon; every other rate also at the long one."""
    horizons: tuple[int, ...] = (50, 200)
    """Steps at which the loss counts: the first on the fine grid, each on the coarse."""
    data_seeds: int = 3
    """Data sets, 0, 1, ..."""
    classes: int = 1_000
    """Of the one-hot companion, with Zipf's frequencies."""
    companion_steps: int = 100_000
    """Of the companion, at learning rate 1."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "horizons")
        if list(self.horizons) != sorted(self.horizons) or self.horizons[0] < 1:
            self.refuse("horizons", "ascending, at least 1")
        if self.data_seeds < 1:
            self.refuse("data_seeds", "at least 1")


DEFAULT = HeavyTail(
    problem=HeavyTailed(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Adam(b1=0.0),
        optimizers.Adam(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=3),
        optimizers=(optimizers.SGD(),),
        learning_rates=(0.1, 0.2, 0.5),
        horizons=(2, 4),
        classes=5,
        companion_steps=10,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=11),
        learning_rates=log_grid(-5, 0, per_decade=4),
        horizons=(100, 1_000),
        data_seeds=1,
    ),
}
KEPT = ("loss", "group", "curve", "rate", "at_edge", "law")
SETTINGS = ("short, half decades", "short, quarter decades", "long, half decades")


def run_cell(
    experiment: HeavyTail,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All rates and data sets of one rule.

    `losses` [learning_rate, seed, stop, group], NaN beyond the short horizon for rates of
    the fine grid alone; of SGD also `law` [class_place, time], pi t times the loss.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    assert isinstance(problem, HeavyTailed)
    rates, stops = experiment.learning_rates, _stops(experiment)
    short = stops <= experiment.horizons[0]
    with devices.precision(problem.dtype):
        losses = np.full(
            (len(rates), experiment.data_seeds, len(stops), problem.groups), np.nan
        )
        for first, seen in ((0, slice(None)), (1, short)):
            grid = rates[first::2]
            losses[first::2, :, seen] = _train(
                problem, optimizer, grid, experiment.data_seeds, stops[seen]
            )
            progress((first + 1) / 2)
        dataset = xr.Dataset(
            {"losses": (("learning_rate", "seed", "stop", "group"), losses)},
            {
                "learning_rate": list(rates),
                "stop": stops,
                "group": np.arange(problem.groups, dtype=np.int32),
            },
            {"horizons": list(experiment.horizons)},
        )
        if str(optimizer) == "SGD":
            places, times, found = law(experiment.classes, experiment.companion_steps)
            dataset["law"] = (("class_place", "time"), found)
            dataset = dataset.assign_coords(class_place=places, time=times)
        return sweep.finish(
            dataset, problem, optimizer, begun, len(rates) * experiment.data_seeds
        )


def _stops(experiment: HeavyTail) -> np.ndarray:
    """Numbers of updates at which losses are recorded: 10 to each horizon."""
    ends = [0, *experiment.horizons]
    parts = [np.linspace(a, b, 11)[1:] for a, b in itertools.pairwise(ends)]
    return np.unique(np.concatenate([[0], *parts]).round()).astype(np.int32)


def _train(
    problem: HeavyTailed,
    optimizer: Optimizer,
    rates: tuple[float, ...],
    seeds: int,
    stops: np.ndarray,
) -> np.ndarray:
    """Losses by group [rate, seed, stop, group]."""
    from study import devices

    run = trainer(problem, optimizer, stops)
    data = problem.instances(range(seeds))
    return devices.map_runs(run, (data,), [np.asarray(rates, problem.dtype)])


def trainer(problem: HeavyTailed, optimizer: Optimizer, stops: np.ndarray) -> Any:
    """(data [seed, ...], rate) -> losses by group [seed, stop, group]."""
    import jax

    from study import trajectories

    def run(data: Any, rate: Any) -> Any:
        def on(data: Any) -> Any:
            def observe(state: Any, t: Any) -> Any:
                losses = problem.losses(state.params, data)
                return losses.reshape(problem.groups, -1).mean(1)

            return trajectories.follow(
                problem,
                optimizer,
                lambda t: rate,
                stops.tolist(),
                observe,
                params=problem.init(jax.random.key(0)),
                data=data,
            )[1]

        return jax.lax.map(on, data)  # one after the other: inputs are not copied by run

    return run


def law(classes: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places k, times t, and pi_k t times the loss of class k [class_place, time].

    With one-hot inputs the classes of a softmax regression train apart: the logit of class
    k lies z_k above its others, gradient descent at rate 1 raises z_k by
    pi_k (1 - p_k) c / (c - 1), and the loss is ln(1 + (c - 1) e^-z_k).
    """
    pi = 1 / np.arange(1, classes + 1)
    pi /= pi.sum()
    places = np.unique(np.geomspace(1, classes, 4).round().astype(np.int32))
    times = np.unique(np.geomspace(1, steps, 41).round().astype(np.int32))
    gap, found = np.zeros(len(places)), []
    share = pi[places - 1]
    for t in range(1, steps + 1):
        wrong = 1 / (1 + np.exp(gap) / (classes - 1))
        gap = gap + share * wrong * classes / (classes - 1)
        if t == times[len(found)]:
            found.append(share * t * np.log1p((classes - 1) * np.exp(-gap)))
    return places, times, np.array(found).T


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule at the rate with the lowest median loss, for each of SETTINGS.

    `loss` [optimizer, setting, seed], `group` [optimizer, setting, seed, group] at the
    horizon, `rate` and `at_edge` [optimizer, setting]; `curve` [optimizer, group, stop],
    the median over data sets in the second setting; and the `law`.
    """
    import xarray as xr

    order = ("optimizer", "learning_rate", "seed", "stop", "group")
    losses = dataset.losses.transpose(*order).values
    rates, stops = dataset.learning_rate.values, dataset.stop.values
    ends = [int(np.flatnonzero(stops == h)[0]) for h in dataset.attrs["horizons"]]
    settings = ((ends[0], 2), (ends[0], 1), (ends[-1], 2))
    count, seeds = losses.shape[0], losses.shape[2]
    loss = np.full((count, len(settings), seeds), np.nan)
    group = np.full((*loss.shape, losses.shape[-1]), np.nan)
    rate, edge = np.full((2, count, len(settings)), np.nan)
    curve = np.full((count, losses.shape[-1], len(stops)), np.nan)
    for i, own in enumerate(losses):
        for j, (end, every) in enumerate(settings):
            grid = own[::every, :, end]
            selection = statistics.select(grid.mean(-1))
            edge[i, j] = selection.at_edge
            if not selection.found:
                continue
            rate[i, j] = rates[::every][selection.place]
            group[i, j] = grid[selection.place]
            loss[i, j] = grid[selection.place].mean(-1)
            if j == 1:
                chosen = own[::every][selection.place]
                curve[i] = np.median(chosen, axis=0).T
    names = ("optimizer", "setting", "seed")
    out = xr.Dataset(
        {
            "loss": (names, loss),
            "group": ((*names, "part"), group),
            "rate": (names[:2], rate),
            "at_edge": (names[:2], edge),
            "curve": (("optimizer", "part", "stop"), curve),
        },
        {
            "optimizer": dataset.optimizer,
            "setting": list(SETTINGS),
            "stop": stops,
            "part": dataset.group.values,
        },
        {"problem": dataset.attrs["problem"]},
    )
    if "law" in dataset:
        out["law"] = dataset.law.sel(optimizer="SGD", drop=True)
    return out


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, name: str, setting: int) -> xr.Dataset:
    """The records of a rule in one of SETTINGS."""
    records = results.selected(results.experiment.problem)
    return records.sel(optimizer=name).isel(setting=setting)


def judged(results: Results, name: str, setting: int) -> xr.Dataset:
    """`found`, NaN where problem or horizons are others than the predictions speak of."""
    problem, horizons = results.experiment.problem, DEFAULT.horizons
    same = str(problem) == str(DEFAULT.problem)
    at = found(results, name, setting)
    return at.where(same and getattr(results.experiment, "horizons", ()) == horizons)


def _loss(name: str, setting: int) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        return statistics.bootstrap(judged(results, name, setting).loss.values)

    return measure


def _part(name: str, part: int) -> Callable[[Results], Estimate]:
    """Loss of the most frequent (0) or rarest (-1) group, half decades."""

    def measure(results: Results) -> Estimate:
        return statistics.bootstrap(judged(results, name, 0).group.isel(part=part).values)

    return measure


def _over(first: str, second: str, setting: int) -> Callable[[Results], Estimate]:
    """Loss of one rule over that of another, paired by data set."""

    def measure(results: Results) -> Estimate:
        pair = [judged(results, name, setting).loss.values for name in (first, second)]
        with np.errstate(divide="ignore", invalid="ignore"):  # a loss can be exactly 0
            return statistics.bootstrap(pair[0] / pair[1])

    return measure


def _law(places: slice, extreme: Callable[..., Any]) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        values = results.selected(results.experiment.problem).law.values[places, -1]
        return statistics.exact(float(extreme(values)))

    return measure


RUN = "threshold and value of an independent run, one data set"
OWN = "own expectation"
PREDICTIONS = (
    Prediction(
        "50 steps, half decades, normalised descent: ends above 3",
        f"Kunstner et al. 2024, read in code; {RUN}",
        _loss("NormalisedGD", 0),
        at_least=3.0,
        published=3.63,
    ),
    Prediction(
        "50 steps, half decades, Adam: ends below 1",
        f"Kunstner et al. 2024, read in code; {RUN}",
        _loss("Adam", 0),
        at_most=1.0,
        published=0.69,
    ),
    *(
        Prediction(
            f"50 steps, half decades, {title}: ends at {value:.2f}, to 10 %",
            f"independent run, one data set; {OWN} of 10 %",
            _loss(name, 0),
            at_least=0.9 * value,
            at_most=1.1 * value,
            published=value,
        )
        for name, title, value in (
            ("SGD", "SGD", 3.37),
            ("Momentum", "momentum", 2.96),
            ("SignDescent", "sign descent", 1.87),
            ("Adam(b1=0.0)", "Adam without average", 1.49),
        )
    ),
    *(
        Prediction(
            f"50 steps, quarter decades, {title}: ends at {value:.2f}, to 10 %",
            f"independent run, three data sets; {OWN} of 10 %",
            _loss(name, 1),
            at_least=0.9 * value,
            at_most=1.1 * value,
            published=value,
        )
        for name, title, value in (("Momentum", "momentum", 2.199), ("Adam", "Adam", 0.608))
    ),
    Prediction(
        "50 steps, half decades, momentum: the rarest group stays above 4 (begins at 4.84)",
        "threshold own; value of an independent run",
        _part("Momentum", -1),
        at_least=4.0,
        published=4.80,
    ),
    Prediction(
        "50 steps, half decades, Adam: the rarest group ends below 0.1",
        "independent run",
        _part("Adam", -1),
        at_most=0.1,
        published=0.006,
    ),
    Prediction(
        "50 steps, quarter decades: momentum ends 2.5 times as high as Adam or more",
        OWN,
        _over("Momentum", "Adam", 1),
        at_least=2.5,
    ),
    Prediction(
        "200 steps, half decades: SGD ends below Adam, by a rate at which it is unstable",
        "independent run: SGD 7e-4 at a rate of 10^0.5",
        _over("SGD", "Adam", 2),
        at_most=1.0,
    ),
    Prediction(
        "one-hot companion: pi t times the loss is 1, to 2 %, for k = 1 and 10 at t = 1e5",
        "Kunstner et al. 2024, theorem from a summary; independent run",
        _law(slice(0, 2), lambda values: np.abs(values - 1).max()),
        at_most=0.02,
        published=0.009,
    ),
    Prediction(
        "one-hot companion: for k = 1000 it is still above 2 at t = 1e5",
        "independent run",
        _law(slice(3, 4), np.max),
        at_least=2.0,
        published=2.49,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule and setting."""
    del manifest
    for name in map(str, results.experiment.optimizers):
        for i, setting in enumerate(SETTINGS):
            at = found(results, name, i)
            estimate = statistics.bootstrap(at.loss.values)
            parts = np.median(at.group.transpose("seed", "part").values, axis=0)
            yield {
                "optimizer": name,
                "setting": setting,
                "loss": estimate.value,
                "loss_low": estimate.low,
                "loss_high": estimate.high,
                "learning_rate": float(at.rate),
                "at_edge": float(at.at_edge),
                **{f"group_{k}": float(value) for k, value in enumerate(parts)},
            }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Loss by group under four rules; what is left of each group; the law of time."""
    from study import figures

    figure, axes = figures.panels(2, 3, height=2.3)
    rules = [o for o in results.experiment.optimizers if "b1" not in o.changed]
    shown = [o for o in rules if type(o).__name__ != "SGD"][:4] or rules[:1]
    for panel, letter, optimizer in zip(axes.ravel(), "abcd", shown, strict=False):
        _draw_groups(panel, results, str(optimizer))
        panel.set_title(f"{letter}  {optimizer.title}")
    axes[0, 0].set_ylabel("Loss of the group")
    axes[1, 0].set_ylabel("Loss of the group")
    looks = figures.look(results.experiment.optimizers)
    panel = axes[1, 1]
    for name, look in looks.items():
        at = found(results, name, 1).group.transpose("seed", "part")
        panel.plot(at.part + 1, np.median(at, axis=0), **look)
    panel.set(xlabel="Group, frequent to rare", ylabel="Loss at the end", yscale="log")
    panel.set_title("e  All rules")
    _draw_law(axes[1, 2], results)
    figures.legend(figure, panel, columns=3)
    figures.note(
        figure, figures.medians(results.count("data_seeds"), "data sets", bands=False)
    )
    return {"figure": figure}


def _draw_groups(panel: Axes, results: Results, name: str) -> None:
    import matplotlib as mpl

    records = results.selected(results.experiment.problem)
    curve = records.curve.sel(optimizer=name).transpose("part", "stop")
    shades = mpl.colormaps["cividis"](np.linspace(0, 0.9, curve.sizes["part"]))
    for part, values in enumerate(curve.values):
        panel.plot(curve["stop"], values, color=shades[part], lw=1.2)
    panel.text(
        *(0.97, 0.98),
        "dark: frequent\nlight: rare",
        transform=panel.transAxes,
        ha="right",
        va="top",
        fontsize=6.5,
        bbox={"color": "white", "alpha": 0.8, "pad": 1},
    )
    limit = float(curve["stop"][np.isfinite(curve.values[0])].max())
    experiment: Any = results.experiment
    panel.set(xlabel="Steps", xlim=(0, min(limit, experiment.horizons[0])), ylim=(0, 6))


def _draw_law(panel: Axes, results: Results) -> None:
    from study import figures

    records = results.selected(results.experiment.problem)
    if "law" not in records:
        panel.set_axis_off()
        return
    for i, place in enumerate(records.class_place.values):
        panel.plot(
            records["time"],
            records.law.values[i],
            color="black",
            linestyle=("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))[i % 4],
            label=f"k = {place}",
        )
    panel.axhline(1, color="#b10000", lw=0.8)
    panel.set(xscale="log", yscale="log", xlabel="Steps t", ylim=(1e-2, 10))
    panel.set_ylabel(r"$\pi_k\, t\, \cdot$ loss of class k")
    panel.set_title("f  One-hot inputs: 1 / t")
    # A curve has its name where it rises, at t = 2 k.
    before = records["time"].values < 2 * records.class_place.values[:, None]
    figures.direct_labels(panel, before.mean(axis=1).tolist())


if __name__ == "__main__":
    cli.main(__spec__.name)
