"""One run on other devices, and shared by two real processes."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import SMALL_QUADRATIC

from study import hosts, programs, records, results, shards, sweep
from study.errors import UserError
from study.experiment import Experiment
from study.hosts import Host
from study.optimizers import SGD, Adam

ROOT = Path(__file__).parents[1]
TINY = [
    *("-m", "experiments.alignment", "--preset", "smoke", "--seeds", "3", "--quiet"),
    *("--optimizers", "Adam", "--metrics", "angle", "rescaling_angle"),
]
EXPERIMENT = Experiment(
    problem=SMALL_QUADRATIC,
    optimizers=(SGD(), Adam()),
    learning_rates=(0.01, 0.1),
    metrics=("angle", "effective_rate"),
    steps=8,
    seeds=3,
    selection_seeds=2,
)


# In one process -----------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch):
    """Ten runs in programs of four."""
    monkeypatch.setattr(programs, "width", lambda *_: 4)


def run(kept):
    """A cell into this folder."""
    quiet = lambda share: None  # noqa: E731
    return sweep.run_shards(EXPERIMENT, SMALL_QUADRATIC, Adam(), quiet, kept)


@pytest.mark.parametrize("runs", [0, 1, 7, 120])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_the_parts_of_the_processes_are_all_runs(runs, processes):
    parts = [range(*Host(i, processes).part(runs)) for i in range(processes)]
    assert [run for part in parts for run in part] == list(range(runs))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shards_of_a_folder_are_the_cell(tmp_path, narrow):
    kept = shards.Folder(tmp_path, "a.nc", "abc")
    run(kept)
    assert len(list(kept.path.glob("*.nc"))) == 3
    whole, _ = sweep.run_cell(EXPERIMENT, SMALL_QUADRATIC, Adam())
    assert kept.merged(EXPERIMENT).identical(whole)
    assert results.to_bytes(kept.merged(EXPERIMENT)) == results.to_bytes(whole)
    kept.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "of other code"])
def test_only_what_is_missing_or_damaged_runs_again(tmp_path, narrow, damage):
    kept = shards.Folder(tmp_path, "a.nc", "abc")
    run(kept)
    before = {path: path.read_bytes() for path in kept.path.iterdir()}
    victim = sorted(before)[1]
    content = bytearray(before[victim])
    content[-9] ^= 1
    if damage == "of other code":
        victim.rename(victim.with_name(victim.name.replace(".abc.", ".def.")))
    victim.unlink(missing_ok=True)
    if damage in ("truncated", "flipped"):
        victim.write_bytes(content[:-40] if damage == "truncated" else content)
    times = {path: path.stat().st_mtime_ns for path in before if path != victim}
    run(shards.Folder(tmp_path, "a.nc", "abc"))
    assert {path: path.read_bytes() for path in kept.path.iterdir()} == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_shards_of_two_processes_are_the_cell(tmp_path, narrow):
    for process in (1, 0):
        kept = shards.Folder(tmp_path, "a.nc", "abc", Host(process, 2))
        run(kept)
    whole, _ = sweep.run_cell(EXPERIMENT, SMALL_QUADRATIC, Adam())
    assert kept.merged(EXPERIMENT).identical(whole)


def test_a_single_chunk_goes_straight_into_its_record_file(tmp_path):
    kept = shards.Folder(tmp_path, "a.nc", "abc")
    run(kept)
    assert list(tmp_path.iterdir()) == []
    assert kept.merged(EXPERIMENT).sizes["seed"] == 5


def test_a_chunk_is_labelled_by_its_runs(narrow):
    kept = records.Shards()
    run(kept)
    assert [chunk[:2] for chunk in kept.chunks(10, 4, 1)] == [(0, 4), (4, 8), (8, 10)]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (("here:1", None, None), "together"),
        ((None, 2, 0), "together"),
        (("here", 2, 0), "HOST:PORT"),
        (("here:1", 2, 2), "--process 2"),
    ],
)
def test_an_address_or_number_that_cannot_be_meant_is_refused(given, word):
    with pytest.raises(UserError, match=word):
        hosts.check(*given)


# In several processes -----------------------------------------------------------------


def start(*words, folder, devices=2, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *TINY, "--results", str(folder), *words],
        env=environment | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def pair(folder, *words):
    """Two processes that share the run in a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    at = ("--coordinator", f"127.0.0.1:{port}", "--processes", "2", *words)
    return [start(*at, "--process", str(i), folder=folder) for i in (0, 1)]


def done(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out


def summary(folder):
    """Every column but the seconds that a cell took."""
    rows = csv.DictReader((folder / "summary.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run on one device."""
    folder = tmp_path_factory.mktemp("alone")
    done(start(folder=folder, devices=1))
    return folder


def test_eight_devices_and_two_processes_give_the_summary_of_one(alone, tmp_path):
    done(start(folder=tmp_path / "eight", devices=8))
    outs = [done(process) for process in pair(tmp_path / "two")]
    assert "Verdict" in outs[0]
    assert outs[1].strip().startswith("[Gloo]")  # the first process alone judges
    for name in ("eight", "two"):
        assert summary(tmp_path / name) == summary(alone)
        manifest = results.read_manifest(tmp_path / name)
        (environment,) = manifest["environments"].values()
        layout = (environment["devices"], environment["processes"])
        assert layout == {"eight": (8, 1), "two": (2, 2)}[name]
        assert not (tmp_path / name / shards.SHARDS).exists()


def test_processes_that_do_not_come_or_go_away_are_named(alone, tmp_path):
    """Nothing is lost: the same command in both goes on from there."""
    at = ("--coordinator", "127.0.0.1:9", "--processes", "2", "--process", "1")
    never = start(*at, "--wait", "1", folder=tmp_path / "never")
    first, second = pair(tmp_path / "killed", "--wait", "9", "--steps", "1000000")
    sent = tmp_path / "killed" / "manifest.json"
    while not sent.exists():
        time.sleep(0.1)
        assert first.poll() is None
    time.sleep(3)
    child = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split()
    os.kill(int(child[0]), signal.SIGKILL)
    _, error = first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert first.returncode == 1, error
    assert error.splitlines()[-1].startswith("error: another process of this run is gone")
    _, error = never.communicate(timeout=60)
    assert never.returncode == 1, error
    (line,) = error.splitlines()
    assert line.startswith("error: not all processes came in time")
    assert not (tmp_path / "never").exists()


def test_without_a_job_the_option_says_what_to_give(tmp_path):
    process = start("--distributed", folder=tmp_path / "none")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--coordinator HOST:PORT" in error.splitlines()[-1]
    assert not (tmp_path / "none").exists()
