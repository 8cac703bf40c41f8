"""Where each action group runs: the schema of `action_groups.yaml` in an agent's folder.

Keys are group names. A group of ours may be moved (`executor: lambda`) or tried elsewhere by share (`trial`); any other
name mounts tools that somebody else wrote. Relative paths start at the file's folder; secrets are named by the
environment variable that holds them, never written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, model_validator

from tools.contract import Effect

Role = Literal["customer", "coordinator", "operator", "anonymous"]
SessionAttribute = Literal["customer_id", "client_id", "user_id", "role", "customer_type"]


class ExecutorError(Exception):
    """An executor cannot be used as it is configured; the message names the group, the key and the fix."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolConfig(_Config):
    """What the definition says of one mounted tool, by the name it has where it comes from.

    `restate`, `question` and `done` are Jinja templates over `title`, `arguments` and the arguments by name;
    `idempotent`: whoever runs it does nothing twice for one key, so it may be sent again with the same one.
    `reprompt`: what the REPROMPT of a Lambda function says of an effect.
    """

    effect: Effect | None = None
    name: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9_-]{1,64}$", description="what models call it")
    description: str | None = None
    from_session: dict[str, SessionAttribute] = Field(default={}, description="argument -> what the session holds")
    idempotent: bool = False
    reprompt: Literal["ok", "error", "unknown"] = "unknown"
    verbs: tuple[str, ...] = ()
    restate: str | None = None
    question: str | None = None
    done: str | None = None
    claims: tuple[str, ...] = ()


class _Group(_Config):
    timeout_s: float = Field(default=20.0, gt=0, le=900)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_reset_s: float = Field(default=10.0, gt=0)


class _Mounted(_Group):
    """What all groups have whose tools are somebody else's."""

    specialist: str | None = None
    roles: tuple[Role, ...] = ("customer",)
    default_effect: Effect = Field(default="gated", description="of tools that `tools` says nothing of")
    only: tuple[str, ...] = Field(default=(), description="offer these tools alone; empty: all")
    prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9_-]{0,32}$", description="put before every tool's name")
    tools: dict[str, ToolConfig] = {}


class InProcessGroup(_Config):
    """A group of ours, in this process. `module` holds its `ACTIONS`, if it is none of the built-in groups."""

    executor: Literal["in_process"]
    module: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*$")
    specialist: str | None = None
    tools: dict[str, ToolConfig] = Field(default={}, description="wording; effects and names stand in the code")
    trial: Trial | None = None


class LambdaGroup(_Mounted):
    """A Lambda function: one of ours (`outcrop lambda build`), or one that somebody wrote for Bedrock Agents.

    `function` is a name, an ARN, or `path/to/module.py:handler` to run it on this machine. A foreign one has a schema:
    `functions` (Bedrock function details, JSON or YAML) or `openapi`.
    """

    executor: Literal["lambda"]
    module: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*$", description="of a group of ours")
    function: str = Field(min_length=1)
    endpoint_url: HttpUrl | None = Field(default=None, description="instead of the region's own")
    region: str | None = None
    functions: Path | None = None
    openapi: Path | None = None
    session: dict[str, SessionAttribute] | None = Field(
        default=None, description="session attribute -> what it holds; left out: everything but credentials"
    )
    environment: dict[str, str] = Field(default={}, description="of a handler that runs on this machine")
    trial: Trial | None = None

    @model_validator(mode="after")
    def _one_schema(self) -> LambdaGroup:
        if len([each for each in (self.functions, self.openapi, self.module) if each]) > 1:
            raise ValueError("has more than one of `functions`, `openapi` and `module`; keep the one that describes it")
        return self

    @property
    def is_ours(self) -> bool:
        """Whether it runs a group of this project, whose schema is in the code."""
        return self.functions is None and self.openapi is None


class Trial(_Config):
    """A share of a group's calls that a second executor answers.

    A conversation stays with one of the two. The reads named by `compare` are asked of both, and differences noted:
    name only those that leave nothing behind upstream.
    """

    percent: float = Field(ge=0, le=100)
    compare: tuple[str, ...] = ()
    to: Annotated[InProcessGroup | LambdaGroup, Field(discriminator="executor")]


class Auth(_Config):
    """One header that says who we are; its value stands in an environment variable."""

    header: str = Field(default="authorization", pattern=r"^[A-Za-z0-9-]+$")
    value_from: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="environment variable")
    scheme: str = Field(default="", description="word before the value, such as Bearer")


class HttpGroup(_Mounted):
    """The operations of an OpenAPI 3 document, called over HTTP."""

    executor: Literal["http"]
    openapi: Path
    base_url: HttpUrl | None = Field(default=None, description="instead of the document's first server")
    hosts: tuple[str, ...] = Field(min_length=1, description="hosts that may be called, with port if not the usual")
    auth: Auth | None = None


class Command(_Config):
    """A server that is started here and spoken to over its standard streams."""

    command: tuple[str, ...] = Field(min_length=1)
    environment: dict[str, str] = {}
    environment_from: tuple[str, ...] = Field(default=(), description="variables passed on from our own environment")


class McpGroup(_Mounted):
    """The tools of an MCP server, over `stdio` or streamable HTTP (`url`)."""

    executor: Literal["mcp"]
    stdio: Command | None = None
    url: HttpUrl | None = None
    auth: Auth | None = None

    @model_validator(mode="after")
    def _one_transport(self) -> McpGroup:
        if (self.stdio is None) == (self.url is None):
            raise ValueError("needs either `stdio` or `url`")
        return self


class ClientGroup(_Mounted):
    """Tools that the client of the conversation runs itself (return of control)."""

    executor: Literal["client"]
    functions: Path | None = None
    openapi: Path | None = None
    timeout_s: float = Field(default=60.0, gt=0, le=900)

    @model_validator(mode="after")
    def _one_schema(self) -> ClientGroup:
        if (self.functions is None) == (self.openapi is None):
            raise ValueError("needs either `functions` or `openapi`, which says what the client can do")
        return self


GroupConfig = Annotated[
    InProcessGroup | LambdaGroup | HttpGroup | McpGroup | ClientGroup, Field(discriminator="executor")
]


class ActionGroups(RootModel[dict[str, GroupConfig]]):
    """The whole file."""

    model_config = ConfigDict(frozen=True)
    root: dict[Annotated[str, Field(pattern=r"^([0-9a-zA-Z][_-]?){1,100}$")], GroupConfig] = {}
