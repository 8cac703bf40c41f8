"""What goes between a parser and its worker processes: frames of a JSON head and bytes.

Nothing that comes back is more than JSON, whatever a hostile file has made of the worker.
"""

from __future__ import annotations

import struct
from dataclasses import asdict
from typing import Any

import orjson

from knowledge_base.documents import Found, Heading, Page, Parsed, Raw
from knowledge_base.parsing.limits import Limits

LENGTHS = struct.Struct(">IQQ")  # of head, content and sidecar
NO_SIDECAR = 2**64 - 1


def request(raw: Raw, limits: Limits) -> list[bytes]:
    """A document to read, as parts of one frame."""
    head = orjson.dumps({"found": asdict(raw.found), "media_type": raw.media_type, "limits": asdict(limits)})
    sidecar = raw.sidecar
    lengths = LENGTHS.pack(len(head), len(raw.content), NO_SIDECAR if sidecar is None else len(sidecar))
    return [lengths, head, raw.content, sidecar or b""]


def read_request(head: bytes, content: bytes, sidecar: bytes | None) -> tuple[Raw, Limits]:
    """Inverse of `request`."""
    held = orjson.loads(head)
    return Raw(Found(**held["found"]), content, held["media_type"], sidecar), Limits(**held["limits"])


def answer(body: dict[str, Any]) -> bytes:
    """One frame: eight bytes of length, and JSON."""
    encoded = orjson.dumps(body)
    return struct.pack(">Q", len(encoded)) + encoded


def parsed_as_json(parsed: Parsed) -> dict[str, Any]:
    """Offsets of headings and pages as plain lists, of which there may be many."""
    return {
        "text": parsed.text,
        "title": parsed.title,
        "media_type": parsed.media_type,
        "attributes": parsed.attributes,
        "doc_id": parsed.doc_id,
        "headings": [[each.start, each.level, each.text] for each in parsed.headings],
        "pages": [[each.start, each.number] for each in parsed.pages],
        "language": parsed.language,
        "context": parsed.context,
        "warnings": parsed.warnings,
    }


def read_parsed(body: dict[str, Any]) -> Parsed:
    """Inverse of `parsed_as_json`."""
    headings = tuple(Heading(*each) for each in body.pop("headings"))
    pages = tuple(Page(*each) for each in body.pop("pages"))
    return Parsed(**{**body, "warnings": tuple(body["warnings"])}, headings=headings, pages=pages)
