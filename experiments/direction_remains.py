"""If gradients vanish or explode but the direction remains, is training only slower?

Question.   Every gradient is multiplied by c, from 10^-45 to 10^39, and rounded to the
            precision at hand. Which rules only slow down, which do not notice, and at
            which c is the direction itself lost?
Prediction. In float64 SGD with its rate divided by c does not notice c at all, nor do sign
            descent, normalised GD and Adam without epsilon; Adam with epsilon notices once
            c times the gradient falls to it. SGD at a fixed rate
            needs 1 / c times the steps, and diverges when c is large. In float32 the
            second moment of Adam without epsilon underflows long before the gradient
            does, so it fails by c = 1e-24 where sign descent still arrives; in float16
            nothing arrives at 1e-8; bfloat16 reaches as far as float32. Loss scaling by
            2^10 gains three decades.
Varied.     Scientific: c, rule, precision. Fixed: digits, a hidden layer of 16, batches of
            32, each rule's rate (the best half-decade on digits at c = 1), ten seeds.
Cost.       Four minutes on two CPU cores.

    python -m experiments.direction_remains             run, store, judge, draw
    python -m experiments.direction_remains --draw      draw stored records again
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
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import Digits, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Precision = Literal["float64", "float32", "bfloat16", "float16", "mixed", "scaled"]
PRECISIONS: dict[Precision, dict[str, Any]] = {
    "float64": {"dtype": "float64"},
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "mixed": {"gradient_dtype": "float16"},
    "scaled": {"gradient_dtype": "float16", "loss_scale": 1024.0},
}
"""Of everything; `mixed` has gradients in float16 and the rest in float32, `scaled` too."""
EXPONENTS = (*range(-45, -12, 3), *range(-12, 7), *range(9, 40, 3))


@dataclasses.dataclass(frozen=True)
class DirectionRemains(Comparison):
    """Training with all gradients multiplied by c, in six precisions."""

    precisions: tuple[Precision, ...] = get_args(Precision)
    """Of the problem; names of PRECISIONS."""
    learning_rates: tuple[float, ...] = (0.3162, 0.1, 0.001, 0.003162, 0.003162, 0.003162)
    """Of each optimizer in turn, at c = 1."""
    exponents: tuple[int, ...] = EXPONENTS
    """Of c, a power of 10."""
    steps: int = 1_000
    """The budget."""
    every: int = 10
    """Steps between evaluations."""
    target: float = 0.5
    """Validation loss to reach, in nats; a guess has 2.3."""
    seeds: int = 10
    """Starts and orders of batches."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("exponents", "precisions")
        if 0 not in self.exponents:
            self.refuse("exponents", "one of them 0")
        if len(self.learning_rates) != len(self.optimizers):
            self.refuse("learning_rates", "as many as there are optimizers")
        for name in ("steps", "every", "seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problem in each precision."""
        return tuple(map(self.at, self.precisions))

    def at(self, precision: str) -> Problem:
        """The problem in a precision; KeyError if it is not among `precisions`."""
        if precision not in self.precisions:
            raise KeyError(precision)
        return dataclasses.replace(self.problem, **PRECISIONS[precision])


DEFAULT = DirectionRemains(
    problem=Digits(width=16, depth=1, batch_size=32),
    optimizers=(
        optimizers.SGD(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Adam(),
        optimizers.Adam(eps=1e-16),
        optimizers.Adam(eps=0.0),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(depth=0, batch_size=8),
        precisions=("float64", "float16"),
        optimizers=(optimizers.SGD(),),
        learning_rates=(0.3162,),
        exponents=(-6, -1, 0, 1),
        steps=4,
        every=2,
        seeds=2,
        target=2.0,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, exponents=tuple(range(-45, 40)), steps=20_000),
}
KEPT = ("arrival", "zero", "subnormal", "unbounded", "angle")
MATCHED = "SGD, rate / c"


def run_cell(
    experiment: DirectionRemains,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One rule at every c: steps to target, and the first gradient that it is told.

    `arrival` [mode, exponent, seed]: steps, -1 for a run that stays finite and does not
    arrive, -2 for one that is not finite at the end; mode `matched` (SGD alone) has the
    rate divided by c. Of the first gradient, [exponent, seed]: shares of elements that are
    `zero`, `subnormal`, `unbounded` (not finite), and its `angle` to the one of float64.
    """
    import jax.numpy as jnp
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    rate = experiment.learning_rates[experiment.optimizers.index(optimizer)]
    modes = ("fixed", "matched") if str(optimizer) == "SGD" else ("fixed",)
    kind = jnp.dtype(problem.dtype)
    axes = (np.arange(len(modes)), experiment.exponents, np.arange(experiment.seeds))
    mode, exponent, seed = (x.ravel() for x in np.meshgrid(*axes, indexing="ij"))
    factor = 10.0**exponent
    with np.errstate(over="ignore"):
        rates = np.where(mode == 1, rate / factor, rate).astype(kind)
    with devices.precision("float64"):  # for c itself
        run = _trainer(experiment, problem, optimizer)
        numbers = (factor, rates, seed.astype(np.int32))
        begun_at = sweep.starts(problem, tuple(range(experiment.seeds)))
        losses = devices.map_runs(run, (problem.data(), begun_at), numbers)
        shape = tuple(len(axis) for axis in axes)
        times = experiment.every * np.arange(1, losses.shape[1] + 1)
        arrival = statistics.time_to_target(losses, times, experiment.target)
        missed = np.where(np.isfinite(losses[:, -1]), -1, -2)
        codes = np.where(np.isfinite(arrival), arrival, missed).astype(np.int32)
        dims = ("exponent", "seed")
        told = _first_gradient(problem, experiment.exponents, experiment.seeds)
        parts: dict[str, Any] = {name: (dims, x) for name, x in told.items()}
        parts["angle"] = (*parts["angle"], {"units": "radian"})
        half = jnp.float32(2.0**-126) * jnp.float32(0.5)
        dataset = xr.Dataset(
            {"arrival": (("mode", *dims), codes.reshape(shape)), **parts},
            {"mode": list(modes), "exponent": np.asarray(experiment.exponents, np.int32)},
            {"flushes_subnormals": int(np.asarray(half) == 0)},
        )
        return sweep.finish(dataset, problem, optimizer, begun, len(seed))


def _told(problem: Problem, params: Any, factor: Any) -> Any:
    """The problem with its gradient multiplied by one factor."""
    import jax

    from study.rescaling import RescaledGradient

    return RescaledGradient(problem, jax.tree.map(lambda _: factor, params))


def _trainer(experiment: DirectionRemains, problem: Problem, optimizer: Optimizer) -> Any:
    """(data, starts, c, rate, seed) -> validation losses [evaluation]."""
    import jax
    import jax.numpy as jnp

    from study import train

    def run(data: Any, starts: Any, factor: Any, rate: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
        told = _told(problem, params, factor)

        def advance(state: Any, t: Any) -> tuple[Any, None]:
            after, _ = train.step(told, optimizer, data, rate, key, state, t)
            return after, None

        def block(state: Any, start: Any) -> tuple[Any, Any]:
            state, _ = jax.lax.scan(advance, state, start + jnp.arange(experiment.every))
            return state, problem.evaluate(data, state.params)["validation_loss"]

        state = train.start(optimizer, rate, params, False, problem.state_dtype)
        blocks = jnp.arange(0, experiment.steps, experiment.every)
        return jax.lax.scan(block, state, blocks)[1].astype(jnp.float32)

    return run


@functools.lru_cache(maxsize=1)
def _first_gradient(
    problem: Problem, exponents: tuple[int, ...], seeds: int
) -> dict[str, np.ndarray]:
    """What a rule is told at its first step, [exponent, seed], the same for every rule."""
    import jax
    import jax.numpy as jnp

    from study import devices, sweep, trees

    exact = dataclasses.replace(
        problem, dtype="float64", gradient_dtype=None, loss_scale=1.0
    )
    tiny = float(jnp.finfo(problem.gradient_dtype or problem.dtype).tiny)

    def look(data: Any, starts: Any, factor: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
        batch = problem.batch(data, key, jnp.zeros((), jnp.int32))
        wide = lambda tree: trees.cast(tree, "float64")  # noqa: E731
        grad = wide(_told(problem, params, factor).slope(params, batch)[1])
        size = jnp.abs(jnp.concatenate(trees.flat(grad)))
        # A loss scale was divided out again: the numbers were larger when rounded.
        below = size < tiny / problem.loss_scale
        return {
            "zero": jnp.mean(size == 0),
            "subnormal": jnp.mean(below & (size > 0)),
            "unbounded": jnp.mean(~jnp.isfinite(size)),
            "angle": trees.angle(grad, exact.slope(wide(params), wide(batch))[1]),
        }

    grid = np.meshgrid(10.0 ** np.array(exponents), np.arange(seeds), indexing="ij")
    factor, seed = (axis.ravel() for axis in grid)
    shared = (problem.data(), sweep.starts(problem, tuple(range(seeds))))
    found = devices.map_runs(look, shared, (factor, seed.astype(np.int32)))
    return {name: x.reshape(len(exponents), seeds) for name, x in found.items()}


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """`arrival` [rule, exponent, seed], SGD at rate / c a rule of its own.

    What the first gradient looks like does not depend on the rule: [exponent, seed].
    """
    import xarray as xr

    names = [str(name) for name in dataset.optimizer.values]
    fixed = dataset.arrival.sel(mode="fixed").transpose("optimizer", "exponent", "seed")
    rules, codes = list(names), list(fixed.values)
    if "SGD" in names:
        matched = dataset.arrival.sel(mode="matched", optimizer="SGD")
        rules.insert(1, MATCHED)
        codes.insert(1, matched.transpose("exponent", "seed").values)
    first = {name: dataset[name].isel(optimizer=0, drop=True) for name in KEPT[1:]}
    return xr.Dataset(
        {"arrival": (("rule", "exponent", "seed"), np.stack(codes).astype(np.int32))}
        | first,
        {"rule": rules, "exponent": dataset.exponent},
        dataset.attrs,
    )


# Verdicts ---------------------------------------------------------------------------------


def _records(results: Results, precision: str) -> xr.Dataset:
    assert isinstance(results.experiment, DirectionRemains)
    return results.selected(results.experiment.at(precision))


def arrivals(results: Results, precision: str, rule: str, exponent: int) -> np.ndarray:
    """Steps to the target [seed], inf for a run that does not arrive in the budget."""
    records = _records(results, precision)
    codes = records.arrival.sel(rule=rule, exponent=exponent).values
    return np.where(codes < 0, np.inf, codes)


def _ratio(precision: str, rule: str, exponent: int) -> Callable[[Results], Estimate]:
    """Steps to target over those at c = 1, seed by seed."""

    def measure(results: Results) -> Estimate:
        plain = arrivals(results, precision, rule, 0)
        if not np.isfinite(plain).all():
            return Estimate(np.nan, np.nan, np.nan, len(plain))
        return statistics.bootstrap(arrivals(results, precision, rule, exponent) / plain)

    return measure


def _arrived(precision: str, rule: str, exponent: int) -> Callable[[Results], Estimate]:
    """Share of runs that arrive."""

    def measure(results: Results) -> Estimate:
        found = np.isfinite(arrivals(results, precision, rule, exponent))
        return Estimate(found.mean(), found.mean(), found.mean(), len(found))

    return measure


def reach(results: Results, precision: str, rule: str, sign: int) -> np.ndarray:
    """The farthest exponent [seed], down (-1) or up (1), to which every c arrives."""
    records = _records(results, precision)
    exponents = records.exponent.values
    order = np.argsort(sign * exponents)
    order = order[sign * exponents[order] >= 0]
    arrived = records.arrival.sel(rule=rule).transpose("seed", "exponent").values >= 0
    steady = np.cumprod(arrived[:, order], axis=1).sum(1)
    return np.where(steady > 0, exponents[order[np.maximum(steady, 1) - 1]], np.nan)


def _gain(results: Results) -> Estimate:
    """Decades that loss scaling adds below for SGD at rate / c."""
    plain, scaled = (reach(results, f, MATCHED, -1) for f in ("mixed", "scaled"))
    return statistics.bootstrap(plain - scaled)


FREE = (MATCHED, "NormalisedGD(eps=0.0)", "SignDescent", "Adam(eps=0.0)")


def _never(precision: str, rule: str, exponent: int) -> Prediction:
    return Prediction(
        f"{precision}, {rule}: no run arrives at c = 1e{exponent}",
        "range of the precision",
        _arrived(precision, rule, exponent),
        at_most=0,
    )


def _unmoved(precision: str, rule: str, exponent: int, reach: float) -> Prediction:
    return Prediction(
        f"{precision}, {rule}: steps at c = 1e{exponent} as at c = 1, within {reach:.0%}",
        "degree of the rule",
        _ratio(precision, rule, exponent),
        at_least=1 - reach,
        at_most=1 + reach,
    )


PREDICTIONS = (
    *(_unmoved("float64", rule, exponent, 0.05) for rule in FREE for exponent in (-45, 39)),
    Prediction(
        "float64, SGD at a fixed rate: 5 to 20 times the steps at c = 0.1",
        "gradient flow: 1 / c",
        _ratio("float64", "SGD", -1),
        at_least=5,
        at_most=20,
    ),
    *(_never("float64", "SGD", exponent) for exponent in (-3, 3)),
    _unmoved("float64", "Adam", -3, 0.2),
    Prediction(
        "float64, Adam: 5 times the steps or more, or never, at c = 1e-9",
        "epsilon 1e-8",
        _ratio("float64", "Adam", -9),
        at_least=5,
    ),
    _unmoved("float64", "Adam(eps=1e-16)", -9, 0.2),
    *(_unmoved("float32", rule, -30, 0.2) for rule in (MATCHED, "SignDescent")),
    _never("float32", "Adam(eps=0.0)", -24),
    *(_never("float32", rule, -45) for rule in (*FREE, "SGD")),
    *(_never("float32", rule, 39) for rule in (*FREE, "SGD")),
    *(_never("float16", rule, -8) for rule in (*FREE, "SGD")),
    *(_never("float16", rule, 6) for rule in (*FREE, "SGD")),
    Prediction(
        "bfloat16, sign descent: every run arrives at c = 1e-30",
        "the exponents of float32",
        _arrived("bfloat16", "SignDescent", -30),
        at_least=1,
    ),
    Prediction(
        "float16 gradients, SGD at rate / c: loss scaling by 2^10 gains 2 to 4 decades",
        "2^10 is three decades",
        _gain,
        at_least=2,
        at_most=4,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each precision and rule: reach in exponents of c, steps at c = 1."""
    del manifest
    for precision in _precisions(results):
        records = _records(results, precision)
        for rule in records.rule.values:
            low, high = (reach(results, precision, str(rule), sign) for sign in (-1, 1))
            yield {
                "precision": precision,
                "rule": rule,
                "steps_at_1": float(np.median(arrivals(results, precision, str(rule), 0))),
                "least_exponent": float(np.median(low)),
                "largest_exponent": float(np.median(high)),
                "flushes_subnormals": int(records.attrs.get("flushes_subnormals", -1)),
            }


# Figures ----------------------------------------------------------------------------------

TITLES = {
    **{name: name for name in ("float64", "float32", "bfloat16", "float16")},
    "mixed": "gradients in float16",
    "scaled": r"the same, loss $\times\,2^{10}$",
}
NEVER, LOST = "#d9d9d9", "#3b3b3b"


def _precisions(results: Results) -> tuple[str, ...]:
    assert isinstance(results.experiment, DirectionRemains)
    return results.experiment.precisions


def draw(results: Results) -> dict[str, Figure]:
    """Who arrives at which c; and what is left of the gradient."""
    return {"figure": _draw_arrivals(results), "figure-gradient": _draw_gradient(results)}


def _draw_arrivals(results: Results) -> Figure:
    from matplotlib.patches import Patch

    from study import figures

    first = results.selected(results.experiment.problems[0])
    rules = [str(rule) for rule in first.rule.values]
    titles = {str(o): o.title for o in results.experiment.optimizers}
    figure, axes = figures.panels(2, 3, height=0.9 + 0.17 * len(rules), sharey=True)
    image: Any = None
    for place, precision in enumerate(_precisions(results)):
        panel = axes[divmod(place, 3)]
        image = _draw_strips(panel, results, precision, rules)
        panel.set_title(f"{'abcdef'[place]}  {TITLES[precision]}")
        if place >= 3:
            panel.set_xlabel("Gradients multiplied by")
    for row in axes:
        row[0].set_yticks(np.arange(len(rules)) + 0.5, [titles.get(r, r) for r in rules])
        row[0].set_ylim(len(rules), 0)
    bar = figure.colorbar(image, ax=axes, label="Steps to target", pad=0.01, aspect=30)
    bar.minorticks_off()
    handles = [
        Patch(fc=NEVER, label="not within the budget"),
        Patch(fc=LOST, label="not finite"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


def _draw_strips(axes: Axes, results: Results, precision: str, rules: list[str]) -> Any:
    from matplotlib.colors import ListedColormap, LogNorm

    records = _records(results, precision)
    exponents = records.exponent.values.astype(float)
    middles = (exponents[1:] + exponents[:-1]) / 2
    edges = np.concatenate([[exponents[0] - 0.5], middles, [exponents[-1] + 0.5]])
    codes = records.arrival.sel(rule=rules).transpose("rule", "exponent", "seed").values
    steps = np.median(np.where(codes < 0, np.inf, codes), -1)
    lost = np.median(codes == -2, -1) > 0.5
    rows = np.arange(len(rules) + 1)
    state = np.where(lost, 1.0, 0.0)
    axes.pcolormesh(edges, rows, state, cmap=ListedColormap([NEVER, LOST]), vmin=0, vmax=1)
    shown = np.where(np.isfinite(steps), steps, np.nan)
    experiment: Any = results.experiment
    norm = LogNorm(experiment.every, experiment.steps)
    image = axes.pcolormesh(edges, rows, shown, cmap="viridis", norm=norm)
    for row in rows:
        axes.axhline(float(row), color="white", lw=2)
    axes.axvline(0, color="white", lw=0.8)
    ticks = np.array([-40, -20, 0, 20])
    axes.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    return image


def _draw_gradient(results: Results) -> Figure:
    """Shares of elements lost below and above, and the angle of what is left."""
    from study import figures

    figure, axes = figures.panels(1, 3, height=2.6)
    colours = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
    for precision, colour, dash in zip(
        _precisions(results), colours, figures.DASHES * 2, strict=False
    ):
        records = _records(results, precision)
        lost = {
            "zero": records.zero,
            "unbounded": records.unbounded,
            "angle": np.degrees(records.angle),
        }
        for panel, values in zip(axes[0], lost.values(), strict=True):
            panel.plot(
                records.exponent,
                values.transpose("seed", "exponent").median("seed", skipna=False),
                color=colour,
                ls=dash,
                label=TITLES[precision],
            )
    ticks = np.array([-40, -20, 0, 20])
    for panel, letter, title in zip(
        axes[0],
        "abc",
        ("share of elements 0", "share not finite", "degrees from the direction"),
        strict=True,
    ):
        panel.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
        panel.set(xlabel="Gradients multiplied by", title=f"{letter}  {title}")
    axes[0, 2].set(yscale="symlog", ylim=(0, 120))
    axes[0, 2].set_yscale("symlog", linthresh=1e-4)
    figures.legend(figure, axes[0, 0], columns=3)
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


if __name__ == "__main__":
    cli.main(__spec__.name)
