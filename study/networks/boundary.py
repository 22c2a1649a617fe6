"""The boundary of all networks, and what they are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from study.types import Array, Key, Params

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    # The usual approximation has the derivative NaN at large inputs.
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "linear": lambda x: x,
}


def _orthogonal() -> Callable[..., Array]:
    """Orthogonal matrices, one after the other: a batch of QRs can wait forever on CPU."""
    law = jax.nn.initializers.orthogonal()

    def draw(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.custom_batching.sequential_vmap(lambda key: law(key, shape, dtype))(key)

    return draw


INITIALISATIONS: dict[str, Callable[[], Callable[..., Array]]] = {
    "lecun": jax.nn.initializers.lecun_normal,  # variance 1 / fan_in
    "he": jax.nn.initializers.he_normal,  # variance 2 / fan_in
    "glorot": jax.nn.initializers.glorot_normal,  # 2 / (fan_in + fan_out)
    "orthogonal": _orthogonal,
}


class Network(NamedTuple):
    """A network as two pure functions."""

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Array]


def functional(make: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """The pure functions of the module that `make(rngs)` builds."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(key))))

    def apply(params: Params, x: Array) -> Array:
        return nnx.merge(graph, params)(x)  # type: ignore[operator]

    return Network(init, apply)
