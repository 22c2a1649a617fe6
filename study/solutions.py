"""Where rules should end: reference solutions by linear and quadratic programming.

NumPy and SciPy only, float64, no optimizer of the study. Each function solves its problem
directly, so that a destination can be compared with where a rule has gone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from study.errors import UserError

Norm = Literal["l2", "linf", "l1"]
NORMS: tuple[Norm, ...] = get_args(Norm)
ORDERS: dict[Norm, float] = {"l2": 2, "linf": np.inf, "l1": 1}


class Margin(NamedTuple):
    """The separator with the largest margin.

    Attributes:
        value: the margin, min x.w over the rows x.
        direction: w [input], of length 1 in its norm.
    """

    value: float
    direction: np.ndarray


def margin(rows: np.ndarray, w: np.ndarray, norm: Norm) -> np.ndarray:
    """Min over rows x of x.w / |w|: positive if w separates.

    Args:
        rows: samples times labels [..., sample, input].
        w: [..., input].
        norm: of w.

    Returns:
        [...]; NaN for w = 0.
    """
    length = np.linalg.norm(w, ord=ORDERS[norm], axis=-1)
    with np.errstate(invalid="ignore"):
        return np.einsum("...si,...i->...s", rows, w).min(-1) / length


def max_margin(rows: np.ndarray, norm: Norm) -> Margin:
    """The w of length 1 for which the smallest x.w is largest.

    l2 as the point of {x.w >= 1} nearest to 0, by non-negative least squares on the dual
    (Lawson & Hanson 1974, ch. 23.4); linf and l1 as linear programs, where w need not be
    unique.

    Args:
        rows: samples times labels [sample, input].
        norm: of w.

    Raises:
        UserError: no w separates the rows.
    """
    rows = np.asarray(rows, np.float64)
    size = float(np.abs(rows).max()) or 1.0  # solvers have absolute tolerances
    solve = {"l2": _nearest, "linf": _in_cube, "l1": _in_cross}[norm]
    w = solve(rows / size)
    length = np.linalg.norm(w, ord=ORDERS[norm])
    direction = w / length if length > 0 else w
    value = float((rows @ direction).min())
    if not value > 0:
        raise UserError(f"max_margin: no w separates these {len(rows)} rows")
    return Margin(value, direction)


def minimum_norm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The shortest w [input] among those with the least |x w - y|, x [sample, input]."""
    return np.linalg.lstsq(x, y, rcond=None)[0]


def ridge(hessian: np.ndarray, optimum: np.ndarray, decay: float) -> np.ndarray:
    """Where (w - optimum).H.(w - optimum) / 2 + decay |w|^2 / 2 is least, [input]."""
    hessian = np.asarray(hessian, np.float64)
    shifted = hessian + decay * np.eye(len(hessian))
    return np.linalg.solve(shifted, hessian @ optimum)


def box_minimum(hessian: np.ndarray, optimum: np.ndarray, bound: float) -> np.ndarray:
    """Where (w - optimum).H.(w - optimum) / 2 is least among |w_i| <= bound, [input].

    Bounded least squares with an active set, so exact up to rounding.

    Args:
        hessian: symmetric, positive semi-definite [input, input].
        optimum: of the quadratic without the box [input].
        bound: half the side of the box, positive.
    """
    from scipy import optimize

    values, vectors = np.linalg.eigh(np.asarray(hessian, np.float64))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    limits = (-bound, bound)
    return optimize.lsq_linear(root, root @ optimum, limits, method="bvls", tol=1e-14).x


def _nearest(rows: np.ndarray) -> np.ndarray:
    """The shortest w with x.w >= 1 for all rows; 0 if there is none."""
    from scipy import optimize

    lifted = np.vstack([rows.T, np.ones(len(rows))])
    target = np.append(np.zeros(rows.shape[1]), 1.0)
    weights, left = optimize.nnls(lifted, target)
    if left < 1e-10:  # a combination of the rows is 0: nothing separates them
        return np.zeros(rows.shape[1])
    residual = lifted @ weights - target
    return -residual[:-1] / residual[-1]


def _in_cube(rows: np.ndarray) -> np.ndarray:
    """The largest g, and w, with x.w >= g and |w_i| <= 1."""
    size = rows.shape[1]
    return _programme(
        np.append(np.zeros(size), -1.0),
        np.hstack([-rows, np.ones((len(rows), 1))]),
        np.zeros(len(rows)),
        [(-1, 1)] * size + [(0, None)],
    )[:-1]


def _in_cross(rows: np.ndarray) -> np.ndarray:
    """The largest g, and w = p - q, with x.w >= g, p and q at least 0, their sum 1."""
    size = rows.shape[1]
    margins = np.hstack([-rows, rows, np.ones((len(rows), 1))])
    total = np.append(np.ones(2 * size), 0.0)
    found = _programme(
        np.append(np.zeros(2 * size), -1.0),
        np.vstack([margins, total]),
        np.append(np.zeros(len(rows)), 1.0),
        [(0, None)] * (2 * size + 1),
    )
    return found[:size] - found[size:-1]


def _programme(
    cost: np.ndarray, left: np.ndarray, right: np.ndarray, bounds: list
) -> np.ndarray:
    """Where cost.z is least, with left z <= right and within bounds."""
    from scipy import optimize

    found = optimize.linprog(cost, left, right, bounds=bounds, method="highs")
    if not found.success:
        raise UserError(f"max_margin: {found.message}")
    return found.x
