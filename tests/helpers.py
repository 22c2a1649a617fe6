"""Trees, steps and small problems that several test files use."""

import jax
import jax.numpy as jnp
import numpy as np

from study import train
from study.metrics import Step
from study.optimizers import OPTIMIZERS
from study.problems import PROBLEMS, Digits, GivenGradient, NoisyQuadratic

SHAPES = {"a": (3, 2), "b": {"c": (4,), "d": ()}, "e": (1,)}

EVERY_OPTIMIZER = [  # not those that tests register
    entry() for entry in OPTIMIZERS.values() if entry.__module__.startswith("study.")
]
EVERY_PROBLEM = [PROBLEMS[name]() for name in PROBLEMS]
SMALL_DIGITS = Digits(width=4, depth=1, batch_size=8)
SMALL_QUADRATIC = NoisyQuadratic(dim=4)


def tree_of(values, shapes=SHAPES):
    """A tree of these shapes from a vector of values, float32."""
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    sizes = [int(np.prod(shape)) for shape in leaves]
    parts = np.split(np.asarray(values, np.float32), np.cumsum(sizes)[:-1])
    arrays = [
        jnp.asarray(part.reshape(shape)) for part, shape in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)


def random_tree(seed, scale=1.0):
    """Normal elements in leaves of several ranks."""
    return tree_of(scale * np.random.default_rng(seed).normal(size=12))


def vector(tree):
    """A tree as one float64 vector."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def first_step(optimizer, grad, learning_rate=0.1, params=None) -> Step:
    """The first step of an optimizer on a given gradient, a vector."""
    problem = GivenGradient(gradient=tuple(map(float, grad)))
    params = problem.init(jax.random.key(0)) if params is None else params
    state = train.start(optimizer, learning_rate, params)
    return train.step(
        problem, optimizer, {}, learning_rate, jax.random.key(1), state, jnp.asarray(0)
    )[1]


def luminance(colour):
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]
