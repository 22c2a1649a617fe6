"""The page as text: what is in it, that it is whole, and that nothing else gets in."""

import base64
import gzip
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import luminance

from study import listing, results, statistics
from study.errors import UserError
from study.optimizers import OPTIMIZERS
from study.report import atlas, chapters, explorer, page, prose

ROOT = Path(__file__).parents[1]
STORED = np.degrees(1e-4)  # published angles are multiples of 1e-4 radians
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        self.inside = ""

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def unpacked(text):
    (packed,) = re.findall(r'id="data">([^<]+)<', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture(scope="module")
def text():
    return page.build(ROOT / "results")


@pytest.fixture(scope="module")
def read(text):
    return Page(text)


@pytest.fixture
def small(tmp_path):
    """Two published experiments in a folder of their own."""
    for name in ("worked_example", "rescaled_vector"):
        shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    return tmp_path / "results"


def test_every_published_experiment_has_its_chapter_figures_and_predictions(text, read):
    ids = {attributes["id"] for _, attributes in read.tags if attributes.get("id")}
    names = [folder.name for folder in (ROOT / "results").iterdir() if folder.is_dir()]
    assert {f"experiment-{name}" for name in names if name != "runs"} <= ids
    assert {f"experiment-{name}" for name in listing.names()} <= ids
    pictures = [*(ROOT / "results").glob("*/*.png")]
    assert {f"figure-{p.parent.name}-{p.stem}" for p in pictures} <= ids
    stored = [json.loads(p.read_text()) for p in (ROOT / "results").glob("*/claims.json")]
    assert text.count("<tr data-verdict=") == sum(map(len, stored))


def test_the_page_is_small_and_loads_nothing(text, read):
    assert len(text.encode()) < 5_000_000
    for name, attributes in read.tags:
        for key in ("src", "srcset", "poster", "data", "action"):
            assert attributes.get(key, "data:").startswith("data:"), (name, key)
        assert name not in ("link", "iframe", "object", "embed", "base")
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_pages_own_scripts_may_run(read):
    (policy,) = [m["content"] for m in read.all("meta") if "http-equiv" in m]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    scripts = [script for script in read.scripts if not script.startswith("H4sI")]
    assert len(scripts) == len(page.SCRIPTS)
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    handlers = [key for _, attributes in read.tags for key in attributes if key[:2] == "on"]
    assert not handlers


def test_every_picture_has_a_text_alternative_and_every_link_a_target(read):
    ids = {attributes["id"] for _, attributes in read.tags if attributes.get("id")}
    images = read.all("img")
    assert images
    assert all(len(image["alt"]) > 20 for image in images)
    for link in read.all("a"):
        href = link["href"]
        assert href.startswith("https://") or href[1:].split("?")[0] in ids, href


def test_words_stand_out_from_every_ground_in_light_and_dark():
    style = (page.ASSETS / "page.css").read_text()
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: pair for name, *pair in found}
    grounds = ("paper", "panel", "yes", "nearly", "partly")
    soft = ("soft", "accent", "holds", "fails", "undecided", "undefined")
    words = {"ink": grounds} | {name: grounds[:2] for name in soft}
    assert set(colours) == {*words, *grounds, "line"}
    for name, behind in words.items():
        for ground in behind:
            for one, other in zip(colours[name], colours[ground], strict=True):
                low, high = sorted((luminance(one), luminance(other)))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)


def test_equal_results_give_equal_pages(small):
    assert page.build(small) == page.build(small)


def test_what_files_say_is_text(small):
    folder = small / "worked_example"
    (small.parent / "README.md").write_text(
        f"# {EVIL}\n\n{EVIL}\n\n## Findings\n\n{EVIL}\n"
    )
    claims = json.loads((folder / "claims.json").read_text())
    for key in ("statement", "source", "verdict", "value"):
        claims[0][key] = EVIL
    (folder / "claims.json").write_text(json.dumps(claims))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"preset": EVIL, "date": EVIL, "experiment": EVIL}
    manifest["spec"][EVIL] = EVIL
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "summary.csv").write_text(f'a\n"{EVIL.replace(chr(34), chr(34) * 2)}"\n')
    text = page.build(small)
    assert "<script>alert" not in text
    assert "onerror=alert(2)>" not in text.replace("onerror=alert(2)&gt;", "")
    found = Page(text)
    assert len(found.all("script")) == len(page.SCRIPTS) + 1
    assert not [i for i in found.all("img") if not i["src"].startswith("data:")]
    assert unpacked(text)["tables"]["worked_example"][1] == [EVIL]


def test_links_of_the_readme_that_lead_nowhere_are_text():
    shown = prose.html(
        "[a](javascript:alert(1)) [b](../x.md) [c](https://example.org)\n"
        "![A map](results/map/figure.png) ![No map](results/none/figure.png)\n"
        "`python -m experiments.map` `python -m experiments.none`",
        {("map", "figure")},
        {"map"},
    )
    assert re.findall(r'href="([^"]*)"', shown) == [
        "https://example.org",
        "#figure-map-figure",
        "#experiment-map",
    ]
    assert "<img" not in shown
    assert "No map" in shown


def test_headings_of_the_findings_can_be_linked_to():
    text = "### Where *it* ends\n\nsome\n\n#### [a](b)\n"
    shown = prose.html(text, set(), set())
    for tag, target, _ in prose.headings(text):
        assert f'<{tag} id="{target}">' in shown


@pytest.mark.parametrize("what", ["missing", "empty", "manifest", "claims", "picture"])
def test_folders_without_whole_results_are_refused_in_one_line(small, what, capsys):
    folder, named = small, "worked_example"
    if what == "missing":
        folder = named = small / "none"
    elif what == "empty":
        shutil.rmtree(small)
        small.mkdir()
        named = str(small)
    else:
        file = {"manifest": "manifest.json", "claims": "claims.json"}.get(
            what, "figure.png"
        )
        (small / "worked_example" / file).write_bytes(b"[{]")
    with pytest.raises(SystemExit) as stop:
        page.main([str(folder)])
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert str(named) in said[0]
    assert not [*small.glob("*.html")]


def test_the_command_writes_where_it_is_told(small, capsys):
    page.main([str(small)])
    page.main([str(small), "--output", str(small / "deeper" / "one.html")])
    assert (small / "report.html").read_bytes() == (small / "deeper/one.html").read_bytes()
    assert "report.html" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        page.main([str(small), "--output", str(small)])
    assert "is a folder" in capsys.readouterr().err


def test_the_explorer_has_medians_and_bands_of_the_records(text):
    stored = results.load(ROOT / "results" / "alignment", "Digits")
    angles = np.degrees(stored.angle.sel(optimizer="Adam").transpose("seed", "step").values)
    found = unpacked(text)["records"]["alignment"]
    (variable,) = [v for v in found["variables"] if v["name"] == "angle"]
    assert variable["axes"] == ["problem", "optimizer", "step"]
    assert variable["units"] == "10 seeds"
    places = [
        found["axes"][a]["values"].index(v)
        for a, v in (("problem", "Digits"), ("optimizer", "Adam"))
    ]
    wanted = (np.median(angles, 0), *statistics.band(angles))
    for name, values in zip(("median", "low", "high"), wanted, strict=True):
        shown = variable[name][places[0]][places[1]]
        np.testing.assert_allclose(shown, values, rtol=1e-3)


def test_reducing_keeps_infinity_and_leaves_out_missing_units():
    values = np.full((4, 2, 3), np.nan)
    values[:, 0] = [[1, 1, 5], [2, np.inf, 5], [3, np.inf, np.nan], [4, np.inf, 5]]
    values[:2, 1] = [[7, 7, 7], [9, 9, 9]]  # the second problem has two units
    median, low, high = explorer.reduce(values)
    np.testing.assert_equal(median, [[2.5, np.inf, np.nan], [8, 8, 8]])
    assert low[0, 0] < 2.5 < high[0, 0]
    assert explorer.plain(median) == [[2.5, "inf", None], [8, 8, 8]]


def test_labels_are_readable_without_mathematical_markup():
    assert explorer.readable("$|u| / |\\eta g|$") == "|u| / |ηg|"
    assert explorer.readable("$\\cos(u, \\mathrm{unscaled})$") == "cos(u, unscaled)"
    assert explorer.readable("Spread, $\\max s / \\min s$") == "Spread, max s / min s"
    assert explorer.readable("test_loss") == "test loss"


def test_the_atlas_has_every_rule_with_stated_or_measured_facts(tmp_path):
    stated = {row["name"]: row for row in atlas.rows(tmp_path)}
    measured = {row["name"]: row for row in atlas.rows(ROOT / "results")}
    assert set(stated) == set(measured)
    assert set(stated) <= set(OPTIMIZERS)
    assert stated["SGD"]["outcomes"]["rotation"] == measured["SGD"]["outcomes"]["rotation"]
    assert not stated["Adam"]["measured"]
    assert measured["Adam"]["measured"]
    assert measured["SGD"]["turn"] > 45 > measured["SignDescent"]["turn"]


def test_angles_between_rules_are_those_of_the_map():
    found = atlas.angles(ROOT / "results")
    assert found is not None
    n = len(found["names"])
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = [np.nan if d is None else d for d in found["degrees"]]
    rows = (ROOT / "results/direction_map/summary.csv").read_text().splitlines()[1:]
    for row in rows:
        name, *_, degrees = row.split(",")
        shown = square[0, found["names"].index(name)]
        np.testing.assert_allclose(shown, float(degrees), rtol=1e-3, atol=STORED)


def test_a_record_file_that_is_damaged_is_named(small):
    (small / "worked_example" / "records.nc").write_bytes(b"no netCDF")
    with pytest.raises(UserError, match=r"worked_example.records\.nc"):
        page.build(small)


def test_a_folder_that_no_experiment_owns_is_shown_from_its_files(small):
    (small / "worked_example").rename(small / "os")  # a name that could be imported
    found = {chapter.name: chapter for chapter in chapters.read(small)}
    assert found["os"].title == "os"
    assert found["os"].verdicts


def test_the_drawing_libraries_are_the_published_files():
    vendor = page.ASSETS / "vendor"
    for line in (vendor / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
        assert "Copyright" in (vendor / name).read_text()[:200]
        assert "Copyright" in (vendor / f"{name.split('.')[0]}-LICENSE").read_text()


def test_variables_that_cannot_be_drawn_are_left_out():
    dataset = xr.Dataset(
        {
            "words": (("problem",), ["a"]),
            "one": (("problem",), [1.0]),
            "never": (("problem", "step"), [[np.nan, np.nan]]),
            "kept": (("problem", "step"), [[1.0, np.nan]]),
        },
        {"problem": ["P"]},
    )
    found = {name: explorer._variable(dataset, str(name)) for name in dataset.data_vars}
    assert [name for name, variable in found.items() if variable] == ["kept"]
