"""The loops that are timed: the study's own cell, and what people write instead."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from study import optimizers, problems
from study.optimizers import Optimizer
from study.problems import Problem

RATE = 1e-3
Timed = Callable[[], int]
"""Does some work, returns its run-steps."""


class Unevaluated:
    """A problem without evaluations, which no loop here has, and short runs pay dearly."""

    def evaluate(self, data: Any, params: Any) -> dict[str, Any]:
        """Nothing."""
        del data, params
        return {}


class Digits(Unevaluated, problems.Digits):
    """An MLP on digits."""


class Image2C2D(Unevaluated, problems.Image2C2D):
    """A convolutional network."""


class Text(Unevaluated, problems.Text):
    """A transformer."""


PROBLEMS: dict[str, Problem] = {
    "Digits 64": Digits(width=64, batch_size=64),
    "Digits 256": Digits(width=256, batch_size=64),
    "2c2d": Image2C2D(images="digits", batch_size=32),
    "transformer": Text(depth=2, width=64, context=64, batch_size=32),
}
TRACKED = Digits(width=256, batch_size=512)
"""A step as long as those of a loop that somebody else would track."""

RULES: dict[str, Optimizer] = {"adam": optimizers.Adam(), "sgd": optimizers.SGD()}
"""By the name that Optax's factory has."""


def ours(
    problem: Problem, rule: str, runs: int, steps: int, names: tuple[str, ...], every: int
) -> Timed:
    """The study's own cell, with these metrics at the first of `every` steps.

    It comes back each 100 steps, as often as ten evaluations in a run of 1,000 ask, and
    measures what is costly on the first of them.
    """
    from study import sweep
    from study.experiment import Experiment

    seeds = min(runs, 10)
    experiment = Experiment(
        problem=problem,
        optimizers=(RULES[rule],),
        learning_rates=tuple(RATE * (1 + i / 1000) for i in range(runs // seeds)),
        metrics=names,
        steps=steps,
        seeds=seeds,
        selection_seeds=0,
        records=-(-steps // every),
        evaluations=-(-steps // 100),
    )

    def run() -> int:
        sweep.run_cell(experiment, problem, RULES[rule])
        return runs * steps

    return run


def bare(problem: Problem, rule: str, runs: int, steps: int, ahead: bool = False) -> Timed:
    """The same training in as few lines as it takes, on the same devices and layout.

    With `ahead`, batches are drawn as ours are; else step by step, as people write it.
    """
    import functools

    import jax
    import jax.numpy as jnp
    import optax

    from study import devices, programs

    width = programs.width(problem, RULES[rule], runs)
    group = programs.group(problem, RULES[rule], width)
    by_run, replicated = devices.shardings()
    data = jax.device_put(problem.data(), replicated)

    def train(data, rate, key, params):
        made, draws = getattr(optax, rule)(rate), jnp.arange(steps)
        batch = functools.partial(problem.batch, data, key)
        if ahead:
            draws = jax.vmap(functools.partial(problem.draw, data, key))(draws)
            batch = functools.partial(problem.take, data)

        def step(carry, drawn):
            params, state = carry
            grad = jax.grad(problem.loss)(params, batch(drawn))
            update, state = made.update(grad, state)
            return (optax.apply_updates(params, update), state), None

        return jax.lax.scan(step, (params, made.init(params)), draws)[0]

    def of_a_device(data, *runs):
        one = lambda run: train(data, *run)  # noqa: E731
        return jax.lax.map(one, runs, batch_size=group)

    specs = (replicated.spec, *[by_run.spec] * 3)
    mapped = jax.shard_map(
        of_a_device,
        mesh=by_run.mesh,
        in_specs=specs,
        out_specs=by_run.spec,
        check_vma=False,
    )
    with devices.precision(problem.dtype):
        keys = jax.random.split(jax.random.key(0), width)
        params = jax.jit(jax.vmap(problem.init), out_shardings=by_run)(keys)
        given = (data, *jax.device_put((jnp.full(width, RATE), keys), by_run), params)
        program = jax.jit(mapped).lower(*given).compile()

    def run() -> int:
        for _ in range(0, runs, width):
            jax.block_until_ready(program(*given))
        return runs * steps

    return run


def python_loop(problem: Problem, rule: str, steps: int, every: int = 0) -> Timed:
    """One run: a Python loop around one jitted step of our own problem, state donated.

    With `every`, the rule is tracked: one line more.
    """
    import jax

    step, begin = _own(problem, rule, every)
    step = jax.jit(step, donate_argnums=0)

    def run() -> int:
        keys = jax.random.split(jax.random.key(0), steps)
        carry = begin(keys[0])
        for key in keys:
            carry = step(carry, key)
        jax.block_until_ready(carry)
        return steps

    return run


def scanned(problem: Problem, rule: str, steps: int, every: int = 0) -> Timed:
    """The same run as one scan."""
    import jax

    step, begin = _own(problem, rule, every)
    keys = jax.random.split(jax.random.key(0), steps)
    whole = jax.jit(
        lambda carry: jax.lax.scan(lambda c, key: (step(c, key), None), carry, keys)[0]
    )

    def run() -> int:
        jax.block_until_ready(whole(begin(keys[0])))
        return steps

    return run


def _own(problem: Problem, rule: str, every: int) -> tuple[Callable[..., Any], Any]:
    """(params, state), key -> (params, state), as anyone writes it, and its start."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import track

    made = getattr(optax, rule)(RATE)
    if every:
        made = track.track(made, every=every)
    data = jax.tree.map(jnp.asarray, problem.data())

    def step(carry: Any, key: Any) -> Any:
        params, state = carry
        grad = jax.grad(problem.loss)(params, problem.sample(data, key))
        update, state = made.update(grad, state, params)
        return optax.apply_updates(params, update), state

    init = jax.jit(problem.init)

    def begin(key: Any) -> Any:
        params = init(key)
        return params, made.init(params)

    return step, begin


def torch_loop(problem: Problem, rule: str, steps: int) -> Timed | None:
    """One run: an ordinary PyTorch loop at its best number of threads, or None.

    Of the networks that are layers in a row; the transformer is not among them.
    """
    torch: Any = importlib.import_module("torch")

    from study import devices

    layers = _layers(torch.nn, problem)
    if layers is None:
        return None
    inputs, labels = problem.data()["train"]
    inputs = torch.tensor(np.asarray(inputs), dtype=torch.float32)
    if isinstance(problem, problems.Image2C2D):
        inputs = inputs[:, None]
    targets = torch.tensor(np.asarray(labels), dtype=torch.int64)
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]
    size: int = problem.batch_size  # type: ignore[attr-defined]

    def run(steps: int = steps) -> int:
        model = torch.nn.Sequential(*layers())
        optimizer = kind(model.parameters(), lr=RATE)
        for _ in range(steps):
            places = torch.randint(0, len(targets), (size,))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[places]), targets[places])
            loss.backward()
            optimizer.step()
        return steps

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        run(10)
        begun = time.perf_counter()
        run(min(steps, 100))
        return time.perf_counter() - begun

    torch.set_num_threads(min({1, devices.cores()}, key=seconds))
    return run


def _layers(nn: Any, problem: Problem) -> Callable[[], list[Any]] | None:
    """What makes the layers of a problem's network, new each time."""
    if isinstance(problem, problems.Digits):
        width = problem.width
        return lambda: [
            *(nn.Linear(64, width), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, 10),
        ]
    if isinstance(problem, problems.Image2C2D):
        return lambda: [
            *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Linear(1024, 10)),
        ]
    return None
