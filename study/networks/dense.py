"""Networks of dense layers."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from study.networks.boundary import ACTIVATIONS, INITIALISATIONS
from study.types import Array, Key


class MLP(nnx.Module):
    """`depth` hidden layers of equal width, and a linear read-out; zero biases."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        activation: str,
        initialisation: str,
        gain: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        initialise = INITIALISATIONS[initialisation]()

        def kernel(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
            return jnp.asarray(gain, dtype) * initialise(key, shape, dtype)

        sizes = [inputs, *[width] * depth, outputs]
        self.activation = ACTIVATIONS[activation]
        self.layers = nnx.List(
            nnx.Linear(
                into,
                out,
                dtype=dtype,
                param_dtype=dtype,
                kernel_init=kernel,
                precision=jax.lax.Precision.HIGHEST,
                rngs=rngs,
            )
            for into, out in itertools.pairwise(sizes)
        )

    def __call__(self, x: Array) -> Array:
        """Logits [..., outputs] of inputs [..., inputs]."""
        *hidden, readout = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return readout(x)
