"""A knowledge base behind Bedrock's Retrieve operation: Outcrop's own, or one in AWS.

A request to AWS, or with `KNOWLEDGE_BASE_SIGN=1` to any other address, is signed with the credentials of the
environment; with `KNOWLEDGE_BASE_TOKEN` it carries that as a bearer instead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from tools.contract import JsonObject, Readable
from tools.errors import KnowledgeUnavailable
from tools.signing import signature

USUAL = 4
MOST = 100  # results of one request, as Bedrock has it
SERVICE = "bedrock"  # requests to bedrock-agent-runtime are signed for this name
UNREACHABLE = "I can't look that up in our documents just now."
_AWS = (".amazonaws.com", ".amazonaws.com.cn")
_LOCATIONS = ("uri", "url", "id")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a request proves who asks: by signature, or by a token. Neither is in any repr."""

    key_id: str = ""
    secret: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = "us-east-1"
    token: str = field(default="", repr=False)

    def headers(self, url: str, body: bytes) -> dict[str, str]:
        """The headers of one POST; names in lower case."""
        address = urlsplit(url)
        headers = {"content-type": "application/json", "host": address.netloc}
        if self.token:
            return {**headers, "authorization": f"Bearer {self.token}"}
        if not self.key_id:
            return headers
        headers["x-amz-date"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        if self.session_token:
            headers["x-amz-security-token"] = self.session_token
        scope = f"{headers['x-amz-date'][:8]}/{self.region}/{SERVICE}/aws4_request"
        names, proof = signature(self.secret, scope, "POST", address.path, headers, body)
        said = f"Credential={self.key_id}/{scope}, SignedHeaders={names}, Signature={proof}"
        return {**headers, "authorization": f"AWS4-HMAC-SHA256 {said}"}


@dataclass(frozen=True, slots=True)
class Retrieve:
    """A `KnowledgeSearch` over HTTP."""

    client: httpx.AsyncClient
    url: str  # of the service, for instance https://bedrock-agent-runtime.eu-west-1.amazonaws.com
    knowledge_base: str  # its id, ten letters and digits
    credentials: Credentials = Credentials()
    usual: int = USUAL
    min_score: float = 0.0
    timeout_s: float = 8.0

    async def search(self, query: str, most: int | None, readable: Readable | None) -> JsonObject:
        """See `KnowledgeSearch.search`. Asks for more while too few may be read."""
        began, wanted = time.perf_counter(), most or self.usual
        size = wanted
        while True:
            answer = await self._ask(query, size)
            found = answer.get("retrievalResults")
            results = [_passage(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
            passages = [each for each in results if readable is None or readable(each["attributes"])]
            if len(passages) >= wanted or len(results) < size or size >= MOST:
                break
            size = min(size * 3, MOST)
        fitting = [each for each in passages if each["score"] >= self.min_score][:wanted]
        reason = "below_threshold" if passages else str(answer.get("reason") or "no_match")
        return {
            "knowledge_base": self.knowledge_base,
            "passages": fitting,
            "reason": "ok" if fitting else reason,
            "explanation": "" if fitting else str(answer.get("explanation") or "No passage fits that question."),
            "milliseconds": round((time.perf_counter() - began) * 1000, 1),
        }

    async def _ask(self, query: str, size: int) -> JsonObject:
        wanted = {"vectorSearchConfiguration": {"numberOfResults": size}}
        return await self._post(orjson.dumps({"retrievalQuery": {"text": query}, "retrievalConfiguration": wanted}))

    async def _post(self, body: bytes) -> JsonObject:
        url = f"{self.url.rstrip('/')}/knowledgebases/{quote(self.knowledge_base, safe='')}/retrieve"
        try:
            response = await self.client.post(
                url, content=body, headers=self.credentials.headers(url, body), timeout=self.timeout_s
            )
            answer = orjson.loads(response.content) if response.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
            raise KnowledgeUnavailable(UNREACHABLE) from error
        if not isinstance(answer, dict):
            raise KnowledgeUnavailable(UNREACHABLE, upstream_status=response.status_code)
        return answer


def retrieval(environ: Mapping[str, str], client: httpx.AsyncClient) -> Retrieve | None:
    """The knowledge base that the environment names by `KNOWLEDGE_BASE_URL` and `KNOWLEDGE_BASE_ID`, if it does."""
    url, knowledge_base = environ.get("KNOWLEDGE_BASE_URL", ""), environ.get("KNOWLEDGE_BASE_ID", "")
    if not url or not knowledge_base:
        return None
    host = urlsplit(url).hostname or ""
    # A function in AWS has credentials of its own, which are nobody else's business.
    signs = environ.get("KNOWLEDGE_BASE_SIGN") == "1" or host.endswith(_AWS)
    credentials = Credentials(
        key_id=environ.get("AWS_ACCESS_KEY_ID", "") if signs else "",
        secret=environ.get("AWS_SECRET_ACCESS_KEY", ""),
        session_token=environ.get("AWS_SESSION_TOKEN", ""),
        region=environ.get("KNOWLEDGE_BASE_REGION") or environ.get("AWS_REGION") or "us-east-1",
        token=environ.get("KNOWLEDGE_BASE_TOKEN", ""),
    )
    return Retrieve(
        client,
        url,
        knowledge_base,
        credentials,
        usual=int(environ.get("KNOWLEDGE_PASSAGES", USUAL)),
        min_score=float(environ.get("KNOWLEDGE_MIN_SCORE", 0)),
        timeout_s=float(environ.get("KNOWLEDGE_TIMEOUT_SECONDS", 8)),
    )


def _passage(result: JsonObject) -> JsonObject:
    """One result in our form. Outcrop's own metadata says all of it; of another base, what Bedrock gives."""
    raw = result.get("metadata")
    metadata: JsonObject = raw if isinstance(raw, dict) else {}
    content = result.get("content")
    text = str(content.get("text") or "") if isinstance(content, dict) else ""
    uri = _uri(result.get("location")) or str(metadata.get("x-amz-bedrock-kb-source-uri") or "")
    start = _number(metadata.get("start"), 0)
    page = metadata.get("page", metadata.get("x-amz-bedrock-kb-document-page-number"))
    return {
        "document_id": str(metadata.get("document_id") or result.get("documentId") or uri or "document"),
        "title": str(metadata.get("title") or uri.rstrip("/").rpartition("/")[2]),
        "section": str(metadata.get("section") or ""),
        "page": None if page is None else _number(page, 0) or None,
        "start": start,
        "end": _number(metadata.get("end"), start + len(text)),
        "version": _number(metadata.get("version"), 0) or None,
        "score": _score(result.get("score")),
        "text": text,
        "uri": uri,
        "attributes": metadata,
    }


def _uri(location: Any) -> str:
    """The address in a location, which is an object of one object and the word that says its kind."""
    inner = [each for each in location.values() if isinstance(each, dict)] if isinstance(location, dict) else []
    return next((str(each[key]) for each in inner for key in _LOCATIONS if each.get(key)), "")


def _number(value: Any, otherwise: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return otherwise
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return otherwise


def _score(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
