"""What do optimizers do to the vectors [10, 20, 40] and [1, 2, 100]?

Question.   Two gradients whose elements have the same signs and order differ only in the
            scale of each element. Do they still point the same way, and what does each
            optimizer's first update make of them?
Prediction. They are 27.92 degrees apart. SGD and normalised GD keep both. Rules that
            divide each element by its own magnitude turn both into [1, 1, 1], 28.13 and
            53.52 degrees away; Adagrad too, since 0.1 is small beside these squares.
            However large the turn, an element-wise rescaling by factors of spread k =
            max s / min s keeps a cosine of 2 sqrt(k) / (1 + k) or more (Kantorovich).
Varied.     Scientific: optimizer, gradient. Fixed: one step at learning rate 1. The
            cloud is 100 random gradients of three elements, normal times log-normal.
Cost.       Half a minute on two CPU cores, nearly all of it compilation.

    python -m experiments.rescaled_vector            run, store, judge, draw
    python -m experiments.rescaled_vector --draw     draw stored records again
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers
from study.claims import Prediction
from study.experiment import Experiment
from study.problems import GivenGradient, RandomGradient
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results

SIGN_LIKE = (
    optimizers.SignDescent(),
    optimizers.Lion(),
    optimizers.RMSProp(),
    optimizers.Adam(),
    optimizers.AdamW(),
)


@dataclasses.dataclass(frozen=True)
class RescaledVector(Experiment):
    """Two given gradients and a cloud of random ones."""

    other: GivenGradient = GivenGradient(gradient=(1.0, 2.0, 100.0))
    """The second gradient."""
    cloud: RandomGradient = RandomGradient(dim=3, sigma=1.0)
    """Random gradients, one a seed."""


DEFAULT = RescaledVector(
    problem=GivenGradient(gradient=(10.0, 20.0, 40.0)),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Nesterov(),
        optimizers.NormalisedGD(),
        optimizers.Adagrad(),
        *SIGN_LIKE,
    ),
    learning_rates=(1.0,),
    metrics=("angle", "alignment", "anisotropy", "norm_ratio", "update_elements"),
    steps=1,
    seeds=100,
    selection_seeds=0,
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT, optimizers=(optimizers.SGD(), optimizers.SignDescent()), seeds=2
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, seeds=2_000),
}
KEPT = ("angle", "alignment", "anisotropy", "update_elements")


def bound(spread: Any) -> Any:
    """The smallest cosine of g and s * g over positive s with max s / min s = spread.

    Kantorovich's inequality; attained by two elements of size 1 and sqrt(spread) whose
    factors are `spread` and 1.
    """
    return 2 * spread**0.5 / (1 + spread)


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def between(results: Results) -> Estimate:
    """Degrees between the two gradients, as SGD's updates have them."""
    experiment = results.experiment
    a, b = (
        results.selected(problem)["update_elements"]
        .sel(optimizer="SGD")
        .isel(seed=0, step=0)
        .values.astype(np.float64)
        for problem in experiment.problems[:2]
    )
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return _exact(float(np.degrees(np.arccos(cosine))))


def farthest(place: int, expected: float, rules: tuple[str, ...]) -> Prediction:
    """That all these rules turn gradient `place` by `expected` degrees, to 0.01."""

    def measure(results: Results) -> Estimate:
        angles = _degrees(results.selected(results.experiment.problems[place]))
        return _exact(float(np.abs(angles.sel(optimizer=list(rules)) - expected).max()))

    gradient = list(map(int, DEFAULT.problems[place].gradient))  # type: ignore[attr-defined]
    names = ", ".join(rules)
    return Prediction(
        f"{names}: {expected} degrees from -{gradient}, to 0.01",
        "arithmetic",
        measure,
        at_most=0.01,
    )


def margin(results: Results) -> Estimate:
    """The smallest excess of a measured cosine over the bound for its spread."""
    datasets = [results.selected(problem) for problem in results.experiment.problems]
    excess = [(d["alignment"] - bound(d["anisotropy"])).min() for d in datasets]
    return _exact(float(min(excess)))


PREDICTIONS = (
    Prediction(
        "[10, 20, 40] and [1, 2, 100] are 27.92 to 27.93 degrees apart",
        "arithmetic",
        between,
        at_least=27.92,
        at_most=27.93,
    ),
    farthest(0, 0.0, ("SGD", "NormalisedGD")),
    farthest(0, 28.13, tuple(map(str, SIGN_LIKE))),
    farthest(1, 53.52, tuple(map(str, SIGN_LIKE))),
    farthest(0, 28.13, ("Adagrad",)),
    Prediction(
        "no update falls below the cosine 2 sqrt(k) / (1 + k), to 1e-6",
        "Kantorovich (1948)",
        margin,
        at_least=-1e-6,
    ),
)


def draw(results: Results) -> dict[str, Figure]:
    """The vectors in their plane and in space, the turn by optimizer, the law."""
    from matplotlib.figure import Figure

    from study import figures

    figure = Figure(figsize=(figures.width(), 5.6), layout="constrained")
    plane = figure.add_subplot(2, 2, 1)
    space = figure.add_subplot(2, 2, 2, projection="3d")
    first, second = results.experiment.problems[:2]
    vectors = [np.asarray(p.gradient) for p in (first, second)]  # type: ignore[attr-defined]
    names = ["[" + ", ".join(f"{x:g}" for x in v) + "]" for v in vectors]
    _draw_plane(plane, vectors, names)
    if len(vectors[0]) == 3:
        _draw_space(space, vectors, names)
    _draw_turns(figure.add_subplot(2, 2, 3), results, names)
    _draw_law(figure.add_subplot(2, 2, 4), results)
    figures.note(
        figure, f"a to c: one step; nothing is random. d: {results.count():,} gradients."
    )
    return {"figure": figure}


COLOURS = ("#0072b2", "#d55e00")
SIGN_COLOUR = "#000000"


def _degrees(dataset: xr.Dataset) -> xr.DataArray:
    return dataset["angle"].isel(step=0) * (180 / np.pi)


def _draw_plane(axes: Axes, vectors: list[np.ndarray], names: list[str]) -> None:
    """Both as unit vectors in the plane they span, the angle between them in scale."""
    units = [v / np.linalg.norm(v) for v in vectors]
    angle = np.arccos(np.clip(units[0] @ units[1], -1, 1))
    turns = (np.pi / 4 - angle / 2, np.pi / 4 + angle / 2)
    for turn, name, colour in zip(turns, names, COLOURS, strict=True):
        end = (float(np.cos(turn)), float(np.sin(turn)))
        axes.annotate(
            "", end, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2}
        )
        axes.text(
            1.05 * end[0], 1.05 * end[1], name, color=colour, va="center", fontweight="bold"
        )
    arc = np.linspace(*turns, 50)
    axes.plot(0.5 * np.cos(arc), 0.5 * np.sin(arc), color="#555555", lw=1)
    axes.text(0.4, 0.4, f"{np.degrees(angle):.2f}°", ha="left", va="bottom")
    axes.set(xlim=(-0.05, 1.6), ylim=(-0.05, 1.1), aspect="equal")
    axes.set_axis_off()
    axes.set_title("a  Rescaling elements turns a vector")


def _draw_space(axes: Axes, vectors: list[np.ndarray], names: list[str]) -> None:
    """Both as unit vectors in space, with what a sign-like rule makes of either."""
    drawn = [*vectors, np.ones(3)]
    colours = [*COLOURS, SIGN_COLOUR]
    for vector, name, colour in zip(drawn, [*names, "[1, 1, 1]"], colours, strict=True):
        x, y, z = vector / np.linalg.norm(vector)
        axes.quiver(0, 0, 0, x, y, z, color=colour, arrow_length_ratio=0.1, lw=2)  # type: ignore
        axes.text(1.08 * x, 1.08 * y, 1.08 * z, name, color=colour)  # type: ignore
    axes.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
    axes.set(xticks=(0, 1), yticks=(0, 1), zticks=(0, 1))
    axes.set(xlabel="element 1", ylabel="element 2", zlabel="element 3")
    axes.view_init(elev=20, azim=-52)  # type: ignore[attr-defined]
    axes.set_box_aspect(None, zoom=0.85)  # type: ignore[call-arg]
    axes.set_title("b  Sign-like rules make both [1, 1, 1]")


def _draw_turns(axes: Axes, results: Results, names: list[str]) -> None:
    """How far each optimizer's first update turns from each -g."""
    entries = results.experiment.optimizers
    rows = np.arange(len(entries))
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        angles = _degrees(results.selected(results.experiment.problems[place]))
        values = angles.isel(seed=0).sel(optimizer=list(map(str, entries))).values
        level = rows + 0.24 * place - 0.12
        axes.plot(values, level, "os"[place], color=colour, ms=4.5, label=name)
        axes.hlines(level, 0, values, color=colour, lw=0.9, alpha=0.6)
    axes.set_yticks(rows, [entry.title for entry in entries])
    axes.invert_yaxis()
    axes.set(xlabel="First update's angle from $-g$ (degrees)", xlim=(-2, 65))
    axes.legend(loc="upper right")
    axes.set_title("c  What the first update does to each")


def _draw_law(axes: Axes, results: Results) -> None:
    """Cosine against spread: the bound, and every measured update above it."""
    spread = np.geomspace(1, 1e4, 200)
    axes.plot(spread, bound(spread), color="black", lw=1.5)
    axes.fill_between(spread, 0, bound(spread), color="#dddddd", lw=0)
    axes.text(1.3, 0.1, "no rescaling\ncan get here", fontsize=7.5, va="center")
    axes.text(90, 0.25, r"$2\sqrt{k}\,/\,(1 + k)$", fontsize=8)
    first, second, cloud = results.experiment.problems
    entries = results.experiment.optimizers
    entry = optimizers.Adam() if optimizers.Adam() in entries else entries[-1]
    points = results.selected(cloud).sel(optimizer=str(entry)).isel(step=0)
    axes.plot(
        points.anisotropy,
        points.alignment,
        ".",
        color="#999999",
        ms=3,
        rasterized=True,
        label=f"{entry.title} on random gradients",
    )
    for problem, colour, marker in zip((first, second), COLOURS, "os", strict=True):
        at = results.selected(problem).sel(optimizer=str(entry)).isel(step=0, seed=0)
        axes.plot(at.anisotropy, at.alignment, marker, color=colour, ms=6)
    axes.set(xscale="log", xlim=(1, 1e4), ylim=(0, 1.03))
    axes.set(xlabel=r"Spread of the rescaling, $k = \max s / \min s$")
    axes.set(ylabel=r"$\cos(u, -g)$")
    axes.legend(loc="upper right", handletextpad=0.1)
    axes.set_title("d  How far a rescaling can turn")


if __name__ == "__main__":
    cli.main(__spec__.name)
