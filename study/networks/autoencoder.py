"""The variational autoencoder of DeepOBS."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from study.networks.patches import Convolution, dropout
from study.types import Array

CODE = 8
"""Numbers by which an image is known to the decoder."""
DROPPED = 0.2
NOISE = 5
"""Place of the code's noise among the draws of an example; the dropouts come before."""


class Autoencoder(nnx.Module):
    """`mnist_vae`, as DeepOBS's TensorFlow version 1.1 defines it.

    The encoder has three convolutions of 4 x 4 with 64 channels and strides 2, 2, 1, each
    with leaky ReLU (0.3) and dropout 0.2, then the mean of 8 numbers and half of a dense
    layer as the logarithm of their deviation. The decoder has dense layers of 24 and 49
    units with leaky ReLU, three transposed convolutions of 4 x 4 with 64 channels, strides
    2, 1, 1 and ReLU, dropout 0.2 after the first two, and a dense sigmoid layer of 784.
    Kernels are uniform by Glorot's law, biases start at 0: the defaults of Keras.
    """

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        law = nnx.initializers.glorot_uniform()
        convolution = functools.partial(Convolution, 4, kernel=law, dtype=dtype, rngs=rngs)
        dense = functools.partial(
            nnx.Linear, kernel_init=law, dtype=dtype, param_dtype=dtype, rngs=rngs
        )
        self.encoder = nnx.List(
            convolution(into, 64, stride=stride)
            for into, stride in ((1, 2), (64, 2), (64, 1))
        )
        self.mean, self.spread = (dense(7 * 7 * 64, CODE) for _ in range(2))
        self.first, self.second = dense(CODE, 24), dense(24, 49)
        self.decoder = nnx.List(
            convolution(into, 64, stride=stride, padding="transposed")
            for into, stride in ((1, 2), (64, 1), (64, 1))
        )
        self.readout = dense(14 * 14 * 64, 784)

    def __call__(self, reading: tuple[Array, Array, bool]) -> tuple[Array, Array, Array]:
        """What comes back, and the law of the code.

        Args:
            reading: images [batch, 28, 28], the bits of a key for each [batch, 2], and
                whether to drop out.

        Returns:
            Pixels [batch, 784] in (0, 1); mean and log-deviation of the code [batch, 8].
        """
        x, keys, training = reading
        dropped = functools.partial(dropout, keys=keys if training else None, rate=DROPPED)
        leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.3)
        count, x = len(x), x[..., None]
        for i, layer in enumerate(self.encoder):
            x = dropped(leaky(layer(x)), layer=i)
        x = x.reshape(count, -1)
        mean, spread = self.mean(x), self.spread(x) / 2
        x = leaky(
            self.second(leaky(self.first(mean + _noise(keys, mean) * jnp.exp(spread))))
        )
        x = x.reshape(count, 7, 7, 1)
        for i, layer in enumerate(self.decoder):
            x = jax.nn.relu(layer(x))
            x = dropped(x, layer=len(self.encoder) + i) if i < 2 else x
        return jax.nn.sigmoid(self.readout(x.reshape(count, -1))), mean, spread


def _noise(keys: Array, like: Array) -> Array:
    """Standard normal numbers [example, code]."""

    def draw(bits: Array) -> Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), NOISE)
        return jax.random.normal(key, like.shape[1:], like.dtype)

    return jax.vmap(draw)(keys)
