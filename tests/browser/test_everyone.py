"""Every page for everyone: read aloud (axe-core), light and dark, on a phone, at 200 % zoom, and by keyboard alone.

Each page is opened once and looked at in all these ways.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.app.test_style import TEXT, THEME, contrast
from tests.browser.conftest import Server

axe = pytest.importorskip("axe_playwright_python.base", reason="no axe: pip install -r requirements-dev.txt")
pytestmark = pytest.mark.browser

PHONE, ZOOMED = {"width": 390, "height": 844}, {"width": 640, "height": 400}  # the latter: 1280 × 800 at 200 %
DESK = {"width": 1280, "height": 900}
#: page -> address; "{run}" is a finished pruning. Learn twice: a lesson, and the same before a room
PAGES = {
    "start": "", "importance": "importance?model=demo-sit&data=shapes", "prune": "prune?run=new",
    "pruned": "prune?run={run}", "compare": "compare?run={run}", "arena": "arena", "learn": "learn?lesson=2&screen=1",
    "presenting": "learn?lesson=2&screen=1&present=1", "runs": "runs?run={run}", "model-data": "model-data",
    "open-model": "open-model", "open-data": "open-data", "about": "about",
}  # fmt: skip
#: (rule, selector, why): findings in markup that is Streamlit's and that no setting of ours changes
NOT_OURS: list[tuple[str, str, str]] = []
#: resolves once the script has stopped and nothing was put in or taken out for half a second (or for ten seconds
#: something always was: a run's page is drawn again and again)
_SETTLED = """() => new Promise((resolve) => {
  const started = performance.now();
  let last = started;
  const watch = new MutationObserver(() => { last = performance.now(); });
  watch.observe(document.body, {childList: true, subtree: true});
  const look = () => {
    const still = document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning";
    const quiet = performance.now() - last > 500 || performance.now() - started > 10000;
    if (!(still && quiet) && performance.now() - started < 60000) return setTimeout(look, 50);
    watch.disconnect();
    resolve();
  };
  look();
})"""


@dataclass
class Look:
    name: str
    tab: object


@pytest.fixture(scope="module")
def tab(browser) -> Iterator:
    context = browser.new_context(viewport=DESK)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.add_init_script(axe.AXE_SCRIPT)
    yield tab
    context.close()


@pytest.fixture(scope="module", params=PAGES)
def look(request: pytest.FixtureRequest, tab, furnished: Server, finished: str) -> Look:
    """pytest runs all tests of one page before the next is opened."""
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size(DESK)
    tab.goto(f"{furnished.url}/{PAGES[request.param].format(run=finished)}")
    tab.wait_for_selector(".ep-foot, .ep-present", state="attached")  # the last that is drawn
    settle(tab)
    return Look(request.param, tab)


def settle(tab) -> None:
    """Until the page is drawn: a part that is put in anew under a Tab press loses the focus."""
    tab.evaluate(_SETTLED)


def findings(tab, **options) -> list[str]:
    """What axe finds and calls more than minor, a line each. The inside of a chart is left out: it is one figure with
    words of its own (tested below), and axe can't tell the colours of a drawing."""
    context = {"exclude": [[".js-plotly-plot"]]}
    found = tab.evaluate("([context, options]) => axe.run(context, options)",
                         [context, {"resultTypes": ["violations"], **options}])["violations"]  # fmt: skip
    excused = {(rule, node) for rule, node, _ in NOT_OURS}
    return [
        f"{rule['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for rule in found
        if rule["impact"] in ("moderate", "serious", "critical")
        for node in rule["nodes"]
        if not any(rule["id"] == name and tab.evaluate(_MATCHES, [node["target"][-1], css]) for name, css in excused)
    ]


_MATCHES = "([target, css]) => !!document.querySelector(target)?.matches(css)"
#: what lies outside the window with nothing to scroll it by, and text that its box hides
_CUT_OFF = """() => {
  const main = document.querySelector("[data-testid=stMain]"), found = [];
  for (const place of [document.documentElement, main])
    if (place.scrollWidth > place.clientWidth) found.push(`${place.tagName} scrolls sideways: ${place.scrollWidth}`);
  const scroller = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX);
  const scrolls = (e) => e && e !== main && (scroller(e) || scrolls(e.parentElement));
  for (const e of main.querySelectorAll("*")) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width || !box.height || !e.checkVisibility({visibilityProperty: true})) continue;
    if (e.closest("svg, .js-plotly-plot")) continue;
    if (e.parentElement.offsetWidth <= 1) continue;  // for screen readers only: the field of a slider
    const what = `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 60)}`;
    if ((box.right > innerWidth + 1 || box.left < -1) && !scrolls(e.parentElement)) found.push(`outside: ${what}`);
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const hides = style.overflowX !== "visible" && !scroller(e) && e.scrollWidth > e.clientWidth + 1;
    if (own && hides) found.push(`hides its text: ${what}`);
  }
  return found;
}"""

#: pictures and charts without words; the cells of a data frame speak for themselves
_SILENT = """() => [...document.querySelectorAll(".js-plotly-plot, img, canvas")].filter((e) =>
  e.getClientRects().length && !e.getAttribute("alt") && !e.closest("[data-testid=stDataFrame], [aria-hidden=true]")
  && !(e.closest("[role=figure], [role=img]")?.getAttribute("aria-label"))).map((e) => e.outerHTML.slice(0, 200))"""


#: titles of axes that reach beyond their chart
_CUT_TITLES = """() => [...document.querySelectorAll(".js-plotly-plot :is(.g-xtitle, .g-ytitle) text")].filter((e) => {
  const own = e.getBoundingClientRect(), chart = e.closest(".js-plotly-plot").getBoundingClientRect();
  return own.width && (own.left < chart.left - 1 || own.right > chart.right + 1 || own.top < chart.top - 1
    || own.bottom > chart.bottom + 1);
}).map((e) => "cut: " + e.textContent)"""


def test_nothing_stands_in_the_way_of_a_screen_reader(look: Look) -> None:
    assert not findings(look.tab)


def test_charts_and_pictures_say_in_words_what_they_show(look: Look) -> None:
    silent = look.tab.evaluate(_SILENT)
    assert not silent


def test_dark_colours_can_be_read(look: Look) -> None:
    look.tab.emulate_media(color_scheme="dark")
    look.tab.wait_for_function("getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme === 'dark'")
    settle(look.tab)
    found = findings(look.tab, runOnly=["color-contrast"])
    look.tab.emulate_media(color_scheme="light")
    assert not found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_of_charts_can_be_read(look: Look, scheme: str) -> None:
    """Of the axes and beside the lines; axe doesn't look into drawings."""
    look.tab.emulate_media(color_scheme=scheme)
    look.tab.reload()
    look.tab.wait_for_selector(".ep-foot, .ep-present", state="attached")
    settle(look.tab)
    ground = THEME[scheme]["backgroundColor"]
    words = look.tab.evaluate(
        """() => [...document.querySelectorAll(
          ".js-plotly-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .annotation) text")]
          .map((text) => [text.textContent, getComputedStyle(text).fill])"""
    )
    look.tab.emulate_media(color_scheme="light")
    assert words or look.name != "importance"
    pale = {(said, fill) for said, fill in words if contrast(as_hex(fill), ground) < TEXT}
    assert not pale, pale


def as_hex(colour: str) -> str:
    """Of "rgb(1, 2, 3)"."""
    return "#" + "".join(f"{int(number):02x}" for number in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("size", [PHONE, ZOOMED], ids=["phone", "zoomed"])
def test_a_small_window_cuts_nothing_off(look: Look, size: dict) -> None:
    look.tab.set_viewport_size(size)
    settle(look.tab)
    found = look.tab.evaluate(_CUT_OFF) + look.tab.evaluate(_CUT_TITLES)
    found += findings(look.tab, runOnly=["scrollable-region-focusable"])
    look.tab.set_viewport_size(DESK)
    assert not found, json.dumps(found[:12], indent=1)


# --- by keyboard alone ---

#: words of what has the focus, and whether that shows: an outline, or for a slider the halo of its thumb
_FOCUS = """() => {
  let e = document.activeElement;
  while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
  const shows = (x, up) => x && up >= 0 && ((getComputedStyle(x).outlineStyle !== "none"
    && parseFloat(getComputedStyle(x).outlineWidth) >= 2) || getComputedStyle(x).boxShadow !== "none"
    || shows(x.parentElement || x.getRootNode().host, up - 1));
  const name = (e.getAttribute("aria-label") || e.textContent || "").trim();
  return [name, e === document.body || e.tagName === "MAIN" || e.closest("nav, header, a[href^='#']") || shows(e, 3)];
}"""
_MOST_STOPS = 90


def tab_to(tab, name: str) -> list[str]:
    """Presses Tab until what is named has the focus; returns the names on the way. Each must show that it has it."""
    passed = []
    for _ in range(_MOST_STOPS):
        tab.keyboard.press("Tab")
        words, shown = tab.evaluate(_FOCUS)
        assert shown, f"{words[:60]!r} has the focus, and nothing shows it"
        passed.append(words)
        if re.fullmatch(name, words):
            return passed
    raise AssertionError(f"Tab doesn't come to {name!r}, but to {[words[:30] for words in passed]}")


def test_keys_alone_open_a_heatmap_take_a_block_out_and_start_a_run(tab, furnished: Server) -> None:
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size(DESK)
    tab.goto(furnished.url)
    tab.wait_for_selector(".ep-foot")
    settle(tab)
    for _ in range(3):  # the first two cards are the models of digits, of which there is no heatmap yet
        tab_to(tab, "Show its blocks")
    tab.keyboard.press("Enter")
    tab.get_by_text("matters least:").wait_for()
    settle(tab)

    # where Tab begins after a page was replaced by another is the browser's affair; from the menu on, it is ours
    tab.get_by_role("link", name="Importance", exact=True).focus()
    order = tab_to(tab, "0")
    assert [name for name in order if name in ("Model", "Data", "Target", "One heatmap", "0")] == [
        "Model", "Data", "Target", "One heatmap", "0",
    ]  # fmt: skip
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Space")
    tab.wait_for_url(re.compile("block=3"))
    tab.get_by_role("link", name="Drop it for good").wait_for()
    settle(tab)
    tab_to(tab, "Column")
    tab.keyboard.press("ArrowDown")
    tab.get_by_role("option", name="0.75").wait_for()
    for _ in range(2):
        tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile("timestep="))
    tab.get_by_text("In the chosen cell").wait_for()

    tab_to(tab, "Drop it for good.*")
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Start pruning").wait_for()
    settle(tab)
    order = tab_to(tab, "Start pruning")
    assert order.index("Steps") < order.index("Images to score") < order.index("Start pruning")
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile(r"run=\d{8}-"))
    tab.get_by_role("button", name="Cancel").wait_for()
    settle(tab)
    tab_to(tab, "Cancel")
    tab.keyboard.press("Enter")
    tab.get_by_text("cancel").first.wait_for()


def test_keys_alone_open_a_run_of_the_list(tab, furnished: Server, finished: str) -> None:
    tab.goto(f"{furnished.url}/runs")
    tab.get_by_test_id("stDataFrame").wait_for()
    settle(tab)
    for _ in range(_MOST_STOPS):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Shift+Space")
    tab.wait_for_url(re.compile("run="))
    tab.get_by_role("button", name="Delete").wait_for()
