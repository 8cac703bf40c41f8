"""Models behind OpenAI's embeddings API: OpenAI, vLLM, Ollama, TEI, LiteLLM and others."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.embedding.batches import embed_in_batches
from knowledge_base.embedding.calls import BUSY, Pace, Refusal, Service, shown
from knowledge_base.embedding.prefixes import prefixes_of
from knowledge_base.embedding.vectors import stacked, unit_vectors
from knowledge_base.errors import EmbeddingFailed, TextTooLong

OPENAI_URL = "https://api.openai.com/v1"
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
TEXTS = 64  # a request; OpenAI takes 2,048, TEI 32 unless told otherwise (it is then asked with fewer)
CHARACTERS = 100_000  # a request; OpenAI takes 300,000 tokens
PROBE = "How long are the vectors of this model?"
_TOO_LONG = ("maximum context length", "context length", "maximum input length", "too long", "must have less than")
_TOO_MANY = ("batch size", "maximum allowed batch", "array too long", "too many inputs")


class OpenAIEmbedder:
    """A model on one server. `url` ends where `/embeddings` follows; `dimensions` asks for shorter vectors."""

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key: str | None = None,
        dimensions: int | None = None,
        pace: Pace = Pace(),
    ) -> None:
        self._name = model
        self._url = f"{(url or OPENAI_URL).rstrip('/')}/embeddings"
        self._key = key
        self._asked_dimensions = dimensions
        self._dimension = dimensions or DIMENSIONS.get(model)
        self._prefixes = prefixes_of(model)
        self._service = Service(pace, (key or "",))
        self._encoding = "base64"  # a quarter of the bytes; "" for servers that do not know it
        self._texts = TEXTS
        self._where = f"the embedding server {shown(self._url)}"

    @property
    def model(self) -> EmbeddingModel:
        """See `Embedder`."""
        if self._dimension is None:
            raise EmbeddingFailed(f"{self._where} was not asked yet how long the vectors of {self._name} are")
        return EmbeddingModel(f"openai:{self._name}", self._dimension)

    async def identify(self) -> EmbeddingModel:
        """See `Embedder`; asks the server once, unless the model is OpenAI's or the dimension is given."""
        if self._dimension is None:
            await self._embed([PROBE])  # patiently: it may have to load the model first
        return self.model

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; `TextTooLong` when one of them is."""
        if not texts:
            return np.zeros((0, (await self.identify()).dimension), dtype=np.float32)
        return await embed_in_batches(
            [self._prefixes.document + text for text in texts],
            self._embed,
            max_texts=self._texts,
            max_chars=CHARACTERS,
            concurrent=self._service.pace.concurrent,
        )

    async def query(self, text: str) -> NDArray[np.float32]:
        """See `Embedder`."""
        vector: NDArray[np.float32] = (await self._embed([self._prefixes.query + text], is_question=True))[0]
        return vector

    async def close(self) -> None:
        """See `Embedder`."""
        await self._service.close()

    async def _embed(self, texts: Sequence[str], *, is_question: bool = False) -> Vectors:
        try:
            answer = await self._ask(texts, is_question)
        except Refusal as refusal:
            if self._encoding and refusal.status in (400, 422) and "encoding_format" in refusal.message:
                self._encoding = ""
                return await self._embed(texts, is_question=is_question)
            if len(texts) > 1 and refusal.status in (400, 413, 422) and _is(refusal, _TOO_MANY):
                return await self._in_halves(texts)
            raise self._meant(refusal, texts) from refusal
        vectors = self._read(answer, len(texts))
        self._dimension = vectors.shape[1]
        return vectors

    async def _in_halves(self, texts: Sequence[str]) -> Vectors:
        """For a server that takes fewer texts at once; it is asked with as few from the next time on."""
        half = len(texts) // 2
        self._texts = min(self._texts, half)
        return np.concatenate([await self._embed(texts[:half]), await self._embed(texts[half:])])

    async def _ask(self, texts: Sequence[str], is_question: bool) -> bytes:
        body: dict[str, Any] = {"model": self._name, "input": list(texts)}
        if self._encoding:
            body["encoding_format"] = self._encoding
        if self._asked_dimensions:
            body["dimensions"] = self._asked_dimensions
        _, answer = await self._service.post(
            self._url, orjson.dumps(body), self._headers, texts=len(texts), is_question=is_question
        )
        return answer

    async def _headers(self, _body: bytes) -> Mapping[str, str]:
        proof = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return {"content-type": "application/json", **proof}

    def _read(self, answer: bytes, count: int) -> Vectors:
        try:
            given = orjson.loads(answer)["data"]
            places = [each.get("index", n) for n, each in enumerate(given)]
            rows = [_numbers(each["embedding"]) for each in given]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmbeddingFailed(f"{self._where} does not answer as OpenAI does; check KB_EMBEDDING_URL") from error
        fix = "see which model answers there, and KB_EMBEDDING_MODEL"
        if sorted(places) != list(range(count)):
            raise EmbeddingFailed(f"{self._where} sent vectors for {len(rows)} places of {count} texts; {fix}")
        ordered = [row for _, row in sorted(zip(places, rows, strict=True), key=lambda each: each[0])]
        if self._dimension is not None and self._asked_dimensions is None:
            fix = f"another model than {self._name} answers there: see KB_EMBEDDING_MODEL, or index anew"
        return unit_vectors(
            stacked(ordered, self._where), count=count, dimension=self._dimension, source=self._where, fix=fix
        )

    def _meant(self, refusal: Refusal, texts: Sequence[str]) -> EmbeddingFailed:
        status, words = refusal.status, f"{refusal.status or ''} {refusal.message}".strip()
        if status == 0:
            return EmbeddingFailed(
                f"{self._where} cannot be used: {refusal.message}, {refusal.tries} times; see that it runs, and "
                "KB_EMBEDDING_URL"
            )
        if status in (401, 403):
            return EmbeddingFailed(f"{self._where} refuses the key ({status}); check KB_EMBEDDING_KEY")
        if refusal.code == "insufficient_quota":
            return EmbeddingFailed(f"{self._where} says that the account's quota is used up; see its billing")
        if status == 429:
            return EmbeddingFailed(f"{self._where} is throttling, {refusal.tries} times in a row ({words}); try later")
        if status in BUSY:
            return EmbeddingFailed(f"{self._where} fails, {refusal.tries} times in a row ({words}); see its log")
        if status in (400, 413, 422) and _is(refusal, _TOO_LONG):
            longest = max(map(len, texts))
            return TextTooLong(
                f"{self._where} finds a text too long for {self._name} ({words}); the longest has {longest} "
                "characters: lower KB_CHUNK_CHARS"
            )
        if status == 404:
            return EmbeddingFailed(
                f"{self._where} has no model {self._name}, or no embeddings at that address ({words}); check "
                "KB_EMBEDDING_MODEL, and that KB_EMBEDDING_URL ends where /embeddings follows, often in /v1"
            )
        return EmbeddingFailed(f"{self._where} refuses ({words}); check KB_EMBEDDING_MODEL and KB_EMBEDDING_URL")


def _is(refusal: Refusal, patterns: Sequence[str]) -> bool:
    words = refusal.message.lower()
    return any(pattern in words for pattern in patterns)


def _numbers(embedding: object) -> object:
    return np.frombuffer(b64decode(embedding, validate=True), dtype="<f4") if isinstance(embedding, str) else embedding
