"""Whether two calls of a tool ask for the same, however they write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.transcript import JsonObject, Message, ToolMessage
from tools.contract import ToolSpec

# What an object is called by, among the members that a tool's result shows of it.
_NAMES = re.compile(r"(?:^|_)(?:id|index|number)$")


class Things:
    """What the results of a conversation call their objects, so that a place in a list and an order number can be one.

    Read when it is first needed. The latest result counts: places in lists change.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._named: list[frozenset[str]] | None = None

    def same(self, one: Any, other: Any) -> bool:
        """Whether two JSON values mean the same."""
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.same, one, other))
        if isinstance(one, dict | list) or isinstance(other, dict | list):
            return bool(one == other)
        return _plain(one) == _plain(other) or self._one_thing(_plain(one), _plain(other))

    def _one_thing(self, one: str, other: str) -> bool:
        if self._named is None:
            self._named = list(_named(self._messages))
        ambiguous, clear = sorted((one, other), key=len)
        return next((clear in names for names in self._named if ambiguous in names), False)


def differing(
    spec: ToolSpec, things: Things, one: Sequence[JsonObject], other: Sequence[JsonObject]
) -> tuple[str, ...]:
    """The arguments, of those that a model may give, in which two calls differ.

    Each call is given in all forms that are known of it: as the model wrote it, and with its effective arguments.
    """
    return tuple(
        name
        for name, schema in spec.parameters.get("properties", {}).items()
        if not any(
            things.same(this, that) for this in _values(name, schema, one) for that in _values(name, schema, other)
        )
    )


def _values(name: str, schema: JsonObject, forms: Sequence[JsonObject]) -> list[Any]:
    """What an argument is in these forms of a call; left out is as good as its default."""
    default = schema.get("default")
    return [default if form.get(name) is None else form[name] for form in forms]


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split()).casefold()


def _named(messages: Iterable[Message]) -> Iterator[frozenset[str]]:
    for message in reversed(tuple(messages)):
        if isinstance(message, ToolMessage):
            yield from _objects(message.result)


def _objects(node: Any) -> Iterator[frozenset[str]]:
    if isinstance(node, dict):
        names = frozenset(
            _plain(value) for key, value in node.items() if _NAMES.search(key) and isinstance(value, str | int)
        )
        if len(names) > 1:
            yield names
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _objects(value)
