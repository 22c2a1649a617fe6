"""Two accidents of scale: minus the probability as loss, pixels in 0..255. Who notices?

Question.   A newcomer trains on minus the predicted probability of the label, or leaves
            pixels in 0..255. Both change the scale of gradients. Is it one factor, which
            another learning rate takes back, or one for each sample or leaf? Who sees it?
Prediction. A factor on the loss: gradient descent sees it and its rate undoes it; Adagrad
            sees it by its accumulator, LARS by biases at 0; all others are blind. Minus the
            probability is a tenth at the start and another direction: each sample is
            weighted by its own p, and all rules see that. Pixels times 255 with the first
            kernel divided by 255 start as the same function, in which that kernel's step is
            65,025 times as long for gradient descent, 255 times for signs and Adam, as long
            as before for LARS and LAMB: no one rate undoes the first two.
Varied.     Scientific: rule, condition. Controls: constant factors, weights p over their
            mean, standardised pixels. Ablations, added after a first run: 0..16, -p^0.7,
            selection by accuracy, four times as many steps, epsilon 0. Nuisance: learning
            rate, by validation cross-entropy on three seeds of its own, in the plain
            condition (nothing tuned again) and in each. Everywhere test cross-entropy and
            accuracy judge; eight seeds, 200 steps.
Cost.       A minute on two CPU cores.

    python -m experiments.loss_scale_in_the_wild             run, store, judge, draw
    python -m experiments.loss_scale_in_the_wild --draw      draw stored records again

The gradient of -p is that of cross-entropy times p, of -p^q times q p^q (Zhang & Sabuncu
2018, arXiv:1805.07836, who take 0.7; Ghosh et al. 2017, AAAI: mean absolute error; both
recalled). Scaled inputs: LeCun et al. 1998, Efficient BackProp (recalled). Rates are powers
of 4, so that 256 = 4^4 is a step of the grid and exact in binary.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import Altered, Digits, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


class Condition(NamedTuple):
    """One way to train.

    Attributes:
        title: in the figure.
        factor: on the loss.
        weights: 0 cross-entropy, 1 minus the probability, 2 cross-entropy with each sample
            weighted by its probability over the batch's mean, 3 minus a power of it.
        pixels: factor on pixels in [0, 1].
        kernel: what the first initial kernel is divided by.
        standardised: pixels less their mean, over their standard deviation.
    """

    title: str
    factor: float = 1.0
    weights: int = 0
    pixels: float = 1.0
    kernel: float = 1.0
    standardised: bool = False

    @property
    def same_start(self) -> bool:
        """The untrained network is the plain one's function of the image."""
        return self.pixels == self.kernel and not self.standardised


CONDITIONS = {
    "plain": Condition("plain"),
    "loss x 256": Condition(r"loss $\times$ 256", factor=256.0),
    "loss / 10": Condition("loss / 10", factor=0.1),
    "same function, 16": Condition("0..16, same start", pixels=16.0, kernel=16.0),
    "same function": Condition("0..255, same start", pixels=255.0, kernel=255.0),
    "255": Condition("0..255", pixels=255.0),
    "p weights": Condition("weights p / mean p", weights=2),
    "minus p": Condition("loss $-p$", weights=1),
    "power of p": Condition("loss $-p^{0.7}$", weights=3),
    "255, minus p": Condition("0..255 and $-p$", weights=1, pixels=255.0),
    "standardised": Condition("standardised", standardised=True),
}
POWER = 0.7
Values = Callable[["Results", str, str, str], np.ndarray]
"""From results, rule, condition and tuning to values [seed]."""
TUNINGS = ("plain", "own", "accuracy", "long")
"""The rate selected in the plain condition; in the condition itself; there by accuracy;
there by loss, for `longer` times as many steps."""


@dataclasses.dataclass(frozen=True)
class LossScaleInTheWild(Comparison):
    """Every rule under every condition."""

    conditions: tuple[str, ...] = tuple(CONDITIONS)
    """Names in CONDITIONS; the first is the plain one."""
    learning_rates: tuple[float, ...] = tuple(4.0**k for k in range(-12, 5))
    """The grid, the same for every rule and condition."""
    steps: int = 200
    """Updates."""
    longer: int = 4
    """Factor on the steps of an ablation."""
    seeds: int = 8
    """Reported."""
    selection_seeds: int = 3
    """Further seeds, only to select the rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("conditions", "learning_rates")
        if self.conditions[0] != "plain" or set(self.conditions) - set(CONDITIONS):
            self.refuse("conditions", f"of {', '.join(CONDITIONS)}, plain first")
        for name in ("steps", "longer", "seeds", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


DEFAULT = LossScaleInTheWild(
    problem=Digits(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(),
        optimizers.NormalisedByLeaf(),
        optimizers.NormalisedByLeaf(eps=0.0),
        optimizers.SignDescent(),
        optimizers.Adagrad(),
        optimizers.Adam(),
        optimizers.LAMB(),
        optimizers.LARS(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(depth=0, batch_size=4),
        optimizers=(optimizers.SGD(),),
        conditions=("plain", "minus p", "same function"),
        learning_rates=(4.0**-8, 0.25),
        steps=2,
        longer=2,
        seeds=2,
        selection_seeds=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        learning_rates=tuple(2.0**k for k in range(-26, 11)),
        steps=2_000,
        seeds=20,
        selection_seeds=5,
    ),
}
KEPT = (
    "objective", "test_loss", "test_accuracy", "classes_lost", "rate", "at_edge",
    "length", "whole_length", "whole_cosine", "start_loss",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Changed(Altered):
    """A problem of images whose loss and pixels are changed; every number may be traced.

    Attributes:
        factor: on the loss.
        weights: as in `Condition`.
        pixels: factor on pixels.
        shift: taken from pixels before.
    """

    problem: Any  # a `Classification`
    factor: Any
    weights: Any
    pixels: Any
    shift: Any

    def images(self, batch: Any) -> Any:
        """The batch with its pixels changed."""
        images, labels = batch
        return self.pixels * (images - self.shift), labels

    def batch(self, data: Any, key: Any, t: Any) -> Any:
        """The problem's, changed."""
        return self.images(self.problem.batch(data, key, t))

    def loss(self, params: Any, batch: Any) -> Any:
        """What is trained on [], of a batch from `batch`."""
        import jax
        import jax.numpy as jnp

        images, labels = batch
        logits = self.problem.network().apply(params, images)
        logs = jax.nn.log_softmax(logits)
        log_p = jnp.take_along_axis(logs, labels[:, None], axis=-1)[:, 0]
        # Probabilities over their mean, finite where all of them underflow.
        weights = jax.lax.stop_gradient(jax.nn.softmax(log_p))
        kinds = (
            -log_p.mean(),
            -jnp.exp(log_p).mean(),
            -(weights @ log_p),
            -jnp.exp(POWER * log_p).mean() / POWER,
        )
        return self.factor * jnp.stack(kinds)[self.weights]

    def evaluate(self, data: Any, params: Any) -> Any:
        """Cross-entropy and accuracy, whatever was trained on, and `classes_lost`.

        These are the classes of whose test images less than a tenth are recognised.
        """
        import jax

        data = {name: self.images(split) for name, split in data.items()}
        images, labels = data["test"]
        logits = self.problem.network().apply(params, images)
        classes = jax.nn.one_hot(labels, logits.shape[-1])
        right = (logits.argmax(-1) == labels).astype(classes.dtype) @ classes
        poor = (right < 0.1 * classes.sum(0)).sum().astype("int8")
        return self.problem.evaluate(data, params) | {"classes_lost": poor}


def table(problem: Problem, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numbers [condition] of these conditions, in the problem's dtype."""
    train = np.asarray(problem.data()["train"][0])
    rows = [CONDITIONS[name] for name in names]
    std = np.array([row.standardised for row in rows])
    found = {
        "factor": np.array([row.factor for row in rows]),
        "pixels": np.where(std, 1 / train.std(), [row.pixels for row in rows]),
        "shift": np.where(std, train.mean(), 0.0),
        "kernel": np.array([row.kernel for row in rows]),
    }
    found = {name: values.astype(problem.dtype) for name, values in found.items()}
    return found | {"weights": np.array([row.weights for row in rows], np.int32)}


def with_first_kernel(tree: Any, factor: Any) -> Any:
    """A tree of params or an update, its first layer's kernel times a factor []."""
    layers = dict(tree["layers"])
    layers[0] = layers[0] | {"kernel": factor * layers[0]["kernel"]}
    return tree | {"layers": layers}


def run_cell(
    experiment: LossScaleInTheWild,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`validation` [condition, learning_rate, chosen], the loss that selects, and reports.

    `test_loss`, `test_accuracy` and `classes_lost` [condition, tuning, seed], `rate`
    [condition, tuning], `at_edge` [condition]; of the first step, see `_first_steps`.
    """
    import xarray as xr

    from study import devices, sweep, trees

    begun = time.perf_counter()
    with devices.precision(problem.dtype):
        seeds = range(experiment.seeds + experiment.selection_seeds)
        starts = sweep.starts(problem, tuple(seeds))
        shared = (problem.data(), starts, table(problem, experiment.conditions))
        variables = _trained(experiment, problem, optimizer, shared)
        progress(0.95)
        variables |= _first_steps(experiment, problem, optimizer, shared)
        coordinates = {
            "condition": list(experiment.conditions),
            "learning_rate": list(experiment.learning_rates),
            "tuning": list(TUNINGS),
            "leaf": list(trees.names(starts[0])),
        }
        dataset = xr.Dataset(variables, coordinates)
        runs = variables["validation"][1].size + variables["test_loss"][1].size
        return sweep.finish(dataset, problem, optimizer, begun, runs)


def _trained(
    experiment: LossScaleInTheWild, problem: Problem, optimizer: Optimizer, shared: Any
) -> dict[str, Any]:
    """All rates on the seeds for selection, then the reported seeds at those selected."""
    seeds, extra, steps = experiment.seeds, experiment.selection_seeds, experiment.steps
    rates = np.asarray(experiment.learning_rates)
    conditions = np.arange(len(experiment.conditions))
    train, width = _trainer(problem, optimizer), len(conditions) * seeds
    grid = (conditions, rates, np.arange(seeds, seeds + extra))
    axes = np.meshgrid(*grid, indexing="ij")
    found = _map(train, shared, steps, axes, width)
    validation = found["validation_loss"]
    places, edges = _places(validation, found["validation_accuracy"])
    condition, seed = np.indices((len(conditions), seeds))
    lengths = (steps, steps, steps, steps * experiment.longer)
    reports = [
        _map(train, shared, length, (condition, rates[place][condition], seed), width)
        for place, length in zip(places, lengths, strict=True)
    ]
    names = ("condition", "tuning", "seed")
    tests = {
        name: (names, np.stack([report[name] for report in reports], axis=1), shown)
        for name, shown in (
            ("test_loss", {}),
            ("test_accuracy", {"decimals": 4}),
            ("classes_lost", {}),
        )
    }
    return tests | {
        "validation": (("condition", "learning_rate", "chosen"), validation),
        "rate": (names[:2], rates[places].T),
        "at_edge": ("condition", edges),
    }


def _places(losses: np.ndarray, accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places on the grid of rates [tuning, condition], and whether by loss at its edge.

    Args:
        losses: [condition, rate, seed], of validation.
        accuracies: likewise.
    """
    chosen = [statistics.select(values) for values in losses]
    own = np.array([c.place for c in chosen])
    right = np.array([statistics.select(1 - values).place for values in accuracies])
    edges = np.array([c.at_edge for c in chosen], float)
    return np.stack([np.full_like(own, own[0]), own, right, own]), edges


def _trainer(problem: Problem, optimizer: Optimizer) -> Any:
    """(data, starts, table, steps [1], condition, rate, seed) -> evaluations at the end."""
    import jax

    from study import trajectories

    def run(
        data: Any, starts: Any, rows: Any, steps: Any, condition: Any, rate: Any, seed: Any
    ) -> Any:
        changed, params, key = begin(problem, starts, rows, condition, seed)
        _, found = trajectories.follow(
            changed,
            optimizer,
            lambda t: rate,
            steps,
            lambda state, t: changed.evaluate(data, state.params),
            params=params,
            key=key,
            data=data,
        )
        return jax.tree.map(lambda leaf: leaf[0], found)

    return run


def begin(problem: Problem, starts: Any, rows: Any, condition: Any, seed: Any) -> Any:
    """(changed problem, params, key of the batches) of a condition and a seed."""
    import jax

    row = {name: values[condition] for name, values in rows.items()}
    params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
    params = with_first_kernel(params, 1 / row.pop("kernel"))
    changed: Any = Changed(problem, **row)
    return changed, params, key


def _map(
    train: Any, shared: Any, steps: int, axes: Sequence[np.ndarray], width: int
) -> Any:
    """`devices.map_runs` of runs in an array of any shape.

    Args:
        train: from `_trainer`.
        shared: its first arguments.
        steps: updates.
        axes: condition, rate and seed, arrays of one shape.
        width: runs in a chunk.

    Returns:
        Evaluations [...], of that shape.
    """
    from study import devices

    shared = (*shared, np.array([steps], np.int32))
    kinds = (np.int32, shared[2]["factor"].dtype, np.int32)
    flat = [axis.ravel().astype(kind) for axis, kind in zip(axes, kinds, strict=True)]
    found = devices.map_runs(train, shared, flat, width)
    return {name: values.reshape(axes[0].shape) for name, values in found.items()}


def _first_steps(
    experiment: LossScaleInTheWild, problem: Problem, optimizer: Optimizer, shared: Any
) -> dict[str, Any]:
    """The first update against the plain one at equal rate and batch, as functions.

    An update of a kernel that acts on pixels times 255 counts 255 times. `length` and
    `cosine` [condition, seed, leaf], `whole_length` and `whole_cosine` [condition, seed]:
    NaN where the start is another function. `start_loss` [condition, seed].
    """
    import jax
    import jax.numpy as jnp

    from study import devices, train

    def first(data: Any, starts: Any, rows: Any, condition: Any, seed: Any) -> Any:
        changed, params, key = begin(problem, starts, rows, condition, seed)
        rate = jnp.asarray(1.0, problem.dtype)
        state = train.start(optimizer, rate, params, shadowed=False)
        t = jnp.zeros((), jnp.int32)
        step = train.step(changed, optimizer, data, rate, key, state, t)[1]
        return step.loss, with_first_kernel(step.update, rows["kernel"][condition])

    shape = (len(experiment.conditions), experiment.seeds)
    runs = [axis.ravel().astype(np.int32) for axis in np.indices(shape)]
    start, update = devices.map_runs(first, shared, runs)
    products = [against_plain(leaf.reshape(*shape, -1)) for leaf in jax.tree.leaves(update)]
    same = np.array([CONDITIONS[name].same_start for name in experiment.conditions])
    out: dict[str, Any] = {"start_loss": (("condition", "seed"), start.reshape(shape))}
    by_leaf = np.stack(products, axis=-1)
    for prefix, parts in (("", by_leaf), ("whole_", by_leaf.sum(-1))):
        own, plain, both = parts
        known = same.reshape(-1, *[1] * (own.ndim - 1))
        with np.errstate(all="ignore"):
            found = {"length": np.sqrt(own / plain), "cosine": both / np.sqrt(own * plain)}
        dims = ("condition", "seed", "leaf")[: own.ndim]
        for name, values in found.items():
            out[prefix + name] = (dims, np.where(known, values, np.nan))
    return out


def against_plain(updates: np.ndarray) -> np.ndarray:
    """Squared lengths, those of the plain updates, and products with them.

    Args:
        updates: [condition, seed, element], the first condition plain.

    Returns:
        [3, condition, seed].
    """
    own = updates.astype(np.float64)
    plain = np.broadcast_to(own[:1], own.shape)
    pairs = ((own, own), (plain, plain), (own, plain))
    return np.stack([(a * b).sum(-1) for a, b in pairs])


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """`objective` [optimizer, condition, learning_rate], the median that selects; rest."""
    order = ("optimizer", "condition", "learning_rate", "chosen")
    losses = dataset.validation.transpose(*order).values
    medians = np.median(statistics.worst(losses), axis=-1)
    return dataset.drop_vars("validation").assign(objective=(order[:3], medians))


# Verdicts ---------------------------------------------------------------------------------


def record(
    results: Results, name: str, rule: str, condition: str, tuning: str | None = None
) -> np.ndarray:
    """A record [seed, ...] of a rule under a condition."""
    at = results.selected(results.experiment.problem)[name]
    at = at.sel(optimizer=rule, condition=condition)
    return (at if tuning is None else at.sel(tuning=tuning)).values


def loss(results: Results, rule: str, condition: str, tuning: str) -> np.ndarray:
    """Test cross-entropy [seed]; inf where not finite."""
    return statistics.worst(record(results, "test_loss", rule, condition, tuning))


def over(
    results: Results, rule: str, condition: str, tuning: str, base: str = "plain"
) -> np.ndarray:
    """Test cross-entropy over that of another condition at the plain rate [seed]."""
    with np.errstate(invalid="ignore"):
        return loss(results, rule, condition, tuning) / loss(results, rule, base, "plain")


def lost(results: Results, rule: str, condition: str, tuning: str) -> np.ndarray:
    """Points of test accuracy in 100 [seed] less than the plain ones."""
    plain = record(results, "test_accuracy", rule, "plain", "plain")
    return 100 * (plain - record(results, "test_accuracy", rule, condition, tuning))


def _first(name: str) -> Values:
    """A record of the first step."""
    return lambda results, rule, condition, _: record(results, name, rule, condition)


def _leaf(leaf: str, base: str | None = None) -> Values:
    """Length of a leaf's first step over the plain one; over another leaf's."""

    def values(results: Results, rule: str, condition: str, _: str) -> np.ndarray:
        found = results.selected(results.experiment.problem).length
        found = found.sel(optimizer=rule, condition=condition)
        own = found.sel(leaf=leaf).values
        return own if base is None else own / found.sel(leaf=base).values

    return values


def _share(results: Results, rule: str, condition: str, tuning: str) -> np.ndarray:
    """What a tenth of the loss costs over what the condition costs, in logarithms."""
    both = [over(results, rule, name, tuning) for name in ("loss / 10", condition)]
    with np.errstate(all="ignore"):
        return np.log(both[0]) / np.log(both[1])


def _shift(results: Results, rule: str, condition: str, _: str) -> np.ndarray:
    own, plain = (record(results, "rate", rule, c, "own") for c in (condition, "plain"))
    return np.atleast_1d(own / plain)


FIRST, LAST = "layers.0.kernel", "layers.2.kernel"
STEPS: dict[str, Values] = {
    "first step: length over the plain one": _first("whole_length"),
    "first step: cosine with the plain one": _first("whole_cosine"),
    "first step: length of the first kernel over the plain one": _leaf(FIRST),
    "first step: length of the first bias over the plain one": _leaf("layers.0.bias"),
    "first step: the first kernel's length over the last's": _leaf(FIRST, LAST),
    "selected rate over the plain one": _shift,
}
ENDS: dict[str, Values] = {
    "test loss": loss,
    "test loss over the plain one": over,
    "points of test accuracy lost": lost,
    "test loss over that with p weights": lambda *at: over(*at, base="p weights"),
    "cost of a tenth of the loss over this cost, in logarithms": _share,
}
LENGTH, COSINE, KERNEL, BIAS, LEAVES, RATE = STEPS
LOSS, OVER, LOST, ALIKE, SHARE = ENDS
FIRST_STEP = {"first_step": LENGTH, "first_cosine": COSINE, "first_kernel": KERNEL}


def _judged(what: str, rule: str, condition: str, tuning: str) -> Any:
    """A measure: the median, with the range of all seeds for what has a closed form."""

    def measure(results: Results) -> Estimate:
        if what in ENDS:
            return statistics.bootstrap(ENDS[what](results, rule, condition, tuning))
        found = STEPS[what](results, rule, condition, tuning)
        low, middle, high = np.quantile(found, (0.0, 0.5, 1.0))  # NaN if one of them is
        return Estimate(float(middle), float(low), float(high), len(found))

    return measure


def _predict(
    condition: str, tuning: str, what: str, rules: Sequence[str], low: float, high: float
) -> Iterator[Prediction]:
    """One prediction for each rule, in [low, high]."""
    own = what in ENDS or what == COSINE or high / low > 2  # a wide band is no algebra
    bounds = f"{low:.5g} to {high:.5g}"
    if not math.isfinite(low) or not math.isfinite(high):
        bounds = f"at most {high:.5g}" if math.isfinite(high) else f"at least {low:.5g}"
    at = f", {tuning} rate" if what in ENDS else ""
    for rule in rules:
        yield Prediction(
            f"{condition}{at}: {rule}, {what}: {bounds}",
            OWN if own else ALGEBRA,
            _judged(what, rule, condition, tuning),
            at_least=low,
            at_most=high,
        )


def _near(value: float, within: float = 0.01) -> tuple[float, float]:
    return value * (1 - within), value * (1 + within)


ALGEBRA = "algebra; tolerance for epsilon, rounding and the grid"
OWN = "own expectation, fixed before the run"
CHANCE, ANY = math.log(10), math.inf
SEEING, SIGNS = ("SGD", "Momentum"), ("NormalisedByLeaf", "SignDescent", "Adam")
BLIND, TRUST = ("NormalisedGD", *SIGNS, "LAMB"), ("LARS", "LAMB")
JUDGED = ("SGD", "SignDescent", "Adam")
PREDICTIONS = tuple(
    prediction
    for row in (
        ("loss x 256", "plain", LENGTH, SEEING, *_near(256)),
        ("loss x 256", "plain", LENGTH, BLIND, *_near(1)),
        ("loss x 256", "plain", KERNEL, ("LARS",), *_near(1)),
        ("loss x 256", "plain", BIAS, ("LARS",), *_near(256)),
        ("loss x 256", "plain", COSINE, ("Adagrad",), -ANY, 0.95),
        ("loss x 256", "plain", LOSS, SEEING, CHANCE, ANY),
        ("loss x 256", "plain", OVER, BLIND, 0.95, 1.05),
        ("loss x 256", "plain", OVER, ("LARS",), 2.0, ANY),
        ("loss x 256", "own", OVER, SEEING, *_near(1)),
        ("loss x 256", "own", RATE, SEEING, *_near(1 / 256)),
        ("same function", "plain", KERNEL, SEEING, *_near(255**2)),
        ("same function", "plain", KERNEL, SIGNS, *_near(255)),
        ("same function", "plain", KERNEL, TRUST, *_near(1)),
        ("same function", "plain", LEAVES, ("NormalisedGD",), *_near(255**2)),
        ("same function", "plain", LOSS, SEEING, CHANCE, ANY),
        ("same function", "plain", OVER, SIGNS, 3.0, ANY),
        ("same function", "plain", OVER, TRUST, 0.95, 1.05),
        ("same function", "own", OVER, JUDGED, 1.2, ANY),
        ("same function", "own", RATE, ("SGD",), 0.25 / 255**2, 4 / 255**2),
        ("same function", "own", RATE, ("SignDescent", "Adam"), 0.25 / 255, 4 / 255),
        ("255", "plain", LOSS, ("SGD",), CHANCE, ANY),
        ("255", "plain", LOST, ("Adam",), -ANY, 5.0),
        ("255", "plain", OVER, ("Adam",), 3.0, ANY),
        ("minus p", "plain", LENGTH, ("SGD",), 0.03, 0.3),
        ("minus p", "plain", COSINE, JUDGED, -ANY, 0.95),
        ("minus p", "plain", OVER, ("SGD",), 1.2, ANY),
        ("minus p", "plain", SHARE, ("SGD",), 0.5, ANY),
        ("minus p", "plain", ALIKE, ("NormalisedGD",), 0.95, 1.05),
        ("minus p", "own", LOST, JUDGED, -ANY, 2.0),
        ("minus p", "own", OVER, JUDGED, 1.2, ANY),
        ("255, minus p", "own", LOST, ("SGD",), 20.0, ANY),
        ("standardised", "plain", OVER, ("SGD", "Adam"), -ANY, 1.0),
    )
    for prediction in _predict(*row)
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, condition and tuning: medians over seeds.

    `over_plain` is over the plain condition's loss at its rate after `steps`.
    """
    del manifest
    experiment: Any = results.experiment
    for rule in map(str, experiment.optimizers):
        for condition in experiment.conditions:
            for tuning in TUNINGS:
                at = (results, rule, condition, tuning)
                test, ratio = (statistics.bootstrap(f(*at)) for f in (loss, over))
                right = statistics.bootstrap(record(results, "test_accuracy", *at[1:]))
                numbers = {
                    "learning_rate": record(results, "rate", *at[1:]),
                    "at_edge": record(results, "at_edge", rule, condition),
                    "test_loss": test.value,
                    "test_loss_low": test.low,
                    "test_loss_high": test.high,
                    "over_plain": ratio.value,
                    "over_plain_low": ratio.low,
                    "over_plain_high": ratio.high,
                    "test_accuracy": right.value,
                    "test_accuracy_low": right.low,
                    "test_accuracy_high": right.high,
                    "classes_lost": np.median(record(results, "classes_lost", *at[1:])),
                    **{  # once, for they have no tuning
                        k: np.median(STEPS[what](*at)) if tuning == "plain" else np.nan
                        for k, what in FIRST_STEP.items()
                    },
                }
                numbers = {k: float(f"{float(x):.5g}") for k, x in numbers.items()}
                yield {
                    "optimizer": rule,
                    "condition": condition,
                    "rate_of": tuning,
                } | numbers


# Figure -----------------------------------------------------------------------------------

SHOWN = {"plain": "a  Accuracy in %, old rate", "accuracy": "b  Accuracy in %, new rate"}


def draw(results: Results) -> dict[str, Figure]:
    """Test accuracy by rule and condition, at the plain rate and at the best of its own."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(1, 2, height=3.5)
    rules, names = experiment.optimizers, experiment.conditions
    columns = [CONDITIONS[name].title for name in names]
    for panel, (tuning, title) in zip(axes[0], SHOWN.items(), strict=True):
        found = [
            [record(results, "test_accuracy", str(rule), name, tuning) for name in names]
            for rule in rules
        ]
        labels = [rule.title if tuning == "plain" else "" for rule in rules]
        values = 100 * np.median(found, axis=-1)
        figures.heat_table(panel, values, labels, columns, low=0, high=100)
        for label in panel.get_xticklabels():
            label.set(rotation=50, ha="right", rotation_mode="anchor", fontsize=7)
        panel.set_title(title)
    figures.note(figure, figures.medians(results.count(), bands=False))
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
