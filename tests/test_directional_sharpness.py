"""Directional sharpness: clipping, rules beside a path, and curvature by dense Hessians."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import directional_sharpness
from study import optimizers, streams
from study.errors import UserError
from study.problems import Digits, HeavyTailed

SMALL = dataclasses.replace(
    directional_sharpness.PRESETS["smoke"],
    optimizers=(optimizers.SGD(), optimizers.Adam()),
    learning_rates=(0.03, 0.3),
    factors=(1.0, 0.5),
    stops=(0, 2, 30),
)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.999])
def test_clipping_takes_the_share_to_the_magnitude_of_the_next(share):
    random = np.random.default_rng(0)
    grad = {"a": random.normal(size=(20, 7)), "b": random.normal(size=60) ** 3}
    grad = jax.tree.map(np.float32, grad)
    flat = np.concatenate([grad["a"].ravel(), grad["b"]])
    limit = np.sort(np.abs(flat))[::-1][int(200 * share)]
    got = directional_sharpness.clip(grad, share)
    for name in grad:
        expected = np.where(
            np.abs(grad[name]) < limit, grad[name], np.sign(grad[name]) * limit
        )
        np.testing.assert_array_equal(got[name], expected)


def test_clipping_all_but_one_is_the_sign():
    grad = {"w": jnp.asarray([3.0, -0.5, 40.0, -7.0])}
    got = directional_sharpness.clip(grad, 0.99)["w"]
    np.testing.assert_array_equal(got, 0.5 * np.sign(grad["w"]))


def test_rules_beside_a_path_see_its_gradients_and_leave_it_alone():
    rules = [optimizers.Adam(), optimizers.Momentum()]
    built = [rule.build(1.0) for rule in rules]
    both = directional_sharpness.beside(optimizers.SGD().build(0.1), built)
    grads = jax.random.normal(jax.random.key(0), (4, 6))
    params = {"w": jnp.zeros(6)}
    state = both.init(params)
    for g in grads[:-1]:
        applied, state = both.update({"w": g}, state, params)
        np.testing.assert_allclose(applied["w"], -0.1 * g, rtol=1e-6)
    stream = streams.Stream(params, {"w": grads}, jnp.zeros(4), jnp.ones(()))
    for rule, own, old in zip(rules, built, state[1], strict=True):
        got = own.update({"w": grads[-1]}, old, params)[0]["w"]
        expected = streams.updates(rule, 1.0, stream)["w"][-1]
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_every_step_has_all_training_images():
    problem = Digits(width=4, depth=1)
    whole, data = directional_sharpness.Whole(problem), problem.data()
    assert len(whole.batch(data)[1]) == 1077
    assert whole.dtype == "float32"
    heavy = HeavyTailed(groups=2)
    drawn = heavy.data()
    assert directional_sharpness.Whole(heavy).batch(drawn) is drawn


@pytest.fixture(scope="module")
def cells():
    """Records on the softmax problem, by path."""
    made = {}
    for rule in SMALL.optimizers:
        made[str(rule)], _ = directional_sharpness.run_cell(SMALL, SMALL.problem, rule)
    return made


def dense(seed, rate, factor):
    """Gradients [step, element] and Hessians on the path of SGD, in closed form."""
    x, classes = HeavyTailed(groups=2, data_seed=seed).data()
    x, hot = x.astype(np.float64), np.eye(3)[classes]
    w, grads, bends = np.zeros((12, 3)), [], []
    for _ in range(31):
        p = np.exp(x @ w)
        p = p / p.sum(1, keepdims=True)
        spread = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None]
        grads.append((x.T @ (p - hot) / len(x)).ravel())
        bend = np.einsum("na,nb,ncd->acbd", x, x, spread) / len(x)
        bends.append(bend.reshape(36, 36))
        w = w - factor * rate * grads[-1].reshape(12, 3)
    return np.array(grads), np.array(bends)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_sharpness_is_that_of_the_dense_hessian_along_rules_in_numpy(cells, seed, factor):
    records = cells["SGD"]
    grads, bends = dense(seed, float(records.rate), factor)
    m, v, count = np.zeros(36), np.zeros(36), 0
    for step, (g, bend) in enumerate(zip(grads, bends, strict=True)):
        m, v, count = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, count + 1
        adam = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        limit = np.sort(np.abs(g))[::-1][3]
        ways = {
            "SGD": g,
            "SignDescent": np.sign(g),
            "Adam": adam,
            "clip 10 %": np.clip(g, -limit, limit),
        }
        if step not in SMALL.stops:
            continue
        at = records.sel(factor=factor, step=step).isel(seed=seed)
        for name, way in ways.items():
            sharp = way @ bend @ way / (way @ way)
            cosine = way @ g / np.linalg.norm(way) / np.linalg.norm(g)
            got = at.sel(direction=name)
            assert float(got.sharpness) == pytest.approx(sharp, rel=2e-4)
            assert float(got.alignment) == pytest.approx(cosine, abs=1e-4)


def test_the_largest_eigenvalue_is_that_of_the_dense_hessian(cells):
    records = cells["SGD"]
    rate = float(records.rate)
    for step in SMALL.stops:
        expected = np.linalg.eigvalsh(dense(0, rate, 1.0)[1][step])[-1]
        got = float(records.eigenvalue.sel(step=step))
        assert got == pytest.approx(expected, rel=1e-3)
    for seed, factor in ((0, 1.0), (1, 0.5)):
        expected = np.linalg.eigvalsh(dense(seed, rate, factor)[1][30])[-1]
        got = float(records.top.sel(factor=factor)[seed])
        assert got == pytest.approx(expected, rel=1e-3)
    assert cells["Adam"].eigenvalue.isnull().all()
    assert cells["Adam"].top.isnull().all()


def test_the_rate_has_the_lowest_loss_on_the_seed_that_is_not_reported(cells):
    for records in cells.values():
        best = int(records.objective.values.argmin())
        assert float(records.rate) == SMALL.learning_rates[best]
        assert int(records.at_edge) == 1
        assert records.sizes["seed"] == SMALL.seeds


def test_paths_stand_side_by_side(cells):
    names = list(cells)
    stacked = xr.concat(cells.values(), xr.IndexVariable("optimizer", names))
    stacked.attrs["problem"] = "P"
    found = directional_sharpness.condense(stacked)
    assert found.path.values.tolist() == ["SGD", "Adam", "SGD x 0.5"]
    rate = float(cells["SGD"].rate)
    assert float(found.rate.sel(path="SGD x 0.5")) == pytest.approx(rate / 2)
    np.testing.assert_array_equal(
        found.sharpness.sel(path="SGD x 0.5"), cells["SGD"].sharpness.sel(factor=0.5)
    )
    assert np.isfinite(found.sharpness).all()
    np.testing.assert_array_equal(found.eigenvalue, cells["SGD"].eigenvalue)


def test_there_is_no_best_step_where_the_curvature_is_negative():
    """And the gain is cos^2 / sharpness over the gradient's."""
    records = xr.Dataset(
        {
            "sharpness": (("path", "step", "direction", "seed"), [[[[4.0, 4], [1, -1]]]]),
            "alignment": (
                ("path", "step", "direction", "seed"),
                [[[[1.0, 1], [0.5, 0.5]]]],
            ),
        },
        {"path": ["SGD"], "step": [30], "direction": ["SGD", "Adam"]},
    )
    results = types.SimpleNamespace(
        selected=lambda problem: records, experiment=types.SimpleNamespace(problem=None)
    )
    got = directional_sharpness.gains(results, "problem", "Adam")  # type: ignore[arg-type]
    np.testing.assert_array_equal(got, [1.0, np.nan])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="factors"):
        dataclasses.replace(SMALL, factors=(0.5,))
    with pytest.raises(UserError, match="ascending"):
        dataclasses.replace(SMALL, stops=(30, 2))
    with pytest.raises(UserError, match="30 among"):
        dataclasses.replace(SMALL, stops=(0, 2))
    with pytest.raises(UserError, match="shares"):
        dataclasses.replace(SMALL, shares=(1.0,))
