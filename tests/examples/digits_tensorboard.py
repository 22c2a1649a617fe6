"""TensorBoard: `log` is the whole adapter; other loggers take the same dict.

With `values` and `step` as there, W&B takes `wandb.log(values, step)` and MLflow
`mlflow.log_metrics({name: float(value) for name, value in values.items()}, step)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from tensorboardX import SummaryWriter  # type: ignore[import-not-found]

from study import track

tx = track.track(optax.adam(1e-3), every=10)  # was: tx = optax.adam(1e-3)


def log(writer, state):
    """Writes what was measured last, at the step where it was."""
    values = track.read(state)
    step = int(values.pop("step"))
    for name, value in values.items():
        if np.isfinite(value):  # a length beside weights of 0 is not
            writer.add_scalar(f"update/{name}", float(value), step)


@jax.jit
def step(params, state, x, y):
    def loss(params):
        logits = x @ params["w"] + params["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    update, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, update), state


def main(steps=100, folder="runs/digits"):
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images, jnp.float32) / 16, jnp.asarray(labels)
    params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
    state = tx.init(params)
    with SummaryWriter(folder) as writer:
        for t in range(steps):
            batch = slice(t * 64 % 1728, t * 64 % 1728 + 64)
            params, state = step(params, state, x[batch], y[batch])
            if t % 10 == 0:
                log(writer, state)
    return track.read(state)


if __name__ == "__main__":
    main()
