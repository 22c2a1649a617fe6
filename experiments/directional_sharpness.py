"""How curved is the loss along the direction in which each rule steps?

Question.   v^T H v / |v|^2 along an update v, the directional sharpness, says how long a
            step may be before the loss turns up again. How large is it along the gradient,
            its sign, Adam's update, momentum, and gradients with their largest elements
            clipped, all from the same gradients on the path of SGD? Does the order hold on
            other rules' own paths, and on a network? And does low sharpness pay, or does it
            only mean a direction that has little to do with the gradient?
Prediction. On softmax regression with heavy-tailed classes, after 30 steps of SGD: along
            the gradient more than ten times that along its sign, that more than five times
            that along Adam's update; clipping the largest 1, 10 or 50 % of the elements
            lies between gradient and sign, the lower the more are clipped. The best step
            along Adam's update, cos^2 / sharpness, lowers the local quadratic more than the
            best along the gradient. The order is the same on the paths of momentum, sign
            descent and Adam, and on the path of SGD on Digits.
Varied.     Scientific: direction, path, problem. Nuisance: the path's learning rate, by
            half decades, selected on a seed of its own by the loss after the last step (of
            all data, on Digits of the validation set). Fixed: all training data in every
            step; seeds are five draws of the data, on Digits ten starts. Ablations: SGD's
            path at 0.1 to 3 times its rate; Adam's epsilon; Adam without averaging.
Cost.       A minute and a quarter on two CPU cores.

    python -m experiments.directional_sharpness             run, store, judge, draw
    python -m experiments.directional_sharpness --draw      draw stored records again

Pan & Li (2023), arXiv:2306.00204: the abstract was read, and of the authors' code
(panyan7/adam-vs-sgd, landscape_utils.py) how sharpness is measured and how elements are
clipped: to the magnitude that the given share of all elements reaches. They train
transformers; the problem here is that of Kunstner et al. (2024), arXiv:2402.19449.
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
from study.experiment import Comparison, log_grid
from study.optimizers import Optimizer
from study.problems import Digits, HeavyTailed, Problem
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost

GRADIENT, SIGN, ADAM = optimizers.SGD(), optimizers.SignDescent(), optimizers.Adam()
JUDGED = 30
"""Updates after which predictions are judged."""
NORMALISED, UNAVERAGED = optimizers.NormalisedGD(eps=0.0), optimizers.Adam(b1=0.0)


@dataclasses.dataclass(frozen=True)
class DirectionalSharpness(Comparison):
    """Sharpness along directions on the paths of the optimizers."""

    digits: Digits = Digits()
    """A network, with all of its training images in every step."""
    directions: tuple[Optimizer, ...] = (
        GRADIENT,
        NORMALISED,
        optimizers.Momentum(),
        SIGN,
        UNAVERAGED,
        ADAM,
        *(optimizers.Adam(eps=eps) for eps in (1e-5, 1e-3)),
    )
    """Rules that see the gradients on the path, and whose updates are measured."""
    shares: tuple[float, ...] = (0.01, 0.1, 0.5)
    """Of the elements of a gradient, largest first, that are clipped."""
    learning_rates: tuple[float, ...] = log_grid(-4, 0, per_decade=2)
    """Of the paths; the grid."""
    factors: tuple[float, ...] = (1.0, 0.1, 0.3, 1.8, 3.0)
    """On the selected rate, 1 first; the others for SGD alone."""
    stops: tuple[int, ...] = (0, 3, 10, 20, 30, 50)
    """Numbers of updates after which is measured; rates are selected after the last."""
    seeds: int = 5
    """Reported; draws of the data."""
    starts: int = 10
    """Reported on Digits, where seeds are starts."""
    selection_seeds: int = 1
    """Only to select the learning rate."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("directions", "shares", "learning_rates", "factors", "stops")
        for name in ("seeds", "starts", "selection_seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")
        if self.factors[0] != 1:
            self.refuse("factors", "1 first")
        if list(self.stops) != sorted(self.stops) or JUDGED not in self.stops:
            self.refuse("stops", f"ascending, {JUDGED} among them")
        if not all(0 < share < 1 for share in self.shares):
            self.refuse("shares", "between 0 and 1")

    @property
    def names(self) -> list[str]:
        """Of all directions."""
        return [*map(str, self.directions), *map(clipped, self.shares)]


def clipped(share: float) -> str:
    """The name of a clipped gradient."""
    return f"clip {100 * share:g} %"


DEFAULT = DirectionalSharpness(
    problem=HeavyTailed(groups=7),
    optimizers=(GRADIENT, optimizers.Momentum(), SIGN, ADAM),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=2),
        digits=Digits(width=4, depth=1),
        optimizers=(GRADIENT,),
        directions=(GRADIENT, SIGN, ADAM),
        shares=(0.1,),
        learning_rates=(0.01, 0.1),
        factors=(1.0, 3.0),
        stops=(0, 30),
        seeds=2,
        starts=3,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        problem=HeavyTailed(groups=9),
        learning_rates=log_grid(-5, 1, per_decade=4),
        stops=(0, 3, 10, 30, 50, 100, 200, 500, 1000),
        seeds=10,
        starts=30,
        selection_seeds=3,
    ),
}
KEPT = ("sharpness", "alignment", "loss", "top", "eigenvalue", "rate", "at_edge")


PRODUCTS = 40
"""Of a power iteration; the second eigenvalue is half the first on softmax regression."""


class Whole:
    """A problem with all of its training data in every step, for `train.step`."""

    def __init__(self, problem: Problem) -> None:
        """The problem."""
        self.problem = problem

    def __getattr__(self, name: str) -> Any:
        """All else is the problem's."""
        return getattr(self.problem, name)

    def batch(self, data: Any, key: Any = None, t: Any = None) -> Any:
        """All of it."""
        del key, t
        return data["train"] if isinstance(data, dict) else data


def clip(grad: Any, share: float) -> Any:
    """The largest share of elements brought to the magnitude of the next one.

    As in the authors' code: the threshold is the element at place int(share * elements) in
    descending order of magnitude, counted from 0 over the whole vector.
    """
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    magnitudes = jnp.sort(jnp.abs(ravel_pytree(grad)[0]))
    limit = magnitudes[magnitudes.size - 1 - int(magnitudes.size * share)]
    return jax.tree.map(lambda g: jnp.clip(g, -limit, limit), grad)


def beside(rule: Any, others: list[Any]) -> Any:
    """The rule, with others that see the same gradients and whose updates are dropped."""
    import optax

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        applied, own = rule.update(updates, state[0], params)
        pairs = zip(others, state[1], strict=True)
        return applied, (own, [other.update(updates, s, params)[1] for other, s in pairs])

    return optax.GradientTransformation(
        lambda params: (rule.init(params), [other.init(params) for other in others]), update
    )


def run_cell(
    experiment: DirectionalSharpness,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`sharpness` and `alignment` [factor, seed, step, direction] on the optimizer's path.

    Alignment is the cosine with the descending gradient. Besides `loss` [factor, seed,
    step]; on SGD's path the largest eigenvalue of the Hessian, as `top` [factor, seed]
    after JUDGED updates by power iteration, and as `eigenvalue` [step] of the first seed at
    factor 1; `objective` [learning_rate], the selected `rate` [], whether it is `at_edge`.
    """
    import xarray as xr

    from study import devices, sweep

    begun, plain = time.perf_counter(), optimizer == GRADIENT
    seeds = experiment.starts if isinstance(problem, Digits) else experiment.seeds
    numbers = range(seeds + experiment.selection_seeds)
    with devices.precision(problem.dtype):
        shared = (_datas(problem, numbers), sweep.starts(problem, tuple(numbers))[0])
        rates = np.asarray(experiment.learning_rates, np.float32)
        grid = np.meshgrid(rates, np.arange(seeds, len(numbers)), indexing="ij")
        train = _follow(experiment, problem, optimizer, False)
        ends = devices.map_runs(train, shared, [axis.ravel() for axis in grid])
        ends = ends.reshape(len(rates), -1)
        selection = statistics.select(ends)
        rate = experiment.learning_rates[selection.place]
        progress(0.3)
        factors = experiment.factors if plain else (1.0,)
        pair = np.meshgrid(rate * np.array(factors), np.arange(seeds), indexing="ij")
        runs = [pair[0].ravel().astype(np.float32), pair[1].ravel()]
        watch = _follow(experiment, problem, optimizer, True)
        found = devices.map_runs(watch, shared, runs)
        params = found.pop("params")
        progress(0.8)
        bends = _largest(problem, shared[0], params, len(experiment.stops), plain)
    dims = ("factor", "seed", "step", "direction")
    variables: dict[str, Any] = {"eigenvalue": ("step", bends)}
    for name, values in found.items():
        full = np.full((len(experiment.factors), seeds, *values.shape[1:]), np.nan)
        full[: len(factors)] = values.reshape(len(factors), seeds, *values.shape[1:])
        variables[name] = (dims[: full.ndim], full)
    places = variables["top"][1][..., experiment.stops.index(JUDGED)]
    variables["top"] = (dims[:2], places)
    dataset = xr.Dataset(
        variables
        | {
            "objective": ("learning_rate", selection.objective),
            "rate": ((), rate if selection.found else np.nan),
            "at_edge": ((), np.int32(selection.at_edge)),
        },
        {
            "factor": list(experiment.factors),
            "seed": np.arange(seeds, dtype=np.int32),
            "step": list(experiment.stops),
            "direction": experiment.names,
            "learning_rate": list(experiment.learning_rates),
        },
    )
    return sweep.finish(dataset, problem, optimizer, begun, len(runs[0]))


def _largest(
    problem: Problem, datas: Any, params: Any, steps: int, wanted: bool
) -> list[float]:
    """The largest eigenvalue [step] of the Hessian of the first run, or NaN."""
    import jax

    from study import curvature

    whole = Whole(problem)
    batch = whole.batch(jax.tree.map(lambda x: x[0], datas))
    points = [jax.tree.map(lambda x, i=i: x[0, i], params) for i in range(steps)]
    loss = lambda at: whole.loss(at, batch)  # noqa: E731
    return [float(curvature.largest(loss, at)[0]) if wanted else np.nan for at in points]


def _datas(problem: Problem, seeds: range) -> Any:
    """The data of every seed, leaves [seed, ...]; drawn anew where they have a seed."""
    import jax

    if isinstance(problem, HeavyTailed):
        first = problem.data_seed
        drawn = [dataclasses.replace(problem, data_seed=first + s).data() for s in seeds]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    count = len(seeds)
    return jax.tree.map(lambda x: np.broadcast_to(x, (count, *x.shape)), problem.data())


def _follow(
    experiment: DirectionalSharpness, problem: Problem, optimizer: Optimizer, watch: bool
) -> Callable[..., Any]:
    """(datas, starts, rate, seed) -> the objective after the last stop.

    To `watch` is to see what `run_cell` stores, [step, ...], instead.
    """
    import jax
    import jax.numpy as jnp

    from study import curvature, trajectories, trees

    rules = [way.build(1.0) for way in experiment.directions] if watch else []
    treated = trajectories.Treated(optimizer, lambda rule: beside(rule, rules))
    whole: Any = Whole(problem)

    def run(datas: Any, starts: Any, rate: Any, seed: Any) -> Any:
        data, params = jax.tree.map(lambda leaf: leaf[seed], (datas, starts))
        batch = whole.batch(data)

        def observe(state: Any, t: Any) -> Any:
            at = state.params
            if not watch:
                return problem.evaluate(data, at)[str(problem.selects)]
            loss, grad = whole.slope(at, batch)
            pairs = zip(rules, state.optimizer[1], strict=True)
            ways = [rule.update(grad, old, at)[0] for rule, old in pairs]
            ways += [trees.scale(-1.0, clip(grad, share)) for share in experiment.shares]
            many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ways)
            bend = lambda way: curvature.along(lambda x: whole.loss(x, batch), at, way)  # noqa: E731
            turn = lambda way: trees.cosine(way, grad, opposite=True)  # noqa: E731
            top = lambda at: curvature.power_iteration(  # noqa: E731
                lambda x: whole.loss(x, batch), at, iterations=PRODUCTS
            )
            none = lambda at: jnp.full((), jnp.nan, problem.dtype)  # noqa: E731
            here = (t == JUDGED) & (optimizer == GRADIENT)
            return {
                "sharpness": jax.vmap(bend)(many),
                "alignment": jax.vmap(turn)(many),
                "loss": loss,
                "top": jax.lax.cond(here, top, none, at),
                "params": at,
            }

        stops, schedule = experiment.stops[0 if watch else -1 :], lambda t: rate
        begin = {"params": params, "data": data}
        seen = trajectories.follow(whole, treated, schedule, stops, observe, **begin)[1]
        return seen if watch else seen[0]

    return run


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """The paths side by side, [path]: the optimizers', then SGD's at other rates.

    `sharpness` and `alignment` [path, seed, step, direction], `loss` [path, seed, step],
    `top` [path, seed], `rate` and `at_edge` [path], `eigenvalue` [step].
    """
    import xarray as xr

    names, parts = [], []
    for factor, name in itertools.product(dataset.factor.values, dataset.optimizer.values):
        at = dataset.sel(optimizer=name, factor=factor, drop=True)
        if factor == 1 or name == "SGD":
            names.append(name if factor == 1 else f"{name} x {factor:g}")
            parts.append(at.assign(rate=factor * at.rate)[[*KEPT]])
    whole = xr.concat(parts, xr.IndexVariable("path", names))
    whole["eigenvalue"] = parts[names.index("SGD")].eigenvalue
    whole["alignment"].attrs["decimals"] = 4
    return whole.assign_attrs(problem=dataset.attrs["problem"])


# Verdicts ---------------------------------------------------------------------------------


def found(
    results: Results,
    field: str,
    direction: str,
    path: str = "SGD",
    name: str = "sharpness",
    step: int = JUDGED,
) -> np.ndarray:
    """One of the records [seed] along a direction at a step of a path."""
    records = results.selected(getattr(results.experiment, field))[name]
    return records.sel(path=path, step=step, direction=direction).values.astype(float)


def gains(results: Results, field: str, direction: str, **at: Any) -> np.ndarray:
    """Decrease of the local quadratic by the best step, over the gradient's [seed].

    cos^2 / sharpness; where the sharpness is not positive there is no best step: NaN.
    """
    ways = []
    for way in (direction, "SGD"):
        bend = found(results, field, way, **at)
        turn = found(results, field, way, name="alignment", **at)
        ways.append(turn**2 / np.where(bend > 0, bend, np.nan))
    return ways[0] / ways[1]


def _order(*ways: str, field: str = "problem", **at: Any) -> Callable[..., Estimate]:
    """The lowest of the ratios of each direction's sharpness to the next one's.

    On Digits, where curvature may be negative, the lowest difference.
    """

    def measure(results: Results) -> Estimate:
        sharp = np.stack([found(results, field, way, **at) for way in ways])
        first, second = sharp[:-1], sharp[1:]
        steps = first - second if field == "digits" else first / second
        return statistics.bootstrap(steps.min(0))

    return measure


def _own(first: str, second: str) -> Callable[[Results], Estimate]:
    """Sharpness along a rule's update on its own path over another's on its own."""

    def measure(results: Results) -> Estimate:
        pair = [found(results, "problem", name, path=name) for name in (first, second)]
        return statistics.bootstrap(pair[0] / pair[1])

    return measure


def _gain(field: str, direction: str) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(gains(results, field, direction))


def _of_largest(results: Results) -> Estimate:
    """Sharpness along the gradient over the largest eigenvalue."""
    top = results.selected(results.experiment.problem).top.sel(path="SGD")
    return statistics.bootstrap(found(results, "problem", "SGD") / top.values)


PAN = "Pan & Li 2023, arXiv:2306.00204, from the abstract"
CALIBRATED = f"{PAN}; threshold of an independent calibration run, one seed"
CLIPS = tuple(clipped(share) for share in (0.01, 0.1, 0.5))
SOFTMAX = "softmax, SGD's path, step 30: "
DIGITS = "Digits, SGD's path, step 30: "
CLAIMS: tuple[tuple[str, str, Callable[[Results], Estimate], float], ...] = (
    (
        f"{SOFTMAX}along the gradient > 10 times that along its sign",
        CALIBRATED,
        _order("SGD", "SignDescent"),
        10,
    ),
    (
        f"{SOFTMAX}along the sign > 5 times that along Adam's update",
        CALIBRATED,
        _order("SignDescent", "Adam"),
        5,
    ),
    *(
        (
            f"{SOFTMAX}{way} lies between gradient and sign, both ratios > 1",
            CALIBRATED,
            _order("SGD", way, "SignDescent"),
            1,
        )
        for way in CLIPS
    ),
    (
        f"{SOFTMAX}the more elements are clipped the lower, all ratios > 1",
        f"{PAN}: few elements cause the bad sharpness",
        _order("SGD", *CLIPS),
        1,
    ),
    (
        f"{SOFTMAX}along the gradient half of the largest eigenvalue or more, >= 0.5",
        "own expectation",
        _of_largest,
        0.5,
    ),
    *(
        (
            f"{SOFTMAX}the best step along {way} gains more than the gradient's, > 1",
            f"{PAN}: clipping and adaptive scaling improve the local loss reduction",
            _gain("problem", way),
            1,
        )
        for way in ("Adam", "SignDescent", CLIPS[1])
    ),
    *(
        (
            f"softmax, path of {path}, step 30: gradient > sign > Adam, both ratios > 1",
            f"{PAN}, for the path of Adam; otherwise own expectation",
            _order("SGD", "SignDescent", "Adam", path=path),
            1,
        )
        for path in ("Momentum", "SignDescent", "Adam")
    ),
    *(
        (
            f"softmax, each on its own path, step 30: {first} sharper than {second}, > 1",
            f"{PAN}: SGD's update steps are much sharper than those of adaptive rules",
            _own(first, second),
            1,
        )
        for first, second in (("SGD", "SignDescent"), ("SignDescent", "Adam"))
    ),
    *(
        (
            f"{DIGITS}{statement}, differences > 0",
            "own expectation",
            _order(*ways, field="digits"),
            0,
        )
        for statement, ways in (
            ("gradient sharper than sign", ("SGD", "SignDescent")),
            ("sign sharper than Adam", ("SignDescent", "Adam")),
            (f"gradient > {CLIPS[1]} > sign", ("SGD", CLIPS[1], "SignDescent")),
        )
    ),
    (
        "Digits, Adam's path, step 30: gradient > sign > Adam, both differences > 0",
        "own expectation",
        _order("SGD", "SignDescent", "Adam", field="digits", path="Adam"),
        0,
    ),
    (
        f"{DIGITS}the best step along Adam gains more than the gradient's, > 1",
        "own expectation",
        _gain("digits", "Adam"),
        1,
    ),
)
PREDICTIONS = (
    *(Prediction(claim, source, at, bound) for claim, source, at, bound in CLAIMS),
    Prediction(
        f"{SOFTMAX}normalising changes nothing, to 1e-4",
        "the same direction",
        _order("SGD", "NormalisedGD(eps=0.0)"),
        at_least=1 - 1e-4,
        at_most=1 + 1e-4,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each problem, path and direction, after JUDGED updates."""
    del manifest
    for field in ("problem", "digits"):
        records = results.selected(getattr(results.experiment, field))
        for path in map(str, records.path.values):
            at = records.sel(path=path, step=JUDGED)
            row: dict[str, Any] = {"problem": field, "path": path, "step": JUDGED}
            row |= {"rate": float(at.rate), "at_edge": int(at.at_edge)}
            row |= {"loss": float(at.loss.median()), "largest": float(at.top.median())}
            for way in map(str, records.direction.values):
                sharp = statistics.bootstrap(found(results, field, way, path))
                plain = found(results, field, "SGD", path)
                of = statistics.bootstrap(found(results, field, way, path) / plain)
                turn = found(results, field, way, path, "alignment")
                yield row | {
                    "direction": way,
                    "sharpness": sharp.value,
                    "sharpness_low": sharp.low,
                    "sharpness_high": sharp.high,
                    "of_gradient": of.value,
                    "of_gradient_low": of.low,
                    "of_gradient_high": of.high,
                    "cosine": float(np.median(turn)),
                    "gain": float(np.median(gains(results, field, way, path=path))),
                }


# Figure -----------------------------------------------------------------------------------


SHOWN = ("SGD", "SignDescent", "Adam")
WAYS = (*SHOWN[1:], "Adam(b1=0.0)", "Momentum", CLIPS[1])


def looks(results: Results) -> dict[str, dict[str, Any]]:
    """Of the directions in SHOWN and WAYS."""
    from study import figures

    experiment: Any = results.experiment
    rules = [way for way in experiment.directions if str(way) in (*SHOWN, *WAYS)]
    styles = figures.look(rules)
    styles["SGD"]["label"] = "gradient"
    style = {"color": "#888888", "linestyle": "-", "marker": "x"}
    return styles | {CLIPS[1]: style | {"label": f"gradient, {CLIPS[1]}"}}


def draw(results: Results) -> dict[str, Figure]:
    """Sharpness on SGD's path, against its rate, by path, and what it gains."""
    from study import figures

    figure, axes = figures.panels(2, 3, height=2.6)
    fastest = f"SGD x {max(results.experiment.factors):g}"  # type: ignore[attr-defined]
    _draw_rates(axes[0, 0], results)
    _draw_path(axes[0, 1], results, "problem", "SGD")
    axes[0, 1].set_title("b  Softmax, SGD's best rate")
    _draw_path(axes[0, 2], results, "problem", fastest)
    axes[0, 2].set_title(f"c  Softmax, {fastest.partition(' x ')[2]} x the rate")
    _draw_path(axes[1, 0], results, "digits", "SGD")
    axes[1, 0].set_title("d  Digits, SGD's best rate")
    _draw_paths(axes[1, 1], results)
    _draw_gains(axes[1, 2], results, fastest)
    figures.legend(figure, axes[0, 1], columns=4)
    figures.note(figure, figures.medians(results.count()))
    return {"figure": figure}


def _draw_path(axes: Axes, results: Results, field: str, path: str) -> None:
    """Medians with intervals; what is not positive is left out of a logarithmic axis."""
    records = results.selected(getattr(results.experiment, field))
    top = np.full(records.sizes["step"], float(records.top.sel(path=path).median()))
    top = records.eigenvalue.values if path == "SGD" else top
    style = {"color": "#555555", "lw": 4, "alpha": 0.3}
    axes.plot(records.step, top, **style, label=r"$\lambda_{max}$, largest")
    for name, look in looks(results).items():
        if name in records.direction:
            values = records.sharpness.sel(path=path, direction=name)
            values = values.transpose("seed", "step").values
            values = np.where(values > 0, values, np.nan)
            low, high = statistics.band(values)
            axes.plot(records.step, np.median(values, axis=0), **look, ms=3)
            axes.fill_between(
                records.step, low, high, color=look["color"], alpha=0.15, lw=0
            )
    axes.set(yscale="log", xlabel="Steps of SGD", ylabel="Directional sharpness")


def _draw_rates(axes: Axes, results: Results) -> None:
    """SGD's paths: three directions against eta lambda_max; open markers for Digits."""
    for field, fill in (("problem", "full"), ("digits", "none")):
        records = results.selected(getattr(results.experiment, field))
        paths = [path for path in map(str, records.path.values) if path.startswith("SGD")]
        top = records.top.sel(path=paths).transpose("path", "seed").values
        x = records.rate.sel(path=paths).values * np.median(top, axis=1)
        order = np.argsort(x)
        for name in SHOWN:
            pairs = [found(results, field, name, path=path) for path in paths]
            share = np.median(np.stack(pairs) / top, axis=1)
            style = looks(results)[name] | {"fillstyle": fill, "label": "", "lw": 0.8}
            axes.plot(x[order], np.where(share > 0, share, np.nan)[order], **style)
    axes.axvline(2, color="#b10000", lw=0.8)
    axes.text(1.7, 1.3, "stable", ha="right", color="#b10000", fontsize=7)
    axes.text(2.3, 5e-4, "unstable", ha="left", color="#b10000", fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel=r"SGD's rate, $\eta \lambda_{max}$")
    axes.set(ylabel=r"Sharpness / $\lambda_{max}$", ylim=(4e-4, 2), xlim=(None, 11))
    axes.set_title("a  After 30 steps (open: Digits)")


def _draw_paths(axes: Axes, results: Results) -> None:
    paths = list(map(str, results.experiment.optimizers))
    for i, name in enumerate(SHOWN):
        look = looks(results)[name]
        values = np.stack([found(results, "problem", name, path=path) for path in paths], 1)
        places = np.arange(len(paths)) + 0.18 * (i - 1)
        axes.vlines(places, *statistics.band(values), color=look["color"])
        style = {"color": look["color"], "marker": look["marker"], "ls": "", "ms": 4}
        axes.plot(places, np.median(values, axis=0), **style)
    labels = [
        {"SignDescent": "signs", "Momentum": "mom."}.get(path, path) for path in paths
    ]
    axes.set_xticks(range(len(paths)), labels)
    axes.set(yscale="log", xlabel="Path of", ylabel="Directional sharpness")
    axes.set_title("e  Softmax, by path")


def _draw_gains(axes: Axes, results: Results, fastest: str) -> None:
    """cos^2 / sharpness over the gradient's, medians with intervals over seeds."""
    names = [name for name in WAYS if name in results.experiment.names]  # type: ignore[attr-defined]
    cases = (("problem", "SGD", "o"), ("problem", fastest, "^"), ("digits", "SGD", "s"))
    for i, (field, path, marker) in enumerate(cases):
        values = np.stack([gains(results, field, name, path=path) for name in names], 1)
        places, colour = np.arange(len(names)) + 0.25 * (i - 1), LOOKS[i]
        axes.hlines(places, *statistics.band(values), color=colour)
        label = "Digits" if field == "digits" else path.replace("SGD", "softmax")
        style = {"color": colour, "ms": 3.5, "label": label}
        axes.plot(np.median(values, axis=0), places, marker, **style)
    axes.axvline(1, color="#555555", lw=0.8)
    short = {"SignDescent": "sign", "Adam(b1=0.0)": "Adam,\nb1 = 0"}
    axes.set_yticks(range(len(names)), [short.get(name, name) for name in names])
    axes.set(xscale="log", xlabel="Best step, over the gradient's")
    axes.set_ylim(len(names) + 0.6, -0.6)
    axes.set_title("f  Does it pay?")
    axes.legend(
        fontsize=6, ncols=3, loc="lower center", handletextpad=0.1, columnspacing=0.6
    )


LOOKS = ("#000000", "#d55e00", "#0072b2")

if __name__ == "__main__":
    cli.main(__spec__.name)
