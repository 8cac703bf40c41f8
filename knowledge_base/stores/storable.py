"""Texts and attributes as PostgreSQL can hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# PostgreSQL has no NUL in a text, and UTF-8 no lone surrogate.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The same text; what cannot be stored becomes U+FFFD, so that spans stay where they are."""
    return UNSTORABLE.sub(REPLACEMENT, text)


def is_storable(value: object) -> bool:
    """Whether a stored attribute could be this."""
    return not (isinstance(value, str) and UNSTORABLE.search(value))


def scoped(base: int, attributes: Mapping[str, Any]) -> str:
    """Attributes as they are stored: below the number of their base."""
    return to_json({str(base): attributes})


def to_json(value: Any) -> str:
    """JSON that `jsonb` takes, with the numbers that Python has."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # exact, where the shortest decimal of a large one is not
    if isinstance(value, Mapping):
        return {storable(str(key)): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
