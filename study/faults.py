"""What a sweep survives: `python -m study.faults [--trials N]`.

Each fault strikes a small real sweep in a temporary folder. The sweep is then resumed by
the same command, and its records are compared, byte by byte, with those of a sweep that
nothing disturbed. To add a fault: one function here, with `fault`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from study import results, runner
from study.errors import CellsFailed, UserError
from study.experiment import Experiment
from study.optimizers import SGD, Adam, Lion, Momentum
from study.problems import NoisyQuadratic

SWEEP = Experiment(
    problem=NoisyQuadratic(dim=4),
    optimizers=(SGD(), Momentum(), Adam(), Lion()),
    learning_rates=(0.01, 0.1, 1e30),  # the last one ends in infinite and NaN losses
    metrics=("loss", "angle"),
    steps=3000,
    seeds=3,
    selection_seeds=1,
    evaluations=20,
)
Strike = Callable[[Path, random.Random], str]
FAULTS: dict[str, tuple[bool, Strike]] = {}
"""By name: whether it strikes at random and is tried often, and what it does."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of the trials of one fault.

    Attributes:
        fault: its name.
        trials: how many.
        lost: cells that the resumed sweep lacks, over all trials.
        wrong: cells whose records differ from the undisturbed ones.
        seen: what the user was told, in the last trial.
    """

    fault: str
    trials: int
    lost: int
    wrong: int
    seen: str


def fault(name: str, often: bool = False) -> Callable[[Strike], Strike]:
    """Decorator: registers what does the damage and returns what the user saw."""

    def add(strike: Strike) -> Strike:
        FAULTS[name] = (often, strike)
        return strike

    return add


def sweep(folder: Path) -> None:
    """Runs what is missing, as the command line does."""
    manifest = results.prepare(folder, "faults", SWEEP, "default")
    results.refuse_unwritable(folder)
    results.update_manifest(folder, manifest)
    runner.run(folder, manifest, SWEEP)


def records(folder: Path) -> dict[str, bytes]:
    """Record files by name."""
    return {path.name: path.read_bytes() for path in (folder / "records").glob("*.nc")}


def bench(trials: int, names: tuple[str, ...] = ()) -> Iterator[Row]:
    """Tries every fault, or those named; random ones `trials` times."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        sweep(Path(place) / "whole")
        whole = records(Path(place) / "whole")
        for name in names or tuple(FAULTS):
            often, strike = FAULTS[name]
            lost = wrong = 0
            count, seen = trials if often else 1, ""
            for trial in range(count):
                folder = Path(place) / f"{name.replace(' ', '-')}-{trial}"
                seen = strike(folder, chance) or seen
                sweep(folder)
                found = records(folder)
                lost += len(whole.keys() - found.keys())
                wrong += sum(found[k] != whole[k] for k in found.keys() & whole.keys())
                shutil.rmtree(folder)
            yield Row(name, count, lost, wrong, seen)


# Processes ----------------------------------------------------------------------------


def _start(folder: Path) -> subprocess.Popen[str]:
    """A process of its own that runs the sweep."""
    code = (
        f"from pathlib import Path; from study import faults; faults.child({str(folder)!r})"
    )
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)


def child(folder: str) -> None:
    """The sweep, in a process that says when it begins."""
    from study import devices

    devices.prepare()
    print("begins", flush=True)
    sweep(Path(folder))


def _struck(folder: Path, chance: random.Random, kind: signal.Signals) -> str:
    process = _start(folder)
    assert process.stdout is not None
    process.stdout.readline()
    stored = chance.randrange(len(SWEEP.cells))  # so that it strikes early and late
    while process.poll() is None and _stored(folder) < stored:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 1))
    process.send_signal(kind)
    _, told = process.communicate()
    seen = (told.strip().splitlines() or ["nothing"])[-1]
    return f"{seen}; {_stored(folder)} of {len(SWEEP.cells)} cells were stored"


def _stored(folder: Path) -> int:
    return len(list((folder / "records").glob("*.nc")))


@fault("SIGKILL at a random moment", often=True)
def _kill(folder: Path, chance: random.Random) -> str:
    return _struck(folder, chance, signal.SIGKILL)


@fault("Ctrl-C at a random moment", often=True)
def _interrupt(folder: Path, chance: random.Random) -> str:
    return _struck(folder, chance, signal.SIGINT)


@fault("two commands at once")
def _two(folder: Path, chance: random.Random) -> str:
    del chance
    both = [_start(folder), _start(folder)]
    told = [process.communicate()[1].strip().splitlines() for process in both]
    assert not any(process.returncode for process in both), told
    return next((lines[-1] for lines in told if lines), "nothing; they share the cells")


# The disk -----------------------------------------------------------------------------


def _refusing(number: int) -> Callable[[Path, random.Random], str]:
    def strike(folder: Path, chance: random.Random) -> str:
        left = chance.randrange(1, 8)
        sync = os.fsync

        def fsync(handle: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(number, os.strerror(number))
            sync(handle)

        with mock.patch("os.fsync", fsync):
            return _told(folder)

    return strike


fault("disk full at a random write", often=True)(_refusing(errno.ENOSPC))
fault("disk turned read-only", often=True)(_refusing(errno.EROFS))


def _told(folder: Path) -> str:
    """What a sweep says that ends in an error."""
    try:
        sweep(folder)
    except (UserError, CellsFailed, OSError) as error:
        return str(error).replace(str(folder), "FOLDER")
    return ""


def _spoiled(spoil: Callable[[Path, random.Random], None]) -> Strike:
    def strike(folder: Path, chance: random.Random) -> str:
        sweep(folder)
        path = chance.choice(sorted((folder / "records").glob("*.nc")))
        spoil(path, chance)
        seen = results.verify(folder)
        return "; ".join(f"{f.kind}: {f.what}" for f in seen if f.kind != "stale")

    return strike


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


fault("record file deleted", often=True)(_spoiled(lambda path, _: path.unlink()))
fault("record file cut short", often=True)(_spoiled(_truncate))
fault("a bit of a record file flipped", often=True)(_spoiled(_flip))


@fault("manifest cut short; the folder moved away", often=True)
def _manifest(folder: Path, chance: random.Random) -> str:
    sweep(folder)
    _truncate(folder / results.MANIFEST, chance)
    seen = _told(folder)
    folder.rename(folder.with_name(f"{folder.name}-aside"))  # what the line says to do
    return seen


# The rest -----------------------------------------------------------------------------


@fault("the clock goes backwards")
def _clock(folder: Path, chance: random.Random) -> str:
    del chance
    hours = iter(range(10**9, 0, -3600))

    class Yesterday(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date.fromtimestamp(next(hours))

    with (
        mock.patch("time.time", side_effect=hours),
        mock.patch("datetime.date", Yesterday),
    ):
        sweep(folder)
    return "nothing"


@fault("infinite and NaN losses")
def _diverged(folder: Path, chance: random.Random) -> str:
    del chance
    sweep(folder)
    loss = results.load(folder).loss.sel(learning_rate=1e30)
    share = float((~(abs(loss) < float("inf"))).mean())
    assert share > 0
    return f"stored as they are: {share:.0%} of that rate's losses"


@fault("out of memory, once")
def _memory(folder: Path, chance: random.Random) -> str:
    import jax

    from study import sweep as cells

    del chance
    inner, struck = cells._run_chunk, []

    def run_chunk(*given: Any) -> Any:
        if not struck:
            struck.append(True)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return inner(*given)

    with mock.patch.object(cells, "_run_chunk", run_chunk), _caught() as said:
        sweep(folder)
    return said[-1] if said else ""


@contextlib.contextmanager
def _caught() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    import logging

    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().splitlines()[0])

    handler = Keep()
    logging.getLogger("study").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("study").removeHandler(handler)


@dataclasses.dataclass(frozen=True)
class Options:
    """How often."""

    trials: int = 5
    """Of each fault that strikes at random."""


def main() -> None:
    """Prints the table in Markdown; exits with 1 if anything was lost or wrong."""
    import tyro

    from study import devices

    options = tyro.cli(Options, description=(__doc__ or "").splitlines()[0])
    devices.prepare()
    print("| fault | trials | lost | wrong | what is seen |\n|---|---|---|---|---|")
    failed = 0
    for row in bench(options.trials):
        print(f"| {' | '.join(map(str, dataclasses.astuple(row)))} |", flush=True)
        failed += row.lost + row.wrong
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
