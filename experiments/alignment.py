"""How far does each optimizer's update turn from plain SGD's, and what turns it?

Question.   While a network learns real digits, how many degrees lie between each
            optimizer's update and -gradient, at the learning rate where that optimizer
            does best; how many of them come from rescaling elements, how many from
            averaging gradients; and is a larger turn a better update?
Prediction. Momentum turns at least 45 degrees by averaging alone. Adam turns further,
            and at least 30 degrees of it by rescaling. Where noise is equally large in
            every element (the noisy quadratic) rescaling turns Adam by 15 degrees at
            most, sign descent stays where the signs of Gaussian noise put it, at 37
            degrees, and RMSProp comes below 30. Adam's test loss is no worse than SGD's.
Varied.     Scientific: optimizer. Nuisance: learning rate, selected for each optimizer by
            validation loss (the objective, on the quadratic) on three seeds apart from
            the ten reported. Fixed: everything else; at equal seed all optimizers share
            the start and the batches.
Cost.       Three minutes on two CPU cores, a third of it compilation.

    python -m experiments.alignment                              run, store, judge, draw
    python -m experiments.alignment --draw                       draw stored records again
    python -m experiments.alignment --steps 200 --seeds 3 --problem.width 128
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from study import cli, optimizers, statistics
from study.claims import Prediction
from study.experiment import Experiment, log_grid
from study.problems import Digits, NoisyQuadratic
from study.statistics import Estimate

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from study.optimizers import Optimizer
    from study.reporting import Results


@dataclasses.dataclass(frozen=True)
class Alignment(Experiment):
    """Digits, and a quadratic where the noise is known."""

    quadratic: NoisyQuadratic = NoisyQuadratic()
    """The contrast: diagonal curvature, the same noise in every element."""


DEFAULT = Alignment(
    problem=Digits(),
    optimizers=(
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Nesterov(),
        optimizers.NormalisedGD(),
        optimizers.SignDescent(),
        optimizers.Adagrad(),
        optimizers.RMSProp(),
        optimizers.Adam(),
        optimizers.AdamW(),
        optimizers.Lion(),
    ),
    learning_rates=log_grid(-5, 0, per_decade=2),
    metrics=(
        "loss",
        "alignment",
        "angle",
        "rescaling_alignment",
        "rescaling_angle",
        "sign_agreement",
        "zero_share",
        "norm_ratio",
        "relative_update",
        "gradient_norm",
        "decay_ratio",
        "predicted_decrease",
        "density",
        "anisotropy",
        "effective_rate",
    ),
    steps=1_000,
)
PRESETS = {
    "smoke": Alignment(
        problem=Digits(depth=0, batch_size=8),
        optimizers=(optimizers.SGD(), optimizers.Adam()),
        learning_rates=(0.01, 0.1),
        metrics=("angle", "rescaling_angle"),
        steps=4,
        seeds=2,
        selection_seeds=1,
        evaluations=2,
        quadratic=NoisyQuadratic(dim=4),
    ),
    "default": DEFAULT,
    "paper": dataclasses.replace(
        DEFAULT, learning_rates=log_grid(-5, 1, per_decade=2), records=1_000
    ),
}
KEPT = (
    "angle",
    "rescaling_angle",
    "angle_by_leaf",
    "rescaling_angle_by_leaf",
    "test_loss",
    "objective",
)

Measure = Callable[["Results"], Estimate]


def late(metric: str, rule: str, *, quadratic: bool = False) -> Measure:
    """Degrees over the last quarter of a run: the median over seeds of the mean."""

    def measure(results: Results) -> Estimate:
        return statistics.bootstrap(_late(results, metric, rule, quadratic))

    return measure


def _late(results: Results, metric: str, rule: str, quadratic: bool = False) -> np.ndarray:
    problem = results.experiment.problems[int(quadratic)]
    record = results.selected(problem)[metric].sel(optimizer=rule)
    return np.degrees(statistics.late(record.values))


def further(results: Results) -> Estimate:
    """Degrees by which Adam is further from -g than Momentum, seed by seed."""
    return statistics.paired(
        _late(results, "angle", "Adam"), _late(results, "angle", "Momentum")
    )


def sign_like_start(results: Results) -> Estimate:
    """|cos(u, -g) - |g|_1 / (sqrt(n) |g|_2)| of Adam's first update, n moving elements."""
    first = results.selected(results.experiment.problem).sel(optimizer="Adam")
    first = first.isel(step=0)
    expected = np.sqrt(first["density"] / (1 - first["zero_share"]))
    return statistics.bootstrap(np.abs((first["alignment"] - expected).values))


def gain(results: Results) -> Estimate:
    """Final test loss of SGD minus that of Adam, seed by seed."""
    final = results.selected(results.experiment.problem)["test_loss"]
    sgd, adam = (final.isel(evaluation=-1).sel(optimizer=n).values for n in ("SGD", "Adam"))
    return statistics.paired(sgd, adam)


def early_layers(results: Results) -> Estimate:
    """Degrees by which rescaling turns Adam's first kernel more than its last."""
    dataset = results.selected(results.experiment.problem).sel(optimizer="Adam")
    kernels = [leaf for leaf in dataset.leaf.values if leaf.endswith("kernel")]
    by_leaf = dataset["rescaling_angle_by_leaf"]
    first, last = (
        np.degrees(statistics.late(by_leaf.sel(leaf=leaf).values))
        for leaf in (kernels[0], kernels[-1])
    )
    return statistics.paired(first, last)


PREDICTIONS = (
    Prediction(
        "SGD stays within 0.01 degrees of -g on the digits",
        "definition",
        late("angle", "SGD"),
        at_most=0.01,
    ),
    Prediction(
        "Normalised GD stays within 0.01 degrees of -g on the digits",
        "definition",
        late("angle", "NormalisedGD"),
        at_most=0.01,
    ),
    Prediction(
        "Adam's first update is a sign step: cosine within 0.01 of |g|_1 / (√n |g|_2)",
        "Kingma & Ba (2015), arXiv:1412.6980, at t = 1; Balles & Hennig (2018)",
        sign_like_start,
        at_most=0.01,
    ),
    Prediction(
        "Momentum turns 45 degrees or more, by averaging alone (digits, late)",
        "own expectation: minibatch noise outweighs the mean gradient late in training",
        late("angle", "Momentum"),
        at_least=45,
    ),
    Prediction(
        "rescaling alone turns Adam 30 degrees or more (digits, late)",
        "own expectation: gradient scales differ between layers and pixels",
        late("rescaling_angle", "Adam"),
        at_least=30,
    ),
    Prediction(
        "Adam turns further from -g than Momentum (digits, late, paired)",
        "own expectation: rescaling adds to averaging",
        further,
        at_least=0,
    ),
    Prediction(
        "rescaling turns Adam's first kernel more than its last (digits, late, paired)",
        "own expectation: pixels differ more in scale than hidden units",
        early_layers,
        at_least=0,
    ),
    Prediction(
        "equal noise: rescaling turns Adam 15 degrees or less (quadratic, late)",
        "own expectation: the averages of g^2 are nearly equal there",
        late("rescaling_angle", "Adam", quadratic=True),
        at_most=15,
    ),
    Prediction(
        "equal noise: RMSProp comes within 30 degrees of -g (quadratic, late)",
        "own expectation: between SGD's 0 and sign descent's 37",
        late("angle", "RMSProp", quadratic=True),
        at_most=30,
    ),
    Prediction(
        "equal noise: sign descent at 35 to 39 degrees, arccos √(2/π) = 37.1",
        "signs of a Gaussian vector; Bernstein et al. (2018), arXiv:1802.04434",
        late("angle", "SignDescent", quadratic=True),
        at_least=35,
        at_most=39,
    ),
    Prediction(
        "Adam's test loss is no higher than SGD's (digits, paired)",
        "common experience",
        gain,
        at_least=0,
    ),
)


def draw(results: Results) -> dict[str, Figure]:
    """Angles and loss over training, angles by leaf, and the learning-rate grid."""
    return {
        "figure": _draw_training(results),
        "figure-leaves": _draw_leaves(results),
        "figure-rates": _draw_rates(results),
    }


def _draw_training(results: Results) -> Figure:
    from study import figures

    problems = results.experiment.problems
    figure, axes = figures.panels(len(problems), 3, height=2.35)
    looks = figures.look(results.experiment.optimizers)
    letters = iter("abcdefghi")
    for row, problem in zip(axes, problems, strict=True):
        dataset = results.selected(problem)
        evaluated = dataset[problem.reports]
        for place, (name, look) in enumerate(looks.items()):
            at = dataset.sel(optimizer=name)
            for panel, metric in zip(row, ("angle", "rescaling_angle"), strict=False):
                values = np.degrees(at[metric].values)
                figures.curve(panel, at.step.values, values, look, place)
            loss = evaluated.sel(optimizer=name).values
            figures.curve(row[2], at.evaluation.values, loss, look, place)
        labels = (f"{problem.label}\n\ndegrees", "degrees", str(problem.reports))
        titles = ("Angle from $-g$", "Angle from unscaled", "Loss at evaluation")
        for panel, title, label in zip(row, titles, labels, strict=True):
            panel.set_title(f"{next(letters)}  {title}")
            panel.set(xlabel="Step", ylabel=label.replace("_", " "))
        row[0].yaxis.label.set_fontweight("bold")
        for panel in row[:2]:
            panel.set(ylim=(-3, 93), yticks=range(0, 91, 15))
        row[2].set_yscale("log")
    figures.legend(figure, axes[0, 0])
    figures.note(figure, figures.medians(results.count()))
    return figure


def _draw_leaves(results: Results) -> Figure:
    from study import figures

    problem = results.experiment.problem
    dataset = results.selected(problem)
    entries = results.experiment.optimizers
    figure, axes = figures.panels(1, 2, height=2.9)
    columns = ["whole", *map(_leaf_name, dataset.leaf.values)]
    titles = {
        "angle": "a  Angle from $-g$",
        "rescaling_angle": "b  Angle from the unscaled update",
    }
    for panel, (metric, title) in zip(axes[0], titles.items(), strict=True):
        values = np.stack([_by_leaf(dataset, metric, entry) for entry in entries])
        rows = [entry.title if panel is axes[0, 0] else "" for entry in entries]
        image = figures.heat_table(panel, values, rows, columns, low=0, high=90)
        panel.set_title(title)
        panel.axvline(1, color="white", lw=3)
        if panel is axes[0, -1]:
            label = f"degrees, {problem.label}, last quarter"
            figure.colorbar(image, ax=axes, label=label, ticks=range(0, 91, 30))
    figures.note(figure, figures.medians(results.count(), bands=False))
    return figure


def _by_leaf(dataset: xr.Dataset, metric: str, entry: Optimizer) -> np.ndarray:
    """Late degrees, median over seeds: of the whole vector, then of each leaf."""
    at = dataset.sel(optimizer=str(entry))
    whole = statistics.late(at[metric].values)[:, None]
    leaves = statistics.late(
        at[f"{metric}_by_leaf"].transpose("seed", "step", "leaf").values
    )
    return np.degrees(np.median(np.concatenate([whole, leaves], 1), 0))


def _leaf_name(leaf: str) -> str:
    """`layers.0.kernel` as `0 kernel`, on two lines."""
    *_, layer, kind = f".{leaf}".split(".")
    return f"{kind}\n{layer}"


def _draw_rates(results: Results) -> Figure:
    from study import figures

    problems = results.experiment.problems
    figure, axes = figures.panels(1, len(problems), height=2.9)
    looks = figures.look(results.experiment.optimizers)
    for panel, problem, letter in zip(axes[0], problems, "abcdef", strict=False):
        _draw_grid(panel, results.selected(problem), looks)
        name = "validation loss" if "validation" in str(problem.selects) else "objective"
        panel.set_title(f"{letter}  {problem.label}: final {name}")
        panel.set(xlabel="Learning rate", ylabel=name.capitalize())
    figures.legend(figure, axes[0, 0])
    figures.note(
        figure, f"Medians of {results.count('selection_seeds')} seeds kept for selection."
    )
    return figure


def _draw_grid(axes: Axes, dataset: xr.Dataset, looks: dict[str, dict]) -> None:
    """The selection objective by rate; a ring marks the selected one."""
    curves = dataset.objective_by_rate
    finite = curves.values[np.isfinite(curves.values)]
    top = 10 * np.nanmax(curves.values[:, 0], initial=finite.min())
    for name, look in looks.items():
        at = dataset.sel(optimizer=name)
        rates, values = at.learning_rate.values, at.objective_by_rate.values
        shown = np.where(np.isfinite(values), np.minimum(values, top), top)
        axes.plot(rates, shown, **look, markeredgecolor="white", markeredgewidth=0.4)
        best = rates == float(at.selected_rate)
        axes.plot(rates[best], shown[best], "o", ms=9, mfc="none", mec=look["color"])
    axes.set(xscale="log", yscale="log", ylim=(None, 1.3 * top))
    axes.text(
        0.02,
        0.98,
        "top: diverged or worse",
        transform=axes.transAxes,
        va="top",
        fontsize=7,
        color="#555555",
    )


if __name__ == "__main__":
    cli.main(__spec__.name)
