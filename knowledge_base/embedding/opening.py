"""The embedding model that a configuration asks for; nothing is asked of any server yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import asyncpg

from knowledge_base.embedding.base import Embedder
from knowledge_base.errors import EmbeddingFailed

Kind = Literal["embedded", "openai", "bedrock", "onnx", "none"]
# Of these, vectors cost money or seconds; those of the embedded model are made faster than they are read.
WORTH_KEEPING: tuple[Kind, ...] = ("openai", "bedrock", "onnx")


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """Which model, and how it is reached.

    `model`: its name; of `onnx` a folder, path or address. `url`: the server (of `bedrock` an endpoint in place of
    AWS's). `key`: the server's (of `bedrock` an API key in place of credentials). `sha256` is that of `onnx` weights,
    `data_dir` where fetched ones are kept. `dimensions`: shorter vectors, of models that can. Rates are limits for the
    server; `concurrent` requests are in flight.
    """

    kind: Kind = "embedded"
    model: str | None = None
    url: str | None = None
    key: str | None = field(default=None, repr=False)
    sha256: str | None = None
    data_dir: Path = Path(".outcrop")
    region: str | None = None
    dimensions: int | None = None
    concurrent: int = 4
    requests_per_second: float | None = None
    texts_per_second: float | None = None
    threads: int = 0


def make_embedder(config: EmbeddingConfig) -> Embedder | None:
    """None for `none`; `EmbeddingFailed` names what is missing or unknown. Each kind's libraries load with it."""
    if config.kind == "none":
        return None
    if config.kind == "embedded":
        return _embedded()
    if not config.model:
        raise EmbeddingFailed(f"KB_EMBEDDING_MODEL is needed with KB_EMBEDDING={config.kind}")
    if config.kind == "onnx":
        from knowledge_base.embedding.onnx import OnnxEmbedder

        if not config.sha256:
            raise EmbeddingFailed("KB_EMBEDDING_SHA256 is needed with KB_EMBEDDING=onnx: the SHA-256 of the weights")
        return OnnxEmbedder(config.model, config.sha256, data_dir=config.data_dir, threads=config.threads)
    return _service(config, config.model)


def keeping(
    embedder: Embedder | None, config: EmbeddingConfig, pool: asyncpg.Pool[asyncpg.Record], tenant: str
) -> Embedder | None:
    """The same for one tenant's documents, with vectors kept in PostgreSQL where they are worth it."""
    if embedder is None or config.kind not in WORTH_KEEPING:
        return embedder
    from knowledge_base.embedding.cached import CachedEmbedder

    return CachedEmbedder(embedder, pool, tenant)


@cache
def _embedded() -> Embedder:
    """One for all: it holds weights and no connection, and a function that is called again finds them loaded."""
    from knowledge_base.embedding.embedded import EmbeddedModel

    return EmbeddedModel()


def _service(config: EmbeddingConfig, model: str) -> Embedder:
    from knowledge_base.embedding.calls import Pace

    pace = Pace(
        concurrent=config.concurrent,
        requests_per_second=config.requests_per_second,
        texts_per_second=config.texts_per_second,
    )
    if config.kind == "openai":
        from knowledge_base.embedding.openai import OpenAIEmbedder

        return OpenAIEmbedder(model, url=config.url, key=config.key, dimensions=config.dimensions, pace=pace)
    from knowledge_base.embedding.bedrock import BedrockEmbedder

    return BedrockEmbedder(
        model,
        region=config.region,
        endpoint_url=config.url,
        key=config.key,
        dimensions=config.dimensions,
        pace=pace,
    )
