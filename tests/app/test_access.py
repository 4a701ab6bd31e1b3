"""Who gets in, and who may start work."""

import ast
import html
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import jobs
from app.access import allow_list, lecture_key, pace, rights, sign_in
from app.learn import drawing, guessing
from engine.errors import InputError
from engine.runs import queue
from engine.runs.listing import list_runs
from engine.runs.table import read
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import add_ced, add_prune

APP = Path(__file__).parents[2] / "app"
KEY = "a key for the lecture"
#: how the labels of buttons begin that start, stop or change something
HEAVY = (
    "Start ", "Pause", "Cancel", "Resume", "Delete", "Restore", "Empty", "Go on", "Step", "Run to", "Branch",
    "Look inside", "Look it up", "Open again", "Forget", "Keep it", "Check it draws", "Save the names",
    "Make the file", "Measure", "Show the heatmap",
)  # fmt: skip
#: what starts, stops or changes something, by its last name
CHANGES = {
    "create_run", "submit_run", "cancel_run", "pause_run", "resume_run", "drive_run", "delete_run", "restore_run",
    "empty_bin", "add_entry", "forget_entry", "rename_classes", "touch_entry", "store",
}  # fmt: skip


@pytest.fixture
def lecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lecture_key.SWITCH, "1")
    monkeypatch.setenv(lecture_key.FINGERPRINT, lecture_key.fingerprint(KEY))
    monkeypatch.setattr(rights, "_WRONG_KEY_SECONDS", 0.0)


def button(at: AppTest, label: str):
    return next(button for button in at.button if button.label == label)


# --- lecture mode ---


def test_every_button_that_starts_stops_or_changes_work_is_grey_and_says_why(full: Workspace, lecture, open_page: Open):
    runs = {run.state: run.id for run in list_runs(full)}
    pages = [("runs", {"run": run_id}) for run_id in runs.values()]
    pages += [("prune", {"run": run}) for run in ("new", runs["done"])]
    pages += [("arena", {"arena": "new"}), ("open_model", {}), ("open_data", {}), ("model_data", {})]
    pages += [("compare", {"run": runs["done"]}), ("importance", {"variable": "samples"})]
    grey = set()
    for name, query in pages:
        for found in open_page(name, **query).button:
            assert found.disabled or not found.label.startswith(HEAVY), f"{found.label!r} on {name} {query}"
            if found.disabled and found.help == rights.REASON:
                grey.add(found.label)
    assert grey >= {"Delete", "Start pruning", "Start the arena", "Look inside", "Look it up", "Forget", "Open again"}


def test_a_press_on_a_grey_button_changes_nothing(full: Workspace, lecture, open_page: Open):
    """A browser sends no such press; a program that speaks its language may. Streamlit drops it, and the functions
    behind refuse (below)."""
    before = {run.id: run.state for run in list_runs(full)}
    run = next(run_id for run_id, state in before.items() if state == "done")
    at = open_page("runs", run=run)
    found = button(at, "Delete")
    found.proto.disabled = False
    found.click().run()
    assert not at.exception
    assert {run.id: run.state for run in list_runs(full)} == before


def test_the_functions_behind_the_buttons_refuse_too(full: Workspace, lecture):
    before = [(run.id, run.state) for run in list_runs(full)]
    waiting = read(full, lambda table: table.execute("SELECT COUNT(*) FROM runs").fetchone())
    for forbidden in (
        lambda: jobs.start_run("ced", title="x", params={}),
        lambda: jobs.resume(before[0][0]),
        lambda: jobs.cancel(before[0][0]),
        lambda: jobs.start_export("demo-sit", "official"),
        lambda: jobs.ask("inspect_model", {"ref": "/etc/passwd"}),
        lambda: jobs.ask("drop", {"model": "/of/mine.pt", "data": "shapes", "drop": [1]}),
        jobs.writable,
    ):
        with pytest.raises(rights.NotAllowed, match="only who holds the key"):
            forbidden()
    assert [(run.id, run.state) for run in list_runs(full)] == before
    assert read(full, lambda table: table.execute("SELECT COUNT(*) FROM runs").fetchone()) == waiting
    assert queue.num_waiting(full)[0] == 0


@pytest.mark.parametrize("file", sorted(APP.rglob("*.py")), ids=lambda file: str(file.relative_to(APP)))
def test_whatever_changes_the_workspace_asks_whether_it_may(file: Path):
    """Every such call takes ``writable()``, which refuses; so no page can forget the question."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in CHANGES and node.args:
            first = ast.unparse(node.args[0])
            assert first in ("writable()", "jobs.writable()"), f"line {node.lineno}: {name}({first}, …)"


def test_the_key_makes_the_buttons_of_this_session_live_and_of_no_other(full: Workspace, lecture, open_page: Open):
    at, other = open_page("prune", run="new"), open_page("prune", run="new")
    field = next(field for field in at.text_input if field.label == "Key")
    field.set_value("not the key")
    button(at, "Take it").click()
    at.run()
    assert "doesn't fit" in words(at) and button(at, "Start pruning").help == rights.REASON
    next(field for field in at.text_input if field.label == "Key").set_value(f" {KEY} ")
    button(at, "Take it").click()
    at.run()
    assert button(at, "Start pruning").help != rights.REASON and "holds the key" in words(at)
    assert button(other.run(), "Start pruning").help == rights.REASON
    button(at, "Give the key back").click()
    at.run()
    assert button(at, "Start pruning").help == rights.REASON


def test_a_link_with_the_key_loses_it_at_once(full: Workspace, lecture, open_page: Open):
    at = open_page("prune", run="new", key=KEY)
    assert "key" not in at.query_params and "holds the key" in words(at)
    at = open_page("prune", run="new", key="wrong")
    assert "key" not in at.query_params and "doesn't fit" in words(at)
    assert button(at, "Start pruning").disabled


def test_without_lecture_mode_a_key_in_the_address_is_nothing(empty: Workspace, open_page: Open):
    at = open_page("start", key="whatever")
    assert "key" not in at.query_params and not at.warning and "Lecture mode" not in words(at)


def test_lecture_mode_without_any_key_is_closed_to_everybody(monkeypatch: pytest.MonkeyPatch):
    """``streamlit run`` with the switch alone: nobody made a key."""
    monkeypatch.setenv(lecture_key.SWITCH, "1")
    assert not lecture_key.fits("", lecture_key.expected_fingerprint())
    assert rights.is_lecture() and not rights.may_work()


def test_a_choice_in_a_menu_starts_nothing(full: Workspace, lecture, open_page: Open):
    before = len(list_runs(full))
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="importance_model").set_value("demo-dit").run()
    assert not at.exception and "asked yet" in words(at) and len(list_runs(full)) == before


def test_anybody_may_take_blocks_out_and_two_who_do_get_one_computation(empty: Workspace, lecture, open_page: Open):
    add_ced(empty)
    for _ in range(2):
        open_page("importance", model="demo-sit", data="shapes", block="3")
    kinds = read(empty, lambda table: table.execute("SELECT kind, state FROM previews").fetchall())
    assert kinds == [("drop", "queued")]
    assert read(empty, lambda table: table.execute("SELECT COUNT(*) FROM clients").fetchone()) == (2,)


def test_lessons_draw_for_everybody_and_measure_for_who_holds_the_key(
    empty: Workspace, lecture, open_page: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drawing, "MODELS", {"SiT": "demo-sit", "DiT": "demo-dit"})  # those of the fixture
    monkeypatch.setattr(guessing, "MODEL", "demo-sit")
    assert not open_page("learn", lesson="1", screen="1").error
    assert not open_page("learn", lesson="1", screen="2").error
    kinds = read(empty, lambda table: table.execute("SELECT DISTINCT kind FROM previews ORDER BY kind").fetchall())
    assert kinds == [("block_states",), ("trajectory",)]
    at = open_page("learn", lesson="3", screen="1")
    next(group for group in at.button_group if group.key == "strip_learn_guess").set_value(4).run()
    button(at, "Next").click().run()
    assert not at.error and "as soon as who gives the lecture opens this lesson" in words(at)
    assert list_runs(empty) == []
    open_page("learn", lesson="3", screen="1", key=KEY)
    assert [run.kind for run in list_runs(empty)] == ["ced"]


def test_only_who_holds_the_key_forgets_what_the_room_guessed(empty: Workspace, lecture, open_page: Open):
    assert button(open_page("learn", lesson="3", screen="3", present="1"), "Forget them").disabled
    assert not button(open_page("learn", lesson="3", screen="3", present="1", key=KEY), "Forget them").disabled


def test_a_long_way_through_a_bundled_model_is_not_a_lesson(full: Workspace, lecture):
    with pytest.raises(rights.NotAllowed, match="only who holds the key"):
        jobs.ask("trajectory", {"model": "demo-sit", "class": 1, "seed": 1, "protocol": {"num_steps": 1000}})


def test_only_who_holds_the_key_follows_a_pruned_model_from_noise(empty: Workspace, lecture, open_page: Open):
    run = add_prune(empty)
    for number in (0, 3):
        (run.path / "stages" / str(number) / "weights.safetensors").write_bytes(b"")
    at = open_page("compare", compare=f"{run.id}@0,{run.id}@3")
    follow = at.button(key="way_go")
    assert follow.disabled and follow.help == rights.REASON
    with_key = open_page("compare", compare=f"{run.id}@0,{run.id}@3", key=KEY)
    assert not with_key.button(key="way_go").disabled


def test_whoever_follows_too_fast_is_told_in_one_line(empty: Workspace, lecture, open_page: Open, monkeypatch):
    run = add_prune(empty)
    at = open_page("compare", compare=f"{run.id}@0,{run.id}@3")
    monkeypatch.setattr(pace, "AT_ONCE", 0)
    at.button(key="way_go").click().run()
    assert not at.exception and "one more is free" in at.error[0].value


def test_a_session_that_asks_without_pause_is_slowed_and_another_is_not(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(st, "session_state", {})
    for _ in range(pace.AT_ONCE):
        pace.spend()
    with pytest.raises(rights.NotAllowed, match="one more is free every 3 s"):
        pace.spend()
    now[0] += pace.SECONDS_EACH
    pace.spend()
    with pytest.raises(rights.NotAllowed):
        pace.spend()
    monkeypatch.setattr(st, "session_state", {})
    pace.spend()


# --- the key itself ---


def test_the_environment_of_the_children_has_the_fingerprint_and_not_the_key():
    environment = {lecture_key.KEY: KEY}
    assert lecture_key.take_key(environment, lecture=False) == KEY  # a key of one's own turns it on
    assert KEY not in "".join(environment.values())
    assert lecture_key.fits(KEY, lecture_key.expected_fingerprint(environment))
    assert not lecture_key.fits(KEY + "x", lecture_key.expected_fingerprint(environment))


def test_a_key_is_made_where_none_is_given_and_a_short_one_is_refused():
    first, second = (lecture_key.take_key({}, lecture=True) for _ in range(2))
    assert first != second and len(first) >= 18
    assert lecture_key.take_key({lecture_key.SWITCH: "0"}, lecture=False) is None
    with pytest.raises(InputError, match="at least 12"):
        lecture_key.take_key({lecture_key.KEY: "short"}, lecture=True)


# --- sign-in ---

PERSON = {"is_logged_in": True, "email": "Ann@Lab.edu", "email_verified": True}
AUTH = {"auth": {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "c" * 32}}


def door(monkeypatch: pytest.MonkeyPatch, person: dict, *, secrets: dict | None = None) -> AppTest:
    monkeypatch.setattr(st, "user", person)
    at = AppTest.from_file(str(APP / "main.py"), default_timeout=120)
    at.secrets.update(AUTH if secrets is None else secrets)
    at.run()
    assert not at.exception, at.exception[0].value
    return at


def test_who_isnt_signed_in_sees_the_door_and_nothing_else(full: Workspace, started: list, monkeypatch):
    at = door(monkeypatch, {"is_logged_in": False})
    assert [found.label for found in at.button] == ["Sign in"]
    assert "Sign in to see this studio" in words(at) and str(full.root) not in words(at)
    assert started == []  # nor is the engine started for them
    button(at, "Sign in").click().run()
    assert not at.exception and "isn't set up properly" in words(at)  # [auth] of this test names no provider


@pytest.mark.parametrize(
    ("person", "line"),
    [
        ({"email": "eve@elsewhere.org"}, "isn't on this studio's list"),
        ({"email": "ann@sub.lab.edu"}, "isn't on this studio's list"),
        ({"email": "ann@lab.edu", "email_verified": False}, "verified"),
        ({"name": "Ann"}, "no e-mail address"),
        ({"email": "ann@lab.edu", "iat": time.time() - 13 * 3600}, "more than 12 hours ago"),
    ],
)
def test_who_may_not_come_in_is_told_why(full: Workspace, monkeypatch, person: dict, line: str):
    monkeypatch.setenv(allow_list.ALLOW, "bob@x.org, @lab.edu")
    at = door(monkeypatch, {"is_logged_in": True, **person})
    assert line in html.unescape(words(at)) and [found.label for found in at.button] == ["Sign out"]


@pytest.mark.parametrize("email", ["Ann@Lab.edu", "bob@x.org"])
def test_who_is_on_the_list_comes_in(full: Workspace, monkeypatch, email: str):
    monkeypatch.setenv(allow_list.ALLOW, "bob@x.org, @lab.edu")
    at = door(monkeypatch, {**PERSON, "email": email})
    assert "Which blocks" in at.title[0].value and f"Signed in as {email}" in words(at)
    assert button(at, "Sign out").help


def test_without_a_list_the_provider_decides(full: Workspace, monkeypatch):
    assert "Which blocks" in door(monkeypatch, {"is_logged_in": True}).title[0].value


def test_a_list_without_sign_in_lets_nobody_in(full: Workspace, monkeypatch, open_page: Open):
    monkeypatch.setenv(allow_list.ALLOW, "@lab.edu")
    at = AppTest.from_file(str(APP / "main.py"), default_timeout=120).run()
    assert "Until then nobody is let in" in words(at) and not at.button


def test_sign_in_that_was_configured_and_cant_be_read_any_more_lets_nobody_in(full: Workspace, monkeypatch, tmp_path):
    """Streamlit itself would go on as if there had never been any."""
    damaged = tmp_path / "secrets.toml"
    damaged.write_text("[auth\n")
    monkeypatch.setattr(st.secrets, "load_if_toml_exists", lambda: False)
    monkeypatch.setattr(sign_in.st, "get_option", lambda name: [str(damaged)] if name == "secrets.files" else None)
    at = AppTest.from_file(str(APP / "main.py"), default_timeout=120).run()
    assert "can't be read" in words(at) and not at.button


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ann", "neither an address, nor a domain"),
        ("@", "neither"),
        ("ann@", "neither"),
        ("@lab.edu; bob@x.org", "neither"),
    ],
)
def test_a_list_that_makes_no_sense_is_one_line(text: str, line: str):
    with pytest.raises(InputError, match=line) as error:
        allow_list.parse(text)
    assert "\n" not in str(error.value)


def test_a_list_may_be_a_file(tmp_path: Path):
    file = tmp_path / "people.txt"
    file.write_text("# who\nAnn@x.org   # lecturer\n\n@lab.edu\n")
    allowed = allow_list.parse(str(file))
    assert allowed.admits("ann@X.org") and allowed.admits("bob@lab.edu") and not allowed.admits("x@x.org")
    assert not allowed.admits(None) and not allowed.admits("lab.edu") and not allow_list.AllowList().admits("ann@x.org")
    file.write_text("# nobody\n")
    with pytest.raises(InputError, match="names nobody"):
        allow_list.parse(str(file))
