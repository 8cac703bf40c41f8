"""What is said about a document beside its text: front matter, and the sidecar `<name>.metadata.json`.

Both become attributes, which filters compare. Where both name one, the sidecar's holds. The sidecar's grammar is that
of Amazon Bedrock's knowledge bases.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from knowledge_base.documents import AttributeValue, Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing.draft import clean, one_line
from knowledge_base.parsing.front_matter import FrontMatterFault, read_front_matter, split_front_matter

T = TypeVar("T")

MAX_BYTES = 64 * 1024
MAX_KEY = 100  # as long as a filter's key may be
MAX_ATTRIBUTES = 200
MAX_CONTEXT = 1000  # characters of attributes that are embedded
MAX_ID = 500
_LARGEST = 2**63
_TYPED = {
    "STRING": "stringValue",
    "NUMBER": "numberValue",
    "BOOLEAN": "booleanValue",
    "STRING_LIST": "stringListValue",
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Attributes by name; those of ours that mean more are out of them, but stay there too."""

    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    title: str = ""
    doc_id: str | None = None
    context: str = ""


class _Fault(Exception):
    """What is wrong with which key, and the fix."""


def read_metadata(raw: Raw, text: str | None, *, front: bool = False) -> tuple[Metadata, str]:
    """Metadata, and the text: after its front matter, if `front` says that there may be one.

    `Refused("bad_metadata")` names the file, the key and the fix.
    """
    name = raw.found.name
    attributes: dict[str, AttributeValue] = {}
    embedded: list[str] = []
    rest = text or ""
    if front:
        held, rest = split_front_matter(rest)
        attributes |= _told(f"{name}, front matter", lambda: _front(held))
    if raw.sidecar is not None:
        sidecar = raw.sidecar
        beside, embedded = _told(f"{name}.metadata.json", lambda: _sidecar(sidecar))
        attributes |= beside
    return _told(name, lambda: _metadata(attributes, embedded)), rest


def _told(place: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (_Fault, FrontMatterFault) as fault:
        raise Refused("bad_metadata", f"{place}: {fault}") from None


def _metadata(attributes: dict[str, AttributeValue], embedded: list[str]) -> Metadata:
    if len(attributes) > MAX_ATTRIBUTES:
        raise _Fault(f"has {len(attributes)} attributes; {MAX_ATTRIBUTES} are allowed")
    title, doc_id = (_our_text(attributes, key) for key in ("title", "doc_id"))
    if doc_id is not None and len(doc_id) > MAX_ID:
        raise _Fault(f"`doc_id` must have at most {MAX_ID} characters")
    context = "\n".join(f"{key}: {_shown(attributes[key])}" for key in embedded)
    if len(context) > MAX_CONTEXT:
        raise _Fault(f"attributes with `includeForEmbedding` must have at most {MAX_CONTEXT} characters in all")
    return Metadata(attributes, (title or "")[:300], doc_id, context)


def _our_text(attributes: dict[str, AttributeValue], key: str) -> str | None:
    value = attributes.get(key)
    if value is None:
        return None
    if isinstance(value, list | bool) or not str(value).strip():
        raise _Fault(f"`{key}` must be a text that is not empty")
    return str(value)


def _shown(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _front(front: str | None) -> dict[str, AttributeValue]:
    held: dict[str, AttributeValue] = {}
    for key, value in (read_front_matter(front) if front is not None else {}).items():
        held[_key(key)] = _value(key, value)
    return held


def _sidecar(content: bytes) -> tuple[dict[str, AttributeValue], list[str]]:
    body = _json(content)
    held = body.get("metadataAttributes") if isinstance(body, dict) else None
    if not isinstance(held, dict):
        raise _Fault('must be {"metadataAttributes": {"key": value, …}}')
    attributes: dict[str, AttributeValue] = {}
    embedded: list[str] = []
    for key, value in held.items():
        name = _key(key)
        if isinstance(value, dict):
            value, included = _typed(name, value)
            if included:
                embedded.append(name)
        attributes[name] = _value(name, value)
    return attributes, embedded


def _json(content: bytes) -> Any:
    if len(content) > MAX_BYTES:
        raise _Fault(f"is larger than {MAX_BYTES // 1024} KB; leave out what filters do not need")
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise _Fault("is not UTF-8; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Fault(f"is not JSON: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise _Fault("is nested too deeply, or holds a number of thousands of digits") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for key, value in pairs:
        if key in held:
            raise _Fault(f"`{one_line(key)[:MAX_KEY]}` stands there twice; keep one")
        held[key] = value
    return held


def _no_number(constant: str) -> None:
    raise _Fault(f"{constant} is no JSON; write a number")


def _typed(key: str, body: dict[str, Any]) -> tuple[Any, bool]:
    unknown = set(body) - {"value", "includeForEmbedding"}
    value, included = body.get("value"), body.get("includeForEmbedding", False)
    if unknown or not isinstance(value, dict):
        raise _Fault(f'`{key}` must be a value, or {{"value": {{"type": …}}, "includeForEmbedding": true|false}}')
    if not isinstance(included, bool):
        raise _Fault(f"`{key}.includeForEmbedding` must be true or false")
    kind = value.get("type")
    member = _TYPED.get(kind) if isinstance(kind, str) else None
    if member is None:
        raise _Fault(f"`{key}.value.type` must be one of {', '.join(_TYPED)}")
    if set(value) != {"type", member}:
        raise _Fault(f"`{key}.value` of type {kind} must have `type` and `{member}`, and nothing else")
    held = value[member]
    fits = {
        "STRING": isinstance(held, str),
        "NUMBER": isinstance(held, int | float) and not isinstance(held, bool),
        "BOOLEAN": isinstance(held, bool),
        "STRING_LIST": isinstance(held, list) and all(isinstance(each, str) for each in held),
    }
    if not fits[str(kind)]:
        raise _Fault(f"`{key}.value.{member}` is not of type {kind}")
    return held, included


def _key(key: str) -> str:
    name = one_line(key)
    if not 1 <= len(name) <= MAX_KEY:
        raise _Fault(f"`{name[:MAX_KEY]}`: a key must have 1 to {MAX_KEY} characters")
    return name


def _value(key: str, value: Any) -> AttributeValue:
    """A value that can be stored and compared."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value).strip()
    if isinstance(value, int | float):
        if not abs(value) < _LARGEST:  # false of NaN too, and never converts a long integer
            raise _Fault(f"`{key}` must be a number that is finite and below 2^63; put it in quotes to have it as text")
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [clean(each).strip() for each in value]
    raise _Fault(f"`{key}` must be a text, a number, true, false, or a list of texts")
