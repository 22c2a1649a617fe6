"""Where does weight decay lead: does every rule have a ball of its own?

Question.   Coupled decay (l2) adds decay * x to the gradient, decoupled decay shrinks x
            beside the rule's step. At which point does each rule end with each of them?
Prediction. Coupled, every rule ends at the ridge solution. Decoupled, a rule whose step has
            length 1 in some norm minimises the loss over the ball of radius 1 / decay of
            that norm: sign descent, Lion and AdamW in the box, normalised descent in the l2
            ball, coordinate descent in the l1 ball, Muon in the spectral ball; SGD, whose
            step has no length of its own, stays at ridge. Muon's Newton-Schulz steps reach
            singular values of 0.68 to 1.21, so it misses the spectral ball by that much,
            more such steps do not help, exact orthogonalisation does. AdamW nears an
            element x inside the box as exp(-(1 - b2)(1 - r^2) t / 2), r = decay |x|, so
            b2 = 0.999 is too slow where r is near 1.
Varied.     Scientific: rule, kind of decay, decay (0.05 to 2), shape (two elements; ten
            random 6 x 4 matrices). Fixed: rate 0.01 falling linearly to 0 over 40,000
            steps, start 0, float64, no noise, no seeds but those of the matrices.
Cost.       Half a minute on two CPU cores.

    python -m experiments.decoupled_decay             run, store, judge, draw
    python -m experiments.decoupled_decay --draw      draw stored records again

AdamW: Xie & Li (2024), arXiv:2404.04454; Lion and its family: Chen et al. (2023),
arXiv:2310.05898 (abstracts); Muon as one of that family: the authors' page "Muon is a
Nuclear Lion King" (introduction). That such a step is one of Frank and Wolfe's is said in
the first; the l1 and l2 balls follow from it and were not looked up. Decays 0.19 and 0.21
and the last three predictions were added after the first run, to explain failed ones.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Muon, Optimizer
from study.problems import MatrixQuadratic, TiltedBowl
from study.problems.constrained import BALLS
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

DECAY = 1.0
"""Of the matrices, and of the paths shown."""
HOWS = ("decoupled", "coupled", "orthogonal")
"""The last is decoupled decay with Muon's average made orthogonal to rounding."""
SOLUTIONS = ("ridge", *BALLS)


def own_decay(optimizer: Optimizer) -> float:
    """The decoupled decay that is a field of the entry, 0 without one."""
    return getattr(optimizer, "weight_decay", 0.0)


@dataclasses.dataclass(frozen=True)
class DecoupledDecay(Comparison):
    """End points with both kinds of decay; entries with a decay of their own keep it."""

    matrix: MatrixQuadratic = MatrixQuadratic(dtype="float64")
    """Its `data_seed` counts the random problems."""
    decays: tuple[float, ...] = (
        *(0.05, 0.1, 0.19, 0.2, 0.21, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0),
    )
    """In the bowl; 0.19 and 0.21 were added after the first run, as an ablation of 0.2."""
    instances: int = 10
    """Random matrix problems."""
    learning_rate: float = 0.01
    """Of the first step."""
    steps: int = 40_000
    """Until the rate is 0."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("decays")
        needed = {own_decay(rule) for rule in self.optimizers} - {0.0} | {DECAY}
        if not needed <= set(self.decays):
            self.refuse("decays", f"with {sorted(needed)} among them")
        if min(self.steps, self.instances) < 1:
            self.refuse("steps", "at least 1, as the instances")


DEFAULT = DecoupledDecay(
    problem=TiltedBowl(dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.CoordinateDescent(),
        optimizers.SignDescent(),
        optimizers.Lion(),
        optimizers.Lion(weight_decay=1.0),
        optimizers.Adam(),
        optimizers.Adam(b2=0.99),
        optimizers.AdamW(weight_decay=1.0),
        optimizers.Muon(),
        optimizers.Muon(ns_steps=10),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        optimizers=(optimizers.SGD(), optimizers.AdamW(weight_decay=1.0)),
        decays=(0.3, 1.0),
        instances=2,
        steps=40,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, instances=50, steps=400_000),
}


# Runs -------------------------------------------------------------------------------------


def decayed(optimizer: Any, exact: bool, coupled: Any, decoupled: Any) -> Any:
    """A rule with coupled decay before it and decoupled decay after, for `train.step`.

    Args:
        optimizer: the rule.
        exact: Muon alone, orthogonalised by 30 steps of the classical quintic, whose
            singular values tend to 1, instead of five whose values do not.
        coupled: times params is added to the gradient.
        decoupled: times rate and params is taken from the update.
    """
    import optax

    def build(rate: Any) -> Any:
        rule = optimizer.build(rate)
        if exact:
            quintic = ((1.875, -1.25, 0.375),) * 30
            rule = optax.contrib.muon(rate, quintic, 30, optimizer.beta, optimizer.eps)
        before = optax.add_decayed_weights(coupled)
        return optax.chain(before, rule, optax.add_decayed_weights(-rate * decoupled))

    return types.SimpleNamespace(
        asks=optimizer.asks,
        build=build,
        unscaled=lambda: None,
        decay_update=lambda rate, params: None,  # it counts as part of the update
    )


def cases(experiment: Any, problem: Any) -> list[tuple[Any, float]]:
    """(problem, decay): the bowl at every decay, or all the matrices at one."""
    if problem == experiment.problem:
        return [(problem, decay) for decay in experiment.decays]
    seeds = range(problem.data_seed, problem.data_seed + experiment.instances)
    every = [dataclasses.replace(problem, data_seed=seed) for seed in seeds]
    return [(one, DECAY) for one in every]


def run_cell(
    experiment: DecoupledDecay,
    problem: Any,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """All decays or all instances of one rule, NaN where a combination is not run.

    `path` [how, decay, stop, element] in the bowl, `end` [how, instance, row, column] of
    the matrices.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    many, every = problem != experiment.problem, cases(experiment, problem)
    decays, own = np.array([decay for _, decay in every]), own_decay(optimizer)
    last = experiment.steps
    early, late = np.linspace(0, last / 50, 31), np.linspace(0, last, 41)
    stops = np.unique(np.concatenate([[last] if many else early, late]).round().astype(int))
    stops = stops[-1:] if many else stops
    paths = np.full((len(HOWS), len(every), len(stops), *problem.target().shape), np.nan)
    # Both kinds of decay are one program; an entry's own decay needs none of ours.
    groups = [(0,) if own else (0, 1)] + [(2,)] * (many and optimizer == Muon())
    with devices.precision(problem.dtype):
        for group in groups:
            pairs = [
                (h, i) for h in group for i in range(len(every)) if own in (0, decays[i])
            ]
            how, case = np.transpose(pairs)
            told = np.where(own, 0.0, decays[case])
            rule = functools.partial(decayed, optimizer, group == (2,))
            runs = [told * (how == 1), told * (how != 1), case.astype(np.int32)]
            paths[how, case] = _follow(experiment, rule, every, stops, runs)
        progress(1.0)
    if many:
        axes = {"how": list(HOWS), "instance": np.arange(len(every))}
        dataset = xr.Dataset({"end": ((*axes, "row", "column"), paths[:, :, 0])}, axes)
    else:
        axes = {"how": list(HOWS), "decay": list(experiment.decays), "stop": stops}
        dataset = xr.Dataset({"path": ((*axes, "element"), paths)}, axes)
    return sweep.finish(dataset, problem, optimizer, begun, len(every))


def _follow(
    experiment: DecoupledDecay,
    rule: Callable[[Any, Any], Any],
    every: list[tuple[Any, float]],
    stops: np.ndarray,
    runs: Sequence[np.ndarray],
) -> np.ndarray:
    """X [run, stop, ...] of runs (coupled decay, decoupled decay, case), each [run]."""
    import jax
    import jax.numpy as jnp

    from study import devices, trajectories

    problem, many = every[0][0], [one.data() for one, _ in every]
    data = {name: np.stack([one[name] for one in many]) for name in many[0]}

    def run(data: Any, coupled: Any, decoupled: Any, case: Any) -> Any:
        return trajectories.follow(
            problem,
            rule(coupled, decoupled),
            lambda t: (
                experiment.learning_rate * (1 - jnp.asarray(t, float) / experiment.steps)
            ),
            jnp.asarray(stops),
            lambda state, t: state.params["x"],
            params=problem.init(jax.random.key(0)),
            data=jax.tree.map(lambda leaf: leaf[case], data),
        )[1]

    return devices.map_runs(run, (data,), runs)


KEPT = ("last", "track", "slow", "parting", "end")
SLOW = (0.25, 0.3, 0.4)
"""Decays whose wall is near the bowl's minimum; the last cuts it off."""


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """In the bowl four views of the paths, for all of them are many.

    `last` [how, decay, element]; `track` [decay, stop, element] with decoupled decay 1, and
    `slow`, the same at the decays of SLOW; `parting` [decay], the largest distance between
    the paths with both kinds of decay.
    """
    if "path" not in dataset:
        return dataset
    path = dataset.path
    apart = path.sel(how="decoupled") - path.sel(how="coupled")
    free = path.sel(how="decoupled", drop=True)
    slow = free.sel(decay=free.decay.isin(SLOW)).rename(decay="free")
    return dataset.drop_vars("path").assign(
        last=path.isel(stop=-1, drop=True),
        track=free.sel(decay=DECAY, drop=True),
        slow=slow,
        parting=((apart**2).sum("element", skipna=False) ** 0.5).max("stop", skipna=False),
    )


# Where to ---------------------------------------------------------------------------------


@functools.cache
def destinations(problem: TiltedBowl | MatrixQuadratic, decay: float) -> np.ndarray:
    """The SOLUTIONS [solution, row, (column)] of a problem, balls of radius 1 / decay."""
    balls = [problem.within(ball, 1 / decay) for ball in BALLS]
    return np.stack([problem.ridge(decay), *balls])


def newton_schulz(x: np.ndarray, steps: int) -> np.ndarray:
    """What Muon makes of a matrix, from its singular values."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


def ends(results: Results, where: str, rule: str, how: str) -> np.ndarray:
    """X [decay, element] in the bowl, [instance, row, column] of the matrices."""
    experiment: Any = results.experiment
    if where == "matrices":
        found = results.selected(experiment.matrix).end
        return (
            found.sel(optimizer=rule, how=how).transpose("instance", "row", "column").values
        )
    found = results.selected(experiment.problem).last.sel(optimizer=rule, how=how)
    return found.transpose("decay", "element").values


def distances(results: Results, where: str, rule: str, how: str) -> np.ndarray:
    """Of the ends from the SOLUTIONS, [decay, solution] or [instance, solution]."""
    experiment: Any = results.experiment
    problem = experiment.problem if where == "bowl" else experiment.matrix
    goals = np.stack([destinations(*case) for case in cases(experiment, problem)])
    away = ends(results, where, rule, how)[:, None] - goals
    return np.linalg.norm(away.reshape(*goals.shape[:2], -1), axis=-1)


# Verdicts ---------------------------------------------------------------------------------


def _distance(
    where: str, rule: str, how: str, solution: str, decays: Sequence[float] = ()
) -> Callable[..., Estimate]:
    """In the bowl the largest, over all decays or some; of the matrices the median."""

    def measure(results: Results) -> Estimate:
        experiment: Any = results.experiment
        found = distances(results, where, rule, how)[:, SOLUTIONS.index(solution)]
        if where == "matrices":
            return statistics.bootstrap(found)
        kept = [x for x, d in zip(found, experiment.decays, strict=True) if d in decays]
        kept = kept if decays else found
        return statistics.exact(np.max(kept) if len(kept) else np.nan, len(kept))

    return measure


def _element(rule: str, how: str, element: int) -> Callable[..., Estimate]:
    place = {"optimizer": rule, "how": how, "decay": DECAY}
    return lambda results: statistics.exact(_bowl(results).last.sel(place)[element])


def _bowl(results: Results) -> xr.Dataset:
    return results.selected(results.experiment.problem)


def pace(problem: TiltedBowl, decay: float, b2: float) -> float:
    """By which AdamW's log distance from the box minimum falls in a step, at the end.

    Of the first element, the second inside the box: v follows as sqrt(v) = |g| / r with
    r = decay |x|. With x* inside, r^2 stays below 1 and v falls by (1 - b2)(1 - r^2). With
    x* outside, 1 - r closes as v comes down to g^2, at (1 - b2) pull / (h + pull) with the
    pull decay |g| at the wall and the curvature h that the second element leaves.
    """
    curvature = 1 / np.linalg.inv(problem.curvature())[0, 0]
    optimum = abs(problem.optimum[0])
    if decay * optimum < 1:
        return (1 - b2) * (1 - (decay * optimum) ** 2) / 2
    pull = decay * curvature * (optimum - 1 / decay)
    return (1 - b2) * pull / (curvature + pull)


def slowly(results: Results, rule: str, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps [stop] after the start, and distances [stop] from the box minimum then."""
    experiment: Any = results.experiment
    path = _bowl(results).slow.sel(optimizer=rule, free=decay)
    goal = destinations(experiment.problem, decay)[SOLUTIONS.index("box")]
    away = np.linalg.norm(path.transpose("stop", "element").values - goal, axis=-1)
    return path.stop.values[1:], away[1:]


def _law(decay: float, start: float, end: float) -> Callable[..., Estimate]:
    """The log distance's fall between two shares of the steps, relative to the law's."""

    def measure(results: Results) -> Estimate:
        experiment: Any = results.experiment
        stop, away = slowly(results, "Adam", decay)
        kept = (stop >= start * experiment.steps) & (stop <= end * experiment.steps)
        fall = -np.polyfit(stop[kept], np.log(away[kept]), 1)[0]
        return statistics.exact(fall / pace(experiment.problem, decay, 0.999))

    return measure


def _spectral_norm(take: Callable[..., float]) -> Callable[..., Estimate]:
    """Muon's, at decay 1, over the instances."""

    def measure(results: Results) -> Estimate:
        found = np.linalg.norm(
            ends(results, "matrices", "Muon", "decoupled"), 2, axis=(1, 2)
        )
        return statistics.exact(take(found), len(found))

    return measure


def _residual(results: Results) -> Estimate:
    """|decay W + NS(gradient)| / |decay W|, the median over the instances."""
    experiment: Any = results.experiment
    every = cases(experiment, experiment.matrix)
    found = []
    for (one, decay), w in zip(
        every, ends(results, "matrices", "Muon", "decoupled"), strict=True
    ):
        step = newton_schulz(one.curvature() @ (w - one.target()), 5)
        found.append(np.linalg.norm(decay * w + step) / np.linalg.norm(decay * w))
    return statistics.bootstrap(np.array(found))


XIE = "Xie & Li (2024), arXiv:2404.04454, from the abstract"
LION = "Chen et al. (2023), arXiv:2310.05898, from the abstract"
FAMILY = f"{XIE}: Frank and Wolfe's steps; own inference for this norm"
KING = "Chen et al., Muon is a Nuclear Lion King, introduction read at the authors' page"
RUN = "independent calibration run"
LAW = "own derivation: v falls to (decay x)^2 of its own average"
AFTER = "after the first run, to explain a failed prediction"
SAME = "the same update, written in another way"
FLAT = "the only point at which the decayed gradient is 0"
POINTS = {
    ("AdamW(weight_decay=1.0)", "decoupled"): ((1.0, -0.4), (1.000001, -0.399998)),
    ("Lion(weight_decay=1.0)", "decoupled"): ((1.0, -0.4), (1.000000, -0.400001)),
    ("Adam", "coupled"): ((1.58209, -0.43284), (1.58209, -0.43284)),
    ("SGD", "coupled"): ((1.58209, -0.43284), (1.58209, -0.43284)),
}
"""Elements of the end at decay 1: of the solution, and as the calibration run had them."""
NGD, COORDINATE = "NormalisedGD(eps=0.0)", "CoordinateDescent"
HOME = {
    "SGD": ("ridge", SAME),
    NGD: ("l2 ball", FAMILY),
    COORDINATE: ("l1 ball", FAMILY),
    "SignDescent": ("box", XIE),
    "Lion": ("box", LION),
    "Adam(b2=0.99)": ("box", f"{XIE}; {LAW}"),
}
"""Where decoupled decay is expected to lead, and why."""
OTHERS = tuple(decay for decay in DEFAULT.decays if decay not in (0.25, 0.3))
RIDGE = ("SGD", NGD, COORDINATE, "SignDescent", "Lion", "Adam")
PREDICTIONS = (
    *(
        Prediction(
            f"bowl, decay 1, {rule}, {how}: element {i} ends at {exact[i]:g}, to 1e-4",
            f"{LION if 'Lion' in rule else XIE}; {RUN}" if how == "decoupled" else RUN,
            _element(rule, how, i),
            at_least=exact[i] - 1e-4,
            at_most=exact[i] + 1e-4,
            published=run[i],
        )
        for (rule, how), (exact, run) in POINTS.items()
        for i in range(2)
    ),
    Prediction(
        "bowl, SGD: the paths with both kinds of decay agree to 1e-12 at every decay",
        SAME,
        lambda results: statistics.exact(_bowl(results).parting.sel(optimizer="SGD").max()),
        at_most=1e-12,
    ),
    *(
        Prediction(
            f"{where}, {rule}, {how}: {distance} from the {solution} minimum <= {limit:g}",
            source,
            _distance(where, rule, how, solution),
            at_most=limit,
        )
        for where, distance, limit in (
            ("bowl", "largest distance, over all decays,", 1e-4),
            ("matrices", "median distance", 1e-3),
        )
        for rule, how, solution, source in (
            *((rule, "decoupled", *place) for rule, place in HOME.items()),
            *((rule, "coupled", "ridge", FLAT) for rule in RIDGE),
        )
    ),
    *(
        Prediction(
            f"matrices, Muon, {how}: median distance from the {solution} minimum <= 1e-3",
            source,
            _distance("matrices", "Muon", how, solution),
            at_most=1e-3,
        )
        for how, solution, source in (
            ("orthogonal", "spectral ball", KING),
            ("coupled", "ridge", FLAT),
        )
    ),
    Prediction(
        "bowl, Adam, decoupled: distance from the box minimum <= 1e-4 at all decays but "
        "0.25 and 0.3",
        f"{XIE}; {LAW}",
        _distance("bowl", "Adam", "decoupled", "box", OTHERS),
        at_most=1e-4,
    ),
    Prediction(
        "bowl, Adam, decoupled, decay 0.3: distance from the box minimum >= 0.01",
        LAW,
        _distance("bowl", "Adam", "decoupled", "box", (0.3,)),
        at_least=0.01,
    ),
    Prediction(
        "bowl, Adam, decoupled, decay 0.25: the log distance from the box minimum falls by "
        "(1 - b2)(1 - 0.75^2) / 2 a step in the second half, to 10 %",
        LAW,
        _law(0.25, 0.5, 1),
        at_least=0.9,
        at_most=1.1,
    ),
    Prediction(
        "matrices, AdamW, b2 = 0.999: median distance from the box minimum >= 1e-3",
        f"{LAW}; some element of 24 is near the wall",
        _distance("matrices", "AdamW(weight_decay=1.0)", "decoupled", "box"),
        at_least=1e-3,
    ),
    Prediction(
        "matrices, Muon, decoupled: every spectral norm is at least 0.68",
        "smallest singular value that five Newton-Schulz steps make, computed",
        _spectral_norm(np.min),
        at_least=0.68,
    ),
    Prediction(
        "matrices, Muon, decoupled: every spectral norm is at most 1.21",
        "largest singular value that five Newton-Schulz steps make, computed",
        _spectral_norm(np.max),
        at_most=1.21,
    ),
    *(
        Prediction(
            f"matrices, {rule}, decoupled: median distance from the spectral ball minimum "
            ">= 0.05",
            "its singular values are not 1, and more steps do not bring them there",
            _distance("matrices", rule, "decoupled", "spectral ball"),
            at_least=0.05,
        )
        for rule in ("Muon", "Muon(ns_steps=10)")
    ),
    Prediction(
        "matrices, Muon, decoupled: ends where decay W = -NS(gradient), median relative "
        "residual <= 1e-3",
        "fixed point of its own step",
        _residual,
        at_most=1e-3,
    ),
    Prediction(
        "bowl, CoordinateDescent, decoupled: distance from the l1 ball minimum <= 1e-4 at "
        "decays 0.19 and 0.21, whose wall does not run through x*",
        f"ablation added {AFTER}",
        _distance("bowl", COORDINATE, "decoupled", "l1 ball", (0.19, 0.21)),
        at_most=1e-4,
    ),
    *(
        Prediction(
            "bowl, Adam, decoupled, decay 0.4: the log distance from the box minimum falls "
            f"by (1 - b2) pull / (h + pull) a step in the second {part}, to 10 %",
            f"own derivation {AFTER}{why}",
            _law(0.4, *shares),
            at_least=0.9,
            at_most=1.1,
        )
        for part, shares, why in (
            ("half", (0.5, 1), ": x* outside the box"),
            ("quarter", (0.25, 0.5), ", the one before: a rate near 0 holds x back later"),
        )
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Distances for each problem, rule, kind of decay and decay; medians of matrices."""
    del manifest
    experiment: Any = results.experiment
    for rule, how in itertools.product(map(str, experiment.optimizers), HOWS):
        for where, decays in (
            ("bowl", experiment.decays),
            ("matrices", (DECAY,)),
        ):
            found = distances(results, where, rule, how)
            found = found if where == "bowl" else np.median(found, axis=0, keepdims=True)
            for decay, away in zip(decays, found, strict=True):
                if np.isfinite(away).all():
                    row = {"problem": where, "optimizer": rule, "how": how, "decay": decay}
                    named = dict(zip(SOLUTIONS, map(float, away), strict=True))
                    # Where several solutions coincide, rounding would choose one of them.
                    near = away <= away.min() + 1e-6 * (1 + away.min())
                    nearest = ", ".join(itertools.compress(SOLUTIONS, near))
                    yield row | named | {"nearest": nearest}


# Figure -----------------------------------------------------------------------------------


SHOWN = ("SGD", NGD, COORDINATE, "Lion", "Adam")
ROWS = {
    ("SGD", "decoupled"): "SGD",
    (NGD, "decoupled"): "Normalised GD",
    (COORDINATE, "decoupled"): "Coordinate descent",
    ("SignDescent", "decoupled"): "Sign descent",
    ("Lion(weight_decay=1.0)", "decoupled"): "Lion",
    ("AdamW(weight_decay=1.0)", "decoupled"): "AdamW, b2 = 0.999",
    ("Adam(b2=0.99)", "decoupled"): "AdamW, b2 = 0.99",
    ("Muon", "decoupled"): "Muon, 5 steps",
    ("Muon(ns_steps=10)", "decoupled"): "Muon, 10 steps",
    ("Muon", "orthogonal"): "Muon, orthogonal",
    ("Adam", "coupled"): "Adam, coupled",
    ("Muon", "coupled"): "Muon, coupled",
}


def draw(results: Results) -> dict[str, Figure]:
    """Ends in the plane, against the decay, from each solution, and Adam's way there."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.9)
    rules = [rule for rule in results.experiment.optimizers if str(rule) in SHOWN]
    looks = figures.look(rules)
    _draw_plane(axes[0, 0], results, looks)
    _draw_dial(axes[0, 1], results, looks)
    _draw_table(axes[1, 0], results)
    _draw_slow(axes[1, 1], results)
    figures.legend(figure, axes[0, 1], columns=3)
    figures.note(
        figure,
        "Nothing is random but the problems of c: "
        + figures.medians(results.count("instances"), "of them", bands=False),
    )
    return {"figure": figure}


def _draw_plane(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Paths with decoupled decay, level lines, and the three balls."""
    experiment: Any = results.experiment
    x, y = np.meshgrid(np.linspace(-1.2, 3.7, 80), np.linspace(-2.3, 1.2, 80))
    away = np.stack([x, y], -1) - experiment.problem.target()
    heights = np.einsum("...i,ij,...j", away, experiment.problem.curvature(), away) / 2
    levels = np.geomspace(0.05, 12, 9)
    axes.contour(x, y, heights, levels=levels, colors="#dddddd", linewidths=0.5)
    turn, radius = np.linspace(0, 2 * np.pi, 200), 1 / DECAY
    for order in (1, 2, np.inf):
        circle = np.stack([np.cos(turn), np.sin(turn)])
        circle *= radius / np.linalg.norm(circle, order, axis=0)
        axes.plot(*circle, color="#888888", lw=0.8)
    axes.plot(*experiment.problem.target(), "+", color="#b10000", ms=7)
    axes.text(3.0, -1.8, "minimum of f", color="#b10000", ha="center", fontsize=7)
    for place, label in {
        (-0.97, 0.83): "box",
        (-0.6, 0.55): "l2",
        (-0.45, 0.2): "l1",
    }.items():
        axes.text(*place, label, fontsize=7, color="#444444", clip_on=True)
    axes.text(1.7, -0.5, "ridge", fontsize=7, color="#444444")
    tracks = _bowl(results).track
    for name, look in looks.items():
        track = tracks.sel(optimizer=name).transpose("element", "stop").values
        axes.plot(*track, **{**look, "marker": None, "lw": 0.8, "label": None})
        axes.plot(*track[:, -1:], **{**look, "ms": 6, "zorder": 4})
    axes.set(xlabel="First element", ylabel="Second element", aspect="equal")
    axes.set_title(f"a  Ends with decoupled decay {DECAY:g}")


def _draw_dial(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """The first element against the decay, on the exact lines."""
    experiment: Any = results.experiment
    fine = np.geomspace(min(experiment.decays), max(experiment.decays), 60)
    lines = np.stack([destinations(experiment.problem, float(decay)) for decay in fine])
    for i in range(4):
        axes.plot(fine, lines[:, i, 0], color="#888888", lw=0.8)
    labels = {
        "ridge": (0.06, 2.55),
        "l1": (0.33, 1.85),
        "l2": (0.33, 2.62),
        "box": (0.37, 2.8),
    }
    for label, place in labels.items():
        axes.text(*place, label, fontsize=7, color="#444444", clip_on=True)
    found = _bowl(results).last.isel(element=0)
    for name, look in looks.items():
        end = found.sel(optimizer=name, how="decoupled")
        axes.plot(end.decay, end, **{**look, "linestyle": "none"})
    if "Adam" in looks:
        end = found.sel(optimizer="Adam", how="coupled")
        hollow = {"linestyle": "none", "mfc": "none", "ms": 8, "label": "Adam, coupled"}
        axes.plot(end.decay, end, **looks["Adam"] | hollow)
    axes.set(xscale="log", xlabel="Decay", ylabel="First element at the end")
    axes.set_title("b  Ends against the decay")


def _draw_table(axes: Axes, results: Results) -> None:
    """Median distances of the matrices' ends from each solution, as powers of ten."""
    from study import figures

    rules = set(map(str, results.experiment.optimizers))
    rows = {place: label for place, label in ROWS.items() if place[0] in rules}
    found = [np.median(distances(results, "matrices", *place), axis=0) for place in rows]
    values = np.log10(np.stack(found)).round(1) + 0.0  # no minus before a zero
    columns = [name.replace(" ball", "\nball") for name in SOLUTIONS]
    low, pattern = {"low": -6.0, "high": 0.8}, "{:.1f}"
    figures.heat_table(axes, values, list(rows.values()), columns, **low, pattern=pattern)
    axes.set_title("c  Matrices: log10 distance from solutions")


def _draw_slow(axes: Axes, results: Results) -> None:
    """Adam's distance from the box minimum against steps, and the law's slope."""
    problem: Any = results.experiment.problem
    present = set(map(str, results.experiment.optimizers))
    rules = {"Adam": "-", "Adam(b2=0.99)": (0, (1.2, 1.2))}
    for rule, decay in itertools.product([r for r in rules if r in present], SLOW):
        colour = dict(zip(SLOW, ("#ff7600", "#4e0089", "#009dff"), strict=True))[decay]
        stop, away = slowly(results, rule, decay)
        label = f"decay {decay:g}" if rule == "Adam" else None
        axes.plot(stop, away, color=colour, linestyle=rules[rule], label=label)
        if rule == "Adam":
            late = stop[stop >= stop[-1] / 2]
            law = np.exp(-pace(problem, decay, 0.999) * (late - late[0]))
            axes.plot(late, 1.6 * away[-len(late)] * law, color="black", lw=0.8, ls="--")
    axes.text(12_000, 1.2e-3, "b2 = 0.99", fontsize=7, clip_on=True)
    axes.text(21_000, 0.3, "b2 = 0.999\n(dashed: law)", fontsize=7, clip_on=True)
    axes.set(yscale="log", ylim=(1e-8, 10), xlabel="Step")
    axes.set_ylabel("Distance from the box minimum")
    axes.set_title("d  AdamW's way to the box minimum")
    if axes.lines:
        axes.legend(loc="lower left", fontsize=6.5)


if __name__ == "__main__":
    cli.main(__spec__.name)
