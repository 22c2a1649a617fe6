"""How far a rule's updates on a transformed stream are from what a symmetry predicts.

A transformation is a matrix M of the space of all elements. An invariant rule gives the
same updates on M g as on g, at the same parameters; an equivariant one gives M u on M g at
parameters M theta. All transformed streams, and constant gradients of many sizes, go
through the rule side by side in one program.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import block_diag
from scipy.stats import ortho_group

from study import devices, streams, train
from study.optimizers import SYMMETRIES, Optimizer
from study.problems import ReluRegression
from study.streams import Stream

FACTOR = 1e3
"""On the loss."""
LEAF_FACTORS = (37.0, 0.02)
"""On the gradients of the first and second leaf, in turn."""
SPREAD = 1e2
"""Elements are multiplied by factors from 1 / SPREAD to SPREAD, log-uniform."""
SCALES = 10.0 ** (np.arange(-80, 17) / 4)
"""Sizes of the constant gradients, 1e-20 to 1e4."""
LATE = 10
"""The last steps, of which the largest error counts."""
EXACT, SMALL = 1e-10, 0.1
"""Largest errors of `yes` and of `approximate`."""
SAME_LAW = 0.15
"""Largest |log| of the ratio of two noise variances that pass for one law."""

OPEN_LOOP = tuple(name for name in SYMMETRIES if name != "layer_rescaling")


class Change(NamedTuple):
    """A transformation of a stream.

    Attributes:
        matrix: M [element, element], on gradients.
        loss: the factor on the loss.
        equivariant: parameters are transformed too, and so the predicted updates.
    """

    matrix: np.ndarray
    loss: float = 1.0
    equivariant: bool = False


def changes(shapes: list[tuple[int, ...]], seed: int) -> dict[str, Change]:
    """One transformation for each of OPEN_LOOP, on leaves of these shapes.

    Args:
        shapes: of the leaves; matrices are the leaves of two axes.
        seed: of factors, permutation and rotations (Haar).
    """
    random = np.random.default_rng(seed)
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = sum(sizes)
    factors = SPREAD ** random.uniform(-1, 1, total)
    by_leaf = np.resize(LEAF_FACTORS, len(sizes))
    rotate = lambda n: np.asarray(ortho_group.rvs(n, random_state=random))  # noqa: E731
    blocks = [
        np.kron(rotate(shape[0]), rotate(shape[1])) if len(shape) == 2 else np.eye(size)
        for shape, size in zip(shapes, sizes, strict=True)
    ]
    order = random.permutation(total)
    return {
        "loss_factor": Change(FACTOR * np.eye(total), loss=FACTOR),
        "element": Change(np.diag(factors)),
        "leaf": Change(np.diag(np.repeat(by_leaf, sizes))),
        "permutation": Change(np.eye(total)[order], equivariant=True),
        "rotation": Change(rotate(total), equivariant=True),
        "matrix_rotation": Change(np.asarray(block_diag(*blocks)), equivariant=True),
    }


def measure(
    optimizer: Optimizer, learning_rate: float, stream: Stream, seed: int
) -> dict[str, np.ndarray]:
    """Errors, degree and floor of a rule on one stream, float64.

    Args:
        optimizer: the rule.
        learning_rate: of all steps.
        stream: of gradients, float64.
        seed: of the transformations.

    Returns:
        error: |u' - u_predicted| / |u_predicted| [symmetry, moment]: at the first step
            that moves, and the largest of the last ones; inf where u' alone is not
            finite, NaN where u_predicted is not.
        angle: between u' and u_predicted [symmetry, moment], radians.
        degree: log(|u'| / |u|) / log(FACTOR), the median of the last steps [].
        floor: see `Theory.floor` [].
        slope: d log |u| / d log s at the floor [].
        lengths: |u| on constant gradients, at the last step [scale].
        same_law: |log| of the ratio of noise variances [symmetry]; NaN without noise,
            inf where the rule without its noise lacks the symmetry.
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(stream.params)]
    transformed = changes(shapes, seed)
    variants = _stack([stream, *(_change(stream, c) for c in transformed.values())])
    constant = _stack([_constant(stream, scale) for scale in SCALES])
    together = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), variants, constant)
    found = _run(optimizer, learning_rate, together)
    plain, rest, lengths = found[0], found[1 : len(OPEN_LOOP) + 1], found[-len(SCALES) :]
    errors, angles = np.empty((2, len(OPEN_LOOP), 2))
    for i, change in enumerate(transformed.values()):
        predicted = plain @ change.matrix.T if change.equivariant else plain
        errors[i], angles[i] = _compare(rest[i], predicted)
    norms = np.linalg.norm(found[:2], axis=-1)[:, -LATE:]
    with np.errstate(all="ignore"):
        degree = np.median(np.log(norms[1] / norms[0])) / np.log(FACTOR)
    lengths = np.linalg.norm(lengths[:, -1], axis=-1)
    floor, slope = find_floor(lengths)
    return {
        "error": errors,
        "angle": angles,
        "degree": np.asarray(degree),
        "floor": np.asarray(floor),
        "slope": np.asarray(slope),
        "lengths": lengths,
        "same_law": _same_law(optimizer, learning_rate, variants, found, transformed),
    }


def layer_rescaling(
    optimizer: Optimizer,
    learning_rate: float,
    problem: ReluRegression,
    balance: float,
    steps: int,
    seed: int,
) -> float:
    """|f' - f| / |f - f_0| after training from two starts of the same function f_0.

    f' starts with the first layer multiplied and the second divided by `balance`. inf
    where f' alone is not finite, NaN where f is not or has not moved.
    """
    data = jax.tree.map(jnp.asarray, problem.data())
    keys = train.keys(jnp.asarray(seed, jnp.int32))
    rescaled = dataclasses.replace(problem, balance=problem.balance * balance)
    zero = jnp.asarray(0, jnp.int32)
    starts = _stack([problem.init(keys.init), rescaled.init(keys.init)])

    def trained(params):
        kind = problem.state_dtype
        state = train.start(optimizer, learning_rate, params, shadowed=False, dtype=kind)
        after, _ = train.segment(
            problem,
            optimizer,
            (),
            steps,
            steps,
            data,
            learning_rate,
            keys.data,
            state,
            zero,
        )
        return problem.outputs(after.params, data[0])

    start = np.asarray(problem.outputs(problem.init(keys.init), data[0]))
    plain, other = np.asarray(devices.jit(jax.vmap(trained))(starts))
    return float(_relative(other - start, plain - start))


def outcome(first: float, late: float, same_law: float = np.nan) -> str:
    """One of OUTCOMES from errors at the first and the last steps."""
    if np.isnan(first) or np.isnan(late):
        return "undefined"
    if max(first, late) <= EXACT:
        return "yes"
    if same_law <= SAME_LAW:
        return "in law"
    if max(first, late) <= SMALL:
        return "approximate"
    if first <= SMALL:
        return "early"
    if late <= SMALL:
        return "late"
    return "no"


def find_floor(lengths: np.ndarray) -> tuple[float, float]:
    """The scale at which |u| falls to half of its plateau, and the log-log slope there.

    Args:
        lengths: |u| [scale], at SCALES.

    Returns:
        (NaN, NaN) if |u| still grows at the largest scales, or is not finite there;
        (0, NaN) if it never falls to half.
    """
    top = lengths[-5:]
    if not np.all(np.isfinite(top)) or not top[-1] or top[-1] > 1.25 * top[0]:
        return np.nan, np.nan
    below = np.flatnonzero(~(lengths > lengths[-1] / 2))
    if not len(below):
        return 0.0, np.nan
    low = below[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.log(SCALES[low : low + 2]), np.log(lengths[low : low + 2])
        slope = (y[1] - y[0]) / (x[1] - x[0])
        place = x[0] + (np.log(lengths[-1] / 2) - y[0]) / slope
    return float(np.exp(place)), float(slope)


def _run(optimizer: Optimizer, learning_rate: float, many: Stream) -> np.ndarray:
    """Updates [variant, step, element] of a stack of streams."""

    def one(stream: Stream) -> jax.Array:
        return streams.vector(streams.updates(optimizer, learning_rate, stream))

    return np.asarray(devices.jit(jax.vmap(one))(many))


def _change(stream: Stream, change: Change) -> Stream:
    matrix = jnp.asarray(change.matrix)
    move = lambda tree, axes: streams.tree_like(  # noqa: E731
        streams.vector(tree, axes) @ matrix.T, stream.params
    )
    return Stream(
        move(stream.params, 0) if change.equivariant else stream.params,
        move(stream.grads, 1),
        stream.values * change.loss,
        stream.curvature * change.loss,
    )


def _constant(stream: Stream, scale: float) -> Stream:
    return Stream(
        stream.params,
        jax.tree.map(lambda g: jnp.full_like(g, scale), stream.grads),
        jnp.full_like(stream.values, scale),
        jnp.full_like(stream.curvature, scale),
    )


def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _compare(found: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and angles [moment] of updates [step, element]."""
    moves = np.flatnonzero(np.any(predicted != 0, axis=-1))
    first = moves[0] if len(moves) else 0
    pairs = [(found[first], predicted[first])]
    pairs += list(zip(found[-LATE:], predicted[-LATE:], strict=True))
    errors = np.array([_relative(a, b) for a, b in pairs])
    angles = np.array([_angle(a, b) for a, b in pairs])
    return (
        np.array([errors[0], errors[1:].max()]),
        np.array([angles[0], angles[1:].max()]),
    )


def _relative(found: np.ndarray, predicted: np.ndarray) -> float:
    if not np.all(np.isfinite(predicted)) or not np.any(predicted):
        return np.nan
    if not np.all(np.isfinite(found)):
        return np.inf
    return float(np.linalg.norm(found - predicted) / np.linalg.norm(predicted))


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        x, y = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(2 * np.arctan2(np.linalg.norm(x - y), np.linalg.norm(x + y)))


def _same_law(
    optimizer: Optimizer,
    learning_rate: float,
    variants: Stream,
    found: np.ndarray,
    transformed: dict[str, Change],
) -> np.ndarray:
    quiet = optimizer.without_noise()
    ratios = np.full(len(transformed), np.nan)
    if quiet == optimizer:
        return ratios
    still = _run(quiet, learning_rate, variants)
    noise = found[: len(still)] - still
    for i, change in enumerate(transformed.values()):
        predicted, own = still[0], noise[0]
        if change.equivariant:
            predicted, own = predicted @ change.matrix.T, own @ change.matrix.T
        lacks = _compare(still[i + 1], predicted)[0].max() > EXACT
        ratio = np.abs(np.log(np.var(noise[i + 1]) / np.var(own)))
        ratios[i] = np.inf if lacks else ratio
    return ratios
