"""What the walk-throughs share: the app started as a person starts it, steps with a numbered picture each, and waiting
for what is to be seen instead of for a time."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")

ROOT = Path(__file__).parents[2]
SHOTS = "ENTPRUNER_WALKS"  # folder for the pictures; else they are in pytest's temporary one
PATIENCE = 400  # seconds for one thing to appear: machines that run tests are busy, and these aren't timing tests
_TRIES = 8
_IS = "([label, value]) => document.querySelector(`input[aria-label='${label}']`)?.value == value"
_COUNT = """() => {
  if (window.entprunerDrawn === undefined) {
    const seen = new MutationObserver(() => window.entprunerDrawn++);
    seen.observe(document.querySelector("[data-testid=stApp]"), {attributeFilter: ["data-test-script-state"]});
  }
  window.entprunerDrawn = 0;
}"""
_SOON = 3000  # milliseconds in which the page begins to be drawn anew; a choice that is there already draws nothing
_SETTLED = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"


@dataclass(frozen=True)
class App:
    url: str
    workspace: Path
    said: list[str]  # lines in the terminal, up to the last that is printed at the start


@contextmanager
def started(folder: Path, *arguments: str, until: str = "workspace ") -> Iterator[App]:
    """``python -m app``, which is what ``make app`` runs. ``until``: how the last line that it prints begins."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workspace = folder / "workspace"
    command = [sys.executable, "-m", "app", "--port", str(port), "--workspace", str(workspace), "--device", "cpu"]
    process = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield App(f"http://localhost:{port}", workspace, _read_until(process, until))
    finally:
        process.send_signal(signal.SIGINT)  # Ctrl-C
        said = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0 and "Traceback" not in said, said[-3000:]


def _read_until(process: subprocess.Popen, beginning: str) -> list[str]:
    """Reads the pipe itself: a buffered reader would hide lines from ``select``."""
    said, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stdout], [], [], 1.0)[0]:
            said += os.read(process.stdout.fileno(), 65536)
            lines = said.decode().splitlines(keepends=True)
            if any(line.strip().startswith(beginning.strip()) and line.endswith("\n") for line in lines):
                return [line.rstrip("\n") for line in lines]
    raise AssertionError(f"no line {beginning!r} in what the starter said: {said.decode()}")


@dataclass
class Walk:
    """``with walk.step("opens the link", tab): …`` takes a picture at its end, also where it failed."""

    name: str
    folder: Path
    number: int = field(default=0, init=False)

    @contextmanager
    def step(self, words: str, tab) -> Iterator[None]:
        self.number += 1
        try:
            yield
            settled(tab)
        finally:
            slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
            tab.screenshot(path=self.folder / f"{self.name}-{self.number:02d}-{slug}.png")


def shots_folder(tmp_path: Path) -> Path:
    folder = Path(os.environ.get(SHOTS) or tmp_path / "walk")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def settled(tab) -> None:
    """Until the page has been drawn to its end; one that is drawn again every second is settled in between."""
    tab.wait_for_selector(_SETTLED, timeout=1000 * PATIENCE)


def drawn_after(tab, act: Callable[[], None]) -> None:
    """Acts, and waits until the page was drawn with it; right after a click the page still is as it was, settled."""
    settled(tab)
    tab.evaluate(_COUNT)
    act()
    with suppress(_playwright.TimeoutError):
        tab.wait_for_function("window.entprunerDrawn > 0", timeout=_SOON)
    settled(tab)


def see(tab, what) -> None:
    """Waits for words (or a locator) and brings them into view; fails at once when the page says what went wrong."""
    found = tab.get_by_text(what).first if isinstance(what, str | re.Pattern) else what
    wrong = tab.get_by_test_id("stAlertContentError")
    found.or_(wrong).first.wait_for(timeout=1000 * PATIENCE)
    assert not wrong.count(), wrong.first.inner_text()
    found.wait_for(timeout=1000 * PATIENCE)
    bring_into_view(found)


def bring_into_view(found) -> None:
    """Not Playwright's own: that fails when the page is drawn anew meanwhile and the element replaced."""
    found.evaluate("e => e.scrollIntoView({block: 'center', behavior: 'instant'})")


def choose(tab, words: str) -> None:
    """One of a row of lessons, ways, layouts …: buttons to look at, of several roles."""
    button = tab.locator("button").filter(has_text=re.compile(f"^{re.escape(words)}$")).first
    drawn_after(tab, button.click)


def slide_to(tab, label: str, value: int) -> None:
    """By the arrow keys, as a keyboard does it; again where the page was drawn anew under them."""
    slider = tab.locator(f"input[type=range][aria-label='{label}']")

    def press() -> None:
        now = int(slider.input_value())
        for _ in range(abs(value - now)):
            slider.press("ArrowRight" if value > now else "ArrowLeft")  # each on the slider that is there then

    _until_it_is(tab, label, value, press)


def set_number(tab, label: str, value: int) -> None:
    box = tab.get_by_role("spinbutton", name=label, exact=True)

    def write() -> None:
        box.fill(str(value))
        box.press("Enter")

    _until_it_is(tab, label, value, write)


def _until_it_is(tab, label: str, value: int, act: Callable[[], None]) -> None:
    """Acts until the page was drawn with this number, and still has it then."""
    for _ in range(_TRIES):
        drawn_after(tab, act)
        with suppress(_playwright.TimeoutError):
            tab.wait_for_function(_IS, arg=[label, value], timeout=1000 * PATIENCE / _TRIES)
        if tab.evaluate(_IS, [label, value]):
            return
    raise AssertionError(f"{label!r} doesn't become {value}")


def download(tab, button, to: Path) -> Path:
    with tab.expect_download(timeout=1000 * PATIENCE) as got:
        button.click()
    file = to / got.value.suggested_filename
    got.value.save_as(file)
    return file
