"""If the direction is right, can the step be any size?

Question.   A weight of 0.833 with its optimum at 0.437 and a gradient of 1: does it arrive
            with steps of 0.01, and is it only slower with steps of 0.0001? What changes
            with the loss around the optimum, and with the precision of the numbers?
Prediction. At 0.01 the weight reads 0.823, 0.813, ..., 0.443, 0.433, 0.423: the optimum is
            skipped at step 40, and from then on a constant gradient leads away. At 0.0001
            it comes nearest at step 3960, in float64; bfloat16 and float16 never move,
            for the step is below half their spacing. |w - w*| and sign descent end in a
            two-cycle with errors 0.004 and 0.006, whose sum is the step. Quadratic and
            Huber, whose gradients shrink, arrive; the quadratic up to the stability edge
            2 / curvature and not beyond.
Varied.     Scientific: learning rate, loss, precision, rule. Fixed: the start; no noise.
Cost.       Twenty seconds on two CPU cores, nearly all of it compilation.

    python -m experiments.worked_example             run, store, judge, draw
    python -m experiments.worked_example --draw      draw stored records again
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import OneWeight, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class WorkedExample(Comparison):
    """One weight, its path at every learning rate."""

    single: OneWeight = OneWeight(dtype="float32")
    """The constant gradient in float32."""
    brain: OneWeight = OneWeight(dtype="bfloat16")
    """The constant gradient in bfloat16."""
    half: OneWeight = OneWeight(dtype="float16")
    """The constant gradient in float16."""
    absolute: OneWeight = OneWeight(shape="absolute", dtype="float64")
    """A gradient of 1 on both sides of the optimum."""
    quadratic: OneWeight = OneWeight(shape="quadratic", dtype="float64")
    """A gradient that shrinks with the distance."""
    huber: OneWeight = OneWeight(shape="huber", dtype="float64")
    """A gradient that shrinks within 0.1 of the optimum."""
    learning_rates: tuple[float, ...] = (0.0001, 0.01, 0.5, 1.0, 1.9, 2.0, 2.1)
    """Two steps of the example, and rates around the quadratic's edge 2."""
    steps: int = 5_000
    """Updates."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates")
        if self.steps < 1:
            self.refuse("steps", "at least 1")


DEFAULT = WorkedExample(
    problem=OneWeight(dtype="float64"),
    optimizers=(optimizers.SGD(), optimizers.SignDescent()),
)
PRESETS = {
    "smoke": dataclasses.replace(DEFAULT, steps=60),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, steps=50_000),
}
KEPT = ("weight",)


def run_cell(
    experiment: WorkedExample,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """The weight [learning_rate, step], before the first update and after each."""
    import jax
    import jax.numpy as jnp
    import xarray as xr

    from study import devices, sweep, train

    begun = time.perf_counter()
    rates = experiment.learning_rates
    with devices.precision(problem.dtype):
        keys = train.keys(jnp.asarray(0, jnp.int32))

        def path(rate: Any) -> Any:
            state = train.start(optimizer, rate, problem.init(keys.init), shadowed=False)

            def advance(state: Any, t: Any) -> tuple[Any, Any]:
                after, step = train.step(problem, optimizer, {}, rate, keys.data, state, t)
                return after, step.params["w"]

            last, weights = jax.lax.scan(advance, state, jnp.arange(experiment.steps))
            return jnp.append(weights, last.params["w"])

        found = jax.jit(jax.vmap(path))(jnp.asarray(rates, problem.dtype))
        # Every number of these precisions is one of float64 too.
        weights = np.asarray(found.astype(jnp.promote_types(found.dtype, jnp.float32)))
        dataset = xr.Dataset(
            {
                "weight": (
                    ("learning_rate", "step"),
                    weights.astype(np.float64),
                    {"exact": 1},
                )
            },
            {
                "learning_rate": list(rates),
                "step": np.arange(experiment.steps + 1, dtype=np.int32),
            },
        )
        return sweep.finish(dataset, problem, optimizer, begun, len(rates))


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """The first steps, those around the nearest approach, and every fiftieth."""
    step = dataset.step.values
    near = np.abs(step - 3960) <= 10
    return dataset.isel(step=np.flatnonzero((step <= 60) | near | (step % 50 == 0)))


# Verdicts ---------------------------------------------------------------------------------


def path(results: Results, field: str, rate: float, rule: str = "SGD") -> xr.DataArray:
    """The weight [step] on the problem of this field."""
    records = results.selected(getattr(results.experiment, field))
    return records.weight.sel(optimizer=rule, learning_rate=rate)


def _distance(results: Results, field: str, rate: float, rule: str = "SGD") -> xr.DataArray:
    return np.abs(path(results, field, rate, rule) - results.experiment.problem.optimum)  # type: ignore


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


PRINTED = {0: 0.833, 1: 0.823, 2: 0.813, 39: 0.443, 40: 0.433, 41: 0.423}


def _decimals(results: Results) -> Estimate:
    """The largest difference from the decimals that the example prints."""
    weights = path(results, "problem", 0.01)
    return _exact(max(abs(float(weights.sel(step=t)) - w) for t, w in PRINTED.items()))


def _nearest(field: str, rate: float) -> Callable[[Results], Estimate]:
    """The step of the nearest approach."""

    def measure(results: Results) -> Estimate:
        distance = _distance(results, field, rate)
        return _exact(float(distance.step[int(distance.values.argmin())]))

    return measure


def _moved(field: str) -> Callable[[Results], Estimate]:
    """How far the weight ever is from its start, at 0.0001."""

    def measure(results: Results) -> Estimate:
        weights = path(results, field, 0.0001)
        return _exact(float(np.abs(weights - weights.isel(step=0)).max()))

    return measure


def _cycle(field: str, rule: str, farther: bool) -> Callable[[Results], Estimate]:
    """The farther or nearer error of the last two steps, at 0.01."""

    def measure(results: Results) -> Estimate:
        distance = _distance(results, field, 0.01, rule)
        last = distance.sel(step=slice(41, 60)).values[-2:]
        return _exact(float(last.max() if farther else last.min()))

    return measure


def _end(field: str, rate: float) -> Callable[[Results], Estimate]:
    return lambda results: _exact(float(_distance(results, field, rate).isel(step=-1)))


def _prediction(
    statement: str, measure: Callable[[Results], Estimate], low: float, high: float
) -> Prediction:
    return Prediction(statement, "arithmetic", measure, at_least=low, at_most=high)


PREDICTIONS = (
    _prediction(
        "step 0.01: 0.833, 0.823, 0.813, ..., 0.443, 0.433, 0.423, to every digit printed",
        _decimals,
        0,
        1e-12,
    ),
    _prediction("step 0.01: nearest after 40 steps", _nearest("problem", 0.01), 40, 40),
    _prediction(
        "step 0.0001, float64: nearest after 3960 steps",
        _nearest("problem", 1e-4),
        3960,
        3960,
    ),
    _prediction(
        "step 0.0001, float32: nearest after 3950 to 3970 steps",
        _nearest("single", 1e-4),
        3950,
        3970,
    ),
    _prediction("step 0.0001, bfloat16: never moves", _moved("brain"), 0, 0),
    _prediction("step 0.0001, float16: never moves", _moved("half"), 0, 0),
    *(
        _prediction(
            f"{name}: a two-cycle, {'farther' if farther else 'nearer'} error {error}",
            _cycle(field, rule, farther),
            error - 1e-9,
            error + 1e-9,
        )
        for name, field, rule in (
            ("|w - w*|, SGD at 0.01", "absolute", "SGD"),
            ("quadratic, sign descent at 0.01", "quadratic", "SignDescent"),
        )
        for farther, error in ((True, 0.006), (False, 0.004))
    ),
    _prediction("Huber, SGD at 0.01: arrives to 1e-12", _end("huber", 0.01), 0, 1e-12),
    _prediction(
        "quadratic, SGD at 1.9 / curvature: arrives to 1e-12",
        _end("quadratic", 1.9),
        0,
        1e-12,
    ),
    _prediction(
        "quadratic, SGD at 2 / curvature: stays at the first distance, to 1e-9",
        _end("quadratic", 2.0),
        0.396 - 1e-9,
        0.396 + 1e-9,
    ),
    _prediction(
        "quadratic, SGD at 2.1 / curvature: more than 1e6 away",
        _end("quadratic", 2.1),
        1e6,
        np.inf,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each problem, optimizer and learning rate."""
    del manifest
    for problem in results.experiment.problems:
        records = results.selected(problem)
        for optimizer in records.optimizer.values:
            for rate in records.learning_rate.values:
                at = records.weight.sel(optimizer=optimizer, learning_rate=rate)
                distance = np.abs(at - problem.optimum)  # type: ignore[attr-defined]
                yield {
                    "problem": str(problem),
                    "optimizer": optimizer,
                    "learning_rate": float(rate),
                    "nearest": float(distance.min()),
                    "nearest_step": int(distance.step[int(distance.values.argmin())]),
                    "end": float(distance.isel(step=-1)),
                }


# Figure -----------------------------------------------------------------------------------

PRECISIONS = {
    "problem": ("float64", "#000000", "-"),
    "single": ("float32", "#0072b2", (0, (4, 2))),
    "brain": ("bfloat16", "#d55e00", "-"),
    "half": ("float16", "#009e73", (0, (4, 3))),
}
LOSSES = {
    "problem": ("constant gradient", "#000000", "-"),
    "absolute": ("$|w - w^*|$", "#d55e00", (0, (4, 2))),
    "huber": ("Huber", "#009e73", "-"),
    "quadratic": ("quadratic", "#0072b2", "-"),
}


def draw(results: Results) -> dict[str, Figure]:
    """The example, its precision, the loss around the optimum, the stability edge."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.6)
    (skip, precise), (losses, edge) = axes
    optimum = results.experiment.problem.optimum  # type: ignore[attr-defined]

    first = path(results, "problem", 0.01).sel(step=slice(34, 46))
    skip.plot(first.step, first, "o-", ms=3, color="black")
    skip.axhline(optimum, color="#b10000", lw=1)
    skip.text(34, optimum, "optimum 0.437", color="#b10000", va="bottom")
    for t in (39, 40, 41):
        if t in first.step:
            value = float(first.sel(step=t))
            skip.annotate(f"{value:.3f}", (t, value), (t + 0.4, value + 0.004), fontsize=7)
    skip.set(xlabel="Step", ylabel="Weight", xticks=range(34, 47, 2))
    skip.set_title("a  Steps of 0.01 skip the optimum")

    for field, (label, colour, dashes) in PRECISIONS.items():
        weights = path(results, field, 0.0001)
        precise.plot(weights.step, weights, color=colour, ls=dashes, label=label)
    precise.axhline(optimum, color="#b10000", lw=1)
    precise.set(xlabel="Step", ylabel="Weight")
    precise.set_title("b  Steps of 0.0001: half never moves")
    precise.legend()

    for field, (label, colour, dashes) in LOSSES.items():
        distance = _distance(results, field, 0.01).sel(step=slice(0, 2_000))
        losses.plot(distance.step, distance, color=colour, ls=dashes, label=label)
    losses.set(xlabel="Step", ylabel="$|w - w^*|$", yscale="log", ylim=(1e-6, 1e4))
    losses.set_title("c  Steps of 0.01: who arrives")
    losses.legend(ncols=2, loc="upper left")

    colours = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00")
    rates = [r for r in results.experiment.learning_rates if r > 0.1]  # type: ignore
    for rate, colour in zip(rates, colours, strict=False):
        distance = _distance(results, "quadratic", rate).sel(step=slice(0, 60))
        shown = np.maximum(distance, 1e-17)
        edge.plot(distance.step, shown, color=colour, label=f"{rate:g} / curvature")
    edge.set(xlabel="Step", ylabel="$|w - w^*|$", yscale="log", ylim=(1e-10, 1e7))
    edge.set_title("d  Quadratic: the edge is 2 / curvature")
    edge.legend(ncols=2, loc="upper left")
    figures.note(figure, "One run of each setting; nothing is random.")
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
