"""Cells over a cluster: Ray on this machine, a worker killed, a cell that fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import results

pytest.importorskip("ray", reason="the extra `cluster` is not installed: no Ray")
ROOT = Path(__file__).parents[1]
GRID = [
    *("--preset", "smoke", "--steps", "60000", "--seeds", "3", "--quiet"),
    *("--optimizers", "SGD", "Adam", "--metrics", "angle", "rescaling_angle"),
]
FAILING = """
import dataclasses
from study.optimizers import OPTIMIZERS, SGD, Optimizer

@OPTIMIZERS.register
@dataclasses.dataclass(frozen=True)
class Broken(Optimizer):
    label, colour, changes = "Broken", "#123456", "magnitude"
    def build(self, learning_rate):
        raise ArithmeticError("a reason of its own")
    def unscaled(self):
        return SGD()
"""


def start(folder, *words):
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder.parent}",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    }
    command = ["-m", "experiments.alignment", *GRID, "--results", str(folder), *words]
    return subprocess.Popen(
        [sys.executable, *command, "--cluster", "local"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(pid):
    """Processes below this one, with their names."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            name = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue
        parents[int(path.name)] = (parent, name)
    below, found = {pid}, {}
    while more := {p for p, (parent, _) in parents.items() if parent in below} - below:
        below |= more
        found |= {p: parents[p][1] for p in more}
    return found


def wait_for(process, word, seconds=90):
    """The first process below that has the word in its name."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        for pid, name in descendants(process.pid).items():
            if word in name:
                return pid
        time.sleep(0.1)
    raise AssertionError(f"no {word}: {process.communicate(timeout=60)}")


def records(folder):
    return {path.name: path.read_bytes() for path in (folder / "records").iterdir()}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "run"
    _, error = (process := start(folder)).communicate(timeout=300)
    assert process.returncode == 0, error
    return folder


def test_a_killed_workers_cell_runs_again_and_nothing_is_lost_or_doubled(
    undisturbed, tmp_path
):
    process = start(tmp_path / "run")
    victim = wait_for(process, "ray::run_cell")
    time.sleep(4)
    assert "ray::run_cell" in descendants(process.pid)[victim]
    os.kill(victim, signal.SIGKILL)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    shown = [line[:5] for line in out.splitlines() if "so far" in line]
    assert shown == [f"[{i}/4]" for i in range(1, 5)]
    assert records(tmp_path / "run") == records(undisturbed)
    assert len(results.read_manifest(tmp_path / "run")["cells"]) == 4
    assert [path.name for path in (tmp_path / "run").glob(".*")] == [".locks"]


def test_a_cell_that_fails_is_reported_and_the_others_are_kept(tmp_path):
    (tmp_path / "broken.py").write_text(FAILING)
    words = ("--steps", "4", "--import", "broken", "--optimizers", "SGD", "Broken")
    process = start(tmp_path / "run", *words)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "ArithmeticError: a reason of its own" in error
    assert error.splitlines()[-1].startswith("error: 2 cells failed: ")
    assert set(records(tmp_path / "run")) == {
        "0-Digits.00-SGD.nc",
        "1-NoisyQuadratic.00-SGD.nc",
    }


def test_a_cluster_that_is_gone_ends_in_one_line_and_the_next_run_goes_on(
    undisturbed, tmp_path
):
    process = start(tmp_path / "run")
    wait_for(process, "ray::run_cell")
    os.kill(wait_for(process, "gcs_server"), signal.SIGKILL)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("error: the Ray cluster is gone")
    again = start(tmp_path / "run")
    _, error = again.communicate(timeout=300)
    assert again.returncode == 0, error
    assert records(tmp_path / "run") == records(undisturbed)
