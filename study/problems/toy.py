"""Losses whose gradient is given: what a rule does, apart from any training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from study.problems.base import PROBLEMS, Problem, WholeData

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class GivenGradient(Problem):
    """loss = <g, w> from w = 0: the gradient is g at every step."""

    label = "Given gradient"

    gradient: tuple[float, ...] = (10.0, 20.0, 40.0)
    """The elements of g."""

    def __post_init__(self) -> None:
        """Checks types, then that there is an element."""
        super().__post_init__()
        if not self.gradient:
            self.refuse("gradient", "one element or more")

    def init(self, key: Key) -> Params:
        """{w [element]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(len(self.gradient), self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """G [element]."""
        import jax.numpy as jnp

        del data, key
        return jnp.asarray(self.gradient, self.dtype)

    def loss(self, params: Params, batch: Batch) -> Array:
        """<g, w>."""
        return batch @ params["w"]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RandomGradient(Problem):
    """loss = <g, w>, a new g at every step: normal times log-normal, by element."""

    label = "Random gradient"

    dim: int = 3
    """Number of elements."""
    sigma: float = 1.0
    """Standard deviation of the logarithm of the elements' scale."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(dim=1, sigma=0)

    def init(self, key: Key) -> Params:
        """{w [dim]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(self.dim, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """G [dim] = z exp(sigma y), with z and y standard normal."""
        import jax
        import jax.numpy as jnp

        del data
        z, y = jax.random.normal(key, (2, self.dim), self.dtype)
        return z * jnp.exp(jnp.asarray(self.sigma, self.dtype) * y)

    def loss(self, params: Params, batch: Batch) -> Array:
        """<g, w>."""
        return batch @ params["w"]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RandomLayer(Problem):
    """loss = <g, theta> for a kernel and a bias, a new normal g at every step.

    Each element has a scale of its own, log-normal and the same at every step. The start
    is standard normal.
    """

    label = "Random layer"

    rows: int = 6
    """Of the kernel."""
    columns: int = 8
    """Of the kernel."""
    size: int = 12
    """Of the bias."""
    sigma: float = 1.0
    """Standard deviation of the logarithm of the elements' scales."""
    bias_scale: float = 10.0
    """Factor on the bias's scales: leaves differ, as those of networks do."""
    scale_seed: int = 0
    """Of the scales."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(rows=1, columns=1, size=1, sigma=0, bias_scale=0, scale_seed=0)

    def data(self) -> Data:
        """{kernel [row, column], bias [size]}: the scales."""
        import numpy as np

        random = np.random.default_rng(self.scale_seed)
        draw = lambda *shape: np.exp(self.sigma * random.normal(size=shape))  # noqa: E731
        kernel, bias = draw(self.rows, self.columns), draw(self.size)
        scales = {"kernel": kernel, "bias": self.bias_scale * bias}
        return {name: scale.astype(self.dtype) for name, scale in scales.items()}

    def init(self, key: Key) -> Params:
        """{kernel [row, column], bias [size]}, standard normal."""
        import jax

        kernel, bias = jax.random.split(key)
        return {
            "kernel": jax.random.normal(kernel, (self.rows, self.columns), self.dtype),
            "bias": jax.random.normal(bias, (self.size,), self.dtype),
        }

    def sample(self, data: Data, key: Key) -> Batch:
        """G, a tree like theta."""
        import jax

        normal = self.init(key)
        return jax.tree.map(lambda scale, z: scale * z, data, normal)

    def loss(self, params: Params, batch: Batch) -> Array:
        """<g, theta>."""
        import optax

        product: Any = optax.tree.vdot(batch, params)
        return product


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class ReluRegression(WholeData):
    """(f(x) - y)^2 / 2 for f(x) = relu(x A) B without biases, on all samples at once.

    `balance` multiplies A and divides B: the same function of x, other parameters. Data
    and start are normal, targets those of another such network.
    """

    label = "ReLU regression"

    inputs: int = 10
    """Elements of x."""
    width: int = 32
    """Hidden units."""
    samples: int = 64
    """Number of x."""
    balance: float = 1.0
    """Factor on A and divisor of B, positive."""
    data_seed: int = 0
    """Of the samples and their targets."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(inputs=1, width=1, samples=1, data_seed=0)
        if not self.balance > 0:
            self.refuse("balance", "positive")

    def data(self) -> Data:
        """(x [sample, input], y [sample])."""
        import numpy as np

        random = np.random.default_rng(self.data_seed)
        x = random.normal(size=(self.samples, self.inputs))
        a = random.normal(size=(self.inputs, self.width)) / self.inputs**0.5
        b = random.normal(size=self.width) / self.width**0.5
        y = np.maximum(x @ a, 0) @ b
        return x.astype(self.dtype), y.astype(self.dtype)

    def init(self, key: Key) -> Params:
        """{first [input, width], second [width, 1]}, He's law times the balance."""
        import jax

        first, second = jax.random.split(key)
        a = jax.random.normal(first, (self.inputs, self.width), self.dtype)
        b = jax.random.normal(second, (self.width, 1), self.dtype)
        return {
            "first": (a * (self.balance * (2 / self.inputs) ** 0.5)).astype(a.dtype),
            "second": (b * ((1 / self.width) ** 0.5 / self.balance)).astype(b.dtype),
        }

    def outputs(self, params: Params, x: Array) -> Array:
        """F(x) [sample]."""
        import jax

        return (jax.nn.relu(x @ params["first"]) @ params["second"])[:, 0]

    def loss(self, params: Params, batch: Batch) -> Array:
        """Half the mean squared error."""
        import jax.numpy as jnp

        x, y = batch
        return jnp.mean(jnp.square(self.outputs(params, x) - y)) / 2


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class OneWeight(Problem):
    """A loss of one weight w with its optimum w*, r = w - w*.

    `slope`: r itself, whose gradient is 1 everywhere and knows no optimum. `absolute`:
    |r|. `quadratic`: curvature r^2 / 2. `huber`: r^2 / (2 delta) up to |r| = delta, then
    |r| - delta / 2.
    """

    label = "One weight"
    selects = "distance"
    reports = "distance"

    shape: Literal["slope", "absolute", "quadratic", "huber"] = "slope"
    """Of the loss."""
    start: float = 0.833
    """Of w."""
    optimum: float = 0.437
    """W*."""
    curvature: float = 1.0
    """Of the quadratic."""
    delta: float = 0.1
    """Where Huber's loss becomes straight."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        for field in ("curvature", "delta"):
            if not getattr(self, field) > 0:
                self.refuse(field, "positive")

    def init(self, key: Key) -> Params:
        """{w []}, the start."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.asarray(self.start, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """Nothing: there is no noise."""
        del data, key
        return ()

    def loss(self, params: Params, batch: Batch) -> Array:
        """The loss of this shape."""
        import jax.numpy as jnp
        import optax

        del batch
        w, optimum = params["w"], jnp.asarray(self.optimum, self.dtype)
        if self.shape == "slope":
            return w - optimum
        if self.shape == "absolute":
            return jnp.abs(w - optimum)
        if self.shape == "quadratic":
            return jnp.asarray(self.curvature / 2, self.dtype) * (w - optimum) ** 2
        delta = jnp.asarray(self.delta, self.dtype)
        return optax.huber_loss(w, optimum, delta=delta) / delta

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The distance |w - w*|."""
        import jax.numpy as jnp

        del data
        return {"distance": jnp.abs(params["w"] - jnp.asarray(self.optimum, self.dtype))}
