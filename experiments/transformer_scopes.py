"""Which scope of rotation costs Adam its lead on a language?

Question.   Let a rule see the matrices of a small transformer in a random basis: turned
            within what an output reads, within what an input feeds, within a matrix, or all
            together. Where does Adam's lead over momentum go, and is it the axes of tokens?
Prediction. Adam's loss rises from plain and output-wise, which cost nothing, to input-wise,
            layer-wise and global, which slows it by more than a twentieth. Momentum's does
            not move, to 1e-3. Turning the axes of tokens alone costs half of that or more.
Varied.     Scientific: scope, rule. Nuisance: learning rate, selected in each scope, for
            momentum in the plain one alone, on seeds of their own by the validation loss
            after 200 steps. A seed decides start, batches and basis; five are reported, by
            the test loss.
Cost.       Two minutes on two CPU cores.

    python -m experiments.transformer_scopes             run, store, judge, draw
    python -m experiments.transformer_scopes --draw      draw stored records again

Zhang, Maes et al. (2025), arXiv:2410.19964, read at the source: scopes, Prop. 1, and GPT-2
(124M) 16 % slower under a global rotation. Only matrices [from, to] are turned, embeddings
and read-out among them, as maps from or to tokens or places; vectors (biases, gains) never:
what the source does with those was not read. Layer-wise and global are emulated as there:
elements permuted, then turned in blocks of 128. `paper`: four layers of width 256, for one
GPU; `--data FILE` replaces the synthetic language.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import Problem, Text
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

Scope = Literal[
    "none",
    "output-wise",
    "input-wise",
    "layer-wise",
    "global",
    "tokens",
    "output-wise, blocks",
    "input-wise, blocks",
    "global, blocks",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""`tokens`: the axes of tokens alone, of embedding and read-out. `blocks`: kernels of the
blocks alone, without embeddings and read-out."""
MARKS = 10
"""Stops in a run, evenly spaced."""


@dataclasses.dataclass(frozen=True)
class TransformerScopes(Comparison):
    """Each rule in each basis, at a rate of its own."""

    scopes: tuple[Scope, ...] = SCOPES
    """What is turned; of SCOPES, with `none`."""
    learning_rates: tuple[float, ...] = log_grid(-4, 0, per_decade=2)[1:]
    """The grid; a rule that turns with the basis is swept in the plain one alone."""
    stable: float = 0.03162
    """Also run in every scope: rules that turn with the basis."""
    steps: int = 200
    """At which losses count; the selected rate goes on to twice as many."""
    block: int = 128
    """Elements mixed with each other; divides the size of every matrix."""
    seeds: int = 5
    """Reported: starts, batches and bases."""
    selection_seeds: int = 2
    """Further seeds, only to select the learning rate."""
    at_once: int = 24
    """Runs side by side."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("scopes", "learning_rates")
        if "none" not in self.scopes:
            self.refuse("scopes", "with none")
        for name in ("steps", "block", "seeds", "selection_seeds", "at_once"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


DEFAULT = TransformerScopes(
    problem=Text(depth=1, width=32, heads=2, context=32, batch_size=16),
    optimizers=(optimizers.Momentum(), optimizers.Signum(), optimizers.Adam()),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Text(depth=1, width=4, heads=1, context=4, batch_size=2),
        optimizers=(optimizers.Adam(),),
        scopes=("none", "global"),
        learning_rates=(0.01, 0.1),
        steps=2,
        block=4,
        seeds=2,
        selection_seeds=1,
        at_once=4,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=Text(depth=4, width=256, heads=4, context=256, batch_size=32),
        steps=2_000,
        block=256,
        at_once=8,
    ),
}
KEPT = ("loss", "curve", "rate", "at_edge", "stable_loss")


def matrices_of(problem: Problem) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names and shapes [from, to] of the leaves that have two axes."""
    import jax

    from study import trees

    params = jax.eval_shape(problem.init, jax.eval_shape(lambda: jax.random.key(0)))
    leaves = zip(trees.names(params), jax.tree.leaves(params), strict=True)
    found = [(name, leaf.shape) for name, leaf in leaves if leaf.ndim == 2]
    return tuple(name for name, _ in found), tuple(shape for _, shape in found)


def plans(experiment: TransformerScopes) -> Any:
    """The `scopes.Plan` of every scope, stacked."""
    from study.transforms import scopes

    names, shapes = matrices_of(experiment.problem)
    sizes = np.array([a * b for a, b in shapes])
    if (sizes % experiment.block).any():
        experiment.refuse("block", "a divisor of the size of every matrix")
    all_of, none_of = np.full((2, len(names)), [[True], [False]])
    inside = np.array([name.startswith("blocks") for name in names])
    embedded = np.array([name.startswith("token") for name in names])
    read_out = np.array([name.startswith("readout") for name in names])
    chosen: dict[str, tuple[Any, Any, int, Any]] = {
        "none": (none_of, none_of, 0, none_of),
        "output-wise": (all_of, none_of, 0, none_of),
        "input-wise": (none_of, all_of, 0, none_of),
        "layer-wise": (none_of, none_of, 1, all_of),
        "global": (none_of, none_of, 2, all_of),
        "tokens": (embedded, read_out, 0, none_of),
        "output-wise, blocks": (inside, none_of, 0, none_of),
        "input-wise, blocks": (none_of, inside, 0, none_of),
        "global, blocks": (none_of, none_of, 3, inside),
    }
    left, right, layout, mixed = zip(*(chosen[s] for s in experiment.scopes), strict=True)
    rows = [np.repeat(own, sizes // experiment.block) for own in mixed]
    return scopes.Plan(
        np.stack(left), np.stack(right), np.array(layout, np.int32), np.stack(rows)
    )


@functools.lru_cache(maxsize=2)
def bases(experiment: TransformerScopes) -> Any:
    """Random bases of all seeds, stacked, those reported first."""
    import jax

    from study.transforms import scopes

    names, shapes = matrices_of(experiment.problem)
    inside = np.array([name.startswith("blocks") for name in names])
    kind = np.dtype(experiment.problem.dtype)
    found = [
        scopes.drawn(shapes, inside, experiment.block, seed)
        for seed in range(experiment.seeds + experiment.selection_seeds)
    ]
    return jax.tree.map(
        lambda *x: np.stack(x).astype(np.int32 if x[0].dtype == np.int32 else kind), *found
    )


def run_cell(
    experiment: TransformerScopes,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """One rule in all bases.

    `selection` [scope, learning_rate, selection_seed], validation losses, NaN where a rule
    that turns with the basis is not swept; `rate` and
    `at_edge` [scope]; `curve` [scope, seed, stop], test losses at that rate; `stable_loss`
    [scope, seed], NaN for rules that do not turn with the basis.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    scopes, seeds, steps = len(experiment.scopes), experiment.seeds, experiment.steps
    rates = np.asarray(experiment.learning_rates)
    with devices.precision(problem.dtype):
        go: Any = functools.partial(_runs, experiment, problem, optimizer)
        reported = np.indices((scopes, seeds)).reshape(2, -1)
        turns = optimizer.unscaled() == optimizer
        plain = experiment.scopes.index("none")
        swept = [plain] if turns else list(range(scopes))
        selection = np.full((scopes, len(rates), experiment.selection_seeds), np.nan)
        scope, rate, seed = np.indices(selection[swept].shape).reshape(3, -1)
        tried = go(np.array(swept)[scope], seeds + seed, rates[rate], steps)[0][:, -1]
        selection[swept] = tried.reshape(selection[swept].shape)
        progress(0.5)
        chosen = [
            statistics.select(selection[plain if turns else i]) for i in range(scopes)
        ]
        best = rates[[own.place for own in chosen]]
        curve = go(*reported, best[reported[0]], 2 * steps)[1]
        stable = np.full((scopes, seeds), np.nan)
        if turns:
            fixed = np.full(reported.shape[1], experiment.stable)
            stable = go(*reported, fixed, steps)[1][:, -1].reshape(scopes, seeds)
        dataset = xr.Dataset(
            {
                "selection": (("scope", "learning_rate", "selection_seed"), selection),
                "rate": ("scope", best),
                "at_edge": ("scope", np.array([float(own.at_edge) for own in chosen])),
                "curve": (("scope", "seed", "stop"), curve.reshape(scopes, seeds, MARKS)),
                "stable_loss": (("scope", "seed"), stable),
            },
            {
                "scope": list(experiment.scopes),
                "learning_rate": list(experiment.learning_rates),
                "stop": _stops(2 * steps),
            },
        )
        return sweep.finish(dataset, problem, optimizer, begun, selection.size)


def _stops(end: int) -> np.ndarray:
    return np.linspace(0, end, MARKS + 1)[1:].round().astype(np.int32)


def _runs(
    experiment: TransformerScopes,
    problem: Problem,
    optimizer: Optimizer,
    scope: np.ndarray,
    seed: np.ndarray,
    rate: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test losses [run, stop], some runs at a time."""
    from study import devices, sweep

    seeds = tuple(range(experiment.seeds + experiment.selection_seeds))
    starts = sweep.starts(problem, seeds)
    shared = (problem.data(), starts, bases(experiment), plans(experiment), _stops(steps))
    axes = (scope.astype(np.int32), seed.astype(np.int32), rate.astype(problem.dtype))
    run = _trainer(problem, optimizer)
    return devices.map_runs(run, shared, axes, experiment.at_once)


@functools.lru_cache(maxsize=4)
def _trainer(problem: Problem, optimizer: Optimizer) -> Any:
    """(data, starts, bases, plans, stops, scope, seed, rate) -> losses, each [stop]."""
    import jax

    from study import trajectories, transforms
    from study.transforms import scopes

    def run(
        data: Any, starts: Any, drawn: Any, plan: Any, stops: Any, *of: Any
    ) -> tuple[Any, Any]:
        scope, seed, rate = of
        params, key = jax.tree.map(lambda leaf: leaf[seed], starts)
        basis = scopes.scoped(
            jax.tree.map(lambda leaf: leaf[scope], plan),
            jax.tree.map(lambda leaf: leaf[seed], drawn),
        )

        def observe(state: Any, t: Any) -> tuple[Any, Any]:
            losses = problem.evaluate(data, state.params)
            return losses[str(problem.selects)], losses[str(problem.reports)]

        rule = trajectories.Treated(optimizer, lambda rule: transforms.rotate(rule, basis))
        return trajectories.follow(
            *(problem, rule, lambda t: rate, stops, observe),
            params=params,
            key=key,
            data=data,
        )[1]

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """Every KEPT; `loss` [optimizer, scope, seed] is the test loss after `steps`."""
    order = ("optimizer", "scope", "seed", "stop")
    curve = dataset.curve.transpose(*order)
    loss = curve.isel(stop=MARKS // 2 - 1, drop=True)
    return dataset.assign(curve=curve, loss=loss)[list(KEPT)]


# Verdicts ---------------------------------------------------------------------------------


def found(results: Results, name: str, scope: str, rule: str = "Adam") -> np.ndarray:
    """One of KEPT [seed, ...] of a rule in a scope; inf where not finite."""
    records = results.selected(results.experiment.problem)
    return statistics.worst(records[name].sel(optimizer=rule, scope=scope).values)


def _over(
    scope: str, other: str, rule: str = "Adam", base: str | None = None
) -> Callable[[Results], Estimate]:
    """A rule's loss in a scope over a rule's in another, paired by seed."""

    def measure(results: Results) -> Estimate:
        above = found(results, "loss", scope, rule)
        return statistics.bootstrap(above / found(results, "loss", other, base or rule))

    return measure


def lost(results: Results, scope: str, rule: str = "Adam") -> np.ndarray:
    """Share [seed] of a rule's lead over momentum, both plain, that a scope costs.

    NaN without a lead.
    """
    plain = found(results, "loss", "none", rule)
    lead = found(results, "loss", "none", "Momentum") - plain
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = (found(results, "loss", scope, rule) - plain) / lead
    return np.where(lead > 0, cost, np.nan)


def _lost(scope: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(lost(results, scope))


def _part(scope: str, whole: str = "global") -> Callable[[Results], Estimate]:
    """What a scope costs Adam over what another does; NaN where that costs nothing."""

    def measure(results: Results) -> Estimate:
        part, all_of_it = lost(results, scope), lost(results, whole)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(all_of_it > 0, part / all_of_it, np.nan)
        return statistics.bootstrap(shares)

    return measure


def slower(results: Results, scope: str, rule: str = "Adam") -> np.ndarray:
    """Steps [seed] to the loss that the plain run has after `steps`, over its own.

    Between stops the loss is a line; inf where twice as many steps do not suffice.
    """
    records = results.selected(results.experiment.problem)
    stops = records["stop"].values
    plain, curves = (found(results, "curve", s, rule) for s in ("none", scope))
    targets = found(results, "loss", "none", rule)
    times = [
        [_reached(own, stops, target) for own in pair]
        for *pair, target in zip(curves, plain, targets, strict=True)
    ]
    return np.array([one / other for one, other in times])


def _reached(curve: np.ndarray, stops: np.ndarray, target: float) -> float:
    """When a curve [stop] first comes to the target."""
    below = curve <= target
    if not below.any():
        return np.inf
    place = int(below.argmax())
    if place == 0:
        return float(stops[0])
    pair = slice(place - 1, place + 1)
    return float(np.interp(-target, -curve[pair], stops[pair]))


def _slower(scope: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(slower(results, scope))


def _unmoved(results: Results) -> Estimate:
    """The largest |loss / loss in the plain basis - 1| of momentum, at the stable rate."""
    experiment: Any = results.experiment
    scopes = experiment.scopes
    losses = np.stack([found(results, "stable_loss", s, "Momentum") for s in scopes])
    away = losses / losses[scopes.index("none")] - 1
    return statistics.exact(np.abs(away).max(), experiment.seeds)


SOURCE = "Zhang, Maes et al. 2025, arXiv:2410.19964, read at the source"
OWN = "own expectation"


def _predictions() -> Iterator[Prediction]:
    words = "plain basis: momentum ends 1.02 times as high as Adam or more"
    yield Prediction(words, OWN, _over("none", "none", "Momentum", "Adam"), at_least=1.02)
    words = "momentum at one rate: the same loss in every scope, to 1e-3"
    yield Prediction(words, f"{SOURCE}, Prop. 1", _unmoved, at_most=1e-3)
    words = "output-wise: costs Adam a tenth of its lead or less"
    yield Prediction(words, f"{SOURCE}; threshold own", _lost("output-wise"), at_most=0.1)
    for more, less in (
        ("input-wise", "output-wise"),
        ("layer-wise", "input-wise"),
        ("global", "layer-wise"),
    ):
        words = f"{more}: Adam ends above {less}, ratio 1 or more"
        yield Prediction(words, SOURCE, _over(more, less), at_least=1.0)
    words = "global: Adam needs 1.05 to 2 times as many steps"
    source = f"{SOURCE}, GPT-2 (124M); band own"
    yield Prediction(words, source, _slower("global"), 1.05, 2.0, published=1.16)
    words = "global: Adam still ends below momentum, ratio 1 or less"
    yield Prediction(words, OWN, _over("global", "none", "Adam", "Momentum"), at_most=1.0)
    words = "axes of tokens alone cost half of what global does or more"
    yield Prediction(words, OWN, _part("tokens"), at_least=0.5)
    words = "global in the blocks alone costs half of what global does or less"
    yield Prediction(words, OWN, _part("global, blocks"), at_most=0.5)
    words = "Signum: global ends above the plain basis, ratio 1 or more"
    yield Prediction(words, OWN, _over("global", "none", "Signum"), at_least=1.0)


PREDICTIONS = tuple(_predictions())


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule and scope."""
    del manifest
    records = results.selected(results.experiment.problem)
    for rule in map(str, results.experiment.optimizers):
        for scope in map(str, records.scope.values):
            at = records.sel(optimizer=rule, scope=scope)
            loss = statistics.bootstrap(found(results, "loss", scope, rule))
            time = statistics.bootstrap(slower(results, scope, rule))
            yield {
                "optimizer": rule,
                "scope": scope,
                "loss": loss.value,
                "loss_low": loss.low,
                "loss_high": loss.high,
                "steps_over_plain": time.value,
                "steps_low": time.low,
                "steps_high": time.high,
                "learning_rate": float(at.rate),
                "at_edge": float(at.at_edge),
                "loss_at_the_stable_rate": float(at.stable_loss.median()),
            }


# Figure -----------------------------------------------------------------------------------

LOOKS: dict[str, tuple[str, str, str]] = {
    "none": ("plain", "#000000", "o"),
    "output-wise": ("output-wise", "#0072b2", "s"),
    "input-wise": ("input-wise", "#d55e00", "D"),
    "layer-wise": ("layer-wise", "#cc79a7", "v"),
    "global": ("global", "#666666", "P"),
    "tokens": ("axes of tokens alone", "#009e73", "X"),
    "output-wise, blocks": ("output-wise, blocks alone", "#56b4e9", "<"),
    "input-wise, blocks": ("input-wise, blocks alone", "#e69f00", ">"),
    "global, blocks": ("global, blocks alone", "#999999", "p"),
}
"""Name, colour and marker, from top to bottom."""


def draw(results: Results) -> dict[str, Figure]:
    """Adam's losses by scope beside momentum's; its loss against steps."""
    from study import figures

    experiment: Any = results.experiment
    figure, (axes,) = figures.panels(1, 2, height=3.0, width_ratios=(1.1, 1))
    records = results.selected(experiment.problem)
    shown = [scope for scope in LOOKS if scope in records.scope.values]
    for row, scope in enumerate(shown):
        _, colour, marker = LOOKS[scope]
        losses = found(results, "loss", scope)
        axes[0].plot(losses, np.full(len(losses), row), marker, color=colour, ms=4.5)
    axes[0].set_yticks(range(len(shown)), [LOOKS[scope][0] for scope in shown])
    axes[0].set(ylim=(len(shown) - 0.5, -1.1))
    axes[0].set_xlabel(f"Test loss after {experiment.steps} steps, nats")
    axes[0].set_title("a  Adam, each seed")
    for rule, colour in (("Momentum", "#626289"), ("Signum", "#a05000")):
        if rule in records.optimizer.values:
            plain = float(np.median(found(results, "loss", "none", rule)))
            axes[0].axvline(plain, color=colour, ls="--", lw=1)
            axes[0].text(plain, -0.6, f"{rule} ", color=colour, ha="right", size=7)
    lines = [("Adam", scope, *LOOKS[scope]) for scope in shown[:5]]
    if "Momentum" in records.optimizer.values:
        lines.append(("Momentum", "none", "momentum", "#626289", "X"))
    for rule, scope, label, colour, marker in lines:
        curves = found(results, "curve", scope, rule)
        middle, (low, high) = np.median(curves, 0), statistics.band(curves)
        dash = "--" if rule == "Momentum" else "-"
        look: Any = {"color": colour, "marker": marker, "ls": dash, "ms": 3, "markevery": 3}
        axes[1].plot(records["stop"], middle, label=label, **look)
        axes[1].fill_between(records["stop"], low, high, color=colour, alpha=0.12, lw=0)
    axes[1].set(xlabel="Steps", ylabel="Test loss, nats", title="b  On the way")
    axes[1].legend()
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
