"""Sign descent on a turned bowl: when do signs beat the gradient, and does theory tell?

Question.   Sign descent is steepest descent in the max-norm. With the step that each norm's
            own smoothness guarantees, |g|_1 / L_inf sign(g) against g / L_2, which needs
            fewer steps on a quadratic, as its axes are turned away from the elements? And
            does (L_inf / L_2) / (d density of g), the ratio of the guaranteed decreases of
            one step, predict the ratio of steps?
Prediction. On the axes sign descent needs less than 0.6 of gradient descent's steps, turned
            by 30 degrees more than gradient descent. In two dimensions this is known in
            closed form on the axes (rates of (kappa - 1) / (kappa + 1) and 1 - 1 / kappa)
            and at 45 degrees, where both are as fast. With the densities that sign descent
            meets the theory is right to a factor of 1.5; with those that gradient descent
            meets it says 1 at every angle in two dimensions.
Varied.     Scientific: rule, angle, condition number, dimension. Nuisance: none. Fixed:
            eigenvalues log-spaced from 1 to 1 / kappa, 20 normal starts turned with the
            axes, until the loss is 1e-6 of the first; no noise, float64. Ablations: both
            steps times a factor, selected by the median or by the slowest of ten further
            starts; down to 1e-15, where the start is forgotten.
Cost.       A quarter of a minute on two CPU cores.

    python -m experiments.sign_geometry             run, store, judge, draw
    python -m experiments.sign_geometry --draw      draw stored records again

Balles, Pedregosa & Le Roux (2020), arXiv:2002.08056, of which the abstract and summaries
were read: signs are to be preferred where the Hessian is concentrated on its diagonal and
its largest eigenvalue is far above their mean. The two-dimensional results are our own
derivations. Layers that are rescaled are in the records of `symmetries`.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import NoisyQuadratic, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

GRADIENT, SIGN = optimizers.SGD(), optimizers.RescaledSignDescent()
PLANE = NoisyQuadratic(dim=2, noise=0.0, dtype="float64")


@dataclasses.dataclass(frozen=True)
class SignGeometry(Comparison):
    """Steps to a target on quadratics, whose condition and rotation are varied."""

    wide: NoisyQuadratic = dataclasses.replace(PLANE, dim=10)
    """A second quadratic, of more dimensions."""
    angles: tuple[float, ...] = tuple(5.0 * i for i in range(10))
    """Degrees by which planes of the first and the last axis, and so on, are turned."""
    haar: int = 10
    """Random rotations besides."""
    conditions: tuple[float, ...] = (10.0, 100.0)
    """Kappa."""
    factors: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 1.9, 1.98)
    """On the guaranteed step; below 2 every step still descends."""
    starts: int = 20
    """Reported."""
    selection_starts: int = 10
    """Only to select the factor."""
    tolerance: float = 1e-6
    """Of the first loss, to be reached."""
    deep: float = 1e-15
    """The same as an ablation, lower; where a run ends."""
    budget: int = 50_000
    """Steps after which a run is given up."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("angles", "conditions", "factors")
        for name in ("haar", "starts", "selection_starts", "budget"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        if 1.0 not in self.factors:
            self.refuse("factors", "with 1 among them")
        if not 0 < self.deep < self.tolerance < 1:
            self.refuse("deep", "positive and below the tolerance, that below 1")
        if self.wide.dim == getattr(self.problem, "dim", 0):
            self.refuse("wide", "of another dimension than the problem")
        if not set(self.optimizers) <= {GRADIENT, SIGN}:
            self.refuse("optimizers", "of SGD and RescaledSignDescent")

    def rotations(self, problem: NoisyQuadratic) -> dict[str, np.ndarray]:
        """Bases [dim, dim] by name: the angle, or `Haar` and its seed."""
        fields: dict[str, dict[str, Any]] = {f"{a:g}": {"rotation": a} for a in self.angles}
        for seed in range(self.haar):
            fields[f"Haar {seed}"] = {"rotation": "random", "rotation_seed": seed}
        return {n: dataclasses.replace(problem, **f).basis() for n, f in fields.items()}


DEFAULT = SignGeometry(problem=PLANE, optimizers=(GRADIENT, SIGN))
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        angles=(0.0, 30.0),
        haar=1,
        conditions=(10.0,),
        factors=(1.0, 1.5),
        starts=2,
        selection_starts=1,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        angles=tuple(2.5 * i for i in range(19)),
        haar=30,
        conditions=(10.0, 100.0, 1000.0),
        starts=100,
        selection_starts=30,
        budget=500_000,
    ),
}
KEPT = ("steps", "density", "share", "two", "most", "factor", "at_edge")
CHOICES = ("one", "best", "safe", "deep")
"""Factor 1; the factor with the lowest median, or the lowest slowest start; 1, but deep."""


def smoothness(hessian: np.ndarray) -> tuple[float, float]:
    """L_2 and L_inf of a quadratic: its largest eigenvalue, the largest s^T H s, s signs.

    All 2^(d - 1) sign vectors are tried, for -s is as good as s.
    """
    rest = list(itertools.product((1.0, -1.0), repeat=len(hessian) - 1))
    signs = np.array([(1.0, *tail) for tail in rest])
    most = np.sum((signs @ hessian) * signs, axis=1).max()
    return float(np.linalg.eigvalsh(hessian)[-1]), float(most)


def guaranteed(optimizer: Optimizer, dim: int, two: float, most: float) -> float:
    """The learning rate of the step that the rule's own norm guarantees to descend."""
    return 1 / two if optimizer == GRADIENT else dim / most


def run_cell(
    experiment: SignGeometry,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`steps` [basis, condition, factor, target, start] to a target, -1 if never.

    The second target is for factor 1 alone. At factor 1 on the way to the first, means over
    steps [basis, condition, start]: `density` of the gradients, and `share`, the guaranteed
    decrease over the loss. L_2 and L_inf as `two` and `most` [basis, condition].
    """
    import xarray as xr

    from study import devices, sweep

    assert isinstance(problem, NoisyQuadratic)
    begun, kappas = time.perf_counter(), experiment.conditions
    turns = experiment.rotations(problem)
    spectra = [dataclasses.replace(problem, condition=k).eigenvalues() for k in kappas]
    pairs = itertools.product(turns.values(), spectra)
    hessians = np.stack([(turn * spectrum) @ turn.T for turn, spectrum in pairs])
    smooth = np.array([smoothness(hessian) for hessian in hessians])
    rates = np.array([guaranteed(optimizer, problem.dim, *pair) for pair in smooth])
    count = experiment.starts + experiment.selection_starts
    with devices.precision(problem.dtype):
        z = np.asarray(sweep.starts(problem, tuple(range(count)))[0]["x"])
        begins = np.stack([z @ turn.T for turn in turns.values() for _ in kappas])
        places = np.arange(len(hessians), dtype=np.int32)
        seeds = np.arange(count, dtype=np.int32)
        runs = np.meshgrid(places, experiment.factors, seeds, indexing="ij")
        found = devices.map_runs(
            _descend(experiment, problem, optimizer),
            (hessians, begins, rates),
            [axis.ravel() for axis in runs],
        )
    shape = (len(turns), len(kappas), len(experiment.factors), count)
    steps, density, share = (x.reshape(*shape, *x.shape[1:]) for x in found)
    dims, one = ("basis", "condition", "factor", "start"), experiment.factors.index(1)
    dataset = xr.Dataset(
        {
            "steps": ((*dims, "target"), steps.astype(np.int32)),
            "density": ((*dims[:2], "start"), density[:, :, one]),
            "share": ((*dims[:2], "start"), share[:, :, one]),
            "two": (dims[:2], smooth[:, 0].reshape(shape[:2])),
            "most": (dims[:2], smooth[:, 1].reshape(shape[:2])),
        },
        {
            "basis": list(turns),
            "condition": list(kappas),
            "factor": list(experiment.factors),
        },
        {"reported": experiment.starts},
    )
    return sweep.finish(dataset, problem, optimizer, begun, runs[0].size)


def _descend(
    experiment: SignGeometry, problem: NoisyQuadratic, optimizer: Optimizer
) -> Callable[..., Any]:
    """One run: steps to each target or -1, mean density and share on the way."""
    import jax
    import jax.numpy as jnp

    from study import train

    key, zero = jax.random.key(0), jnp.zeros((), jnp.int32)
    still = np.zeros(problem.dim)

    def run(hessians: Any, begins: Any, rates: Any, place: Any, factor: Any, start: Any):
        data, rate = {"hessian": hessians[place], "noise": still}, factor * rates[place]
        height = lambda state: problem.evaluate(data, state.params)["objective"]  # noqa: E731
        state = train.start(optimizer, rate, {"x": begins[place, start]}, shadowed=False)
        targets = np.array([experiment.tolerance, experiment.deep]) * height(state)

        def advance(carry: Any) -> Any:
            state, counts, total, away = carry
            after, step = train.step(problem, optimizer, data, rate, key, state, zero)
            g = jnp.abs(step.grad["x"])
            density = g.sum() ** 2 / jnp.sum(g * g) / g.size
            square = jnp.sum(g * g) if optimizer == GRADIENT else g.sum() ** 2 / g.size
            pair = jnp.stack([density, rate * square / 2 / step.loss])
            total = total + jnp.where(away[0], pair, 0)
            return after, counts + away, total, height(after) > targets

        wanted = lambda away: away[0] | (away[1] & (factor == 1))  # noqa: E731
        counts, away = jnp.zeros(2, jnp.int32), jnp.ones(2, bool)
        _, counts, total, away = jax.lax.while_loop(
            lambda carry: wanted(carry[3]) & (carry[1][1] < experiment.budget),
            advance,
            (state, counts, jnp.zeros(2), away),
        )
        return jnp.where(away, -1, counts), *(total / counts[0])

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """The reported starts with each of CHOICES.

    `steps` [optimizer, choice, basis, condition, start], inf for a run that does not
    arrive; `density` and `share` [optimizer, basis, condition, start]; the `factor` and
    whether it is the first or last, `at_edge` [optimizer, choice, basis, condition].
    """
    import xarray as xr

    order = ("optimizer", "basis", "condition", "factor", "target", "start")
    steps = dataset.steps.transpose(*order).values.astype(np.float64)
    steps = np.where(steps < 0, np.inf, steps)
    count, factors = dataset.attrs["reported"], dataset.factor.values
    judged = steps[..., 0, count:]
    one = np.full(steps.shape[:3], factors.tolist().index(1))
    places = [one, np.median(judged, -1).argmin(-1), judged.max(-1).argmin(-1), one]
    chosen = [
        np.take_along_axis(steps[..., target, :count], place[..., None, None], 3)[..., 0, :]
        for target, place in zip((0, 0, 0, 1), places, strict=True)
    ]
    place = np.stack(places, axis=1)
    selected = np.isin(CHOICES, ("best", "safe"))[None, :, None, None]
    edge = selected & np.isin(place, (0, len(factors) - 1))
    dims = ("optimizer", "choice", "basis", "condition")
    means = dataset[["density", "share"]].isel(start=slice(count))
    return xr.Dataset(
        {
            "steps": ((*dims, "start"), np.stack(chosen, axis=1)),
            "density": means.density,
            "share": means.share,
            "factor": (dims, factors[place]),
            "at_edge": (dims, edge.astype(np.int32)),
            "two": dataset.two.isel(optimizer=0, drop=True),
            "most": dataset.most.isel(optimizer=0, drop=True),
        },
        {"choice": list(CHOICES)}
        | {name: dataset[name] for name in ("optimizer", "basis", "condition")},
        {"problem": dataset.attrs["problem"]},
    )


# Verdicts ---------------------------------------------------------------------------------

Case = tuple[int, str, float]
"""Dimension, name of the basis, kappa."""


def dims(results: Results) -> dict[int, Problem]:
    """The problems by their dimension."""
    return {problem.dim: problem for problem in results.experiment.problems}  # type: ignore[attr-defined]


def records(results: Results, dim: int) -> xr.Dataset:
    """Of one problem, condensed."""
    return results.selected(dims(results)[dim])


def pairs(results: Results, case: Case, choice: str = "one") -> np.ndarray:
    """Steps of signs and of gradient descent [rule, start]."""
    dim, basis, kappa = case
    at = {"basis": basis, "condition": kappa, "choice": choice}
    steps = records(results, dim).steps.sel(at).transpose("optimizer", "start")
    return steps.sel(optimizer=[str(SIGN), str(GRADIENT)]).values


def ratios(results: Results, case: Case, choice: str = "one") -> np.ndarray:
    """Steps of signs over those of gradient descent from the same start [start]."""
    signs, gradient = pairs(results, case, choice)
    return signs / gradient


def predicted(results: Results, case: Case, path: Optimizer) -> float:
    """(L_inf / L_2) / (d density), by the median mean density on a rule's own path."""
    dim, basis, kappa = case
    at = records(results, dim).sel(basis=basis, condition=kappa)
    density = np.median(at.density.sel(optimizer=str(path)))
    return float(at.most / at.two / (dim * density))


def cases(results: Results, dim: int, kind: str = "") -> list[Case]:
    """All of a dimension, none if it was not run; of `Haar` rotations only."""
    if dim not in dims(results):
        return []
    found = records(results, dim)
    names = [name for name in map(str, found.basis.values) if name.startswith(kind)]
    return [(dim, name, float(k)) for name in names for k in found.condition.values]


def _ratio(*case: Any, choice: str = "one") -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(ratios(results, case, choice))  # pyright: ignore[reportArgumentType]


def of_medians(steps: np.ndarray) -> Estimate:
    """Median of the first over that of the second [2, start], starts resampled in pairs."""
    count = steps.shape[1]
    shape = statistics.RESAMPLES, count
    picks = np.random.default_rng(0).integers(0, count, shape)
    ratio = np.sort(np.divide(*np.median(steps[:, picks], axis=-1)))
    first = int((1 - statistics.LEVEL) / 2 * (len(ratio) - 1))
    value = np.divide(*np.median(steps, axis=-1))
    return Estimate(float(value), ratio[first], ratio[-1 - first], count)


def _of_medians(*case: Any) -> Callable[[Results], Estimate]:
    return lambda results: of_medians(pairs(results, case))  # pyright: ignore[reportArgumentType]


def _haar(kappa: float) -> Callable[[Results], Estimate]:
    """Median ratios by rotation, ten dimensions."""

    def measure(results: Results) -> Estimate:
        chosen = [case for case in cases(results, 10, "Haar") if case[2] == kappa]
        medians = [np.median(ratios(results, case)) for case in chosen]
        return statistics.bootstrap(np.array(medians))

    return measure


def _spread_pays(results: Results) -> Estimate:
    at = lambda kappa: ratios(results, (10, "0", kappa))  # noqa: E731
    return statistics.paired(at(100.0), at(10.0))


def _apart_at_45(results: Results) -> Estimate:
    """Two dimensions: the largest difference between signs and gradient descent."""
    steps = records(results, 2).steps.sel(basis="45", choice="one").values
    return statistics.exact(np.ptp(steps, axis=0).max(), steps[0].size)


def _theory(
    path: Optimizer, among: tuple[int, ...], judge: Callable[..., float]
) -> Callable[[Results], Estimate]:
    """What `judge` makes of predicted and of measured ratios, arrays over all cases."""

    def measure(results: Results) -> Estimate:
        every = [case for dim in among for case in cases(results, dim)]
        theory = np.array([predicted(results, case, path) for case in every])
        found = np.array([np.median(ratios(results, case)) for case in every])
        return statistics.exact(judge(theory, found), len(every))

    return measure


def _rank_correlation(theory: np.ndarray, found: np.ndarray) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(theory), rankdata(found))[0, 1])


BALLES = "Balles, Pedregosa & Le Roux 2020, arXiv:2002.08056, from the abstract"
OURS = "own derivation"
GRID = list(itertools.product((2, 10), (10.0, 100.0)))
PREDICTIONS = (
    *(
        Prediction(
            f"d = {dim}, kappa {kappa:g}, {angle} degrees: sign descent needs "
            + ("< 0.6 of GD's steps" if angle == "0" else "more steps than GD, ratio > 1")
            + (", each at the best multiple of its step" if choice == "best" else ""),
            "own expectation"
            if choice == "best"
            else f"{BALLES}; threshold of an independent calibration run, one seed",
            _ratio(dim, angle, kappa, choice=choice),
            **({"at_most": 0.6} if angle == "0" else {"at_least": 1.0}),
        )
        for choice in ("one", "best")
        for angle in ("0", "30")
        for dim, kappa in GRID
    ),
    Prediction(
        "d = 2, 45 degrees: sign descent and GD at most 2 steps apart, from every start",
        f"{OURS}: sign vectors are eigenvectors there, and L_inf = 2 L_2",
        _apart_at_45,
        at_most=2,
    ),
    Prediction(
        "d = 10, 0 degrees: kappa 100 instead of 10 lowers the share of GD's steps (< 0)",
        f"{BALLES}: the largest eigenvalue is to be far above their mean",
        _spread_pays,
        at_most=0,
    ),
    *(
        Prediction(
            f"d = 10, kappa {kappa:g}, random rotations: sign descent needs more steps than"
            " GD, ratio > 1",
            f"{BALLES}: the Hessian is to be concentrated on its diagonal",
            _haar(kappa),
            at_least=1.0,
        )
        for kappa in (10.0, 100.0)
    ),
    Prediction(
        "(L_inf / L_2) / (d density), densities of sign descent: right to a factor of 1.5",
        f"{BALLES}; factor: own expectation",
        _theory(SIGN, (2, 10), lambda t, f: np.exp(np.abs(np.log(t / f)).max())),
        at_most=1.5,
    ),
    Prediction(
        "(L_inf / L_2) / (d density), densities of sign descent: rank correlation >= 0.8",
        "own expectation",
        _theory(SIGN, (2, 10), _rank_correlation),
        at_least=0.8,
    ),
    Prediction(
        "d = 2, the same with the densities of GD: 1 at every angle, to 0.15",
        f"{OURS}: along the flat axis d density = 1 + sin(2 angle), nearly L_inf / L_2",
        _theory(GRADIENT, (2,), lambda t, f: np.abs(t - 1).max()),
        at_most=0.15,
    ),
    *(
        Prediction(
            f"d = {dim}, kappa {kappa:g}, {angle} degrees: median steps of sign descent"
            + (" < 0.6 of GD's median" if angle == "0" else " over GD's median, ratio > 1"),
            f"{BALLES}; threshold of an independent calibration run, one seed; added after"
            " the first run, for completeness",
            _of_medians(dim, angle, kappa),
            **({"at_most": 0.6} if angle == "0" else {"at_least": 1.0}),
        )
        for angle in ("0", "30")
        for dim, kappa in GRID
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each dimension, rotation and condition number."""
    del manifest
    for case in [case for dim in dims(results) for case in cases(results, dim)]:
        dim, basis, kappa = case
        at = records(results, dim).sel(basis=basis, condition=kappa)
        row: dict[str, Any] = {"dim": dim, "rotation": basis, "kappa": kappa}
        row["l_inf_over_l_2"] = float(at.most / at.two)
        for choice in CHOICES:
            estimate = statistics.bootstrap(ratios(results, case, choice))
            for name in ("value", "low", "high"):
                row[f"ratio_{choice}_{name}"] = getattr(estimate, name)
        for rule, short in ((GRADIENT, "gd"), (SIGN, "sign")):
            own = at.sel(optimizer=str(rule))
            row[f"steps_{short}"] = float(np.median(own.steps.sel(choice="one")))
            for name in ("density", "share"):
                row[f"{name}_{short}"] = float(np.median(own[name]))
            row[f"predicted_{short}"] = predicted(results, case, rule)
            for choice in ("best", "safe"):
                row[f"{choice}_factor_{short}"] = float(own.factor.sel(choice=choice))
                row[f"{choice}_at_edge_{short}"] = int(own.at_edge.sel(choice=choice))
        yield row


# Figure -----------------------------------------------------------------------------------

LOOKS: dict[tuple[int, float], dict[str, Any]] = {
    (2, 10.0): {"color": "#8fc1e3", "marker": "o", "ls": "-"},
    (2, 100.0): {"color": "#1b5e8c", "marker": "s", "ls": (0, (5, 1.5))},
    (10, 10.0): {"color": "#f0a04b", "marker": "D", "ls": (0, (1.2, 1.2))},
    (10, 100.0): {"color": "#a63603", "marker": "^", "ls": (0, (5, 1.5, 1, 1.5))},
}
"""By dimension and condition number."""


def draw(results: Results) -> dict[str, Figure]:
    """Ratios of steps against the angle, and against what theory predicts."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.5)
    titles = {
        "one": "a  The steps that are guaranteed",
        "safe": "b  The best multiples of both",
    }
    for panel, choice in zip(axes[0], titles, strict=True):
        _draw_ratios(panel, results, choice)
        panel.set_title(titles[choice])
    for panel, path in zip(axes[1], (SIGN, GRADIENT), strict=True):
        _draw_theory(panel, results, path)
    axes[1, 0].set_title("c  Theory, densities on sign descent's path")
    axes[1, 1].set_title("d  Theory, densities on GD's path")
    figures.legend(figure, axes[0, 0], columns=4)
    figures.note(figure, figures.medians(results.count("starts"), "starts"))
    return {"figure": figure}


def _draw_ratios(axes: Axes, results: Results, choice: str) -> None:
    """Medians with intervals over angles; medians of random rotations at the right."""
    axes.axhline(1, color="#555555", lw=0.8)
    for i, ((dim, kappa), look) in enumerate(LOOKS.items()):
        every = [case for case in cases(results, dim) if case[2] == kappa]
        turned = [case for case in every if not case[1].startswith("Haar")]
        if not turned:
            continue
        degrees = [float(case[1]) for case in turned]
        found = [statistics.bootstrap(ratios(results, case, choice)) for case in turned]
        middle, low, high = np.array([estimate[:3] for estimate in found]).T
        axes.plot(degrees, middle, **look, label=f"d = {dim}, $\\kappa$ = {kappa:g}")
        axes.fill_between(degrees, low, high, color=look["color"], alpha=0.2, lw=0)
        haar = [np.median(ratios(results, c, choice)) for c in every if c not in turned]
        if dim == 10:
            style = {"color": look["color"], "ls": "", "ms": 3}
            axes.plot([46 + 3 * i] * len(haar), haar, marker=look["marker"], **style)
    axes.set_xticks([0, 15, 30, 45, 53.5], ["0", "15", "30", "45", "random"])
    axes.set(xlabel="Degrees turned", ylabel="Steps, signs / gradient", ylim=(0, 3.4))


def _draw_theory(axes: Axes, results: Results, path: Optimizer) -> None:
    axes.plot([0.2, 4], [0.2, 4], color="#555555", lw=0.8)
    for (dim, kappa), look in LOOKS.items():
        every = [case for case in cases(results, dim) if case[2] == kappa]
        theory = [predicted(results, case, path) for case in every]
        found = [float(np.median(ratios(results, case))) for case in every]
        axes.plot(theory, found, color=look["color"], marker=look["marker"], ls="", ms=3.5)
    axes.set(xscale="log", yscale="log", xlim=(0.2, 4), ylim=(0.2, 4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
        axis.set_ticks([], minor=True)
    axes.set_xlabel(r"Predicted, $(L_\infty / L_2) / (d \cdot$ density$)$")
    axes.set_ylabel("Measured")


if __name__ == "__main__":
    cli.main(__spec__.name)
