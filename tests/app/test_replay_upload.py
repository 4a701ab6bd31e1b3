"""A replay of one's own, opened as a file in lesson 5: shown, or refused in one line; never believed."""

import base64
import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from app.access import lecture_key
from app.learn import replaying
from app.pruning import vote_table
from engine.assets import ASSETS
from engine.errors import AssetError, EngineError
from engine.learn.replay import encode, read_replay, replay_of
from engine.pruning import vote
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import add_prune

SHIPPED = json.loads(next(iter(sorted((ASSETS / "replays").glob("*.json")))).read_bytes())
MANY = 300  # damaged replays


def opened(open_page: Open, content: bytes, name: str = "my run.json"):
    at = open_page("learn", lesson="5", screen="1")
    at.file_uploader[0].upload(name, content, "application/json").run()
    assert not at.exception
    return at


def test_a_replay_from_a_file_is_shown_on_all_screens(empty: Workspace, open_page: Open):
    content = encode({**SHIPPED, "title": "what my group ran", "command": "python -m engine prune mine ours"})
    at = opened(open_page, content)
    assert not at.error and "engine prune mine ours" in words(at)
    assert "From a file: what my group ran" in at.selectbox(key="learn_run").options
    for _ in range(2):
        next(button for button in at.button if button.label == "Next").click().run()
        assert not at.exception and not at.error and at.selectbox(key="learn_run").value == replaying._UPLOADED


def test_an_own_run_goes_out_and_comes_back(empty: Workspace, open_page: Open):
    run = add_prune(empty)
    assert not opened(open_page, encode(replay_of(run))).error


def with_change(**changes: Any) -> bytes:
    return json.dumps({**copy.deepcopy(SHIPPED), **changes}).encode()


def picture(width: int, height: int) -> dict[str, Any]:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0" + bytes(4)
    return {"stage": 1, "step": 1, "png": base64.b64encode(header).decode()}


HOSTILE = {
    "nothing": (b"", "Expecting value"),
    "another kind": (b"\x89PNG\r\n\x1a\n" + bytes(50), "my_run.json"),
    "a list": (b"[1, 2]", "isn't a JSON object"),
    "too large": (b" " * 1_000_001, "at most 1,000,000"),
    "very deep": (b"[" * 300_000 + b"]" * 300_000, "my_run.json"),
    "a number that is none": (with_change(seconds=float("nan")), "a number is NaN"),
    "a number that no float holds": (with_change(seconds=10**400), "too large"),
    "a part is missing": (encode({k: v for k, v in SHIPPED.items() if k != "train"}), "'train' is missing"),
    "of the future": (with_change(schema=99), "its schema is '99'"),
    "a latency without its median": (with_change(stages=[
        {**stage, "metrics": {**stage["metrics"], "efficiency": {"latency_ms": {"low": 1.0, "high": 2.0}}}}
        for stage in SHIPPED["stages"]
    ]), "'median' is missing"),
    "markup": (with_change(title="<img src=x onerror=alert(1)>"), "markup"),
    "markup in a name": (with_change(bands={"<script>": {"mean": 1, "low": 1, "high": 1}}), "markup"),
    "a picture that unpacks to gigabytes": (with_change(pictures=[picture(60_000, 60_000)]), "60,000"),
    "a million pictures": (with_change(pictures=[picture(1_000_000, 1)]), "not a few squares"),
    "no picture": (with_change(pictures=[{"stage": 1, "step": 1, "png": "????"}]), "isn't base64"),
    "nothing was trained": (with_change(train=[]), "'train' has 0 entries"),
    "one stage": (with_change(stages=SHIPPED["stages"][:1]), "'stages' has 1 entries"),
    "too many stages": (with_change(stages=SHIPPED["stages"] * 25, pictures=[], train=[]), "'stages' has"),
}  # fmt: skip


@pytest.mark.parametrize("content, says", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_replay_is_refused_in_one_line(content: bytes, says: str):
    with pytest.raises(AssetError) as refused:
        read_replay(content, name="my_run.json")
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_refusal_stands_where_the_file_was_put_and_the_lesson_goes_on(empty: Workspace, open_page: Open):
    at = opened(open_page, with_change(title="<img src=x onerror=alert(1)>"))
    assert [error.value for error in at.error] == [
        "my_run.json isn't a replay that can be shown (a text in it has markup or characters that can't be printed); "
        "record it again"
    ]
    assert SHIPPED["command"] in words(at)
    assert not any("From a file" in option for box in at.selectbox for option in box.options)


def test_in_a_lecture_only_who_holds_the_key_opens_files(empty: Workspace, open_page: Open, monkeypatch):
    monkeypatch.setenv(lecture_key.SWITCH, "1")
    monkeypatch.setenv(lecture_key.FINGERPRINT, lecture_key.fingerprint("a key for the lecture"))
    assert open_page("learn", lesson="5", screen="1").file_uploader[0].disabled
    assert not open_page("learn", lesson="5", screen="1", key="a key for the lecture").file_uploader[0].disabled


def test_damaged_replays_are_refused_or_can_be_drawn(empty: Workspace):
    """Each with one value changed to something else; whatever is let in, the lesson draws."""
    rng, places, accepted = random.Random(0), list(_places(SHIPPED)), 0
    for _ in range(MANY):
        replay = copy.deepcopy(SHIPPED)
        *way, last = rng.choice(places)
        inside = replay
        for step in way:
            inside = inside[step]
        inside[last] = rng.choice([None, True, -1, 0, 10**30, 1e300, "x", "", [], {}, [1], {"a": 1}])
        try:
            read = read_replay(json.dumps(replay).encode(), name="it")
        except AssetError:
            continue
        accepted += 1
        _draw(read)
    assert 0 < accepted < MANY


def _places(value: Any, way: tuple = ()) -> Iterator[tuple]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*way, name)
        yield from _places(part, (*way, name))


def _draw(replay: dict[str, Any]) -> None:
    for at in (0, len(replay["train"]) - 1):
        replaying._where(replay, replay["train"][at])
        replaying._loss(replay, at)
        replaying._samples(replay, replay["train"][at])
    replaying._origin(replay)
    replaying._stages(replay)
    for stage in replay["stages"]:
        record = stage.get("decision") or {}
        if record.get("candidates"):
            vote_table.sentence(record)
            vote_table.table(record)
            vote_table.note(record)
            try:
                vote.recount(record, {"cost": 0.0, "ntk": 1.0, "zico": 0.5})
            except EngineError:
                continue
