"""How do training steps grow with the vocabulary: does dropping the scale help on words?

Question.   Predict the next word from the last, linearly, when words follow Zipf's law. How
            many steps do gradient descent and sign descent need for a given share of the
            loss as the vocabulary grows? And on the bigrams of a text?
Prediction. Steps go as a power of the vocabulary's size d. Gradient descent: d^a for
            frequencies k^-a with a < 1, d^(1 - eps) at a = 1, no growth above; eps is the
            share of the loss that is left. Sign descent, which makes all words alike:
            no growth for a < 1/2, d^((1 - eps) / 2) at 1/2, d^(1/2) above. So dropping the
            scale wins at a = 1 and loses at a = 2.
Varied.     Scientific: rule, exponent a, size d, share eps. Nuisance: sign descent's
            learning rate, the best for each horizon; gradient descent has 1 / pi_1. No
            chance anywhere: closed forms, checked against training. On the text d is the
            number of its most frequent words.
Cost.       Ten seconds on two CPU cores.

    python -m experiments.zipf                       run, store, judge, draw
    python -m experiments.zipf --draw                draw stored records again
    python -m experiments.zipf --data book.txt       on the bigrams of a text file

Kunstner & Bach (2025), arXiv:2505.19227: Theorems 3.1 and 4.5, Propositions A.1 to A.3,
Figures 1 to 8, all read at the source. As there, an element that sign descent has brought
to its target is taken to be half a learning rate off from then on. `steps_exact` follows
the swings themselves and asks for two steps in a row: after an even number alone, elements
whose first step was too far are back at 0, and two steps can pass for arrival.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from study import cli, optimizers
from study.claims import Prediction
from study.data import SYNTHETIC
from study.experiment import Comparison
from study.optimizers import Optimizer, SignDescent
from study.problems import Bigrams, Problem
from study.statistics import Estimate, exact

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.reporting import Results
    from study.sweep import Cost


@dataclasses.dataclass(frozen=True)
class Zipf(Comparison):
    """Steps to a share of the loss, by exponent and vocabulary; then on a text."""

    text: Bigrams = Bigrams(words=1600, corpus=SYNTHETIC, dtype="float64")
    """The text, and how many of its words at most."""
    exponents: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
    """A of Zipf's law."""
    sizes: tuple[int, ...] = (1_000, 3_162, 10_000, 31_623, 100_000)
    """Vocabularies d of Zipf's law."""
    text_sizes: tuple[int, ...] = (50, 100, 200, 400, 800, 1600)
    """Vocabularies of the text."""
    shares: tuple[float, ...] = (0.5, 0.2, 0.1)
    """Eps, of the first loss, to be left."""
    trained: int = 60
    """Steps of training that the closed forms are checked against."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.refuse_repeated("exponents", "sizes", "text_sizes", "shares")
        if not all(0 < share < 1 for share in self.shares):
            self.refuse("shares", "between 0 and 1")
        if max(self.text_sizes) > self.text.words:
            self.refuse("text_sizes", f"at most {self.text.words}, the text's words")


DEFAULT = Zipf(
    problem=Bigrams(dtype="float64"),
    optimizers=(optimizers.SGD(), optimizers.SignDescent()),
)
PRESETS = {
    "smoke": dataclasses.replace(
        DEFAULT,
        text=dataclasses.replace(DEFAULT.text, words=40),
        exponents=(1.0,),
        sizes=(20, 40),
        text_sizes=(20, 40),
        shares=(0.5,),
        trained=5,
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT,
        exponents=(0.25, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0),
        sizes=(1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000),
    ),
}
KEPT = ("steps", "steps_exact", "curve", "agreement", "text_steps")
CURVE = np.geomspace(1, 1e6, 61).round()
"""Steps at which the curve of each rule is kept, at the largest vocabulary."""
RATES = np.geomspace(0.02, 20, 60)
"""Sign descent's learning rates, in units of the largest target over the horizon."""
EXACT_SIZE = 31_623
"""Largest vocabulary in which sign descent's swings are followed element by element."""
LIMIT = 2**40
"""Steps at which the search gives up."""


# Closed forms -----------------------------------------------------------------------------


class Rows:
    """The loss of bigrams as weights on squared distances, and its decay under each rule.

    Gradient descent at 1 / pi_1 multiplies row k's distance by 1 - pi_k / pi_1 each step.
    Under sign descent each element walks at the learning rate to its target and then swings
    about it, half a rate off in the mean; targets of 0 never move.

    Args:
        pi: frequencies [word].
        targets: the different target values [target], positive.
        mass: of each target, the sum of pi over the elements that have it [target].
        squares: |p_k|^2 [word].
    """

    def __init__(
        self, pi: np.ndarray, targets: np.ndarray, mass: np.ndarray, squares: np.ndarray
    ) -> None:
        with np.errstate(divide="ignore"):  # the most frequent word is there in one step
            self.decay = np.log1p(-pi / pi.max())
        self.share = pi * squares / np.sum(pi * squares)
        order = np.argsort(-targets)
        self.targets = targets[order]
        self.mass = mass[order] / np.sum(mass * targets**2)
        powers = [self.mass * self.targets**k for k in range(3)]
        self.sums = [np.concatenate([[0.0], np.cumsum(x)]) for x in powers]

    def of_gradient(self, t: float) -> float:
        """Loss after t steps of gradient descent over the first one."""
        return float(np.sum(self.share * np.exp(2 * t * self.decay)))

    def of_sign(self, t: float) -> float:
        """The same of sign descent, at the best of RATES for this horizon."""
        rates = RATES * self.targets[0] / t
        ahead = np.searchsorted(-self.targets, -rates * t)  # how many have not arrived
        none, one, two = (x[ahead] for x in self.sums)
        walking = two - 2 * rates * t * one + (rates * t) ** 2 * none
        return float(np.min(walking + rates**2 / 4 * (self.sums[0][-1] - none)))

    def of_swings(self, t: float) -> float:
        """The same with the swings themselves, the worse of t and t + 1 steps."""
        rates = RATES[::2] * self.targets[0] / t
        return min(max(self.at_rate(t + i, rate) for i in (0, 1)) for rate in rates)

    def at_rate(self, t: float, rate: float) -> float:
        """Sign descent's loss after t steps at a rate, swings and all, over the first."""
        reach = np.minimum(np.ceil(self.targets / rate), t)  # steps that go up
        place = rate * reach
        swings = (place >= self.targets) & ((t - reach) % 2 == 1)
        away = np.where(swings, place - rate, place) - self.targets
        return float(np.sum(self.mass * away**2))


@functools.lru_cache(maxsize=64)
def rows(problem: Bigrams) -> Rows:
    """The closed forms of a problem; under Zipf's law in time and memory of order d."""
    if not problem.corpus:
        pi = problem.law()
        return Rows(pi, pi, np.ones_like(pi), np.full_like(pi, np.sum(pi**2)))
    pi, successors = problem.frequencies()
    heard = successors > 0
    mass = np.broadcast_to(pi[:, None], successors.shape)[heard]
    return Rows(pi, successors[heard], mass, np.sum(successors**2, axis=1))


def steps_to(loss: Callable[[float], float], share: float) -> float:
    """The first number of steps after which at most this share is left, by bisection.

    Exact where the loss falls steadily, as gradient descent's does; sign descent's best
    rate lies on a grid of 12 % steps.
    """
    high = 1
    while loss(high) > share:
        high *= 2
        if high > LIMIT:
            return np.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= share else (middle, high)
    return float(high)


def losses(
    problem: Bigrams, optimizer: Optimizer
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """What is left after t steps, as in the source, and with sign descent's swings."""
    made = rows(problem)
    if isinstance(optimizer, SignDescent):
        return made.of_sign, made.of_swings
    return made.of_gradient, made.of_gradient


def run_cell(
    experiment: Zipf,
    problem: Problem,
    optimizer: Optimizer,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[xr.Dataset, Cost]:
    """`steps` [exponent, size, share] to each share of the loss, inf if never.

    `steps_exact` [exponent, size] are those to the smallest share with sign descent's
    swings followed, NaN for vocabularies above EXACT_SIZE.

    `curve` [exponent, at] is the loss left after so many steps at the largest vocabulary,
    `agreement` the largest difference between the closed form and training with Optax, of
    losses over the first one.
    """
    import xarray as xr

    from study import devices, sweep

    begun = time.perf_counter()
    assert isinstance(problem, Bigrams)
    exponents = experiment.exponents if not problem.corpus else (problem.exponent,)
    sizes = experiment.sizes if not problem.corpus else experiment.text_sizes
    steps = np.empty((len(exponents), len(sizes), len(experiment.shares)))
    curve = np.empty((len(exponents), len(CURVE)))
    swings = np.full(steps.shape[:2], np.nan)
    for i, exponent in enumerate(exponents):
        for j, size in enumerate(sizes):
            here = dataclasses.replace(problem, exponent=exponent, words=size)
            loss, loss_exact = losses(here, optimizer)
            steps[i, j] = [steps_to(loss, share) for share in experiment.shares]
            if size <= EXACT_SIZE:
                swings[i, j] = steps_to(loss_exact, min(experiment.shares))
            if size == max(sizes):
                curve[i] = [loss(t) for t in CURVE]
        progress((i + 1) / (len(exponents) + 1))
    small = dataclasses.replace(problem, words=min(problem.words, 50))
    with devices.precision(problem.dtype):
        agreement = _agreement(small, optimizer, experiment.trained)
    # Names of their own: problems with unlike axes are stored in one published file.
    prefix = "text_" if problem.corpus else ""
    axes = ("exponent", f"{prefix}size")
    dataset = xr.Dataset(
        {
            f"{prefix}steps": ((*axes, "share"), steps),
            f"{prefix}steps_exact": (axes, swings),
            f"{prefix}curve": (("exponent", "at"), curve),
            "agreement": agreement,
        },
        {
            "exponent": list(exponents),
            f"{prefix}size": np.asarray(sizes, np.int32),
            "share": list(experiment.shares),
            "at": CURVE,
        },
    )
    return sweep.finish(dataset, problem, optimizer, begun, 1)


def _agreement(problem: Bigrams, optimizer: Optimizer, steps: int) -> float:
    """Largest difference of losses, over the first, between training and closed form."""
    import jax
    import jax.numpy as jnp

    from study import trajectories

    made, data = rows(problem), problem.data()
    signs = isinstance(optimizer, SignDescent)
    rate = made.targets.max() / 7.3 if signs else 1 / data[0].max()
    params = problem.init(jax.random.key(0))
    _, found = trajectories.follow(
        problem,
        optimizer,
        lambda t: jnp.asarray(rate),
        range(1, steps + 1),
        lambda state, t: problem.loss(state.params, data),
        params=params,
        data=jax.tree.map(jnp.asarray, data),
    )
    at = (lambda t: made.at_rate(t, rate)) if signs else made.of_gradient
    expected = np.array([at(t) for t in range(1, steps + 1)])
    return float(np.abs(found / problem.loss(params, data) - expected).max())


def condense(dataset: xr.Dataset) -> xr.Dataset:
    """As it is."""
    return dataset


# Verdicts ---------------------------------------------------------------------------------

GRADIENT, SIGN = "SGD", "SignDescent"


def theory(rule: str, exponent: float, share: float) -> float:
    """The power of the vocabulary with which steps grow (Theorems 3.1 and 4.5)."""
    if rule == GRADIENT:
        return exponent if exponent < 1 else (1 - share) * (exponent == 1)
    return 0.0 if exponent < 0.5 else 0.5 * ((1 - share) if exponent == 0.5 else 1)


def steps(results: Results, rule: str, exponent: float, share: float) -> xr.DataArray:
    """Steps [size] under Zipf's law."""
    records = results.selected(results.experiment.problem).steps
    return records.sel(optimizer=rule, exponent=exponent, share=share)


def text_steps(results: Results, rule: str, share: float) -> xr.DataArray:
    """Steps [text_size] on the text."""
    text = results.experiment.text  # type: ignore[attr-defined]
    records = results.selected(text).text_steps
    return records.sel(optimizer=rule, share=share, exponent=text.exponent)


def slope(found: xr.DataArray) -> float:
    """The power of the size by least squares on logarithms."""
    sizes = found[found.dims[0]].values
    return float(np.polyfit(np.log(sizes), np.log(found.values), 1)[0])


def _slope_exact(results: Results, rule: str, exponent: float, share: float) -> float:
    """The power with sign descent's swings; NaN for other shares than the smallest."""
    records = results.selected(results.experiment.problem)
    found = records.steps_exact.sel(optimizer=rule, exponent=exponent)
    found = found.isel(size=np.flatnonzero(np.isfinite(found.values)))
    smallest = share == min(records.share.values)
    return slope(found) if smallest and found.size > 1 else np.nan


def _slope(rule: str, exponent: float, share: float) -> Callable[[Results], Estimate]:
    return lambda results: exact(slope(steps(results, rule, exponent, share)))


def _ratio(exponent: float, share: float) -> Callable[[Results], Estimate]:
    """Steps of gradient descent over those of sign descent at the largest vocabulary."""

    def measure(results: Results) -> Estimate:
        both = [steps(results, r, exponent, share).values[-1] for r in (GRADIENT, SIGN)]
        return exact(both[0] / both[1])

    return measure


def _agreement_of(rule: str) -> Callable[[Results], Estimate]:
    def measure(results: Results) -> Estimate:
        found = [
            float(results.selected(problem).agreement.sel(optimizer=rule))
            for problem in results.experiment.problems
        ]
        return exact(max(found))

    return measure


def _clock(results: Results) -> Estimate:
    """Largest |r(d^tau / 2) - (1 - tau)| over tau of 0.2, 0.5, 0.8, at a = 1."""
    records = results.selected(results.experiment.problem)
    curve = records.curve.sel(optimizer=GRADIENT, exponent=1.0)
    taus = np.array([0.2, 0.5, 0.8])
    at = float(records["size"].max()) ** taus / 2
    left = np.interp(np.log(at), np.log(curve["at"].values), curve.values)
    return exact(float(np.abs(left - (1 - taus)).max()))


def _on_text(results: Results) -> Estimate:
    both = [text_steps(results, rule, 0.1).values[-1] for rule in (GRADIENT, SIGN)]
    return exact(both[0] / both[1])


PUBLISHED = {
    (1.0, 0.5): (0.465, 0.495),
    (1.0, 0.1): (0.867, 0.498),
    (1.5, 0.2): (0.064, 0.493),
}
"""Slopes of gradient and of sign descent of an independent run, by exponent and share."""
ROWS = (*PUBLISHED, (0.25, 0.1), (0.5, 0.1), (0.75, 0.1), (2.0, 0.1))
READ = "Kunstner & Bach 2025, Theorems 3.1 and 4.5, read at the source"
PREDICTIONS = (
    *(
        Prediction(
            f"a = {exponent:g}, eps = {share:g}, {title}: steps go as"
            f" d^{theory(rule, exponent, share):.2g}, to 0.08 in the exponent",
            READ
            + ("; value of an independent run" if (exponent, share) in PUBLISHED else ""),
            _slope(rule, exponent, share),
            at_least=theory(rule, exponent, share) - 0.08,
            at_most=theory(rule, exponent, share) + 0.08,
            published=PUBLISHED.get((exponent, share), (None, None))[place],
        )
        for exponent, share in ROWS
        for place, (rule, title) in enumerate(
            ((GRADIENT, "gradient descent"), (SIGN, "sign descent"))
        )
    ),
    Prediction(
        "a = 1, eps = 0.1, d = 1e5: gradient descent needs 20 times sign descent's steps",
        "independent run, 10,168 steps against 358",
        _ratio(1.0, 0.1),
        at_least=20,
        published=10168 / 358,
    ),
    Prediction(
        "a = 2, eps = 0.1, d = 1e5: gradient descent needs a tenth of them at most",
        "independent run, 15 steps against 456",
        _ratio(2.0, 0.1),
        at_most=0.1,
        published=15 / 456,
    ),
    Prediction(
        "a = 1, d = 1e5: gradient descent leaves 1 - tau after d^tau / 2 steps, to 0.1",
        "Kunstner & Bach 2025, section 3, read at the source",
        _clock,
        at_most=0.1,
    ),
    *(
        Prediction(
            f"{title}: Optax's training and the closed form agree to 1e-10",
            "derivation",
            _agreement_of(rule),
            at_most=1e-10,
        )
        for rule, title in ((GRADIENT, "gradient descent"), (SIGN, "sign descent"))
    ),
    Prediction(
        "text, all words, eps = 0.1: gradient descent needs more steps than sign descent",
        "own expectation: words of a text are near a = 1",
        _on_text,
        at_least=1,
    ),
)


def tabulate(results: Results, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each rule, exponent and share, and for the text."""
    del manifest
    experiment: Any = results.experiment
    for rule in map(str, experiment.optimizers):
        for share in experiment.shares:
            for exponent in experiment.exponents:
                found = steps(results, rule, exponent, share)
                yield {
                    "data": "Zipf",
                    "optimizer": rule,
                    "share": share,
                    "exponent": exponent,
                    "slope": slope(found),
                    "theory": theory(rule, exponent, share),
                    "steps_at_largest": float(found[-1]),
                    "slope_exact": _slope_exact(results, rule, exponent, share),
                }
            found = text_steps(results, rule, share)
            yield {
                "data": str(experiment.text),
                "optimizer": rule,
                "share": share,
                "slope": slope(found),
                "steps_at_largest": float(found[-1]),
            }


# Figure -----------------------------------------------------------------------------------


def draw(results: Results) -> dict[str, Figure]:
    """Loss against steps, steps against vocabulary, exponents against theory, the text."""
    from study import figures

    experiment: Any = results.experiment
    figure, axes = figures.panels(2, 2, height=2.5)
    looks = figures.look(experiment.optimizers)
    share = min(experiment.shares)
    _draw_curves(axes[0, 0], results, looks)
    for name, look in looks.items():
        for exponent in (e for e in (1.0, 2.0) if e in experiment.exponents):
            found = steps(results, name, exponent, share)
            light = {} if exponent == 1 else {"alpha": 0.45, "label": "_"}
            axes[0, 1].plot(found["size"], found, **(look | light))
            axes[0, 1].annotate(
                f"a = {exponent:g}",
                (found["size"].values[-1], found.values[-1]),
                xytext=(4, 9 * (exponent - 1.5) if name == SIGN else 0),
                textcoords="offset points",
                va="center",
                color=look["color"],
                fontsize=7,
            )
        fine = sorted(experiment.exponents)
        found = [slope(steps(results, name, e, share)) for e in fine]
        axes[1, 0].plot(fine, found, **look)
        stated = [theory(name, e, share) for e in fine]
        axes[1, 0].plot(fine, stated, "_", color="black", ms=12, mew=1.5)
        found = text_steps(results, name, share)
        axes[1, 1].plot(found[found.dims[0]], found, **look)
    axes[0, 1].set(xscale="log", yscale="log", xlabel="Vocabulary d")
    axes[0, 1].set_ylabel(f"Steps to {share:.0%} of the loss")
    axes[0, 1].set_title("b  Steps grow with the vocabulary")
    axes[0, 1].margins(x=0.15)
    axes[1, 0].set(
        xlabel="Exponent a of the word frequencies", ylabel="Power of d in steps"
    )
    axes[1, 0].set_title("c  The power, and theory (black bars)")
    axes[1, 1].set(xscale="log", yscale="log", xlabel="Most frequent words of the text")
    axes[1, 1].set_ylabel(f"Steps to {share:.0%} of the loss")
    corpus = experiment.text.corpus.partition("@")[0]
    axes[1, 1].set_title(f"d  Word bigrams of a text ({corpus})")
    figures.legend(figure, axes[1, 0])
    figures.note(figure, "Expected losses; nothing is random.")
    return {"figure": figure}


def _draw_curves(panel: Axes, results: Results, looks: dict[str, Any]) -> None:
    """What is left of the loss at a = 1 and the largest vocabulary."""
    records = results.selected(results.experiment.problem)
    size = float(records["size"].max())
    for name, look in looks.items():
        curve = records.curve.sel(optimizer=name, exponent=1.0)
        panel.plot(curve["at"], curve, **(look | {"marker": None}))
    taus = np.linspace(0, 1, 50)
    panel.plot(size**taus / 2, 1 - taus, color="black", lw=0.8, ls=":")
    panel.text(size**0.75 / 2, 0.32, r"$1 - \tau$ at $d^\tau / 2$", fontsize=7)
    panel.set(xscale="log", xlim=(1, 1e6), ylim=(0, 1), xlabel="Steps")
    panel.set_ylabel("Share of the loss left")
    panel.set_title(f"a  a = 1, d = {size:,.0f}")


if __name__ == "__main__":
    cli.main(__spec__.name)
