"""A turn as its followers see it: running here, running on another replica, or ended and on record."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from agent.errors import OutcropError
from agent.events import ClientActionRequired, ModelStarted, TurnEvent, TurnStarted, Usage
from agent.ports import PendingAction, Stop
from backend.conversations.answer import awaited
from backend.conversations.frames import Frame, frame, unpack
from backend.identity.principal import Principal
from backend.records import conversations
from backend.records.database import Database
from backend.sessions.store import Sessions

PING_S = 15.0
# Nobody waits for these: they travel with the next event, or this much later. Each waking costs a write to the socket.
UNHURRIED = (TurnStarted, ModelStarted, Usage)
UNHURRIED_S = 0.020


class TooManyFollowers(OutcropError):
    """More streams of one turn are open than one turn may have."""

    code = "too_many_followers"
    status = 429
    retryable = True
    user_hint = "This reply is already open in too many places."


class Turn(ABC):
    """One turn, wherever it runs. Any number of callers may follow it, each from where it left off."""

    def __init__(self, turn_id: UUID, conversation_id: UUID) -> None:
        self.turn_id = turn_id
        self.conversation_id = conversation_id

    @abstractmethod
    def batches(self, after: int = -1) -> AsyncIterator[Sequence[Frame]]:
        """Frames numbered above `after`, as they come, to the final one; an empty batch each `PING_S` without one."""

    @abstractmethod
    async def pending(self) -> Sequence[PendingAction]:
        """The questions that are open at the end of the turn; ask after the final frame."""

    async def events(self, after: int = -1) -> AsyncIterator[TurnEvent]:
        """Events numbered above `after`, as they come."""
        async for batch in self.batches(after):
            for each in batch:
                yield each.event

    @abstractmethod
    async def halted(self, beside: UUID | None = None) -> Sequence[Frame]:
        """All frames so far, once the turn has ended or waits for its client to run something other than `beside`."""

    async def finished(self) -> Sequence[Frame]:
        """All frames, once the turn has ended."""
        return [each async for batch in self.batches() for each in batch]


class RunningTurn(Turn):
    """A turn that this process runs."""

    def __init__(
        self,
        turn_id: UUID,
        conversation_id: UUID,
        caller: Principal,
        *,
        earlier: Sequence[Frame] = (),
        max_followers: int = 16,
        elsewhere: Callable[[], DistantTurn],
    ) -> None:
        super().__init__(turn_id, conversation_id)
        self.caller = caller
        self.frames = list(earlier)
        self.ended = asyncio.Event()  # no more frames from here
        self.closing = False  # its closing transaction is under way
        self.open_questions: Sequence[PendingAction] = ()
        self.stop = Stop()
        self._halted = asyncio.Event()  # it has ended, or may wait for its client
        self._followers: set[asyncio.Event] = set()
        self._waking: asyncio.TimerHandle | None = None
        self._max_followers = max_followers
        self._elsewhere = elsewhere

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self.frames[-1].seq + 1 if self.frames else 0

    def publish(self, event: TurnEvent) -> None:
        """Hand an event to all followers."""
        self.show(frame(event))

    def show(self, made: Frame) -> None:
        """Hand an encoded event to all followers."""
        self.frames.append(made)
        if isinstance(made.event, ClientActionRequired):
            self._halted.set()
        if not isinstance(made.event, UNHURRIED):
            self._wake()
        elif self._followers and self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(UNHURRIED_S, self._wake)

    def end(self) -> None:
        """No more frames come from here: the turn has ended, or another replica has taken it over."""
        self.ended.set()
        self._halted.set()
        self._wake()

    def _wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        for follower in self._followers:
            follower.set()

    def batches(self, after: int = -1) -> AsyncIterator[Sequence[Frame]]:
        """See `Turn.batches`; `TooManyFollowers` at once, before the first frame."""
        if len(self._followers) >= self._max_followers:
            raise TooManyFollowers(f"{len(self._followers)} followers of turn {self.turn_id}")
        return self._follow(after)

    async def _follow(self, after: int) -> AsyncIterator[Sequence[Frame]]:
        news = asyncio.Event()
        self._followers.add(news)
        sent = after + 1  # frames are numbered by their place in the list
        try:
            while True:
                news.clear()
                if batch := self.frames[sent:]:
                    sent += len(batch)
                    yield batch
                if self.ended.is_set() and sent >= len(self.frames):
                    break
                if not news.is_set():
                    try:
                        async with asyncio.timeout(PING_S):
                            await news.wait()
                    except TimeoutError:
                        yield ()
        finally:
            self._followers.discard(news)
        if not (self.frames and self.frames[-1].is_final):
            async for later in self._elsewhere().ending(sent - 1):
                yield later

    async def halted(self, beside: UUID | None = None) -> Sequence[Frame]:
        """See `Turn.halted`; without a follower's work per event."""
        while not self.ended.is_set():
            self._halted.clear()
            if awaited(self.frames, beside):
                return list(self.frames)
            await self._halted.wait()
        return self.frames if self.frames and self.frames[-1].is_final else await self._elsewhere().halted(beside)

    async def finished(self) -> Sequence[Frame]:
        """All frames, once the turn has ended; without a follower's work per event."""
        await self.ended.wait()
        if self.frames and self.frames[-1].is_final:
            return self.frames
        return await self._elsewhere().finished()

    async def pending(self) -> Sequence[PendingAction]:
        """As the closing transaction left them."""
        ended_here = bool(self.frames) and self.frames[-1].is_final
        return self.open_questions if ended_here else await self._elsewhere().pending()


class DistantTurn(Turn):
    """A turn that ended, or runs on another replica: read from its row, or followed through Redis."""

    def __init__(
        self, turn_id: UUID, conversation_id: UUID, caller: Principal, db: Database, sessions: Sessions
    ) -> None:
        super().__init__(turn_id, conversation_id)
        self._caller = caller
        self._db = db
        self._sessions = sessions

    def batches(self, after: int = -1) -> AsyncIterator[Sequence[Frame]]:
        """See `Turn.batches`."""
        return self._batches(after, owed=False)

    def ending(self, after: int) -> AsyncIterator[Sequence[Frame]]:
        """As `batches`, for a follower who has not seen the final frame, whatever its number."""
        return self._batches(after, owed=True)

    async def halted(self, beside: UUID | None = None) -> Sequence[Frame]:
        """See `Turn.halted`."""
        frames: list[Frame] = []
        async for batch in self.batches():
            frames += batch
            if awaited(frames, beside):
                return frames
        return await self.finished()

    async def finished(self) -> Sequence[Frame]:
        """All frames, as recorded. What was live may stem from a process that had lost the turn."""
        async for _ in self.batches():
            continue
        row = await conversations.turn(self._db, self._caller, self.turn_id)
        return unpack(row.events or b"")

    async def _batches(self, after: int, *, owed: bool) -> AsyncIterator[Sequence[Frame]]:
        silent_s = 0.0
        seen = after
        rest = await self._recorded(after)
        while rest is None:
            async with aclosing(self._live()) as live:
                async for lines in live:
                    if batch := _above(after, unpack(lines)):
                        after, silent_s = batch[-1].seq, 0.0
                        yield batch
                        if batch[-1].is_final:
                            return
                    elif (rest := await self._recorded(after)) is not None:
                        break
                    elif (silent_s := silent_s + 1.0) >= PING_S:
                        silent_s = 0.0
                        yield ()
        if rest:
            yield rest
        elif owed or after > seen:
            # The frames that were seen went on in a process that had lost the turn; its end came earlier elsewhere.
            yield [await self._end_after(after)]

    async def _end_after(self, after: int) -> Frame:
        """The recorded final frame, numbered behind what was seen."""
        row = await conversations.turn(self._db, self._caller, self.turn_id)
        return frame(replace(unpack(row.events or b"")[-1].event, seq=after + 1))

    async def _recorded(self, after: int) -> list[Frame] | None:
        """What the turn's row holds above `after`; None while the turn runs."""
        row = await conversations.turn(self._db, self._caller, self.turn_id)
        return None if row.events is None else _above(after, unpack(row.events))

    async def _live(self) -> AsyncGenerator[bytes, None]:
        """Batches from Redis; one empty batch a second also while Redis is away."""
        async for lines in self._sessions.follow(self._caller.tenant, self.turn_id):
            yield lines
        await asyncio.sleep(1.0)
        yield b""

    async def pending(self) -> Sequence[PendingAction]:
        """Worked out from the record."""
        return await conversations.pending_after(self._db, self._caller, self.turn_id)


def _above(after: int, frames: list[Frame]) -> list[Frame]:
    return [each for each in frames if each.seq > after]
