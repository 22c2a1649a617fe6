"""Rows as tables in files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Rows = Iterable[Mapping[str, Any]]


def to_csv(rows: Rows) -> bytes:
    """A table with the columns of all rows, six digits a number, `nan` where none is."""
    rows = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, _columns(rows), restval="nan", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _shown(value, 6) for key, value in row.items()})
    return out.getvalue().encode()


def to_latex(table: bytes, digits: int = 3, across: int = 6) -> bytes:
    r"""A CSV table for a page: one `longtable` (with `booktabs`) for a few columns each.

    Args:
        table: from `to_csv`; the words in its first columns, two at most, name a row.
        digits: of each number.
        across: columns in one table, beside those that name its rows.
    """
    first, *rows = csv.reader(io.StringIO(table.decode()))
    words = [i for i in range(2) if any(_number(row[i]) is None for row in rows)]
    rest = [i for i in range(len(first)) if i not in words]
    parts = [rest[at : at + across] for at in range(0, len(rest), across)]
    lines = [
        line for part in parts for line in _longtable(first, rows, words, part, digits)
    ]
    return ("\n".join(lines) + "\n").encode()


def _longtable(
    names: list[str], rows: list[list[str]], words: list[int], part: list[int], digits: int
) -> Iterator[str]:
    yield rf"\begin{{longtable}}{{{'l' * len(words)}{'r' * len(part)}}}"
    yield r"\toprule"
    yield _line(_escaped(names[i]) for i in (*words, *part))
    yield r"\midrule"
    yield r"\endhead"
    for row in rows:
        yield _line(_short(row[i], digits) for i in (*words, *part))
    yield r"\bottomrule"
    yield r"\end{longtable}"


def _columns(rows: list[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _shown(value: Any, digits: int) -> Any:
    return f"{value:.{digits}g}" if isinstance(value, float) else value


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _short(cell: str, digits: int) -> str:
    """A number as LaTeX shows it best; a word as it is."""
    value = _number(cell)
    if value is None:
        return _escaped(cell)
    if value != value:
        return "--"
    text = cell if cell.lstrip("-").isdigit() else f"{value:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if exponent:
        text = rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
    return "$" + text.replace("inf", r"\infty") + "$"


_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
