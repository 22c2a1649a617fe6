import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import EVERY_OPTIMIZER, first_step, random_tree, vector
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study import metrics
from study.metrics import METRICS, Step
from study.optimizers import SGD, Adagrad, Lion, RMSProp, SignDescent

NAMES = tuple(METRICS)
measure = jax.jit(metrics.measure, static_argnums=0)


def random_step(seed=0):
    """A step whose update is an element-wise rescaling, with a few zero gradients."""
    rng = np.random.default_rng(seed)
    params, unscaled = random_tree(seed), random_tree(seed + 1)
    grad = jax.tree.map(lambda m: -m + 0.1, unscaled)
    grad["b"]["c"] = grad["b"]["c"].at[:2].set(0.0)
    update = jax.tree.map(
        lambda m: m * jnp.asarray(rng.lognormal(size=m.shape), jnp.float32), unscaled
    )
    decay = jax.tree.map(lambda p: -0.01 * p, params)
    return Step(params, grad, unscaled, update, decay, jnp.float32(2.5), 0.3)


def cos(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# Each metric once more, in float64 on the flattened tree.
ORACLES = {
    "loss": lambda s: 2.5,
    "alignment": lambda s: cos(s.update, -s.grad),
    "angle": lambda s: np.arccos(cos(s.update, -s.grad)),
    "rescaling_alignment": lambda s: cos(s.update, s.unscaled),
    "rescaling_angle": lambda s: np.arccos(cos(s.update, s.unscaled)),
    "sign_agreement": lambda s: np.mean((s.update * s.grad < 0)[s.grad != 0]),
    "zero_share": lambda s: np.mean(s.grad == 0),
    "norm_ratio": lambda s: np.linalg.norm(s.update) / np.linalg.norm(0.3 * s.grad),
    "relative_update": lambda s: np.linalg.norm(s.update) / np.linalg.norm(s.params),
    "gradient_norm": lambda s: np.linalg.norm(s.grad),
    "update_norm": lambda s: np.linalg.norm(s.update),
    "decay_ratio": lambda s: np.linalg.norm(s.decay) / np.linalg.norm(s.update),
    "predicted_decrease": lambda s: -s.grad @ s.update,
    "density": lambda s: np.abs(s.grad).sum() ** 2 / s.grad.size / (s.grad @ s.grad),
    "anisotropy": lambda s: (
        np.abs(s.update / s.unscaled).max() / np.abs(s.update / s.unscaled).min()
    ),
    "effective_rate": lambda s: np.quantile(
        -(s.update / np.where(s.grad == 0, np.nan, s.grad))[s.grad != 0],
        metrics.QUANTILES,
    ),
    "update_elements": lambda s: s.update,
}
FIELDS = ("params", "grad", "unscaled", "update", "decay")


@pytest.mark.parametrize("name", ORACLES)
def test_a_metric_is_its_float64_oracle(name):
    step = random_step()
    flat = step._replace(**{f: vector(getattr(step, f)) for f in FIELDS})
    value = measure(NAMES, step)[name]
    np.testing.assert_allclose(value, ORACLES[name](flat), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in ORACLES if METRICS[n].by_leaf])
def test_by_leaf_is_each_leaf_alone(name):
    step = random_step()
    by_leaf = measure(NAMES, step)[f"{name}_by_leaf"]
    leaves = [jax.tree.leaves(getattr(step, f)) for f in FIELDS]
    for i, each in enumerate(zip(*leaves, strict=True)):
        alone = {f: vector([x]) for f, x in zip(FIELDS, each, strict=True)}
        if name == "effective_rate" and not np.any(alone["grad"]):
            continue
        expected = ORACLES[name](step._replace(**alone))
        np.testing.assert_allclose(by_leaf[i], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_stays_within_its_bounds_and_is_documented(name):
    entry = METRICS[name]
    value = np.asarray(measure(NAMES, random_step(3))[name])
    assert np.all((value >= entry.low) & (value <= entry.high))
    assert entry.compute.__doc__
    assert entry.label


@pytest.mark.parametrize("learning_rate", [1e-3, 1.0])
def test_plain_sgd_keeps_the_direction(learning_rate):
    values = measure(NAMES, first_step(SGD(), [3.0, -4.0, 0.0], learning_rate))
    np.testing.assert_allclose(values["alignment"], 1, atol=1e-7)
    np.testing.assert_allclose(values["angle"], 0, atol=1e-7)
    np.testing.assert_allclose(values["norm_ratio"], 1, rtol=1e-6)
    np.testing.assert_allclose(values["effective_rate"], learning_rate, rtol=1e-6)
    assert values["sign_agreement"] == 1
    assert values["anisotropy"] == 1


@pytest.mark.parametrize(
    ("grad", "degrees"), [([10, 20, 40], 28.1255), ([1, 2, 100], 53.5214)]
)
@pytest.mark.parametrize("optimizer", [SignDescent(), Lion()], ids=str)
def test_sign_rules_forget_the_ratios(optimizer, grad, degrees):
    values = measure(NAMES, first_step(optimizer, grad))
    np.testing.assert_allclose(np.degrees(values["angle"]), degrees, atol=1e-3)
    np.testing.assert_allclose(values["alignment"], np.sqrt(values["density"]), rtol=1e-6)


def test_adagrad_on_the_first_step_divides_by_its_start_and_its_gradient():
    grad = np.array([0.1, 1.0, 10.0])
    values = measure(NAMES, first_step(Adagrad(), grad))
    expected = cos(grad / np.sqrt(grad**2 + 0.1), grad)
    np.testing.assert_allclose(values["alignment"], expected, rtol=1e-5)


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_direction_metrics_of_one_step_ignore_the_learning_rate(optimizer):
    directions = ("angle", "rescaling_angle", "sign_agreement", "anisotropy")
    slow, fast = (
        measure(NAMES, first_step(optimizer, [3.0, -0.5, 2.0], rate))
        for rate in (1e-3, 1.0)
    )
    for name in directions:
        np.testing.assert_allclose(slow[name], fast[name], rtol=1e-4, atol=1e-6)


EXPONENTS = arrays(np.float64, 12, elements=st.floats(-2, 2))
SIGNS = arrays(np.int8, 12, elements=st.sampled_from([-1, 1]))


@given(EXPONENTS, SIGNS, EXPONENTS)
@settings(max_examples=100, deadline=None)
def test_no_rescaling_turns_beyond_the_kantorovich_bound(magnitudes, signs, logs):
    grad = (signs * 10.0**magnitudes).astype(np.float32)
    factors = (10.0**logs).astype(np.float32)
    tree = {"w": jnp.asarray(grad)}
    minus = {"w": -jnp.asarray(grad)}
    update = {"w": -jnp.asarray(grad) * jnp.asarray(factors)}
    step = Step(tree, tree, minus, update, tree, jnp.float32(0), 1.0)
    values = measure(("alignment", "anisotropy"), step)
    k = float(values["anisotropy"])
    np.testing.assert_allclose(k, factors.max() / factors.min(), rtol=1e-5)
    assert values["alignment"] >= 2 * np.sqrt(k) / (1 + k) - 1e-5


def test_the_kantorovich_bound_is_attained():
    k = 16.0
    grad, update = jnp.asarray([1.0, np.sqrt(k)]), -jnp.asarray([k, np.sqrt(k)])
    zero = {"w": jnp.zeros(2)}
    step = Step(zero, {"w": grad}, {"w": -grad}, {"w": update}, zero, jnp.float32(0), 1.0)
    value = metrics.measure(("alignment",), step)["alignment"]
    np.testing.assert_allclose(value, 2 * np.sqrt(k) / (1 + k), rtol=1e-6)


def test_undefined_is_nan():
    values = measure(NAMES, first_step(SGD(), [0.0, 0.0, 0.0]))
    undefined = (
        "alignment",
        "angle",
        "rescaling_angle",
        "sign_agreement",
        "norm_ratio",
    )
    for name in (*undefined, "density", "anisotropy", "relative_update"):
        assert np.isnan(values[name]), name
    assert np.all(np.isnan(values["effective_rate"]))
    assert values["zero_share"] == 1


def test_a_rule_without_a_counterpart_has_no_rescaling_angle():
    step = first_step(RMSProp(), [1.0, 2.0])
    lost = jax.tree.map(lambda u: jnp.full_like(u, jnp.nan), step.unscaled)
    values = metrics.measure(("rescaling_angle", "angle"), step._replace(unscaled=lost))
    assert np.isnan(values["rescaling_angle"])
    assert np.isfinite(values["angle"])


def test_a_nan_in_the_update_is_not_hidden():
    step = first_step(SGD(), [1.0, 2.0])
    lost = step._replace(update={"w": jnp.asarray([jnp.nan, 1.0])})
    values = metrics.measure(("effective_rate", "angle", "update_norm"), lost)
    assert all(np.all(np.isnan(value)) for value in values.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_whether_it_reads_the_unscaled_update(name):
    step = random_step()
    lost = step._replace(unscaled=jax.tree.map(lambda m: m * jnp.nan, step.unscaled))
    same = np.array_equal(measure(NAMES, step)[name], measure(NAMES, lost)[name])
    assert same != METRICS[name].unscaled
