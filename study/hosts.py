"""Several processes that share a run: each trains its part of every cell, one stores.

They meet by `jax.distributed`: found by itself in a Slurm job, on a TPU pod, under
Kubernetes or MPI, or given as `--coordinator HOST:PORT --processes N --process I`. After
that they exchange nothing but files, the shards in the folder of the run.

jax ends a process whose peers are missing or gone by SIGABRT, from a thread of its own,
which no Python code can catch; so does Ray where a cluster is gone. So the work is done in
a child, and its parent says in one line what happened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from study.errors import UserError

CHILD = "STUDY_HOST_CHILD"  # set in the environment of the process that does the work
LOST = {
    "RegisterTask": "not all processes came in time (--wait)",
    "JAX distributed service detected fatal errors": "another process of this run is gone",
    "Failed to connect to GCS": "the Ray cluster is gone",
}
"""What the runtimes say in C++ when they end a process, and what that means."""
FOREVER = 7 * 24 * 3600
"""Seconds that a process which is done waits for the others, all alive."""


class Host(NamedTuple):
    """This process among those of a run.

    Attributes:
        process: its number, from 0; 0 merges, judges and draws.
        processes: how many there are.
    """

    process: int = 0
    processes: int = 1

    def part(self, runs: int) -> tuple[int, int]:
        """Its runs of so many, first <= run < last; parts differ by one run at most."""
        first, last = (runs * i // self.processes for i in (self.process, self.process + 1))
        return first, last


ALONE = Host()


def check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Refuses an address or numbers that cannot be meant.

    Raises:
        UserError: naming the option.
    """
    given = (coordinator, processes, process)
    if all(value is None for value in given):
        return
    if coordinator is None or processes is None or process is None:
        raise UserError("give --coordinator, --processes and --process together, or none")
    if not re.fullmatch(r"[^\s:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", coordinator):
        raise UserError(f"--coordinator {coordinator}: give HOST:PORT")
    if not 0 <= process < processes:
        raise UserError(f"--process {process}: give 0 to {processes - 1}")


def join(
    coordinator: str | None, processes: int | None, process: int | None, wait: float
) -> Host:
    """Meets the other processes; call before jax is used.

    Args:
        coordinator: HOST:PORT where process 0 listens; None: as the job says.
        processes: how many; None: as the job says.
        process: this one's number; None: as the job says.
        wait: seconds for all to come, and of silence after which one is taken for gone.

    Raises:
        UserError: there is no job to ask, or the address cannot be used.
    """
    import jax

    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=max(1, round(wait)),
            heartbeat_timeout_seconds=max(1, round(wait)),
            shutdown_timeout_seconds=FOREVER,
        )
    except ValueError as error:
        if coordinator is None:
            raise UserError(
                "--distributed: no Slurm, TPU pod, Kubernetes or MPI job is found here;"
                " give --coordinator HOST:PORT --processes N --process I"
            ) from None
        raise UserError(f"--coordinator {coordinator}: {error}") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--coordinator {coordinator}: {reason}") from None
    return Host(jax.process_index(), jax.process_count())


def agree(host: Host, folder: Path, said: str) -> None:
    """All processes say the same and see one folder; returns when all are here.

    Args:
        host: this process.
        folder: of the run, there already.
        said: what decides the records: spec, versions, code, missing cells.

    Raises:
        UserError: they differ, in all of them.
    """
    mark, token = folder / ".hosts", secrets.token_bytes(32)
    if host.process == 0:
        mark.write_bytes(token)
    own = hashlib.sha256(said.encode()).digest() + token
    every = _everybodys(own)
    if len({said[:32] for said in every}) > 1:
        raise UserError(
            "the processes differ in their command, code, packages or kind of device;"
            " start the same in all of them"
        )
    if not all(map(any, _everybodys(bytes([_shows(mark, every[0][32:])])))):
        raise UserError(
            f"not every process sees the same {folder}; give --results on a file system"
            " that all of them share"
        )
    if host.process == 0:
        mark.unlink(missing_ok=True)


def _everybodys(own: bytes) -> list[bytes]:
    """What each process says here, by its number."""
    from jax.experimental import multihost_utils

    every = multihost_utils.process_allgather(np.frombuffer(own, np.uint8))
    return [bytes(np.asarray(one, np.uint8)) for one in every]


def _shows(mark: Path, token: bytes) -> bool:
    """The mark holds the token; some network file systems take seconds to show it."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            if mark.read_bytes() == token:
                return True
        time.sleep(0.2)
    return False


def leave() -> None:
    """Waits until all processes are done, and parts."""
    import jax

    jax.distributed.shutdown()


def exit(code: int) -> NoReturn:
    """Ends this process; one of several at once, so that the others notice.

    The ordinary end of Python would wait for them, and they for this one's records.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if supervised():
        os._exit(code)
    sys.exit(code)


def give_up() -> None:
    """Prints the exception under way and ends, if this is one of several processes."""
    if supervised() and not isinstance(sys.exception(), SystemExit):
        traceback.print_exc()
        exit(1)


def supervised() -> bool:
    """This process has a parent that watches it."""
    return CHILD in os.environ


def supervise() -> int:
    """Runs this very command in a child and passes on signals and complaints.

    Returns:
        The exit code: the child's, or 1 if its runtime ended it because others were gone.
    """
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, CHILD: "1"},
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: child.send_signal(number))
    assert child.stderr is not None
    lost = set()
    for line in child.stderr:
        lost |= {words for words in LOST if words in line}
        if not lost:
            print(line, end="", file=sys.stderr, flush=True)
    code = child.wait()
    if not lost:
        return code if code >= 0 else 128 - code
    what = next(meaning for words, meaning in LOST.items() if words in lost)
    print(
        f"error: {what}; what is finished is kept, the same command (in all processes, if"
        " several) continues",
        file=sys.stderr,
    )
    return 1
