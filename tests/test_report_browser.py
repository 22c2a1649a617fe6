"""The page in headless Chromium, opened from disk: it draws, sorts, filters, prints, and
passes axe-core's accessibility rules.

Needs `pip install '.[browser]'` and a `chromium` on the path.
"""

import re
import shutil
from pathlib import Path

import pytest
from helpers import luminance

from study.optimizers import OPTIMIZERS
from study.report import page as report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install '.[browser]'"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs pip install '.[browser]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium"
)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    place = tmp_path_factory.mktemp("report") / "report.html"
    place.write_text(report.build(ROOT / "results"))
    return place.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # As root, as in CI containers, Chromium has no sandbox, and little shared memory.
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, url):
    """Opens the page at an address; a complaint in the console fails the test."""
    complaints, requests, pages = [], [], []

    def open_page(address="", **options):
        page = browser.new_page(**options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url + address)
        page.wait_for_selector("html[data-ready]", state="attached")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert {address.split(":")[0] for address in requests} <= {"file", "data", "blob"}


def lines(page):
    """The strokes of the drawing."""
    return page.locator("#chart [aria-label=line] path").evaluate_all(
        "paths => paths.map(path => path.getAttribute('d'))"
    )


def rules(page):
    """The rules that the atlas shows, in order."""
    return page.locator("#atlas-table tbody tr:visible").evaluate_all(
        "rows => rows.map(row => row.dataset.name)"
    )


def test_the_first_view_is_drawn(visit):
    page = visit()
    assert len(lines(page)) == 10
    assert "Angle from -g (degrees) across step" in page.inner_text("#chart-title")
    assert "10 seeds" in page.inner_text("#chart-note")


def test_every_control_changes_the_drawing(visit):
    page = visit()
    seen = {page.inner_html("#chart")}

    def new():
        count = len(seen)
        seen.add(page.inner_html("#chart"))
        return len(seen) > count

    page.select_option("[name=problem]", "NoisyQuadratic")
    assert new()
    page.check("[name=logx]")
    assert new()
    page.uncheck("#shown [value=SGD]")
    assert new()
    assert len(lines(page)) == 9
    page.select_option("[name=measure]", "angle_by_leaf")
    assert new()
    page.select_option("[name=leaf]", "layers.0.kernel")
    assert new()
    page.select_option("[name=lines]", "leaf")
    assert new()
    assert len(lines(page)) == 6
    page.select_option("[name=measure]", "objective_by_rate")
    assert "across learning rate" in page.inner_text("#chart-title")
    assert new()
    page.select_option("[name=x]", "optimizer")
    page.select_option("[name=lines]", "")
    page.select_option("[name=learning_rate]", "0.001")
    assert new()
    page.select_option("[name=experiment]", "depth")
    assert new()


def test_every_measure_of_every_experiment_can_be_drawn(visit):
    page = visit()
    empty = page.evaluate("""() => {
        const empty = [];
        for (const name of Object.keys(explorer.records)) {
            for (const variable of explorer.records[name].variables) {
                const view = { experiment: name, measure: variable.name };
                explorer.restore(new URLSearchParams(view));
                const marks = document.querySelectorAll(
                    "#chart :is([aria-label=line], [aria-label=dot]) > *");
                if (explorer.fields.measure.value !== variable.name || !marks.length)
                    empty.push(`${name} ${variable.name}`);
            }
        }
        return empty;
    }""")
    assert empty == []


def test_what_a_logarithmic_axis_cannot_show_is_counted_and_leaves_gaps(visit):
    page = visit("#explore?experiment=deep_training&measure=train_loss")
    assert page.is_checked("[name=logy]")
    missing = page.evaluate(
        "explorer.points.filter(p => !(p.median > 0 && p.median < 1/0)).length"
    )
    assert missing > 0
    assert f"Not drawn: {missing} values" in page.inner_text("#chart-note")
    page.uncheck("[name=logy]")
    infinite = page.evaluate("explorer.points.filter(p => p.median === 1/0).length")
    assert ("Not drawn" in page.inner_text("#chart-note")) == (infinite > 0)


def test_the_address_restores_the_view(visit):
    page = visit()
    page.select_option("[name=experiment]", "depth")
    page.select_option("[name=measure]", "norm")
    page.select_option("[name=depth]", "64")
    page.locator("#shown input").first.uncheck()
    drawn, address = page.inner_html("#chart svg g"), page.evaluate("location.hash")
    again = visit(address)
    assert again.input_value("[name=depth]") == "64"
    assert len(lines(again)) == len(lines(page))
    assert again.inner_text("#chart-title") == page.inner_text("#chart-title")
    assert again.inner_html("#chart svg g") == drawn
    assert page.evaluate("location.hash") == address


def test_an_address_that_fits_nothing_shows_the_usual_view(visit):
    page = visit("#explore?experiment=none&measure=<b>&show=x&problem=y")
    assert "across step" in page.inner_text("#chart-title")
    page.goto(page.url.split("#")[0] + "#none?x=1")
    page.goto(page.url.split("#")[0] + "#%E0%A4%A")


def test_hovering_shows_values(visit):
    page = visit("#explore")
    page.hover("#chart svg")
    page.wait_for_selector("#chart [aria-label=tip] text")
    assert "[" in page.locator("#chart [aria-label=tip]").text_content()


def test_values_are_read_at_any_place_by_the_keyboard(visit):
    page = visit()
    slider = page.locator("#reading input")
    assert slider.get_attribute("aria-valuetext") == "step 960"
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "step 0"
    first = page.locator("#reading li").filter(has_text="Adagrad").inner_text()
    assert re.search(r"Adagrad\s+1\.495 \[.*\]\s+rate 0\.03162", first)
    again = visit(page.evaluate("location.hash"))
    assert again.locator("#reading output").inner_text() == "step 0"


def test_the_measures_are_explained_in_the_words_of_the_code(visit):
    page = visit("#explore?experiment=depth")
    page.click("#measures summary")
    assert "`lost_first`" in page.inner_text("#measures .scroll")
    page.select_option("[name=experiment]", "alignment")
    assert page.locator("#measures").is_hidden()


def test_the_drawing_has_its_numbers_as_a_table(visit):
    page = visit()
    page.click("#numbers summary")
    header = page.locator("#numbers th").all_inner_texts()
    assert header[:3] == ["step", "SGD", "Momentum"]
    assert page.locator("#numbers tbody tr").count() == 13


def test_the_atlas_sorts_and_filters(visit):
    page = visit()
    assert len(rules(page)) == 71
    floor = page.get_by_role("button", name="Floor")
    floor.click()
    rising = rules(page)
    floor.click()
    falling = rules(page)
    assert rising != falling
    known = page.evaluate("""() => [...document.querySelectorAll("#atlas-table tbody tr")]
        .map(row => Number(row.cells[12].dataset.value)).filter(x => !isNaN(x))""")
    assert known == sorted(known, reverse=True)
    assert page.get_attribute("#atlas-table th:nth-child(13)", "aria-sort") == "descending"
    page.select_option("#atlas [name=blind]", "element")
    page.fill("#atlas [name=text]", "adam")
    found = rules(page)
    assert "Adam" in found
    assert "SGD" not in found
    assert page.inner_text("#atlas .found") == f"{len(found)} of 71 shown"
    assert rules(visit(page.evaluate("location.hash"))) == found


def test_the_atlas_measures_from_any_rule(visit):
    page = visit()
    page.select_option("[name=from]", "Adam")
    page.get_by_role("button", name="From Adam").click()
    assert rules(page)[0] == "Adam"
    assert page.locator("#atlas-table tbody tr .from").first.inner_text() == "0"


def test_predictions_are_filtered_by_links_and_controls(visit):
    page = visit()
    page.locator("#question a.fails").click()
    shown = page.locator("#predictions-table tbody tr:visible")
    verdicts = set(shown.evaluate_all("rows => rows.map(row => row.dataset.verdict)"))
    assert verdicts == {"fails"}
    page.select_option("#predictions [name=experiment]", "alignment")
    page.select_option("#predictions [name=verdict]", "")
    assert page.inner_text("#predictions .found").startswith("11 of ")


def test_everything_is_reached_by_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.focus("[name=experiment]")
    page.keyboard.press("ArrowDown")
    assert page.input_value("[name=experiment]") != "alignment"
    unreachable = page.evaluate("""() => [...document.querySelectorAll(
        "a, button, select, input, summary, .scroll")].filter(
            node => node.tabIndex < 0 && !node.disabled).map(node => node.outerHTML)""")
    assert unreachable == []
    page.focus("#numbers summary")
    page.keyboard.press("Enter")
    assert page.locator("#numbers").get_attribute("open") is not None


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_accessibility_rule_is_broken_seriously(visit, scheme, width):
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.click("#numbers summary")
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (one["id"], one["help"], one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_every_rules_colour_stands_out_from_both_grounds(visit):
    page = visit(color_scheme="light")
    for panel in ("#f5f6f8", "#1d2128"):
        drawn = page.evaluate(
            "colours => colours.map(inked)", [rule.colour for rule in OPTIMIZERS.values()]
        )
        for colour in drawn:
            low, high = sorted((luminance(colour), luminance(panel)))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, panel)
        page.click("#theme")


def test_a_phone_is_not_scrolled_sideways(visit):
    page = visit(viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_theme_can_be_chosen(visit):
    page = visit(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) != before
    assert page.inner_text("#theme") == "Light"


def test_it_prints(visit, tmp_path):
    page = visit()
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") > 20
