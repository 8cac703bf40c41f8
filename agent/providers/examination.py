"""What a model really does, against its capability record: two small calls, which cost some hundred tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from agent.errors import ModelError, ModelTimeout
from agent.providers.base import Call, Chunk, ModelRequest, Provider, Reasoning, Text, Tokens, TurnFacts
from agent.transcript import UserMessage
from tools.contract import Identity, ToolSpec

DEADLINE_S = 60.0
AT_ONCE_S = 0.3
INSTRUCTIONS = "You are being tested. Do exactly what is asked, and nothing else."
COUNT = "Write the numbers from 1 to 20 in words, one a line."
CALL_TWICE = "Call the tool `note_word` two times in one message: once with the word red, once with the word blue."
NOTE_WORD = ToolSpec(
    name="note_word",
    group="probe",
    effect="read",
    description="Notes one word.",
    parameters={
        "type": "object",
        "properties": {"word": {"type": "string", "description": "The word."}},
        "required": ["word"],
    },
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One capability: as the record says, and as it was seen (None: it did not show)."""

    capability: str
    recorded: bool
    seen: bool | None

    @property
    def differs(self) -> bool:
        """Whether the record should be changed."""
        return self.seen is not None and self.seen != self.recorded


@dataclass(frozen=True, slots=True)
class Examination:
    """What the two calls showed. Times are seconds."""

    seen: tuple[Seen, ...]
    first_token_s: float
    duration_s: float


async def examine(provider: Provider) -> Examination:
    """Ask a model for a text and for two calls, and look at how the answers come. Raises `ModelError`."""
    began = time.perf_counter()
    counted, first_token_s = await _ask(provider, COUNT, ())
    duration_s = time.perf_counter() - began
    record = provider.capabilities
    called: list[Chunk] = []
    if record.tools:
        called, _ = await _ask(provider, CALL_TWICE, (NOTE_WORD,))
    calls = [chunk for chunk in called if isinstance(chunk, Call) and chunk.call.name == NOTE_WORD.name]
    usage = [chunk for chunk in counted if isinstance(chunk, Tokens)]
    return Examination(
        (
            Seen("streams", record.streams, _streamed(counted, duration_s)),
            Seen("reports_usage", record.reports_usage, bool(usage) and not usage[-1].estimated),
            Seen("reasoning", record.reasoning, any(isinstance(c, Reasoning) for c in (*counted, *called)) or None),
            Seen("tools", record.tools, bool(calls) if record.tools else None),
            Seen("parallel_tool_calls", record.parallel_tool_calls, len(calls) > 1 if calls else None),
        ),
        first_token_s,
        duration_s,
    )


def _streamed(counted: Sequence[Chunk], duration_s: float) -> bool | None:
    """Whether the text came in pieces; an answer that was there at once shows nothing."""
    if sum(isinstance(chunk, Text) for chunk in counted) > 1:
        return True
    return None if duration_s < AT_ONCE_S else False


async def _ask(provider: Provider, text: str, tools: Sequence[ToolSpec]) -> tuple[list[Chunk], float]:
    """All chunks of one call, and when the first came."""
    facts = TurnFacts(now=datetime.now(UTC), identity=Identity(role="anonymous"), locations=())
    request = ModelRequest(INSTRUCTIONS, (UserMessage(text),), tuple(tools), facts, DEADLINE_S)
    began, first_s, chunks = time.perf_counter(), 0.0, []
    stream: Any = provider.wire.stream(provider.render(request), deadline_s=DEADLINE_S)
    try:
        async with asyncio.timeout(DEADLINE_S), aclosing(stream):
            async for chunk in stream:
                first_s = first_s or time.perf_counter() - began
                chunks.append(cast(Chunk, chunk))
    except TimeoutError as error:
        raise ModelTimeout(f"no answer within {DEADLINE_S:.0f} s") from error
    except ModelError:
        raise
    except provider.raises as error:
        raise provider.classify(error) from error
    return chunks, first_s
