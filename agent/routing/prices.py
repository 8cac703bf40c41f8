"""The price file: what models cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agent.routing.config import ModelsError, ModelsFile, ProviderEntry
from agent.routing.plan import Price

_REGION = re.compile(r"^(?:us|eu|apac|global|jp|au|ca|us-gov)\.")
# What may follow a name: a date, a version, "latest". Anything else is another model, at another price.
_VERSION = re.compile(r"(?:-(?:\d{8}|\d{4}-\d\d-\d\d|v\d+|latest)|[:@][\w.-]+)+")
_OWN = ("local", "ollama")
Usd = Annotated[float, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None


_FILE = TypeAdapter(dict[str, _Entry])


class Prices:
    """What is known of prices. A name stands for all versions of its model."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(sorted(prices.items(), key=lambda item: -len(item[0])))

    def of(self, entry: ProviderEntry) -> Price:
        """The price of a provider's model; nothing for one that is not known."""
        return self.known(entry) or Price()

    def known(self, entry: ProviderEntry) -> Price | None:
        """Likewise, None for one that is not known."""
        model = entry.price or _REGION.sub("", entry.model.rpartition("/")[2])
        for name, price in self._prices.items():
            if model == name or (model.startswith(name) and _VERSION.fullmatch(model, len(name))):
                return price
        return Price() if entry.kind in _OWN else None

    def missing(self, models: ModelsFile) -> list[tuple[str, str]]:
        """Providers without a price in a file that sets budgets, which could not hold for them."""
        if not any(models.budgets.model_dump().values()):
            return []
        return [
            (f"providers.{name}", f"has no price for {entry.model!r}, so no budget can hold; add it to PRICES_FILE")
            for name, entry in models.providers.items()
            if self.known(entry) is None
        ]


def read_prices(text: str) -> Prices:
    """Parse a price file; `ModelsError` names every fault in it."""
    try:
        raw: Any = yaml.safe_load(text)
        entries = _FILE.validate_python(raw or {})
    except ValidationError as error:
        problems = [(".".join(map(str, each["loc"])) or "the file", each["msg"]) for each in error.errors()]
        raise ModelsError(problems) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ModelsError([("the file", "is no YAML")]) from error
    return Prices(
        {name: Price(each.input, each.output, each.cache_read, each.cache_write) for name, each in entries.items()}
    )
