"""Depth, precision, order of batches, curvature: what the question of scale stands on."""

import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import (
    deep_training,
    deepobs_quadratic,
    depth,
    direction_remains,
    exploding,
    learning_rate,
    same_path,
)
from study import curvature, meanfield, optimizers, propagation, statistics, train
from study.errors import UserError
from study.problems import (
    DeepBlobs,
    DeepObsQuadratic,
    Digits,
    NoisyQuadratic,
    Plateau,
    Recall,
    Saddle,
)
from study.rescaling import RescaledGradient

TINY = Digits(width=4, depth=1, batch_size=8)


# DeepOBS's quadratic ----------------------------------------------------------------------


def test_deepobs_quadratic_has_the_published_constants():
    eigenvalues = np.linalg.eigvalsh(DeepObsQuadratic().hessian())
    np.testing.assert_allclose(eigenvalues[[0, -1]], [0.0055221, 53.1290], rtol=1e-5)
    np.testing.assert_allclose(eigenvalues.sum(), 477.612, rtol=1e-6)
    with jax.enable_x64(True):
        problem = DeepObsQuadratic(dtype="float64")
        data = problem.data()
        start = problem.evaluate(data, problem.init(jax.random.key(0)))
        np.testing.assert_allclose(start["test_loss"], 353.4468, atol=5e-5)
        best = problem.evaluate(data, {"x": jnp.asarray(data["test"][0])})
        np.testing.assert_allclose(best["test_loss"], 86.8735, atol=5e-5)


def test_deepobs_loss_is_the_mean_over_points(key):
    problem = DeepObsQuadratic(dtype="float64")
    with jax.enable_x64(True):
        data = problem.data()
        batch = problem.batch(data, key, jnp.asarray(3))
        chosen = np.asarray(jax.random.permutation(key, 1000))[3 * 128 : 4 * 128]
        x = np.linspace(-1, 1, 100)
        away = x - data["points"][chosen]
        each = np.sum(away @ data["hessian"] * away, -1) / 2
        loss, grad = problem.slope({"x": jnp.asarray(x)}, batch)
        np.testing.assert_allclose(loss, each.mean(), rtol=1e-12)
        np.testing.assert_allclose(grad["x"], (away @ data["hessian"]).mean(0), rtol=1e-9)


@pytest.mark.parametrize("order", ["fixed", "reshuffled"])
def test_an_epoch_sees_every_point_once_and_the_order_is_as_asked(order, key):
    problem = DeepObsQuadratic(order=order, batch_size=250)
    data = problem.data()
    means = np.stack([problem.batch(data, key, jnp.asarray(t))[1] for t in range(8)])
    every = data["points"].mean(0)
    for epoch in (means[:4], means[4:]):
        np.testing.assert_allclose(epoch.mean(0), every, atol=1e-6)
    assert np.array_equal(means[:4], means[4:]) == (order == "fixed")


# Precision --------------------------------------------------------------------------------


def test_gradients_in_float32_and_a_power_of_two_change_nothing(key):
    scaled = dataclasses.replace(TINY, loss_scale=1024.0)
    params, batch = TINY.init(key), TINY.sample(TINY.data(), key)
    for one, other in zip(
        jax.tree.leaves(TINY.slope(params, batch)),
        jax.tree.leaves(scaled.slope(params, batch)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-9)


def test_gradients_in_half_precision_are_those_of_the_problem_in_it(key):
    mixed = dataclasses.replace(TINY, gradient_dtype="float16")
    half = dataclasses.replace(TINY, dtype="float16")
    params, batch = TINY.init(key), TINY.sample(TINY.data(), key)
    low = jax.tree.map(
        lambda x: x.astype("float16") if x.dtype == "float32" else x, (params, batch)
    )
    _, grad = mixed.slope(params, batch)
    expected = jax.grad(half.loss)(*low)
    for one, other in zip(jax.tree.leaves(grad), jax.tree.leaves(expected), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_array_equal(one, np.asarray(other, np.float32))


def test_loss_scaling_saves_what_float16_flushes(key):
    """A gradient times 1e-8 is 0 in float16, and not with the loss times 2^10."""
    params, batch = TINY.init(key), TINY.sample(TINY.data(), key)
    found = {}
    for scale in (1.0, 1024.0):
        problem = dataclasses.replace(TINY, gradient_dtype="float16", loss_scale=scale)
        factors = jax.tree.map(lambda _: jnp.float32(1e-8), params)
        _, grad = RescaledGradient(problem, factors).slope(params, batch)
        found[scale] = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grad))
    assert found[1.0] == 0
    assert 1e-10 < found[1024.0] < 1e-8


def test_optimizer_state_is_kept_in_the_type_asked_for(key):
    problem = dataclasses.replace(TINY, state_dtype="bfloat16")
    state = train.start(optimizers.Adam(), 0.1, problem.init(key), dtype="bfloat16")
    data = jax.tree.map(jnp.asarray, problem.data())
    after, _ = train.step(problem, optimizers.Adam(), data, 0.1, key, state, jnp.asarray(0))
    for kept in (state, after):
        kinds = {leaf.dtype for leaf in jax.tree.leaves(kept.optimizer)}
        assert kinds == {jnp.dtype("bfloat16"), jnp.dtype("int32")}
        assert {x.dtype for x in jax.tree.leaves(kept.params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "fields",
    [{"gradient_dtype": "float64"}, {"state_dtype": "float64"}, {"loss_scale": 0.0}],
    ids=str,
)
def test_precision_that_cannot_be_is_refused(fields):
    with pytest.raises(UserError, match=next(iter(fields))):
        Digits(**fields)


# Depth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalisation", ["none", "layer"])
def test_the_scanned_network_is_the_unrolled_one(residual, normalisation, key):
    problem = DeepBlobs(
        depth=4,
        width=5,
        points=6,
        activation="tanh",
        residual=residual,
        normalisation=normalisation,
        dtype="float64",
    )
    with jax.enable_x64(True):
        params, (points, _) = problem.init(key), problem.data()
        logits = problem.apply(params, points)
    x = points
    for i, name in enumerate(problem.layers()):
        layer = {k: np.asarray(v) for k, v in params[name].items()}
        z = x @ layer["kernel"] + layer["bias"]
        if name == "readout":
            x = z
            continue
        if normalisation == "layer":
            z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
        x = np.tanh(z) + (x if residual and i else 0)
    np.testing.assert_allclose(logits, x, rtol=1e-12)


def test_weights_of_a_relu_net_times_c_are_a_gradient_times_a_power_of_c(key):
    """Of a linear functional of the output: times c^depth, the direction as it was."""
    problem = DeepBlobs(depth=5, width=8, points=4, dtype="float64")
    with jax.enable_x64(True):
        params, (points, _) = problem.init(key), problem.data()
        output = lambda params: problem.apply(params, points).sum()  # noqa: E731
        kernels = lambda tree: {k: v["kernel"] for k, v in tree.items()}  # noqa: E731
        plain = kernels(jax.grad(output)(params))
        small = kernels(jax.grad(output)(jax.tree.map(lambda x: x / 2, params)))
        for one, other in zip(jax.tree.leaves(small), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(one, other / 2**5, rtol=1e-12)


def test_orthogonal_starts_come_out_of_a_batch(key):
    """A batch of QR factorisations may not wait for itself."""
    problem = DeepBlobs(depth=3, width=8, initialisation="orthogonal")
    params = jax.jit(jax.vmap(problem.init))(jax.random.split(key, 4))
    kernels = np.asarray(params["layer_001"]["kernel"], np.float64)
    for kernel in kernels:
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(8), atol=1e-5)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


def test_a_linear_recurrence_returns_the_first_number_times_a_power(key):
    problem = Recall(length=6, width=3, activation="linear", dtype="float64", gain=0.5)
    with jax.enable_x64(True):
        params = problem.init(key)
        batch = jnp.zeros((1, 6), jnp.float64).at[0, 0].set(2.0)
        w, u, v = (np.asarray(params[k]) for k in ("recurrent", "input", "readout"))
        told = 2.0 * u @ np.linalg.matrix_power(w, 5) @ v
        np.testing.assert_allclose(
            problem.loss(params, batch), (told - 2.0) ** 2 / 2, rtol=1e-12
        )


def test_lengths_of_gradients_are_those_of_the_network_alone():
    problem = DeepBlobs(depth=3, width=4, points=8, activation="tanh")
    laws = (("normal", 0.5), ("orthogonal", 2.0))
    norms, lost = propagation.lengths(problem, laws, 2)
    key = jax.random.split(jax.random.key(0), 2)[1]
    for i, (law, gain) in enumerate(laws):
        alone = dataclasses.replace(problem, initialisation=law, gain=gain)
        _, grads = alone.slope(alone.init(key), alone.data())
        sizes = [np.linalg.norm(grads[name]["kernel"]) for name in problem.layers()]
        np.testing.assert_allclose(norms[i, 1], np.log10(sizes), atol=1e-5)
    np.testing.assert_array_equal(lost, 0)


def test_a_linear_recurrence_keeps_rho_to_the_power_of_its_length():
    found = propagation.recurrence("linear", (0.5, 1.2), (2, 5), 2)
    expected = np.log10([0.5, 1.2])[:, None, None] * np.array([1, 4])[:, None]
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=2), atol=1e-10)


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_powers_vanish_where_normal_numbers_end_or_later(rho):
    """Flushed they are 0 from there on; otherwise they go on, some of them for ever."""
    x, steps = np.float32(1), 0
    while x >= np.finfo(np.float32).tiny:
        x, steps = np.float32(x * np.float32(rho)), steps + 1
    found = propagation.vanished(rho)
    assert found == steps or found == -1 or steps < found <= steps + 150


def test_relu_products_are_log_normal_with_the_known_moments():
    (mean, *_), (variance, low, high) = propagation.log_lengths(5, 25, 400)
    assert low < variance < high
    assert mean == pytest.approx(-0.5, abs=0.25)  # five standard errors
    assert variance == pytest.approx(1.0, abs=0.4)


MEASURED = {  # log chi_1, from an independent programme
    ("tanh", 0.5): -1.386,
    ("tanh", 0.8): -0.446,
    ("tanh", 1.5): 0.130,
    ("tanh", 2.0): 0.309,
    ("tanh", 3.0): 0.624,
    ("sigmoid", 1.0): -2.887,
    ("sigmoid", 3.0): -1.238,
    ("sigmoid", 5.0): -0.690,
}


@pytest.mark.parametrize(("kind", "sigma"), MEASURED)
def test_mean_field_rates_are_those_known(kind, sigma):
    rate = np.log(meanfield.gradient_factor(kind, sigma))
    assert abs(rate - MEASURED[kind, sigma]) < 0.005


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.4142135623730951, 3.0])
def test_mean_field_closed_forms(sigma):
    np.testing.assert_allclose(
        meanfield.gradient_factor("relu", sigma), sigma**2 / 2, rtol=1e-9
    )
    np.testing.assert_allclose(meanfield.gradient_factor("linear", sigma), sigma**2)
    q = 0.7
    np.testing.assert_allclose(
        meanfield.length(q, "relu", sigma, 0.3), sigma**2 * q / 2 + 0.09, rtol=1e-9
    )
    shrinks = sigma**2 / 2 < 1 - 1e-9
    assert (meanfield.fixed_point("relu", sigma) == 0) == shrinks
    scale = meanfield.depth_scale("linear", sigma)
    expected = np.inf if sigma == 1 else 1 / abs(np.log(sigma**2))
    np.testing.assert_allclose(scale, expected)


# Curvature, landscapes, time --------------------------------------------------------------


def test_the_largest_curvatures_of_a_quadratic_are_its_eigenvalues(key):
    problem = NoisyQuadratic(dim=12, rotation="random", noise=0.0, dtype="float64")
    with jax.enable_x64(True):
        batch = problem.sample(problem.data(), key)
        loss = lambda params: problem.loss(params, batch)  # noqa: E731
        found = curvature.largest(loss, problem.init(key), 3)
        np.testing.assert_allclose(found, problem.eigenvalues()[:3][::-1], rtol=1e-9)
        two = NoisyQuadratic(dim=2, condition=4.0, noise=0.0, dtype="float64")
        batch = two.sample(two.data(), key)
        found = curvature.largest(lambda p: two.loss(p, batch), two.init(key))
        np.testing.assert_allclose(found, [1.0], rtol=1e-12)


def test_curvature_of_a_network_agrees_with_its_whole_hessian(key):
    params, batch = TINY.init(key), TINY.sample(TINY.data(), key)
    flat, back = jax.flatten_util.ravel_pytree(params)
    whole = jax.hessian(lambda x: TINY.loss(back(x), batch))(flat)
    expected = np.linalg.eigvalsh(np.asarray(whole, np.float64))[-1]
    found = curvature.largest(lambda p: TINY.loss(p, batch), params)
    np.testing.assert_allclose(found, [expected], rtol=1e-3)


@pytest.mark.parametrize(("radius", "count"), [(3.0, 17), (4.0, 225)])
def test_leaving_a_plateau_takes_as_long_as_in_a_python_loop(radius, count):
    x, steps = radius, 0
    while abs(x) >= 0.1:
        x, steps = x - x * np.exp(-(x**2) / 2), steps + 1
    assert steps == count
    with jax.enable_x64(True):
        leave = same_path._leave(Plateau(dtype="float64"), optimizers.SGD(), 1.0, 1000)
        assert int(leave([radius])) == count
        assert int(leave([9.0])) == -1


@pytest.mark.parametrize("radius", [1e-6, 0.5, 1.0, 6.0, 8.0, 12.0])
def test_a_plateau_keeps_its_slope_where_it_is_flat(radius):
    """The derivative of expm1 cancels there: 6e-4 off at 8, and 0 from 8.6 on."""
    problem = Plateau(dtype="float64")
    with jax.enable_x64(True):
        loss, grad = problem.slope({"x": jnp.asarray([radius])}, ())
        slope = radius * np.exp(-(radius**2) / 2)
        np.testing.assert_allclose(grad["x"], [slope], rtol=1e-12)
        np.testing.assert_allclose(loss, -np.expm1(-(radius**2) / 2), rtol=1e-12)


def test_the_saddle_has_the_slopes_of_its_formula():
    problem = Saddle(dtype="float64")
    with jax.enable_x64(True):
        _, grad = problem.slope({"x": jnp.asarray([0.3, -0.4])}, ())
        np.testing.assert_allclose(grad["x"], [0.3, 0.4 + (-0.4) ** 3], rtol=1e-12)


def test_runs_that_never_arrive_are_censored_not_dropped():
    values = np.array([[3.0, 1.0, 0.5], [3.0, 2.0, 2.0], [3.0, np.nan, 0.9]])
    found = statistics.time_to_target(values, np.array([0, 10, 20]), 1.0)
    np.testing.assert_array_equal(found, [10, np.inf, 20])
    assert statistics.bootstrap(found).value == 20
    assert statistics.bootstrap(np.array([np.inf, np.inf, 1.0])).value == np.inf


def test_the_mean_has_students_interval():
    found = statistics.mean(np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(found[:3], [2.5, 0.44574, 4.55426], atol=1e-5)
    assert statistics.mean(np.array([1.0, np.inf])).low == np.inf
    assert np.isnan(statistics.mean(np.array([1.0, np.nan])).value)


# What experiments make of their records ---------------------------------------------------


def test_clipping_bounds_what_it_says_and_normalising_keeps_the_direction():
    grad = {"a": jnp.asarray([3.0, -4.0]), "b": jnp.asarray([0.0, 12.0])}
    made = {t: exploding.treat(grad, t, jnp.float32(1.0)) for t in exploding.TREATMENTS}
    for name in ("norm", "normalised"):
        for leaf in ("a", "b"):
            np.testing.assert_allclose(made[name][leaf], grad[leaf] / 13, rtol=1e-6)
    half = np.sqrt(0.5)  # each leaf has half of the elements
    np.testing.assert_allclose(made["leaf"]["a"], [0.6 * half, -0.8 * half], rtol=1e-6)
    np.testing.assert_allclose(made["leaf"]["b"], [0, half], rtol=1e-6)
    np.testing.assert_allclose(made["element"]["a"], [0.5, -0.5])
    np.testing.assert_allclose(made["normalised by leaf"]["b"], [0, 1])
    assert made["none"] is grad
    small = jax.tree.map(lambda x: x / 100, grad)
    zero = jax.tree.map(jnp.zeros_like, grad)
    for name in exploding.CLIPPED:
        kept = exploding.treat(small, name, jnp.float32(1.0))
        jax.tree.map(np.testing.assert_array_equal, kept, small)
    for name in exploding.TREATMENTS:
        still = exploding.treat(zero, name, jnp.float32(1.0))
        jax.tree.map(np.testing.assert_array_equal, still, zero)


@pytest.mark.parametrize(
    ("module", "field"),
    [(depth, "networks"), (direction_remains, "precisions"), (exploding, "treatments")],
)
def test_an_unknown_variant_is_the_users_mistake(module, field):
    with pytest.raises(UserError, match=f"{field}.*bogus"):
        dataclasses.replace(module.DEFAULT, **{field: ("bogus",)})


def test_variants_by_name_are_all_there_are():
    assert set(depth.DEFAULT.networks) == set(depth.NETWORKS)
    assert set(direction_remains.DEFAULT.precisions) == set(direction_remains.PRECISIONS)


def test_outcomes_of_a_learning_rate_on_known_curves():
    curves = {
        1e-4: [1.0, 0.99, 0.98, 0.97, 0.96],  # stuck
        1e-3: [1.0, 0.5, 0.2, 0.1, 0.0],  # converging
        1e-2: [1.0, 0.3, 0.5, 0.3, 0.5],  # oscillating
        1e-1: [1.0, 2.0, 4.0, 8.0, 16.0],  # diverged
        1.0: [1.0, 9.0, np.inf, np.nan, np.nan],  # diverged
    }
    values = np.array(list(curves.values()))[None, :, None]
    dims = ("optimizer", "learning_rate", "seed", "evaluation")
    dataset = xr.Dataset(
        {"objective": (dims, values), "slope": 1.0, "curvature": 1.0, "trace": 1.0},
        {"optimizer": ["SGD"], "learning_rate": list(curves), "seed": [0]},
        {"reports": "objective", "problem": "x"},
    )
    found = learning_rate.condense(dataset)
    names = [learning_rate.OUTCOMES[i] for i in found.outcome.values.ravel()]
    assert names == ["stuck", "converging", "oscillating", "diverged", "diverged"]
    np.testing.assert_array_equal(found.good.values.ravel(), [0, 1, 0, 0, 0])
    np.testing.assert_allclose(found.gap, [1.0])
    np.testing.assert_allclose(found.progress.values.ravel()[:3], [0.04, 1.0, 0.5])


@pytest.mark.parametrize(
    ("losses", "norm", "end"),
    [
        ([1.4, 0.5, 0.09, 0.2], 1.0, "arrived"),
        ([1.4, 1.39, 1.386, 1.386], 1e-7, "plateau"),
        ([1.4, 1.39, 1.386, 1.386], 0.0, "no direction"),
        ([1.4, 0.9, 0.7, 0.7], 1.0, "wrong minimum"),
        ([1.4, 1.2, 1.0, 0.5], 1.0, "on its way"),
        ([1.4, 1.2, 1.0, np.nan], 1.0, "not finite"),
    ],
)
def test_how_training_ended(losses, norm, end):
    assert deep_training.ending(np.array(losses), norm) == end


def test_published_floor_and_edges_are_those_of_the_problem():
    assert deepobs_quadratic.FLOOR == 86.8735  # checked against the data above
    assert DeepObsQuadratic().epoch == deepobs_quadratic.EPOCH
    for known in deepobs_quadratic.PUBLISHED.values():
        assert known.rate in deepobs_quadratic.DEFAULT.learning_rates
        assert known.epochs[100] == pytest.approx(known.mean, abs=0.01)
