"""House style and drawing helpers. Sees labels and arrays, never runs anything.

Colour, dash and marker all tell optimizers apart, so a figure survives a grey printer and
colour-blind eyes. `matplotlib.figure.Figure` is used without pyplot: no global state.
"""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from study import statistics
from study.errors import UserError
from study.optimizers import OPTIMIZERS, Optimizer

NOTE = "note"  # by which it is found among the figure's artists
NARROWEST = 6.5  # inches, into which the panels still fit
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "osD^vPX*<>"
PAIRS = len(DASHES) * len(MARKERS)

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.dpi": 100,
    "figure.figsize": (7.2, 4.8),  # inches, the text width of a two-column page
    "pdf.fonttype": 42,
    "svg.hashsalt": "study",
}


@contextlib.contextmanager
def style(venue: str | None = None) -> Iterator[None]:
    """The house style, for making and for writing a figure alike.

    Args:
        venue: whose text width and font sizes figures have, as in `sizes`, such as
            `icml2024`; None is the width of two columns.

    Raises:
        UserError: there is no such venue.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | (sizes(venue) if venue else {}))  # pyright: ignore
        yield


def sizes(venue: str) -> dict[str, Any]:
    """The text width of a venue, and its font sizes where they are smaller than ours.

    From the bundles of tueplots. Its fonts, that need LaTeX, are left out, and so are
    venues of narrower text, into which these figures would have to be squeezed.

    Raises:
        UserError: there is no such venue.
    """
    import inspect

    from tueplots import bundles

    known: dict[str, dict[str, Any]] = {}
    for name, bundle in inspect.getmembers(bundles, inspect.isfunction):
        if not name.startswith("_"):
            columns = "column" in inspect.signature(bundle).parameters
            found = bundle(**({"column": "full"} if columns else {}))
            if found["figure.figsize"][0] >= NARROWEST:
                known[name] = found
    if venue not in known:
        raise UserError(f"--venue {venue!r}: one of {', '.join(known)}")
    own = {name: size for name, size in STYLE.items() if name.endswith("size")}
    found = {name: min(size, known[venue].get(name, size)) for name, size in own.items()}
    narrower = found["figure.figsize"][0] / own["figure.figsize"][0]
    fitting = own["axes.titlesize"] * narrower  # titles are as long as panels are wide
    return found | {"axes.titlesize": min(found["axes.titlesize"], fitting)}


def width() -> float:
    """Of a figure, in inches."""
    return mpl.rcParams["figure.figsize"][0]


def panels(
    rows: int, columns: int, *, height: float = 2.4, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of full width with a grid of axes [row, column]."""
    figure = Figure(figsize=(width(), height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def look(optimizers: Sequence[Optimizer]) -> dict[str, dict[str, Any]]:
    """Colour, dash and marker of each optimizer, by its string.

    The colour lives on the entry. Dash and marker go by its place in the catalogue, so
    that it has them in every figure. Where two of a figure would look alike, one with
    other fields than its defaults takes the next that are free.
    """
    places, pairs = list(OPTIMIZERS), {}
    for entry in sorted(optimizers, key=lambda entry: bool(entry.changed)):
        place = places.index(type(entry).__name__)
        while _pair(place) in pairs.values() and len(pairs) < PAIRS:
            place += 1
        pairs[str(entry)] = _pair(place)
    return {
        str(entry): {
            "color": entry.colour,
            "linestyle": DASHES[pairs[str(entry)][0]],
            "marker": MARKERS[pairs[str(entry)][1]],
            "label": entry.title,
        }
        for entry in optimizers
    }


def _pair(place: int) -> tuple[int, int]:
    """Dash and marker of a place: neighbours share neither, and all pairs occur."""
    dashes, markers = len(DASHES), len(MARKERS)
    turn = place // math.lcm(dashes, markers)
    return place % dashes, (place + turn) % markers


def curve(
    axes: Axes, x: np.ndarray, values: np.ndarray, look: Mapping[str, Any], place: int
) -> None:
    """The median over seeds with its 95 % bootstrap band.

    Args:
        axes: drawn on.
        x: [step].
        values: [seed, step].
        look: from `look`.
        place: of this curve among its fellows; staggers the markers.
    """
    low, high = statistics.band(values)
    every = max(1, len(x) // 5)
    axes.plot(
        x,
        np.median(values, axis=0),
        **look,
        markevery=(place * every // 10 % every, every),
        markeredgecolor="white",
        markeredgewidth=0.4,
    )
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def heat_table(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    low: float,
    high: float,
    pattern: str = "{:.0f}",
) -> Any:
    """Numbers [row, column] on coloured cells; a dash where undefined."""
    image = axes.pcolormesh(
        values, cmap="cividis", vmin=low, vmax=high, edgecolors="white", linewidth=0.8
    )
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (i, j), value in np.ndenumerate(values):
        defined = np.isfinite(value)
        bright = not defined or (value - low) / (high - low) > 0.55
        axes.text(
            j + 0.5,
            i + 0.5,
            pattern.format(value) if defined else "–",
            ha="center",
            va="center",
            fontsize=7,
            color="black" if bright else "white",
        )
    return image


class TableCell(NamedTuple):
    """A cell of `outcome_table`: text, one or two fills, ink, and whether it is framed."""

    text: str
    fills: tuple[str, ...]
    ink: str = "black"
    framed: bool = False


def outcome_table(
    groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[TableCell]]]]],
    headings: Sequence[str],
) -> Figure:
    """A long table of coloured cells in two columns, rows under the titles of groups.

    Args:
        groups: (title, rows), a row being (label, one cell for each heading).
        headings: over the cells, of at most two lines.
    """
    heights = np.cumsum([len(rows) + 1.4 for _, rows in groups])
    cut = int(np.argmin(np.abs(heights - heights[-1] / 2))) + 1
    sides = [side for side in (groups[:cut], groups[cut:]) if side]
    tallest = max(sum(len(rows) + 1.4 for _, rows in side) for side in sides)
    size = (1.55 * width(), 0.165 * tallest + 1.5)
    figure = Figure(figsize=size, layout="constrained")
    for axes, side in zip(
        figure.subplots(1, len(sides), squeeze=False)[0], sides, strict=True
    ):
        for j, heading in enumerate(headings):
            axes.text(j + 0.5, -0.3, heading, ha="center", va="bottom", fontsize=7)
        level = 0.0
        for title, rows in side:
            axes.text(
                -3.4, level + 0.75, title, fontsize=7.5, fontweight="bold", va="center"
            )
            for row, (label, cells) in enumerate(rows):
                top = level + 1.2 + row
                axes.text(-0.1, top + 0.5, label, ha="right", va="center", fontsize=7)
                for j, cell in enumerate(cells):
                    _table_cell(axes, j, top, cell)
            level += len(rows) + 1.4
        axes.set(xlim=(-3.4, len(headings) + 0.05), ylim=(tallest, -1.6))
        axes.set_axis_off()
    return figure


def _table_cell(axes: Axes, left: float, top: float, cell: TableCell) -> None:
    """The second fill takes a quarter on the right."""
    for i, fill in enumerate(cell.fills):
        corner, width = (left + 0.03 + 0.7 * i, top + 0.04), (0.7, 0.24)[i]
        axes.add_patch(Rectangle(corner, width, 0.92, fc=fill, ec="none"))
    if cell.framed:
        axes.add_patch(
            Rectangle(
                (left + 0.03, top + 0.04), 0.94, 0.92, fc="none", ec="#b10000", lw=1.4
            )
        )
    middle = left + (0.38 if cell.fills else 0.5)
    style = {"ha": "center", "va": "center", "fontsize": 6.3, "color": cell.ink}
    axes.text(middle, top + 0.5, cell.text, **style)


def scatter_labels(
    axes: Axes, points: np.ndarray, labels: Sequence[str], colours: Sequence[str]
) -> None:
    """Points [point, 2] with names beside them, moved apart where they would overlap.

    Names are placed in turn, each at the first of several offsets that is free.
    """
    axes.scatter(*points.T, c=list(colours), s=16, zorder=3)
    span = np.maximum(np.ptp(points, axis=0), 1e-9)
    taken: list[tuple[float, float, float]] = [(*p, 0.004) for p in points / span]
    for (x, y), label in zip(points / span, labels, strict=True):
        width = 0.0085 * len(label)
        best, cost = (0.0, 0.0, "left"), np.inf
        for ring in range(1, 12):
            for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
                dx, dy = 0.012 * ring * np.cos(turn), 0.016 * ring * np.sin(turn)
                left = x + dx if dx >= 0 else x + dx - width
                clash = sum(
                    left < cx + cw and cx < left + width and abs(cy - y - dy) < 0.018
                    for cx, cy, cw in taken
                )
                if clash + 0.05 * ring < cost:
                    side = "left" if dx >= 0 else "right"
                    best, cost = (dx, dy, side), clash + 0.05 * ring
        dx, dy, side = best
        left = x + dx if side == "left" else x + dx - width
        taken.append((left, y + dy, width))
        axes.annotate(
            label,
            (x * span[0], y * span[1]),
            ((x + dx) * span[0], (y + dy) * span[1]),
            ha=side,
            va="center",
            fontsize=6.5,
            color="#222222",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "lw": 0.4, "shrinkB": 2},
        )


def direct_labels(axes: Axes, at: Sequence[float]) -> None:
    """Names on the curves themselves, along them and in their colours: no legend.

    Args:
        axes: with labelled lines.
        at: share of each one's points before its name, in [0, 1].
    """
    from labellines import labelLine

    style: Any = {"outline_width": 6, "fontsize": mpl.rcParams["legend.fontsize"]}
    named = [x for x in axes.get_lines() if not str(x.get_label()).startswith("_")]
    for line, share in zip(named, at, strict=True):
        x, y = (np.asarray(values, float) for values in line.get_data())
        defined = x[np.isfinite(y)]
        if len(defined) > 1:  # rounding may take a name at an end off the curve
            place = np.clip(share, 0.01, 0.99) * (len(defined) - 1)
            x = np.interp(place, np.arange(len(defined)), defined)
            labelLine(line, x, align=True, **style)


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """One legend for the whole figure, below it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, handlelength=3.2
    )


def note(figure: Figure, text: str) -> None:
    """Of how many units the marks are, and what bands show: small, over the legend.

    Below the figure where it has no legend of its own.
    """
    lines = textwrap.fill(text, int(22 * figure.get_figwidth()))
    style = {"size": 6.5, "color": "#555555"}
    for legend in figure.legends:
        legend.set_title(lines)
        legend.get_title().set(**style, gid=NOTE)
        return
    added = 0.13 * (1 + lines.count("\n"))  # inches
    figure.set_figheight(figure.get_figheight() + added)
    share = added / figure.get_figheight()
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, share, 1, 1 - share))
    figure.text(0.006, 0.3 * share, lines, **style, va="bottom", gid=NOTE)


def medians(count: int, units: str = "seeds", *, bands: bool = True) -> str:
    """The usual note.

    >>> medians(10)
    'Medians of 10 seeds, with their 95 % bootstrap intervals.'
    """
    intervals = ", with their 95 % bootstrap intervals" if bands else ""
    return f"Medians of {count:,} {units}{intervals}."


def write(figure: Figure, kind: str) -> bytes:
    """The figure as `png`, `pdf` or `svg`, the same bytes for the same figure.

    The ids of an SVG's clips are hashes of the layout, whose last bits may differ between
    processes. A PNG has 96 colours and at most 1,250 pixels across, for git keeps every
    version.
    """
    from PIL import Image

    out = io.BytesIO()
    if kind != "png":
        dated = {"pdf": "CreationDate", "svg": "Date"}[kind]
        figure.savefig(out, format=kind, metadata={dated: None})
        return out.getvalue()
    figure.savefig(out, format="png", dpi=min(130, 1250 / figure.get_figwidth()))
    small = io.BytesIO()
    full = Image.open(out).convert("RGB")
    method = Image.Quantize.FASTOCTREE
    few = full.quantize(96, method=method, dither=Image.Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()
