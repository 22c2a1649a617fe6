"""The next character of a text, by a small transformer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from study.data import SYNTHETIC
from study.problems.base import PROBLEMS, Indexed, in_parts

if TYPE_CHECKING:
    from study.networks import Network
    from study.types import Array, Batch, Data, Key, Params

HELD = 64
"""Windows for validation, and as many for the test."""
GROUPS = 4
"""Of characters by their frequency."""


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Text(Indexed):
    """The next character of a text, by a causal pre-norm transformer.

    Cross-entropy in nats a character. The text is the study's synthetic language, or a
    file in the data folder. The last fifth of it is held back: the first half of that for
    validation, the second for the test, 64 windows each, spread evenly. Batches are windows
    from anywhere in the rest, or all of a fixed number of windows.
    """

    label = "Text"
    selects = "validation_loss"
    reports = "test_loss"

    corpus: str = SYNTHETIC
    """`synthetic`, or the name of a text file, as --data gives it."""
    depth: int = 2
    """Blocks; with 0 a character is predicted from the one before it alone."""
    width: int = 64
    """Of the residual stream."""
    heads: int = 4
    """Of the attention; a divisor of the width."""
    context: int = 64
    """Characters in a window."""
    batch_size: int = 32
    """Windows in a batch; 0 is all `windows`, without noise."""
    windows: int = 0
    """Windows to train on, disjoint and spread evenly; 0 is the whole text."""
    part: int = 64
    """Most windows in one pass when a batch is all of them, so that memory stays flat."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(depth=0, width=1, heads=1, context=2, batch_size=0, windows=0, part=1)
        if self.width % self.heads:
            self.refuse("heads", f"a divisor of the width {self.width}")
        if not self.batch_size and not self.windows:
            self.refuse("windows", "at least 1 where batch_size is 0")

    def require(self) -> None:
        """The text."""
        from study import data

        data.require_corpus(self.corpus)

    def data(self) -> Data:
        """{train, validation, test, group}: characters, int32, [place] or [window, place].

        Windows have one character more than the context. `group` [character] ranks
        characters by frequency in the text to train on: each group holds a quarter of it,
        or as near as whole characters come, the most frequent first.
        """
        from study import data

        tokens = data.corpus(self.corpus).tokens
        cut, middle = len(tokens) * 8 // 10, len(tokens) * 9 // 10
        train = tokens[:cut]
        counts = np.bincount(train, minlength=self.characters).astype(float)
        order = np.argsort(-counts, kind="stable")
        before = np.cumsum(counts[order]) - counts[order]
        group = np.empty(len(counts), np.int32)
        group[order] = np.minimum(GROUPS * before // counts.sum(), GROUPS - 1)
        return {
            "train": self._windows(train, self.windows) if self.windows else train,
            "validation": self._windows(tokens[cut:middle], HELD),
            "test": self._windows(tokens[middle:], HELD),
            "group": group,
        }

    @property
    def characters(self) -> int:
        """Of the alphabet."""
        from study import data

        return len(data.corpus(self.corpus).alphabet)

    def _windows(self, tokens: np.ndarray, count: int) -> np.ndarray:
        """So many windows [window, context + 1], spread evenly."""
        last = len(tokens) - self.context - 1
        if count * self.context > last:
            self.refuse("windows" if count != HELD else "context", "fewer: the text ends")
        starts = np.linspace(0, last, count).astype(int)
        return tokens[starts[:, None] + np.arange(self.context + 1)]

    def init(self, key: Key) -> Params:
        """Of the transformer."""
        return self._network().init(key)

    def indices(self, data: Data, key: Key) -> Array:
        """Of windows [batch], or their first characters [batch, 1]; none of them all."""
        import jax

        if self.windows:
            return jax.random.randint(key, (self.batch_size,), 0, self.windows)
        last = data["train"].shape[0] - self.context
        return jax.random.randint(key, (self.batch_size, 1), 0, last)

    def take(self, data: Data, drawn: Array) -> Batch:
        """Windows [batch, context + 1]."""
        import jax.numpy as jnp

        if not self.batch_size:
            return data["train"]
        if self.windows:
            return data["train"][drawn]
        return data["train"][drawn + jnp.arange(self.context + 1)[None]]

    def parts(self, batch: Batch) -> Batch | None:
        """A batch of all windows, in equal parts."""
        return None if self.batch_size else in_parts(batch, self.part)

    def examples(self, batch: Batch) -> Batch:
        """Windows of their own [batch, 1, context + 1]."""
        return batch[:, None]

    def losses(self, params: Params, batch: Batch) -> Array:
        """Cross-entropy of each character but the first [window, context], nats."""
        import optax

        logits = self._network().apply(params, batch[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats a character."""
        return self.losses(params, batch).mean()

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Cross-entropy on validation and test, and by group of the test's characters.

        `group_0_loss` is that of the most frequent characters.
        """
        import jax
        import jax.numpy as jnp

        losses = self.losses(params, data["test"])
        members = jax.nn.one_hot(data["group"][data["test"][:, 1:]], GROUPS, axis=0)
        members = members.astype(losses.dtype)
        sums = jnp.sum(members * losses[None], (1, 2)) / jnp.sum(members, (1, 2))
        found = {
            "validation_loss": self.loss(params, data["validation"]),
            "test_loss": losses.mean(),
        }
        return found | {f"group_{i}_loss": sums[i] for i in range(GROUPS)}

    def _network(self) -> Network:
        import jax.numpy as jnp

        from study import networks

        kind = jnp.dtype(self.dtype)
        return networks.functional(
            lambda rngs: networks.Transformer(
                self.characters,
                context=self.context,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                dtype=kind,
                rngs=rngs,
            )
        )
