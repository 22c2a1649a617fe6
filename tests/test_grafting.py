"""Traced grafts against `transforms.graft`."""

import jax
import numpy as np
import pytest
from helpers import random_tree, vector

from experiments.grafting import DEFAULT, Crossed
from study import transforms

PARAMS, GRADS = random_tree(0), [random_tree(seed) for seed in (1, 2, 3)]
RULES = DEFAULT.optimizers[2:]


@pytest.mark.parametrize("by_leaf", [False, True])
@pytest.mark.parametrize(("m", "d"), [(0, 3), (3, 1), (2, 2)])
def test_a_traced_pair_is_the_graft_of_its_rules(m, d, by_leaf):
    @jax.jit
    def updates(m, d, by_leaf):
        rule = Crossed(RULES, m, d, by_leaf).build(0.1)
        state, made = rule.init(PARAMS), []
        for grad in GRADS:
            update, state = rule.update(grad, state, PARAMS)
            made.append(update)
        return made

    magnitude, direction = (RULES[i].build(0.1) for i in (m, d))
    oracle = transforms.graft(magnitude, direction, by_leaf)
    state = oracle.init(PARAMS)
    for grad, found in zip(GRADS, updates(m, d, by_leaf), strict=True):
        expected, state = oracle.update(grad, state, PARAMS)
        np.testing.assert_allclose(vector(found), vector(expected), rtol=2e-5, atol=1e-8)
