"""Image classification by networks, with mini-batches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "linear"]
Initialisation = Literal["lecun", "he", "glorot", "orthogonal"]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Digits(Problem):
    """Handwritten digits (1,797 real 8 x 8 images), classified by an MLP.

    Softmax cross-entropy in nats over 10 classes. Batches are drawn from the 1,077
    training images, uniformly and with replacement; `data.digits` has the split.
    """

    label = "Digits"
    selects = "validation_loss"
    reports = "test_loss"

    width: int = 64
    """Units of each hidden layer."""
    depth: int = 2
    """Hidden layers; 0 is softmax regression."""
    activation: Activation = "relu"
    """After each hidden layer."""
    initialisation: Initialisation = "he"
    """Law of the kernels; biases start at 0."""
    gain: float = 1.0
    """Factor on the initial kernels."""
    batch_size: int = 64
    """Images in a batch."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(width=1, depth=0, batch_size=1)

    def data(self) -> Data:
        """{train, validation, test}: (images [sample, 64], labels [sample])."""
        import jax.numpy as jnp

        from study import data

        kind = jnp.dtype(self.dtype)
        return {
            name: (split.inputs.astype(kind), split.labels)
            for name, split in data.digits()._asdict().items()
        }

    def init(self, key: Key) -> Params:
        """{layers: {i: {kernel [in, out], bias [out]}}}."""
        return self._network().init(key)

    def sample(self, data: Data, key: Key) -> Batch:
        """(images [batch, 64], labels [batch])."""
        import jax

        images, labels = data["train"]
        chosen = jax.random.randint(key, (self.batch_size,), 0, labels.shape[0])
        return images[chosen], labels[chosen]

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats."""
        return self._loss_and_accuracy(params, batch)[0]

    def examples(self, batch: Batch) -> Batch:
        """(images [batch, 1, 64], labels [batch, 1])."""
        images, labels = batch
        return images[:, None], labels[:, None]

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Mean cross-entropy and accuracy in [0, 1] on validation and test images."""
        results = {}
        for name in ("validation", "test"):
            loss, accuracy = self._loss_and_accuracy(params, data[name])
            results |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return results

    def _loss_and_accuracy(self, params: Params, batch: Batch) -> tuple[Array, Array]:
        import jax.numpy as jnp
        import optax

        images, labels = batch
        logits = self._network().apply(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), jnp.mean(logits.argmax(-1) == labels)

    def _network(self) -> Network:
        import jax.numpy as jnp

        from study import networks

        return networks.functional(
            lambda rngs: networks.MLP(
                64,
                10,
                width=self.width,
                depth=self.depth,
                activation=self.activation,
                initialisation=self.initialisation,
                gain=self.gain,
                dtype=jnp.dtype(self.dtype),
                rngs=rngs,
            )
        )
