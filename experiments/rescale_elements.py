"""What if each element of the gradient came at another scale?

Question.   Multiply the elements of every gradient by fixed log-normal factors of spread
            sigma: how far does each optimizer's update turn, and what does training lose
            or gain, each optimizer at its best learning rate?
Prediction. SGD's update turns exactly as the gradient does. Signs and element-wise rules
            do not turn at all (Adam by less than a degree at sigma = 4), Adagrad as Optax
            starts it by more than 10 degrees at sigma = 2. Leaf-wise rules turn like SGD
            under factors per element and not under factors per leaf. In training SGD
            loses: at sigma = 4 its objective on the quadratic is at least ten times that
            at 0 and its test loss on digits at least 0.5 nats higher, while Adam's stay
            within a factor 1.5 and 0.02 nats, in any basis, for it never sees the factors.
Varied.     Scientific: optimizer, sigma, kind of factors (one an element; tied to the
            element's own gradient size, steep directions made steeper; one a leaf).
            Nuisance: learning rate, selected for each optimizer, kind, sigma and draw of
            the factors on a seed apart from the two reported; three draws. Fixed: start
            and batches at equal seed.
Cost.       Five minutes on two CPU cores, half of it compilation.

    python -m experiments.rescale_elements             run, store, judge, draw
    python -m experiments.rescale_elements --draw      draw stored records again
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import OPTIMIZERS, Optimizer
from study.problems import Digits, NoisyQuadratic, Problem, RandomLayer
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class RescaleElements(Comparison):
    """Open loop on `problem` for every optimizer; training on the others for some."""

    digits: Digits = Digits()
    """Trained."""
    quadratic: NoisyQuadratic = NoisyQuadratic()
    """Trained: steep and flat directions along the elements."""
    rotated: NoisyQuadratic = NoisyQuadratic(rotation="random")
    """Trained: steep and flat directions across the elements."""
    trained: tuple[Optimizer, ...] = ()
    """The optimizers that train; those of `optimizers` are measured in open loop."""
    learning_rates: tuple[float, ...] = log_grid(-6, 1, per_decade=2)
    """The grid in training, the same for every optimizer, kind, sigma and draw."""
    sigmas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
    """Spreads in open loop."""
    trained_sigmas: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 4.0)
    """Spreads in training; of kinds other than `element`, every second."""
    stream: int = 40
    """Gradients in open loop, of which the last ten count."""
    draws: int = 8
    """Draws of the factors in open loop."""
    steps: int = 250
    """Updates in training."""
    trained_draws: int = 3
    """Draws of the factors in training."""
    seeds: int = 2
    """Seeds reported, of each draw."""
    selection_seeds: int = 1
    """Further seeds of each draw, only to select the learning rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "sigmas", "trained_sigmas")
        if self.stream < 20:
            self.refuse("stream", "at least 20")
        for name in ("draws", "steps", "trained_draws", "seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")

    @property
    def cells(self) -> tuple[Any, ...]:
        """Open loop for all optimizers, training for some."""
        first = str(self.problem)
        return tuple(
            cell
            for cell in super().cells
            if str(cell.problem) == first or cell.optimizer in self.trained
        )

    @property
    def conditions(self) -> tuple[tuple[str, float], ...]:
        """Kind and sigma of each training."""
        return (
            *(("element", sigma) for sigma in self.trained_sigmas),
            *(("correlated", sigma) for sigma in self.trained_sigmas[2::2]),
            *(("leaf", sigma) for sigma in self.trained_sigmas[2::2]),
        )


REPRESENTATIVES = (
    "SGD",
    "Momentum",
    "NormalisedGD",
    "SignDescent",
    "Lion",
    "Adagrad",
    "RMSProp",
    "Adam",
    "NovoGrad",
    "LAMB",
    "Muon",
    "MADGRAD",
)
DEFAULT = RescaleElements(
    problem=RandomLayer(),
    optimizers=tuple(OPTIMIZERS[name]() for name in OPTIMIZERS),
    trained=tuple(OPTIMIZERS[name]() for name in REPRESENTATIVES),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        optimizers=(optimizers.SGD(), optimizers.Adam()),
        trained=(optimizers.SGD(),),
        digits=Digits(depth=0, batch_size=8),
        quadratic=NoisyQuadratic(dim=4),
        rotated=NoisyQuadratic(dim=4, rotation="random"),
        learning_rates=(0.01, 0.1),
        draws=1,
        steps=3,
        trained_draws=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT, trained=DEFAULT.optimizers, steps=2_000, trained_draws=10, draws=32
    ),
}
KEPT = ("turn", "gradient_turn", "final", "selected_rate", "at_edge", "diverged_share")


def run_cell(
    experiment: RescaleElements,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One optimizer, all kinds and sigmas side by side."""
    from study import devices, sweep

    begun = time.perf_counter()
    open_loop = str(problem) == str(experiment.problem)
    with devices.precision(problem.dtype):
        dataset, runs = (_turns if open_loop else _trainings)(
            experiment, problem, optimizer
        )
        return sweep.finish(dataset, problem, optimizer, begun, runs)


def _turns(
    experiment: RescaleElements, problem: Problem, optimizer: Optimizer
) -> tuple[xr.Dataset, int]:
    """Angles between updates on g and on D g [kind, draw, sigma]."""
    import xarray as xr

    from study import rescaling

    rate = 1.0 if optimizer.own_rate else 0.01
    found, expected = rescaling.turns(
        problem,
        optimizer,
        rate,
        experiment.sigmas,
        steps=experiment.stream,
        draws=experiment.draws,
    )
    dims, units = ("kind", "draw", "sigma"), {"units": "radian"}
    dataset = xr.Dataset(
        {"turn": (dims, found, units), "gradient_turn": (dims, expected, units)},
        {"kind": list(rescaling.KINDS), "sigma": list(experiment.sigmas)},
    )
    return dataset, found.size


def _trainings(
    experiment: RescaleElements, problem: Problem, optimizer: Optimizer
) -> tuple[xr.Dataset, int]:
    """Evaluations after training [condition, learning_rate, seed]; draws in turn."""
    import xarray as xr

    from study import rescaling

    found = rescaling.trainings(
        problem,
        optimizer,
        experiment.conditions,
        experiment.learning_rates,
        steps=experiment.steps,
        draws=experiment.trained_draws,
        each=experiment.seeds + experiment.selection_seeds,
    )
    dims = ("condition", "learning_rate", "seed")
    names = {problem.selects, problem.reports}
    dataset = xr.Dataset(
        {name: (dims, found[name]) for name in sorted(map(str, names))},
        {
            "condition": [f"{kind} {sigma:g}" for kind, sigma in experiment.conditions],
            "learning_rate": list(experiment.learning_rates),
        },
        {
            "selects": problem.selects,
            "reports": problem.reports,
            "draws": experiment.trained_draws,
            "reported_seeds": experiment.seeds,
        },
    )
    return dataset, next(iter(found.values())).size


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Training at the rate selected for each condition and draw; open loop as it is.

    Open loop has `turn` [rule, kind, dose, sigma], a dose being a draw of factors, and
    `gradient_turn` [kind, dose, sigma], which is one for all rules.

    `final` [optimizer, condition, draw, seed] is what is reported, on the reported seeds;
    `selected_rate`, `at_edge` and `diverged_share` (of reported runs at that rate) are
    over [optimizer, condition, draw].
    """
    import xarray as xr

    if "learning_rate" not in dataset.dims:
        # More optimizers and draws than train: axes of their own.
        renamed = dataset.rename(optimizer="rule", draw="dose")
        return renamed.assign(gradient_turn=renamed.gradient_turn.isel(rule=0, drop=True))
    reported = dataset.attrs["reported_seeds"]
    order = ("optimizer", "condition", "learning_rate", "seed")

    def by_draw(name: str) -> np.ndarray:
        values = dataset[dataset.attrs[name]].transpose(*order).values
        split = values.reshape(*values.shape[:-1], dataset.attrs["draws"], -1)
        return np.moveaxis(split, 3, 2)  # [optimizer, condition, draw, rate, seed]

    judged, told = by_draw("selects")[..., reported:], by_draw("reports")[..., :reported]
    shape = judged.shape[:3]
    final = np.full((*shape, reported), np.nan)
    rate, edge, diverged = np.full((3, *shape), np.nan)
    for place in np.ndindex(*shape):
        selection = statistics.select(judged[place])
        if not selection.found:
            diverged[place] = 1.0
            continue
        final[place] = told[place][selection.place]
        rate[place] = dataset.learning_rate.values[selection.place]
        edge[place] = selection.at_edge
        diverged[place] = 1 - np.isfinite(final[place]).mean()
    over = ("optimizer", "condition", "draw")
    return xr.Dataset(
        {
            "final": ((*over, "seed"), final),
            "selected_rate": (over, rate),
            "at_edge": (over, edge),
            "diverged_share": (over, diverged),
        },
        {name: dataset[name] for name in over[:2]} | {"draw": np.arange(shape[2])},
        dataset.attrs,
    )


# Verdicts ---------------------------------------------------------------------------------


def turned(results: Results, name: str, kind: str, sigma: float) -> np.ndarray:
    """Degrees by which an optimizer's update turns [dose]."""
    records = results.selected(results.experiment.problem)
    at = records.sel(rule=name, kind=kind, sigma=sigma)
    return np.degrees(at.turn.values)


def _turn(name: str, kind: str, sigma: float) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(turned(results, name, kind, sigma))


def _follows(results: Results) -> Estimate:
    sgd = results.selected(results.experiment.problem).sel(rule="SGD")
    worst = float(np.degrees(np.abs(sgd.turn - sgd.gradient_turn).max()))
    return Estimate(worst, worst, worst, int(sgd.turn.size))


def finals(results: Results, problem: Problem, name: str, condition: str) -> np.ndarray:
    """What is reported at the selected rates [draw and seed]."""
    at = results.selected(problem).sel(optimizer=name, condition=condition)
    return at.final.values.ravel()


def _loss(field: str, name: str, condition: str, *, ratio: bool) -> Any:
    """Final loss under a condition beside that without factors, seed by seed."""

    def measure(results: Results) -> Estimate:
        problem = getattr(results.experiment, field)
        plain = finals(results, problem, name, "element 0")
        other = finals(results, problem, name, condition)
        if ratio:
            return statistics.bootstrap(other / plain)
        return statistics.paired(other, plain)

    return measure


PREDICTIONS = (
    Prediction(
        "SGD's update turns as the gradient does, to 0.05 degrees, at every sigma and kind",
        "u = -eta g",
        _follows,
        at_most=0.05,
    ),
    *(
        Prediction(
            f"{name} turns by less than a degree under factors per element, sigma = 4",
            "theory of the entry: invariant up to epsilon",
            _turn(name, "element", 4.0),
            at_most=1.0,
        )
        for name in ("SignDescent", "Lion", "RMSProp", "Adam")
    ),
    Prediction(
        "Adagrad as Optax starts it turns by 10 degrees or more, sigma = 2",
        "own expectation: the initial accumulator is a floor of 0.03",
        _turn("Adagrad", "element", 2.0),
        at_least=10.0,
    ),
    Prediction(
        "NovoGrad turns by 45 degrees or more under factors per element, sigma = 2",
        "one length per leaf: as SGD within it",
        _turn("NovoGrad", "element", 2.0),
        at_least=45.0,
    ),
    Prediction(
        "NovoGrad turns by less than a degree under factors per leaf, sigma = 4",
        "theory of the entry",
        _turn("NovoGrad", "leaf", 4.0),
        at_most=1.0,
    ),
    Prediction(
        "quadratic: SGD ends at least 10 times as high with sigma = 4 as without",
        "own expectation: the factors multiply the condition number",
        _loss("quadratic", "SGD", "element 4", ratio=True),
        at_least=10.0,
    ),
    Prediction(
        "quadratic: Adam ends at most 1.5 times as high with sigma = 4 as without",
        "theory of the entry",
        _loss("quadratic", "Adam", "element 4", ratio=True),
        at_most=1.5,
    ),
    Prediction(
        "rotated quadratic: SGD ends at least 10 times as high with sigma = 4",
        "own expectation",
        _loss("rotated", "SGD", "element 4", ratio=True),
        at_least=10.0,
    ),
    Prediction(
        "rotated quadratic: Adam ends at most 1.5 times as high with sigma = 4",
        "theory of the entry",
        _loss("rotated", "Adam", "element 4", ratio=True),
        at_most=1.5,
    ),
    Prediction(
        "digits: SGD's test loss is at least 0.5 nats higher with sigma = 4",
        "own expectation: a few elements set the largest stable rate",
        _loss("digits", "SGD", "element 4", ratio=False),
        at_least=0.5,
    ),
    Prediction(
        "digits: Adam's test loss is within 0.02 nats with sigma = 4",
        "theory of the entry",
        _loss("digits", "Adam", "element 4", ratio=False),
        at_least=-0.02,
        at_most=0.02,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Degrees turned at the largest sigma, and what training ended at."""
    del manifest
    experiment = results.experiment
    records = results.selected(experiment.problem)
    strongest = float(records.sigma.max())
    for optimizer in experiment.optimizers:
        for kind in records.kind.values:
            degrees = turned(results, str(optimizer), kind, strongest)
            yield {
                "problem": str(experiment.problem),
                "optimizer": str(optimizer),
                "condition": f"{kind} {strongest:g}",
                "measured": "degrees",
                **_estimated(degrees),
            }
    for problem in experiment.problems[1:]:
        dataset = results.selected(problem)
        for name in dataset.optimizer.values:
            for condition in dataset.condition.values:
                at = dataset.sel(optimizer=name, condition=condition)
                yield {
                    "problem": str(problem),
                    "optimizer": name,
                    "condition": condition,
                    "measured": problem.reports,
                    **_estimated(at.final.values.ravel()),
                    "learning_rate": float(at.selected_rate.median()),
                    "at_edge": float(at.at_edge.mean()),
                    "diverged_share": float(at.diverged_share.mean()),
                }


def _estimated(values: np.ndarray) -> dict[str, float]:
    estimate = statistics.bootstrap(values)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


# Figures ----------------------------------------------------------------------------------

TITLES = {
    "element": "factors per element",
    "correlated": "factors follow gradient size",
    "leaf": "factors per leaf",
}


def draw(results: Results) -> dict[str, Figure]:
    """How far updates turn, and what training makes of it."""
    return {"figure": _draw_turns(results), "figure-training": _draw_training(results)}


def _draw_turns(results: Results) -> Figure:
    from study import figures

    experiment = results.experiment
    records = results.selected(experiment.problem)
    figure, axes = figures.panels(1, len(TITLES), height=2.9)
    shown = [o for o in experiment.optimizers if str(o) in REPRESENTATIVES]
    looks = figures.look(shown)
    for panel, letter, (kind, title) in zip(axes[0], "abc", TITLES.items(), strict=True):
        degrees = np.degrees(records.turn.sel(kind=kind))
        for name in records.rule.values:
            if name not in looks:
                values = degrees.sel(rule=name).median("dose")
                panel.plot(records.sigma, values, color="#cccccc", lw=0.6, zorder=1)
        for place, (name, look) in enumerate(looks.items()):
            values = degrees.sel(rule=name).transpose("dose", "sigma").values
            figures.curve(panel, records.sigma.values, values, look, place)
        panel.set_title(f"{letter}  {title}")
        panel.set(xlabel=r"Spread $\sigma$ of the log factors", ylim=(-3, 93))
        panel.set_yticks(range(0, 91, 15))
    axes[0, 0].set_ylabel("Update turns by (degrees)")
    figures.legend(figure, axes[0, 0])
    figures.note(
        figure,
        figures.medians(records.sizes["dose"], "draws of factors")
        + " Grey: all other rules.",
    )
    return figure


def _draw_training(results: Results) -> Figure:
    from study import figures

    experiment = results.experiment
    problems = experiment.problems[1:]
    figure, axes = figures.panels(1, len(problems), height=3.1)
    assert isinstance(experiment, RescaleElements)
    looks = figures.look(experiment.trained)
    doses = [name for name, kind in _conditions(experiment) if kind == "element"]
    sigmas = np.array([float(name.split()[1]) for name in doses])
    for panel, letter, problem in zip(axes[0], "abc", problems, strict=True):
        dataset = results.selected(problem)
        for place, (name, look) in enumerate(looks.items()):
            at = dataset.final.sel(optimizer=name, condition=doses)
            runs = at.stack(run=("draw", "seed"))
            values = runs.transpose("run", "condition").values
            figures.curve(panel, sigmas, values, look, place)
        turned = " (rotated)" if getattr(problem, "rotation", 0.0) else ""
        panel.set_title(f"{letter}  {problem.label}{turned}")
        panel.set(xlabel=r"Spread $\sigma$ of the log factors", yscale="log")
        panel.set_ylabel(str(problem.reports).replace("_", " ").capitalize())
    figures.legend(figure, axes[0, 0])
    figures.note(
        figure,
        figures.medians(experiment.trained_draws * results.count(), "draws and seeds"),
    )
    return figure


def _conditions(experiment: Any) -> list[tuple[str, str]]:
    return [(f"{kind} {sigma:g}", kind) for kind, sigma in experiment.conditions]


if __name__ == "__main__":
    cli.main(__spec__.name)
