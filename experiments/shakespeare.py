"""On real text, what does Adam have that SGD lacks: the direction of signs?

Question.   A small transformer learns the next character of Shakespeare's plays, each rule
            at its own tuned rate under one schedule. How far do SGD, momentum, sign
            descent, Signum and Adam come; on which characters do they differ; and how far
            does each turn the update, in which part of the network?
Prediction. Adam comes below 1.9 nats a character. It leads SGD and momentum, and more than
            half of that lead lies on the rarer half of the text. Signum, momentum's average
            without any magnitude, closes most of the gap and comes later than Adam. Signum
            turns its average further than Adam does, and furthest in the embeddings, whose
            gradients are the least even.
Varied.     Scientific: rule. Nuisance: learning rate, by one budget for every rule: a grid
            by decades on short runs, then four rates around the best by half decades on
            runs three times as long, both on two seeds of their own and by the validation
            loss. The long run, five times as long again, has two seeds that no selection
            has seen. Warm-up and cosine are shares of each run; no weight decay, no
            clipping. Validation also selects the evaluation whose test loss is reported.
Cost.       Half an hour on two CPU cores.

    python -m experiments.shakespeare --data FOLDER     run, store, judge, draw
    python -m experiments.shakespeare --draw            draw stored records again
    python -m experiments.shakespeare --problem.corpus synthetic        without the file

FOLDER holds tinyshakespeare.txt (Karpathy 2015). Network, batch and schedule follow the
CPU recipe of nanoGPT (Karpathy 2022), which reaches 1.88 on its validation part after
2,000 steps of AdamW (recalled): 4 blocks of width 128, windows of 64, batches of 12, b2 =
0.99. Here there is no decay, no clipping, and a fifth of the text is held back. Orvieto &
Gower (2025), arXiv:2505.21829 (abstract and a figure's caption); Kunstner et al. (2023),
arXiv:2304.13960, and (2024), arXiv:2402.19449 (abstracts).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.data import SYNTHETIC
from study.experiment import Comparison, Scheduled, log_grid
from study.optimizers import Optimizer
from study.problems import Problem, Text
from study.schedules import Cosine, Schedule
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

SELECTION_SEED = 100
"""The first of those that select; the reported ones count from 0."""
TARGET = 2.2
"""Nats a character: well below what pairs of characters give, well above the end."""
SHOWN = 3.4
"""Losses from here on are not drawn: a guess among 30 characters."""
MEASURED = ("loss", "angle", "rescaling_angle", "gradient_norm")


@dataclasses.dataclass(frozen=True)
class Shakespeare(Comparison):
    """One network on one text; rates selected on short runs, then long ones."""

    learning_rates: tuple[float, ...] = log_grid(-4, 1)
    """The first grid, the same for every rule."""
    around: tuple[float, ...] = (-0.75, -0.25, 0.25, 0.75)
    """The second grid: decades from the best of the first."""
    horizons: tuple[int, ...] = (200, 600)
    """Steps of a run on the first and on the second grid."""
    selection_seeds: int = 2
    """Further seeds, only to select the learning rate."""
    steps: int = 3_000
    """Of a reported run."""
    seeds: int = 2
    """Reported."""
    schedule: Schedule = Cosine(warm_up=0.05, end=0.1)
    """Of the learning rate, over each run whatever its steps."""
    records: int = 30
    """Measured steps in a reported run."""
    evaluations: int = 30
    """In a reported run, besides the one before the first step."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "around")
        if len(self.horizons) != 2 or min(self.horizons) < 1:
            self.refuse("horizons", "two numbers, at least 1")

    def stage(
        self, optimizer: Optimizer, rates: tuple[float, ...], **how: Any
    ) -> Scheduled:
        """Runs of one rule, under this schedule."""
        fields: dict[str, Any] = {"metrics": ("loss",), "records": 1, "evaluations": 1}
        fields |= {"seeds": self.selection_seeds, "first_seed": SELECTION_SEED} | how
        return Scheduled(
            problem=self.problem,
            optimizers=(optimizer,),
            learning_rates=rates,
            schedule=self.schedule,
            selection_seeds=0,
            **fields,
        )


DEFAULT = Shakespeare(
    problem=Text(
        corpus="tinyshakespeare.txt@86c4e6aa9db7",
        depth=4,
        width=128,
        heads=4,
        context=64,
        batch_size=12,
    ),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.SignDescent(),
        optimizers.Signum(),
        optimizers.Adam(b2=0.99),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Text(corpus=SYNTHETIC, depth=0, width=4, heads=1, context=4, batch_size=2),
        optimizers=(optimizers.Signum(),),
        learning_rates=(0.01, 0.1),
        around=(0.0, 0.5),
        horizons=(2, 2),
        selection_seeds=1,
        steps=2,
        records=2,
        evaluations=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=dataclasses.replace(
            DEFAULT.problem, depth=6, width=384, heads=6, context=256, batch_size=64
        ),
        learning_rates=log_grid(-5, 1),
        horizons=(500, 1_500),
        steps=5_000,
        seeds=5,
        records=50,
        evaluations=50,
    ),
}
LOSSES = ("validation_loss", "test_loss", *(f"group_{i}_loss" for i in range(4)))
KEPT = (
    *LOSSES,
    *("angle", "rescaling_angle", "turn", "rescaling_turn"),
    *("first_objective", "objective", "tried_rate", "rate", "at_edge"),
)
PARTS = {
    "embeddings": (".embedding",),
    "attention": ("query.kernel", "key.kernel", "value.kernel", "output.kernel"),
    "mlp": ("up.kernel", "down.kernel"),
    "read-out": ("readout.kernel",),
    "vectors": (".bias", ".scale"),
}
"""Leaves by the ends of their names; vectors are biases and the gains of norms."""


def run_cell(
    experiment: Shakespeare,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One rule: two grids that select its rate, then the reported runs at that rate.

    `first_objective` [learning_rate] and `objective` [tried] are validation losses at the
    ends of the runs that selected, `tried_rate` [tried] the rates of the second grid;
    `rate` and `at_edge` []. The rest is what a sweep records, at that rate.
    """
    from study import sweep

    count = np.array([len(experiment.learning_rates), len(experiment.around)])
    work = experiment.horizons * count * experiment.selection_seeds
    work = np.cumsum([0, *work, experiment.steps * experiment.seeds])
    costs: list[Cost] = []

    def run(stage: Scheduled) -> xr.Dataset:
        place = len(costs)
        share = lambda s: work[place] + s * (work[place + 1] - work[place])  # noqa: E731
        told = lambda s: progress(share(s) / work[-1])  # noqa: E731
        dataset, cost = sweep.run_cell(stage, problem, optimizer, told)
        costs.append(cost)
        return dataset

    short, middle = experiment.horizons
    first = _select(
        run(experiment.stage(optimizer, experiment.learning_rates, steps=short))
    )
    centre = experiment.learning_rates[first.place]
    tried = tuple(float(f"{centre * 10**decades:.4g}") for decades in experiment.around)
    second = _select(run(experiment.stage(optimizer, tried, steps=middle)))
    rate = tried[second.place]
    how = {"steps": experiment.steps, "seeds": experiment.seeds, "first_seed": 0}
    clock = {"records": experiment.records, "evaluations": experiment.evaluations}
    stage = experiment.stage(optimizer, (rate,), metrics=MEASURED, **how, **clock)
    dataset = run(stage).isel(learning_rate=0, drop=True).drop_vars("for_selection")
    added = {
        "first_objective": ("learning_rate", first.objective),
        "objective": ("tried", second.objective),
        "tried_rate": ("tried", np.array(tried)),
        "rate": rate,
        "at_edge": float(second.at_edge),
    }
    dataset = dataset.assign(added).assign_coords(
        learning_rate=list(experiment.learning_rates),
        tried=list(experiment.around),
    )
    return dataset, _sum(costs)


def _select(dataset: xr.Dataset) -> statistics.Selection:
    """The rate with the lowest validation loss at the end, the median over seeds."""
    ends = dataset.validation_loss.isel(evaluation=-1)
    return statistics.select(ends.transpose("learning_rate", "seed").values)


def _sum(costs: list[Cost]) -> Cost:
    """Times and runs of all stages; the rest is the last's."""
    return costs[-1]._replace(
        compile_seconds=sum(cost.compile_seconds for cost in costs),
        run_seconds=sum(cost.run_seconds for cost in costs),
        runs=sum(cost.runs for cost in costs),
    )


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Losses, rates, and angles by part of the network.

    Losses [optimizer, seed, evaluation]; `angle` and `rescaling_angle` [optimizer, seed,
    step], of the whole vector from -g and from the unscaled update; `turn` and
    `rescaling_turn` [optimizer, seed, step, part], the medians over the leaves of a part.
    """
    names = [str(leaf) for leaf in dataset.leaf.values]
    order = ("optimizer", "seed", "step", "leaf")
    turns = {}
    for name, source in (("turn", "angle"), ("rescaling_turn", "rescaling_angle")):
        values = dataset[f"{source}_by_leaf"].transpose(*order).values
        parts = []
        for ends in PARTS.values():
            places = [i for i, leaf in enumerate(names) if leaf.endswith(ends)]
            absent = np.full(values.shape[:-1], np.nan)
            parts.append(np.median(values[..., places], -1) if places else absent)
        dims = (*order[:3], "part")
        turns[name] = (dims, np.stack(parts, -1), {"units": "radian"})
    kept = [name for name in KEPT if name in dataset]
    return dataset[kept].assign(turns).assign_coords(part=list(PARTS))


# Verdicts ---------------------------------------------------------------------------------


def reported(results: Results, name: str, loss: str = "test_loss") -> np.ndarray:
    """A loss [seed] of a rule where its validation loss is lowest; inf if not finite."""
    at = results.selected(results.experiment.problem).sel(optimizer=name)
    order = ("seed", "evaluation")
    chosen = statistics.worst(at.validation_loss.transpose(*order).values).argmin(-1)
    values = statistics.worst(at[loss].transpose(*order).values)
    return values[np.arange(len(values)), chosen]


def arrivals(results: Results, name: str, target: float = TARGET) -> np.ndarray:
    """Steps [seed] to a validation loss, inf for a run that does not arrive."""
    losses = results.selected(results.experiment.problem).validation_loss
    at = losses.sel(optimizer=name).transpose("seed", "evaluation")
    return statistics.time_to_target(at.values, losses.evaluation.values, target)


def diverged(results: Results, name: str) -> np.ndarray:
    """Whether each run [seed] ended above its start, or not finite."""
    at = results.selected(results.experiment.problem).sel(optimizer=name)
    losses = statistics.worst(at.validation_loss.transpose("seed", "evaluation").values)
    return losses[:, -1] > losses[:, 0]


def leads(results: Results, name: str) -> np.ndarray:
    """By how much Adam's loss is below a rule's, nats [seed, group of characters]."""
    pair = [
        np.stack([reported(results, rule, f"group_{i}_loss") for i in range(4)], -1)
        for rule in (name, ADAM)
    ]
    return pair[0] - pair[1]


def rarer_share(results: Results, name: str, step: float) -> float:
    """Share of Adam's lead on the rarer half of the text near a step, the seeds' mean."""
    at = results.selected(results.experiment.problem).sel(evaluation=step, method="nearest")
    if ADAM not in at.optimizer or name == ADAM:
        return np.nan
    groups = [at[f"group_{i}_loss"].mean("seed") for i in range(4)]
    gap = [float(g.sel(optimizer=name) - g.sel(optimizer=ADAM)) for g in groups]
    return sum(gap[2:]) / sum(gap) if sum(gap) > 0 else np.nan


def late_degrees(results: Results, name: str, part: str = "") -> np.ndarray:
    """Degrees [seed] from the unscaled update in the last quarter, of a part or of all."""
    at = results.selected(results.experiment.problem).sel(optimizer=name)
    turns = at.rescaling_turn.sel(part=part) if part else at.rescaling_angle
    return np.degrees(statistics.late(turns.transpose("seed", "step").values))


def _lead(name: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.paired(
        reported(results, name), reported(results, ADAM)
    )


def _closed(base: str) -> Callable[[Results], Estimate]:
    """Share of the gap between a rule and Adam that Signum closes; NaN without a gap."""

    def measure(results: Results) -> Estimate:
        losses, adam, own = (reported(results, name) for name in (base, ADAM, "Signum"))
        gap = losses - adam
        with np.errstate(invalid="ignore"):
            return statistics.bootstrap(np.where(gap > 0, (losses - own) / gap, np.nan))

    return measure


def _rarer(name: str) -> Callable[[Results], Estimate]:
    """Share of Adam's lead on the rarer half of the text."""

    def measure(results: Results) -> Estimate:
        found = leads(results, name)
        with np.errstate(invalid="ignore"):
            return statistics.bootstrap(found[:, 2:].sum(-1) / found.sum(-1))

    return measure


def _later(results: Results) -> Estimate:
    pair = [arrivals(results, name) for name in ("Signum", ADAM)]
    with np.errstate(invalid="ignore"):
        return statistics.bootstrap(pair[0] / pair[1])


def _turns_more(results: Results) -> Estimate:
    return statistics.paired(late_degrees(results, "Signum"), late_degrees(results, ADAM))


def _embeddings_more(results: Results) -> Estimate:
    pair = [late_degrees(results, "Signum", part) for part in ("embeddings", "mlp")]
    return statistics.paired(pair[0], pair[1])


def _embeddings_most(results: Results) -> Estimate:
    """Degrees of the embeddings less those of the part that is turned most otherwise."""
    degrees = {part: late_degrees(results, "Signum", part) for part in PARTS}
    embeddings = degrees.pop("embeddings")
    most = max(degrees.values(), key=np.median)
    return statistics.paired(embeddings, most)


ADAM = "Adam(b2=0.99)"
ORVIETO = "Orvieto & Gower 2025, abstract and a caption; threshold own"
PREDICTIONS = (
    Prediction(
        "Adam's test loss is at most 1.9 nats a character",
        "nanoGPT's CPU recipe, recalled: 1.88 on its validation part after 2,000 steps",
        lambda results: statistics.bootstrap(reported(results, ADAM)),
        at_most=1.9,
        published=1.88,
    ),
    *(
        Prediction(
            f"{name} ends at least {lead} nats above Adam on the test",
            "Kunstner et al. 2023, abstract: Adam leads on language; threshold own",
            _lead(name),
            at_least=lead,
        )
        for name, lead in (("SGD", 0.1), ("Momentum", 0.05))
    ),
    Prediction(
        "Signum closes at least half of momentum's gap to Adam",
        ORVIETO,
        _closed("Momentum"),
        at_least=0.5,
        published=0.96,
    ),
    Prediction(
        "Signum closes at least half of SGD's gap to Adam",
        ORVIETO,
        _closed("SGD"),
        at_least=0.5,
        published=0.96,
    ),
    Prediction(
        f"Signum needs at least as many steps as Adam to {TARGET} nats on validation",
        ORVIETO,
        _later,
        at_least=1.0,
        published=1.25,
    ),
    *(
        Prediction(
            f"at least half of Adam's lead on {name} lies on the rarer half of the text",
            "Kunstner et al. 2024, abstract: low-frequency classes; threshold own",
            _rarer(name),
            at_least=0.5,
        )
        for name in ("SGD", "Momentum")
    ),
    Prediction(
        "late in training Signum turns its average at least 37.07 degrees, as with Gaussian"
        " elements",
        "the root of the density of Bernstein et al. 2018; sqrt(2 / pi) if Gaussian",
        lambda results: statistics.bootstrap(late_degrees(results, "Signum")),
        at_least=float(np.degrees(np.arccos(np.sqrt(2 / np.pi)))),
    ),
    Prediction(
        "late in training Signum turns its average at least as far as Adam does",
        "own expectation",
        _turns_more,
        at_least=0.0,
    ),
    Prediction(
        "Signum turns the embeddings at least as far as the kernels of the mlp",
        "own expectation: the rows of rare characters have small gradients",
        _embeddings_more,
        at_least=0.0,
    ),
    Prediction(
        "Signum turns the embeddings at least as far as any other part",
        "own expectation, above before the run; judged in full after it",
        _embeddings_most,
        at_least=0.0,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule."""
    costs = {cell["optimizer"]: cell for cell in manifest["cells"].values()}
    records = results.selected(results.experiment.problem)
    for name in map(str, results.experiment.optimizers):
        at = records.sel(optimizer=name)
        row: dict[str, Any] = {"optimizer": name, "learning_rate": float(at.rate)}
        row["at_edge"] = int(at.at_edge)
        row["diverged_share"] = float(np.mean(diverged(results, name)))
        for loss in LOSSES:
            found = reported(results, name, loss)
            row |= {loss: float(np.median(found))}
            row |= {f"{loss}_low": found.min(), f"{loss}_high": found.max()}
        for target in (2.5, TARGET, 2.0, 1.9):
            row[f"steps_to_{target}"] = float(np.median(arrivals(results, name, target)))
        for step in np.array([1 / 30, 0.1, 1 / 3, 1]) * int(records.evaluation[-1]):
            row[f"rarer_share_at_{step:.0f}"] = rarer_share(results, name, step)
        for part in ("", *PARTS):
            label = f"degrees_late_{part or 'all'}"
            row[label] = float(np.median(late_degrees(results, name, part)))
        cost = costs[name]
        yield row | {k: cost[k] for k in ("runs", "compile_seconds", "run_seconds")}


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Losses along training; behind Adam by group; rates that were tried; turns."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.6)
    looks = figures.look(results.experiment.optimizers)
    records = results.selected(results.experiment.problem)
    _draw_losses(axes[0, 0], records, looks)
    _draw_groups(axes[0, 1], results, looks)
    _draw_rates(axes[1, 0], records, looks)
    _draw_turns(axes[1, 1], results)
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count(), bands=False))
    return {"figure": figure}


def _draw_losses(panel: Axes, records: xr.Dataset, looks: dict[str, Any]) -> None:
    """Every seed is a line."""
    steps = records.evaluation.values[1:]
    for name, look in looks.items():
        losses = records.validation_loss.sel(optimizer=name).transpose("seed", "evaluation")
        for i, run in enumerate(losses.where(losses < SHOWN).values[:, 1:]):
            shown = look if i == 0 else look | {"label": None, "marker": ""}
            panel.plot(steps, run, **shown, markevery=max(1, len(steps) // 6))
    panel.set(xlabel="Step", ylabel="Nats a character")
    panel.set_title(f"a  Validation loss, each of {records.sizes['seed']} seeds")


def _draw_groups(panel: Axes, results: Results, looks: dict[str, Any]) -> None:
    """Test loss above Adam's, by quarter of the text."""
    if ADAM in looks:
        for name, look in looks.items():
            shown = np.where(np.isfinite(found := leads(results, name)), found, np.nan)
            panel.plot(np.arange(4), np.median(shown, axis=0), **look)
    panel.set_xticks(range(4), ["most\nfrequent", "2nd\nquarter", "3rd\nquarter", "rarest"])
    panel.set(ylabel="Nats above Adam")
    panel.set_title("b  Test loss by frequency of the character")


def _draw_rates(panel: Axes, records: xr.Dataset, looks: dict[str, Any]) -> None:
    """Both grids, medians over the seeds that select; the first is fainter."""
    for name, look in looks.items():
        at = records.sel(optimizer=name)
        first = at.first_objective.where(at.first_objective < SHOWN)
        faint = look | {"label": None, "marker": "", "alpha": 0.35}
        panel.plot(at.learning_rate, first, **faint)
        panel.plot(at.tried_rate, at.objective.where(at.objective < SHOWN), **look)
    panel.set(xscale="log", xlabel="Learning rate", ylabel="Nats a character")
    panel.set_title("c  Rates tried: first grid faint, second full")


def _draw_turns(panel: Axes, results: Results) -> None:
    """Degrees from the unscaled update, of the rules that rescale."""
    from study import figures

    names = ("all", *PARTS)
    rules = [o for o in results.experiment.optimizers if o.unscaled() != o]
    degrees = [
        [np.median(late_degrees(results, str(o), "" if n == "all" else n)) for n in names]
        for o in rules
    ]
    rows = [o.label for o in rules]
    figures.heat_table(panel, np.array(degrees), rows, names, low=0, high=90)
    slanted = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(np.arange(len(names)) + 0.5, names, **slanted)
    panel.set_title("d  Degrees from the unscaled update, late")


if __name__ == "__main__":
    cli.main(__spec__.name)
