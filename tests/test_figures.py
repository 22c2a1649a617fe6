"""An optimizer is known by its colour, dash and marker in every figure."""

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from helpers import EVERY_OPTIMIZER

from study import figures, listing
from study.errors import UserError
from study.optimizers import OPTIMIZERS, SGD, Adam


def pair(look):
    return look["linestyle"], look["marker"]


def test_as_many_optimizers_as_there_are_pairs_look_different():
    looks = figures.look([entry() for entry in list(OPTIMIZERS.values())[: figures.PAIRS]])
    assert len({pair(look) for look in looks.values()}) == figures.PAIRS


def test_neighbours_in_the_catalogue_share_neither_dash_nor_marker():
    alone = [pair(figures.look([entry()])[str(entry())]) for entry in OPTIMIZERS.values()]
    for one, other in itertools.pairwise(alone):
        assert one[0] != other[0]
        assert one[1] != other[1]


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_an_optimizer_keeps_its_look_beside_changed_ones(optimizer):
    changed = [Adam(b1=0.5), SGD(), optimizer]
    if optimizer in changed[:2]:
        return
    looks = figures.look(changed)
    alone = figures.look([optimizer])
    if pair(alone[str(optimizer)]) != pair(looks["SGD"]):
        assert looks[str(optimizer)] == alone[str(optimizer)]


@pytest.mark.parametrize("name", listing.names())
def test_no_two_rules_of_an_experiment_look_alike(name):
    module = importlib.import_module(f"experiments.{name}")
    if not hasattr(module, "PRESETS"):
        return
    rules = module.PRESETS["default"].optimizers
    looks = figures.look(rules)
    assert list(looks) == list(map(str, rules))
    if len(rules) <= figures.PAIRS:
        assert len({pair(look) for look in looks.values()}) == len(rules)


@pytest.mark.parametrize("legend", [False, True])
def test_a_note_is_drawn_once_and_covers_nothing(legend):
    with figures.style():
        figure, axes = figures.panels(1, 1)
        axes[0, 0].plot(np.arange(3), label="a line")
        axes[0, 0].set_xlabel("Step")
        if legend:
            figures.legend(figure, axes[0, 0])
        figures.note(figure, figures.medians(10))
        figure.draw_without_rendering()
        notes: Any = figure.findobj(lambda artist: artist.get_gid() == figures.NOTE)
        (note,) = notes
        assert note.get_text().startswith("Medians of 10 seeds")
        box = note.get_window_extent()
        label = axes[0, 0].xaxis.label.get_window_extent()
        assert box.y1 <= label.y0
        assert box.y0 >= 0


@pytest.mark.parametrize(("venue", "inches"), [(None, 7.2), ("icml2024", 6.75)])
def test_a_figure_is_as_wide_as_its_venues_text(venue, inches):
    with figures.style(venue):
        figure, _ = figures.panels(1, 2)
    assert figure.get_figwidth() == pytest.approx(inches)


def test_an_unknown_venue_is_refused_with_those_there_are():
    with (
        pytest.raises(UserError, match=r"--venue 'nips'.*icml2024"),
        figures.style("nips"),
    ):
        pass


def test_names_lie_on_their_curves_wherever_these_are_defined():
    with figures.style():
        _, axes = figures.panels(1, 1)
        x = np.arange(5.0)
        axes[0, 0].plot(x, 2 * x, label="all")
        axes[0, 0].plot(x, np.where(x < 3, x, np.nan), label="first three")
        axes[0, 0].plot(x, np.full(5, np.nan), label="none")
        figures.direct_labels(axes[0, 0], (0.75, 1, 0.5))
    placed = {text.get_text(): text.get_position() for text in axes[0, 0].texts}
    assert placed.keys() == {"all", "first three"}
    np.testing.assert_allclose(placed["all"], (3, 6), rtol=1e-6)
    np.testing.assert_allclose(placed["first three"], (1.98, 1.98), rtol=1e-6)
