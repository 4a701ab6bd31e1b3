"""Uploads, before a byte of them is read: from sessions that were shown the place for them, so many, and not too much.

Streamlit takes a file from any open session into memory, up to ``server.maxUploadSize`` each, whatever is on its page.
"""

import re
import threading
from dataclasses import dataclass

import streamlit as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

MOST_FILES = 8  # of one session in memory at once
MOST_BYTES = 4 * 2**30  # of all sessions together, those on their way included
_PATH = re.compile(r"/_stcore/upload_file/([^/]+)/([^/]+)$")


@dataclass
class _Held:
    num_files: int = 0
    num_bytes: int = 0


_admitted: set[str] = set()
_coming: dict[tuple[str, str], int] = {}  # (session, file) -> bytes of uploads on their way
_lock = threading.Lock()


def admit() -> None:
    """The session that draws this may upload; called wherever a place for files is drawn."""
    context = get_script_run_ctx()
    if context is not None:
        _admitted.add(context.session_id)


class UploadGate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _PATH.search(scope["path"]) if scope["type"] == "http" and scope["method"] in ("PUT", "POST") else None
        if asked is None:
            await self.app(scope, receive, send)
            return
        session, file = asked.groups()
        length = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1")
        refused = _enter(session, file, length)
        if refused:
            await PlainTextResponse(refused[1], status_code=refused[0])(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            with _lock:
                _coming.pop((session, file), None)


def _enter(session: str, file: str, length: str) -> tuple[int, str] | None:
    """Status and reason of a refusal; else the upload is noted as on its way."""
    if not length.isdigit():
        return 411, "say how long the file is (Content-Length)"
    limit = st.get_option("server.maxUploadSize") * 2**20
    if int(length) > limit + 2**20:  # with the framing around it
        return 413, f"the file is larger than {limit / 2**30:g} GB; give its path instead"
    if session not in _admitted:
        return 403, "this session was not shown a place for files"
    with _lock:
        own, everybody = _held(session)
        if own.num_files >= MOST_FILES:
            return 429, f"{MOST_FILES} files of this session wait already; remove one first"
        if everybody.num_bytes + int(length) > MOST_BYTES:
            return 507, f"uploads of all sessions hold {everybody.num_bytes / 2**30:.1f} GB already; try again later"
        _coming[session, file] = int(length)
    return None


def _held(session: str) -> tuple[_Held, _Held]:
    """What this session and what all of them have in memory or on the way. Forgets sessions that have ended."""
    runtime = Runtime.instance()
    own, everybody = _Held(), _Held()
    storage = runtime.uploaded_file_mgr.file_storage
    for holder, files in list(storage.items()):
        for record in list(files.values()):
            _count(own, everybody, holder == session, len(record.data))
    for (holder, _), size in _coming.items():
        _count(own, everybody, holder == session, size)
    _admitted.intersection_update({one for one in list(_admitted) if runtime.is_active_session(one)} | {session})
    return own, everybody


def _count(own: _Held, everybody: _Held, is_own: bool, size: int) -> None:
    for held in (own, everybody) if is_own else (everybody,):
        held.num_files += 1
        held.num_bytes += size
