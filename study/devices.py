"""Devices and precision: set before jax starts, recorded with every result.

On CPU each core is made a device of its own. A sweep's runs need nothing of each other,
so one shard a core is faster than XLA's threads inside small operations.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform as host
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from study.errors import UserError

RUNS = "runs"  # the mesh axis


_allowed: dict[str, float] = {}  # GiB that runs may fill, where somebody said so


def prepare(platform: str | None = None, memory: float | None = None) -> None:
    """Chooses the platform and makes each CPU core a device; call before jax is used.

    `JAX_NUM_CPU_DEVICES` in the environment is another number of devices.

    Args:
        platform: `cpu`, `gpu` or `tpu`; None takes jax's choice.
        memory: GiB that the runs under way may fill; None: a quarter of what there is.

    Raises:
        UserError: the platform was asked for and is not there, or memory not positive.
    """
    if memory is not None and not memory > 0:
        raise UserError(f"--memory {memory}: give a positive number of GiB")
    _allowed.clear()
    if memory is not None:
        _allowed["GiB"] = memory
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # jax runs already: take what it has
            jax.config.update("jax_num_cpu_devices", cores())
    if platform is None:
        return
    before = getattr(jax.config, "jax_platforms")  # noqa: B009 (pyright does not know it)
    jax.config.update("jax_platforms", "cuda" if platform == "gpu" else platform)
    try:
        found = jax.devices()[0].platform
    except RuntimeError:
        found = None
    if found != platform:
        jax.config.update("jax_platforms", before)  # for whoever goes on in this process
        remedy = {
            "gpu": "; install the extra `cuda`",
            "tpu": "; install the extra `tpu`",
        }
        raise UserError(
            f"--platform {platform}: no such device here{remedy.get(platform, '')}"
            ", or leave --platform away"
        )


def cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shardings() -> tuple[NamedSharding, NamedSharding]:
    """Over the runs axis of all local devices, and replicated."""
    devices = jax.local_devices()
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), (RUNS,), axis_types=kinds, devices=devices)
    return _sharding(mesh, RUNS), _sharding(mesh)


def map_runs(
    function: Callable[..., Any],
    shared: Any,
    runs: Sequence[Any],
    width: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Any:
    """`function(*shared, *run)` for every run, sharded over the local devices.

    Args:
        function: of what is shared and of one run's scalars; one met again, the same
            object, is compiled once for equal shapes.
        shared: a tuple of pytrees, replicated.
        runs: arrays [run], one for each scalar.
        width: runs side by side, in chunks of one shape; 0 is all.
        progress: called with the finished share in (0, 1] after each chunk.

    Returns:
        What the function returns, with a leading axis [run], as NumPy arrays.
    """
    by_run, replicated = shardings()
    count = len(runs[0])
    width = (width or count) + -(width or count) % jax.local_device_count()
    padded = [np.pad(np.asarray(axis), (0, -count % width), mode="edge") for axis in runs]
    many = _mapped(function, len(shared), len(padded))
    shared, parts = jax.device_put(shared, replicated), []
    for first in range(0, count, width):
        chunk = [axis[first : first + width] for axis in padded]
        found = many(*shared, *jax.device_put(chunk, by_run))
        parts.append(jax.tree.map(np.asarray, found))
        progress(min(1.0, (first + width) / count))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


@functools.lru_cache(maxsize=4)
def _mapped(function: Callable[..., Any], shared: int, mapped: int) -> Any:
    axes = [None] * shared + [0] * mapped
    return jit(jax.vmap(function, in_axes=axes), out_shardings=shardings()[0])


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` for a whole program: its result is called, not traced into another.

    On CPU with LLVM at its first level: measured, XLA compiles such programs in an eighth
    to a half less time, and they run as fast.
    """
    on_cpu = jax.local_devices()[0].platform == "cpu"
    level = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(function, compiler_options=level, **options)


def _sharding(mesh: Mesh, *axes: str) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*axes))


def memory() -> int:
    """Bytes that the runs of one device may fill, a quarter of its memory if not said.

    Of the smallest local device; on CPU each has an equal share of the host's memory.
    """
    devices = jax.local_devices()
    if _allowed:
        return int(_allowed["GiB"] * 2**30) // len(devices)
    return _whole_memory(devices) // 4


def is_out_of_memory(error: BaseException) -> bool:
    """An allocation failed, on a device or on the host."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _whole_memory(local: Sequence[Any]) -> int:
    sizes = [(d.memory_stats() or {}).get("bytes_limit") for d in local]
    if all(sizes):
        return int(min(size for size in sizes if size))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(local)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """64-bit types only inside a float64 problem; products in full float32."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


def facts() -> dict[str, Any]:
    """What the last bits depend on: platform, devices, versions, precision."""
    import flax
    import numpy
    import optax

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "processes": jax.process_count(),
        "machine": host.machine(),
        "python": host.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
        "flax": flax.__version__,
        "numpy": numpy.__version__,
        "matmul_precision": "highest",
    }
