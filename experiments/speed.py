"""How fast does the study train, beside the loops that people write?

Question.   How many steps of runs per second does a sweep make (Digits, width 64, batch
            64, Adam, 100 runs), with and without measuring, against a bare JAX loop on
            the same devices, a Python loop around one jitted step, and PyTorch?
Prediction. At least 0.9 of the bare loop without metrics, at least 0.6 of it with every
            metric but quantiles at every step, at least 5 times PyTorch.
Varied.     Each pair runs alternately in one process after a warm-up that compiles; the
            ratio is the median over pairs, with the smallest and the largest.
Cost.       Two minutes on two CPU cores. PyTorch is compared where it is installed.

    python -m experiments.speed                 print
    python -m experiments.speed --publish       and write results/speed/speed.json
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RUNS, RATE = 100, 1e-3
Timed = Callable[[], int]  # does some work, returns its run-steps


@dataclasses.dataclass(frozen=True)
class Options:
    """How long to measure."""

    pairs: int = 9
    """Alternating pairs for each row."""
    steps: int = 300
    """Steps of each run."""
    publish: bool = False
    """Write results/speed/speed.json."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One pair: run-steps per second of either side, and the ratio of the first."""

    name: str
    against: str
    rate: float
    against_rate: float
    ratio: float
    smallest: float
    largest: float


def ours(names: tuple[str, ...], records: int, steps: int) -> Timed:
    """The study's own cell: 10 learning rates by 10 seeds of Adam."""
    from study import sweep
    from study.experiment import Experiment
    from study.optimizers import Adam
    from study.problems import Digits

    experiment = Experiment(
        problem=Digits(width=64, batch_size=64),
        optimizers=(Adam(),),
        learning_rates=tuple(RATE * (1 + i / 100) for i in range(10)),
        metrics=names,
        steps=steps,
        seeds=10,
        selection_seeds=0,
        records=records,
        evaluations=1,
    )

    def run() -> int:
        sweep.run_cell(experiment, experiment.problem, Adam())
        return RUNS * steps

    return run


def bare(steps: int) -> Timed:
    """The same training in as few lines as it takes, on the same devices and layout."""
    import jax
    import jax.numpy as jnp
    import optax

    from study import devices
    from study.data import digits

    by_run, _ = devices.shardings()
    images, labels = (jnp.asarray(a) for a in digits().train)
    images = images.astype(jnp.float32)

    def loss(params, images, labels):
        *hidden, (kernel, bias) = params
        for k, b in hidden:
            images = jax.nn.relu(images @ k + b)
        logits = images @ kernel + bias
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def train(rate, key, params):
        rule = optax.adam(rate)

        def step(carry, t):
            params, state = carry
            places = jax.random.randint(jax.random.fold_in(key, t), (64,), 0, len(labels))
            grad = jax.grad(loss)(params, images[places], labels[places])
            update, state = rule.update(grad, state)
            return (optax.apply_updates(params, update), state), None

        return jax.lax.scan(step, (params, rule.init(params)), jnp.arange(steps))[0]

    def init(key):
        keys, sizes = jax.random.split(key, 3), ((64, 64), (64, 64), (64, 10))
        he = jax.nn.initializers.he_normal()
        return [(he(k, s), jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]

    keys = jax.random.split(jax.random.key(0), RUNS)
    rates = jnp.full(RUNS, RATE)
    inputs = jax.device_put((rates, keys, jax.vmap(init)(keys)), by_run)
    program = jax.jit(jax.vmap(train), out_shardings=by_run)

    def run() -> int:
        jax.block_until_ready(program(*inputs))
        return RUNS * steps

    return run


def python_loop(steps: int) -> Timed:
    """One run: a Python loop around one jitted step of the study's own problem."""
    import jax
    import jax.numpy as jnp
    import optax

    from study.problems import Digits

    problem, rule = Digits(width=64, batch_size=64), optax.adam(RATE)
    data = jax.tree.map(jnp.asarray, problem.data())

    @jax.jit
    def step(params, state, key):
        grad = jax.grad(problem.loss)(params, problem.sample(data, key))
        update, state = rule.update(grad, state)
        return optax.apply_updates(params, update), state

    def run() -> int:
        keys = jax.random.split(jax.random.key(0), steps)
        params = problem.init(keys[0])
        state = rule.init(params)
        for key in keys:
            params, state = step(params, state, key)
        jax.block_until_ready(params)
        return steps

    return run


def torch_loop(steps: int) -> Timed:
    """One run: an ordinary PyTorch training loop, at its best number of threads."""
    torch: Any = importlib.import_module("torch")

    from study import devices
    from study.data import digits

    images, labels = digits().train
    inputs = torch.tensor(images, dtype=torch.float32)
    targets = torch.tensor(labels, dtype=torch.int64)

    def run() -> int:
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 10),
        )
        rule = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(steps):
            places = torch.randint(0, len(targets), (64,))
            rule.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[places]), targets[places])
            loss.backward()
            rule.step()
        return steps

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        run()
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun

    torch.set_num_threads(min({1, devices.cores()}, key=seconds))
    return run


def compare(name: str, one: Timed, against: str, other: Timed, pairs: int) -> Row:
    """Times both alternately, after one warm-up each."""
    one()
    other()
    rates = np.array([[_rate(one), _rate(other)] for _ in range(pairs)])
    ratios = rates[:, 0] / rates[:, 1]
    return Row(
        name,
        against,
        *(float(x) for x in np.median(rates, 0)),
        *(float(f(ratios)) for f in (np.median, np.min, np.max)),
    )


def _rate(timed: Timed) -> float:
    begun = time.perf_counter()
    steps = timed()
    return steps / (time.perf_counter() - begun)


def rows(options: Options) -> list[Row]:
    """Every pair."""
    from study.metrics import METRICS

    every = tuple(n for n, m in METRICS.items() if m.axis is None)
    quantiles = (*every, "effective_rate")
    steps, pairs = options.steps, options.pairs
    base = bare(steps)
    plain = ours(("loss",), 1, steps)
    clock = f"every metric, recorded at {min(50, steps)} steps"
    found = [
        compare("loss once", plain, "bare loop", base, pairs),
        compare(clock, ours(quantiles, 50, steps), "bare loop", base, pairs),
        compare(
            "every metric but quantiles, every step",
            ours(every, steps, steps),
            "bare loop",
            base,
            pairs,
        ),
        compare("loss once", plain, "Python loop", python_loop(steps), pairs),
    ]
    if importlib.util.find_spec("torch"):
        found.append(compare("loss once", plain, "PyTorch", torch_loop(steps), pairs))
    else:
        print("PyTorch is not installed: not compared")
    return found


def main() -> None:
    """Measures, prints, and writes if asked."""
    import tyro
    from rich.console import Console
    from rich.table import Table

    options = tyro.cli(Options, description=(__doc__ or "").splitlines()[0])
    from study import devices, results

    devices.prepare()
    found = rows(options)
    table = Table("This study", "Against", "Run-steps/s", "against", "Ratio", box=None)
    for row in found:
        ratio = f"{row.ratio:.2f} ({row.smallest:.2f} to {row.largest:.2f})"
        rates = (f"{row.rate:,.0f}", f"{row.against_rate:,.0f}")
        table.add_row(row.name, row.against, *rates, ratio)
    Console(width=110).print(table)
    facts = {**devices.facts(), "cores": devices.cores(), **results.commit()}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if options.publish:
        path = Path("results") / "speed" / "speed.json"
        results.refuse_unwritable(path.parent)
        content = {
            "options": dataclasses.asdict(options),
            "machine": facts,
            "rows": [dataclasses.asdict(row) for row in found],
        }
        results.write(path, json.dumps(content, indent=1).encode())
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
