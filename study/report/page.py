"""The page: one file that holds everything it shows.

Its content policy allows the scripts written here, by their digests, and nothing from
anywhere else: no network, no script from a file, no evaluation of strings.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from study import cli, findings, results
from study.errors import UserError
from study.optimizers import OUTCOMES, SYMMETRIES
from study.report import atlas, chapters, explorer, prose

ASSETS = Path(__file__).parent
SCRIPTS = (
    "vendor/d3.min.js",
    "vendor/plot.umd.min.js",
    "page.js",
    "tables.js",
    "drawing.js",
    "reading.js",
    "explorer.js",
)
OUTPUT = "report.html"
TITLE = "What do optimizers do to a gradient?"


def main(argv: list[str] | None = None) -> None:
    """Writes the page and exits: 0 done, 2 the user's mistake (one line on stderr)."""
    parser = argparse.ArgumentParser("python -m study.report", description=__doc__)
    parser.add_argument(
        "results",
        nargs="?",
        type=Path,
        default=cli.ROOT,
        help="folder of published results",
    )
    parser.add_argument("--output", type=Path, help=f"default: {OUTPUT} in that folder")
    options = parser.parse_args(argv)
    begun = time.perf_counter()
    try:
        output = options.output or options.results / OUTPUT
        content = build(options.results).encode()
        if output.is_dir():
            raise UserError(f"{output} is a folder; give --output a file")
        results.refuse_unwritable(output.parent)
        results.write(output, content)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    size, seconds = len(content) / 1e6, time.perf_counter() - begun
    print(f"wrote {output}, {size:.2f} MB, {seconds:.1f} s")


def build(folder: Path) -> str:
    """The page of a folder of published results, as HTML.

    Raises:
        UserError: there are no results, or a file is damaged.
    """
    found = chapters.read(folder)
    readme = _readme(folder)
    names = {chapter.name for chapter in found}
    found.sort(key=lambda chapter: _mentioned(readme, chapter.name))
    pictures = {(c.name, p.stem) for c in found for p in c.pictures}
    title, question = prose.question(readme)
    text = prose.findings(readme)
    scripts = [(ASSETS / name).read_text() for name in SCRIPTS]
    return (
        _environment()
        .get_template("template.html")
        .render(
            title=title or TITLE,
            question=prose.html(question, pictures, names),
            findings=prose.html(text, pictures, names),
            headings=prose.headings(text),
            chapters=found,
            alternatives=prose.alternatives(readme),
            counts=_total(found),
            dates=_dates(found),
            verdicts=chapters.VERDICTS,
            atlas=atlas.rows(folder),
            symmetries=SYMMETRIES,
            outcomes=OUTCOMES,
            policy=_policy(scripts),
            style=Markup((ASSETS / "page.css").read_text()),
            scripts=[Markup(script) for script in scripts],
            data=_packed(_data(folder, found)),
        )
    )


def _readme(folder: Path) -> str:
    """The README beside the folder of results, empty if there is none."""
    path = folder.absolute().parent / findings.README
    return path.read_text() if path.is_file() else ""


def _mentioned(readme: str, name: str) -> tuple[int, str]:
    """Where the README speaks of an experiment first; those it does not come last."""
    place = readme.find(f"experiments.{name}`")
    return (place if place >= 0 else len(readme), name)


def _total(found: list[chapters.Chapter]) -> dict[str, int]:
    total = {v: sum(c.counts.get(v, 0) for c in found) for v in chapters.VERDICTS}
    return {verdict: count for verdict, count in total.items() if count}


def _dates(found: list[chapters.Chapter]) -> list[str]:
    """The first and the last day on which something ran."""
    days = sorted({chapter.run["date"] for chapter in found if "date" in chapter.run})
    return [days[0], days[-1]] if len(days) > 1 else days


def _data(folder: Path, found: list[chapters.Chapter]) -> dict[str, Any]:
    """What the scripts draw from."""
    records = {}
    for chapter in found:
        if drawn := explorer.read(folder / chapter.name):
            words = {"title": chapter.title, "about": chapter.about}
            records[chapter.name] = drawn | words
    return {
        "records": records,
        "tables": {chapter.name: chapter.table for chapter in found if chapter.table},
        "angles": atlas.angles(folder),
    }


def _packed(data: dict[str, Any]) -> str:
    """JSON, compressed, in base64: letters that HTML leaves alone; equal for equal data."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _policy(scripts: list[str]) -> str:
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:;"
        f" style-src 'unsafe-inline'; script-src {allowed}"
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = _short
    return environment


def _short(value: float) -> str:
    """Three digits; nothing where undefined."""
    return "" if value != value else f"{value:.3g}"
