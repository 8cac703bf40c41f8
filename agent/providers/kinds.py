"""Providers by their kind, made from `models.yaml`. Each kind is imported when it is first wanted: some are heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from agent.providers.base import Capabilities, Provider, Where
from agent.routing.config import (
    AnthropicProvider,
    BedrockAgentProvider,
    BedrockProvider,
    LangChainProvider,
    LocalProvider,
    ModelsError,
    OllamaProvider,
    OpenAIProvider,
    ProviderEntry,
)

_LIBRARIES = {"botocore": "aws", "langchain_openai": "langchain", "langchain_aws": "langchain"}


def make(name: str, entry: ProviderEntry, environ: Mapping[str, str], where: Where | None = None) -> Provider:
    """The provider of an entry; `ModelsError` says which library or setting is missing.

    `where`: the keys that it is configured by, when those are not the ones of `models.yaml`.
    """
    try:
        return _make(name, entry, environ, where or _where(name, entry))
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        extra = _LIBRARIES.get(missing)
        fix = f"pip install 'outcrop[{extra}]'" if extra else f"install the package that brings {missing}"
        raise ModelsError([(f"providers.{name}.kind", f"{entry.kind} needs {missing}; {fix}")]) from error
    except (TypeError, ValueError, AttributeError) as error:
        # What it says is not repeated: libraries quote what they were given, keys too.
        what = f"cannot be made of what is given ({type(error).__name__}); look at `options` and `arguments`"
        raise ModelsError([(f"providers.{name}", what)]) from error


def _make(name: str, entry: ProviderEntry, environ: Mapping[str, str], where: Where) -> Provider:
    common: dict[str, Any] = {"model": entry.model, "options": entry.options, "where": where}
    timeouts: dict[str, Any] = {"connect_timeout_s": entry.timeouts.connect_s, "idle_timeout_s": entry.timeouts.idle_s}
    match entry:
        case OpenAIProvider() | LocalProvider():
            from agent.providers import openai

            key = environ.get(entry.api_key_env, "") if entry.api_key_env else ""
            organization = entry.organization if isinstance(entry, OpenAIProvider) else ""
            chat = openai.OpenAIConfig(
                base_url=entry.base_url, api_key=key, organization=organization, **common, **timeouts
            )
            if isinstance(entry, OpenAIProvider):
                return openai.openai(chat, name, _able(name, openai.OPENAI, entry))
            return openai.local(chat, name, _able(name, openai.LOCAL, entry))
        case OllamaProvider():
            from agent.providers import ollama

            key = environ.get(entry.api_key_env, "") if entry.api_key_env else ""
            served = ollama.OllamaConfig(base_url=entry.base_url, api_key=key, **common, **timeouts)
            return ollama.ollama(served, name, _able(name, ollama.OLLAMA, entry))
        case AnthropicProvider():
            from agent.providers import anthropic

            key = environ.get(entry.api_key_env, "")
            messages = anthropic.AnthropicConfig(base_url=entry.base_url, api_key=key, **common, **timeouts)
            return anthropic.anthropic(messages, name, _able(name, anthropic.ANTHROPIC, entry))
        case BedrockProvider():
            from agent.providers import bedrock

            guardrail = bedrock.Guardrail(**entry.guardrail.model_dump()) if entry.guardrail else None
            converse = bedrock.BedrockConfig(**_aws(entry), guardrail=guardrail, **common, **timeouts)
            return bedrock.bedrock(converse, name, _able(name, bedrock.BEDROCK, entry))
        case BedrockAgentProvider():
            from agent.providers import bedrock_agent

            managed = bedrock_agent.BedrockAgentConfig(
                **_aws(entry),
                agent_id=entry.agent_id,
                alias_id=entry.alias_id,
                session_attributes=entry.session_attributes,
                **common,
                **timeouts,
            )
            return bedrock_agent.bedrock_agent(managed, name, _able(name, bedrock_agent.BEDROCK_AGENT, entry))
        case LangChainProvider():
            from agent.providers import langchain

            secret = {key: environ[variable] for key, variable in entry.arguments_env.items()}
            chain = langchain.LangChainConfig(
                factory=entry.factory,
                arguments={**entry.arguments, **secret},
                secrets=tuple(secret.values()),
                idle_timeout_s=entry.timeouts.idle_s,
                **common,
            )
            return langchain.langchain(chain, name, _able(name, langchain.LANGCHAIN, entry))


def _aws(entry: BedrockProvider | BedrockAgentProvider) -> dict[str, Any]:
    return {"region": entry.region, "profile": entry.profile, "endpoint_url": entry.endpoint_url}


def _where(name: str, entry: ProviderEntry) -> Where:
    path = f"providers.{name}"
    variable = getattr(entry, "api_key_env", None)
    key = f"{variable} (the api_key_env of {path})" if variable else f"the credentials of {path}"
    place = "region" if isinstance(entry, BedrockProvider | BedrockAgentProvider) else "base_url"
    if isinstance(entry, LangChainProvider):
        place = "arguments"
        key = f"{', '.join(entry.arguments_env.values())} (the arguments_env of {path})" if entry.arguments_env else key
    return Where(key=key, url=f"{path}.{place}", model=f"{path}.model")


def _able(name: str, known: Capabilities, entry: ProviderEntry) -> Capabilities:
    """What the kind can do, as far as the file does not say otherwise."""
    types = {each.name: type(getattr(known, each.name)) for each in fields(Capabilities)}
    problems = [
        (
            f"providers.{name}.capabilities.{key}",
            f"takes {'true or false' if types[key] is bool else 'a number'}"
            if key in types
            else f"is no capability; there are {', '.join(types)}",
        )
        for key, value in entry.capabilities.items()
        if types.get(key) is not type(value)
    ]
    if problems:
        raise ModelsError(problems)
    changes: dict[str, Any] = dict(entry.capabilities)
    return replace(known, **changes)
