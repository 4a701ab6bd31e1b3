"""The lessons in a real browser: arrow keys, presenting, a guess, the handout, narrow screens."""

import re
from pathlib import Path

import pytest

from tests.browser.conftest import Server
from tests.browser.test_story import settle, shoot

pytestmark = pytest.mark.browser
PATIENCE = 240_000


def open_lesson(tab, server: Server, lesson: int, screen: int, more: str = "") -> None:
    tab.goto(f"{server.url}/learn?lesson={lesson}&screen={screen}{more}")
    tab.locator(".ep-idea").wait_for()


def test_keys_go_on_and_back_and_presenting_hides_the_rest(open_tab, server: Server) -> None:
    tab = open_tab()
    open_lesson(tab, server, 2, 1, "&present=1")
    tab.get_by_text("Entropy H").wait_for()
    tab.get_by_role("button", name="Next").wait_for()  # keys are its shortcuts: before it is there nobody hears them
    tab.get_by_test_id("stStatusWidget").wait_for(state="detached")
    assert not tab.get_by_test_id("stHeader").is_visible()
    assert not tab.locator(".ep-foot").is_visible()
    shoot(tab, "learn-present")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(re.compile("lesson=2.*screen=2"))
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_url(re.compile("lesson=2.*screen=1"))
    tab.get_by_text("Entropy H").wait_for()
    tab.get_by_role("slider").first.focus()
    tab.locator(".ep-idea").click()  # a slider takes all keys, as the help says
    tab.keyboard.press("PageDown")
    tab.wait_for_url(re.compile("lesson=2.*screen=2"))
    tab.keyboard.press("Escape")
    tab.get_by_role("heading", name="Learn").wait_for()
    assert tab.get_by_test_id("stHeader").is_visible()
    assert "present" not in tab.url


def test_both_models_draw_and_show_their_blocks(open_tab, server: Server) -> None:
    tab = open_tab(dark=True)
    open_lesson(tab, server, 1, 1)
    tab.locator(".ep-duo img").nth(3).wait_for(timeout=PATIENCE)
    assert tab.locator(".ep-duo img").count() == 4
    tab.get_by_role("button", name="Next").click()
    tab.locator(".ep-readings img").nth(25).wait_for(timeout=PATIENCE)
    shoot(tab, "learn-blocks-dark")


def test_a_guess_by_keyboard_and_what_comes_of_it(open_tab, server: Server) -> None:
    tab = open_tab()
    open_lesson(tab, server, 3, 1)
    block = tab.locator(".st-key-strip_learn_guess button[data-variant=pills]").nth(11)
    block.focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("You say block 11").wait_for()
    tab.keyboard.press("PageDown")
    tab.locator(".ep-pairs img").nth(15).wait_for(timeout=PATIENCE)
    tab.get_by_text("counted from the least needed").wait_for(timeout=PATIENCE)
    shoot(tab, "learn-guess")
    tab.keyboard.press("PageDown")
    tab.get_by_text(re.compile("1 guess so far")).wait_for()
    open_lesson(tab, server, 3, 1)  # loaded anew: the same person still, who changes their mind
    tab.get_by_text("You say block 11").wait_for()
    block = tab.locator(".st-key-strip_learn_guess button[data-variant=pills]").nth(4)
    block.focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("You say block 4").wait_for()
    for _ in range(2):
        tab.keyboard.press("PageDown")
        settle(tab)
    tab.get_by_text(re.compile("1 guess so far")).wait_for(timeout=PATIENCE)


def test_the_handout_opens_without_a_network(open_tab, server: Server, browser, tmp_path: Path) -> None:
    tab = open_tab()
    open_lesson(tab, server, 6, 2)
    tab.get_by_text("Handout: all lessons on paper").click()
    tab.get_by_role("button", name="Make the handout").click()
    download = tab.get_by_role("button", name="Download the handout")
    download.wait_for(timeout=PATIENCE)
    with tab.expect_download() as got:
        download.click()
    file = tmp_path / "lessons.html"
    got.value.save_as(file)
    context = browser.new_context(viewport={"width": 900, "height": 1200}, offline=True)
    try:
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.locator(".main-svg").first.wait_for()
        assert page.locator("section").count() == 19
        assert "Not computed" not in page.inner_text("body")
        page.screenshot(path=tmp_path / "handout.png", full_page=True)
        assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    finally:
        context.close()


@pytest.mark.parametrize(("lesson", "screen"), [(1, 2), (3, 3), (4, 2), (5, 1), (5, 2), (6, 1), (6, 3)])
def test_nothing_runs_over_a_narrow_screen(open_tab, server: Server, lesson: int, screen: int) -> None:
    tab = open_tab(width=390, height=844)
    open_lesson(tab, server, lesson, screen)
    settle_without_title(tab)
    wide = tab.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    shoot(tab, f"learn-{lesson}{screen}-390")


def settle_without_title(tab) -> None:
    settle(tab)
    for _ in range(120):
        if not tab.locator(".ep-wait").count():
            return
        tab.wait_for_timeout(500)
