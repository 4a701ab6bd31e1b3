"""How soon a click is answered, in real Chromium on a started app: ``python bench/clicks.py [--quick]``. Three parts:

picture     from a link that nobody opened before, to something worth looking at: clicks and seconds. Asked for are at
            most 3 clicks and 10 s.
switches    from page to page by the menu, once each was open: the headline, and the whole page. Asked for is 0.5 s.
feedback    after each kind of click: until the control itself looks different, and until anything else on screen does,
            be it the running mark or new content. Asked for is 0.2 s.

Times are taken inside the browser, frame by frame, and of all repeats the median and the worst are shown. Server,
engine and browser share the machine; what else it does adds time, so its load stands above the numbers. The workspace
holds one measurement and one finished pruning, made first by the engine. Needs requirements-dev.txt and
/usr/bin/chromium.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.start import FLAGS, ROOT, app, warm_up

PAGES = ("Start", "Model & data", "Importance", "Prune", "Compare", "Arena", "Runs", "Learn")
MODEL, DATA = "demo-sit-digits", "digits"
PATIENCE = 180_000  # ms
ASKED = {"picture": 10.0, "switches": 0.5, "feedback": 0.2}  # seconds

#: Promise of [ms until the headline, ms until all is drawn] after a click on a link of the menu. A page is drawn when
#: its script has ended and nothing on it is left over from the page before, for as long as it takes to draw two frames.
SWITCH = """
([link, address]) => new Promise(done => {
  const began = performance.now();
  let headline = null, calm = 0;
  const look = () => {
    const app = document.querySelector("[data-testid=stApp]");
    const there = location.pathname === address && document.querySelector("h1");
    if (there && headline === null && !there.closest("[data-stale=true]")) headline = performance.now() - began;
    const drawn = headline !== null && app.dataset.testScriptState === "notRunning"
      && !document.querySelector("[data-stale=true]");
    calm = drawn ? calm + 1 : 0;
    if (calm > 1) done([headline, performance.now() - began]);
    else if (performance.now() - began > 60000) done([headline, null]);
    else requestAnimationFrame(look);
  };
  link.click();
  requestAnimationFrame(look);
})
"""

#: Installed before a click: notes when something first changes in the control that is clicked, and elsewhere.
WATCH = """
(control) => {
  const own = control.closest("[data-testid=stElementContainer]") ?? control;
  const noted = window.entprunerNoted = {began: null, own: null, elsewhere: null};
  const start = () => { noted.began ??= performance.now(); };
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, start, {capture: true, once: true});
  const seen = (node) => {
    const element = node.nodeType === 1 ? node : node.parentElement;
    if (!element || element.closest("head, script, style, [role=tooltip]")) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0;
  };
  window.entprunerWatch?.disconnect();
  window.entprunerWatch = new MutationObserver((records) => {
    if (noted.began === null) return;
    for (const record of records) {
      const nodes = record.type === "childList" ? [...record.addedNodes, record.target] : [record.target];
      if (!nodes.some(seen)) continue;
      const where = own.contains(record.target) ? "own" : "elsewhere";
      requestAnimationFrame(() => { noted[where] ??= performance.now() - noted.began; });
    }
  });
  window.entprunerWatch.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: ["class", "style", "aria-checked", "aria-selected", "aria-pressed", "aria-expanded", "src",
                      "value", "data-test-script-state", "data-stale", "d", "transform"]});
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(ASKED))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat and few steps: to see that it works")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    parts, repeats = args.part or list(ASKED), 1 if args.quick else args.repeats
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        warm_up(browser)
        if "picture" in parts:
            report_pictures([first_picture(browser, route) for route in ROUTES for _ in range(min(repeats, 3))])
        if set(parts) & {"switches", "feedback"}:
            with filled_app(browser, num_steps=2 if args.quick else 10) as page:
                if "switches" in parts:
                    report_switches(page_switches(page, repeats))
                if "feedback" in parts:
                    report_feedback(feedback(page, repeats))


# --- from a cold link to a picture ---


def by_the_heatmap(page: Page) -> Iterator[tuple[str, int]]:
    """Yields what is on screen by now, and after how many clicks."""
    page.get_by_role("button", name="Show its blocks").first.click()
    page.locator(".ep-partial > i[style], .st-key-heatmap .hm").first.wait_for(state="attached")
    yield "the heatmap begins", 1
    page.get_by_text("matters least:").first.wait_for()
    yield "the heatmap is there", 1
    page.locator('[class*="st-key-strip"] button[data-variant="pills"]').nth(5).click()
    page.locator(".ep-pairs:not(.old) figure:nth-child(8) img").first.wait_for()
    yield "eight digits with and without block 5", 2


def by_a_lesson(page: Page) -> Iterator[tuple[str, int]]:
    page.get_by_role("link", name="Learn", exact=True).click()
    page.locator(".ep-duo img").nth(3).wait_for()
    yield "both models draw a digit", 1


ROUTES = {"a model's card": by_the_heatmap, "Learn": by_a_lesson}


def first_picture(browser: Browser, route: str) -> list[tuple[str, int, float]]:
    """What is seen on this way, after how many clicks and how many seconds from opening the link; on a workspace of its
    own, so that nothing was computed before."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="entpruner-bench-") as folder,
        new_page(browser) as page,
        app(Path(folder)) as (process, port),
    ):
        process.stdout.readline()
        opened = time.monotonic()
        page.goto(f"http://localhost:{port}", wait_until="commit")
        page.get_by_role("button", name="Show its blocks").first.wait_for()
        found.append(("the first page, with what the models draw", 0, time.monotonic() - opened))
        for seen, clicks in ROUTES[route](page):
            found.append((f"{route}: {seen}", clicks, time.monotonic() - opened))
        page.goto("about:blank")
    return found


def report_pictures(rounds: list[list[tuple[str, int, float]]]) -> None:
    seconds: dict[tuple[str, int], list[float]] = {}
    for name, clicks, value in (seen for found in rounds for seen in found):
        seconds.setdefault((name, clicks), []).append(value)
    print(f"\nfrom a cold link (asked: at most 3 clicks, {ASKED['picture']:g} s)\n{'':56} clicks  median   worst")
    for (name, clicks), values in seconds.items():
        print(f"{name:56} {clicks:6} {statistics.median(values):6.2f}s {max(values):6.2f}s")


# --- an app with something in it ---


@contextmanager
def new_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    try:
        yield page
    finally:
        context.close()


@contextmanager
def filled_app(browser: Browser, *, num_steps: int) -> Iterator[Page]:
    """A page on an app whose workspace has a measurement and a pruning run; each page was open once."""
    with tempfile.TemporaryDirectory(prefix="entpruner-bench-") as folder, new_page(browser) as page:
        prune = ["prune", MODEL, DATA, "--target-depth", "6", "--stages", "1", "--steps-per-stage", str(num_steps),
                 "--num", "64", "--samples", "64", "--workspace", str(Path(folder) / "workspace")]  # fmt: skip
        subprocess.run([sys.executable, "-m", "engine", *prune], cwd=ROOT, check=True, capture_output=True)
        with app(Path(folder)) as (process, port):
            process.stdout.readline()
            page.goto(f"http://localhost:{port}")
            page.get_by_role("button", name="Show its blocks").first.click()
            page.get_by_text("matters least:").first.wait_for()
            for name in PAGES:
                page.get_by_role("link", name=name, exact=True).click()
                page.locator("h1").first.wait_for()
                drawn(page)
            yield page
            page.goto("about:blank")


def drawn(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("!document.querySelector('[data-stale=true], .ep-wait')")


# --- from page to page ---


def page_switches(page: Page, repeats: int) -> dict[str, list[tuple[float, float | None]]]:
    """Page -> (seconds to the headline, seconds until all is drawn) of each visit."""
    found: dict[str, list] = {name: [] for name in PAGES}
    for _ in range(repeats):
        for name in PAGES:
            link = page.get_by_role("link", name=name, exact=True)
            address = link.evaluate("link => new URL(link.href).pathname")
            headline, whole = page.evaluate(SWITCH, [link.element_handle(), address])
            found[name].append((headline / 1000, None if whole is None else whole / 1000))
            drawn(page)
    return found


def report_switches(found: dict[str, list[tuple[float, float | None]]]) -> None:
    print(f"\nfrom page to page, warm (asked: {ASKED['switches']:g} s)\n{'':24} headline         whole page")
    print(f"{'':24} median   worst   median   worst")
    for name, times in found.items():
        print(f"{name:24} {'  '.join(median_and_worst(times))}")


# --- what a click is answered with ---


def feedback(page: Page, repeats: int) -> dict[str, list[tuple[float | None, float | None]]]:
    """Kind of click -> (seconds until the control changes, until anything else does) of each repeat."""
    found: dict[str, list] = {}
    for _ in range(repeats):
        for name, place, control in CLICKS:
            place(page)
            drawn(page)
            found.setdefault(name, []).append(answered(page, control(page)))
            drawn(page)
    return found


def answered(page: Page, control: Locator) -> tuple[float | None, float | None]:
    by_key = control.get_attribute("type") == "range"  # a slider: what can be seen of it lies over the control
    if by_key:
        control.scroll_into_view_if_needed()
    else:
        control.click(trial=True)  # in view and at rest: the click before may still scroll the page
    control.evaluate(WATCH)
    if by_key:
        control.focus()
        page.keyboard.press("ArrowRight")
    else:
        box = control.bounding_box()
        page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_function("entprunerNoted.elsewhere !== null || performance.now() - entprunerNoted.began > 20000")
    noted = page.evaluate("entprunerWatch.disconnect() ?? entprunerNoted")
    return tuple(None if noted[part] is None else noted[part] / 1000 for part in ("own", "elsewhere"))


def at(name: str, text: str) -> Callable[[Page], None]:
    """By the menu, unless it is there already."""

    def go(page: Page) -> None:
        if not page.locator("h1").first.inner_text().startswith(name):
            page.get_by_role("link", name=name, exact=True).click()
        page.get_by_text(text).first.wait_for()

    return go


def at_start(page: Page) -> None:
    page.get_by_role("link", name="Start", exact=True).click()
    page.get_by_role("button", name="Show its blocks").first.wait_for()


def at_first_lesson(page: Page) -> None:
    page.get_by_role("link", name="Learn", exact=True).click()
    page.locator(".ep-duo img").nth(3).wait_for()


def pill(nth: int) -> Callable[[Page], Locator]:
    return lambda page: page.locator('[class*="st-key-strip"] button[data-variant="pills"]').nth(nth)


def segment(words: str) -> Callable[[Page], Locator]:
    """The one of two that isn't chosen, named by both."""
    first, second = words.split(" / ")

    def find(page: Page) -> Locator:
        ones = [page.locator("button").filter(has_text=re.compile(f"^{name}$")).first for name in (first, second)]
        return next(one for one in ones if one.get_attribute("aria-checked") != "true")

    return find


CLICKS: tuple[tuple[str, Callable[[Page], None], Callable[[Page], Locator]], ...] = (
    ("menu: another page", at_start, lambda page: page.get_by_role("link", name="Runs", exact=True)),
    ("button: a model's card", at_start, lambda page: page.get_by_role("button", name="Show its blocks").first),
    ("cell of the heatmap", at("Importance", "matters least:"),
     lambda page: page.locator(".st-key-heatmap .nsewdrag").first),
    ("block of the strip", at("Importance", "matters least:"), pill(8)),
    ("segments: signed or not", at("Importance", "matters least:"), segment("Size only / Signed")),
    ("popover: settings", at("Importance", "matters least:"), lambda page: page.get_by_role("button", name="Settings")),
    ("segments: way of pruning", at("Prune", "What to drop"), segment("By hand / Adaptive")),
    ("small picture", at("Compare", "In pictures"), lambda page: page.locator(".ep-cell").nth(6)),
    ("next seed", at("Compare", "In pictures"), lambda page: page.locator(".st-key-compare_after button").first),
    ("segments: amplified", at("Compare", "In pictures"), segment("2× / 8×")),
    ("slider of a lesson", at_first_lesson, lambda page: page.get_by_role("slider").last),
    ("lesson: next screen", at_first_lesson, lambda page: page.get_by_role("button", name=re.compile("^Next"))),
)  # fmt: skip


def report_feedback(found: dict[str, list[tuple[float | None, float | None]]]) -> None:
    print(f"\nafter a click (asked: {ASKED['feedback']:g} s)\n{'':28} the control itself  anything else")
    print(f"{'':28} median   worst     median   worst")
    for name, times in found.items():
        print(f"{name:28} {'    '.join(median_and_worst(times))}")


def median_and_worst(times: list[tuple[float | None, float | None]]) -> list[str]:
    """Of each of the two columns, without those that never came."""
    columns = [[one[part] for one in times if one[part] is not None] for part in range(2)]
    return [f"{statistics.median(v):6.2f}s {max(v):6.2f}s" if v else "     –       –" for v in columns]


if __name__ == "__main__":
    main()
