"""Linear models on all of their data at once: no noise, and where they end is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from study.problems.base import PROBLEMS, Problem, WholeData

if TYPE_CHECKING:
    from study.types import Array, Batch, Data, Key, Params


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class LogisticRegression(WholeData):
    """factor mean ln(1 + exp(-y x.w)) + l2 |w|^2 / 2 from w = 0, labels y of +1 and -1.

    Rows x are normal, columns then multiplied by exp(spread z), z normal. Labels are coins,
    so that with fewer samples than inputs the data can be separated, or the signs of a
    linear teacher plus normal noise.
    """

    label = "Logistic regression"

    samples: int = 100
    """Number of x."""
    inputs: int = 20
    """Elements of x."""
    spread: float = 0.0
    """Standard deviation of the logarithm of the columns' scales."""
    labels: Literal["random", "teacher"] = "teacher"
    """Coins, or signs of x.w* + noise, w* normal and the noise as large as x.w*."""
    factor: float = 1.0
    """On the loss, not on the l2 term."""
    l2: float = 0.0
    """Coupled decay: half of it times |w|^2 is part of the loss."""
    data_seed: int = 0
    """Of samples and labels."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(samples=1, inputs=1, spread=0, l2=0, data_seed=0)
        if not self.factor > 0:
            self.refuse("factor", "positive")

    def rows(self) -> np.ndarray:
        """Samples times labels [sample, input], float64: w separates if all x.w > 0."""
        random = np.random.default_rng(self.data_seed)
        x = random.normal(size=(self.samples, self.inputs))
        x = x * np.exp(self.spread * random.normal(size=self.inputs))
        if self.labels == "random":
            y = random.choice((-1.0, 1.0), self.samples)
        else:
            clean = x @ random.normal(size=self.inputs)
            y = np.sign(clean + clean.std() * random.normal(size=self.samples))
        return y[:, None] * x

    def data(self) -> Data:
        """Rows [sample, input], as `rows`."""
        return self.rows().astype(np.dtype(self.dtype))

    def init(self, key: Key) -> Params:
        """{w [input]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(self.inputs, self.dtype)}

    def loss(self, params: Params, batch: Batch) -> Array:
        """The objective."""
        import jax
        import jax.numpy as jnp

        w = params["w"]
        losses = jax.nn.softplus(-jnp.matmul(batch, w, precision="highest"))
        kind = lambda x: jnp.asarray(x, w.dtype)  # noqa: E731
        return kind(self.factor) * losses.mean() + kind(self.l2 / 2) * jnp.sum(w * w)


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class HeavyTailed(WholeData):
    """Softmax regression in which classes are the rarer the more there are; from 0.

    Kunstner et al. (2024), arXiv:2402.19449: group i of m has 2^i classes of 2^(m - i)
    samples, so all groups are as large; m 2^m samples, 2^m - 1 classes, (m + 1) 2^m inputs
    uniform in [0, 1]; no biases. Their experiments have m = 11, their ablations m = 7.
    There are fewer samples than inputs, so the loss can go to 0.
    """

    label = "Heavy-tailed softmax"

    groups: int = 7
    """M."""
    data_seed: int = 0
    """Of the inputs."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(groups=1, data_seed=0)

    @property
    def classes(self) -> int:
        """2^m - 1."""
        return 2**self.groups - 1

    @property
    def inputs(self) -> int:
        """(m + 1) 2^m."""
        return (self.groups + 1) * 2**self.groups

    def class_of_samples(self) -> np.ndarray:
        """The class of each sample [sample]."""
        counts = [np.full(2**i, 2 ** (self.groups - i)) for i in range(self.groups)]
        return np.repeat(np.arange(self.classes), np.concatenate(counts))

    def data(self) -> Data:
        """(inputs [sample, input], classes [sample])."""
        random = np.random.default_rng(self.data_seed)
        classes = self.class_of_samples()
        x = np.empty((len(classes), self.inputs), np.dtype(self.dtype))
        # In pieces: all of it in float64 would be 4 GB where m is 11.
        for some in np.array_split(x, max(1, x.size // 2**20)):
            some[:] = random.random(some.shape)
        return x, classes.astype(np.int32)

    def instances(self, seeds: Sequence[int]) -> Data:
        """Inputs drawn for each seed, [seed, ...]."""
        import jax

        sets = [dataclasses.replace(self, data_seed=seed).data() for seed in seeds]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *sets)

    def init(self, key: Key) -> Params:
        """{kernel [input, class]}, zero."""
        import jax.numpy as jnp

        del key
        return {"kernel": jnp.zeros((self.inputs, self.classes), self.dtype)}

    def losses(self, params: Params, batch: Batch) -> Array:
        """Cross-entropy of each sample [sample], nats."""
        import jax.numpy as jnp
        import optax

        x, classes = batch
        # 2^m columns, the last of them blank: CPUs multiply odd widths more slowly.
        logits = jnp.matmul(x, jnp.pad(params["kernel"], ((0, 0), (0, 1))))
        logits = logits[:, : self.classes]
        return optax.softmax_cross_entropy_with_integer_labels(logits, classes)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean cross-entropy in nats."""
        return self.losses(params, batch).mean()

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The objective, and the mean loss of each group: `group_0_loss` has one class."""
        losses = self.losses(params, data)
        groups = losses.reshape(self.groups, -1).mean(1)  # all groups are as large
        found = {f"group_{i}_loss": groups[i] for i in range(self.groups)}
        return {"objective": losses.mean()} | found


@PROBLEMS.register
@dataclasses.dataclass(frozen=True)
class OneSidedLabels(Problem):
    """mean (x.w - y)^2 from w = 0 on sparse data that many w fit and few generalise from.

    Wilson et al. (2017), arXiv:1705.08292, section 3.3, as `load_artificial` of the code of
    Karimireddy et al. (2019), arXiv:1901.09847, draws it: of 2n samples each has y = +1
    with a probability above 1/2, else -1. Input 0 is y, inputs 1 and 2 are 1, and 5 inputs
    are the sample's alone: 1 where y = +1 and 5 where y = -1 of them are 1. A random half
    is trained on. X follows from y, so a step costs as much as there are inputs.
    """

    label = "One-sided labels"
    selects = "objective"
    reports = "test_error"

    samples: int = 100
    """N: half of them."""
    positive: float = 0.6
    """The probability of y = +1, in [0, 1]."""
    data_seed: int = 0
    """Of labels and split."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        super().__post_init__()
        self.at_least(samples=1, data_seed=0)
        if not 0 <= self.positive <= 1:
            self.refuse("positive", "in [0, 1]")

    @property
    def inputs(self) -> int:
        """3 + 10 n."""
        return 3 + 10 * self.samples

    def data(self) -> Data:
        """{labels [sample], trained [sample]}, both of all 2n; trained is 1 or 0."""
        random = np.random.default_rng(self.data_seed)
        count = 2 * self.samples
        labels = np.where(random.random(count) < self.positive, 1.0, -1.0)
        trained = random.permutation(np.arange(count) < self.samples)
        found = {"labels": labels, "trained": trained}
        return {name: x.astype(np.dtype(self.dtype)) for name, x in found.items()}

    def rows(self) -> np.ndarray:
        """X [sample, input], float64, all 2n samples."""
        labels = self.data()["labels"].astype(np.float64)
        count = len(labels)
        x = np.zeros((count, self.inputs))
        x[:, 0], x[:, 1:3] = labels, 1
        own = np.where(np.arange(5) < np.where(labels > 0, 1, 5)[:, None], 1.0, 0.0)
        x[:, 3:].reshape(count, count, 5)[np.arange(count), np.arange(count)] = own
        return x

    def init(self, key: Key) -> Params:
        """{w [input]}, zero."""
        import jax.numpy as jnp

        del key
        return {"w": jnp.zeros(self.inputs, self.dtype)}

    def sample(self, data: Data, key: Key) -> Batch:
        """All of the data; the loss looks at the half trained on."""
        del key
        return data

    def outputs(self, params: Params, data: Data) -> Array:
        """x.w of all samples [sample]: X has a row's own inputs on a diagonal of blocks."""
        import jax.numpy as jnp

        w, labels = params["w"], data["labels"]
        own = w[3:].reshape(-1, 5)
        several = (labels < 0).astype(w.dtype)
        own = own[:, 0] + several * own[:, 1:].sum(1)
        return labels * w[0] + w[1] + w[2] + jnp.asarray(own, w.dtype)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The mean over the half trained on."""
        residual = self.outputs(params, batch) - batch["labels"]
        return (batch["trained"] * residual * residual).sum() / self.samples

    def evaluate(self, data: Data, params: Params) -> dict[str, Array]:
        """The objective, and the shares of wrong signs; an output of 0 is wrong."""
        wrong = self.outputs(params, data) * data["labels"] <= 0
        wrong = wrong.astype(data["labels"].dtype)
        return {
            "objective": self.loss(params, data),
            "train_error": (data["trained"] * wrong).sum() / self.samples,
            "test_error": ((1 - data["trained"]) * wrong).sum() / self.samples,
        }
