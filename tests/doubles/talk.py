"""Runs turns of one conversation in a `World` and keeps what they left, as the service would."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.definition import AgentDefinition, load_agent_file
from agent.events import TextDelta, ToolFinished, TurnCompleted, TurnEvent, TurnFailed
from agent.graph import run_turn
from agent.ports import Decision, TurnWork
from agent.providers.base import Provider
from agent.routing.plan import only
from tests.doubles.world import World

DEFINITION = AgentDefinition(load_agent_file("scheduling"))


@dataclass
class Reply:
    """One turn as a client sees it."""

    events: list[TurnEvent]
    work: TurnWork

    @property
    def text(self) -> str:
        """What was streamed."""
        return "".join(e.text for e in self.events if isinstance(e, TextDelta))

    @property
    def final(self) -> TurnEvent:
        """The last event."""
        return self.events[-1]

    @property
    def failed(self) -> str | None:
        """The code of a failed turn."""
        return self.final.code if isinstance(self.final, TurnFailed) else None

    @property
    def status(self) -> str | None:
        """Of a completed turn."""
        return self.final.status if isinstance(self.final, TurnCompleted) else None

    @property
    def tools(self) -> list[tuple[str, str]]:
        """(tool, status) of every call that ended."""
        return [(e.tool, e.status) for e in self.events if isinstance(e, ToolFinished)]

    def faults(self) -> list[str]:
        """What the guards withheld."""
        return [a["fault"] for a in self.work.audit if a["type"] == "withheld"]


@dataclass
class Talk:
    """A conversation with one provider."""

    provider: Provider
    world: World = field(default_factory=World)
    definition: AgentDefinition = field(default_factory=lambda: DEFINITION)

    async def say(self, text: str, decision: Decision | None = None) -> Reply:
        """One turn, to its end."""
        given, work = self.world.turn(text, decision), TurnWork()
        plan = only(self.provider)
        stream = run_turn(self.definition, plan, self.world.toolbox, given, work, lambda text: "chitchat")
        events = [event async for event in stream]
        assert [event.seq for event in events] == list(range(len(events)))
        self.world.keep(given, work)
        return Reply(events, work)
