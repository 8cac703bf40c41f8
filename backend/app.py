"""The composition root: the only module that knows which provider, stores and identities this process uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import httpx
import structlog
from fastapi import FastAPI

from agent.definition import AgentDefinition, load_definition
from agent.graph import run_turn
from agent.planner import classifier, offline
from backend.api import chat, operations, problems, prototype
from backend.api.caller import Backend
from backend.api.edge import Edge
from backend.api.schema import describe
from backend.clock import ProductClock, RealClock, SimulatorClock
from backend.conversations.reconciler import Pace, Reconciler
from backend.conversations.service import AgentVersion, ConversationService, Limits, MakeContext, RunTurn
from backend.identity.demo import DemoIdentities
from backend.identity.directory import Deployment, load_deployment
from backend.identity.principal import Principal
from backend.identity.upstream_token import UpstreamTokens
from backend.records.database import Database
from backend.sessions.store import Sessions
from backend.settings import Settings, SettingsError
from tools.catalogue import CUSTOMER_ACTIONS
from tools.contract import CallbackStore, ToolContext, ToolState
from tools.pf360.breaker import Breaker
from tools.pf360.client import Pf360, Retries, TestMode, Timeouts
from tools.toolbox import InProcessToolbox

if TYPE_CHECKING:
    from agent.providers.base import Provider
    from agent.providers.openai_wire import OpenAIConfig

log = structlog.get_logger(__name__)

# Holds nothing of a conversation: one for the process.
TOOLBOX = InProcessToolbox(CUSTOMER_ACTIONS)
OPENAI_URL = "https://api.openai.com/v1"


def create_app(settings: Settings, *, alone: bool = False, run: RunTurn | None = None) -> FastAPI:
    """The application over stores that run already (`DATABASE_URL`, `REDIS_URL` and the PF360 keys are set).

    Args:
        settings: Complete settings.
        alone: No other process uses the database; turns left by a former one are taken up at once.
        run: Answers in place of the configured agent.
    """
    missing = [
        (key, "is needed here; `outcrop serve` starts one when it is left out")
        for key, value in (
            ("DATABASE_URL", settings.database_url),
            ("REDIS_URL", settings.redis_url),
            ("PF360_API_URL", settings.pf360_api_url),
        )
        if not value
    ]
    if missing:
        raise SettingsError(missing)
    definition = load_definition()
    deployment = load_deployment(settings.directory_file, settings.tenant)
    provider = make_provider(settings, definition)
    runner = run or answering(definition, provider)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with parts(settings, definition, deployment, provider, runner) as made:
            app.state.backend = made
            await made.service.start(alone=alone)
            try:
                yield
            finally:
                await made.service.stop(settings.drain_seconds)

    app = FastAPI(
        title="Outcrop", version=version("outcrop"), lifespan=life, docs_url=None, redoc_url=None, debug=False
    )
    app.state.answered_by = answered_by(provider)
    problems.install(app)
    app.include_router(chat.router)
    app.include_router(prototype.router)
    app.include_router(operations.router)
    operations.mount_page(app)
    describe(app)
    app.add_middleware(Edge, origins=settings.origins)
    return app


@asynccontextmanager
async def parts(
    settings: Settings, definition: AgentDefinition, deployment: Deployment, provider: Provider, run: RunTurn
) -> AsyncIterator[Backend]:
    """Open everything that must be closed again, in order."""
    db = Database(settings.database_url or "")
    sessions = Sessions(settings.redis_url or "", settings.session_idle_seconds)
    await db.open()
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http:
        clock = make_clock(settings, deployment, http)
        make_context = contexts(settings, deployment, clock, http)
        service = ConversationService(
            db=db,
            sessions=sessions,
            clock=clock,
            run_turn=run,
            make_context=make_context,
            agent=AgentVersion(definition.file.name, definition.file.version, definition.file.limits.history_turns),
            limits=Limits(settings.turn_lease_seconds, settings.max_running_turns, settings.max_followers_per_turn),
        )
        reconciler = Reconciler(db, clock, TOOLBOX, make_context, pace(settings))
        reconciler.start()
        try:
            yield Backend(
                service=service,
                db=db,
                sessions=sessions,
                identities=DemoIdentities(deployment.identities),
                directory=deployment.directory,
                agent=definition.file.name,
                answered_by=answered_by(provider),
            )
        finally:
            await reconciler.stop()
            await provider.wire.close()
            await sessions.close()
            await db.close()


def make_provider(settings: Settings, definition: AgentDefinition) -> Provider:
    """The configured provider."""
    if settings.llm_provider == "offline":
        return offline(definition)
    from agent.providers import openai as kinds

    make = kinds.openai if settings.llm_provider == "openai" else kinds.local
    return make(model_config(settings))


def model_config(settings: Settings) -> OpenAIConfig:
    """Where the configured model is."""
    from agent.providers.openai_wire import OpenAIConfig

    return OpenAIConfig(
        base_url=settings.llm_api_url or OPENAI_URL, model=settings.llm_model or "", api_key=settings.api_key or ""
    )


def answered_by(provider: Provider) -> str:
    """Which brain answers, for people."""
    if provider.name == "offline":
        return "the offline planner (not a language model; LLM_PROVIDER chooses one)"
    return f"{provider.model} ({provider.name})"


def answering(definition: AgentDefinition, provider: Provider) -> RunTurn:
    """Bind the agent to what stays the same from turn to turn."""
    classify = classifier(definition)
    return lambda turn, work: run_turn(definition, provider, TOOLBOX, turn, work, classify)


def make_clock(settings: Settings, deployment: Deployment, http: httpx.AsyncClient) -> ProductClock:
    """Real time, or the simulator's while that one's is frozen."""
    if settings.pf360_clock == "live" or not settings.pf360_admin_url or not settings.pf360_admin_secret:
        return RealClock(deployment.timezone)
    secret = settings.pf360_admin_secret.get_secret_value()
    return SimulatorClock(deployment.timezone, http, settings.pf360_admin_url, secret)


def contexts(settings: Settings, deployment: Deployment, clock: ProductClock, http: httpx.AsyncClient) -> MakeContext:
    """What tools may know of each turn's caller and surroundings."""
    secret = settings.pf360_jwt_secret.get_secret_value() if settings.pf360_jwt_secret else ""
    tokens = UpstreamTokens(secret, clock)
    breaker, weather_breaker = make_breaker(settings, "pf360"), make_breaker(settings, "weather")
    timeouts = Timeouts(
        connect_s=settings.pf360_connect_timeout_seconds,
        read_s=settings.pf360_read_timeout_seconds,
        slow_s=settings.pf360_write_timeout_seconds,
    )
    pauses = tuple(settings.pf360_retry_pause_seconds * 2**n for n in range(settings.pf360_read_retries))
    retries = Retries(pauses, settings.pf360_longest_wait_seconds)
    test_mode = TestMode(confirm=not settings.confirm_schedule_flag, cancel=not settings.cancel_schedule_flag)

    def make(caller: Principal, state: ToolState, callbacks: CallbackStore) -> ToolContext:
        return ToolContext(
            identity=caller.identity,
            directory=deployment.directory,
            clock=clock,
            state=state,
            pf360=Pf360(
                settings.pf360_api_url or "",
                http,
                partial(tokens.of, caller),
                timeouts=timeouts,
                retries=retries,
                breaker=breaker,
                weather_breaker=weather_breaker,
                test_mode=test_mode,
            ),
            callbacks=callbacks,
            settle_seconds=settings.pf360_settle_seconds,
        )

    return make


def pace(settings: Settings) -> Pace:
    """How effects without an outcome are looked after: not before upstream must have carried out what it was sent."""
    slowest_s = settings.pf360_write_timeout_seconds + settings.pf360_settle_seconds
    return Pace(every_s=settings.turn_lease_seconds, min_age_s=slowest_s, lease_s=2 * slowest_s)


def make_breaker(settings: Settings, upstream: str) -> Breaker:
    """A circuit breaker for the whole process; each change of its state is one line of the log."""
    return Breaker(
        upstream,
        fail_max=settings.pf360_breaker_failures,
        reset_s=settings.pf360_breaker_reset_seconds,
        on_change=lambda name, state: log.warning("breaker_changed", upstream=name, state=state),
    )
