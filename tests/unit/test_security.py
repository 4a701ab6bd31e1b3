"""What keeps others out and files where they belong, on a real server; and that docs/security.md names real tests."""

import ast
import asyncio
import gzip
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.__main__ import is_healthy
from app.access import allow_list, announcement, lecture_key, upload_gate
from app.opening import uploads
from engine.errors import InputError
from engine.runs.workspace import open_workspace
from tests.soak.visitor import open_visitor, run_to_end
from tests.unit.test_starter import processes_of

ROOT = Path(__file__).parents[2]
SECRETS = {"HF_TOKEN": "hf_secretsecretsecret", "ENTPRUNER_LECTURE_KEY": "a lecturer's own key"}


@dataclass
class Studio:
    port: int
    process: subprocess.Popen
    folder: Path
    said: list[str]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        response.content = response.read()
        return response


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Started as a lecturer starts it, with secrets in the environment."""
    folder = tmp_path_factory.mktemp("studio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port), "--device", "cpu"]
    log = open(folder / "said", "wb")  # noqa: SIM115 - the process writes to it as long as it lives
    environment = {**os.environ, **SECRETS}
    process = subprocess.Popen(
        [*command, "--workspace", str(folder / "workspace")], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    deadline = time.monotonic() + 120
    while "with link" not in (folder / "said").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield Studio(port, process, folder, (folder / "said").read_text().splitlines())
    process.terminate()
    process.wait(20)
    log.close()


# --- the server ---


def test_every_answer_forbids_frames_and_other_hosts(studio: Studio):
    for path in ("/", "/runs", "/_stcore/health", "/static/nothing"):
        headers = studio.ask("GET", path).headers
        assert headers["X-Frame-Options"] == "SAMEORIGIN" and headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"


def test_the_front_end_comes_compressed_and_is_the_same(studio: Studio):
    script = re.search(r"\./(static/js/index[^\"]*\.js)", studio.ask("GET", "/").content.decode())[1]
    plain, packed = studio.ask("GET", f"/{script}"), studio.ask("GET", f"/{script}", Accept_Encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip" and plain.headers["Content-Encoding"] is None
    assert gzip.decompress(packed.content) == plain.content and len(packed.content) < len(plain.content) / 2
    assert packed.headers["X-Frame-Options"] == "SAMEORIGIN" and "immutable" in packed.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1.evil.example"}, False),
        ({"host": "evil.example"}, False),  # a name of its own that leads here: DNS rebinding
        ({"host": "evil.example", "origin": "http://evil.example"}, False),
    ],
)
def test_pages_of_other_hosts_get_no_connection(studio: Studio, headers: dict, admitted: bool):
    async def knock() -> bool:
        origin = headers.get("origin", f"http://127.0.0.1:{studio.port}")
        address = f"ws://{headers.get('host', '127.0.0.1')}:{studio.port}/_stcore/stream"
        here = {"host": "127.0.0.1", "port": studio.port}
        try:
            async with connect(address, subprotocols=["streamlit"], origin=origin, **here):
                return True
        except InvalidStatus as refused:
            assert refused.response.status_code == 403
            return False

    assert run_to_end(knock()) == admitted


def multipart(name: str, content: bytes) -> tuple[bytes, str]:
    head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


def test_uploads_need_a_token_a_session_that_was_shown_the_place_and_have_limits(studio: Studio):
    async def try_all() -> dict[str, int]:
        key = SECRETS["ENTPRUNER_LECTURE_KEY"]
        async with open_visitor(studio.port) as visitor, open_visitor(studio.port) as other:
            await visitor.visit("open-model", key=key)
            await other.visit("open-model")  # without the key: it is shown, and grey
            return await asyncio.to_thread(send_all, visitor.session_id, other.session_id)

    def send_all(session: str, other: str) -> dict[str, int]:
        cookie = studio.ask("GET", "/_stcore/health").headers["Set-Cookie"].partition(";")[0]
        token = {"Cookie": cookie, "X-Xsrftoken": cookie.partition("=")[2].strip('"')}
        body, kind = multipart("x.pt", b"content")

        def put(who: str, file: str, **headers: str) -> int:
            where = f"/_stcore/upload_file/{who}/{file}"
            return studio.ask("PUT", where, body, Content_Type=kind, **headers).status

        found = {
            "no token": put(session, "a"),
            "wrong token": put(session, "a", **{**token, "X-Xsrftoken": "other"}),
            "no session": put("11111111-2222-3333-4444-555555555555", "a", **token),
            "without the key": put(other, "a", **token),
            "admitted": put(session, "a", **token),
            "too large": put_header_only(session, token, upload_gate.MOST_BYTES),
        }
        for number in range(upload_gate.MOST_FILES - 1):
            assert put(session, f"b{number}", **token) == 204
        found["too many"] = put(session, "c", **token)
        return found

    def put_header_only(session: str, token: dict, length: int) -> int:
        with socket.create_connection(("127.0.0.1", studio.port), timeout=20) as line:
            lines = [f"PUT /_stcore/upload_file/{session}/d HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
            lines += [f"{name}: {value}" for name, value in token.items()]
            line.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(line.recv(64).split()[1])

    assert run_to_end(try_all()) == {
        "no token": 403, "wrong token": 403, "no session": 403, "without the key": 403, "admitted": 204,
        "too large": 413, "too many": 429,
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/media/../../etc/passwd", "/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/static/..%2f..%2f..%2fetc%2fpasswd",
             "/component/..%2f..%2fetc%2fpasswd", "/app/static/../../../etc/passwd", "//etc/passwd"],
)  # fmt: skip
def test_no_address_leads_to_a_file_of_the_machine(studio: Studio, path: str):
    response = studio.ask("GET", path)
    assert b"root:" not in response.content and response.status in (200, 400, 403, 404)


def test_the_key_is_said_once_in_the_terminal_and_nowhere_else(studio: Studio):
    """Not in logs, files of the workspace, or what other processes may read of ours; nor is a token of the hub."""
    key = SECRETS["ENTPRUNER_LECTURE_KEY"]

    async def use() -> None:
        async with open_visitor(studio.port) as visitor:
            assert "holds the key" in (await visitor.visit("runs", key=key)).words
        async with open_visitor(studio.port) as visitor:
            assert "doesn't fit" in (await visitor.visit("runs", key=key + "x")).words

    run_to_end(use())
    said = (studio.folder / "said").read_text()
    assert said.count(key) == 2  # as such, and in its link
    assert SECRETS["HF_TOKEN"] not in said
    for file in (studio.folder / "workspace").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in SECRETS.values()), file
    children = [pid for pid in processes_of(studio.folder) if pid != studio.process.pid]
    assert len(children) >= 2
    for pid in children:
        assert key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


# --- what the starter says ---


def test_who_can_reach_it_is_said_loudly_unless_only_this_machine_can():
    assert announcement.lines("127.0.0.1", 8501, key=None, sign_in="") == []
    said = "\n".join(announcement.lines("0.0.0.0", 8501, key=None, sign_in=""))
    assert "OPEN TO OTHERS: it listens on every address of this machine, port 8501" in said
    assert "Sign-in is OFF" in said and "start and delete work" in said and "not encrypted" in said
    said = "\n".join(announcement.lines("192.168.1.7", 80, key="the key", sign_in="admits everybody @lab.edu"))
    assert "192.168.1.7" in said and "Sign-in is on: admits everybody @lab.edu" in said and "look at everything" in said
    assert "?key=the key" in said


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False),
     ("", False), (None, False), ("192.168.1.7", False), ("lab.example", False)],
)  # fmt: skip
def test_the_foot_of_the_page_says_where_it_is_open(address: str | None, local: bool):
    assert announcement.is_local(address) == local
    words = announcement.reach_in_words(address, sign_in=False)
    assert (words == "") == local and ("sign-in off" in words) != local


def starter(*arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "app", "--port", "1", *arguments], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_list_without_sign_in_or_a_bad_one_or_a_short_key_is_one_line_at_the_start(tmp_path: Path):
    home = {"HOME": str(tmp_path), "ENTPRUNER_WORKSPACE": str(tmp_path / "workspace")}
    port = free_port()
    for arguments, environment, line in (
        (("--allow", "@lab.edu"), {}, "sign-in isn't configured"),
        (("--allow", "lab.edu"), {}, "neither an address"),
        ((), {lecture_key.KEY: "short"}, "at least 12"),
    ):
        code, said = starter("--port", port, *arguments, **home, **environment)
        assert code == 2 and said.count("\n") == 1 and line in said, said
    assert not is_healthy("127.0.0.1", int(port))


AUTH = '[auth]\nredirect_uri = "http://x/oauth2callback"\ncookie_secret = "c"\n'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (AUTH, "Authlib isn't installed"),
        ("[auth]\n", "lacks redirect_uri and"),
        ("[auth\n", "can't be read"),
    ],
)
def test_sign_in_that_cant_work_is_one_line_at_the_start(tmp_path: Path, monkeypatch, content: str, line: str):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(announcement.importlib.util, "find_spec", lambda name: None)
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(content)
    with pytest.raises(InputError, match=line) as error:
        announcement.check_sign_in(tmp_path, allow_list.AllowList())
    assert "\n" not in str(error.value)


def test_sign_in_that_can_work_is_said_with_whom_it_admits(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(announcement.importlib.util, "find_spec", lambda name: object())
    assert announcement.sign_in_words(tmp_path, allow_list.AllowList()) == ""
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(AUTH)
    announcement.check_sign_in(tmp_path, allow_list.AllowList())
    assert "EVERYBODY whom the provider knows" in announcement.sign_in_words(tmp_path, allow_list.AllowList())
    assert (
        announcement.sign_in_words(tmp_path, allow_list.parse("@lab.edu, a@x.org"))
        == "admits 1 address and everybody @lab.edu"
    )


# --- uploads into the workspace ---


@dataclass
class Upload:
    name: str
    size: int = 1

    def getbuffer(self) -> memoryview:
        return memoryview(bytes(self.size))


def test_uploads_have_a_number_and_a_share_of_the_disk(tmp_path: Path, monkeypatch):
    workspace = open_workspace(tmp_path / "workspace")
    with pytest.raises(InputError, match="at most 8"):
        uploads.store(workspace, [Upload(f"{number}.pt") for number in range(9)])
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    uploads.store(workspace, [Upload("a.pt", 60)])
    with pytest.raises(uploads.WorkspaceError, match="they may take"):
        uploads.store(workspace, [Upload("b.pt", 60)])
    assert uploads.store(workspace, [Upload("a.pt", 60)]).name == "a.pt"  # what is there already costs nothing


@pytest.mark.parametrize("name", ["x.py", "x.pt.exe", "../x.sh", "pt", ".pt", "x.PT\0.html"])
def test_another_kind_of_file_is_refused_by_name(name: str):
    with pytest.raises(InputError, match="isn't of a kind that is taken here"):
        uploads.check_kind([Upload(name)], ["zip", "tar"])
    uploads.check_kind([Upload("x.ZIP")], ["zip"])


# --- the document ---


def test_every_test_that_the_threat_table_names_exists():
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 20
    known: dict[str, set[str]] = {}
    for file, name in named:
        if file not in known:
            tree = ast.parse((ROOT / file).read_text())
            known[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in known[file], f"{file}::{name}"
