"""Models in Amazon Bedrock, through InvokeModel: Titan Text Embeddings, and Cohere Embed 3 and 4."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_base.aws import Aws, AwsUnusable
from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.embedding.batches import embed_in_batches
from knowledge_base.embedding.calls import BUSY, Pace, Refusal, Service
from knowledge_base.embedding.vectors import stacked, unit_vectors
from knowledge_base.errors import EmbeddingFailed, TextTooLong

Form = Literal["titan1", "titan2", "cohere3", "cohere4"]
CHARACTERS = 100_000  # a request


@dataclass(frozen=True, slots=True)
class _Family:
    """What a kind of models takes: texts a call, characters a text, and the lengths of vectors, the usual one first."""

    form: Form
    texts: int
    characters: int
    dimensions: tuple[int, ...]


# By a part of the model id, which may stand in an inference profile's (`eu.cohere.embed-v4:0`) or in an ARN.
_FAMILIES = {
    "titan-embed-text-v2": _Family("titan2", 1, 50_000, (1024, 512, 256)),
    "titan-embed-text-v1": _Family("titan1", 1, 50_000, (1536,)),
    "titan-embed-g1-text": _Family("titan1", 1, 50_000, (1536,)),
    "cohere.embed-v4": _Family("cohere4", 96, 400_000, (1536, 1024, 512, 256)),
    "cohere.embed-english-v3": _Family("cohere3", 96, 2048, (1024,)),
    "cohere.embed-multilingual-v3": _Family("cohere3", 96, 2048, (1024,)),
}
_NOT_NOW = (
    "ThrottlingException",
    "TooManyRequestsException",
    "ModelNotReadyException",
    "ServiceQuotaExceededException",
)
_WHO_ASKS = ("UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException")


class BedrockEmbedder:
    """A model by id, inference profile or ARN. `key` is a Bedrock API key, in place of AWS credentials."""

    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        key: str | None = None,
        dimensions: int | None = None,
        pace: Pace = Pace(concurrent=8),
    ) -> None:
        """`EmbeddingFailed` for a model, or a length of vectors, that is not known."""
        self._id = model
        self._family = _family(model)
        if dimensions is not None and dimensions not in self._family.dimensions:
            there = ", ".join(map(str, self._family.dimensions))
            raise EmbeddingFailed(f"{model} has no vectors of {dimensions} numbers; there are {there}")
        dimension = dimensions or self._family.dimensions[0]
        self._model = EmbeddingModel(f"bedrock:{model}", dimension)
        key = key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "")
        self._aws = Aws(
            "bedrock-runtime",
            signing_name="bedrock",
            region=region or _region_of(model),
            endpoint_url=endpoint_url,
            api_key=key,
        )
        self._service = Service(pace, (key,))
        self._opening = asyncio.Lock()
        self._where = "Bedrock"

    @property
    def model(self) -> EmbeddingModel:
        """See `Embedder`; known without a call."""
        return self._model

    async def identify(self) -> EmbeddingModel:
        """See `Embedder`."""
        return self._model

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; `TextTooLong` when one of them is."""
        if not texts:
            return np.zeros((0, self._model.dimension), dtype=np.float32)
        return await embed_in_batches(
            texts,
            lambda batch: self._embed(batch, "search_document"),
            max_texts=self._family.texts,
            max_chars=CHARACTERS,
            concurrent=self._service.pace.concurrent,
        )

    async def query(self, text: str) -> NDArray[np.float32]:
        """See `Embedder`."""
        vector: NDArray[np.float32] = (await self._embed([text], "search_query"))[0]
        return vector

    async def close(self) -> None:
        """See `Embedder`."""
        await self._service.close()

    async def _embed(self, texts: Sequence[str], purpose: str) -> Vectors:
        longest = max(map(len, texts))
        if longest > self._family.characters:
            raise TextTooLong(
                f"a text of {longest} characters is too long for {self._id}, which reads {self._family.characters}: "
                "lower KB_CHUNK_CHARS"
            )
        body = orjson.dumps(_body(self._family.form, texts, purpose, self._model.dimension))
        try:
            url = await self._url()
            _, answer = await self._service.post(
                url,
                body,
                lambda sent: self._headers(url, sent),
                texts=len(texts),
                is_question=purpose == "search_query",
            )
        except AwsUnusable as error:
            raise EmbeddingFailed(f"{self._where} cannot be called: {error}") from error
        except Refusal as refusal:
            raise self._meant(refusal, longest) from refusal
        return self._read(answer, len(texts))

    async def _url(self) -> str:
        async with self._opening:
            if not self._aws.url:
                await self._aws.open()
                self._where = f"Bedrock in {self._aws.region}"
        return f"{self._aws.url}/model/{quote(self._id, safe='')}/invoke"

    async def _headers(self, url: str, body: bytes) -> Mapping[str, str]:
        wanted = {"content-type": "application/json", "accept": "application/json"}
        return await self._aws.headers("POST", url, body, wanted)

    def _read(self, answer: bytes, count: int) -> Vectors:
        try:
            rows = _rows(self._family.form, orjson.loads(answer))
        except (ValueError, KeyError, TypeError) as error:
            raise EmbeddingFailed(f"{self._where} did not answer with vectors; check KB_EMBEDDING_MODEL") from error
        return unit_vectors(
            stacked(rows, self._where),
            count=count,
            dimension=self._model.dimension,
            source=self._where,
            fix="see KB_EMBEDDING_MODEL",
        )

    def _meant(self, refusal: Refusal, longest: int) -> EmbeddingFailed:
        words = f"{refusal.status or ''} {refusal.code} {refusal.message}".strip()
        lowered = refusal.message.lower()
        if refusal.status == 0:
            return EmbeddingFailed(
                f"{self._where} cannot be reached: {refusal.message}, {refusal.tries} times; not every region has it: "
                "see AWS_REGION"
            )
        if refusal.code in _NOT_NOW or refusal.status == 429:
            return EmbeddingFailed(
                f"{self._where} is throttling {self._id} ({words}); try later, or ask AWS for a higher quota"
            )
        if refusal.code in _WHO_ASKS:
            return EmbeddingFailed(f"AWS does not take these credentials ({words}); sign in again, or see AWS_PROFILE")
        if refusal.status == 403:
            return EmbeddingFailed(
                f"AWS does not let these credentials use {self._id} ({words}); allow bedrock:InvokeModel on it, and "
                "see that the account has access to the model"
            )
        if refusal.status in BUSY:
            return EmbeddingFailed(f"{self._where} fails, {refusal.tries} times in a row ({words}); try later")
        if refusal.status == 400 and ("too many input tokens" in lowered or "maxlength" in lowered):
            return TextTooLong(
                f"{self._id} finds a text too long ({words}); the longest has {longest} characters: lower "
                "KB_CHUNK_CHARS"
            )
        return EmbeddingFailed(f"{self._where} refuses {self._id} ({words}); see KB_EMBEDDING_MODEL and AWS_REGION")


def _body(form: Form, texts: Sequence[str], purpose: str, dimension: int) -> dict[str, Any]:
    if form == "titan1":
        return {"inputText": texts[0]}
    if form == "titan2":
        return {"inputText": texts[0], "dimensions": dimension, "normalize": True}
    # "NONE": a text that does not fit is refused, and not cut in silence.
    body = {"texts": list(texts), "input_type": purpose, "truncate": "NONE", "embedding_types": ["float"]}
    return {**body, "output_dimension": dimension} if form == "cohere4" else body


def _rows(form: Form, answer: Any) -> list[Any]:
    if form in ("titan1", "titan2"):
        return [answer["embedding"]]
    given = answer["embeddings"]  # by type, since types were asked for
    rows = given["float"] if isinstance(given, dict) else given
    if not isinstance(rows, list):
        raise TypeError("no list of vectors")
    return rows


def _family(model: str) -> _Family:
    found = next((family for part, family in _FAMILIES.items() if part in model), None)
    if found is None:
        raise EmbeddingFailed(
            f"KB_EMBEDDING_MODEL: {model} is no embedding model of Bedrock that is known here; there are those with "
            f"{', '.join(_FAMILIES)} in their id"
        )
    return found


def _region_of(model: str) -> str | None:
    pieces = model.split(":")
    return pieces[3] if len(pieces) >= 6 and pieces[0] == "arn" else None
