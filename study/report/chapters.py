"""One chapter for each experiment: what it asks, how it ran, its figures and verdicts."""

from __future__ import annotations

import base64
import csv
import dataclasses
import importlib
import inspect
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study import arguments, cli, listing, results, terminal
from study.claims import FAILS, HOLDS, OPEN, UNDEFINED
from study.errors import UserError

VERDICTS = (HOLDS, FAILS, OPEN, UNDEFINED)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure inside the page.

    Attributes:
        stem: its file's name without the ending.
        data: a data URL, WebP without loss.
        width: pixels.
        height: pixels.
    """

    stem: str
    data: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Chapter:
    """What the page says of one experiment.

    Attributes:
        name: of its module and its folder.
        title: the first line of its docstring.
        parts: Question, Prediction, Varied, Cost.
        commands: (command, what it does).
        shown: what its figures show, in words.
        about: what the records hold, in the words of the code that made them.
        run: facts of the run, such as preset, date and versions.
        spec: every field of the spec, (name, values as text).
        pictures: its figures.
        verdicts: of its predictions, as `claims.as_json` gives them, with `measured`.
        table: header and rows of its summary; empty without one.
    """

    name: str
    title: str
    parts: dict[str, str]
    commands: tuple[tuple[str, str], ...]
    shown: str
    about: str
    run: dict[str, str]
    spec: tuple[tuple[str, tuple[str, ...]], ...]
    pictures: tuple[Picture, ...]
    verdicts: tuple[dict[str, Any], ...]
    table: tuple[list[str], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many predictions came to each verdict."""
        found = Counter(verdict["verdict"] for verdict in self.verdicts)
        return {name: found[name] for name in VERDICTS if found[name]}


def read(folder: Path) -> list[Chapter]:
    """The chapters of all published folders, by name.

    Raises:
        UserError: there are none, or a file is damaged.
    """
    known = listing.names()
    places = sorted(path for path in folder.glob("*/") if path.name != "runs")
    chapters = [
        _chapter(place, known)
        for place in places
        if (place / results.MANIFEST).exists() or place.name in known
    ]
    if not chapters:
        raise UserError(f"no results in {folder}; give the folder that holds them")
    return chapters


def _chapter(folder: Path, known: list[str]) -> Chapter:
    name = folder.name
    module = importlib.import_module(f"{listing.PACKAGE}.{name}") if name in known else None
    stored = (folder / results.MANIFEST).exists()
    manifest = results.read_manifest(folder) if stored else {}
    document = (module.__doc__ or "") if module else ""
    usage = re.findall(r"^ {4}(python -m \S.*?)(?: {2,}(.*))?$", document, re.MULTILINE)
    makers = [getattr(module, name, None) for name in ("condense", "run_cell")]
    return Chapter(
        name=name,
        title=document.partition("\n")[0] or name,
        parts=arguments.sections(module) if module else {},
        commands=tuple(usage),
        shown=_said(getattr(module, "draw", None)).partition("\n")[0],
        about="\n\n".join(said for maker in makers if (said := _said(maker))),
        run=_run(manifest),
        spec=tuple(_fields(manifest.get("spec", {}))),
        pictures=tuple(_picture(path) for path in sorted(folder.glob("*.png"))),
        verdicts=tuple(_verdicts(folder / cli.CLAIMS)),
        table=tuple(_table(folder)),
    )


def _said(function: Any) -> str:
    return inspect.getdoc(function) or "" if function else ""


def _run(manifest: dict[str, Any]) -> dict[str, str]:
    """Preset, date, cost and versions, as far as the manifest has them."""
    if not manifest:
        return {}
    first = next(iter(manifest.get("environments", {}).values()), {})
    versions = [f"{n} {first[n]}" for n in ("python", "jax", "optax", "flax") if n in first]
    facts = {
        "preset": manifest.get("preset"),
        "spec digest": manifest.get("digest"),
        "date": manifest.get("date"),
        "seconds of runs": f"{float(manifest.get('seconds', 0)):.0f}",
        "device": first.get("device"),
        "versions": ", ".join(versions),
        "commit": first.get("commit"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _fields(spec: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Fields of a spec; a list of specs gives one value each."""
    for name, value in spec.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield name, tuple(_brief(item) for item in value)
        else:
            yield name, (_brief(value),)


def _brief(value: Any) -> str:
    """A stored value as Python would write it: `Adam(b1=0.9, ...)`."""
    if isinstance(value, dict):
        inside = (f"{k}={_brief(v)}" for k, v in value.items() if k != "class")
        return f"{value.get('class', 'dict')}({', '.join(inside)})"
    if isinstance(value, list):
        return ", ".join(_brief(item) for item in value)
    return str(value)


def _picture(path: Path) -> Picture:
    """Re-encoded: WebP holds the same pixels in four fifths of the bytes."""
    from PIL import Image

    out = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(out, "webp", lossless=True, quality=50)
            width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        raise UserError(f"{path} is not a readable picture; draw it again") from None
    data = base64.b64encode(out.getvalue()).decode()
    return Picture(path.stem, f"data:image/webp;base64,{data}", width, height)


def _verdicts(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    try:
        for verdict in json.loads(path.read_text()):
            words = {k: str(verdict[k]) for k in ("statement", "source", "verdict")}
            published = verdict.get("published")
            yield words | {
                "measured": terminal.measured(verdict),
                "published": "" if published is None else terminal.short(published),
                "n": int(verdict["n"]),
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; judge again with --draw or publish") from None


def _table(folder: Path) -> Iterator[list[str]]:
    """Header and rows of summary.csv, or of the rows in NAME.json."""
    summary, other = folder / cli.SUMMARY, folder / f"{folder.name}.json"
    try:
        if summary.exists():
            yield from csv.reader(io.StringIO(summary.read_text()))
        elif other.exists():
            rows = json.loads(other.read_text())["rows"]
            yield [str(name) for name in rows[0]]
            yield from ([terminal.short(value) for value in row.values()] for row in rows)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{folder} has a damaged table ({error})") from None
