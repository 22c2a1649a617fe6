"""A folder of records that several processes write, and cells that fail."""

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import os
import threading

import jax
import pytest
from helpers import SMALL_QUADRATIC

from study import programs, results, runner, sweep
from study.errors import CellsFailed, UserError
from study.experiment import Experiment
from study.optimizers import SGD, Adam, Momentum
from study.results import locks

EXPERIMENT = Experiment(
    problem=SMALL_QUADRATIC,
    optimizers=(SGD(), Momentum(), Adam()),
    learning_rates=(0.01, 0.1, 1.0, 1e20),
    metrics=("angle",),
    steps=6,
    seeds=2,
    selection_seeds=1,
)
FILES = [cell.file for cell in EXPERIMENT.cells]


def run(folder, experiment=EXPERIMENT, **options):
    manifest = results.prepare(folder, "x", experiment, "default")
    runner.run(folder, manifest, experiment, **options)
    return records(folder)


def records(folder):
    return {path.name: path.read_bytes() for path in (folder / "records").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def listed(folder):
    return sorted(results.read_manifest(folder)["cells"])


# Sharing ------------------------------------------------------------------------------


def test_two_at_once_share_the_cells_and_lose_no_entry(tmp_path, whole):
    ran, errors = [], []

    def work():
        def run_cell(experiment, problem, optimizer, progress):
            ran.append(str(optimizer))
            return sweep.run_cell(experiment, problem, optimizer, progress)

        try:
            run(tmp_path, run_cell=run_cell)
        except BaseException as error:
            errors.append(error)

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert errors == []
    assert sorted(ran) == ["Adam", "Momentum", "SGD"]
    assert listed(tmp_path) == FILES
    assert records(tmp_path) == whole


def test_a_cell_that_another_process_runs_is_waited_for(tmp_path, whole, caplog):
    manifest = results.prepare(tmp_path, "x", EXPERIMENT, "default")
    with locks.cell(tmp_path, FILES[0]) as mine:
        assert mine
        with locks.cell(tmp_path, FILES[0]) as again:
            assert not again
        other = threading.Thread(target=run, args=(tmp_path,))
        other.start()
        while "waiting for 1 cells of another command" not in caplog.text:
            other.join(0.05)
        assert listed(tmp_path) == FILES[1:]
    other.join()
    assert records(tmp_path) == whole
    results.update_manifest(tmp_path, manifest)  # read before the others were there
    assert listed(tmp_path) == FILES


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match="has no file locks"):
        run(tmp_path)


# Failing ------------------------------------------------------------------------------


def test_a_cell_that_fails_is_named_and_the_others_run(tmp_path, whole, caplog):
    def run_cell(experiment, problem, optimizer, progress):
        if optimizer == Momentum():
            raise ArithmeticError("of its own")
        return sweep.run_cell(experiment, problem, optimizer, progress)

    with pytest.raises(CellsFailed, match=f"1 cells failed: {FILES[1]}"):
        run(tmp_path, run_cell=run_cell)
    assert "ArithmeticError: of its own" in caplog.text
    assert listed(tmp_path) == [FILES[0], FILES[2]]
    assert run(tmp_path) == whole


@pytest.mark.parametrize("most", [0, 1, 3])
def test_out_of_memory_halves_the_chunk_and_then_fails(tmp_path, monkeypatch, caplog, most):
    inner, widths = sweep._run_chunk, []

    def run_chunk(programs, shape, *rest):
        widths.append(shape.width)
        if shape.width > most * jax.local_device_count():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return inner(programs, shape, *rest)

    monkeypatch.setattr(sweep, "_run_chunk", run_chunk)
    one = dataclasses.replace(EXPERIMENT, optimizers=(SGD(),))
    fails = pytest.raises(CellsFailed) if most == 0 else contextlib.nullcontext()
    with fails:
        run(tmp_path, one)
    assert "again with" in caplog.text
    tried = list(dict.fromkeys(widths))
    assert all(b <= a / 2 + jax.local_device_count() for a, b in itertools.pairwise(tried))
    if most == 0:
        assert widths[-1] == jax.local_device_count()
        assert not (tmp_path / "manifest.json").exists()
    else:
        cell = results.read_manifest(tmp_path)["cells"][FILES[0]]
        assert cell["width"] == widths[-1] <= most * jax.local_device_count()
        monkeypatch.setattr(programs, "width", lambda *_: cell["width"])
        assert records(tmp_path) == run(tmp_path / "of that layout", one)


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path, whole, monkeypatch):

    sync, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match=r"No space left.*the same command continues"):
            run(tmp_path)
    assert listed(tmp_path) == FILES[:1]
    assert run(tmp_path) == whole


# Names in files -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x.nc", "/etc/x.nc", "a/b.nc", ".x.nc", "x", ""])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(tmp_path, name):
    manifest = results.prepare(tmp_path, "x", EXPERIMENT, "default")
    manifest["cells"][name] = {"sha256": "", "problem": "p"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="no file of a cell"):
        results.load(tmp_path)
    with pytest.raises(UserError, match="no file of a cell"):
        results.prepare(tmp_path, "x", EXPERIMENT, "default")
