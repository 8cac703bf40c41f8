"""Where the description of models comes from: MODELS_FILE, or the LLM_ keys for a single one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from agent.routing.config import OFFLINE, ModelsError, ModelsFile, read
from agent.routing.prices import Prices, read_prices
from backend.settings import Settings, SettingsError

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Described:
    """A description that can be used, with the prices. `digest` tells two of them apart."""

    models: ModelsFile
    prices: Prices
    digest: str
    environ: Mapping[str, str]


def environment() -> dict[str, str]:
    """Where keys of providers are looked up: `.env` as for all settings, outdone by the environment itself."""
    return {**{key: value or "" for key, value in dotenv_values(".env").items()}, **os.environ}


def describe(settings: Settings) -> Described:
    """What the configuration says now; `SettingsError` names everything that is wrong with it."""
    listed = _text("PRICES_FILE", settings.prices_file)
    try:
        prices = read_prices(listed)
    except ModelsError as error:
        raise located(settings.prices_file, error) from error
    if settings.models_file is None:
        return _single(settings, prices)
    environ = environment()
    text = _text("MODELS_FILE", settings.models_file)
    try:
        models = read(text, environ)
        if problems := prices.missing(models):
            raise ModelsError(problems)
    except ModelsError as error:
        raise located(settings.models_file, error) from error
    _check_route(settings.model_route, models)
    return Described(models, prices, digest_of(text + listed), environ)


def _text(key: str, path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([(key, f"{path} cannot be read: {error}")]) from error


def looked_at(settings: Settings) -> tuple[object, ...]:
    """What changes with the files of the description: cheap to look at."""
    found: list[object] = []
    for path in (settings.models_file, settings.prices_file):
        try:
            stat = path.stat() if path else None
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else None)
        except OSError as error:
            found.append(repr(error))
    return tuple(found)


def located(path: Path | None, error: ModelsError) -> SettingsError:
    """The same faults, with the file that they are in."""
    return SettingsError([(f"{path or 'LLM_PROVIDER'}: {place}", what) for place, what in error.problems])


def digest_of(text: str) -> str:
    """Tells two versions of a file apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_route(route: str | None, models: ModelsFile) -> None:
    if route and route not in models.routes:
        known = ", ".join(models.routes)
        raise SettingsError([("MODEL_ROUTE", f"there is no route {route!r} in MODELS_FILE; there are {known}")])


def _single(settings: Settings, prices: Prices) -> Described:
    """One provider, called as its kind, as the LLM_ keys say."""
    kind, environ = settings.llm_provider, environment()
    environ["LLM_API_KEY"] = settings.api_key or ""
    body: dict[str, object] = {"routes": {"default": {"primary": kind}}}
    if kind != OFFLINE:
        entry: dict[str, object] = {"kind": kind, "model": settings.llm_model}
        if settings.llm_api_url:
            entry["endpoint_url" if kind == "bedrock" else "base_url"] = settings.llm_api_url
        if kind in ("openai", "anthropic") or (kind in ("local", "ollama") and settings.api_key):
            entry["api_key_env"] = "LLM_API_KEY"
        body["providers"] = {kind: entry}
    models = ModelsFile.model_validate(body)
    _check_route(settings.model_route, models)
    return Described(models, prices, digest_of(str(body)), environ)
