"""Image classification by networks, with mini-batches."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from study.problems.base import PROBLEMS, Indexed, Problem, in_parts

if TYPE_CHECKING:
    from study.data import Splits
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "linear"]
Initialisation = Literal["lecun", "he", "glorot", "orthogonal"]


@dataclasses.dataclass(frozen=True)
class Classification(Problem, abc.ABC):
    """Images with labels, by a network. Softmax cross-entropy in nats."""

    selects = "validation_loss"
    reports = "test_loss"

    @abc.abstractmethod
    def network(self) -> Network:
        """From images [batch, ...] to logits [batch, class]."""

    @abc.abstractmethod
    def splits(self) -> Splits:
        """The images."""

    def data(self) -> Data:
        """{train, validation, test}: (images [sample, ...], labels [sample])."""
        import jax.numpy as jnp

        kind = jnp.dtype(self.dtype)
        return {
            name: (split.inputs.astype(kind), split.labels)
            for name, split in self.splits()._asdict().items()
        }

    def init(self, key: Key) -> Params:
        """Of the network."""
        return self.network().init(key)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats."""
        return self._loss_and_accuracy(params, batch)[0]

    def examples(self, batch: Batch) -> Batch:
        """(images [batch, 1, ...], labels [batch, 1])."""
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
        logits = self.network().apply(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), jnp.mean(logits.argmax(-1) == labels)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Digits(Indexed, Classification):
    """Handwritten digits (1,797 real 8 x 8 images), classified by an MLP.

    Softmax cross-entropy in nats over 10 classes. Batches are drawn from the 1,077
    training images, uniformly and with replacement; `data.digits` has the split.
    """

    label = "Digits"

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

    def splits(self) -> Splits:
        """scikit-learn's digits."""
        from study import data

        return data.digits()

    def indices(self, data: Data, key: Key) -> Array:
        """[batch]."""
        return _indices(data, key, self.batch_size)

    def take(self, data: Data, drawn: Array) -> Batch:
        """(images [batch, 64], labels [batch])."""
        images, labels = data["train"]
        return images[drawn], labels[drawn]

    def network(self) -> Network:
        """An MLP: {layers: {i: {kernel [in, out], bias [out]}}}."""
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


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class LeNet(Indexed, Classification):
    """Images of 28 x 28 pixels, classified by LeNet-5.

    The images are scikit-learn's digits, each pixel three by three and a margin of two, or
    MNIST's 10,000 test images from files of the user's. Batches are drawn uniformly and
    with replacement, or are all of the training images.
    """

    label = "LeNet-5"

    images: Literal["digits", "mnist"] = "digits"
    """Which images: embedded, or from the data folder."""
    activation: Activation = "relu"
    """After each layer but the last."""
    batch_size: int = 64
    """Images in a batch; 0 is all of them, without noise."""
    part: int = 359
    """Most images in one pass when a batch is all of them, so that memory stays flat."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(batch_size=0, part=1)

    def require(self) -> None:
        """MNIST's files."""
        from study import data

        if self.images == "mnist":
            data.require_mnist()

    def splits(self) -> Splits:
        """Images [sample, 28, 28]."""
        from study import data

        if self.images == "mnist":
            return data.mnist()
        return data.Splits(
            *(data.Split(enlarged(part.inputs), part.labels) for part in data.digits())
        )

    def indices(self, data: Data, key: Key) -> Array:
        """[batch]; none of all images."""
        return _indices(data, key, self.batch_size)

    def take(self, data: Data, drawn: Array) -> Batch:
        """(images [batch, 28, 28], labels [batch])."""
        images, labels = data["train"]
        return (images[drawn], labels[drawn]) if self.batch_size else (images, labels)

    def parts(self, batch: Batch) -> Batch | None:
        """A batch of all images, in equal parts."""
        return None if self.batch_size else in_parts(batch, self.part)

    def network(self) -> Network:
        """LeNet-5."""
        import jax.numpy as jnp

        from study import networks

        kind = jnp.dtype(self.dtype)
        return networks.functional(
            lambda rngs: networks.LeNet5(
                10, activation=self.activation, dtype=kind, rngs=rngs
            )
        )


def _indices(data: Data, key: Key, count: int) -> Array:
    import jax

    return jax.random.randint(key, (count,), 0, data["train"][1].shape[0])


def enlarged(inputs: np.ndarray) -> np.ndarray:
    """Digits of 8 x 8 as images of 28 x 28: pixels three by three, a margin of two."""
    large = np.kron(inputs.reshape(-1, 8, 8), np.ones((1, 3, 3)))
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))
