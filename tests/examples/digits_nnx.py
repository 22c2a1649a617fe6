"""Flax NNX: the same through `nnx.Optimizer`."""

import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from study import track


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


@nnx.jit
def step(model, optimizer, x, y):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


def main(steps=100):
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    model = MLP(nnx.Rngs(0))
    tx = track.track(optax.adam(1e-3), every=10)  # was: tx = optax.adam(1e-3)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for t in range(steps):
        batch = slice(t * 64 % 1728, t * 64 % 1728 + 64)
        step(model, optimizer, x[batch], y[batch])
    return track.read(optimizer)


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:32} {value:.4g}")
