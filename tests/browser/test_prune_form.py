"""The prune form in a browser: what was chosen survives a reload, and a number out of range starts nothing."""

import pytest

from tests.browser.conftest import Server
from tests.browser.walk import choose, set_number, settled, slide_to

pytestmark = pytest.mark.browser


def test_the_form_is_there_again_after_a_reload(furnished: Server, open_tab) -> None:
    tab = open_tab()
    tab.goto(f"{furnished.url}/prune?run=new&model=demo-sit&data=shapes")
    tab.wait_for_selector(".ep-foot", state="attached")
    choose(tab, "Adaptive")
    slide_to(tab, "Blocks to keep", 6)
    for steps in (120, 77):
        set_number(tab, "Steps", steps)
    choose(tab, "Even")
    tab.reload()
    tab.wait_for_selector(".ep-foot", state="attached")
    settled(tab)
    assert tab.locator("input[type=range][aria-label='Blocks to keep']").input_value() == "6"
    assert tab.get_by_role("spinbutton", name="Steps", exact=True).input_value() == "77"
    assert "231 steps of recovery in all" in tab.inner_text("body")


def test_a_number_out_of_range_starts_nothing(furnished: Server, open_tab) -> None:
    """Nor is the number before it taken, which the page had last."""
    tab = open_tab()
    tab.goto(f"{furnished.url}/prune?run=new&model=demo-sit&data=shapes&how=adaptive")
    tab.wait_for_selector(".ep-foot", state="attached")
    settled(tab)
    start = tab.get_by_role("button", name="Start pruning")
    for label, bad, good in (("Learning rate", "1e30", "0.001"), ("Steps", "999999999", "50"), ("Batch", "0", "32"),
                             ("Distillation", "1e9", "1"), ("Images to score", "1", "500")):  # fmt: skip
        box = tab.get_by_role("spinbutton", name=label, exact=True)
        box.fill(bad)
        box.press("Enter")
        tab.get_by_text(f"Out of range: {label}.").wait_for()
        settled(tab)
        assert start.is_disabled() and tab.get_by_text(f"{label}: ").count() == 1
        box.fill(good)
        box.press("Enter")
        tab.get_by_text(f"Out of range: {label}.").wait_for(state="detached")
        settled(tab)
        assert start.is_enabled()
    assert "150 steps of recovery in all" in tab.inner_text("body")
