"""Does noise explain why Adam beats SGD? Small batches against all of the data.

Question.   If Adam's advantage over momentum came from heavy-tailed noise, it would shrink
            as batches grow. Does it?
Prediction. It grows. On the heavy-tailed softmax problem momentum and Adam end alike with
            batches of 8 and far apart with 128 and with all samples; on the transformer the
            gap in full batch is there too. Sign descent with momentum closes most of the
            gap, normalised descent does not: what Adam has is the direction of signs.
Varied.     Scientific: rule, batch size. Nuisance: learning rate, selected on the
            objective itself as in the source, from a grid by half decades alike for all.
            Three seeds (of data, start and batches); horizons of 50 and 100 steps; the
            objective is the loss on all of the training data.
Cost.       Four minutes on two CPU cores.

    python -m experiments.batch_size             run, store, judge, draw
    python -m experiments.batch_size --draw      draw stored records again

Kunstner et al. (2023), arXiv:2304.13960 (abstract; their scripts read: rules, momentum on
their updates, learning-rate windows, 800 steps of all of MNIST, three seeds); Sreckovic,
Geiping & Orvieto (2025), arXiv:2506.12543 (abstract): SGD matches Adam at small batches.
Each size has the same number of steps, so small batches see less data. `paper` has those
rules, but for sign descent the sign of the average besides the average of signs, on LeNet-5
with MNIST's files (`--data`) and on a transformer of two layers; its grid, one for all,
holds all of their windows.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import Altered, Digits, HeavyTailed, LeNet, Problem, Text
from study.problems.images import Classification
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class BatchSize(Comparison):
    """Three problems, each at several batch sizes."""

    images: Classification = Digits()
    """Real images; its own batch size has no say here, but for 0: all, part by part."""
    text: Text = Text(depth=1, width=32, heads=2, context=32, windows=128, batch_size=0)
    """A transformer on so many windows of a text."""
    sizes: tuple[int, ...] = (8, 32, 128, 0)
    """Samples in a batch; 0 is all of them."""
    learning_rates: tuple[float, ...] = log_grid(-3, 1, per_decade=2)
    """The grid, the same for every rule, problem and size."""
    horizons: tuple[int, ...] = (50, 100)
    """Steps at which the objective counts."""
    seeds: int = 3
    """Of data, starts and batches."""
    momentum: bool = False
    """Also rules without memory with momentum on their updates, as in the source."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("sizes", "learning_rates", "horizons")
        if list(self.horizons) != sorted(self.horizons) or self.horizons[0] < 1:
            self.refuse("horizons", "ascending, at least 1")
        if self.seeds < 1:
            self.refuse("seeds", "at least 1")
        if not self.text.windows:
            self.text.refuse("windows", "at least 1: a batch can be all of them here")


DEFAULT = BatchSize(
    problem=HeavyTailed(),
    optimizers=(
        optimizers.Momentum(),
        optimizers.NormalisedGD(),
        optimizers.Signum(),
        optimizers.Adam(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=2),
        images=Digits(width=4, depth=1),
        text=dataclasses.replace(DEFAULT.text, depth=0, width=4, context=4, windows=4),
        optimizers=(optimizers.Momentum(),),
        sizes=(2, 0),
        learning_rates=(0.01, 0.1),
        horizons=(1, 2),
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=8),
        images=LeNet(images="mnist", batch_size=0, part=1_000),
        text=dataclasses.replace(
            DEFAULT.text, depth=2, width=128, heads=4, context=64, windows=1_024, part=128
        ),
        optimizers=(
            optimizers.SGD(),
            optimizers.Momentum(),
            optimizers.NormalisedGD(),
            optimizers.SignDescent(),
            optimizers.Signum(),
            optimizers.Adam(b1=0.0),
            optimizers.Adam(),
        ),
        sizes=(8, 128, 0),
        learning_rates=log_grid(-5, 1, per_decade=2),
        horizons=(50, 100, 800),
        momentum=True,
    ),
}
KEPT = ("objective", "rate", "at_edge")
FIELDS = {"problem": "Heavy-tailed softmax", "images": "Digits", "text": "Transformer"}
"""Titles by field; images by another network have its name."""
SUFFIX = ", momentum"
"""To the name of a rule whose updates are averaged."""


def title_of(experiment: BatchSize, field: str) -> str:
    """A problem's name in figure and table."""
    other = field == "images" and not isinstance(experiment.images, Digits)
    return experiment.images.label if other else FIELDS[field]


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled(Altered):
    """A problem whose batches are drawn with replacement from its training data.

    Attributes:
        size: samples in a batch; 0 is all of them.
    """

    size: int

    def batch(self, data: Any, key: Any, t: Any) -> Any:
        """Samples from anywhere, or all."""
        import jax

        if not self.size:
            return data
        count = jax.tree.leaves(data)[0].shape[0]
        key = jax.random.fold_in(key, t)
        chosen = jax.random.randint(key, (self.size,), 0, count)
        return jax.tree.map(lambda x: x[chosen], data)

    def slope(self, params: Any, batch: Any) -> Any:
        """Loss and gradient of the batch; of all samples, part by part."""
        if self.size:
            return super().slope(params, batch)
        return self.problem.slope(params, batch)


def training_data(problem: Problem, seeds: int) -> Any:
    """All that a problem trains on [set, sample, ...]: a set for each seed, or one."""
    found = problem.instances(range(seeds))
    return found["train"] if isinstance(found, dict) else found


def run_cell(
    experiment: BatchSize,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`losses` [size, learning_rate, seed, horizon], on all of the training data.

    And `with_momentum` like it, where that is asked for and the rule has no memory.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    rates = np.asarray(experiment.learning_rates, problem.dtype)
    with devices.precision(problem.dtype):
        rules: dict[str, Any] = {"losses": optimizer}
        if experiment.momentum and str(optimizer) in ("NormalisedGD", "SignDescent"):
            rules["with_momentum"] = _with_momentum(optimizer)
        found: dict[str, list[np.ndarray]] = {name: [] for name in rules}
        for i, size in enumerate(experiment.sizes):
            for name, rule in rules.items():
                found[name].append(_train(experiment, problem, rule, size, rates))
            progress((i + 1) / len(experiment.sizes))
        names = ("size", "learning_rate", "seed", "horizon")
        dataset = xr.Dataset(
            {name: (names, np.stack(losses)) for name, losses in found.items()},
            {
                "size": np.asarray(experiment.sizes, np.int32),
                "learning_rate": list(experiment.learning_rates),
                "horizon": np.asarray(experiment.horizons, np.int32),
            },
        )
        runs = len(experiment.sizes) * len(rates) * experiment.seeds
        return sweep.finish(dataset, problem, optimizer, begun, runs)


def _with_momentum(optimizer: Optimizer) -> Any:
    """Heavy ball on a rule's updates, as the source's rules have it."""
    import optax

    from study import trajectories

    def around(rule: Any) -> Any:
        return optax.chain(rule, optax.trace(decay=0.9))

    return trajectories.Treated(optimizer, around)


def _train(
    experiment: BatchSize, problem: Problem, rule: Any, size: int, rates: np.ndarray
) -> np.ndarray:
    """Losses on all of the training data [rate, seed, horizon]."""
    from study import devices, sweep

    starts = sweep.starts(problem, tuple(range(experiment.seeds)))
    data = training_data(problem, experiment.seeds)
    run = trainer(experiment, problem, rule, size)
    return devices.map_runs(run, (data, starts), [rates])


def trainer(experiment: BatchSize, problem: Problem, rule: Any, size: int) -> Any:
    """(data [set, ...], starts [seed, ...], rate) -> losses [seed, horizon]."""
    import jax

    from study import trajectories

    sampled: Any = Sampled(problem, size)

    def run(data: Any, starts: Any, rate: Any) -> Any:
        sets = len(jax.tree.leaves(data)[0])

        def of_seed(seed: Any) -> Any:
            own = jax.tree.map(lambda leaf: leaf[seed % sets], data)
            params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
            return trajectories.follow(
                sampled,
                rule,
                lambda t: rate,
                experiment.horizons,
                lambda state, t: whole_loss(problem, state.params, own),
                params=params,
                key=key,
                data=own,
            )[1]

        return jax.lax.map(of_seed, jax.numpy.arange(experiment.seeds))

    return run


def whole_loss(problem: Problem, params: Any, data: Any) -> Any:
    """The loss [] on all of the training data, part by part if they have parts."""
    import jax

    parts = problem.parts(data)
    if parts is None:
        return problem.loss(params, data)
    return jax.lax.map(lambda part: problem.loss(params, part), parts).mean()


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Each rule at the rate with the lowest median, by size and horizon.

    `objective` [optimizer, size, horizon, seed], `rate` and `at_edge` [optimizer, size,
    horizon].
    """
    import xarray as xr

    order = ("optimizer", "size", "horizon", "learning_rate", "seed")
    losses = dataset.losses.transpose(*order).values
    names = list(map(str, dataset.optimizer.values))
    if "with_momentum" in dataset:
        more = dataset.with_momentum.transpose(*order).values
        has = ~np.isnan(more).all((1, 2, 3, 4))
        losses = np.concatenate([losses, more[has]])
        names += [name + SUFFIX for name, own in zip(names, has, strict=True) if own]
    shape = losses.shape[:3]
    objective = np.full((*shape, losses.shape[-1]), np.nan)
    rate, edge = np.full((2, *shape), np.nan)
    for place in np.ndindex(*shape):
        selection = statistics.select(losses[place])
        edge[place] = selection.at_edge
        if selection.found:
            objective[place] = losses[place][selection.place]
            rate[place] = dataset.learning_rate.values[selection.place]
    return xr.Dataset(
        {
            "objective": ((*order[:3], "seed"), objective),
            "rate": (order[:3], rate),
            "at_edge": (order[:3], edge),
        },
        {"optimizer": names, "size": dataset["size"], "horizon": dataset.horizon},
        {"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------


def objective(
    results: Results, field: str, name: str, size: int, horizon: int
) -> np.ndarray:
    """Losses [seed] of a rule at its selected rate; inf where not finite."""
    records = results.selected(getattr(results.experiment, field))
    at = records.objective.sel(optimizer=name, size=size, horizon=horizon)
    return statistics.worst(at.values)


def judged(results: Results, field: str, name: str, size: int, horizon: int) -> np.ndarray:
    """`objective`; KeyError where the problem is of another kind than predictions name."""
    problem = getattr(results.experiment, field)
    if type(problem) is not type(getattr(DEFAULT, field)):
        raise KeyError(str(problem))
    return objective(results, field, name, size, horizon)


def _over(
    field: str, name: str, size: int, horizon: int, base: str = "Adam"
) -> Callable[[Results], Estimate]:
    """Loss of a rule over that of another, paired by seed."""

    def measure(results: Results) -> Estimate:
        pair = [judged(results, field, rule, size, horizon) for rule in (name, base)]
        return statistics.bootstrap(pair[0] / pair[1])

    return measure


def _closed(field: str, name: str, horizon: int) -> Callable[[Results], Estimate]:
    """Share of momentum's gap to Adam, in full batch, that a rule closes."""

    def measure(results: Results) -> Estimate:
        momentum, adam, own = (
            judged(results, field, rule, 0, horizon) for rule in ("Momentum", "Adam", name)
        )
        return statistics.bootstrap((momentum - own) / (momentum - adam))

    return measure


def _grows(field: str, horizon: int) -> Callable[[Results], Estimate]:
    """The ratio of momentum to Adam in full batch over that at the smallest batch."""

    def measure(results: Results) -> Estimate:
        experiment: Any = results.experiment
        smallest = min(size for size in experiment.sizes if size)
        ratios = [
            judged(results, field, "Momentum", size, horizon)
            / judged(results, field, "Adam", size, horizon)
            for size in (0, smallest)
        ]
        return statistics.bootstrap(ratios[0] / ratios[1])

    return measure


RUN = "Kunstner et al. 2023, abstract; threshold and value of an independent run"
ABSTRACT = "Kunstner et al. 2023, abstract; threshold own"
PREDICTIONS = (
    Prediction(
        "softmax, 100 steps, batches of 8: momentum ends at most 1.1 times as high as Adam",
        "Sreckovic et al. 2025, abstract; threshold and value of an independent run",
        _over("problem", "Momentum", 8, 100),
        at_most=1.1,
        published=4.019 / 3.983,
    ),
    Prediction(
        "softmax, 100 steps, batches of 128: momentum ends twice as high as Adam or more",
        RUN,
        _over("problem", "Momentum", 128, 100),
        at_least=2.0,
        published=1.998 / 0.424,
    ),
    *(
        Prediction(
            f"softmax, {horizon} steps, full batch: momentum ends twice as high as Adam",
            RUN,
            _over("problem", "Momentum", 0, horizon),
            at_least=2.0,
            published=0.495 / 0.134 if horizon == 100 else None,
        )
        for horizon in (50, 100)
    ),
    *(
        Prediction(
            f"{title}, {horizon} steps: Adam's lead in full batch is that with 8 or more",
            ABSTRACT,
            _grows(field, horizon),
            at_least=1.0,
        )
        for field, title in FIELDS.items()
        for horizon in (50, 100)
    ),
    *(
        Prediction(
            f"{title}, 100 steps, full batch: Signum closes half the gap or more",
            ABSTRACT,
            _closed(field, "Signum", 100),
            at_least=0.5,
        )
        for field, title in FIELDS.items()
        if field != "images"
    ),
    *(
        Prediction(
            f"{title}, 100 steps, full batch: normalised descent closes less than half",
            ABSTRACT,
            _closed(field, "NormalisedGD", 100),
            at_most=0.5,
        )
        for field, title in FIELDS.items()
        if field != "images"
    ),
    Prediction(
        "digits, 100 steps, full batch: momentum ends at most twice as high as Adam",
        "own expectation: ten even classes",
        _over("images", "Momentum", 0, 100),
        at_most=2.0,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each problem, rule, size and horizon."""
    del manifest
    experiment: Any = results.experiment
    for field in FIELDS:
        records = results.selected(getattr(experiment, field))
        for name in map(str, records.optimizer.values):
            for size in experiment.sizes:
                for horizon in experiment.horizons:
                    values = objective(results, field, name, size, horizon)
                    at = records.sel(optimizer=name, size=size, horizon=horizon)
                    estimate = statistics.bootstrap(values)
                    yield {
                        "problem": title_of(experiment, field),
                        "optimizer": name,
                        "batch_size": size or "all",
                        "steps": horizon,
                        "loss": estimate.value,
                        "loss_low": estimate.low,
                        "loss_high": estimate.high,
                        "learning_rate": float(at.rate),
                        "at_edge": float(at.at_edge),
                    }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Loss at the longest horizon against batch size; below it, over Adam's."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(2, len(FIELDS), height=2.2, sharex=True)
    looks = figures.look(experiment.optimizers)
    for name in map(str, results.selected(experiment.problem).optimizer.values):
        if name not in looks:
            own = looks[name.removesuffix(SUFFIX)]
            looks[name] = own | {"linestyle": ":", "label": own["label"] + SUFFIX}
    for column, field in enumerate(FIELDS):
        _draw_losses(axes[0, column], results, field, looks, over=None)
        axes[0, column].set_title(f"{'abc'[column]}  {title_of(experiment, field)}")
        base = "Adam" if "Adam" in looks else next(iter(looks))
        _draw_losses(axes[1, column], results, field, looks, over=base)
        axes[1, column].set_xlabel("Samples in a batch")
    axes[0, 0].set_ylabel(f"Loss after {experiment.horizons[-1]} steps")
    axes[1, 0].set_ylabel("Over Adam's")
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_losses(
    panel: Axes, results: Results, field: str, looks: dict[str, Any], over: str | None
) -> None:
    experiment: Any = results.experiment
    sizes, horizon = experiment.sizes, experiment.horizons[-1]
    places = np.arange(len(sizes))
    for name, look in looks.items():
        values = np.array([objective(results, field, name, s, horizon) for s in sizes])
        if over:
            base = [objective(results, field, over, size, horizon) for size in sizes]
            values = values / np.array(base)
        finite = np.where(np.isfinite(values), values, np.nan)
        low, high = statistics.band(finite.T)
        panel.plot(places, np.median(finite, axis=1), **look)
        panel.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)
    if field != "text":  # whose losses are within a factor of two
        panel.set_yscale("log")
    panel.set_xticks(places, [str(size or "all") for size in sizes])


if __name__ == "__main__":
    cli.main(__spec__.name)
