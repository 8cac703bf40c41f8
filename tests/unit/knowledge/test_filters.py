"""Filters that cannot be meant: refused by their place, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from backend.cli.kb import _filter
from knowledge_base.errors import InvalidRequest
from knowledge_base.filters import read_filter


@pytest.mark.parametrize("operator", ["equals", "greaterThan", "in"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -(2**63), None])
def test_a_number_that_cannot_be_held_against_another_is_refused(operator: str, value: Any) -> None:
    """As attributes are: below 2^63, in either direction."""
    held = [value] if operator == "in" else value
    with pytest.raises(InvalidRequest) as refused:
        read_filter({operator: {"key": "a", "value": held}})
    assert refused.value.field == f"filter.{operator}.value"
    assert read_filter({"equals": {"key": "a", "value": 2**62}})


@pytest.mark.parametrize(("text", "said"), [("[" * 100_000, "nested"), ("{", "no JSON"), ("9" * 5000, "no JSON")])
def test_a_filter_that_is_no_json_is_an_argument_that_is_wrong(text: str, said: str) -> None:
    """And not a traceback."""
    with pytest.raises(typer.BadParameter, match=said):
        _filter(text)
