"""A recurrent network for texts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from study.networks.patches import dropout
from study.types import Array


class LSTM(nnx.Module):
    """Tokens in, logits of the next token out: layers of long short-term memory.

    Hochreiter & Schmidhuber (1997), as TensorFlow's cell has it: gates in the order input,
    candidate, forget, output, and 1 added to the forget gate. Dropout comes before and
    after each layer, so twice between two. Kernels and embedding are uniform by Glorot's
    law, biases start at 0. The state is zero at the start of every window.
    """

    def __init__(
        self,
        tokens: int,
        *,
        width: int,
        depth: int,
        dropped: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        law = nnx.initializers.glorot_uniform()
        dense = functools.partial(
            nnx.Linear, kernel_init=law, dtype=dtype, param_dtype=dtype, rngs=rngs
        )
        self.embedding = nnx.Embed(
            tokens, width, embedding_init=law, dtype=dtype, param_dtype=dtype, rngs=rngs
        )
        self.layers = nnx.List(dense(2 * width, 4 * width) for _ in range(depth))
        self.readout = dense(width, tokens)
        self.dropped = dropped

    def __call__(self, reading: tuple[Array, Array | None]) -> Array:
        """Logits [window, place, token].

        Args:
            reading: tokens [window, place], and the bits of a key for each window
                [window, 2], None for no dropout.
        """
        tokens, keys = reading
        dropped = functools.partial(dropout, keys=keys, rate=self.dropped)
        x = self.embedding(tokens)
        for i, layer in enumerate(self.layers):
            weights = nnx.to_pure_dict(nnx.state(layer))
            x = _remember(dropped(x, layer=2 * i), weights["kernel"], weights["bias"])
            x = dropped(x, layer=2 * i + 1)
        return self.readout(x)


@functools.partial(jax.jit, inline=True)
def _remember(x: Array, kernel: Array, bias: Array) -> Array:
    """What one layer puts out [window, place, width] of its inputs, of the same shape."""
    width = x.shape[-1]
    told = x @ kernel[:width] + bias[None, None]

    def step(state: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], Array]:
        output, memory = state
        gates = now + output @ kernel[width:]
        let, candidate, keep, show = jnp.split(gates, 4, -1)
        memory = jax.nn.sigmoid(keep + 1) * memory + jax.nn.sigmoid(let) * jnp.tanh(
            candidate
        )
        output = jax.nn.sigmoid(show) * jnp.tanh(memory)
        return (output, memory), output

    zero = jnp.zeros_like(x[:, 0])
    return jax.lax.scan(step, (zero, zero), told.swapaxes(0, 1))[1].swapaxes(0, 1)
