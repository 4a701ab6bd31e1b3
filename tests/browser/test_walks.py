"""Three people from the README's first line to what they came for: a lecturer on a laptop, a researcher with a
checkpoint, an engineer with images who wants half the time. Each step leaves a numbered picture to be looked at."""

import csv
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.models.checkpoints import load_model
from tests.browser.walk import (
    PATIENCE,
    App,
    Walk,
    bring_into_view,
    choose,
    download,
    see,
    set_number,
    shots_folder,
    slide_to,
    started,
)
from tests.unit.made_pictures import class_folders
from tests.unit.model_files import save_official

pytestmark = pytest.mark.browser
PILLS = "button[data-variant=pills]"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with started(tmp_path_factory.mktemp("alone")) as app:
        yield app


@pytest.fixture
def new_tab(open_tab: Callable) -> Callable:
    def new_tab(**look):
        tab = open_tab(**look)
        tab.set_default_timeout(1000 * PATIENCE)
        return tab

    return new_tab


def test_lecturer(new_tab: Callable, tmp_path: Path) -> None:
    walk = Walk("lecturer", shots_folder(tmp_path))
    with started(tmp_path, "--lecture", until="with link") as app:
        key, link = (line.split()[-1] for line in app.said[-2:])
        assert key in link and app.url in link
        lecturer = new_tab()
        with walk.step("opens the link with the key", lecturer):
            lecturer.goto(link)
            lecturer.get_by_role("heading", name="Which blocks can your diffusion model do without?").wait_for()
            lecturer.get_by_text("this browser tab holds the key").wait_for()
        assert key not in lecturer.url
        with walk.step("the first lesson draws", lecturer):
            lecturer.get_by_role("link", name="Learn", exact=True).click()
            lecturer.wait_for_url(re.compile("/learn.*lesson=1.*screen=1"))
            see(lecturer, lecturer.locator(".ep-duo img").nth(3))
        with walk.step("presents", lecturer):
            lecturer.get_by_role("button", name="Present").click()
            lecturer.get_by_test_id("stHeader").wait_for(state="hidden")
            lecturer.locator(".ep-duo img").nth(3).wait_for()
        with walk.step("goes on by keyboard", lecturer):
            lecturer.keyboard.press("ArrowRight")
            lecturer.wait_for_url(re.compile("lesson=1.*screen=2"))
            see(lecturer, lecturer.locator(".ep-readings img").nth(25))
        with walk.step("and back", lecturer):
            lecturer.keyboard.press("ArrowLeft")
            lecturer.wait_for_url(re.compile("lesson=1.*screen=1"))
            lecturer.locator(".ep-duo img").nth(3).wait_for()
        with walk.step("takes a block out guesses first", lecturer):
            lecturer.keyboard.press("Escape")
            lecturer.get_by_role("heading", name="Learn").wait_for()
            choose(lecturer, "3 · A block out")
            lecturer.wait_for_url(re.compile("lesson=3.*screen=1"))
            guess(lecturer, 5)
        with walk.step("sees delta H and the pictures", lecturer):
            lecturer.get_by_role("button", name=re.compile("^Next")).click()
            see(lecturer, "ΔH")
            see(lecturer, lecturer.locator(".ep-pairs img").nth(15))

        student = new_tab(width=390, height=844)
        with walk.step("a student guesses on a phone", student):
            student.goto(f"{app.url}/learn?lesson=3&screen=1")
            guess(student, 2)
        with walk.step("the student sees the pictures too", student):
            student.get_by_role("button", name=re.compile("^Next")).click()
            see(student, "ΔH")
            see(student, student.locator(".ep-pairs img").nth(15))
        for who, tab in (("student", student), ("lecturer", lecturer)):
            with walk.step(f"the {who} sees both guesses", tab):
                tab.get_by_role("button", name=re.compile("^Next")).click()
                see(tab, re.compile("2 guesses so far"))
                tab.locator(".st-key-learn_room .main-svg").first.wait_for()

        with walk.step("the student may not start work", student):
            student.goto(f"{app.url}/prune?model=demo-sit-digits&data=digits&run=new")
            see(student, student.get_by_role("button", name="Start pruning"))
            assert student.get_by_role("button", name="Start pruning").is_disabled()
            see(student, "needs the key")
        with walk.step("the lecturer may", lecturer):
            lecturer.get_by_role("link", name=re.compile("Drop blocks for good")).click()
            start = lecturer.get_by_role("button", name="Start pruning")
            see(lecturer, start)
            start.click()
            lecturer.wait_for_url(re.compile(r"run=\d{8}-\d{6}-prune-"))
            see(lecturer, lecturer.get_by_role("button", name="Cancel"))
        with walk.step("and the student looks on", student):
            student.goto(lecturer.url)
            see(student, student.get_by_role("button", name="Cancel"))
            assert student.get_by_role("button", name="Cancel").is_disabled()
        with walk.step("the lecturer cancels", lecturer):
            lecturer.get_by_role("button", name="Cancel").click()
            lecturer.get_by_text(re.compile("cancelled", re.IGNORECASE)).first.wait_for()


def guess(tab, block: int) -> None:
    pill = tab.locator(f".st-key-strip_learn_guess {PILLS}").nth(block)
    pill.click()
    see(tab, f"You say block {block}")


def test_researcher(new_tab: Callable, app: App, tmp_path: Path) -> None:
    """The checkpoint is the bundled model's weights as the official code saves them: what it finds isn't noise."""
    file = save_official(load_model("demo-dit").network, tmp_path / "my-dit.pt")
    walk, tab = Walk("researcher", shots_folder(tmp_path)), new_tab()
    with walk.step("opens the app", tab):
        tab.goto(app.url)
        tab.get_by_role("heading", name="Which blocks can your diffusion model do without?").wait_for()
    with walk.step("model and data", tab):
        tab.get_by_role("link", name="Model & data", exact=True).click()
        tab.get_by_role("link", name=re.compile("Open a model of your own")).wait_for()
    with walk.step("names the file", tab):
        tab.get_by_role("link", name=re.compile("Open a model of your own")).click()
        path = tab.get_by_role("textbox", name="Path on the engine's machine")
        path.fill(str(file))
        see(tab, path)
    with walk.step("sees what it is", tab):
        tab.get_by_role("button", name="Look inside").first.click()
        see(tab, "Diffusion or flow?")
        bring_into_view(tab.get_by_text("What is it?"))
    with walk.step("chooses the autoencoder and keeps it", tab):
        box = tab.get_by_role("combobox", name="Autoencoder (VAE)")
        box.click()
        box.fill("small")
        tab.get_by_role("option", name="the small bundled one").click()
        see(tab, re.compile("pictures of 32 × 32 px"))
        tab.get_by_role("button", name="Keep it").click()
        see(tab, "You find it in every menu")
    with walk.step("asks for its blocks with small settings", tab):
        tab.get_by_role("link", name=re.compile("See its blocks")).click()
        tab.wait_for_url(re.compile("/importance.*model=my-dit"))
        tab.get_by_role("button", name="Settings").click()
        set_number(tab, "Images", 32)
    with walk.step("the heatmap", tab):
        tab.keyboard.press("Escape")
        see(tab, "matters least:")
        tab.locator(".st-key-heatmap .nsewdrag").first.wait_for()
    with walk.step("reads a cell's interval", tab):
        click_cell(tab, row=5.5 / 12, column=0.35)
        see(tab, re.compile(r"In the chosen cell, .*ΔH .* … "))
        see(tab, tab.locator(".ep-pairs:not(.old) figure").nth(7))
    with walk.step("downloads the table", tab):
        button = tab.get_by_role("button", name="CSV", exact=True)
        bring_into_view(button)
        table = list(csv.DictReader(download(tab, button, tmp_path).open()))
    assert len(table) % 12 == 0 and all(float(row["low"]) <= float(row["high"]) for row in table)

    said, cell = (tab.get_by_text(words).first.inner_text() for words in ("matters least:", "In the chosen cell,"))
    colleague = new_tab(dark=True)
    with walk.step("a colleague opens the link", colleague):
        colleague.goto(tab.url)
        see(colleague, "matters least:")
        see(colleague, "In the chosen cell,")
        see(colleague, colleague.locator(".ep-pairs:not(.old) figure").nth(7))
    assert said == colleague.get_by_text("matters least:").first.inner_text()
    assert cell == colleague.get_by_text("In the chosen cell,").first.inner_text()


def click_cell(tab, *, row: float, column: float) -> None:
    """``row`` and ``column`` as shares of the heatmap."""
    layer = tab.locator(".st-key-heatmap .nsewdrag").first
    bring_into_view(layer)
    box = layer.bounding_box()
    tab.mouse.click(box["x"] + box["width"] * column, box["y"] + box["height"] * row)


def test_engineer(new_tab: Callable, app: App, tmp_path: Path) -> None:
    images = class_folders(tmp_path / "parts", {"bolt": 12, "nut": 12}, width=40, height=40)
    with zipfile.ZipFile(tmp_path / "parts.zip", "w") as packed:
        for file in sorted(images.rglob("*.png")):
            packed.write(file, file.relative_to(images))
    walk, tab = Walk("engineer", shots_folder(tmp_path)), new_tab()
    with walk.step("opens the app", tab):
        tab.goto(app.url)
        see(tab, tab.get_by_role("link", name=re.compile("Open data")))
    with walk.step("uploads the images", tab):
        tab.get_by_role("link", name=re.compile("Open data")).click()
        tab.get_by_role("tab", name="Upload").click()
        tab.locator("input[type=file]").first.set_input_files(tmp_path / "parts.zip")
        tab.locator(".st-key-look_upload_data button").first.click()  # waits until the upload has arrived
        see(tab, "Mirrored copies count too")
    with walk.step("keeps them", tab):
        tab.get_by_role("button", name="Keep it").click()
        see(tab, "You find it in every menu")
    with walk.step("fills the form", tab):
        tab.get_by_role("link", name=re.compile("Prune on it")).click()
        tab.wait_for_url(re.compile("/prune.*data=parts"))
        choose(tab, "Adaptive")
        slide_to(tab, "Blocks to keep", 6)
        slide_to(tab, "Stages", 1)
        for label, value in (("Adapt first", 1), ("Steps", 2), ("Images to score", 16)):
            set_number(tab, label, value)
        see(tab, "6 of these will go")
        see(tab, tab.get_by_role("button", name="Start pruning"))
    with walk.step("watches it", tab):
        tab.get_by_role("button", name="Start pruning").click()
        tab.wait_for_url(re.compile(r"run=\d{8}-\d{6}-prune-"))
        see(tab, "What does it draw, step by step?")
        bring_into_view(tab.get_by_role("heading", name="Prune", exact=True))
    with walk.step("it is finished", tab):
        see(tab, "Finished.")
    with walk.step("before and after in pictures", tab):
        tab.get_by_role("button", name="Compare", exact=True).click()
        see(tab, "In pictures, seed by seed")
        see(tab, tab.locator(".ep-cells figure").nth(15))
    with walk.step("and in numbers", tab):
        see(tab, "In numbers")
        bring_into_view(tab.get_by_text("In numbers"))
    with walk.step("opens the report without a network", tab):
        report = download(tab, tab.get_by_role("button", name="Report", exact=True), tmp_path)
        reader = tab.context.browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        reader.goto(report.as_uri())
        reader.locator(".main-svg").first.wait_for()
        reader.screenshot(path=walk.folder / f"engineer-{walk.number:02d}-report.png")
        assert "12 → 6" in reader.inner_text("body") or "6 of 12" in reader.inner_text("body")
        reader.context.close()
    with walk.step("takes the model away", tab):
        see(tab, "Take it away")
        choose(tab, "diffusers")
        tab.get_by_role("button", name="Make the file").click()
        button = tab.get_by_role("button", name=re.compile("^Download .*B$"))
        see(tab, button)
        file = download(tab, button, tmp_path)
    with zipfile.ZipFile(file) as packed:
        names = packed.namelist()
        assert packed.testzip() is None and "entpruner.json" in str(names) and ".safetensors" in str(names), names
