"""The routes that a run compares: for each the environment of a product that is answered by it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from agent.routing.config import ModelsError, ModelsFile, ProviderEntry, read
from backend.routing.models_file import environment, located
from backend.settings import Settings, SettingsError, load_settings

STAND_IN = "not needed to replay"


class RouteError(Exception):
    """These routes cannot be run, recorded or replayed; says why."""


@dataclass(frozen=True, slots=True)
class Tapes:
    """Where the run's model traffic is written to or read from: one file for each stack, in a folder for each route."""

    folder: Path
    replays: bool = False

    def of(self, route: str, stack: int) -> dict[str, str]:
        """What a stack of this route is told. Each replays all of its route: who recorded what does not matter."""
        folder = self.folder.resolve() / route
        if self.replays:
            return {"MODEL_TAPE": str(folder), "MODEL_TAPE_MODE": "replay"}
        return {"MODEL_TAPE": str(folder / f"stack-{stack}.jsonl"), "MODEL_TAPE_MODE": "record"}

    def check(self, routes: Sequence[str]) -> None:
        """Make room for a recording; or `RouteError`: it would be written into an old one, or there is none to read."""
        try:
            there = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []
            if not self.replays and there:
                raise RouteError(f"--record {self.folder} is not empty: name a new folder, or remove this one first.")
            for route in () if self.replays else routes:
                (self.folder / route).mkdir(parents=True)
        except OSError as error:
            raise RouteError(f"{self.folder} cannot be used for tapes: {error.strerror}") from error
        missing = [route for route in routes if self.replays and route not in there]
        if missing:
            known = ", ".join(there) or "none"
            raise RouteError(f"--replay {self.folder} has no recording of {', '.join(missing)}; it has {known}.")


@dataclass(frozen=True, slots=True)
class Route:
    """A route under its name, and what a product is told to be answered by it."""

    name: str
    environment: Mapping[str, str]


def routes_of(settings: Settings, names: Sequence[str], *, replays: bool = False) -> list[Route]:
    """The named routes: those of MODELS_FILE, or without one values of LLM_PROVIDER. No name: whatever is configured.

    Raises:
        RouteError: a name is unknown or stands twice.
        SettingsError: the configuration does not do for one of them.
    """
    if len(set(names)) != len(names):
        raise RouteError("A --route stands there twice.")
    base = _inherited(settings)
    if settings.models_file is None:
        return _providers(settings, names, base, replays=replays)
    models = _described(settings.models_file, base, replays=replays)
    unknown = [name for name in names if name not in models.routes]
    if unknown:
        raise RouteError(
            f"There is no route {', '.join(unknown)} in {settings.models_file}; there are {', '.join(models.routes)}."
        )
    if replays:
        base |= {variable: STAND_IN for variable in _wanted(models) if not base.get(variable)}
    chosen = names or [settings.model_route or models.route]
    return [Route(name, {**base, "MODEL_ROUTE": name}) for name in chosen]


def _providers(settings: Settings, names: Sequence[str], base: dict[str, str], *, replays: bool) -> list[Route]:
    known = get_args(Settings.model_fields["llm_provider"].annotation)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RouteError(
            f"There is no route {', '.join(unknown)}. MODELS_FILE names a file with routes; without it a route is one "
            f"of {', '.join(known)} (LLM_PROVIDER)."
        )
    for name in names:
        _check(name, replays=replays)
    return [Route(name, {**base, "LLM_PROVIDER": name, "MODEL_ROUTE": ""}) for name in names or [settings.llm_provider]]


def _check(provider: str, *, replays: bool) -> None:
    """What the product would say at its start, before anything is started."""
    stand_in = {"llm_api_key": STAND_IN} if replays else {}
    try:
        load_settings(llm_provider=provider, **stand_in)
    except SettingsError as error:
        raise SettingsError([(f"--route {provider}: {key}", what) for key, what in error.problems]) from error


def _inherited(settings: Settings) -> dict[str, str]:
    """Our own configuration, `.env` too; a product that runs elsewhere finds the same files."""
    paths = {
        name.upper(): str(value.resolve())
        for name in settings.model_fields_set
        if isinstance(value := getattr(settings, name), Path)
    }
    return {**environment(), **paths}


def _described(path: Path, environ: Mapping[str, str], *, replays: bool) -> ModelsFile:
    try:
        return read(path.read_text("utf-8"), _AnyKey(environ) if replays else environ)
    except OSError as error:
        raise SettingsError([("MODELS_FILE", f"{path} cannot be read: {error.strerror}")]) from error
    except ModelsError as error:
        raise located(path, error) from error


class _AnyKey(dict[str, str]):
    """An environment in which every key is set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)

    def get(self, key: str, default: str | None = None) -> str:  # type: ignore[override]
        return super().get(key, default) or STAND_IN


def _wanted(models: ModelsFile) -> set[str]:
    """The variables that hold keys of providers."""
    return {variable for entry in models.providers.values() for variable in _variables(entry)}


def _variables(entry: ProviderEntry) -> list[str]:
    several: Mapping[str, str] = getattr(entry, "arguments_env", {})
    return [variable for variable in (getattr(entry, "api_key_env", None), *several.values()) if variable]
