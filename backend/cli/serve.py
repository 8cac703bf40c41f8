"""`outcrop serve`: start what is missing, migrate, listen; stop all of it again."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from backend.embedded.data_folder import EmbeddedError
from backend.settings import Settings, SettingsError, load_settings
from tools.executors.config import ExecutorError
from tools.toolbox import DuplicateTool

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from agent.providers.base import Provider
    from backend.embedded.simulator_process import Simulator
    from backend.embedded.stores import Stores


OFFLINE = "Until then messages are kept and fail with a hint; LLM_PROVIDER=offline answers without a model."
OTHERS = "Until then its fallbacks answer, or else the planner."
PROBE_S = 2.0
SIMULATOR = "PF360 simulator"
CLOCKS = {"live": "on real time", "fixture": "its clock stands still (PF360_CLOCK=fixture)"}


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Surroundings:
    """Complete settings, and what was started for them."""

    settings: Settings
    started: tuple[str, ...]


def run(*, host: str | None = None, port: int | None = None, data_dir: str | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit code."""
    given = {"host": host, "port": port, "outcrop_data_dir": data_dir}
    try:
        settings = load_settings(**{key: value for key, value in given.items() if value is not None})
        listener = listen(settings.host, settings.port)
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    except StartError as error:
        return complain(str(error))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, listener))
    except (EmbeddedError, StartError) as error:
        return complain(str(error))
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    except (ExecutorError, DuplicateTool) as error:
        return complain(f"The tools cannot be used as {groups_file(settings)} says:", *str(error).splitlines())
    except asyncio.CancelledError:  # stopped while starting
        return 130
    return 0


def groups_file(settings: Settings) -> Path:
    """Where an agent says which executor runs which group."""
    return settings.agent_dir / "action_groups.yaml"


def complain(*lines: str) -> int:
    """Say on standard error why nothing was started."""
    print("\n  ".join(lines), file=sys.stderr)
    return 1


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is started; `StartError` when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1" if host == "localhost" else host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(
            f"Cannot listen on {host}:{port}: {error.strerror}. "
            f"Stop what uses the port, or choose another: PORT={port + 1}."
        ) from error
    listener.set_inheritable(False)
    return listener


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal, for the whole life of the process: each stops everything in order.

    The server's own handlers would raise the signal once more when it has ended, in the middle of stopping the stores.
    """

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None
        task = asyncio.current_task()
        assert task is not None
        self._starting = task
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on, number)

    def _on(self, number: signal.Signals) -> None:
        if self.server:
            self.server.handle_exit(number, None)
        else:
            self._starting.cancel()


async def _serve(settings: Settings, listener: socket.socket) -> None:
    began = time.monotonic()
    gc.disable()  # imports leave next to no garbage, and looking for it takes a fifth of their time
    stop = Stop()
    # Our imports take longer than the stores' start; both go on at once.
    imports = asyncio.create_task(asyncio.to_thread(_import_application))
    try:
        async with surroundings(settings) as around:
            await _migrate(around.settings)
            await imports
            app = _application(around)
            # Entered here and not by the server, which would turn what goes wrong into a traceback in the log.
            async with app.router.lifespan_context(app):
                trouble = await _model_trouble(app.state.models.primary)
                server = _server(app, around.settings)
                _settle_memory()
                _announce(around, listener, app.state.models.answered_by, began, trouble)
                stop.server = server
                await server.serve(sockets=[listener])
    finally:
        await asyncio.wait([imports])
        listener.close()


@asynccontextmanager
async def surroundings(settings: Settings) -> AsyncIterator[Surroundings]:
    """Start the stores and the simulator that no URL is given for; stop them at the end."""
    from backend.embedded.simulator_process import simulator
    from backend.embedded.stores import embedded_stores

    async with AsyncExitStack() as stack:
        stores_due = embedded_stores(
            settings.outcrop_data_dir, database_url=settings.database_url, redis_url=settings.redis_url
        )
        entering: list[Any] = [stack.enter_async_context(stores_due)]
        if not settings.pf360_api_url:
            ours = simulator(
                settings.outcrop_data_dir,
                settings.pf360_clock,
                port=settings.simulator_port,
                admin_secret=_revealed(settings.pf360_admin_secret),
                jwt_secret=_revealed(settings.pf360_jwt_secret),
            )
            entering.append(stack.enter_async_context(ours))
        outcomes: list[Any] = await asyncio.gather(*entering, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        yield _completed(settings, *outcomes)


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _completed(settings: Settings, stores: Stores, ours: Simulator | None = None) -> Surroundings:
    update: dict[str, Any] = {"database_url": stores.database_url, "redis_url": stores.redis_url}
    started = list(stores.started)
    if ours:
        started.append(SIMULATOR)
        update |= {
            "pf360_api_url": ours.api_url,
            "pf360_admin_url": ours.admin_url,
            "pf360_admin_secret": SecretStr(ours.admin_secret),
            "pf360_jwt_secret": SecretStr(ours.jwt_secret),
        }
    return Surroundings(settings.model_copy(update=update), tuple(started))


async def _migrate(settings: Settings) -> None:
    import asyncpg

    from backend.records.migrate import upgrade

    try:
        await upgrade(settings.database_url or "")
    except (OSError, asyncpg.PostgresError) as error:
        raise StartError(
            f"PostgreSQL cannot be used: {error}. Check DATABASE_URL; `outcrop doctor` looks closer."
        ) from error


def _import_application() -> None:
    for name in ("backend.app", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.off", "backend.logs"):
        importlib.import_module(name)


def _application(around: Surroundings) -> FastAPI:
    from backend.app import create_app
    from backend.logs import configure_logs

    configure_logs()
    return create_app(around.settings, alone="PostgreSQL" in around.started)


def _server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    return server


def _settle_memory() -> None:
    """Leave all that was imported out of garbage collection, and collect less often: a turn makes few cycles."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


async def _model_trouble(provider: Provider) -> str:
    """Why the configured model cannot answer now, and the fix; empty when it can. It may come up later: no reason to
    refuse the start."""
    if provider.probe is None:
        return ""
    try:
        async with asyncio.timeout(PROBE_S):
            found = await provider.probe()
    except TimeoutError:
        return f"it did not say within {PROBE_S:.0f} s whether it can answer. `outcrop doctor` looks closer."
    return "" if found.ok else f"{found.cause}. {found.fix}"


def _announce(around: Surroundings, listener: socket.socket, brain: str, began: float, trouble: str) -> None:
    settings = around.settings
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [
        f"Outcrop is at {url}  (page), {url}/docs (API); or talk to it with: outcrop chat"
        + ("" if port == 8000 else f" --url {url}"),
        f"Started here: {', '.join(around.started) or 'nothing else'}"
        + (f"; data in {settings.outcrop_data_dir}" if around.started else ""),
        f"{SIMULATOR} at {settings.pf360_admin_url}, {CLOCKS[settings.pf360_clock]}"
        if SIMULATOR in around.started
        else f"PF360 at {settings.pf360_api_url}",
        f"Answered by: {brain}",
        *([f"But not now: {trouble}", OTHERS if settings.models_file else OFFLINE] if trouble else []),
        f"Ready after {time.monotonic() - began:.1f} s. Ctrl-C stops it" + (" all." if around.started else "."),
    ]
    print("\n".join(lines), flush=True)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # not available on every platform; the standard loop serves as well
        return None
    return uvloop.new_event_loop
