"""Every rule fits the data; which of them generalise, and how sharp is the border?

Question.   Least squares with more inputs than samples has many solutions with loss 0. To
            which does each rule go from 0, what does it cost on unseen samples, and does
            Adam's epsilon lead from one solution to the other at once or by degrees?
Prediction. Rules that stay in the span of the samples (SGD, momentum, Polyak's, normalised
            descent, NovoGrad, and sign descent with error feedback) end at the solution of
            least length and err on no unseen sample. Rules that rescale each element (Adam,
            RMSProp, AdaBelief, Adafactor, LAMB, Adagrad from 0, and all kinds of sign
            descent) end at a multiple of sign(X^T y), which calls every unseen sample
            positive. Adagrad from Optax's 0.1, MADGRAD and Adam with epsilon 1 end between
            and err on none. Between epsilon 1e-8 and 1e2 Adam passes through all angles.
Varied.     Scientific: rule, Adam's epsilon. Fixed: rates as in `RATES`, 20,000 steps of
            all samples, float64, no noise; ten data seeds, the first whose training labels
            have a positive sum, which the construction needs.
Cost.       Forty seconds on two CPU cores.

    python -m experiments.marginal_value             run, store, judge, draw
    python -m experiments.marginal_value --draw      draw stored records again

Wilson et al. (2017), arXiv:1705.08292, section 3: the construction and the lemma, from a
third party's walk-through; the generator, and that sign descent's test loss stays above
0.7, as read in the code of Karimireddy et al. (2019), arXiv:1901.09847. The construction
alone is reproduced: Choi et al. (2019), arXiv:1910.05446, dispute the paper's claims on
networks (from the abstract).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import OneSidedLabels, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

    Measure = Callable[[Results], Estimate]

RATES = {
    "SGD": 0.1,
    "Momentum": 0.02,
    "PolyakSGD": 10.0,
    "ErrorFeedbackSign": 0.1,
    "RescaledSignDescent": 0.1,
    "Adagrad": 0.05,
}
"""Constant, by class; all others fall from 0.01 to 0 by half a cosine.

SGD, momentum, Adam, RMSProp, sign, Lion, Adagrad: those of the calibration run. The
others': powers of ten with which the training loss falls below 1e-6 on data seeds from
1001 on; nothing else was looked at.
"""


@dataclasses.dataclass(frozen=True)
class MarginalValue(Comparison):
    """Destinations of rules, and of Adam at every epsilon."""

    epsilons: tuple[float, ...] = log_grid(-8, 2, per_decade=2)
    """Of Adam; its rate is then 0.01 + epsilon / 10, so that far above the gradient it is
    averaged SGD at SGD's rate."""
    steps: int = 20_000
    """Updates."""
    seeds: int = 10
    """Data seeds."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("epsilons")
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")

    @property
    def stops(self) -> tuple[int, ...]:
        """Updates after which w is looked at: each of the first 100, some, the last."""
        later = np.geomspace(1, self.steps, 50).round().astype(int)
        return tuple(np.union1d(np.arange(min(100, self.steps)) + 1, later).tolist())

    def draws(self) -> list[OneSidedLabels]:
        """The problem at the first data seeds whose training labels sum to more than 0."""
        every = (
            dataclasses.replace(self.problem, data_seed=seed)  # type: ignore[type-var]
            for seed in itertools.count()
        )
        return list(itertools.islice(filter(_one_sided, every), self.seeds))  # type: ignore[arg-type]


def _one_sided(problem: OneSidedLabels) -> bool:
    data = problem.data()
    return float(data["labels"] @ data["trained"]) > 0


DEFAULT = MarginalValue(
    problem=OneSidedLabels(dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.PolyakSGD(),
        optimizers.NormalisedGD(),
        optimizers.NovoGrad(),
        optimizers.ErrorFeedbackSign(decay=0.0),
        optimizers.Adam(eps=1.0),
        optimizers.MADGRAD(),
        optimizers.Adagrad(),
        optimizers.Adagrad(initial_accumulator=0.0),
        optimizers.Adam(),
        optimizers.RMSProp(),
        optimizers.RMSProp(eps=1e-12),
        optimizers.RMSProp(decay=0.999),
        optimizers.AdaBelief(),
        optimizers.Adafactor(),
        optimizers.LAMB(),
        optimizers.Lion(),
        optimizers.SignDescent(),
        optimizers.Signum(),
        optimizers.RescaledSignDescent(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=OneSidedLabels(samples=8, dtype="float64"),
        optimizers=(optimizers.SGD(), optimizers.Adam()),
        epsilons=(1e-8, 1.0),
        steps=50,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT, epsilons=log_grid(-10, 3, per_decade=8), steps=200_000, seeds=30
    ),
}
DIALLED = "Adam"
"""The rule whose cell also has every epsilon."""
MEASURED = ("loss", "train_error", "test_error", "least", "sign", "outside", "negative")
DIAL = MEASURED[:-1]
KEPT = (*MEASURED, "between", "lemma", "lowest", *(f"dial_{name}" for name in DIAL))


def rate_of(optimizer: Optimizer) -> float:
    """The first rate of a rule."""
    if isinstance(optimizer, optimizers.Adam):
        return dialled_rate(getattr(optimizer, "eps"))  # noqa: B009
    return RATES.get(type(optimizer).__name__, 0.01)


def dialled_rate(eps: Any) -> Any:
    """Adam's at an epsilon."""
    return 0.01 + 0.1 * eps


def run_cell(
    experiment: MarginalValue,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """Where a rule ends, over [seed].

    The final `loss`, `train_error`, `test_error`; cosines of w with the solution of least
    length, `least`, and with sign(X^T y), `sign`; `outside`, the share of w's length out
    of the span of the training samples; `lowest`, the smallest loss on unseen samples at
    any stop. Of the data: `negative`, the share of unseen samples with y = -1, `between`,
    the cosine of the two destinations, and `lemma`, the largest |X sign(X^T y) - 4 y|.
    `dial_*` [eps, seed]: the same of Adam, else NaN.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    draws, seeds = experiment.draws(), np.arange(experiment.seeds)
    with devices.precision(problem.dtype):
        paths = _paths(experiment, draws, optimizer, experiment.stops, [seeds])
        variables: dict[str, Any] = {
            name: ("seed", values) for name, values in _measure(draws, paths[:, -1]).items()
        }
        lowest = [_lowest(draw, path) for draw, path in zip(draws, paths, strict=True)]
        variables["lowest"] = ("seed", lowest)
        progress(0.3)
        shape = (len(experiment.epsilons), experiment.seeds)
        dial = {name: np.full(shape, np.nan) for name in DIAL}
        if str(optimizer) == DIALLED:
            lanes = np.meshgrid(experiment.epsilons, seeds, indexing="ij")
            lanes, last = [x.ravel() for x in reversed(lanes)], (experiment.steps,)
            paths = _paths(experiment, draws, None, last, lanes)
            rows = [_measure(draws, row) for row in paths.reshape(*shape, -1)]
            dial = {name: np.stack([row[name] for row in rows]) for name in DIAL}
        variables |= {f"dial_{n}": (("eps", "seed"), x) for n, x in dial.items()}
        axes = {"eps": list(experiment.epsilons), "seed": [d.data_seed for d in draws]}
        dataset = xr.Dataset(variables, axes)
        return sweep.finish(dataset, problem, optimizer, begun, experiment.seeds)


def _paths(
    experiment: MarginalValue,
    draws: list[OneSidedLabels],
    optimizer: Optimizer | None,
    stops: tuple[int, ...],
    lanes: list[np.ndarray],
) -> np.ndarray:
    """W [lane, stop, input]; lanes are (seed) or, of Adam, (seed, eps)."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import devices, trajectories

    problem, steps = draws[0], experiment.steps
    data = jax.tree.map(lambda *leaves: np.stack(leaves), *(d.data() for d in draws))
    constant = type(optimizer).__name__ in RATES

    def run(data: Any, seed: Any, eps: Any = None) -> Any:
        own = jax.tree.map(lambda leaf: leaf[seed], data)
        rule: Any = optimizer
        rate = dialled_rate(eps) if optimizer is None else rate_of(optimizer)
        if optimizer is None:
            rule = trajectories.Treated(
                optimizers.SGD(), lambda sgd: optax.chain(optax.scale_by_adam(eps=eps), sgd)
            )

        def schedule(t: Any) -> Any:
            return rate * (1.0 if constant else (1 + jnp.cos(jnp.pi * t / steps)) / 2)

        observe = lambda state, t: state.params["w"]  # noqa: E731
        start = problem.init(jax.random.key(0))
        return trajectories.follow(
            problem, rule, schedule, stops, observe, params=start, data=own
        )[1]

    return devices.map_runs(run, (data,), lanes)


def _measure(draws: list[OneSidedLabels], ends: np.ndarray) -> dict[str, np.ndarray]:
    """What `run_cell` tells of each w [seed, input]."""
    columns = [_destination(draw, w) for draw, w in zip(draws, ends, strict=True)]
    return {name: np.array([column[name] for column in columns]) for name in columns[0]}


class Geometry(NamedTuple):
    """Of one draw: its samples, and where rules go."""

    rows: np.ndarray  # [sample, input]
    labels: np.ndarray  # [sample]
    seen: np.ndarray  # [sample], trained on
    least: np.ndarray  # [input]
    sign: np.ndarray  # [input]
    basis: np.ndarray  # [input, training sample], of their span


@functools.lru_cache(maxsize=64)
def geometry(draw: OneSidedLabels) -> Geometry:
    """In float64 and NumPy."""
    from study import solutions

    data, rows = draw.data(), draw.rows()
    seen, labels = data["trained"] > 0, data["labels"]
    x, y = rows[seen], labels[seen]
    least, sign = solutions.minimum_norm(x, y), np.sign(x.T @ y)
    return Geometry(rows, labels, seen, least, sign, np.linalg.qr(x.T)[0])


def _destination(draw: OneSidedLabels, w: np.ndarray) -> dict[str, float]:
    """What `run_cell` tells of one w [input]."""
    rows, labels, seen, least, sign, basis = geometry(draw)
    outputs = rows @ w
    wrong, out = outputs * labels <= 0, w - basis @ (basis.T @ w)
    return {
        "loss": float(np.mean((outputs - labels)[seen] ** 2)),
        "train_error": float(wrong[seen].mean()),
        "test_error": float(wrong[~seen].mean()),
        "least": _cosine(w, least),
        "sign": _cosine(w, sign),
        "outside": float(np.linalg.norm(out) / np.linalg.norm(w)),
        "negative": float((labels[~seen] < 0).mean()),
        "between": _cosine(least, sign),
        "lemma": float(np.abs(rows @ sign - 4 * labels)[seen].max()),
    }


def _lowest(draw: OneSidedLabels, path: np.ndarray) -> float:
    """The smallest mean (x.w - y)^2 over unseen samples on a path [stop, input]."""
    rows, labels, seen, *_ = geometry(draw)
    residual = path @ rows[~seen].T - labels[~seen]
    return float(np.mean(residual**2, axis=-1).min())


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Every epsilon of the one rule that has them, without an axis of rules."""
    names = [str(name) for name in dataset if str(name).startswith("dial_")]
    if DIALLED not in dataset.optimizer:
        return dataset.drop_vars(names)
    return dataset.assign({n: dataset[n].sel(optimizer=DIALLED, drop=True) for n in names})


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, variable: str, name: str | None = None) -> np.ndarray:
    """A variable of one rule [seed], or of Adam at every epsilon [eps, seed]."""
    records = results.selected(results.experiment.problem)
    if name is None:
        return records[f"dial_{variable}"].transpose("eps", "seed").values
    return records[variable].sel(optimizer=name).values


def _all(variable: str, name: str, worst: Callable[..., Any]) -> Measure:
    """The worst seed: it holds for each."""

    def measure(results: Results) -> Estimate:
        values = found(results, variable, name)
        return statistics.exact(worst(values), len(values))

    return measure


def _median(variable: str, name: str) -> Measure:
    return lambda results: statistics.bootstrap(found(results, variable, name))


def _all_positive(name: str) -> Measure:
    """The largest distance of the test error from the share of negative samples."""

    def measure(results: Results) -> Estimate:
        away = found(results, "test_error", name) - found(results, "negative", name)
        return statistics.exact(np.abs(away).max(), len(away))

    return measure


def _of_every_rule(variable: str) -> Measure:
    """The largest of any rule and seed."""

    def measure(results: Results) -> Estimate:
        names = map(str, results.experiment.optimizers)
        values = [found(results, variable, name).max() for name in names]
        return statistics.exact(max(values), len(values))

    return measure


def _dial(variable: str, summary: Callable[[np.ndarray], Any]) -> Measure:
    """A summary of the medians over seeds [eps]."""
    return lambda results: statistics.exact(
        summary(np.median(found(results, variable), axis=1))
    )


def _both(results: Results) -> Estimate:
    """The smallest, over epsilons, of the larger of the two median cosines."""
    pair = [np.median(found(results, name), axis=1) for name in ("least", "sign")]
    return statistics.exact(np.maximum(*pair).min())


def border(results: Results) -> Estimate:
    """The smallest epsilon with a test error of 0, median over seeds with its interval."""
    epsilons = np.asarray(results.experiment.epsilons)  # type: ignore[attr-defined]
    right = found(results, "test_error") == 0
    first = np.where(right.any(0), epsilons[right.argmax(0)], np.inf)
    return statistics.bootstrap(first)


WILSON = "Wilson et al. 2017, arXiv:1705.08292, section 3, from a walk-through"
MEASURED_TOO = f"{WILSON}; independent calibration run"
CALIBRATION = "independent calibration run"
FEEDBACK = "Karimireddy et al. 2019, arXiv:1901.09847, remark read in its notebook"
OWN = "own expectation"
ADDED = "added after the first run, for completeness"
EF, SCALED = "ErrorFeedbackSign(decay=0.0)", "RescaledSignDescent"
FROM_ZERO = "Adagrad(initial_accumulator=0.0)"
LEAST = {
    "SGD": MEASURED_TOO,
    "Momentum": MEASURED_TOO,
    "PolyakSGD": CALIBRATION,
    "NormalisedGD": CALIBRATION,
    "NovoGrad": CALIBRATION,
    EF: FEEDBACK,
}
"""Rules expected at the solution of least length, and why."""
SIGN = {
    "Adam": (MEASURED_TOO, 0.9999, 1.0),
    "RMSProp": (MEASURED_TOO, 0.9999, 0.9999),
    "AdaBelief": (CALIBRATION, 0.9999, 1.0),
    "Adafactor": (CALIBRATION, 0.9999, 1.0),
    "LAMB": (CALIBRATION, 0.999, 1.0),
    FROM_ZERO: (MEASURED_TOO, 0.999, 1.0),
    "Lion": (CALIBRATION, 0.9999, 1.0),
    "SignDescent": (CALIBRATION, 0.9999, 1.0),
    SCALED: (OWN, 0.9999, 1.0),
}
"""Rules expected along sign(X^T y), why, how closely, and the calibration run's cosine; two
have epsilons above 1e-8."""
BETWEEN = (
    ("Adagrad", "sign", 0.955, 0.975, 0.965),
    ("MADGRAD", "sign", 0.968, 0.988, 0.978),
    ("Adam(eps=1.0)", "least", 0.9, 1.0, 0.969),
)
"""Rules that err on no sample and end between: cosine, its range, the calibration run's."""


NAMES = {"least": "the solution of least length", "sign": "sign(X^T y)"}
NONE = -np.inf


def _known(source: str, value: float) -> float | None:
    """The calibration run's value where it has one."""
    return None if source in (OWN, FEEDBACK) else value


def _of_data_and_fit() -> Iterator[Prediction]:
    text = "the lemma's condition: |X sign(X^T y) - 4 y| at most 1e-12 on every seed"
    yield Prediction(text, WILSON, _all("lemma", "SGD", np.max), at_most=1e-12)
    text = "the two destinations have a cosine below 0.5 on every seed"
    yield Prediction(text, OWN, _all("between", "SGD", np.max), at_most=0.5)
    text = "every rule and seed: training error 0"
    yield Prediction(text, MEASURED_TOO, _of_every_rule("train_error"), at_most=0)
    text = "every rule and seed: training loss below 1e-6"
    yield Prediction(text, OWN, _of_every_rule("loss"), at_most=1e-6)


def _of_generalising() -> Iterator[Prediction]:
    for name, source in (*LEAST.items(), *((name, CALIBRATION) for name, *_ in BETWEEN)):
        measure, known = _all("test_error", name, np.max), _known(source, 0.0)
        text = f"{name}: test error 0 on every seed"
        yield Prediction(text, source, measure, NONE, 0, known)
    for name, source in LEAST.items():
        measure, known = _all("least", name, np.min), _known(source, 1.0)
        text = f"{name}: cosine with {NAMES['least']} above 0.9999 on every seed"
        yield Prediction(text, source, measure, 0.9999, np.inf, known)
        if name != EF:
            measure = _all("outside", name, np.max)
            text = f"{name}: share of w out of the span below 1e-9 on every seed"
            yield Prediction(text, source, measure, NONE, 1e-9, 1e-15)
    for name, variable, low, high, value in BETWEEN:
        text = f"{name}: cosine with {NAMES[variable]} {low:g} to {high:g}"
        yield Prediction(text, CALIBRATION, _median(variable, name), low, high, value)


def _of_sign() -> Iterator[Prediction]:
    for name, (source, limit, value) in SIGN.items():
        measure, known = _all_positive(name), _known(source, 0.0)
        text = f"{name}: calls all unseen samples positive, error their share to 1e-12"
        yield Prediction(text, source, measure, NONE, 1e-12, known)
        measure, known = _all("sign", name, np.min), _known(source, value)
        text = f"{name}: cosine with {NAMES['sign']} above {limit:g} on every seed"
        yield Prediction(text, source, measure, limit, np.inf, known)
    text, measure = (
        "Adam: share of w out of the span above 0.95",
        _median("outside", "Adam"),
    )
    yield Prediction(text, CALIBRATION, measure, 0.95, np.inf, 0.971)


def _of_dial() -> Iterator[Prediction]:
    text = "Adam at every epsilon and seed: training loss below 1e-6"
    worst: Measure = lambda results: statistics.exact(found(results, "loss").max())  # noqa: E731
    yield Prediction(text, OWN, worst, at_most=1e-6)
    source = "far below epsilon Adam is averaged SGD"
    text = f"Adam at the largest epsilon: cosine with {NAMES['least']} above 0.999"
    last = _dial("least", lambda medians: medians[-1])
    yield Prediction(text, source, last, at_least=0.999)
    text = (
        f"Adam: its cosine with {NAMES['least']} falls by at most 0.01 to the next epsilon"
    )
    fall = _dial("least", lambda medians: max(0.0, -np.diff(medians).min()))
    yield Prediction(text, OWN, fall, at_most=0.01)
    text = "by degrees: at some epsilon both cosines are below 0.95"
    yield Prediction(text, OWN, _both, at_most=0.95)
    source = f"{OWN}: elements of the first gradient are 2 / n to 2"
    text = "Adam: the smallest epsilon without test error lies between 0.02 and 2"
    yield Prediction(text, source, border, 0.02, 2)


def _added() -> Iterator[Prediction]:
    """Numbers of the sources that had no prediction at first."""
    source = f"{CALIBRATION}; {ADDED}"
    text = "Adam: test error 0.332475 to 0.554125"
    measure = _median("test_error", "Adam")
    yield Prediction(text, source, measure, 0.75 * 0.4433, 1.25 * 0.4433, 0.4433)
    for name in (name for name in SIGN if name != SCALED):
        text = f"{name}: share of w out of the span 0.961 to 0.981"
        yield Prediction(text, source, _median("outside", name), 0.961, 0.981, 0.971)
    for name in ("LAMB", FROM_ZERO):
        text = f"{name}: cosine with {NAMES['sign']} at least 0.9999 on every seed"
        yield Prediction(text, source, _all("sign", name, np.min), 0.9999, np.inf, 1.0)
    for name, low, high in (
        ("SignDescent", 0.7, np.inf),
        ("Signum", 0.7, np.inf),
        (EF, NONE, 0.7),
    ):
        text = f"{name}: lowest test loss {'above' if low > 0 else 'below'} 0.7"
        source, value = f"{FEEDBACK}; {ADDED}", 0.7 if low > 0 else None
        yield Prediction(text, source, _median("lowest", name), low, high, value)


PREDICTIONS = (
    *_of_data_and_fit(),
    *_of_generalising(),
    *_of_sign(),
    *_of_dial(),
    *_added(),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, then for each epsilon: medians over seeds, with intervals.

    `lowest_on_sign`: `lowest` as it is on multiples of sign(X^T y).
    """
    del manifest
    epsilons = results.experiment.epsilons  # type: ignore[attr-defined]
    for optimizer in results.experiment.optimizers:
        name = str(optimizer)
        every = (*MEASURED, "lowest")
        values = {variable: found(results, variable, name) for variable in every}
        own = {
            "first_rate": rate_of(optimizer),
            "sign_and_between": _together(results, name),
            "lowest_on_sign": float(np.median(lowest_on_sign(values["negative"]))),
        }
        yield {"rule": name, **_row(values), **own}
    dial = {variable: found(results, variable) for variable in DIAL}
    for i, eps in enumerate(epsilons):
        row = _row({name: values[i] for name, values in dial.items()})
        yield {"rule": f"{DIALLED}, eps {eps:g}", **row, "first_rate": dialled_rate(eps)}


def lowest_on_sign(negative: Any) -> Any:
    """The smallest test loss of s sign(X^T y), by the share of unseen samples with y = -1.

    Unseen x.w are 3 s where y = 1 and s where y = -1, so it is the minimum over s of
    (1 - negative) (3 s - 1)^2 + negative (s + 1)^2: above 0.7 if that share is above 0.426.
    """
    return 1 - (3 - 4 * negative) ** 2 / (9 - 8 * negative)


def _together(results: Results, name: str) -> float:
    """Correlation over seeds of w's cosine with that of the destinations.

    By symmetry a draw matters by the number of its positive training labels alone.
    """
    pair = [found(results, variable, name) for variable in ("sign", "between")]
    if min(map(np.ptp, pair)) < 1e-6:
        return np.nan
    return float(np.corrcoef(pair[0], pair[1])[0, 1])


def _row(values: dict[str, np.ndarray]) -> dict[str, float]:
    estimates = {name: statistics.bootstrap(array) for name, array in values.items()}
    return {
        f"{name}_{part}".removesuffix("_value"): getattr(estimate, part)
        for name, estimate in estimates.items()
        for part in ("value", "low", "high")
    }


# Figure -----------------------------------------------------------------------------------


COSINES: dict[str, dict[str, Any]] = {
    "least": {"color": "#004ec4", "marker": "o", "linestyle": "-"},
    "sign": {"color": "#b10000", "marker": "s", "linestyle": (0, (5, 1.5))},
}
WORDS = {"least": "the solution of least length", "sign": r"sign($X^\top y$)"}


def draw(results: Results) -> dict[str, Figure]:
    """Errors and directions of every rule, and of Adam against its epsilon."""
    from matplotlib.figure import Figure

    from study import figures

    figure = Figure(figsize=(figures.width(), 4.6), layout="constrained")
    axes = figure.subplot_mosaic(
        [["a", "b", "c"], ["a", "b", "d"]], width_ratios=(0.75, 0.8, 1.4)
    )
    looks = figures.look(results.experiment.optimizers)
    negative = float(np.median(found(results, "negative", next(iter(looks)))))
    _draw_rules(axes["a"], axes["b"], results, looks)
    epsilons = results.experiment.epsilons  # type: ignore[attr-defined]
    _draw_dial(axes["c"], epsilons, found(results, "test_error"), {"color": "#4e0089"})
    for variable, style in COSINES.items():
        _draw_dial(axes["d"], epsilons, found(results, variable), style)
    dotted = {"color": "#444444", "lw": 0.9, "ls": ":"}
    axes["a"].axvline(negative, **dotted)
    axes["a"].text(
        negative - 0.02, 0, "all called\npositive", ha="right", va="top", fontsize=7
    )
    axes["a"].set(xlabel="Test error", title="a  All fit, some err")
    axes["b"].set(xlabel="Cosine of w", title="b  Two directions")
    axes["c"].set(ylabel="Test error", title="c  Adam's error jumps")
    axes["d"].set(
        ylabel="Cosine of w", ylim=(0, 1.06), title="d  Its direction turns smoothly"
    )
    for letter in "cd":
        axes[letter].axvline(border(results).value, **dotted)
        axes[letter].set(xscale="log", xlabel="Epsilon of Adam")
    handles = [
        axes["d"].plot([], [], **COSINES[n], ms=4, label=f"cosine with {WORDS[n]}")[0]
        for n in COSINES
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figures.note(figure, figures.medians(results.count(), "data sets"))
    return {"figure": figure}


def _draw_rules(errors: Any, cosines: Any, results: Results, looks: dict[str, Any]) -> None:
    """A row for each rule, medians over seeds with their intervals."""
    for row, (name, look) in enumerate(looks.items()):
        estimate = statistics.bootstrap(found(results, "test_error", name))
        errors.plot([estimate.low, estimate.high], [row, row], color=look["color"])
        errors.plot(estimate.value, row, "o", color=look["color"], ms=5, clip_on=False)
        for variable, style in COSINES.items():
            middle = np.median(found(results, variable, name))
            plain = {**style, "linestyle": "none", "ms": 4.5, "clip_on": False}
            cosines.plot(middle, row, **plain)
    for axes in (errors, cosines):
        axes.set(yticks=range(len(looks)), ylim=(len(looks) - 0.5, -0.5))
    errors.set_yticklabels([look["label"] for look in looks.values()])
    cosines.set_yticklabels([])
    errors.set_xlim(-0.02, 0.55)
    cosines.set_xlim(0, 1.04)


def _draw_dial(axes: Any, epsilons: Any, values: np.ndarray, style: dict[str, Any]) -> None:
    """The median over seeds with its band against epsilon; values [eps, seed]."""
    low, high = statistics.band(values.T)
    axes.plot(epsilons, np.median(values, axis=1), ms=3, **{"marker": "o", **style})
    axes.fill_between(epsilons, low, high, color=style["color"], alpha=0.2, lw=0)


if __name__ == "__main__":
    cli.main(__spec__.name)
