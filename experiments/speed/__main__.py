"""Times the loops, prints, and writes if asked: `python -m experiments.speed`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

    from experiments.speed.loops import Timed

BARE, AHEAD, PLAIN = "bare loop", "bare loop, drawn ahead", "no metrics"
EVERY_10, EVERY_STEP = "metrics every 10 steps", "metrics every step"
PYTHON, TORCH = "Python loop", "PyTorch"
LONG = 2.0  # seconds
Labels = tuple[str, str, int, int]  # problem, rule, runs, steps


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, and how long."""

    problems: tuple[str, ...] = ("Digits 64", "Digits 256", "2c2d", "transformer")
    """Of them."""
    runs: tuple[int, ...] = (1, 10, 100, 1000)
    """Numbers of runs: 10 seeds, the rest learning rates."""
    pairs: int = 9
    """Alternating rounds for each number of runs; 3 where a call takes over 2 s."""
    seconds: float = 0.5
    """That a call should take, by the floor: it sets the steps, 10 to 300, in tens."""
    limit: float = 10.0
    """Numbers of runs of which 10 steps take longer, by the floor, are left out."""
    track: bool = True
    """Also `study.track` in a loop of one run."""
    platform: str | None = None
    """`cpu`, `gpu` or `tpu`; jax's choice if not given."""
    publish: bool = False
    """Write results/speed/speed.json."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to train beside the bare loop: run-steps a second, and shares of it."""

    problem: str
    rule: str
    runs: int
    steps: int
    name: str
    rate: float
    against: str
    ratio: float
    smallest: float
    largest: float
    of_floor: float


def alternate(timed: dict[str, Timed], pairs: int) -> dict[str, np.ndarray]:
    """Run-steps a second of each, [round], all in every round, after a warm-up."""
    for one in timed.values():
        one()
    rounds = [{name: _rate(one) for name, one in timed.items()} for _ in range(pairs)]
    return {name: np.array([rates[name] for rates in rounds]) for name in timed}


def _rate(timed: Timed) -> float:
    begun = time.perf_counter()
    steps = timed()
    return steps / (time.perf_counter() - begun)


def compare(
    timed: dict[str, Timed], pairs: int, against: str, floor: float, labels: Labels
) -> list[Row]:
    """A row for each, its ratios to one of them taken round by round."""
    rates = alternate(timed, pairs)
    rows = []
    for name, own in rates.items():
        ratios = own / rates[against]
        rate = float(np.median(own))
        middle, low, high = (float(f(ratios)) for f in (np.median, np.min, np.max))
        row = Row(*labels, name, rate, against, middle, low, high, rate / floor)
        rows.append(row)
    return rows


def of_problem(name: str, options: Options, floor: Any) -> list[Row]:
    """All rows of one problem; where others would write one run, also those loops."""
    from experiments.speed import loops
    from study.metrics import METRICS

    every = tuple(n for n, m in METRICS.items() if m.axis != "element")
    problem, rows = loops.PROBLEMS[name], []
    for runs in options.runs:
        steps = int(options.seconds * floor.rate / runs) // 10 * 10
        least = 10 * runs / floor.rate
        pairs = min(options.pairs, 3) if least > LONG else options.pairs
        if least > options.limit:
            print(f"{name}, {runs} runs: left out, 10 steps take over {options.limit} s")
            continue
        steps = min(max(steps, 10), 300)
        ours = lambda names, clock, rule="adam", runs=runs, steps=steps: (  # noqa: E731
            loops.ours(problem, rule, runs, steps, names, clock)
        )
        timed = {
            BARE: loops.bare(problem, "adam", runs, steps),
            AHEAD: loops.bare(problem, "adam", runs, steps, ahead=True),
            PLAIN: ours(("loss",), steps),
            EVERY_10: ours(every, 10),
            EVERY_STEP: ours(every, 1),
        }
        if runs == 100:
            timed |= alone(problem, "adam", min(steps, 300))
        labels = (name, "Adam", runs, steps)
        rows += compare(timed, pairs, BARE, floor.rate, labels)
        if runs == 100 and isinstance(problem, loops.problems.Digits):
            timed = {PLAIN: ours(("loss",), steps, "sgd"), **alone(problem, "sgd", steps)}
            labels = (name, "SGD", runs, steps)
            rows += compare(timed, pairs, PLAIN, floor.rate, labels)
    return rows


def tracking(options: Options, floor: Any) -> list[Row]:
    """A loop of one run whose rule is tracked, every 10 steps and at each, and not."""
    from experiments.speed import loops

    steps, rows = max(100, int(options.seconds * floor.rate) // 10 * 10), []
    for kind, loop in (("scan", loops.scanned), (PYTHON, loops.python_loop)):
        make = functools.partial(loop, loops.TRACKED, "adam", steps)
        timed: dict[str, Timed] = {kind: make()}
        timed |= {f"{kind}, tracked every {k}": make(every=k) for k in (10, 1)}
        labels = ("Digits 256, batch 512", "Adam", 1, steps)
        rows += compare(timed, options.pairs, kind, floor.rate, labels)
    return rows


def alone(problem: Any, rule: str, steps: int) -> dict[str, Timed]:
    """Loops of one run: in Python around a jitted step, and in PyTorch if it is there."""
    from experiments.speed import loops

    found = {PYTHON: loops.python_loop(problem, rule, steps)}
    if importlib.util.find_spec("torch") and (
        loop := loops.torch_loop(problem, rule, steps)
    ):
        found[TORCH] = loop
    return found


def first_call(name: str) -> dict[str, float]:
    """Seconds of a cell with every metric: nothing kept, then everything kept on disk."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    from experiments.speed import loops
    from study import compilation, programs, sweep
    from study.metrics import METRICS

    problem, found = loops.PROBLEMS[name], {}
    before = getattr(jax.config, compilation.FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update(compilation.FOLDER, folder)
        for state in ("cold", "cached"):
            jax.clear_caches()
            compilation_cache.reset_cache()
            for made in (programs.compiled, programs._evaluate, sweep.starts):
                made.cache_clear()
            begun = time.perf_counter()
            loops.ours(problem, "adam", 2, 10, tuple(METRICS), 10)()
            found[state] = time.perf_counter() - begun
        jax.config.update(compilation.FOLDER, before)
        compilation_cache.reset_cache()
    return found


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    from rich.table import Table

    titles = (
        "Rule",
        "Runs",
        "Steps",
        "Loop",
        "Run-steps/s",
        "Ratio",
        "against",
        "of floor",
    )
    shown = Table(*titles, box=None)
    for row in rows:
        ratio = f"{row.ratio:.3g} ({row.smallest:.3g} to {row.largest:.3g})"
        cells = (row.rule, f"{row.runs}", f"{row.steps}", row.name, f"{row.rate:,.0f}")
        shown.add_row(*cells, ratio, row.against, f"{row.of_floor:.2f}")
    return shown


def main() -> None:
    """Measures, prints, and writes if asked."""
    import tyro
    from rich.console import Console

    package = importlib.import_module("experiments.speed")
    options = tyro.cli(Options, description=(package.__doc__ or "").splitlines()[0])
    from study import compilation, devices, results

    devices.prepare(options.platform)
    compilation.keep()
    from experiments.speed import floor as floors
    from experiments.speed import loops

    if unknown := set(options.problems) - set(loops.PROBLEMS):
        known = ", ".join(map(repr, loops.PROBLEMS))
        print(f"error: --problems {unknown.pop()!r}: one of {known}", file=sys.stderr)
        sys.exit(2)
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed: not compared")
    console = Console(width=120)
    console.print(f"large matrices: {(large := floors.large_rate()) / 1e9:,.0f} GFLOP/s")
    found: dict[str, Any] = {"large_rate": large, "problems": {}, "rows": []}
    for name in options.problems:
        floor = floors.floor(loops.PROBLEMS[name], max(options.runs))
        seconds = first_call(name)
        found["problems"][name] = {**dataclasses.asdict(floor), "first_call": seconds}
        console.print(
            f"\n{name}: products of a step {floor.flops / 1e6:,.1f} MFLOP"
            f" (all of it by XLA: {floor.flops_by_xla / 1e6:,.1f}),"
            f" at {floor.batched_rate / 1e9:,.0f} GFLOP/s: {floor.rate:,.0f} run-steps/s."
            f" First call {seconds['cold']:.1f} s, {seconds['cached']:.1f} s with"
            " programs kept on disk."
        )
        rows = of_problem(name, options, floor)
        console.print(table(rows))
        found["rows"] += [dataclasses.asdict(row) for row in rows]
    if options.track:
        rows = tracking(options, floors.floor(loops.TRACKED, 1))
        console.print("\nIn a loop of your own: Digits 256, batch 512")
        console.print(table(rows))
        found["rows"] += [dataclasses.asdict(row) for row in rows]
    facts = {**devices.facts(), "cores": devices.cores(), **results.commit()}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if options.publish:
        path = Path("results") / "speed" / "speed.json"
        results.refuse_unwritable(path.parent)
        content = {"options": dataclasses.asdict(options), "machine": facts, **found}
        results.write(path, json.dumps(content, indent=1).encode())
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
