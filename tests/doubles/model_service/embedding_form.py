"""Embeddings, as OpenAI's API and as Titan's and Cohere's InvokeModel: a lane's script of vectors and faults.

A vector is made of the words of its text, so that texts that share words are near each other; its length is not 1.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray

TITAN = ("titan-embed-text-v1", "titan-embed-text-v2")


@dataclass(frozen=True)
class Vectors:
    """How a request for vectors is answered; the last of a lane's script answers all that follow.

    Args:
        dimension: Numbers of each vector, unless the request asks for another length and `shortens`.
        numbers: In place of the first vector, of whatever length: `nan` and `inf` as text are sent as such in base64.
        missing: So many vectors are left out at the end.
        shuffled: Vectors come in another order, with their indexes.
        without_index: And without saying which is which.
        takes: Parameters that are known; a request with others gets 400.
        most_texts: A request with more texts gets 413, as TEI has it.
        longest: A text of more characters gets 400.
        cut: The connection ends in the middle of the answer.
        raw: Sent as it is.
    """

    dimension: int = 8
    numbers: tuple[float | str, ...] | None = None
    missing: int = 0
    shuffled: bool = False
    without_index: bool = False
    shortens: bool = True
    takes: tuple[str, ...] = ("encoding_format", "dimensions")
    most_texts: int | None = None
    longest: int | None = None
    status: int | None = None
    error: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False
    raw: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it goes to the server."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Vectors:
        """As it came from the test."""
        numbers = None if body["numbers"] is None else tuple(body["numbers"])
        return cls(**{**body, "numbers": numbers, "takes": tuple(body["takes"])})


@dataclass
class VectorScript:
    """A lane's answers, and how many were in the making at once."""

    answers: list[Vectors] = field(default_factory=lambda: [Vectors()])
    now: int = 0
    most_at_once: int = 0

    def take(self) -> Vectors:
        """The next one."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


Answer = Callable[[VectorScript, web.Request, Mapping[str, Any]], Awaitable[web.StreamResponse]]


def vector_of(text: str, dimension: int) -> NDArray[np.float32]:
    """The numbers of a text."""
    total = np.full(dimension, 0.01)
    for word in text.lower().split():
        seed = int.from_bytes(sha256(word.encode()).digest()[:4], "big")
        total += np.random.default_rng(seed).normal(size=dimension)
    return np.asarray(total, dtype=np.float32)


async def openai_answer(script: VectorScript, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
    """`POST /embeddings`."""
    said = script.take()
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    unknown = [name for name in ("encoding_format", "dimensions") if name in body and name not in said.takes]
    if unknown:
        return _openai_error(400, f"Unrecognized request argument supplied: {unknown[0]}")
    if said.most_texts is not None and len(texts) > said.most_texts:
        words = f"batch size {len(texts)} > maximum allowed batch size {said.most_texts}"
        return web.json_response({"error": words, "error_type": "Validation"}, status=422)
    if (long := _too_long(said, texts)) is not None:
        return _openai_error(400, f"This model's maximum context length is 8192 tokens, however you requested {long}.")
    dimension = body.get("dimensions", said.dimension) if said.shortens else said.dimension
    encode = _base64 if body.get("encoding_format") == "base64" else _floats
    data = [
        {"object": "embedding", "index": n, "embedding": encode(row)}
        for n, row in enumerate(_rows(said, texts, dimension))
    ]
    if said.shuffled:
        random.Random(7).shuffle(data)
    if said.without_index:
        for each in data:
            del each["index"]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return await _sent(
        script, said, request, {"object": "list", "model": body["model"], "data": data, "usage": usage}, _openai_error
    )


async def bedrock_answer(script: VectorScript, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
    """`POST /model/{id}/invoke` of Titan and Cohere models."""
    said = script.take()
    model = unquote(request.match_info["model"])
    if any(name in model for name in TITAN):
        texts, wrong = [str(body.get("inputText"))], _wrong_titan(model, body)
        dimension = body.get("dimensions", 1536 if "v1" in model else 1024)
    elif "cohere.embed" in model:
        texts, wrong = list(body.get("texts") or [""]), _wrong_cohere(model, body)
        dimension = body.get("output_dimension", 1536 if "v4" in model else 1024)
    else:
        texts, wrong, dimension = [""], "The provided model identifier is invalid.", 0
    if wrong:
        return _bedrock_error(400, wrong)
    if (long := _too_long(said, texts)) is not None:
        return _bedrock_error(400, f"400 Bad Request: Too many input tokens. Max input tokens: 8192, tokens: {long}")
    rows = [_floats(row) for row in _rows(said, texts, dimension)]
    if any(name in model for name in TITAN):
        answer: dict[str, Any] = {"embedding": rows[0], "inputTextTokenCount": 3}
        if "v2" in model:
            answer["embeddingsByType"] = {"float": rows[0]}
    else:
        by_type = "embedding_types" in body
        kind = "embeddings_by_type" if by_type else "embeddings_floats"
        answer = {"id": "e", "response_type": kind, "embeddings": {"float": rows} if by_type else rows, "texts": texts}
    return await _sent(script, said, request, answer, _bedrock_error)


def _rows(said: Vectors, texts: list[str], dimension: int) -> list[NDArray[np.float32]]:
    rows = [vector_of(text, dimension) for text in texts]
    if said.numbers is not None:
        rows[0] = np.array([float(each) for each in said.numbers], dtype=np.float32)
    return rows[: len(rows) - said.missing]


def _too_long(said: Vectors, texts: list[str]) -> int | None:
    longest = max(map(len, texts))
    return longest if said.longest is not None and longest > said.longest else None


def _wrong_titan(model: str, body: Mapping[str, Any]) -> str | None:
    known = {"inputText"} if "v1" in model else {"inputText", "dimensions", "normalize", "embeddingTypes"}
    if unknown := sorted(set(body) - known):
        return f"Malformed input request: extraneous key [{unknown[0]}] is not permitted, please reformat your input."
    if not body.get("inputText"):
        return "Malformed input request: expected minLength: 1, actual: 0, please reformat your input and try again."
    if body.get("dimensions", 256) not in (256, 512, 1024):
        return "Malformed input request: dimensions is not a valid enum value."
    return None


def _wrong_cohere(model: str, body: Mapping[str, Any]) -> str | None:
    known = {"texts", "input_type", "truncate", "embedding_types", "images"}
    known |= {"output_dimension", "max_tokens", "inputs"} if "v4" in model else set()
    if unknown := sorted(set(body) - known):
        return f"Malformed input request: extraneous key [{unknown[0]}] is not permitted, please reformat your input."
    if body.get("input_type") not in ("search_document", "search_query", "classification", "clustering"):
        return "Malformed input request: input_type is not a valid enum value."
    if not isinstance(body.get("texts"), list) or not 1 <= len(body["texts"]) <= 96:
        return "Malformed input request: expected maxItems: 96, please reformat your input and try again."
    if "v3" in model and max(map(len, body["texts"])) > 2048:
        return "Malformed input request: expected maxLength: 2048, please reformat your input and try again."
    return None


async def _sent(
    script: VectorScript, said: Vectors, request: web.Request, answer: Mapping[str, Any], refuse: Any
) -> web.StreamResponse:
    script.now += 1
    script.most_at_once = max(script.most_at_once, script.now)
    try:
        await asyncio.sleep(said.delay_s)
    finally:
        script.now -= 1
    if said.status is not None:
        response: web.Response = refuse(said.status, said.error or "scripted", said.headers)
        return response
    content = said.raw.encode() if said.raw is not None else orjson.dumps(answer)
    if not said.cut:
        return web.Response(body=content, content_type="application/json")
    half = web.StreamResponse(headers={"content-length": str(len(content))})
    await half.prepare(request)
    await half.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.abort()
    return half


def _openai_error(status: int, words: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    error = words if isinstance(words, dict) else {"message": words, "type": "invalid_request_error", "code": None}
    return web.json_response({"error": error}, status=status, headers=headers)


def _bedrock_error(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    kind = {400: "ValidationException", 403: "AccessDeniedException", 429: "ThrottlingException"}.get(status)
    named = {"x-amzn-errortype": f"{kind or 'InternalServerException'}:http://internal.amazon.com/"}
    return web.json_response({"message": words}, status=status, headers={**named, **(headers or {})})


def _floats(row: NDArray[np.float32]) -> list[float | None]:
    return [float(number) if np.isfinite(number) else None for number in row]


def _base64(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
