"""The one command line: `python -m experiments.NAME` runs, stores, judges, draws.

An experiment is a module with a docstring (Question, Prediction, Varied, Cost), PRESETS,
PREDICTIONS, KEPT and `draw`. One that does not train has its own `run_cell` in place of
`sweep.run_cell`, its own `condense` from a problem's records to what is drawn, judged and
published in place of `reporting.select`, and its own `tabulate` in place of
`reporting.summary`.
Arguments are read before jax is imported.
"""

from __future__ import annotations

import functools
import importlib
import json
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from study import (
    arguments,
    claims,
    cluster,
    hosts,
    reporting,
    results,
    runner,
    spec,
    tables,
    terminal,
    worker,
)
from study.arguments import Options
from study.errors import CellsFailed, UserError, interrupted
from study.experiment import CellName, Comparison
from study.hosts import Host

ROOT = Path("results")
CLAIMS, SUMMARY = "claims.json", "summary.csv"
TEX = "tex"
KINDS = ("png", "pdf", "svg", TEX)


def main(module: str, argv: list[str] | None = None) -> None:
    """Runs the experiment `experiments.NAME` and exits.

    Exit codes: 0 done, 1 cells failed (their tracebacks on stderr), 2 the user's mistake
    (one line on stderr), 130 interrupted.
    """
    try:
        options, experiment, named = arguments.parse(
            importlib.import_module(module), sys.argv[1:] if argv is None else argv
        )
        hosts.check(options.coordinator, options.processes, options.process)
        joined = options.one_of_several or options.cluster
        if joined and argv is None and not hosts.supervised():
            sys.exit(hosts.supervise())
        execute(importlib.import_module(module), options, experiment, named)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        hosts.exit(2)
    except CellsFailed as error:
        print(f"error: {error}", file=sys.stderr)
        hosts.exit(1)
    except BaseException as error:
        if not interrupted(error):
            hosts.give_up()
            raise
        print("interrupted; the same command continues", file=sys.stderr)
        hosts.exit(130)


def execute(
    module: ModuleType, options: Options, experiment: Comparison, named: bool
) -> None:
    """Does what the options say.

    Args:
        module: of the experiment.
        options: where and how.
        experiment: the spec asked for.
        named: a preset or a field was given, so the spec is meant as it stands.
    """
    begun = time.perf_counter()
    name = module.__name__.rpartition(".")[2]
    chosen = kinds(options.format or ("png" if options.draw else "png,pdf"))
    if options.venue:
        from study import figures

        figures.sizes(options.venue)  # refused before anything runs
    if options.draw:
        folder, experiment = stored(module, name, options, experiment, named)
        verdicts = json.loads((folder / CLAIMS).read_text())
        found = results_of(module, experiment, folder)
        written = draw(module, found, chosen, venue=options.venue)
    else:
        folder = options.results or run_folder(name, experiment)
        manifest = _run(module, name, folder, options, experiment)
        if manifest is None:
            return  # the first process judges and draws
        found = results_of(module, experiment, folder)
        verdicts = claims.as_json(claims.judge(module.PREDICTIONS, found))
        results.write(folder / CLAIMS, json.dumps(verdicts, indent=1).encode())
        tabulate = getattr(module, "tabulate", reporting.summary)
        results.write(folder / SUMMARY, tables.to_csv(tabulate(found, manifest)))
        written = [folder / CLAIMS, folder / SUMMARY]
        written += draw(module, found, chosen, venue=options.venue)
        if options.publish:
            written += _publish(module, ROOT / name, found)
    terminal.close(verdicts, written, time.perf_counter() - begun)


def run_folder(name: str, experiment: Comparison) -> Path:
    """Where the records of this spec are kept."""
    return ROOT / "runs" / name / spec.digest(experiment)


def results_of(
    module: ModuleType, experiment: Comparison, folder: Path
) -> reporting.Results:
    """The records in a folder, as this experiment condenses them."""
    return reporting.Results(experiment, folder, getattr(module, "condense", None))


def _run(
    module: ModuleType,
    name: str,
    folder: Path,
    options: Options,
    experiment: Comparison,
) -> dict[str, Any] | None:
    """Runs the missing cells into the folder; its manifest, in the first process."""
    run_cell = getattr(module, "run_cell", None)
    if run_cell and options.one_of_several:
        raise UserError(
            f"{name} does not cut its cells into runs for several processes; leave"
            " --distributed and --coordinator away"
        )
    if options.cluster and options.one_of_several:
        raise UserError("give --cluster, or --distributed or --coordinator, not both")
    for problem in experiment.problems:
        problem.require()
    manifest = results.prepare(folder, name, experiment, options.preset)
    if options.fresh:
        manifest["cells"] = {}
    todo = runner.missing(folder, manifest, experiment)
    host = hosts.ALONE
    if options.one_of_several:
        host = _meet(options, folder, manifest, todo)
    own = manifest if host.process == 0 else None
    if not todo:
        print(f"all {len(experiment.cells)} cells are in {folder} already")
        return own

    from study import compilation, devices, metrics

    for metric in getattr(experiment, "metrics", ()):
        metrics.METRICS[metric]
    compilation.keep()
    if not options.one_of_several:
        devices.prepare(options.platform, options.memory)
        results.refuse_unwritable(folder)
        _store(folder, manifest, options.fresh)
    if done := len(experiment.cells) - len(todo):
        print(f"continuing: {done} of {len(experiment.cells)} cells are in {folder}")
    try:
        with terminal.watch(experiment, todo, options.quiet) as watch:
            if options.cluster:
                task = functools.partial(_task, module, options, experiment, folder)
                at = options.cluster
                cluster.run(at, folder, manifest, experiment, task, watch)
            else:
                runner.run(folder, manifest, experiment, watch, run_cell, host)
    except BaseException as error:
        if interrupted(error):
            done = len(manifest["cells"])
            print(f"\n{done} of {len(experiment.cells)} cells are in {folder}")
        raise
    if options.one_of_several:
        hosts.leave()
    return own


def _task(
    module: ModuleType,
    options: Options,
    experiment: Comparison,
    folder: Path,
    cell: CellName,
) -> worker.Task:
    """A cell as a worker of a cluster is told of it."""
    place = options.data
    if place is not None and place.is_file():
        place = place.parent
    return worker.Task(
        module.__name__,
        options.imports,
        options.preset,
        spec.encode(experiment),
        cell.file,
        str(folder.absolute()),
        str(place.absolute()) if place else None,
        options.memory,
    )


def _meet(
    options: Options, folder: Path, manifest: dict[str, Any], todo: list[CellName]
) -> Host:
    """This process among the others, once all are here and agree on what to do."""
    from study import devices

    at = (options.coordinator, options.processes, options.process)
    host = hosts.join(*at, options.wait)
    results.refuse_unwritable(folder)
    devices.prepare(options.platform, options.memory)
    if host.process == 0:
        _store(folder, manifest, options.fresh)
    files = [cell.file for cell in todo]
    hosts.agree(host, folder, str((manifest["spec"], files, runner.facts())))
    return host


def _store(folder: Path, manifest: dict[str, Any], fresh: bool) -> None:
    """The manifest as it is at the start: without what is to be run afresh."""
    if fresh:
        results.write_manifest(folder, manifest)
    else:
        results.update_manifest(folder, manifest)


def stored(
    module: ModuleType,
    name: str,
    options: Options,
    experiment: Comparison,
    named: bool,
) -> tuple[Path, Comparison]:
    """The folder to draw from, and the spec of its records."""
    folders = [options.results] if options.results else []
    folders = folders or [run_folder(name, experiment), ROOT / name]
    for folder in folders:
        if not (folder / results.MANIFEST).exists():
            continue
        manifest = results.read_manifest(folder)
        if options.results and not named:
            kind = type(module.PRESETS["default"])
            return folder, spec.decode(manifest["spec"], kind, str(folder))
        lines = results.spec_differences(manifest, name, experiment)
        if not lines:
            return folder, experiment
        if folder == folders[-1]:
            raise UserError(f"{folder} holds another spec ({'; '.join(lines)})")
    where = " or ".join(str(folder) for folder in folders)
    raise UserError(f"no records in {where}; run without --draw first")


def kinds(text: str) -> tuple[str, ...]:
    """What to write, from `pdf,svg,png`.

    Raises:
        UserError: one of them is unknown.
    """
    chosen = tuple(dict.fromkeys(text.replace(" ", "").split(",")))
    for kind in chosen:
        if kind not in KINDS:
            raise UserError(f"--format {text!r}: {kind!r} is none of {', '.join(KINDS)}")
    return chosen


def draw(
    module: ModuleType,
    found: reporting.Results,
    kinds: tuple[str, ...],
    folder: Path | None = None,
    venue: str | None = None,
) -> list[Path]:
    """Writes the experiment's figures, and with `tex` its summary; the files.

    Args:
        module: of the experiment.
        found: its records.
        kinds: some of KINDS.
        folder: for the files; None is beside the records.
        venue: as for `figures.style`.
    """
    from study import figures

    folder, written = folder or found.folder, []
    with figures.style(venue):
        try:
            drawn = module.draw(found)
        except KeyError as error:
            lacking = f"cannot draw: the records hold no {error.args[0]!r}"
            raise UserError(f"{lacking}; the records are in {found.folder}") from None
        for name, figure in drawn.items():
            for kind in kinds:
                if kind == TEX:
                    continue
                path = folder / f"{name}.{kind}"
                results.write(path, figures.write(figure, kind))
                written.append(path)
    if TEX in kinds:
        path = folder / Path(SUMMARY).with_suffix(f".{TEX}")
        results.write(path, tables.to_latex((found.folder / SUMMARY).read_bytes()))
        written.append(path)
    return written


def _publish(module: ModuleType, target: Path, found: reporting.Results) -> list[Path]:
    """Copies what is worth committing: figures, tables, manifest, thinned records."""
    results.refuse_unwritable(target)
    names = [CLAIMS, SUMMARY, *(path.name for path in found.folder.glob("*.png"))]
    for name in names:
        shutil.copyfile(found.folder / name, target / name)
    results.publish_manifest(found.folder, target)
    reporting.publish(target, found, module.KEPT)
    return [target / name for name in (*names, results.MANIFEST, results.PUBLISHED)]
