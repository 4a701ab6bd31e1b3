"""Starts EntPruner Studio: the engine worker and the web page, until Ctrl-C. Standard library only.

The children die with this process, also when it is killed outright (Linux), so no half of it is ever left behind.
"""

import argparse
import ctypes
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app.access import allow_list, announcement, lecture_key  # noqa: E402
from engine.errors import EngineError  # noqa: E402
from engine.runs.workspace import Workspace, open_workspace  # noqa: E402

STARTUP_SECONDS = 120  # a cold disk may need most of it; a warm one needs two
STOP_SECONDS = 4
PAGE_NICENESS = 10  # pages wait a little for the run beside them, not the run for them: docs/reliability.md
SETTLED_SECONDS = 10  # a worker that lived this long had started properly
MAX_RESTART_DELAY = 30.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Stopped(Exception):
    """A signal asked us to stop."""


def main() -> int:
    args = _parse_arguments()
    if args.check:
        return 0 if is_healthy("127.0.0.1", args.port) else 1
    taken = port_problem(args.address, args.port)
    if taken:
        print(taken, file=sys.stderr)
        return 2
    try:
        key = _settle_access(args)
        workspace = open_workspace(args.workspace)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    if _LIBC:  # a worker that the page started becomes our child when the page ends, so that we can end it too
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    children: dict[str, subprocess.Popen] = {}
    try:
        code = _serve(args, workspace, children, key=key)
    except Stopped:
        say("")
        code = 0
    finally:
        _stop_children(list(children.values()))
    say("EntPruner Studio has stopped")
    return code


def say(line: str, *, file: TextIO | None = None) -> None:
    """Prints; nobody listening any more (``python -m app | head``, a terminal that was closed) is no reason to stop."""
    file = file or sys.stdout
    try:
        print(line, file=file, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # the next ones, and Python's own flush at its end


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="Starts EntPruner Studio.")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument(
        "--address", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: only this one)"
    )
    parser.add_argument("--workspace", help="folder of runs and results (default: $ENTPRUNER_WORKSPACE or ./workspace)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: cuda where nvidia-smi answers, else cpu)")
    parser.add_argument(
        "--lecture",
        action="store_true",
        help="everybody may look; starting, stopping and changing work needs the key that is printed at the start",
    )
    parser.add_argument(
        "--allow",
        metavar="LIST",
        help="who may come in after signing in: ann@x.org,@lab.edu or a file of them (docs/security.md)",
    )
    parser.add_argument(
        "--check", action="store_true", help="only ask whether it answers at this port: exit code 0 or 1"
    )
    return parser.parse_args()


def _settle_access(args: argparse.Namespace) -> str | None:
    """Puts into the environment what the page must know, and returns the key of a lecture. Raises InputError."""
    if args.allow is not None:
        os.environ[allow_list.ALLOW] = args.allow
    os.environ[allow_list.ALLOW] = allow_list.absolute(os.environ.get(allow_list.ALLOW, ""))
    allowed = allow_list.from_environment()
    announcement.check_sign_in(ROOT, allowed)
    os.environ[announcement.CONFIGURED] = "1" if announcement.sign_in_words(ROOT, allowed) else ""
    return lecture_key.take_key(os.environ, lecture=args.lecture)


def _serve(
    args: argparse.Namespace, workspace: Workspace, children: dict[str, subprocess.Popen], *, key: str | None
) -> int:
    device = args.device or find_device()
    children["page"] = _start(
        _page_command(args.address, args.port), workspace, device, dies_by=signal.SIGKILL, niceness=PAGE_NICENESS,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    keep_worker = _worker_keeper(workspace, device, children)
    host = "127.0.0.1" if args.address in ("0.0.0.0", "::") else args.address
    announced, deadline = False, time.monotonic() + STARTUP_SECONDS
    while children["page"].poll() is None:
        keep_worker()
        if not announced and is_healthy(host, args.port):
            announced = True
            shown = "localhost" if host == "127.0.0.1" else host
            say(f"EntPruner Studio: http://{shown}:{args.port} (Ctrl-C stops it)")
            say(f"workspace {workspace.root}, engine on {device}")
            sign_in = announcement.sign_in_words(ROOT, allow_list.from_environment())
            for line in announcement.lines(args.address, args.port, key=key, sign_in=sign_in):
                say(line)
        if not announced and time.monotonic() > deadline:
            say(f"the page didn't answer within {STARTUP_SECONDS} s; stopping", file=sys.stderr)
            return 1
        time.sleep(0.5 if announced else 0.1)
    say(f"the page ended by itself (exit code {children['page'].returncode}); stopping", file=sys.stderr)
    return 1


def _page_command(address: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "streamlit", "run", "app/serve.py"),
        *("--server.address", address, "--server.port", str(port)),
        *("--server.headless", "true", "--browser.gatherUsageStats", "false", "--logger.level", "warning"),
        # else it asks the internet for its own address when it listens to all
        *("--browser.serverAddress", "localhost"),
        # a page of another host must not get at us by calling itself by our address (DNS rebinding)
        *(f"--server.allowedHosts={host}" for host in announcement.hosts(address)),
    ]


def _worker_keeper(workspace: Workspace, device: str, children: dict[str, subprocess.Popen]) -> Callable[[], None]:
    """A function to call again and again: starts the worker, and starts it anew after it has died."""
    command = [sys.executable, "-m", "engine", "worker", "--workspace", str(workspace.root), "--device", device]
    log = workspace.root / f"worker-{device.replace(':', '-')}.log"
    delay, started, due = 1.0, 0.0, 0.0

    def keep() -> None:
        nonlocal delay, started, due
        now, worker = time.monotonic(), children.get("worker")
        if worker is not None and worker.poll() is None:
            return
        if worker is not None and not due:
            lived = now - started
            delay = 1.0 if lived > SETTLED_SECONDS else min(2 * delay, MAX_RESTART_DELAY)
            # code 0 at once: another worker has this workspace and device; look again later in case it ends
            another = worker.returncode == 0 and lived < SETTLED_SECONDS
            due = now + (MAX_RESTART_DELAY if another else delay)
            if not another:
                say(f"the engine worker died (exit code {worker.returncode}, see {log}); new one in {delay:.0f} s")
        if now >= due:
            with open(log, "ab") as file:
                children["worker"] = _start(
                    command, workspace, device, dies_by=signal.SIGTERM, stdout=file, stderr=subprocess.STDOUT
                )
            started, due = now, 0.0

    return keep


def _start(
    command: list[str], workspace: Workspace, device: str, *, dies_by: signal.Signals, niceness: int = 0, **streams
) -> subprocess.Popen:
    """A child in a process group of its own, out of reach of the terminal's Ctrl-C, that dies when we do: the worker
    by SIGTERM, so that it can mark its run as interrupted, the page at once."""
    parent = os.getpid()

    def die_with_parent() -> None:
        os.nice(niceness)
        if _LIBC:
            _LIBC.prctl(PR_SET_PDEATHSIG, dies_by, 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    environment = {**os.environ, "ENTPRUNER_WORKSPACE": str(workspace.root), "ENTPRUNER_DEVICE": device}
    environment["ENTPRUNER_STARTER"] = str(parent)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **streams,
    )


def _stop(number: int, frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C must not cut the tidying short
    raise Stopped


def _stop_children(children: list[subprocess.Popen]) -> None:
    """Asks politely, waits, then kills; then the same for whatever the children have left to us."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 1)):
        deadline = time.monotonic() + seconds
        for pid in _own_children():
            os.kill(pid, number)
        while _own_children() and time.monotonic() < deadline:
            time.sleep(0.05)


def _own_children() -> list[int]:
    """Children that still run; those that have ended are reaped on the way. Linux only, elsewhere empty."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    if not file.exists():
        return []
    return [pid for pid in map(int, file.read_text().split()) if os.waitpid(pid, os.WNOHANG)[0] == 0]


def is_healthy(host: str, port: int) -> bool:
    """Whether Streamlit answers; unknown paths answer 200 as well, so the body decides."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().read(16).strip() == b"ok"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_problem(address: str, port: int) -> str | None:
    """One line for the user where we can't listen at this address, else None."""
    if not 0 < port < 65536:
        return f"port {port} is out of range; choose 1024 … 65535, for example: make app PORT=8502"
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a recent one may linger
            probe.bind((address, port))
    except OSError as error:
        if is_healthy("127.0.0.1" if address == "0.0.0.0" else address, port):
            reason = "a Streamlit app (perhaps this one) is running there already"
        else:
            reason = error.strerror or str(error)
        return f"can't listen at http://{address}:{port}: {reason}; choose another port: make app PORT={port + 1}"
    return None


def find_device() -> str:
    """cuda where the driver answers; torch isn't asked, because importing it takes seconds."""
    if not shutil.which("nvidia-smi"):
        return "cpu"
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "cuda" if answer.returncode == 0 and "GPU" in answer.stdout else "cpu"


if __name__ == "__main__":
    sys.exit(main())
