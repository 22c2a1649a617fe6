import dataclasses
import os
import subprocess

import numpy as np
import pytest
from helpers import SMALL_QUADRATIC

from study import reporting, results, runner
from study.errors import UserError
from study.experiment import Experiment
from study.optimizers import SGD, Adam
from study.problems import NoisyQuadratic

EXPERIMENT = Experiment(
    problem=SMALL_QUADRATIC,
    optimizers=(SGD(), Adam()),
    learning_rates=(0.01, 0.1, 1.0, 1e20),
    metrics=("angle", "effective_rate"),
    steps=8,
    seeds=3,
    selection_seeds=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    runner.run(folder, results.prepare(folder, "x", EXPERIMENT, "default"), EXPERIMENT)
    return folder


def test_records_come_back_as_one_labelled_dataset(folder):
    loaded = results.load(folder)
    assert loaded.angle.dims == (
        "problem",
        "optimizer",
        "learning_rate",
        "seed",
        "step",
    )
    assert loaded.effective_rate.sizes["quantile"] == 5
    assert loaded.angle.dtype == np.float32
    assert loaded.optimizer.values.tolist() == ["SGD", "Adam"]
    one = results.load(folder, str(SMALL_QUADRATIC))
    np.testing.assert_array_equal(one.angle, loaded.angle.isel(problem=0))


def test_a_second_run_finds_nothing_to_do(folder):
    manifest = results.prepare(folder, "x", EXPERIMENT, "default")
    assert runner.missing(folder, manifest, EXPERIMENT) == []


def test_equal_runs_are_equal_bytes(folder, tmp_path):
    manifest = results.prepare(tmp_path, "x", EXPERIMENT, "default")
    runner.run(tmp_path, manifest, EXPERIMENT)
    for path in (folder / "records").iterdir():
        assert path.read_bytes() == (tmp_path / "records" / path.name).read_bytes()


def test_the_manifest_says_what_decides_the_bits(folder):
    manifest = results.read_manifest(folder)
    cell = manifest["cells"]["0-NoisyQuadratic.01-Adam.nc"]
    environment = manifest["environments"][cell["environment"]]
    assert {"jax", "device", "devices", "commit", "dirty"} <= set(environment)
    assert cell["width"] >= cell["runs"] == 20
    assert cell["compile_seconds"] >= 0


def test_selection_never_takes_a_diverged_rate_and_reports_other_seeds(folder):
    dataset = results.load(folder, str(SMALL_QUADRATIC))
    chosen = reporting.select(dataset)
    assert chosen.sizes["seed"] == 3
    assert np.all(chosen.selected_rate < 1e20)
    assert chosen.diverged_share.sel(optimizer="SGD", learning_rate=1e20) == 1
    last = dataset.objective.isel(evaluation=-1).sel(optimizer="SGD", seed=[3, 4])
    best = np.median(np.nan_to_num(last.values, nan=np.inf, posinf=np.inf), axis=1)
    assert chosen.selected_rate.sel(optimizer="SGD") == dataset.learning_rate[best.argmin()]


def test_where_all_diverge_nothing_is_reported(folder):
    dataset = results.load(folder, str(SMALL_QUADRATIC)).sel(learning_rate=[1e20])
    chosen = reporting.select(dataset.sel(optimizer=["SGD"]))
    assert np.isnan(chosen.selected_rate).all()
    assert np.isnan(chosen.objective).all()


def test_published_records_are_the_same_to_their_precision(folder, tmp_path):
    found = reporting.Results(EXPERIMENT, folder)
    results.write_manifest(tmp_path, results.read_manifest(folder))
    reporting.publish(tmp_path, found, ("angle", "objective"))
    again = reporting.Results(EXPERIMENT, tmp_path).selected(SMALL_QUADRATIC)
    whole = found.selected(SMALL_QUADRATIC)
    np.testing.assert_allclose(
        again.angle.transpose(*whole.angle.dims), whole.angle, atol=1e-4
    )
    np.testing.assert_array_equal(again.selected_rate, whole.selected_rate)


def test_a_damaged_file_can_be_passed_over(folder, tmp_path):
    manifest = results.read_manifest(folder)
    (tmp_path / "records").mkdir()
    for file in manifest["cells"]:
        content = (folder / "records" / file).read_bytes()
        (tmp_path / "records" / file).write_bytes(content[: None if "SGD" in file else -9])
    results.write_manifest(tmp_path, manifest)
    with pytest.raises(UserError, match="Adam"):
        results.load(tmp_path)
    with pytest.warns(UserWarning, match="Adam"):
        assert results.load(tmp_path, skip_damaged=True).optimizer.values == ["SGD"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    results.write(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        results.write(path, b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_another_spec_is_refused(folder):
    other = dataclasses.replace(EXPERIMENT, problem=NoisyQuadratic(dim=5), steps=9)
    with pytest.raises(UserError, match=r"problem\.dim: 4, not 5; steps: 8, not 9"):
        results.prepare(folder, "x", other, "default")


def test_the_summary_has_a_row_for_every_cell(folder):
    found = reporting.Results(EXPERIMENT, folder)
    rows = list(reporting.summary(found, results.read_manifest(folder)))
    assert [row["optimizer"] for row in rows] == ["SGD", "Adam"]
    assert rows[0]["angle_degrees_late"] < 1e-3
    assert rows[1]["state_bytes"] == 4 * 9
    assert rows[0]["objective_low"] <= rows[0]["objective"] <= rows[0]["objective_high"]


def test_what_a_run_publishes_does_not_make_the_code_dirty(tmp_path, monkeypatch):
    def git(*words):
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True)

    (tmp_path / "study").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "study" / "results.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "start")
    monkeypatch.setattr(results.provenance, "__file__", str(tmp_path / "study" / "x.py"))
    assert len(results.commit()["commit"]) == 40
    (tmp_path / "results" / "new.json").write_text("{}")
    assert not results.commit()["dirty"]
    (tmp_path / "study" / "results.py").write_text("changed")
    assert results.commit()["dirty"]
