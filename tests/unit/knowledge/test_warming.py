"""Weights are loaded while the service runs already, and nobody waits for them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.knowledge import warming
from backend.settings import Settings
from knowledge_base.bases import KnowledgeBases
from knowledge_base.errors import EmbeddingFailed


class Model:
    """Takes as long as it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self.go_on, self.was_left = asyncio.Event(), asyncio.Event(), False
        self._error = error

    async def query(self, text: str) -> None:
        """As `Embedder.query`."""
        self.asked.set()
        if self._error:
            raise self._error
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_left = True
            raise


def bases_with(model: Model) -> KnowledgeBases:
    """Bases of which nothing but the model is there."""
    return cast(KnowledgeBases, SimpleNamespace(embedder=lambda tenant: model))


async def test_the_service_starts_and_stops_while_weights_are_loaded() -> None:
    model = Model()
    async with warming(Settings(_env_file=None), bases_with(model)):
        await model.asked.wait()
        assert not model.was_left
    assert model.was_left


async def test_a_model_that_cannot_be_loaded_stops_nothing() -> None:
    model = Model(EmbeddingFailed("the embedded model is not installed"))
    async with warming(Settings(_env_file=None), bases_with(model)):
        await model.asked.wait()


@pytest.mark.parametrize("other", [{"kb_autoload": False}, {"kb_embedding": "openai"}, {"kb_embedding": "bedrock"}])
async def test_a_model_that_costs_something_is_not_asked(other: dict[str, Any]) -> None:
    model = Model()
    settings = Settings(_env_file=None).model_copy(update=other)
    async with warming(settings, bases_with(model)):
        for _ in range(5):
            await asyncio.sleep(0)
        assert not model.asked.is_set()
