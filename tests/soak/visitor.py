"""A visitor without a browser: one WebSocket, spoken to as Streamlit's own front end speaks, timers included.

Streamlit 1.67: the client sends BackMsg, the server ForwardMsg, both protobuf. A page is there when its script has
finished. What polls (``st.fragment(run_every=…)``) is polled here too, as it is part of the load.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

_LARGEST = 200 * 2**20  # bytes of a message, as Streamlit's own limit
_EARLY = ForwardMsg.ScriptFinishedStatus.FINISHED_EARLY_FOR_RERUN
_FRAGMENT = ForwardMsg.ScriptFinishedStatus.FINISHED_FRAGMENT_RUN_SUCCESSFULLY


def run_to_end(visit: Coroutine) -> Any:
    """In a thread of its own: Playwright's event loop, of a browser test before this one, may still run in ours."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, visit).result()


@dataclass
class Page:
    """What a script run sent."""

    seconds: float = 0.0  # from the question to the last byte of the answer
    num_bytes: int = 0
    words: str = ""  # all text that stands on it
    errors: list[str] = field(default_factory=list)  # tracebacks and red boxes


class Visitor:
    """One session. ``open`` is the only way to make one."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ticks: list[float] = []  # seconds that polls took
        self.errors: list[str] = []  # outside of a page's own run
        self.session_id = ""
        self.page_hash = ""
        self.query = ""
        self._widgets: dict[str, WidgetState] = {}
        self._timers: dict[str, asyncio.Task] = {}
        self._asked: dict[str, float] = {}  # fragment -> when it was asked last
        self._page: Page | None = None
        self._done = asyncio.Event()

    async def visit(self, name: str, *, timeout: float = 60.0, **query: str) -> Page:
        """A click in the menu, or a link with choices in it. Raises TimeoutError."""
        for timer in self._timers.values():
            timer.cancel()  # as a page that is left stops polling
        self._timers.clear()
        self._widgets.clear()
        self.query = urlencode(query)
        return await self._run(timeout=timeout, page_name=name)

    async def set(self, widget: WidgetState, *, timeout: float = 60.0) -> Page:
        """A click on a widget, whose state is kept as the browser keeps it."""
        self._widgets[widget.id] = widget
        return await self._run(timeout=timeout, page_script_hash=self.page_hash)

    async def _run(self, *, timeout: float, **where: str) -> Page:
        self._page, self._done = Page(), asyncio.Event()
        started = time.monotonic()
        await self._ask(**where)
        await asyncio.wait_for(self._done.wait(), timeout)
        page, self._page = self._page, None
        page.seconds = time.monotonic() - started
        return page

    async def _ask(self, **where: str) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string = self.query
        state.context_info.timezone, state.context_info.locale = "UTC", "en"
        state.widget_states.widgets.extend(self._widgets.values())
        for name, value in where.items():
            setattr(state, name, value)
        await self.socket.send(message.SerializeToString())

    async def listen(self) -> None:
        """Until the connection ends."""
        async for data in self.socket:
            message = ForwardMsg()
            message.ParseFromString(data)
            self._take(message, len(data))

    def _take(self, message: ForwardMsg, num_bytes: int) -> None:
        kind = message.WhichOneof("type")
        if self._page:
            self._page.num_bytes += num_bytes
        if kind == "new_session":
            self.session_id = message.new_session.initialize.session_id
            self.page_hash = message.new_session.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta":
            self._take_delta(message)
        elif kind == "auto_rerun":
            self._start_timer(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "session_event" and message.session_event.WhichOneof("type") == "script_compilation_exception":
            self.errors.append(message.session_event.script_compilation_exception.message)
        elif kind == "script_finished":
            self._take_end(message.script_finished)

    def _take_delta(self, message: ForwardMsg) -> None:
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind is None:
            return
        said = getattr(element, kind)
        words = " ".join(str(getattr(said, name)) for name in ("body", "value", "label") if hasattr(said, name))
        wrong = kind == "exception" or (kind == "alert" and said.format == said.Format.ERROR)
        if wrong:
            (self._page.errors if self._page else self.errors).append(words if kind == "alert" else said.message)
        if self._page:
            self._page.words += words + "\n"

    def _take_end(self, status: int) -> None:
        if status == _FRAGMENT:
            now = time.monotonic()
            self.ticks += [now - asked for asked in self._asked.values()]
            self._asked.clear()
        elif status != _EARLY:  # else another run of the same page follows
            self._done.set()

    def _start_timer(self, fragment_id: str, interval: float) -> None:
        if fragment_id in self._timers:
            self._timers[fragment_id].cancel()
        self._timers[fragment_id] = asyncio.create_task(self._poll(fragment_id, interval))

    async def _poll(self, fragment_id: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            if self._page is None:
                self._asked.setdefault(fragment_id, time.monotonic())
                await self._ask(page_script_hash=self.page_hash, fragment_id=fragment_id, is_auto_rerun=True)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()


@asynccontextmanager
async def open_visitor(port: int, *, origin: str | None = None) -> AsyncIterator[Visitor]:
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    origin = origin or f"http://127.0.0.1:{port}"
    async with connect(address, subprotocols=["streamlit"], origin=origin, max_size=_LARGEST) as socket:
        visitor = Visitor(socket)
        listening = asyncio.create_task(visitor.listen())
        try:
            yield visitor
        finally:
            visitor.stop()
            listening.cancel()
