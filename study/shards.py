"""What is kept on disk of an unfinished cell: shards, its records chunk by chunk.

They lie in `.shards/CELL/` of the folder of a run. A shard's name says which runs it
holds, the layout and the environment they ran in, and the digest of its bytes: one that
is torn, damaged or of other code is no shard. Several processes add theirs; the first
merges all of them into the cell's record file and removes the folder. Checkpoints of
the runs under way lie in `.checkpoints/CELL/`, named in the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from study import hosts, records, results
from study.checkpoints import Checkpoints
from study.experiment import Experiment
from study.hosts import Host
from study.records import Chunk, Shards

SHARDS, CHECKPOINTS = ".shards", ".checkpoints"
NAME = re.compile(r"(\d+)-(\d+)\.(\d+)x(\d+)\.([0-9a-f]+)\.([0-9a-f]{64})\.nc")


class Folder(Shards):
    """The shards of a cell in a folder, of one process or several.

    Args:
        folder: of the run.
        file: the cell's.
        environment: a name for code, packages and devices; shards of another are of no use.
        host: this process among those of the run.
    """

    def __init__(
        self, folder: Path, file: str, environment: str, host: Host = hosts.ALONE
    ) -> None:
        super().__init__()
        self.path = folder / SHARDS / file.removesuffix(".nc")
        self.saved = folder / CHECKPOINTS / file.removesuffix(".nc")
        self.environment, self.host, self.runs = environment, host, 0

    def part(self, runs: int) -> tuple[int, int]:
        """The runs of this process."""
        return self.host.part(runs)

    def chunks(self, runs: int, width: int, group: int) -> list[Chunk]:
        """This process's chunks; shards of its runs that are none of them are removed."""
        chunks = super().chunks(runs, width, group)
        self.runs, (first, last) = runs, self.part(runs)
        for path, chunk in self._all():
            own = chunk.first < last and chunk.last > first
            if own and not (chunk in chunks and self._usable(path)):
                path.unlink(missing_ok=True)
        current = {self._place(chunk).name for chunk in chunks}
        for path in self.saved.glob("*"):
            begins = int(path.name.partition("-")[0])
            if first <= begins < last and path.name not in current:
                shutil.rmtree(path, ignore_errors=True)
        return chunks

    def checkpoints(self, chunk: Chunk) -> Checkpoints | None:
        """Where states of the chunk's unfinished runs go.

        None where several processes share the run: of arrays that one process alone has,
        Orbax writes those of the first. Their chunks, once interrupted, start again.
        """
        if self.host.processes > 1:
            return None
        return Checkpoints(self._place(chunk))

    def _place(self, chunk: Chunk) -> Path:
        return self.saved / self._name(chunk)

    def _name(self, chunk: Chunk) -> str:
        first, last, width, group = chunk
        return f"{first}-{last}.{width}x{group}.{self.environment}"

    def __contains__(self, chunk: Chunk) -> bool:
        """The chunk's records are there, whole."""
        return any(there == chunk and self._usable(path) for path, there in self._all())

    def __setitem__(self, chunk: Chunk, shard: xr.Dataset) -> None:
        """Stores the records of a chunk; all runs of a cell stay in memory until stored."""
        if self.host.processes == 1 and shard.sizes["run"] == self.runs:
            return super().__setitem__(chunk, shard)
        content = results.to_bytes(shard)
        digest = hashlib.sha256(content).hexdigest()
        self.path.mkdir(parents=True, exist_ok=True)
        results.write(self.path / f"{self._name(chunk)}.{digest}.nc", content)
        shutil.rmtree(self._place(chunk), ignore_errors=True)

    def merged(self, experiment: Experiment) -> xr.Dataset:
        """The records of all runs, once the other processes have stored theirs."""
        if self._there:
            return super().merged(experiment)
        while not (paths := self._chain(experiment.runs)):
            time.sleep(0.2)
        with contextlib.ExitStack() as stack:
            opened = [xr.open_dataset(path, engine="scipy") for path in paths]
            return records.merge(experiment, [stack.enter_context(one) for one in opened])

    def remove(self) -> None:
        """Removes what is kept of the cell, and the folders if no other cell has any."""
        for path in (self.path, self.saved):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def _chain(self, runs: int) -> list[Path]:
        """Shards that are all runs one after the other; none if there are not."""
        from_here = {chunk.first: (path, chunk) for path, chunk in self._all()}
        paths, at = [], 0
        while at < runs and at in from_here:
            path, chunk = from_here[at]
            paths, at = [*paths, path], chunk.last
        return paths if at == runs and all(map(self._usable, paths)) else []

    def _all(self) -> Iterator[tuple[Path, Chunk]]:
        for path in sorted(self.path.glob("*.nc")):
            if match := NAME.fullmatch(path.name):
                yield path, Chunk(*map(int, match.groups()[:4]))

    def _usable(self, path: Path) -> bool:
        """Of this environment, and what was written."""
        match = NAME.fullmatch(path.name)
        if match is None or match[5] != self.environment:
            return False
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == match[6]
        except OSError:
            return False
