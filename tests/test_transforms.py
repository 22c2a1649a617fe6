"""Rules in another basis, with another's length, on rescaled elements; trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_tree, vector
from jax.flatten_util import ravel_pytree
from scipy.stats import ortho_group

from study import curvature, devices, trajectories, transforms, trees
from study.optimizers import SGD, Adam, AMSGrad, NormalisedGD, SignDescent
from study.problems import Bowl, HeavyTailed, LogisticRegression, NoisyQuadratic

PARAMS = random_tree(0)
GRADS = [random_tree(seed) for seed in range(1, 6)]
Q = ortho_group.rvs(12, random_state=0)
ORDER = np.random.default_rng(0).permutation(12)
BASES = {
    "axes": transforms.along_axes({0: ortho_group.rvs(3, random_state=1)}),
    "whole": transforms.whole(Q),
    "blocks": transforms.in_blocks(ortho_group.rvs(4, random_state=2), ORDER),
}


def updates(rule, grads=GRADS, params=PARAMS):
    state, made = rule.init(params), []
    for grad in grads:
        update, state = rule.update(grad, state, params)
        made.append(update)
    return made


@pytest.mark.parametrize("name", ["whole", "blocks"])
def test_a_basis_is_orthogonal_and_comes_back(name):
    basis = BASES[name]
    for tree in GRADS:
        turned = basis.into(tree)
        assert np.linalg.norm(vector(turned)) == pytest.approx(
            np.linalg.norm(vector(tree)), rel=1e-5
        )
        assert not np.allclose(vector(turned), vector(tree), atol=0.1)
        np.testing.assert_allclose(vector(basis.back(turned)), vector(tree), atol=1e-5)


def test_axes_are_multiplied_where_they_are():
    left, right = (ortho_group.rvs(n, random_state=n) for n in (3, 2))
    tree = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)}
    found = transforms.along_axes({0: left, -1: right}).into(tree)["w"]
    np.testing.assert_allclose(found, left @ np.asarray(tree["w"]) @ right.T, atol=1e-5)
    back = transforms.along_axes({0: left, -1: right}).back({"w": found})["w"]
    np.testing.assert_allclose(back, tree["w"], atol=1e-5)


def test_blocks_are_the_matrix_they_stand_for():
    block = ortho_group.rvs(4, random_state=2)
    matrix = np.kron(np.eye(3), block) @ np.eye(12)[ORDER]
    for tree in GRADS:
        found = vector(BASES["blocks"].into(tree))
        flat = np.asarray(ravel_pytree(tree)[0], np.float64)
        np.testing.assert_allclose(found, matrix @ flat, atol=1e-5)


@pytest.mark.parametrize("name", ["whole", "blocks"])
def test_a_rotated_rule_is_the_rule_on_rotated_gradients(name):
    """Oracle: rotate by hand, run, rotate back; SGD and normalised GD do not notice."""
    basis = BASES[name]
    for optimizer in (Adam(), SGD(), NormalisedGD()):
        rule = optimizer.build(0.1)
        found = updates(transforms.rotate(rule, basis))
        turned = updates(rule, [basis.into(g) for g in GRADS], basis.into(PARAMS))
        for one, other, plain in zip(found, turned, updates(rule), strict=True):
            np.testing.assert_allclose(vector(one), vector(basis.back(other)), atol=1e-6)
            same = np.allclose(vector(one), vector(plain), atol=1e-5)
            assert same == (optimizer != Adam())


@pytest.mark.parametrize("by_leaf", [False, True])
def test_a_graft_has_one_rules_length_and_the_others_direction(by_leaf):
    magnitude, direction = optax.sgd(0.1), optax.adam(0.01)
    made = updates(transforms.graft(magnitude, direction, by_leaf))
    for u, m, d in zip(made, updates(magnitude), updates(direction), strict=True):
        np.testing.assert_allclose(
            trees.norm(u, by_leaf), trees.norm(m, by_leaf), rtol=1e-5, atol=1e-8
        )
        np.testing.assert_allclose(trees.cosine(u, d, by_leaf), 1, atol=1e-6)


def test_a_rule_grafted_on_itself_is_itself_and_zero_stays_zero():
    rule = optax.adam(0.01)
    for one, other in zip(
        updates(transforms.graft(rule, rule)), updates(rule), strict=True
    ):
        np.testing.assert_allclose(vector(one), vector(other), rtol=1e-5)
    still = transforms.graft(optax.adam(0.1), optax.sgd(0.1))
    zero = optax.tree.zeros_like(PARAMS)
    assert not vector(updates(still, [GRADS[0], zero])[1]).any()


def test_elements_are_multiplied_by_their_factors():
    factors = random_tree(9)
    (made,) = updates(transforms.rescale_elements(factors), GRADS[:1])
    np.testing.assert_allclose(vector(made), vector(factors) * vector(GRADS[0]), rtol=1e-6)


def test_the_largest_element_alone_moves():
    grad = {"a": jnp.asarray([1.0, -3.0]), "b": jnp.asarray([[2.0], [3.0]])}
    (made,) = updates(transforms.largest_element(), [grad], grad)
    np.testing.assert_array_equal(vector(made), [0, -1, 0, 0])


def test_curvature_along_a_direction_is_that_of_the_matrix():
    problem = NoisyQuadratic(dim=5, condition=30.0, rotation="random", dtype="float64")
    with devices.precision("float64"):
        hessian = problem.data()["hessian"]
        x, v = np.random.default_rng(0).normal(size=(2, 5))
        loss = lambda params: problem._objective(hessian, params)  # noqa: E731
        found = curvature.along(loss, {"x": jnp.asarray(x)}, {"x": jnp.asarray(v)})
        assert float(found) == pytest.approx(v @ hessian @ v / (v @ v), rel=1e-12)
        none = curvature.along(loss, {"x": jnp.asarray(x)}, {"x": jnp.zeros(5)})
        assert np.isnan(none)


def test_a_trajectory_is_a_python_loop():
    """With a schedule and a projection, observed at uneven stops, the start included."""
    problem, stops = Bowl(dtype="float64"), (0, 1, 4, 9)
    with devices.precision("float64"):
        start, rule = problem.init(jax.random.key(0)), AMSGrad()
        schedule = trajectories.power_law(0.5, 0.5)
        clip = lambda params: {"x": jnp.clip(params["x"], -0.9, 0.7)}  # noqa: E731
        _, seen = trajectories.follow(
            problem,
            rule,
            schedule,
            stops,
            lambda state, t: (state.params["x"], t),
            params=start,
            project=clip,
        )
        x, state, path = start, rule.build(0.5).init(start), [start["x"]]
        for t in range(9):
            update, state = rule.build(schedule(t)).update(
                jax.grad(problem.loss)(x, ()), state, x
            )
            x = clip(optax.apply_updates(x, update))
            path.append(x["x"])
        np.testing.assert_allclose(seen[0], np.stack([path[t] for t in stops]), rtol=1e-12)
        np.testing.assert_array_equal(seen[1], stops)


def test_stops_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="ascend"):
        trajectories.follow(
            Bowl(), SGD(), lambda t: 0.1, (5, 2), lambda s, t: t, params={"x": jnp.ones(2)}
        )


def test_a_trajectory_keeps_optimizer_state_in_the_problems_type():
    problem = LogisticRegression(samples=5, inputs=3, state_dtype="bfloat16")
    _, seen = trajectories.follow(
        problem,
        Adam(),
        lambda t: 0.1,
        (2,),
        lambda state, t: optax.tree.get(state.optimizer, "nu")["w"],
        params=problem.init(jax.random.key(0)),
    )
    assert seen.dtype == jnp.bfloat16


def test_a_treated_rule_trains_in_another_basis():
    """In the eigenbasis sign descent is what it is on the unrotated quadratic."""
    flat, turned = (
        NoisyQuadratic(dim=4, noise=0.0, rotation=angle, dtype="float64")
        for angle in (0.0, 30.0)
    )
    with devices.precision("float64"):
        basis = transforms.whole(turned.basis().T)
        rule = trajectories.Treated(
            SignDescent(), lambda rule: transforms.rotate(rule, basis)
        )
        start = {"x": jnp.asarray([1.013, 0.807, -0.311, 2.0])}
        watch = lambda state, t: state.params["x"]  # noqa: E731
        fixed = lambda t: 0.03  # noqa: E731
        _, plain = trajectories.follow(
            flat, SignDescent(), fixed, (50,), watch, params=start
        )
        _, found = trajectories.follow(
            turned, rule, fixed, (50,), watch, params=basis.back(start)
        )
        np.testing.assert_allclose(found @ turned.basis(), plain, atol=1e-10)


def test_classes_halve_as_their_number_doubles():
    problem = HeavyTailed(groups=3)
    x, classes = problem.data()
    assert x.shape == (24, 32)
    np.testing.assert_array_equal(np.bincount(classes), [8, 4, 4, 2, 2, 2, 2])
    loss = problem.loss(problem.init(jax.random.key(0)), (x, classes))
    assert float(loss) == pytest.approx(np.log(7), rel=1e-6)


def test_a_factor_on_the_logistic_loss_leaves_the_decay():
    plain, large = (LogisticRegression(factor=c, l2=0.5) for c in (1.0, 10.0))
    rows = plain.data()
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=20), jnp.float32)}
    w = np.asarray(params["w"], np.float64)
    clean, decay = np.log1p(np.exp(-rows @ w)).mean(), 0.25 * w @ w
    for problem, factor in ((plain, 1), (large, 10)):
        found = float(problem.loss(params, rows))
        assert found == pytest.approx(factor * clean + decay, rel=1e-5)
