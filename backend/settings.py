"""Configuration: environment and `.env`, validated at start, every error at once with its key and its fix."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import agent
import knowledge_base

FIXTURE = Path(__file__).parent / "embedded" / "pf360_simulator" / "fixture.yaml"
AGENT = Path(agent.__file__).parent / "definitions" / "scheduling"
CONTENT = Path(knowledge_base.__file__).parent / "content"
PRICES = Path(agent.__file__).parent / "routing" / "prices.yaml"


class SettingsError(Exception):
    """The configuration cannot be used; one line per wrong key, each with its fix."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{key}: {what}" for key, what in problems))
        self.problems = problems


class Settings(BaseSettings):
    """All keys, in capitals in the environment. Durations are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", env_ignore_empty=True)

    # who answers
    llm_provider: Literal["offline", "openai", "local", "ollama", "anthropic", "bedrock"] = "offline"
    llm_api_url: str | None = Field(default=None, description="base URL of the model's server, where it is not usual")
    llm_api_key: SecretStr | None = None
    openai_api_key: SecretStr | None = Field(default=None, description="used when LLM_API_KEY is not set")
    anthropic_api_key: SecretStr | None = Field(default=None, description="likewise, for anthropic")
    llm_model: str | None = None

    models_file: Path | None = Field(default=None, description="models.yaml: several models, and routes over them")
    prices_file: Path = Field(default=PRICES, description="what models cost (YAML)")
    model_route: str | None = Field(default=None, description="the route that answers, in place of the file's")

    model_tape: Path | None = Field(default=None, description="file that model calls are recorded in or replayed from")
    model_tape_mode: Literal["record", "replay"] | None = None

    agent_dir: Path = Field(default=AGENT, description="folder of the agent's definition")

    # documents that answers rest on
    kb_store: Literal["pgvector", "chroma"] = "pgvector"
    kb_chroma_url: str | None = None
    kb_embedding: Literal["embedded", "openai", "bedrock", "onnx", "none"] = "embedded"
    kb_embedding_model: str | None = Field(default=None, description="name of the model; of onnx: path or URL")
    kb_embedding_url: str | None = Field(default=None, description="base URL of an OpenAI-compatible server")
    kb_embedding_key: SecretStr | None = None
    kb_embedding_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of the onnx weights")
    kb_embedding_dimensions: int | None = Field(default=None, ge=16, le=4000, description="of models that can shorten")
    kb_embedding_per_second: float | None = Field(default=None, gt=0, description="texts a second, at most")
    kb_chunking: Literal["sections", "fixed", "hierarchical"] = "sections"
    kb_chunk_chars: int = Field(default=1000, ge=100, le=20_000)
    kb_content: Path = Field(default=CONTENT, description="folder that the base `default` is filled from at start")
    kb_autoload: bool = Field(default=True, description="0: nothing is loaded at start")
    kb_allowed_hosts: str = Field(default="", description="private hosts that pages may be loaded from, by commas")
    kb_max_file_mb: int = Field(default=50, ge=1, le=1000)
    kb_max_pages: int = Field(default=2000, ge=1)
    kb_parse_seconds: float = Field(default=60.0, gt=0, description="longest time to parse one document")
    kb_delete_percent: float = Field(default=30.0, ge=0, le=100, description="a sync that would delete more stops")

    # where things are kept; nothing is started for a URL that is given
    database_url: str | None = None
    redis_url: str | None = None
    outcrop_data_dir: Path = Path(".outcrop")
    directory_file: Path = Field(default=FIXTURE, description="office locations and demo identities (YAML)")

    # where we listen, and for whom
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    auth_mode: Literal["none"] = "none"
    tenant: str = Field(default="default", pattern=r"^[a-z0-9-]{1,40}$")
    allowed_origins: str = Field(default="", description="further origins whose pages may call us, comma-separated")

    # the system behind the tools
    pf360_api_url: str | None = None
    pf360_admin_url: str | None = None
    pf360_admin_secret: SecretStr | None = None
    pf360_jwt_secret: SecretStr | None = None
    pf360_clock: Literal["fixture", "live"] = "live"
    pf360_connect_timeout_seconds: float = Field(default=3.0, gt=0)
    pf360_read_timeout_seconds: float = Field(default=8.0, gt=0)
    pf360_write_timeout_seconds: float = Field(default=20.0, gt=0, description="writes and availability")
    pf360_settle_seconds: float = Field(default=10.0, ge=0, description="how long a write may take to show up")
    pf360_read_retries: int = Field(default=2, ge=0, le=5, description="further tries of a read; writes have none")
    pf360_retry_pause_seconds: float = Field(default=0.5, ge=0, description="before the first; it doubles each time")
    pf360_longest_wait_seconds: float = Field(default=2.0, ge=0, description="for an upstream that says 429")
    pf360_breaker_failures: int = Field(default=20, ge=1, description="in a row, then the upstream is left alone")
    pf360_breaker_reset_seconds: float = Field(default=3.0, gt=0, description="until one call may try it again")
    confirm_schedule_flag: bool = Field(
        default=True, description="0: no booking, move or assignment is sent, replies say so"
    )
    cancel_schedule_flag: bool = Field(default=True, description="0: no cancellation is sent, replies say so")

    # turns and sessions
    session_idle_seconds: int = Field(default=1800, ge=1)
    turn_lease_seconds: float = Field(default=15.0, ge=0.2)
    effect_look_seconds: float = Field(default=15.0, ge=0.2, description="between looks for effects without outcome")
    drain_seconds: float = Field(default=20.0, ge=0, description="how long a stop waits for running turns")
    max_running_turns: int = Field(default=200, ge=1)
    max_followers_per_turn: int = Field(default=16, ge=1)

    @field_validator("llm_api_url", "pf360_api_url", "pf360_admin_url", "kb_chroma_url", "kb_embedding_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/") if value else value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must look like postgresql://user:password@host:5432/name")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must look like redis://:password@host:6379/0")
        return value

    @field_validator("directory_file")
    @classmethod
    def _exists(cls, value: Path) -> Path:
        if not value.is_file():
            raise ValueError(f"there is no file {value}; name an existing one or leave the key out")
        return value

    @field_validator("models_file", "prices_file")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}; name an existing one or leave the key out")
        return value

    @field_validator("agent_dir")
    @classmethod
    def _holds_agent(cls, value: Path) -> Path:
        if not (value / "agent.yaml").is_file():
            raise ValueError(f"there is no {value / 'agent.yaml'}; name the folder of an agent or leave the key out")
        return value

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, value: str) -> str:
        # AUTH_MODE=none trusts whoever reaches the port, so the port must be this machine's own.
        if not is_loopback(value):
            raise ValueError(f"AUTH_MODE=none may listen on loopback only, not on {value}; use HOST=127.0.0.1")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        replays = self.is_replaying
        problems = [
            (key, fix)
            for key, missing, fix in (
                ("LLM_API_URL", self.llm_provider == "local" and not self.llm_api_url,
                 "is needed with LLM_PROVIDER=local, for instance http://127.0.0.1:11434/v1"),
                ("LLM_MODEL", self.llm_provider != "offline" and not self.llm_model,
                 f"is needed with LLM_PROVIDER={self.llm_provider}; name a model that the server has"),
                ("LLM_API_KEY", self.llm_provider in ("openai", "anthropic") and not (self.api_key or replays),
                 f"is needed with LLM_PROVIDER={self.llm_provider}; OPENAI_API_KEY or ANTHROPIC_API_KEY does as well"),
                ("KB_CHROMA_URL", self.kb_store == "chroma" and not self.kb_chroma_url,
                 "is needed with KB_STORE=chroma, for instance http://127.0.0.1:8001: a server that you run"),
                ("KB_EMBEDDING_MODEL", self.kb_embedding not in ("embedded", "none") and not self.kb_embedding_model,
                 f"is needed with KB_EMBEDDING={self.kb_embedding}: the model's name (onnx: path or URL)"),
                ("KB_EMBEDDING_SHA256", self.kb_embedding == "onnx" and not self.kb_embedding_sha256,
                 "is needed with KB_EMBEDDING=onnx: the SHA-256 of the weights, which are refused with another"),
                ("MODEL_TAPE_MODE", self.model_tape and not self.model_tape_mode,
                 "is needed with MODEL_TAPE: record or replay"),
                ("MODEL_TAPE", self.model_tape_mode and not self.model_tape,
                 f"is needed with MODEL_TAPE_MODE={self.model_tape_mode}: the file to {self.model_tape_mode}"),
                ("MODEL_TAPE", replays and self.model_tape and not self.model_tape.exists(),
                 f"there is no {self.model_tape}; name a recording, or make one with MODEL_TAPE_MODE=record"),
                ("PF360_JWT_SECRET", self.pf360_api_url and not self.pf360_jwt_secret,
                 "is needed with PF360_API_URL: with AUTH_MODE=none upstream tokens are signed with it"),
                ("PF360_ADMIN_URL", self.pf360_api_url and self.pf360_clock == "fixture" and not self.pf360_admin_url,
                 "is needed with PF360_API_URL and PF360_CLOCK=fixture: our clock follows the simulator's"),
                ("PF360_ADMIN_SECRET", self.pf360_api_url and self.pf360_admin_url and not self.pf360_admin_secret,
                 "is needed with PF360_API_URL and PF360_ADMIN_URL"),
                ("PF360_ADMIN_URL", not self.pf360_api_url and self.pf360_admin_url and not self.simulator_port,
                 "says, without PF360_API_URL, where our own simulator listens: http://127.0.0.1:PORT"),
            )
            if missing
        ]  # fmt: skip
        if problems:
            raise SettingsError(problems)
        return self

    @property
    def api_key(self) -> str | None:
        """The model's key, from LLM_API_KEY or the name that its makers use."""
        secret = self.llm_api_key or (
            self.anthropic_api_key if self.llm_provider == "anthropic" else self.openai_api_key
        )
        return secret.get_secret_value() if secret else None

    @property
    def is_replaying(self) -> bool:
        """Whether a recording answers in place of the model, so that no key of it is needed."""
        return self.model_tape_mode == "replay"

    @property
    def simulator_port(self) -> int | None:
        """The port that PF360_ADMIN_URL fixes for a simulator of our own; None when it names no such place."""
        try:
            url = urlsplit(self.pf360_admin_url or "")
            ours = url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost") and not url.path
            return (url.port or None) if ours else None
        except ValueError:  # no port number
            return None

    @property
    def origins(self) -> frozenset[str]:
        """Further origins that may call us."""
        return frozenset(part.strip().rstrip("/") for part in self.allowed_origins.split(",") if part.strip())


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: object) -> Settings:
    """Read the configuration; `SettingsError` lists all that is wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(
            [
                (
                    str(each["loc"][0]).upper() if each["loc"] else "configuration",
                    each["msg"].removeprefix("Value error, "),
                )
                for each in error.errors()
            ]
        ) from error
