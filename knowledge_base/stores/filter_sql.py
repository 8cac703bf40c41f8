"""Filters as SQL over the attributes of `kb_documents d`. Keys and values are parameters, never part of the text.

What `filters.matches` says of the stored attributes holds here: a missing key fits `notEquals` only, true is not 1,
and a value of another type than the operator's fits nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from knowledge_base.filters import Filter, Group, Leaf
from knowledge_base.stores.storable import is_storable, scoped, to_json

COMPARES = {"greaterThan": ">", "greaterThanOrEquals": ">=", "lessThan": "<", "lessThanOrEquals": "<="}
JOINS = {"andAll": " AND ", "orAll": " OR "}


def compiled(where: Filter | None, base: int, values: list[Any]) -> str:
    """A condition, always true or false and never NULL; its parameters are appended to those in `values`."""
    if where is None:
        return "true"

    def parameter(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    return _compiled(where, base, parameter)


def _compiled(where: Filter, base: int, parameter: Callable[[Any], str]) -> str:
    if isinstance(where, Group):
        return f"({JOINS[where.operator].join(_compiled(each, base, parameter) for each in where.members)})"
    leaf = _possible(where)
    if leaf is None:  # no stored attribute has this name or value
        return "true" if where.operator == "notEquals" else "false"
    held = f"(d.attributes -> {parameter(str(base))}::text -> {parameter(leaf.key)}::text)"
    return _leaf(leaf, held, base, parameter)


def _possible(leaf: Leaf) -> Leaf | None:
    """Without values that cannot be stored; None when nothing is left of it."""
    if not is_storable(leaf.key) or not is_storable(leaf.value):
        return None
    if isinstance(leaf.value, tuple):
        values = tuple(each for each in leaf.value if is_storable(each))
        return replace(leaf, value=values) if values or leaf.operator == "notIn" else None
    return leaf


def _leaf(leaf: Leaf, held: str, base: int, parameter: Callable[[Any], str]) -> str:
    value = leaf.value
    if leaf.operator == "equals":
        return _equals(leaf.key, value, held, base, parameter)
    if leaf.operator == "notEquals":
        return f"NOT {_equals(leaf.key, value, held, base, parameter)}"
    if isinstance(value, tuple):
        return _among(leaf, value, held, base, parameter)
    if leaf.operator in COMPARES:
        number = f"{parameter(to_json(value))}::jsonb"
        return f"coalesce(jsonb_typeof({held}) = 'number' AND {held} {COMPARES[leaf.operator]} {number}, false)"
    if leaf.operator == "listContains":
        # What the index can find, and then that it is a list of the attribute itself.
        narrow = f"d.attributes @> {parameter(scoped(base, {leaf.key: [value]}))}::jsonb"
        return f"({narrow} AND coalesce(jsonb_typeof({held}) = 'array', false))"
    if leaf.operator == "startsWith":
        text = f"{parameter(value)}::text"
        return f"coalesce(jsonb_typeof({held}) = 'string' AND starts_with({held} #>> '{{}}', {text}), false)"
    return _contains(held, f"{parameter(value)}::text")


def _equals(key: str, value: Any, held: str, base: int, parameter: Callable[[Any], str]) -> str:
    narrow = f"d.attributes @> {parameter(scoped(base, {key: value}))}::jsonb"
    return f"({narrow} AND coalesce({held} = {parameter(to_json(value))}::jsonb, false))"


def _among(leaf: Leaf, value: tuple[Any, ...], held: str, base: int, parameter: Callable[[Any], str]) -> str:
    if leaf.operator == "in":
        return f"({' OR '.join(_equals(leaf.key, each, held, base, parameter) for each in value)})"
    members = f"{parameter([to_json(each) for each in value])}::text[]::jsonb[]"
    there = f"{held} IS NOT NULL AND jsonb_typeof({held}) <> 'null'"
    return f"coalesce({there} AND NOT {held} = ANY({members}), false)"


def _contains(held: str, text: str) -> str:
    # CASE, since only it keeps lists from what is for strings, whatever order the planner likes.
    return f"""coalesce(CASE jsonb_typeof({held})
        WHEN 'string' THEN strpos({held} #>> '{{}}', {text}) > 0
        WHEN 'array' THEN EXISTS (
            SELECT 1 FROM jsonb_array_elements({held}) AS each(one)
            WHERE jsonb_typeof(one) = 'string' AND strpos(one #>> '{{}}', {text}) > 0
        ) END, false)"""
