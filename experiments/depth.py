"""How do gradients vanish or explode with depth, and does theory say by how much?

Question.   At the start of a deep network, how long is the gradient of every layer, by
            depth, activation and initialisation; does it change by one factor per layer,
            as mean field theory has it; which layers have none left in float32; and what
            do residual connections, normalisation and recurrence change?
Prediction. The squared gradient changes by chi_1 in each layer: log rates within 0.03 of
            mean field theory at width 400. For ReLU the logarithm of a squared length has
            the variance 5 L / n and minus half of it as mean over L layers of width n. In
            float32, sigmoid layers of sigma_w = 0.5 leave nothing of the first gradients
            at depth 64. Residual connections and normalisation keep the first layer's
            gradient within a factor 100 of the last one's there, where plain sigmoids lose
            31 decades. rho^T multiplied out in float32 is 0 from T = 127, 392, 829 on for
            rho = 0.5, 0.8, 0.9 where subnormals are flushed; otherwise from 150 on for
            0.5, and never for the others.
Varied.     Scientific: depth, activation, initialisation. Fixed: width 64 for lengths of
            gradients, 400 for rates; all points of the blobs; ten seeds, 40 for rates.
Cost.       Four minutes on two CPU cores.

    python -m experiments.depth             run, store, judge, draw
    python -m experiments.depth --draw      draw stored records again

Mean field theory: Schoenholz et al. (2017), arXiv:1611.01232. Log-normal law: Hanin & Nica
(2018), arXiv:1812.05994.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, meanfield, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import DeepBlobs, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

NET = DeepBlobs(width=64, points=64)
LAWS: tuple[tuple[str, float], ...] = (
    *(("normal", gain) for gain in (0.5, 1.0, 1.5, 2.0, 3.0)),
    *((law, 1.0) for law in ("lecun", "glorot", "he", "orthogonal")),
)
STARTS = tuple(f"sw = {gain:g}" if law == "normal" else law for law, gain in LAWS)
RHOS = (0.5, 0.8, 0.9, 1.0, 1.2)
LENGTHS = (2, 4, 8, 16, 32, 64, 128, 256)
LAST = {0.5: (150, 127), 0.8: (-1, 392), 0.9: (-1, 829)}
"""The first T with rho^T = 0 in float32: with subnormals, and with them flushed.

-1 is never: 0.8 times two of the smallest numbers rounds to two of them again.
"""
AXES = ("start", "depth", "seed", "layer")
PLAIN = ("relu", "tanh", "sigmoid", "gelu", "linear")
Network = Literal["relu", "tanh", "sigmoid", "gelu", "linear", "residual", "normalised"]
NETWORKS: dict[Network, dict[str, Any]] = {
    **{name: {"activation": name} for name in PLAIN},
    "residual": {"activation": "sigmoid", "residual": True},
    "normalised": {"activation": "sigmoid", "normalisation": "layer"},
}
"""Changes to the problem: activations, and sigmoids with what is to help.

ReLU would be no test of it: its layers have gradients of one length at any scale.
"""


@dataclasses.dataclass(frozen=True)
class Depth(Comparison):
    """One network at many depths, by activation, and two contrasts."""

    networks: tuple[Network, ...] = get_args(Network)
    """Changes of NETWORKS."""
    depths: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Hidden layers."""
    law_width: int = 400
    """Of the networks whose rate per layer is measured."""
    law_depth: int = 30
    """Their hidden layers."""
    law_gains: tuple[float, ...] = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
    """Their sigma_w."""
    law_seeds: int = 40
    """Their starts."""
    products: tuple[tuple[int, ...], ...] = ((10, 50), (20, 50), (20, 100))
    """Layers and width of the networks behind the log-normal law."""
    nets: int = 2_000
    """How many of each."""
    seeds: int = 10
    """Starts."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("networks", "depths", "law_gains", "products")
        if any(len(pair) != 2 for pair in self.products):
            self.refuse("products", "pairs of layers and width")
        for name in ("law_width", "law_depth", "law_seeds", "nets", "seeds"):
            if getattr(self, name) < 2:
                self.refuse(name, "at least 2")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problem with each change."""
        return tuple(map(self.at, self.networks))

    def at(self, network: str) -> Problem:
        """The problem with a change; KeyError if it is not among `networks`."""
        if network not in self.networks:
            raise KeyError(network)
        return dataclasses.replace(self.problem, **NETWORKS[network])


DEFAULT = Depth(problem=NET, optimizers=(optimizers.SGD(),))
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=DeepBlobs(width=4, points=4),
        networks=("relu", "linear"),
        depths=(2,),
        law_width=4,
        law_depth=4,
        law_seeds=2,
        law_gains=(1.0,),
        products=((2, 4),),
        nets=4,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        depths=(4, 8, 16, 32, 64, 128),
        law_width=1_000,
        products=((10, 50), (20, 50), (20, 100), (50, 100), (40, 200)),
        seeds=20,
    ),
}
KEPT = (
    "norm",
    "state",
    "lost_first",
    "rate",
    "log_mean",
    "log_variance",
    "vanished",
    "flushed",
    "fall",
    "recurrence",
)


def run_cell(
    experiment: Depth,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """Gradients of one network at its start; no step is taken.

    Over [start, depth, seed, layer], NaN beyond the depth: `norm`, log10 of the length of a
    kernel's gradient (-inf where it is 0), and `lost`, the share of its elements that are
    0, subnormal or not finite, in the problem's precision. For plain networks `rate` [gain,
    net], the change of log squared gradients per layer, in float64. For ReLU alone
    `log_mean` and `log_variance` [product, (value, low, high)] of the log-normal law; for
    linear alone `vanished` [rho], the first T at which rho^T is 0, and whether this
    platform has `flushed` subnormals.
    """
    import xarray as xr

    from study import devices, propagation, sweep

    assert isinstance(problem, DeepBlobs)
    begun = time.perf_counter()
    longest = max(experiment.depths) + 1
    shape = (len(LAWS), len(experiment.depths), experiment.seeds, longest)
    norms, lost = np.full((2, *shape), np.nan)
    with devices.precision(problem.dtype):
        for i, depth in enumerate(experiment.depths):
            deep = dataclasses.replace(problem, depth=depth)
            found = propagation.lengths(deep, LAWS, experiment.seeds)
            norms[:, i, :, : depth + 1], lost[:, i, :, : depth + 1] = found
            progress((i + 1) / len(experiment.depths))
    variables: dict[str, Any] = {"norm": (AXES, norms), "lost": (AXES, lost)}
    name = experiment.networks[experiment.problems.index(problem)]
    if name in PLAIN:
        net = dataclasses.replace(
            problem, depth=experiment.law_depth, width=experiment.law_width
        )
        found = propagation.rates(net, experiment.law_gains, experiment.law_seeds)
        variables["rate"] = (("gain", "net"), found)
    if name == "relu":
        moments = np.stack(
            [
                propagation.log_lengths(layers, width, experiment.nets)
                for layers, width in experiment.products
            ]
        )
        for i, part in enumerate(("log_mean", "log_variance")):
            variables[part] = (("product", "limit"), moments[:, i])
    if name in ("linear", "tanh"):
        found = propagation.recurrence(problem.activation, RHOS, LENGTHS, experiment.seeds)
        variables["recurrence"] = (("rho", "length", "sequence"), found)
    if name == "linear":
        variables["vanished"] = ("rho", [propagation.vanished(rho) for rho in RHOS])
        variables["flushed"] = int(propagation.vanished(0.5) < 149)
    dataset = xr.Dataset(
        variables,
        {"start": list(STARTS), "depth": np.asarray(experiment.depths, np.int32)}
        | ({"gain": list(experiment.law_gains)} if "rate" in variables else {})
        | (
            {"length": list(LENGTHS), "rho": list(RHOS)}
            if "recurrence" in variables
            else {}
        ),
    )
    return sweep.finish(dataset, problem, optimizer, begun, norms[..., 0].size)


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Medians over seeds of `norm` [start, depth, layer]; the rest as it is.

    `state` of each layer's gradient is 1 where all of it is 0 or subnormal, 2 where its
    length is not finite, otherwise 0. Of the deepest network, [start, seed]: `lost_first`,
    the lost share of the first layer's elements, and `fall`, the decades from the last
    hidden layer's length to the first one's (NaN where one of them is 0).
    """
    one = dataset.isel(optimizer=0, drop=True)
    every, lost_share = (one[n].transpose(*AXES).values for n in ("norm", "lost"))
    norm, lost = np.median(every, 2), np.median(lost_share, 2)
    inside = np.arange(norm.shape[-1]) <= one.depth.values[:, None]
    state = np.where(inside & ~np.isfinite(norm) & (norm != -np.inf), 2, 0)
    state[inside & (state == 0) & (lost >= 1)] = 1
    dims = ("start", "depth", "layer")
    shown = np.where(np.isfinite(norm), norm, np.nan)
    place = int(np.argmax(one.depth.values))
    deepest = every[:, place, :, : int(one.depth[place])]
    with np.errstate(invalid="ignore"):
        fall = deepest[..., 0] - deepest[..., -1]
    return one.drop_vars(["norm", "lost"]).assign(
        norm=(dims, shown, {"decimals": 2}),
        state=(dims, state.astype(np.int8)),
        lost_first=(("start", "seed"), lost_share[:, place, :, 0]),
        fall=(("start", "seed"), np.where(np.isfinite(fall), fall, np.nan)),
    )


# Verdicts ---------------------------------------------------------------------------------


def _of(results: Results, name: str) -> xr.Dataset:
    assert isinstance(results.experiment, Depth)
    return results.selected(results.experiment.at(name))


def _rate(kind: str, gain: float) -> Callable[[Results], Estimate]:
    """Measured log rate per layer less that of mean field theory."""

    def measure(results: Results) -> Estimate:
        rates = _of(results, kind).rate.sel(gain=gain).values
        theory = np.log(meanfield.gradient_factor(kind, gain))
        return statistics.mean(rates - theory)

    return measure


def _moment(product: tuple[int, ...], which: str) -> Callable[[Results], Estimate]:
    """A moment of the log-normal law over its theory, 5 L / n or minus half of that."""

    def measure(results: Results) -> Estimate:
        products = results.experiment.products  # type: ignore[attr-defined]
        if product not in products:
            raise KeyError(product)
        layers, width = product
        theory = 5 * layers / width * (1 if which == "log_variance" else -0.5)
        found = _of(results, "relu")[which].values[products.index(product)]
        value, low, high = found / theory
        count = results.experiment.nets  # type: ignore[attr-defined]
        return Estimate(float(value), float(min(low, high)), float(max(low, high)), count)

    return measure


def _profile(results: Results, name: str, start: str, depth: int) -> xr.Dataset:
    at = _of(results, name).sel(start=start, depth=depth)
    return at.isel(layer=slice(0, depth + 1))


def _lost(name: str, start: str) -> Callable[[Results], Estimate]:
    """Share of the first layer's gradient elements that are lost in the deepest network."""
    return lambda results: statistics.bootstrap(
        _of(results, name).lost_first.sel(start=start).values
    )


def _ratio(name: str) -> Callable[[Results], Estimate]:
    """log10 of the first layer's gradient over the last hidden layer's, deepest, He."""
    return lambda results: statistics.bootstrap(
        _of(results, name).fall.sel(start="he").values
    )


def _last(rho: float) -> Callable[[Results], Estimate]:
    """Steps from the T predicted for this platform to the one at which rho^T is 0."""

    def measure(results: Results) -> Estimate:
        records = _of(results, "linear")
        flushed = int(records.flushed)
        away = abs(int(records.vanished.sel(rho=rho)) - LAST[rho][flushed])
        return Estimate(away, away, away, 1)

    return measure


def _per_step(results: Results) -> Estimate:
    """Largest |log10 |dh_T / dx_1| - (T - 1) log10 rho| of the linear recurrence."""
    found = _of(results, "linear").recurrence.transpose("sequence", "rho", "length").values
    theory = np.log10(RHOS)[:, None] * (np.array(LENGTHS) - 1)
    worst = float(np.abs(found - theory).max())
    return Estimate(worst, worst, worst, len(found))


def _at_one(results: Results) -> Estimate:
    """log10 |dh_T / dx_1| of tanh at rho = 1 and T = 256."""
    found = _of(results, "tanh").recurrence.sel(rho=1.0, length=256)
    return statistics.bootstrap(found.values)


CHECKED = (
    *(("tanh", gain) for gain in (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)),
    *(("sigmoid", gain) for gain in (1.0, 3.0, 5.0)),
    *(("relu", gain) for gain in (0.5, 1.0, 2.0)),
    *(("linear", gain) for gain in (0.5, 2.0)),
    ("gelu", 2.0),
)
PREDICTIONS = (
    *(
        Prediction(
            f"{kind}, sigma_w = {gain:g}: log rate per layer within 0.03 of mean field",
            "Schoenholz et al. 2017",
            _rate(kind, gain),
            at_least=-0.03,
            at_most=0.03,
        )
        for kind, gain in CHECKED
    ),
    *(
        Prediction(
            f"ReLU, {layers} layers of {width}: {title} 0.9 to 1.15 times theory",
            "Hanin & Nica 2018",
            _moment((layers, width), which),
            at_least=0.9,
            at_most=1.15,
        )
        for layers, width in DEFAULT.products
        for which, title in (
            ("log_variance", "variance of the log length"),
            ("log_mean", "its mean"),
        )
    ),
    Prediction(
        "sigmoid, sigma_w = 0.5, depth 64: all of the first layer's gradient is lost",
        "mean field: a factor 0.12 a layer",
        _lost("sigmoid", "sw = 0.5"),
        at_least=1,
    ),
    *(
        Prediction(
            f"sigmoid, {name}, He, depth 64: first and last layer within a factor 100",
            "own expectation",
            _ratio(name),
            at_least=-2,
            at_most=2,
        )
        for name in ("residual", "normalised")
    ),
    *(
        Prediction(
            f"{rho}^T multiplied out in float32 is 0 from {LAST[rho][1]} on if flushed,"
            f" else {'never' if LAST[rho][0] < 0 else LAST[rho][0]}",
            "arithmetic",
            _last(rho),
            at_most=0,
        )
        for rho in LAST
    ),
    Prediction(
        "linear recurrence: |dh_T / dx_1| is rho^(T - 1), to 1e-3 in log10, T up to 256",
        "rho times an orthogonal matrix",
        _per_step,
        at_most=1e-3,
    ),
    Prediction(
        "tanh recurrence, rho = 1: |dh_T / dx_1| is below 0.1 at T = 256",
        "own expectation: slopes below 1",
        _at_one,
        at_most=-1,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each network, start and depth: first and last layer's gradient."""
    del manifest
    for name in _networks(results):
        records = _of(results, name)
        for start in records.start.values:
            for depth in records.depth.values:
                at = _profile(results, name, str(start), int(depth))
                yield {
                    "network": name,
                    "start": start,
                    "depth": int(depth),
                    "log10_first": float(at.norm[0]),
                    "log10_last_hidden": float(at.norm[-2]),
                    "layers_lost": int((at.state == 1).sum()),
                    "layers_overflown": int((at.state == 2).sum()),
                }


# Figures ----------------------------------------------------------------------------------

SHOWN = ("sw = 0.5", "sw = 1", "he", "sw = 2", "sw = 3")


def _networks(results: Results) -> tuple[str, ...]:
    assert isinstance(results.experiment, Depth)
    return results.experiment.networks


def draw(results: Results) -> dict[str, Figure]:
    """Heat maps over layer and depth; rates against theory, and the log-normal law."""
    return {"figure": _draw_maps(results), "figure-law": _draw_law(results)}


def _draw_maps(results: Results) -> Figure:
    from study import figures

    rows = _networks(results)
    figure, axes = figures.panels(
        len(rows), len(SHOWN), height=1.0, sharex=True, sharey=True
    )
    image: Any = None
    for row, name in enumerate(rows):
        for column, start in enumerate(SHOWN):
            image = _draw_map(axes[row, column], _of(results, name).sel(start=start))
        axes[row, 0].set_ylabel(name if name in PLAIN else f"sigmoid,\n{name}")
    for column, start in enumerate(SHOWN):
        title = start.replace("sw", r"$\sigma_w$").replace("he", "He")
        axes[0, column].set_title(title, fontsize=8)
        axes[-1, column].set_xlabel("Layer")
    figure.colorbar(
        image, ax=axes, label="log10 length of a layer's gradient", aspect=50, extend="both"
    )
    figure.suptitle(
        "Gradients at the start by layer (across) and depth (down);"
        " red: all of it lost in float32; orange: not finite",
        fontsize=8.5,
        fontweight="bold",
    )
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


def _draw_map(axes: Axes, records: xr.Dataset) -> Any:
    from matplotlib.colors import ListedColormap

    norm, state = records.norm.values, records.state.values
    edges = np.concatenate([[0.5], np.arange(norm.shape[1]) + 1.5])
    rows = np.arange(norm.shape[0] + 1)
    shown = np.where(state == 0, norm, np.nan)
    image = axes.pcolormesh(edges, rows, shown, cmap="cividis", vmin=-20, vmax=10)
    ends = ListedColormap(["#b10000", "#ff7f0e"])
    gone = np.where(state > 0, state, np.nan)
    axes.pcolormesh(edges, rows, gone, cmap=ends, vmin=1, vmax=2)
    depths = records.depth.values
    axes.set_yticks(rows[:-1] + 0.5, [str(depth) for depth in depths], fontsize=6)
    axes.set(ylim=(len(depths), 0), xscale="log", xlim=(0.9, edges[-1]))
    axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    axes.minorticks_off()
    axes.grid(False)
    return image


LOOKS = {
    "tanh": ("#0072b2", "o"),
    "sigmoid": ("#009e73", "s"),
    "relu": ("#000000", "D"),
    "gelu": ("#d55e00", "^"),
    "linear": ("#cc79a7", "v"),
}


def _draw_law(results: Results) -> Figure:
    from study import figures

    figure, (row,) = figures.panels(1, 3, height=3.0)
    law, spread, time = row
    _draw_recurrence(time, results)
    for kind in (name for name in _networks(results) if name in PLAIN):
        colour, marker = LOOKS[kind]
        rate = _of(results, kind).rate.transpose("net", "gain")
        gains = rate.gain.values
        fine = np.linspace(gains.min(), gains.max(), 60)
        theory = [np.log(meanfield.gradient_factor(kind, gain)) for gain in fine]
        law.plot(fine, theory, color=colour, lw=1)
        middle, (low, high) = np.median(rate, 0), statistics.band(rate.values)
        law.vlines(gains, low, high, color=colour)
        law.plot(gains, middle, marker, color=colour, ms=4, label=kind)
    law.axhline(0, color="#999999", lw=0.7, ls=":")
    law.set(xlabel=r"$\sigma_w$", ylabel="log squared gradient per layer")
    law.set_title("a  Rate: net (points), theory")
    law.legend()
    records = _of(results, "relu")
    products = results.experiment.products  # type: ignore[attr-defined]
    expected = np.array([5 * layers / width for layers, width in products])
    for part, sign, colour in (("log_variance", 1, "#0072b2"), ("log_mean", -2, "#d55e00")):
        found = np.sort(sign * records[part].values, axis=1)
        label = "variance" if sign == 1 else r"$-2 \times$ mean"
        spread.vlines(expected, found[:, 0], found[:, 2], color=colour, lw=3, alpha=0.5)
        spread.plot(expected, found[:, 1], "o", color=colour, ms=4, label=label)
    top = 1.2 * float(expected.max())
    spread.set_xlim(0, 1.35 * float(expected.max()))
    spread.plot([0, top], [0, top], "k", lw=0.8, label="theory")
    for i, ((layers, width), x) in enumerate(zip(products, expected, strict=True)):
        text, place = f"{layers} layers of {width}", (6, -12 - 9 * (i % 3))
        spread.annotate(text, (x, x), place, textcoords="offset points", fontsize=7)
    spread.set(xlabel="5 L / n", ylabel=r"of $\log |J u|^2$")
    spread.set_title("b  ReLU: log-normal law")
    spread.legend()
    figures.note(
        figure,
        figures.medians(results.count("law_seeds"), "networks")
        + " c: medians of sequences.",
    )
    return figure


def _draw_recurrence(axes: Axes, results: Results) -> None:
    """How much of the first number's effect is left at the end of a sequence."""
    steps = np.array(LENGTHS)
    colours = ("#0072b2", "#56b4e9", "#009e73", "#000000", "#d55e00")
    for rho, colour in zip(RHOS, colours, strict=True):
        theory, label = (steps - 1) * np.log10(rho), rf"$\rho = {rho:g}$"
        axes.plot(steps, theory, color=colour, lw=1, label=label)
        if "tanh" in _networks(results):
            found = _of(results, "tanh").recurrence.sel(rho=rho).median("sequence")
            axes.plot(steps, found, "o", color=colour, ms=3.5)
    for level, name in ((-7.2, "float16 ends"), (-37.9, "float32 ends, flushed")):
        axes.axhline(level, color="#b10000", lw=0.8, ls=":")
        axes.text(2, level - 0.6, name, color="#b10000", fontsize=6.5, va="top")
    axes.set(xscale="log", xlabel="Length T", ylim=(-48, 22))
    axes.set_xticks([2, 8, 32, 128], ["2", "8", "32", "128"])
    axes.minorticks_off()
    axes.set_ylabel(r"$\log_{10} |dh_T / dx_1|$")
    axes.set_title("c  Recurrent: tanh, linear")
    axes.legend(fontsize=6.5, loc="upper left", ncols=2, columnspacing=0.8)


if __name__ == "__main__":
    cli.main(__spec__.name)
