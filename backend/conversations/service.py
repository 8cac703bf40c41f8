"""The one way in, whatever the transport: accepts turns, runs them as tasks of the server, and lets callers follow.

submit ──accept──► run ──close──► final event         a dropped connection ends a follower, never the turn
                    ▲
reaper ──take over──┘                                  after a crash or a stop, here or on another replica
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import structlog

from agent.errors import IdempotencyMismatch, NotFound, OutcropError, PendingSettled, StoreUnavailable
from agent.events import FINAL, TurnCancelled, TurnCompleted, TurnEvent, TurnFailed
from agent.ports import Decision, DirectCall, PendingAction, TurnInput, TurnWork
from agent.transcript import AssistantMessage, Message, ToolMessage, UserMessage
from backend.clock import ProductClock
from backend.conversations.client_actions import ClientActions
from backend.conversations.frames import frame, pack, unpack
from backend.conversations.history import Recent, RecentTurns, newest
from backend.conversations.turn import DistantTurn, RunningTurn, Turn
from backend.identity.principal import Principal
from backend.records import conversations, turns
from backend.records.database import Database, to_json_text
from backend.records.ids import uuid7
from backend.records.ledger import LeaseLost, TurnLedger
from backend.records.turns import Accepted, Ending, Existing, Lease, NewTurn, Standing, TakenOver
from backend.sessions.store import Sessions
from tools.contract import CallbackStore, JsonObject, ToolContext, ToolState

log = structlog.get_logger(__name__)

# Conversations that a client names (by an idempotency key, or by a session id of its own) have ids derived from that.
NAMED = UUID("6f1c1d0e-6c55-4d2b-8a35-6f7574637270")
PUBLISH_EVERY_S = 0.040
LISTEN_AGAIN_S = 5.0
CLOSE_RETRIES_S = (0.1, 0.5, 2.0)
MOST_TAKE_OVERS = 3
LABELS = {True: "Confirm", False: "Decline"}
INTERRUPTED = ("turn_interrupted", "I was interrupted and could not finish that.", True)
UNSTORABLE = (OutcropError.code, OutcropError.user_hint, False)
# What a failed turn has to say, by how its effects stand; the failure's own hint knows nothing of them.
UNCLEAR_HINT = (
    "Something went wrong before I could see whether your change went through. It is being checked; "
    "please do not repeat it yet."
)
DONE_HINT = (
    "Something went wrong while I was answering, after your change had been made. "
    "Please ask me how things stand before you repeat anything."
)
TAKEN_HINT = "Your message was received, but I could not finish the answer. Please ask me again in a moment."
OPEN_STATES = ("accepted", "running")

RunTurn = Callable[[TurnInput, TurnWork], AsyncIterator[TurnEvent]]
MakeContext = Callable[[Principal, ToolState, CallbackStore], ToolContext]


class TooManyTurns(OutcropError):
    """This process runs as many turns as it may, or is about to stop."""

    code = "too_many_turns"
    status = 503
    retryable = True
    user_hint = "The service is busy. Your message was not taken; please send it again in a moment."


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One user message. Without `conversation_id` a new conversation begins.

    `external_id` is a session id of the client's own choosing; it stands for one conversation of this caller. With
    `call` the turn is that call and no model's; `text` then only says so, to people.
    """

    text: str
    conversation_id: UUID | None = None
    idempotency_key: str | None = None
    external_id: str | None = None
    decision: Decision | None = None
    call: DirectCall | None = None


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """Which agent answers."""

    name: str
    version: str
    history_turns: int
    sums_up: bool = False  # a summary may stand before those turns


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one process. Seconds and counts."""

    lease_s: float = 15.0
    running_turns: int = 200
    followers_per_turn: int = 16


@dataclass(frozen=True, slots=True)
class _Start:
    """All that a turn starts from, whether just accepted or taken over."""

    caller: Principal
    conversation_id: UUID
    lease: Lease
    message_id: UUID
    text: str
    turn_seq: int
    message_seq: int
    pending: tuple[PendingAction, ...]
    decision: Decision | None
    call: DirectCall | None
    started: float  # time.perf_counter()


class ConversationService:
    """Owns the turns of this process: their tasks, leases and events."""

    def __init__(
        self,
        *,
        db: Database,
        sessions: Sessions,
        clock: ProductClock,
        run_turn: RunTurn,
        make_context: MakeContext,
        agent: AgentVersion,
        limits: Limits = Limits(),
        on_ended: Callable[[str], None] = lambda state: None,
    ) -> None:
        """`on_ended` is told the state of each turn that ended here."""
        self._db = db
        self._sessions = sessions
        self._clock = clock
        self._run_turn = run_turn
        self._make_context = make_context
        self._agent = agent
        self._limits = limits
        self._on_ended = on_ended
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{uuid7().hex[-8:]}"
        self._recent = RecentTurns()
        self._clients = ClientActions(db)
        self._running: dict[UUID, tuple[RunningTurn, asyncio.Task[None]]] = {}
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()  # the leases' rows may tell something new
        self._stopping = False
        self._drained = False  # nobody waits for running turns any more

    # --- life of the process --------------------------------------------------------------------------------------

    async def start(self, *, alone: bool = False) -> None:
        """Begin to renew leases and to take over abandoned turns; at once when we are `alone` on this database."""
        if alone:
            await turns.expire_all_leases(self._db)
        self._reaper = asyncio.create_task(self._keep_leases())
        self._listener = asyncio.create_task(self._hear_of_stops())

    async def stop(self, drain_s: float) -> None:
        """Take no more turns, let running ones finish for `drain_s`, hand the rest over."""
        self._stopping = True
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        self._clients.stop()
        self._drained = True
        # Of now: a turn may have begun while its message was being accepted.
        tasks = [task for _, task in self._running.values()]
        beside = (self._reaper, self._listener, *self._side_tasks)
        leftover = [task for task in (*tasks, *beside) if task and not task.done()]
        for task in leftover:
            task.cancel()
        await asyncio.gather(*leftover, return_exceptions=True)

    @property
    def running_turns(self) -> int:
        """How many turns this process runs now."""
        return len(self._running)

    # --- requests -------------------------------------------------------------------------------------------------

    async def submit(self, caller: Principal, request: TurnRequest) -> Turn:
        """Put a message on record and start its turn; the same turn again for a repeated idempotency key.

        Raises:
            NotFound: no such conversation of this caller.
            ConversationBusy: another turn of it is running.
            IdempotencyMismatch: the key was used for another message.
            TooManyTurns, StoreUnavailable: nothing was taken; send it again.
        """
        if self._stopping or len(self._running) >= self._limits.running_turns:
            raise TooManyTurns(f"{len(self._running)} running, stopping={self._stopping}")
        started = time.perf_counter()
        new = self._new_turn(caller, request)
        outcome = await self._accept(caller, new)
        if isinstance(outcome, Existing):
            return await self.attach(caller, outcome.turn_id)
        return self._launch(
            _Start(
                caller=caller,
                conversation_id=new.conversation_id,
                lease=outcome.lease,
                message_id=new.message_id,
                text=new.text,
                turn_seq=outcome.turn_seq,
                message_seq=outcome.message_seq,
                pending=outcome.pending,
                decision=new.decision,
                call=new.call,
                started=started,
            )
        )

    async def decide(self, caller: Principal, conversation_id: UUID, decision: Decision) -> Turn:
        """A button: settle exactly this pending action. A second press gets the turn of the first.

        Raises:
            NotFound: no such pending action in a conversation of this caller.
            PendingSettled: it was decided otherwise, replaced, or has expired.
        """
        state = await conversations.pending_action(self._db, caller, conversation_id, decision.pending_id)
        pressed_before = state.turn_id is not None and (state.state != "open" or state.turn_state in OPEN_STATES)
        if pressed_before and state.turn_id and state.turn_confirm == decision.confirm:
            return await self.attach(caller, state.turn_id)
        await self._clock.refresh()
        if pressed_before or state.state != "open" or state.expires_at <= self._clock.now():
            raise PendingSettled(f"pending action {decision.pending_id} is {state.state}", field="pending_id")
        # An attempt that failed and left the question open may be made again.
        attempt = f":{state.attempts}" if state.attempts else ""
        request = TurnRequest(
            text=LABELS[decision.confirm],
            conversation_id=conversation_id,
            idempotency_key=f"confirm:{decision.pending_id}{attempt}",
            decision=decision,
            call=state.call,
        )
        try:
            return await self.submit(caller, request)
        except IdempotencyMismatch as error:  # the other button won by a moment
            raise PendingSettled(str(error), field="pending_id") from error

    async def decided(self, caller: Principal, conversation_id: UUID, pending_id: UUID) -> Turn | None:
        """The turn in which a button settled this pending action; None while it is open, or when it went otherwise."""
        state = await conversations.pending_action(self._db, caller, conversation_id, pending_id)
        settled = state.turn_id is not None and state.state in ("confirmed", "declined")
        return await self.attach(caller, state.turn_id) if settled and state.turn_id else None

    async def answer_action(
        self, caller: Principal, conversation_id: UUID, action_id: UUID, result: JsonObject
    ) -> Turn:
        """The result of a call that the client ran; the turn that waits for it. The same result again is fine.

        Raises:
            NotFound: no such call in a conversation of this caller.
            ClientActionSettled: it was answered otherwise, or nobody waits any more.
        """
        return await self.attach(caller, await self._clients.answer(caller, conversation_id, action_id, result))

    async def cancel(self, caller: Principal, turn_id: UUID) -> Standing:
        """Ask that a turn of this caller ends now, wherever it runs; how it stands. Asked again, it is asked once.

        Raises:
            NotFound: no such turn of this caller.
        """
        standing = await turns.request_stop(self._db, caller, turn_id)
        if standing.has_ended:
            return standing
        if entry := self._running.get(turn_id):
            entry[0].stop.ask()
        else:
            await self._sessions.announce_stop(caller.tenant, turn_id)
        return standing

    async def attach(self, caller: Principal, turn_id: UUID) -> Turn:
        """A turn of this caller, running or ended; `NotFound` otherwise."""
        if entry := self._running.get(turn_id):
            running = entry[0]
            if (running.caller.tenant, running.caller.subject) != (caller.tenant, caller.subject):
                raise NotFound(f"turn {turn_id} is somebody else's")
            return running
        row = await conversations.turn(self._db, caller, turn_id)
        return DistantTurn(turn_id, row.conversation_id, caller, self._db, self._sessions)

    def _new_turn(self, caller: Principal, request: TurnRequest) -> NewTurn:
        decision = request.decision
        meant = f"{request.text}\x00{decision.pending_id if decision else ''}\x00{decision.confirm if decision else ''}"
        if request.call and not decision:
            meant += f"\x00{to_json_text([request.call.tool, sorted(request.call.args.items())])}"
        if request.external_id:
            known = conversation_of(caller, request.external_id)
        else:
            known = named(caller, f"key:{request.idempotency_key}") if request.idempotency_key else uuid7()
        return NewTurn(
            turn_id=uuid7(),
            message_id=uuid7(),
            conversation_id=request.conversation_id or known,
            text=request.text,
            request_hash=hashlib.sha256(meant.encode()).hexdigest(),
            agent=self._agent.name,
            agent_version=self._agent.version,
            idempotency_key=request.idempotency_key,
            decision=decision,
            call=request.call,
            new_conversation=request.conversation_id is None and not request.external_id,
            external_id=request.external_id,
        )

    async def _accept(self, caller: Principal, new: NewTurn) -> Accepted | Existing:
        lease_s = self._limits.lease_s
        try:
            return await turns.accept(self._db, caller, new, self._owner, lease_s)
        except NotFound:
            if new.external_id is None:
                raise
        return await turns.accept(self._db, caller, replace(new, new_conversation=True), self._owner, lease_s)

    # --- running --------------------------------------------------------------------------------------------------

    def _launch(self, start: _Start, earlier: bytes = b"", *, stop: bool = False) -> RunningTurn:
        turn_id = start.lease.turn_id
        running = RunningTurn(
            turn_id,
            start.conversation_id,
            start.caller,
            # An end that was told while the database was away was none: the turn goes on here.
            earlier=[each for each in unpack(earlier) if not each.is_final],
            max_followers=self._limits.followers_per_turn,
            elsewhere=lambda: DistantTurn(turn_id, start.conversation_id, start.caller, self._db, self._sessions),
        )
        if stop:
            running.stop.ask()
        task = asyncio.create_task(self._run(running, start))
        self._running[turn_id] = (running, task)
        # A turn that is over before the first batch is due never bothers Redis: its events are in its row.
        timer = asyncio.get_running_loop().call_later(PUBLISH_EVERY_S, self._start_publishing, running)
        task.add_done_callback(lambda _: timer.cancel())
        return running

    async def _run(self, running: RunningTurn, start: _Start) -> None:
        """Run one turn to its end, whatever happens on the way."""
        work = TurnWork()
        ledger = TurnLedger(self._db, start.caller, start.conversation_id, start.lease)
        try:
            final = await _truthful(await self._answer(running, start, work, ledger), running, ledger)
            try:
                await self._close(running, start, work, final)
            except (TypeError, ValueError, asyncpg.DataError) as error:
                # What the turn produced cannot be stored (a number too large, say): it would fail again and again.
                log.exception("turn_not_storable", turn_id=str(running.turn_id), error=repr(error))
                bare = TurnWork(specialist=work.specialist, provider=work.provider, model=work.model)
                await self._close(running, start, bare, _failed(running, *UNSTORABLE))
        except LeaseLost:
            log.warning("turn_taken_away", turn_id=str(running.turn_id))
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):
                await turns.release(self._db, start.lease)
            raise
        finally:
            del self._running[running.turn_id]
            running.end()

    async def _answer(self, running: RunningTurn, start: _Start, work: TurnWork, ledger: TurnLedger) -> TurnEvent:
        """Publish every event but the final one, which is returned: it may be seen only after the commit."""
        try:
            if start.lease.fence > MOST_TAKE_OVERS:
                return _failed(running, *INTERRUPTED)
            return await self._think(running, start, work, ledger)
        except LeaseLost:
            raise
        except OutcropError as error:
            log.warning("turn_error", turn_id=str(running.turn_id), code=error.code, error=repr(error))
            return _failed(running, error.code, error.user_hint, error.retryable)
        except Exception:  # outermost loop of a turn: whatever it was, the turn gets a typed end
            log.exception("turn_crashed", turn_id=str(running.turn_id))
            return _failed(running, OutcropError.code, OutcropError.user_hint, False)

    async def _think(self, running: RunningTurn, start: _Start, work: TurnWork, ledger: TurnLedger) -> TurnEvent:
        caller, conversation_id = start.caller, start.conversation_id
        await self._clock.refresh()
        state, loaded = ToolState(), b""
        if start.turn_seq > 1:
            state, loaded = await self._sessions.load(caller.tenant, conversation_id)
        recent = await self._history(start)
        turn = TurnInput(
            tenant=caller.tenant,
            conversation_id=conversation_id,
            turn_id=running.turn_id,
            message_id=start.message_id,
            text=start.text,
            history=recent.messages,
            pending=start.pending,
            tools=self._make_context(caller, state, ledger),
            ledger=ledger,
            decision=start.decision,
            call=start.call,
            clients=self._clients.of(caller, start.lease),
            first_seq=running.next_seq,
            subject=caller.subject,
            stop=running.stop,
            begun=await ledger.begun() if start.lease.fence > 1 else (),
        )
        final: TurnEvent | None = None
        async for event in self._run_turn(turn, work):
            if isinstance(event, FINAL):
                final = event
            else:
                running.publish(event)
        await self._sessions.save(caller.tenant, conversation_id, state, loaded)
        if final is None:
            raise RuntimeError("the turn ended without a final event")
        return final

    async def _history(self, start: _Start) -> Recent:
        """Whole earlier turns: from memory if nothing came in between, else from the record."""
        last_message = start.message_seq - 1
        if start.turn_seq == 1:
            return Recent(last_message, ())
        if known := self._recent.get(start.conversation_id, last_message):
            return known
        stored = await turns.history(
            self._db,
            start.caller,
            start.conversation_id,
            start.turn_seq,
            start.message_seq,
            self._agent.history_turns,
            summary=self._agent.sums_up,
        )
        recent = Recent(last_message, tuple(stored))
        self._recent.put(start.conversation_id, recent)
        return recent

    async def _close(self, running: RunningTurn, start: _Start, work: TurnWork, final: TurnEvent) -> None:
        """Commit everything, then show the final event."""
        total_ms = round((time.perf_counter() - start.started) * 1000, 2)
        state, error_code = "cancelled", None
        if isinstance(final, TurnCompleted):
            state = final.status
        elif isinstance(final, TurnFailed):
            state, error_code = "failed", final.code
        if isinstance(final, TurnCompleted | TurnCancelled):
            timings = {"total_ms": total_ms, "model_ms": round(work.model_ms, 2), "tools_ms": round(work.tools_ms, 2)}
            final = replace(final, timings={**timings, **final.timings})
        if state != "completed":
            work.messages = answered(work.messages)
        shown = frame(final)
        ending = Ending(state, pack([*running.frames, shown]), total_ms, self._agent.version, error_code)
        running.closing = True
        try:
            last_message = await self._commit(start.lease, work, ending)
        except StoreUnavailable as error:
            # The lease runs out and the turn is taken up again from its rows; those who wait get a typed end now.
            log.exception("turn_not_closed", turn_id=str(running.turn_id))
            running.publish(_failed(running, error.code, "Your message was received; the answer is delayed.", False))
            return
        if last_message is None:
            raise LeaseLost(f"turn {running.turn_id} was taken over before it could be closed")
        self._remember(start, work, last_message)
        running.open_questions = _still_open(start.pending, work)
        running.show(shown)
        _log_turn(start, work, ending)
        self._on_ended(ending.state)

    def _remember(self, start: _Start, work: TurnWork, last_message: int) -> None:
        """Keep the conversation's recent turns for its next one."""
        before = self._recent.get(start.conversation_id, start.message_seq - 1)
        if before is None and start.turn_seq > 1:
            return
        turn = (UserMessage(start.text), *work.messages)
        kept = newest((*(before.turns if before else ()), turn), self._agent.history_turns)
        self._recent.put(start.conversation_id, Recent(last_message, kept))

    async def _commit(self, lease: Lease, work: TurnWork, ending: Ending) -> int | None:
        """Close the turn's row, with patience for a database that is being restarted."""
        for pause_s in CLOSE_RETRIES_S:
            try:
                return await turns.close(self._db, lease, work, ending)
            except StoreUnavailable as error:
                log.warning("turn_close_retried", turn_id=str(lease.turn_id), error=repr(error))
                await asyncio.sleep(pause_s)
        return await turns.close(self._db, lease, work, ending)

    # --- beside the turns -----------------------------------------------------------------------------------------

    def _start_publishing(self, running: RunningTurn) -> None:
        task = asyncio.create_task(self._publish(running))
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    async def _publish(self, running: RunningTurn) -> None:
        """Copy a turn's events to Redis in batches until it ends."""
        sent = 0
        while True:
            ended = running.ended.is_set()
            if batch := running.frames[sent:]:
                sent += len(batch)
                await self._sessions.publish(running.caller.tenant, running.turn_id, pack(batch))
            if ended:
                return
            await asyncio.sleep(PUBLISH_EVERY_S)

    async def _keep_leases(self) -> None:
        """Renew our leases and look for abandoned turns, for as long as the process lives."""
        while not self._drained:  # the Redis client may swallow the cancellation that ends this
            try:
                await self._renew()
                await self._take_over()
            except StoreUnavailable as error:
                log.warning("leases_not_kept", error=repr(error))
            except Exception:  # outermost loop: one row that cannot be read must not end the care of all leases
                log.exception("lease_keeper_stumbled")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.lease_s / 3):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _hear_of_stops(self) -> None:
        """Look at once when a turn of ours is to be stopped; without Redis, the next look at its row finds it."""
        while not self._drained:
            async for turn_id in self._sessions.stops():
                if turn_id in self._running:
                    self._look_now.set()
                if self._drained:
                    return
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _renew(self) -> None:
        if not self._running:
            return
        ours = set(self._running)
        held = await turns.renew(self._db, self._owner, ours, self._limits.lease_s)
        for turn_id in ours - set(held):
            # Ended in this moment, or taken over while we were stalled: in both cases there is nothing to do here.
            if (entry := self._running.get(turn_id)) and not entry[0].closing:
                log.warning("lease_lost", turn_id=str(turn_id))
                entry[1].cancel()
        for turn_id in (each for each, stop_requested in held.items() if stop_requested):
            if entry := self._running.get(turn_id):
                entry[0].stop.ask()

    async def _take_over(self) -> None:
        room = self._limits.running_turns - len(self._running)
        if self._stopping or room <= 0:
            return
        for found in await turns.take_over(self._db, self._owner, self._limits.lease_s, min(room, 10)):
            log.warning("turn_taken_over", turn_id=str(found.lease.turn_id), attempt=found.lease.fence)
            earlier = await self._sessions.published(found.caller.tenant, found.lease.turn_id)
            self._launch(_restart(found), earlier, stop=found.stop_requested)


def named(caller: Principal, name: str) -> UUID:
    """The id of a conversation that the caller's client has named; nobody else's name leads to it."""
    return uuid5(NAMED, f"{caller.tenant}\x00{caller.subject}\x00{name}")


def conversation_of(caller: Principal, external_id: str) -> UUID:
    """The conversation that a session id of the client's own choosing stands for."""
    return named(caller, f"session:{external_id}")


def answered(messages: list[Message]) -> list[Message]:
    """The messages of a turn that broke off, each call without a result given one: providers refuse anything else."""
    results = {message.call_id for message in messages if isinstance(message, ToolMessage)}
    whole: list[Message] = []
    for message in messages:
        whole.append(message)
        if isinstance(message, AssistantMessage):
            whole += [
                ToolMessage(call.id, call.name, {"ok": False, "code": "interrupted"}, call.args, ok=False)
                for call in message.tool_calls
                if call.id not in results
            ]
    return whole


def _restart(found: TakenOver) -> _Start:
    return _Start(
        caller=found.caller,
        conversation_id=found.conversation_id,
        lease=found.lease,
        message_id=found.message_id,
        text=found.text,
        turn_seq=found.turn_seq,
        message_seq=found.message_seq,
        pending=found.pending,
        decision=found.decision,
        call=found.call,
        started=time.perf_counter(),
    )


def _failed(running: RunningTurn, code: str, user_hint: str, retryable: bool) -> TurnFailed:
    return TurnFailed(
        turn_id=running.turn_id,
        seq=running.next_seq,
        at=datetime.now(UTC),
        code=code,
        user_hint=user_hint,
        retryable=retryable,
    )


async def _truthful(final: TurnEvent, running: RunningTurn, ledger: TurnLedger) -> TurnEvent:
    """The final event; that of a failure tells how the turn's effects stand, and invites nobody to repeat them.

    A turn is stopped only where it did nothing: should the ledger know of anything, that has to be told.
    """
    if not isinstance(final, TurnFailed | TurnCancelled):
        return final
    outcomes = await ledger.outcomes()
    if isinstance(final, TurnCancelled):
        if not outcomes - {"error"}:
            return final
        final = _failed(running, *INTERRUPTED)
    if outcomes & {"intended", "unknown"}:
        return replace(final, user_hint=UNCLEAR_HINT, retryable=False)
    if "ok" in outcomes:
        return replace(final, user_hint=DONE_HINT, retryable=False)
    return replace(final, user_hint=TAKEN_HINT) if final.code == StoreUnavailable.code else final


def _still_open(before: tuple[PendingAction, ...], work: TurnWork) -> list[PendingAction]:
    settled = {change.pending_id for change in work.changed}
    return [action for action in (*before, *work.opened) if action.pending_id not in settled]


def _log_turn(start: _Start, work: TurnWork, ending: Ending) -> None:
    """The one line that tells all about a turn; what people wrote is not in it."""
    fields: dict[str, Any] = {
        "tenant": start.caller.tenant,
        "conversation_id": str(start.conversation_id),
        "turn_id": str(start.lease.turn_id),
        "turn_seq": start.turn_seq,
        "state": ending.state,
        "error_code": ending.error_code,
        "specialist": work.specialist,
        "provider": work.provider,
        "model": work.model,
        "route": f"{work.route}/{work.arm}",
        "cost_usd": round(work.cost_usd, 6),
        "tools": [f"{call.tool}:{call.status}" for call in work.calls],
        "input_tokens": work.input_tokens,
        "output_tokens": work.output_tokens,
        "model_ms": round(work.model_ms, 1),
        "tools_ms": round(work.tools_ms, 1),
        "total_ms": ending.total_ms,
        "attempt": start.lease.fence,
    }
    log.info("turn_ended", **fields)
    for call in work.calls:
        if call.status == "unknown":
            log.warning("effect_unknown", tool=call.tool, **{key: fields[key] for key in list(fields)[:3]})
