"""Averages of gradients: what rules keep, and the counterparts of those that rescale."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Transformation = optax.GradientTransformation


class Counted(NamedTuple):
    """Steps done, and averages: trees shaped like params."""

    steps: jax.Array
    averages: tuple[Any, ...]


def averages(number: int, rule: Any) -> Transformation:
    """A transformation over `number` averages that start at 0.

    Args:
        number: of averages.
        rule: (t, g, *averages) -> (update, averages), t counting from 1.
    """

    def init(params: optax.Params) -> Counted:
        zeros = tuple(optax.tree.zeros_like(params) for _ in range(number))
        return Counted(jnp.zeros([], jnp.int32), zeros)

    def update(
        updates: optax.Updates, state: Counted, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Counted]:
        del params
        count = state.steps + 1
        update, averages = rule(count, updates, *state.averages)
        return update, Counted(count, averages)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def blend(decay: Any, average: Any, new: Any) -> Any:
    """Decay * average + (1 - decay) * new."""
    return jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, average, new)


def over(tree: Any, divisor: Any) -> Any:
    """Tree / divisor, a scalar, in the dtype of each leaf."""
    return jax.tree.map(lambda x: (x / divisor).astype(x.dtype), tree)


def interpolated_average(b1: float, b2: float) -> Transformation:
    """C = b1 mu + (1 - b1) g, where mu <- b2 mu + (1 - b2) g afterwards, mu_0 = 0.

    The vector whose sign Lion takes (Chen et al. 2023, arXiv:2302.06675, Algorithm 2);
    `optax.scale_by_lion` is sign(c).
    """
    return averages(1, lambda t, g, m: (blend(b1, m, g), (blend(b2, m, g),)))


def nesterov_average(b1: float) -> Transformation:
    """B1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t), m <- b1 m + (1 - b1) g.

    The numerator of `optax.scale_by_adam` with `nesterov` (Dozat 2016).
    """

    def rule(t: Any, g: Any, m: Any) -> Any:
        m = blend(b1, m, g)
        ahead, now = over(m, 1 - b1 ** (t + 1)), over(g, 1 - b1**t)
        return blend(b1, ahead, now), (m,)

    return averages(1, rule)


def two_averages(b1: float, b3: float, alpha: float) -> Transformation:
    """M1 / (1 - b1^t) + alpha m2, averages with decays b1 and b3.

    The numerator of `optax.contrib.scale_by_ademamix` (arXiv:2409.03137).
    """

    def rule(t: Any, g: Any, fast: Any, slow: Any) -> Any:
        fast, slow = blend(b1, fast, g), blend(b3, slow, g)
        update = optax.tree.add_scale(over(fast, 1 - b1**t), alpha, slow)
        return update, (fast, slow)

    return averages(2, rule)


def difference_average(b1: float, b2: float) -> Transformation:
    """M / (1 - b1^t) + (1 - b2) v / (1 - b2^t), v averaging g_t - g_(t-1), 0 at first.

    The numerator of `optax.scale_by_adan` (arXiv:2208.06677).
    """

    def rule(t: Any, g: Any, m: Any, v: Any, last: Any) -> Any:
        change = jax.tree.map(lambda a, b: jnp.where(t == 1, 0, a - b), g, last)
        m, v = blend(b1, m, g), blend(b2, v, change)
        update = optax.tree.add_scale(over(m, 1 - b1**t), 1 - b2, over(v, 1 - b2**t))
        return update, (m, v, g)

    return averages(3, rule)
