"""The offline provider: a deterministic planner behind the same seam as any model. It is no language model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any

from agent.definition import AgentDefinition
from agent.errors import ModelError, ModelMisbehaved
from agent.planner.knowledge import Knowledge
from agent.planner.planner import PROVIDER, Planner
from agent.providers.base import Capabilities, Chunk, Provider

__all__ = ["classifier", "offline"]


class _PlannerWire:
    """Answers from the planner; there is nothing to connect to."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    async def stream(self, payload: Any, *, deadline_s: float) -> AsyncIterator[Chunk]:
        for chunk in self._planner.step(payload):
            yield chunk

    async def close(self) -> None:
        return None


def _classify(exc: Exception) -> ModelError:
    return ModelMisbehaved(f"the planner failed: {exc!r}")


@lru_cache(maxsize=8)
def _planner(definition: AgentDefinition) -> Planner:
    return Planner(Knowledge(definition))


def offline(definition: AgentDefinition) -> Provider:
    """The planner of a definition as a provider."""
    return Provider(
        name=PROVIDER,
        model="planner",
        wire=_PlannerWire(_planner(definition)),
        render=lambda request: request,
        classify=_classify,
        capabilities=Capabilities(reports_usage=False, speaks_any_language=False, reads_prose=False),
    )


def classifier(definition: AgentDefinition) -> Callable[[str], str]:
    """Maps a user's text to the specialist it belongs to."""
    return _planner(definition).classify
