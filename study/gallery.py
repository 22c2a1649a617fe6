"""All figures again: `python -m experiments draw`, from stored or published records.

Matplotlib keeps one core busy, so there is a process for each core.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from study import arguments, cli, devices, listing
from study.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """What to write, and where."""

    format: str = "png"
    """Such as pdf,svg,png; tex is each summary as a LaTeX table."""
    venue: str | None = None
    """Whose text width and font sizes figures have, such as icml2024 or tmlr2023."""
    output: Path = cli.ROOT / "runs" / "figures"
    """A folder for the files, one in it for each experiment."""


def main(argv: list[str]) -> None:
    """Draws what there are records of, and says so of the rest; exits with 2 if none."""
    import tyro

    options = tyro.cli(Options, args=argv, prog="python -m experiments draw")
    try:
        kinds, begun, count = cli.kinds(options.format), time.perf_counter(), 0
        if options.venue:
            from study import figures

            figures.sizes(options.venue)  # refused before anything is written
        task = functools.partial(
            draw, kinds=kinds, folder=options.output, venue=options.venue
        )
        with _processes() as pool:
            for written, line in pool.map(task, listing.names()):
                count += len(written)
                if line:
                    print(line, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{count} files in {options.output}, {time.perf_counter() - begun:.1f} s")
    sys.exit(0 if count else 2)


def _processes() -> ProcessPoolExecutor:
    """Fresh ones, for JAX's threads do not survive a fork."""
    return ProcessPoolExecutor(
        devices.cores(),
        multiprocessing.get_context("spawn"),
        initializer=_on_the_host,
    )


def _on_the_host() -> None:
    """So that processes do not contend for the memory of an accelerator."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def draw(
    name: str, kinds: tuple[str, ...], folder: Path, venue: str | None = None
) -> tuple[list[Path], str]:
    """The files of one experiment, from its default run or else from what is published.

    Args:
        name: of the experiment.
        kinds: some of `cli.KINDS`.
        folder: has one for each experiment.
        venue: as for `figures.style`.

    Returns:
        The files, and a line of what was drawn or why nothing was.
    """
    begun = time.perf_counter()
    module = importlib.import_module(f"{listing.PACKAGE}.{name}")
    if not hasattr(module, "PRESETS"):
        return [], ""
    try:
        records, experiment = cli.stored(
            module, name, arguments.Options(draw=True), module.PRESETS["default"], False
        )
        found = cli.results_of(module, experiment, records)
    except UserError as error:
        return [], f"{name}: {error}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    written = cli.draw(module, found, kinds, folder / name, venue)
    seconds = time.perf_counter() - begun
    return written, f"{name}: {len(written)} files from {records}, {seconds:.1f} s"
