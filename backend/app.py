"""The composition root: the only module that knows which provider, stores and identities this process uses."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import structlog
from fastapi import FastAPI

from agent.definition import AgentDefinition
from agent.direct import run_call
from agent.events import TurnEvent
from agent.graph import run_turn
from agent.planner import classifier
from agent.ports import TurnInput, TurnWork
from backend.agent_folder import load_agent
from backend.api import bedrock_knowledge, chat, knowledge, mcp, operations, problems, prototype
from backend.api.caller import Backend
from backend.api.edge import Edge
from backend.api.schema import describe
from backend.clock import ProductClock, RealClock, SimulatorClock
from backend.conversations.reconciler import Pace, Reconciler
from backend.conversations.service import AgentVersion, ConversationService, Limits, MakeContext, RunTurn
from backend.correlation import correlation_id
from backend.executors import Surroundings, opened
from backend.identity.demo import DemoIdentities
from backend.identity.directory import Deployment, load_deployment
from backend.identity.principal import Principal
from backend.identity.upstream_token import UpstreamTokens
from backend.knowledge import autoload, job_runner, knowledge_bases, warming
from backend.knowledge_search import KnowledgeSearchIn
from backend.limits.gate import ProviderGate
from backend.limits.purse import Spender, Treasury
from backend.records.database import Database
from backend.routing.control import RouteControl
from backend.routing.models import Models
from backend.routing.models import Surroundings as ModelSurroundings
from backend.routing.shadows import Shadows
from backend.sessions.breakers import RedisBreakers
from backend.sessions.model_limits import ModelLimits
from backend.sessions.route_statistics import RouteStatistics
from backend.sessions.store import Sessions
from backend.settings import Settings, SettingsError
from backend.telemetry.metrics import Metrics
from tools.breaker import Breaker, Exchange
from tools.contract import CallbackStore, KnowledgeSearch, Toolbox, ToolContext, ToolState
from tools.pf360.client import Pf360, Retries, TestMode, Timeouts

if TYPE_CHECKING:
    from agent.providers.base import Provider
    from agent.providers.tape import Tape

log = structlog.get_logger(__name__)

NEVER = 10**9  # failures in a row


def create_app(
    settings: Settings,
    *,
    alone: bool = False,
    run: RunTurn | None = None,
    definition: AgentDefinition | None = None,
) -> FastAPI:
    """The application over stores that run already (`DATABASE_URL`, `REDIS_URL` and the PF360 keys are set).

    Args:
        settings: Complete settings.
        alone: No other process uses the database; turns left by a former one are taken up at once.
        run: Answers in place of the configured agent.
        definition: The agent, if it is loaded already.
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
    definition = definition or load_agent(settings)
    deployment = load_deployment(settings.directory_file, settings.tenant)
    db, metrics = Database(settings.database_url or ""), Metrics()
    statistics = RouteStatistics(settings.redis_url or "", settings.tenant)
    shared = Shared(
        db,
        RedisBreakers(settings.redis_url or "", settings.tenant),
        ModelLimits(settings.redis_url or "", settings.tenant),
        RouteControl(db, statistics, settings.tenant, lambda: models.router, metrics),
        metrics,
    )
    models = make_models(settings, definition, shared.breakers, shared)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with parts(settings, definition, deployment, shared, models, run) as made:
            app.state.backend = made
            app.state.mcp = mcp.McpServer(
                made.service,
                lambda caller: made.toolbox.specs(definition.action_groups, caller.identity),
                idle_s=settings.session_idle_seconds,
            )
            await made.service.start(alone=alone)
            try:
                yield
            finally:
                try:
                    await app.state.mcp.stop()
                finally:
                    await made.service.stop(settings.drain_seconds)

    app = FastAPI(
        title="Outcrop", version=version("outcrop"), lifespan=life, docs_url=None, redoc_url=None, debug=False
    )
    app.state.models = models
    problems.install(app)
    app.include_router(chat.router)
    app.include_router(prototype.router)
    app.include_router(operations.router)
    app.include_router(mcp.router)
    app.include_router(knowledge.router)
    app.include_router(bedrock_knowledge.router)
    operations.mount_page(app)
    describe(app)
    app.add_middleware(Edge, origins=settings.origins)
    return app


@dataclass(frozen=True, slots=True)
class Shared:
    """What this process shares with the others of the deployment. Connects when it is first used."""

    db: Database
    breakers: RedisBreakers
    limits: ModelLimits
    control: RouteControl
    metrics: Metrics


@asynccontextmanager
async def parts(
    settings: Settings,
    definition: AgentDefinition,
    deployment: Deployment,
    shared: Shared,
    models: Models,
    run: RunTurn | None,
) -> AsyncIterator[Backend]:
    """Open everything that must be closed again, in order."""
    db, breakers = shared.db, shared.breakers
    sessions = Sessions(settings.redis_url or "", settings.session_idle_seconds)
    await db.open()
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    around = Surroundings(
        deployment.directory,
        settings.outcrop_data_dir,
        lambda upstream, failures, reset_s: make_breaker(upstream, failures, reset_s, breakers),
        function_environment(settings),
    )
    async with AsyncExitStack() as stack:
        for close in (db.close, sessions.close, breakers.close, shared.limits.close, models.close):
            stack.push_async_callback(close)
        http = await stack.enter_async_context(httpx.AsyncClient(limits=limits, trust_env=False))
        toolbox, worded = await stack.enter_async_context(opened(definition, around))
        clock = make_clock(settings, deployment, http)
        bases = await stack.enter_async_context(knowledge_bases(settings, settings.database_url or ""))
        jobs = job_runner(settings, bases)
        knowledge = KnowledgeSearchIn(bases, settings.tenant, definition.file.knowledge)
        make_context = contexts(settings, deployment, clock, http, breakers, knowledge)
        classify = classifier(definition)
        shadows = Shadows(db, worded, classify, models, shared.metrics)
        stack.push_async_callback(shadows.stop)
        service = ConversationService(
            db=db,
            sessions=sessions,
            clock=clock,
            run_turn=run or answering(worded, models, toolbox, classify, shadows),
            make_context=make_context,
            agent=agent_version(definition),
            limits=Limits(settings.turn_lease_seconds, settings.max_running_turns, settings.max_followers_per_turn),
            on_ended=shared.metrics.turn_ended,
        )
        reconciler = Reconciler(db, clock, toolbox, make_context, pace(settings))
        reconciler.start()
        stack.push_async_callback(reconciler.stop)
        breakers.start()
        await shared.control.start()
        stack.push_async_callback(shared.control.stop)
        models.start()
        jobs.start()
        stack.push_async_callback(jobs.stop)
        await autoload(settings, bases, jobs)
        await stack.enter_async_context(warming(settings, bases))
        yield Backend(
            service=service,
            db=db,
            sessions=sessions,
            breakers=breakers,
            identities=DemoIdentities(deployment.identities),
            directory=deployment.directory,
            toolbox=toolbox,
            agent=definition.file.name,
            models=models,
            metrics=shared.metrics,
            knowledge=bases,
            loading=jobs,
        )


def function_environment(settings: Settings) -> dict[str, str]:
    """What functions of ours that run on this machine are told, and where secrets are looked up."""
    told = {
        "PF360_API_URL": settings.pf360_api_url or "",
        "PF360_CONNECT_TIMEOUT_SECONDS": str(settings.pf360_connect_timeout_seconds),
        "PF360_READ_TIMEOUT_SECONDS": str(settings.pf360_read_timeout_seconds),
        "PF360_WRITE_TIMEOUT_SECONDS": str(settings.pf360_write_timeout_seconds),
        "PF360_SETTLE_SECONDS": str(settings.pf360_settle_seconds),
        "CONFIRM_SCHEDULE_FLAG": str(int(settings.confirm_schedule_flag)),
        "CANCEL_SCHEDULE_FLAG": str(int(settings.cancel_schedule_flag)),
    }
    return {**os.environ, **told}


def agent_version(definition: AgentDefinition) -> AgentVersion:
    """Which agent answers, and how much of a conversation it has to know."""
    file = definition.file
    return AgentVersion(file.name, file.version, file.turns_loaded, sums_up=file.summary is not None)


def make_models(
    settings: Settings, definition: AgentDefinition, exchange: Exchange, shared: Shared | None = None
) -> Models:
    """The configured models; `SettingsError` names everything that is wrong with their description.

    Without `shared` nothing limits or counts them: for looking at them by hand.
    """
    around = ModelSurroundings(
        wrap=partial(taped, settings=settings),
        # An open circuit leaves calls out by the clock, so a run in which one opened could not be replayed.
        make_breaker=lambda upstream, failures, reset_s: make_breaker(
            upstream, NEVER if settings.model_tape else failures, reset_s, exchange
        ),
    )
    if shared is not None:
        treasury = Treasury(shared.db, shared.limits)
        around = replace(
            around,
            make_gate=lambda name, entry: ProviderGate(name, entry.limits, shared.limits),
            observe=shared.control.observe,
            on_router=shared.control.apply,
            purse_of=lambda models, turn: treasury.purse(models.budgets, Spender(turn.tenant, turn.subject)),
        )
    return Models(settings, definition, around)


def taped(provider: Provider, settings: Settings) -> Provider:
    """The provider as MODEL_TAPE wants it: as it is, written down, or replaced by what was written down.

    The planner needs no model, and answers for itself. Conversations are told apart by the correlation id, which the
    evaluator sets. `SettingsError` when the tape cannot be used.
    """
    if settings.model_tape is None or provider.name == "offline":
        return provider
    from agent.providers import tape

    try:
        if settings.is_replaying:
            return tape.replaying(provider, _tape(settings.model_tape), correlation_id.get)
        return tape.recording(provider, tape.Recorder(settings.model_tape), correlation_id.get)
    except tape.TapeError as error:
        raise SettingsError([("MODEL_TAPE", str(error))]) from error


@cache
def _tape(path: Path) -> Tape:
    """One for all providers, which goes on where it was when they are made anew."""
    from agent.providers.tape import read_tape

    return read_tape(path)


def answering(
    definition: AgentDefinition, models: Models, toolbox: Toolbox, classify: Callable[[str], str], shadows: Shadows
) -> RunTurn:
    """Bind the agent to what stays the same from turn to turn. A call that names its tool needs no model."""

    def run(turn: TurnInput, work: TurnWork) -> AsyncIterator[TurnEvent]:
        if turn.call is not None:
            return run_call(definition, toolbox, turn, work)
        plan = models.plan(turn)
        return shadows.beside(
            turn, work, toolbox, lambda tools: run_turn(definition, plan, tools, turn, work, classify)
        )

    return run


def make_clock(settings: Settings, deployment: Deployment, http: httpx.AsyncClient) -> ProductClock:
    """Real time, or the simulator's while that one's is frozen."""
    if settings.pf360_clock == "live" or not settings.pf360_admin_url or not settings.pf360_admin_secret:
        return RealClock(deployment.timezone)
    secret = settings.pf360_admin_secret.get_secret_value()
    return SimulatorClock(deployment.timezone, http, settings.pf360_admin_url, secret)


def contexts(
    settings: Settings,
    deployment: Deployment,
    clock: ProductClock,
    http: httpx.AsyncClient,
    exchange: Exchange,
    knowledge: KnowledgeSearch | None = None,
) -> MakeContext:
    """What tools may know of each turn's caller and surroundings."""
    secret = settings.pf360_jwt_secret.get_secret_value() if settings.pf360_jwt_secret else ""
    tokens = UpstreamTokens(secret, clock)
    failures, reset_s = settings.pf360_breaker_failures, settings.pf360_breaker_reset_seconds
    breaker, weather_breaker = (make_breaker(each, failures, reset_s, exchange) for each in ("pf360", "weather"))
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
            write_seconds=settings.pf360_write_timeout_seconds,
            knowledge=knowledge,
        )

    return make


def pace(settings: Settings) -> Pace:
    """How effects without an outcome are looked after: not before upstream must have carried out what it was sent."""
    slowest_s = settings.pf360_write_timeout_seconds + settings.pf360_settle_seconds
    return Pace(every_s=settings.effect_look_seconds, min_age_s=slowest_s, lease_s=2 * slowest_s)


def make_breaker(upstream: str, failures: int, reset_s: float, exchange: Exchange) -> Breaker:
    """A circuit breaker shared by all replicas; each change of its state, as seen here, is one line of the log."""
    return Breaker(
        upstream,
        fail_max=failures,
        reset_s=reset_s,
        exchange=exchange,
        on_change=lambda name, state: log.warning("breaker_changed", upstream=name, state=state),
    )
