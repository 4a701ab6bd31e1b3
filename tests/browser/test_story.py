"""What a person does, in a real browser: heatmap, a block taken out, pruning, comparison; and how each page looks.

Pictures are left in artefacts/screenshots/ to be looked at.
"""

import re
import time
from pathlib import Path

import pytest

from tests.browser.conftest import Server
from tests.browser.walk import bring_into_view

pytestmark = pytest.mark.browser
SHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
PAGES = ("", "model-data", "importance", "prune", "compare", "arena", "runs", "open-model", "open-data")
#: seconds until the first page, where something is broken; ``bench/start.py`` measures it: 3 on an idle machine
FIRST_PAGE_SECONDS = 40.0


def shoot(tab, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    height = tab.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    size = tab.viewport_size
    tab.set_viewport_size({"width": size["width"], "height": min(4000, max(size["height"], height + 20))})
    tab.wait_for_timeout(700)
    tab.screenshot(path=SHOTS / f"{name}.png")
    tab.set_viewport_size(size)


def settle(tab) -> None:
    """Until Streamlit has stopped running the page."""
    tab.wait_for_selector("h1")
    tab.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
    tab.wait_for_timeout(500)


def wait_for_text(tab, text: str, *, seconds: float) -> None:
    """Fails at once when the page says that something went wrong."""
    found, wrong = tab.get_by_text(text).first, tab.get_by_test_id("stAlertContentError")
    found.or_(wrong).first.wait_for(timeout=1000 * seconds)
    assert not wrong.count(), wrong.first.inner_text()


def click_cell(tab, *, row: float, column: float) -> None:
    """``row`` and ``column`` as shares of the heatmap."""
    layer = tab.locator(".st-key-heatmap .nsewdrag").first
    bring_into_view(layer)
    box = layer.bounding_box()
    tab.mouse.click(box["x"] + box["width"] * column, box["y"] + box["height"] * row)


def set_number(tab, label: str, value: int) -> None:
    field = tab.get_by_role("spinbutton", name=label, exact=True)
    field.fill(str(value))
    field.press("Enter")
    settle(tab)


def test_the_first_page_is_there_soon(fresh_server, open_tab) -> None:
    tab = open_tab()
    tab.goto(fresh_server.url)
    tab.get_by_role("heading", name="Which blocks can your diffusion model do without?").wait_for()
    waited = time.monotonic() - fresh_server.started
    assert waited < FIRST_PAGE_SECONDS, f"the first page took {waited:.1f} s from the start of the server"


def test_the_story(open_tab, server: Server) -> None:
    tab = open_tab()
    tab.goto(server.url)
    tab.get_by_role("heading", name="Which blocks can your diffusion model do without?").wait_for()
    shoot(tab, "1-start")

    tab.get_by_role("button", name="Show its blocks").first.click()
    wait_for_text(tab, "matters least:", seconds=240)
    assert "/importance?" in tab.url and "model=demo" in tab.url
    settle(tab)

    click_cell(tab, row=5.5 / 12, column=0.35)
    tab.wait_for_url(re.compile(r"block=5"))
    tab.locator(".ep-pairs:not(.old) figure").nth(7).wait_for(timeout=300_000)
    assert tab.get_by_alt_text(re.compile("^without 5")).count() == 8
    shoot(tab, "2-one-block")

    tab.locator('[class*="st-key-strip"] button[data-variant="pills"]').nth(8).click()
    wait_for_text(tab, "their single effects add up to", seconds=300)
    assert tab.get_by_alt_text(re.compile("^without 5, 8")).count() == 8
    shoot(tab, "3-two-blocks")

    tab.get_by_role("link", name="Prune", exact=True).click()
    tab.get_by_role("heading", name="Prune", exact=True).wait_for()
    settle(tab)
    set_number(tab, "Steps", 30)
    set_number(tab, "Images to score", 32)
    shoot(tab, "4-prune-form")
    tab.get_by_role("button", name="Start pruning").click()
    tab.wait_for_url(re.compile(r"run=\d{8}-\d{6}-prune-"), timeout=300_000)
    run_id = re.search(r"run=([^&]+)", tab.url).group(1)

    tab.goto(f"{server.url}/prune")  # the browser was closed and opened again in mid-run
    tab.wait_for_url(re.compile(run_id))
    wait_for_text(tab, "Finished.", seconds=400)
    tab.get_by_text("Before and after").wait_for()
    shoot(tab, "5-pruned")

    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("In pictures, seed by seed").wait_for()
    tab.locator(".ep-cells figure").nth(19).wait_for()
    assert "FID (demo-cnn)" in tab.inner_text("body")
    shoot(tab, "6-compare")


def test_two_tabs_see_the_same_run(open_tab, server: Server) -> None:
    first, second = open_tab(), open_tab(dark=True)
    for tab in (first, second):
        tab.goto(f"{server.url}/runs")
        tab.get_by_test_id("stDataFrame").wait_for()  # both list what the story left
        assert tab.get_by_test_id("stDataFrame").count() == 1


@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_in_every_look(open_tab, server: Server, page: str, look: str) -> None:
    tab = open_tab(dark=look == "dark", width=390 if look == "narrow" else 1280)
    tab.goto(f"{server.url}/{page}")
    settle(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    scheme = tab.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme")
    assert scheme == ("dark" if look == "dark" else "light")
    shoot(tab, f"{page or 'start'}-{look}")
