"""One call of a provider, as the turn makes it, over real sockets."""

from __future__ import annotations

from agent.errors import ModelError
from agent.providers.base import Call, Chunk, ModelRequest, Note, Probe, Provider, Reasoning, Text, Tokens, TurnFacts
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.world import CUSTOMER, NOW, OFFICES, SPECS

FACTS = TurnFacts(NOW, CUSTOMER, (OFFICES.locations["20OC01BK"],))


def request(*messages: Message, plain: bool = False) -> ModelRequest:
    """A request over these messages; a greeting without any."""
    return ModelRequest("Be kind.", messages or (UserMessage("hi"),), SPECS, FACTS, plain=plain)


async def ask(provider: Provider, *messages: Message) -> list[Chunk]:
    """All chunks of one call; the provider stays open. Library errors as the typed ones."""
    stream = provider.wire.stream(provider.render(request(*messages)), deadline_s=5)
    try:
        return [chunk async for chunk in stream]
    except provider.raises as error:
        raise provider.classify(error) from error


async def asked(provider: Provider, *messages: Message) -> list[Chunk]:
    """The same, and the provider is closed."""
    try:
        return await ask(provider, *messages)
    finally:
        await provider.wire.close()


async def refused(provider: Provider, *messages: Message) -> ModelError:
    """What such a call fails with."""
    try:
        raise AssertionError(f"no error, but {await asked(provider, *messages)}")
    except ModelError as error:
        return error


async def probed(provider: Provider) -> Probe:
    """What the provider finds out about its server."""
    assert provider.probe
    try:
        return await provider.probe()
    finally:
        await provider.wire.close()


def text_in(chunks: list[Chunk]) -> str:
    """What would be shown."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Text))


def thoughts_in(chunks: list[Chunk]) -> str:
    """What would not."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Reasoning))


def calls_in(chunks: list[Chunk]) -> list[tuple[str, JsonObject]]:
    """Names and arguments; no call may have an error."""
    found = [chunk for chunk in chunks if isinstance(chunk, Call)]
    assert [call.error for call in found if call.error] == []
    return [(call.call.name, call.call.args) for call in found]


def tokens_in(chunks: list[Chunk]) -> Tokens:
    """The usage, which comes once."""
    (tokens,) = (chunk for chunk in chunks if isinstance(chunk, Tokens))
    return tokens


def carried_on(provider: Provider, said: str, chunks: list[Chunk]) -> list[Message]:
    """The transcript after this answer, with a result for each of its calls: what the next call is asked with."""
    calls = tuple(
        ToolCall(chunk.call.id or f"made{n}", chunk.call.name, chunk.call.args)
        for n, chunk in enumerate(chunks)
        if isinstance(chunk, Call)
    )
    state = next((chunk.state for chunk in chunks if isinstance(chunk, Note)), None)
    results = [ToolMessage(c.id, c.name, {"ok": n != 1, "n": n}, c.args, ok=n != 1) for n, c in enumerate(calls)]
    return [UserMessage(said), AssistantMessage(text_in(chunks), calls, provider.name, state), *results]
