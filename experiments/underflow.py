"""When is a number format, not the gradient, what ends training?

Question.   Which steps are too small to move a weight in float16, bfloat16 and float32; and
            in deep networks, which layers lose their gradient to underflow, which lose its
            direction to rounding, and what does loss scaling give back?
Prediction. A weight of 0.833 moves only by steps above half the spacing of its format.
            Under eight sigmoid layers all of the first layer's gradient is 0 in float16,
            and none of it once the loss is multiplied by 2^10; under sixteen that is too
            little; a scale above 65504 overflows. bfloat16 keeps the direction under 24
            sigmoid layers, for it reaches as far as float32, but loses more of it to
            rounding than float16 does under 24 ReLU layers. The whole vector's direction
            shows none of this, for the last layer dominates it.
Varied.     Scientific: format, loss scale, depth, activation, step. Fixed: width 128, 64
            points, normal weights of sigma_w = 1, squared error; ten starts.
Cost.       Half a minute on two CPU cores.

    python -m experiments.underflow             run, store, judge, draw
    python -m experiments.underflow --draw      draw stored records again

Mixed precision and loss scaling: Micikevicius et al. (2018), arXiv:1710.03740. What becomes
of training when all gradients are scaled alike is in `direction_remains`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import OneWeight, Problem, RandomTargets
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

FORMATS = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Underflow(Comparison):
    """First gradients of four networks, and one step of one weight."""

    deeper: RandomTargets = RandomTargets(depth=16)
    """Sixteen sigmoid layers."""
    deepest: RandomTargets = RandomTargets(depth=24)
    """Twenty-four sigmoid layers."""
    relu: RandomTargets = RandomTargets(depth=24, activation="relu")
    """Twenty-four ReLU layers."""
    weight: OneWeight = OneWeight()
    """A weight of 0.833 with gradient 1."""
    scales: tuple[float, ...] = (1.0, 2.0**10, 2.0**17)
    """On the loss."""
    learning_rates: tuple[float, ...] = (2.9e-8, 3.1e-8, 1e-4, 1e-3, 1e-2)
    """Of the weight's one step."""
    seeds: int = 10
    """Starts."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("scales", "learning_rates")
        if self.seeds < 1:
            self.refuse("seeds", "at least 1")


DEFAULT = Underflow(problem=RandomTargets(), optimizers=(optimizers.SGD(),))
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=RandomTargets(depth=2, width=4),
        deeper=RandomTargets(depth=3, width=4),
        deepest=RandomTargets(depth=4, width=4),
        relu=RandomTargets(depth=3, width=4, activation="relu"),
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, seeds=100),
}
SHARES = ("zero", "subnormal", "unbounded", "cosine")
KEPT = ("rms", *SHARES, *(f"first_{name}" for name in SHARES), "whole", "weight")


def run_cell(
    experiment: Underflow,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """Gradients by format and loss scale, beside float64; or the weight after one step.

    Over [format, scale, seed, layer]: shares of elements that are `zero`, `subnormal` or
    `unbounded`, and the `cosine` with float64's gradient, NaN where there is no direction;
    `whole` [format, scale, seed] that of all layers; `rms` [seed, layer] in float64.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    coordinates: dict[str, Any] = {"format": list(FORMATS)}
    with devices.precision("float64"):
        if isinstance(problem, OneWeight):
            rates = experiment.learning_rates
            found = [[_stepped(problem, kind, rate) for rate in rates] for kind in FORMATS]
            variables: dict[str, Any] = {
                "weight": (("format", "learning_rate"), np.array(found), {"exact": 1})
            }
            coordinates["learning_rate"] = list(rates)
        else:
            variables = _gradients(experiment, problem)
            coordinates["scale"] = list(experiment.scales)
            coordinates["layer"] = np.arange(problem.depth, dtype=np.int32) + 1  # type: ignore
        dataset = xr.Dataset(variables, coordinates)
        return sweep.finish(dataset, problem, optimizer, begun, experiment.seeds)


def _stepped(problem: OneWeight, kind: str, rate: float) -> float:
    """The weight after one step of SGD in a format; every such number is a float64."""
    import jax

    from study import train

    low: Any = dataclasses.replace(problem, dtype=kind)
    params = low.init(jax.random.key(0))
    rule = optimizers.SGD()
    state = train.start(rule, rate, params, shadowed=False)
    zero = jax.numpy.zeros((), jax.numpy.int32)
    after, _ = train.step(low, rule, {}, rate, jax.random.key(0), state, zero)
    return float(after.params["w"])


def _gradients(experiment: Underflow, problem: Problem) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from study import devices, sweep, trees

    exact = dataclasses.replace(problem, dtype="float64")

    def look(data: Any, starts: Any, seed: Any) -> Any:
        params = jax.tree.map(lambda leaf: leaf[seed], starts[0])
        wide = trees.cast((params, data), "float64")
        true = exact.slope(*wide)[1]
        found = []
        for kind in FORMATS:
            tiny = float(jnp.finfo(kind).tiny)
            for scale in experiment.scales:
                low = dataclasses.replace(problem, gradient_dtype=kind, loss_scale=scale)
                grad = trees.cast(low.slope(params, data)[1], "float64")
                size = jnp.abs(jnp.stack(jax.tree.leaves(grad)))
                share = lambda which: jnp.mean(which, axis=(1, 2))  # noqa: E731
                found.append(
                    {
                        "zero": share(size == 0),
                        "subnormal": share((size > 0) & (size < tiny / scale)),
                        "unbounded": share(~jnp.isfinite(size)),
                        "cosine": trees.cosine(grad, true, True),
                        "whole": trees.cosine(grad, true),
                    }
                )
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *found)
        squares = [jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(true)]
        return stacked | {"rms": jnp.sqrt(jnp.stack(squares))}

    seeds = tuple(range(experiment.seeds))
    shared = (problem.data(), sweep.starts(problem, seeds))
    found = devices.map_runs(look, shared, (np.array(seeds, np.int32),))
    shape = (len(seeds), len(FORMATS), len(experiment.scales))
    dims = ("seed", "format", "scale", "layer")
    variables = {
        name: (dims[: x.ndim + 1], x.reshape(*shape, *x.shape[2:]))
        for name, x in found.items()
        if name != "rms"
    }
    return variables | {"rms": (("seed", "layer"), found["rms"])}


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Of the one rule: medians over seeds by layer, and `first_...` [seed] of layer 1."""
    one = dataset.isel(optimizer=0, drop=True)
    if "layer" not in one.dims:
        return one
    first = {f"first_{name}": one[name].sel(layer=1, drop=True) for name in SHARES}
    medians = {name: one[name].median("seed", skipna=False) for name in (*SHARES, "rms")}
    return one.assign(medians | first)


# Verdicts ---------------------------------------------------------------------------------


def measured(results: Results, net: str, name: str, kind: str, scale: float) -> np.ndarray:
    """A share or cosine [seed] of the first layer's gradient; `whole` of all layers."""
    records = results.selected(getattr(results.experiment, net))
    name = name if name == "whole" else f"first_{name}"
    return records[name].sel(format=kind, scale=scale).values


def _layer(
    net: str, name: str, kind: str, scale: float = 1.0
) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(measured(results, net, name, kind, scale))


def _defined(results: Results) -> Estimate:
    """Share of starts whose first layer has a direction in float16, eight sigmoids."""
    found = measured(results, "problem", "cosine", "float16", 1.0)
    share = float(np.isfinite(found).mean())
    return Estimate(share, share, share, len(found))


def weight(results: Results, kind: str, rate: float) -> float:
    """The weight after one step; NaN if it was not taken."""
    records = results.selected(results.experiment.weight)  # type: ignore[attr-defined]
    return float(records.weight.sel(format=kind, learning_rate=rate))


STEPPED = {
    ("float16", 1e-4): 0.8330078125,
    ("float16", 1e-3): 0.83203125,
    ("bfloat16", 1e-4): 0.83203125,
    ("bfloat16", 1e-3): 0.83203125,
    ("bfloat16", 1e-2): 0.8203125,
    ("float32", 2.9e-8): 0.8330000042915344,
    ("float32", 3.1e-8): 0.833000004291534423828125 - 2.0**-24,
}
"""The weight after one step, worked out by hand; the first of each format is its start."""


def _bits(kind: str, rate: float, value: float) -> Prediction:
    def measure(results: Results) -> Estimate:
        found = weight(results, kind, rate)
        return Estimate(found, found, found, 1)

    return Prediction(
        f"{kind}, step {rate:g}: the weight reads {value:.10g} afterwards, bit by bit",
        "half the spacing of the format",
        measure,
        at_least=value,
        at_most=value,
    )


PREDICTIONS = (
    *(_bits(kind, rate, value) for (kind, rate), value in STEPPED.items()),
    Prediction(
        "8 sigmoid layers, float16: all of the first layer's gradient is 0",
        "independent run",
        _layer("problem", "zero", "float16"),
        at_least=1,
    ),
    Prediction(
        "8 sigmoid layers, float16: the first layer has no direction at any start",
        "a zero vector has none",
        _defined,
        at_most=0,
    ),
    Prediction(
        "8 sigmoid layers, float16, loss times 2^10: none of it is 0",
        "independent run",
        _layer("problem", "zero", "float16", 2.0**10),
        at_most=0,
    ),
    Prediction(
        "8 sigmoid layers, float16, loss times 2^10: its cosine is above 0.999",
        "independent run",
        _layer("problem", "cosine", "float16", 2.0**10),
        at_least=0.999,
    ),
    Prediction(
        "8 sigmoid layers, float16: the cosine of the whole vector is above 0.999",
        "independent run: the last layer dominates",
        _layer("problem", "whole", "float16"),
        at_least=0.999,
    ),
    Prediction(
        "16 sigmoid layers, float16, loss times 2^10: all of the first layer's is 0",
        "independent run",
        _layer("deeper", "zero", "float16", 2.0**10),
        at_least=1,
    ),
    Prediction(
        "24 sigmoid layers, bfloat16: the first layer's cosine is above 0.999",
        "independent run",
        _layer("deepest", "cosine", "bfloat16"),
        at_least=0.999,
    ),
    Prediction(
        "24 ReLU layers, bfloat16: the first layer's cosine is below 0.97",
        "independent run: 0.948",
        _layer("relu", "cosine", "bfloat16"),
        at_most=0.97,
    ),
    Prediction(
        "24 ReLU layers, float16: the first layer's cosine is above 0.97",
        "independent run: 0.991",
        _layer("relu", "cosine", "float16"),
        at_least=0.97,
    ),
    Prediction(
        "8 sigmoid layers, float16, loss times 2^17: nothing of the gradient is finite",
        "the scale itself is beyond 65504",
        _layer("problem", "unbounded", "float16", 2.0**17),
        at_least=1,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each network, format and loss scale: the first layer, and the whole."""
    del manifest
    for net in NETS:
        problem = getattr(results.experiment, net)
        rms = float(results.selected(problem).rms.sel(layer=1))
        for kind in FORMATS:
            for scale in results.experiment.scales:  # type: ignore[attr-defined]
                row = {"network": str(problem), "format": kind, "loss_scale": scale}
                row |= {"rms_in_float64": rms}
                for name in SHARES:
                    values = measured(results, net, name, kind, scale)
                    row[name] = float(np.median(values))
                values = measured(results, net, "whole", kind, scale)
                yield row | {"cosine_of_all_layers": float(np.median(values))}


# Figure -----------------------------------------------------------------------------------

NETS = ("problem", "deeper", "deepest", "relu")
LOOKS = {
    ("float32", 1.0): ("#0072b2", "-", "float32"),
    ("bfloat16", 1.0): ("#d55e00", (0, (1.2, 1.2)), "bfloat16"),
    ("float16", 1.0): ("#009e73", (0, (5, 1.5)), "float16"),
    ("float16", 2.0**10): (
        "#cc79a7",
        (0, (5, 1.5, 1, 1.5)),
        r"float16, loss $\times 2^{10}$",
    ),
}


def draw(results: Results) -> dict[str, Figure]:
    """Sizes by layer, what is flushed, what is turned, and the table of steps."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.5)
    _draw_sizes(axes[0, 0], results)
    for panel, net, name in (
        (axes[0, 1], "deeper", "zero"),
        (axes[1, 0], "relu", "cosine"),
    ):
        records = results.selected(getattr(results.experiment, net))
        for (kind, scale), (colour, dash, label) in LOOKS.items():
            middle = records[name].sel(format=kind, scale=scale)
            panel.plot(records.layer, middle, color=colour, ls=dash, label=label)
        panel.set_xlabel("Layer")
    axes[0, 1].set(ylabel="Share of elements that are 0", ylim=(-0.05, 1.05))
    axes[0, 1].set_title("b  Underflow: 16 sigmoid layers")
    axes[1, 0].set(ylabel="Cosine with float64")
    axes[1, 0].set_title("c  Rounding: 24 ReLU layers")
    _draw_steps(axes[1, 1], results)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=3)
    figures.note(figure, figures.medians(results.count(), bands=False) + " d: one weight.")
    return {"figure": figure}


def _draw_sizes(axes: Axes, results: Results) -> None:
    from study import figures

    for net, colour in zip(
        NETS[::-1], ("#000000", "#e69f00", "#56b4e9", "#666666"), strict=True
    ):
        problem = getattr(results.experiment, net)
        records = results.selected(problem)
        label = f"{problem.depth} {problem.activation}"
        axes.plot(records.layer, records.rms, color=colour, label=label)
    for value, name in ((6e-8, "float16"), (1.2e-38, "float32, bfloat16")):
        axes.axhline(value, color="#b10000", lw=0.8, ls=":")
        note = {"color": "#b10000", "fontsize": 6.5, "ha": "right", "va": "top"}
        place = {"transform": axes.get_yaxis_transform(), **note}
        axes.text(0.99, value / 3, f"{name} ends", **place)
    axes.set(yscale="log", xlabel="Layer", ylabel="Gradient, root mean square")
    axes.set_ylim(1e-42, 1)
    axes.set_title("a  Gradients by layer")
    figures.direct_labels(axes, (0.56, 0.39, 0.27, 0.71))


def _draw_steps(axes: Axes, results: Results) -> None:
    """Who moves at which step."""
    from matplotlib.patches import Rectangle

    records = results.selected(results.experiment.weight)  # type: ignore[attr-defined]
    start = {kind: _start(kind) for kind in FORMATS}
    rates = records.learning_rate.values
    for row, kind in enumerate(FORMATS):
        for column, rate in enumerate(rates):
            moved = weight(results, kind, float(rate)) - start[kind]
            fill = "#2a7f9e" if moved else "#d9d9d9"
            axes.add_patch(Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, fc=fill))
            text = f"{-moved:.2g}" if moved else "stalls"
            ink = "white" if moved else "black"
            middle = {"ha": "center", "va": "center", "fontsize": 7, "color": ink}
            axes.text(column + 0.5, row + 0.5, text, **middle)
    axes.set(xlim=(0, len(rates)), ylim=(len(FORMATS), 0), xlabel="Step asked for")
    axes.set_yticks(np.arange(len(FORMATS)) + 0.5, FORMATS)
    axes.set_xticks(np.arange(len(rates)) + 0.5, [f"{rate:g}" for rate in rates])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title("d  Step made from a weight of 0.833")


def _start(kind: str) -> float:
    """0.833 in a format."""
    return {"float16": 0.8330078125, "bfloat16": 0.83203125}.get(
        kind, float(np.float32(0.833))
    )


if __name__ == "__main__":
    cli.main(__spec__.name)
