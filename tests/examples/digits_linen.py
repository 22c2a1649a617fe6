"""Flax Linen: the same through a `TrainState`, with a chain and a schedule."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

from study import track


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, name="out")(nn.relu(nn.Dense(32, name="hidden")(x)))


@jax.jit
def step(state, x, y):
    def loss(params):
        logits = state.apply_fn({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return state.apply_gradients(grads=jax.grad(loss)(state.params))


def main(steps=100):
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    rate = optax.cosine_decay_schedule(1e-3, steps)
    adam = track.track(optax.adam(rate), every=10)  # was: adam = optax.adam(rate)
    tx = optax.chain(optax.clip_by_global_norm(1.0), adam)
    model = MLP()
    params = model.init(jax.random.key(0), x[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    for t in range(steps):
        batch = slice(t * 64 % 1728, t * 64 % 1728 + 64)
        state = step(state, x[batch], y[batch])
    return track.read(state)


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:32} {value:.4g}")
