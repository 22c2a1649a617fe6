"""Unfinished runs on disk: their state and what they have measured so far.

Long runs are saved between evaluations, once a minute at most, with Orbax: Flax brings it
already, it writes NumPy arrays of all of jax's types without pickle, and it imports in a
tenth of a second. A checkpoint's folder is named by the digest of its files once all are
written: one that is partial or damaged is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from study.train import State

Parts = dict[str, dict[str, np.ndarray]]
"""`records` and `evaluations` [run, ...], by name."""
EVERY = 60.0
"""Seconds between two checkpoints, at least."""
KEPT = 2
NAME = re.compile(r"(\d{6})\.([0-9a-f]{64})")


class Checkpoints:
    """The newest states of the runs of a chunk, by the number of finished segments.

    Args:
        path: a folder for these runs in this layout and environment, no others.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._last = path, time.monotonic()

    def restore(self, state: State) -> tuple[int, State, Parts] | None:
        """The newest whole one: segments done, state, and what was measured.

        Args:
            state: at the start of the same runs, for structure, types and sharding.
        """
        for done, path in sorted(self._all(), reverse=True):
            try:
                whole = digest(path) == path.name.partition(".")[2]
                saved = _orbax().restore(path.absolute()) if whole else None
            except (OSError, ValueError):
                saved = None
            if saved is not None and (found := _unpack(saved["state"], state)):
                return done, found, {k: saved[k] for k in ("records", "evaluations")}
            shutil.rmtree(path, ignore_errors=True)
        return None

    def due(self) -> bool:
        """The last one, or the start of the runs, is `EVERY` seconds ago."""
        return time.monotonic() - self._last >= EVERY

    def save(self, done: int, state: State, parts: Parts) -> None:
        """Stores the state after so many segments; the two newest stay.

        Raises:
            OSError: it cannot be written.
        """
        partial = self.path / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        content: dict[str, Any] = {"state": _pack(state), **parts}
        _orbax().save(partial.absolute(), content)
        partial.rename(self.path / f"{done:06d}.{digest(partial)}")
        for _, old in sorted(self._all(), reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def _all(self) -> list[tuple[int, Path]]:
        found = self.path.glob("*.*") if self.path.exists() else ()
        matches = [(NAME.fullmatch(path.name), path) for path in found]
        return [(int(match[1]), path) for match, path in matches if match]


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                own = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()}\0{own}\n".encode())
    return whole.hexdigest()


def _pack(state: State) -> dict[str, np.ndarray]:
    """The leaves of a state by their number; keys as numbers, no empty arrays."""
    leaves = {str(i): _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if leaf.size}


def _unpack(saved: dict[str, Any], pattern: State) -> State | None:
    """The state of these leaves; None if they are those of another."""
    leaves, structure = jax.tree.flatten(pattern)
    found = []
    for i, leaf in enumerate(leaves):
        plain = _plain(leaf)
        array: Any = np.asarray(saved.get(str(i), np.empty(plain.shape, plain.dtype)))
        if (array.shape, array.dtype) != (plain.shape, plain.dtype):
            return None
        if plain is not leaf:
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        found.append(jax.device_put(array, leaf.sharding))
    return jax.tree.unflatten(structure, found)


def _plain(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf


def _orbax() -> Any:
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
