"""A small causal transformer."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from study.networks.boundary import ACTIVATIONS
from study.types import Array

SIZE = 0.02
"""Standard deviation of the initial kernels, as GPT-2 has it."""


class Transformer(nnx.Module):
    """Tokens in, logits of the next token out: pre-norm blocks, causal attention.

    GPT-2 (Radford et al. 2019) in small: learned positions, GELU, layer normalisation
    before each half of a block and before the read-out, whose kernel is not that of the
    embedding. Kernels are normal with standard deviation 0.02, those that end in the
    residual stream with 0.02 / sqrt(2 depth); biases start at 0. All kernels are matrices.
    """

    def __init__(
        self,
        tokens: int,
        *,
        context: int,
        width: int,
        depth: int,
        heads: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        normal = nnx.initializers.normal(SIZE)
        embed = functools.partial(
            nnx.Embed, dtype=dtype, param_dtype=dtype, embedding_init=normal, rngs=rngs
        )
        self.token, self.position = embed(tokens, width), embed(context, width)
        self.blocks = nnx.List(
            Block(width, heads=heads, depth=depth, dtype=dtype, rngs=rngs)
            for _ in range(depth)
        )
        self.norm = _norm(width, dtype, rngs)
        self.readout = _linear(width, tokens, SIZE, dtype, rngs)

    def __call__(self, tokens: Array) -> Array:
        """Logits [batch, place, token] of tokens [batch, place], integers."""
        places = jnp.arange(tokens.shape[-1])
        x = self.token(tokens) + self.position(places)[None]
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, width: int, *, heads: int, depth: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.heads, ending = heads, SIZE / (2 * depth) ** 0.5
        self.first, self.second = (_norm(width, dtype, rngs) for _ in range(2))
        self.query, self.key, self.value = (
            _linear(width, width, SIZE, dtype, rngs) for _ in range(3)
        )
        self.output = _linear(width, width, ending, dtype, rngs)
        self.up = _linear(width, 4 * width, SIZE, dtype, rngs)
        self.down = _linear(4 * width, width, ending, dtype, rngs)

    def __call__(self, x: Array) -> Array:
        """The stream [batch, place, width]."""
        inside = self.first(x)
        shape = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        q, k, v = (f(inside).reshape(shape) for f in (self.query, self.key, self.value))
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.reshape(x.shape))
        return x + self.down(ACTIVATIONS["gelu"](self.up(self.second(x))))


def _norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, dtype=dtype, param_dtype=dtype, rngs=rngs)


def _linear(
    into: int, out: int, size: float, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Linear:
    return nnx.Linear(
        into,
        out,
        dtype=dtype,
        param_dtype=dtype,
        kernel_init=nnx.initializers.normal(size),
        rngs=rngs,
    )
