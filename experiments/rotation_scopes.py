"""Which axis does Adam need: of a classifier's matrix, rows, columns, or all elements?

Question.   Softmax regression with frequent and rare classes, where Adam is far ahead of
            momentum. Let the rule see the matrix in another basis, turned along classes,
            along inputs, along both, or as a whole: where does its lead come from?
Prediction. Along classes Adam loses its lead: its loss is 3 times as high or more, above
            momentum's, and rare classes stay behind. Along inputs, which all have the same
            positive mean, it ends lower, because the mean gets an axis of its own. Momentum
            does not notice, to 1e-3. For transformers the loss rises from output-wise (here
            along inputs: within an output; no harm) to input-wise (along classes) to
            layer-wise (along both) to global; the same is predicted here.
Varied.     Scientific: basis, rule. Nuisance: Adam's learning rate, by quarter decades, the
            best of each basis by the loss at the end, as in the source of the problem, for
            only the basis is random; momentum's likewise in the plain basis, one
            rate in the others. Fixed: seven groups, 50 steps of all samples, float32.
Cost.       Two minutes on two CPU cores.

    python -m experiments.rotation_scopes             run, store, judge, draw
    python -m experiments.rotation_scopes --draw      draw stored records again

Scopes: Zhang, Maes et al. (2025), arXiv:2410.19964, read at the source, names recalled: by
the neuron that the turned weights share. The problem: Kunstner et al. (2024),
arXiv:2402.19449, from their code. `global` is emulated as in theirs: all elements permuted,
then turned in blocks, each mixed with 127 others from anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import HeavyTailed
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Scope = Literal[
    "none", "input", "class", "both", "global", "mean aside", "mean kept", "both, mean kept"
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""`mean aside` reflects inputs so that their mean is one axis, and no more; `mean kept`
turns inputs at random around their mean, which stays spread over all."""
FIXED = ("none", "mean aside")
"""Bases without chance: one run for all seeds."""


@dataclasses.dataclass(frozen=True)
class RotationScopes(Comparison):
    """Each rule in each basis."""

    scopes: tuple[Scope, ...] = SCOPES
    """What is turned; of SCOPES, with `none`."""
    learning_rates: tuple[float, ...] = log_grid(-4, -1, per_decade=4)[2:]
    """The grid, of Adam in every basis, of momentum in the plain one."""
    stable: float = 0.05623
    """On the grid: momentum's rate in every basis."""
    block: int = 128
    """Elements mixed by the global rotation; divides their number."""
    steps: int = 50
    """Updates."""
    seeds: int = 5
    """Of random bases."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("scopes", "learning_rates")
        problem: Any = self.problem
        if "none" not in self.scopes:
            self.refuse("scopes", "with none")
        if self.stable not in self.learning_rates:
            self.refuse("stable", "one of the learning rates")
        if self.block < 1 or problem.inputs * problem.classes % self.block:
            self.refuse("block", "a divisor of the number of elements")
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


DEFAULT = RotationScopes(
    problem=HeavyTailed(), optimizers=(optimizers.Momentum(), optimizers.Adam())
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=2),
        optimizers=(optimizers.Adam(),),
        scopes=("none", "class"),
        learning_rates=(0.01, 0.1),
        stable=0.01,
        block=4,
        steps=3,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, learning_rates=log_grid(-5, 0, 8), seeds=20),
}
KEPT = ("loss", "group_loss", "rate", "at_edge", "stable_loss", "finite")


@functools.cache
def bases(experiment: RotationScopes) -> dict[str, np.ndarray]:
    """Orthogonal matrices [seed, n, n] by name, and `order` [seed, element].

    `input`, `class` and `block` are Haar; `aside` reflects the inputs' mean direction onto
    the first axis; `kept` is Haar on what is orthogonal to it.
    """
    from scipy.stats import ortho_group

    problem: Any = experiment.problem
    n, classes = problem.inputs, problem.classes
    found: dict[str, list[np.ndarray]] = {}
    mirror = np.full(n, -1 / np.sqrt(n))
    mirror[0] += 1
    aside = np.eye(n) - 2 * np.outer(mirror, mirror) / (mirror @ mirror)
    for seed in range(experiment.seeds):
        random = np.random.default_rng(seed)
        haar = lambda size: ortho_group.rvs(size, random_state=random)  # noqa: E731, B023
        around = np.eye(n)
        around[1:, 1:] = haar(n - 1)
        drawn = {
            "input": haar(n),
            "class": haar(classes),
            "block": haar(experiment.block),
            "order": random.permutation(n * classes).astype(np.int32),
            "kept": aside @ around @ aside,
            "aside": aside,
        }
        for name, matrix in drawn.items():
            found.setdefault(name, []).append(matrix)
    return {
        name: np.stack(x).astype(np.int32 if name == "order" else np.dtype(problem.dtype))
        for name, x in found.items()
    }


def basis_of(scope: str, matrices: dict[str, Any]) -> Any:
    """The `transforms.Basis` of a scope from the matrices of one seed; None for `none`."""
    from study import transforms

    if scope == "none":
        return None
    if scope == "global":
        return transforms.in_blocks(matrices["block"], matrices["order"])
    along = {
        "input": {0: "input"},
        "class": {1: "class"},
        "both": {0: "input", 1: "class"},
        "mean aside": {0: "aside"},
        "mean kept": {0: "kept"},
        "both, mean kept": {0: "kept", 1: "class"},
    }[scope]
    return transforms.along_axes({axis: matrices[name] for axis, name in along.items()})


def run_cell(
    experiment: RotationScopes,
    problem: HeavyTailed,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One rule in all bases.

    Over [scope, learning_rate, seed]: `loss` after the last step and `group_loss` [...,
    group], rarest last; `swept` [scope] is 1 where the whole grid is run. A rule that turns
    with the basis is swept in the plain one; elsewhere it has only the rate `stable`.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    grid = np.asarray(experiment.learning_rates, problem.dtype)
    shape = (len(experiment.scopes), len(grid), experiment.seeds)
    losses = np.full((*shape, problem.groups), np.nan)
    place = experiment.learning_rates.index(experiment.stable)
    turns_along = optimizer.unscaled() == optimizer
    swept = [int(scope == "none" or not turns_along) for scope in experiment.scopes]
    with devices.precision(problem.dtype):
        data, every = problem.data(), bases(experiment)
        for i, scope in enumerate(experiment.scopes):
            at = [place] if swept[i] == 0 else range(len(grid))
            matrices = {k: x[:1] if scope in FIXED else x for k, x in every.items()}
            run = _trainer(experiment, problem, optimizer, scope)
            losses[i, at] = devices.map_runs(run, (data, matrices), [grid[list(at)]])
            progress((i + 1) / len(experiment.scopes))
    dims = ("scope", "learning_rate", "seed")
    dataset = xr.Dataset(
        {
            "loss": (dims, losses.mean(-1)),  # all groups are as large
            "group_loss": ((*dims, "group"), losses),
            "swept": ("scope", np.asarray(swept, np.int32)),
        },
        {
            "scope": list(experiment.scopes),
            "learning_rate": list(experiment.learning_rates),
        },
        {"stable": place},
    )
    return sweep.finish(dataset, problem, optimizer, begun, losses[..., 0].size)


def _trainer(
    experiment: RotationScopes, problem: HeavyTailed, optimizer: Optimizer, scope: str
) -> Any:
    """(data, matrices [seed, ...], rate) -> losses at the end [seed, group]."""
    import jax

    from study import trajectories, transforms

    def run(data: Any, matrices: Any, rate: Any) -> Any:
        def end(one: Any) -> Any:
            rule: Any = optimizer
            basis = basis_of(scope, one)
            if basis is not None:
                around = lambda rule: transforms.rotate(rule, basis)  # noqa: E731
                rule = trajectories.Treated(optimizer, around)
            state, _ = trajectories.follow(
                problem,
                rule,
                lambda t: rate,
                (experiment.steps,),
                lambda state, t: (),
                params=problem.init(jax.random.key(0)),
                data=data,
            )
            losses = problem.losses(state.params, data)
            return losses.reshape(problem.groups, -1).mean(1)

        return jax.lax.map(end, matrices)

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each run at its best rate.

    Over [optimizer, scope, seed]: `loss`, the smallest on the grid, NaN where that was not
    swept, `rate`, `at_edge`, `group_loss` [..., group] there, and `stable_loss` at the rate
    that every basis has; `finite` [optimizer, scope], the share of runs that end finite.
    """
    order = ("optimizer", "scope", "seed")
    raw = dataset.loss.transpose(*order, "learning_rate").values
    groups = dataset.group_loss.transpose(*order, "learning_rate", "group").values
    swept = dataset.swept.transpose("optimizer", "scope").values == 1
    rates, stable = dataset.learning_rate.values, int(dataset.attrs["stable"])
    places = statistics.worst(raw).argmin(-1)
    at = np.take_along_axis(groups, places[..., None, None], -2)[..., 0, :]
    loss = np.where(swept[..., None], statistics.worst(raw).min(-1), np.nan)
    edges = np.isin(places, (0, len(rates) - 1)) & swept[..., None]
    run = np.where(swept, raw[0, 0].size, raw.shape[2])
    return dataset.drop_vars(list(dataset.data_vars)).assign(
        loss=(order, loss),
        group_loss=((*order, "group"), at),
        rate=(order, rates[places]),
        at_edge=(order, edges.astype(np.int32)),
        stable_loss=(order, raw[..., stable]),
        finite=(order[:2], np.isfinite(raw).sum((2, 3)) / run),
    )


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, name: str, scope: str, rule: str = "Adam") -> np.ndarray:
    """One of KEPT [seed, ...] of a rule in a basis."""
    records = results.selected(results.experiment.problem)
    return records[name].sel(optimizer=rule, scope=scope).values


def _over_bases(values: np.ndarray) -> Estimate:
    """The median and its interval; without one where no basis is random."""
    same = np.ptp(values) == 0
    return statistics.exact(values[0]) if same else statistics.bootstrap(values)


def _loss(scope: str, rule: str = "Adam") -> Callable[[Results], Estimate]:
    return lambda results: _over_bases(found(results, "loss", scope, rule))


def _over(scope: str, other: str, rule: str = "Adam") -> Callable[[Results], Estimate]:
    """Adam's loss in a basis over a rule's in another, by seed."""

    def measure(results: Results) -> Estimate:
        below = found(results, "loss", other, rule)
        return _over_bases(found(results, "loss", scope) / below)

    return measure


def _rare(scope: str, rule: str = "Adam") -> Callable[[Results], Estimate]:
    """The loss of the rarest group over that of the most frequent one."""

    def measure(results: Results) -> Estimate:
        groups = found(results, "group_loss", scope, rule)
        return _over_bases(groups[:, -1] / groups[:, 0])

    return measure


def _unmoved(results: Results) -> Estimate:
    """The largest |loss / loss in the plain basis - 1| of momentum, at one rate."""
    experiment: Any = results.experiment
    scopes = experiment.scopes
    losses = np.stack([found(results, "stable_loss", x, "Momentum") for x in scopes])
    away = losses / losses[scopes.index("none")] - 1
    return statistics.exact(np.abs(away).max(), experiment.seeds)


def _farthest(value: float) -> Callable[[Results], Estimate]:
    """Momentum's loss at one rate, of all bases and seeds the farthest from a value."""

    def measure(results: Results) -> Estimate:
        experiment: Any = results.experiment
        bases = [found(results, "stable_loss", x, "Momentum") for x in experiment.scopes]
        losses = np.concatenate(bases)
        away = np.abs(losses - value)
        return statistics.exact(losses[away.argmax()], experiment.seeds)

    return measure


MEASURED = "independent calibration run"
ORDER = "Zhang, Maes et al. 2025, of transformers, read at the source"
EXPECTED = "own expectation, after one measured basis"
ADDED = "; added after the first run, for completeness"
LOSSES = (
    ("none", "Momentum", 2.199, 1.05),
    ("none", "Adam", 0.608, 1.05),
    ("class", "Adam", 2.85, 1.05),
    ("input", "Adam", 0.158, 1.5),
    ("both", "Adam", 0.52, 2.0),
)
"""Of MEASURED, the median of three bases, and the factor within which it is expected."""


def _predictions() -> Iterator[Prediction]:
    up: dict[str, float] = {"at_least": 1.0}
    words = "along classes Adam ends 3 times as high as in the plain basis or more"
    yield Prediction(words, MEASURED, _over("class", "none"), 3, published=2.85 / 0.608)
    words = "along classes Adam ends above momentum's best, ratio 1 or more"
    measure = _over("class", "none", "Momentum")
    yield Prediction(words, MEASURED, measure, **up, published=2.85 / 2.199)
    words = "along inputs Adam ends lower than in the plain basis, ratio 1 or less"
    measure = _over("input", "none")
    yield Prediction(words, MEASURED, measure, at_most=1, published=0.158 / 0.608)
    words = "momentum at one rate: the same loss in every basis, to 1e-3"
    yield Prediction(words, ORDER + ", Prop. 1", _unmoved, at_most=1e-3)
    for scope, rule, value, factor in LOSSES:
        words = f"{rule}, {scope}: loss {value:g}, to a factor of {factor:g}"
        limits = value / factor, value * factor, value
        yield Prediction(words, MEASURED, _loss(scope, rule), *limits)
    words = "output-wise (input) does Adam no harm: at most 1.1 times the plain loss"
    yield Prediction(words, ORDER, _over("input", "none"), at_most=1.1)
    for more, less, names in (
        ("class", "input", "input-wise (class) ends above output-wise (input)"),
        ("both", "class", "layer-wise (both) ends above input-wise (class)"),
        ("global", "both", "global ends above layer-wise (both)"),
    ):
        yield Prediction(f"{names}, ratio 1 or more", ORDER, _over(more, less), **up)
    words = "plain Adam: the rarest group ends below the most frequent, ratio 1 or less"
    yield Prediction(words, MEASURED, _rare("none"), at_most=1, published=0.006 / 1.1)
    words = "momentum: the rarest group ends 3 times as high as the most frequent or more"
    yield Prediction(words, MEASURED, _rare("none", "Momentum"), 3, published=4.8 / 1.16)
    words = (
        "Adam along classes: the rarest group ends 3 times as high or more, as momentum's"
    )
    yield Prediction(words, "own expectation", _rare("class"), 3)
    for scope, other, low, high, said in (
        (
            "mean aside",
            "none",
            0,
            0.5,
            "an axis for the mean alone halves the loss or more",
        ),
        ("mean kept", "none", 0.8, 1.25, "inputs turned around their mean change little"),
        ("both, mean kept", "class", 0.9, np.inf, "both around the mean do not help"),
    ):
        words = f"{said}: {low:g} to {high:g} times that of {other}"
        yield Prediction(words, EXPECTED, _over(scope, other), low, high)
    words = "momentum at one rate: loss 2.199 in every basis, to 1 %; the farthest"
    limits = 0.99 * 2.199, 1.01 * 2.199, 2.199
    yield Prediction(words, MEASURED + ADDED, _farthest(2.199), *limits)


PREDICTIONS = tuple(_predictions())


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule and basis."""
    del manifest
    records = results.selected(results.experiment.problem)
    for rule in map(str, results.experiment.optimizers):
        for scope in map(str, records.scope.values):
            at = records.sel(optimizer=rule, scope=scope)
            loss = statistics.bootstrap(at.loss.values)
            groups = at.group_loss.median("seed").values
            yield {
                "optimizer": rule,
                "scope": scope,
                "loss": loss.value,
                "loss_low": loss.low,
                "loss_high": loss.high,
                "learning_rate": float(at.rate.median()),
                "share_at_edge": float(at.at_edge.mean()),
                "loss_at_the_stable_rate": float(at.stable_loss.median()),
                "finite_share_of_grid": float(at.finite),
                "loss_of_the_most_frequent": float(groups[0]),
                "loss_of_the_rarest": float(groups[-1]),
            }


# Figure -----------------------------------------------------------------------------------

LOOKS: dict[str, tuple[str, str, str]] = {
    "none": ("plain", "#000000", "o"),
    "input": ("inputs", "#0072b2", "s"),
    "mean aside": ("inputs: mean aside, no more", "#56b4e9", "<"),
    "mean kept": ("inputs: all but the mean", "#56b4e9", ">"),
    "class": ("classes", "#d55e00", "D"),
    "both": ("both", "#cc79a7", "v"),
    "both, mean kept": ("both: all but the mean", "#cc79a7", "^"),
    "global": ("all elements", "#666666", "P"),
}
"""Name, colour and marker, from top to bottom."""


def draw(results: Results) -> dict[str, Figure]:
    """Losses by basis; losses by frequency of the class."""
    from study import figures

    figure, (axes,) = figures.panels(1, 2, height=3.0, width_ratios=(1.25, 1))
    records = results.selected(results.experiment.problem)
    shown = [scope for scope in LOOKS if scope in records.scope.values]
    adam = records.sel(optimizer="Adam")
    for row, scope in enumerate(shown):
        _, colour, marker = LOOKS[scope]
        losses = adam.loss.sel(scope=scope).values
        axes[0].plot(losses, np.full(len(losses), row), marker, color=colour, ms=4.5)
        if adam.at_edge.sel(scope=scope).all():
            axes[0].text(losses[0], row - 0.25, "rate at the end of the grid", size=6.5)
    axes[0].set_yticks(range(len(shown)), [LOOKS[scope][0] for scope in shown])
    axes[0].set(xscale="log", ylim=(len(shown) - 0.5, -0.9), xlabel="Loss after 50 steps")
    axes[0].set_title("a  Adam, turned along")
    curves = [(adam, scope, scope) for scope in ("none", "input", "class", "global")]
    if "Momentum" in records.optimizer.values:
        momentum = records.sel(optimizer="Momentum")
        best = float(momentum.loss.sel(scope="none").median())
        axes[0].axvline(best, color="#626289", ls="--", lw=1)
        axes[0].text(best, -0.6, "momentum's best ", color="#626289", ha="right", size=7)
        curves.append((momentum, "none", "momentum"))
    for at, scope, name in curves:
        if scope in shown:
            _draw_groups(axes[1], at.group_loss.sel(scope=scope), name)
    axes[1].set(xlabel="Group of classes, frequent to rare", ylabel="Loss")
    axes[1].set(yscale="log", title="b  Who is left behind")
    axes[1].set_xticks(np.arange(records.sizes["group"]) + 1)
    axes[1].legend()
    figures.note(figure, "a: each seed. b: " + figures.medians(results.count()))
    return {"figure": figure}


def _draw_groups(axes: Axes, losses: xr.DataArray, name: str) -> None:
    label, colour, marker = LOOKS.get(name, ("momentum", "#626289", "X"))
    values = losses.transpose("seed", "group").values
    groups = np.arange(values.shape[1]) + 1
    dash = "--" if name == "momentum" else "-"
    look: Any = {"color": colour, "marker": marker, "ls": dash, "label": label}
    axes.plot(groups, np.median(values, 0), **look)
    low, high = statistics.band(values)
    axes.fill_between(groups, low, high, color=colour, alpha=0.15, lw=0)


if __name__ == "__main__":
    cli.main(__spec__.name)
