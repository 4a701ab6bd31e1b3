"""What a person with files of their own does: opens a checkpoint and a folder, looks, keeps, prunes, takes away."""

import argparse
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.bundled import bundled_data
from engine.models.checkpoints import load_model
from engine.runs import library
from tests.browser.conftest import Server
from tests.browser.test_story import set_number, settle, shoot, wait_for_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of a SiT, with a note on what tensors can't say; letters in class folders, one of them a
    text file with the name of a picture."""
    folder = tmp_path_factory.mktemp("own")
    state = load_model("demo-sit").network.state_dict()
    arguments = argparse.Namespace(num_classes=10, path_type="Linear", prediction="velocity")
    torch.save({"model": state, "ema": state, "opt": {}, "args": arguments}, folder / "my-sit.pt")
    (folder / "my-sit.json").write_text(json.dumps({"num_heads": 4}))
    data = bundled_data("glyphs")
    for label in range(3):
        (folder / "letters" / f"letter {label}").mkdir(parents=True)
        for index in np.flatnonzero(data.labels == label)[:20]:
            picture = Image.fromarray(data.images[index]).resize((48, 40))
            picture.save(folder / "letters" / f"letter {label}" / f"{index}.png")
    (folder / "letters" / "letter 0" / "note.png").write_text("this is not a picture")
    with zipfile.ZipFile(folder / "letters.zip", "w") as packed:
        for file in sorted((folder / "letters").rglob("*.png")):
            packed.write(file, file.relative_to(folder / "letters"))
    return folder


def open_path(tab, server: Server, page: str, path: Path) -> None:
    tab.goto(f"{server.url}/{page}")
    settle(tab)
    tab.get_by_role("textbox", name="Path on the engine's machine").fill(str(path))
    tab.get_by_role("button", name="Look inside").first.click()


def test_own_files_from_opening_to_taking_away(open_tab, server: Server, files: Path) -> None:
    tab = open_tab()
    tab.goto(server.url)
    tab.get_by_role("link", name="Open a model").click()
    tab.get_by_role("heading", name="Open a model").wait_for()
    settle(tab)
    tab.get_by_role("tab", name="Upload").click()
    tab.locator("input[type=file]").first.set_input_files([files / "my-sit.pt", files / "my-sit.json"])
    tab.locator(".st-key-look_upload_models button").first.click()  # waits until the upload has arrived
    wait_for_text(tab, "Diffusion or flow?", seconds=300)
    settle(tab)
    assert "the average (EMA)" in tab.inner_text("body")

    box = tab.get_by_role("combobox", name="Autoencoder (VAE)")
    box.click()
    box.fill("small")
    tab.get_by_role("option", name="the small bundled one").click()
    wait_for_text(tab, "pictures of 32 × 32 px", seconds=300)
    tab.get_by_role("button", name="Check it draws").click()
    wait_for_text(tab, "Which process was it trained for?", seconds=300)
    assert tab.get_by_alt_text(re.compile("^drawn as Flow")).count() == 8
    shoot(tab, "7-open-model")
    tab.get_by_role("button", name="Keep it").click()
    wait_for_text(tab, "You find it in every menu", seconds=300)
    entry = library.read_entry(server.workspace, "models", "my-sit")
    assert entry["process"] == "flow" and entry["autoencoder"] == "autoencoder"

    open_path(tab, server, "open-data", files / "letters")
    wait_for_text(tab, "Mirrored copies count too", seconds=300)
    settle(tab)
    assert "1 file can't be read" in tab.inner_text("body")
    tab.get_by_text("Mirrored copies count too").click()
    shoot(tab, "8-open-data")
    tab.get_by_role("button", name="Keep it").click()
    wait_for_text(tab, "You find it in every menu", seconds=300)
    assert library.read_entry(server.workspace, "data", "letters")["flip"] is False

    tab.goto(f"{server.url}/prune?run=new&model=my-sit&data=letters&how=hand&block=5,8")
    settle(tab)
    set_number(tab, "Steps", 4)
    set_number(tab, "Images to score", 16)
    tab.get_by_role("button", name="Start pruning").click()
    wait_for_text(tab, "Finished.", seconds=300)
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_text("Take it away").wait_for()
    settle(tab)
    tab.get_by_role("button", name="Make the file").click()
    button = tab.get_by_role("button", name=re.compile("^Download "))
    button.wait_for(timeout=300_000)
    shoot(tab, "9-take-away")
    with tab.expect_download() as download:
        button.click()
    with zipfile.ZipFile(download.value.path()) as packed:
        assert packed.testzip() is None and any(name.endswith(".pt") for name in packed.namelist())


def test_a_damaged_file_is_one_line(open_tab, server: Server, files: Path) -> None:
    cut = files / "cut.pt"
    cut.write_bytes((files / "my-sit.pt").read_bytes()[:30_000])
    tab = open_tab()
    open_path(tab, server, "open-model", cut)
    wrong = tab.get_by_test_id("stAlertContentError").first
    wrong.wait_for(timeout=300_000)
    assert "cut.pt" in wrong.inner_text() and "\n" not in wrong.inner_text()
    tab.get_by_role("button", name="Try again").wait_for()
