"""Runs what is missing of an experiment, cell by cell, into its folder."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from study import hosts, results
from study.errors import CellsFailed, UserError, interrupted
from study.experiment import CellName, Comparison
from study.hosts import Host

Watch = Callable[[CellName, int, float], None]
RunCell = Callable[..., tuple[Any, Any]]
log = logging.getLogger(__name__)
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
"""Errors that the folder has for every cell."""


def missing(
    folder: Path, manifest: dict[str, Any], experiment: Comparison
) -> list[CellName]:
    """The cells without records, in the order in which they run."""
    cells = experiment.cells
    return [c for c in cells if not results.finished(folder, manifest, c)]


def run(
    folder: Path,
    manifest: dict[str, Any],
    experiment: Comparison,
    watch: Watch = lambda cell, index, share: None,
    run_cell: RunCell | None = None,
    host: Host = hosts.ALONE,
) -> None:
    """Runs the missing cells; each is stored as soon as it is finished.

    Where several processes share the run, each runs its part of every cell, and the first
    stores the cell. Another command on the same folder runs other cells: each claims the
    cell it runs, and all end when all cells are stored.

    Args:
        folder: of the records.
        manifest: from `results.prepare`.
        experiment: what to run.
        watch: called with the cell, its index among the missing and its share done.
        run_cell: what a cell is; None trains, with `sweep`.
        host: this process among those of the run.

    Raises:
        CellsFailed: at the end, if cells raised something of their own.
        UserError: nothing can be stored, or a part of a shared run is another command's.
    """
    environment = facts()
    order = {cell: i for i, cell in enumerate(missing(folder, manifest, experiment))}
    todo, failed, said = list(order), [], False

    def work(cell: CellName) -> None:
        within = _Within(watch, cell, order[cell])
        if host.process > 0 or not _is_stored(folder, manifest, cell):
            parts = (folder, manifest, experiment, cell, within, run_cell, host)
            _run_and_store(*parts, environment)
        if host.process == 0:
            watch(cell, order[cell], 1.0)

    while todo:
        before = len(todo)
        for cell in list(todo):
            with _claim(folder, cell, host) as mine:
                if not mine:
                    continue
                todo.remove(cell)
                try:
                    work(cell)
                except Exception as error:
                    _refuse_shared_by_all(error, folder, host)
                    log.error("%s failed:\n%s", cell.file, traceback.format_exc())
                    failed.append(cell.file)
        if todo and len(todo) == before:
            if host.processes > 1:
                raise UserError(f"another command works on {folder}; wait for its end")
            if not said:
                log.warning("waiting for %d cells of another command", len(todo))
                said = True
            time.sleep(0.2)
    if failed:
        raise CellsFailed(failed, folder)


class _Within(NamedTuple):
    """Passes on a cell's share while it runs; done is what is stored."""

    watch: Watch
    cell: CellName
    place: int

    def __call__(self, share: float) -> None:
        if share < 1:
            self.watch(self.cell, self.place, share)


def _claim(folder: Path, cell: CellName, host: Host) -> Any:
    """Claims a cell; the first process of a shared run does it for all of them."""
    if host.process > 0:
        return contextlib.nullcontext(True)
    return results.locks.cell(folder, cell.file)


def _is_stored(folder: Path, manifest: dict[str, Any], cell: CellName) -> bool:
    """Another command has stored the cell since the manifest was read."""
    if not (folder / results.MANIFEST).exists():
        return False
    stored = results.read_manifest(folder)
    if not results.finished(folder, stored, cell):
        return False
    for part in ("cells", "environments"):
        manifest[part] = manifest.get(part, {}) | stored.get(part, {})
    return True


def _run_and_store(
    folder: Path,
    manifest: dict[str, Any],
    experiment: Comparison,
    cell: CellName,
    within: _Within,
    run_cell: RunCell | None,
    host: Host,
    environment: dict[str, Any],
) -> None:
    """Runs a cell; the first process of a shared run stores it."""
    from study import shards, sweep

    name = results.environment_name(environment)
    kept = shards.Folder(folder, cell.file, name, host)
    entries = (cell.problem, cell.optimizer, within)
    within(0.0)
    if run_cell is not None:
        dataset, cost = run_cell(experiment, *entries)
    else:
        trained: Any = experiment
        cost = sweep.run_shards(trained, *entries, kept)
        if host.process > 0:
            return
        dataset = kept.merged(trained)
    if aside := results.set_aside(folder, manifest, cell):
        log.warning("%s is a damaged record; its cell has been run again", aside)
    results.write_cell(folder, manifest, cell, dataset, cost, environment)
    kept.remove()


def _refuse_shared_by_all(error: Exception, folder: Path, host: Host) -> None:
    """Raises what is no failure of one cell, which the next need not have."""
    if isinstance(error, OSError) and error.errno in STORAGE:
        raise UserError(
            f"cannot write to {folder}: {error.strerror};"
            " finished cells are kept, the same command continues"
        ) from None
    if host.processes > 1 or isinstance(error, UserError) or interrupted(error):
        raise error


def facts() -> dict[str, Any]:
    """What the last bits of records depend on: devices, versions and code."""
    from study import devices

    return {**devices.facts(), **results.commit()}
