"""When gradients explode, what does clipping save, and what does it cost in direction?

Question.   Networks that start with too large weights, and a recurrent one: which treatment
            of the gradient lets SGD train them, by how much does the loss overshoot on the
            way, and by how many degrees does each treatment turn the gradient?
Prediction. Clipping by the norm of the whole vector, and normalising it, cost 0 degrees. By
            leaf costs at least 5 and by element at least 20 degrees on the ReLU network,
            whose layers differ. SGD alone ends above a guess's loss on the ReLU network,
            clipped by the norm below a third of it. On the recurrent network clipping by
            the norm ends lower than SGD alone on every seed.
Varied.     Scientific: treatment of the gradient, network, rule behind it. Nuisance:
            learning rate (by decades) and clipping limit (0.1, 1, 10), selected together
            by the loss at the end on three seeds apart. Fixed: 300 steps, ten seeds.
Cost.       Three minutes on two CPU cores.

    python -m experiments.exploding             run, store, judge, draw
    python -m experiments.exploding --draw      draw stored records again

Clipping by the norm: Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063; by element: Mikolov
(2012); by leaf, here each leaf to the limit times the root of its share of the elements.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import Altered, DeepBlobs, Problem, Recall
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Treatment = Literal["none", "norm", "leaf", "element", "normalised", "normalised by leaf"]
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)
CLIPPED = ("norm", "leaf", "element")


@dataclasses.dataclass(frozen=True)
class Exploding(Comparison):
    """Each network with each treatment of its gradients."""

    tanh: DeepBlobs = DeepBlobs(depth=12, gain=3.0, activation="tanh", points=64)
    """Twelve tanh layers with weights three times as large as they should be."""
    recurrent: Recall = Recall(length=12, gain=2.0)
    """A recurrent network with a matrix of twice the length."""
    treatments: tuple[Treatment, ...] = TREATMENTS
    """What becomes of gradients; of TREATMENTS."""
    learning_rates: tuple[float, ...] = log_grid(-5, 0)
    """The grid."""
    limits: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Of clipping."""
    steps: int = 300
    """Updates."""
    watched: int = 50
    """The first of them, over which the turn is averaged."""
    seeds: int = 10
    """Reported."""
    selection_seeds: int = 3
    """Only to select rate and limit."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("treatments", "learning_rates", "limits")
        for name in ("steps", "watched", "seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        if self.watched > self.steps:
            self.refuse("watched", "at most the steps")


DEFAULT = Exploding(
    problem=DeepBlobs(depth=8, gain=3.0, points=64),
    optimizers=(optimizers.SGD(), optimizers.Adam()),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=DeepBlobs(depth=2, width=4, points=8, gain=3.0),
        tanh=DeepBlobs(depth=2, width=4, points=8, activation="tanh"),
        recurrent=Recall(length=3, width=4, batch_size=4),
        optimizers=(optimizers.SGD(),),
        treatments=("none", "element"),
        learning_rates=(0.01,),
        limits=(1.0,),
        steps=3,
        watched=2,
        seeds=2,
        selection_seeds=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        learning_rates=log_grid(-6, 1, per_decade=2),
        limits=log_grid(-2, 2, per_decade=2),
        steps=3_000,
        seeds=30,
    ),
}
KEPT = ("loss", "turn", "overshoot", "rate", "limit", "finite")


@dataclasses.dataclass(frozen=True, eq=False)
class Treated(Altered):
    """A problem whose gradient is treated before the rule sees it, for `train.step`."""

    treatment: str
    limit: Any

    def slope(self, params: Any, batch: Any) -> tuple[Any, Any]:
        """The problem's loss, and its gradient treated by Optax."""
        return self.problem.slope(
            params, batch, lambda grad: treat(grad, self.treatment, self.limit)
        )


def treat(grad: Any, treatment: str, limit: Any) -> Any:
    """A gradient after one of TREATMENTS; zero stays zero.

    By leaf, each leaf is clipped to limit * sqrt(elements of the leaf / all elements), so
    that the whole is as long at most as when clipped by the norm; by element, each to
    limit / sqrt(all elements).
    """
    import jax
    import jax.numpy as jnp
    import optax

    from study import transforms

    total = sum(leaf.size for leaf in jax.tree.leaves(grad))
    share = lambda size: limit * jnp.sqrt(jnp.asarray(size / total, jnp.float32))  # noqa: E731

    def by_leaf(leaf: Any) -> Any:
        rule = optax.clip_by_global_norm(share(leaf.size))
        return rule.update(leaf, rule.init(leaf))[0]

    rules: dict[str, Callable[[], Any]] = {
        "norm": lambda: optax.clip_by_global_norm(limit),
        "element": lambda: optax.clip(share(1)),
        "normalised": lambda: optax.normalize_by_update_norm(eps=1e-30),
        "normalised by leaf": lambda: transforms.normalise_leaves(1e-30),
    }
    if treatment == "none":
        return grad
    if treatment == "leaf":
        return jax.tree.map(by_leaf, grad)
    rule = rules[treatment]()
    return rule.update(grad, rule.init(grad))[0]


def run_cell(
    experiment: Exploding,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All treatments, limits, rates and seeds of one rule.

    Over [treatment, limit, learning_rate, seed]: `selected_by` and `reported`, the losses
    after the last step, `turn`, the mean angle between the treated and the plain gradient
    over the first steps, and `overshoot`, the highest batch loss over the first one.
    Treatments without a limit have all of them at the first.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    rates = np.asarray(experiment.learning_rates, problem.dtype)
    limits = np.asarray(experiment.limits, problem.dtype)
    seeds = tuple(range(experiment.seeds + experiment.selection_seeds))
    parts = []
    with devices.precision(problem.dtype):
        shared = (problem.data(), sweep.starts(problem, seeds))
        for i, treatment in enumerate(experiment.treatments):
            here = limits if treatment in CLIPPED else limits[:1]
            grid = np.meshgrid(here, rates, np.asarray(seeds, np.int32), indexing="ij")
            runs = [axis.ravel() for axis in grid]
            run = _trainer(experiment, problem, optimizer, treatment)
            found = devices.map_runs(run, shared, runs)
            shape = (len(limits), *grid[0].shape[1:])
            parts.append(
                {
                    name: np.broadcast_to(x.reshape(len(here), *shape[1:]), shape)
                    for name, x in found.items()
                }
            )
            progress((i + 1) / len(experiment.treatments))
        dims = ("treatment", "limit", "learning_rate", "seed")
        variables: dict[str, Any] = {
            name: (dims, np.stack([part[name] for part in parts])) for name in parts[0]
        }
        variables["turn"] = (*variables["turn"], {"units": "radian"})
        dataset = xr.Dataset(
            variables,
            {
                "treatment": list(experiment.treatments),
                "limit": list(experiment.limits),
                "learning_rate": list(experiment.learning_rates),
            },
            {"reported_seeds": experiment.seeds},
        )
        return sweep.finish(
            dataset, problem, optimizer, begun, len(TREATMENTS) * rates.size
        )


def _trainer(
    experiment: Exploding, problem: Problem, optimizer: Optimizer, treatment: str
) -> Any:
    import jax
    import jax.numpy as jnp

    from study import train, trees

    def run(data: Any, starts: Any, limit: Any, rate: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
        treated: Any = Treated(problem, treatment, limit)

        def advance(state: Any, t: Any) -> tuple[Any, Any]:
            after, step = train.step(treated, optimizer, data, rate, key, state, t)
            return after, step.loss

        def watched(state: Any, t: Any) -> tuple[Any, Any]:
            grad = problem.slope(state.params, problem.batch(data, key, t))[1]
            turn = trees.angle(treat(grad, treatment, limit), grad)
            after, loss = advance(state, t)
            return after, (loss, turn)

        kind = problem.state_dtype
        state = train.start(optimizer, rate, params, shadowed=False, dtype=kind)
        state, (first, turns) = jax.lax.scan(watched, state, jnp.arange(experiment.watched))
        rest = jnp.arange(experiment.watched, experiment.steps)
        state, losses = jax.lax.scan(advance, state, rest)
        every = jnp.concatenate([first, losses])
        shown = problem.evaluate(data, state.params)
        return {
            "selected_by": shown[str(problem.selects)],
            "reported": shown[str(problem.reports)],
            "turn": turns.mean(),
            "overshoot": every.max() / every[0],
        }

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each treatment at its best rate and limit, on the reported seeds.

    Over [optimizer, treatment, seed]: `loss` at the end, `turn`, `overshoot`; over
    [optimizer, treatment] the selected `rate` and `limit`, and `finite`, the share of all
    runs on the grid that end finite.
    """
    import xarray as xr

    order = ("optimizer", "treatment", "limit", "learning_rate", "seed")
    names = ("selected_by", "reported", "turn", "overshoot")
    arrays = {name: dataset[name].transpose(*order).values for name in names}
    count = dataset.attrs["reported_seeds"]
    shape = arrays["turn"].shape[:2]
    out = {name: np.full((*shape, count), np.nan) for name in names[1:]}
    rate, limit, finite = np.full((3, *shape), np.nan)
    for place in np.ndindex(*shape):
        judged = arrays["selected_by"][place][..., count:]
        grid = judged.shape[:2]
        selection = statistics.select(judged.reshape(-1, judged.shape[-1]))
        finite[place] = np.isfinite(arrays["reported"][place][..., :count]).mean()
        if not selection.found:
            continue
        at = np.unravel_index(selection.place, grid)
        limit[place] = dataset.limit.values[at[0]]
        rate[place] = dataset.learning_rate.values[at[1]]
        for name in out:
            out[name][place] = arrays[name][place][at][:count]
    dims = ("optimizer", "treatment", "seed")
    return xr.Dataset(
        {
            "loss": (dims, out["reported"]),
            "turn": (dims, out["turn"], {"units": "radian"}),
            "overshoot": (dims, out["overshoot"]),
            "rate": (dims[:2], rate),
            "limit": (dims[:2], limit),
            "finite": (dims[:2], finite),
        },
        {"optimizer": dataset.optimizer, "treatment": dataset.treatment},
        {"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------


def found(
    results: Results, net: str, treatment: str, name: str, rule: str = "SGD"
) -> np.ndarray:
    """`loss`, `turn` (degrees) or `overshoot` [seed] at the selected rate and limit."""
    records = results.selected(getattr(results.experiment, net))
    values = records[name].sel(optimizer=rule, treatment=treatment).values
    return np.degrees(values) if name == "turn" else values


def _median(net: str, treatment: str, name: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        values = found(results, net, treatment, name)
        return statistics.bootstrap(statistics.worst(values) if name == "loss" else values)

    return measure


def _lower(results: Results) -> Estimate:
    """The largest difference of any seed: clipped by the norm less SGD alone."""
    pair = [found(results, "recurrent", t, "loss") for t in ("norm", "none")]
    away = statistics.worst(pair[0]) - statistics.worst(pair[1])
    value = float(np.nan if np.isnan(away).any() else away.max())
    return Estimate(value, value, value, len(away))


GUESS = float(np.log(4))
TITLES = {"problem": "ReLU", "tanh": "tanh", "recurrent": "recurrent"}
PREDICTIONS = (
    *(
        Prediction(
            f"{title}: {treatment} turns the gradient by 0 degrees, to 0.1",
            "one factor on the whole vector",
            _median(net, treatment, "turn"),
            at_most=0.1,
        )
        for net, title in TITLES.items()
        for treatment in ("norm", "normalised")
    ),
    Prediction(
        "ReLU: clipping by leaf turns it by 5 degrees or more",
        "own expectation",
        _median("problem", "leaf", "turn"),
        at_least=5,
    ),
    Prediction(
        "ReLU: clipping by element turns it by 20 degrees or more",
        "own expectation",
        _median("problem", "element", "turn"),
        at_least=20,
    ),
    Prediction(
        "ReLU: SGD alone ends above a guess's loss",
        "own expectation",
        _median("problem", "none", "loss"),
        at_least=GUESS,
    ),
    Prediction(
        "ReLU: SGD clipped by the norm ends below a third of a guess's loss",
        "own expectation",
        _median("problem", "norm", "loss"),
        at_most=GUESS / 3,
    ),
    Prediction(
        "recurrent: clipped by the norm SGD ends lower than alone on every seed",
        "Pascanu et al. 2013",
        _lower,
        at_most=0,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each network, rule and treatment."""
    del manifest
    for net, title in TITLES.items():
        records = results.selected(getattr(results.experiment, net))
        for rule in map(str, results.experiment.optimizers):
            for treatment in map(str, records.treatment.values):
                at = records.sel(optimizer=rule, treatment=treatment)
                losses = statistics.worst(found(results, net, treatment, "loss", rule))
                estimate = statistics.bootstrap(losses)
                turn = found(results, net, treatment, "turn", rule)
                yield {
                    "network": title,
                    "optimizer": rule,
                    "treatment": treatment,
                    "loss": estimate.value,
                    "loss_low": estimate.low,
                    "loss_high": estimate.high,
                    "degrees": statistics.bootstrap(turn).value,
                    "overshoot": float(np.median(statistics.worst(at.overshoot.values))),
                    "learning_rate": float(at.rate),
                    "limit": float(at.limit) if treatment in CLIPPED else np.nan,
                    "finite_share_of_grid": float(at.finite),
                }


# Figure -----------------------------------------------------------------------------------


SHOWN = {
    "loss": "Loss at the end",
    "turn": "Degrees turned",
    "overshoot": "Highest loss\nover the first",
    "finite": "Share of the grid\nthat stays finite",
}
LIMITS = {
    "loss": (0.5e-8, 1e2),
    "turn": (-4, 94),
    "overshoot": (0.8, 4),
    "finite": (0, 1.05),
}
"""Of the axes; what lies beyond is drawn at the end, a loss of 0 at the left one."""


def draw(results: Results) -> dict[str, Figure]:
    """What each treatment saves and costs, a row of panels for each network."""
    from study import figures

    figure, axes = figures.panels(3, len(SHOWN), height=1.7, sharey=True)
    looks = figures.look(results.experiment.optimizers)
    treatments = results.experiment.treatments  # type: ignore[attr-defined]
    rows = np.arange(len(treatments))
    for row, (net, title) in enumerate(TITLES.items()):
        records = results.selected(getattr(results.experiment, net))
        for column, (name, label) in enumerate(SHOWN.items()):
            panel, reach = axes[row, column], LIMITS[name]
            for i, (rule, look) in enumerate(looks.items()):
                level = rows + 0.3 * i - 0.15
                style = {"color": look["color"], "ms": 4, "label": look["label"]}
                at = records.sel(optimizer=rule, treatment=list(treatments))
                if name == "finite":
                    panel.plot(at.finite, level, look["marker"], **style)
                    continue
                values = np.stack([found(results, net, t, name, rule) for t in treatments])
                undefined = np.isnan(values).any(1) & (name == "turn")
                values = np.clip(np.where(np.isnan(values), np.inf, values), *reach)
                low, high = statistics.band(values.T)
                middle = np.where(undefined, np.nan, np.median(values, axis=1))
                keep = ~undefined
                panel.hlines(level[keep], low[keep], high[keep], color=look["color"])
                panel.plot(middle, level, look["marker"], **style)
            panel.set_xscale("log" if name == "loss" else "linear")
            panel.set_xlim(reach)
            panel.minorticks_off()
            if row == 0:
                panel.set_title(label, loc="center")
        axes[row, 0].set_yticks(rows, treatments)
        axes[row, 0].set_ylabel(title, fontweight="bold")
        axes[row, 0].set_ylim(len(rows) - 0.5, -0.5)
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
