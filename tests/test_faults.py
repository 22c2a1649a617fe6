"""Whatever strikes a sweep, the same command ends with the records of one undisturbed."""

import json
import subprocess
import sys

import pytest

from study import faults, results

KILLED = "SIGKILL at a random moment"


@pytest.mark.parametrize("name", faults.FAULTS)
def test_nothing_is_lost_and_nothing_wrong(name):
    (row,) = faults.bench(5 if name == KILLED else 1, (name,))
    assert (row.lost, row.wrong) == (0, 0)
    assert row.seen


@pytest.mark.slow
def test_fifty_kills():
    (row,) = faults.bench(50, (KILLED,))
    assert (row.trials, row.lost, row.wrong) == (50, 0, 0)


def test_a_loss_would_be_counted(monkeypatch):
    def spoil(folder, chance):
        monkeypatch.setattr(faults, "sweep", lambda folder: None)  # no resumption
        (folder / "records").mkdir(parents=True)
        cell = faults.SWEEP.cells[0].file
        (folder / "records" / cell).write_bytes(b"other")
        return "told"

    monkeypatch.setitem(faults.FAULTS, "spoilt", (False, spoil))
    (row,) = faults.bench(1, ("spoilt",))
    assert (row.lost, row.wrong, row.seen) == (len(faults.SWEEP.cells) - 1, 1, "told")


# What a folder lacks ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    faults.sweep(tmp_path / "run")
    return tmp_path / "run"


def verified(folder):
    """Kinds and files, other code aside: this one may not be committed."""
    return [(f.kind, f.what) for f in results.verify(folder) if "environment" not in f.what]


def test_a_whole_folder_has_no_findings_and_each_damage_one(folder):
    assert verified(folder) == []
    gone, cut, *_ = sorted((folder / "records").glob("*.nc"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    (folder / "records" / "mine.nc").touch()
    (folder / ".shards" / cut.stem).mkdir(parents=True)
    assert verified(folder) == [
        ("missing", f"records/{gone.name}"),
        ("damaged", f"records/{cut.name}"),
        ("orphaned", "records/mine.nc"),
        ("orphaned", f".shards/{cut.stem}"),
    ]


def test_other_code_and_another_spec_are_stale(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["spec"]["steps"] += 1
    for environment in manifest["environments"].values():
        environment["commit"] = "0" * 40
    (folder / "manifest.json").write_text(json.dumps(manifest))
    named = folder.rename(folder.with_name("0123456789ab"))
    found = {(f.kind, f.what) for f in results.verify(named)}
    assert ("damaged", "manifest.json") in found
    assert ("stale", str(named)) in found
    (name,) = manifest["environments"]
    if results.commit()["commit"]:
        assert ("stale", f"environment {name}") in found


def test_the_command_counts_findings_and_refuses_what_is_no_folder(folder, tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "study.results", *words]
        return subprocess.run(command, capture_output=True, text=True)

    (folder / "records" / "mine.nc").touch()
    done = run("verify", str(folder))
    assert done.returncode == 1
    assert "orphaned: records/mine.nc: nothing lists it" in done.stdout
    done = run("verify", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no results in")
    assert run("repair").returncode == 2
