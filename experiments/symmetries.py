"""Which symmetries does each optimizer have, and where does epsilon end them?

Question.   If every gradient is multiplied by one number, by one number per element or
            per leaf, permuted or rotated, what becomes of each optimizer's updates; down
            to which size of gradient; and does training notice that the layers of a
            network were rescaled without changing its function?
Prediction. What `theory` says on each entry, derived from its formula: in short, sums of
            gradients rotate and scale with them (k = 1), element-wise rules forget the
            scale of each element but not the basis, leaf-wise rules the scale of each
            leaf, and epsilon bounds all of it from below, from 1e-15 (Adafactor) to 0.03
            (Adagrad as Optax starts it). Only relative updates (LARS, Fromage, Adafactor;
            LAMB nearly) do not notice rescaled layers.
Varied.     Scientific: optimizer, transformation, epsilon (its default, and 0). Fixed: one
            stream of 40 random gradients of a 6 x 8 kernel and a bias of 12 elements,
            float64, learning rate 0.01 (1 for rules that find their own).
Cost.       Three minutes on two CPU cores, nearly all of it compilation.

    python -m experiments.symmetries             run, store, judge, draw
    python -m experiments.symmetries --draw      draw stored records again

After work on scale-freeness (Zhuang et al. 2022, arXiv:2202.00089), rotation
equivariance (Maes et al. 2025, arXiv:2410.19964) and layer rescaling (Neyshabur et al.
2015, arXiv:1506.02617; Dinh et al. 2017, arXiv:1703.04933).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import OPTIMIZERS, SYMMETRIES, Optimizer
from study.problems import Problem, RandomLayer, ReluRegression
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.figures import TableCell
    from study.reporting import Results
    from study.sweep import Cost

OPEN_LOOP = tuple(name for name in SYMMETRIES if name != "layer_rescaling")
EPSILONS = ("default", "zero")


@dataclasses.dataclass(frozen=True)
class Symmetries(Comparison):
    """Updates on one stream and its transformations; two trainings of one function."""

    network: ReluRegression = ReluRegression(dtype="float64")
    """Trained from a start and from the same function with rescaled layers."""
    steps: int = 40
    """Gradients in the stream; the last ten count as late."""
    learning_rate: float = 0.01
    """Of every rule that does not find its own, which has 1."""
    balance: float = 10.0
    """Factor on the first layer and divisor of the second."""
    trained: int = 50
    """Updates of the network."""
    seed: int = 0
    """Of stream, transformations and network."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if self.steps < 20:
            self.refuse("steps", "at least 20")
        if self.trained < 1:
            self.refuse("trained", "at least 1")


DEFAULT = Symmetries(
    problem=RandomLayer(dtype="float64"),
    optimizers=tuple(OPTIMIZERS[name]() for name in OPTIMIZERS),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT, optimizers=tuple(OPTIMIZERS[name]() for name in ("SGD", "Adam")), trained=2
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, steps=100, trained=500),
}
KEPT = (
    "error",
    "degree",
    "floor",
    "slope",
    "same_law",
    "lengths",
    "deviation",
)


def run_cell(
    experiment: Symmetries,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One optimizer at its own epsilon and at 0: on the stream, or on the network."""
    import xarray as xr

    from study import devices, sweep, symmetry

    begun = time.perf_counter()
    rate = 1.0 if optimizer.own_rate else experiment.learning_rate
    measured: list[dict[str, Any]] = []
    with devices.precision("float64"):
        for rule in dict.fromkeys((optimizer, optimizer.without_epsilon())):
            if isinstance(problem, ReluRegression):
                deviation = symmetry.layer_rescaling(
                    rule,
                    rate,
                    problem,
                    experiment.balance,
                    experiment.trained,
                    experiment.seed,
                )
                measured.append({"deviation": deviation})
            else:
                stream = _stream(problem, experiment.steps, experiment.seed)
                measured.append(symmetry.measure(rule, rate, stream, experiment.seed))
            progress(0.5)
    dims = {
        "error": ("symmetry", "moment"),
        "angle": ("symmetry", "moment"),
        "same_law": ("symmetry",),
        "lengths": ("scale",),
    }
    both = (measured * 2)[:2]  # without an epsilon, both are one
    variables = {
        name: (
            ("epsilon", *dims.get(name, ())),
            np.stack([np.asarray(m[name]) for m in both]),
        )
        for name in measured[0]
    }
    coordinates = {
        "epsilon": list(EPSILONS),
        "symmetry": list(OPEN_LOOP),
        "moment": ["first", "late"],
        "scale": symmetry.SCALES,
    }
    used = {"epsilon"} | {d for name in measured[0] for d in dims.get(name, ())}
    dataset = xr.Dataset(variables, {k: v for k, v in coordinates.items() if k in used})
    if "angle" in dataset:
        dataset.angle.attrs["units"] = "radian"
    with devices.precision("float64"):
        return sweep.finish(dataset, problem, optimizer, begun, len(measured))


@functools.lru_cache(maxsize=1)
def _stream(problem: Problem, steps: int, seed: int) -> Any:
    """The problem's gradients, with a loss of 1 at every step."""
    import jax.numpy as jnp

    from study import streams

    guide = OPTIMIZERS["SGD"]()
    stream = streams.record(problem, guide, 0.0, steps, seed, problem.data())
    return stream._replace(values=jnp.ones_like(stream.values))


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """All of it, but lengths at the entries' own epsilon alone and every second scale."""
    if "lengths" not in dataset:
        return dataset
    own = dataset.lengths.sel(epsilon="default").drop_vars("epsilon")
    return dataset.assign(lengths=own).isel(scale=slice(None, None, 2))


# Verdicts ---------------------------------------------------------------------------------


def outcomes(results: Results, optimizer: Optimizer) -> dict[tuple[str, str], str]:
    """Measured outcomes of one optimizer by (symmetry, epsilon)."""
    from study import symmetry

    stream = _records(results, 0).sel(optimizer=str(optimizer))
    network = _records(results, 1).sel(optimizer=str(optimizer))
    found = {}
    for epsilon in EPSILONS:
        at = stream.sel(epsilon=epsilon)
        for name in OPEN_LOOP:
            one = at.sel(symmetry=name)
            found[name, epsilon] = symmetry.outcome(
                float(one.error[0]), float(one.error[1]), float(one.same_law)
            )
        deviation = float(network.deviation.sel(epsilon=epsilon))
        found["layer_rescaling", epsilon] = symmetry.outcome(deviation, deviation)
    return found


def disagreements(results: Results, name: str) -> list[str]:
    """Optimizers whose measured outcome of one symmetry is not the stated one."""
    listed = []
    for optimizer in _stated(results):
        found = outcomes(results, optimizer)
        stated = optimizer.theory.stated(name)  # type: ignore[union-attr]
        for epsilon, wanted in zip(EPSILONS, stated, strict=True):
            if found[name, epsilon] != wanted:
                listed.append(f"{optimizer} ({epsilon})")
    return listed


def _records(results: Results, place: int) -> xr.Dataset:
    return results.selected(results.experiment.problems[place])


def _stated(results: Results) -> list[Optimizer]:
    """The experiment's optimizers that state a theory."""
    return [o for o in results.experiment.optimizers if o.theory is not None]


def _count(results: Results, wrong: int) -> Estimate:
    return Estimate(wrong, wrong, wrong, len(_stated(results)))


def _symmetry(name: str) -> Prediction:
    return Prediction(
        f"{SYMMETRIES[name]}: no outcome other than stated, at either epsilon",
        "theory of each entry",
        lambda results: _count(results, len(disagreements(results, name))),
        at_most=0,
    )


def _degrees_wrong(results: Results) -> Estimate:
    measured = _records(results, 0).degree.sel(epsilon="default")
    wrong = [
        o
        for o in _stated(results)
        if not abs(float(measured.sel(optimizer=str(o))) - o.theory.degree) <= 0.01  # type: ignore
    ]
    return _count(results, len(wrong))


def floor_agrees(stated: float, measured: float) -> bool:
    """Both undefined, both 0, or within a factor 2."""
    if np.isnan(stated) or np.isnan(measured) or stated == 0 or measured == 0:
        return bool(np.isnan(stated) and np.isnan(measured)) or stated == measured
    return abs(np.log2(measured / stated)) <= 1


def _floors_wrong(results: Results) -> Estimate:
    measured = _records(results, 0).floor.sel(epsilon="default")
    wrong = [
        o
        for o in _stated(results)
        if not floor_agrees(o.theory.floor, float(measured.sel(optimizer=str(o))))  # type: ignore
    ]
    return _count(results, len(wrong))


def _decades(results: Results) -> Estimate:
    floors = _records(results, 0).floor.sel(epsilon="default").values
    floors = floors[np.isfinite(floors) & (floors > 0)]
    spread = float(np.log10(floors.max() / floors.min())) if len(floors) else np.nan
    return Estimate(spread, spread, spread, len(floors))


PREDICTIONS = (
    *map(_symmetry, SYMMETRIES),
    Prediction(
        "the degree k is within 0.01 of the stated one for every entry",
        "theory of each entry",
        _degrees_wrong,
        at_most=0,
    ),
    Prediction(
        "the epsilon floor is within a factor 2 of the stated one for every entry",
        "theory of each entry",
        _floors_wrong,
        at_most=0,
    ),
    Prediction(
        "the floors spread over more than ten decades",
        "own expectation: epsilons from 1e-30 under a root to 0.1",
        _decades,
        at_least=10,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The atlas: one row for each optimizer, measured beside stated; no cell is empty."""
    del manifest
    records, network = _records(results, 0), _records(results, 1)
    for optimizer in results.experiment.optimizers:
        theory, found = optimizer.theory, outcomes(results, optimizer)
        at = records.sel(optimizer=str(optimizer))
        own = at.sel(epsilon="default")
        deviation = network.deviation.sel(optimizer=str(optimizer), epsilon="default")
        row: dict[str, Any] = {
            "optimizer": str(optimizer),
            "label": optimizer.label,
            "group": _group(optimizer),
            "optax": optimizer.factory or "none",
            "changes": optimizer.changes,
            "unscaled": str(optimizer.unscaled() or "none"),
            "own_rate": int(optimizer.own_rate),
            "float16": optimizer.float16,
            "degree": float(own.degree),
            "degree_stated": theory.degree if theory else np.nan,
            "floor": float(own.floor),
            "floor_stated": theory.floor if theory else np.nan,
            "floor_slope": float(own.slope),
            "epsilon": theory.epsilon if theory else "not stated",
        }
        for name in SYMMETRIES:
            for i, epsilon in enumerate(EPSILONS):
                stated = theory.stated(name)[i] if theory else "not stated"
                row[f"{name}_{epsilon}"] = found[name, epsilon]
                row[f"{name}_{epsilon}_stated"] = stated
            if name == "layer_rescaling":
                row[f"{name}_error"] = float(deviation)
                continue
            for moment in ("first", "late"):
                error = own.error.sel(symmetry=name, moment=moment)
                row[f"{name}_{moment}_error"] = float(error)
        yield row


def _group(optimizer: Optimizer) -> str:
    return type(optimizer).__module__.rpartition(".")[2]


# Figure -----------------------------------------------------------------------------------

COLOURS = {
    "yes": "#1b6ca8",
    "approximate": "#8fc1e3",
    "early": "#f2d58a",
    "late": "#f2b134",
    "in law": "#bcd9a7",
    "no": "#e9e9e9",
    "undefined": "#6b6b6b",
}
HEADINGS = {
    "loss_factor": "factor\non loss",
    "element": "per\nelement",
    "leaf": "per\nleaf",
    "permutation": "permu-\ntation",
    "rotation": "rota-\ntion",
    "matrix_rotation": "rows and\ncolumns",
    "layer_rescaling": "layers\nrescaled",
}
GROUPS = {
    "scalar": "One scalar, or none",
    "averaging": "Averages",
    "wrappers": "Wrappers",
    "elementwise": "Element-wise",
    "adam": "Adam's family",
    "steplength": "Own step length",
    "sign": "Signs",
    "tensorwise": "By leaf, row, column",
    "matrix": "Spectrum, curvature",
}


def draw(results: Results) -> dict[str, Figure]:
    """The atlas as a table, and the update's length against the gradient's size."""
    return {"figure": _draw_table(results), "figure-floors": _draw_floors(results)}


def _rows(results: Results) -> list[tuple[str, list[Optimizer]]]:
    """Optimizers by group, rules that find their own step length last."""
    groups: dict[str, list[Optimizer]] = {title: [] for title in GROUPS.values()}
    apart: list[Optimizer] = []
    for optimizer in results.experiment.optimizers:
        title = GROUPS.get(_group(optimizer), "Others")
        place = apart if optimizer.own_rate else groups.setdefault(title, [])
        place.append(optimizer)
    ordered = [(title, rows) for title, rows in groups.items() if rows]
    return [*ordered, *([("Learning rate means little", apart)] if apart else [])]


def _draw_table(results: Results) -> Figure:
    from matplotlib.patches import Patch

    from study import figures

    figure = figures.outcome_table(
        [
            (title, [(o.label, _cells(results, o)) for o in rows])
            for title, rows in _rows(results)
        ],
        ["k", "floor", *HEADINGS.values()],
    )
    handles = [
        Patch(fc=colour, ec="#888888", lw=0.5, label=name)
        for name, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.suptitle(
        "Is the update unchanged, or does it follow, when the gradient is changed?"
        "  Number: relative error; right part: epsilon 0; red frame: not as stated",
        fontsize=8.5,
    )
    figures.note(figure, "One stream of random gradients.")
    return figure


def _cells(results: Results, optimizer: Optimizer) -> list[TableCell]:
    """Degree, floor and outcomes of one optimizer, as the table shows them."""
    from study.figures import TableCell

    own = _records(results, 0).sel(optimizer=str(optimizer), epsilon="default")
    network = _records(results, 1).sel(optimizer=str(optimizer), epsilon="default")
    degree = f"{float(own.degree) + 0.0:.2f}".rstrip("0").rstrip(".")
    cells = [
        TableCell("0" if degree in ("-0", "") else degree, ()),
        TableCell(_short(float(own.floor), "∞", "none"), ()),
    ]
    found = outcomes(results, optimizer)
    for name in SYMMETRIES:
        both = [found[name, epsilon] for epsilon in EPSILONS]
        late = float(network.deviation)
        if name != "layer_rescaling":
            late = float(own.error.sel(symmetry=name, moment="late"))
        text = both[0] if both[0] in ("yes", "in law") else _short(late, "–", "0")
        wrong = optimizer.theory is not None and both != [*optimizer.theory.stated(name)]
        ink = "white" if both[0] == "yes" else "black"
        cells.append(TableCell(text, tuple(COLOURS[b] for b in both), ink, wrong))
    return cells


def _short(value: float, undefined: str, zero: str) -> str:
    """`5e-7`, with few letters."""
    if np.isnan(value):
        return undefined
    if np.isinf(value):
        return "∞"
    if value == 0:
        return zero
    if 0.01 <= value < 100:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


SHOWN = (
    "SGD",
    "NormalisedGD",
    "SignDescent",
    "Adagrad",
    "PlainRMSProp",
    "Adam",
    "AdaBelief",
    "Yogi",
    "MADGRAD",
    "Adafactor",
    "LAMB",
    "Fromage",
)


def _draw_floors(results: Results) -> Figure:
    """Length of the update over that of the largest gradient's, by gradient size."""
    from study import figures

    figure, axes = figures.panels(1, 1, height=3.4)
    panel = axes[0, 0]
    entries = [o for o in results.experiment.optimizers if str(o) in SHOWN]
    records = _records(results, 0).sel(epsilon="default")
    if "lengths" in records:
        for name, look in figures.look(entries or results.experiment.optimizers).items():
            lengths = records.lengths.sel(optimizer=name)
            top = float(lengths.isel(scale=-1))
            panel.plot(records.scale, lengths / top, **look, markevery=4)
    panel.set(xscale="log", yscale="log", ylim=(1e-8, 3))
    panel.set(xlabel="Size of every gradient element", ylabel="Length of the update")
    panel.set_title("Below its epsilon floor a scale-free rule is SGD again")
    figures.legend(figure, panel)
    figures.note(figure, "One random gradient, at several sizes.")
    return figure


if __name__ == "__main__":
    cli.main(__spec__.name)
