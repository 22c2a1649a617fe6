"""The classifiers of DeepOBS, as its TensorFlow version 1.1 defines them.

Schneider, Balles & Hennig (2019), arXiv:1903.05499; the definitions were read in its code.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from study.networks.patches import Convolution, Initial, truncated_normal
from study.types import Array


class Dense(nnx.Module):
    """Dense layers of these sizes with ReLU between them; biases start at 0.

    `mnist_logreg` is (784, 10) from 0, `mnist_mlp` (784, 1000, 500, 100, 10) from truncated
    normal kernels of deviation 0.03.
    """

    def __init__(
        self, sizes: tuple[int, ...], *, kernel: Initial, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.layers = nnx.List(
            _linear(into, out, kernel, 0.0, dtype, rngs)
            for into, out in itertools.pairwise(sizes)
        )

    def __call__(self, x: Array) -> Array:
        """Logits [batch, class] of images [batch, ...]."""
        x = x.reshape(len(x), -1)
        *hidden, readout = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return readout(x)


class TwoConvolutions(nnx.Module):
    """`2c2d`: two convolutions of 5 x 5 with 32 and 64 channels, 1,024 units, 10 classes.

    Each convolution is followed by ReLU and the largest of 2 x 2 pixels. Kernels are
    truncated normal with deviation 0.05, all biases start at 0.05.
    """

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        kernel, bias = truncated_normal(0.05), 0.05
        convolution = functools.partial(
            Convolution, 5, kernel=kernel, bias=bias, dtype=dtype, rngs=rngs
        )
        self.first, self.second = convolution(1, 32), convolution(32, 64)
        self.third = _linear(7 * 7 * 64, 1024, kernel, bias, dtype, rngs)
        self.readout = _linear(1024, 10, kernel, bias, dtype, rngs)

    def __call__(self, x: Array) -> Array:
        """Logits [batch, 10] of images [batch, 28, 28]."""
        x = x[..., None]
        for layer in (self.first, self.second):
            x = nnx.max_pool(jax.nn.relu(layer(x)), (2, 2), strides=(2, 2))
        return self.readout(jax.nn.relu(self.third(x.reshape(len(x), -1))))


class ThreeConvolutions(nnx.Module):
    """`3c3d`: convolutions 5 x 5 x 64, 3 x 3 x 96, 3 x 3 x 128, then 512, 256, 10 units.

    The first two convolutions are not padded, the third is; each is followed by ReLU and
    the largest of 3 x 3 pixels, every second one. Kernels by Glorot's law, normal in the
    convolutions and uniform after them; biases start at 0.
    """

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        normal, uniform = (
            nnx.initializers.glorot_normal(),
            nnx.initializers.glorot_uniform(),
        )
        shared = {"kernel": normal, "dtype": dtype, "rngs": rngs}
        self.first = Convolution(5, 3, 64, padding="valid", **shared)
        self.second = Convolution(3, 64, 96, padding="valid", **shared)
        self.third = Convolution(3, 96, 128, **shared)
        self.fourth = _linear(3 * 3 * 128, 512, uniform, 0.0, dtype, rngs)
        self.fifth = _linear(512, 256, uniform, 0.0, dtype, rngs)
        self.readout = _linear(256, 10, uniform, 0.0, dtype, rngs)

    def __call__(self, x: Array) -> Array:
        """Logits [batch, 10] of images [batch, 32, 32, 3]."""
        for layer in (self.first, self.second, self.third):
            x = jax.nn.relu(layer(x))
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = x.reshape(len(x), -1)
        for layer in (self.fourth, self.fifth):
            x = jax.nn.relu(layer(x))
        return self.readout(x)


def _linear(
    into: int, out: int, kernel: Initial, bias: float, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Linear:
    return nnx.Linear(
        into,
        out,
        dtype=dtype,
        param_dtype=dtype,
        kernel_init=kernel,
        bias_init=nnx.initializers.constant(bias),
        rngs=rngs,
    )
