"""Whatever a file or an argument says: a UserError or a value, and nothing is run."""

import contextlib
import copy
import hashlib
import json
import shutil

import pytest
import xarray as xr
from helpers import SMALL_QUADRATIC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study import results, runner, spec
from study.errors import UserError
from study.experiment import Experiment
from study.optimizers import OPTIMIZERS, SGD, Adam
from study.results import netcdf

EXPERIMENT = Experiment(
    problem=SMALL_QUADRATIC,
    optimizers=(SGD(), Adam()),
    learning_rates=(0.01, 0.1),
    metrics=("angle",),
    steps=4,
    seeds=2,
    selection_seeds=1,
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 1 << 64])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["Adam", "Digits", "NoisyQuadratic", "../x", "/etc/passwd", "\0"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.just("class"), inner, max_size=3)
    ),
    max_leaves=6,
)
QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(tree, path=()):
    """Paths to every part of a JSON tree."""
    yield path
    if isinstance(tree, dict | list):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, part in parts:
            yield from places(part, (*path, key))


@st.composite
def changed(draw, tree):
    """A tree with one part replaced, taken away, or given another name."""
    tree = copy.deepcopy(tree)
    *path, last = draw(st.sampled_from([p for p in places(tree) if p]))
    parent = tree
    for key in path:
        parent = parent[key]
    match draw(st.sampled_from(["replace", "remove", "rename"])):
        case "replace":
            parent[last] = draw(JSON)
        case "remove":
            del parent[last]
        case _ if isinstance(parent, dict):
            parent[draw(st.text(max_size=8) | st.just("../../up.nc"))] = parent.pop(last)
    return tree


def tolerated(function, *arguments):
    """The value, or None where the user is told of a mistake in one line."""
    with contextlib.suppress(UserError):
        return function(*arguments)


ENCODED = json.loads(json.dumps(spec.encode(EXPERIMENT)))


@QUICK
@given(JSON)
def test_any_json_as_a_spec(data):
    assert tolerated(spec.decode, data, Experiment) is None


@QUICK
@given(changed(ENCODED))
def test_a_spec_changed_in_one_place(data):
    found = tolerated(spec.decode, data, Experiment)
    assert found is None or isinstance(found, Experiment)


@QUICK
@given(st.text(max_size=30))
def test_any_text_as_an_optimizer(text):
    tolerated(OPTIMIZERS.parse, text, spec.construct)


@QUICK
@given(st.text(alphabet="0123456789.e-+*()[]{},:'\"=_ab\\\n", max_size=30))
def test_any_text_as_a_field(text):
    found = tolerated(OPTIMIZERS.parse, f"Adam(b1={text})", spec.construct)
    assert found is None or isinstance(found, Adam)


@pytest.mark.parametrize(
    "text",
    [
        *("-" * 3_000 + "1", "-" * 100_000 + "1", "9" * 400, "{[]}", "{[]: 1}"),
        *("__import__('os').system('touch ran')", "().__class__", "(lambda: 1)()"),
    ],
    ids=range(8),
)
def test_texts_that_hurt_a_parser_run_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tolerated(OPTIMIZERS.parse, f"Adam(b1={text})", spec.construct) is None
    assert not list(tmp_path.iterdir())


# Files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    manifest = results.prepare(folder, "x", EXPERIMENT, "default")
    runner.run(folder, manifest, EXPERIMENT)
    (folder.parent / "outside.nc").write_bytes(next(folder.rglob("*.nc")).read_bytes())
    return folder


@QUICK
@given(st.data())
def test_a_manifest_changed_in_one_place(whole, data):
    content = json.loads((whole / "manifest.json").read_text())
    place = whole.parent / "changed"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    (place / "manifest.json").write_text(json.dumps(data.draw(changed(content))))
    tolerated(results.load, place)
    manifest = tolerated(results.prepare, place, "x", EXPERIMENT, "default")
    if manifest is not None:
        tolerated(runner.missing, place, manifest, EXPERIMENT)


@QUICK
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_as_a_manifest(whole, content):
    place = whole.parent / "bytes"
    place.mkdir(exist_ok=True)
    (place / "manifest.json").write_bytes(content)
    assert tolerated(results.read_manifest, place) is None


@pytest.mark.parametrize(
    "name", ["../outside.nc", "../../outside.nc", "/outside.nc", ".nc"]
)
def test_no_file_outside_the_folder_is_read(whole, tmp_path, name):
    content = json.loads((whole / "manifest.json").read_text())
    outside = whole.parent / "outside.nc"
    name = str(outside) if name == "/outside.nc" else name
    entry = next(iter(content["cells"].values()))
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    content["cells"] = {name: entry | {"sha256": digest}}
    shutil.copytree(whole, tmp_path / "run")
    shutil.copy(outside, tmp_path / "outside.nc")
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no file of a cell"):
        results.load(tmp_path / "run")


@QUICK
@given(st.data())
def test_a_record_cut_and_flipped_anywhere(whole, data):
    content = bytearray(next((whole / "records").glob("*.nc")).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    found = tolerated(netcdf.decode, content, whole / "x.nc")
    assert found is None or isinstance(found, xr.Dataset)


@pytest.mark.parametrize("lacking", ["problem", "optimizer"])
def test_a_foreign_record_with_the_right_digest_is_named(whole, tmp_path, lacking):
    shutil.copytree(whole, tmp_path / "run")
    content = json.loads((whole / "manifest.json").read_text())
    file = next(iter(content["cells"]))
    path = tmp_path / "run" / "records" / file
    dataset = netcdf.decode(path.read_bytes(), path)
    del dataset.attrs[lacking]
    path.write_bytes(netcdf.to_bytes(dataset))
    content["cells"][file]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=file):
        results.load(tmp_path / "run")


def test_published_records_that_are_none_are_named(whole, tmp_path):
    (tmp_path / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    (tmp_path / "records.nc").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*records\.nc"):
        results.load(tmp_path)
    (tmp_path / "records.nc").rmdir()
    cell = next((whole / "records").glob("*.nc"))
    (tmp_path / "records.nc").write_bytes(cell.read_bytes())
    with pytest.raises(UserError, match="names no problem"):
        results.load(tmp_path, "Digits")
