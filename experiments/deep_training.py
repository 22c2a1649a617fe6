"""In a deep network whose gradients vanish: is training only slower, or over?

Question.   Networks whose early layers receive gradients of 1, 1e-3, 1e-8 or less: which
            rules train them, at any learning rate; and if one does not arrive, is it on a
            plateau, in a wrong minimum, still on its way, or without a direction?
Prediction. A ReLU network with every layer's weights too small by the same factor has
            gradients that are small by one factor alone (they are homogeneous), so
            normalising the whole gradient is enough where SGD fails. Where layers differ
            (biases in the smaller ReLU network, all layers under sigmoids), the whole
            vector points along the late layers, and only rules that normalise each layer
            or element arrive: there SGD and normalised GD stay at a guess, LARS and Muon
            do not.
Varied.     Scientific: network, rule. Nuisance: learning rate, by decades, selected by the
            loss at the end on three seeds of their own. Fixed: 64 points, 1,000 steps of
            all points, three seeds.
Cost.       Nearly six minutes on two CPU cores, two thirds of it compilation.

    python -m experiments.deep_training             run, store, judge, draw
    python -m experiments.deep_training --draw      draw stored records again
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, reporting, statistics
from study.claims import Prediction
from study.experiment import Experiment, log_grid
from study.problems import DeepBlobs
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results

GUESS = float(np.log(4))
"""Loss of a guess among four classes, nats."""
TARGET = 0.1
"""Loss at which a network is trained."""
DEEP = DeepBlobs(points=64)


@dataclasses.dataclass(frozen=True)
class DeepTraining(Experiment):
    """Four networks, from healthy to vanishing."""

    weak: DeepBlobs = DEEP
    """Every ReLU layer halves the squared gradient."""
    weaker: DeepBlobs = dataclasses.replace(DEEP, gain=0.5)
    """Every ReLU layer divides it by eight."""
    sigmoid: DeepBlobs = dataclasses.replace(DEEP, depth=12, activation="sigmoid")
    """Every layer divides it by eighteen."""


DEFAULT = DeepTraining(
    problem=dataclasses.replace(DEEP, gain=1.4142),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Adam(),
        optimizers.NormalisedByLeaf(),
        optimizers.LARS(),
        optimizers.Muon(),
    ),
    learning_rates=log_grid(-4, 1),
    metrics=("gradient_norm", "angle", "zero_share"),
    steps=1_000,
    seeds=3,
    records=20,
    evaluations=50,
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=dataclasses.replace(DEEP, depth=2, width=4),
        weak=dataclasses.replace(DEEP, depth=2, width=4, gain=0.9),
        weaker=dataclasses.replace(DEEP, depth=2, width=4, gain=0.5),
        sigmoid=dataclasses.replace(DEEP, depth=2, width=4, activation="sigmoid"),
        optimizers=(optimizers.SGD(),),
        learning_rates=(0.01, 0.1),
        steps=4,
        seeds=2,
        records=2,
        evaluations=4,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        **{
            name: dataclasses.replace(getattr(DEFAULT, name), points=512)
            for name in ("problem", "weak", "weaker", "sigmoid")
        },
        learning_rates=log_grid(-5, 2, per_decade=2),
        steps=10_000,
        seeds=10,
        selection_seeds=3,
    ),
}
KEPT = ("train_loss", "first_norm", "share", "start_norm", "turn", "start_zero")
NETS = ("problem", "weak", "weaker", "sigmoid")
ENDS: tuple[str, ...] = (
    "arrived",
    "on its way",
    "wrong minimum",
    "plateau",
    "no direction",
    "not finite",
)


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule at its selected rate, by layer where that matters.

    `train_loss` [optimizer, seed, evaluation]; of the kernels, `first_norm` [optimizer,
    seed, step] the length of the first layer's gradient, `share` of the whole squared
    gradient in the later half of the layers; at the start, over [layer], medians over
    seeds: `start_norm`, `turn` (the update's angle from -g, [optimizer, layer]), and
    `start_zero`, the share of elements that are 0.
    """
    import xarray as xr

    chosen = reporting.select(dataset)
    names = [str(leaf) for leaf in chosen.leaf.values]
    kernels = [name for name in names if name.endswith(".kernel")]
    norms = chosen.gradient_norm_by_leaf.transpose("optimizer", "seed", "step", "leaf")
    squares = norms.astype(np.float64).values ** 2
    later = [
        names.index(name)
        for kernel in kernels[len(kernels) // 2 :]
        for name in (kernel, kernel.replace(".kernel", ".bias"))
    ]
    with np.errstate(all="ignore"):
        share = squares[..., later].sum(-1) / squares.sum(-1)
    first = chosen.isel(step=0).sel(leaf=kernels)
    by_layer = lambda name: first[f"{name}_by_leaf"].median("seed").values  # noqa: E731
    dims = ("optimizer", "seed", "step")
    return xr.Dataset(
        {
            "train_loss": chosen.train_loss.transpose("optimizer", "seed", "evaluation"),
            "first_norm": (dims, norms.sel(leaf=kernels[0]).values),
            "share": (dims, share),
            # The same start and the same points for every rule.
            "start_norm": ("layer", by_layer("gradient_norm")[0]),
            "start_zero": ("layer", by_layer("zero_share")[0]),
            "turn": (("optimizer", "layer"), by_layer("angle"), {"units": "radian"}),
        },
        {
            "optimizer": chosen.optimizer,
            "layer": np.arange(len(kernels), dtype=np.int32) + 1,
            "step": chosen.step,
            "evaluation": chosen.evaluation,
            "selected_rate": chosen.selected_rate,
            "at_edge": chosen.at_edge,
        },
        {"problem": dataset.attrs["problem"]},
    )


def ending(losses: np.ndarray, first_norm: float) -> str:
    """What became of one run, one of ENDS.

    Args:
        losses: at the evaluations, [evaluation].
        first_norm: of the first layer's gradient at the last recorded step.
    """
    if not np.isfinite(losses[-1]):
        return "not finite"
    if (losses <= TARGET).any():
        return "arrived"
    if first_norm == 0:
        return "no direction"
    before = losses[-max(2, len(losses) // 4)]
    if losses[-1] < 0.9 * before:
        return "on its way"
    return "plateau" if losses[-1] > 0.9 * GUESS else "wrong minimum"


# Verdicts ---------------------------------------------------------------------------------


def _at(results: Results, net: str, name: str) -> xr.Dataset:
    return results.selected(getattr(results.experiment, net)).sel(optimizer=name)


def ends(results: Results, net: str, name: str) -> np.ndarray:
    """Losses [seed] after the last step; inf where not finite."""
    return statistics.worst(_at(results, net, name).train_loss.values[:, -1])


def steps_to_target(results: Results, net: str, name: str) -> np.ndarray:
    """Steps [seed] to the target, inf for a run that does not arrive."""
    losses = _at(results, net, name).train_loss
    return statistics.time_to_target(losses.values, losses.evaluation.values, TARGET)


def endings(results: Results, net: str, name: str) -> list[str]:
    """What became of each seed's run."""
    at = _at(results, net, name)
    pairs = zip(at.train_loss.values, at.first_norm.values[:, -1], strict=True)
    return [ending(losses, norm) for losses, norm in pairs]


def _extreme(net: str, name: str, worst: bool) -> Callable[[Results], Estimate]:
    """The highest or lowest loss of any seed: with three of them, all must agree."""

    def measure(results: Results) -> Estimate:
        found = ends(results, net, name)
        value = float(found.max() if worst else found.min())
        return Estimate(value, value, value, len(found))

    return measure


def _trained(net: str, title: str, name: str) -> Prediction:
    return Prediction(
        f"{title}, {name}: every seed ends below {TARGET}",
        "own expectation, after one measured seed",
        _extreme(net, name, worst=True),
        at_most=TARGET,
    )


def _stuck(net: str, title: str, name: str, bound: float) -> Prediction:
    return Prediction(
        f"{title}, {name}: every seed ends above {bound}",
        "own expectation, after one measured seed",
        _extreme(net, name, worst=False),
        at_least=bound,
    )


def _dominated(results: Results) -> Estimate:
    return statistics.bootstrap(_at(results, "sigmoid", "SGD").share.values[:, 0])


TITLES = {
    "problem": "ReLU, sw = sqrt 2",
    "weak": "ReLU, sw = 1",
    "weaker": "ReLU, sw = 0.5",
    "sigmoid": "sigmoid, depth 12",
}
PREDICTIONS = (
    *(
        _trained("problem", TITLES["problem"], str(optimizer))
        for optimizer in DEFAULT.optimizers
    ),
    _stuck("weak", TITLES["weak"], "SGD", 1.0),
    _trained("weak", TITLES["weak"], "NormalisedGD(eps=0.0)"),
    _trained("weak", TITLES["weak"], "Adam"),
    _stuck("weaker", TITLES["weaker"], "SGD", 1.3),
    _stuck("weaker", TITLES["weaker"], "NormalisedGD(eps=0.0)", 1.3),
    _trained("weaker", TITLES["weaker"], "Adam"),
    _stuck("sigmoid", TITLES["sigmoid"], "SGD", 1.3),
    _stuck("sigmoid", TITLES["sigmoid"], "NormalisedGD(eps=0.0)", 1.3),
    _trained("sigmoid", TITLES["sigmoid"], "LARS"),
    _trained("sigmoid", TITLES["sigmoid"], "Muon"),
    Prediction(
        "sigmoid: the later half of the layers holds 0.999 or more of the squared gradient",
        "mean field: a factor 18 per layer",
        _dominated,
        at_least=0.999,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each network and rule."""
    del manifest
    for net, title in TITLES.items():
        for optimizer in results.experiment.optimizers:
            name = str(optimizer)
            at = _at(results, net, name)
            found = endings(results, net, name)
            yield {
                "network": title,
                "optimizer": name,
                "learning_rate": float(at.selected_rate),
                "at_edge": int(at.at_edge),
                "loss": float(np.median(ends(results, net, name))),
                "loss_low": float(ends(results, net, name).min()),
                "loss_high": float(ends(results, net, name).max()),
                "steps_to_target": float(np.median(steps_to_target(results, net, name))),
                **{end.replace(" ", "_"): found.count(end) for end in ENDS},
                "first_layer_norm": float(at.start_norm[0]),
                "turn_first_layer": float(np.degrees(at.turn[0])),
                "turn_last_layer": float(np.degrees(at.turn[-1])),
            }


# Figure -----------------------------------------------------------------------------------

COLOURS: dict[str, str] = dict(
    zip(
        ENDS,
        ("#2a7f9e", "#8fc1e3", "#f2d58a", "#d9d9d9", "#6b6b6b", "#b10000"),
        strict=True,
    )
)


def draw(results: Results) -> dict[str, Figure]:
    """Who arrives; gradients by layer; turns by layer; the first layer's gradient."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.9)
    _draw_table(axes[0, 0], results)
    _draw_layers(axes[0, 1], results)
    _draw_turns(axes[1, 0], results)
    _draw_first(axes[1, 1], results)
    handles, labels = axes[1, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=3)
    figures.note(figure, figures.medians(results.count(), bands=False))
    return {"figure": figure}


def _draw_table(axes: Axes, results: Results) -> None:
    from matplotlib.patches import Rectangle

    entries = results.experiment.optimizers
    for row, optimizer in enumerate(entries):
        for column, net in enumerate(NETS):
            found = endings(results, net, str(optimizer))
            steps = float(np.median(steps_to_target(results, net, str(optimizer))))
            found = sorted(found, key=list(COLOURS).index)
            for i, end in enumerate(found):
                corner = (column + 0.02 + 0.96 * i / len(found), row + 0.05)
                size = 0.96 / len(found), 0.9
                axes.add_patch(Rectangle(corner, *size, fc=COLOURS[end], ec="none"))
            usual = found[len(found) // 2]
            text = f"{steps:.0f}" if np.isfinite(steps) else "\n".join(usual.rsplit(" ", 1))
            ink = "white" if usual in ("arrived", "no direction", "not finite") else "black"
            middle = {"ha": "center", "va": "center", "fontsize": 6.5, "color": ink}
            axes.text(column + 0.5, row + 0.5, text, **middle)
    axes.set(xlim=(0, len(NETS)), ylim=(len(entries), 0))
    axes.set_yticks(np.arange(len(entries)) + 0.5, [o.title for o in entries])
    labels = ["ReLU\n$\\sqrt{2}$", "ReLU\n1", "ReLU\n0.5", "sigmoid\n1"]
    axes.set_xticks(np.arange(len(NETS)) + 0.5, labels)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title(r"a  Steps to a loss of 0.1, by $\sigma_w$")


NET_LOOKS = {
    "problem": ("#000000", "-"),
    "weak": ("#0072b2", (0, (5, 1.5))),
    "weaker": ("#d55e00", (0, (1.2, 1.2))),
    "sigmoid": ("#009e73", (0, (5, 1.5, 1, 1.5))),
}


def _draw_layers(axes: Axes, results: Results) -> None:
    from study import figures

    for net, (colour, dash) in NET_LOOKS.items():
        norms = results.selected(getattr(results.experiment, net)).start_norm.values
        shown = np.where(norms > 0, norms, np.nan)
        layers = np.arange(len(norms)) + 1
        axes.plot(layers, shown, color=colour, ls=dash, label=TITLES[net])
    axes.set(
        yscale="log", xlabel="Layer", ylabel="Length of its gradient", ylim=(1e-15, 30)
    )
    axes.set_title("b  Gradients at the start")
    figures.direct_labels(axes, (0.25, 0.8, 0.5, 0.42))


def _draw_turns(axes: Axes, results: Results) -> None:
    """Degrees between update and -g, layer by layer, of every rule on the sigmoid net."""
    from study import figures

    records = results.selected(results.experiment.sigmoid)  # type: ignore[attr-defined]
    for name, look in figures.look(results.experiment.optimizers).items():
        turn = np.degrees(records.turn.sel(optimizer=name))
        axes.plot(np.arange(len(turn)) + 1, turn, **look, markevery=3)
    axes.set(xlabel="Layer", ylabel="Degrees from $-g$", ylim=(-4, 94))
    axes.set_title("c  Sigmoid net: turns at the first step")


def _draw_first(axes: Axes, results: Results) -> None:
    """The first layer's gradient on the sigmoid net along training."""
    from study import figures

    records = results.selected(results.experiment.sigmoid)  # type: ignore[attr-defined]
    for name, look in figures.look(results.experiment.optimizers).items():
        norms = np.median(records.first_norm.sel(optimizer=name).values, axis=0)
        shown = np.where(norms > 0, norms, np.nan)
        axes.plot(records.step, shown, **look, markevery=4)
    axes.set(yscale="log", xlabel="Step", ylabel="First layer's gradient")
    axes.set_title("d  Sigmoid net: first layer's gradient")


if __name__ == "__main__":
    cli.main(__spec__.name)
