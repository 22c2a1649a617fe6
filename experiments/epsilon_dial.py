"""One knob from rescaled elements to plain momentum: where on it does a rule do best?

Question.   Adam's epsilon and Padam's exponent lead from steps that rescale each element to
            the plain average of gradients. How does the direction turn on the way, when is
            the path momentum's, and where is the best place once the rate is tuned?
Prediction. Adam's direction is momentum's when epsilon is far above the gradients, half way
            from sign descent's when it is as large as they are. At rate gamma * epsilon its
            path comes to averaged momentum's as 1 / epsilon. On
            heavy-tailed classes small epsilons are alike, 1e-2 is better, from 1e-1 on it
            is worse and ends as momentum, with a rate that grows with epsilon. Padam is
            best strictly between p = 0 and AMSGrad's 1/2; p = 1, no root, is bad.
Varied.     Scientific: epsilon, p. Nuisance: learning rate, quarter-decades around a guess,
            the best for each data seed, by the loss at the end that is also reported, as in
            the calibration run (nothing else is random); best on half-decades beside it, as
            there. Fixed: 50 steps of all data in float32, three data seeds. Angles: on the
            gradients that Adam meets at rate 1e-2, medians over its steps. Paths: logistic
            regression, 64 points in 10 dimensions, 200 steps at gamma = 0.1 in float64, ten
            data seeds; the gap is the largest distance over the path's largest length. To
            explain: angles to the signs of the average and at the first step, Padam without
            epsilon, the best among runs whose loss never rose on the way.
Cost.       Two minutes on two CPU cores.

    python -m experiments.epsilon_dial             run, store, judge, draw
    python -m experiments.epsilon_dial --draw      draw stored records again

Momentum inside Adam: Choi et al. (2019), arXiv:1910.05446 (from its abstract). Best rate
against epsilon: Savarese et al. (2019), AvaGrad (recalled). Padam: Chen et al. (2018),
arXiv:1806.06763, and its code (read). Classes: Kunstner et al. (2024), arXiv:2402.19449.
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
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import HeavyTailed, LogisticRegression, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class EpsilonDial(Comparison):
    """Directions and tuned losses on one problem, paths on the other."""

    logistic: LogisticRegression = LogisticRegression(
        samples=64, inputs=10, dtype="float64"
    )
    """Where paths are compared."""
    epsilons: tuple[float, ...] = log_grid(-10, 6)
    """Adam's, for directions and paths."""
    tuned: tuple[float, ...] = (1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e6)
    """Adam's, each with a learning rate of its own."""
    exponents: tuple[float, ...] = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
    """Padam's p; from 1/2 on for a Padam without epsilon, which changes nothing below."""
    per_decade: int = 4
    """Learning rates in a factor of ten."""
    reach: int = 5
    """Learning rates on either side of `guess`."""
    steps: int = 50
    """Of the tuned runs, and of the run on whose gradients angles are measured."""
    data_seeds: int = 3
    """Of both."""
    guide_rate: float = 1e-2
    """Of the Adam on whose gradients angles are measured."""
    gamma: float = 0.1
    """Momentum's learning rate; Adam has gamma * epsilon."""
    path_steps: int = 200
    """Of the logistic regression."""
    path_seeds: int = 10
    """Data seeds of the logistic regression."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("epsilons", "tuned", "exponents")
        for name in ("per_decade", "steps", "data_seeds", "path_steps", "path_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


BARE = optimizers.Padam(eps=0.0)
DEFAULT = EpsilonDial(
    problem=HeavyTailed(),
    optimizers=(
        optimizers.Adam(),
        optimizers.Padam(),
        BARE,
        optimizers.Averaging(),
        optimizers.SignDescent(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=2),
        optimizers=(optimizers.Adam(),),
        epsilons=(1e-8, 1.0, 10.0),
        tuned=(1e-8, 1.0),
        reach=1,
        steps=3,
        data_seeds=2,
        path_steps=5,
        path_seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=9),
        tuned=log_grid(-10, 1),
        exponents=tuple(k / 16 for k in range(17)),
        steps=200,
        data_seeds=5,
    ),
}
ANGLES = ("to_momentum", "to_sign", "to_average_sign", "first_to_momentum", "first_to_sign")
TUNED = ("loss", "coarse", "calm", "rate", "edge", "finite")
KEPT = (*ANGLES, "gradient", "gap", *TUNED)
STRIDE = 5
"""Steps from one look at the loss of a tuned run to the next."""


def dials(experiment: EpsilonDial, optimizer: Any) -> tuple[float, ...]:
    """Epsilons or exponents; plain averaging is Adam's infinity, sign descent at 0."""
    if isinstance(optimizer, optimizers.Adam):
        return experiment.epsilons
    if isinstance(optimizer, optimizers.Padam):
        return tuple(p for p in experiment.exponents if optimizer.eps or p >= 0.5)
    return (np.inf if isinstance(optimizer, optimizers.Averaging) else 0.0,)


def rates(experiment: EpsilonDial, optimizer: Optimizer, dial: float) -> list[float]:
    """A part of one grid of integer exponents, around a guess of the best."""
    bare = optimizer == BARE  # its smallest v, not epsilon, bounds the rate
    guesses = {
        "Adam": 10**-2 + 10**0.5 * dial,
        "Padam": 10 ** (0.5 - 7.5 * dial - (8 * max(dial - 0.75, 0) if bare else 0)),
        "Averaging": 10**0.5,
        "SignDescent": 10**-2.5,
    }
    per, reach = experiment.per_decade, experiment.reach
    middle = round(per * np.log10(guesses[type(optimizer).__name__]))
    return [float(f"{10 ** ((middle + k) / per):.4g}") for k in range(-reach, reach + 1)]


def run_cell(
    experiment: EpsilonDial,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """On the logistic regression `gap` [dial, seed] from averaged momentum's path.

    Of Adam alone, NaN for other rules. On the other problem ANGLES [dial, seed], and
    `gradient` [seed], the root mean square of its elements; over [tuned, place, seed]
    `loss_by_rate` at the end and `rises`, how much it rose at most between two looks, at
    `rates` [tuned, place].
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    adam, paths = isinstance(optimizer, optimizers.Adam), problem == experiment.logistic
    settings = dials(experiment, optimizer)
    seeds = range(experiment.path_seeds if paths else experiment.data_seeds)
    coordinates: dict[str, Any] = {"dial": list(settings), "seed": list(seeds)}
    run = functools.partial(_map, experiment, problem, optimizer, seeds)
    with devices.precision(problem.dtype):
        if paths:
            missing = np.full((len(settings), len(seeds)), np.nan)
            gap = run(_gap, settings) if adam else missing
            variables: dict[str, Any] = {"gap": (("dial", "seed"), gap, {"exact": 1})}
        else:
            angles, gradient = run(_direction, settings)
            variables = {
                name: (("dial", "seed"), angles[..., i], {"units": "radian"})
                for i, name in enumerate(ANGLES)
            }
            progress(0.1)
            tuned = experiment.tuned if adam else settings
            grid = np.array([rates(experiment, optimizer, dial) for dial in tuned])
            ended = run(_end, np.repeat(tuned, grid.shape[1]), grid.ravel())
            ended = [x.reshape(*grid.shape, len(seeds)) for x in ended]
            dims = ("tuned", "place", "seed")
            variables |= {"gradient": ("seed", gradient[0]), "rates": (dims[:2], grid)}
            variables |= {"loss_by_rate": (dims, ended[0]), "rises": (dims, ended[1])}
            coordinates["tuned"] = list(tuned)
        dataset = xr.Dataset(variables, coordinates)
        return sweep.finish(dataset, problem, optimizer, begun, len(settings))


def _map(
    experiment: EpsilonDial,
    problem: Any,
    optimizer: Optimizer,
    seeds: range,
    make: Callable[..., Any],
    *runs: Any,
) -> Any:
    """`make(...)(data, *run)` for runs and data seeds [run, seed, ...].

    Seeds in turn: side by side, steps would multiply many small matrices, not a large one.
    """
    import jax

    from study import devices

    one = make(experiment, problem, optimizer)
    drawn = [dataclasses.replace(problem, data_seed=seed).data() for seed in seeds]
    data = jax.tree.map(lambda *parts: np.stack(parts), *drawn)
    every = lambda data, *run: jax.lax.map(lambda part: one(part, *run), data)  # noqa: E731
    return devices.map_runs(every, (data,), [np.asarray(x, problem.dtype) for x in runs])


def dialled(optimizer: Any, dial: Any, rate: Any) -> Any:
    """The optimizer with a traced dial for its epsilon or exponent, at a constant rate."""
    import optax

    from study import trajectories, transforms

    def around(rule: Any) -> Any:
        if isinstance(optimizer, optimizers.Adam):
            return optax.adam(rate, optimizer.b1, optimizer.b2, eps=dial)
        if isinstance(optimizer, optimizers.Padam):
            power = transforms.power(dial, optimizer.b1, optimizer.b2, optimizer.eps)
            return optax.chain(power, optax.scale_by_learning_rate(rate))
        return rule

    return trajectories.Treated(optimizer, around)


def _direction(experiment: EpsilonDial, problem: Problem, optimizer: Optimizer) -> Any:
    """(data, dial) -> ANGLES, medians over steps [angle], and the size of gradients []."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import train, trees

    guide, key, rate = optimizers.Adam(), jax.random.key(0), experiment.guide_rate
    ends = (optimizers.Averaging().build(1.0), optimizers.SignDescent().build(1.0))

    def along(data: Any, dial: Any) -> Any:
        rules = (dialled(optimizer, dial, 1.0).build(1.0), *ends)
        params = problem.init(key)
        state = train.start(guide, rate, params, shadowed=False)

        def advance(carry: Any, t: Any) -> Any:
            state, step = train.step(problem, guide, data, rate, key, carry[0], t)
            seen = [r.update(step.grad, s) for r, s in zip(rules, carry[1], strict=True)]
            own, average, sign = (update for update, _ in seen)
            others = (average, sign, jax.tree.map(jnp.sign, average))
            angles = jnp.stack([trees.angle(own, other) for other in others])
            square = optax.tree.vdot(step.grad, step.grad) / sum(trees.sizes(params))
            return (state, tuple(s for _, s in seen)), (angles, square)

        begin = (state, tuple(rule.init(params) for rule in rules))
        _, (angles, squares) = jax.lax.scan(advance, begin, jnp.arange(experiment.steps))
        every = jnp.concatenate([jnp.median(angles, axis=0), angles[0, :2]])
        return every, jnp.sqrt(squares.mean())

    return along


def _end(experiment: EpsilonDial, problem: Problem, optimizer: Optimizer) -> Any:
    """(data, dial, rate) -> the loss after the last step [], and its largest rise []."""
    import jax.numpy as jnp

    stops = (*range(0, experiment.steps, STRIDE), experiment.steps)

    def end(data: Any, dial: Any, rate: Any) -> Any:
        rule, see = (
            dialled(optimizer, dial, rate),
            lambda params: problem.loss(params, data),
        )
        losses = _follow(problem, rule, rate, stops, data, see)
        return losses[-1], jnp.diff(losses).max()

    return end


def _gap(experiment: EpsilonDial, problem: Problem, optimizer: Optimizer) -> Any:
    """(data, epsilon) -> largest distance between the paths, over the length of one []."""
    import jax.numpy as jnp

    stops, see = range(1, experiment.path_steps + 1), lambda params: params["w"]
    furthest = lambda x: jnp.linalg.norm(x, axis=-1).max()  # noqa: E731

    def gap(data: Any, epsilon: Any) -> Any:
        rate, plain = experiment.gamma * epsilon, optimizers.Averaging()
        rule = dialled(optimizer, epsilon, rate)
        own = _follow(problem, rule, rate, stops, data, see)
        path = _follow(problem, plain, experiment.gamma, stops, data, see)
        return furthest(own - path) / furthest(path)

    return gap


def _follow(problem: Problem, rule: Any, rate: Any, stops: Any, data: Any, see: Any) -> Any:
    """What there is to see of params at each stop [stop, ...]."""
    import jax

    from study import trajectories

    return trajectories.follow(
        problem,
        rule,
        lambda t: rate,
        stops,
        lambda state, t: see(state.params),
        params=problem.init(jax.random.key(0)),
        data=data,
    )[1]


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each setting at its best rate: over [optimizer, tuned, seed] `loss` and `rate`.

    `coarse` is the lowest loss on half-decades, `calm` among runs that never rose, `edge`
    whether the best rate is the first or last of its grid, `finite` the share of the grid.
    Not finite is the worst.
    """
    if "loss_by_rate" not in dataset:
        return dataset
    dims = ("optimizer", "tuned", "seed")
    grid = dataset.rates.transpose("optimizer", "tuned", "place").values
    losses = dataset.loss_by_rate.transpose(*dims, "place").values
    losses, exponents = statistics.worst(losses), 2 * np.log10(grid[:, :, None])
    halves = np.abs(exponents - np.round(exponents)) < 0.01
    best, rises = losses.argmin(-1), dataset.rises.transpose(*dims, "place").values
    found = {
        "loss": losses.min(-1),
        "coarse": np.where(halves, losses, np.inf).min(-1),
        "calm": np.where(rises <= 0, losses, np.inf).min(-1),
        "rate": np.take_along_axis(grid, best, 2),
        "edge": np.isin(best, (0, grid.shape[2] - 1)).astype(float),
        "finite": np.isfinite(losses).mean(-1),
    }
    there = np.isfinite(grid[:, :, :1])  # NaN where an optimizer has no such setting
    return dataset.drop_vars(("loss_by_rate", "rises", "rates")).assign(
        {name: (dims, np.where(there, values, np.nan)) for name, values in found.items()}
    )


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, name: str, rule: str = "Adam") -> xr.DataArray:
    """A variable [dial or tuned, seed] of one rule, where it has one."""
    experiment: Any = results.experiment
    problem = experiment.logistic if name == "gap" else experiment.problem
    array = results.selected(problem)[name].sel(optimizer=rule)
    return array.dropna(array.dims[0], how="all").transpose(..., "seed")


def half_way(
    results: Results, sign: str = "to_sign", momentum: str = "to_momentum"
) -> np.ndarray:
    """Adam's epsilon with equal angles to both ends, over the size of gradients [seed].

    Where they cross first, log-linear between settings; NaN if they do not.
    """
    away = found(results, sign) - found(results, momentum)
    logs, rising = np.log10(away.dial.values), np.maximum.accumulate(away.values)
    there = [10 ** np.interp(0, x, logs) for x in rising.T]
    crossed = (away.values[0] < 0) & (rising[-1] > 0)
    return np.where(crossed, there, np.nan) / found(results, "gradient").values


def slope(results: Results) -> np.ndarray:
    """Exponent of the gap in epsilon from 1 on [seed]."""
    gap = found(results, "gap").where(lambda x: x.dial >= 1, drop=True)
    return np.polyfit(np.log(gap.dial.values), np.log(gap.values), 1)[0]


def best_exponent(results: Results, name: str = "loss") -> np.ndarray:
    """Padam's [seed]."""
    losses = found(results, name, "Padam")
    return losses.tuned.values[losses.values.argmin(0)]


def flatness(results: Results, name: str = "loss") -> np.ndarray:
    """The highest loss from epsilon 1e-10 to 1e-4 over the lowest [seed]."""
    losses = found(results, name).sel(tuned=[1e-10, 1e-8, 1e-6, 1e-4]).values
    return losses.max(0) / losses.min(0)


def _median(measure: Callable[[Results], Any]) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(np.asarray(measure(results)))


def _at(name: str, dial: float, rule: str = "Adam") -> Callable[[Results], Any]:
    """A variable at one setting [seed]."""
    dim = "tuned" if name in TUNED else "dial"
    return lambda results: found(results, name, rule).sel({dim: dial}).values


def _over(
    name: str, dial: float, other: float | None, rule: str = "Adam", against: str = ""
) -> Callable[[Results], Estimate]:
    """A variable at one setting over that at another, or over the best, by seed."""

    def measure(results: Results) -> Any:
        if other is None:
            below = found(results, name, rule).values.min(0)
        else:
            below = _at(name, other, against or rule)(results)
        return _at(name, dial, rule)(results) / below

    return _median(measure)


EPSILONS = {1e-8: 0.68, 1e-3: 0.60, 1e-2: 0.57, 0.1: 1.64, 1.0: 2.81, 10.0: 2.75}
EXPONENTS = dict(
    zip(DEFAULT.exponents, (2.93, 1.62, 1.93, 0.74, 0.31, 0.49, 1.07, 2.27), strict=True)
)
"""Best losses on half-decades in the calibration run."""
RATIOS = (
    *(
        ("Adam", dial, 1e-8, EPSILONS[dial] / EPSILONS[1e-8])
        for dial in (1e-2, 0.1, 1.0, 10.0)
    ),
    ("Padam", 0.375, 0.5, EXPONENTS[0.375] / EXPONENTS[0.5]),
    *(("Padam", p, None, EXPONENTS[p] / EXPONENTS[0.375]) for p in (0.0, 1.0)),
)
"""Of these losses: a setting, over another or, None, over the best."""
RUN = "independent calibration run, one data seed"
ADDED = "added after the first run, for completeness"
CHOI = "Choi et al. 2019, arXiv:1910.05446, from the abstract"

PREDICTIONS = (
    Prediction(
        "logistic: the gap to momentum's path goes as epsilon^-1 from 1 on, to 0.02",
        CHOI + ": Adam includes momentum; slope by an independent calibration run",
        _median(slope),
        at_least=-1.02,
        at_most=-0.98,
        published=-1.0,
    ),
    Prediction(
        "logistic: at epsilon 1e6 the gap is 0.032 / epsilon, within a factor of 3",
        RUN + ", its data not told; the factor is our own",
        _median(lambda results: 1e6 * _at("gap", 1e6)(results)),
        at_least=0.032 / 3,
        at_most=0.032 * 3,
        published=0.032,
    ),
    Prediction(
        "epsilon 1e6: the direction is momentum's, to 0.01 degrees",
        CHOI,
        _median(lambda results: np.degrees(_at("to_momentum", 1e6)(results))),
        at_most=0.01,
    ),
    Prediction(
        "equally far from both directions at an epsilon within a factor of 10 of the"
        " gradients' root mean square",
        "own expectation: a gradient s is divided by s + epsilon",
        _median(half_way),
        at_least=0.1,
        at_most=10,
    ),
    *(
        Prediction(
            f"{rule}, {letter} = {dial:g}, best of half-decades: {value}, within a quarter",
            RUN + "; the quarter is our own",
            _median(_at("coarse", dial, rule)),
            at_least=0.75 * value,
            at_most=1.25 * value,
            published=value,
        )
        for rule, letter, table in (
            ("Adam", "epsilon", EPSILONS),
            ("Padam", "p", EXPONENTS),
        )
        for dial, value in table.items()
    ),
    Prediction(
        "from epsilon 1e-10 to 1e-4 losses differ by 10 % or less (quarter-decades)",
        RUN + ": 0.68 to 0.69",
        _median(flatness),
        at_most=1.1,
        published=0.69 / 0.68,
    ),
    Prediction(
        "epsilon 0.01 ends at or below the loss of 1e-8 (quarter-decades)",
        RUN,
        _over("loss", 1e-2, 1e-8),
        at_most=1,
        published=EPSILONS[1e-2] / EPSILONS[1e-8],
    ),
    *(
        Prediction(
            f"epsilon {dial:g} ends at {least} times the loss of 1e-8 or above"
            " (quarter-decades)",
            RUN,
            _over("loss", dial, 1e-8),
            at_least=least,
            published=EPSILONS[dial] / EPSILONS[1e-8],
        )
        for dial, least in ((0.1, 1.5), (1.0, 2.5), (10.0, 2.5))
    ),
    Prediction(
        "epsilon 10 ends where averaged momentum ends, within 10 % (quarter-decades)",
        CHOI,
        _over("loss", 10.0, np.inf, against="Averaging"),
        at_least=0.9,
        at_most=1.1,
    ),
    Prediction(
        "the best rate is 100 times as large at epsilon 10 as at 1e-8, or larger"
        " (quarter-decades)",
        "Savarese et al. 2019 (AvaGrad), recalled: the best rate grows with epsilon",
        _over("rate", 10.0, 1e-8),
        at_least=100,
    ),
    Prediction(
        "the best rate grows by 100 from epsilon 0.1 to 10, within a factor of 3"
        " (quarter-decades)",
        CHOI + ": rate gamma epsilon",
        _over("rate", 10.0, 0.1),
        at_least=100 / 3,
        at_most=300,
    ),
    Prediction(
        "Padam's best p lies inside (0, 1/2), from 0.0625 to 0.375 (quarter-decades)",
        RUN,
        _median(best_exponent),
        at_least=0.0625,
        at_most=0.375,
        published=0.375,
    ),
    Prediction(
        "Padam: p = 0.375 ends at or below p = 0.5 (quarter-decades)",
        RUN,
        _over("loss", 0.375, 0.5, "Padam"),
        at_most=1,
        published=EXPONENTS[0.375] / EXPONENTS[0.5],
    ),
    *(
        Prediction(
            f"Padam: p = {dial:g} ends at 3 times the loss of the best p or above"
            " (quarter-decades)",
            RUN,
            _over("loss", dial, None, "Padam"),
            at_least=3,
            published=EXPONENTS[dial] / EXPONENTS[0.375],
        )
        for dial in (0.0, 1.0)
    ),
    *(
        Prediction(
            f"Adam, epsilon = {dial:g}, best of half-decades: 0.68 to 0.69, within a"
            " quarter",
            f"{RUN}, the lower end shown; the quarter is our own; {ADDED}",
            _median(_at("coarse", dial)),
            at_least=0.75 * 0.68,
            at_most=1.25 * 0.69,
            published=0.68,
        )
        for dial in (1e-10, 1e-6, 1e-4)
    ),
    Prediction(
        "from epsilon 1e-10 to 1e-4 losses differ by 10 % or less (half-decades)",
        f"{RUN}: 0.68 to 0.69; the 10 % is our own; {ADDED}",
        _median(lambda results: flatness(results, "coarse")),
        at_most=1.1,
        published=0.69 / 0.68,
    ),
    Prediction(
        "Padam's best p is 0.375 (half-decades)",
        f"{RUN}; {ADDED}",
        _median(lambda results: best_exponent(results, "coarse")),
        at_least=0.375,
        at_most=0.375,
        published=0.375,
    ),
    *(
        Prediction(
            f"{rule}: loss at {dial:g} over that at {of} is {value:.3g}, within a quarter"
            " (half-decades)",
            f"{RUN}, of printed digits; the quarter is our own; {ADDED}",
            _over("coarse", dial, other, rule),
            at_least=0.75 * value,
            at_most=1.25 * value,
            published=value,
        )
        for rule, dial, other, value in RATIOS
        for of in ("the best p" if other is None else f"{other:g}",)
    ),
    *(
        Prediction(
            f"momentum (Padam's p = 0 at a tenth of the rate), best of {grid}: {value:g},"
            " within a quarter",
            f"{RUN}; the quarter is our own; {ADDED}",
            _median(_at(name, 0.0, "Padam")),
            at_least=0.75 * value,
            at_most=1.25 * value,
            published=value,
        )
        for name, grid, value in (
            ("coarse", "half-decades", 2.96),
            ("loss", "quarter-decades", 2.2),
        )
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule and setting, medians over data seeds; then `half_way`.

    From sign descent, as predicted; from the signs of the average; and at the first step,
    where there is no average.
    """
    del manifest
    experiment: Any = results.experiment
    for entry in experiment.optimizers:
        rule, adam = str(entry), isinstance(entry, optimizers.Adam)
        settings = dials(experiment, entry)
        tuned = experiment.tuned if adam else settings
        for dial in sorted({*settings, *tuned}):
            row: dict[str, Any] = {"optimizer": rule, "dial": dial}
            turned = (*ANGLES, *(("gap",) if adam else ())) if dial in settings else ()
            for name in (*turned, *(TUNED if dial in tuned else ())):
                value, low, high, n = _median(_at(name, dial, rule))(results)
                if name in ANGLES:
                    row[f"degrees_{name}"] = float(np.degrees(value))
                    continue
                row[name] = value
                if name in ("gap", "loss"):
                    row |= {f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
            yield row
    pairs = (("to_sign", "to_momentum"), ("to_average_sign", "to_momentum"), ANGLES[:2:-1])
    for sign, momentum in pairs:
        measure = functools.partial(half_way, sign=sign, momentum=momentum)
        names = {"optimizer": "Adam", "half_way": f"{sign}, {momentum}"}
        yield names | {"epsilon_over_gradients": _median(measure)(results).value}


# Figure -----------------------------------------------------------------------------------


CALM: dict[str, Any] = {"color": "#888888", "ls": "", "marker": "x", "ms": 4}


def draw(results: Results) -> dict[str, Figure]:
    """Direction, tuned loss and best rate by dial, and the gap between paths."""
    from study import figures

    figure, axes = figures.panels(2, 3, height=2.2)
    looks = figures.look(results.experiment.optimizers)
    size = float(np.median(found(results, "gradient").values))
    for panel in axes[0]:
        panel.axvline(size, color="#b10000", lw=0.8, label="size of gradients")
        panel.set(xscale="log", xlabel=r"$\epsilon$")
    _draw_angles(axes[0, 0], results, "Adam")
    axes[0, 0].plot([], [], **CALM, label="best of runs that never rose")
    _draw_losses(axes[0, 1], results, looks, ["Adam"])
    _draw_rates(axes[0, 2], results, looks)
    if "Padam" in looks:
        bare = [name for name in ("Padam", str(BARE)) if name in looks]
        _draw_angles(axes[1, 0], results, "Padam")
        _draw_losses(axes[1, 1], results, looks, bare)
        axes[1, 1].text(0.93, 4.6, "without epsilon", ha="right", fontsize=6.5)
        for panel in axes[1, :2]:
            panel.set(xlabel="p", xticks=[0, 0.25, 0.5, 0.75, 1])
    _draw_gap(axes[1, 2], results, looks["Adam"])
    titles = ("Adam: direction", "Adam: loss", "Adam: best rate")
    titles = (*titles, "Padam: direction", "Padam: loss", "Adam: distance of paths")
    for letter, panel, title in zip("abcdef", axes.flat, titles, strict=True):
        panel.set_title(f"{letter}  {title}")
    figures.legend(figure, axes[0, 0], 3)
    figures.note(
        figure,
        figures.medians(results.count("data_seeds"), "data sets", bands=False)
        + " Bars: the lowest and the highest. f: "
        + figures.medians(results.count("path_seeds")),
    )
    return {"figure": figure}


def _draw_angles(axes: Axes, results: Results, rule: str) -> None:
    """Medians over data seeds."""
    sign = optimizers.SignDescent().colour
    ends = {
        "to_momentum": ("-o", optimizers.Averaging().colour, "angle to momentum"),
        "to_sign": ("--s", sign, "to sign descent"),
        "to_average_sign": (":^", sign, "to average's signs"),
    }
    for name, (style, colour, label) in ends.items():
        angles = found(results, name, rule)
        middle = np.degrees(np.median(angles.values, axis=1))
        axes.plot(angles.dial, middle, style, color=colour, ms=3, label=label)
    axes.set(ylim=(-3, 93), yticks=[0, 30, 60, 90], ylabel="Degrees")


def _draw_losses(
    axes: Axes, results: Results, looks: dict[str, Any], rules: list[str]
) -> None:
    """Medians over data seeds between the lowest and the highest; both ends as levels."""
    for rule in rules:
        _draw_range(axes, found(results, "loss", rule), looks[rule])
        calm = found(results, "calm", rule)
        axes.plot(calm.tuned, np.median(calm.values, axis=1), **CALM)
    for rule, text in (("Averaging", "momentum"), ("SignDescent", "sign descent")):
        if rule in looks:
            level = float(np.median(found(results, "loss", rule).values))
            axes.axhline(level, color=looks[rule]["color"], lw=0.9, ls=":")
            place = axes.get_yaxis_transform()
            axes.text(0.19, level * 1.03, text, transform=place, fontsize=6)
    axes.set(yscale="log", ylabel="Loss at the best rate", ylim=(0.2, 7))
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()


def _draw_rates(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Medians over data seeds between the extremes, and momentum's rate times epsilon."""
    values = found(results, "rate")
    _draw_range(axes, values, looks["Adam"])
    if "Averaging" in looks:
        gamma = float(np.median(found(results, "rate", "Averaging").values))
        axes.plot(values.tuned, gamma * values.tuned, color="#888888", lw=0.9, ls=":")
        axes.text(0.03, 0.8, "dotted: momentum's\nrate times $\\epsilon$")
        axes.texts[-1].set(transform=axes.transAxes, fontsize=6.5)
    axes.set(yscale="log", ylabel="Best learning rate", ylim=(1e-3, None))


def _draw_range(axes: Axes, values: xr.DataArray, look: dict[str, Any]) -> None:
    middle = np.median(values.values, axis=1)
    bars = np.abs([values.values.min(1), values.values.max(1)] - middle)
    style = {"elinewidth": 0.8, "ms": 3.5, "mec": "#333333", "mew": 0.4}
    axes.errorbar(values.tuned, middle, bars, **style, **look)


def _draw_gap(axes: Axes, results: Results, look: dict[str, Any]) -> None:
    """The median over data seeds with its 95 % band, and a line of slope -1."""
    gap = found(results, "gap")
    low, high = statistics.band(gap.values.T)
    middle = np.median(gap.values, axis=1)
    axes.fill_between(gap.dial, low, high, color=look["color"], alpha=0.2, lw=0)
    axes.plot(gap.dial, middle, **look, ms=3)
    line = middle[-1] * float(gap.dial[-1]) / gap.dial
    axes.plot(gap.dial, line, color="#b10000", lw=0.8, ls="--")
    axes.set(xscale="log", yscale="log", xlabel=r"$\epsilon$", ylim=(1e-9, 5))
    axes.set_ylabel("Distance, relative")
    axes.text(0.95, 0.75, "slope -1", transform=axes.transAxes, color="#b10000", ha="right")


if __name__ == "__main__":
    cli.main(__spec__.name)
