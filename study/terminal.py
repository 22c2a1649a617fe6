"""What a run shows in a terminal: progress, verdicts, files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from study.experiment import CellName, Comparison
from study.runner import Watch

VERDICT_STYLE = {"holds": "green", "fails": "red"}


@contextlib.contextmanager
def watch(experiment: Comparison, todo: Sequence[CellName], quiet: bool) -> Iterator[Watch]:
    """A function that shows progress: a bar, or a line a cell in logs."""
    console = Console()
    if quiet or not console.is_terminal:
        yield _line_by_line(todo)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[cells]}/{task.total} cells"),
        TextColumn("{task.fields[rate]:.0f} runs/s"),
        TimeRemainingColumn(),
    )
    begun = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(todo), cells=0, rate=0.0)

        def show(cell: CellName, index: int, share: float) -> None:
            progress.update(
                task,
                description=f"{cell.problem.label}, {cell.optimizer.title}",
                completed=index + share,
                cells=index + int(share == 1),
                rate=experiment.runs * (index + share) / (time.perf_counter() - begun),
            )

        yield show


def _line_by_line(todo: Sequence[CellName]) -> Watch:
    begun = time.perf_counter()

    def show(cell: CellName, index: int, share: float) -> None:
        if share == 1:
            spent = time.perf_counter() - begun
            print(
                f"[{index + 1}/{len(todo)}] {cell.problem}, {cell.optimizer}:"
                f" {spent:.1f} s so far",
                flush=True,
            )

    return show


def close(
    verdicts: Sequence[dict[str, Any]], written: Sequence[Path], seconds: float
) -> None:
    """The claims, the files written and the seconds taken."""
    table(verdicts)
    for path in written:
        print(f"wrote {path}")
    print(f"{seconds:.1f} s")


def table(verdicts: Sequence[dict[str, Any]]) -> None:
    """Prints verdicts as `claims.as_json` gives them, with the source's values if any."""
    sourced = any("published" in verdict for verdict in verdicts)
    columns = ("Prediction", "Measured [95 % interval]", *["Source"] * sourced, "Verdict")
    shown = Table(*columns, box=None)
    for verdict in verdicts:
        style = VERDICT_STYLE.get(verdict["verdict"], "yellow")
        shown.add_row(
            verdict["statement"],
            measured(verdict).replace("[", r"\["),
            *[short(verdict.get("published"))] * sourced,
            f"[{style}]{verdict['verdict']}[/]",
        )
    if verdicts:
        Console().print(shown)


def measured(verdict: dict[str, Any]) -> str:
    """The value and its interval."""
    value, low, high = (short(verdict[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def short(value: Any) -> str:
    """Four digits; a dash where undefined."""
    if value is None:  # undefined
        return "–"
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)
