"""How long a person waits: cold start, heatmap, pictures without a block; in real Chromium, ``python bench/start.py``.

Each repeat starts ``python -m app`` (what ``make app`` runs) on a workspace of its own. The browser process is warm, as
a person's is, but has never seen this address: nothing comes from its cache. Server, engine and browser share the
machine, and the best of the repeats counts: whatever else the machine does only ever adds time. Needs
requirements-dev.txt and /usr/bin/chromium.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PICTURES = ".ep-pairs:not(.old) figure:nth-child(8) img[alt^='without {},']"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--look", type=float, default=12.0, help="seconds that a person looks at the first page")
    parser.add_argument("--only-start", action="store_true", help="the first page and nothing else")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    rounds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        warm_up(browser)
        for number in range(args.repeats):
            rounds.append(one_round(browser, look=args.look, only_start=args.only_start))
            shown = "  ".join(f"{name} {seconds:.2f}" for name, seconds in rounds[-1].items())
            print(f"repeat {number + 1}: {shown}", flush=True)
    print(f"\n{'seconds':44} {'best':>6} {'median':>7}")
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"{name:44} {min(values):6.2f} {statistics.median(values):7.2f}")


def warm_up(browser: Browser) -> None:
    page = browser.new_page()
    page.goto("data:text/html,<h1>warm</h1><script>document.title = [...'warm'].map(c => c + c).join('')</script>")
    page.close()


def one_round(browser: Browser, *, look: float, only_start: bool) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        with tempfile.TemporaryDirectory(prefix="entpruner-bench-") as folder:
            began = time.monotonic()
            with app(Path(folder)) as (process, port):
                process.stdout.readline()
                found = {"start -> address": time.monotonic() - began}
                opened = time.monotonic()
                page.goto(f"http://localhost:{port}", wait_until="commit")
                page.locator("h1").first.wait_for()
                found["navigation -> headline"] = time.monotonic() - opened
                found["start -> headline"] = time.monotonic() - began
                page.get_by_role("button", name="Show its blocks").first.wait_for()
                if not only_start:
                    page.wait_for_timeout(1000 * look)
                    found |= heatmap(page) | pictures(page)
                page.goto("about:blank")
        return found
    finally:
        context.close()


def heatmap(page: Page) -> dict[str, float]:
    clicked = time.monotonic()
    page.get_by_role("button", name="Show its blocks").first.click()
    first = page.locator(".ep-partial > i[style], .st-key-heatmap_partial .hm, .st-key-heatmap .hm").first
    first.wait_for(state="attached")
    column = time.monotonic() - clicked
    page.get_by_text("matters least:").first.wait_for()
    return {"card -> first column": column, "card -> finished heatmap": time.monotonic() - clicked}


def pictures(page: Page) -> dict[str, float]:
    """Of one block after another, as soon as the one before is there."""
    page.wait_for_timeout(1500)
    pills = page.locator('[class*="st-key-strip"] button[data-variant="pills"]')
    seconds = []
    for block in range(4):
        if block:
            pills.nth(block - 1).click()
            page.wait_for_timeout(1000)
        clicked = time.monotonic()
        pills.nth(block).click()
        page.locator(PICTURES.format(block)).first.wait_for()
        seconds.append(time.monotonic() - clicked)
        page.wait_for_timeout(1000)
    return {"first block -> pictures": seconds[0], "further block -> pictures": statistics.median(seconds[1:])}


@contextmanager
def app(folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """The starter on a free port; byte code is kept between the repeats, as on any installation."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port), "--workspace", str(folder / "workspace"), "--device", "cpu"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


if __name__ == "__main__":
    main()
