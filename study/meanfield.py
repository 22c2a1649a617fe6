"""Mean field theory of deep networks at their start: what width infinity predicts.

A network of layers z = W phi(z) + b, W elements N(0, sigma_w^2 / n), b elements
N(0, sigma_b^2). Poole et al. (2016), arXiv:1606.05340; Schoenholz et al. (2017),
arXiv:1611.01232. Their q is the variance of the elements of z, chi_1 the factor by which
the squared length of a gradient changes in each layer on its way back. NumPy and SciPy
only; expectations by the midpoint rule, which kinks at 0 and steep slopes do not disturb.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy import special

Function = Callable[[np.ndarray], np.ndarray]

NODES = (np.arange(-12_000, 12_000) + 0.5) / 1_000
WEIGHTS = np.exp(-(NODES**2) / 2)
WEIGHTS /= WEIGHTS.sum()


def _gelu_slope(z: np.ndarray) -> np.ndarray:
    return special.ndtr(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (special.expit, lambda z: special.expit(z) * special.expit(-z)),
    "gelu": (lambda z: z * special.ndtr(z), _gelu_slope),
}
"""phi and its derivative."""


def length(q: float, activation: str, sigma_w: float, sigma_b: float = 0.0) -> float:
    """The length map: q of the next layer, sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2."""
    phi, _ = ACTIVATIONS[activation]
    return float(sigma_w**2 * (WEIGHTS @ phi(np.sqrt(q) * NODES) ** 2) + sigma_b**2)


def fixed_point(
    activation: str, sigma_w: float, sigma_b: float = 0.0, q: float = 1.0
) -> float:
    """q*, where the length map leaves q as it is, reached from `q`.

    0 where lengths shrink to nothing, inf where they grow without bound, `q` itself where
    every length is a fixed point (linear at sigma_w = 1, ReLU at sqrt 2).
    """
    for _ in range(20_000):
        after = length(q, activation, sigma_w, sigma_b)
        if not 1e-12 < after < 1e12:
            return 0.0 if after <= 1e-12 else np.inf
        if abs(after - q) <= 1e-12 * q:
            break
        q = after
    return q


@functools.lru_cache(maxsize=1024)  # near criticality lengths settle slowly
def gradient_factor(
    activation: str, sigma_w: float, sigma_b: float = 0.0, q: float = 1.0
) -> float:
    """chi_1 = sigma_w^2 E[phi'(sqrt(q*) z)^2]: squared gradients per layer; 1 is critical.

    Below 1 gradients vanish, above 1 they explode. The depth scale is 1 / |log chi_1|.
    A homogeneous phi has the same slopes, and so the same chi_1, at any q.
    """
    _, slope = ACTIVATIONS[activation]
    at = q
    if activation not in ("relu", "linear"):
        at = min(fixed_point(activation, sigma_w, sigma_b, q), 1e12)
    return float(sigma_w**2 * (WEIGHTS @ slope(np.sqrt(at) * NODES) ** 2))


def depth_scale(activation: str, sigma_w: float, sigma_b: float = 0.0) -> float:
    """Xi = 1 / |log chi_1|, layers in which squared gradients change by a factor e."""
    rate = abs(np.log(gradient_factor(activation, sigma_w, sigma_b)))
    return float(1 / rate) if rate > 0 else np.inf
