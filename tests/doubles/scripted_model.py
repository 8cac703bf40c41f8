"""A provider that plays a script: one list of chunks (or one function of the request) per model call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ModelError
from agent.providers.base import Call, Chunk, ModelRequest, Provider, Text
from agent.transcript import ToolCall

Scene = Sequence[Chunk | Exception] | Callable[[ModelRequest], Sequence[Chunk | Exception]]


@dataclass(slots=True)
class ScriptedWire:
    """Plays scene after scene; the last one again when the script is over. `requests` holds what was asked."""

    scenes: list[Scene]
    requests: list[ModelRequest] = field(default_factory=list)

    async def stream(self, payload: Any, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Yield the chunks of the next scene; raise what stands there as an exception."""
        scene = self.scenes[min(len(self.requests), len(self.scenes) - 1)]
        self.requests.append(payload)
        for chunk in scene(payload) if callable(scene) else scene:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def close(self) -> None:
        """Nothing to release."""


def scripted(*scenes: Scene) -> tuple[Provider, ScriptedWire]:
    """A provider with this script, and its wire to look at."""
    wire = ScriptedWire(list(scenes))
    provider = Provider(
        name="scripted",
        model="script-1",
        wire=wire,
        render=lambda request: request,
        classify=lambda error: error if isinstance(error, ModelError) else ModelError(str(error)),
        raises=(ConnectionError,),
    )
    return provider, wire


def says(text: str, size: int = 7) -> list[Chunk]:
    """A text in pieces of `size` characters, as a model streams it."""
    return [Text(text[i : i + size]) for i in range(0, len(text), size)]


def calls(tool: str, call_id: str = "", **args: Any) -> Call:
    """One whole tool call."""
    return Call(ToolCall(call_id, tool, args))
