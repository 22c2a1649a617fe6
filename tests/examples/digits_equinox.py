"""Equinox: the same with a model that is itself a pytree."""

import equinox as eqx  # type: ignore[import-not-found]
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from study import track

tx = track.track(optax.adam(1e-3), every=10)  # was: tx = optax.adam(1e-3)


@eqx.filter_jit
def step(model, state, x, y):
    def loss(model):
        logits = jax.vmap(model)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    grad = eqx.filter_grad(loss)(model)
    update, state = tx.update(grad, state, eqx.filter(model, eqx.is_array))
    return eqx.apply_updates(model, update), state


def main(steps=100):
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    model = eqx.nn.MLP(64, 10, width_size=32, depth=1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_array))
    for t in range(steps):
        batch = slice(t * 64 % 1728, t * 64 % 1728 + 64)
        model, state = step(model, state, x[batch], y[batch])
    return track.read(state)


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:32} {value:.4g}")
