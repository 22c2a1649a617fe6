"""All predictions of all experiments with their verdicts, from what is published.

`python -m experiments claims` prints them, writes them to results/CLAIMS.md, and puts the
counts and the minutes that each experiment took into the README between two marks.
Nothing is run.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study import cli, listing, results, terminal
from study.claims import FAILS, HOLDS, OPEN, UNDEFINED

VERDICTS = (HOLDS, FAILS, OPEN, UNDEFINED)
TABLE = cli.ROOT / "CLAIMS.md"
README = Path("README.md")
BEGIN, END = "<!-- claims: generated -->", "<!-- end of claims -->"


def published() -> dict[str, list[dict[str, Any]]]:
    """The verdicts of every published experiment, by its name."""
    files = {name: cli.ROOT / name / cli.CLAIMS for name in listing.names()}
    return {n: json.loads(f.read_text()) for n, f in files.items() if f.exists()}


def seconds() -> dict[str, float]:
    """What the runs of every published experiment took, compilation included."""
    folders = {name: cli.ROOT / name for name in listing.names()}
    there = {n: f for n, f in folders.items() if (f / results.MANIFEST).exists()}
    return {n: results.read_manifest(f).get("seconds", math.nan) for n, f in there.items()}


def main() -> None:
    """Prints all verdicts, then writes the table and the README's counts."""
    found = published()
    if not found:
        print(
            f"error: no published claims in {cli.ROOT}; run this in the project's folder",
            file=sys.stderr,
        )
        sys.exit(2)
    for name, verdicts in found.items():
        print(f"\n{name}: {_counted(verdicts)}")
        terminal.table(verdicts)
    everything = [verdict for verdicts in found.values() for verdict in verdicts]
    print(f"\n{len(found)} experiments: {_counted(everything)}")
    TABLE.write_text(table(found))
    print(f"wrote {TABLE}")
    if README.exists() and BEGIN in (text := README.read_text()) and END in text:
        README.write_text(with_counts(text, found, seconds()))
        print(f"wrote {README}")


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Every prediction in Markdown, a table for each experiment."""
    return "\n".join(_table(found)) + "\n"


def _table(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield "# All predictions and what became of them\n"
    yield "Written by `python -m experiments claims` from `results/*/claims.json`."
    yield "Intervals are 95 %; n counts independent units, 1 where there is no chance.\n"
    for name, verdicts in found.items():
        yield f"## {name}: {_counted(verdicts)}\n"
        yield "| prediction | source | its value | measured | n | verdict |"
        yield "|---|---|---|---|---|---|"
        for verdict in verdicts:
            words = [verdict["statement"], verdict["source"]]
            cells = [word.replace("|", r"\|") for word in words]
            cells.append(
                terminal.short(verdict["published"]) if "published" in verdict else ""
            )
            cells += [terminal.measured(verdict), str(verdict["n"]), verdict["verdict"]]
            yield f"| {' | '.join(cells)} |"
        yield ""


def with_counts(
    text: str, found: dict[str, list[dict[str, Any]]], seconds: dict[str, float]
) -> str:
    """The README with the counts and minutes as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    total = Counter(v["verdict"] for verdicts in found.values() for v in verdicts)
    lines = [
        "",
        f"| experiment | {' | '.join(VERDICTS)} | minutes |",
        "|---|" + "---|" * (len(VERDICTS) + 1),
    ]
    rows = {n: Counter(v["verdict"] for v in verdicts) for n, verdicts in found.items()}
    spent = {name: seconds.get(name, math.nan) for name in rows}
    every = f"all {len(found)}"
    for name, counts in {**rows, every: total}.items():
        minutes = (math.fsum(spent.values()) if name == every else spent[name]) / 60
        cells = (*(str(counts[v]) for v in VERDICTS), f"{minutes:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return before + BEGIN + "\n".join([*lines, ""]) + END + after


def _counted(verdicts: list[dict[str, Any]]) -> str:
    """Such as `11 predictions: 10 holds, 1 undecided`."""
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    parts = [f"{counts[v]} {v}" for v in VERDICTS if counts[v]]
    return f"{len(verdicts)} predictions: {', '.join(parts)}"
