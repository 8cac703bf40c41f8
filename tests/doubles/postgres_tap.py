"""A relay in front of PostgreSQL that counts the round trips its clients make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

# What a client sends and then waits for an answer to: Sync, Flush, Query.
ASKS = b"SHQ"


@dataclass
class Tap:
    """`url` leads through the relay; `round_trips` grows with every message that asks for an answer."""

    url: str
    round_trips: int = 0

    async def relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter, host: str, port: int) -> None:
        """One connection, until either side ends it."""
        answers, server = await asyncio.open_connection(host, port)
        asking = asyncio.create_task(self._count(client, server))
        answering = asyncio.create_task(_copy(answers, back))
        await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        for task in (asking, answering):
            task.cancel()
        server.close()
        back.close()

    async def _count(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """Forward message by message: a length alone at first, then a letter before each."""
        letters = 0
        with suppress(asyncio.IncompleteReadError):  # the client has gone
            while True:
                head = await client.readexactly(letters + 4)
                self.round_trips += letters and head[:1] in ASKS
                server.write(head + await client.readexactly(int.from_bytes(head[letters:], "big") - 4))
                letters = 1


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65536):
        writer.write(some)


@asynccontextmanager
async def tapped(database_url: str) -> AsyncIterator[Tap]:
    """A relay to this database."""
    place = urlsplit(database_url)
    assert place.hostname
    assert place.port
    tap = Tap("")
    server = await asyncio.start_server(
        lambda client, back: tap.relay(client, back, place.hostname or "", place.port or 0), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    tap.url = f"{database_url.replace(f':{place.port}/', f':{port}/')}?sslmode=disable"
    async with server:
        yield tap
