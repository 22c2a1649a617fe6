"""The first updates of every entry against NumPy float64, written from the papers."""

import dataclasses

import golden_steps  # noqa: F401  (registers its rules)
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import CURVATURE, GOLDEN, LEAVES, VALUES
from golden_trees import quasi_newton
from helpers import EVERY_OPTIMIZER

from study import streams, symmetry
from study.optimizers import (
    OPTIMIZERS,
    DAdaptAdamW,
    DoG,
    DoWG,
    LBFGSLineSearch,
    NormalisedGD,
    Prodigy,
    ScheduleFreeAdamW,
)

RATE, STEPS = 0.05, len(VALUES)
RANDOM = np.random.default_rng(7)
THETA = RANDOM.normal(size=16)
THETA[LEAVES["bias"][0]] = 0  # a leaf without a length
SIZES = np.geomspace(0.1, 3, STEPS)[:, None]  # shorter and longer than every limit
GRADS = SIZES * (THETA + RANDOM.normal(size=(STEPS, 16)))
GRADS[:, 12] = 0  # an element without a gradient
COMPARED = [o for o in EVERY_OPTIMIZER if not isinstance(o, LBFGSLineSearch)]

# In float32 Optax has: singular vectors, powers of t, roots of t.
LOOSE = {"GaLore": 1e-6, "Adafactor": 1e-7, "MADGRAD": 1e-7}
# On gradients that are not those of one convex loss, L-BFGS loses its digits.
SHORT = {"LBFGS": 6}

# Every field at a value at which it has a say; other fields by their names below.
CHANGED = {
    "ADOPT": {"eps": 0.5},
    "AdEMAMix": {"b3": 0.95, "alpha": 2.0},
    "Adafactor": {
        "min_dim_size_to_factor": 3,
        "decay_rate": 0.6,
        "multiply_by_parameter_scale": False,
    },
    "COCOB": {"alpha": 1.5},
    "DPSGD": {"l2_norm_clip": 2.0},
    "Fromage": {"min_norm": 2.5},
    "GaLore": {"rank": 1},
    "LARS": {"trust_coefficient": 0.02},
    "LBFGS": {"memory_size": 2},
    "Lookahead": {"sync_period": 3, "slow_step_size": 0.3},
    "Muon": {"ns_steps": 3},
    "OptimisticAdam": {"alpha": 0.8, "beta": 0.6},
    "OptimisticAveraging": {"alpha": 0.8, "beta": 0.6},
    "OptimisticGD": {"alpha": 0.8, "beta": 0.6},
    "Padam": {"p": 0.3},
    "RAdam": {"threshold": 4.2},
    "Rprop": {
        "eta_minus": 0.3,
        "eta_plus": 1.4,
        "min_step_size": 0.03,
        "max_step_size": 0.08,
    },
    "SAM": {"rho": 0.3},
    "Sophia": {"gamma": 5.0, "eps": 0.1},
    "TwoAverages": {"b3": 0.95, "alpha": 2.0},
    "DoWG": {"init_estim_sq_dist": 0.01},
}
EPSILONS = ("eps", "eps_root", "initial_accumulator")
DECAYS = ("b1", "b2", "b3", "beta", "decay", "rho", "momentum")
BOUNDS = ("f_min", "lower_bound")
# What no deterministic update shows: noise, decoupled decay, and new singular vectors,
# whose signs are LAPACK's own choice.
UNSEEN = {"base", "weight_decay", "eta", "seed", "noise_multiplier", "update_proj_gap"}


def silent(entry, name):
    return name in UNSEEN or (type(entry).__name__, name) == ("NoisySGD", "gamma")


def changed(entry):
    """The entry with no field at its default but those in UNSEEN."""
    fields = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    new = {name: 0.03 for name in EPSILONS if name in fields}
    new |= {name: 0.8 * fields[name] for name in DECAYS if name in fields}
    new |= {name: 0.2 for name in BOUNDS if name in fields}
    if "weight_decay" in fields:
        new["weight_decay"] = 0.1
    return dataclasses.replace(entry, **new | CHANGED.get(type(entry).__name__, {}))


def tree_of(vector):
    return {
        name: jnp.asarray(vector[..., place].reshape(*vector.shape[:-1], *shape))
        for name, (place, shape) in LEAVES.items()
    }


def runner(entry, shaped=tree_of):
    """Updates [step, element] of an entry on gradients [step, element]."""
    run = jax.jit(lambda s: streams.vector(streams.updates(entry, RATE, s)))

    def updates(grads):
        with jax.enable_x64(True):
            values, curvature = jnp.asarray(VALUES), jnp.asarray(CURVATURE)
            stream = streams.Stream(shaped(THETA), shaped(grads), values, curvature)
            return np.asarray(run(stream))

    return updates


def expected(entry):
    steps = SHORT.get(type(entry).__name__, STEPS)
    return GOLDEN[type(entry).__name__](entry, RATE, THETA, GRADS[:steps])


def agree(entry, shaped=tree_of):
    right = expected(entry)
    errors = np.linalg.norm(runner(entry, shaped)(GRADS)[: len(right)] - right, axis=1)
    limit = LOOSE.get(type(entry).__name__, 1e-10)
    return np.all(errors <= limit * np.linalg.norm(right, axis=1))


@pytest.mark.parametrize("optimizer", COMPARED, ids=str)
def test_first_updates_equal_the_papers(optimizer):
    assert agree(optimizer.without_noise())


@pytest.mark.parametrize("optimizer", COMPARED, ids=str)
def test_every_field_does_what_the_papers_say(optimizer):
    entry = changed(optimizer.without_noise())
    if entry != optimizer.without_noise():
        leaves = GOLDEN[type(entry).__name__].__module__ == "golden_trees"
        # Where leaves do not matter, one alone compiles faster.
        assert agree(entry, tree_of if leaves else jnp.asarray)


@pytest.mark.parametrize("optimizer", COMPARED, ids=str)
def test_every_field_has_a_say_in_what_is_compared(optimizer):
    """Back at its default, each field changes an update by much more than the limit."""
    entry = changed(optimizer.without_noise())
    right = expected(entry)
    for field in dataclasses.fields(entry):
        if silent(entry, field.name):
            continue
        back = {field.name: getattr(optimizer, field.name)}
        other = expected(dataclasses.replace(entry, **back))
        change = np.linalg.norm(other - right, axis=1)
        assert np.any(change > 1e-4 * np.linalg.norm(right, axis=1)), field.name


def test_every_entry_has_a_golden_rule():
    entries = {type(o).__name__ for o in EVERY_OPTIMIZER}
    assert set(GOLDEN) | {LBFGSLineSearch.__name__} == entries


def test_the_line_search_ends_where_the_strong_wolfe_conditions_hold():
    """On f = f_t + <g, d> + curvature / 2 |d|^2, d along -H g; H has positive curvature."""
    entry = LBFGSLineSearch()
    updates, hessian = runner(entry), np.linspace(0.5, 4, len(THETA))
    places, grads = [THETA], np.ones_like(GRADS)
    for t in range(5):
        g = grads[t] = hessian * places[t]
        step = updates(grads)[t]  # later gradients have no say
        along = -quasi_newton(grads[: t + 1], places, entry.memory_size)
        lengths = np.linalg.norm(step) * np.linalg.norm(along)
        assert step @ along == pytest.approx(lengths, rel=1e-9)
        assert g @ step + CURVATURE * step @ step / 2 <= 1e-4 * g @ step
        assert abs((g + CURVATURE * step) @ step) <= 0.9 * abs(g @ step)
        places.append(places[t] + step)


@pytest.mark.parametrize("name", ["NoisySGD", "DPSGD"])
def test_noise_has_the_stated_size(name):
    entry = OPTIMIZERS[name]()
    noise = (runner(entry)(GRADS) - runner(entry.without_noise())(GRADS)) / RATE
    if name == "NoisySGD":
        stated = np.sqrt(entry.eta / np.arange(1, STEPS + 1) ** entry.gamma)
    else:
        stated = np.full(STEPS, entry.noise_multiplier * entry.l2_norm_clip)
    # The standard deviation of 192 normal numbers is within 20 % of theirs.
    assert np.std(noise / stated[:, None]) == pytest.approx(1, abs=0.2)
    thirds = np.std(noise.reshape(3, -1) / np.repeat(stated, 16).reshape(3, -1), axis=1)
    assert thirds == pytest.approx(np.ones(3), abs=0.35)


def test_dpsgd_clips_each_example_and_shares_the_noise_among_them():
    entry = OPTIMIZERS["DPSGD"]()
    with jax.enable_x64(True):
        examples, params = tree_of(GRADS), tree_of(THETA)
        grad = jax.tree.map(lambda g: g.mean(0), examples)

        def update(entry):
            rule = entry.build(RATE)
            made = rule.update(grad, rule.init(params), params, example_grads=examples)[0]
            return np.asarray(streams.vector(made, axes=0))

        quiet, loud = update(entry.without_noise()), update(entry)
    clipped = GOLDEN["DPSGD"](entry, RATE, THETA, GRADS)
    np.testing.assert_allclose(quiet, clipped.mean(0), rtol=1e-10)
    stated = RATE * entry.noise_multiplier * entry.l2_norm_clip / STEPS
    assert np.std(loud - quiet) == pytest.approx(stated, rel=0.5)


# Rules that see neither leaves nor losses, so that any vector will do.
FLOORED = [
    o
    for o in COMPARED
    if type(o).__module__.endswith(("adam", "elementwise"))
    or isinstance(o, NormalisedGD | ScheduleFreeAdamW | DoG | DoWG | DAdaptAdamW | Prodigy)
]


@pytest.mark.parametrize("optimizer", FLOORED, ids=str)
def test_stated_floors_follow_from_the_papers(optimizer):
    """`Theory.floor` as defined there, of the golden rule, within the factor 2 claimed."""
    rate, theta = 1.0 if optimizer.own_rate else 0.01, np.ones(60)
    lengths = []
    for scale in symmetry.SCALES:
        grads = np.full((40, 60), scale)
        last = GOLDEN[type(optimizer).__name__](optimizer, rate, theta, grads)[-1]
        lengths.append(np.linalg.norm(last))
    floor, stated = symmetry.find_floor(np.array(lengths))[0], optimizer.theory.floor
    if np.isnan(stated):
        assert np.isnan(floor)
    else:
        assert 0.5 < floor / stated < 2
