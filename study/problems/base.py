"""What a problem is to the study: a spec with a start, batches, a loss, an evaluation."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from study.catalogue import Catalogue
from study.spec import Spec

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params, Update

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
    """Floating type of parameters, and of gradients and optimizer state if not said."""
    gradient_dtype: DType | None = dataclasses.field(default=None, kw_only=True)
    """In which losses and gradients are computed, `dtype` keeping the master weights."""
    state_dtype: DType | None = dataclasses.field(default=None, kw_only=True)
    """In which the optimizer keeps its state from one step to the next."""
    loss_scale: float = dataclasses.field(default=1.0, kw_only=True)
    """Factor on the loss whose gradient is taken, divided out of it again in `dtype`."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        for field in ("gradient_dtype", "state_dtype"):
            if getattr(self, field) == "float64" and self.dtype != "float64":
                self.refuse(field, "float64 only where dtype is float64")
        if not 0 < self.loss_scale < math.inf:
            self.refuse("loss_scale", "positive and finite")

    def data(self) -> Data:
        """What batches are drawn from: NumPy arrays, placed once on the device."""
        return {}

    def instances(self, seeds: Sequence[int]) -> Data:
        """The data that runs of these seeds see, [set, ...]: one set for all of them.

        A problem whose only chance lies in its data gives one for each seed.
        """
        import jax

        del seeds
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], self.data())

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Initial parameters theta_0."""

    @abc.abstractmethod
    def sample(self, data: Data, key: Key) -> Batch:
        """One batch, drawn with this key."""

    def batch(self, data: Data, key: Key, t: Array) -> Batch:
        """Batch t of a run: drawn anew, unless the batches of a problem have an order."""
        import jax

        return self.sample(data, jax.random.fold_in(key, t))

    def draw(self, data: Data, key: Key, t: Array) -> Any:
        """What `take` makes batch t of, small: `train.segment` has it for all its steps.

        Here nothing is drawn yet; `Indexed` draws ahead.
        """
        del data
        return key, t

    def take(self, data: Data, drawn: Any) -> Batch:
        """The batch of what was drawn for it: with `draw`, the same as `batch`."""
        key, t = drawn
        return self.batch(data, key, t)

    @abc.abstractmethod
    def loss(self, params: Params, batch: Batch) -> Array:
        """The loss [] whose gradient the optimizer sees."""

    def slope(
        self, params: Params, batch: Batch, told: Callable[[Update], Update] | None = None
    ) -> tuple[Array, Update]:
        """The loss [] and the gradient that the optimizer is told.

        Mixed precision after Micikevicius et al. (2018), arXiv:1710.03740: computed in
        `gradient_dtype` from the loss times `loss_scale`, divided in `dtype`.

        Args:
            params: theta, in `dtype`.
            batch: of this step.
            told: what becomes of the gradient before it leaves `gradient_dtype`.
        """
        import jax

        from study import trees

        told = told or (lambda grad: grad)
        kind = self.gradient_dtype or self.dtype
        if kind == self.dtype and self.loss_scale == 1:
            loss, grad = self._slope_of(self.loss, params, batch)
            return loss, told(grad)
        with np.errstate(over="ignore"):  # a scale beyond the range of the format is inf
            scale = np.asarray(self.loss_scale).astype(jax.numpy.dtype(kind))
        low = dataclasses.replace(self, dtype=kind, gradient_dtype=None, state_dtype=None)

        def scaled(params: Params, batch: Batch) -> Array:
            return low.loss(params, trees.cast(batch, kind)) * scale

        loss, grad = self._slope_of(scaled, trees.cast(params, kind), batch)
        back = trees.cast((loss, told(grad)), self.dtype)
        return jax.tree.map(lambda x: x / self.loss_scale, back)

    def _slope_of(
        self, loss: Callable[[Params, Batch], Array], params: Params, batch: Batch
    ) -> tuple[Array, Update]:
        """Value and gradient, part by part if the batch has parts."""
        import jax

        slope = jax.value_and_grad(loss)
        parts = self.parts(batch)
        if parts is None:
            return slope(params, batch)
        count = len(jax.tree.leaves(parts)[0])

        def add(total: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(
                lambda s, x: s + x / count, total, slope(params, part)
            ), None

        shape = jax.eval_shape(slope, params, jax.tree.map(lambda x: x[0], parts))
        zero = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), shape)
        return jax.lax.scan(add, zero, parts)[0]

    def parts(self, batch: Batch) -> Batch | None:
        """The batch in equal parts [part, ...], whose gradients are taken in turn.

        So that the memory of a gradient stays flat whatever the batch is; None: the whole
        at once. Rules that ask for the loss itself or for single examples see the whole.
        """
        del batch

    def require(self) -> None:
        """Refuses to go on without the files it needs, before anything is written."""

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


@dataclasses.dataclass(frozen=True)
class WholeData(Problem, abc.ABC):
    """A problem without noise: every batch is all of its data, the loss the objective."""

    selects = "objective"
    reports = "objective"

    def sample(self, data: Data, key: Key) -> Batch:
        """All of the data."""
        del key
        return data

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The loss, as `objective`."""
        return {"objective": self.loss(params, data)}


@dataclasses.dataclass(frozen=True)
class Indexed(Problem, abc.ABC):
    """A problem whose batches are picked from its data by random indices.

    They are drawn for many steps at once: one by one, most of a random generator's time
    goes into starting its many small loops.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuses a `sample` or `batch` of its own, of which no segment would know."""
        super().__init_subclass__(**options)
        for name in {"sample", "batch"} & vars(cls).keys():
            raise TypeError(f"{cls.__name__}.{name}: say it in `indices` and `take`")

    @abc.abstractmethod
    def indices(self, data: Data, key: Key) -> Array:
        """Of the samples of a batch, drawn with this key."""

    @abc.abstractmethod
    def take(self, data: Data, drawn: Array) -> Batch:
        """The batch of the samples with these indices."""

    def sample(self, data: Data, key: Key) -> Batch:
        """One batch, drawn with this key."""
        return self.take(data, self.indices(data, key))

    def draw(self, data: Data, key: Key, t: Array) -> Array:
        """The indices of batch t."""
        import jax

        return self.indices(data, jax.random.fold_in(key, t))


PROBLEMS: Catalogue[Any] = Catalogue("problem")
Problem.catalogue = PROBLEMS


def in_parts(batch: Batch, largest: int) -> Batch:
    """A batch in the fewest equal parts [part, sample, ...] of at most so many samples."""
    import jax

    count = len(jax.tree.leaves(batch)[0])
    size = max(n for n in range(1, min(largest, count) + 1) if count % n == 0)
    return jax.tree.map(lambda x: x.reshape(count // size, size, *x.shape[1:]), batch)
