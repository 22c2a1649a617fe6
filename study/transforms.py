"""The study's own Optax transformations: what the measurements need and Optax lacks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import optax


class InterpolatedAverageState(NamedTuple):
    """The exponential average `mu`, a tree shaped like params."""

    mu: optax.Updates


def interpolated_average(b1: float, b2: float) -> optax.GradientTransformation:
    """C = b1 mu + (1 - b1) g, where mu <- b2 mu + (1 - b2) g afterwards, mu_0 = 0.

    The vector whose sign Lion takes (Chen et al. 2023, arXiv:2302.06675, Algorithm 2);
    `optax.scale_by_lion` is sign(c).
    """

    def init(params: optax.Params) -> InterpolatedAverageState:
        return InterpolatedAverageState(optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates,
        state: InterpolatedAverageState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, InterpolatedAverageState]:
        del params
        blend = lambda decay: jax.tree.map(  # noqa: E731
            lambda g, m: decay * m + (1 - decay) * g, updates, state.mu
        )
        return blend(b1), InterpolatedAverageState(blend(b2))

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]
