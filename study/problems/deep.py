"""Deep and recurrent networks, whose gradients vanish or explode on the way back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from study.problems.base import PROBLEMS, Problem
from study.problems.images import Activation

if TYPE_CHECKING:
    import jax

    from study.types import Array, Batch, Data, Key, Params

Law = Literal["normal", "lecun", "he", "glorot", "orthogonal"]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class DeepBlobs(Problem):
    """Four Gaussian blobs, classified by a deep narrow network; every batch is all points.

    Softmax cross-entropy in nats. Layers are leaves of their own, so that rules by leaf
    see layers; equal ones are stacked and scanned over. The question is whether training
    arrives at all, so there is no held-out part.
    """

    label = "Deep net on blobs"
    selects = "train_loss"
    reports = "train_loss"

    depth: int = 20
    """Hidden layers."""
    width: int = 32
    """Units of each."""
    activation: Activation = "relu"
    """After each hidden layer."""
    initialisation: Law = "normal"
    """Law of the kernels, `normal` being N(0, 1 / fan_in); biases start at 0."""
    gain: float = 1.0
    """Factor on the initial kernels: sigma_w where the law is `normal`."""
    residual: bool = False
    """Hidden layers after the first add to their input."""
    normalisation: Literal["none", "layer"] = "none"
    """Before each activation, without parameters (Ba et al. 2016, arXiv:1607.06450)."""
    points: int = 512
    """Of all four blobs together."""
    inputs: int = 16
    """Dimension of the points."""
    data_seed: int = 0
    """Of centres, twice standard normal, and points, standard normal around them."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(depth=1, width=1, points=1, inputs=1, data_seed=0)

    def data(self) -> Data:
        """(points [point, input], labels [point])."""
        random = np.random.default_rng(self.data_seed)
        centres = 2 * random.normal(size=(4, self.inputs))
        labels = np.arange(self.points, dtype=np.int32) % 4
        points = centres[labels] + random.normal(size=(self.points, self.inputs))
        import jax.numpy as jnp

        return points.astype(jnp.dtype(self.dtype)), labels

    def init(self, key: Key) -> Params:
        """{layer_000: {kernel [in, out], bias [out]}, ..., readout: ...}."""
        import jax
        import jax.numpy as jnp

        from study.networks import INITIALISATIONS

        laws = {**INITIALISATIONS, "normal": _normal}
        law = laws[self.initialisation]()
        kernel = lambda key, *shape: _drawn(law, key, shape, self.dtype)  # noqa: E731
        keys = jax.random.split(key, self.depth + 1)
        inner = jax.vmap(lambda key: kernel(key, self.width, self.width))(keys[1:-1])
        kernels = [
            kernel(keys[0], self.inputs, self.width),
            *inner,
            kernel(keys[-1], self.width, 4),
        ]
        gain = jnp.asarray(self.gain, self.dtype)
        return {
            name: {"kernel": gain * x, "bias": jnp.zeros(x.shape[1], self.dtype)}
            for name, x in zip(self.layers(), kernels, strict=True)
        }

    def layers(self) -> tuple[str, ...]:
        """Names of the layers, from the input to the read-out."""
        return (*(f"layer_{i:03d}" for i in range(self.depth)), "readout")

    def sample(self, data: Data, key: Key) -> Batch:
        """All points and labels."""
        del key
        return data

    def examples(self, batch: Batch) -> Batch:
        """(points [point, 1, input], labels [point, 1])."""
        points, labels = batch
        return points[:, None], labels[:, None]

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats."""
        return self._loss_and_accuracy(params, batch)[0]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Mean cross-entropy and accuracy in [0, 1] on all points."""
        loss, accuracy = self._loss_and_accuracy(params, data)
        return {"train_loss": loss, "train_accuracy": accuracy}

    def _loss_and_accuracy(self, params: Params, batch: Batch) -> tuple[Array, Array]:
        import jax.numpy as jnp
        import optax

        points, labels = batch
        logits = self.apply(params, points)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), jnp.mean(logits.argmax(-1) == labels)

    def apply(self, params: Params, x: Array) -> Array:
        """Logits [..., 4] of points [..., input]."""
        import jax
        import jax.numpy as jnp

        first, *hidden, last = (params[name] for name in self.layers())
        x = self._layer(first, x)

        def advance(x: Array, layer: Params) -> tuple[Array, None]:
            out = self._layer(layer, x)
            return (x + out if self.residual else out), None

        if hidden:
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *hidden)
            x, _ = jax.lax.scan(advance, x, stacked)
        return _affine(last, x)

    def _layer(self, layer: Params, x: Array) -> Array:
        import jax

        from study.networks import ACTIVATIONS

        x = _affine(layer, x)
        if self.normalisation == "layer":
            x = jax.nn.standardize(x, axis=-1, epsilon=1e-5)
        return ACTIVATIONS[self.activation](x)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class RandomTargets(Problem):
    """Equal layers without biases, normal inputs and normal targets; all points a batch.

    Mean squared error over points and outputs, the outputs being the last activations. How
    small a gradient is in each layer, and nothing else, is the question.
    """

    label = "Random targets"
    selects = "train_loss"
    reports = "train_loss"

    depth: int = 8
    """Layers."""
    width: int = 128
    """Units of each, inputs and outputs."""
    activation: Activation = "sigmoid"
    """After each layer."""
    gain: float = 1.0
    """Sigma_w: kernels are N(0, gain^2 / width)."""
    points: int = 64
    """In the batch."""
    data_seed: int = 0
    """Of inputs and targets."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(depth=1, width=1, points=1, data_seed=0)

    def data(self) -> Data:
        """(inputs [point, unit], targets [point, unit])."""
        import jax.numpy as jnp

        random = np.random.default_rng(self.data_seed)
        pair = random.normal(size=(2, self.points, self.width))
        return tuple(pair.astype(jnp.dtype(self.dtype)))

    def init(self, key: Key) -> Params:
        """{layer_000: [in, out], ...}."""
        import jax
        import jax.numpy as jnp

        shape = (self.depth, self.width, self.width)
        spread = jnp.asarray(self.gain / np.sqrt(self.width), self.dtype)
        kernels = spread * jax.random.normal(key, shape, self.dtype)
        return {f"layer_{i:03d}": kernel for i, kernel in enumerate(kernels)}

    def sample(self, data: Data, key: Key) -> Batch:
        """All inputs and targets."""
        del key
        return data

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean squared error."""
        import jax
        import jax.numpy as jnp

        from study.networks import ACTIVATIONS

        def advance(x: Array, kernel: Array) -> tuple[Array, None]:
            inner = jnp.matmul(x, kernel, precision="highest")
            return ACTIVATIONS[self.activation](inner), None

        inputs, targets = batch
        stacked = jnp.stack([params[name] for name in sorted(params)])
        return jnp.mean(jnp.square(jax.lax.scan(advance, inputs, stacked)[0] - targets))

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The same loss."""
        return {"train_loss": self.loss(params, data)}


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Recall(Problem):
    """A simple recurrent network that tells, at the end of a sequence, its first number.

    h_t = phi(W h_{t-1} + U x_t) over `length` numbers x_t, standard normal, from h = 0;
    loss (v^T h - x_1)^2 / 2, 0.5 for a guess of 0. Fresh sequences in every batch.
    """

    label = "Recall"
    selects = "validation_loss"
    reports = "test_loss"

    length: int = 20
    """Numbers in a sequence."""
    width: int = 32
    """Units."""
    activation: Activation = "tanh"
    """Phi."""
    orthogonal: bool = True
    """W starts as `gain` times an orthogonal matrix, otherwise normal, variance / width."""
    gain: float = 1.0
    """Of W at the start."""
    batch_size: int = 32
    """Sequences in a batch."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(length=1, width=1, batch_size=1)

    def data(self) -> Data:
        """{validation, test}: sequences [256, length]."""
        import jax.numpy as jnp

        random = np.random.default_rng(0)
        draw = lambda: random.normal(size=(256, self.length))  # noqa: E731
        kind = jnp.dtype(self.dtype)
        return {name: draw().astype(kind) for name in ("validation", "test")}

    def init(self, key: Key) -> Params:
        """{recurrent [unit, unit], input [unit], readout [unit]}."""
        import jax
        import jax.numpy as jnp

        from study.networks import INITIALISATIONS

        keys = jax.random.split(key, 3)
        law = INITIALISATIONS["orthogonal"]() if self.orthogonal else _normal()
        draw = lambda key: jax.random.normal(key, (self.width,), self.dtype)  # noqa: E731
        recurrent = _drawn(law, keys[0], (self.width,) * 2, self.dtype)
        return {
            "recurrent": jnp.asarray(self.gain, self.dtype) * recurrent,
            "input": draw(keys[1]),
            "readout": draw(keys[2]) / jnp.asarray(self.width, self.dtype),
        }

    def sample(self, data: Data, key: Key) -> Batch:
        """Sequences [batch, length]."""
        import jax

        del data
        return jax.random.normal(key, (self.batch_size, self.length), self.dtype)

    def examples(self, batch: Batch) -> Batch:
        """Sequences [batch, 1, length]."""
        return batch[:, None]

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean of (v^T h - x_1)^2 / 2."""
        import jax.numpy as jnp

        last = self.last(params, batch)
        told = jnp.matmul(last, params["readout"], precision="highest")
        return jnp.mean(jnp.square(told - batch[:, 0])) / 2

    def last(self, params: Params, batch: Batch) -> Array:
        """The state h [batch, unit] at the end of sequences [batch, length]."""
        import jax
        import jax.numpy as jnp

        from study.networks import ACTIVATIONS

        def advance(h: Array, x: Array) -> tuple[Array, None]:
            inner = jnp.matmul(h, params["recurrent"], precision="highest")
            return ACTIVATIONS[self.activation](inner + jnp.outer(x, params["input"])), None

        start = jnp.zeros((batch.shape[0], self.width), batch.dtype)
        return jax.lax.scan(advance, start, batch.T)[0]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The loss on 256 sequences to select by and 256 others to report."""
        return {f"{name}_loss": self.loss(params, data[name]) for name in data}


def _normal() -> jax.nn.initializers.Initializer:
    """N(0, 1 / fan_in), not truncated."""
    import jax

    return jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def _drawn(law: Any, key: Key, shape: tuple[int, ...], dtype: str) -> Array:
    """In float32 at least and then rounded: LAPACK knows no half precision."""
    import jax.numpy as jnp

    wide = jnp.promote_types(dtype, jnp.float32)
    return law(key, shape, wide).astype(dtype)


def _affine(layer: Params, x: Array) -> Array:
    import jax.numpy as jnp

    product = jnp.matmul(x, layer["kernel"], precision="highest")
    return product + layer["bias"][(None,) * (x.ndim - 1)]
