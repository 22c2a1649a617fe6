"""The catalogue of optimizers, by what is rescaled.

`scalar` and `averaging`: the whole vector by one number, or nothing. `elementwise` and
`adam`: each element by its own history. `sign`: each element to the same length.
`tensorwise`: leaf by leaf, or by rows and columns. `matrix`: spectrum and curvature.
`steplength`: rules that look for a step length. `wrappers`: rules around others. An
optimizer of your own is a subclass of `Optimizer` under `@OPTIMIZERS.register`, in any
module.
"""

from typing import Any

from study.optimizers import (
    adam,
    averaging,
    elementwise,
    matrix,
    scalar,
    sign,
    steplength,
    tensorwise,
    wrappers,
)
from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.theory import OUTCOMES, SYMMETRIES, Theory

__all__ = [
    "EXCLUDED",
    "OPTIMIZERS",
    "OUTCOMES",
    "SYMMETRIES",
    "Optimizer",
    "Theory",
    "adam",
    "averaging",
    "elementwise",
    "matrix",
    "scalar",
    "sign",
    "steplength",
    "tensorwise",
    "wrappers",
]

EXCLUDED = {
    "optimistic_adam": "deprecated; optimistic_adam_v2 is in",
    "contrib.schedule_free": "the scheme of schedule_free_sgd and _adamw, which are in",
    "contrib.split_real_and_imaginary": "for complex parameters",
}
"""Optimizers that Optax exports and the catalogue leaves out, with the reason."""


def __getattr__(name: str) -> Any:
    """Every entry by its class name: `from study.optimizers import Adam`."""
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
