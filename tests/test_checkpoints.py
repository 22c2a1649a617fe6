"""Long runs go on from where they were, to the bit."""

import dataclasses
import itertools
import shutil
import types

import jax
import numpy as np
import pytest
from helpers import SMALL_DIGITS

from study import checkpoints, programs, shards, sweep, train
from study.checkpoints import Checkpoints
from study.experiment import Experiment
from study.optimizers import Adam

EXPERIMENT = Experiment(
    problem=dataclasses.replace(SMALL_DIGITS, dtype="bfloat16"),
    optimizers=(Adam(),),
    learning_rates=(0.01, 0.1),
    metrics=("angle", "loss"),
    steps=30,
    seeds=3,
    selection_seeds=0,
    records=10,
    evaluations=5,
)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint after every segment; two chunks of four runs."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(programs, "width", lambda *_: 4)


class Killed(Exception):
    pass


def run(folder, stop=None):
    """The cell into a folder, killed after so many segments; how many it ran."""
    kept, shares = shards.Folder(folder, "a.nc", "abc"), []

    def progress(share):
        shares.append(share)
        if len(shares) == stop:
            raise Killed

    sweep.run_shards(EXPERIMENT, EXPERIMENT.problem, Adam(), progress, kept)
    return kept, len(shares)


@pytest.fixture(scope="module")
def whole():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "width", lambda *_: 4)
        return sweep.run_cell(EXPERIMENT, EXPERIMENT.problem, Adam())[0]


@pytest.mark.parametrize("stop", [1, 3, 5, 7])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, whole, stop):
    with pytest.raises(Killed):
        run(tmp_path, stop)
    kept, segments = run(tmp_path)
    assert segments == 2 * 5 - stop + int(stop > 5)  # a finished chunk reports once
    assert kept.merged(EXPERIMENT).identical(whole)
    kept.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped", "truncated", "lost a file", "partial"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, whole, damage):
    with pytest.raises(Killed):
        run(tmp_path, 4)
    older, newest = sorted(tmp_path.glob(".checkpoints/a/*/*"))
    assert [path.name[:6] for path in (older, newest)] == ["000003", "000004"]
    victim = max(
        (path for path in newest.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "partial":
        newest.rename(newest.with_name("partial"))
    elif damage == "lost a file":
        victim.unlink()
    else:
        victim.write_bytes(content if damage == "flipped" else content[:-1])
    kept, segments = run(tmp_path)
    assert segments == 10 - 3
    assert kept.merged(EXPERIMENT).identical(whole)


def test_without_a_whole_one_the_chunk_starts_again(tmp_path, whole):
    with pytest.raises(Killed):
        run(tmp_path, 4)
    for path in tmp_path.glob(".checkpoints/a/*/*"):
        shutil.rmtree(path / "d")
    kept, segments = run(tmp_path)
    assert segments == 10
    assert kept.merged(EXPERIMENT).identical(whole)


def test_those_of_other_code_are_removed(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, 4)
    (place,) = tmp_path.glob(".checkpoints/a/*")
    other = place.rename(place.with_name(place.name.replace(".abc", ".def")))
    _, segments = run(tmp_path)
    assert segments == 10
    assert not other.exists()


def test_every_type_of_a_state_comes_back(tmp_path):
    leaves = {
        "half": jax.numpy.arange(6, dtype=jax.numpy.bfloat16).reshape(2, 3) / 7,
        "single": jax.numpy.asarray([[np.nan, -0.0], [np.inf, 1e-42]]),
        "count": jax.numpy.arange(2, dtype=jax.numpy.int32),
        "flag": jax.numpy.asarray([True, False]),
        "key": jax.random.split(jax.random.key(3)),
        "empty": jax.numpy.zeros((2, 0)),
    }
    state = train.State(leaves, (), None)
    saved = Checkpoints(tmp_path)
    saved.save(1, state, {"records": {"a": np.ones((2, 3))}, "evaluations": {}})
    found = saved.restore(state)
    assert found is not None
    done, again, parts = found
    assert done == 1
    for one, other in zip(*map(jax.tree.leaves, (state, again)), strict=True):
        assert one.dtype == other.dtype
        raw = [np.asarray(checkpoints._plain(leaf)).tobytes() for leaf in (one, other)]
        assert raw[0] == raw[1]
    np.testing.assert_array_equal(parts["records"]["a"], np.ones((2, 3)))
    wider = train.State(leaves | {"count": jax.numpy.arange(3)}, (), None)
    assert saved.restore(wider) is None


def test_one_is_due_after_a_minute_of_the_monotonic_clock(tmp_path, monkeypatch):
    ticks = itertools.count(0.0, 25.0)
    clock = types.SimpleNamespace(monotonic=lambda: next(ticks))  # no other may be read
    monkeypatch.setattr(checkpoints, "EVERY", 60.0)
    monkeypatch.setattr(checkpoints, "time", clock)
    saved = Checkpoints(tmp_path)
    assert [saved.due() for _ in range(4)] == [False, False, True, True]


def test_the_newest_two_are_kept(tmp_path):
    saved, state = Checkpoints(tmp_path), train.State({"a": jax.numpy.ones(2)}, (), None)
    for done in range(1, 5):
        saved.save(done, state, {"records": {}, "evaluations": {"a": np.ones((2, 1))}})
    assert sorted(p.name[:6] for p in tmp_path.iterdir()) == ["000003", "000004"]
