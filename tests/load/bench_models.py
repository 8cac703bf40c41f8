"""What a model call costs this process, beside a bare call of the same protocol in the same run.

    python -m tests.load.bench_models [--quick] [--rounds N] [--json PATH]

One call: a request with nine tools and a short history, 200 streamed tokens. Ours is `render`, and the wire read to
its end; the bare one posts a body that was made before, and parses each event with orjson. The server is a script in a
process of its own, and its time does not count. A further wire is one more `add` below, and an answer in
`tests.load.fake_streams`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import orjson
import psutil
import uvloop

from agent.providers.anthropic import AnthropicConfig, anthropic
from agent.providers.base import ModelRequest, Provider, Text, TurnFacts
from agent.providers.bedrock import BedrockConfig, bedrock
from agent.providers.ollama import OllamaConfig, ollama
from agent.providers.openai import OpenAIConfig, openai
from agent.transcript import AssistantMessage, ToolCall, ToolMessage, UserMessage
from tests.doubles.world import CUSTOMER, NOW, OFFICES, SPECS
from tests.load.fake_streams import ANSWER, MODEL
from tests.load.processes import CHECKOUT

REQUEST = ModelRequest(
    "Be kind. " * 100,
    (
        UserMessage("When are you open?"),
        AssistantMessage("", (ToolCall("c1", "get_working_hours", {}),)),
        ToolMessage("c1", "get_working_hours", {"ok": True, "days": ["Monday", "Tuesday"], "from": "08:00"}),
        AssistantMessage("On weekdays from eight in the morning on."),
        UserMessage("And on Sundays?"),
    ),
    SPECS,
    TurnFacts(NOW, CUSTOMER, (OFFICES.locations["20OC01BK"],)),
)
Bare = Callable[[], Awaitable[str]]
Split = Callable[[bytes], list[bytes]]


class WrongAnswer(Exception):
    """A call did not bring what the server sent: the figures would mean nothing."""


@dataclass(slots=True)
class Case:
    """One wire: our provider, and the bare call of the same server. Figures are CPU ms a call, by round."""

    name: str
    provider: Provider
    bare: Bare
    ours_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of the ratios within each round."""
        return median(ours / bare for ours, bare in zip(self.ours_ms, self.bare_ms, strict=True))

    async def ours(self) -> str:
        """The text of one call through the provider."""
        stream = self.provider.wire.stream(self.provider.render(REQUEST), deadline_s=60)
        return "".join([chunk.text async for chunk in stream if isinstance(chunk, Text)])


def lines(data: bytes) -> list[bytes]:
    """The lines, and what is left."""
    return data.split(b"\n")


def frames(data: bytes) -> list[bytes]:
    """The payloads of Amazon's event stream, and what is left; no checksum is looked at."""
    at, found = 0, []
    while at + 16 <= len(data) and (end := at + int.from_bytes(data[at : at + 4], "big")) <= len(data):
        found.append(data[at + 12 + int.from_bytes(data[at + 4 : at + 8], "big") : end - 4])
        at = end
    return [*found, data[at:]]


def bare(
    client: aiohttp.ClientSession, url: str, body: Mapping[str, Any], text_of: Callable[[bytes], str], split: Split
) -> Bare:
    """What a program does without us, as lean as it goes: post, split each read into events, parse what is a text."""
    data = orjson.dumps({"model": MODEL, "stream": True, **body})

    async def call() -> str:
        texts: list[str] = []
        rest = b""
        async with client.post(url, data=data) as response:
            async for piece in response.content.iter_any():
                events = split(rest + piece)
                rest = events.pop()
                texts += [text_of(event) for event in events]
        return "".join(texts)

    return call


def of_openai(line: bytes) -> str:
    """The text of a line of Chat Completions."""
    if not line.startswith(b"data: {") or not (choices := orjson.loads(line[6:])["choices"]):
        return ""
    return str(choices[0]["delta"].get("content", ""))


def of_ollama(line: bytes) -> str:
    """The text of a line of Ollama's chat."""
    return str(orjson.loads(line)["message"]["content"])


def of_anthropic(line: bytes) -> str:
    """The text of a line of Messages."""
    if not line.startswith(b"data: "):
        return ""
    event = orjson.loads(line[6:])
    return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""


def of_bedrock(payload: bytes) -> str:
    """The text of an event of ConverseStream."""
    event = orjson.loads(payload)
    return str(event["delta"].get("text", "")) if "delta" in event else ""


@asynccontextmanager
async def cases(url: str) -> AsyncIterator[list[Case]]:
    """All wires over the server at this address."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession(headers={"content-type": "application/json"}))
        found: list[Case] = []

        def add(
            provider: Provider, path: str, text_of: Callable[[bytes], str], split: Split = lines, **more: Any
        ) -> None:
            stack.push_async_callback(provider.wire.close)
            body = {**provider.render(REQUEST), **more}
            found.append(Case(provider.kind, provider, bare(client, f"{url}/{path}", body, text_of, split)))

        add(openai(OpenAIConfig(base_url=f"{url}/openai/v1", model=MODEL)), "openai/v1/chat/completions", of_openai)
        add(ollama(OllamaConfig(base_url=f"{url}/ollama", model=MODEL)), "ollama/api/chat", of_ollama)
        claude = anthropic(AnthropicConfig(base_url=f"{url}/anthropic", model=MODEL))
        add(claude, "anthropic/v1/messages", of_anthropic, max_tokens=4096)
        os.environ.update(AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="none")  # so that ours are signed
        converse = bedrock(BedrockConfig(model=MODEL, region="eu-west-1", endpoint_url=f"{url}/bedrock"))
        add(converse, f"bedrock/model/{MODEL}/converse-stream", of_bedrock, frames)
        yield found


async def measure(rounds: int, calls: int) -> list[Case]:
    """Each wire, ours and bare in turn; a first round warms and does not count."""
    with server() as url:
        async with cases(url) as all_cases:
            for number in range(rounds + 1):
                for case in all_cases:
                    pair = [(case.ours, case.ours_ms), (case.bare, case.bare_ms)]
                    for call, figures in pair if number % 2 else reversed(pair):
                        figure = await _cpu_ms(call, calls)
                        if number:
                            figures.append(figure)
            return all_cases


async def _cpu_ms(call: Bare, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        if await call() != ANSWER:
            raise WrongAnswer("not the text that was sent")
    return (time.process_time() - began) / calls * 1000


@contextmanager
def server() -> Iterator[str]:
    """The scripted server in a process of its own; its address."""
    argv = [sys.executable, "-m", "tests.load.fake_streams"]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def report(found: list[Case]) -> str:
    """The figures as lines."""
    return "\n".join(
        f"Model call over {case.name}, 200 streamed tokens: {median(case.ours_ms):.2f} ms CPU, bare "
        f"{median(case.bare_ms):.2f} (ratio {case.ratio:.2f})"
        for case in found
    )


def as_json(found: list[Case]) -> dict[str, Any]:
    """The same for machines, with each round's figures."""
    rows = {c.name: {"ours_ms": c.ours_ms, "bare_ms": c.bare_ms, "ratio": round(c.ratio, 3)} for c in found}
    return {"cores": psutil.cpu_count(), "wires": rows}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what a model call costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--rounds", type=int, help="how many")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="also write the figures, beside PATH as *.models.json"
    )
    given = parser.parse_args()
    found = uvloop.run(measure(given.rounds or (3 if given.quick else 9), 40 if given.quick else 100))
    print(report(found))
    if given.json:
        given.json.with_suffix(".models.json").write_text(json.dumps(as_json(found), indent=1))


if __name__ == "__main__":
    main()
