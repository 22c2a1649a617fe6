"""The atlas: every optimizer with what it rescales, what it is blind to, whom it resembles.

Stated facts live on the catalogue's entries; measured ones come from three published
experiments, as far as they are there: `symmetries`, `direction_map`, `rescale_elements`.
"""

from __future__ import annotations

import csv
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np

from study import results
from study.cli import SUMMARY
from study.optimizers import OPTIMIZERS, SYMMETRIES, Optimizer
from study.report.explorer import plain

MEASURED = "symmetries"
TURNED, DOSE = "rescale_elements", "element 4"
MAPPED = "direction_map"


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row for each optimizer of the catalogue.

    Args:
        folder: of all published results.

    Returns:
        name, label, colour, group, changes, rule (its formula), degree, floor,
        outcomes (symmetry -> measured, or stated where `measured` is False) and turn
        (degrees under log-normal factors of sigma 4 on each element, NaN unknown).
    """
    outcomes = {row["optimizer"]: row for row in _csv(folder / MEASURED)}
    turns = {
        row["optimizer"]: float(row["value"])
        for row in _csv(folder / TURNED)
        if row["condition"] == DOSE and row["measured"] == "degrees"
    }
    return [
        _row(name, kind, outcomes.get(name), turns.get(name, math.nan))
        for name, kind in OPTIMIZERS.items()
        if kind.theory is not None
    ]


def angles(folder: Path) -> dict[str, Any] | None:
    """Degrees between the updates of all pairs, medians over seeds; None if not mapped.

    Returns:
        `names` and `degrees`, the upper triangle of the matrix row by row.
    """
    place = folder / MAPPED
    if not (place / results.PUBLISHED).exists():
        return None
    stored = results.read_manifest(place)["spec"].get("optimizers", [])
    names = [str(entry.get("class")) for entry in stored]
    dataset = results.load(place)
    if "between" not in dataset or dataset.sizes["pair"] * 2 != len(names) * (
        len(names) - 1
    ):
        return None
    between = np.degrees(dataset.between.isel(problem=0).median("seed").values)
    return {"names": names, "degrees": plain(between)}


def _row(
    name: str, kind: type[Optimizer], found: dict[str, str] | None, turn: float
) -> dict[str, Any]:
    theory = kind.theory
    assert theory is not None
    rule = (inspect.getdoc(kind) or "").partition("\n")[0]
    return {
        "name": name,
        "label": kind.label,
        "colour": kind.colour,
        "group": kind.__module__.rpartition(".")[2],
        "changes": kind.changes,
        "rule": rule,
        "degree": float(found["degree"]) if found else float(theory.degree),
        "floor": float(found["floor"]) if found else theory.floor,
        "outcomes": {
            symmetry: (
                found[f"{symmetry}_default"] if found else theory.stated(symmetry).default
            )
            for symmetry in SYMMETRIES
        },
        "measured": found is not None,
        "turn": turn,
    }


def _csv(folder: Path) -> list[dict[str, str]]:
    path = folder / SUMMARY
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
