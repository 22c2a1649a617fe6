"""Reads a command line into options and an experiment's spec. Imports no jax.

Fields of the spec and their help come from its dataclasses through tyro; nested ones have
dotted names, such as `--problem.width 128`. `--problem "Digits(width=128)"` replaces a
problem as a whole, and `--schedule "Cosine(warm_up=0.05)"` a schedule.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NoReturn

import tyro

from study import data, spec
from study.errors import UserError
from study.experiment import Comparison
from study.optimizers import OPTIMIZERS, Optimizer
from study.problems import PROBLEMS, Problem
from study.schedules import SCHEDULES, Schedule

Preset = Literal["smoke", "default", "paper"]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, beside what to run."""

    preset: Preset = "default"
    """smoke: seconds. default: minutes on two cores. paper: for an accelerator."""
    draw: bool = False
    """Only draw, from stored records."""
    format: str | None = None
    """Of figures, such as pdf,svg,png; tex is the summary as a LaTeX table (default: png,
    after a run png,pdf)."""
    venue: str | None = None
    """Whose text width and font sizes figures have, such as icml2024 or tmlr2023."""
    results: Path | None = None
    """Folder of the records (default: results/runs/NAME/DIGEST)."""
    fresh: bool = False
    """Run every cell anew."""
    publish: bool = False
    """Also copy what is worth committing to results/NAME."""
    quiet: bool = False
    """One line for each finished cell in place of a progress bar."""
    platform: Literal["cpu", "gpu", "tpu"] | None = None
    """Insist on a platform."""
    memory: float | None = None
    """GiB that the runs under way may fill (default: a quarter of the memory)."""
    distributed: bool = False
    """One of several processes that share the run, as its Slurm or TPU pod job says."""
    coordinator: str | None = None
    """The same without such a job: HOST:PORT where process 0 listens."""
    processes: int | None = None
    """With --coordinator: how many processes."""
    process: int | None = None
    """With --coordinator: the number of this one, from 0."""
    wait: float = 60.0
    """Seconds for all processes to come, and of silence until one is taken for gone."""
    cluster: str | None = None
    """Hand the cells to Ray: local, auto or its address; needs the extra `cluster`."""
    data: Path | None = None
    """Folder with data files; or a text file, which problems on text then read."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules of your own that register optimizers, problems or metrics."""

    @property
    def one_of_several(self) -> bool:
        """This process shares its run with others."""
        return self.distributed or self.coordinator is not None


def parse(module: ModuleType, argv: list[str]) -> tuple[Options, Comparison, bool]:
    """Options, spec, and whether the command line says anything about the spec.

    Raises:
        UserError: an argument is unknown, misspelt, or of the wrong type.
    """
    early = _Early(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="default")
    early.add_argument("--import", dest="imports", nargs="*", default=[])
    first, _ = early.parse_known_args(argv)
    for name in first.imports:
        load(name)
    if first.preset not in module.PRESETS:
        known = ", ".join(module.PRESETS)
        raise UserError(f"unknown preset {first.preset!r}; known: {known}")
    experiment = module.PRESETS[first.preset]

    wholes = _Early(add_help=False, allow_abbrev=False)
    fields = [f.name for f in dataclasses.fields(experiment)]
    swapped = [n for n in fields if isinstance(getattr(experiment, n), Problem | Schedule)]
    for name in swapped:
        wholes.add_argument(f"--{name.replace('_', '-')}", dest=name)
    given, rest = wholes.parse_known_args(argv)
    for name, text in vars(given).items():
        if text is not None:
            family = type(getattr(experiment, name)).catalogue
            part = family.parse(text, spec.construct)
            experiment = dataclasses.replace(experiment, **{name: part})

    unnamed = tyro.conf.arg(name="")
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("options", Annotated[Options, unnamed]),
            ("experiment", Annotated[type(experiment), unnamed]),
        ],
    )
    parsed = _tyro(
        command,
        rest,
        default=command(Options(imports=tuple(first.imports)), experiment),
        prog=f"python -m {module.__name__}",
        description=_help(module, swapped),
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=_registry(),
    )
    experiment = _with_data(parsed.options.data, parsed.experiment)
    named = experiment != module.PRESETS["default"] or "--preset" in argv
    return parsed.options, experiment, named


def _with_data(place: Path | None, experiment: Comparison) -> Comparison:
    """The spec with the names and digests of the texts that its problems read.

    A text file in place of the folder stands for the synthetic text, and for one of its
    own name.
    """
    if place is not None:
        data.use(place.parent if place.is_file() else place)
    given = place if place is not None and place.is_file() else None
    names = [field.name for field in dataclasses.fields(experiment)]
    reading: dict[str, Any] = {
        name: problem
        for name in names
        if isinstance(problem := getattr(experiment, name), Problem)
        and getattr(problem, "corpus", "")
    }
    if given and not reading:
        raise UserError(f"--data {given}: no problem of this experiment reads a text")
    pinned = {
        name: dataclasses.replace(problem, corpus=_pinned(problem.corpus, given))
        for name, problem in reading.items()
    }
    return dataclasses.replace(experiment, **pinned)


def _pinned(corpus: str, given: Path | None) -> str:
    """The corpus with the digest of its content, if it is a file that is there."""
    own, digits = data.split(corpus)
    if given and corpus in (data.SYNTHETIC, given.name, data.pin(given)):
        return data.pin(given)
    if given:
        raise UserError(f"--data {given}: the problem reads {corpus}, another text")
    if corpus == data.SYNTHETIC or digits:
        return corpus
    return data.pin(data.find(own))


def _tyro(command: Any, argv: list[str], **settings: Any) -> Any:
    """`tyro.cli`, its boxed complaint turned into a UserError of one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(command, args=argv, **settings)
    except SystemExit as stop:
        if not stop.code:
            raise
        text = re.sub(r"\x1b\[[0-9;]*m", "", complaint.getvalue())
        lines = [line.strip("│╭╮╰╯─ \n") for line in text.splitlines()]
        lines = [line for line in lines[1:] if line and "full helptext" not in line]
        raise UserError(re.sub(r"\s+", " ", " ".join(lines))) from None


def _registry() -> Any:
    """How tyro reads and shows an optimizer: by its string, `Adam(b1=0.0)`."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: Any) -> Any:
        if info.type is not Optimizer:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="OPTIMIZER",
            instance_from_str=lambda words: OPTIMIZERS.parse(words[0], spec.construct),
            is_instance=lambda value: isinstance(value, Optimizer),
            str_from_instance=lambda entry: [str(entry)],
        )

    return registry


def _help(module: ModuleType, swapped: list[str]) -> str:
    swaps = ", ".join(f"--{n.replace('_', '-')} 'Name(field=value)'" for n in swapped)
    return (
        f"{sections(module)['Question']} Replace a problem or schedule as a whole with"
        f" {swaps}; problems: {', '.join(PROBLEMS)}; schedules: {', '.join(SCHEDULES)}."
        f" Optimizers: {', '.join(OPTIMIZERS)}."
    )


def sections(module: ModuleType) -> dict[str, str]:
    """The parts of an experiment's docstring: Question, Prediction, Varied, Cost."""
    pattern = r"^(Question|Prediction|Varied|Cost)\.\s+(.*?)(?=^\S|\n\n|\Z)"
    found = re.findall(pattern, module.__doc__ or "", re.DOTALL | re.MULTILINE)
    return {title: re.sub(r"\s+", " ", text).strip() for title, text in found}


def load(name: str) -> None:
    """Imports a module of the user's, which may lie in the working directory."""
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, for an installed package
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        raise UserError(f"--import {name}: there is no such module here") from None
    finally:
        sys.path.pop(0)


class _Early(argparse.ArgumentParser):
    """An argparse parser whose complaint is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)
