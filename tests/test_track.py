"""Tracked optimizers: the updates of the optimizer alone, the values of `study.metrics`."""

import dataclasses
import doctest
import functools
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import EVERY_OPTIMIZER
from jax.sharding import NamedSharding, PartitionSpec

from study import metrics, track, train
from study.errors import UserError
from study.metrics import METRICS, Step
from study.track import Tracked

RATE = 0.01
RANDOM = np.random.default_rng(0)
NAMES = [str(optimizer) for optimizer in EVERY_OPTIMIZER]
THETA = {
    "a": jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.float32),
    "b": {"c": jnp.asarray(RANDOM.normal(size=4), jnp.float32)},
}
CHEAP = ("predicted_decrease", "update_norm")


@jax.jit
def slope(params):
    """Elements of many sizes."""
    return jax.tree.map(lambda x: x**3 + 0.1, params)


def follow(rule, params=THETA, **extras):
    """Params, state and update after four steps."""
    step = jax.jit(lambda grad, *at: rule.update(grad, *at, **extras))
    state, update = rule.init(params), params
    for _ in range(4):
        update, state = step(slope(params), state, params)
        params = optax.apply_updates(params, update)
    return params, state, update


def bits(tree):
    """Structure and bytes of a tree."""
    raw = lambda x: jax.random.key_data(x) if is_key(x) else x  # noqa: E731
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(raw(x)).tobytes() for x in jax.tree.leaves(tree)]


# The catalogue ---


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """An entry of the catalogue, tracked, as `train.apply` sees one."""

    optimizer: Any

    @property
    def asks(self):
        return self.optimizer.asks

    def build(self, learning_rate):
        rule = self.optimizer.build(learning_rate)
        return track.track(rule, metrics=("predicted_decrease",), every=2)


X, Y = (jnp.asarray(RANDOM.normal(size=(5, n)), jnp.float32) for n in (4, 3))


def loss(params, x=X, y=Y):
    """Least squares."""
    return jnp.sum(jnp.square(x @ params["w"] - y))


# Programs of their own: how they round is no matter of the optimizer, but merged with it
# by XLA they may round otherwise as soon as anyone looks at a gradient or an update.
SLOPES = jax.jit(lambda many: [jax.value_and_grad(loss)(params) for params in many])
APPLY = jax.jit(optax.apply_updates)


def one_update(optimizer, params, value, grad, state):
    """And the next state."""
    each = lambda: jax.vmap(jax.grad(loss), (None, 0, 0))(params, X, Y)  # noqa: E731
    seen = train.Seen(params, value, grad, loss, each)
    return train.apply(optimizer, RATE, seen, state)


def trajectories(optimizers):
    """Of many rules at once, for compilation's sake: params by step, and last states."""
    run = jax.jit(
        lambda many: [one_update(o, *x) for o, x in zip(optimizers, many, strict=True)]
    )
    path = [[{"w": THETA["a"]}] * len(optimizers)]
    states: list[Any] = [
        o.build(RATE).init(p) for o, p in zip(optimizers, path[0], strict=True)
    ]
    for _ in range(4):
        inputs = zip(path[-1], SLOPES(path[-1]), states, strict=True)
        found = run([(params, *slope, state) for params, slope, state in inputs])
        path.append([APPLY(p, u) for p, (u, _) in zip(path[-1], found, strict=True)])
        states = [state for _, state in found]
    return list(zip(*path, strict=True)), states


@functools.lru_cache(maxsize=1)
def alone_and_tracked(tenth):
    """Ten entries of the catalogue, two programs."""
    entries = EVERY_OPTIMIZER[10 * tenth : 10 * tenth + 10]
    tracked = [Wrapped(entry) for entry in entries]
    return trajectories(entries), trajectories(tracked)


@pytest.mark.parametrize("place", range(len(EVERY_OPTIMIZER)), ids=NAMES)
def test_a_tracked_entry_runs_bitwise_as_alone(place):
    (paths, states), (paths_too, states_too) = alone_and_tracked(place // 10)
    state, state_too = states[place % 10], states_too[place % 10]
    assert bits((paths[place % 10], state)) == bits(
        (paths_too[place % 10], state_too.inner)
    )
    assert jax.tree.structure(state) == jax.tree.structure(state_too.inner)
    assert state_too.step == 2
    assert np.all(np.isfinite(state_too.values))


# What is measured ---


def test_values_are_those_of_the_metrics_on_the_same_step():
    sgd, adam = optax.sgd(RATE), optax.adam(RATE)
    rule = track.track(adam, sgd, tuple(METRICS), learning_rate=RATE)
    grad = slope(THETA)
    update, state = jax.jit(rule.update)(grad, rule.init(THETA), THETA, value=2.5)
    unscaled = jax.tree.map(lambda g: -RATE * g, grad)
    nan = optax.tree.full_like(grad, jnp.nan)
    step = Step(THETA, grad, unscaled, update, nan, jnp.float32(2.5), RATE)
    expected = jax.jit(metrics.measure, static_argnums=0)(tuple(METRICS), step)
    found = track.read(state)
    for name in METRICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
        if METRICS[name].by_leaf:
            leaves = [found[f"{name}/a"], found[f"{name}/b.c"]]
            by_leaf = expected[f"{name}_by_leaf"]
            np.testing.assert_allclose(leaves, by_leaf, rtol=1e-5, atol=1e-6)
    assert np.isnan(found["decay_ratio"])
    assert np.isfinite(found["angle"])


def test_what_is_not_known_is_nan():
    names = ("loss", "norm_ratio", "relative_update", "update_norm")
    rule = track.track(optax.sgd(RATE), metrics=names)
    state = rule.init(THETA)
    assert track.read(state)["step"] == -1
    assert np.isnan(track.read(state)["update_norm"])
    found = track.read(jax.jit(rule.update)(slope(THETA), state)[1])
    assert np.isfinite(found["update_norm"])
    assert all(np.isnan(found[name]) for name in names[:3])


def test_between_measured_steps_the_last_values_stay():
    names = ("update_norm", "norm_ratio")
    schedule: Any = optax.linear_schedule(0.1, 0.0, 10)
    rule = track.track(optax.sgd(schedule), metrics=names, every=3, learning_rate=schedule)

    def advance(state, _):
        update, state = rule.update(slope(THETA), state, THETA)
        return state, (optax.tree.norm(update), track.read(state))

    state, (norms, found) = jax.jit(
        lambda state: jax.lax.scan(advance, state, None, length=8)
    )(rule.init(THETA))
    at = np.array([0, 0, 0, 3, 3, 3, 6, 6])
    np.testing.assert_array_equal(found["step"], at)
    np.testing.assert_allclose(found["update_norm"], norms[at], rtol=1e-6)
    np.testing.assert_allclose(found["norm_ratio"], 1, rtol=1e-5)
    assert track.read(state)["step"] == 6


# Inside and around other transformations ---


def tracked(rule, every=1) -> Any:
    return track.track(rule, metrics=CHEAP, every=every)


def alone(rule) -> Any:
    return rule


LABELS = {"a": "fast", "b": "slow"}
FROZEN = optax.masked(optax.set_to_zero(), {"a": False, "b": True})
COMPOSED = {
    "chain": lambda wrap: optax.chain(
        optax.clip_by_global_norm(1.0), wrap(optax.adam(RATE))
    ),
    "around a chain": lambda wrap: wrap(
        optax.chain(optax.clip(0.5), optax.adamw(optax.linear_schedule(0.1, 0, 9)))
    ),
    "mask": lambda wrap: optax.chain(
        optax.masked(wrap(optax.adam(RATE)), {"a": True, "b": False}), FROZEN
    ),
    "around a mask": lambda wrap: wrap(
        optax.chain(optax.masked(optax.adam(RATE), {"a": True, "b": False}), FROZEN)
    ),
    "partition": lambda wrap: optax.partition(
        {"fast": wrap(optax.adam(0.1)), "slow": optax.sgd(RATE)}, LABELS
    ),
    "small batches": lambda wrap: optax.MultiSteps(
        wrap(optax.adam(RATE)), 2
    ).gradient_transformation(),
    "around small batches": lambda wrap: wrap(
        optax.MultiSteps(optax.adam(RATE), 2).gradient_transformation()
    ),
    "if finite": lambda wrap: optax.apply_if_finite(wrap(optax.adam(RATE)), 2),
    "line search": lambda wrap: optax.chain(
        wrap(optax.sgd(RATE)), optax.scale_by_backtracking_linesearch(3)
    ),
    "polyak": lambda wrap: wrap(optax.polyak_sgd()),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_rules_run_bitwise_as_alone(name):
    half = lambda p: 0.25 * optax.tree.sum(jax.tree.map(lambda x: x**4, p))  # noqa: E731
    extras: dict[str, Any] = {}
    if name == "polyak":
        extras = {"value": jnp.float32(3.0)}
    if name == "line search":
        extras = {"value": half(THETA), "grad": slope(THETA), "value_fn": half}
    fused = name in ("chain", "small batches", "line search")  # with what is around it
    with jax.disable_jit(fused):
        params, _, update = follow(COMPOSED[name](alone), **extras)
        params_too, state, update_too = follow(COMPOSED[name](tracked), **extras)
    assert bits((params, update)) == bits((params_too, update_too))
    found = track.read(state)
    assert found["step"] == (1 if name == "small batches" else 3)
    assert ("update_norm/b.c" in found) == (name not in ("mask", "partition"))
    if "around" in name:
        expected = optax.tree.norm(update)
        np.testing.assert_allclose(found["update_norm"], expected, rtol=1e-6)


def test_a_gradient_that_is_not_finite_is_not_measured():
    rule = optax.apply_if_finite(tracked(optax.adam(RATE)), 2)
    update = jax.jit(rule.update)
    _, state = update(slope(THETA), rule.init(THETA), THETA)
    before = track.read(state)
    _, state = update(optax.tree.full_like(THETA, jnp.nan), state, THETA)
    assert bits(track.read(state)) == bits(before)


def test_a_group_without_params_and_optax_own_map_over_params():
    rule = optax.partition(
        {"fast": tracked(optax.adam(RATE)), "slow": tracked(optax.sgd(RATE))},
        {"a": "fast", "b": "fast"},
    )
    state = rule.init(THETA)
    _, after = jax.jit(rule.update)(slope(THETA), state, THETA)
    places = list(track.find(after))
    assert len(places) == 2
    empty = track.read(track.find(after)[next(p for p in places if "slow" in p)])
    assert empty.keys() == {"step"}
    adam = tracked(optax.adam(RATE), every=2)
    shifted: Any = optax.tree.map_params(adam, lambda x: x + 1, adam.init(THETA))
    np.testing.assert_array_equal(shifted.inner[0].mu["a"], np.ones((4, 3)))
    assert shifted.count == 0


def test_a_derivative_through_the_update_does_not_see_the_metrics():
    def after(wrap, rate):
        rule = wrap(optax.adam(rate))
        update, _ = rule.update(slope(THETA), rule.init(THETA), THETA)
        return optax.tree.norm(optax.apply_updates(THETA, update))

    slopes = [jax.jit(jax.grad(functools.partial(after, w)))(0.1) for w in (alone, tracked)]
    assert slopes[0] == slopes[1] != 0


# Ways to run ---


def test_runs_under_vmap_are_measured_one_by_one_and_only_when_due():
    rule = tracked(optax.adam(RATE), every=2)
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), THETA)
    state = jax.vmap(rule.init)(many)
    state = state._replace(count=jnp.array([0, 1, 2]))
    update = jax.vmap(lambda p, s: rule.update(slope(p), s, p))
    updates, after = jax.jit(update)(many, state)
    found = track.read(after)
    np.testing.assert_array_equal(found["step"], [0, -1, 2])
    norms = np.linalg.norm(np.asarray(updates["b"]["c"]), axis=1)
    expected = np.where([True, False, True], norms, np.nan)
    np.testing.assert_allclose(found["update_norm/b.c"], expected, rtol=1e-6)
    program = str(jax.make_jaxpr(update)(many, state))
    assert "cond[" in program  # and no choice between two computed values
    assert "callback" not in program


def mesh_of_two():
    if jax.device_count() < 2:
        pytest.skip("one device only")
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((2,), ("shard",), axis_types=kinds, devices=jax.devices()[:2])


SOME = ("alignment", "sign_agreement", "update_norm", "effective_rate")


def test_global_arrays_under_jit_are_measured_whole():
    over = NamedSharding(mesh_of_two(), PartitionSpec("shard"))
    rule = track.track(optax.adam(RATE), metrics=SOME)
    expected = track.read(follow(rule)[1])
    split = jax.device_put(THETA, over)
    close(track.read(follow(rule, split)[1]), expected)


@pytest.mark.parametrize("checked", [True, False])
def test_shards_are_put_together_under_shard_map(checked):
    """Leaf `whole` is on both devices, which `check_vma=False` could not tell."""
    mesh = mesh_of_two()
    params = THETA | ({"whole": jnp.arange(3.0)} if checked else {})
    specs = jax.tree.map(lambda _: PartitionSpec("shard"), params)
    specs |= {"whole": PartitionSpec()} if checked else {}
    rule = track.track(optax.adam(RATE), metrics=SOME, axis_name="shard")
    state: Any = rule.init(params)
    inside = jax.tree.map(lambda _: PartitionSpec(), state)
    adam = inside.inner[0]._replace(mu=specs, nu=specs)
    inside = inside._replace(inner=(adam, *inside.inner[1:]))

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(specs, inside),
        out_specs=inside,
        check_vma=checked,
    )
    def step(params, state):
        return rule.update(slope(params), state, params)[1]

    whole = track.track(optax.adam(RATE), metrics=SOME)
    expected = jax.jit(whole.update)(slope(params), whole.init(params), params)[1]
    close(track.read(jax.jit(step)(params, state)), track.read(expected))


def test_replicas_under_pmap_each_have_the_values():
    mesh_of_two()
    rule = tracked(optax.adam(RATE))
    step = lambda grad, state: rule.update(  # noqa: E731
        jax.lax.pmean(grad, "replica"), state, THETA
    )
    twice = lambda tree: jax.tree.map(lambda x: jnp.stack([x, x]), tree)  # noqa: E731
    run = jax.pmap(step, "replica", devices=jax.devices()[:2])
    found = track.read(run(twice(slope(THETA)), twice(rule.init(THETA)))[1])
    np.testing.assert_array_equal(found["step"], [0, 0])
    assert found["update_norm/a"].shape == (2,)


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_bfloat16_updates_stay_and_are_measured_in_float32():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), THETA)
    last, _, update = follow(optax.adam(RATE), params)
    last_too, state, update_too = follow(tracked(optax.adam(RATE)), params)
    assert bits((last, update)) == bits((last_too, update_too))
    found = track.read(state)["update_norm"]
    assert found.dtype == np.float32
    u = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(update)]
    np.testing.assert_allclose(found, np.linalg.norm(np.concatenate(u)), rtol=1e-5)


def test_donated_buffers_are_used_again():
    """A donated buffer that is not would warn, which is an error here."""
    rule = tracked(optax.adam(RATE), every=2)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        update, state = rule.update(slope(params), state, params)
        return optax.apply_updates(params, update), state

    params = jax.tree.map(jnp.copy, THETA)
    first = rule.init(params)
    _, state = step(*step(params, first))
    assert first.values.is_deleted()
    assert track.read(state)["step"] == 0


# Reading ---


def test_a_state_is_found_wherever_it_lies():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Training:
        params: Any
        optimizers: Any

    rule = tracked(optax.sgd(RATE))
    state = rule.init(THETA)
    training = Training(THETA, {"first": (optax.EmptyState(), state), "other": None})
    assert list(track.find(training)) == ["optimizers.first.1"]
    assert track.read(training).keys() == track.read(state).keys()
    nested = track.track(optax.chain(rule, optax.scale(2.0)), metrics=("angle",))
    outer: Any = nested.init(THETA)
    assert "angle" in track.read(outer)
    assert "update_norm" in track.read(outer.inner)


def test_what_cannot_be_done_is_refused_with_a_remedy():
    state = tracked(optax.sgd(RATE)).init(THETA)
    with pytest.raises(UserError, match="there is none"):
        track.read(optax.adam(RATE).init(THETA))
    with pytest.raises(UserError, match=r"several, at 0, 1: read one of find\(state\)"):
        track.read((state, state))
    with pytest.raises(UserError, match="pass reference="):
        track.track(optax.adam(RATE), metrics=("rescaling_angle",))
    with pytest.raises(UserError, match="did you mean 'angle'"):
        track.track(optax.adam(RATE), metrics=("angel",))
    with pytest.raises(UserError, match="every is 0"):
        track.track(optax.adam(RATE), every=0)
    with pytest.raises(UserError, match="no Optax transformation"):
        track.track(optax.adam)  # type: ignore[arg-type]


def test_the_state_survives_a_flax_checkpoint():
    from flax import serialization

    state = tracked(optax.adam(RATE)).init(THETA)
    saved = serialization.to_bytes(state._replace(count=jnp.int32(7)))
    restored = serialization.from_bytes(state, saved)
    assert isinstance(restored, Tracked)
    assert restored.count == 7
    assert track.read(restored).keys() == track.read(state).keys()


# Shown ---


def test_the_documented_example_runs():
    assert doctest.testmod(track).failed == 0


EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.py"))
NEEDED = {"digits_equinox": "equinox", "digits_tensorboard": "tensorboardX"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_its_metrics(path, tmp_path):
    if path.stem in NEEDED:
        pytest.importorskip(NEEDED[path.stem], reason=f"not here: {NEEDED[path.stem]}")
    options = {"folder": str(tmp_path)} if "tensorboard" in path.stem else {}
    with jax.numpy_rank_promotion("allow"):  # these are others' loops
        found = runpy.run_path(str(path))["main"](steps=11, **options)
    assert found["step"] == 10
    assert 0 < found["angle"] < np.pi / 2
    leaves = [name for name in found if name.startswith("angle/")]
    assert len(leaves) == (2 if "tensorboard" in path.stem else 4)
    assert all(np.isfinite(found[name]) for name in leaves)
    if "tensorboard" in path.stem:
        assert list(tmp_path.glob("events.out.tfevents.*"))
