"""All figures again: `python -m experiments draw`, from stored or published records."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from pathlib import Path

from study import arguments, cli, listing
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
        for name in listing.names():
            count += len(draw(name, kinds, options.output / name, options.venue))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{count} files in {options.output}, {time.perf_counter() - begun:.1f} s")
    sys.exit(0 if count else 2)


def draw(
    name: str, kinds: tuple[str, ...], folder: Path, venue: str | None = None
) -> list[Path]:
    """The files of one experiment, from its default run or else from what is published."""
    module, begun = (
        importlib.import_module(f"{listing.PACKAGE}.{name}"),
        time.perf_counter(),
    )
    if not hasattr(module, "PRESETS"):
        return []
    try:
        records, experiment = cli.stored(
            module, name, arguments.Options(draw=True), module.PRESETS["default"], False
        )
        found = cli.results_of(module, experiment, records)
    except UserError as error:
        print(f"{name}: {error}")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = cli.draw(module, found, kinds, folder, venue)
    print(
        f"{name}: {len(written)} files from {records}, {time.perf_counter() - begun:.1f} s"
    )
    return written
