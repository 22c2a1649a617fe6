import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import EVERY_OPTIMIZER, SMALL_DIGITS, SMALL_QUADRATIC, vector

from study import devices, metrics, programs, sweep, train
from study.errors import UserError
from study.experiment import Experiment
from study.optimizers import SGD, Adam, Momentum, SignDescent
from study.problems import LeNet, Text

GRID = Experiment(
    problem=SMALL_DIGITS,
    optimizers=(SGD(), Adam()),
    learning_rates=(0.01, 0.1),
    metrics=("loss", "angle", "gradient_norm", "effective_rate"),
    steps=20,
    seeds=2,
    selection_seeds=1,
    records=20,
    evaluations=2,
)
QUADRATIC = dataclasses.replace(GRID, problem=SMALL_QUADRATIC)


@pytest.fixture(scope="module")
def cells():
    """The records of each optimizer on the small digits."""
    return {o: sweep.run_cell(GRID, SMALL_DIGITS, o)[0] for o in GRID.optimizers}


def gap(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("optimizer", GRID.optimizers, ids=str)
def test_a_cell_is_a_plain_python_loop(cells, optimizer):
    """An oracle of a dozen lines: one rate, one seed, a Python float, no scan, no vmap."""
    keys = train.keys(jnp.asarray(1, jnp.int32))
    params, arrays = SMALL_DIGITS.init(keys.init), SMALL_DIGITS.data()
    rule, losses, norms, medians = optimizer.build(0.1), [], [], []
    state, gradient = rule.init(params), jax.jit(jax.value_and_grad(SMALL_DIGITS.loss))
    for t in range(GRID.steps):
        batch = SMALL_DIGITS.sample(arrays, jax.random.fold_in(keys.data, t))
        loss, grad = gradient(params, batch)
        losses.append(loss)
        norms.append(np.linalg.norm(vector(grad)))
        update, state = rule.update(grad, state, params)
        params = optax.apply_updates(params, update)
        u, g = np.asarray(vector(update)), np.asarray(vector(grad))
        medians.append(np.median(-u[g != 0] / g[g != 0]))
    cell = cells[optimizer].sel(learning_rate=0.1, seed=1)
    assert gap(cell.loss, losses) < 1e-5
    assert gap(cell.gradient_norm, norms) < 1e-5
    final = SMALL_DIGITS.evaluate(arrays, params)["test_loss"]
    assert gap(cell.test_loss[-1], final) < 1e-5
    costly = cell.effective_rate.sel(quantile=0.5)  # of the step after an evaluation
    assert gap(costly[:-1], [medians[t] for t in cell.evaluation.values[:-1]]) < 1e-4
    assert np.isnan(costly[-1])


@pytest.mark.parametrize("optimizer", GRID.optimizers, ids=str)
def test_a_run_alone_agrees_with_its_cell(cells, optimizer):
    alone = dataclasses.replace(
        GRID, learning_rates=(0.1,), seeds=1, first_seed=1, selection_seeds=0
    )
    run, _ = sweep.run_cell(alone, SMALL_DIGITS, optimizer)
    cell = cells[optimizer].sel(learning_rate=[0.1], seed=[1])
    for name in ("loss", "gradient_norm", "test_loss"):
        assert gap(run[name], cell[name]) < 1e-5


def test_at_equal_seed_all_see_the_same_start_and_batches(cells):
    """Bitwise: the first loss sees start and batch, before any update."""
    sgd, adam = cells.values()
    np.testing.assert_array_equal(sgd.loss[..., 0], adam.loss[..., 0])
    np.testing.assert_array_equal(sgd.loss[0, :, 0], sgd.loss[1, :, 0])
    np.testing.assert_array_equal(sgd.test_loss[..., 0], adam.test_loss[..., 0])


@pytest.mark.parametrize("optimizer", EVERY_OPTIMIZER, ids=str)
def test_batches_do_not_depend_on_optimizer_or_rate(optimizer):
    """The noise of the quadratic is loss minus objective: the same for all, bitwise."""
    problem = SMALL_QUADRATIC
    keys, arrays = train.keys(jnp.asarray(0, jnp.int32)), problem.data()
    params = problem.init(keys.init)
    state = train.start(optimizer, 0.5, params)
    _, step = train.step(problem, optimizer, arrays, 0.5, keys.data, state, jnp.asarray(7))
    batch = problem.sample(arrays, jax.random.fold_in(keys.data, 7))
    np.testing.assert_array_equal(step.loss, problem.loss(params, batch))


def test_a_rerun_is_bitwise_equal(cells):
    programs.compiled.cache_clear()
    again, _ = sweep.run_cell(GRID, SMALL_DIGITS, Adam())
    assert again.identical(cells[Adam()])


def test_other_learning_rates_do_not_compile_again(cells):
    before = programs.compiled.cache_info().misses
    other = dataclasses.replace(GRID, learning_rates=(0.02, 0.3))
    _, cost = sweep.run_cell(other, SMALL_DIGITS, Adam())
    assert programs.compiled.cache_info().misses == before
    assert cost.compile_seconds == 0


def test_chunks_and_padding_change_nothing(cells, monkeypatch):
    monkeypatch.setattr(programs, "width", lambda *_: 4)
    chunked, cost = sweep.run_cell(GRID, SMALL_DIGITS, Adam())
    assert (cost.runs, cost.width) == (6, 4)
    for name in ("loss", "test_loss"):
        assert gap(chunked[name], cells[Adam()][name]) < 1e-5


def test_runs_taken_in_groups_are_the_runs(cells, monkeypatch):
    """Three runs on each of two devices, one after the other."""
    monkeypatch.setattr(programs, "CACHE", 1)
    programs.compiled.cache_clear()
    grouped, cost = sweep.run_cell(GRID, SMALL_DIGITS, Adam())
    programs.compiled.cache_clear()
    assert cost.group == 1 < cost.width
    for name in ("loss", "angle", "test_loss"):
        assert gap(grouped[name], cells[Adam()][name]) < 1e-5


@pytest.mark.parametrize("runs", [1, 2, 7, 100, 101, 10_000])
@pytest.mark.parametrize("largest", [1, 3, 14])
def test_a_device_takes_its_runs_in_equal_groups(runs, largest, monkeypatch):
    monkeypatch.setattr(programs, "_largest", lambda problem, optimizer: largest)
    monkeypatch.setattr(programs, "_run_bytes", lambda problem, optimizer: (1, 1))
    width = programs.width(SMALL_DIGITS, Adam(), runs)
    each = width // jax.local_device_count()
    group = programs.group(SMALL_DIGITS, Adam(), width)
    assert runs <= width < runs + 2 * largest * jax.local_device_count()
    assert each % group == 0
    assert group <= largest
    assert group == each or group >= largest / 2


@pytest.mark.parametrize("runs", [1, 7, 101, 1_215])
@pytest.mark.parametrize("largest", [1, 14, None])
def test_runs_side_by_side_are_equal_chunks_of_all_devices(runs, largest, monkeypatch):
    monkeypatch.setattr(programs, "_largest", lambda problem, optimizer: largest)
    count = jax.local_device_count()
    width = programs.abreast(SMALL_DIGITS, Adam(), runs)
    chunks = -(-runs // width)
    assert width % count == 0
    assert width <= (largest or runs + 1) * count
    assert chunks * width - runs < chunks * count  # less than a run of a device is padding
    assert chunks == (-(-runs // (largest * count)) if largest else 1)


def test_memory_is_what_was_allowed(monkeypatch):
    monkeypatch.setattr(devices, "_allowed", {"GiB": 1.0})
    assert devices.memory() == 2**30 // jax.local_device_count()
    monkeypatch.setattr(programs, "_run_bytes", lambda problem, optimizer: (2**20, 2**20))
    monkeypatch.setattr(programs, "_largest", lambda problem, optimizer: 1)
    width = programs.width(SMALL_DIGITS, Adam(), 10_000)
    assert 900 < width < 1024  # in chunks of about 1 GiB
    with pytest.raises(UserError, match="positive"):
        devices.prepare(memory=0.0)


@pytest.mark.parametrize(("steps", "records", "evaluations"), [(20, 5, 2), (7, 3, 2)])
def test_a_coarser_clock_shows_the_same_run(steps, records, evaluations):
    coarse = dataclasses.replace(
        QUADRATIC, steps=steps, records=records, evaluations=evaluations
    )
    fine = dataclasses.replace(QUADRATIC, steps=steps, records=steps)
    one, _ = sweep.run_cell(coarse, SMALL_QUADRATIC, Momentum())
    other, _ = sweep.run_cell(fine, SMALL_QUADRATIC, Momentum())
    picked = other.sel(step=list(coarse.recorded_steps))
    assert gap(one.loss, picked.loss) < 1e-5
    assert gap(one.objective[..., -1], other.objective[..., -1]) < 1e-5


def test_a_diverging_run_is_stored_as_it_is_and_poisons_no_neighbour():
    wild = dataclasses.replace(QUADRATIC, learning_rates=(0.1, 1e20))
    tame = dataclasses.replace(QUADRATIC, learning_rates=(0.1, 0.2))
    one, _ = sweep.run_cell(wild, SMALL_QUADRATIC, SGD())
    other, _ = sweep.run_cell(tame, SMALL_QUADRATIC, SGD())
    assert not np.isfinite(one.objective.values[1, :, -1]).any()
    np.testing.assert_array_equal(one.loss.values[0], other.loss.values[0])


def test_x64_stays_inside_its_own_cell():
    double = dataclasses.replace(SMALL_QUADRATIC, dtype="float64")
    wide, _ = sweep.run_cell(QUADRATIC, double, SGD())
    narrow, _ = sweep.run_cell(QUADRATIC, SMALL_QUADRATIC, SGD())
    assert wide.loss.dtype == np.float64
    assert narrow.loss.dtype == np.float32
    assert jnp.asarray(1.0).dtype == jnp.float32
    assert gap(narrow.loss, wide.loss) > 0  # another stream of noise, another run


def test_half_precision_is_recorded_as_float32_with_its_name():
    half = dataclasses.replace(SMALL_QUADRATIC, dtype="bfloat16")
    records, _ = sweep.run_cell(QUADRATIC, half, SignDescent())
    assert records.loss.dtype == np.float32
    assert records.attrs["dtype"] == "bfloat16"


def test_records_are_labelled(cells):
    records = cells[Adam()]
    assert records.angle.dims == ("learning_rate", "seed", "step")
    assert records.angle_by_leaf.dims == ("learning_rate", "seed", "step", "leaf")
    assert "layers.0.kernel" in records.leaf
    assert records.angle.attrs["units"] == "radian"
    assert records.for_selection.values.tolist() == [0, 0, 1]
    assert records.evaluation.values.tolist() == [0, 10, 20]


def test_an_unknown_metric_is_refused():
    wrong = dataclasses.replace(GRID, metrics=("angel",))
    with pytest.raises(UserError, match="did you mean 'angle'"):
        sweep.run_cell(wrong, SMALL_DIGITS, SGD())
    assert "angle" in metrics.METRICS


def test_cost_counts_parameters_and_state():
    _, cost = sweep.run_cell(GRID, SMALL_DIGITS, Adam())
    assert cost.parameters == 64 * 4 + 4 + 4 * 10 + 10
    assert cost.state_bytes == 4 * (2 * cost.parameters + 1)  # m, v and the count


@pytest.mark.parametrize("problem", [LeNet(), Text(windows=64, batch_size=0)], ids=str)
def test_memory_of_a_run_is_not_underestimated(problem):
    """What XLA says that a slope and an evaluation need, one run alone."""
    data, key = problem.data(), jax.random.key(0)
    params = jax.eval_shape(problem.init, key)
    for part, run in (
        ("slope", lambda d, p, k: problem.slope(p, problem.sample(d, k))),
        ("evaluate", lambda d, p, k: problem.evaluate(d, p)),
    ):
        compiled: Any = jax.jit(run).lower(data, params, key).compile()
        needed = compiled.memory_analysis().temp_size_in_bytes
        assert programs.between(problem, part) >= needed


@pytest.mark.parametrize("width", [1, 4, 9])
def test_runs_in_chunks_are_the_runs(width):
    def run(offset, x, y):
        return offset + x * jnp.asarray([1.0, y])

    axes = [np.arange(7, dtype=np.float32), np.arange(7, 14, dtype=np.float32)]
    done: list[float] = []
    found = devices.map_runs(run, (np.float32(2),), axes, width, done.append)
    expected = 2 + axes[0][:, None] * np.stack([np.ones(7), axes[1]], axis=1)
    np.testing.assert_array_equal(found, expected)
    assert done == sorted(set(done))
    assert done[-1] == 1
