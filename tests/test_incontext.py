"""The linear transformer against attention over tokens, and against gradient descent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import vector

from experiments import linear_transformer
from study import devices, sweep
from study.problems import InContextRegression
from study.problems.incontext import moments

SMALL = InContextRegression(dimension=3, context=6, batch_size=4, deviation=0.4)


def drawn(problem, key):
    """Weights, raw prompts and their moments, float64."""
    with jax.enable_x64(True):
        wide = dataclasses.replace(problem, dtype="float64")
        params, prompts = jax.jit(lambda: (wide.init(key), wide.prompts(key)))()
        prompts = [np.asarray(x) for x in prompts]
        return jax.tree.map(np.asarray, params), prompts, moments(*prompts)


def attention(p, q, tokens):
    """One layer of the source on tokens (x, y) [token, d + 1], the query the last."""
    d, n = len(p), len(tokens) - 1
    values, scores = np.zeros((2, d + 1, d + 1))
    values[:d, :d], values[d, d], scores[:d, :d] = p, 1, q
    mask = np.eye(n + 1)
    mask[n, n] = 0
    return tokens + tokens @ scores @ tokens.T @ mask @ tokens @ values.T / n


def test_answers_are_those_of_attention_over_tokens(key):
    params, (x, w, query), batch = drawn(SMALL, key)
    expected = []
    for b in range(SMALL.batch_size):
        tokens = np.vstack([x[..., b], query[:, b]])
        labels = np.append(x[..., b] @ w[:, b], 0)
        tokens = np.column_stack([tokens, labels])
        for layer in params.values():
            tokens = attention(layer["P"], layer["Q"], tokens)
        expected.append(-tokens[-1, -1])
    with jax.enable_x64(True):
        found, loss = jax.jit(lambda *x: (SMALL.answers(*x), SMALL.loss(*x)))(params, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    errors = np.array(expected) - (w * query).sum(0)
    np.testing.assert_allclose(loss, (errors**2).mean())


@pytest.mark.parametrize("layers", [1, 3])
def test_without_p_each_layer_is_a_step_of_preconditioned_descent(layers, key):
    """On the half mean square of the examples' errors, from w = 0."""
    problem = dataclasses.replace(SMALL, layers=layers)
    params, (x, w, query), batch = drawn(problem, key)
    params = {name: v | {"P": np.zeros((3, 3))} for name, v in params.items()}
    found = np.zeros_like(w)
    for layer in params.values():
        errors = np.einsum("ndb,db->nb", x, found - w)
        slope = np.einsum("ndb,nb->db", x, errors) / len(x)
        found = found + layer["Q"] @ slope  # -Q is the preconditioner
    with jax.enable_x64(True):
        answers = jax.jit(problem.answers)(params, batch)
    np.testing.assert_allclose(answers, (found * query).sum(0), rtol=1e-10)


def test_the_gradient_is_that_of_finite_differences_and_the_last_p_has_none(key):
    params, _, batch = drawn(SMALL, key)
    with jax.enable_x64(True):
        slope = jax.jit(jax.value_and_grad(SMALL.loss))
        _, grad = slope(params, batch)
        random = np.random.default_rng(0)
        toward = jax.tree.map(lambda x: random.normal(size=x.shape), params)
        moved = [
            jax.tree.map(lambda x, v, h=h: x + h * v, params, toward) for h in (1e-6, -1e-6)
        ]
        ends = [slope(params, batch)[0].item() for params in moved]
    expected = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(vector(grad) @ vector(toward), expected, rtol=1e-6)
    sizes = {name: np.abs(v["P"]).max() for name, v in grad.items()}
    assert sizes.pop("layer_2") == 0
    assert min(sizes.values()) > 0


def test_the_source_has_150_weights_and_zero_answers_cost_the_dimension(key):
    problem = InContextRegression(deviation=0.0)
    params = problem.init(key)
    assert vector(params).size == 150
    found = jax.jit(problem.evaluate)(problem.data(), params)
    for name in ("validation_loss", "test_loss"):  # the mean of |w|^2 is d, give or take
        assert float(found[name]) == pytest.approx(5, rel=0.2)
    assert found["validation_loss"] != found["test_loss"]


def test_batches_are_new_and_examples_are_their_prompts(key):
    draw = jax.jit(lambda t: SMALL.batch({}, key, t))
    batches = [draw(jnp.asarray(t)) for t in (0, 1)]
    assert not np.allclose(batches[0][0], batches[1][0])
    params = SMALL.init(key)
    each = jax.jit(jax.vmap(SMALL.loss, (None, 0)))
    losses = each(params, SMALL.examples(batches[0]))
    assert losses.shape == (SMALL.batch_size,)
    np.testing.assert_allclose(
        losses.mean(), jax.jit(SMALL.loss)(params, batches[0]), rtol=1e-5
    )


# The experiment ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Losses [seed, step] by condition, with all conditions side by side."""
    problem = InContextRegression(
        dimension=2, context=2, layers=1, batch_size=3, deviation=1.5
    )
    experiment = dataclasses.replace(
        linear_transformer.DEFAULT,
        problem=problem,
        steps=8,
        selected_at=8,
        window=1,
        horizons=(8,),
    )
    settings = [(name, 0.1) for name in linear_transformer.CONDITIONS]
    with devices.precision("float32"):
        found = linear_transformer._train(experiment, problem, settings, (0, 1), 8)
    return problem, dict(
        zip([name for name, _ in settings], found["loss"].swapaxes(0, 1), strict=True)
    )


UNIT = optax.stateless(lambda g, _: optax.tree.scale(1 / optax.tree.norm(g), g))
RULES = {
    "SGD": (optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "momentum, not clipped": (optax.sgd(0.1, momentum=0.9),),
    "momentum of unit gradients": (UNIT, optax.sgd(0.1, momentum=0.9)),
    "AdamW": (optax.clip_by_global_norm(1.0), optax.adamw(0.1, b2=0.9, weight_decay=0.0)),
    "normalised momentum": (
        optax.clip_by_global_norm(1.0),
        optax.trace(0.9),
        UNIT,
        optax.scale(-0.1),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_condition_side_by_side_is_its_rule_alone(name, trained):
    problem, losses = trained
    rule = optax.chain(*RULES[name])

    @jax.jit
    def run(params, key):
        def advance(carry, t):
            params, state = carry
            loss, grad = problem.slope(params, problem.batch({}, key, t))
            update, state = rule.update(grad, state, params)
            return (optax.apply_updates(params, update), state), loss

        return jax.lax.scan(advance, (params, rule.init(params)), jnp.arange(8))[1]

    with devices.precision("float32"):
        params, keys = sweep.starts(problem, (0, 1))
        expected = run(jax.tree.map(lambda x: x[1], params), keys[1])
    np.testing.assert_allclose(losses[name][1], expected, rtol=1e-4)
    assert not np.allclose(losses[name], losses["Signum"], rtol=1e-3)
