"""The same function with other scales of its layers: who notices, and how sharp is it?

Question.   f(x) = relu(x A) B is the same function of x if A is multiplied by c and B
            divided by it. Which rules train both starts to the same function, how far do
            the others part, and what does c do to the sharpness of the loss?
Prediction. Relative updates by leaf (LARS, Fromage, Adafactor with its parameter scale) do
            not notice, to rounding; LAMB notices as much as its epsilon is; all others
            part by the order of the way they go. Sharpness grows as c^2, so that gradient
            descent at a fixed rate crosses 2 / rate and is lost.
Varied.     Scientific: rule, c. Ablation: the learning rate, 0.1 to 10 times 0.01 (1 for
            rules that find their own). Five starts; 10 inputs, 32 units, 64 samples, 50
            steps of all samples, float64.
Cost.       Half a minute on two CPU cores, nearly all of it compilation.

    python -m experiments.layer_scales             run, store, judge, draw
    python -m experiments.layer_scales --draw      draw stored records again

Neyshabur et al. (2015), arXiv:1506.02617; Dinh et al. (2017), arXiv:1703.04933 (both
recalled). Numbers are an independent calibration run's, of one seed, whose learning rate
and measure are not recorded. `symmetries` has the yes or no of it for every rule.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Comparison
from study.optimizers import Optimizer
from study.problems import Problem, ReluRegression
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class LayerScales(Comparison):
    """Every rule from starts of one function."""

    balances: tuple[float, ...] = (1.0, 3.0, 10.0, 100.0)
    """C; the first is the plain start."""
    learning_rate: float = 0.01
    """Of every rule that does not find its own, which has 1."""
    factors: tuple[float, ...] = (0.1, 1.0, 10.0)
    """On the learning rate; 1 is judged."""
    steps: int = 50
    """Updates."""
    seeds: int = 5
    """Starts."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("balances", "factors")
        if self.balances[0] != 1 or min(self.balances) <= 0:
            self.refuse("balances", "positive, the first of them 1")
        if 1.0 not in self.factors:
            self.refuse("factors", "1 among them")
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                self.refuse(name, "at least 1")


DEFAULT = LayerScales(
    problem=ReluRegression(dtype="float64"),
    optimizers=(
        optimizers.LARS(),
        optimizers.Fromage(),
        optimizers.Adafactor(),
        optimizers.LAMB(),
        optimizers.SGD(),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Adam(),
        optimizers.Lion(),
        optimizers.Muon(),
        optimizers.NovoGrad(),
        optimizers.LBFGS(),
    ),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        problem=ReluRegression(width=4, samples=8, dtype="float64"),
        optimizers=(optimizers.SGD(),),
        balances=(1.0, 10.0),
        factors=(1.0,),
        steps=2,
        seeds=2,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(DEFAULT, steps=500, seeds=50),
}
KEPT = ("deviation", "sharpness")


def run_cell(
    experiment: LayerScales,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`deviation` [balance, factor, seed] and, the same for all rules, `sharpness`.

    The deviation is |f' - f| / |f - f_0| of outputs on the samples, f trained from the
    plain start f_0 and f' from the rescaled one: inf where f' alone is not finite, NaN
    where f is not or has not moved. `sharpness` [balance, seed] is the largest eigenvalue
    of the Hessian at the start, of SGD's cell alone.
    """
    import jax
    import jax.numpy as jnp
    import xarray as xr

    from study import devices, sweep, trajectories

    begun = time.perf_counter()
    assert isinstance(problem, ReluRegression)
    base = 1.0 if optimizer.own_rate else experiment.learning_rate
    seeds = tuple(range(experiment.seeds))
    with devices.precision(problem.dtype):
        data = problem.data()
        starts = [
            sweep.starts(dataclasses.replace(problem, balance=c), seeds)[0]
            for c in experiment.balances
        ]
        starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)

        def run(data: Any, starts: Any, balance: Any, rate: Any, seed: Any) -> Any:
            params = jax.tree.map(lambda leaf: leaf[balance, seed], starts)
            return trajectories.follow(
                problem,
                optimizer,
                lambda t: rate,
                (0, experiment.steps),
                lambda state, t: problem.outputs(state.params, data[0]),
                params=params,
                data=data,
            )[1]

        places = (len(experiment.balances), len(experiment.factors), len(seeds))
        axes = [np.arange(n, dtype=np.int32) for n in places]
        balance, factor, seed = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        rates = base * np.asarray(experiment.factors)[factor]
        found = devices.map_runs(run, (data, starts), [balance, rates, seed])
        found = found.reshape(*places, 2, -1)
        variables: dict[str, Any] = {
            "deviation": (("balance", "factor", "seed"), deviations(found), {"exact": 1})
        }
        if str(optimizer) == "SGD":
            sharp = _sharpness(problem, data, starts)
            variables["sharpness"] = (("balance", "seed"), sharp)
        coordinates = {
            "balance": list(experiment.balances),
            "factor": list(experiment.factors),
            "seed": list(seeds),
        }
        dataset = xr.Dataset(variables, coordinates)
        return sweep.finish(dataset, problem, optimizer, begun, len(balance))


def deviations(outputs: np.ndarray) -> np.ndarray:
    """|f' - f| / |f - f_0| [balance, factor, seed].

    Args:
        outputs: [balance, factor, seed, 2, sample], before and after training.
    """
    with np.errstate(all="ignore"):
        plain = outputs[:1, ..., 1, :]
        way = np.linalg.norm(plain - outputs[:1, ..., 0, :], axis=-1)
        apart = np.linalg.norm(outputs[..., 1, :] - plain, axis=-1)
        defined = np.isfinite(way) & (way > 0)
        apart = np.where(np.isfinite(apart), apart, np.inf)
        return np.where(defined, apart / way, np.nan)


def _sharpness(problem: ReluRegression, data: Any, starts: Any) -> np.ndarray:
    """Largest eigenvalue of the Hessian [balance, seed]."""
    import jax
    from jax.flatten_util import ravel_pytree

    def hessian(params: Any) -> Any:
        flat, back = ravel_pytree(params)
        return jax.hessian(lambda x: problem.loss(back(x), data))(flat)

    found = np.asarray(jax.jit(jax.vmap(jax.vmap(hessian)))(starts))
    return np.linalg.eigvalsh(found)[..., -1]


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """As it is, the sharpness once."""
    if "sharpness" not in dataset:
        return dataset
    sharp = dataset.sharpness.sel(optimizer="SGD", drop=True)
    return dataset.assign(sharpness=sharp)


# Verdicts ---------------------------------------------------------------------------------


def deviation(
    results: Results, rule: str, balance: float = 10.0, factor: float = 1.0
) -> np.ndarray:
    """Deviations [seed] of a rule."""
    records = results.selected(results.experiment.problem).deviation
    return records.sel(optimizer=rule, balance=balance, factor=factor).values


def sharpness(results: Results, balance: float) -> np.ndarray:
    """Sharpness [seed] at the start."""
    return (
        results.selected(results.experiment.problem).sharpness.sel(balance=balance).values
    )


def _extreme(rule: str, largest: bool) -> Callable[[Results], Estimate]:
    """The largest or the smallest of any seed at c = 10: all must agree."""

    def measure(results: Results) -> Estimate:
        found = deviation(results, rule)
        return statistics.exact(found.max() if largest else found.min(), len(found))

    return measure


def _sharp(balance: float) -> Callable[[Results], Estimate]:
    return lambda results: statistics.bootstrap(sharpness(results, balance))


def _law(large: float, small: float) -> Callable[[Results], Estimate]:
    """Sharpness at one c over that at another, over the square of the quotient of both."""

    def measure(results: Results) -> Estimate:
        ratio = sharpness(results, large) / sharpness(results, small)
        return statistics.bootstrap(ratio / (large / small) ** 2)

    return measure


def _beyond(results: Results) -> Estimate:
    """Rate times sharpness over 2 at c = 10, the smallest of any seed."""
    rate = results.experiment.learning_rate  # type: ignore[attr-defined]
    found = rate * sharpness(results, 10.0) / 2
    return statistics.exact(found.min(), len(found))


RUN = "threshold and value of an independent run, one seed"
BLIND = {"LARS": 3e-14, "Fromage": 5e-16, "Adafactor": 7e-16}
SEEING = {
    "SGD": None,  # not finite
    "NormalisedGD": 1.1,
    "SignDescent": 0.88,
    "Adam": 0.94,
    "Lion": 1.5,
    "Muon": 0.87,
    "NovoGrad": 1.2,
    "LBFGS": 0.63,
}
SHARP = {1.0: 14.7, 3.0: 118.0, 10.0: 1314.0, 100.0: 131_422.0}
PREDICTIONS = (
    *(
        Prediction(
            f"{rule}, c = 10: deviates by at most 1e-10 on every start",
            RUN,
            _extreme(rule, largest=True),
            at_most=1e-10,
            published=value,
        )
        for rule, value in BLIND.items()
    ),
    Prediction(
        "LAMB, c = 10: deviates by 1e-2 at most on every start",
        "value of an independent run, one seed; threshold own",
        _extreme("LAMB", largest=True),
        at_most=1e-2,
        published=1e-3,
    ),
    *(
        Prediction(
            f"{rule}, c = 10: deviates by more than 0.3 on every start",
            RUN,
            _extreme(rule, largest=False),
            at_least=0.3,
            published=value,
        )
        for rule, value in SEEING.items()
    ),
    *(
        Prediction(
            f"sharpness at c = {c:g}: {value:g}, within a factor of 2",
            "value of an independent run on other data; band own",
            _sharp(c),
            at_least=value / 2,
            at_most=2 * value,
            published=value,
        )
        for c, value in SHARP.items()
    ),
    Prediction(
        "sharpness from c = 10 to 100 grows as c^2, to 2 %",
        "closed form for large c; value of an independent run",
        _law(100.0, 10.0),
        at_least=0.98,
        at_most=1.02,
        published=131_422 / 1314 / 100,
    ),
    Prediction(
        "c = 10: sharpness is beyond SGD's 2 / rate on every start",
        "independent run",
        _beyond,
        at_least=1.0,
        published=0.01 * 1314 / 2,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, c and factor on the rate; then the sharpness."""
    del manifest
    experiment: Any = results.experiment
    for rule in map(str, experiment.optimizers):
        for balance in experiment.balances[1:]:
            for factor in experiment.factors:
                found = deviation(results, rule, balance, factor)
                yield {
                    "optimizer": rule,
                    "c": balance,
                    "rate_factor": factor,
                    "deviation": float(np.median(found)),
                    "smallest": float(found.min()),
                    "largest": float(found.max()),
                }
    for balance in experiment.balances:
        found = sharpness(results, balance)
        yield {
            "optimizer": "any, at the start",
            "c": balance,
            "sharpness": float(np.median(found)),
        }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Deviation by rule and c; by rule and rate at the middle c; sharpness against c."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(1, 3, height=2.9, width_ratios=(1.1, 1, 0.9))
    rules = experiment.optimizers
    rows = np.arange(len(rules))
    balances, shades = experiment.balances[1:], ("#9dc3e6", "#3b4e9d", "#000000")
    middle = 10.0 if 10.0 in balances else balances[-1]
    for panel, values, name in (
        (axes[0, 0], [(c, 1.0) for c in balances], "c = {0:g}"),
        (axes[0, 1], [(middle, f) for f in experiment.factors], "rate x {1:g}"),
    ):
        for (c, factor), shade, shift in zip(
            values, shades, (-0.22, 0, 0.22), strict=False
        ):
            found = np.array([deviation(results, str(r), c, factor) for r in rules])
            found = np.clip(np.where(np.isnan(found), np.inf, found), 1e-16, 1e3)
            panel.plot(
                np.median(found, axis=1), rows + shift, "o", ms=3.5, color=shade,
                label=name.format(c, factor),
            )  # fmt: skip
            low, high = found.min(1), found.max(1)
            panel.hlines(rows + shift, low, high, color=shade, lw=0.8)
        panel.axvline(0.3, color="#b10000", lw=0.8, ls=":")
        panel.set(xscale="log", xlim=(1e-17, 1e4), ylim=(len(rules) - 0.5, -0.5))
        panel.set_xlabel("Deviation (right edge: lost)")
        panel.legend(loc="upper center", fontsize=6.5)
    axes[0, 0].set_yticks(rows, [rule.label for rule in rules])
    axes[0, 1].set_yticks(rows, [])
    axes[0, 0].set_title("a  Same function, layers rescaled")
    axes[0, 1].set_title(f"b  c = {middle:g}, other rates")
    found = np.array([sharpness(results, c) for c in experiment.balances])
    axes[0, 2].plot(experiment.balances, found, "o-", color="black", ms=3, lw=0.7)
    limit = 2 / experiment.learning_rate
    axes[0, 2].axhline(limit, color="#b10000", lw=0.8)
    axes[0, 2].text(1, limit, "2 / rate", color="#b10000", va="bottom", fontsize=7)
    axes[0, 2].set(xscale="log", yscale="log", xlabel="c", ylabel="Sharpness at the start")
    axes[0, 2].set_title(r"c  Sharpness grows as $c^2$")
    figures.note(
        figure,
        figures.medians(results.count(), bands=False)
        + " Lines: the lowest and the highest. c: each seed.",
    )
    return {"figure": figure}


if __name__ == "__main__":
    cli.main(__spec__.name)
