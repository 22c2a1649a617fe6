"""What a user types, and what a user mistypes: one line, exit code 2, nothing written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from study import cli

ROOT = Path(__file__).parents[1]
NAME = "experiments.alignment"
TINY = [
    "--preset", "smoke", "--steps", "2", "--seeds", "1", "--quiet",
    "--optimizers", "SGD", "--metrics", "angle", "rescaling_angle",
]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *argv, module=NAME):
    """The complaint about these arguments."""
    with pytest.raises(SystemExit) as stop:
        cli.main(module, list(argv))
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--optimizers", "Adma"], ["Adma", "did you mean 'Adam'"]),
        (["--optimizers", "Adam(b3=1)"], ["no field 'b3'"]),
        (["--optimizers"], ["optimizers", "not empty"]),
        (["--problem", "Digit"], ["unknown problem", "'Digits'"]),
        (["--problem.widht", "3"], ["--problem.widht", "--problem.width"]),
        (["--step", "3"], ["--step", "--steps"]),
        (["--steps", "many"], ["--steps", "many"]),
        (["--steps", "-4"], ["steps = -4", "at least 1"]),
        (["--seeds", "0"], ["seeds = 0", "at least 1"]),
        (["--learning-rates"], ["learning_rates", "not empty"]),
        (["--learning-rates", "0.1", "-1"], ["learning_rates", "positive"]),
        (["--metrics", "angel"], ["unknown metric 'angel'", "'angle'"]),
        (["--preset", "papper"], ["papper", "paper"]),
        (["--import", "no_such_module"], ["no_such_module"]),
        (["--draw"], ["no records", "run without --draw"]),
        (["--platform", "tpu"], ["--platform tpu", "leave --platform away"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_named_and_nothing_is_written(capsys, tmp_path, argv, words):
    complaint = refused(capsys, *argv)
    for word in words:
        assert word in complaint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "taken").write_text("a file")
    complaint = refused(capsys, *TINY, "--results", "taken/here")
    assert "cannot write to taken/here" in complaint


@pytest.fixture
def folder(tmp_path):
    """A finished tiny run."""
    cli.main(NAME, [*TINY, "--results", "run"])
    return tmp_path / "run"


def test_a_folder_of_another_spec_is_refused_with_its_fields(capsys, folder):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    capsys.readouterr()
    other = [*TINY, "--problem.width", "5", "--results", "run"]
    assert "problem.width: 64, not 5" in refused(capsys, *other)
    assert "problem.width: 64, not 5" in refused(capsys, *other, "--draw")
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_record_is_named_and_the_others_stay(capsys, folder, damage):
    victim, other = sorted((folder / "records").glob("*.nc"))
    whole, kept = victim.read_bytes(), other.read_bytes()
    content = {"truncated": whole[:-100], "foreign": b"PNG" * 99, "empty": b""}[damage]
    victim.write_bytes(content)
    capsys.readouterr()
    complaint = refused(capsys, *TINY, "--results", "run", "--draw")
    assert victim.name in complaint
    assert "the other cells stay" in complaint
    cli.main(NAME, [*TINY, "--results", "run"])
    assert "continuing: 1 of 2 cells" in capsys.readouterr().out
    assert victim.read_bytes() == whole
    assert other.read_bytes() == kept
    assert victim.with_name(f"{victim.name}.damaged").read_bytes() == content


def test_a_stranger_among_the_records_is_named(capsys, folder):
    (folder / "records" / "mine.nc").write_bytes(b"x")
    assert "mine.nc" in refused(capsys, *TINY, "--results", "run")


def test_a_damaged_manifest_is_named(capsys, folder):
    (folder / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in refused(capsys, *TINY, "--results", "run")


def test_fresh_runs_every_cell_anew(capsys, folder):
    capsys.readouterr()
    cli.main(NAME, [*TINY, "--results", "run", "--fresh"])
    assert "[2/2]" in capsys.readouterr().out


def test_the_end_prints_claims_files_and_seconds(capsys):
    cli.main(NAME, TINY)
    out = capsys.readouterr().out
    assert "Verdict" in out
    assert "wrote" in out
    assert out.rstrip().endswith(" s")


def test_an_entry_of_ones_own_needs_no_edit_here(tmp_path, capsys):
    (tmp_path / "my_rules.py").write_text(
        "import dataclasses, optax\n"
        "from study.optimizers import OPTIMIZERS, Optimizer, SGD\n"
        "@OPTIMIZERS.register\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Halved(Optimizer):\n"
        "    label, colour, changes = 'Halved', '#123456', 'magnitude'\n"
        "    def build(self, learning_rate):\n"
        "        return optax.sgd(learning_rate / 2)\n"
        "    def unscaled(self):\n"
        "        return SGD()\n"
    )
    rules = ["--optimizers", "SGD", "Halved", "--import", "my_rules"]
    cli.main(NAME, [*TINY, *rules, "--problem", "NoisyQuadratic(dim=3)"])
    assert "NoisyQuadratic(dim=3), Halved" in capsys.readouterr().out
    (folder,) = (tmp_path / "results/runs/alignment").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["spec"]["optimizers"][1] == {"class": "Halved"}


def shell(*words, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, **options
    )


def test_an_unknown_experiment_gets_the_nearest_name():
    run = shell("-m", "experiments.alignmet")
    assert run.returncode == 2
    assert run.stderr == (
        "error: unknown experiment 'alignmet'; did you mean 'alignment'?\n"
    )


def test_the_list_names_every_experiment():
    run = shell("-m", "experiments")
    assert run.returncode == 0
    for name in ("alignment", "rescaled_vector", "speed"):
        assert name in run.stdout


def test_help_is_generated_and_quick():
    run = shell("-X", "importtime", "-m", NAME, "--help")
    assert run.returncode == 0
    for option in (
        "--problem.width",
        "--quadratic.condition",
        "--steps",
        "--optimizers",
    ):
        assert option in run.stdout
    assert " jax\n" not in run.stderr  # the import log


def test_an_interrupted_run_keeps_its_cells_and_goes_on():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", NAME, *TINY, "--optimizers", "SGD", "Momentum"]
    # A shell's background jobs ignore the signal, and would hand that on; a
    # handler is not handed on, so the new process begins with the default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    signal.signal(signal.SIGINT, before)
    assert run.stdout is not None
    first = run.stdout.readline()
    run.send_signal(signal.SIGINT)
    out, error = run.communicate(timeout=60)
    assert first.startswith("[1/4]")
    assert run.returncode == 130, error
    assert "cells are in results/runs/alignment" in out
    assert "the same command continues" in error
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stderr
    assert "continuing: " in again.stdout


def test_an_interrupt_that_a_library_wrapped_is_an_interrupt(monkeypatch, capsys):
    def wrapped(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ValueError("while comparing metadata") from error

    monkeypatch.setattr(cli, "execute", wrapped)
    with pytest.raises(SystemExit) as stop:
        cli.main(NAME, [])
    assert stop.value.code == 130
    assert "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(cli, "execute", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(NAME, [])
