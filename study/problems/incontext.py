"""Regression in context: a model reads examples of a problem and answers for one more."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from study.problems.base import PROBLEMS, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params

    Map = Callable[[Array], Array]


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class InContextRegression(Problem):
    """A linear transformer that answers w.x after N examples (x_i, w.x_i), all normal.

    Ahn et al. (2024), arXiv:2310.01082; as in their code, `linear_transformer.py` of
    chengxiang/LinearTransformer, which was read: one head, no softmax, and in each layer

        x_i <- x_i + 1/N sum_m (x_i.Q x_m) P x_m,    y_i <- y_i + 1/N sum_m (x_i.Q x_m) y_m

    over the examples m, for every example and for the query, whose label is 0 at first.
    The answer is minus the query's label at the end, the loss the mean square of its
    error. With P = 0 each layer is a step of gradient descent on the examples,
    preconditioned by -Q (von Oswald et al. 2023, arXiv:2212.07677). The last P has no say:
    its gradient is 0.

    A model that is linear in this way sees of the examples no more than S = mean x x^T and
    c = mean x y; batches hold these, prompts last, so that attention over tokens is never
    computed. A layer sends S to T S T^T, x to T x and c to T (c + S Q c), T = I + P S Q^T.
    """

    label = "In-context regression"
    selects = "validation_loss"
    reports = "test_loss"

    dimension: int = 5
    """Elements d of x."""
    context: int = 20
    """Examples N in a prompt, besides the query."""
    layers: int = 3
    """Each with P and Q [d, d] of its own; one more takes three times as long."""
    deviation: float = 0.05
    """Standard deviation of the elements of P and Q at the start."""
    batch_size: int = 1_000
    """New prompts in a step, each with a w of its own."""
    held_out: int = 2_000
    """Prompts for validation, and as many for the test."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(
            dimension=1, context=1, layers=1, deviation=0, batch_size=1, held_out=1
        )

    def data(self) -> Data:
        """Held-out batches by name."""
        import jax.numpy as jnp

        random = np.random.default_rng(0)
        d, n, count = self.dimension, self.context, self.held_out
        drawn = {
            name: moments(*(random.normal(size=(*s, count)) for s in ((n, d), (d,), (d,))))
            for name in ("validation", "test")
        }
        kind = jnp.dtype(self.dtype)
        return {k: tuple(x.astype(kind) for x in batch) for k, batch in drawn.items()}

    def names(self) -> tuple[str, ...]:
        """Of the layers, from the first to the last."""
        return tuple(f"layer_{i}" for i in range(self.layers))

    def init(self, key: Key) -> Params:
        """{layer_0: {P [d, d], Q [d, d]}, ...}, normal."""
        import jax
        import jax.numpy as jnp

        shape = (self.layers, 2, self.dimension, self.dimension)
        drawn = jax.random.normal(key, shape, self.dtype)
        drawn = jnp.asarray(self.deviation, self.dtype) * drawn
        return {
            name: {"P": p, "Q": q} for name, (p, q) in zip(self.names(), drawn, strict=True)
        }

    def prompts(self, key: Key) -> tuple[Array, Array, Array]:
        """Examples x [example, d, prompt], weights w and queries x [d, prompt]."""
        import jax

        d, n, count = self.dimension, self.context, self.batch_size
        shapes = ((n, d, count), (d, count), (d, count))
        keys = jax.random.split(key, 3)
        x, w, query = (
            jax.random.normal(key, shape, self.dtype)
            for key, shape in zip(keys, shapes, strict=True)
        )
        return x, w, query

    def sample(self, data: Data, key: Key) -> Batch:
        """`moments` of new prompts."""
        del data
        return moments(*self.prompts(key))

    def examples(self, batch: Batch) -> Batch:
        """Prompts one by one, [prompt, ..., 1]."""
        import jax
        import jax.numpy as jnp

        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0)[..., None], batch)

    def answers(self, params: Params, batch: Batch) -> Array:
        """W.x as the model has it, [prompt]."""
        import jax.numpy as jnp

        second, c, query, _ = batch
        label = jnp.zeros_like(query[0])
        moment: Map = lambda v: _product(second, v)  # noqa: E731
        for name in self.names():
            layer = params[name]["P"], params[name]["Q"]
            told = _shared(layer[1], c)
            label = label + (query * told).sum(0)
            turned, after = _layer(*layer, moment)
            c, query, moment = turned(c + moment(told)), turned(query), after
        return -label

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean squared error of the answers."""
        import jax.numpy as jnp

        return jnp.mean((self.answers(params, batch) - batch[-1]) ** 2)

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The loss on held-out prompts; w.x = 0 for all has about d."""
        return {f"{name}_loss": self.loss(params, batch) for name, batch in data.items()}


def moments(x: Any, w: Any, query: Any) -> tuple[Any, Any, Any, Any]:
    """What a linear transformer sees of prompts, and what it should answer; any arrays.

    Args:
        x: examples [example, d, prompt].
        w: weights [d, prompt].
        query: [d, prompt].

    Returns:
        S [d, d, prompt] and c [d, prompt], the query, and w.query [prompt].
    """
    second = (x[:, :, None] * x[:, None]).mean(0)
    return second, _product(second, w), query, (w * query).sum(0)


def _product(matrices: Any, v: Any) -> Any:
    """A matrix [i, j, prompt] for each prompt times its vector [j, prompt].

    A sum spelt out: XLA has no fast batch of products this small.
    """
    columns = (matrices[:, j] * v[None, j] for j in range(len(v)))
    return functools.reduce(operator.add, columns)


def _shared(matrix: Array, v: Array) -> Array:
    """One matrix [i, j] times the vectors [j, prompt] of all prompts."""
    import jax.numpy as jnp

    return jnp.matmul(matrix, v, precision="highest")


def _layer(p: Array, q: Array, moment: Map) -> tuple[Map, Map]:
    """T = I + P S Q^T, and S of the next layer, T S T^T, by their products with vectors.

    Args:
        p: P [d, d].
        q: Q [d, d].
        moment: the product with S.
    """

    def turned(v: Array) -> Array:
        return v + _shared(p, moment(_shared(q.T, v)))

    def after(v: Array) -> Array:
        return turned(moment(v + _shared(q, moment(_shared(p.T, v)))))

    return turned, after
