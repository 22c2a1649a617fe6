"""What a problem is to the study: a spec with a start, batches, a loss, an evaluation."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from study.catalogue import Catalogue
from study.spec import Spec

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params

DType = Literal["float32", "float64", "bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class Problem(Spec, abc.ABC):
    """A pure function of its fields and a key: nothing is drawn anywhere else.

    Attributes:
        label: what figures and tables show.
        selects: the evaluation by which learning rates are selected, None if the
            problem has none; smaller is better.
        reports: the evaluation reported at the selected rate, on other seeds.
        dtype: of params, gradients and optimizer state.
    """

    catalogue: ClassVar[Catalogue[type[Problem]]]
    label: ClassVar[str]
    selects: ClassVar[str | None] = None
    reports: ClassVar[str | None] = None

    dtype: DType = dataclasses.field(default="float32", kw_only=True)
    """Floating type of parameters, gradients and optimizer state."""

    def data(self) -> Data:
        """What batches are drawn from: NumPy arrays, placed once on the device."""
        return {}

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Initial parameters theta_0."""

    @abc.abstractmethod
    def sample(self, data: Data, key: Key) -> Batch:
        """One batch; batch t of a run has the key `fold_in(data_key, t)`."""

    @abc.abstractmethod
    def loss(self, params: Params, batch: Batch) -> Array:
        """The loss [] whose gradient the optimizer sees."""

    def examples(self, batch: Batch) -> Batch:
        """The batch as batches of one [example, ...]; itself where it has no examples."""
        import jax

        return jax.tree.map(lambda leaf: leaf[None], batch)

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """Scalars that do not depend on a batch, by name."""
        del data, params
        return {}

    def at_least(self, **bounds: float) -> None:
        """Refuses fields below their bound."""
        for field, bound in bounds.items():
            if not getattr(self, field) >= bound:
                self.refuse(field, f"at least {bound}")


PROBLEMS: Catalogue[Any] = Catalogue("problem")
Problem.catalogue = PROBLEMS
