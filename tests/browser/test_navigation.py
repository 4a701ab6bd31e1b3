"""The browser's Back: one press for each page, whatever was chosen on it, and the page is as it was left; what an
address asked for stays where a click came early; the menu of a phone is out of the way."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Server
from tests.browser.walk import choose, settled

pytestmark = pytest.mark.browser


def visit(tab, page: str) -> None:
    """By the menu."""
    tab.get_by_role("link", name=page, exact=True).first.click()
    arrived(tab, page)


def arrived(tab, title: str) -> None:
    tab.get_by_role("heading", name=title, exact=True).wait_for()
    settled(tab)
    tab.wait_for_selector(".ep-foot", state="attached")


def test_back_takes_one_press_a_page(furnished: Server, finished: str, open_tab) -> None:
    tab = open_tab()
    tab.goto(furnished.url)
    tab.wait_for_function("history.entpruner")
    settled(tab)
    entries, left = tab.evaluate("history.length"), []
    for page in ("Importance", "Prune", "Compare", "Model & data", "Runs", "Importance", "Prune"):
        visit(tab, page)
        if page == "Prune":
            choose(tab, "By hand")
            choose(tab, "Adaptive")
        left.append((page, tab.url))
    assert tab.evaluate("history.length") == entries + len(left)
    for page, url in reversed(left[:-1]):
        tab.go_back()
        arrived(tab, page)
        assert tab.url == url
    tab.go_back()
    assert tab.url.rstrip("/") == furnished.url


def test_the_page_that_was_opened_first_has_one_entry_too(furnished: Server, open_tab) -> None:
    tab = open_tab()
    tab.goto(f"{furnished.url}/importance")
    arrived(tab, "Importance")
    tab.wait_for_function("history.entpruner && navigation.currentEntry.index === 0")
    visit(tab, "Prune")
    assert tab.evaluate("navigation.currentEntry.index") == 1
    tab.go_back()
    arrived(tab, "Importance")
    assert "look=one" in tab.url
    tab.go_back()
    assert tab.url == "about:blank"


def test_back_from_another_page_leads_to_the_run(furnished: Server, finished: str, open_tab) -> None:
    """What the page after it writes before its own name is in the address isn't written over the run."""
    tab = open_tab()
    tab.goto(f"{furnished.url}/prune?run={finished}&stage=1")
    arrived(tab, "Prune")
    tab.wait_for_function("history.entpruner")
    run = tab.url
    tab.get_by_test_id("stMain").get_by_role("button", name="Compare", exact=True).click()
    arrived(tab, "Compare")
    visit(tab, "Importance")
    tab.go_back()
    arrived(tab, "Compare")
    tab.go_back()
    arrived(tab, "Prune")
    assert tab.url == run


def test_what_the_address_asked_for_survives_a_click_before_it_was_loaded(furnished: Server, open_tab) -> None:
    """Streamlit loads each kind of widget on its own; one that comes late mustn't begin at its usual value."""
    tab, held = open_tab(), []
    tab.context.route(re.compile(r"/Selectbox\.[^/]*js"), lambda route: held.append(route))
    tab.goto(f"{furnished.url}/prune?model=demo-sit&data=digits")
    choose(tab, "Adaptive")
    assert held
    for route in held:
        route.continue_()
    tab.get_by_test_id("stSelectbox").first.wait_for()
    choose(tab, "By rank")
    assert parse_qs(urlsplit(tab.url).query) == {"model": ["demo-sit"], "data": ["digits"], "how": ["rank"]}


def test_the_menu_of_a_phone_closes_once_a_page_is_chosen(furnished: Server, open_tab) -> None:
    tab = open_tab(width=390)
    tab.goto(furnished.url)
    tab.wait_for_function("document.entprunerMenu")
    settled(tab)
    tab.get_by_test_id("stExpandSidebarButton").click()
    tab.locator('[data-testid="stSidebar"][data-collapsed="false"]').wait_for()
    tab.get_by_test_id("stSidebarNavLink").get_by_text("Runs", exact=True).click()
    tab.get_by_role("heading", name="Runs", exact=True).wait_for()
    tab.locator('[data-testid="stSidebar"][data-collapsed="true"]').wait_for(state="attached")
