"""Draws the pictures of README.md and the docs afresh: ``python docs/make_pictures.py [--only prune]``.

The engine makes what is to be seen (one short pruning run, one measurement) in a workspace of its own that is thrown
away afterwards; then Chromium looks at the app. A few minutes on two cores. Needs requirements-dev.txt and
/usr/bin/chromium.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.start import FLAGS, app  # noqa: E402
from engine import load_model  # noqa: E402
from engine.runs.store import Run  # noqa: E402
from engine.runs.workspace import open_workspace  # noqa: E402

FOLDER = Path(__file__).parent / "pictures"
WIDTH = 1280
MOST_BYTES = 250_000  # of a picture; beyond, its colours are reduced to 256
PATIENCE = 300_000  # ms
MODEL, DATA = "demo-sit-digits", "digits"
PRUNE = ["prune", MODEL, DATA, "--target-depth", "6", "--stages", "2", "--steps-per-stage", "80", "--num", "120"]


class Studio:
    """The started app with a pruning run in its workspace, and how its pages are photographed."""

    def __init__(self, browser: Browser, url: str, folder: Path, run: str) -> None:
        self.browser, self.url, self.folder, self.run = browser, url, folder, run

    @contextmanager
    def page(self, address: str, *, height: int) -> Iterator[Page]:
        context = self.browser.new_context(viewport={"width": WIDTH, "height": height})
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address if "://" in address else f"{self.url}/{address}")
        try:
            yield page
        finally:
            context.close()


def importance(studio: Studio) -> bytes:
    with studio.page(f"importance?model={MODEL}&data={DATA}&block=5,8&timestep=3", height=1240) as page:
        page.get_by_role("button", name="Show the heatmap").click()
        page.get_by_text("their single effects add up to").wait_for()
        page.locator(".ep-pairs:not(.old) figure").nth(7).wait_for()
        return photographed(page, page.locator(".st-key-heatmap .main-svg").first)


def open_model(studio: Studio) -> bytes:
    """A file of the bundled SiT as the official code would write it, with a note on what tensors can't say."""
    file, network = studio.folder / "SiT-12.pt", load_model("demo-sit").network
    torch.save(network.state_dict(), file)
    file.with_suffix(".json").write_text(json.dumps({"num_heads": network.config.num_heads}))
    with studio.page("open-model", height=2340) as page:
        page.get_by_role("textbox", name="Path on the engine's machine").fill(str(file))
        page.get_by_role("button", name="Look inside").first.click()
        box = page.get_by_role("combobox", name="Autoencoder (VAE)")
        box.click()
        box.fill("small")
        page.get_by_role("option", name="the small bundled one").click()
        page.get_by_text("pictures of 32 × 32 px").wait_for()
        page.get_by_role("button", name="Check it draws").click()
        page.get_by_text("Which process was it trained for?").wait_for()
        page.evaluate("document.activeElement?.blur()")
        page.mouse.move(0, 0)
        return photographed(page, page.get_by_role("button", name="Keep it"))


def prune(studio: Studio) -> bytes:
    with studio.page(f"prune?run={studio.run}", height=1500) as page:
        page.get_by_text("why these blocks went").wait_for()
        return photographed(page, page.locator(".main-svg").first)


def compare(studio: Studio) -> bytes:
    with studio.page(f"compare?compare={studio.run}@0,{studio.run}@2&order=pixels", height=1500) as page:
        page.locator(".ep-cells figure").nth(19).wait_for()
        return photographed(page, page.locator(".ep-close img").last)


def arena(studio: Studio) -> bytes:
    with studio.page("arena", height=1420) as page:
        return photographed(page, page.locator(".main-svg").first)


def learn(studio: Studio) -> bytes:
    with studio.page("learn?lesson=3&screen=2&present=1", height=860) as page:
        page.locator(".st-key-strip_learn_guess button[data-variant=pills]").nth(4).click()
        page.locator(".ep-pairs img").nth(15).wait_for()
        page.get_by_text("counted from the least needed").wait_for()
        page.mouse.move(0, 0)
        return photographed(page, page.locator(".ep-pairs img").first)


def report(studio: Studio) -> bytes:
    file = studio.folder / "report.html"
    engine("report", str(studio.folder / "workspace" / "runs" / studio.run), "--out", str(file))
    with studio.page(file.as_uri(), height=1300) as page:
        return photographed(page, page.locator(".main-svg").first)


PICTURES: dict[str, Callable[[Studio], bytes]] = {
    "importance": importance, "open-model": open_model, "prune": prune, "compare": compare, "arena": arena,
    "learn": learn, "report": report,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--workspace", type=Path, help="one with a pruning run to be shown, so that none is made")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="entpruner-pictures-") as made, sync_playwright() as playwright:
        folder = Path(made)
        if args.workspace:
            shutil.copytree(args.workspace, folder / "workspace")
        else:
            engine(*PRUNE, "--workspace", str(folder / "workspace"))
        run = newest_pruning(folder / "workspace")
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        with app(folder) as (process, port):
            process.stdout.readline()
            studio = Studio(browser, f"http://localhost:{port}", folder, run.id)
            for name in args.only:
                content = small_enough(PICTURES[name](studio))
                (args.out / f"{name}.png").write_bytes(content)
                print(f"{args.out / name}.png: {len(content):,} bytes", flush=True)


def engine(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "engine", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def newest_pruning(workspace: Path) -> Run:
    return Run(max(open_workspace(workspace).runs.glob("*-prune-*")))


def photographed(page: Page, last: Locator) -> bytes:
    """As soon as ``last`` is there, the page has come to rest and its typefaces are loaded."""
    last.wait_for()
    if page.get_by_test_id("stApp").count():
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        page.wait_for_function("!document.querySelector('[data-stale=true], .ep-wait, [data-testid=stSkeleton]')")
    page.evaluate("document.fonts.ready")
    return page.screenshot(animations="disabled")


def small_enough(png: bytes) -> bytes:
    if len(png) <= MOST_BYTES:
        return png
    content = io.BytesIO()
    # the octree keeps the few strong colours of charts, which the median cut mixes with the many greys of text
    reduced = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
    reduced.save(content, "PNG", optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    main()
