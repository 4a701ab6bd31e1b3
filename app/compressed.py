"""Streamlit's front end, sent compressed: a class on one wireless network loads it all at once.

Streamlit leaves this to a proxy in front of it, so as not to compress each file for each visitor. Here a file is
compressed once, when it is first asked for: its name holds a hash of its content, so it never changes.
"""

import asyncio
import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ENDINGS = (".js", ".css", ".svg", ".json")
_KINDS = ("application/javascript", "text/javascript", "text/css", "image/svg+xml", "application/json")
_LEAST = 1024  # bytes, below which nothing is won
_MOST = 64 * 2**20  # bytes kept, compressed; the whole front end takes about a tenth
_LEVEL = 6


class CompressedFrontEnd:
    """ASGI middleware. Keeps what it has compressed in memory; what it doesn't know how to handle passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: dict[str, asyncio.Task[list[Message]]] = {}  # answers by path; empty where it isn't to be kept
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive) if _asks_for_it(scope) else []
        if not answer:
            await self.app(scope, receive, send)
        for message in answer:
            # outer middleware adds to the headers of what it is given
            await send({**message, "headers": list(message["headers"])} if "headers" in message else message)

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        """Visitors who come at the same time wait for the same work; one who leaves doesn't end it for the others."""
        path = scope["path"]
        if path not in self._kept:
            self._kept[path] = asyncio.ensure_future(self._compressed(scope, receive))
        task = self._kept[path]
        answer: list[Message] = []
        try:
            answer = await asyncio.shield(task)
        finally:
            if task.done() and not answer and self._kept.get(path) is task:
                del self._kept[path]  # another time it may be there
        return answer

    async def _compressed(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def take(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, take)
        start, body = messages[0], b"".join(message.get("body", b"") for message in messages[1:])
        headers = MutableHeaders(raw=list(start.get("headers", [])))
        if start.get("status") != 200 or not _can_be_kept(headers) or len(body) < _LEAST or self._size > _MOST:
            return []
        packed = await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)
        self._size += len(packed)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(packed))
        headers.add_vary_header("Accept-Encoding")
        del headers["Accept-Ranges"]
        if "etag" in headers:
            headers["ETag"] = f"W/{headers['etag'].removeprefix('W/')}"  # the same content in other bytes
        return [{**start, "headers": headers.raw}, {"type": "http.response.body", "body": packed}]


def _asks_for_it(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    if "/static/" not in scope["path"] or not scope["path"].endswith(_ENDINGS):
        return False
    headers = Headers(scope=scope)
    # a part of a file, or whether it is still the same, is Streamlit's to say
    if "range" in headers or "if-none-match" in headers or "if-modified-since" in headers:
        return False
    return any(_accepts(part) for part in headers.get("accept-encoding", "").lower().split(","))


def _accepts(part: str) -> bool:
    """``gzip`` or ``gzip;q=0.5``, not ``gzip;q=0``"""
    name, _, quality = part.replace(" ", "").partition(";q=")
    return name in ("gzip", "*") and quality.strip("0.") != "" if quality else name == "gzip"


def _can_be_kept(headers: Headers) -> bool:
    """Of a kind that becomes smaller, and of a name that stands for this content for ever."""
    kind = headers.get("content-type", "").partition(";")[0]
    return kind in _KINDS and "immutable" in headers.get("cache-control", "") and "content-encoding" not in headers
