"""The bare app as it is usually written: httpx to the model, one insert and commit a message, history read each turn.

python -m tests.load.bare_httpx PORT DATABASE_URL MODEL_URL
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import orjson

from tests.load.bare_app import INSERT, SCHEMA, Reply, Turn, read_history, request_body, result_of, serve


@asynccontextmanager
async def opening(database_url: str, model_url: str) -> AsyncIterator[Turn]:
    """The turn over an open pool and client."""
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=10) as pool,
        httpx.AsyncClient(timeout=60.0) as client,
    ):
        await pool.execute(SCHEMA)

        async def ask(messages: list[dict[str, object]], reply: Reply) -> AsyncIterator[str]:
            headers = {"content-type": "application/json"}
            url = f"{model_url}/chat/completions"
            async with client.stream("POST", url, content=request_body(messages), headers=headers) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if token := reply.take(line):
                        yield token

        async def turn(conversation: str, text: str) -> AsyncIterator[str]:
            messages = await read_history(pool, conversation)

            async def append(message: dict[str, object]) -> None:
                messages.append(message)
                await pool.execute(INSERT, conversation, orjson.dumps(message).decode())

            await append({"role": "user", "content": text})
            while True:
                reply = Reply()
                async for token in ask(messages, reply):
                    yield token
                await append(reply.message)
                if not reply.name:
                    return
                await append(result_of(reply))

        yield turn


if __name__ == "__main__":
    serve(opening)
