"""Which optimizers step in the same direction?

Question.   Given the same gradients, how many degrees lie between the updates of any two
            optimizers, and which of them form families?
Prediction. Decoupled decay changes nothing (Adam and AdamW: 0 degrees), look-ahead little
            (Adam and NAdam: at most 20). Families follow averaging first and rescaling
            second: Adam lies nearer to its average, not rescaled, than to RMSProp, which
            rescales alike and averages nothing. Sign descent lies at least 45 degrees from
            SGD, and Lion, which averages ten times longer, at least as far from sign
            descent.
Varied.     Scientific: pairs of optimizers. Fixed: one trajectory of SGD on digits at
            learning rate 0.1, whose gradients every optimizer is shown; its own parameters
            follow its own updates. Angles are means over eight steps of the second half;
            intervals are over five starts and orders of batches. The batch loss is taken
            to bend alike in all directions where a rule asks for it, so SAM, which looks
            along the gradient, is parallel to SGD by construction.
Cost.       Two and a half minutes on two CPU cores, nearly all of it compilation.

    python -m experiments.direction_map             run, store, judge, draw
    python -m experiments.direction_map --draw      draw stored records again
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import OPTIMIZERS, Optimizer
from study.problems import Digits, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

WATCHED = 8


@dataclasses.dataclass(frozen=True)
class DirectionMap(Comparison):
    """Updates of all optimizers on the gradients of one trajectory."""

    guide: Optimizer = optimizers.SGD()
    """Whose training the gradients come from."""
    guide_rate: float = 0.1
    """Its learning rate."""
    learning_rate: float = 1e-3
    """Of the optimizers shown the gradients; 1 for those that find their own."""
    steps: int = 200
    """Gradients; the compared steps lie evenly in the second half."""
    seeds: int = 5
    """Trajectories."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if self.steps < 2 * WATCHED:
            self.refuse("steps", f"at least {2 * WATCHED}")
        if self.seeds < 1:
            self.refuse("seeds", "at least 1")


DEFAULT = DirectionMap(
    problem=Digits(),
    optimizers=tuple(OPTIMIZERS[name]() for name in OPTIMIZERS),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(depth=0, batch_size=8),
        optimizers=(optimizers.SGD(), optimizers.Adam(), optimizers.SignDescent()),
        steps=16,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, problem=Digits(width=256), steps=2_000),
}
KEPT = ("between", "between_by_leaf")


def run_cell(
    experiment: DirectionMap,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """An optimizer's updates [seed, step, element] at the compared steps."""
    import jax
    import xarray as xr

    from study import devices, streams, sweep, trees

    begun = time.perf_counter()
    rate = 1.0 if optimizer.own_rate else experiment.learning_rate
    watched = np.linspace(experiment.steps // 2, experiment.steps - 1, WATCHED).astype(int)
    with devices.precision(problem.dtype):
        many = _streams(
            problem,
            experiment.guide,
            experiment.guide_rate,
            experiment.steps,
            experiment.seeds,
        )

        def updates(stream: Any) -> Any:
            made = streams.updates(optimizer, rate, stream)
            return streams.vector(jax.tree.map(lambda u: u[watched], made))

        found = np.asarray(devices.jit(jax.vmap(updates))(many))
        params = jax.eval_shape(problem.init, jax.random.key(0))
        dataset = xr.Dataset(
            {"updates": (("seed", "step", "element"), found)},
            {"step": watched.astype(np.int32)},
            {
                "leaves": " ".join(trees.names(params)),
                "sizes": np.asarray(trees.sizes(params), np.int32),
            },
        )
        return sweep.finish(dataset, problem, optimizer, begun, experiment.seeds)


@functools.lru_cache(maxsize=1)
def _streams(
    problem: Problem, guide: Optimizer, guide_rate: float, steps: int, seeds: int
) -> Any:
    import jax
    import jax.numpy as jnp

    from study import devices, streams

    record = functools.partial(streams.record, problem, guide, guide_rate, steps)
    many = devices.jit(jax.vmap(record, in_axes=(0, None)))
    return many(jnp.arange(seeds, dtype=jnp.int32), problem.data())


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Angles between any two optimizers' updates, means over steps, in radians.

    `between` [seed, pair] and `between_by_leaf` [leaf, pair], the median over seeds; NaN
    where one of the two does not move. Pairs are in the order of SciPy's `squareform`, the
    upper triangle row by row; `matrix` spreads them out again.
    """
    import xarray as xr

    updates = dataset["updates"].transpose("seed", "step", "optimizer", "element").values
    ends = np.cumsum(np.atleast_1d(dataset.attrs["sizes"]))
    parts = np.split(updates, ends[:-1], axis=-1)
    units = {"units": "radian"}
    whole = np.stack([_angles(run) for run in updates])
    leaves = np.stack([np.stack([_angles(run) for run in part]) for part in parts])
    by_leaf = xr.DataArray(leaves, dims=("leaf", "seed", "pair"))
    return xr.Dataset(
        {
            "between": (("seed", "pair"), whole, units),
            "between_by_leaf": by_leaf.median("seed").assign_attrs(units),
        },
        {"leaf": dataset.attrs["leaves"].split()},
        {"problem": dataset.attrs["problem"]},
    )


def matrix(pairs: np.ndarray) -> np.ndarray:
    """Angles [..., optimizer, other] of pairs [..., pair]; NaN for one that never moves."""
    from scipy.spatial.distance import squareform

    flat = pairs.reshape(-1, pairs.shape[-1])
    square = np.stack([squareform(one, checks=False) for one in flat])
    still = np.isnan(square).sum(-1) == square.shape[-1] - 1
    rows, places = np.nonzero(still)
    square[rows, places, places] = np.nan
    return square.reshape(*pairs.shape[:-1], *square.shape[1:])


def _angles(updates: np.ndarray) -> np.ndarray:
    """Mean angles [pair] over steps of updates [step, optimizer, element]."""
    total = np.zeros(updates.shape[1:2] * 2)
    for step in updates.astype(np.float64):
        largest = np.abs(step).max(-1, keepdims=True)
        with np.errstate(all="ignore"):
            unit = step / largest
            unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
            cosine = np.clip(unit @ unit.T, -1, 1)
        total += np.arccos(cosine)
    return total[np.triu_indices(len(total), 1)] / len(updates)


# Verdicts ---------------------------------------------------------------------------------


def degrees(results: Results, one: str, other: str) -> np.ndarray:
    """Degrees between two optimizers' updates [seed]."""
    records = results.selected(results.experiment.problem)
    names = [str(optimizer) for optimizer in results.experiment.optimizers]
    if missing := {one, other} - set(names):
        raise KeyError(missing.pop())
    places = [names.index(name) for name in (one, other)]
    return np.degrees(matrix(records.between.values))[:, *places]


def _middle(results: Results) -> np.ndarray:
    """Degrees [optimizer, other], the median over seeds."""
    records = results.selected(results.experiment.problem)
    return np.degrees(matrix(records.between.median("seed").values))


def _between(one: str, other: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        return statistics.bootstrap(degrees(results, one, other))

    return measure


def _nearer_to_average(results: Results) -> Estimate:
    return statistics.paired(
        degrees(results, "Adam", "RMSProp"), degrees(results, "Adam", "Averaging")
    )


PREDICTIONS = (
    Prediction(
        "Adam and AdamW: 0 degrees, to 0.1",
        "decoupled decay is no part of the direction",
        _between("Adam", "AdamW"),
        at_most=0.1,
    ),
    Prediction(
        "Adam and NAdam: at most 20 degrees",
        "own expectation: a tenth of the newest gradient more",
        _between("Adam", "NAdam"),
        at_most=20,
    ),
    Prediction(
        "Adam is nearer to its average, not rescaled, than to RMSProp",
        "own expectation: noise between batches outweighs differences of scale",
        _nearer_to_average,
        at_least=0,
    ),
    Prediction(
        "sign descent and SGD: at least 45 degrees",
        "own expectation: gradients of networks are not dense",
        _between("SignDescent", "SGD"),
        at_least=45,
    ),
    Prediction(
        "Lion and sign descent: at least 45 degrees",
        "own expectation: most signs of a batch are noise",
        _between("Lion", "SignDescent"),
        at_least=45,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each optimizer: its family, nearest fellow, angle to the first."""
    del manifest
    between = _middle(results)
    names = [str(optimizer) for optimizer in results.experiment.optimizers]
    families = dict(zip(*_families(between), strict=True))
    for i, name in enumerate(names):
        others = np.where(np.arange(len(names)) == i, np.nan, between[i])
        nearest = int(np.nanargmin(others)) if np.isfinite(others).any() else i
        yield {
            "optimizer": name,
            "family": families.get(i, 0),
            "nearest": names[nearest],
            "degrees_to_nearest": others[nearest],
            "degrees_to_first": between[i, 0],
        }


# Figures ----------------------------------------------------------------------------------

FAMILY = 60.0
"""Degrees; optimizers whose mean distance is smaller form a family."""


def draw(results: Results) -> dict[str, Figure]:
    """The clustered map, the plane, and the map of each leaf in the same order."""
    return {
        "figure": _draw_map(results),
        "figure-plane": _draw_plane(results),
        "figure-leaves": _draw_leaves(results),
    }


def _movers(between: np.ndarray) -> np.ndarray:
    """The places of optimizers that move at every compared step."""
    return np.flatnonzero(np.isfinite(np.diagonal(between)))


def _tree(between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the optimizers that move, and their average-linkage tree."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    movers = _movers(between)
    distances = squareform(between[np.ix_(movers, movers)], checks=False)
    linkage = hierarchy.average(distances)
    return movers, hierarchy.optimal_leaf_ordering(linkage, distances)


def _families(between: np.ndarray) -> tuple[list[int], list[int]]:
    """Place and family, counted from 1, of every optimizer that moves."""
    from scipy.cluster import hierarchy

    movers, linkage = _tree(between)
    return list(movers), list(hierarchy.fcluster(linkage, FAMILY, "distance"))


def _ordered(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Places in the order of the tree, and degrees between all."""
    from scipy.cluster import hierarchy

    between = _middle(results)
    movers, linkage = _tree(between)
    return movers[hierarchy.leaves_list(linkage)], between


def _draw_map(results: Results) -> Figure:
    from matplotlib.figure import Figure
    from scipy.cluster import hierarchy

    from study import figures

    order, between = _ordered(results)
    entries = results.experiment.optimizers
    size = 2.2 + 0.115 * len(order)
    figure = Figure(
        figsize=(max(size + 1.2, figures.width()), max(size, 4)), layout="constrained"
    )
    trunk, panel = figure.subplots(1, 2, width_ratios=(1, 5))
    _, linkage = _tree(between)
    hierarchy.dendrogram(
        linkage,
        ax=trunk,
        orientation="left",
        no_labels=True,
        color_threshold=0,
        above_threshold_color="#555555",
    )
    trunk.set(ylim=(0, 10 * len(order)), xlabel="degrees")
    trunk.invert_yaxis()
    trunk.axvline(FAMILY, color="#b10000", lw=0.8, ls="--")
    for side in ("left", "top", "right"):
        trunk.spines[side].set_visible(False)
    trunk.grid(False)
    image = _heat(panel, between[np.ix_(order, order)])
    labels = [entries[i].label for i in order]
    panel.set_yticks(np.arange(len(order)) + 0.5, labels, fontsize=6)
    panel.set_xticks(np.arange(len(order)) + 0.5, labels, fontsize=6, rotation=90)
    panel.yaxis.tick_right()
    figure.colorbar(image, ax=panel, label="degrees between updates", pad=0.02, aspect=40)
    figure.suptitle(
        f"Angles between updates on the same gradients: {results.experiment.problem.label}",
        fontsize=9,
        fontweight="bold",
    )
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


def _heat(axes: Axes, values: np.ndarray) -> Any:
    image = axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=90, rasterized=True)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.grid(False)
    return image


def plane(between: np.ndarray) -> tuple[np.ndarray, float]:
    """Classical scaling (Torgerson 1952) of distances [point, point] to two dimensions.

    Returns:
        Points [point, 2], and the share of the squared distances' sum that they hold.
    """
    centre = np.eye(len(between)) - 1 / len(between)
    values, vectors = np.linalg.eigh(-centre @ between**2 @ centre / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(between))])
    points = (vectors * signs)[:, :2] * np.sqrt(np.maximum(values[:2], 0))
    return points, float(values[:2].sum() / values[values > 0].sum())


def _draw_plane(results: Results) -> Figure:
    from study import figures

    order, between = _ordered(results)
    entries = [results.experiment.optimizers[i] for i in order]
    points, share = plane(between[np.ix_(order, order)])
    figure, axes = figures.panels(1, 1, height=5.4)
    panel = axes[0, 0]
    figures.scatter_labels(
        panel, points, [e.label for e in entries], [e.colour for e in entries]
    )
    panel.set(xlabel="degrees", ylabel="degrees", aspect="equal")
    panel.margins(0.12)
    panel.set_title(f"Directions in a plane ({share:.0%} of the squared angles)")
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


def _draw_leaves(results: Results) -> Figure:
    from study import figures

    order, _ = _ordered(results)
    records = results.selected(results.experiment.problem)
    leaves = records.leaf.values
    figure, axes = figures.panels(-(-len(leaves) // 3), 3, height=2.4)
    image: Any = None
    for panel, leaf in zip(axes.ravel(), leaves, strict=False):
        values = np.degrees(matrix(records.between_by_leaf.sel(leaf=leaf).values))
        image = _heat(panel, values[np.ix_(order, order)])
        panel.set(xticks=(), yticks=(), title=str(leaf))
    for panel in axes.ravel()[len(leaves) :]:
        panel.set_axis_off()
    figure.colorbar(image, ax=axes, label="degrees, optimizers ordered as in the map")
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


if __name__ == "__main__":
    cli.main(__spec__.name)
