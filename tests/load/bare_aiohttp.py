"""The bare app at its cheapest: aiohttp to the model, one commit a turn (a crash in mid-turn loses the message).

python -m tests.load.bare_aiohttp PORT DATABASE_URL MODEL_URL
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import orjson

from tests.load.bare_app import INSERT, SCHEMA, Reply, Turn, read_history, request_body, result_of, serve


@asynccontextmanager
async def opening(database_url: str, model_url: str) -> AsyncIterator[Turn]:
    """The turn over an open pool and client."""
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=10) as pool,
        aiohttp.ClientSession(headers={"content-type": "application/json"}) as client,
    ):
        await pool.execute(SCHEMA)

        async def ask(messages: list[dict[str, object]], reply: Reply) -> AsyncIterator[str]:
            url = f"{model_url}/chat/completions"
            async with client.post(url, data=request_body(messages)) as response:
                response.raise_for_status()
                async for line in response.content:
                    if token := reply.take(line.rstrip()):
                        yield token

        async def turn(conversation: str, text: str) -> AsyncIterator[str]:
            messages = await read_history(pool, conversation)
            known = len(messages)
            messages.append({"role": "user", "content": text})
            while True:
                reply = Reply()
                async for token in ask(messages, reply):
                    yield token
                messages.append(reply.message)
                if not reply.name:
                    break
                messages.append(result_of(reply))
            rows = [(conversation, orjson.dumps(message).decode()) for message in messages[known:]]
            await pool.executemany(INSERT, rows)  # one transaction

        yield turn


if __name__ == "__main__":
    serve(opening)
