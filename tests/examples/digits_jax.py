"""Plain JAX: which way does Adam send the weights of a two-layer network?"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from study import track

tx = track.track(optax.adam(1e-3), every=10)  # was: tx = optax.adam(1e-3)


def loss(params, x, y):
    hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    logits = hidden @ params["out"]["w"] + params["out"]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


@jax.jit
def step(params, state, x, y):
    grad = jax.grad(loss)(params, x, y)
    update, state = tx.update(grad, state, params)
    return optax.apply_updates(params, update), state


def main(steps=100):
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    first, second = jax.random.split(jax.random.key(0))
    params = {
        "hidden": {"w": jax.random.normal(first, (64, 32)) / 8, "b": jnp.zeros(32)},
        "out": {"w": jax.random.normal(second, (32, 10)) / 6, "b": jnp.zeros(10)},
    }
    state = tx.init(params)
    for t in range(steps):
        batch = slice(t * 64 % 1728, t * 64 % 1728 + 64)
        params, state = step(params, state, x[batch], y[batch])
    return track.read(state)


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:32} {value:.4g}")
