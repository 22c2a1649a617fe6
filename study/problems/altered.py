"""A problem of which something is changed, for `train.step`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from study.problems.base import DType, Problem

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params, Update


@dataclasses.dataclass(frozen=True, eq=False)
class Altered:
    """Another problem, unless a subclass says otherwise; its fields may be traced.

    No spec and in no catalogue: an experiment makes it inside a program, from numbers that
    differ from run to run.

    Attributes:
        problem: of which something is changed.
    """

    problem: Problem

    @property
    def dtype(self) -> DType:
        """The problem's."""
        return self.problem.dtype

    @property
    def state_dtype(self) -> DType | None:
        """The problem's."""
        return self.problem.state_dtype

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """The problem's."""
        return self.problem.batch(data, key, t)

    def draw(self, data: Data, key: Key, t: Array) -> Any:
        """For `take`: nothing yet, since a subclass may change `batch`."""
        del data
        return key, t

    def take(self, data: Data, drawn: Any) -> Batch:
        """As `batch`."""
        key, t = drawn
        return self.batch(data, key, t)

    def examples(self, batch: Batch) -> Batch:
        """The problem's."""
        return self.problem.examples(batch)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The problem's."""
        return self.problem.loss(params, batch)

    def slope(self, params: Params, batch: Batch) -> tuple[Array, Update]:
        """Value and gradient of this loss, the whole batch at once."""
        import jax

        return jax.value_and_grad(self.loss)(params, batch)

    def evaluate(self, data: Data, params: Params) -> dict[str, Any]:
        """The problem's."""
        return self.problem.evaluate(data, params)
