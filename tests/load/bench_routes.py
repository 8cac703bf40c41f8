"""What routes cost: the choice of a plan for a turn, and how soon another model speaks after one has failed.

    uv run python -m tests.load.bench_routes [--quick] [--json PATH]

The models are servers on loopback that answer at once, so what is left is our own time. A failure is known when its
call ends; the first token is there when the turn's first text leaves the graph.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from uuid import uuid4

import uvloop

from agent.events import TextDelta, TurnCompleted
from agent.graph import run_turn
from agent.ports import TurnWork
from agent.providers.openai import OpenAIConfig, local
from agent.routing.config import ModelsFile
from agent.routing.plan import Candidate, ModelCall, Plan
from agent.routing.router import Router
from tests.doubles.scripted_model import scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import World
from tools.breaker import Breaker

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


GOOD = HEAD + b"".join(chunk(PIECE % word) for word in (b"Good ", b"day ", b"to ", b"you.")) + chunk(END) + b"0\r\n\r\n"
CUT = HEAD + b"".join(chunk(PIECE % word) for word in (b"Let me ", b"see. And "))


@asynccontextmanager
async def server(answer: bytes, *, dies: bool = False) -> AsyncIterator[str]:
    """Answers every request with these bytes; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
                if dies:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        listening.close()


@dataclass
class Failure:
    """When the call of the first model was over."""

    at: float = 0.0

    def observe(self, call: ModelCall) -> None:
        """As plans tell it."""
        if call.outcome != "ok":
            self.at = time.perf_counter()


def candidate(name: str, url: str, fail_max: int = 1_000_000) -> Candidate:
    """A model at this address."""
    provider = local(OpenAIConfig(base_url=url, model="m"), name)
    return Candidate(provider, breaker=Breaker(f"model:{name}", fail_max=fail_max, reset_s=3600.0))


async def failover_ms(first: Candidate, second: Candidate, turns: int) -> list[float]:
    """Milliseconds from the failure of the first to the first text of the second, for so many turns."""
    found = []
    for _ in range(turns):
        world, failure = World(), Failure()
        plan = Plan((first, second), observe=failure.observe)
        began = time.perf_counter()
        stream = run_turn(DEFINITION, plan, world.toolbox, world.turn("hello"), TurnWork(), lambda _: "chitchat")
        said, ended = 0.0, False
        async for event in stream:
            if isinstance(event, TextDelta) and (failure.at or first.is_open):
                said = said or time.perf_counter()
            ended = ended or isinstance(event, TurnCompleted)
        assert ended
        assert said
        found.append((said - (failure.at or began)) * 1000)
    return found


async def failovers(turns: int) -> dict[str, list[float]]:
    """For each way of failing."""
    async with server(GOOD) as good, server(BUSY) as busy, server(CUT, dies=True) as cut:
        second = candidate("second", good)
        opened = candidate("opened", "http://127.0.0.1:9/v1", fail_max=1)
        ways = {
            "answers 503": candidate("busy", busy),
            "cannot be reached": candidate("gone", "http://127.0.0.1:9/v1"),
            "breaks off after two words": candidate("cut", cut),
            "circuit is open": opened,
        }
        await failover_ms(opened, second, 3)
        found = {name: await failover_ms(first, second, turns) for name, first in ways.items()}
        for each in (*ways.values(), second):
            await each.provider.wire.close()
    return found


def router() -> Router:
    """A route with all it may have."""
    own = {"kind": "local", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    models = ModelsFile.model_validate(
        {
            "providers": {"a": own, "b": own, "c": own},
            "routes": {
                "default": {
                    "primary": "a",
                    "fallbacks": [{"to": "b"}],
                    "canary": {"to": "c", "percent": 5, "tenants": {"acme": 50}},
                }
            },
        }
    )
    ready = {name: Candidate(replace(scripted([])[0], name=name)) for name in ("a", "b", "c", "offline")}
    return Router(models, ready, lambda _: None)


def decision_us(times: int) -> float:
    """Microseconds of one choice."""
    routes, conversations = router(), [uuid4() for _ in range(1000)]
    choose: Callable[..., Plan] = routes.plan
    began = time.perf_counter()
    for n in range(times):
        choose("acme", conversations[n % 1000])
    return (time.perf_counter() - began) / times * 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, dest="path")
    arguments = parser.parse_args()
    turns = 30 if arguments.quick else 200
    decisions = sorted(decision_us(20_000) for _ in range(5))
    found = uvloop.run(failovers(turns))
    print(f"Choice of a plan, with a canary: {median(decisions):.1f} us (aim: under 50)")
    print("From a known failure to the first text of the next model (aim: under 150 ms):")
    for name, values in found.items():
        print(f"  {name:<28} median {median(values):6.2f} ms   p99 {quantiles(values, n=100)[98]:6.2f} ms")
    if arguments.path:
        body = {"decision_us": median(decisions)}
        body |= {f"failover_ms: {name}": median(values) for name, values in found.items()}
        arguments.path.with_suffix(".routes.json").write_text(json.dumps(body, indent=2), "utf-8")


if __name__ == "__main__":
    main()
