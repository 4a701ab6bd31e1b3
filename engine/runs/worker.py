"""The worker: one process per device that answers previews itself and gives each run a process of its own.

A loop over the table of requests. Nothing that it holds in memory is needed by anyone: kill it at any moment and the
next one finds the run folders as they are. Torch comes in while nobody waits for anything, into this process and
into the one that stands by for the next run.
"""

import logging
import os
import secrets
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from engine.errors import EngineError
from engine.runs import queue
from engine.runs.child import Child, one_line, start_child
from engine.runs.device_lock import device_lock, lock_file
from engine.runs.queue import PreviewRequest
from engine.runs.recovery import recover
from engine.runs.standby import COMMAND as STANDBY_COMMAND
from engine.runs.standby import Standby, load_gently
from engine.runs.store import Run
from engine.runs.table import table_mark
from engine.runs.workers import HEARTBEAT_SECONDS, WorkerInfo, beat, remove_worker
from engine.runs.workspace import Workspace, encode_json, writing

POLL_SECONDS = 0.1
PRESS_SECONDS = 0.2  # between two looks whether the run at work was cancelled
ASK_ANYWAY_SECONDS = 1.0  # a file system's clock may be too coarse to show two writes as two
SIGNAL_GRACE_SECONDS = 1.0  # for the loop to end by itself when the worker is told to stop
RECOVER_SECONDS = 60.0
QUIET_SECONDS = 4.0  # without a request; then torch is loaded: not while the first page is on its way
STANDBY_SECONDS = 900.0  # without a request; then the process that stands by ends, and its memory is free

logger = logging.getLogger("engine.worker")


def run_worker(
    workspace: Workspace,
    *,
    device: str = "cpu",
    once: bool = False,
    idle_exit: float | None = None,
    run_command: Sequence[str] = (sys.executable, "-m", "engine", "run"),
    standby_command: Sequence[str] | None = STANDBY_COMMAND,
) -> None:
    """Works until told to stop; a signal ends the whole process, with code 0. Ends quietly at once when another
    worker has the device.

    ``once``: ends when nothing waits any more. ``idle_exit``: ends after so many seconds without a request. A run is
    given its folder, ``--device`` and ``device`` as arguments: of ``run_command``, or through the process that stands
    by (``standby_command``, None for none of that). Raises WorkspaceError.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with device_lock(workspace, device) as lock:
        if lock is None:
            logger.info("another worker has %s; nothing to do", device)
            return
        standby = Standby(standby_command)
        worker = _Worker(workspace, device=device, lock=lock, run_command=run_command, standby=standby)
        with worker.heartbeat(), worker.signals():
            worker.work(once=once, idle_exit=idle_exit)
    if worker.signalled:
        logging.shutdown()
        os._exit(0)  # all is tidy; the interpreter would take two more seconds to put torch away


class _Worker:
    def __init__(
        self, workspace: Workspace, *, device: str, lock: int, run_command: Sequence[str], standby: Standby
    ) -> None:
        self.workspace = workspace
        self.device = device
        self.lock = lock
        self.run_command = tuple(run_command)
        self.standby = standby
        self.worker_id = f"{device}-{secrets.token_hex(4)}"
        self.doing = ""
        self.beating = threading.Lock()
        self.child: Child | None = None
        self.warm = False
        self.table_mark: tuple | None = None
        self.last_asked = 0.0
        self.complaint = ""
        self.signalled = False
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self.wake_up, self.wake_up_writer = os.pipe()
        os.set_blocking(self.wake_up_writer, False)  # a signal handler must not wait

    def work(self, *, once: bool, idle_exit: float | None) -> None:
        last_request = time.monotonic()
        last_recovery = -RECOVER_SECONDS
        logger.info("worker for %s on %s", self.device, self.workspace.root)
        try:
            while not self.stopping.is_set():
                try:
                    if time.monotonic() - last_recovery >= RECOVER_SECONDS:
                        self.beat()  # the machine may have slept: we are alive
                        recover(self.workspace, self.worker_id)
                        last_recovery = time.monotonic()
                    busy = self.step()
                    self.complaint = ""
                except EngineError as error:  # a full disk may be emptied: keep what we have and try again
                    self.complain(error)
                    self.stopping.wait(1.0)
                    continue
                if busy or self.child:
                    last_request = time.monotonic()
                elif once or (idle_exit is not None and time.monotonic() - last_request >= idle_exit):
                    return
                else:
                    self.prepare(time.monotonic() - last_request)
                if not busy:
                    self.stopping.wait(POLL_SECONDS)
        finally:
            self.end()

    def step(self) -> bool:
        """One look at everything; True if there was something to do."""
        if self.child:
            self.watch_child()
        mark, now = table_mark(self.workspace), time.monotonic()
        if mark == self.table_mark and now - self.last_asked < ASK_ANYWAY_SECONDS:
            return False
        self.table_mark, self.last_asked = mark, now
        num_previews, num_runs = queue.num_waiting(self.workspace)
        if num_previews and (request := queue.claim_next_preview(self.workspace, self.worker_id)):
            self.now_doing(self.doing or "preview")
            queue.finish_preview(self.workspace, request.key, self.answer(request))
            self.now_doing(self.child.run.id if self.child else "")
            return True
        if num_runs and not self.child and (run := queue.claim_next_run(self.workspace, self.worker_id)):
            self.start(run)
            return True
        return False

    def answer(self, request: PreviewRequest) -> dict:
        try:
            from engine.runs.previews import answer_preview

            with writing(request.folder):
                request.folder.mkdir(parents=True, exist_ok=True)
            answer = answer_preview(request.kind, request.params, folder=request.folder, device=self.device)
            encode_json(answer)  # so that one which can't be written is found out here
            return {"state": "done", "error": None} | answer
        except EngineError as error:
            return {"state": "failed", "error": str(error)}
        except Exception as error:  # our own defect: it must not cost the user the worker and the run beside it
            logger.exception("preview %s of kind %s with %s", request.key, request.kind, request.params)
            return {
                "state": "failed",
                "error": f"internal error: {type(error).__name__}: {one_line(error)} (see worker log)",
            }

    def prepare(self, quiet: float) -> None:
        """What the next request will need, begun while nobody waits; ``quiet``: seconds since the last one."""
        if quiet >= STANDBY_SECONDS:
            self.standby.end()
        elif quiet >= QUIET_SECONDS:
            if self.standby.is_wanted:
                self.standby.make()
            if not self.warm:
                self.warm = True
                load_gently("engine.runs.previews")

    def start(self, run: Run) -> None:
        self.now_doing(run.id)
        try:
            arguments = [str(run.path), "--device", self.device]
            self.child = start_child(run, arguments, command=self.run_command, standby=self.standby)
        except EngineError as error:  # deleted since it was claimed, or no space: recover() sees to it
            logger.error("run %s can't begin: %s", run.id, error)
            self.now_doing("")
            return
        logger.info("run %s begins as process %s", run.id, self.child.process.pid)

    def watch_child(self) -> None:
        if self.child.process.poll() is not None:
            self.settle(self.child)

    def settle(self, child: Child) -> None:
        """For a child that has ended. May be called again if it fails."""
        child.close()
        queue.finish_run(self.workspace, child.run.id, worker_id=self.worker_id)
        self.child = None
        self.now_doing("")
        logger.info("run %s ended with code %s", child.run.id, child.process.returncode)

    def now_doing(self, what: str) -> None:
        self.doing = what
        self.beat()

    def beat(self) -> None:
        with self.beating:  # the loop and the heartbeat both come here: the later word must win
            beat(
                self.workspace,
                WorkerInfo(
                    worker_id=self.worker_id,
                    pid=os.getpid(),
                    device=self.device,
                    heartbeat=time.time(),
                    doing=self.doing,
                ),
            )

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        thread = threading.Thread(target=self.keep_beating, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            os.write(self.wake_up_writer, b"\0")
            thread.join()
            os.close(self.wake_up)
            os.close(self.wake_up_writer)

    def keep_beating(self) -> None:
        """Also the one that notices, while a preview holds the loop, that the worker or the run beside it has to
        stop."""
        last = -HEARTBEAT_SECONDS
        while not self.ended.is_set():
            now = time.monotonic()
            if now - last >= HEARTBEAT_SECONDS and not self.stopping.is_set():
                last = now
                self.show_life()
            self.press_child()
            told, _, _ = select.select([self.wake_up], [], [], min(PRESS_SECONDS, HEARTBEAT_SECONDS))
            if told and not self.ended.is_set():
                self.stopping.set()
            if self.stopping.is_set() and not self.ended.wait(SIGNAL_GRACE_SECONDS):
                self.end()
                os._exit(0)  # the loop is deep in a computation: nothing of it is worth waiting for

    def show_life(self) -> None:
        try:
            self.beat()
        except EngineError as error:
            self.complain(error)
        if not self.holds_lock():
            logger.error("%s was replaced or removed; stopping", self.workspace.root)
            self.stopping.set()

    def press_child(self) -> None:
        child = self.child
        if child and child.run.cancel_requested and child.process.poll() is None:
            child.press()

    def complain(self, error: EngineError) -> None:
        """Once, not every second: the log may be on the disk that is full."""
        if str(error) != self.complaint:
            logger.error("%s", error)
        self.complaint = str(error)

    def holds_lock(self) -> bool:
        try:
            return os.path.samestat(os.stat(lock_file(self.workspace, self.device)), os.fstat(self.lock))
        except FileNotFoundError:
            return False

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Signals go through a pipe that the heartbeat reads, as the loop may be too busy to look."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def told_to_stop(number: int, frame: FrameType | None) -> None:
            self.signalled = True
            self.stopping.set()

        before = {number: signal.signal(number, told_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        pipe_before = signal.set_wakeup_fd(self.wake_up_writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(pipe_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self) -> None:
        """Leaves nothing behind: no process, no row in the table."""
        child = self.child
        self.standby.end()
        try:
            if child:
                child.kill()
                self.settle(child)
            remove_worker(self.workspace, self.worker_id)
        except EngineError as error:
            logger.error("%s", error)
        logger.info("worker for %s ends", self.device)
