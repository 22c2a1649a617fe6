"""The benchmark counts right and runs; how fast it is, no test says."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.speed import floor, loops


def test_a_product_has_two_operations_for_each_multiplication():
    shapes = (
        jax.ShapeDtypeStruct((3, 4, 5), "float32"),
        jax.ShapeDtypeStruct((3, 5, 7), "float32"),
    )
    (product,) = floor._found(jax.make_jaxpr(jnp.matmul)(*shapes).jaxpr)
    assert product.flops == 2 * 3 * 4 * 5 * 7


def test_products_in_a_scan_are_counted_as_often_as_they_run():
    square = jax.ShapeDtypeStruct((4, 4), "float32")
    power = lambda x: jax.lax.fori_loop(0, 6, lambda _, y: y @ x, x)  # noqa: E731
    found = floor._found(jax.make_jaxpr(power)(square).jaxpr)
    assert sum(p.flops * p.count for p in found) == 6 * 2 * 4**3


@pytest.mark.parametrize(("name", "width"), [("Digits 64", 64), ("Digits 256", 256)])
def test_an_mlp_has_three_products_a_layer_and_two_at_its_inputs(name, width):
    problem, group = loops.PROBLEMS[name], 2
    found = floor._products(problem, group)
    layers = (64 * width, width * width, width * 10)
    multiplications = 64 * (3 * sum(layers) - layers[0])  # inputs need no gradient
    assert sum(p.flops * p.count for p in found) == 2 * group * multiplications


@pytest.mark.parametrize("name", loops.PROBLEMS)
def test_xla_counts_the_same_products_and_little_else(name):
    problem = loops.PROBLEMS[name]
    found = floor._products(problem, 1)
    flops = sum(p.flops * p.count for p in found)
    assert 1 < floor._by_xla(problem) / flops < 1.1


def run(*arguments):
    command = [sys.executable, "-m", "experiments.speed", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_an_unknown_problem_is_refused_in_one_line():
    done = run("--problems", "Digits")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --problems 'Digits': one of 'Digits 64'")
    assert done.stderr.count("\n") == 1


def test_it_runs_and_gives_rows():
    few = ("--runs", "2", "--pairs", "1", "--seconds", "0.001", "--problems", "Digits 64")
    done = run(*few, "--no-track")
    assert done.returncode == 0, done.stderr
    for words in (
        "bare loop, drawn ahead",
        "no metrics",
        "metrics every 10 steps",
        "metrics every step",
    ):
        assert words in done.stdout


def test_the_best_loop_of_a_round_is_compared_round_by_round(monkeypatch):
    from experiments.speed import __main__ as speed

    seconds = iter(np.cumsum([0, 1, 0, 2, 0, 4, 0, 4]))  # begin and end of each call
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(seconds))
    timed: dict[str, loops.Timed] = {"a": lambda: 8, "b": lambda: 8}
    one, other = speed.compare(timed, 2, "b", 16.0, ("problem", "rule", 1, 1))
    assert (one.ratio, one.smallest, one.largest) == (1.5, 1.0, 2.0)  # 2 / 1 and 4 / 4
    assert (other.ratio, other.rate, other.of_floor) == (1.0, 3.0, 3.0 / 16)
