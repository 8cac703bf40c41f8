"""Passages and citations as Bedrock's clients read them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from knowledge_base.retrieval.base import Passage, SearchResult

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CitedPart:
    """A part [start, end) of an answer, in characters, and what it rests on."""

    start: int
    end: int
    text: str
    passages: tuple[Passage, ...]


def retrieved(result: SearchResult, page: Sequence[Passage], next_token: str | None) -> JsonObject:
    """The body of Retrieve. `reason` and `explanation` are ours, and say why there is nothing."""
    results = [
        {**_reference(each), "score": each.score, "documentId": each.doc_id[:1825]} for each in page
    ]  # fmt: skip
    body: JsonObject = {"retrievalResults": results, "reason": result.reason, "explanation": result.explanation}
    return body | ({"nextToken": next_token} if next_token else {})


def answered(session_id: str, text: str, parts: Sequence[CitedPart]) -> JsonObject:
    """The body of RetrieveAndGenerate."""
    return {"sessionId": session_id, "output": {"text": text}, "citations": [_citation(each) for each in parts]}


def citation_event(part: CitedPart) -> JsonObject:
    """A citation within a stream: in the form that older clients read, and in that of newer ones."""
    citation = _citation(part)
    return {"citation": citation, **citation}


def _citation(part: CitedPart) -> JsonObject:
    # AWS counts the last character in: a part of 320 characters at the beginning is 0 to 319.
    span = {"start": part.start, "end": part.end - 1}
    return {
        "generatedResponsePart": {"textResponsePart": {"text": part.text, "span": span}},
        "retrievedReferences": [_reference(each) for each in part.passages],
    }


def _reference(passage: Passage) -> JsonObject:
    return {
        "content": {"type": "TEXT", "text": passage.text},
        "location": location(passage),
        "metadata": metadata(passage),
    }


def location(passage: Passage) -> JsonObject:
    """Where the document is, by the kind of its address."""
    uri = passage.uri
    if uri.startswith("s3://"):
        return {"type": "S3", "s3Location": {"uri": uri}}
    if uri.startswith(("http://", "https://")):
        return {"type": "WEB", "webLocation": {"url": uri}}
    return {"type": "CUSTOM", "customDocumentLocation": {"id": passage.doc_id}}


def metadata(passage: Passage) -> JsonObject:
    """The document's attributes, what a citation of ours says, and the keys that AWS adds."""
    ours = {
        "document_id": passage.doc_id,
        "title": passage.title,
        "section": passage.section,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
        "version": passage.version,
        "chunk": passage.chunk,
        "x-amz-bedrock-kb-source-uri": passage.uri or None,
        "x-amz-bedrock-kb-chunk-id": passage.chunk,
        "x-amz-bedrock-kb-data-source-id": data_source_id(passage.source) if passage.source else None,
        "x-amz-bedrock-kb-document-page-number": passage.page,
    }
    return passage.attributes | {key: value for key, value in ours.items() if value is not None}


def data_source_id(source: str) -> str:
    """Ten letters and digits for the name of a source, always the same."""
    return base64.b32encode(sha256(source.encode()).digest())[:10].decode()
