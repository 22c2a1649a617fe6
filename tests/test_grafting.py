"""Traced grafts against `transforms.graft`; runs in turn; the paper's preset."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_tree, vector

from experiments import grafting
from experiments.grafting import DEFAULT, FIELDS
from study import devices, transforms

PARAMS, GRADS = random_tree(0), [random_tree(seed) for seed in (1, 2, 3)]
RULES = DEFAULT.optimizers[2:]


@pytest.mark.parametrize("by_leaf", [False, True])
@pytest.mark.parametrize(("m", "d"), [(0, 3), (3, 1), (2, 2)])
def test_a_traced_pair_is_the_graft_of_its_rules(m, d, by_leaf):
    @jax.jit
    def updates(m, d, by_leaf):
        rule = transforms.cross([rule.build(0.1) for rule in RULES], m, d, by_leaf)
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


def test_the_text_is_grafted_by_leaf_where_asked():
    """Alike where both halves are one rule's, not where they are two rules'."""
    spec = dataclasses.replace(grafting.PRESETS["smoke"], seeds=1, horizons=(2,))
    spec = dataclasses.replace(spec, text_by_leaf=True, at_once=4)
    losses = grafting.run_cell(spec, spec.text, spec.optimizers[0])[0].losses
    assert np.isfinite(losses).all()
    whole, leaf = losses.sel(scope="whole"), losses.sel(scope="leaf")
    np.testing.assert_allclose(*(x.sel(direction="SGD") for x in (whole, leaf)), rtol=1e-5)
    assert (whole.sel(direction="SignDescent") != leaf.sel(direction="SignDescent")).all()


@pytest.mark.parametrize("field", FIELDS)
def test_a_run_of_the_paper_preset_traces(field):
    """Starts and data as shapes alone."""
    paper = grafting.PRESETS["paper"]
    problem, like = getattr(paper, field), jax.ShapeDtypeStruct
    with devices.precision(problem.dtype):
        data = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, problem.instances((0,))))
        key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), paper.seeds))
        starts = (jax.eval_shape(jax.vmap(problem.init), key), key)
        run = grafting._trainer(problem, paper.optimizers, paper.horizons, paper.seeds)
        place = like((), jnp.int32)
        found = jax.eval_shape(
            run, data, starts, place, place, like((), bool), like((), problem.dtype)
        )
    assert found.shape == (paper.seeds, len(paper.horizons))
