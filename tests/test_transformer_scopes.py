"""Scopes of rotation on a small transformer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import vector

from experiments import transformer_scopes
from study import devices, transforms
from study.optimizers import SGD, Adam, Momentum
from study.problems import Text
from study.transforms import scopes

SPEC = dataclasses.replace(
    transformer_scopes.PRESETS["smoke"],
    problem=Text(depth=1, width=4, heads=1, context=4, batch_size=2, dtype="float64"),
    scopes=transformer_scopes.SCOPES,
)
NAMES, SHAPES = transformer_scopes.matrices_of(transformer_scopes.PRESETS["smoke"].problem)


def basis_of(scope, seed=0):
    """The basis of a scope, and what of the draw it is made of."""
    place = SPEC.scopes.index(scope)
    plan = jax.tree.map(lambda x: x[place], transformer_scopes.plans(SPEC))
    drawn = jax.tree.map(lambda x: jnp.asarray(x[seed]), transformer_scopes.bases(SPEC))
    return scopes.scoped(plan, drawn), drawn


@pytest.fixture(scope="module", autouse=True)
def _double():
    with devices.precision("float64"):
        yield


@functools.cache
def tree(seed):
    """Random leaves of the transformer's shapes."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(SPEC.problem.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), shapes)


def matrices(one):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(one) if leaf.ndim == 2]


@pytest.mark.parametrize("scope", transformer_scopes.SCOPES)
def test_a_basis_keeps_lengths_and_vectors_and_comes_back(scope):
    basis, one = basis_of(scope)[0], tree(1)
    turned = basis.into(one)
    np.testing.assert_allclose(vector(basis.back(turned)), vector(one), atol=1e-12)
    lengths = [np.linalg.norm(vector(x)) for x in (turned, one)]
    np.testing.assert_allclose(lengths[0], lengths[1])
    for old, new in zip(*map(jax.tree.leaves, (one, turned)), strict=True):
        assert old.shape == new.shape
        assert old.ndim == 2 or np.array_equal(old, new)
    changed = [
        not np.allclose(a, b) for a, b in zip(matrices(one), matrices(turned), strict=True)
    ]
    inside = [name.startswith("blocks") for name in NAMES]
    tokens = [name.startswith(("token", "readout")) for name in NAMES]
    every = [scope != "none"] * len(NAMES)
    expected = inside if scope.endswith("blocks") else tokens
    assert changed == (expected if scope == "tokens" or scope.endswith("blocks") else every)


@pytest.mark.parametrize(("scope", "axis"), [("output-wise", 0), ("input-wise", 1)])
def test_within_an_output_is_along_the_rows_that_it_reads(scope, axis):
    """Against `along_axes`; a weight is mixed with those of its own output or input."""
    basis, drawn = basis_of(scope)
    one = tree(1)
    sides = (drawn.left, drawn.right)[axis]
    for q, old, new in zip(sides, matrices(one), matrices(basis.into(one)), strict=True):
        np.testing.assert_allclose(transforms.along_axes({axis: q}).into(old), new)
    leaves, structure = jax.tree.flatten(one)
    place = next(i for i, leaf in enumerate(leaves) if leaf.ndim == 2)
    touch = (0, 1) if axis == 0 else (1, 0)
    leaves[place] = leaves[place].at[touch].add(1.0)
    other = jax.tree.unflatten(structure, leaves)
    (moved, *rest) = (
        ~np.isclose(a, b)
        for a, b in zip(matrices(basis.into(one)), matrices(basis.into(other)), strict=True)
    )
    assert not any(own.any() for own in rest)
    assert np.flatnonzero(moved.any(axis)).tolist() == [1]
    assert moved.sum() > 1


def test_layer_wise_stays_within_a_matrix_and_global_does_not():
    sizes = np.cumsum([a * b for a, b in SHAPES])[:-1]
    drawn = basis_of("none")[1]
    ends = np.split(np.asarray(drawn.orders), sizes, axis=1)
    starts = [0, *sizes]
    for layout, own in ((1, True), (2, False)):
        within = [
            sorted(part[layout]) == list(range(s, s + part.shape[1]))
            for s, part in zip(starts, ends, strict=True)
        ]
        assert all(within) is own
    flat = np.concatenate([x.ravel() for x in matrices(tree(1))])
    oracle = transforms.in_blocks(drawn.block, drawn.orders[2]).into(flat)
    turned = matrices(basis_of("global")[0].into(tree(1)))
    np.testing.assert_allclose(np.concatenate([x.ravel() for x in turned]), oracle)


def test_draws_are_orthogonal_and_differ_by_seed():
    every = transformer_scopes.bases(SPEC)
    for q in (*every.left, *every.right, every.block):
        eye = np.broadcast_to(np.eye(q.shape[-1]), q.shape)
        np.testing.assert_allclose(q @ q.transpose(0, 2, 1), eye, atol=1e-12)
    assert not np.allclose(every.block[0], every.block[1])


@pytest.fixture(scope="module")
def trained():
    """Parameters after 5 steps [scope, ...] of three rules, all scopes in one program."""
    problem, plan = SPEC.problem, transformer_scopes.plans(SPEC)
    drawn = jax.tree.map(lambda x: jnp.asarray(x[0]), transformer_scopes.bases(SPEC))
    data = jax.tree.map(jnp.asarray, problem.data())
    start = problem.init(jax.random.key(0))
    rules = (SGD(), Momentum(), Adam())

    @jax.jit
    @jax.vmap
    def run(plan):
        basis = scopes.scoped(plan, drawn)
        turned = [transforms.rotate(rule.build(0.3), basis) for rule in rules]

        def step(t, carry):
            many, states = carry
            batch = problem.batch(data, jax.random.key(1), t)
            slopes = jax.vmap(lambda params: jax.grad(problem.loss)(params, batch))(many)
            made = []
            for i, (rule, state) in enumerate(zip(turned, states, strict=True)):
                params, grad = jax.tree.map(lambda x: x[i], (many, slopes))  # noqa: B023
                update, state = rule.update(grad, state, params)
                made.append((optax.apply_updates(params, update), state))
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *(one for one, _ in made))
            return stacked, tuple(state for _, state in made)

        many = jax.tree.map(lambda x: jnp.stack([x] * len(rules)), start)
        states = tuple(rule.init(start) for rule in turned)
        ends = jax.lax.fori_loop(0, 5, step, (many, states))[0]
        return [jax.tree.map(lambda x: x[i], ends) for i in range(len(rules))]  # noqa: B023

    return dict(zip(("SGD", "Momentum", "Adam"), run(plan), strict=True))


@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Adam"])
def test_rules_of_gradients_alone_do_not_notice_a_basis_and_adam_does(trained, rule):
    ends = [
        vector(jax.tree.map(lambda x: x[i], trained[rule]))  # noqa: B023
        for i in range(len(SPEC.scopes))
    ]
    away = [np.abs(end - ends[0]).max() for end in ends[1:]]
    assert (max(away) < 1e-10) if rule != "Adam" else (min(away) > 1e-3)


def test_steps_to_a_loss_lie_on_the_line_between_stops():
    curve, stops = np.array([3.0, 2.0, 1.0]), np.array([10, 20, 30])
    assert transformer_scopes._reached(curve, stops, 1.5) == 25
    assert transformer_scopes._reached(curve, stops, 4.0) == 10
    assert transformer_scopes._reached(curve, stops, 0.5) == np.inf


def test_the_paper_preset_traces():
    """Starts and bases as shapes alone; nothing is drawn."""
    paper = transformer_scopes.PRESETS["paper"]
    problem, (_, shapes) = paper.problem, transformer_scopes.matrices_of(paper.problem)
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0)))
    starts = (jax.eval_shape(jax.vmap(problem.init), key), key)
    count = sum(a * b for a, b in shapes)
    like = lambda *shape, kind=jnp.float32: jax.ShapeDtypeStruct(shape, kind)  # noqa: E731
    drawn = scopes.Drawn(
        tuple(like(2, a, a) for a, _ in shapes),
        tuple(like(2, b, b) for _, b in shapes),
        like(2, 4, count, kind=jnp.int32),
        like(2, 4, count, kind=jnp.int32),
        like(2, paper.block, paper.block),
    )
    data = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, problem.data()))
    plan, stops = transformer_scopes.plans(paper), transformer_scopes._stops(paper.steps)
    plan = jax.tree.map(jnp.asarray, plan)
    with devices.precision(problem.dtype):
        run = transformer_scopes._trainer(problem, paper.optimizers[-1])
        place, rate = like(kind=jnp.int32), like()
        found = jax.eval_shape(run, data, starts, drawn, plan, stops, place, place, rate)
    assert [x.shape for x in found] == [(transformer_scopes.MARKS,)] * 2
