"""Recent turns of conversations in memory, so that a turn needs no read of what this process has just written."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from agent.transcript import Message, SummaryMessage, UserMessage


@dataclass(frozen=True, slots=True)
class Recent:
    """The last turns of one conversation, whole, oldest first; right until a message comes after `last_message`."""

    last_message: int
    turns: tuple[tuple[Message, ...], ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order."""
        return tuple(chain.from_iterable(self.turns))


def newest(turns: tuple[tuple[Message, ...], ...], most: int) -> tuple[tuple[Message, ...], ...]:
    """The last `most` turns. A summary that stands in none of them comes before them, by itself, and is no turn."""
    whole = tuple(turn for turn in turns if any(isinstance(message, UserMessage) for message in turn))[-most:]
    if any(isinstance(message, SummaryMessage) for turn in whole for message in turn):
        return whole
    summaries = [message for turn in turns for message in turn if isinstance(message, SummaryMessage)]
    return ((summaries[-1],), *whole) if summaries else whole


class RecentTurns:
    """Least recently used conversations go first."""

    def __init__(self, conversations: int = 512) -> None:
        self._limit = conversations
        self._known: OrderedDict[UUID, Recent] = OrderedDict()

    def get(self, conversation_id: UUID, last_message: int) -> Recent | None:
        """What is known, if the conversation still ends with that message."""
        recent = self._known.get(conversation_id)
        return recent if recent is not None and recent.last_message == last_message else None

    def put(self, conversation_id: UUID, recent: Recent) -> None:
        """Remember; forget the conversation that was quiet the longest."""
        self._known[conversation_id] = recent
        self._known.move_to_end(conversation_id)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
