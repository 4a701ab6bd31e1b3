"""Pictures without a block: on screen as soon as they are there, before the numbers."""

from PIL import Image

from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import sample_images


def test_pictures_are_shown_before_the_numbers(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", block="3")
    assert "without 3, same seeds" not in words(at)
    _, key = at.session_state["asked_drop"]
    folder = full.previews / key
    folder.mkdir()
    for i, image in enumerate(sample_images(0)[:8]):
        Image.fromarray(image).save(folder / f"intact_{i}.png")
        if i < 7:
            Image.fromarray(image).save(folder / f"pruned_{i}.png")
    at.run()
    assert "without 3, same seeds" not in words(at)  # one is missing
    Image.fromarray(image).save(folder / "pruned_7.png")
    at.run()
    assert "without 3, same seeds" in words(at) and "measuring …" in words(at)
