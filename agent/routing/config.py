"""`models.yaml`: which models there are, and which of them answers when.

`read` tells everything that is wrong with a file at once, each with its path and what to do. Keys of providers are
never in the file: it names the environment variables that hold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.routing.plan import ErrorClass

OFFLINE = "offline"  # the planner: always there, never configured
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(gt=0)]
Usd = Annotated[float, Field(gt=0)]


class ModelsError(Exception):
    """The file cannot be used; `problems` holds (path, what is wrong and how to mend it) of everything in it."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{path}: {what}" for path, what in problems))
        self.problems = problems


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallLimits(_Part):
    """How much of a provider is used, over all replicas (`concurrent`: by each). Off where it is not set."""

    per_second: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] = 1
    concurrent: Annotated[int, Field(ge=1)] | None = None


class Timeouts(_Part):
    """Seconds. `first_token_s`: until the first useful piece; another model is asked after that."""

    connect_s: Seconds = 5.0
    idle_s: Seconds = 60.0
    first_token_s: Seconds | None = None


class _Provider(_Part):
    """What all kinds have."""

    model: str = Field(min_length=1)
    capabilities: dict[str, bool | int] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)  # further members of each request
    timeouts: Timeouts = Timeouts()
    limits: CallLimits = CallLimits()
    price: str | None = None  # entry of the price file, where it is not named as the model


class OpenAIProvider(_Provider):
    """Chat Completions of OpenAI, or of whatever is fully compatible with it."""

    kind: Literal["openai"]
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    organization: str = ""


class LocalProvider(_Provider):
    """An OpenAI-compatible server of one's own: vLLM, llama.cpp, LM Studio."""

    kind: Literal["local"]
    base_url: str
    api_key_env: str | None = None


class OllamaProvider(_Provider):
    """Ollama's own API."""

    kind: Literal["ollama"]
    base_url: str = "http://127.0.0.1:11434"
    api_key_env: str | None = None  # for one behind a proxy that wants a key


class AnthropicProvider(_Provider):
    """Anthropic's Messages API."""

    kind: Literal["anthropic"]
    base_url: str = "https://api.anthropic.com"
    api_key_env: str = "ANTHROPIC_API_KEY"


class Guardrail(_Part):
    """A Bedrock guardrail."""

    id: str
    version: str
    trace: Literal["enabled", "disabled", "enabled_full"] = "disabled"
    stream_mode: Literal["sync", "async"] = "sync"


class _Aws(_Provider):
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None


class BedrockProvider(_Aws):
    """Bedrock's Converse API; `model` is a model id, an inference profile id, or an ARN."""

    kind: Literal["bedrock"]
    guardrail: Guardrail | None = None


class BedrockAgentProvider(_Aws):
    """A managed Bedrock agent, which does the whole turn.

    `session_attributes` maps names that its functions read to facts (`agent.providers.bedrock_agent.FACTS`).
    """

    kind: Literal["bedrock_agent"]
    model: str = "bedrock-agent"
    agent_id: str
    alias_id: str
    session_attributes: dict[str, str] = Field(default_factory=dict)


class LangChainProvider(_Provider):
    """Any LangChain chat model: `factory` is `package.module:Class`, `arguments` its keyword arguments.

    `arguments_env` maps an argument to the environment variable that holds its value.
    """

    kind: Literal["langchain"]
    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    arguments_env: dict[str, str] = Field(default_factory=dict)


ProviderEntry = Annotated[
    OpenAIProvider
    | LocalProvider
    | OllamaProvider
    | AnthropicProvider
    | BedrockProvider
    | BedrockAgentProvider
    | LangChainProvider,
    Field(discriminator="kind"),
]
Maskable = Literal["throttle", "timeout", "unavailable", "context", "misbehaved"]


class Fallback(_Part):
    """Who takes over, after which errors. Errors of ours (a wrong key, an unknown model) are masked by nobody."""

    to: str
    on: tuple[Maskable, ...] = Field(default=("throttle", "timeout", "unavailable", "context"), min_length=1)


class RollbackBudget(_Part):
    """When a canary is taken back. `p95` and `cost` are multiples of what the primary needs in the same window."""

    errors: Annotated[float, Field(gt=0, le=1)] = 0.05
    p95: Annotated[float, Field(gt=1)] | None = 2.0
    cost: Annotated[float, Field(gt=1)] | None = None
    window_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    samples: Annotated[int, Field(ge=1)] = 50


class Canary(_Part):
    """A share of the conversations, each of which stays where it began. `tenants` have shares of their own."""

    to: str
    percent: Percent
    tenants: dict[str, Percent] = Field(default_factory=dict)
    rollback: RollbackBudget = RollbackBudget()


class Shadow(_Part):
    """A share of the turns is run again by another model, with the recorded results of tools, seen by nobody."""

    to: str
    percent: Percent
    concurrent: Annotated[int, Field(ge=1)] = 2
    waiting: Annotated[int, Field(ge=0)] = 20  # further ones are left out


class RouteConfig(_Part):
    """Which models answer, and in which order."""

    primary: str
    fallbacks: tuple[Fallback, ...] = ()
    canary: Canary | None = None
    shadow: Shadow | None = None
    degraded: Literal["offline"] | None = "offline"  # answers while no model can be reached at all


class Budgets(_Part):
    """US dollars on models. A day is one of UTC. Off where it is not set."""

    turn_usd: Usd | None = None
    user_day_usd: Usd | None = None
    tenant_day_usd: Usd | None = None
    day_usd: Usd | None = None


class ModelsFile(_Part):
    """The whole file. `route` answers, unless a tenant has one of its own."""

    providers: dict[Name, ProviderEntry] = Field(default_factory=dict)
    routes: dict[Name, RouteConfig] = Field(min_length=1)
    route: str = "default"
    tenants: dict[str, str] = Field(default_factory=dict)
    budgets: Budgets = Budgets()


def read(text: str, environ: Mapping[str, str]) -> ModelsFile:
    """Parse and check a file; `ModelsError` names every fault in it."""
    raw = _parsed(text)
    problems: list[tuple[str, str]] = []
    models: ModelsFile | None = None
    try:
        models = ModelsFile.model_validate(raw)
    except ValidationError as error:
        # A list whose only item is wrong counts as empty, too; that is no fault of its own.
        found = [each for each in error.errors() if each["type"] != "too_short" or not each["input"]]
        problems += [(_path(each["loc"]), _said(dict(each))) for each in found]
    problems += [*_wrong_names(raw), *_unset(raw, environ)]
    if models is None or problems:
        raise ModelsError(sorted(dict.fromkeys(problems)))
    return models


class _Loader(yaml.SafeLoader):
    """Takes `on` for a word, and refuses a key that stands twice: the second would silently replace the first."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (of the base class, which never changes)
        first: [(tag, pattern) for tag, pattern in resolvers if first in "tTfF" or not tag.endswith(":bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            place = f"line {key.start_mark.line + 1}"
            raise ModelsError([(place, f"`{key.value}` stands here a second time; leave one out")])
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parsed(text: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # a date that is none, a list as a key
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else "the file"
        raise ModelsError([(place, f"is no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}")]) from error
    if not isinstance(raw, dict):
        raise ModelsError([("the file", "holds no mapping; it begins with `providers:` and `routes:`")])
    return raw


def _wrong_names(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """References to what does not exist. Works on what was written, so that other faults do not hide them."""
    providers, routes = _dict(raw.get("providers")), _dict(raw.get("routes"))
    known = [*map(str, providers), OFFLINE]
    if OFFLINE in providers:
        yield "providers.offline", "is the planner's name; call this provider otherwise"
    for name, route in routes.items():
        for path, to in _references(f"routes.{name}", _dict(route)):
            if isinstance(to, str) and to not in known:
                yield path, f"there is no provider {to!r}; there are {', '.join(known)}"
        shadow = _dict(_dict(route).get("shadow")).get("to")
        if isinstance(shadow, str) and _dict(providers.get(shadow)).get("kind") == "bedrock_agent":
            # Its functions run at AWS, out of reach of a toolbox that only repeats what was recorded.
            yield f"routes.{name}.shadow.to", f"{shadow} is a managed agent, which would act in earnest; name a model"
    named = {"route": raw.get("route", "default"), **_prefixed("tenants", _dict(raw.get("tenants")))}
    for path, to in named.items():
        if isinstance(to, str) and routes and to not in routes:
            yield path, f"there is no route {to!r}; there are {', '.join(map(str, routes))}"


def _references(path: str, route: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{path}.primary", route.get("primary")
    fallbacks = route.get("fallbacks")
    for n, fallback in enumerate(fallbacks if isinstance(fallbacks, list) else []):
        yield f"{path}.fallbacks.{n}.to", _dict(fallback).get("to")
    for part in ("canary", "shadow"):
        yield f"{path}.{part}.to", _dict(route.get(part)).get("to")


def _unset(raw: dict[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Keys that a provider needs and the environment does not hold."""
    for name, entry in _dict(raw.get("providers")).items():
        provider = _dict(entry)
        default = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}.get(str(provider.get("kind")))
        wanted = {"api_key_env": provider.get("api_key_env", default)}
        wanted |= _prefixed("arguments_env", _dict(provider.get("arguments_env")))
        for path, variable in wanted.items():
            if isinstance(variable, str) and not _VARIABLE.fullmatch(variable):
                # Not repeated: it may be the key itself.
                yield (
                    f"providers.{name}.{path}",
                    "is no variable's name; put the key in the environment and name it",
                )
            elif isinstance(variable, str) and not environ.get(variable):
                yield f"providers.{name}.{path}", f"{variable} is not set in the environment; set it to the key"


_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in values.items()}


_KINDS = ("openai", "local", "ollama", "anthropic", "bedrock", "bedrock_agent", "langchain")


def _path(place: tuple[int | str, ...]) -> str:
    """The place as it is written in the file: without the kind, by which pydantic tells its classes apart."""
    parts = [str(each) for each in place if each != "[key]"]
    if len(parts) > 2 and parts[0] == "providers" and parts[2] in _KINDS:
        del parts[2]
    return ".".join(parts) or "the file"


def _said(error: dict[str, Any]) -> str:
    given, context = error.get("input"), error.get("ctx") or {}
    match error["type"]:
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            return "is no key that is known here; correct its name or leave it out"
        case "union_tag_invalid":
            return f"there is no kind {context.get('tag')!r}; there are {', '.join(_KINDS)}"
        case "union_tag_not_found":
            return f"has no `kind`; give one of {', '.join(_KINDS)}"
        case "less_than_equal":
            return f"{given!r} is more than {context['le']:g}; give at most that"
        case "greater_than_equal":
            return f"{given!r} is less than {context['ge']:g}; give at least that"
        case "greater_than":
            return f"{given!r} has to be more than {context['gt']:g}"
        case "literal_error":
            return f"{given!r} is none of {context.get('expected')}"
        case "string_pattern_mismatch":
            return f"{given!r} is not of the form {context.get('pattern')}"
    # The value itself is not repeated: somebody may have put a key where its variable's name belongs.
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}"


def takes_over(fallback: Fallback) -> frozenset[ErrorClass]:
    """The classes of a fallback, as a plan wants them."""
    return frozenset(fallback.on)
