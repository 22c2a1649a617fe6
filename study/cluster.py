"""Cells over the machines of a Ray cluster; this process alone writes the records.

Ray schedules, and runs a cell whose worker died again on another, up to `RETRIES` times.
A cell that fails for a reason of its own is reported, and the others go on.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from study import results, runner, worker
from study.errors import CellsFailed, UserError
from study.experiment import CellName, Comparison

log = logging.getLogger(__name__)
RETRIES = 3
POLL = 0.5
"""Seconds from one look at the workers to the next."""


def run(
    address: str,
    folder: Path,
    manifest: dict[str, Any],
    experiment: Comparison,
    task: Callable[[CellName], worker.Task],
    watch: runner.Watch,
) -> None:
    """Runs the missing cells on the cluster; each is stored as soon as it is finished.

    Args:
        address: `local`, or what Ray takes: `auto`, HOST:PORT of the head.
        folder: of the records, on this machine.
        manifest: from `results.prepare`.
        experiment: what to run.
        task: of a cell, for its worker.
        watch: called with a cell, the number of finished ones, and the share done of those
            under way, together.

    Raises:
        CellsFailed: at the end, if cells raised something of their own.
        UserError: Ray is not there or was lost.
    """
    from study import shards

    todo = runner.missing(folder, manifest, experiment)
    failed = []
    for done, (cell, found) in enumerate(_finished(address, todo, task, watch)):
        if isinstance(found, Exception):
            log.error("%s failed:\n%s", cell.file, found)
            failed.append(cell.file)
            continue
        results.set_aside(folder, manifest, cell)
        results.write_cell(folder, manifest, cell, *found)
        shards.Folder(folder, cell.file, "").remove()
        watch(cell, done, 1.0)
    if failed:
        raise CellsFailed(failed, folder)


def _finished(
    address: str,
    todo: list[CellName],
    task: Callable[[CellName], worker.Task],
    watch: runner.Watch,
) -> Iterator[tuple[CellName, Any]]:
    """Each cell with its records, cost and environment, or its exception, as they come."""
    ray = _ray()
    own = (ray.exceptions.RayTaskError, ray.exceptions.WorkerCrashedError)
    try:
        each = _start(ray, address)
        board = ray.remote(num_cpus=0)(worker.Board).remote()
        run_cell = ray.remote(max_retries=RETRIES, **each)(worker.run_cell)
        waiting = {run_cell.remote(task(cell), board): cell for cell in todo}
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=POLL)
            for one in ready:
                cell = waiting.pop(one)
                try:
                    found = ray.get(one)
                except own as error:
                    found = error
                yield cell, found
            shares = ray.get(board.shares.remote())
            under_way = [cell for cell in waiting.values() if shares.get(cell.file)]
            if under_way:
                together = sum(shares[cell.file] for cell in under_way)
                # A share of 1 says that a cell is stored; two halves do not.
                watch(under_way[0], len(todo) - len(waiting), together - 1e-9)
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--cluster {address}: {reason}; what is finished is kept, the same command"
            " continues"
        ) from None
    finally:
        ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's new default
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise UserError("--cluster: install the extra `cluster`") from None


def _start(ray: Any, address: str) -> dict[str, Any]:
    """Connects, or starts a cluster here; the resources of a cell: one device.

    A GPU or TPU is pinned by Ray in the worker's environment, one core by us.
    """
    core = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    where = {"include_dashboard": False} if address == "local" else {}
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level="error",
        **where,
    )
    there = ray.cluster_resources()
    if there.get("GPU"):
        return {"num_gpus": 1}
    if there.get("TPU"):
        return {"resources": {"TPU": 1}}
    return {"num_cpus": 1, "runtime_env": {"env_vars": core}}
