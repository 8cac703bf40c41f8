"""Bedrock's metadata filters: read from JSON once, then held against attributes here or compiled by a store.

Grammar and limits: RetrievalFilter of the Bedrock Agent Runtime API. `matches` is the meaning that every store is
tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from knowledge_base.errors import InvalidRequest

Scalar = str | float | bool
Operator = Literal[
    "equals",
    "notEquals",
    "greaterThan",
    "greaterThanOrEquals",
    "lessThan",
    "lessThanOrEquals",
    "in",
    "notIn",
    "startsWith",
    "listContains",
    "stringContains",
]
COMPARES: dict[str, Callable[[float, float], bool]] = {
    "greaterThan": lambda a, b: a > b,
    "greaterThanOrEquals": lambda a, b: a >= b,
    "lessThan": lambda a, b: a < b,
    "lessThanOrEquals": lambda a, b: a <= b,
}
OF_SCALAR = ("equals", "notEquals", "listContains")
OF_LIST = ("in", "notIn")
OF_STRING = ("startsWith", "stringContains")
GROUPS = ("andAll", "orAll")
MAX_DEPTH = 5
MAX_LEAVES = 100
LARGEST = 2.0**63


@dataclass(frozen=True, slots=True)
class Leaf:
    """One condition on one attribute; `value` has the operator's type: scalar, number, string, or scalars."""

    operator: Operator
    key: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """All (`andAll`) or any (`orAll`) of at least two filters."""

    operator: Literal["andAll", "orAll"]
    members: tuple[Filter, ...]


Filter = Leaf | Group


def read_filter(body: object, field: str = "filter") -> Filter:
    """A filter from its JSON; `InvalidRequest` names the place and what would be right."""
    leaves = [0]
    return _read(body, field, 1, leaves)


def to_json(where: Filter) -> dict[str, Any]:
    """Inverse of `read_filter`."""
    if isinstance(where, Group):
        return {where.operator: [to_json(each) for each in where.members]}
    value = list(where.value) if isinstance(where.value, tuple) else where.value
    return {where.operator: {"key": where.key, "value": value}}


def matches(where: Filter, attributes: Mapping[str, Any]) -> bool:
    """Whether a document with these attributes fits."""
    if isinstance(where, Group):
        found = (matches(each, attributes) for each in where.members)
        return all(found) if where.operator == "andAll" else any(found)
    return _fits(where, attributes.get(where.key))


def same(a: object, b: object) -> bool:
    """Equality as JSON has it: true is not 1, and 1 is 1.0."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _fits(leaf: Leaf, held: Any) -> bool:
    operator, value = leaf.operator, leaf.value
    if operator == "equals":
        return same(held, value)
    if operator == "notEquals":
        return not same(held, value)
    if isinstance(value, tuple):
        inside = any(same(held, each) for each in value)
        return inside if operator == "in" else held is not None and not inside
    if operator in COMPARES:
        return _is_number(held) and _is_number(value) and COMPARES[operator](held, value)  # type: ignore[arg-type]
    if operator == "listContains":
        return isinstance(held, list) and any(same(each, value) for each in held)
    if operator == "startsWith":
        return isinstance(held, str) and held.startswith(str(value))
    if isinstance(held, list):
        return any(isinstance(each, str) and str(value) in each for each in held)
    return isinstance(held, str) and str(value) in held


def _read(body: object, field: str, depth: int, leaves: list[int]) -> Filter:
    if not isinstance(body, dict) or len(body) != 1:
        raise InvalidRequest(field, "must be an object with exactly one operator")
    ((operator, inner),) = body.items()
    here = f"{field}.{operator}"
    if operator in GROUPS:
        return _read_group(operator, inner, here, depth, leaves)
    leaves[0] += 1
    if leaves[0] > MAX_LEAVES:
        raise InvalidRequest(field, f"has more than {MAX_LEAVES} conditions")
    if operator not in (*OF_SCALAR, *OF_LIST, *OF_STRING, *COMPARES):
        known = ", ".join((*OF_SCALAR, *COMPARES, *OF_LIST, *OF_STRING, *GROUPS))
        raise InvalidRequest(field, f"has no operator of that name; there are {known}")
    if not isinstance(inner, dict) or set(inner) != {"key", "value"}:
        raise InvalidRequest(here, "must have `key` and `value`, and nothing else")
    key, value = inner["key"], inner["value"]
    if not isinstance(key, str) or not 1 <= len(key) <= 100:
        raise InvalidRequest(f"{here}.key", "must be a string of 1 to 100 characters")
    return Leaf(operator, key, _value(operator, value, f"{here}.value"))


def _read_group(operator: str, inner: object, here: str, depth: int, leaves: list[int]) -> Filter:
    if not isinstance(inner, list) or len(inner) < 2:
        raise InvalidRequest(here, "must be a list of at least two filters")
    if depth >= MAX_DEPTH:
        raise InvalidRequest(here, f"is nested more than {MAX_DEPTH} deep")
    members = tuple(_read(each, f"{here}[{n}]", depth + 1, leaves) for n, each in enumerate(inner))
    return Group("andAll" if operator == "andAll" else "orAll", members)


def _value(operator: str, value: object, field: str) -> Scalar | tuple[Scalar, ...]:
    if operator in COMPARES:
        if not _is_number(value):
            raise InvalidRequest(field, "must be a number below 2^63")
    elif operator in OF_STRING:
        if not isinstance(value, str) or not value:
            raise InvalidRequest(field, "must be a string that is not empty")
    elif operator in OF_LIST:
        if not isinstance(value, list) or not value or not all(_is_scalar(each) for each in value):
            raise InvalidRequest(field, "must be a list of strings, numbers or booleans that is not empty")
        return tuple(value)
    elif not _is_scalar(value):
        raise InvalidRequest(field, "must be a string, a number or a boolean")
    return value  # type: ignore[return-value]


def _is_number(value: object) -> bool:
    # As attributes are. The comparison is false of NaN too, and never converts a long integer.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bool) or _is_number(value)
