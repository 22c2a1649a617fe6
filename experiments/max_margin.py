"""Which separating line does a rule end at, and does an epsilon change the destination?

Question.   On separable data the logistic loss has no minimum: w grows without end, and a
            rule chooses a direction. Do rules that keep the gradient's direction, rescale
            each element, or take one element choose different ones, and how fast?
Prediction. Gradient descent and normalised descent go to the largest l2 margin, the first
            as 1 / log t (at most .90 of it after 1e4 steps), the second far faster (.98).
            Sign descent, Lion and Adam at eps 0 go to the largest l_inf margin, coordinate
            descent to the l1 margin, Adagrad to none of them. An epsilon flips Adam's
            destination: at 1e-8 the l_inf ratio rises, then falls, while the l2 ratio
            climbs. Gradients vanish on the way: below 1e-154 Optax's norm squares to 0 and
            normalised descent divides by it.
Varied.     Scientific: rule, epsilon. Fixed: rates (constant for SGD and Adagrad, otherwise
            times (t + 2)^-0.5), 30 samples, 50 inputs, 2e5 steps, float64. Ten data seeds
            are the units of intervals. Ablations: normalised, sign and coordinate descent
            on the logarithm of the loss, whose gradient has the same direction and never
            vanishes; Adam at eps 0 on 2^480 times the loss; normalised descent in float32;
            SGD and coordinate descent at a tenth and ten times the rate.
Cost.       A minute on two CPU cores.

    python -m experiments.max_margin             run, store, judge, draw
    python -m experiments.max_margin --draw      draw stored records again

All recalled but for one, of which the abstract was read: Soudry et al. (2018),
arXiv:1710.10345; Nacson et al. (2019), arXiv:1803.01905; Gunasekar et al. (2018),
arXiv:1802.08246; Wang et al. (2021), arXiv:2012.06244; abstract: Zhang, Zou & Cao (2024),
arXiv:2406.10650. Thresholds come from an independent calibration run of this problem with
other data. Adagrad's rate is our choice. Of its (1 - l2 share) log t of gradient descent,
1.48, 1.23, 1.13 and 1.07 after 1e3 to 1e6 updates, the last lies beyond 2e5 updates and is
not judged.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from study import cli, optimizers, solutions, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import LogisticRegression, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

    Measured = Callable[[Results], np.ndarray]


@dataclasses.dataclass(frozen=True)
class MaxMargin(Comparison):
    """Each rule on several draws of separable data."""

    data_seeds: int = 10
    """Draws of the data, from the problem's `data_seed` on."""
    steps: int = 200_000
    """Updates."""
    constant: float = 0.1
    """Rate of SGD and Adagrad."""
    long: float = 0.5
    """Rate of normalised and coordinate descent, times (t + 2)^-0.5."""
    short: float = 0.1
    """Rate of all others, times (t + 2)^-0.5."""
    epsilons: tuple[float, ...] = (0.0, 1e-30, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 1.0)
    """In turn in each of the rules that have an eps of 0; the first is 0."""
    factors: tuple[float, ...] = (1.0, 0.1, 10.0)
    """On the rates of SGD and coordinate descent; the first is 1."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("epsilons", "factors")
        if self.data_seeds < 1:
            self.refuse("data_seeds", "at least 1")
        if not 1 <= self.steps < 2**31:
            self.refuse("steps", "from 1 to 2^31 - 1")
        for name, first in (("epsilons", 0), ("factors", 1)):
            if getattr(self, name)[0] != first:
                self.refuse(name, f"{first} first")
        if not isinstance(self.problem, LogisticRegression) or self.problem.l2 != 0:
            self.refuse("problem", "a LogisticRegression with l2 = 0, without a minimum")

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of updates after which w is looked at, eight a decade and the last."""
        powers = 10 ** (np.arange(int(np.log10(self.steps) * 8) + 1) / 8)
        return tuple(int(n) for n in np.unique([*powers.round(), self.steps]))

    @property
    def milestones(self) -> tuple[int, ...]:
        """Those of the stops at which variants are stored: 100, 1,000, ... and the last."""
        return tuple(n for n in self.stops if n in (100, 1e3, 1e4, 1e5, self.steps))

    def variants(self, optimizer: Optimizer) -> list[tuple[float, float]]:
        """Pairs of epsilon and factor on the rate; the first is the rule itself."""
        if str(optimizer) in ("SGD", CROSS):
            return [(0.0, factor) for factor in self.factors]
        return [(eps, 1.0) for eps in (self.epsilons if swept(optimizer) else (0.0,))]


NORMALISED, CROSS = "NormalisedGD(eps=0.0)", "CoordinateDescent"
EXACT, FLOORED = "Adam(b2=0.99, eps=0.0)", "Adam(b2=0.99)"
ADAGRAD = "Adagrad(initial_accumulator=0.0)"
KINDS = ("plain", "guarded", "float32")
MEMORYLESS = (NORMALISED, "SignDescent", CROSS)
"""Updates depend on the gradient's direction alone, so on log losses they are the same."""
DEFAULT = MaxMargin(
    problem=LogisticRegression(
        samples=30, inputs=50, spread=1.0, labels="random", dtype="float64"
    ),
    optimizers=(
        optimizers.SGD(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Lion(),
        optimizers.Adam(b2=0.99, eps=0.0),
        optimizers.Adam(b2=0.99),
        optimizers.CoordinateDescent(),
        optimizers.Adagrad(initial_accumulator=0.0),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        optimizers=(optimizers.SGD(), optimizers.NormalisedGD(eps=0.0)),
        data_seeds=2,
        steps=120,
        epsilons=(0.0, 1.0),
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, data_seeds=20, steps=2_000_000),
}
KEPT = ("ratio", "varied", "lost", "largest", "separation", "cosine", "twin")


def swept(optimizer: Optimizer) -> bool:
    """It has an epsilon, of 0, in whose place others are put."""
    return getattr(optimizer, "eps", None) == 0


@dataclasses.dataclass(frozen=True)
class LogLoss(LogisticRegression):
    """The logarithm of a logistic regression's mean loss.

    Its gradient is the loss's own over the loss: the same direction, and a length that
    does not vanish. Losses below 1e-13 are taken as exp(-margin), equal in float64.
    """

    def loss(self, params: Any, batch: Any) -> Any:
        """Ln of the mean, whatever the factor."""
        import jax
        import jax.numpy as jnp

        margins = jnp.matmul(batch, params["w"], precision="highest")
        near = jnp.log(jax.nn.softplus(-jnp.minimum(margins, 30.0)))
        logs = jnp.where(margins < 30, near, -margins)
        return jax.scipy.special.logsumexp(logs) - np.log(len(batch))


class Watched(NamedTuple):
    """The state of a rule, updates so far, and the first of them that was lost."""

    rule: Any
    count: Any
    lost: Any


def watch(rule: Any) -> Any:
    """Notes the first update (from 1) from a zero gradient, or not finite; -1 if none."""
    import jax.numpy as jnp
    import optax

    def init(params: Any) -> Any:
        return Watched(rule.init(params), jnp.int32(0), jnp.int32(-1))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        made, inner = rule.update(updates, state.rule, params)
        bad = ~jnp.any(updates["w"] != 0) | ~jnp.all(jnp.isfinite(made["w"]))
        count = state.count + 1
        lost = jnp.where((state.lost < 0) & bad, count, state.lost)
        return made, Watched(inner, count, lost)

    return optax.GradientTransformation(init, update)


def kinds(problem: Problem, optimizer: Optimizer) -> dict[str, Problem]:
    """The problem as it is, with gradients that do not vanish, and in float32, by KINDS.

    Of the last two, those in which the rule would take the same path in exact arithmetic
    and is of interest.
    """
    found, name = {"plain": problem}, str(optimizer)
    if name in MEMORYLESS:
        fields = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
        found["guarded"] = LogLoss(**fields)
    elif name == EXACT:  # a power of 2: the same bits; squares stay in range
        found["guarded"] = dataclasses.replace(problem, factor=2.0**480)
    if name == NORMALISED:
        found["float32"] = dataclasses.replace(problem, dtype="float32")
    return found


def run_cell(
    experiment: MaxMargin,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All data seeds of one rule in all of its kinds and variants.

    `w` [seed, stop, input]; margins over the largest, `ratio` [kind, norm, seed, stop]
    and of all variants `varied` [variant, norm, seed, milestone]; `lost` [kind, seed], the
    first update lost or -1; `largest` [norm, seed], the margins; `separation` [seed], the
    cosine between the best w in l2 and in l_inf; `cosine` [kind, norm, seed], that of the
    last w with the best. NaN where there is no run.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    rows = draws(problem, experiment.data_seeds)
    count, pairs = len(rows), experiment.variants(optimizer)
    largest, best = references(rows)
    runs = [np.tile(np.arange(count), len(pairs)), *np.repeat(pairs, count, axis=0).T]
    sizes = (len(KINDS), *largest.shape, len(experiment.stops))
    ratio, lost = np.full(sizes, np.nan), np.full((len(KINDS), count), -1, np.int32)
    cosine = np.full(sizes[:-1], np.nan)
    paths = np.zeros(0)  # [run, stop, input], of the plain kind
    for kind, other in kinds(problem, optimizer).items():
        some = [axis if kind == "plain" else axis[:count] for axis in runs]
        with devices.precision(other.dtype):
            run = follower(experiment, other, optimizer)
            found = devices.map_runs(run, (rows.astype(other.dtype),), some)
        place = KINDS.index(kind)
        ratio[place] = ratios(rows, largest, found["w"][:count])
        lost[place] = found["lost"][:count]
        cosine[place] = cosines(best, found["w"][:count, -1])
        paths = found["w"] if kind == "plain" else paths
        progress((place + 1) / len(KINDS))
    most = max(len(experiment.epsilons), len(experiment.factors))
    varied = np.full((most, *largest.shape, len(experiment.milestones)), np.nan)
    at = np.flatnonzero(np.isin(experiment.stops, experiment.milestones))
    for i, w in enumerate(np.split(paths[:, at], len(pairs))):
        varied[i] = ratios(rows, largest, w)
    dataset = xr.Dataset(
        {
            "w": (("seed", "stop", "input"), paths[:count]),
            "ratio": (("kind", "norm", "seed", "stop"), ratio),
            "varied": (("variant", "norm", "seed", "milestone"), varied),
            "lost": (("kind", "seed"), lost),
            "largest": (("norm", "seed"), largest),
            "separation": ("seed", cosines(best[0], best[1])),
            "cosine": (("kind", "norm", "seed"), cosine),
        },
        {"kind": list(KINDS), "norm": list(solutions.NORMS)}
        | {axis: list(getattr(experiment, f"{axis}s")) for axis in ("stop", "milestone")},
    )
    return sweep.finish(dataset, problem, optimizer, begun, len(runs[0]))


def references(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest margins [norm, seed], and the best w [norm, seed, input]."""
    tops = [[solutions.max_margin(x, norm) for x in rows] for norm in solutions.NORMS]
    values, w = ([[top[i] for top in line] for line in tops] for i in (0, 1))
    return np.array(values), np.array(w)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between vectors along the last axis; NaN at 0 or where one is not finite."""
    with np.errstate(all="ignore"):
        a, b = (w / np.linalg.norm(w, axis=-1, keepdims=True) for w in (a, b))
    return np.sum(a * b, -1)


def draws(problem: Any, count: int) -> np.ndarray:
    """The data of each seed [seed, sample, input]."""
    seeds = range(problem.data_seed, problem.data_seed + count)
    return np.stack([dataclasses.replace(problem, data_seed=k).rows() for k in seeds])


def follower(experiment: MaxMargin, problem: Any, optimizer: Optimizer) -> Any:
    """(rows of all seeds, seed, epsilon, factor) -> `w` [stop, input] and `lost`."""
    import jax.numpy as jnp

    from study import trajectories

    name = type(optimizer).__name__
    steady, long = name in ("SGD", "Adagrad"), name in ("NormalisedGD", CROSS)
    rate = experiment.long if long else experiment.short
    rate, exponent = (experiment.constant, 0.0) if steady else (rate, 0.5)

    def run(rows: Any, seed: Any, epsilon: Any, factor: Any) -> Any:
        rule = copy.copy(optimizer)
        if swept(optimizer):  # past the spec's check, which wants numbers
            object.__setattr__(rule, "eps", epsilon)
        state, w = trajectories.follow(
            problem,
            trajectories.Treated(rule, watch),
            trajectories.power_law(rate * factor, exponent, shift=2.0),
            experiment.stops,
            lambda state, t: state.params["w"],
            params={"w": jnp.zeros(rows.shape[-1], problem.dtype)},
            data=rows[seed],
        )
        return {"w": w, "lost": state.optimizer.lost}

    return run


def ratios(rows: np.ndarray, largest: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Margins of w [seed, stop, input] over the largest, [norm, seed, stop]."""
    found = [solutions.margin(rows[:, None], w, norm) for norm in solutions.NORMS]
    return np.stack(found) / largest[..., None]


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Without w, ratios below -1 as -1; `twin` [seed, stop]: do two rules go one way?

    The cosine between gradient descent's w and normalised descent's of the same length;
    NaN where the latter was never as short or as long.
    """
    twin = np.full((dataset.sizes["seed"], dataset.sizes["stop"]), np.nan)
    if {"SGD", NORMALISED} <= set(map(str, dataset.optimizer.values)):
        pair = [dataset.w.sel(optimizer=name).values for name in ("SGD", NORMALISED)]
        twin = np.stack([twins(*both) for both in zip(*pair, strict=True)])
    found = dataset.drop_vars("w").assign(twin=(("seed", "stop"), twin))
    for name in ("ratio", "varied"):
        found[name] = found[name].clip(min=-1).assign_attrs(decimals=4)
    return found


def twins(w: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Cosine [stop] of each w [stop, input] with the point of a path as far from 0.

    The path [stop, input] is taken as straight between its stops, up to the first that is
    not finite, and the first point of that length counts.
    """
    lengths = np.linalg.norm(path, axis=-1)
    whole = int(np.isfinite(lengths).cumprod().sum())
    lengths = np.maximum.accumulate(lengths[:whole])
    wanted = np.linalg.norm(w, axis=-1)
    after = np.searchsorted(lengths, wanted).clip(1, whole - 1)
    with np.errstate(all="ignore"):  # beyond the path, and at w = 0
        share = (wanted - lengths[after - 1]) / (lengths[after] - lengths[after - 1])
    share = np.where((share >= 0) & (share <= 1), share, np.nan)[:, None]
    found = (1 - share) * path[after - 1] + share * path[after]
    return np.sum(found * w, -1) / np.linalg.norm(found, axis=-1) / wanted


# Verdicts ---------------------------------------------------------------------------------


def of(results: Results) -> xr.Dataset:
    """The condensed records."""
    return results.selected(results.experiment.problem)


def shares(
    results: Results, name: str, norm: str, stop: int | None = None, kind: str = "plain"
) -> np.ndarray:
    """Margins over the largest [seed] after so many updates, at the end if None."""
    found = of(results).ratio.sel(optimizer=name, norm=norm, kind=kind)
    return (found.isel(stop=-1) if stop is None else found.sel(stop=stop)).values


def varied(results: Results, name: str, norm: str) -> dict[tuple[float, float], np.ndarray]:
    """The same [milestone, seed] of each variant, by (epsilon, factor)."""
    experiment: Any = results.experiment
    rule = {str(o): o for o in experiment.optimizers}[name]
    found = of(results).varied.sel(optimizer=name, norm=norm)
    arrays = found.transpose("variant", "milestone", "seed").values
    return dict(zip(experiment.variants(rule), arrays, strict=False))


def by_epsilon(results: Results, name: str, norm: str, kind: str = "plain") -> np.ndarray:
    """At the end [epsilon, seed]; at epsilon 0 in this kind."""
    found = [path[-1] for path in varied(results, name, norm).values()]
    return np.stack([shares(results, name, norm, None, kind), *found[1:]])


def _gain(norm: str, first: int, last: int | None) -> Callable[[Results], Estimate]:
    """By how much the share of Adam at eps 1e-8 rises from one stop to another."""
    at = lambda results, stop: shares(results, FLOORED, norm, stop)  # noqa: E731
    return lambda results: statistics.paired(at(results, last), at(results, first))


def _slowness(results: Results, stop: int) -> np.ndarray:
    """(1 - l2 share) log t of gradient descent [seed]."""
    return (1 - shares(results, "SGD", "l2", stop)) * np.log(stop)


def _law(results: Results) -> Estimate:
    """The same at 1e5 over that at 1e4."""
    return statistics.bootstrap(_slowness(results, 100_000) / _slowness(results, 10_000))


def _at_epsilon(results: Results, eps: float) -> np.ndarray:
    """L_inf share of Adam [seed] at the end; at epsilon 0 on the larger loss."""
    if eps == 0:
        return shares(results, EXACT, "linf", END, "guarded")
    return varied(results, EXACT, "linf")[eps, 1.0][-1]


def _arrival(results: Results) -> np.ndarray:
    """Cosine [seed] of sign descent's last w with the best w in l_inf."""
    return of(results).cosine.sel(optimizer="SignDescent", norm="linf", kind="plain").values


def _less(kind: str) -> Callable[[Results], Estimate]:
    """L_inf share of Adam at eps 0 less that at eps 1e-8, at the end."""
    return lambda results: statistics.paired(
        shares(results, EXACT, "linf", END, kind), shares(results, FLOORED, "linf")
    )


def _rise(kind: str) -> Callable[[Results], Estimate]:
    """The largest rise of Adam's l_inf share from one epsilon to the next."""
    return lambda results: statistics.bootstrap(
        np.diff(by_epsilon(results, EXACT, "linf", kind), axis=0).max(0)
    )


def _floored(results: Results) -> Estimate:
    """L2 share of normalised descent at epsilon 1e-8 less gradient descent's."""
    found = varied(results, NORMALISED, "l2")[1e-8, 1.0][-1]
    return statistics.paired(found, shares(results, "SGD", "l2"))


def _lost(results: Results) -> Estimate:
    """The update at which the last data seed loses its direction, inf if one never does."""
    lost = of(results).lost.sel(optimizer=NORMALISED, kind="plain").values
    return statistics.exact(np.where(lost < 0, np.inf, lost).max(), len(lost))


def _separation(results: Results) -> Estimate:
    found = of(results).separation.isel(optimizer=0).values
    return statistics.exact(found.max(), len(found))


def _at_every_point(results: Results) -> Estimate:
    """The smallest cosine of gradient descent with its twin from update 10 on."""
    found = of(results).twin.sel(stop=slice(10, None)).values
    return statistics.exact(found.min(initial=1), len(found))


RUN = "independent calibration run"
SOUDRY = f"Soudry et al. 2018, recalled; value: {RUN}"
NACSON = f"Nacson et al. 2019, recalled; value: {RUN}"
GUNASEKAR = f"Gunasekar et al. 2018, recalled; value: {RUN}"
WANG = f"Wang et al. 2021, recalled; value: {RUN}"
ZHANG = f"Zhang, Zou & Cao 2024, from the abstract; value: {RUN}"
LATER = "ablation added after the first run, with the threshold of the one it explains"
END, EARLY, NONE = None, 10_000, np.inf
SHARES = (
    # rule, norm, after, of what, at least, at most, published, source
    ("SGD", "l2", EARLY, "plain", -NONE, 0.90, 0.866, SOUDRY),
    (NORMALISED, "l2", EARLY, "plain", 0.98, NONE, 0.991, NACSON),
    (NORMALISED, "l2", EARLY, "guarded", 0.98, NONE, 0.991, NACSON),
    ("SignDescent", "linf", EARLY, "plain", 0.97, NONE, 0.980, GUNASEKAR),
    ("Lion", "linf", END, "plain", 0.95, NONE, 0.995, f"as sign descent; value: {RUN}"),
    (EXACT, "linf", END, "plain", 0.95, NONE, 0.983, ZHANG),
    (EXACT, "linf", END, "guarded", 0.95, NONE, 0.983, f"{ZHANG}; {LATER}"),
    (CROSS, "l1", END, "plain", 0.95, NONE, 0.994, f"{GUNASEKAR}, .196 on another seed"),
    (ADAGRAD, "l2", END, "plain", -NONE, 0.9, 0.77, f"neither margin: {RUN}"),
    (ADAGRAD, "linf", END, "plain", -NONE, 0.9, 0.72, f"neither margin: {RUN}"),
)


def _when(stop: int | None) -> str:
    return "at the end" if stop is None else f"after {stop:,} updates"


def _bound(name: str, norm: str, stop: int | None, kind: str, *rest: Any) -> Prediction:
    """Of a row of SHARES."""
    low, high, published, source = rest
    most = f"at least {low:g}" if low > 0 else f"at most {high:g}"
    large = " on 2^480 times the loss" if name == EXACT else " on log losses"
    statement = f"{name}{large if kind == 'guarded' else ''}, {_when(stop)}: {most}"
    measure = lambda found: statistics.bootstrap(shares(found, name, norm, stop, kind))  # noqa: E731
    statement = f"{statement} of the largest {norm} margin"
    return Prediction(statement, source, measure, low, high, published)


ADDED = "added after the first run, for completeness"
DATED = f"{WANG} (.749 after 1e3 or 1e4 updates, which is not said)"
VALUES = (
    # rule, norm, after, the calibration run's share, source
    ("SGD", "l2", 1000, 0.785, SOUDRY),
    ("SGD", "l2", END, 0.910, SOUDRY),
    (NORMALISED, "l2", 1000, 0.966, NACSON),
    ("SignDescent", "linf", END, 0.996, GUNASEKAR),
    (FLOORED, "linf", EARLY, 0.80, WANG),
    (FLOORED, "l2", 1000, 0.749, DATED),
    (FLOORED, "l2", EARLY, 0.749, DATED),
    (FLOORED, "l2", END, 0.864, WANG),
)
FLIP = (0.983, 0.910, 0.820, 0.776, 0.734, 0.687, 0.594, 0.419)
"""The calibration run's l_inf shares of Adam at the end, by DEFAULT's epsilons."""
LOGS = {1000: 1.48, 10_000: 1.23, 100_000: 1.13}
"""Its (1 - l2 share) log t of gradient descent."""


def _near(
    what: str, source: str, value: float, found: Measured, reach: float
) -> Prediction:
    """A median over seeds within reach of a value."""
    low, high = value - reach, value + reach
    measure = lambda results: statistics.bootstrap(found(results))  # noqa: E731
    text = f"{what}: {low:.6g} to {high:.6g}"
    return Prediction(text, f"{source}; {ADDED}", measure, low, high, value)


def _reach(share: float) -> float:
    """Of a share or cosine: 0.03 above 0.9, otherwise a quarter."""
    return 0.03 if share > 0.9 else share / 4


def _of_values() -> Iterator[Prediction]:
    """The calibration run's numbers, one by one."""
    for name, norm, stop, value, source in VALUES:
        found: Measured = functools.partial(shares, name=name, norm=norm, stop=stop)
        yield _near(
            f"{name}, {_when(stop)}: {norm} share", source, value, found, _reach(value)
        )
    for eps, value in zip(DEFAULT.epsilons, FLIP, strict=True):
        title = f"{eps:g}" if eps else "0 on 2^480 times the loss"
        found = functools.partial(_at_epsilon, eps=eps)
        yield _near(
            f"Adam at eps {title}, at the end: linf share", RUN, value, found, _reach(value)
        )
    for stop, value in LOGS.items():
        found = functools.partial(_slowness, stop=stop)
        text = f"SGD, {_when(stop)}: (1 - l2 share) log t"
        yield _near(text, f"1 / log t: {SOUDRY}", value, found, value / 4)
    what = "SignDescent, at the end: cosine with the best w in linf"
    yield _near(what, GUNASEKAR, 0.9996, _arrival, _reach(0.9996))
    text = "SGD's w and normalised descent's of the same length: cosine 0.99 or more"
    text, source = f"{text} at all stops from update 10 on", f"same directions: {RUN}"
    yield Prediction(text, f"{source}; {ADDED}", _at_every_point, at_least=0.99)


GUARDS = (("plain", "", ""), ("guarded", ", eps 0 on 2^480 times the loss", f"; {LATER}"))
PREDICTIONS = (
    Prediction(
        "the best w in l2 and in l_inf differ: cosine at most 0.9 for every data seed",
        f"precondition: {RUN}",
        _separation,
        at_most=0.9,
    ),
    *(_bound(*row) for row in SHARES),
    Prediction(
        "SGD: (1 - share of the l2 margin) log t at 1e5 is 0.8 to 1.2 times that at 1e4",
        f"1 / log t: {SOUDRY}",
        _law,
        at_least=0.8,
        at_most=1.2,
        published=1.13 / 1.23,
    ),
    Prediction(
        "normalised descent loses its direction to underflow by 200,000 updates, all seeds",
        f"after about 1e4: {RUN}",
        _lost,
        at_most=200_000,
        published=1e4,
    ),
    Prediction(
        "SGD's last w and normalised descent's of the same length: cosine 0.99 or more",
        f"same directions at every point: {RUN}",
        lambda results: statistics.bootstrap(of(results).twin.isel(stop=-1).values),
        at_least=0.99,
    ),
    Prediction(
        "normalised descent at eps 1e-8: l2 share at the end less SGD's is 0 or more",
        "one factor on all elements costs speed alone: own expectation",
        _floored,
        at_least=0,
    ),
    *(
        Prediction(
            f"Adam{title}: last l_inf share at eps 0 less that at eps 1e-8 is 0.1 or more",
            f"{WANG}{source}",
            _less(kind),
            at_least=0.1,
            published=0.983 - 0.776,
        )
        for kind, title, source in GUARDS
    ),
    *(
        Prediction(
            f"Adam{title}: to the next larger eps the l_inf share never rises (above 0)",
            f".983, .910, .820, .776, .734, .687, .594, .419: {RUN}{source}",
            _rise(kind),
            at_most=0,
        )
        for kind, title, source in GUARDS
    ),
    Prediction(
        "Adam at eps 1e-8: the l_inf share rises by 0.05 or more from update 100 to 10,000",
        "as without epsilon while gradients are larger: own expectation",
        _gain("linf", 100, EARLY),
        at_least=0.05,
    ),
    Prediction(
        "Adam at eps 1e-8: the l_inf share falls by 0.01 or more from update 10,000 on",
        f".80 to .776: {WANG}",
        _gain("linf", EARLY, END),
        at_most=-0.01,
        published=0.776 - 0.80,
    ),
    Prediction(
        "Adam at eps 1e-8: the l2 share rises by 0.05 or more from update 10,000 on",
        f".749 to .864: {WANG}",
        _gain("l2", EARLY, END),
        at_least=0.05,
        published=0.864 - 0.749,
    ),
    *_of_values(),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, kind or variant, and norm: shares of the largest margin.

    `lost_share`: how many data seeds lost their direction, `lost_first` and `lost_median`:
    at which update, inf for never; `lost_theory`: the median of the updates at which
    exp(-margin), the margin growing as the largest times sqrt(t) as it does for normalised
    descent, is the root of the smallest normal number, so that its square is 0. `cosine`:
    the median of the last w's with the best. `twin_below`: the last stop at which the
    cosine of gradient descent with its twin is below 0.99 or unknown on some seed.
    """
    del manifest
    records = of(results)
    names = map(str, records.optimizer.values)
    for name, norm in itertools.product(names, solutions.NORMS):
        row: dict[str, Any] = {"optimizer": name, "norm": norm}
        for kind in KINDS:
            at = records.sel(optimizer=name, norm=norm, kind=kind)
            path = at.ratio.sel(stop=records.milestone.values).transpose("stop", "seed")
            if not np.isnan(path.values[0]).all():
                own = _losses(at) | {"cosine": float(np.median(at.cosine))} | _twin(at)
                yield row | {"variant": kind} | _shares(results, path.values) | own
        for (eps, factor), path in list(varied(results, name, norm).items())[1:]:
            variant = f"eps {eps:g}" if factor == 1 else f"rate x {factor:g}"
            yield row | {"variant": variant} | _shares(results, path)


def _shares(results: Results, path: np.ndarray) -> dict[str, float]:
    """Of a path [milestone, seed]: medians, interval and smallest at the end."""
    stops = of(results).milestone.values[:-1]
    medians = [statistics.bootstrap(values).value for values in path]
    row = {f"after_{stop}": value for stop, value in zip(stops, medians, strict=False)}
    value, low, high, _ = statistics.bootstrap(path[-1])
    return row | {
        "end": value,
        "end_low": low,
        "end_high": high,
        "smallest": path[-1].min(),
    }


def _losses(at: xr.Dataset) -> dict[str, float]:
    when = np.where(at.lost.values < 0, np.inf, at.lost.values)
    row = {"lost_share": np.isfinite(when).mean(), "lost_first": when.min()}
    row["lost_median"] = np.median(when)
    if str(at.optimizer.values) == NORMALISED and str(at.norm.values) == "l2":
        tiny = np.finfo("float32" if at.kind == "float32" else "float64").tiny
        row["lost_theory"] = np.median((np.log(tiny) / 2 / at.largest.values) ** 2)
    return row


def _twin(at: xr.Dataset) -> dict[str, float]:
    if (str(at.optimizer.values), str(at.norm.values)) != ("SGD", "l2"):
        return {}
    below = ~(at.twin.min("seed", skipna=False) >= 0.99)
    return {"twin_below": float(at.stop.where(below).max())}


# Figure -----------------------------------------------------------------------------------


TITLES = {
    "l2": "a  Share of the largest $\\ell_2$ margin",
    "linf": "b  Share of the largest $\\ell_\\infty$ margin",
    "l1": "c  Share of the largest $\\ell_1$ margin",
}
HOME = {
    "l2": ("SGD", NORMALISED, FLOORED),
    "linf": ("SignDescent", "Lion", EXACT, FLOORED),
    "l1": (CROSS,),
}
"""Whose destination theory puts there, for Adam at eps 1e-8 first l_inf and then l2."""


def draw(results: Results) -> dict[str, Figure]:
    """Shares of the largest margins against updates, and at the end against epsilon."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.7)
    looks = figures.look(results.experiment.optimizers)
    for panel, (norm, title) in zip(axes.ravel(), TITLES.items(), strict=False):
        for i, (name, look) in enumerate(looks.items()):
            at = of(results).ratio.sel(optimizer=name, norm=norm)
            _draw_path(
                panel, at.transpose("kind", "seed", "stop"), look | {"label": None}, i
            )
        panel.set(xscale="log", xlim=(10, None), ylim=(0, 1.04), xlabel="Updates")
        panel.set_title(title)
    _draw_epsilons(axes[1, 1], results, looks)
    for look in looks.values():
        axes[0, 0].plot([], [], **look)
    figures.legend(figure, axes[0, 0], columns=3)
    figures.note(figure, figures.medians(results.count("data_seeds"), "data sets"))
    return {"figure": figure}


def _draw_path(axes: Axes, at: xr.DataArray, look: dict[str, Any], place: int) -> None:
    """Median while all seeds are finite, from there dotted where gradients are guarded.

    With its band where theory puts the rule's destination, otherwise thin.
    """
    from study import figures

    stops, (values, guarded, _) = at.stop.values, at.values
    whole = np.isfinite(values).all(0)
    if str(at.optimizer.values) in HOME[str(at.norm.values)]:
        figures.curve(axes, stops[whole], values[:, whole], look, place)
    else:
        faint = look | {"marker": "", "lw": 0.7, "alpha": 0.7}
        axes.plot(stops[whole], np.median(values[:, whole], axis=0), **faint)
    if not whole.all():
        last = np.flatnonzero(whole)[-1:]
        rest = np.union1d(last, np.flatnonzero(~whole))
        axes.plot(
            stops[rest], np.median(guarded[:, rest], axis=0), color=look["color"], ls=":"
        )
        axes.plot(stops[last], np.median(values[:, last], axis=0), "x", color=look["color"])


def _draw_epsilons(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Medians at the end with bands; epsilon 0 stands at the left, guarded."""
    epsilons: Any = results.experiment.epsilons  # type: ignore[attr-defined]
    places = np.array([1e-36, *epsilons[1:]])
    wanted = ((NORMALISED, "l2", "--"), (EXACT, "l2", "--"), (EXACT, "linf", "-"))
    for name, norm, dash in wanted:
        if name not in looks:
            continue
        values = by_epsilon(results, name, norm, "guarded")
        low, high = statistics.band(values.T)
        look = {"color": looks[name]["color"], "marker": looks[name]["marker"], "ls": dash}
        axes.plot(places, np.median(values, axis=1), **look)
        axes.fill_between(places, low, high, color=look["color"], alpha=0.15, lw=0)
    for level, name, text in (
        (1.02, NORMALISED, "normalised descent, $\\ell_2$"),
        (0.885, EXACT, "Adam, $\\ell_2$"),
        (0.73, EXACT, "Adam, $\\ell_\\infty$"),
    ):
        colour = looks.get(name, {"color": "black"})["color"]
        axes.text(1e-19, level, text, va="bottom", fontsize=7, color=colour)
    axes.set(xscale="log", ylim=(0, 1.09), xlabel="Epsilon")
    labels = {1e-36: "0", **{10.0**-k: f"$10^{{-{k}}}$" for k in (30, 20, 12, 6)}, 1.0: "1"}
    axes.set_xticks(list(labels), list(labels.values()))
    axes.minorticks_off()
    axes.set_title("d  Share at the end, by epsilon")


if __name__ == "__main__":
    cli.main(__spec__.name)
