"""Sign or variance adaptation: which half of Adam helps on which quadratics?

Question.   Adam takes the sign of an average gradient and shortens it where the gradient is
            noise. Each half can be had alone: the average, its sign (Signum), the average
            shortened (M-SVAG), both (Adam). On which quadratics does which half help?
Prediction. Adam's factor 1 / sqrt(1 + eta^2), eta the relative deviation, is within 0.065
            of the best factor for a sign, erf(1 / (sqrt 2 eta)). The sign pays where the
            axes are aligned, the condition is bad and the gradients are noisy, and nowhere
            else; shortening pays wherever there is noise.
Varied.     Scientific: rule, spectrum, basis, noise, schedule. Nuisance: learning rate by
            half decades, selected for each of these on three seeds of their own by the
            objective at the end. Fixed: 50 elements, 300 steps, ten seeds. Predictions are
            judged for eigenvalues evenly spaced in the logarithm, noise of deviation 0 or
            1, and a cosine schedule; all else is there to say why they hold or fail.
Cost.       Half a minute on two CPU cores.

    python -m experiments.dissecting_adam             run, store, judge, draw
    python -m experiments.dissecting_adam --draw      draw stored records again

Balles & Hennig (2018), arXiv:1705.07774, sections 2 to 4 (recalled; the abstract and a
reading note of Lemma 1 were read, and M-SVAG in the repository lballes/msvag). As in Zhang
et al. (2025), arXiv:2410.19964, the start R z in a basis R keeps the problem the same.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import NoisyQuadratic
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Spectrum = Literal["condition 10", "condition 1e4", "two groups"]
Basis = Literal["aligned", "rotated"]
Noise = Literal["0", "0.001", "0.01", "0.1", "1", "shaped"]
Schedule = Literal["cosine", "constant"]


@dataclasses.dataclass(frozen=True)
class DissectingAdam(Comparison):
    """Every rule on quadratics of all spectra, bases and noises."""

    spectra: tuple[Spectrum, ...] = get_args(Spectrum)
    """Of the Hessian, in place of the problem's own."""
    bases: tuple[Basis, ...] = get_args(Basis)
    """Eigenvectors along the axes, or along those of one random rotation."""
    noises: tuple[Noise, ...] = get_args(Noise)
    """Its deviation in every element, the largest gradients at the start being about 1;
    `shaped` falls from 1 over the elements like the eigenvalues."""
    schedules: tuple[Schedule, ...] = get_args(Schedule)
    """Of the learning rate; cosine falls to 0 at the end."""
    learning_rates: tuple[float, ...] = log_grid(-4, 2, per_decade=2)
    """The grid."""
    steps: int = 300
    """Updates."""
    seeds: int = 10
    """Reported."""
    selection_seeds: int = 3
    """Only to select the rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated(*AXES)
        for name in ("steps", "seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


AXES = {
    "spectra": "spectrum",
    "bases": "basis",
    "noises": "noise",
    "schedules": "schedule",
    "learning_rates": "learning_rate",
}
"""Fields, and the axes that they are in the records."""
DEFAULT = DissectingAdam(
    problem=NoisyQuadratic(dim=50, dtype="float64"),
    optimizers=(
        optimizers.Averaging(),
        optimizers.Signum(),
        optimizers.MSVAG(),
        optimizers.Adam(),
        optimizers.Adam(b2=0.9),
        optimizers.SGD(),
        optimizers.SignDescent(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=NoisyQuadratic(dim=3, dtype="float64"),
        optimizers=(optimizers.Averaging(),),
        spectra=("condition 10",),
        noises=("0",),
        schedules=("cosine",),
        learning_rates=(0.01, 0.1),
        steps=3,
        seeds=2,
        selection_seeds=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=NoisyQuadratic(dim=100, dtype="float64"),
        learning_rates=log_grid(-5, 2, per_decade=4),
        steps=3_000,
        seeds=50,
        selection_seeds=10,
    ),
}


def run_cell(
    experiment: DissectingAdam,
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`relative`, the objective after the last step over that at the start.

    Over [seed, spectrum, basis, noise, schedule, learning_rate], selection seeds last.
    """
    import xarray as xr

    from study import devices, sweep

    del progress
    begun = time.perf_counter()
    seeds = tuple(range(experiment.seeds + experiment.selection_seeds))
    with devices.precision(problem.dtype):
        shared = (sweep.starts(problem, seeds), arrays(experiment, problem))
        runs = [np.asarray(seeds, np.int32)]
        found = devices.map_runs(_trainer(experiment, problem, optimizer), shared, runs)
        dataset = xr.Dataset(
            {"relative": (("seed", *AXES.values()), found)},
            {axis: list(getattr(experiment, field)) for field, axis in AXES.items()},
            {"reported_seeds": experiment.seeds},
        )
        return sweep.finish(dataset, problem, optimizer, begun, found.size)


def eigenvalues(spectrum: Spectrum, dim: int) -> np.ndarray:
    """Of the Hessian [dim], falling from about 1.

    `two groups` has a tenth of them in (0.5, 1) and the rest below 1 / 60: the ranges of
    DeepOBS's quadratic over 60, Schneider, Balles & Hennig (2019), arXiv:1903.05499.
    """
    if spectrum == "two groups":
        few = max(1, dim // 10)
        spaced = lambda count: 1 - (np.arange(count) + 0.5) / count  # noqa: E731
        return np.concatenate([(1 + spaced(few)) / 2, spaced(dim - few) / 60])
    condition = 10.0 if spectrum == "condition 10" else 1e4
    return np.geomspace(1, 1 / condition, dim)


def arrays(experiment: DissectingAdam, problem: NoisyQuadratic) -> dict[str, np.ndarray]:
    """All quadratics, so that one program has them as an axis.

    basis [basis, element, element], hessian [spectrum, basis, element, element] and noise
    [spectrum, noise, element], a deviation.
    """
    turned = {"aligned": 0.0, "rotated": "random"}
    rotated: Any = [{"rotation": turned[basis]} for basis in experiment.bases]
    bases = np.stack([dataclasses.replace(problem, **x).basis() for x in rotated])
    values = np.stack([eigenvalues(name, problem.dim) for name in experiment.spectra])
    hessians = np.einsum("bij,sj,bkj->sbik", bases, values, bases)
    noises = [
        [lam if noise == "shaped" else np.full_like(lam, float(noise)) for lam in values]
        for noise in experiment.noises
    ]
    return {"basis": bases, "hessian": hessians, "noise": np.stack(noises, axis=1)}


def _trainer(experiment: DissectingAdam, problem: NoisyQuadratic, rule: Optimizer) -> Any:
    """(starts, arrays, seed) -> relative [spectrum, basis, noise, schedule, rate].

    Seeds are the outermost axis: everything else shares the random numbers of a seed.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from study import trajectories

    falling = optax.cosine_decay_schedule(1.0, experiment.steps)
    cosine = jnp.asarray([schedule == "cosine" for schedule in experiment.schedules])
    rates = jnp.asarray(experiment.learning_rates, problem.dtype)

    def run(starts: Any, given: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)

        def one(hessian: Any, basis: Any, noise: Any, falls: Any, rate: Any) -> Any:
            data = {"hessian": hessian, "noise": noise}
            _, seen = trajectories.follow(
                problem,
                rule,
                lambda t: rate * jnp.where(falls, falling(t), 1),
                (0, experiment.steps),
                lambda state, t: problem.evaluate(data, state.params)["objective"],
                params={"x": jnp.matmul(basis, params["x"], precision="highest")},
                key=key,
                data=data,
            )
            return seen[1] / seen[0]

        # Each axis of the result and the arguments that have it, from the last on.
        for mapped in ("4", "3", "2", "01", "02"):
            one = jax.vmap(one, [0 if str(i) in mapped else None for i in range(5)])
        return one(given["hessian"], given["basis"], given["noise"], cosine, rates)

    return run


KEPT = ("relative", "rate", "at_edge", "finite")


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule at its best rate for each kind of quadratic and schedule.

    Over the axes left but [seed] also `rate`, `at_edge`, and `finite`, the share of
    reported runs at the selected rate that end finite.
    """
    import xarray as xr

    count = dataset.attrs["reported_seeds"]
    judged = dataset.relative.transpose(..., "learning_rate", "seed")
    lead, shape = judged.dims[:-2], judged.shape[:-2]
    grids = judged.values.reshape(-1, *judged.shape[-2:])[..., count:]
    choices = [statistics.select(grid) for grid in grids]
    place = np.reshape([choice.place for choice in choices], shape)
    found = np.reshape([choice.found for choice in choices], shape)
    edge = np.reshape([int(choice.at_edge) for choice in choices], shape).astype(np.int32)
    # Along the axes of `place` pointwise.
    axes: Any = {d: xr.DataArray(np.arange(n), dims=[d]) for d, n in judged.sizes.items()}
    best = {"learning_rate": xr.DataArray(place, dims=lead), "seed": slice(count)}
    picked = dataset.isel(axes | best).drop_vars("learning_rate")
    rates = np.where(found, dataset.learning_rate.values[place], np.nan)
    return picked.where(xr.DataArray(found, dims=lead)).assign(
        rate=(lead, rates),
        at_edge=(lead, edge),
        finite=np.isfinite(picked.relative).mean("seed"),
    )


# Factors ----------------------------------------------------------------------------------


def factors(deviation: Any) -> dict[str, Any]:
    """By what to multiply an element whose relative deviation is this, positive.

    The factor that brings a random x nearest to a target y in the mean square is
    <x, y> / <x, x>. For a gradient g ~ N(1, deviation^2) and y = 1 it is `gradient`, for
    its sign `sign`; `adam` is |m| / sqrt(v) with exact moments.
    """
    from scipy.special import erf

    share = 1 / (1 + np.square(deviation))
    sign = erf(1 / np.multiply(np.sqrt(2), deviation))
    return {"sign": sign, "adam": np.sqrt(share), "gradient": share}


@functools.cache
def sampled(deviation: float, batches: int = 20, size: int = 100_000) -> dict[str, Any]:
    """The best factors of samples, [batch]; `factors` has their limits."""
    normal = np.random.default_rng(0).normal(size=(batches, size))
    g = 1 + deviation * normal
    return {"sign": np.sign(g).mean(1), "gradient": g.mean(1) / (g**2).mean(1)}


def largest_gap(name: str) -> tuple[float, float]:
    """The largest distance of a factor from that of the sign, and the deviation there."""
    deviations = np.geomspace(0.01, 100, 200_001)
    found = factors(deviations)
    gap = np.abs(found["sign"] - found[name])
    return float(gap.max()), float(deviations[gap.argmax()])


# Verdicts ---------------------------------------------------------------------------------

AVERAGE, SIGN, SHORT, BOTH = "Averaging", "Signum", "MSVAG", "Adam"


def ratio(results: Results, one: str, other: str, **kind: Any) -> Estimate:
    """Loss over loss at equal seeds; `kind` says spectrum, basis, noise, schedule."""
    records = results.selected(results.experiment.problem).relative.sel(**kind)
    a, b = (statistics.worst(records.sel(optimizer=name).values) for name in (one, other))
    with np.errstate(all="ignore"):
        return statistics.bootstrap(a / b)


LEMMA = "Balles & Hennig (2018), Lemma 1, from a reading note; independent calibration run"
FACTORS = (
    ("sign", 0.5, 0.9545, 0.9548),
    ("sign", 1.0, 0.6827, 0.6830),
    ("sign", 2.0, 0.3829, 0.3831),
    ("gradient", 0.5, 0.8, 0.7998),
    ("gradient", 1.0, 0.5, 0.5001),
    ("gradient", 2.0, 0.2, 0.2001),
)
"""Of what, at which deviation: in closed form, and of two million samples elsewhere."""
GAPS = (
    ("Adam's factor is off the sign's best by up to", "adam", 0, 0.0644, 5e-5),
    ("Adam's factor is furthest off at a deviation of", "adam", 1, 1.91, 0.01),
    ("the two best factors are apart by up to", "gradient", 0, 0.187, 5e-4),
)
"""What, which of `largest_gap`, its value and the error allowed."""
WHERE = tuple(itertools.product(get_args(Spectrum)[:2], get_args(Basis), ("0", "1")))
BAD = ("condition 1e4", "aligned", "1")
"""Where the sign should pay: a bad condition along the axes, and noise."""


def _panel(one: str, other: str, where: tuple[str, str, str], pays: bool) -> Prediction:
    """Whether one rule ends at or below another, or else at or above, on one quadratic."""
    kind = dict(zip(("spectrum", "basis", "noise"), where, strict=True))
    return Prediction(
        f"{where[0]}, {where[1]}, noise {where[2]}: "
        f"loss of {one} / {other} at {'most' if pays else 'least'} 1",
        "Balles & Hennig (2018), sections 3 and 4, recalled",
        lambda results: ratio(results, one, other, **kind, schedule="cosine"),
        at_least=-np.inf if pays else 1,
        at_most=1 if pays else np.inf,
    )


def _factor(statement: str, value: float, error: float, measure: Any) -> Prediction:
    """A closed form or a sample of it."""
    text = f"{statement} {value:g}, to {error:g}"
    return Prediction(text, LEMMA, lambda _: measure(), value - error, value + error, value)


PREDICTIONS = (
    *(
        _factor(f"best factor of the {name} at deviation {at:g}, {how}:", x, e, m)
        for name, at, exact, drawn in FACTORS
        for how, x, e, m in (
            ("exact", exact, 5e-5, lambda n=name, at=at: statistics.exact(factors(at)[n])),
            ("drawn", drawn, 0.002, lambda n=name, at=at: statistics.mean(sampled(at)[n])),
        )
    ),
    *(
        _factor(text, value, error, lambda n=name, i=i: statistics.exact(largest_gap(n)[i]))
        for text, name, i, value, error in GAPS
    ),
    *(
        _panel(sign, plain, where, pays=where == BAD)
        for where in WHERE
        for sign, plain in ((SIGN, AVERAGE), (BOTH, SHORT))
    ),
    _panel("SignDescent", "SGD", BAD, pays=True),
    *(
        _panel(short, plain, where, pays=True)
        for where in WHERE
        for short, plain in ((SHORT, AVERAGE), (BOTH, SIGN))
        if where[-1] == "1"
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, kind of quadratic and schedule."""
    del manifest
    records = results.selected(results.experiment.problem)
    rates = records.rate
    for place in np.ndindex(*rates.shape):
        at = dict(zip(rates.dims, place, strict=True))
        estimate = statistics.bootstrap(statistics.worst(records.relative.isel(at).values))
        yield {
            **{str(axis): rates[axis].values[i] for axis, i in at.items()},
            "relative_loss": estimate.value,
            "relative_low": estimate.low,
            "relative_high": estimate.high,
            "learning_rate": float(rates.values[place]),
            "at_edge": int(records.at_edge.isel(at)),
            "finite_share": float(records.finite.isel(at)),
        }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """What sign, shortening and both gain over the average; the factors."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.3)
    _draw_gains(axes[0, 0], results, SIGN, "a  Sign alone: Signum")
    _draw_gains(axes[0, 1], results, SHORT, "b  Shortening alone: M-SVAG")
    _draw_gains(axes[1, 0], results, BOTH, "c  Both: Adam")
    axes[0, 1].set_yticklabels([])
    _draw_factors(axes[1, 1])
    figures.note(
        figure, figures.medians(results.count(), bands=False) + " d: in closed form."
    )
    return {"figure": figure}


def _draw_gains(axes: Axes, results: Results, name: str, title: str) -> None:
    """Decades of loss below the average's, at the first schedule; medians over seeds."""
    from study import figures

    experiment: Any = results.experiment
    rows = list(itertools.product(experiment.bases, experiment.spectra))
    gained = np.full((len(rows), len(experiment.noises)), np.nan)
    for i, j in np.ndindex(*gained.shape):
        kind = dict(zip(("basis", "spectrum"), rows[i], strict=True))
        kind |= {"noise": experiment.noises[j], "schedule": experiment.schedules[0]}
        if {name, AVERAGE} <= set(map(str, experiment.optimizers)):
            gained[i, j] = np.log10(ratio(results, AVERAGE, name, **kind).value)
    limits: Any = {"low": -2, "high": 2, "pattern": "{:+.1f}"}
    gained = gained.round(1) + 0.0  # no minus before a zero
    figures.heat_table(
        axes, gained, list(map(", ".join, rows)), experiment.noises, **limits
    )
    axes.set(xlabel="Noise", title=title)


def _draw_factors(axes: Axes) -> None:
    """The best factors and Adam's by relative deviation."""
    from study import figures

    deviations = np.geomspace(0.1, 10, 200)
    looks: Any = (
        ("sign", "#000000", "-", "best for a sign"),
        ("adam", optimizers.Adam.colour, (0, (5, 1.5)), "Adam's"),
        ("gradient", optimizers.MSVAG.colour, (0, (1.2, 1.2)), "best for a gradient"),
    )
    for name, colour, dash, label in looks:
        axes.plot(deviations, factors(deviations)[name], color=colour, ls=dash, label=label)
    axes.set(xscale="log", xlabel="Relative deviation", ylabel="Factor", ylim=(0, 1.04))
    axes.set_title("d  By how much to shorten")
    figures.direct_labels(axes, (0.2, 0.8, 0.42))


if __name__ == "__main__":
    cli.main(__spec__.name)
