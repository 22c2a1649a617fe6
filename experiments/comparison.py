"""Which optimizer is better, after the same tuning; and does turning from SGD help?

Question.   Twelve rules on four problems, each tuned with the same budget, selected on
            validation, reported once on further seeds: who is ahead, how surely, at what
            cost, and does a rule that turns further from the gradient do better?
Prediction. No rule is best everywhere. Adam is ahead of SGD on the heavy-tailed softmax
            and on the language, level with momentum on digits, and no better than SGD on
            the noisy quadratic, where the noise decides. Turning further helps where
            classes or characters are rare (rank correlation of angle and loss below -0.3)
            and not elsewhere. Another beta, epsilon or decay does not change who wins.
Varied.     Scientific: rule, problem. Nuisance: learning rate, on half decades, then on
            eighths around the best, on three seeds of their own; then beta, epsilon and
            decoupled decay at three rates. Twelve paired seeds are reported, for with ten
            no pair of sixty-six could be told apart after Holm's correction.
Cost.       Under fifteen minutes on two CPU cores.

    python -m experiments.comparison             run, store, judge, draw
    python -m experiments.comparison --draw      draw stored records again

Equal budgets after Schmidt, Schneider & Hennig (2021), arXiv:2007.01547, and Choi et al.
(2019), arXiv:1910.05446 (both recalled): rankings depend on what is tuned. The target of
"steps to SGD" is the validation loss at which SGD ends, a median over its seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, ranking, statistics
from study.claims import Prediction
from study.experiment import Scheduled, log_grid
from study.optimizers import OPTIMIZERS, Optimizer
from study.problems import (
    Digits,
    HeavyTailed,
    Image2C2D,
    Image3C3D,
    ImageVAE,
    NoisyQuadratic,
    Problem,
    Text,
)
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

NEAR = (0.5623, 0.7499, 1.334, 1.778)
"""A quarter and an eighth of a decade down and up."""
ABOUT = (0.5623, 1.0, 1.778)
"""Factors on the selected rate at which another beta, epsilon or decay is tried."""


@dataclasses.dataclass(frozen=True)
class TunedComparison(Scheduled):
    """Each rule with the same number of trials on four problems."""

    second: Problem = NoisyQuadratic()
    """A bowl under noise."""
    third: Problem = HeavyTailed(groups=6)
    """Frequent and rare classes, all samples; each seed draws its inputs."""
    fourth: Problem = Text(depth=1, width=32, heads=2, context=32, batch_size=8)
    """A transformer."""
    refinements: tuple[float, ...] = NEAR
    """Factors on the best rate of the grid: further trials."""
    sensitivity: bool = True
    """Also other betas, epsilons and decays."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        if not all(math.isfinite(factor) and factor > 0 for factor in self.refinements):
            self.refuse("refinements", "positive and finite")
        if self.selection_seeds < 1:
            self.refuse("selection_seeds", "at least 1")

    @property
    def width(self) -> int:
        """Runs side by side: a report, or a set of refinements."""
        return max(self.seeds, self.selection_seeds * len(self.refinements))


DEFAULT = TunedComparison(
    problem=Digits(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Nesterov(),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Signum(),
        optimizers.Lion(),
        optimizers.Adagrad(),
        optimizers.RMSProp(),
        optimizers.Adam(),
        optimizers.LAMB(),
        optimizers.Muon(),
    ),
    learning_rates=log_grid(-4, 1, per_decade=2),
    metrics=("angle", "sign_agreement", "anisotropy"),
    steps=300,
    seeds=12,
    selection_seeds=3,
    records=20,
    evaluations=20,
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=Digits(width=4, depth=1, batch_size=4),
        second=NoisyQuadratic(dim=4),
        third=HeavyTailed(groups=2),
        fourth=Text(depth=0, width=4, heads=1, context=4, batch_size=1),
        optimizers=(optimizers.SGD(),),
        learning_rates=(0.01, 0.1),
        refinements=(0.5,),
        metrics=("angle", "sign_agreement"),
        steps=2,
        seeds=2,
        selection_seeds=1,
        records=2,
        evaluations=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=Image2C2D(images="fashion-mnist"),
        second=Image3C3D(images="cifar-10"),
        third=ImageVAE(images="mnist"),
        fourth=Text(depth=4, width=256, heads=4, context=256, batch_size=32),
        optimizers=tuple(OPTIMIZERS[name]() for name in OPTIMIZERS),
        learning_rates=log_grid(-5, 2, per_decade=2),
        steps=5_000,
        seeds=20,
        selection_seeds=5,
    ),
}
TITLES = {HeavyTailed: "Rare classes", Text: "Language"}
"""Where a problem's own label says less."""
KEPT = (
    "validation_start",
    "steps_to_sgd",
    "test",
    "test_start",
    "accuracy",
    "trial_objective",
    "trial_rate",
    "variant_objective",
    "diverged",
    *DEFAULT.metrics,
)


def run_cell(
    experiment: TunedComparison,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """Tunes a rule on a problem, reports it on other seeds, then varies its fields.

    `trial_objective` [trial, selection], with `trial_rate` [trial]: at the end, by which
    rates are selected; `variant_objective` [variant, factor, selection]; at the selected
    rate `validation`, `test` and `accuracy` [seed, evaluation] and metrics [seed, step].
    """
    import xarray as xr

    from study import sweep, tuning

    begun = time.perf_counter()
    reported = tuple(experiment.seed_numbers)[: experiment.seeds]
    others = tuple(experiment.seed_numbers)[experiment.seeds :]
    name = str(problem.selects)

    def run(settings: list[tuning.Setting], seeds: tuple[int, ...]) -> tuning.Runs:
        return tuning.run(experiment, problem, optimizer, settings, seeds, experiment.width)

    def objectives(settings: list[tuning.Setting]) -> np.ndarray:
        return run(settings, others).evaluations[name][..., -1]

    rates = np.array(experiment.learning_rates)
    tried = objectives([tuning.Setting(rate, {}) for rate in rates])
    progress(0.3)
    best = rates[statistics.select(tried).place]
    near = best * np.array(experiment.refinements)
    if len(near):
        more = objectives([tuning.Setting(rate, {}) for rate in near])
        rates, tried = np.concatenate([rates, near]), np.concatenate([tried, more])
    best = float(rates[statistics.select(tried).place])
    progress(0.4)
    found = run([tuning.Setting(best, {})], reported)
    progress(0.5)
    varied = np.full((len(tuning.VARIANTS), len(ABOUT), len(others)), np.nan)
    if experiment.sensitivity:
        about = [tuning.variants(optimizer, best * f, experiment.steps) for f in ABOUT]
        settings = [setting for of_rate in about for setting in of_rate.values()]
        values = objectives(settings).reshape(len(ABOUT), len(about[0]), -1)
        places = [tuning.VARIANTS.index(variant) for variant in about[0]]
        varied[places] = values.swapaxes(0, 1)
    ends = {key: value[0] for key, value in found.evaluations.items()}
    kept = {"validation": name, "test": str(problem.reports), "accuracy": "test_accuracy"}
    missing = np.full_like(ends[name], np.nan)
    dataset = xr.Dataset(
        {
            "trial_objective": (("trial", "selection"), tried),
            "trial_rate": ("trial", rates),
            "variant_objective": (("variant", "factor", "selection"), varied),
            **{
                key: (("seed", "evaluation"), ends.get(source, missing))
                for key, source in kept.items()
            },
            **{
                key: (
                    ("seed", "step"),
                    value[0],
                    {"units": "radian"} if key == "angle" else {},
                )
                for key, value in found.records.items()
            },
        },
        {
            "seed": np.array(reported, np.int32),
            "step": np.array(experiment.recorded_steps, np.int32),
            "evaluation": np.array(experiment.evaluated_steps, np.int32),
            "variant": list(tuning.VARIANTS),
            "factor": list(ABOUT),
        },
    )
    return sweep.finish(dataset, problem, optimizer, begun, len(rates) * len(others))


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """What tuning selected, and reported runs without their way.

    `selected_rate`, `at_edge` (the best of all trials is the lowest or highest rate tried)
    and `diverged`, the share of trials and seeds that were not finite at the end,
    [optimizer]. Over [optimizer, seed]: `test`, `test_start`, `validation_start` and
    `accuracy`; `steps_to_sgd`, until validation is where SGD ends, a median over its seeds,
    inf where it never is; metrics over the recorded steps at which they are defined, their
    means, of `anisotropy` the median. The trials as they are.
    """
    order = ("optimizer", "trial", "selection")
    tried = dataset.trial_objective.transpose(*order).values
    rates = dataset.trial_rate.transpose(*order[:2]).values
    medians = np.median(statistics.worst(tried), axis=-1)
    best = medians.argmin(-1)
    picked = np.take_along_axis(rates, best[:, None], 1)[:, 0]
    edge = (picked == rates.min(1)) | (picked == rates.max(1))
    some = np.isfinite(medians.min(-1))
    way = dataset.validation.transpose("optimizer", "seed", "evaluation")
    names = [str(name) for name in dataset.optimizer.values]
    target = np.nan  # without SGD nothing arrives
    if "SGD" in names:
        target = np.median(statistics.worst(way.values[names.index("SGD"), :, -1]))
    arrival = statistics.time_to_target(way.values, way.evaluation.values, float(target))
    kept = ("trial_objective", "trial_rate", "variant_objective")
    found = dataset[list(kept)].assign(
        steps_to_sgd=(("optimizer", "seed"), arrival),
        validation_start=way.isel(evaluation=0, drop=True),
        test=dataset.test.isel(evaluation=-1, drop=True),
        test_start=dataset.test.isel(evaluation=0, drop=True),
        accuracy=dataset.accuracy.isel(evaluation=-1, drop=True),
        diverged=("optimizer", 1 - np.isfinite(tried).mean((1, 2))),
    )
    for name in DEFAULT.metrics:
        if name in dataset:  # without a gradient there is no angle
            over = "median" if name == "anisotropy" else "mean"
            found[name] = getattr(dataset[name], over)("step", skipna=True)
    alone = ("step", "evaluation")
    return found.drop_vars(alone, errors="ignore").assign_coords(
        selected_rate=("optimizer", np.where(some, picked, np.nan)),
        at_edge=("optimizer", (edge & some).astype(np.int32)),
    )


# Measures ---------------------------------------------------------------------------------


def _by_rule(records: xr.DataArray) -> dict[str, np.ndarray]:
    """Values [...] of each rule, seeds last."""
    values = records.transpose("optimizer", ..., "seed").values
    return dict(zip(map(str, records.optimizer.values), values, strict=True))


def ends(results: Results, problem: Problem) -> dict[str, np.ndarray]:
    """Test values [seed] after the last step, by rule; inf where not finite."""
    found = _by_rule(results.selected(problem).test)
    return {name: statistics.worst(values) for name, values in found.items()}


def ratio(results: Results, problem: Problem, name: str, base: str = "SGD") -> Estimate:
    """The test value of a rule over that of another, paired by seed."""
    found = ends(results, problem)
    with np.errstate(invalid="ignore"):
        return statistics.bootstrap(found[name] / found[base])


def turned(results: Results, problem: Problem) -> dict[str, float]:
    """The mean angle from -g over training in degrees, a median over seeds, by rule."""
    found = _by_rule(results.selected(problem).angle)
    return {name: float(np.median(np.degrees(values))) for name, values in found.items()}


def helps(results: Results, problem: Problem) -> Estimate:
    """Rank correlation over rules of the angle with the test value; below 0: it helps."""
    angles, found = turned(results, problem), ends(results, problem)
    medians = [float(np.median(found[name])) for name in angles]
    return ranking.correlation(np.array(list(angles.values())), np.array(medians))


def steps_to_sgd(results: Results, problem: Problem) -> dict[str, np.ndarray]:
    """Steps [seed] until validation is where SGD ends, inf where it never is, by rule."""
    return _by_rule(results.selected(problem).steps_to_sgd)


def trials(
    results: Results, problem: Problem, grid_only: bool = False
) -> dict[str, np.ndarray]:
    """The objective [trial] of each trial, a median over selection seeds, by rule."""
    records = results.selected(problem).trial_objective
    values = records.transpose("optimizer", "trial", "selection").values
    if grid_only:
        experiment: Any = results.experiment
        values = values[:, : len(experiment.learning_rates)]
    medians = np.median(statistics.worst(values), axis=-1)
    return dict(zip(map(str, records.optimizer.values), medians, strict=True))


def sensitivity(results: Results, problem: Problem) -> dict[str, np.ndarray]:
    """The objective with another field over that without [variant], by rule.

    Each at the best of its three rates, medians over selection seeds; NaN where the rule
    has no such field.
    """
    records = results.selected(problem).variant_objective
    order = ("optimizer", "variant", "factor", "selection")
    values = records.transpose(*order).values
    lacking = np.isnan(values).all((2, 3))
    medians = np.median(statistics.worst(values), axis=-1).min(-1)
    found = np.where(lacking, np.nan, medians)
    plain = trials(results, problem)
    names = map(str, records.optimizer.values)
    with np.errstate(divide="ignore", invalid="ignore"):  # a loss of 0 over one of 0
        return {n: row / plain[n].min() for n, row in zip(names, found, strict=True)}


def pairs(results: Results, problem: Problem) -> dict[tuple[str, str], tuple[float, float]]:
    """Of each pair of rules on a problem, Holm's p over all of its pairs and the effect."""
    found = ends(results, problem)
    both = list(itertools.combinations(found, 2))
    compared = [ranking.pair(found[a], found[b]) for a, b in both]
    adjusted = ranking.holm(np.array([pair.p for pair in compared]))
    return {
        names: (float(p), pair.effect)
        for names, p, pair in zip(both, adjusted, compared, strict=True)
    }


def ranks(results: Results, problem: Problem) -> dict[str, Estimate]:
    """The rank of each rule by its median test value, from 1."""
    found = ends(results, problem)
    return dict(zip(found, ranking.ranks(np.stack(list(found.values()))), strict=True))


def good_rates(results: Results, problem: Problem) -> dict[str, float]:
    """Rates of the grid whose objective is at most a tenth above the grid's best.

    NaN where the best is 0: a tenth above it is nothing.
    """
    found = trials(results, problem, grid_only=True)
    return {
        name: float((row <= 1.1 * row.min()).sum()) if row.min() > 0 else math.nan
        for name, row in found.items()
    }


def budgets(results: Results, problem: Problem) -> dict[str, np.ndarray]:
    """The expected objective after k trials in random order [k], by rule.

    A trial that diverged, or ends above the start, leaves the start.
    """
    start = float(np.median(results.selected(problem).validation_start))
    return {
        name: ranking.expected_best(np.minimum(values, start))
        for name, values in trials(results, problem).items()
    }


# Verdicts ---------------------------------------------------------------------------------

Measure = Callable[["Results", Problem], Estimate]


def _on(kind: type[Problem], measure: Measure) -> Callable[[Results], Estimate]:
    """A measure on the problem of this class; KeyError where there is none."""

    def of_results(results: Results) -> Estimate:
        for problem in results.experiment.problems:
            if isinstance(problem, kind):
                return measure(results, problem)
        raise KeyError(kind.__name__)

    return of_results


def _ratio(name: str, base: str = "SGD") -> Measure:
    return lambda results, problem: ratio(results, problem, name, base)


def _wider(results: Results, problem: Problem) -> Estimate:
    """Adam's good rates less SGD's."""
    found = good_rates(results, problem)
    return statistics.exact(found["Adam"] - found["SGD"])


def _variant(name: str, role: str) -> Measure:
    """What the best other value of a field changes of a rule's objective."""

    def measure(results: Results, problem: Problem) -> Estimate:
        from study import tuning

        row = sensitivity(results, problem)[name]
        chosen = [i for i, v in enumerate(tuning.VARIANTS) if v.startswith(role)]
        return statistics.exact(float(np.min(row[chosen])))

    return measure


def _best(values: dict[str, np.ndarray]) -> set[str]:
    """The rules with the lowest median: several where they are equal."""
    medians = {name: float(np.median(found)) for name, found in values.items()}
    return {name for name, median in medians.items() if median == min(medians.values())}


def _winners(results: Results) -> Estimate:
    """Rules that are best alone on some problem, by the median of the test values."""
    problems = results.experiment.problems
    best = [_best(ends(results, problem)) for problem in problems]
    alone = {name for names in best if len(names) == 1 for name in names}
    return statistics.exact(len(alone), len(problems))


def _same_winner(results: Results) -> Estimate:
    """Share of problems whose best rule stays if each takes its best variant.

    By the objective on selection seeds. Rules have two to eight variants, as many as they
    have fields. Problems on which several rules are best before are left out.
    """
    stays = []
    for problem in results.experiment.problems:
        plain = {name: row.min() for name, row in trials(results, problem).items()}
        varied = sensitivity(results, problem)
        free = {
            name: value * np.nanmin([1.0, *varied[name]]) for name, value in plain.items()
        }
        if len(_best(plain)) == 1:
            stays.append(_best(plain) == _best(free))
    return statistics.exact(float(np.mean(stays)) if stays else np.nan, len(stays))


def _refined(results: Results) -> Estimate:
    """Kendall's tau of the rules' objectives before and after refinement, the smallest."""
    from scipy import stats

    found = []
    for problem in results.experiment.problems:
        both = [
            [row.min() for row in trials(results, problem, grid_only).values()]
            for grid_only in (True, False)
        ]
        if len(both[0]) < 2:
            raise KeyError("optimizer")
        tau: Any = stats.kendalltau(*both)
        found.append(float(tau.statistic))
    return statistics.exact(min(found), len(found))


def _apart(results: Results) -> Estimate:
    """Share of all pairs told apart at 5 % after Holm, a mean over problems."""
    shares = []
    for problem in results.experiment.problems:
        found = [p <= 0.05 for p, _ in pairs(results, problem).values()]
        shares.append(float(np.mean(found)) if found else np.nan)
    return statistics.exact(float(np.mean(shares)), len(shares))


OWN = "own expectation"
PREDICTIONS = (
    Prediction(
        "no rule is best everywhere: two rules or more are best on some problem",
        "Schmidt et al. 2021, arXiv:2007.01547, recalled: no rule dominates; threshold own",
        _winners,
        at_least=2,
    ),
    Prediction(
        "rare classes: Adam ends at most half as high as SGD",
        "Kunstner et al. 2024, arXiv:2402.19449; threshold own",
        _on(HeavyTailed, _ratio("Adam")),
        at_most=0.5,
    ),
    Prediction(
        "language: Adam's test loss is below SGD's, by a twentieth or more",
        "Kunstner et al. 2023, arXiv:2304.13960, abstract; threshold own",
        _on(Text, _ratio("Adam")),
        at_most=0.95,
    ),
    Prediction(
        "digits: Adam's test loss is within a quarter of momentum's",
        OWN,
        _on(Digits, _ratio("Adam", "Momentum")),
        at_least=0.8,
        at_most=1.25,
    ),
    Prediction(
        "noisy quadratic: Adam ends no lower than nine tenths of SGD",
        OWN,
        _on(NoisyQuadratic, _ratio("Adam")),
        at_least=0.9,
    ),
    *(
        Prediction(
            f"{title}: turning further helps: rank correlation of -0.3 or below",
            OWN,
            _on(kind, helps),
            at_most=-0.3,
        )
        for kind, title in ((HeavyTailed, "rare classes"), (Text, "language"))
    ),
    *(
        Prediction(
            f"{title}: turning further does not help: rank correlation of -0.3 or above",
            OWN,
            _on(kind, helps),
            at_least=-0.3,
        )
        for kind, title in ((Digits, "digits"), (NoisyQuadratic, "noisy quadratic"))
    ),
    *(
        Prediction(
            f"{title}: Adam has at most one good rate more than SGD on half decades",
            "Schneider et al. 2019 (DeepOBS), from its published runs; threshold own",
            _on(kind, _wider),
            at_most=1,
        )
        for kind, title in (
            (Digits, "digits"),
            (NoisyQuadratic, "noisy quadratic"),
            (HeavyTailed, "rare classes"),
            (Text, "language"),
        )
    ),
    Prediction(
        "refining the rates changes the order little: Kendall's tau of 0.8 or more",
        OWN,
        _refined,
        at_least=0.8,
    ),
    Prediction(
        "another beta, epsilon or decay leaves the best rule best on three of the four",
        OWN,
        _same_winner,
        at_least=0.75,
    ),
    Prediction(
        "rare classes: another epsilon gains Adam a twentieth or more",
        "an independent run at m = 7, 50 steps: 0.57 of 0.68 at 1e-2; threshold own",
        _on(HeavyTailed, _variant("Adam", "epsilon")),
        at_most=0.95,
    ),
    Prediction(
        "digits: another beta_2 gains Adam less than a tenth",
        OWN,
        _on(Digits, _variant("Adam", "squares")),
        at_least=0.9,
    ),
    Prediction(
        "more than half of all pairs are told apart at 5 % after Holm's correction",
        OWN,
        _apart,
        at_least=0.5,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule on each problem."""
    from study import tuning

    costs = {(c["problem"], c["optimizer"]): c for c in manifest["cells"].values()}
    for problem in results.experiment.problems:
        records = results.selected(problem)
        found, order, tried = (
            ends(results, problem),
            ranks(results, problem),
            trials(results, problem),
        )
        arrivals, angles = steps_to_sgd(results, problem), turned(results, problem)
        told, varied = pairs(results, problem), sensitivity(results, problem)
        after, wide = budgets(results, problem), good_rates(results, problem)
        begin = float(np.median(records.test_start))
        for name, values in found.items():
            at = records.sel(optimizer=name)
            end, arrival = (
                statistics.bootstrap(values),
                statistics.bootstrap(arrivals[name]),
            )
            against, effect = ratio(results, problem, name), told.get(("SGD", name))
            cost = costs[str(problem), name]
            row = varied[name]
            some = bool(np.isfinite(row).any())
            yield {
                "problem": _title(problem),
                "optimizer": name,
                "learning_rate": float(at.selected_rate),
                "at_edge": int(at.at_edge),
                "trials": len(tried[name]),
                "validation": float(tried[name].min()),
                "test": end.value,
                "test_low": end.low,
                "test_high": end.high,
                "accuracy": float(np.median(at.accuracy)),
                "over_sgd": against.value,
                "over_sgd_low": against.low,
                "over_sgd_high": against.high,
                "holm_p_against_sgd": effect[0] if effect else math.nan,
                "effect_against_sgd": -effect[1] if effect else math.nan,
                "rank": order[name].value,
                "rank_low": order[name].low,
                "rank_high": order[name].high,
                "steps_to_sgd": arrival.value,
                "steps_to_sgd_low": arrival.low,
                "steps_to_sgd_high": arrival.high,
                "never_there": float(np.isinf(arrivals[name]).mean()),
                "diverged_share": float(at.diverged),
                "collapsed_share": float((values >= begin).mean()),
                "good_rates": wide[name],
                "expected_after_3": float(after[name][min(2, len(after[name]) - 1)]),
                "expected_after_all": float(after[name][-1]),
                "best_variant": tuning.VARIANTS[int(np.nanargmin(row))] if some else "",
                "best_variant_over_plain": float(np.nanmin(row)) if some else math.nan,
                "angle_degrees": float(angles[name]),
                "sign_agreement": float(at.sign_agreement.mean()),
                "anisotropy": float(at.anisotropy.median())
                if "anisotropy" in at
                else math.nan,
                "seconds": cost["run_seconds"],
                "parameters": cost["parameters"],
                "state_bytes": cost["state_bytes"],
            }


# Figures ----------------------------------------------------------------------------------

FARTHEST = 1e3
"""Ratios beyond it, 0 among them, are drawn at the border."""


def draw(results: Results) -> dict[str, Figure]:
    """Rules over SGD and against their angle; what budgets give; what fields change."""
    drawn = {"figure": _draw_ranking(results), "figure_budget": _draw_budgets(results)}
    experiment: Any = results.experiment
    if experiment.sensitivity:
        drawn["figure_sensitivity"] = _draw_sensitivity(results)
    return drawn


def _title(problem: Problem) -> str:
    return TITLES.get(type(problem), problem.label)


def _draw_ranking(results: Results) -> Figure:
    from study import figures

    entries: Any = results.experiment.optimizers
    looks = figures.look(entries)
    titles = [looks[str(entry)]["label"] for entry in entries]
    problems = results.experiment.problems
    figure, axes = figures.panels(2, len(problems), height=2.7)
    for column, problem in enumerate(problems):
        above, below = axes[:, column]
        angles = turned(results, problem)
        for place, entry in enumerate(map(str, entries)):
            over = np.clip(ratio(results, problem, entry)[:3], 1 / FARTHEST, FARTHEST)
            mark = {k: looks[entry][k] for k in ("color", "marker")}
            if np.isfinite(over).all():
                reach = np.abs(over[1:] - over[0])[:, None]
                above.errorbar(over[0], place, xerr=reach, **mark)
                below.plot(angles[entry], over[0], linestyle="none", **mark)
        above.axvline(1, color="black", linewidth=0.8)
        below.axhline(1, color="black", linewidth=0.8)
        above.set_title(f"{'abcd'[column]}  {_title(problem)}")
        above.set_xscale("log")
        below.set_yscale("log")
        above.set_yticks(range(len(titles)), titles if not column else [])
        above.invert_yaxis()
        above.set_xlabel("Over SGD's")
        below.set_xlabel("Degrees from $-g$")
        rho = helps(results, problem)
        below.set_title(
            f"rank correlation {rho.value:.2f}\n[{rho.low:.2f}, {rho.high:.2f}]",
            fontweight="normal",
            fontsize=7.5,
        )
        _plain_ticks(above.xaxis)
        _plain_ticks(below.yaxis)
    axes[1, 0].set_ylabel("Test value over SGD's")
    figures.note(figure, figures.medians(results.count()))
    return figure


def _plain_ticks(axis: Any) -> None:
    """Few decimal labels on a logarithmic axis, over less than a decade too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axis.get_view_interval()
    narrow = high / low < 10
    axis.set_major_locator(MaxNLocator(4) if narrow else LogLocator(numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _draw_budgets(results: Results) -> Figure:
    from study import figures

    entries: Any = results.experiment.optimizers
    looks = figures.look(entries)
    figure, axes = figures.panels(2, len(results.experiment.problems), height=2.4)
    for column, problem in enumerate(results.experiment.problems):
        above, below = axes[:, column]
        arrivals = steps_to_sgd(results, problem)
        for name, values in budgets(results, problem).items():
            plain = {**looks[name], "marker": ""}
            above.plot(np.arange(len(values)) + 1, values, **plain)
        costs = np.stack([np.maximum(arrivals[str(e)], 1) for e in entries], axis=1)
        factors = np.geomspace(1, 16, 60)
        shares = ranking.profile(costs, factors)
        for entry, share in zip(entries, shares.T, strict=True):
            below.plot(factors, share, **{**looks[str(entry)], "marker": ""})
        above.set_title(f"{'abcd'[column]}  {_title(problem)}")
        above.set_yscale("log")
        above.set_ylim(bottom=max(above.get_ylim()[0], 1e-6))
        _plain_ticks(above.yaxis)
        above.set_xlabel("Trials")
        below.set_xscale("log", base=2)
        below.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        below.set_xlabel("Steps over the fastest's")
        below.set_ylim(-0.03, 1.03)
    axes[0, 0].set_ylabel("Expected objective")
    axes[1, 0].set_ylabel("Seeds that reach SGD's loss")
    figures.legend(figure, axes[0, 0])
    figures.note(
        figure, f"Above: all trials in random order. Below: {results.count()} seeds."
    )
    return figure


def _draw_sensitivity(results: Results) -> Figure:
    from study import figures, tuning

    entries: Any = results.experiment.optimizers
    looks = figures.look(entries)
    figure, axes = figures.panels(2, 2, height=3.0)
    for panel, letter, problem in zip(
        axes.flat, "abcd", results.experiment.problems, strict=True
    ):
        found = sensitivity(results, problem)
        values = np.stack([found[str(entry)] for entry in entries])
        _table(panel, values, [looks[str(e)]["label"] for e in entries], tuning.VARIANTS)
        panel.set_title(f"{letter}  {_title(problem)}")
    figures.note(
        figure, f"Medians of {results.count('selection_seeds')} seeds kept for selection."
    )
    return figure


def _table(
    panel: Axes, ratios: np.ndarray, rows: list[str], columns: tuple[str, ...]
) -> None:
    """Ratios on cells coloured by their logarithm, a factor of two either way.

    A dash where the rule has no such field, or nothing is left to gain: 0 over 0.
    """
    reach = np.log10(2)
    with np.errstate(divide="ignore"):
        logs = np.log10(ratios)
    panel.pcolormesh(
        np.clip(logs, -2 * reach, 2 * reach),
        cmap="PuOr_r",
        vmin=-reach,
        vmax=reach,
        edgecolors="white",
        linewidth=0.8,
    )
    panel.set_yticks(np.arange(len(rows)) + 0.5, rows)
    panel.set_xticks(
        np.arange(len(columns)) + 0.5, columns, rotation=35, ha="right", fontsize=6.5
    )
    panel.tick_params(length=0)
    panel.invert_yaxis()
    panel.grid(False)
    for (i, j), value in np.ndenumerate(ratios):
        text = "–" if np.isnan(value) else f"{value:.2g}" if value > 99 else f"{value:.2f}"
        color = "white" if abs(logs[i, j]) > 0.75 * reach else "black"
        panel.text(
            j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=6, color=color
        )


if __name__ == "__main__":
    cli.main(__spec__.name)
