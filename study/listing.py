"""The experiments that there are, found in the folder `experiments`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from types import ModuleType

PACKAGE = "experiments"


def names() -> list[str]:
    """The experiments' names: the modules of the package, bar those with an underscore."""
    package = importlib.util.find_spec(PACKAGE)
    folders = package.submodule_search_locations if package else None
    found = [module.name for module in pkgutil.iter_modules(folders or [])]
    return sorted(name for name in found if not name.startswith("_"))


def refuse_unknown_module(package: str) -> None:
    """Ends `python -m experiments.NAME` in one line when there is no such module.

    Python itself would name the module and suggest nothing.
    """
    if sys.argv[:1] != ["-m"]:
        return
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    name = module.removeprefix(f"{package}.")
    if name in (package, "__main__") or name in names():
        return
    from study.catalogue import did_you_mean

    print(
        f"error: unknown experiment {name!r}{did_you_mean(name, names())}",
        file=sys.stderr,
    )
    sys.exit(2)


def main() -> None:
    """Lists every experiment: question, cost, and whether its results are current."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("Experiment", no_wrap=True)  # to be copied
    for title in ("Question", "Cost", "Results"):
        table.add_column(title)
    for name in names():
        module = importlib.import_module(f"{PACKAGE}.{name}")
        table.add_row(name, *describe(name, module))
    Console().print(table)


def describe(name: str, module: ModuleType) -> tuple[str, str, str]:
    """Question, cost and state of the results of one experiment."""
    from study import arguments, cli, results

    parts = arguments.sections(module)
    if not hasattr(module, "PRESETS"):
        return parts["Question"], parts["Cost"], ""
    experiment = module.PRESETS["default"]
    states = []
    places = {"published": cli.ROOT / name, "run": cli.run_folder(name, experiment)}
    for place, folder in places.items():
        if not (folder / results.MANIFEST).exists():
            continue
        manifest = results.read_manifest(folder)
        done, cells = len(manifest["cells"]), len(experiment.cells)
        if results.spec_differences(manifest, name, experiment):
            state = "of another spec"
        else:
            state = "current" if done == cells else f"{done} of {cells} cells"
        states.append(f"{place} {manifest['date']}, {state}")
    return parts["Question"], parts["Cost"], "; ".join(states) or "none"
