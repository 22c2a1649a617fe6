"""How gradients travel back through networks at their start, measured.

The theory is in `meanfield`. Nothing here takes a step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from study import devices, statistics, trees
from study.problems import DeepBlobs, Recall
from study.problems.images import Activation


def lengths(
    problem: DeepBlobs, laws: Sequence[tuple[str, float]], seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """log10 length and lost share of every kernel's gradient [law, seed, layer].

    Args:
        problem: the network; in its precision.
        laws: initialisation and gain of each start.
        seeds: starts of each law.

    Returns:
        log10 |g|, -inf where it is 0; the share of elements that are 0, subnormal or not
        finite.
    """
    tiny = jnp.finfo(problem.dtype).tiny
    plain = dataclasses.replace(
        problem, activation="relu", residual=False, normalisation="none"
    )
    drawn = [starts(dataclasses.replace(plain, initialisation=n), seeds) for n, _ in laws]
    leaves, structure = jax.tree.flatten(drawn[0])
    leaves = [np.concatenate(x) for x in zip(*map(jax.tree.leaves, drawn), strict=True)]
    gains = np.repeat([gain for _, gain in laws], seeds).astype(problem.dtype)

    def of_run(data: Any, gain: Any, *leaves: Any) -> Any:
        params = jax.tree.unflatten(structure, leaves)
        for name in problem.layers():
            params[name]["kernel"] = params[name]["kernel"] * gain
        grads = jax.grad(problem.loss)(params, data)
        first, *inner, last = (grads[name]["kernel"] for name in problem.layers())
        stacks = [x[None] for x in (first, last)]
        stacks[1:1] = [jnp.stack(inner)] if inner else []
        sizes = [jnp.abs(x) for x in stacks]
        lost = [jnp.mean((x < tiny) | ~jnp.isfinite(x), (1, 2)) for x in sizes]
        norms = [jax.vmap(lambda x: trees.norm([x]))(x) for x in stacks]
        return jnp.log10(jnp.concatenate(norms)), jnp.concatenate(lost)

    found = devices.map_runs(of_run, (problem.data(),), (gains, *leaves))
    shape = (len(laws), seeds, problem.depth + 1)
    norms, lost = (np.asarray(x, np.float64).reshape(shape) for x in found)
    return norms, lost


@functools.lru_cache(maxsize=64)
def starts(problem: DeepBlobs, seeds: int) -> Any:
    """Params [seed, ...], in NumPy; an activation has no part in them."""
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(problem.init))(keys))


def rates(net: DeepBlobs, gains: Sequence[float], seeds: int) -> np.ndarray:
    """Slope of log |df/db|^2 per layer toward the input [gain, seed], float64.

    f is the sum of the outputs at one point, so that a bias's gradient is that of its
    layer's input and no loss saturates; a least-squares line over the layers from a third
    to nine tenths, where lengths have settled.
    """
    net = dataclasses.replace(net, points=1, dtype="float64")
    low, high = net.depth // 3, max(2, round(0.9 * net.depth))

    def slopes(data: Any, gains: Any, seed: Any) -> Any:
        drawn = net.init(jax.random.fold_in(jax.random.key(1), seed))

        def slope(gain: Any) -> Any:
            params = {k: {**v, "kernel": v["kernel"] * gain} for k, v in drawn.items()}
            grads = jax.grad(lambda p: net.apply(p, data[0]).sum())(params)
            squares = [jnp.sum(grads[n]["bias"] ** 2) for n in net.layers()[low:high]]
            return jnp.log(jnp.stack(squares))

        return jax.vmap(slope)(gains)

    numbers = np.arange(seeds, dtype=np.int32)
    with devices.precision("float64"):
        shared = (net.data(), np.array(gains))
        logs = devices.map_runs(slopes, shared, (numbers,)).swapaxes(0, 1)
    layers = np.arange(logs.shape[2]) - (logs.shape[2] - 1) / 2
    return -(logs @ layers / (layers @ layers))


def log_lengths(layers: int, width: int, nets: int) -> np.ndarray:
    """Mean and variance of log |J u|^2 [moment, (value, low, high)] over ReLU networks.

    Hanin & Nica (2018), arXiv:1812.05994. J is the Jacobian of `layers` layers with weights
    N(0, 2 / width) at a random input, u a random unit vector; 95 % intervals by the
    bootstrap. Theory: variance 5 layers / width, mean minus half of it.
    """

    def product(key: Any) -> Any:
        start = jax.random.split(key)
        x, u = jax.random.normal(start[0], (2, width))
        u = u / jnp.linalg.norm(u)

        def layer(pair: Any, key: Any) -> Any:
            x, u = pair
            weights = jax.random.normal(key, (width, width)) * np.sqrt(2 / width)
            z = weights @ x
            return (jnp.maximum(z, 0), (z > 0) * (weights @ u)), None

        keys = jax.random.split(start[1], layers)
        (_, u), _ = jax.lax.scan(layer, (x, u), keys)
        return jnp.log(jnp.sum(u**2))

    with devices.precision("float64"):
        keys = jax.random.split(jax.random.key(2), nets)
        many = jax.jit(lambda keys: jax.lax.map(product, keys, batch_size=20))
        logs = np.asarray(many(keys))
    picks = np.random.default_rng(0).integers(0, nets, (statistics.RESAMPLES, nets))
    again = logs[picks]
    found = []
    for moment in (np.mean, np.var):
        with np.errstate(invalid="ignore"):  # a dead network has no length at all
            low, high = np.quantile(moment(again, axis=1), [0.025, 0.975])
            found.append([moment(logs), low, high])
    return np.array(found)


def vanished(rho: float) -> int:
    """The first T at which rho^T, a factor a step, is 0 in float32; -1 beyond 3000."""

    def advance(x: Any, _: Any) -> tuple[Any, Any]:
        after = x * jnp.float32(rho)
        return after, after

    _, powers = jax.jit(lambda x: jax.lax.scan(advance, x, None, 3000))(jnp.float32(1))
    zero = np.flatnonzero(np.asarray(powers) == 0)
    return int(zero[0]) + 1 if len(zero) else -1


def recurrence(
    activation: Activation, rhos: Sequence[float], lengths: Sequence[int], seeds: int
) -> np.ndarray:
    """Decades from |dh_1 / dx_1| to |dh_T / dx_1|, [rho, length, seed], float64.

    Of a simple recurrent network whose matrix is rho times an orthogonal one.
    """
    net = Recall(length=max(lengths), activation=activation, dtype="float64")

    def change(params: Any, key: Any) -> Any:
        found = []
        for length in (1, *lengths):
            x = jax.random.normal(key, (1, length))
            along = jnp.zeros_like(x).at[0, 0].set(1.0)

            def size(rho: Any, x: Any = x, along: Any = along) -> Any:
                scaled = {**params, "recurrent": rho * params["recurrent"]}
                moved = jax.jvp(lambda x: net.last(scaled, x), (x,), (along,))[1]
                return jnp.log10(jnp.linalg.norm(moved))

            found.append(jax.vmap(size)(jnp.array(rhos)))
        return jnp.stack(found, 1)

    with devices.precision("float64"):
        # On one device: orthogonal starts on two at once can wait for each other.
        split = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(3), seed))
        keys = split(np.arange(seeds, dtype=np.int32))
        params = jax.jit(jax.vmap(net.init))(keys)  # the same for every length
        logs = np.asarray(jax.jit(jax.vmap(change))(params, keys))
    return np.moveaxis(logs[..., 1:] - logs[..., :1], 0, -1)
