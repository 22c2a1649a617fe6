"""Turn the axes under a quadratic: which rules notice?

Question.   The same quadratic in its eigenbasis, with planes turned by some degrees, and in
            random bases: what becomes of the loss that each rule reaches, and what of the
            matrix H tells how much is lost?
Prediction. SGD, momentum and normalised GD do not notice, to 1e-8. Element-wise rules do
            not notice the condition number in the eigenbasis, and lose that in any other:
            at condition 1e4 Adam ends 1e6 times as high or more in random bases, above
            momentum. The sum of |H_ij| grows more than fivefold, trace and largest
            eigenvalue stay. A plane of condition 1e4 keeps, whatever its elements are
            multiplied by, a condition of 1, 14, 304, 2,502, 7,501 and 10,000 at 0, 1, 5,
            15, 30 and 45 degrees.
Varied.     Scientific: basis, rule, condition. Nuisance: learning rate, by quarter decades
            with a cosine to 0, of each run the best by the loss at the end, as the
            calibration run has it: only start and basis are random. Ten of each, the start
            turning with the basis. Fixed: 50 elements, 300 steps, float64.
Cost.       Half a minute on two CPU cores.

    python -m experiments.rotation             run, store, judge, draw
    python -m experiments.rotation --draw      draw stored records again

Rules that turn with the basis: Zhang, Maes et al. (2025), arXiv:2410.19964, Prop. 1, read
at the source. The sum of |H_ij|: Xie, Mohamadi & Li (2025), from reviews. Diagonal scaling:
van der Sluis (1969), Forsythe & Straus (1955), recalled.
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
from study.problems import RotatedQuadratic
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

AXIS, HAAR = "0", "Haar"
"""Names of the eigenbasis and of random ones; others are degrees."""
FLOOR = -300.0
"""Decades: a relative loss below 1e-300, or 0, counts as this."""


@dataclasses.dataclass(frozen=True)
class Rotation(Comparison):
    """Each rule on quadratics of several conditions in several bases."""

    conditions: tuple[float, ...] = (1e2, 1e4)
    """Of H, in place of the problem's own."""
    angles: tuple[float, ...] = (0.0, 1.0, 5.0, 15.0, 30.0, 40.0, 45.0)
    """Degrees by which planes are turned, from 0, the eigenbasis; random bases follow."""
    learning_rates: tuple[float, ...] = log_grid(-4, 2, per_decade=4)
    """At the first step; a cosine takes them to 0."""
    steps: int = 300
    """Updates."""
    seeds: int = 10
    """Of start and random basis together."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("conditions", "angles", "learning_rates")
        if self.angles[0] != 0:
            self.refuse("angles", "from 0")
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")

    @property
    def bases(self) -> tuple[str, ...]:
        """Their names."""
        return (*(f"{angle:g}" for angle in self.angles), HAAR)

    def variants(self) -> list[RotatedQuadratic]:
        """The problem for each condition, basis and seed, in C order."""
        problem: Any = self.problem
        cases = itertools.product(self.conditions, self.bases, range(self.seeds))
        return [
            dataclasses.replace(
                problem,
                condition=condition,
                rotation="random" if basis == HAAR else float(basis),
                rotation_seed=seed,
            )
            for condition, basis, seed in cases
        ]


DEFAULT = Rotation(
    problem=RotatedQuadratic(dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Adam(),
        optimizers.Adagrad(initial_accumulator=0.0, eps=0.0),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=RotatedQuadratic(dim=4, dtype="float64"),
        optimizers=(optimizers.SGD(), optimizers.Adam()),
        conditions=(1e4,),
        angles=(0.0, 45.0),
        learning_rates=(0.1, 1.0),
        steps=5,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        conditions=(1e1, 1e2, 1e3, 1e4, 1e6),
        learning_rates=log_grid(-6, 2, per_decade=8),
        steps=3_000,
        seeds=100,
    ),
}
GEOMETRY = ("sum_abs", "trace", "largest", "scaled_condition", "plane")
KEPT = ("best", "rate", "at_edge", "difference", "moved", *GEOMETRY)
CASE = ("condition", "basis", "seed")


def run_cell(
    experiment: Rotation,
    problem: RotatedQuadratic,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All conditions, bases, seeds and rates of one rule, and what is to be said of H.

    Over [condition, basis, seed]: `relative` [..., learning_rate], the loss after the last
    step over that at the start; the problem's `geometry`, and as `plane` the
    `scaled_condition` of two elements alone.
    """
    import xarray as xr

    from study import devices, sweep

    del progress  # one program
    begun = time.perf_counter()
    cases, rates = experiment.variants(), np.asarray(experiment.learning_rates)
    shape = len(experiment.conditions), len(experiment.bases), experiment.seeds
    with devices.precision(problem.dtype):
        straight = dataclasses.replace(problem, rotation=0.0)
        drawn, _ = sweep.starts(straight, tuple(range(experiment.seeds)))
        z = np.tile(np.asarray(drawn["x"]), (len(cases) // experiment.seeds, 1))
        starts = np.stack([case.basis() @ x for case, x in zip(cases, z, strict=True)])
        hessians = np.stack([case.data() for case in cases])
        shared = rates.astype(z.dtype), hessians, starts.astype(z.dtype)
        run = _trainer(experiment, problem, optimizer)
        found = devices.map_runs(run, shared, [np.arange(len(cases), dtype=np.int32)])
    geometry = [case.geometry() for case in cases]
    columns = {name: [g[name] for g in geometry] for name in GEOMETRY[:-1]}
    planes = [dataclasses.replace(case, dim=2).geometry() for case in cases]
    columns["plane"] = [g["scaled_condition"] for g in planes]
    dataset = xr.Dataset(
        {
            "relative": ((*CASE, "learning_rate"), found.reshape(*shape, -1)),
            **{name: (CASE, np.reshape(x, shape)) for name, x in columns.items()},
        },
        {
            "condition": list(experiment.conditions),
            "basis": list(experiment.bases),
            "learning_rate": rates,
        },
    )
    return sweep.finish(dataset, problem, optimizer, begun, found.size)


def _trainer(experiment: Rotation, problem: RotatedQuadratic, optimizer: Optimizer) -> Any:
    """(rates, hessians, starts, place) -> relative losses [learning_rate] of a case."""
    import jax
    import optax

    from study import trajectories

    def run(rates: Any, hessians: Any, starts: Any, place: Any) -> Any:
        data, params = hessians[place], {"x": starts[place]}

        def end(rate: Any) -> Any:
            schedule: Any = optax.cosine_decay_schedule(rate, experiment.steps)
            state, _ = trajectories.follow(
                problem,
                optimizer,
                schedule,
                (experiment.steps,),
                lambda state, t: (),
                params=params,
                data=data,
            )
            return problem.loss(state.params, data)

        return jax.vmap(end)(rates) / problem.loss(params, data)

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each run at its best rate, and what became of H.

    Over [optimizer, condition, basis, seed]: `best`, decades of the smallest relative loss
    on the grid, its `rate`, and `at_edge`. Over [optimizer, condition, basis,
    learning_rate]: `difference`, the largest |loss / loss in the eigenbasis - 1| of any
    seed. Over [condition, basis, seed]: GEOMETRY, and `moved`, the larger relative change
    of trace and largest eigenvalue.
    """
    order = ("optimizer", *CASE)
    raw = dataset.relative.transpose(*order, "learning_rate").values
    losses, rates = statistics.worst(raw), dataset.learning_rate.values
    places = losses.argmin(-1)
    with np.errstate(all="ignore"):
        best = np.maximum(np.log10(losses.min(-1)), FLOOR)
        away = np.abs(raw / raw[:, :, :1] - 1).max(3)
    geometry = dataset[list(GEOMETRY)].isel(optimizer=0, drop=True)
    fixed = geometry[["trace", "largest"]]
    moved = np.abs(fixed / fixed.sel(basis=AXIS, drop=True) - 1).to_array().max("variable")
    return geometry.assign(
        best=(order, best),
        rate=(order, rates[places]),
        at_edge=(order, np.isin(places, (0, len(rates) - 1)).astype(np.int32)),
        difference=((*order[:-1], "learning_rate"), away),
        moved=moved.transpose(*CASE),
    ).assign_coords(optimizer=dataset.optimizer, learning_rate=rates)


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, name: str, **at: Any) -> xr.DataArray:
    """One of KEPT at a condition, basis, optimizer or rate, seeds last."""
    records = results.selected(results.experiment.problem)
    return records[name].sel(at).transpose(..., "seed", missing_dims="ignore")


def _powers(decades: Any) -> Estimate:
    """The median over seeds and its interval, as numbers."""
    value, low, high, n = statistics.bootstrap(np.asarray(decades))
    return Estimate(10.0**value, 10.0**low, 10.0**high, n)


def _median(name: str, **at: Any) -> Callable[[Results], Estimate]:
    if name == "best":
        return lambda results: _powers(found(results, name, **at))
    return lambda results: statistics.bootstrap(found(results, name, **at).values)


def _ratio(name: str, one: Any, other: Any, **at: Any) -> Callable[[Results], Estimate]:
    """Of what is at one place to what is at another, seed by seed."""

    def measure(results: Results) -> Estimate:
        decades: Any = found(results, name, **at)
        decades = decades if name == "best" else np.log10(decades)
        return _powers(decades.sel(one, drop=True) - decades.sel(other, drop=True))

    return measure


def _largest(name: str, **at: Any) -> Callable[[Results], Estimate]:
    """Of any condition, basis and seed."""

    def measure(results: Results) -> Estimate:
        experiment: Any = results.experiment
        value = found(results, name, **at).max(skipna=False)
        return statistics.exact(float(value), experiment.seeds)

    return measure


def _unmoved(rule: str, rate: float) -> Callable[[Results], Estimate]:
    return _largest("difference", optimizer=rule, learning_rate=slice(None, rate))


def _climb(rule: str) -> Callable[[Results], Estimate]:
    """The least rise, in decades, from one angle to the next, seed by seed."""

    def measure(results: Results) -> Estimate:
        at = {"condition": 1e4, "optimizer": rule, "basis": list(PLANES)}
        rises = np.diff(found(results, "best", **at).values, axis=0)
        return statistics.bootstrap(rises.min(0))

    return measure


def _closed(results: Results) -> Estimate:
    """How far planes of eigenvalues are from their closed form, at any angle."""
    from study.problems.rotated import turned_plane

    values = found(results, "plane", condition=1e4, basis=list(PLANES)).values[:, 0]
    away = [
        x / turned_plane(1e4, float(a)) - 1 for x, a in zip(values, PLANES, strict=True)
    ]
    return statistics.exact(np.abs(away).max())


def _ranks(name: str) -> Callable[[Results], Estimate]:
    """Spearman's correlation over bases, seed by seed, with Adam's loss."""

    def measure(results: Results) -> Estimate:
        from scipy import stats

        best = found(results, "best", condition=1e4, optimizer="Adam").values
        pairs = zip(best.T, found(results, name, condition=1e4).values.T, strict=True)
        ranks: list[Any] = [stats.spearmanr(*pair) for pair in pairs]
        return statistics.bootstrap(np.array([rank.statistic for rank in ranks]))

    return measure


MEASURED = "independent calibration run"
READ = "Zhang, Maes et al. 2025, Prop. 1, read at the source"
SUMMED = "Xie et al. 2025, from reviews; "
LATER = "explains a failed one: added after the first runs"
ADDED = "; added after the first run, for completeness"
HARD = {"condition": 1e4}
NORMALISED = "NormalisedGD(eps=0.0)"
BASES = {AXIS: "eigenbasis", HAAR: "random bases"}
PLACES = ((1e2, AXIS), (1e2, HAAR), (1e4, AXIS), (1e4, HAAR))
SUMS = (11.1, 81.8, 5.8, 65.3)
LOSSES = {
    "SGD": (5.9e-6, 5.9e-6, 3.3e-3, 3.3e-3),
    "Momentum": (4e-14, 4e-14, 7e-5, 7e-5),
    "SignDescent": (3e-12, 7e-6, 3e-12, 2.5e-3),
    "Adam": (1e-14, 9e-14, 1e-14, 1.8e-4),
    "Adagrad(initial_accumulator=0.0, eps=0.0)": (1e-283, 2e-5, 4e-199, 4.4e-3),
}
RANGES = (
    ("Adam", AXIS, 7e-15, 1e-14, None),
    ("Adam", HAAR, 8e-5, 2.4e-4, None),
    ("SignDescent", AXIS, 1e-12, 1e-12, 1e-12),
    ("SignDescent", HAAR, 1.4e-3, 2.2e-3, None),
)
"""Rule, basis, the lowest and highest of three further seeds of MEASURED, the one value."""
PLANES = {"0": 1, "1": 14, "5": 304, "15": 2502, "30": 7501, "45": 10000}
"""MEASURED: sums of |H_ij| and best relative losses by PLACES, scaled planes by degrees."""
AT = f"({', '.join(PLANES)})"


def _calibrated() -> Iterator[Prediction]:
    """Sums to 5 %, losses to a factor of 10 (or both below 1e-100), conditions to 0.5."""
    for i, (condition, basis) in enumerate(PLACES):
        at = {"condition": condition, "basis": basis}
        where = f"condition {condition:g}, {BASES[basis]}"
        words = f"{where}: the sum of |H_ij| is {SUMS[i]:g}, to 5 %"
        limits = 0.95 * SUMS[i], 1.05 * SUMS[i], SUMS[i]
        yield Prediction(words, MEASURED, _median("sum_abs", **at), *limits)
        for rule, row in LOSSES.items():
            tiny = row[i] < 1e-100
            near = "below 1e-100" if tiny else f"{row[i]:g}, to a factor of 10"
            words = f"{where}: relative loss of {rule.partition('(')[0]} {near}"
            limits = (0.0, 1e-100) if tiny else (row[i] / 10, 10 * row[i])
            measure = _median("best", optimizer=rule, **at)
            yield Prediction(words, MEASURED, measure, *limits, row[i])
    for angle, value in PLANES.items():
        words = f"plane of condition 1e4 at {angle} degrees: {value} once scaled, to 0.5"
        measure = _median("plane", condition=1e4, basis=angle)
        yield Prediction(words, MEASURED, measure, value - 0.5, value + 0.5, float(value))


def _expected() -> Iterator[Prediction]:
    """What turns with the basis, what does not, and what of H tells."""
    turning = (("SGD", READ), ("Momentum", READ), (NORMALISED, "it turns with the basis"))
    for rule, source in turning:
        words = f"{rule}: the same loss in every basis at every rate up to 1, to 1e-8"
        yield Prediction(words, source, _unmoved(rule, 1.0), at_most=1e-8)
    words = "condition 1e4: Adam ends 1e6 times as high or more in random bases"
    measure = _ratio("best", {"basis": HAAR}, {"basis": AXIS}, optimizer="Adam", **HARD)
    yield Prediction(words, MEASURED, measure, at_least=1e6, published=1.8e10)
    words = "condition 1e4, random bases: Adam ends above momentum, ratio 1 or more"
    pair = {"optimizer": "Adam"}, {"optimizer": "Momentum"}
    measure = _ratio("best", *pair, basis=HAAR, **HARD)
    yield Prediction(words, MEASURED, measure, at_least=1, published=1.8e-4 / 7e-5)
    for condition, value in ((1e2, 81.8 / 11.1), (1e4, 65.3 / 5.8)):
        words = f"condition {condition:g}: random bases multiply sum |H_ij| by 5 or more"
        measure = _ratio("sum_abs", {"basis": HAAR}, {"basis": AXIS}, condition=condition)
        yield Prediction(words, SUMMED + MEASURED, measure, at_least=5, published=value)
    words = "trace and largest eigenvalue of H are those of the eigenbasis, to 1e-10"
    yield Prediction(words, "no basis changes them", _largest("moved"), at_most=1e-10)
    for rule in ("SignDescent", "Adam"):
        words = f"condition 1e4, {rule}: rises from angle to angle {AT}, 0 decades or more"
        yield Prediction(words, "own expectation", _climb(rule), at_least=0)
    for name, said, source in (
        ("sum_abs", "the sum of |H_ij|", SUMMED + "own threshold"),
        ("scaled_condition", "the condition after diagonal scaling", "own expectation"),
    ):
        words = f"condition 1e4: Adam's losses rank as {said}, Spearman 0.9 or more"
        yield Prediction(words, source, _ranks(name), at_least=0.9)


def _later() -> Iterator[Prediction]:
    """What explains the failed ones."""
    words = f"{NORMALISED}: the same loss in every basis at every rate up to 0.01, to 1e-8"
    yield Prediction(words, LATER, _unmoved(NORMALISED, 0.01), at_most=1e-8)
    words = "SGD: the same loss in every basis at every rate under its limit, 2, to 1e-8"
    yield Prediction(words, LATER, _unmoved("SGD", 1.99), at_most=1e-8)
    words = "planes of condition 1e4, scaled: the closed form at every angle, to 1e-9"
    yield Prediction(words, LATER, _closed, at_most=1e-9)
    words = "condition 1e4, sign descent: higher at 40 degrees than at 45, ratio 1 or more"
    pair = {"basis": "40"}, {"basis": "45"}
    measure = _ratio("best", *pair, optimizer="SignDescent", **HARD)
    yield Prediction(words, LATER, measure, at_least=1)


def _further() -> Iterator[Prediction]:
    """What further seeds of the calibration run say."""
    bases = {"basis": HAAR}, {"basis": AXIS}
    for condition, said in ((1e2, ", two digits"), (1e4, ", three more seeds, 3 digits")):
        words = f"condition {condition:g}: SGD at its best rate, random / axis 1, to 1e-3"
        measure = _ratio("best", *bases, optimizer="SGD", condition=condition)
        yield Prediction(words, MEASURED + said + ADDED, measure, 0.999, 1.001, 1.0)
    for rule, basis, low, high, value in RANGES:
        span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        words = f"condition 1e4, {BASES[basis]}: {rule} at {span}, or a factor of 2 beyond"
        measure = _median("best", optimizer=rule, basis=basis, **HARD)
        source = f"{MEASURED}, three more seeds{ADDED}"
        yield Prediction(words, source, measure, low / 2, 2 * high, value)


PREDICTIONS = (*_expected(), *_calibrated(), *_later(), *_further())


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each condition, basis and rule."""
    del manifest
    records = results.selected(results.experiment.problem)
    rules = map(str, results.experiment.optimizers)
    for place in itertools.product(records.condition.values, records.basis.values, rules):
        names = dict(zip(("condition", "basis", "optimizer"), place, strict=True))
        at = records.sel(names)
        loss = _powers(at.best)
        yield {
            **names,
            "relative_loss": loss.value,
            "relative_loss_low": loss.low,
            "relative_loss_high": loss.high,
            "learning_rate": float(at.rate.median()),
            "share_at_edge": float(at.at_edge.mean()),
            **{name: float(at[name].median()) for name in GEOMETRY},
        }


# Figure -----------------------------------------------------------------------------------

LOWEST = -17.0
"""Decades shown; what lies below is drawn here, with its value."""


def draw(results: Results) -> dict[str, Figure]:
    """At the largest condition: what each rule loses, by angle, and what scaling can do."""
    from study import figures

    figure, (axes,) = figures.panels(1, 3, height=3.1)
    records = results.selected(results.experiment.problem).isel(condition=-1)
    looks = figures.look(results.experiment.optimizers)
    places = np.arange(records.sizes["basis"], dtype=float)
    places[-1] += 0.6
    for row, (rule, look) in enumerate(looks.items()):
        best = records.best.sel(optimizer=rule).transpose("seed", "basis")
        _draw_ends(axes[0], row, best, look)
        shown = np.maximum(best.values, LOWEST)
        figures.curve(axes[1], places, shown, look, row)
    labels = [look["label"].split(",")[0] for look in looks.values()]
    axes[0].set_yticks(range(len(looks)), labels)
    axes[0].set(
        ylim=(len(looks) - 0.5, -0.6), xlabel="Relative loss, decades\n(hollow: eigenbasis)"
    )
    axes[0].set_title("a  Eigenbasis to random")
    axes[1].set_xticks(places, records.basis.values)
    axes[1].set(xlabel="Planes turned by, degrees", ylabel="Relative loss, decades")
    axes[1].set_title("b  By angle")
    _draw_scaling(axes[2], records)
    figures.legend(figure, axes[1], columns=3)
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_ends(axes: Axes, row: int, best: xr.DataArray, look: dict[str, Any]) -> None:
    """From the eigenbasis, hollow, to random bases, full."""
    ends = [float(best.sel(basis=basis).median()) for basis in (AXIS, HAAR)]
    shown = [max(end, LOWEST) for end in ends]
    axes.plot(shown, [row, row], color=look["color"], lw=1)
    for place, fill in zip(shown, ("white", look["color"]), strict=True):
        axes.plot(place, row, look["marker"], color=look["color"], mfc=fill, ms=5.5)
    if ends[0] < LOWEST:
        text = f"$\\leftarrow <10^{{{np.ceil(ends[0]):.0f}}}$"
        axes.text(LOWEST, row - 0.22, text, fontsize=7, color=look["color"])


def _draw_scaling(axes: Axes, records: xr.Dataset) -> None:
    """Condition numbers of a plane after diagonal scaling, and in closed form."""
    from study.problems.rotated import turned_plane

    condition, fine = float(records.condition), np.linspace(0, 45, 200)
    closed = [turned_plane(condition, angle) for angle in fine]
    axes.plot(fine, closed, color="#b10000", label="closed form")
    plane = records.plane.isel(seed=0, basis=slice(0, -1))
    axes.plot([float(name) for name in plane.basis.values], plane, "o", color="black")
    axes.axhline(condition, color="#888888", ls="--", lw=0.8)
    axes.text(22, condition * 1.15, "before", color="#666666", ha="center", fontsize=7)
    axes.set(yscale="log", xlabel="Plane turned by, degrees", ylim=(0.7, 3 * condition))
    axes.set(ylabel="Condition number", title="c  After diagonal scaling")


if __name__ == "__main__":
    cli.main(__spec__.name)
