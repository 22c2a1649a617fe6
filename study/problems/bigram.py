"""The next word from the last, linearly: a loss whose training is known in closed form."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from study.problems.base import PROBLEMS, WholeData

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class Bigrams(WholeData):
    """f(W) = sum_k pi_k |W_k - p_k|^2 / 2 from W = 0: one-hot words, square loss.

    Kunstner & Bach (2025), arXiv:2505.19227. Row k of W predicts what follows word k, whose
    frequency is pi_k and whose successors have the frequencies p_k. Either both are
    Zipf's law, proportional to 1 / k^exponent in every row, or both are counted in a text,
    among its most frequent words.
    """

    label = "Bigrams"

    words: int = 50
    """Size of the vocabulary."""
    exponent: float = 1.0
    """Of Zipf's law; without a say where a corpus is given."""
    corpus: str = ""
    """Empty for Zipf's law, `synthetic`, or the name of a text file."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(words=2, exponent=0)

    def require(self) -> None:
        """The text."""
        from study import data

        if self.corpus:
            data.require_corpus(self.corpus)

    def law(self) -> np.ndarray:
        """Zipf's frequencies [word], descending, their sum 1."""
        weights = np.arange(1, self.words + 1) ** -self.exponent
        return weights / weights.sum()

    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Pi [word] and p [word, successor], float64."""
        if not self.corpus:
            return self.law(), np.tile(self.law(), (self.words, 1))
        from study import data

        numbers, count = data.words(self.corpus)
        if count < self.words:
            self.refuse("words", f"at most {count}, as the text has")
        pairs = np.stack([numbers[:-1], numbers[1:]])
        pairs = pairs[:, (pairs < self.words).all(0)]
        counts = np.zeros((self.words, self.words))
        np.add.at(counts, tuple(pairs), 1)
        rows = counts.sum(1)
        return rows / rows.sum(), counts / np.maximum(rows, 1)[:, None]

    def data(self) -> Data:
        """(pi [word], p [word, successor])."""
        kind = np.dtype(self.dtype)
        pi, successors = self.frequencies()
        return pi.astype(kind), successors.astype(kind)

    def init(self, key: Key) -> Params:
        """{W [word, successor]}, zero."""
        import jax.numpy as jnp

        del key
        return {"W": jnp.zeros((self.words, self.words), self.dtype)}

    def loss(self, params: Params, batch: Batch) -> Array:
        """The objective, without the part that no W can change."""
        import jax.numpy as jnp

        pi, successors = batch
        return jnp.sum(pi * jnp.square(params["W"] - successors).sum(1)) / 2
