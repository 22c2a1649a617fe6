"""Does a transformer of 150 weights need Adam, and for which half of its update?

Question.   Adam trains transformers faster than momentum. On a linear transformer that
            learns regression in context the gap is there with 150 weights. Is it the
            direction of Adam's steps or their length, each element's scale or each layer's?
Prediction. After 2,000 steps the loss of AdamW is below 0.3 of momentum's, at the rates of
            the source and at selected ones. The direction carries most of it: momentum's
            lengths along AdamW's direction end near AdamW; AdamW's lengths of the whole
            step along momentum's direction do not, leaf by leaf they close half the gap.
            Clipping the gradient, as the source does, matters to momentum alone.
Varied.     Scientific: rule; the rule that gives the length and that which gives the
            direction; clipping. Nuisance: learning rate, selected on two seeds of their own
            by the mean loss of steps 1,951 to 2,000. Six seeds of starts and batches, as
            in the source. Fixed: dimension 5, 20 examples, three layers; 3,000 steps.
            Batches of 250 prompts, so that the grid is affordable; at the rates that an
            independent run has values for, of 1,000 as in the source. All prompts are new,
            so a mean training loss over 50 steps is one of generalisation, too.
Cost.       A minute and a half on two CPU cores; the first cell runs all rules together.

    python -m experiments.linear_transformer             run, store, judge, draw
    python -m experiments.linear_transformer --draw      draw stored records again

Ahn et al. (2024), arXiv:2310.01082 (abstract; their code read, `linear_transformer.py` and
`train.ipynb` of chengxiang/LinearTransformer: clipping of the whole gradient to 1, momentum
0.9, AdamW with both decays 0.9 and no weight decay, 0.02 for normal data, seeds 0 to 5).
Normalised momentum is m / |m|; whether the independent run averaged before or after is not
known, so momentum of unit gradients is run too.
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
from study.problems import InContextRegression
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class LinearTransformer(Comparison):
    """Rules and their halves on one problem: a grid, selected rates, published rates."""

    learning_rates: tuple[float, ...] = (
        *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    )
    """The grid of the rule that gives the length."""
    steps: int = 3_000
    """Updates in a run."""
    selected_at: int = 2_000
    """Updates in a run of the grid; the rate counts by its last steps."""
    window: int = 50
    """Steps over which records are averaged; divides `steps` and all others."""
    horizons: tuple[int, ...] = (500, 1_000, 2_000, 3_000)
    """Steps at whose window losses are judged."""
    source_batch: int = 1_000
    """Prompts in a batch at the published rates."""
    seeds: int = 6
    """Reported, of starts and batches."""
    selection_seeds: int = 2
    """Only to select the rates."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "horizons")
        for name in ("seeds", "selection_seeds", "window", "source_batch"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        for name in ("steps", "selected_at"):
            if getattr(self, name) < 1 or getattr(self, name) % self.window:
                self.refuse(name, "a positive multiple of the window")
        if any(not 0 < h <= self.steps or h % self.window for h in self.horizons):
            self.refuse("horizons", "multiples of the window, at most steps")

    @property
    def windows(self) -> range:
        """Their ends, in steps."""
        return range(self.window, self.steps + 1, self.window)

    @property
    def stops(self) -> tuple[int, ...]:
        """Ends of the windows kept in detail: the first, and the horizons."""
        return tuple(sorted({self.window, *self.horizons}))


DEFAULT = LinearTransformer(
    problem=InContextRegression(batch_size=250),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.Signum(),
        optimizers.Adam(),
        optimizers.AdamW(b2=0.9, weight_decay=0.0),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=InContextRegression(dimension=2, context=2, layers=1, batch_size=2),
        optimizers=(optimizers.Momentum(),),
        learning_rates=(0.02,),
        steps=2,
        selected_at=2,
        window=1,
        horizons=(1, 2),
        source_batch=2,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=InContextRegression(),
        steps=10_000,
        horizons=(500, 1_000, 2_000, 3_000, 10_000),
        selection_seeds=4,
    ),
}
SGD, MOMENTUM, CONSTANT, SIGNUM, ADAM, ADAMW = map(str, DEFAULT.optimizers)


class Condition(NamedTuple):
    """Whose length along whose direction.

    Attributes:
        magnitude: string of the rule that gives the length, at the rate of the run.
        direction: string of the rule that gives the direction.
        by_leaf: lengths leaf by leaf, not of the whole vector.
        gradient: what all rules see, one of `GRADIENTS`.
    """

    magnitude: str
    direction: str
    by_leaf: bool = False
    gradient: str = "clipped"


GRADIENTS = ("whole", "clipped", "unit")
"""The gradient as it is, clipped to a norm of 1, or divided by its norm."""
CONDITIONS = {
    "SGD": Condition(SGD, SGD),
    "momentum": Condition(MOMENTUM, MOMENTUM),
    "normalised momentum": Condition(CONSTANT, MOMENTUM),
    "Signum": Condition(SIGNUM, SIGNUM),
    "Adam, b2 = 0.999": Condition(ADAM, ADAM),
    "AdamW": Condition(ADAMW, ADAMW),
    "momentum's length along AdamW": Condition(MOMENTUM, ADAMW),
    "AdamW's length along momentum": Condition(ADAMW, MOMENTUM),
    "AdamW's length by leaf along momentum": Condition(ADAMW, MOMENTUM, by_leaf=True),
    "constant length along AdamW": Condition(CONSTANT, ADAMW),
    "momentum, not clipped": Condition(MOMENTUM, MOMENTUM, gradient="whole"),
    "AdamW, not clipped": Condition(ADAMW, ADAMW, gradient="whole"),
    "momentum of unit gradients": Condition(MOMENTUM, MOMENTUM, gradient="unit"),
}
PUBLISHED = {
    ("momentum", 0.02): (0.036, 0.022, 0.019, 0.017),
    ("momentum", 0.05): (0.021, 0.016, 0.013, 0.010),
    ("AdamW", 0.02): (0.0038, 0.0023, 0.0011, 0.0012),
    ("Signum", 0.002): (0.10, 0.03, 0.012, 0.006),
    ("normalised momentum", 0.01): (0.03, 0.016, 0.009, 0.0024),
}
"""Losses of an independent run, two seeds, at steps 500, 1,000, 2,000 and 3,000."""
BESIDE = (("momentum of unit gradients", 0.01), ("momentum of unit gradients", 0.001))
"""What that run may have called normalised momentum: a sum, or an average."""


def crossed(
    rules: tuple[Optimizer, ...],
    magnitude: Any,
    direction: Any,
    by_leaf: Any,
    gradient: Any,
) -> Any:
    """One rule's length along another's direction, on gradients made shorter or not.

    Everything but the rules is traced, so that one program serves every condition;
    `gradient` is the index [] of what they see, of GRADIENTS.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from study import trajectories, transforms, trees

    def shorter(grads: Any, params: Any) -> Any:
        del params
        norm = trees.norm(grads)
        divisors = jnp.stack([jnp.ones_like(norm), jnp.maximum(norm, 1), norm])
        return jax.tree.map(lambda g: g / divisors[gradient], grads)

    def build(rate: Any) -> Any:
        made = [rule.build(rate) for rule in rules]
        both = transforms.cross(made, magnitude, direction, by_leaf)
        return optax.chain(optax.stateless(shorter), both)

    return trajectories.Made(build)


def run_cell(
    experiment: LinearTransformer,
    problem: InContextRegression,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """What `run_all` found in the conditions whose length is this rule's, else NaN."""
    import xarray as xr

    from study import devices, sweep, trees

    begun = time.perf_counter()
    with devices.precision(problem.dtype):
        found = run_all(experiment, problem)
        leaves = trees.names(sweep.starts(problem, (0,))[0])
    progress(1.0)
    settings = published(experiment)
    owner = str(optimizer)
    mine = {
        "condition": [CONDITIONS[n].magnitude == owner for n in chosen(experiment)],
        "setting": [CONDITIONS[n].magnitude == owner for n, _ in settings],
    }
    dataset = xr.Dataset(
        {name: (dims, found[name]) for name, dims in DIMENSIONS.items()},
        {
            "condition": list(chosen(experiment)),
            "setting": [f"{name} {rate:g}" for name, rate in settings],
            "learning_rate": list(experiment.learning_rates),
            "until": np.asarray(experiment.windows, np.int32),
            "stop": np.asarray(experiment.stops, np.int32),
            "leaf": list(leaves),
        },
    )
    for axis, own in mine.items():
        parts = [name for name, dims in DIMENSIONS.items() if dims[0] == axis]
        dataset.update(dataset[parts].where(xr.DataArray(own, dims=axis)))
    return sweep.finish(dataset, problem, optimizer, begun, sum(mine["condition"]))


DIMENSIONS = {
    "objective": ("condition", "learning_rate", "selection_seed"),
    "rate": ("condition",),
    "at_edge": ("condition",),
    "loss": ("condition", "seed", "until"),
    "turn": ("condition", "seed", "stop"),
    "norm": ("condition", "seed", "stop"),
    "largest": ("condition", "seed", "stop"),
    "cut": ("condition", "seed", "stop"),
    "leaf_norm": ("condition", "seed", "stop", "leaf"),
    "leaf_update": ("condition", "seed", "stop", "leaf"),
    "source_loss": ("setting", "seed", "until"),
}
KEPT = tuple(DIMENSIONS)


def chosen(experiment: LinearTransformer) -> tuple[str, ...]:
    """The conditions whose rules are there."""
    rules = set(map(str, experiment.optimizers))
    return tuple(
        name for name, c in CONDITIONS.items() if {c.magnitude, c.direction} <= rules
    )


def published(experiment: LinearTransformer) -> tuple[tuple[str, float], ...]:
    """The conditions and rates with published losses, and those beside them."""
    there = chosen(experiment)
    return tuple(setting for setting in (*PUBLISHED, *BESIDE) if setting[0] in there)


@functools.lru_cache(maxsize=1)
def run_all(
    experiment: LinearTransformer, problem: InContextRegression
) -> dict[str, np.ndarray]:
    """All conditions side by side, for a batch costs as much as a few gradients.

    Returns:
        The arrays of `DIMENSIONS`: `objective`, the loss that selects; the selected
        `rate` and whether it is `at_edge`; at that rate, averaged over each window, the
        `loss`, `turn`, the cosine of the update with minus momentum's average, `norm` of
        the gradient, the `largest` one, the share of steps `cut` by clipping, and the norm
        of each leaf of gradient and update; `source_loss` at the published rates.
    """
    names, rates = chosen(experiment), np.asarray(experiment.learning_rates)
    grid = [(name, rate) for name in names for rate in rates]
    later = range(experiment.seeds, experiment.seeds + experiment.selection_seeds)
    trained = functools.partial(_train, experiment)
    losses = trained(problem, grid, tuple(later), experiment.selected_at)["loss"][..., -1]
    objective = losses.T.reshape(len(names), len(rates), len(later))
    selections = [statistics.select(values) for values in objective]
    picked = [rates[selection.place] for selection in selections]
    seeds = tuple(range(experiment.seeds))
    found = trained(problem, list(zip(names, picked, strict=True)), seeds, experiment.steps)
    source = dataclasses.replace(problem, batch_size=experiment.source_batch)
    settings = list(published(experiment))
    by_source = trained(source, settings, seeds, experiment.steps)["loss"]
    places = np.asarray(experiment.stops) // experiment.window - 1
    some = {name: x if name == "loss" else x[:, :, places] for name, x in found.items()}
    known = np.array([selection.found for selection in selections])
    return {
        "objective": objective,
        "rate": np.where(known, picked, np.nan),
        "at_edge": np.where(known, [float(s.at_edge) for s in selections], np.nan),
        "source_loss": by_source.swapaxes(0, 1),
    } | {name: x.swapaxes(0, 1) for name, x in some.items()}


def _train(
    experiment: LinearTransformer,
    problem: InContextRegression,
    settings: list[tuple[str, float]],
    seeds: tuple[int, ...],
    steps: int,
) -> dict[str, np.ndarray]:
    """Records [seed, setting, window, ...] of conditions at rates."""
    import jax

    from study import devices, sweep

    rules = list(map(str, experiment.optimizers))
    wanted = [CONDITIONS[name] for name, _ in settings]
    runs = (
        np.asarray([rules.index(c.magnitude) for c in wanted], np.int32),
        np.asarray([rules.index(c.direction) for c in wanted], np.int32),
        np.asarray([c.by_leaf for c in wanted]),
        np.asarray([GRADIENTS.index(c.gradient) for c in wanted], np.int32),
        np.asarray([rate for _, rate in settings], problem.dtype),
    )
    window = experiment.window
    run = _trainer(problem, experiment.optimizers, window, steps // window)
    by_run, replicated = devices.shardings()
    short = -len(seeds) % jax.local_device_count()
    places = np.pad(np.arange(len(seeds), dtype=np.int32), (0, short), "edge")
    shared = jax.device_put((sweep.starts(problem, seeds), runs), replicated)
    found = run(*shared, jax.device_put(places, by_run))
    return jax.tree.map(lambda x: np.asarray(x)[: len(seeds)], found)


@functools.lru_cache(maxsize=4)
def _trainer(
    problem: InContextRegression, rules: tuple[Optimizer, ...], window: int, windows: int
) -> Any:
    """(starts, runs, seeds) -> records [seed, run, window, ...].

    The runs of a seed share their batches; a device takes its seeds one by one, for XLA is
    slow where products have two axes of batches (measured: eight times).
    """
    import jax
    import jax.numpy as jnp

    from study import devices, train

    def run(starts: Any, runs: Any, seed: Any) -> Any:
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)

        def one(*condition: Any) -> Any:
            rule = crossed(rules, *condition[:-1])
            rate = condition[-1]

            def advance(carry: Any, t: Any) -> Any:
                state, average = carry
                state, step = train.step(problem, rule, {}, rate, key, state, t)
                average = jax.tree.map(lambda m, g: 0.9 * m + g, average, step.grad)
                return (state, average), _seen(step, average)

            def through(carry: Any, first: Any) -> Any:
                carry, seen = jax.lax.scan(advance, carry, first + jnp.arange(window))
                means = jax.tree.map(lambda x: x.mean(0), seen)
                return carry, means | {"largest": seen["norm"].max(0)}

            begin = train.start(rule, rate, params, shadowed=False)
            zero = jax.tree.map(jnp.zeros_like, params)
            firsts = window * jnp.arange(windows)
            return jax.lax.scan(through, (begin, zero), firsts)[1]

        return jax.vmap(one)(*runs)

    by_run, replicated = devices.shardings()
    each = lambda starts, runs, seeds: jax.lax.map(  # noqa: E731
        lambda seed: run(starts, runs, seed), seeds
    )
    mapped = jax.shard_map(
        each,
        mesh=by_run.mesh,
        in_specs=(replicated.spec, replicated.spec, by_run.spec),
        out_specs=by_run.spec,
        check_vma=False,
    )
    return devices.jit(mapped)


def _seen(step: Any, average: Any) -> dict[str, Any]:
    """What is recorded of a step."""
    from study import trees

    norm = trees.norm(step.grad)
    return {
        "loss": step.loss,
        "turn": trees.cosine(step.update, average, opposite=True),
        "norm": norm,
        "cut": (norm > 1).astype(norm.dtype),
        "leaf_norm": trees.norm(step.grad, by_leaf=True),
        "leaf_update": trees.norm(step.update, by_leaf=True),
    }


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """The conditions and settings of all cells together, without `optimizer`."""
    import xarray as xr

    parts = {}
    for axis in ("condition", "setting"):
        names = [str(name) for name in dataset[axis].values]
        owners = [CONDITIONS[_condition(name)].magnitude for name in names]
        place = {
            axis: xr.DataArray(names, dims=axis),
            "optimizer": xr.DataArray(owners, dims=axis),
        }
        mine = dataset[[n for n, dims in DIMENSIONS.items() if dims[0] == axis]]
        parts |= mine.sel(place).drop_vars("optimizer").data_vars
    return xr.Dataset(parts, attrs={"problem": dataset.attrs["problem"]})


def _condition(name: str) -> str:
    """Of a setting, or a condition itself."""
    return name if name in CONDITIONS else name.rpartition(" ")[0]


# Verdicts ---------------------------------------------------------------------------------

JUDGED = 2_000
"""The step of the test."""


def loss(results: Results, name: str, step: int = JUDGED) -> np.ndarray:
    """Mean loss [seed] of the window that ends there, at the selected rate; inf if lost."""
    records = results.selected(results.experiment.problem).loss
    return statistics.worst(records.sel(condition=name, until=step).values)


def source_loss(results: Results, name: str, rate: float, step: int) -> np.ndarray:
    """The same at a published rate, with the batches of the source."""
    records = results.selected(results.experiment.problem).source_loss
    return statistics.worst(records.sel(setting=f"{name} {rate:g}", until=step).values)


def over(name: str, base: str) -> Callable[[Results], Estimate]:
    """Loss of a condition over that of another, paired by seed."""

    def measure(results: Results) -> Estimate:
        with np.errstate(invalid="ignore"):
            return statistics.bootstrap(loss(results, name) / loss(results, base))

    return measure


def closed(name: str) -> Callable[[Results], Estimate]:
    """Share of the logarithmic gap from momentum to AdamW that a condition closes."""

    def measure(results: Results) -> Estimate:
        momentum, adamw, own = (
            np.log(loss(results, rule)) for rule in ("momentum", "AdamW", name)
        )
        return statistics.bootstrap((momentum - own) / (momentum - adamw))

    return measure


def carried(results: Results) -> Estimate:
    """Share of the logarithmic gap that the direction carries, the magnitude the rest.

    The main effect of the direction over both in the two by two table.
    """
    mm, ma, am, aa = (
        np.log(loss(results, name))
        for name in (
            "momentum",
            "momentum's length along AdamW",
            "AdamW's length along momentum",
            "AdamW",
        )
    )
    direction, magnitude = mm + am - ma - aa, mm + ma - am - aa
    return statistics.bootstrap(direction / (direction + magnitude))


def _spread(results: Results, name: str, stop: int) -> np.ndarray:
    """Largest over smallest leaf of the gradients [seed] in the window that ends there.

    The last P, which has none, is left out.
    """
    records = results.selected(results.experiment.problem).leaf_norm
    values = records.sel(condition=name, stop=stop).values[:, _told(results)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return values.max(1) / values.min(1)


def _told(results: Results) -> np.ndarray:
    """Places of the leaves whose gradient is not 0 whatever they are."""
    records = results.selected(results.experiment.problem)
    last = max(str(leaf) for leaf in records.leaf.values if "P" in str(leaf))
    return np.flatnonzero(records.leaf.values != last)


def _untold(results: Results) -> Estimate:
    """The largest gradient norm of the last P in any condition kept."""
    records = results.selected(results.experiment.problem).leaf_norm
    rest = np.setdiff1d(np.arange(records.sizes["leaf"]), _told(results))
    return statistics.exact(np.nanmax(records.values[..., rest]), records.sizes["seed"])


def _tail(results: Results) -> Estimate:
    """Largest gradient norm over the mean in the last window before the test, AdamW."""
    records = results.selected(results.experiment.problem)
    at = records.sel(condition="AdamW", stop=JUDGED)
    return statistics.bootstrap((at.largest / at.norm).values)


RUN = "Ahn et al. 2024, code read; value of an independent calibration run of two seeds"
OWN = "own expectation"
ALONG = "momentum's length along AdamW"
BY_LEAF = "AdamW's length by leaf along momentum"
FACTOR = 1.5


def _replication(name: str, rate: float, place: int) -> Prediction:
    """One published loss."""
    step, value = (500, 1_000, 2_000, 3_000)[place], PUBLISHED[name, rate][place]
    return Prediction(
        f"batches of 1,000, {name} at {rate:g}, steps to {step:,}: "
        f"loss within a factor of {FACTOR} of {value:g}",
        f"{RUN}; band own",
        lambda results: statistics.bootstrap(source_loss(results, name, rate, step)),
        at_least=value / FACTOR,
        at_most=value * FACTOR,
        published=value,
    )


def _source_gap(results: Results) -> Estimate:
    pair = [
        source_loss(results, n, r, JUDGED) for n, r in (("AdamW", 0.02), ("momentum", 0.05))
    ]
    return statistics.bootstrap(pair[0] / pair[1])


SELECTED: Any = (
    (
        "AdamW below 0.3 of momentum",
        "Ahn et al. 2024, abstract; threshold of an independent calibration run",
        over("AdamW", "momentum"),
        *(-np.inf, 0.3),
    ),
    (
        "Signum closes half the logarithmic gap from momentum to AdamW or more",
        "Kunstner et al. 2023, abstract, for language models; threshold own",
        closed("Signum"),
        *(0.5, np.inf),
    ),
    (
        "normalised momentum closes half of it or less",
        "Kunstner et al. 2023, abstract, for language models; threshold own",
        closed("normalised momentum"),
        *(-np.inf, 0.5),
    ),
    ("the direction carries two thirds of it or more", OWN, carried, 2 / 3, np.inf),
    (f"{ALONG} at most 1.5 of AdamW", OWN, over(ALONG, "AdamW"), -np.inf, 1.5),
    (
        "constant length along AdamW at most twice AdamW",
        OWN,
        over("constant length along AdamW", "AdamW"),
        *(-np.inf, 2.0),
    ),
    (f"{BY_LEAF} closes half the gap or more", OWN, closed(BY_LEAF), 0.5, np.inf),
    (
        "AdamW without clipping within a factor of 1.5 of AdamW",
        OWN,
        over("AdamW, not clipped", "AdamW"),
        *(1 / FACTOR, FACTOR),
    ),
    (
        "momentum without clipping no lower than momentum",
        "Ahn et al. 2024, code read: gradients are clipped; threshold own",
        over("momentum, not clipped", "momentum"),
        *(1.0, np.inf),
    ),
)
"""What, why, and the limits of the value."""
PREDICTIONS = (
    Prediction(
        "batches of 1,000, step 2,000: AdamW at 0.02 below 0.3 of momentum at 0.05",
        f"{RUN}; its threshold",
        _source_gap,
        at_most=0.3,
        published=0.0011 / 0.013,
    ),
    *(_replication(*setting, place) for setting in PUBLISHED for place in range(4)),
    *(
        Prediction(f"selected rates, step 2,000: {text}", source, measure, low, high)
        for text, source, measure, low, high in SELECTED
    ),
    Prediction(
        "first 50 steps: the leaves' gradients differ by a factor of 5 or more",
        OWN + ": P acts through the small Q",
        lambda results: statistics.bootstrap(_spread(results, "AdamW", 50)),
        at_least=5.0,
    ),
    Prediction(
        "the last P has a gradient of 0",
        "closed form: no label depends on it",
        _untold,
        0,
        0,
    ),
    Prediction(
        "AdamW, steps to 2,000: largest gradient of 50 is 3.2 means or more, above normal",
        "Ahn et al. 2024, abstract: heavy-tailed noise; 3.1 is one normal element's",
        _tail,
        at_least=3.2,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each condition and horizon, then for each published setting."""
    del manifest
    experiment: Any = results.experiment
    records = results.selected(experiment.problem)
    for name in map(str, records.condition.values):
        for step in experiment.horizons:
            at = records.sel(condition=name, stop=step)
            batch, values = experiment.problem.batch_size, loss(results, name, step)
            row = _row(name, batch, step, float(at.rate), values)
            yield row | {
                "at_edge": float(at.at_edge),
                "cosine_with_momentum": float(at.turn.median()),
                "gradient_norm": float(at.norm.median()),
                "largest_over_mean": float((at.largest / at.norm).median()),
                "share_clipped": float(at["cut"].median()),
                "leaf_spread": statistics.bootstrap(_spread(results, name, step)).value,
            }
    for name, rate in published(experiment):
        for step in experiment.horizons:
            values = source_loss(results, name, rate, step)
            yield _row(name, experiment.source_batch, step, rate, values)


def _row(
    name: str, batch: int, step: int, rate: float, values: np.ndarray
) -> dict[str, Any]:
    estimate = statistics.bootstrap(values)
    measured = (
        *("at_edge", "cosine_with_momentum", "gradient_norm", "largest_over_mean"),
        *("share_clipped", "leaf_spread"),
    )
    return {
        "condition": name,
        "batch_size": batch,
        "steps": step,
        "learning_rate": rate,
        "loss": estimate.value,
        "loss_low": estimate.low,
        "loss_high": estimate.high,
    } | dict.fromkeys(measured, np.nan)


# Figure -----------------------------------------------------------------------------------

CURVES = (
    *("SGD", "momentum", "normalised momentum", "Signum", "Adam, b2 = 0.999", "AdamW"),
    BY_LEAF,
)
LEAPING = ("SGD", "momentum", "Adam, b2 = 0.999")
"""Now and then one of their runs leaps up: their bands would cover the panel."""


def draw(results: Results) -> dict[str, Figure]:
    """Loss against step; loss by length and direction; gradients and updates by leaf."""
    from study import figures

    figure, axes = figures.panels(1, 3, height=2.9, width_ratios=(1.25, 1, 1.1))
    _draw_curves(axes[0, 0], results)
    _draw_halves(axes[0, 1], results)
    _draw_leaves(axes[0, 2], results)
    figures.legend(figure, axes[0, 0], columns=3)
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_curves(axes: Axes, results: Results) -> None:
    from study import figures

    experiment: Any = results.experiment
    records = results.selected(experiment.problem)
    looks = figures.look(experiment.optimizers)
    names = [name for name in CURVES if name in records.condition.values]
    for place, name in enumerate(names):
        values = records.loss.sel(condition=name).values
        shown = looks[CONDITIONS[name].magnitude] | {"label": name, "lw": 1.1}
        if name == BY_LEAF:
            shown |= {"color": "#e08a00", "linestyle": "-", "marker": "X"}
            shown["label"] = "momentum, AdamW's length by matrix"
        if name in LEAPING:
            values = np.median(values, axis=0, keepdims=True)
        figures.curve(axes, records.until.values, values, shown, place)
    axes.set(yscale="log", xlabel="Step", ylabel=f"Loss, mean of {experiment.window} steps")
    axes.set_ylim(top=10)
    axes.set_title("a  At selected rates")


def _draw_halves(axes: Axes, results: Results) -> None:
    """The loss by the rule that gives the length and that which gives the direction."""
    from study import figures

    rows = {
        "momentum": ("momentum", ALONG),
        "AdamW": ("AdamW's length along momentum", "AdamW"),
        "AdamW,\nby leaf": (BY_LEAF, ""),
        "constant": ("normalised momentum", "constant length along AdamW"),
    }
    experiment: Any = results.experiment
    step = _shown(experiment)
    there = set(chosen(experiment))
    values = np.array(
        [
            [np.median(loss(results, n, step)) if n in there else np.nan for n in pair]
            for pair in rows.values()
        ]
    )
    logs = np.log10(values)
    low, high = np.nanmin(logs), max(np.nanmax(logs), np.nanmin(logs) + 1e-3)
    titles = ("momentum", "AdamW")
    figures.heat_table(axes, logs, list(rows), titles, low=float(low), high=float(high))
    for text, value in zip(axes.texts, values.ravel(), strict=True):
        text.set_text(f"{value:.4f}" if np.isfinite(value) else "–")
    axes.set(xlabel="Direction of", ylabel="Length of")
    axes.set_title(f"b  Loss, step {step:,}")


def _draw_leaves(axes: Axes, results: Results) -> None:
    """How gradient and updates are shared among the matrices."""
    from study import figures

    experiment: Any = results.experiment
    records = results.selected(experiment.problem)
    looks: Any = figures.look(experiment.optimizers)
    places, step = _told(results), _shown(experiment)

    def share(variable: str, name: str) -> np.ndarray:
        values = records[variable].sel(condition=name, stop=step).values[:, places]
        return np.median(values / np.sqrt((values**2).sum(1, keepdims=True)), axis=0)

    for name in ("momentum", "AdamW"):
        if name in records.condition.values:
            axes.plot(share("leaf_update", name), **looks[CONDITIONS[name].magnitude])
    if "AdamW" in records.condition.values:
        gradient = share("leaf_norm", "AdamW")
        axes.plot(gradient, color="black", ls=(0, (1.2, 1.2)), marker="o", ms=3)
        axes.annotate(
            "gradient of\nAdamW's runs",
            (len(places) - 1, gradient[-1]),
            (-16, 6),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7,
        )
    names = [str(name) for name in records.leaf.values[places]]
    axes.set_xticks(range(len(names)), [_leaf(name) for name in names])
    axes.set(yscale="log", xlabel="Matrix", ylabel="Share of the norm")
    axes.minorticks_off()
    axes.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
    axes.set_title(f"c  By matrix, step {step:,}")


def _shown(experiment: LinearTransformer) -> int:
    """The step of the test, or the last there is."""
    return JUDGED if JUDGED in experiment.horizons else experiment.horizons[-1]


def _leaf(name: str) -> str:
    """Such as P1 for the first layer's."""
    layer, matrix = name.split(".")
    return f"{matrix}{int(layer.rpartition('_')[2]) + 1}"


if __name__ == "__main__":
    cli.main(__spec__.name)
