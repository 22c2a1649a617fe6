"""Records as the page's explorer draws them: labelled arrays of medians with bands.

Every variable of a published record file becomes one array over its axes. Units of
resampling (seeds, and what else an experiment draws anew) are reduced to the median and
its 95 % bootstrap band, as in the figures. Angles are in degrees.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from study import results, spec, statistics
from study.catalogue import Catalogue
from study.errors import UserError
from study.optimizers import OPTIMIZERS
from study.problems import PROBLEMS

UNITS = (
    "seed",
    "selection_seed",
    "selection",
    "instance",
    "net",
    "sequence",
    "draw",
    "start",
)
"""Axes whose places are drawn anew, where they are numbered or have no coordinate."""
ANGLES = ("angle", "rescaling_angle")
"""Metrics stored in radians everywhere, whether or not an experiment says so again."""
NAMELESS = 300
"""Places of an axis without coordinate beyond which nobody could pick one."""
PARTS = 500
"""Positions whose bootstrap is taken at once, to bound memory."""
SYMBOLS = {"theta": "θ", "eta": "η", "langle": "⟨", "rangle": "⟩", "mathrm": ""}


def read(folder: Path) -> dict[str, Any] | None:
    """Axes, variables and selected rates of a folder for JSON; None without records.

    Raises:
        UserError: the records are damaged.
    """
    if not (folder / results.PUBLISHED).exists():
        return None
    dataset = results.load(folder)
    drawn = (_variable(dataset, str(name)) for name in dataset.data_vars)
    variables = [variable for variable in drawn if variable]
    used = sorted({axis for variable in variables for axis in variable["axes"]})
    found = {"axes": {a: _axis(dataset, a) for a in used}, "variables": variables}
    rates = dataset.coords.get("selected_rate")
    if rates is not None and rates.dims == ("problem", "optimizer"):
        found["rates"] = plain(rates.values)
    return found if variables else None


def plain(values: np.ndarray) -> Any:
    """Nested lists for JSON: four digits, None for NaN and words for infinity."""
    if values.ndim:
        return [plain(part) for part in values]
    value = float(values)
    if not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.4g}")


def readable(label: str) -> str:
    """A figure's label without its mathematical markup, such as `|u| / |ηg|`."""
    text = re.sub(
        r"\\([a-z]+)( ?)", lambda name: SYMBOLS.get(name[1], name[1] + name[2]), label
    )
    return re.sub(r"[${}\\]", "", text.replace("_", " "))


def reduce(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median and band over units, on each problem over the units that it has.

    Args:
        values: [unit, problem, ...]; NaN at every place of a problem is a missing unit.

    Returns:
        Median, lower and upper limit [problem, ...]; NaN where a unit has no value.
    """
    out = np.full((3, *values.shape[1:]), np.nan)
    for problem in range(values.shape[1]):
        part = values[:, problem].reshape(len(values), -1)
        part = part[~np.isnan(part).all(1)]
        some = np.flatnonzero(~np.isnan(part).all(0)) if len(part) else np.zeros(0, int)
        flat = out[:, problem].reshape(3, -1)
        for begin in range(0, len(some), PARTS):
            places = some[begin : begin + PARTS]
            flat[0, places] = np.median(part[:, places], axis=0)
            flat[1:, places] = statistics.band(part[:, places])
        out[:, problem] = flat.reshape(out[:, problem].shape)
    return out[0], out[1], out[2]


def _variable(dataset: xr.Dataset, name: str) -> dict[str, Any] | None:
    """One variable over [problem, ...]; None where there is nothing to draw."""
    array = dataset[name].reset_coords(drop=True)
    if array.dtype.kind not in "iuf" or array.size < 2 or "problem" not in dataset.coords:
        return None
    if "problem" not in array.dims:  # only one problem has it
        array = array.expand_dims({"problem": [array.attrs.get("problem", "")]})
        array = array.reindex(problem=dataset.problem.values)
    units = [str(axis) for axis in array.dims if _drawn_anew(dataset, str(axis))]
    axes = [str(a) for a in array.dims if a not in (*units, "limit", "problem")]
    axes = ["problem", *axes]
    if any(a not in dataset.coords and dataset.sizes[a] > NAMELESS for a in axes):
        return None
    banded = "limit" in array.dims
    array = array.transpose(*units, *["limit"] * banded, *axes)
    values = array.values.astype(np.float64)
    radian = array.attrs.get("units") == "radian" or name.removesuffix("_by_leaf") in ANGLES
    if radian:
        values = np.degrees(values)
    n = int(np.prod([array.sizes[unit] for unit in units]))
    if units and not banded:
        values = np.stack(reduce(values.reshape(n, *values.shape[len(units) :])))
    elif not units and banded and values.shape[0] == 3:
        limits = dataset.limit.values.tolist() if "limit" in dataset.coords else []
        order = (
            [limits.index(k) for k in ("median", "low", "high")] if limits else [0, 1, 2]
        )
        values = values[order]
    elif not units:
        values = values[None]
    else:
        return None
    if not np.isfinite(values[0]).any():
        return None
    return {
        "name": name,
        "label": readable(array.attrs.get("long_name") or name),
        "unit": "degrees" if radian else "",
        "log": bool(int(array.attrs.get("log", 0))),
        "axes": axes,
        "units": " by ".join(f"{array.sizes[u]} {u.replace('_', ' ')}s" for u in units),
        **dict(zip(("median", "low", "high"), map(plain, values), strict=False)),
    }


def _drawn_anew(dataset: xr.Dataset, axis: str) -> bool:
    numbered = axis not in dataset.coords or dataset[axis].dtype.kind in "iu"
    return axis in UNITS and numbered


def _axis(dataset: xr.Dataset, name: str) -> dict[str, Any]:
    """An axis with its places: numbers, or strings with labels and colours."""
    label = {"evaluation": "updates"}.get(name, name.replace("_", " "))
    if name not in dataset.coords:
        places = np.arange(dataset.sizes[name])
        return {"label": label, "numeric": True, "values": plain(places)}
    values = dataset[name].values
    if values.dtype.kind in "iuf":
        return {"label": label, "numeric": True, "values": plain(values)}
    strings = [str(text) for text in values]
    entries = [_entry(OPTIMIZERS, s) or _entry(PROBLEMS, s) for s in strings]
    titles = [
        getattr(entry, "title", None) or getattr(entry, "label", text)
        for entry, text in zip(entries, strings, strict=True)
    ]
    return {
        "label": label,
        "numeric": False,
        "values": strings,
        "labels": [
            text if titles.count(title) > 1 else title
            for title, text in zip(titles, strings, strict=True)
        ],
        "colours": [getattr(entry, "colour", None) for entry in entries],
    }


def _entry(catalogue: Catalogue[Any], text: str) -> Any:
    """The entry that a stored string names, None where it names none."""
    try:
        return catalogue.parse(text, spec.construct)
    except UserError:
        return None
