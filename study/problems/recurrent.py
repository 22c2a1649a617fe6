"""The next character of a text, by a recurrent network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from study.data import SYNTHETIC
from study.problems.autoencoder import bits
from study.problems.base import PROBLEMS, Problem
from study.problems.deepobs import started, whole
from study.problems.text import Text

if TYPE_CHECKING:
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class TextLSTM(Problem):
    """The next character of a text, by an LSTM, as DeepOBS's `tolstoi_char_rnn` in form.

    Cross-entropy in nats a character, with dropout where it is trained. Texts, windows and
    the parts for validation and test are those of `Text`. The state is zero at the start of
    each window: DeepOBS carries it from batch to batch, for which batches must have an
    order; and its text, War and Peace, is not among ours.
    """

    label = "LSTM"
    selects = "validation_loss"
    reports = "test_loss"

    corpus: str = SYNTHETIC
    """`synthetic`, or the name of a text file, as --data gives it."""
    depth: int = 2
    """Layers."""
    width: int = 128
    """Of each layer and of the embedding."""
    dropped: float = 0.2
    """Share dropped of the inputs and of the outputs of each layer."""
    context: int = 50
    """Characters in a window."""
    batch_size: int = 32
    """Windows in a batch, 50 in DeepOBS."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(depth=1, width=1, context=2, batch_size=1)
        if not 0 <= self.dropped < 1:
            self.refuse("dropped", "in [0, 1)")

    @property
    def text(self) -> Text:
        """The problem with the same text."""
        shared = {"corpus": self.corpus, "context": self.context, "dtype": self.dtype}
        return Text(batch_size=self.batch_size, **shared)

    def require(self) -> None:
        """The text."""
        self.text.require()

    def data(self) -> Data:
        """As `Text`."""
        return self.text.data()

    def init(self, key: Key) -> Params:
        """Of the network."""
        return started(self, key)

    def sample(self, data: Data, key: Key) -> Batch:
        """(windows [batch, context + 1], bits [batch, 2])."""
        return self.text.sample(data, key), bits(key, self.batch_size)

    def examples(self, batch: Batch) -> Batch:
        """(windows [batch, 1, context + 1], bits [batch, 1, 2])."""
        import jax

        return jax.tree.map(lambda leaf: leaf[:, None], batch)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats a character, with dropout."""
        return whole(TextLSTM.told, self, params, batch)[0]

    def told(self, params: Params, batch: Any) -> tuple[Array, Array]:
        """Mean cross-entropy, and the share of characters that are guessed."""
        import jax.numpy as jnp
        import optax

        windows, keys = batch
        reading: Any = windows[:, :-1], keys
        logits, ahead = self.network().apply(params, reading), windows[:, 1:]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, ahead)
        return losses.mean(), jnp.mean(logits.argmax(-1) == ahead)

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Cross-entropy and accuracy in [0, 1] without dropout, on validation and test."""
        found = {}
        for name in ("validation", "test"):
            windows = data[name], None
            loss, accuracy = whole(TextLSTM.told, self, params, windows)
            found |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return found

    def network(self) -> Network:
        """The LSTM."""
        import jax.numpy as jnp

        from study import networks

        kind, characters = jnp.dtype(self.dtype), self.text.characters
        return networks.functional(
            lambda rngs: networks.LSTM(
                characters,
                width=self.width,
                depth=self.depth,
                dropped=self.dropped,
                dtype=kind,
                rngs=rngs,
            )
        )
