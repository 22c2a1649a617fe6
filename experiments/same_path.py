"""The same direction at another speed: is it the same path, only slower?

Question.   Normalised gradient descent keeps the gradient's direction and drops its length.
            Does it take the same path as gradient descent, and how long do both need to
            leave a plateau and a saddle, where gradients vanish?
Prediction. In a bowl, normalised steps follow gradient flow, with deviations proportional
            to the rate; sign descent goes elsewhere at any rate. A plateau costs gradient
            descent exp(R^2 / 2) / R^2 steps, normalised rules (R - 0.1) / 0.05; a rule
            with an epsilon pays too once the gradient has fallen under it: Adam at R = 8,
            normalised descent with Optax's 1e-6 at R = 8. A saddle costs gradient descent
            log(1 / delta) steps, rules of constant length at most 40 at any delta.
Varied.     Scientific: rule, rate, radius R, distance delta. Fixed: the landscapes, a
            budget of two million steps, float64; no noise.
Cost.       Ten seconds on two CPU cores.

    python -m experiments.same_path             run, store, judge, draw
    python -m experiments.same_path --draw      draw stored records again

Plateaus: Hazan et al. (2015), arXiv:1507.02030. Saddles: Murray et al. (2017),
arXiv:1710.07406; Levy (2016), arXiv:1611.04831.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import Bowl, Plateau, Problem, Saddle
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class SamePath(Comparison):
    """Paths in a bowl, times to leave a plateau and a saddle."""

    plateau: Plateau = Plateau(dtype="float64")
    """Left when |x| < 0.1."""
    saddle: Saddle = Saddle(dtype="float64")
    """Left when |y| > 0.5."""
    learning_rates: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    """In the bowl; SGD has a tenth of them."""
    radii: tuple[float, ...] = (3.0, 4.0, 5.0, 6.0, 8.0)
    """Starts on the plateau; rates are 1 for SGD, otherwise 0.05."""
    deltas: tuple[float, ...] = (1e-1, 1e-2, 1e-4, 1e-8, 1e-16)
    """Starts at the saddle; rates are 0.1 for SGD, otherwise 0.05."""
    budget: int = 2_000_000
    """Steps after which a run is given up, and counted as not arrived."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("learning_rates", "radii", "deltas")
        if not 1 <= self.budget < 2**31:
            self.refuse("budget", "from 1 to 2^31 - 1")


DEFAULT = SamePath(
    problem=Bowl(dtype="float64"),
    optimizers=(
        optimizers.SGD(),
        optimizers.NormalisedGD(eps=0.0),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Adam(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT, optimizers=(optimizers.SGD(), optimizers.SignDescent()), budget=300
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        radii=(3.0, 4.0, 5.0, 6.0, 6.5, 8.0, 12.0),
        deltas=tuple(10.0**-k for k in range(1, 301, 13)),
        budget=100_000_000,
    ),
}
POINTS = 200
"""Of a path, evenly spaced in steps."""


def run_cell(
    experiment: SamePath,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """In the bowl `path` [rate, point, axis] and `deviation` [rate].

    `steps_radius` and `steps_delta` until the point has left the plateau or the saddle, -1
    for a run that has not within the budget. The deviation is the largest
    |x - y^condition| down to y = 0.06.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    plain = str(optimizer) == "SGD"
    with devices.precision(problem.dtype):
        if isinstance(problem, Bowl):
            rates = experiment.learning_rates
            found = [
                _path(problem, optimizer, rate / 10 if plain else rate) for rate in rates
            ]
            dataset = xr.Dataset(
                {
                    "path": (("rate", "point", "axis"), np.stack([p for p, _ in found])),
                    "deviation": ("rate", [d for _, d in found]),
                },
                {"rate": list(rates), "axis": ["x", "y"]},
            )
        else:
            flat = isinstance(problem, Plateau)
            axis = "radius" if flat else "delta"
            starts = experiment.radii if flat else experiment.deltas
            rate = (1.0 if flat else 0.1) if plain else 0.05
            leave = _leave(problem, optimizer, rate, experiment.budget)
            steps = []
            for start in starts:
                steps.append(int(leave([start] if flat else [1.0, start])))
                progress(len(steps) / len(starts))
            dataset = xr.Dataset({f"steps_{axis}": (axis, steps)}, {axis: list(starts)})
        return sweep.finish(dataset, problem, optimizer, begun, 1)


def _advance(problem: Problem, optimizer: Optimizer, rate: float) -> Any:
    """One step of the study's training, from state to state."""
    import jax
    import jax.numpy as jnp

    from study import train

    key, zero = jax.random.key(0), jnp.zeros((), jnp.int32)
    return lambda state: train.step(problem, optimizer, {}, rate, key, state, zero)[0]


def _leave(problem: Problem, optimizer: Optimizer, rate: float, budget: int) -> Any:
    """(start) -> steps until the point has left, -1 beyond the budget."""
    import jax
    import jax.numpy as jnp

    from study import train

    advance = _advance(problem, optimizer, rate)

    def there(x: Any) -> Any:
        return jnp.abs(x[0]) < 0.1 if len(x) == 1 else jnp.abs(x[1]) > 0.5

    @jax.jit
    def leave(start: Any) -> Any:
        state = train.start(optimizer, rate, {"x": start}, shadowed=False)
        state, count = jax.lax.while_loop(
            lambda carry: ~there(carry[0].params["x"]) & (carry[1] < budget),
            lambda carry: (advance(carry[0]), carry[1] + 1),
            (state, 0),
        )
        return jnp.where(there(state.params["x"]), count, -1)

    return lambda start: leave(jnp.asarray(start, problem.dtype))


def _path(problem: Bowl, optimizer: Optimizer, rate: float) -> tuple[np.ndarray, float]:
    """Points [point, axis] down to y = 0.06, and the largest deviation from the flow."""
    import jax
    import jax.numpy as jnp

    from study import train

    advance = _advance(problem, optimizer, rate)
    params = problem.init(jax.random.key(0))
    state = train.start(optimizer, rate, params, shadowed=False)
    # Long enough for the slowest: gradient flow needs a time of ln(1 / 0.06).
    count = round(3.5 / rate)

    def follow(state: Any, _: Any) -> tuple[Any, Any]:
        after = advance(state)
        return after, after.params["x"]

    _, rest = jax.jit(lambda s: jax.lax.scan(follow, s, None, count))(state)
    path = np.asarray(jnp.concatenate([params["x"][None], rest]))
    far = np.flatnonzero(path[:, 1] <= 0.06)
    path = path[: far[0] if len(far) else None]
    deviation = np.abs(path[:, 0] - path[:, 1] ** problem.condition).max()
    shown = np.linspace(0, len(path) - 1, POINTS).round().astype(int)
    return path[shown], float(deviation)


KEPT = ("path", "deviation", "steps_radius", "steps_delta")


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """As it is."""
    return dataset


# Verdicts ---------------------------------------------------------------------------------


def steps(results: Results, landscape: str, name: str) -> xr.DataArray:
    """Steps [radius or delta] to leave the plateau or the saddle, inf if never."""
    records = results.selected(getattr(results.experiment, landscape))
    axis = "radius" if landscape == "plateau" else "delta"
    found = records[f"steps_{axis}"].sel(optimizer=name)
    return found.where(found >= 0, np.inf)


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def _step(landscape: str, name: str, start: float) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        found = steps(results, landscape, name)
        return _exact(float(found.sel({found.dims[0]: start})))

    return measure


def _deviations(results: Results, name: str) -> np.ndarray:
    records = results.selected(results.experiment.problem)
    return records.deviation.sel(optimizer=name).values


def _slope(results: Results) -> Estimate:
    """Exponent of the deviation in the rate, normalised descent."""
    rates = np.log(results.selected(results.experiment.problem).rate.values)
    logs = np.log(_deviations(results, "NormalisedGD(eps=0.0)"))
    return _exact(float(np.polyfit(rates, logs, 1)[0]))


def _per_decade(results: Results) -> Estimate:
    """Steps that a decade of delta costs gradient descent, over ln 10 / ln 1.1."""
    found = steps(results, "saddle", "SGD")
    cost = (float(found.sel(delta=1e-16)) - float(found.sel(delta=1e-8))) / 8
    return _exact(cost / (np.log(10) / np.log(1.1)))


def _longest(name: str) -> Callable[[Results], Estimate]:
    return lambda results: _exact(float(steps(results, "saddle", name).max()))


def theory(radius: float) -> float:
    """Steps of gradient descent at rate 1 from x = R: the time exp(R^2 / 2) / R^2."""
    return float(np.exp(radius**2 / 2) / radius**2)


NORMALISED = "NormalisedGD(eps=0.0)"
TABLE = {
    ("plateau", "SGD"): {3.0: 17, 4.0: 225, 5.0: 11_790, 6.0: 1_938_962},
    ("plateau", NORMALISED): {3.0: 58, 4.0: 78, 5.0: 98, 6.0: 118},
    ("plateau", "Adam"): {3.0: 50, 4.0: 61, 5.0: 73, 6.0: 85},
    ("saddle", "SGD"): {1e-1: 19, 1e-2: 43, 1e-4: 91, 1e-8: 188, 1e-16: 381},
    ("saddle", NORMALISED): {1e-1: 20, 1e-2: 28, 1e-4: 30, 1e-8: 30, 1e-16: 31},
    ("saddle", "SignDescent"): {1e-1: 9, 1e-2: 10, 1e-4: 10, 1e-8: 10, 1e-16: 10},
}
"""Steps of an independent run in NumPy."""

PREDICTIONS = (
    Prediction(
        "bowl, normalised descent: the deviation from gradient flow goes as rate^1, to 0.1",
        "first-order discretisation",
        _slope,
        at_least=0.9,
        at_most=1.1,
    ),
    Prediction(
        "bowl, sign descent: deviates by more than 0.5 at every rate",
        "it goes along the diagonal",
        lambda results: _exact(float(_deviations(results, "SignDescent").min())),
        at_least=0.5,
    ),
    *(
        Prediction(
            f"{landscape}, {name}, from {start:g}: {count} steps, to 1 or 0.1 %",
            "independent run",
            _step(landscape, name, start),
            at_least=count - max(1, 1e-3 * count),
            at_most=count + max(1, 1e-3 * count),
        )
        for (landscape, name), row in TABLE.items()
        for start, count in row.items()
    ),
    *(
        Prediction(
            f"plateau, SGD, R = {radius:g}: exp(R^2 / 2) / R^2 steps, within 20 %",
            "time of gradient flow",
            _step("plateau", "SGD", radius),
            at_least=0.8 * theory(radius),
            at_most=1.2 * theory(radius),
        )
        for radius in (5.0, 6.0)
    ),
    Prediction(
        "plateau, SGD, R = 8: does not arrive in two million steps",
        "time of gradient flow: 1e12",
        _step("plateau", "SGD", 8.0),
        at_least=np.inf,
    ),
    Prediction(
        "plateau, normalised descent, R = 8: 158 steps, to 1",
        "(R - 0.1) / 0.05",
        _step("plateau", NORMALISED, 8.0),
        at_least=157,
        at_most=159,
    ),
    *(
        Prediction(
            f"plateau, {name}, R = 8: 10,000 steps or more, or never",
            f"gradient 1e-13 under epsilon {epsilon}",
            _step("plateau", name, 8.0),
            at_least=1e4,
        )
        for name, epsilon in (("Adam", "1e-8"), ("NormalisedGD", "1e-6"))
    ),
    Prediction(
        "saddle, SGD: ln 10 / ln 1.1 steps for each decade of delta, within 1 %",
        "linearised saddle",
        _per_decade,
        at_least=0.99,
        at_most=1.01,
    ),
    *(
        Prediction(
            f"saddle, {name}: at most 40 steps at every delta",
            "steps of constant length",
            _longest(name),
            at_most=40,
        )
        for name in (NORMALISED, "SignDescent", "Adam")
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each landscape, rule and start or rate."""
    del manifest
    bowl = results.selected(results.experiment.problem)
    for optimizer in map(str, results.experiment.optimizers):
        for rate, deviation in zip(
            bowl.rate.values, _deviations(results, optimizer), strict=True
        ):
            row = {"landscape": "bowl", "optimizer": optimizer, "at": float(rate)}
            yield row | {"deviation": float(deviation)}
        for landscape in ("plateau", "saddle"):
            found = steps(results, landscape, optimizer)
            for start in found[found.dims[0]].values:
                row = {"landscape": landscape, "optimizer": optimizer, "at": float(start)}
                yield row | {"steps": float(found.sel({found.dims[0]: start}))}


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Paths, deviations, and times to leave the plateau and the saddle."""
    from study import figures

    figure, axes = figures.panels(2, 2, height=2.6)
    looks = figures.look(results.experiment.optimizers)
    _draw_paths(axes[0, 0], results, looks)
    bowl = results.selected(results.experiment.problem)
    for name, look in looks.items():
        axes[0, 1].plot(bowl.rate, _deviations(results, name), **look)
    axes[0, 1].set(xscale="log", yscale="log", xlabel="Learning rate (SGD: a tenth)")
    axes[0, 1].set_ylabel("Largest deviation")
    axes[0, 1].set_title("b  Distance from gradient flow")
    for panel, landscape in zip(axes[1], ("plateau", "saddle"), strict=True):
        for name, look in looks.items():
            found = steps(results, landscape, name)
            shown = found.where(np.isfinite(found))
            panel.plot(found[found.dims[0]], shown, **look)
    leave, ridge = axes[1]
    fine = np.linspace(4, 6.2, 50)
    leave.plot(fine, list(map(theory, fine)), color="#b10000", lw=0.8)
    leave.text(4.9, 3e5, r"$e^{R^2/2} / R^2$", color="#b10000", ha="right")
    leave.set(yscale="log", xlabel="Start R", ylabel="Steps to leave", ylim=(10, 1e7))
    leave.set_title("c  Plateau: is it only slower?")
    ridge.set(xscale="log", xlabel=r"Distance $\delta$ from the ridge", ylim=(0, None))
    ridge.set_title("d  Saddle")
    ridge.invert_xaxis()
    figures.legend(figure, axes[0, 1])
    figures.note(figure, "One start each; nothing is random.")
    return {"figure": figure}


def _draw_paths(axes: Axes, results: Results, looks: dict[str, Any]) -> None:
    """At a rate in the middle of the grid, with level lines and the exact flow."""
    bowl: Any = results.experiment.problem
    x, y = np.meshgrid(np.linspace(-0.15, 1.05, 80), np.linspace(0, 1.05, 80))
    heights = (bowl.condition * x**2 + y**2) / 2
    axes.contour(x, y, heights, levels=12, colors="#dddddd", linewidths=0.5)
    fine = np.linspace(0.06, 1, 200)
    axes.plot(fine**bowl.condition, fine, color="#b10000", lw=4, alpha=0.3)
    axes.text(0.04, 0.5, "gradient flow", color="#b10000", fontsize=7)
    paths = results.selected(bowl).path
    for name, look in looks.items():
        path = paths.sel(optimizer=name).isel(rate=paths.sizes["rate"] // 2)
        axes.plot(*path.transpose("axis", "point").values, **look, markevery=40)
    axes.set(xlabel="x (curvature 10)", ylabel="y (curvature 1)")
    axes.set_title("a  Paths in a bowl")


if __name__ == "__main__":
    cli.main(__spec__.name)
