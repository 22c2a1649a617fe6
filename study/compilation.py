"""Compiled programs kept on disk, so that the second start of a sweep compiles nothing.

By jax's own cache, in a folder for each kind of processor and jaxlib: a program compiled
for one processor may not run on another. The variable JAX_COMPILATION_CACHE_DIR names
another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing. The files are machine
code: delete them at any time, share them with nobody.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax
import jaxlib.version
import pooch

ENABLED, FOLDER = "jax_enable_compilation_cache", "jax_compilation_cache_dir"
LIMIT = 1 << 30
"""Bytes that the folder may have when a run begins; the oldest files go first."""


def keep() -> Path | None:
    """Makes jax keep what it compiles from now on; the folder, or None if it cannot."""
    enabled, named = (getattr(jax.config, name) for name in (ENABLED, FOLDER))
    if not enabled:
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if named:
        return Path(named)
    folder = location()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder, LIMIT)
    except OSError:  # no home, or a read-only one: compile each time
        return None
    jax.config.update(FOLDER, str(folder))
    return folder


def location() -> Path:
    """Where programs of this processor and jaxlib are kept if nobody says otherwise."""
    base = Path(pooch.os_cache("gradient-direction-study"))
    return base / "compiled" / f"jaxlib-{jaxlib.version.__version__}-{_processor()}"


def prune(folder: Path, limit: int) -> None:
    """Deletes the files longest unchanged until those left have at most `limit` bytes."""
    files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    held = 0
    for path, found in sorted(files, key=lambda pair: -pair[1].st_mtime):
        held += found.st_size
        if held > limit:
            path.unlink(missing_ok=True)


def _processor() -> str:
    """Digits that differ where the instructions that a processor knows may differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [f"Features: {platform.processor()}"]
    known = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    facts = "\n".join([platform.machine(), *sorted(known)])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]
