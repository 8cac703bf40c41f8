"""What a call costs, and which price a model has."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from agent.providers.base import Tokens
from agent.routing.config import ModelsError, ModelsFile, ProviderEntry
from agent.routing.plan import Price
from agent.routing.prices import read_prices
from backend.settings import PRICES

PRICED = read_prices("gpt-4.1: {input: 2, output: 8}\ngpt-4.1-mini: {input: 0.4, output: 1.6, cache_read: 0.1}\n")


def entry(kind: str, model: str, **more: Any) -> ProviderEntry:
    """An entry of models.yaml."""
    found: ProviderEntry = TypeAdapter(ProviderEntry).validate_python({"kind": kind, "model": model, **more})
    return found


def test_cached_tokens_are_counted_once() -> None:
    """As part of the input, at their own price if they have one."""
    price = Price(1.0, 10.0, cache_read_usd=0.1, cache_write_usd=1.25)
    assert price.of(Tokens(1_000_000, 100_000, cache_read_tokens=400_000, cache_write_tokens=200_000)) == pytest.approx(
        0.4 * 1.0 + 0.4 * 0.1 + 0.2 * 1.25 + 0.1 * 10.0
    )
    assert Price(1.0, 10.0).of(Tokens(1_000_000, 0, cache_read_tokens=900_000)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4.1", Price(2, 8)),
        ("gpt-4.1-2025-04-14", Price(2, 8)),
        ("gpt-4.1-mini-2025-04-14", Price(0.4, 1.6, 0.1)),
        ("gpt-4.12", None),
        ("gpt-4.1-pro", None),
        ("gpt-4.1-mini-audio", None),
        ("gpt-4.1-latest", Price(2, 8)),
        ("gpt-4", None),
    ],
)
def test_a_name_stands_for_the_models_that_begin_with_it(model: str, price: Price | None) -> None:
    """The longest one, and only up to the end of a word."""
    assert PRICED.known(entry("openai", model)) == price


def test_inference_profiles_and_aliases_are_priced() -> None:
    """By the model behind the region's prefix, also in an ARN; by the name that the entry gives."""
    shipped = read_prices(PRICES.read_text("utf-8"))
    for model in ("eu.amazon.nova-lite-v1:0", "arn:aws:bedrock:eu-west-1:1:inference-profile/us.amazon.nova-lite-v1:0"):
        assert shipped.known(entry("bedrock", model)) == Price(0.06, 0.24)
    assert PRICED.of(entry("openai", "my-deployment", price="gpt-4.1")) == Price(2, 8)


def test_own_hardware_costs_nothing_and_the_unknown_is_told_where_it_matters() -> None:
    """A budget over a model without a price could not hold."""
    body: dict[str, Any] = {
        "providers": {
            "own": {"kind": "local", "model": "m", "base_url": "http://h/v1"},
            "new": {"kind": "openai", "model": "never-heard-of"},
        },
        "routes": {"default": {"primary": "own"}},
    }
    assert PRICED.missing(ModelsFile.model_validate(body)) == []
    ((place, what),) = PRICED.missing(ModelsFile.model_validate({**body, "budgets": {"day_usd": 1}}))
    assert place == "providers.new"
    assert "PRICES_FILE" in what


def test_a_wrong_price_file_is_told_with_its_place() -> None:
    """Every fault at once."""
    with pytest.raises(ModelsError) as caught:
        read_prices("a: {input: -1, output: 2}\nb: {input: 1}\n")
    assert {place for place, _ in caught.value.problems} == {"a.input", "b.output"}
