"""Names for what passes between modules. Imports no jax at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import jax

Array: TypeAlias = "jax.Array"
Key: TypeAlias = "jax.Array"  # a typed PRNG key, shape []
Scalar: TypeAlias = "jax.Array | float"

Params: TypeAlias = Any  # a pytree of floating arrays, theta
Update: TypeAlias = Any  # the same structure: what is added to params
Data: TypeAlias = Any  # a pytree of arrays that a problem draws its batches from
Batch: TypeAlias = Any  # what one stochastic loss is computed on

AXES = (
    "problem",
    "optimizer",
    "learning_rate",
    "seed",
    "step",
    "evaluation",
    "leaf",
    "layer",
    "quantile",
    "element",
)
"""Dimensions of stored arrays, in this order whenever several occur together."""
