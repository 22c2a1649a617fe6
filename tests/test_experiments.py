"""Every experiment, found by its file: the real command at the smoke preset."""

import contextlib
import importlib
import json
from typing import Any

import pytest
import xarray as xr
from matplotlib.figure import Figure

from study import arguments, cli, listing, results, spec

MODULES = {name: importlib.import_module(f"experiments.{name}") for name in listing.names()}
SWEPT = [name for name, module in MODULES.items() if hasattr(module, "PRESETS")]


@pytest.mark.parametrize("name", MODULES)
def test_an_experiment_says_what_it_asks_and_expects(name):
    found = arguments.sections(MODULES[name])
    assert set(found) == {"Question", "Prediction", "Varied", "Cost"}
    assert all(found.values())


@pytest.mark.parametrize("name", SWEPT)
def test_presets_are_specs_that_survive_a_file(name):
    assert set(MODULES[name].PRESETS) == {"smoke", "default", "paper"}
    for preset in MODULES[name].PRESETS.values():
        stored = json.loads(json.dumps(spec.encode(preset)))
        assert spec.decode(stored, type(preset)) == preset


@pytest.fixture(scope="module", params=SWEPT)
def ran(request, tmp_path_factory):
    """An experiment's name and a folder in which its smoke preset has run once."""
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.chdir(folder):
        cli.main(
            f"experiments.{request.param}", ["--preset", "smoke", "--quiet", "--publish"]
        )
    return request.param, folder


def test_smoke_runs_stores_judges_draws_and_publishes(ran, monkeypatch, capsys):
    name, place = ran
    monkeypatch.chdir(place)
    smoke = MODULES[name].PRESETS["smoke"]
    folder = cli.run_folder(name, smoke)
    published = cli.ROOT / name
    assert len(list((folder / "records").glob("*.nc"))) == len(smoke.cells)
    for file in ("claims.json", "summary.csv", "manifest.json", "figure.png"):
        assert (folder / file).stat().st_size
        assert (published / file).stat().st_size
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert len(json.loads((folder / "claims.json").read_text())) == len(
        MODULES[name].PREDICTIONS
    )
    size = sum(path.stat().st_size for path in published.iterdir())
    assert size < 200_000
    assert not list(folder.rglob("*.tmp"))

    loaded = results.load(folder)
    assert loaded.sizes["problem"] == len(smoke.problems)
    assert loaded.sizes["optimizer"] == len(smoke.optimizers)
    plain = xr.load_dataset(folder / "records" / smoke.cells[0].file, engine="scipy")
    assert plain.attrs["optimizer"] == str(smoke.optimizers[0])

    png = (folder / "figure.png").read_bytes()
    cli.main(f"experiments.{name}", ["--preset", "smoke", "--draw"])
    assert (folder / "figure.png").read_bytes() == png
    cli.main(f"experiments.{name}", ["--draw", "--results", str(published)])
    assert "wrote" in capsys.readouterr().out

    cli.main(f"experiments.{name}", ["--preset", "smoke"])
    assert "cells are in" in capsys.readouterr().out


def test_drawing_sees_stored_arrays_only(ran, monkeypatch):
    """The same figure from thinned records, with training out of reach."""
    name, place = ran
    monkeypatch.chdir(place)
    from study import figures, sweep

    monkeypatch.delattr(sweep, "run_cell")
    smoke = MODULES[name].PRESETS["smoke"]
    for folder in (cli.run_folder(name, smoke), cli.ROOT / name):
        found = cli.results_of(MODULES[name], smoke, folder)
        with figures.style():
            drawn = MODULES[name].draw(found)
        assert "figure" in drawn
        assert all(isinstance(figure, Figure) for figure in drawn.values())
        for figure in drawn.values():  # says what its marks and bands are
            notes: Any = figure.findobj(lambda artist: artist.get_gid() == figures.NOTE)
            assert [bool(note.get_text()) for note in notes] == [True]


def test_alignment_compares_the_ten_rules_of_the_study():
    default = MODULES["alignment"].PRESETS["default"]
    assert len(default.optimizers) == 10
    assert str(default.optimizers[0]) == "SGD"
    assert default.seeds == 10
    paper = MODULES["alignment"].PRESETS["paper"]
    assert len(paper.learning_rates) == 13
    assert paper.record_every == 1
