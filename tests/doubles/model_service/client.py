"""The test's side: a server process, and lanes of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.doubles.model_service.embedding_form import Vectors
from tests.doubles.model_service.quirks import refuse_on
from tests.doubles.model_service.script import WIRES, Reply, ScriptError, Wire

CHECKOUT = Path(__file__).parents[3]
BASES: dict[Wire, str] = {"openai": "openai/v1"}
LISTINGS = ("/v1/models", "/models", "/api/tags", "/api/show")


@dataclass(frozen=True)
class Request:
    """What came. `path` begins after the wire's part of it; `headers` have lower-case names.

    `problems` is what the provider would refuse in the body, found whether the lane is strict or not.
    """

    wire: Wire
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    problems: list[str]

    @property
    def is_listing(self) -> bool:
        """Whether it asks about models, not for an answer."""
        return self.path.split("?")[0] in LISTINGS


@dataclass(frozen=True)
class Streams:
    """Answers that are being written now, that the client left before their end, and that went as scripted."""

    open: int
    cut_off: int
    finished: int


class Lane:
    """One test's part of the server: its own base addresses, script and record."""

    def __init__(self, service: ModelService, lane_id: str, wire: Wire | None) -> None:
        """Made by `ModelService.lane`."""
        self._service, self.id, self._wire = service, lane_id, wire

    def url(self, wire: Wire) -> str:
        """The base address that a client of this wire is given."""
        if wire not in WIRES:
            raise ScriptError(f"unknown wire {wire!r}; known: {', '.join(WIRES)}")
        return f"{self._service.url}/{self.id}/{BASES.get(wire, wire)}"

    async def script(self, *replies: Reply, repeat_last: bool = False) -> None:
        """These replies from now on, in place of those left; `repeat_last` keeps the last one (of each `matching`).

        Raises:
            ScriptError: the lane is of one wire, and a quirk makes no sense on it.
        """
        for reply in replies:
            if self._wire and (problem := refuse_on(self._wire, reply.quirks)):
                raise ScriptError(problem)
        body = {"replies": [reply.to_json() for reply in replies], "repeat_last": repeat_last}
        await self._service.call("PUT", f"/_lanes/{self.id}", body)

    async def script_vectors(self, *answers: Vectors) -> None:
        """Requests for vectors are answered so; the last answer stays."""
        await self._service.call("PUT", f"/_lanes/{self.id}/vectors", {"answers": [each.to_json() for each in answers]})

    async def most_at_once(self) -> int:
        """How many requests for vectors were being answered at one time, at most."""
        return int((await self._service.call("GET", f"/_lanes/{self.id}"))["most_at_once"])

    async def requests(self, *, listings: bool = False) -> list[Request]:
        """The requests for an answer in order of arrival, refused ones too; with `listings`, those about models too."""
        state = await self._service.call("GET", f"/_lanes/{self.id}?requests=all")
        came = [Request(**request) for request in state["requests"]]
        return came if listings else [request for request in came if not request.is_listing]

    async def bodies(self) -> list[Any]:
        """Only the bodies."""
        return [request.body for request in await self.requests()]

    async def left(self) -> int:
        """How many replies were not asked for yet."""
        return int((await self._service.call("GET", f"/_lanes/{self.id}"))["left"])

    async def open_streams(self) -> Streams:
        """How many answers are being written, were left by the client, went to their scripted end."""
        return Streams(**(await self._service.call("GET", f"/_lanes/{self.id}"))["streams"])

    async def until(
        self, *, open: int | None = None, cut_off: int | None = None, finished: int | None = None, within_s: float = 5.0
    ) -> Streams:
        """Wait for these numbers of streams; `TimeoutError` tells the last ones."""
        wanted = {"open": open, "cut_off": cut_off, "finished": finished}
        deadline = time.monotonic() + within_s
        while True:
            streams = await self.open_streams()
            if all(value is None or getattr(streams, name) == value for name, value in wanted.items()):
                return streams
            if time.monotonic() > deadline:
                raise TimeoutError(f"wanted {wanted}, still {streams}")
            await asyncio.sleep(0.005)


class ModelService:
    """A running server. Use it in the event loop that it was opened in."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        """`session` is for steering the server, not for the wires."""
        self.url = f"http://127.0.0.1:{port}"
        self._session = session

    async def lane(
        self,
        *replies: Reply,
        wire: Wire | None = None,
        strict: bool = True,
        repeat_last: bool = False,
        models: tuple[str, ...] = ("model-1",),
        api_key: str | None = None,
    ) -> Lane:
        """Open a lane with this script.

        Args:
            wire: The one wire that will be used, so that a quirk it does not have is refused here and not when asked.
            strict: Refuse histories as the provider does.
            models: What the listings name; any model is answered.
            api_key: The only key that is taken (for Bedrock, the access key id); any, if None.
        """
        opened = await self.call("POST", "/_lanes", {"strict": strict, "models": models, "api_key": api_key})
        lane = Lane(self, opened["id"], wire)
        await lane.script(*replies, repeat_last=repeat_last)
        return lane

    async def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Steer the server."""
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, self.url + path, data=data) as response:
            text = await response.read()
            if response.status != 200:
                raise ScriptError(f"the model server says {response.status}: {text.decode()}")
            return dict(orjson.loads(text))


@contextmanager
def model_service_process() -> Iterator[int]:
    """The server as a child process; yields its port. It ends with the block, or when this process dies."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.model_service"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"the model server ended with {process.wait()}; see its error output")
        yield int(said)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[ModelService]:
    """A server that runs already, for the event loop of the caller."""
    async with aiohttp.ClientSession() as session:
        yield ModelService(port, session)


@asynccontextmanager
async def model_service() -> AsyncIterator[ModelService]:
    """A server of one's own, for as long as the block."""
    with model_service_process() as port:
        async with connected(port) as service:
            yield service
