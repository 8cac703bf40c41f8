"""A place for each kind of source, so that one suite can put the same documents into all of them."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from aiohttp import web

from knowledge_base.aws import Aws
from knowledge_base.sources.base import Source
from knowledge_base.sources.bucket import Bucket
from knowledge_base.sources.folder import Folder
from knowledge_base.sources.pages import Pages
from knowledge_base.sources.uploads import Upload, Uploads

MAX_BYTES = 1000


class Stand(Protocol):
    """Documents by name, and a source over them."""

    def source(self) -> Source: ...

    async def put(self, name: str, content: bytes) -> None: ...

    async def remove(self, name: str) -> None: ...


@dataclass
class FolderStand:
    folder: Path

    def source(self) -> Source:
        return Folder(self.folder, max_bytes=MAX_BYTES)

    async def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # A stamp is given once no further write could leave the same one.
        while any([not found.stamp async for found in self.source().list() if found.doc_id == name]):
            await asyncio.sleep(0.005)

    async def remove(self, name: str) -> None:
        (self.folder / name).unlink()


@dataclass
class BucketStand:
    endpoint: str
    bucket: str = field(default_factory=lambda: f"kb-{uuid4().hex[:12]}")
    prefix: str = "docs"

    def source(self) -> Source:
        return Bucket(
            f"s3://{self.bucket}/{self.prefix}", max_bytes=MAX_BYTES, aws=Aws("s3", endpoint_url=self.endpoint)
        )

    async def make(self) -> None:
        await self._send("PUT", "")

    async def put(self, name: str, content: bytes) -> None:
        await self._send("PUT", f"/{self.prefix}/{quote(name)}", content)

    async def remove(self, name: str) -> None:
        await self._send("DELETE", f"/{self.prefix}/{quote(name)}")

    async def _send(self, method: str, path: str, content: bytes = b"") -> None:
        aws = Aws("s3", endpoint_url=self.endpoint)
        await aws.open()
        url = f"{aws.url}/{self.bucket}{path}"
        headers = await aws.headers(method, url, content, {"content-type": "text/plain"})
        async with aiohttp.ClientSession() as session, session.request(method, url, data=content, headers=headers) as r:
            assert r.status < 300, await r.text()


@dataclass
class PagesStand:
    site: Site
    names: list[str] = field(default_factory=list)

    def source(self) -> Source:
        urls = [f"{self.site.url}/{quote(name)}" for name in self.names]
        return Pages(urls, max_bytes=MAX_BYTES, allowed_hosts=["127.0.0.1"])

    async def put(self, name: str, content: bytes) -> None:
        if name not in self.names:
            self.names.append(name)
        self.site.pages["/" + name] = content

    async def remove(self, name: str) -> None:
        del self.site.pages["/" + name]


@dataclass
class UploadsStand:
    documents: dict[str, bytes] = field(default_factory=dict)

    def source(self) -> Source:
        return Uploads([Upload(n, n.rpartition("/")[2], c) for n, c in self.documents.items()], max_bytes=MAX_BYTES)

    async def put(self, name: str, content: bytes) -> None:
        self.documents[name] = content

    async def remove(self, name: str) -> None:
        del self.documents[name]


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """A web server of this test: contents by path, with entity tags; or whatever `answers` says."""

    url: str
    pages: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}))
        if special := self.answers.get(request.path):
            return await special(request)
        if (content := self.pages.get(request.path)) is None:
            raise web.HTTPNotFound
        tag = f'"{hash(content)}"'
        if request.headers.get("if-none-match") == tag:
            return web.Response(status=304)
        return web.Response(body=content, headers={"etag": tag, "content-type": "text/markdown"})


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """A site on a port of its own."""
    site = Site("")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield site
    finally:
        await runner.cleanup()


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3, in a thread of this process; its address."""
    from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[attr-defined]
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            pass

    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def gzipped(content: bytes) -> bytes:
    """Without the time of day in it."""
    return gzip.compress(content, mtime=0)
