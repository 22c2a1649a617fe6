"""Weights of which only the direction counts: what is their length for?

Question.   f(w) depends on w / |w| alone, as before a normalisation layer. Which schedule
            of the rate does the length of w hide, for SGD and for rules that drop the
            gradient's scale, and what does weight decay do to it?
Prediction. The gradient is orthogonal to w and falls as 1 / |w|, so SGD's step turns w by
            rate / |w|^2, a rule of constant length by rate / |w|. With P = 1 - rate *
            decay, decay equals no decay at a rate that grows as P^-(2t + 1) for SGD and
            heavy ball, as P^-(t + 1) for normalised descent, sign descent and Adam: the
            same directions to rounding, lengths differ by P^t. Averages need their memory
            shortened as well: b by P, b2 by P^2. A start c times as long is a rate smaller
            by c^2 or by c. With noise and decay every rule comes to turn by sqrt(2 rate
            decay) a step, with averaging sqrt((1 - b) / (1 + b)) of it; without decay
            |w| grows as t^(1/4) or t^(1/2), and the rule slows down by itself.
Varied.     Scientific: rule, schedule, length of the start, decay, noise (batches of 8).
            Fixed: rate 0.1, decay 0.01, 500 steps without and 8,000 with noise, 12
            weights, ten starts, float64, epsilon 0. No rate is selected.
Cost.       Fifteen seconds on two CPU cores.

    python -m experiments.scale_invariant_weights             run, store, judge, draw
    python -m experiments.scale_invariant_weights --draw      draw stored records again

Equivalence for SGD and momentum: Li & Arora (2020), arXiv:1910.07454 (abstract).
Equilibrium: Wan et al. (2021), arXiv:2006.08419; Kosson et al. (2024), arXiv:2305.17212
(abstracts; the formulas were derived here). Effective rate: van Laarhoven (2017),
arXiv:1706.05350 (recalled). The runs of 40,000 steps, the start that is nudged and the
last twelve predictions were added after the first run, to explain failed ones.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import InvariantRegression
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class ScaleInvariantWeights(Comparison):
    """Paths with decay and their equals without; long runs with noise."""

    noisy: InvariantRegression = InvariantRegression(batch_size=8, dtype="float64")
    """The same loss, seen through batches."""
    learning_rate: float = 0.1
    """At |w| = 1."""
    decay: float = 0.01
    """Decoupled, so that a step multiplies w by P = 1 - rate * decay."""
    lengths: tuple[float, ...] = (1.0, 10.0, 100.0)
    """Of the start."""
    steps: int = 500
    """Without noise."""
    noisy_steps: int = 8_000
    """With noise; what is measured comes from the second half."""
    long_steps: int = 40_000
    """With noise, after the first run: an ablation of predictions that it left open."""
    seeds: int = 10
    """Starts, and orders of batches."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("lengths")
        if self.lengths[0] != 1:
            self.refuse("lengths", "1 and then others")
        if not 0 < self.learning_rate * self.decay < 1:
            self.refuse("decay", "positive, and below 1 / rate")
        for name, least in (("steps", 2), ("noisy_steps", 40), ("seeds", 1)):
            if getattr(self, name) < least:
                self.refuse(name, f"at least {least}")
        if self.long_steps < 2 * self.noisy_steps:
            self.refuse("long_steps", "at least twice noisy_steps")

    @property
    def shrink(self) -> float:
        """P, the factor of a step's decay."""
        return 1 - self.learning_rate * self.decay


DEFAULT = ScaleInvariantWeights(
    problem=InvariantRegression(dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Adam(eps=0.0),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        optimizers=(optimizers.SGD(),),
        steps=20,
        noisy_steps=80,
        long_steps=160,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT, seeds=50, noisy_steps=100_000, long_steps=1_000_000
    ),
}


class Way(NamedTuple):
    """How a run differs from the plain one.

    Attributes:
        decay: decoupled decay.
        power: a of the rate's growth P^-(a t + b), 0 for none.
        offset: b of it.
        memory: factor on averages' shares kept, b and, squared, b2.
        length: |w| at the start.
        gain: factor on the rate.
    """

    decay: float = 0.0
    power: float = 0.0
    offset: float = 0.0
    memory: float = 1.0
    length: float = 1.0
    gain: float = 1.0


def ways(experiment: ScaleInvariantWeights) -> dict[str, Way]:
    """All runs without noise, by name; from each start with gains 1, |w| and |w|^2."""
    shrink = experiment.shrink
    named = {
        "decay": Way(decay=experiment.decay),
        "plain": Way(),
        "2t + 1": Way(power=2, offset=1),
        "t + 1": Way(power=1, offset=1),
        "2t + 1, memory": Way(power=2, offset=1, memory=shrink),
        "t + 1, memory": Way(power=1, offset=1, memory=shrink),
        "nudged": Way(decay=experiment.decay, length=1 + 1e-12),
    }
    for length in experiment.lengths:
        for power in range(3):
            named[started(length, power)] = Way(length=length, gain=length**power)
    return named


def started(length: float, power: int) -> str:
    """The name of a run from another length, its rate times length^power."""
    return f"from {length:g}, rate x {length:g}^{power}"


# Runs -------------------------------------------------------------------------------------


def varied(optimizer: Any, decay: Any, memory: Any) -> Any:
    """The rule with decoupled decay and shortened averages, both traced.

    For `train.step`; a rule without averages takes no notice of the memory.
    """
    import optax

    from study import trajectories

    def build(rate: Any) -> Any:
        if isinstance(optimizer, optimizers.Momentum):
            rule = optax.sgd(rate, momentum=memory * optimizer.decay)
        elif isinstance(optimizer, optimizers.Adam):
            b1, b2 = memory * optimizer.b1, memory**2 * optimizer.b2
            rule = optax.adam(rate, b1, b2, eps=optimizer.eps)
        else:
            rule = optimizer.build(rate)
        return optax.chain(rule, optax.add_decayed_weights(-rate * decay))

    return trajectories.Made(build, optimizer.asks)


def correction(optimizer: Any, memory: Any, t: Any) -> Any:
    """What shortened averages with bias correction lack beside the others, at step t.

    An average with share a = P b holds (1 - a) / (1 - a^(t + 1)) where the other, of
    gradients P^-s as large, holds P^-t (1 - b) / (1 - b^(t + 1)).
    """
    if not isinstance(optimizer, optimizers.Adam):
        return 1.0

    def lack(kept: float, factor: Any) -> Any:
        short = factor * kept
        return (1 - kept) / (1 - kept ** (t + 1)) * (1 - short ** (t + 1)) / (1 - short)

    return lack(optimizer.b1, memory) / lack(optimizer.b2, memory**2) ** 0.5


def run_cell(
    experiment: ScaleInvariantWeights,
    problem: Any,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All ways and starts of one rule.

    Without noise `w` [way, seed, stop, element], `radial` [seed], |<w, g>| / |w| |g| at
    the start, and `halving` [seed], |g(w) - 2 g(2 w)| / |g(w)|. With noise `noisy_w` [how,
    seed, moment, pair, element]: w at each moment and a step after it, and `end` [horizon],
    the numbers of steps after which it is summed up.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    with devices.precision(problem.dtype):
        if problem == experiment.problem:
            named, stops = ways(experiment), watched(experiment.steps)
            found = _follow(experiment, problem, optimizer, list(named.values()), stops)
            radial, halving = _gradients(experiment, problem)
            axes = {"way": list(named), "seed": np.arange(experiment.seeds), "stop": stops}
            dataset = xr.Dataset(
                {
                    "w": ((*axes, "element"), found),
                    "radial": ("seed", radial),
                    "halving": ("seed", halving),
                },
                axes,
            )
        else:
            ends = [experiment.noisy_steps, experiment.long_steps]
            each = [
                np.arange(first, last, max(2, last // 400))
                for first, last in zip([0, ends[0]], ends, strict=True)
            ]
            moments = np.concatenate(each)
            stops = np.stack([moments, moments + 1], 1).ravel()
            how = [Way(decay=experiment.decay), Way()]
            found = _follow(experiment, problem, optimizer, how, stops)
            found = found.reshape(*found.shape[:2], len(moments), 2, -1)
            axes = {"how": ["decay", "plain"], "seed": np.arange(experiment.seeds)}
            axes |= {"moment": moments}
            variables = {
                "noisy_w": ((*axes, "pair", "element"), found),
                "end": ("horizon", ends),
            }
            dataset = xr.Dataset(variables, axes)
        progress(1.0)
    notes = {"rate": experiment.learning_rate, "decay": experiment.decay}
    runs = experiment.seeds
    return sweep.finish(dataset.assign_attrs(notes), problem, optimizer, begun, runs)


def watched(steps: int) -> np.ndarray:
    """Numbers of updates at which runs without noise are seen: the first, then evenly."""
    evenly = np.linspace(0, steps, 51).round().astype(int)
    return np.unique(np.append(evenly, 1))


def _follow(
    experiment: ScaleInvariantWeights,
    problem: Any,
    optimizer: Optimizer,
    every: list[Way],
    stops: np.ndarray,
) -> np.ndarray:
    """W [way, seed, stop, element]."""
    import jax
    import jax.numpy as jnp

    from study import devices, sweep, trajectories

    seeds = tuple(range(experiment.seeds))
    begin = sweep.starts(problem, seeds)

    def run(data: Any, begin: Any, seed: Any, *fields: Any) -> Any:
        way = Way(*fields)
        start, key = jax.tree.map(lambda leaf: leaf[seed], begin)

        def rate(t: Any) -> Any:
            t = jnp.asarray(t, float)
            grown = experiment.shrink ** -(way.power * t + way.offset)
            missing = correction(optimizer, way.memory, t)
            return experiment.learning_rate * way.gain * grown * missing

        return trajectories.follow(
            problem,
            varied(optimizer, way.decay, way.memory),
            rate,
            jnp.asarray(stops),
            lambda state, t: state.params["w"],
            params={"w": start["w"] * way.length},
            key=key,
            data=data,
        )[1]

    which, seed = (axis.ravel() for axis in np.mgrid[: len(every), : len(seeds)])
    fields = np.array(every, np.float64)[which].T
    found = devices.map_runs(run, (problem.data(), begin), [seed.astype(np.int32), *fields])
    return found.reshape(len(every), len(seeds), len(stops), -1)


def _gradients(
    experiment: ScaleInvariantWeights, problem: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far gradients at the starts are from orthogonal, and from half at 2 w, [seed]."""
    import jax

    from study import sweep

    w = sweep.starts(problem, tuple(range(experiment.seeds)))[0]["w"]
    slope = jax.jit(jax.vmap(jax.grad(lambda w: problem.loss({"w": w}, problem.data()))))
    w, once, twice = (np.asarray(x) for x in (w, slope(w), slope(2 * w)))
    length = np.linalg.norm(once, axis=1)
    radial = np.abs((w * once).sum(1)) / np.linalg.norm(w, axis=1) / length
    return radial, np.linalg.norm(once - 2 * twice, axis=1) / length


KEPT = ("radial", "halving", "apart", "ratio", "law", "first", "scaled", "drift", "norm")
KEPT += ("turn", "rms_length", "balance", "growth", "gain", "turning")
EQUAL = ("decay", "plain", "2t + 1", "t + 1", "2t + 1, memory", "t + 1, memory", "nudged")
BINS = 30


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles [...] of vectors [..., element] in radians, right to rounding near 0."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Angles and lengths in place of weights; see `_exact` and `_noisy`."""
    return _exact(dataset) if "w" in dataset else _noisy(dataset)


def _exact(dataset: xr.Dataset) -> xr.Dataset:
    """Without noise.

    `apart` [equal, seed], the largest angle from the path with decay, `ratio` [equal,
    seed], that path's last length over the other's and P^t, less 1, and `drift`, `norm`
    [equal, stop], medians of angles and lengths. `law` [how, seed], the largest relative
    error of |w|^2 as if every step had the rate's length. `first` [length, seed], the first
    step's turn at one rate, and `scaled` [power, length, seed], the largest angle from the
    path from length 1 with the rate times length^power.
    """
    order = ("optimizer", "seed", "stop", "element")
    path = {
        str(way): dataset.w.sel(way=way).transpose(*order).values
        for way in dataset.way.values
    }
    stop, rate = dataset.stop.values, dataset.attrs["rate"]
    shrink = 1 - rate * dataset.attrs["decay"]
    equal = np.stack(
        [path[way] for way in EQUAL]
    )  # [equal, optimizer, seed, stop, element]
    angle, length = between(equal, equal[:1]), np.linalg.norm(equal, axis=-1)
    ratio = length[0, ..., -1] / length[..., -1] / shrink ** stop[-1] - 1
    kept = shrink ** (2 * stop)
    laws = np.stack([kept + rate**2 * (1 - kept) / (1 - shrink**2), 1 + rate**2 * stop])
    law = np.abs(length[:2] ** 2 / laws[:, None, None] - 1).max(-1)
    lengths = sorted({float(way.split()[1][:-1]) for way in path if way.startswith("from")})
    runs = np.stack([[path[started(x, power)] for x in lengths] for power in range(3)])
    plain, first = equal[EQUAL.index("plain")], int(np.flatnonzero(stop == 1)[0])
    found = {
        "apart": (("equal", "optimizer", "seed"), angle.max(-1)),
        "ratio": (("equal", "optimizer", "seed"), ratio),
        "drift": (("equal", "optimizer", "stop"), np.median(angle, axis=2)),
        "norm": (("equal", "optimizer", "stop"), np.median(length, axis=2)),
        "law": (("how", "optimizer", "seed"), law),
        "first": (
            ("length", "optimizer", "seed"),
            between(runs[0, ..., first, :], runs[0, ..., 0, :]),
        ),
        "scaled": (("power", "length", "optimizer", "seed"), between(runs, plain).max(-1)),
    }
    names = {"equal": list(EQUAL), "how": ["decay", "plain"], "power": [0, 1, 2]}
    return dataset.drop_dims("way").assign(found).assign_coords(names | {"length": lengths})


def _noisy(dataset: xr.Dataset) -> xr.Dataset:
    """With noise, over [horizon], from the second half of the steps until then.

    `turn` [how, seed], the root mean square angle of a step, `rms_length` [how, seed], and
    `balance` [seed], mean |w|^4 over rate mean |w|^2 |g|^2 / 2 decay, with decay. From the
    last nine tenths `growth` [seed], the exponent of |w| in t without decay, and `gain`
    [seed], the rise of |w|^2 in a step without decay over rate^2 elements. `turning` [how,
    bin], the angles over all seeds, by time on a logarithmic axis `bin`.
    """
    order = ("optimizer", "how", "seed", "moment", "pair", "element")
    w = dataset.noisy_w.transpose(*order).values
    moment = dataset.moment.values
    rate, decay = dataset.attrs["rate"], dataset.attrs["decay"]
    length = np.linalg.norm(w[..., 0, :], axis=-1)
    squares = between(w[..., 0, :], w[..., 1, :]) ** 2
    step = (1 - rate * decay) * w[:, 0, ..., 0, :] - w[:, 0, ..., 1, :]
    pull = (np.linalg.norm(step, axis=-1) / rate * length[:, 0]) ** 2
    kept: dict[str, list[np.ndarray]] = {}
    for end in dataset.end.isel(optimizer=0).values:
        late, nine = ((moment >= end * share) & (moment < end) for share in (0.5, 0.1))
        x, y = np.log(moment[nine]) - np.log(moment[nine]).mean(), np.log(length[:, 1])
        risen = np.diff((length[:, 1] ** 2)[..., late][..., [0, -1]])[..., 0]
        quarts = (length[:, 0] ** 4)[..., late].mean(-1)
        for name, value in {
            "turn": squares[..., late].mean(-1) ** 0.5,
            "rms_length": (length**2)[..., late].mean(-1) ** 0.5,
            "balance": quarts / (rate * pull[..., late].mean(-1) / (2 * decay)),
            "growth": (x * y[..., nine]).sum(-1) / (x**2).sum(),
            "gain": risen / (moment[late][-1] - moment[late][0]) / (w.shape[-1] * rate**2),
        }.items():
            kept.setdefault(name, []).append(value)
    edges = np.geomspace(moment[1], moment[-1] + 1, BINS + 1)
    inside = (moment >= edges[:-1, None]) & (moment < edges[1:, None])  # [bin, moment]
    with np.errstate(invalid="ignore"):
        turning = (squares.mean(2) @ inside.T / inside.sum(1)) ** 0.5
    axes = {3: ("horizon", "optimizer", "how", "seed"), 2: ("horizon", "optimizer", "seed")}
    found: dict[str, Any] = {n: (axes[v[0].ndim], np.stack(v)) for n, v in kept.items()}
    found["turning"] = (("optimizer", "how", "bin"), turning)
    thin = dataset.drop_dims(("moment", "horizon")).assign(found)
    return thin.assign_coords(bin=np.sqrt(edges[1:] * edges[:-1]))


# Verdicts ---------------------------------------------------------------------------------


def exactly(results: Results, name: str, rule: str, **place: Any) -> np.ndarray:
    """A quantity without noise, over [..., seed]."""
    records = results.selected(results.experiment.problem)[name]
    return records.sel({"optimizer": rule, **place}).values


def noisily(results: Results, name: str, rule: str, last: int = 0) -> np.ndarray:
    """A quantity with noise, with decay if it has both, [seed].

    Args:
        results: of the experiment.
        name: of the quantity.
        rule: its string.
        last: 0 after noisy_steps, 1 after long_steps.
    """
    experiment: Any = results.experiment
    records = results.selected(experiment.noisy)[name].isel(horizon=last)
    records = records.sel(how="decay") if "how" in records.dims else records
    return records.sel(optimizer=rule).values


def _largest(name: str, rule: str, **place: Any) -> Callable[..., Estimate]:
    """The largest magnitude over all seeds."""

    def measure(results: Results) -> Estimate:
        found = exactly(results, name, rule, **place)
        return statistics.exact(np.abs(found).max(), found.shape[-1])

    return measure


def _early(results: Results) -> Estimate:
    """The largest median drift of normalised descent at its own schedule to step 300."""
    drift = results.selected(results.experiment.problem).drift
    own = drift.sel(optimizer=NGD, equal=OWNS[NGD][0])
    return statistics.exact(float(own.where(own.stop <= 300).max()))


def _median(name: str, rule: str, **place: Any) -> Callable[..., Estimate]:
    return lambda results: statistics.bootstrap(exactly(results, name, rule, **place))


def _shortened(rule: str) -> Callable[..., Estimate]:
    """The first step's turn from length 10 over that from 100."""

    def measure(results: Results) -> Estimate:
        turns = [exactly(results, "first", rule, length=x) for x in (10.0, 100.0)]
        return statistics.bootstrap(turns[0] / turns[1])

    return measure


def _noise(name: str, rule: str, over: Any = 1.0, last: int = 0) -> Callable[..., Estimate]:
    """With noise, over a number or what a function makes of the experiment."""

    def measure(results: Results) -> Estimate:
        goal = over(results.experiment) if callable(over) else over
        return statistics.bootstrap(noisily(results, name, rule, last) / goal)

    return measure


def equilibrium(experiment: Any, averaged: float = 0.0) -> float:
    """The turn of a step that decay and noise lead to, radians; b of averages if any."""
    whole = 2 * experiment.learning_rate * experiment.decay
    return float(np.sqrt(whole * (1 - averaged) / (1 + averaged)))


def resting(experiment: Any, elements: int) -> float:
    """|w| at which decay balances steps of length rate * sqrt(elements)."""
    return float(np.sqrt(elements * experiment.learning_rate / (2 * experiment.decay)))


NGD, ADAM = "NormalisedGD(eps=0.0)", "Adam(eps=0.0)"
LI = "Li & Arora (2020), arXiv:1910.07454, from the abstract"
OWN = "own derivation: the step scales with |w|^0"
OWNS = {
    "SGD": ("2t + 1", 1e-12, LI),
    "Momentum": ("2t + 1, memory", 1e-12, f"{LI}; the form of the memory derived here"),
    NGD: ("t + 1", 1e-10, OWN),
    "SignDescent": ("t + 1", 1e-10, OWN),
    ADAM: ("t + 1, memory", 1e-10, f"{OWN}, averages of gradients that scale with |w|^-1"),
}
"""By rule: the schedule without decay that equals decay, to how many radians, and why."""
OTHERS = {
    "SGD": "t + 1",
    "Momentum": "2t + 1",
    NGD: "2t + 1",
    "SignDescent": "2t + 1",
    ADAM: "2t + 1, memory",
}
"""The schedule of the other kind of rule; for heavy ball, its own with b as it was."""
POWERS = {rule: 2 if rule in ("SGD", "Momentum") else 1 for rule in OWNS}
WAN = "Wan et al. (2021), arXiv:2006.08419, from the abstract; formula derived here"
KOSSON = "Kosson et al. (2024), arXiv:2305.17212, from the abstract; formula derived here"
TURNS = {
    "SGD": (0.0, 0.05, WAN),
    "Momentum": (0.9, 0.2, WAN),
    NGD: (0.0, 0.05, KOSSON),
    "SignDescent": (0.0, 0.1, KOSSON),
    ADAM: (0.9, 0.2, KOSSON),
}
"""By rule: b of its average, tolerance, source of the turn in equilibrium."""
GROWTH = {
    "SGD": (0.25, 0.03),
    "Momentum": (0.25, 0.03),
    NGD: (0.5, 0.03),
    "SignDescent": (0.5, 0.03),
    ADAM: (0.5, 0.05),
}
"""By rule: exponent of |w| in t without decay, tolerance."""
AFTER = "ablation, after the first run"


def _of_schedules() -> Iterator[Prediction]:
    near = "radians of the one with decay"
    for rule, (way, limit, source) in OWNS.items():
        what = f"{rule}: without decay, rate times P^-({way}), the path of 500 steps stays"
        found = _largest("apart", rule, equal=way)
        yield Prediction(f"{what} within {limit:g} {near}", source, found, at_most=limit)
    for rule, (way, limit, source) in OWNS.items():
        what = f"{rule}: the lengths at the end of these two differ by P^500, to {limit:g}"
        yield Prediction(what, source, _largest("ratio", rule, equal=way), at_most=limit)
    why = "not the power of this rule, or not its memory"
    for rule, way in (*OTHERS.items(), (ADAM, "t + 1")):
        what = f"{rule}: rate times P^-({way}) leads 0.001 radians or more away, median"
        yield Prediction(what, why, _median("apart", rule, equal=way), at_least=1e-3)


def _of_lengths() -> Iterator[Prediction]:
    for rule, power in POWERS.items():
        limit, why = OWNS[rule][1], f"own derivation: the step scales with |w|^{1 - power}"
        for length in (10.0, 100.0):
            what = (
                f"{rule}: from |w| = {length:g} with the rate times {length:g}^{power}, "
                f"the same directions as from 1, to {limit:g} radians"
            )
            found = _largest("scaled", rule, power=power, length=length)
            yield Prediction(what, why, found, at_most=limit)
    why = "effective rate: rate / |w|^2 for a step as long as the gradient"
    for rule, power in POWERS.items():
        reach = 0.1 if rule in ("SignDescent", ADAM) else 0.01
        what = (
            f"{rule}: at one rate the first step turns w from |w| = 10 by {10**power} "
            f"times as much as from 100, to {reach:.0%}"
        )
        limits = 10**power * (1 - reach), 10**power * (1 + reach)
        yield Prediction(what, why, _shortened(rule), *limits)
    why = "steps of one length, orthogonal to w"
    for how, formula in (
        ("plain", "1 + rate^2 t"),
        ("decay", "P^2t + rate^2 (1 - P^2t) / (1 - P^2)"),
    ):
        found = _largest("law", NGD, how=how)
        yield Prediction(
            f"{NGD}, {how}: |w|^2 = {formula}, to 1e-12", why, found, at_most=1e-12
        )


def _of_noise() -> Iterator[Prediction]:
    start = "noise and decay"
    for rule, (b, reach, source) in TURNS.items():
        averaged = " (1 - b) / (1 + b)" if b else ""
        what = f"{start}, {rule}: the turn of a step is sqrt(2 rate decay{averaged})"
        found = _noise("turn", rule, functools.partial(equilibrium, averaged=b))
        yield Prediction(f"{what}, to {reach:.0%}", source, found, 1 - reach, 1 + reach)
    what = f"{start}, SGD: mean |w|^4 is rate mean(|w|^2 |g|^2) / 2 decay, to 5 %"
    why = "van Laarhoven (2017), arXiv:1706.05350, recalled; derived here"
    yield Prediction(what, why, _noise("balance", "SGD"), 0.95, 1.05)
    for rule, size, reach in ((NGD, 1, 0.01), ("SignDescent", 12, 0.1), (ADAM, 12, 0.2)):
        times = f"{size} " if size > 1 else ""
        what = f"{start}, {rule}: |w| = sqrt({times}rate / 2 decay), to {reach:.0%}"
        found = _noise("rms_length", rule, functools.partial(resting, elements=size))
        yield Prediction(what, KOSSON, found, 1 - reach, 1 + reach)
    why = "own derivation: |w|^2 grows by the square of the step"
    for rule, (power, reach) in GROWTH.items():
        what = f"noise without decay, {rule}: |w| grows as t^{power:g}, to {reach:g}"
        yield Prediction(what, why, _noise("growth", rule), power - reach, power + reach)


def _of_ablations() -> Iterator[Prediction]:
    what = f"{NGD}, own schedule, median path: within 1e-10 radians up to step 300"
    why = f"{AFTER}: rounding grows step by step"
    yield Prediction(what, why, _early, at_most=1e-10)
    why = f"{AFTER}: this rule alone magnifies a difference"
    for rule in OWNS:
        nudged = _largest("apart", rule, equal="nudged")
        what = f"{rule}: with decay, a start longer by 1e-12 ends up to"
        if rule == NGD:
            yield Prediction(
                f"{what} 1e-6 radians or more away", why, nudged, at_least=1e-6
            )
        else:
            yield Prediction(f"{what} 1e-10 radians away", why, nudged, at_most=1e-10)
    what = "noise and decay, SGD, 40,000 steps: mean |w|^4 is as above, to 5 %"
    yield Prediction(what, f"{AFTER}: longer", _noise("balance", "SGD", last=1), 0.95, 1.05)
    for rule in ("Momentum", "SignDescent", ADAM):
        power, reach = GROWTH[rule]
        what = f"noise without decay, {rule}, 40,000 steps: |w| grows as t^{power:g}"
        found, limits = _noise("growth", rule, last=1), (power - reach, power + reach)
        yield Prediction(f"{what}, to {reach:g}", f"{AFTER}: longer", found, *limits)
    what = "40,000 steps, second half: |w|^2 rises by 12 rate^2 in a step"
    found, why = (
        _noise("gain", ADAM, last=1),
        "v has forgotten the short weights of the start",
    )
    yield Prediction(f"{ADAM}, {what}, to 10 %", f"{AFTER}: {why}", found, 0.9, 1.1)
    found, why = _noise("gain", "SignDescent", last=1), "its steps have a part along w"
    yield Prediction(f"SignDescent, {what} twice or more", f"{AFTER}: {why}", found, 2)


PREDICTIONS = (
    Prediction(
        "at ten starts |<w, g>| <= 1e-14 |w| |g|",
        f"f(c w) = f(w); {LI}",
        _largest("radial", "SGD"),
        at_most=1e-14,
    ),
    Prediction(
        "at ten starts g(2 w) = g(w) / 2, to 1e-15",
        f"f(c w) = f(w); {LI}",
        _largest("halving", "SGD"),
        at_most=1e-15,
    ),
    *_of_schedules(),
    *_of_lengths(),
    *_of_noise(),
    *_of_ablations(),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule: medians over the starts."""
    del manifest
    experiment: Any = results.experiment
    for rule in map(str, experiment.optimizers):
        row: dict[str, Any] = {"optimizer": rule}
        for way in EQUAL[2:]:
            row[f"radians_apart, {way}"] = exactly(results, "apart", rule, equal=way)
        for length in experiment.lengths:
            turns = exactly(results, "first", rule, length=length)
            row[f"first_turn, |w| = {length:g}"] = turns
        for last, steps in enumerate((experiment.noisy_steps, experiment.long_steps)):
            for name in ("turn", "rms_length", "balance", "growth", "gain"):
                row[f"{name}, {steps} noisy steps"] = noisily(results, name, rule, last)
        yield {k: v if k == "optimizer" else float(np.median(v)) for k, v in row.items()}


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Lengths and angles of equal paths, turns against the length, turns with noise."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.7)
    looks = figures.look(results.experiment.optimizers)
    _draw_lengths(axes[0, 0], results)
    _draw_apart(axes[0, 1], results, looks)
    _draw_first(axes[1, 0], results, looks)
    _draw_turning(axes[1, 1], results, looks)
    figures.legend(figure, axes[1, 1])
    figures.note(
        figure,
        figures.medians(results.count(), bands=False) + " d: root mean squares of them.",
    )
    return {"figure": figure}


def _draw_lengths(axes: Axes, results: Results) -> None:
    """SGD's length with decay, and at the growing rate that equals it."""
    norm = results.selected(results.experiment.problem).norm.sel(optimizer="SGD")
    for way, style, label in (
        ("decay", "-", "decay 0.01"),
        ("2t + 1", "--", "no decay,\nrate $\\times P^{-(2t+1)}$"),
    ):
        line = norm.sel(equal=way)
        axes.plot(line.stop, line, style, color="black", label=label)
    axes.set(xlabel="Step", ylabel="|w|", title="a  SGD: other lengths")
    axes.legend(loc="lower left", fontsize=6.5)


def _draw_apart(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Angles from the path with decay, at the rule's schedule and at the other's."""
    drift = results.selected(results.experiment.problem).drift
    for name, look in looks.items():
        for way, solid in ((OWNS[name][0], True), (OTHERS[name], False)):
            line = drift.sel(optimizer=name, equal=way)
            line = line.where(line > 0)
            style = {"linestyle": "-" if solid else ":", "markevery": 10}
            axes.plot(line.stop, line, **look | style)
    axes.set(yscale="log", ylim=(1e-18, 30), xlabel="Step")
    axes.set_ylabel("Radians from the path with decay")
    axes.set_title("b  Same directions")
    axes.text(0.97, 1.0, "the other rules' schedule", transform=axes.transAxes, **LABEL)
    axes.text(0.55, 0.22, "the rule's own schedule", transform=axes.transAxes, **LABEL)


LABEL: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 7, "color": "#444444"}


def _draw_first(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """The first step's turn against the length of w."""
    first = results.selected(results.experiment.problem).first.median("seed")
    for name, look in looks.items():
        line = first.sel(optimizer=name)
        axes.plot(line.length, line, **look)
    axes.set(xscale="log", yscale="log", xlabel="|w| at the start")
    axes.set_ylabel("Radians of the first step")
    axes.set_title("c  The same rate turns long weights less")


def _draw_turning(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Turns of a step with noise: with decay solid, without dotted; theory in red."""
    experiment: Any = results.experiment
    turning = results.selected(experiment.noisy).turning
    for name, look in looks.items():
        for how, style in (("decay", "-"), ("plain", ":")):
            line = turning.sel(optimizer=name, how=how).dropna("bin")
            label = look["label"] if how == "decay" else None
            axes.plot(
                line.bin,
                line,
                **look | {"linestyle": style, "label": label, "markevery": 4},
            )
    for b in (0.0, 0.9):  # without averages, and with those of heavy ball and Adam
        axes.axhline(equilibrium(experiment, b), color="#b10000", lw=0.8, ls="--", zorder=1)
    axes.text(25, 0.031, r"$\sqrt{2 \eta \lambda}$", color="#b10000", clip_on=True)
    axes.text(22, 0.0038, "lower: with averages", color="#b10000", fontsize=7, clip_on=True)
    axes.set(xscale="log", yscale="log", xlabel="Step")
    axes.set_ylabel("Radians of a step")
    axes.set_title("d  Noise: with decay (solid), without (dotted)")


if __name__ == "__main__":
    cli.main(__spec__.name)
