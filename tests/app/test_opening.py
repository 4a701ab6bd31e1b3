"""Opening models and data of one's own: found, checked, kept, forgotten; and taking a stage away."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import charts, jobs, known, measuring
from app.opening import opening, uploads
from app.style import LIGHT
from engine.data.shared_classes import rows_kept_by_name
from engine.errors import InputError, WorkspaceError
from engine.runs import library
from engine.runs.listing import list_runs
from engine.runs.queue import claim_next_preview, finish_preview, num_waiting
from engine.runs.store import open_run
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import (
    FLOWERS,
    SHAPES,
    add_ced,
    add_export,
    add_opened,
    add_prune,
    answer_as_the_engine,
    inspect_facts,
)
from tests.app.test_pages import asked, button


def field(at: AppTest, label: str, kind: str = "text_input"):
    return next(widget for widget in at.get(kind) if widget.label == label)


def look_inside(at: AppTest, path: str) -> AppTest:
    field(at, "Path on the engine's machine").set_value(path)
    button(at, "Look inside").click().run()
    assert not at.exception, at.exception[0].value
    return at


def test_a_look_that_takes_too_long_is_given_up(empty: Workspace, open_page: Open, tmp_path: Path) -> None:
    at = look_inside(open_page("open_data"), str(tmp_path))
    assert "Cancel" not in [found.label for found in at.button], "not before it takes long"
    params, key, since = at.session_state["asked_look_data"]
    at.session_state["asked_look_data"] = params, key, since - 10
    at.run()
    button(at, "Cancel").click().run()
    assert not at.exception and "What is in it?" not in [found.value for found in at.header]
    assert "ref" not in at.query_params and num_waiting(empty)[0] == 0


def open_files(empty: Workspace, open_page: Open, page: str, path: str, **found: object) -> AppTest:
    """The checking step, answered."""
    at = look_inside(open_page(page), path)
    assert answer_as_the_engine(empty, **found)["ref"] == path
    at.run()
    assert not at.exception, at.exception[0].value
    return at


# --- a model ---


def test_a_model_is_looked_at_checked_and_kept(empty: Workspace, open_page: Open) -> None:
    at = look_inside(open_page("open_model"), "/models/DiT-XL-2-256x256.pt")
    assert "Reading the names and shapes" in words(at) or "engine is starting" in words(at)
    question = answer_as_the_engine(empty)
    assert question["kind"] == "inspect_model" and question["ref"] == "/models/DiT-XL-2-256x256.pt"
    at.run()
    said = words(at)
    for fact in (
        "675 M",
        "119 G",
        "the average (EMA)",
        "256 × 256 px",
        "CC-BY-NC-4.0",
        "16 heads are assumed",
        "14.0 GB",
    ):
        assert fact in said, fact
    button(at, "Check it draws").click().run()
    check = answer_as_the_engine(empty)
    assert check["kind"] == "check_process" and check["data"] == "shapes"
    assert check["autoencoder"] == "stabilityai/sd-vae-ft-ema"
    at.run()
    said = words(at)
    assert "its loss is 0.21 of guessing" in said and said.count('alt="drawn as Diffusion') == 8
    assert said.count('alt="drawn as Flow') == 8 and "the losses speak for" not in said
    process = next(group for group in at.get("button_group") if group.label == "Process")
    process.set_value("flow").run()
    assert answer_as_the_engine(empty) is None  # both were drawn already
    assert "You chose Flow matching (SiT), and the losses speak for Diffusion (DiT)" in words(at)
    process = next(group for group in at.get("button_group") if group.label == "Process")
    process.set_value("diffusion").run()
    button(at, "Keep it").click().run()
    entry = library.read_entry(empty, "models", "dit-xl-2-256x256")
    assert entry["process"] == "diffusion" and entry["autoencoder"] == "stabilityai/sd-vae-ft-ema"
    assert entry["info"]["depth"] == 28 and len(entry["class_names"]) == 1000 and entry["classes"] == "fresh"
    assert "is kept" in words(at) and [link.label for link in at.get("page_link")][:2] == [
        "See its blocks →",
        "Prune it →",
    ]


def test_the_persons_process_is_what_is_kept(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt")
    next(group for group in at.get("button_group") if group.label == "Process").set_value("flow").run()
    button(at, "Keep it").click().run()
    assert library.read_entry(empty, "models", "x")["process"] == "flow"


def test_another_autoencoder_is_proved_before_it_is_kept(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt", autoencoder=None, image_side=None)
    assert "Name the autoencoder" in words(at) and "Keep it" not in [b.label for b in at.button]
    field(at, "Folder or hub id of the autoencoder").set_value("/vae").run()
    request = claim_next_preview(empty, "worker")
    assert request.params["autoencoder"] == "/vae"
    finish_preview(empty, request.key, {"state": "failed", "error": "/vae has 8 channels; expected 4"})
    at.run()
    assert [error.value for error in at.error] == ["/vae has 8 channels; expected 4"]
    assert "Keep it" not in [b.label for b in at.button]
    field(at, "Folder or hub id of the autoencoder").set_value("/other").run()
    answer_as_the_engine(empty, image_side=512)
    at.run()
    assert "512 × 512 px" in words(at)
    button(at, "Keep it").click().run()
    entry = library.read_entry(empty, "models", "x")
    assert entry["autoencoder"] == "/other" and entry["info"]["image_side"] == 512


def test_a_pixel_model_needs_no_autoencoder(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_model", "/m/pixels.pt", in_channels=3, autoencoder=None)
    assert "draws pixels itself" in words(at)
    button(at, "Keep it").click().run()
    assert library.read_entry(empty, "models", "pixels")["autoencoder"] is None


def test_a_file_that_cant_be_read_is_one_line_and_can_be_tried_again(empty: Workspace, open_page: Open) -> None:
    at = look_inside(open_page("open_model"), "/models/cut.pt")
    request = claim_next_preview(empty, "worker")
    finish_preview(empty, request.key, {"state": "failed", "error": "/models/cut.pt is truncated; copy it again"})
    at.run()
    assert [error.value for error in at.error] == ["/models/cut.pt is truncated; copy it again"]
    assert claim_next_preview(empty, "worker") is None  # not asked again by itself
    button(at, "Try again").click().run()
    assert claim_next_preview(empty, "worker").params["ref"] == "/models/cut.pt"


def test_looking_again_asks_again(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt")
    button(at, "Look inside").click().run()
    assert answer_as_the_engine(empty) is not None  # the file may have changed


def test_what_is_typed_is_made_a_path(empty: Workspace, open_page: Open) -> None:
    at = look_inside(open_page("open_model"), ' "models/x.pt" ')
    assert claim_next_preview(empty, "worker").params["ref"] == str(Path("models/x.pt").absolute())
    at = look_inside(open_page("open_data"), "")
    assert at.error[0].value.startswith("Write the path") and claim_next_preview(empty, "worker") is None


@pytest.mark.parametrize("typed", ["", "dit", "../../etc", "a/b/c", "a b/c", "https://evil.example/a/b"])
def test_what_isnt_a_hub_id_is_refused(empty: Workspace, open_page: Open, typed: str) -> None:
    at = open_page("open_model")
    field(at, "Hub id").set_value(typed)
    button(at, "Look it up").click().run()
    assert len(at.error) == 1 and "isn't a hub id" in at.error[0].value
    assert claim_next_preview(empty, "worker") is None


def test_a_hub_id_may_be_pasted_as_an_address(empty: Workspace, open_page: Open) -> None:
    at = open_page("open_data")
    field(at, "Hub id").set_value("https://huggingface.co/datasets/huggan/flowers/")
    button(at, "Look it up").click().run()
    assert claim_next_preview(empty, "worker").params["ref"] == "huggan/flowers"


def test_a_link_never_opens_anything_by_itself(empty: Workspace, open_page: Open) -> None:
    at = open_page("open_model", ref="/models/x.pt")
    assert field(at, "Path on the engine's machine").value == "/models/x.pt"
    at = open_page("open_model", ref="owner/name")
    assert field(at, "Hub id").value == "owner/name"
    assert claim_next_preview(empty, "worker") is None


@pytest.mark.parametrize("name", ["", "../x", "demo-sit", "a b"])
def test_a_name_that_cant_be_used_says_so_and_keeps_nothing(empty: Workspace, open_page: Open, name: str) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt")
    field(at, "Name").set_value(name).run()
    assert len(at.warning) == 1 and button(at, "Keep it").disabled
    assert library.list_entries(empty, "models") == []


def test_class_names_need_one_line_each(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_data", "/pictures/flowers")
    area = field(at, "One a line, the first is class 0", "text_area")
    area.set_value("daisy\nrose").run()
    assert "There are 3 classes and 2 names" in at.warning[-1].value and button(at, "Keep it").disabled
    area = field(at, "One a line, the first is class 0", "text_area")
    area.set_value("daisy\nrose\nrose").run()
    assert "twice" in at.warning[-1].value and button(at, "Keep it").disabled


def test_names_can_be_taken_from_a_dataset_of_as_many_classes(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt", num_classes=10,
                    class_names=[f"class {i}" for i in range(10)])  # fmt: skip
    offer = field(at, "Take the names of", "selectbox")
    assert "glyphs" not in offer.options and {"shapes", "digits"} <= set(offer.options)
    offer.set_value("shapes").run()
    button(at, "Keep it").click().run()
    entry = library.read_entry(empty, "models", "x")
    assert entry["class_names"] == list(SHAPES) and entry["classes"] == "named"


def test_what_was_kept_can_be_opened_again_and_forgotten(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    at = open_page("open_model")
    button(at, "Open again").click().run()
    answer_as_the_engine(empty)
    at.run()
    assert field(at, "Name").value == "dit-xl" and not button(at, "Keep it").disabled
    next(group for group in at.get("button_group") if group.label == "Process").set_value("flow").run()
    before = library.read_entry(empty, "models", "dit-xl")["created"]
    button(at, "Keep it").click().run()
    entry = library.read_entry(empty, "models", "dit-xl")
    assert entry["process"] == "flow" and entry["created"] > before
    button(at, "Forget").click().run()
    assert library.list_entries(empty, "models") == [] and "No model of yours yet" in words(at)


def test_a_damaged_entry_is_listed_and_can_be_forgotten(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    file = empty.root / "library" / "models" / "dit-xl.json"
    file.write_text("{")
    at = open_page("open_model")
    assert "dit-xl.json is damaged" in words(at)
    assert "dit-xl" not in field(open_page("importance"), "Model", "selectbox").options
    button(at, "Forget").click().run()
    assert not file.exists()


def test_an_entry_without_a_shape_is_one_line_everywhere(empty: Workspace, open_page: Open) -> None:
    library.add_entry(empty, "models", {"name": "odd", "ref": "/x", "class_names": [], "info": {"depth": 3}})
    at = open_page("model_data")
    assert len(at.error) == 1 and "'odd'" in at.error[0].value
    open_page("open_model")


# --- data ---


def test_data_is_looked_at_and_kept_with_its_pictures(empty: Workspace, open_page: Open) -> None:
    at = open_files(empty, open_page, "open_data", "/pictures/flowers")
    said = words(at)
    for fact in ("300", "180 × 120", "1024 × 768", "RGB 290, L 10", "is text, not a picture", "1 file is left out"):
        assert fact in said, fact
    assert said.count('alt="daisy, image') == 4
    assert "has other classes (daisy, rose, tulip)" in said
    at.toggle[0].set_value(False).run()
    field(at, "One a line, the first is class 0", "text_area").set_value("Bellis\nRosa\nTulipa").run()
    button(at, "Keep it").click().run()
    entry = library.read_entry(empty, "data", "flowers")
    assert entry["flip"] is False and entry["class_names"] == ["Bellis", "Rosa", "Tulipa"]
    info = known.dataset("flowers")
    assert info.counts == {"Bellis": 120, "Rosa": 100, "Tulipa": 80} and info.num_images == 300
    assert all(file.is_file() for files in info.thumbnails.values() for file in files)
    assert words(open_page("model_data", data="flowers")).count('alt="flowers: Rosa, image') == 4


def test_encoded_features_have_no_pictures_and_no_mirror(empty: Workspace, open_page: Open) -> None:
    at = look_inside(open_page("open_data"), "/features")
    request = claim_next_preview(empty, "worker")
    facts = {"ref": "/features", "num_images": 9, "class_names": ["0", "1"], "counts": {"0": 4, "1": 5},
             "has_latents": True, "sizes": {}, "modes": {}}  # fmt: skip
    finish_preview(empty, request.key, {"state": "done", "error": None, "facts": facts, "seconds": 0.1})
    at.run()
    assert not at.exception and not at.toggle
    assert "can't be mirrored" in words(at) and "encoded already" in words(at)
    button(at, "Keep it").click().run()
    assert library.read_entry(empty, "data", "features")["flip"] is False
    assert "encoded features" in words(open_page("model_data", data="features"))


def test_a_thousand_classes_are_not_a_thousand_bars(empty: Workspace, open_page: Open) -> None:
    names = [f"class {i}" for i in range(1000)]
    counts = {name: 1300 - i for i, name in enumerate(names)}
    at = open_files(empty, open_page, "open_data", "/imagenet", class_names=names, counts=counts)
    assert "20 smallest of 1000 classes" in words(at)


def test_forgetting_a_dataset_takes_its_pictures_along(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    folder = library.pictures_folder(empty, "data", "flowers")
    assert any(folder.iterdir())
    button(open_page("open_data"), "Forget").click().run()
    assert not folder.exists()


def test_a_full_disk_while_keeping_is_one_line(empty: Workspace, open_page: Open, monkeypatch) -> None:
    at = open_files(empty, open_page, "open_model", "/models/x.pt")

    def full_disk(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    button(at, "Keep it").click().run()
    assert not at.exception and len(at.error) == 1 and "no space left" in at.error[0].value.lower()
    assert library.list_entries(empty, "models") == []


# --- what was opened, on every page ---


def test_opened_ones_stand_after_the_bundled_and_have_a_title(full: Workspace, open_page: Open) -> None:
    for page in ("importance", "model_data"):
        at = open_page(page, model="dit-xl", data="flowers")
        titles = field(at, "Model", "selectbox").options
        assert [title.split(" ")[0] for title in titles[:2]] == ["demo-sit", "demo-dit"]
        assert titles[2] == "dit-xl · DiT, 28 blocks, 675 M" and "stage" in titles[3]
        assert asked(at, "model") == "dit-xl" and asked(at, "data") == "flowers" and not at.warning
    at = open_page("prune", run="new", model="dit-xl", data="flowers", how="hand", block="3,27")
    button(at, "Start pruning").click().run()
    params = open_run(full, list_runs(full)[0].id).params
    assert params["model"] == "dit-xl" and params["data"] == "flowers" and params["drop"] == [3, 27]


def test_classes_are_renamed_on_the_page(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    at = open_page("model_data", model="demo-sit", data="flowers")
    field(at, "One a line, the first is class 0", "text_area").set_value("a\nb\nc").run()
    button(at, "Save the names").click().run()
    assert library.read_entry(empty, "data", "flowers")["class_names"] == ["a", "b", "c"]
    assert "a" in known.dataset("flowers").counts


def test_results_from_before_a_name_was_given_again_are_not_shown(empty: Workspace) -> None:
    run = add_ced(empty)
    params = {**run.params, "model": "dit-xl"}
    (run.path / "config.json").write_text(
        (run.path / "config.json").read_text().replace('"model": "demo-sit"', '"model": "dit-xl"')
    )
    jobs.st.cache_data.clear()
    assert measuring.find("ced", params).id == run.id and jobs.latest_ced("dit-xl", "shapes").id == run.id
    add_opened(empty)  # only now does dit-xl stand for these files
    assert measuring.find("ced", params) is None and jobs.latest_ced("dit-xl", "shapes") is None


def test_what_the_classes_have_in_common() -> None:
    wanted = ("Tench", "goldfish", "unicorn")
    known_names = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark")
    assert rows_kept_by_name(known_names, wanted) == {0: 0, 1: 1}
    entry = {"name": "m", "ref": "/m", "class_names": list(known_names), "info": inspect_facts()}
    model = known.model_of_entry(entry)
    assert known.how_they_fit(model, known_names, "d") == ""
    assert "2 of the 3 classes" in known.how_they_fit(model, wanted, "d")
    assert "keep what it learned" not in known.how_they_fit(model, FLOWERS, "d")
    assert known.how_they_fit(model, ("class 0", "class 1", "class 2"), "d") == ""
    assert known.how_they_fit(model, ("TENCH", "goldfish", "white shark, great white shark"), "d") == ""
    assert "rename the folders" in known.how_they_fit(model, ("n01440764", "n01443537"), "d")


def test_using_one_moves_it_to_the_top(empty: Workspace, open_page: Open) -> None:
    facts = inspect_facts()
    for name in ("first", "second"):
        library.add_entry(empty, "models", {"name": name, "ref": "/x", "class_names": [], "info": facts})
    open_page("model_data", model="first")
    assert [entry["name"] for entry in library.list_entries(empty, "models")] == ["first", "second"]


# --- uploads ---


@dataclass
class Upload:
    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("model.pt", "model.pt"), ("../../etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot.ini"),
        ("/abs/x.pt", "x.pt"),
        (".hidden", "hidden"), ("...", "upload"), ("", "upload"), ("mine (1).tar.gz", "mine_1_.tar.gz"),
        ("é\0\n.pt", "pt"), ("x" * 300 + ".safetensors", "x" * 80 + ".safetensors"),
    ],
)  # fmt: skip
def test_a_name_cant_leave_the_folder(empty: Workspace, name: str, safe: str) -> None:
    assert uploads.safe_name(name) == safe
    path = uploads.store(empty, [Upload(name, b"content")])
    assert path.parent.parent == empty.root / "uploads" and path.read_bytes() == b"content"


def test_the_same_upload_is_kept_once_and_others_apart(empty: Workspace) -> None:
    first = uploads.store(empty, [Upload("x.pt", b"one")])
    assert uploads.store(empty, [Upload("x.pt", b"one")]) == first
    assert uploads.store(empty, [Upload("x.pt", b"two")]) != first
    assert first.read_bytes() == b"one"


def test_weights_and_config_go_into_one_folder(empty: Workspace) -> None:
    folder = uploads.store(empty, [Upload("w.safetensors", b"w"), Upload("config.json", b"{}")])
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "w.safetensors"]
    with pytest.raises(InputError, match="two of the uploaded files"):
        uploads.store(empty, [Upload("a/x.pt", b"1"), Upload("b/x.pt", b"2")])


def test_an_upload_without_room_says_how_much_it_needs(empty: Workspace, monkeypatch) -> None:
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(WorkspaceError, match="GB left"):
        uploads.store(empty, [Upload("x.pt", b"one")])
    assert not list((empty.root / "uploads").rglob("x.pt"))


def test_an_upload_is_written_and_looked_at(empty: Workspace, open_page: Open) -> None:
    at = open_page("open_data")
    at.file_uploader[0].upload("../flowers.zip", b"PK made up", "application/zip").run()
    at.button(key="look_upload_data").click().run()
    assert not at.exception
    ref = Path(claim_next_preview(empty, "worker").params["ref"])
    assert ref.read_bytes() == b"PK made up" and ref.name == "flowers.zip"
    assert ref.is_relative_to(empty.root / "uploads")


def test_another_file_to_upload_clears_what_was_found_in_the_first(empty: Workspace, open_page: Open) -> None:
    at = open_page("open_data")
    at.file_uploader[0].upload("flowers.zip", b"PK made up", "application/zip").run()
    at.button(key="look_upload_data").click().run()
    assert "What is in it?" in words(at) and at.query_params.get("ref")
    at.run()
    assert "What is in it?" in words(at)
    at.file_uploader[0].set_value(("birds.zip", b"PK others", "application/zip")).run()
    assert "What is in it?" not in words(at) and not at.query_params.get("ref")
    assert "Keep it" not in [button.label for button in at.button]
    at.button(key="look_upload_data").click().run()
    assert "birds.zip" in words(at) and "flowers.zip" not in words(at)


def test_an_upload_of_no_content_is_called_empty(empty: Workspace, open_page: Open) -> None:
    at = open_page("open_data")
    at.file_uploader[0].upload("flowers.zip", b"", "application/zip").run()
    at.button(key="look_upload_data").click().run()
    assert [error.value.split(":")[0] for error in at.error] == ["flowers.zip is empty"]
    assert "What is in it?" not in words(at)


@pytest.mark.parametrize(
    ("ref", "name"),
    [("/x/DiT-XL-2-256x256.pt", "dit-xl-2-256x256"), ("/x/a b.tar.gz", "a-b"), ("owner/Name", "name"), ("/", "model")],
)
def test_a_name_is_proposed(empty: Workspace, ref: str, name: str) -> None:
    assert opening.default_name("models", ref) == name
    library.add_entry(empty, "models", {"name": name, "ref": ref})
    assert opening.default_name("models", ref) == f"{name}-2"


# --- charts and taking away ---


def test_the_chart_of_both_processes_marks_the_chosen_one_and_guessing() -> None:
    losses = {"diffusion": [0.1, 0.4], "flow": [3.0, 2.0]}
    figure = charts.relative_loss(
        [0.2, 0.8], losses, chosen="flow", names={"diffusion": "D", "flow": "F"}, palette=LIGHT
    )
    assert [trace.name for trace in figure.data] == ["D", "F, your choice", "no better than guessing"]
    assert list(figure.data[1].y) == [3.0, 2.0] and figure.data[1].line.dash == "solid"
    assert list(figure.data[2].y) == [1.0, 1.0]


def test_a_stage_is_asked_for_in_a_layout_and_downloaded(empty: Workspace, open_page: Open) -> None:
    parent = add_prune(empty)
    at = open_page("compare", run=parent.id, stage="3")
    next(group for group in at.get("button_group") if group.label.startswith("Stage 3 as")).set_value("diffusers").run()
    button(at, "Make the file").click().run()
    run = jobs.find_export(f"{parent.id}@3", "diffusers")
    assert run.params == {"model": f"{parent.id}@3", "layout": "diffusers"} and run.status().state == "queued"
    assert "Make the file" not in [b.label for b in at.button]  # it is on its way
    add_export(empty, f"{parent.id}@3")
    at = open_page("compare", run=parent.id, stage="3")
    assert [b.label for b in at.get("download_button")][-1] == "Download 2.0 MB"
    assert "Depth 6" in words(at) and at.code[0].value == "model.load_state_dict(state)"


def test_a_large_export_names_its_folder_instead(empty: Workspace, open_page: Open) -> None:
    parent = add_prune(empty)
    export = add_export(empty, f"{parent.id}@3", large=True)
    at = open_page("compare", run=parent.id, stage="3")
    assert not [b for b in at.get("download_button") if b.label.startswith("Download ")]
    assert [code.value for code in at.code] == [str(export.path / "export"), "model.load_state_dict(state)"]
    assert "2.70 GB" in words(at)


def test_an_export_that_failed_or_vanished_can_be_made_again(empty: Workspace, open_page: Open) -> None:
    parent = add_prune(empty)
    export = add_export(empty, f"{parent.id}@3")
    (export.path / "export.zip").unlink()
    at = open_page("compare", run=parent.id, stage="3")
    assert "gone" in at.warning[-1].value and button(at, "Make the file")
    export.update(state="failed", error="no space left")
    at = open_page("compare", run=parent.id, stage="3")
    assert at.error[0].value == "No space left"
    button(at, "Make the file").click().run()
    assert jobs.find_export(f"{parent.id}@3", "official").id != export.id


def test_an_export_in_the_list_leads_to_its_download(empty: Workspace, open_page: Open) -> None:
    parent = add_prune(empty)
    export = add_export(empty, f"{parent.id}@3")
    at = open_page("runs", run=export.id)
    assert "Download it in compare" in [link.label for link in at.get("page_link")]


AWKWARD_NAMES = ["<b>bold</b>", "n02099601 golden retriever, a dog of Scotland"]


def test_bars_of_many_or_long_names_lie_below_each_other_and_names_are_text() -> None:
    few = charts.class_counts({"cat": 3, "dog": 2}, palette=LIGHT)
    assert few.data[0].orientation == "v" and list(few.layout.xaxis.ticktext) == ["cat", "dog"]
    many = charts.class_counts(dict.fromkeys((f"{n}" for n in range(30)), 1), palette=LIGHT)
    assert many.data[0].orientation == "h" and many.layout.height > 18 * 30
    long = charts.class_counts(dict.fromkeys(AWKWARD_NAMES, 5), palette=LIGHT)
    assert list(long.layout.yaxis.ticktext) == ["&lt;b&gt;bold&lt;/b&gt;", "n02099601 golden retriever,…"]
    assert list(long.data[0].customdata) == ["&lt;b&gt;bold&lt;/b&gt;", AWKWARD_NAMES[1]]
