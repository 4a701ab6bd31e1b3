"""The front end goes compressed to whoever takes it so, once compressed for all; everything else as it is."""

import asyncio
import gzip
from typing import Any

import pytest

from app.compressed import CompressedFrontEnd

FILE = b"let words = 'again and again';\n" * 200
SCRIPT = "/static/js/index.abc123.js"
KEPT = {"content-type": "application/javascript", "cache-control": "public, immutable", "etag": '"1"'}


class FrontEnd:
    """What stands behind: answers slowly, counts how often it was asked."""

    def __init__(self, *, status: int = 200, body: bytes = FILE, fails: int = 0, **headers: str) -> None:
        self.status, self.body, self.fails, self.asked = status, body, fails, 0
        self.headers = KEPT | {name.replace("_", "-"): value for name, value in headers.items()}

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.asked <= self.fails:
            raise OSError("the disk is gone")
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for start in range(0, len(self.body), 1000):
            await send({"type": "http.response.body", "body": self.body[start : start + 1000], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def ask(app: CompressedFrontEnd, path: str = SCRIPT, method: str = "GET", **headers: str) -> tuple[dict, bytes]:
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": lines}, None, send)
    said = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return said, b"".join(message.get("body", b"") for message in sent[1:])


def test_a_class_that_comes_at_once_has_each_file_compressed_once() -> None:
    behind = FrontEnd(accept_ranges="bytes", content_length=str(len(FILE)))
    app = CompressedFrontEnd(behind)

    async def crowd() -> list[tuple[dict, bytes]]:
        return await asyncio.gather(*(ask(app, accept_encoding="gzip, deflate, br") for _ in range(40)))

    answers = asyncio.run(crowd())
    assert behind.asked == 1
    for headers, body in answers:
        assert gzip.decompress(body) == FILE and len(body) < len(FILE) / 10
        assert headers["content-encoding"] == "gzip" and headers["content-length"] == str(len(body))
        assert headers["vary"] == "Accept-Encoding" and headers["etag"] == 'W/"1"' and "accept-ranges" not in headers


@pytest.mark.parametrize(
    "request_", [
        {}, {"accept_encoding": "br"}, {"accept_encoding": "gzip;q=0"}, {"accept_encoding": "gzip;q=0.0, br"},
        {"accept_encoding": "gzip", "range": "bytes=0-9"}, {"accept_encoding": "gzip", "if_none_match": '"1"'},
        {"accept_encoding": "gzip", "method": "HEAD"}, {"accept_encoding": "gzip", "path": "/media/upload.js"},
        {"accept_encoding": "gzip", "path": "/static/media/font.woff2"},
    ],
)  # fmt: skip
def test_whoever_does_not_take_it_so_gets_it_as_it_is(request_: dict) -> None:
    headers, body = asyncio.run(ask(CompressedFrontEnd(FrontEnd()), **request_))
    assert body == FILE and "content-encoding" not in headers


@pytest.mark.parametrize(
    "behind", [
        FrontEnd(status=404), FrontEnd(content_type="text/html"), FrontEnd(cache_control="no-cache"),
        FrontEnd(body=b"short"), FrontEnd(content_encoding="br"),
    ],
)  # fmt: skip
def test_what_may_change_or_is_not_there_is_not_kept(behind: FrontEnd) -> None:
    app = CompressedFrontEnd(behind)
    for _ in range(2):
        headers, body = asyncio.run(ask(app, accept_encoding="gzip"))
        assert body == behind.body and headers.get("content-encoding") in (None, "br")
    assert not app._kept


def test_a_failure_is_not_remembered() -> None:
    app = CompressedFrontEnd(FrontEnd(fails=1))

    async def twice() -> bytes:
        with pytest.raises(OSError, match="the disk is gone"):
            await ask(app, accept_encoding="gzip")
        return (await ask(app, accept_encoding="gzip"))[1]

    assert gzip.decompress(asyncio.run(twice())) == FILE


def test_a_visitor_who_leaves_does_not_take_the_file_from_the_others() -> None:
    behind = FrontEnd()
    app = CompressedFrontEnd(behind)

    async def leave_and_stay() -> bytes:
        leaves = asyncio.ensure_future(ask(app, accept_encoding="gzip"))
        await asyncio.sleep(0.001)
        stays = asyncio.ensure_future(ask(app, accept_encoding="gzip"))
        await asyncio.sleep(0.001)
        leaves.cancel()
        return (await stays)[1]

    assert gzip.decompress(asyncio.run(leave_and_stay())) == FILE and behind.asked == 1
