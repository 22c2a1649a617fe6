"""Convolutional networks."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx

from study.networks.boundary import ACTIVATIONS
from study.types import Array


class LeNet5(nnx.Module):
    """Two convolutions of 5 x 5 and three dense layers, for images of 28 x 28.

    LeCun et al. (1998), doi:10.1109/5.726791, as it is used today: 6 and 16 channels, all
    of them connected, largest of 2 x 2 pixels after each, then 120, 84 and `outputs` units.
    Kernels by He's law, biases 0. The original has tanh, means in place of largest pixels
    and radial basis functions at the end.
    """

    def __init__(
        self, outputs: int, *, activation: str, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        shared = {
            "dtype": dtype,
            "param_dtype": dtype,
            "kernel_init": nnx.initializers.he_normal(),
            "rngs": rngs,
        }
        convolution = functools.partial(nnx.Conv, kernel_size=(5, 5), **shared)
        dense = functools.partial(nnx.Linear, **shared)
        self.activation = ACTIVATIONS[activation]
        self.first = convolution(1, 6, padding="SAME")
        self.second = convolution(6, 16, padding="VALID")
        self.third, self.fourth = dense(400, 120), dense(120, 84)
        self.readout = dense(84, outputs)

    def __call__(self, x: Array) -> Array:
        """Logits [batch, outputs] of images [batch, 28, 28]."""
        x = x[..., None]
        for layer in (self.first, self.second):
            x = nnx.max_pool(self.activation(layer(x)), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for layer in (self.third, self.fourth):
            x = self.activation(layer(x))
        return self.readout(x)
