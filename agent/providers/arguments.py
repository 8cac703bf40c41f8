"""Arguments of calls as models write them: read, repaired where no doubt is left, else refused with a reason."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection
from typing import Any

import orjson

from agent.transcript import JsonObject


def bare_name(name: str) -> str:
    """A tool's name without what a server left around it: control tokens, a namespace, blanks."""
    name = name.partition("<|")[0].strip()
    for space in ("functions.", "functions:", "default_api."):
        name = name.removeprefix(space)
    return name


def split_names(name: str, known: Collection[str]) -> list[str]:
    """The known names that a name consists of; empty when it does not."""
    if name in known:
        return [name]
    for each in sorted(known, key=len, reverse=True):
        if name.startswith(each) and (rest := split_names(name[len(each) :], known)):
            return [each, *rest]
    return []


def json_objects(text: str) -> list[JsonObject]:
    """The JSON objects that a text consists of, one after the other; empty when it is anything else."""
    decoder, at, found = json.JSONDecoder(strict=False), 0, []
    try:
        while at < len(text):
            body, at = decoder.raw_decode(text, at)
            found.append(body)
            while at < len(text) and text[at].isspace():
                at += 1
    except (ValueError, RecursionError):
        return []
    return [body for body in found if isinstance(body, dict)]


def read_arguments(text: str) -> tuple[JsonObject, str | None]:
    """The arguments of a call, and what is wrong with them.

    Repaired is only what leaves no doubt: fences, a trailing comma, raw line breaks in texts, JSON in a JSON string, a
    Python dict. Arguments that were cut off are an error: what is missing cannot be known.
    """
    body = text.strip()
    if body.startswith("```"):
        body = body.strip("`").removeprefix("json").strip()
    if body in ("", "null"):
        return {}, None
    parsed = _parse(body)
    if isinstance(parsed, str):
        parsed = _parse(parsed.strip())
    if not isinstance(parsed, dict):
        return {}, "the arguments are no JSON object"
    try:
        orjson.dumps(parsed)
    except TypeError:  # keys that are no text, numbers without end, half characters
        return {}, "the arguments hold what JSON cannot"
    return parsed, None


def _parse(body: str) -> Any:
    for candidate in (body, body.replace(",}", "}").replace(",]", "]")):
        try:
            return json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
    try:
        return ast.literal_eval(body) if body.startswith("{") else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
