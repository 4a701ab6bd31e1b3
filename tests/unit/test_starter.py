"""``python -m app`` as a user meets it: real processes on a free port."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.visitor import open_visitor, run_to_end

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "app", "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def started(port, tmp_path) -> Iterator[subprocess.Popen]:
    """A starter that has announced its address."""
    process = start("--port", port, "--workspace", tmp_path / "workspace")
    assert process.stdout.readline().startswith(f"EntPruner Studio: http://localhost:{port} ")
    yield process
    process.kill()
    process.wait()
    for pid in processes_of(tmp_path):  # whatever a failing test has left
        os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Every living process, wherever it belongs, whose environment names a workspace in this folder."""
    wanted = f"ENTPRUNER_WORKSPACE={folder}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes():  # empty for a zombie
                found.append(int(environment.parent.name))
        except OSError:
            continue
    return found


def wait_until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def worker_of(folder: Path) -> int | None:
    for pid in processes_of(folder):
        if b"engine\0worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["ctrl-c", "term", "hangup"])
def test_it_answers_and_stops_without_leaving_a_process(started, port, tmp_path, number):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/_stcore/health")
    assert connection.getresponse().read() == b"ok"
    assert wait_until(lambda: worker_of(tmp_path) is not None)
    check = subprocess.run([sys.executable, "-m", "app", "--check", "--port", str(port)], cwd=ROOT)
    assert check.returncode == 0
    started.send_signal(number)
    assert started.wait(10) == 0
    assert started.stdout.read().endswith("EntPruner Studio has stopped\n")
    assert processes_of(tmp_path) == []


def test_listening_to_all_addresses_asks_nobody_for_ours(port, tmp_path):
    """Streamlit left alone would ask the internet for its address, and complain where there is none."""
    process = start("--port", port, "--address", "0.0.0.0", "--workspace", tmp_path / "workspace")
    try:
        assert process.stdout.readline().startswith(f"EntPruner Studio: http://localhost:{port} ")
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_children_die_with_a_killed_starter(started, tmp_path):
    assert wait_until(lambda: len(processes_of(tmp_path)) >= 2)
    started.kill()
    assert wait_until(lambda: processes_of(tmp_path) == [])


def test_a_dead_worker_is_replaced(started, tmp_path):
    assert wait_until(lambda: worker_of(tmp_path) is not None)
    first = worker_of(tmp_path)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: worker_of(tmp_path) not in (None, first))
    assert "the engine worker died (exit code -9" in "".join(started.stdout.readline() for _ in range(2))
    started.send_signal(signal.SIGINT)
    assert started.wait(10) == 0
    assert processes_of(tmp_path) == []


def test_the_page_gives_way_to_the_worker_and_starts_none_of_its_own(started, port, tmp_path):
    assert wait_until(lambda: worker_of(tmp_path) is not None)
    run_to_end(look(port))
    by_word = {word: [] for word in (b"streamlit", b"engine\0worker")}
    for pid in processes_of(tmp_path):
        for word, pids in by_word.items():
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
    (page,), (worker,) = by_word.values()
    niceness = {pid: os.getpriority(os.PRIO_PROCESS, pid) for pid in (page, worker)}
    assert niceness[page] == min(19, niceness[worker] + 10)
    assert Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1] == str(started.pid)


async def look(port: int) -> None:
    async with open_visitor(port) as visitor:
        page = await visitor.visit("")
        assert "Which blocks" in page.words and not page.errors


def test_what_a_child_leaves_behind_is_ended_too(tmp_path):
    """As when the page started a worker, which has a session of its own."""
    code = (
        "import subprocess, time, app.__main__ as starter\n"
        "starter._LIBC.prctl(starter.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)\n"
        "child = subprocess.Popen(['bash', '-c', 'setsid sleep 60 & exec sleep 60'])\n"
        "time.sleep(0.5)\n"
        "starter._stop_children([child])\n"
    )
    environment = {**os.environ, "ENTPRUNER_WORKSPACE": str(tmp_path)}
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment).returncode == 0
    assert processes_of(tmp_path) == [] and time.monotonic() - started < 10


def test_a_busy_port_is_one_line(port, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        process = start("--port", port, "--workspace", tmp_path / "workspace")
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert output.count("\n") == 1
    assert f"can't listen at http://127.0.0.1:{port}: Address already in use" in output
    assert f"make app PORT={port + 1}" in output
    assert not (tmp_path / "workspace").exists()


def test_a_workspace_that_cannot_be_made_is_one_line(port, tmp_path):
    (tmp_path / "file").write_text("")
    process = start("--port", port, "--workspace", tmp_path / "file" / "workspace")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert output.count("\n") == 1 and str(tmp_path / "file") in output


def test_check_fails_where_nothing_answers(port):
    assert subprocess.run([sys.executable, "-m", "app", "--check", "--port", str(port)], cwd=ROOT).returncode == 1


def test_the_starter_itself_imports_neither_torch_nor_streamlit():
    code = "import sys, app.__main__; sys.exit(not {'torch', 'streamlit', 'numpy'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nobody_listening_is_no_reason_to_stop_nor_to_fail(started, tmp_path):
    assert wait_until(lambda: worker_of(tmp_path) is not None)
    started.stdout.close()  # as of python -m app | head -1
    first = worker_of(tmp_path)
    os.kill(first, signal.SIGKILL)  # of which it tells
    assert wait_until(lambda: worker_of(tmp_path) not in (None, first))
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=120) == 0
