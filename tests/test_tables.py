"""Rows in files, and all figures again."""

import csv
import io
import math
import re

import pytest

from experiments import alignment
from study import cli, gallery, tables
from study.errors import UserError

ROWS = [
    {"rule": "Adam(b1=0.0)", "steps": 20, "loss": 1.23456789e-7},
    {"rule": "100 % & more_", "steps": 3, "loss": math.nan, "best": math.inf},
]


def test_csv_has_the_columns_of_all_rows_and_six_digits():
    found = list(csv.DictReader(io.StringIO(tables.to_csv(ROWS).decode())))
    assert [*found[0]] == ["rule", "steps", "loss", "best"]
    assert found[0] == {
        "rule": "Adam(b1=0.0)",
        "steps": "20",
        "loss": "1.23457e-07",
        "best": "nan",
    }
    assert found[1]["loss"] == "nan"


def test_latex_has_a_line_a_row_and_escapes_what_latex_reads():
    text = tables.to_latex(tables.to_csv(ROWS)).decode()
    assert text.startswith(r"\begin{longtable}{lrrr}")
    assert text.endswith("\\end{longtable}\n")
    assert r"Adam(b1=0.0) & $20$ & $1.23 \cdot 10^{-7}$ & -- \\" in text
    assert r"100 \% \& more\_ & $3$ & -- & $\infty$ \\" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)


def test_a_wide_table_becomes_several_with_the_names_of_the_rows_in_each():
    wide = [{"problem": "P", "rule": f"R{i}"} | dict.fromkeys("abcdefg", i) for i in (1, 2)]
    text = tables.to_latex(tables.to_csv(wide), across=3).decode()
    assert text.count(r"\begin{longtable}{llrrr}") == 2
    assert text.count(r"\begin{longtable}{llr}") == 1
    assert text.count("P & R2 & $2$") == 3


@pytest.mark.parametrize("text", ["gif", "png,", "", "PNG"])
def test_an_unknown_format_is_refused(text):
    with pytest.raises(UserError, match="is none of png, pdf, svg, tex"):
        cli.kinds(text)


def test_formats_are_taken_once_and_in_order():
    assert cli.kinds("svg, png,svg") == ("svg", "png")


def test_all_formats_of_an_experiment_the_same_bytes_twice(tmp_path, monkeypatch, capsys):
    tiny = ["--preset", "smoke", "--quiet", "--results", str(tmp_path / "run")]
    monkeypatch.chdir(tmp_path)
    cli.main(alignment.__name__, [*tiny, "--format", "svg,tex"])
    assert not list((tmp_path / "run").glob("*.png"))
    found = cli.results_of(alignment, alignment.PRESETS["smoke"], tmp_path / "run")
    contents = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        files = cli.draw(alignment, found, cli.KINDS, tmp_path / place)
        contents.append({path.name: path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    kinds = {
        "svg": b"<?xml",
        "pdf": b"%PDF",
        "png": b"\x89PNG",
        "tex": rb"\begin{longtable}",
    }
    for name, content in contents[0].items():
        assert content.startswith(kinds[name.rpartition(".")[2]])
    for path in cli.draw(alignment, found, ("svg", "tex"), tmp_path / "one"):
        assert (tmp_path / "run" / path.name).read_bytes() == path.read_bytes()


def test_the_gallery_draws_what_there_is_and_names_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        gallery.main(["--output", "out"])
    assert ended.value.code == 2
    told = capsys.readouterr().out
    assert "alignment: no records in" in told
    assert "0 files in out" in told
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as ended:
        gallery.main(["--format", "gif"])
    assert ended.value.code == 2
    assert "error: --format 'gif'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        gallery.main(["--venue", "nips", "--output", "out"])
    assert ended.value.code == 2
    assert "error: --venue 'nips'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_gallery_takes_published_records(tmp_path, monkeypatch, capsys):
    name = "same_path"
    published = cli.ROOT.absolute() / name
    before = (published / "figure.png").stat().st_mtime_ns
    monkeypatch.setattr(gallery.listing, "names", lambda: [name])
    with pytest.raises(SystemExit) as ended:
        gallery.main(["--output", str(tmp_path)])
    assert ended.value.code == 0
    assert (tmp_path / name / "figure.png").stat().st_size
    assert (published / "figure.png").stat().st_mtime_ns == before
