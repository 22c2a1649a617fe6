"""Images from a short code, by a variational autoencoder."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from study.problems.base import PROBLEMS, Problem, in_parts
from study.problems.deepobs import Pictures, by_part, started, whole

if TYPE_CHECKING:
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class ImageVAE(Pictures, Problem):
    """A variational autoencoder of images, as DeepOBS's `mnist_vae` and `fmnist_vae`.

    Kingma & Welling (2014), arXiv:1312.6114. The loss of an image is the sum of its squared
    errors over pixels and the divergence of its code's law from the standard normal one, in
    nats. Batches have the bits of a key for each image, from which its dropout and the
    noise of its code come; evaluations have no dropout, and noise from a fixed key.
    """

    label = "VAE"
    selects = "validation_loss"
    reports = "test_loss"

    batch_size: int = 32
    """Images in a batch, 64 in DeepOBS; 0 is all of them."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(held_back=0, batch_size=0, part=1)
        if self.held_back and self.images in ("digits", "mnist-10k"):
            self.refuse("held_back", f"0: {self.images} has a part for validation")

    def data(self) -> Data:
        """{train, validation, test}: images [sample, 28, 28]."""
        import jax.numpy as jnp

        kind = jnp.dtype(self.dtype)
        splits = self.splits()._asdict()
        return {name: split.inputs.astype(kind) for name, split in splits.items()}

    def init(self, key: Key) -> Params:
        """Of the network."""
        return started(self, key)

    def sample(self, data: Data, key: Key) -> Batch:
        """(images [batch, 28, 28], bits [batch, 2])."""
        return self._told(data, self._chosen(len(data["train"]), key), key)

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """Batch t of a run; as `sample`."""
        import jax

        chosen = self._chosen(len(data["train"]), key, t)
        return self._told(data, chosen, jax.random.fold_in(key, t))

    def _told(self, data: Data, chosen: Array, key: Key) -> Batch:
        images = data["train"][chosen] if self.batch_size else data["train"]
        return images, bits(key, len(images))

    def parts(self, batch: Batch) -> Batch | None:
        """A batch of all images, in equal parts."""
        return None if self.batch_size else in_parts(batch, self.part)

    def examples(self, batch: Batch) -> Batch:
        """(images [batch, 1, 28, 28], bits [batch, 1, 2])."""
        import jax

        return jax.tree.map(lambda leaf: leaf[:, None], batch)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean over images of squared errors and divergence, with dropout."""
        return whole(ImageVAE.trained, self, params, batch).sum()

    def trained(self, params: Params, batch: Batch) -> Array:
        """As `terms`, with dropout."""
        return self.terms(params, batch, True)

    def evaluated(self, params: Params, batch: Batch) -> Array:
        """As `terms`, without dropout."""
        return self.terms(params, batch, False)

    def terms(self, params: Params, batch: Batch, training: bool) -> Array:
        """Means over images of the squared errors and of the divergence [2]."""
        import jax.numpy as jnp

        images, keys = batch
        reading: Any = images, keys, training
        found: Any = self.network().apply(params, reading)
        pixels, mean, spread = found
        errors = jnp.square(pixels - images.reshape(pixels.shape)).sum(-1)
        apart = jnp.square(mean) + jnp.exp(2 * spread) - 1 - 2 * spread
        return jnp.stack([errors.mean(), apart.sum(-1).mean() / 2])

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The loss without dropout on validation and test images, and of what it is made.

        A divergence is 0 for a decoder that has collapsed to one image for all codes.
        """
        import jax

        found: dict[str, Array] = {}
        for name in ("validation", "test"):
            batch = data[name], bits(jax.random.key(0), len(data[name]))
            parts = in_parts(batch, self.part)
            terms = whole(by_part, ImageVAE.evaluated, self, params, parts).mean(0)
            found[f"{name}_loss"] = terms.sum()
            found[f"{name}_divergence"] = terms[1]
        return found

    def network(self) -> Network:
        """The autoencoder."""
        import jax.numpy as jnp

        from study import networks

        kind = jnp.dtype(self.dtype)
        return networks.functional(lambda rngs: networks.Autoencoder(dtype=kind, rngs=rngs))


def bits(key: Key, count: int) -> Array:
    """Of so many keys [count, 2]: a batch cannot carry keys where its parts are cast."""
    import jax

    return jax.random.key_data(jax.random.split(jax.random.fold_in(key, 1), count))
