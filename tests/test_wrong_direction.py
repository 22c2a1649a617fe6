"""Losses whose signs mislead, against closed forms and loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import wrong_direction
from study import devices, optimizers
from study.problems import PeriodicSpike, RandomSpike, SlantedValley, TwoSamples

SPIKE = PeriodicSpike(dtype="float64")
SHORT = PeriodicSpike(large=50.0, period=7, dtype="float64")


def walks(problem, rule, steps, lanes, **more):
    with devices.precision("float64"):
        return wrong_direction._walks(problem, rule, steps, lanes, **more)


def test_the_cycle_is_the_sources():
    """f_t = 1010 x if t mod 101 = 1 else -10 x, t from 1: slope 10 / 101 on average."""
    t = np.arange(1, 304)
    expected = np.where(t % 101 == 1, 1010.0, -10.0)
    data = SPIKE.data()
    found = [
        float(SPIKE.batch(data, jax.random.key(0), jnp.asarray(i))) for i in range(303)
    ]
    np.testing.assert_array_equal(found, expected)
    assert SPIKE.mean() == pytest.approx(10 / 101)
    assert RandomSpike().mean() == 0.25


def test_the_mean_gradient_points_to_the_minimum(key):
    problem = RandomSpike()
    drawn = jax.vmap(lambda k: problem.sample({}, k))(jax.random.split(key, 4000))
    assert set(np.unique(drawn)) == {-1.0, 4.0}
    assert float(drawn.mean()) == pytest.approx(0.25, abs=0.12)


@pytest.mark.parametrize(("start", "bound"), [(-1.0, 1.0), (0.3, 1.0), (0.0, np.inf)])
def test_adams_walk_is_a_loop_in_numpy(start, bound):
    """Projection after the step, rates by 1/sqrt(t), t from 1."""
    x, m, v, path = start, 0.0, 0.0, [start]
    for t in range(1, 41):
        g = SHORT.cycle()[(t - 1) % SHORT.period]
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        x = np.clip(x - 0.5 / np.sqrt(t) * step, -bound, bound)
        path.append(x)
    lanes = [(0.5, 0.5, start, bound, 0)]
    found = walks(SHORT, optimizers.Adam(b2=0.95), 40, lanes)[0, :, 0]
    np.testing.assert_allclose(found, path, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("b1", "b2"), [(0.0, 0.5), (0.9, 0.9), (0.9, 0.99), (0.5, 0.999)])
def test_adams_drift_is_that_of_a_long_run(b1, b2):
    rule = optimizers.Adam(b1=b1, b2=b2, eps=0.0)
    x = walks(SHORT, rule, 20_000, [(1.0, 0.0, 0.0, np.inf, 0)])[0, :, 0]
    found = (x[-1] - x[-1 - 10 * SHORT.period]) / (10 * SHORT.period)
    assert found == pytest.approx(SHORT.adam_drift(b2, b1), rel=1e-6)


def test_adams_drift_lies_between_the_signs_and_averaged_sgds():
    assert SPIKE.adam_drift(0.0, 0.0) == pytest.approx(99 / 101)
    square = np.mean(SPIKE.cycle() ** 2)
    assert SPIKE.adam_drift(1 - 1e-9) == pytest.approx(
        -SPIKE.mean() / square**0.5, rel=1e-4
    )


def test_adam_turns_where_its_drift_is_zero():
    for b1 in (0.0, 0.9):
        turns = SPIKE.adam_turns(b1)
        assert SPIKE.adam_drift(1 - 1 / (0.99 * turns), b1) > 0
        assert SPIKE.adam_drift(1 - 1 / (1.01 * turns), b1) < 0
    assert SPIKE.adam_turns(0.0) == pytest.approx(
        SPIKE.large / (4 * SPIKE.mean()), rel=0.02
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_with_one_element_the_rescaled_sign_is_sgd(seed):
    lanes = [(0.01, 0.0, 0.0, 1.0, seed)]
    rules = (
        optimizers.SGD(),
        optimizers.RescaledSignDescent(),
        optimizers.ErrorFeedbackSign(decay=0.0),
    )
    first, *others = (walks(RandomSpike(dtype="float64"), r, 200, lanes) for r in rules)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-15)


def test_sign_descent_on_the_random_spike_has_the_law_of_a_reflected_walk():
    """Up by 0.01 with 3/4: the distance to 1 is geometric, its mean 0.01 / 2."""
    lanes = [(0.01, 0.0, 1.0, 1.0, seed) for seed in range(20)]
    x = walks(RandomSpike(dtype="float64"), optimizers.SignDescent(), 3000, lanes)
    assert x[:, 500:].mean() == pytest.approx(1 - 0.01 / 2, abs=3e-4)


@pytest.mark.parametrize("problem", [SlantedValley(), TwoSamples()], ids=str)
@pytest.mark.parametrize(
    ("rule", "stays"),
    [
        (optimizers.SignDescent(), True),
        (optimizers.RescaledSignDescent(), True),
        (optimizers.SGD(), False),
        (optimizers.ErrorFeedbackSign(decay=0.0), False),
    ],
    ids=str,
)
def test_the_sign_alone_stays_on_the_line(problem, rule, stays):
    problem = dataclasses.replace(problem, dtype="float64")
    lanes = [(0.01, 0.0, 0.0, np.inf, seed) for seed in (0, 1)]
    total = walks(problem, rule, 300, lanes, cosine=True).sum(-1)
    np.testing.assert_allclose(total[:, 0], 2.0)
    away = np.abs(total - 2).max(1)
    assert (away < 1e-12).all() if stays else (away > 0.05).all()


def test_both_planes_have_their_minimum_at_zero():
    for problem in (SlantedValley(), TwoSamples()):
        zero = {"x": jnp.zeros(2)}
        assert float(problem.evaluate(problem.data(), zero)["objective"]) == 0
        assert problem.evaluate(problem.data(), {"x": jnp.ones(2) * 0.1})["objective"] > 0


def test_the_samples_disagree_in_sign_and_share_a_solution():
    samples = TwoSamples().data()
    np.testing.assert_allclose(samples, [[1.1, -0.9], [-0.9, 1.1]], rtol=1e-6)
    assert np.linalg.matrix_rank(samples) == 2


def test_regret_is_that_of_the_best_constant(tmp_path):
    """Of sign descent at rates so small that it stays at 0: twice nothing, then -mean."""
    smoke = dataclasses.replace(
        wrong_direction.PRESETS["smoke"], problem=SHORT, factors=(1.0, 1e-9), steps=700
    )
    found, _ = wrong_direction.run_cell(smoke, SHORT, optimizers.SignDescent())
    expected = [-SHORT.mean(), 0.0, SHORT.mean()]  # of x = -1, 0, 1
    still = found.regret.sel(factor=1e-9).values - abs(SHORT.mean())
    np.testing.assert_allclose(still, expected, atol=1e-5)


def test_steps_of_fewer_than_twenty_periods_are_refused():
    with pytest.raises(Exception, match="twenty periods"):
        dataclasses.replace(wrong_direction.DEFAULT, steps=100)
