"""The same model behind every kind of provider: its entry in `models.yaml`, and in what kinds may differ.

Most of it their capability records say. The flags of a row are what has no place there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from agent.errors import ModelError
from agent.providers import kinds
from agent.providers.base import Chunk, Probe, Provider
from agent.routing.config import ProviderEntry, read
from agent.transcript import JsonObject
from tests.contract.model_calls import ask
from tests.doubles.model_service import Lane, ModelService, Reply, Request, Wire

KEY = "sk-do-not-show-me"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET = "do/not+show+me"
ENVIRON: Mapping[str, str] = {"THE_KEY": KEY, "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET}
# What the default chain of AWS finds.
AWS_ENVIRON = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
CLAUDE = "eu.anthropic.claude-sonnet-4-20250514-v1:0"
THINKING: JsonObject = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Row:
    """One kind, as it is configured; `entry` lacks the server's address, which belongs under `address`."""

    wire: Wire
    entry: JsonObject
    address: tuple[str, ...] = ("base_url",)
    key: str | None = KEY  # what its server sees of the credentials
    blamed: str = "THE_KEY"  # what a refusal of the key tells to check
    thoughts: Literal["kept", "seen", "dropped"] = "kept"  # within a turn, where the record says that it thinks
    cached: bool = True  # its wire tells of cached tokens
    writes_cached: bool = False  # and of those that went into the cache
    lists_models: bool = True  # so that a probe need not ask for an answer
    in_threads: bool = False  # the integration blocks: some calls at once, each in a thread
    closes: bool = True  # closing the wire closes its idle connections


_LANGCHAIN: JsonObject = {"kind": "langchain", "model": "model-1"}

ROWS: dict[str, Row] = {
    "openai": Row("openai", {"kind": "openai", "model": "model-1", "api_key_env": "THE_KEY"}),
    "local": Row("openai", {"kind": "local", "model": "model-1", "api_key_env": "THE_KEY"}),
    "ollama": Row("ollama", {"kind": "ollama", "model": "model-1"}, key=None, blamed="providers.ollama", cached=False),
    "anthropic": Row(
        "anthropic",
        {"kind": "anthropic", "model": "model-1", "api_key_env": "THE_KEY", "options": THINKING},
        writes_cached=True,
    ),
    "bedrock": Row(
        "bedrock",
        {
            "kind": "bedrock",
            "model": CLAUDE,
            "region": "eu-west-1",
            "options": {"additionalModelRequestFields": THINKING},
        },
        address=("endpoint_url",),
        key=ACCESS_KEY,
        blamed="providers.bedrock",
        writes_cached=True,
        lists_models=False,
    ),
    "bedrock_agent": Row(
        "bedrock-agent",
        {"kind": "bedrock_agent", "agent_id": "AGENT12345", "alias_id": "ALIAS12345", "region": "eu-west-1"},
        address=("endpoint_url",),
        key=ACCESS_KEY,
        blamed="providers.bedrock_agent",
        thoughts="seen",
        cached=False,
        lists_models=False,
    ),
    "chat_openai": Row(
        "openai",
        {**_LANGCHAIN, "factory": "langchain_openai:ChatOpenAI", "arguments_env": {"api_key": "THE_KEY"}},
        address=("arguments", "base_url"),
        thoughts="dropped",
        lists_models=False,
        closes=False,
    ),
    "chat_bedrock": Row(
        "bedrock",
        {
            **_LANGCHAIN,
            "factory": "langchain_aws:ChatBedrockConverse",
            "model": CLAUDE,
            "arguments": {"region_name": "eu-west-1"},
            "arguments_env": {"aws_access_key_id": "ACCESS_KEY", "aws_secret_access_key": "SECRET_KEY"},
        },
        address=("arguments", "base_url"),
        key=ACCESS_KEY,
        blamed="SECRET_KEY",
        thoughts="seen",
        writes_cached=True,
        lists_models=False,
        in_threads=True,
        closes=False,
    ),
}


@dataclass
class Bench:
    """A row at work: one lane of the scripted server, and the provider that asks it. For the tests of a module."""

    name: str
    row: Row
    service: ModelService
    lane: Lane
    before: int = 0  # requests that came before the present script
    _made: dict[str, Provider] = field(default_factory=dict)

    @classmethod
    async def open(cls, name: str, service: ModelService) -> Bench:
        """A row by its name; its server takes the row's key only."""
        row = ROWS[name]
        return cls(name, row, service, await service.lane(wire=row.wire, api_key=row.key))

    async def close(self) -> None:
        """Close all providers that were made."""
        for provider in self._made.values():
            await provider.wire.close()

    @property
    def provider(self) -> Provider:
        """As the entry says."""
        return self.made()

    @property
    def thinking(self) -> Provider:
        """With a record that says that it thinks first, where that makes a difference."""
        return self.made(capabilities={"reasoning": True}) if self.row.thoughts == "kept" else self.provider

    def entry(self, address: str | None = None, **changes: Any) -> ProviderEntry:
        """The row's entry of a `models.yaml`, with these changes, for the lane or another address."""
        entry = {**self.row.entry, **changes}
        *inside, last = self.row.address
        given = address or self.lane.url(self.row.wire)
        entry |= {inside[0]: {**entry.get(inside[0], {}), last: given}} if inside else {last: given}
        models = {"providers": {self.name: entry}, "routes": {"default": {"primary": self.name}}}
        return read(json.dumps(models), ENVIRON).providers[self.name]

    def made(self, address: str | None = None, environ: Mapping[str, str] = ENVIRON, **changes: Any) -> Provider:
        """The provider of the entry with these changes; the same one whenever they are the same."""
        known = repr((address, environ, changes))
        if known not in self._made:
            self._made[known] = kinds.make(self.name, self.entry(address, **changes), environ)
        return self._made[known]

    async def script(self, *replies: Reply, repeat_last: bool = False) -> None:
        """What the lane answers from now on; `asked` begins anew."""
        self.before = len(await self.lane.requests(listings=True))
        await self.lane.script(*replies, repeat_last=repeat_last)

    async def asked(self) -> list[Request]:
        """The requests for answers since `script`; none may be one that the real server would refuse."""
        came = [r for r in (await self.lane.requests(listings=True))[self.before :] if not r.is_listing]
        assert [problem for request in came for problem in request.problems] == []
        return came

    async def answer(self, reply: Reply) -> list[Chunk]:
        """What comes of this reply."""
        await self.script(reply)
        return await ask(self.provider)

    async def failure(self, reply: Reply, provider: Provider | None = None) -> ModelError:
        """What this reply fails with; the server is asked once, and no secret is told."""
        await self.script(reply, Reply("For whoever asks again."))
        with pytest.raises(ModelError) as caught:
            await ask(provider or self.provider)
        self.keeps_secrets(str(caught.value), caught.value.user_hint, repr(caught.value))
        assert await self.lane.left() == 1
        return caught.value

    async def probed(self, provider: Provider) -> Probe:
        """What the provider finds out; no secret is told."""
        assert provider.probe
        found = await provider.probe()
        self.keeps_secrets(found.cause, found.fix)
        return found

    def keeps_secrets(self, *texts: str) -> None:
        """Fails where a secret stands in one of them, or a configuration key that this kind does not have."""
        known = type(self.entry()).model_fields
        for text in texts:
            assert not [secret for secret in (KEY, SECRET) if secret in text]
            assert [key for key in _keys_in(text, self.name) if key not in known] == []


def _keys_in(text: str, name: str) -> Iterable[str]:
    """The members of the provider's entry that a text names."""
    return re.findall(rf"(?<![\w.])providers\.{name}\.(\w+)", text)
