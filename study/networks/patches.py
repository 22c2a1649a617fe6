"""Convolutions as products of patches with a matrix, and dropout by the example.

Inside a scan XLA's own convolutions run on one core and without its fast kernels: measured
with jaxlib 0.10.2 on CPU, a step of 2c2d on 128 images took 2.8 s with them and 0.2 s with
products of patches. Over runs with weights of their own, products are batched where
convolutions become grouped ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from study.types import Array, Key

Initial = Callable[[Key, tuple[int, ...], jnp.dtype], Array]
Pads = tuple[tuple[int, int], tuple[int, int]]


def truncated_normal(size: float) -> Initial:
    """TensorFlow's: normal, no draw beyond two deviations, and not rescaled for that."""

    def draw(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        return size * jax.random.truncated_normal(key, -2, 2, shape, dtype)

    return draw


class Convolution(nnx.Module):
    """A kernel [row, column, in, out] over images [batch, row, column, in], and biases."""

    def __init__(
        self,
        size: int,
        into: int,
        out: int,
        *,
        padding: Literal["same", "valid", "transposed"] = "same",
        stride: int = 1,
        kernel: Initial,
        bias: float = 0.0,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (size, size, into, out)
        self.kernel = nnx.Param(kernel(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.full((out,), bias, dtype))
        self.padding, self.stride = padding, stride

    def __call__(self, x: Array) -> Array:
        """Images [batch, row, column, out], as TensorFlow pads them.

        `transposed` is the transpose of a convolution of this stride with padding `same`:
        it makes images larger.
        """
        kernel, stride = self.kernel[...], self.stride
        rest = kernel.shape[0] - stride  # of a patch beyond the next one's first pixel
        if self.padding == "valid":
            pads = ((0, 0),) * 2
        elif self.padding == "transposed":
            gaps = [(0, 0, 0), *[(0, 0, stride - 1)] * 2, (0, 0, 0)]
            x, last = jax.lax.pad(x, jnp.zeros((), x.dtype), gaps), kernel.shape[0] - 1
            pads = ((last - rest // 2, last - (rest - rest // 2)),) * 2
            stride = 1
        else:
            pads = tuple(_same(length, kernel.shape[0], stride) for length in x.shape[1:3])
        return (
            convolve(x, kernel, (pads[0], pads[1]), stride)
            + self.bias[...][None, None, None]
        )


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    short = max((-(-length // stride) - 1) * stride + size - length, 0)
    return short // 2, short - short // 2


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def convolve(x: Array, kernel: Array, pads: Pads, stride: int) -> Array:
    """The correlation of images [batch, row, column, in] with a kernel, padded with 0."""
    rows, columns, _, out = kernel.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    high = (x.shape[1] - rows) // stride + 1
    wide = (x.shape[2] - columns) // stride + 1
    # First by row, then by column: 5 + 5 slices to compile for a kernel of 5 x 5, not 25.
    x = jnp.concatenate(
        [x[:, i : i + stride * high : stride] for i in range(rows)], axis=-1
    )
    x = jnp.concatenate(
        [x[:, :, j : j + stride * wide : stride] for j in range(columns)], axis=-1
    )
    flat = kernel.swapaxes(0, 1).reshape(-1, out)
    return (x.reshape(-1, len(flat)) @ flat).reshape(len(x), high, wide, out)


def dropout(x: Array, keys: Array | None, layer: int, rate: float) -> Array:
    """Each element is 0 with this probability, the others are scaled up.

    Args:
        x: [example, ...].
        keys: of the examples [example, 2], the bits of a key each; None leaves x alone.
        layer: which of the network's dropouts this is.
        rate: the probability.
    """
    if keys is None:
        return x

    def kept(bits: Array) -> Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), layer)
        return jax.random.bernoulli(key, 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(kept)(keys), x / (1 - rate), jnp.zeros((), x.dtype))
