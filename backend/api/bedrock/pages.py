"""Tokens by which a client asks for the next page of a search.

A token holds which passages were shown, so that none comes twice whatever is loaded meanwhile. It is good for the same
question of the same caller to the same base; its checksum tells a token that was changed or used elsewhere. That is no
signature: who makes one up learns nothing that a question would not have told.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from agent.errors import InvalidRequest

_KEY, _SUM = 8, 16  # bytes of a chunk's key and of the checksum
_HINT = "is not a token of this question; use nextToken of the answer before, with the same question and configuration"


def write(shown: Sequence[str], question: Any) -> str:
    """The token of a page that comes after these chunks (keys of 16 hex digits). `question`: anything JSON."""
    body = b"".join(bytes.fromhex(key) for key in shown)
    return base64.urlsafe_b64encode(_sum(body, question) + body).decode()


def read(token: str, question: Any) -> list[str]:
    """The chunks that were shown; `InvalidRequest` for a token that was not made for this question."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("unreadable token", field="nextToken", user_hint=_HINT) from error
    checksum, body = raw[:_SUM], raw[_SUM:]
    if not body or len(body) % _KEY or checksum != _sum(body, question):
        raise InvalidRequest("a token of another question", field="nextToken", user_hint=_HINT)
    return [body[at : at + _KEY].hex() for at in range(0, len(body), _KEY)]


def _sum(body: bytes, question: Any) -> bytes:
    return sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS) + b"\x00" + body).digest()[:_SUM]
