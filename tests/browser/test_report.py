"""A report as a reader sees it: opened from a file without a network, in light and dark, on a phone, on paper."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.report.report import write_report
from engine.runs.workspace import open_workspace
from tests.browser.walk import bring_into_view
from tests.unit.test_report import HOSTILE, make_prune_run

pytestmark = pytest.mark.browser
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(make_prune_run(open_workspace(folder / "workspace")).path, folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def read(browser) -> Callable:
    """Opens a file and proves at the end that it asked for nothing else and raised no error."""
    tabs, asked, wrong = [], [], []

    def read(file: Path, *, width: int = 1100, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        context.set_offline(True)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        tab.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        tab.goto(file.as_uri())
        tabs.append(tab)
        return tab

    yield read
    for tab in tabs:
        tab.context.close()
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside and len([url for url in asked if url.startswith("file:")]) == len(tabs)
    assert not wrong


def until(tab, true: str) -> None:
    """Playwright's own wait_for_function is refused by the page's policy."""
    deadline = time.monotonic() + 20
    while not tab.evaluate(true):
        assert time.monotonic() < deadline, true
        tab.wait_for_timeout(50)


def test_figures_are_drawn_offline_and_answer_the_mouse(read, report):
    tab = read(report)
    plots = tab.locator(".plot")
    assert plots.count() == 7
    for index in range(plots.count()):
        plots.nth(index).locator("svg.main-svg").first.wait_for()
    assert tab.locator("details.numbers[open]").count() == 0
    cells = tab.locator("#figure1 .nsewdrag").first
    bring_into_view(cells)
    box = cells.bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + box["height"] * 0.04)
    hover = tab.locator("#figure1 .hoverlayer")
    hover.get_by_text("block 0").wait_for()
    assert re.search(r"noise level \(timestep\) 0.*ΔH", hover.text_content(), re.DOTALL)
    tab.locator("#figure1").locator("xpath=..").get_by_text("These numbers as a table").click()
    assert tab.locator("details.numbers[open] tr").count() == 13


def test_one_stage_is_laid_over_another(read, report):
    tab = read(report)
    gallery, slider = tab.locator(".gallery"), tab.locator("input.reveal")
    assert slider.is_disabled()
    apart = gallery.bounding_box()["height"]
    tab.get_by_text("Lay stage 2 over stage 0").click()
    assert gallery.bounding_box()["height"] < 0.6 * apart
    slider.fill("30")
    clip = gallery.locator(".stack span:last-child").first.evaluate("e => getComputedStyle(e).clipPath")
    assert "70%" in clip


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_theme_and_fits_the_screen(read, report, width, scheme):
    tab = read(report, width=width, color_scheme=scheme)
    tab.locator("#figure7 svg.main-svg").first.wait_for()
    assert tab.evaluate(OVERFLOW) <= 0
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}
    kept = {"light": "rgb(47, 102, 169)", "dark": "rgb(121, 174, 239)"}
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == paper[scheme]
    bars = "#figure2 .bars path"
    assert tab.locator(bars).first.evaluate("e => getComputedStyle(e).fill") == kept[scheme]
    other = "dark" if scheme == "light" else "light"
    tab.emulate_media(color_scheme=other)
    until(tab, f"getComputedStyle(document.querySelector({bars!r})).fill == {kept[other]!r}")
    widths = tab.evaluate(
        "[...document.querySelectorAll('.plot')].map(e => [e.clientWidth, e.querySelector('svg').clientWidth])"
    )
    assert all(abs(place - drawn) <= 1 for place, drawn in widths)


def test_it_can_be_read_without_scripts(read, report):
    tab = read(report, java_script_enabled=False)
    assert tab.locator(".plot").first.is_hidden() and tab.locator("input.reveal").is_hidden()
    tables = tab.locator("details.numbers table")
    assert tables.count() == 7 and all(tables.nth(index).is_visible() for index in range(7))


def test_it_prints_on_white_with_whole_figures(read, report, tmp_path):
    tab = read(report, color_scheme="dark")
    tab.locator("#figure7 svg.main-svg").first.wait_for()
    tab.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    num_pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes()))
    assert 4 <= num_pages <= 20
    tab.set_viewport_size({"width": 680, "height": 1000})
    tab.emulate_media(media="print", color_scheme="dark")
    until(tab, "document.querySelector('#figure2 .bars path').style.fill == 'rgb(47, 102, 169)'")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate(OVERFLOW) <= 0
    edges = tab.evaluate(
        "[...document.querySelectorAll('.plot')].map(e => { const box = e.getBoundingClientRect(), svg = "
        "e.querySelector('svg').getBoundingClientRect(); return [svg.right - box.right, svg.bottom - box.bottom, "
        "getComputedStyle(e.closest('.chart')).breakInside] })"
    )
    assert all(right <= 1 and bottom <= 1 and breaks == "avoid" for right, bottom, breaks in edges)


def test_hostile_names_run_nothing_and_fetch_nothing(read, tmp_path):
    run = make_prune_run(open_workspace(tmp_path / "workspace"))
    for stage in run.stages():
        for name in ("metrics.json", "config.json", "stage.json"):
            text = (stage.path / name).read_text()
            for word in ("digits", "Two blocks save most.", "FID at N=200 is biased upwards"):
                text = text.replace(word, HOSTILE.replace("\\", "\\\\").replace('"', '\\"'))
            for digit in range(10):
                text = text.replace(f'"{digit}"', f'"<img src=http://evil.example/{digit} onerror=alert({digit})>"')
            (stage.path / name).write_text(text)
    write_report(run.path, tmp_path / "report.html")
    tab = read(tmp_path / "report.html")
    names = tab.locator("#figure7 .yaxislayer-above")
    names.get_by_text("<img src=http").first.wait_for()
    assert tab.locator("img[onerror], a, iframe, svg a, svg image[href^=http]").count() == 0


def test_its_own_policy_stops_what_slipped_through(browser, report, tmp_path):
    """As if some text had not been escaped: the page neither runs nor fetches it."""
    slipped = "<script>document.title = 'ran'</script><img src='https://evil.example/x' onerror='document.title = 1'>"
    file = tmp_path / "slipped.html"
    file.write_text(report.read_text().replace("<h1>", slipped + "<h1>"))
    context, refused = browser.new_context(), []
    tab = context.new_page()
    tab.on("console", lambda said: refused.append(said.text))
    tab.goto(file.as_uri())
    tab.locator("#figure1 svg.main-svg").first.wait_for()
    title = tab.title()
    context.close()
    assert title.startswith("Half of") and len([text for text in refused if "Content Security Policy" in text]) >= 3
