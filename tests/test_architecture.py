"""The rules of ARCHITECTURE.md that a machine can check."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study import findings
from study.listing import names

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("errors", "types", "statistics"),
    ("catalogue", "trees", "meanfield", "solutions", "ranking"),
    ("spec", "networks", "data", "compilation", "devices", "hosts", "transforms"),
    ("optimizers", "problems", "schedules", "metrics"),
    ("experiment", "train", "track"),
    (
        "programs",
        "checkpoints",
        "records",
        "sweep",
        "streams",
        "trajectories",
        "figures",
        "curvature",
    ),
    ("results", "symmetry", "rescaling", "propagation", "tuning"),
    ("reporting", "shards", "runner", "claims"),
    ("arguments", "tables", "terminal"),
    ("worker", "cluster", "faults"),
    ("cli",),
    ("listing",),
    ("gallery",),
    ("findings",),
    ("report",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
WITHIN = {
    ("sweep", "programs"),
    ("sweep", "records"),
    ("sweep", "checkpoints"),
    ("records", "checkpoints"),
    ("runner", "reporting"),
    ("runner", "shards"),
    ("cluster", "worker"),
    ("claims", "reporting"),
}  # one layer, in this order
FILES = sorted((ROOT / "study").rglob("*.py"))


def module_of(path):
    return path.relative_to(ROOT / "study").parts[0].removesuffix(".py")


def imported(path):
    """Names of `study` modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "study":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("study."):
            yield (node.module or "").split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = module_of(path)
    if here == "__init__":
        return
    for name in imported(path):
        below = LEVEL[name] < LEVEL[here]
        assert below or name == here or (here, name) in WITHIN, f"{here} imports {name}"


def test_every_module_has_a_layer_and_a_bounded_length():
    modules = {module_of(path) for path in FILES} - {"__init__"}
    assert modules == set(LEVEL)
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path


def test_specs_listings_and_experiments_import_no_jax_and_compute_nothing():
    code = (
        "import sys, importlib\n"
        "from study import cli, listing\n"
        "for name in listing.names(): importlib.import_module('experiments.' + name)\n"
        "heavy = {'jax', 'optax', 'flax', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_experiments_do_not_import_each_other():
    for path in (ROOT / "experiments").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [
                    getattr(node, "module", None) or "",
                    *(a.name for a in node.names),
                ]
                assert not any(name.startswith("experiments") for name in names), path


def test_every_test_file_is_collected():
    known = {"conftest.py", "helpers.py", "golden.py", "golden_steps.py", "golden_trees.py"}
    for path in (ROOT / "tests").glob("*.py"):
        assert path.name.startswith("test_") or path.name in known


def test_ci_runs_the_readmes_test_command():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (command,) = [block for block in blocks if "pytest" in block and "venv" in block]
    assert command.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_code_runs(tmp_path):
    """Its blocks as one module; then its optimizer, problem and metric train."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "shown.py").write_text("\n".join(blocks))
    check = (
        "import dataclasses\n"
        "from shown import DEFAULT, Clipped, Valley\n"
        "from study import sweep\n"
        "rule = Clipped(limit=0.5)\n"
        "tiny = dataclasses.replace(DEFAULT, problem=Valley(), optimizers=(rule,),\n"
        "                           metrics=('gain', 'angle'), steps=3, seeds=1)\n"
        "print(sweep.run_cell(tiny, Valley(), rule)[0].gain.shape)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    run = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert "(7, 4, 3)" in run.stdout


def test_the_tables_of_claims_are_those_of_the_published_results(monkeypatch):
    """After publishing, `python -m experiments claims` has been run."""
    monkeypatch.chdir(ROOT)
    found = findings.published()
    assert findings.TABLE.read_text() == findings.table(found)
    readme = findings.README.read_text()
    assert findings.BEGIN in readme
    assert readme == findings.with_counts(readme, found, findings.seconds())


def test_committed_files_name_no_registry():
    pinned = (ROOT / "constraints.txt").read_text()
    assert "://" not in pinned
    assert "index-url" not in pinned


def test_what_is_published_stays_small():
    folders = [path for path in (ROOT / "results").iterdir() if path.is_dir()]
    folders = [path for path in folders if path.name != "runs"]
    assert set(names()) - {"speed"} <= {path.name for path in folders}
    for folder in folders:
        assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000, folder
    files = [path for folder in folders for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 8 * 2**20
