"""The classification problems of DeepOBS on images of any of the study's data sets.

Schneider, Balles & Hennig (2019), arXiv:1903.05499, TensorFlow version 1.1. Data sets are
the embedded digits, enlarged, or published ones, from the data folder or downloaded.
DeepOBS selects on the test images and trains on all others, and that is what `held_back=0`
does: validation is then the test itself. It leaves remainders out, its 10,000 test images
are 9,984; here they are all seen.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from study.problems.base import PROBLEMS, Problem, in_parts
from study.problems.images import Classification, enlarged

if TYPE_CHECKING:
    from study.data import Splits
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params

Grey = Literal["digits", "mnist-10k", "mnist", "fashion-mnist"]
Order = Literal["drawn", "reshuffled", "fixed"]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Which images, in which order: fields of every problem here.

    `mnist-10k` is MNIST's 10,000 test images, 8,000 of them to train on, 1,000 for
    validation and 1,000 for the test; its validation part is its own.
    """

    images: Grey = "digits"
    """Which images: embedded, or published."""
    held_back: int = 0
    """Training images for validation; 0: validation is the test, as DeepOBS selects."""
    batch_size: int = 32
    """Images in a batch, 128 in DeepOBS; 0 is all of them, without noise."""
    order: Order = "drawn"
    """With replacement, or by epochs in a new order or in one fixed one, as DeepOBS's."""
    part: int = 500
    """Most images in one pass of an evaluation, so that memory stays flat."""

    def require(self) -> None:
        """The files of the images."""
        from study import data

        if self.images == "mnist-10k":
            data.require_mnist()
        elif self.images != "digits":
            data.require_images(self.images)

    def splits(self) -> Splits:
        """Images [sample, 28, 28] or [sample, 32, 32, 3]."""
        from study import data

        if self.images == "mnist-10k":
            return data.mnist()
        if self.images != "digits":
            return data.images(self.images, self.held_back)
        parts = ((self._enlarged(part.inputs), part.labels) for part in data.digits())
        return data.Splits(*(data.Split(*part) for part in parts))

    @staticmethod
    def _enlarged(inputs: np.ndarray) -> np.ndarray:
        """Digits of 8 x 8 as the network wants them, here as images of 28 x 28."""
        return enlarged(inputs)

    def _chosen(self, count: int, key: Key, t: Array | None = None) -> Array:
        """Places of a batch among so many images: batch t of a run, or any."""
        import jax
        import jax.numpy as jnp

        if self.order == "drawn" or not self.batch_size:
            key = key if t is None else jax.random.fold_in(key, t)
            return jax.random.randint(key, (self.batch_size,), 0, count)
        t = jnp.zeros((), jnp.int32) if t is None else t
        epoch = count // self.batch_size
        if self.order == "reshuffled":
            key = jax.random.fold_in(key, t // epoch)
        order, first = jax.random.permutation(key, count), t % epoch * self.batch_size
        return jax.lax.dynamic_slice_in_dim(order, first, self.batch_size)


@dataclasses.dataclass(frozen=True)
class Benchmark(Pictures, Classification, abc.ABC):
    """Cross-entropy in nats, and a penalty where the network has one."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(held_back=0, batch_size=0, part=1)
        if self.held_back and self.images in ("digits", "mnist-10k"):
            self.refuse("held_back", f"0: {self.images} has a part for validation")

    def init(self, key: Key) -> Params:
        """Of the network."""
        return started(self, key)

    def sample(self, data: Data, key: Key) -> Batch:
        """(images [batch, ...], labels [batch])."""
        return self._told(data, self._chosen(len(data["train"][1]), key), key)

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """Batch t of a run; as `sample`."""
        import jax

        chosen = self._chosen(len(data["train"][1]), key, t)
        return self._told(data, chosen, jax.random.fold_in(key, t))

    def _told(self, data: Data, chosen: Array, key: Key) -> Batch:
        """The images at these places as the network is told them."""
        del key
        images, labels = data["train"]
        return (images[chosen], labels[chosen]) if self.batch_size else (images, labels)

    def parts(self, batch: Batch) -> Batch | None:
        """A batch of all images, in equal parts."""
        return None if self.batch_size else in_parts(batch, self.part)

    def penalty(self, params: Params) -> Array:
        """What is added to the cross-entropy [], in evaluations too."""
        import jax
        import jax.numpy as jnp

        return jnp.zeros((), jax.tree.leaves(params)[0].dtype)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats, and the penalty."""
        return whole(Benchmark.measured, self, params, batch)[0] + self.penalty(params)

    def measured(self, params: Params, batch: Batch) -> tuple[Array, Array]:
        """Mean cross-entropy in nats without the penalty, and accuracy in [0, 1]."""
        return self._loss_and_accuracy(params, batch)

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Loss, penalty included, and accuracy in [0, 1], on validation and test images."""
        results, penalty = {}, self.penalty(params)
        for name in ("validation", "test"):
            parts = in_parts(data[name], self.part)
            losses, accuracies = whole(by_part, Benchmark.measured, self, params, parts)
            results[f"{name}_loss"] = losses.mean() + penalty
            results[f"{name}_accuracy"] = accuracies.mean()
        return results


def whole(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function as one program: by itself these networks would be compiled op by op.

    Arguments but the last two are static.
    """
    import jax

    static = tuple(range(len(arguments) - 2))
    return jax.jit(function, static_argnums=static, inline=True)(*arguments)


def started(problem: Any, key: Key) -> Params:
    """The start of a problem's network, as one program."""
    import jax

    return jax.jit(_start, static_argnums=0, inline=True)(problem, key)


def _start(problem: Any, key: Key) -> Params:
    return problem.network().init(key)


def by_part(
    function: Callable[..., Any], problem: Problem, params: Params, parts: Batch
) -> Any:
    """`function(problem, params, part)` of all parts in turn, with a leading axis."""
    import jax

    return jax.lax.map(lambda part: function(problem, params, part), parts)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class ImageLogreg(Benchmark):
    """Softmax regression of images from zero, as DeepOBS's `mnist_logreg`."""

    label = "Softmax regression"

    def network(self) -> Network:
        """784 inputs, 10 outputs, all 0."""
        import jax.numpy as jnp
        from flax import nnx

        from study import networks

        kind, zeros = jnp.dtype(self.dtype), nnx.initializers.zeros_init()
        return networks.functional(
            lambda rngs: networks.Dense((784, 10), kernel=zeros, dtype=kind, rngs=rngs)
        )


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class ImageMLP(Benchmark):
    """An MLP of 1,000, 500 and 100 units on images, as DeepOBS's `mnist_mlp`."""

    label = "MLP 1000-500-100"

    def network(self) -> Network:
        """784, 1000, 500, 100, 10 units."""
        import jax.numpy as jnp

        from study import networks

        kind, law = jnp.dtype(self.dtype), networks.truncated_normal(0.03)
        sizes = (784, 1000, 500, 100, 10)
        return networks.functional(
            lambda rngs: networks.Dense(sizes, kernel=law, dtype=kind, rngs=rngs)
        )


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Image2C2D(Benchmark):
    """Two convolutions and two dense layers on images, as DeepOBS's `fmnist_2c2d`."""

    label = "2c2d"

    def network(self) -> Network:
        """The network `2c2d`."""
        import jax.numpy as jnp

        from study import networks

        kind = jnp.dtype(self.dtype)
        return networks.functional(
            lambda rngs: networks.TwoConvolutions(dtype=kind, rngs=rngs)
        )


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Image3C3D(Benchmark):
    """Three convolutions and three dense layers, as DeepOBS's `cifar10_3c3d`.

    Images to train on are padded to 36 x 36, cropped to 32 x 32 at random, mirrored half of
    the time, and changed in brightness (by up to 63 / 255), saturation (times 0.5 to 1.5)
    and contrast (times 0.2 to 1.8); then, as those of evaluations, each is brought to mean
    0 and deviation 1. The loss, evaluated ones too, has 0.001 times the squares of all
    kernels. Digits are enlarged four times, with three equal colors.
    """

    label = "3c3d"

    images: Literal["digits", "cifar-10"] = "digits"  # type: ignore[assignment]
    """Which images: embedded, or published."""
    augmented: bool = True
    """Whether images to train on are changed at random."""

    decay: ClassVar[float] = 0.002

    @staticmethod
    def _enlarged(inputs: np.ndarray) -> np.ndarray:
        large = np.kron(inputs.reshape(-1, 8, 8), np.ones((1, 4, 4)))
        return np.repeat(large[..., None], 3, -1)

    def data(self) -> Data:
        """As `Classification`; validation and test images are standardised."""
        found = super().data()
        for name in ("validation", "test"):
            images, labels = found[name]
            found[name] = standardised(images, np), labels
        return found

    def _told(self, data: Data, chosen: Array, key: Key) -> Batch:
        import jax
        import jax.numpy as jnp

        images, labels = super()._told(data, chosen, key)
        if self.augmented:
            keys = jax.random.split(jax.random.fold_in(key, 1), len(images))
            images = whole(all_augmented, images, keys)
        return standardised(images, jnp), labels

    def penalty(self, params: Params) -> Array:
        """0.001 times the sum of squares of all kernels."""
        import jax
        import jax.numpy as jnp

        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        return self.decay / 2 * jnp.stack([jnp.sum(leaf**2) for leaf in kernels]).sum()

    def network(self) -> Network:
        """The network `3c3d`."""
        import jax.numpy as jnp

        from study import networks

        kind = jnp.dtype(self.dtype)
        return networks.functional(
            lambda rngs: networks.ThreeConvolutions(dtype=kind, rngs=rngs)
        )


def standardised(images: Any, numpy: Any) -> Any:
    """Images [image, row, column, color], each with mean 0 and deviation 1.

    An even image is divided by 1 / sqrt(pixels) in place of its deviation, as TensorFlow
    has it. `numpy` is the library to compute with.
    """
    axes = tuple(range(1, images.ndim))
    least = 1 / np.sqrt(np.prod(images.shape[1:]))
    away = images - images.mean(axes, keepdims=True)
    size = numpy.sqrt(numpy.square(away).mean(axes, keepdims=True))
    return (away / numpy.maximum(size, least)).astype(images.dtype)


def all_augmented(images: Array, keys: Array) -> Array:
    """Each image with its own key."""
    import jax

    return jax.vmap(augmented)(images, keys)


def augmented(image: Array, key: Key) -> Array:
    """One image [row, column, color] changed at random, as `Image3C3D` says."""
    import jax
    import jax.numpy as jnp

    rows, columns, _ = image.shape
    places, *keys = jax.random.split(key, 5)
    kind = image.dtype
    first = jax.random.randint(places, (2,), 0, 5)
    large = jnp.pad(image, ((2, 2), (2, 2), (0, 0)))
    image = jax.lax.dynamic_slice(large, (first[0], first[1], 0), (rows, columns, 3))
    image = jnp.where(jax.random.bernoulli(keys[0]), image[:, ::-1], image)
    image += jax.random.uniform(keys[1], (), kind, -63 / 255, 63 / 255)
    image = saturated(image, jax.random.uniform(keys[2], (), kind, 0.5, 1.5))
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * jax.random.uniform(keys[3], (), kind, 0.2, 1.8) + mean


def saturated(image: Array, factor: Array) -> Array:
    """An image with its saturation times a factor, at most 1; its brightest color stays.

    The way by hue, saturation and value, in one formula. A pixel whose brightest color is
    not positive has the saturation 0.
    """
    import jax.numpy as jnp

    value = image.max(-1, keepdims=True)
    least = image.min(-1, keepdims=True)
    colored = (value > 0) & (value > least)
    saturation = jnp.where(colored, (value - least) / jnp.where(colored, value, 1), 1)
    factor = jnp.minimum(factor * saturation, 1) / saturation
    return jnp.where(colored, value - (value - image) * factor, image)
