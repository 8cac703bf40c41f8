"""CPU of `run_turn` itself: a scripted model with no delay, one tool call without a network, no store.

    uv run python -m tests.load.bench_turn [turns]

Prints milliseconds of CPU a turn, beside the graph alone and a long streamed answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from agent.graph import State, run_turn
from agent.ports import TurnWork
from agent.providers.base import Chunk, Tokens
from agent.routing.plan import only
from agent.transcript import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.scripted_model import Scene, calls, says, scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import World

ANSWER = "Your flooring can be done on Monday, March 16 at 8:00 AM, 10:00 AM, 1:00 PM or 3:00 PM. Which time suits you?"


def history(turns: int) -> list[Message]:
    """So many earlier turns of the same kind."""
    result = {"ok": True, "slots": ["8:00 AM", "10:00 AM"], "order_number": "SO-26-1001_1"}
    return [
        message
        for n in range(turns)
        for message in (
            UserMessage("what times on monday"),
            AssistantMessage("", (ToolCall(f"c{n}", "get_time_slots", {"project_id": "410001"}),)),
            ToolMessage(f"c{n}", "get_time_slots", result, {"project_id": "410001"}),
            AssistantMessage(ANSWER),
        )
    ]


async def cpu_ms(turns: int, once: Callable[[], Awaitable[Any]]) -> float:
    """CPU milliseconds of one call, over so many."""
    for _ in range(max(20, turns // 10)):
        await once()
    started = time.process_time()
    for _ in range(turns):
        await once()
    return (time.process_time() - started) / turns * 1000


async def a_turn(world: World, *scenes: Scene) -> None:
    """One whole turn."""
    provider, _ = scripted(*scenes)
    given, plan = world.turn("monday?"), only(provider)
    stream = run_turn(DEFINITION, plan, world.toolbox, given, TurnWork(), lambda _: "chitchat")
    async for _ in stream:
        pass


def empty_graph() -> Any:
    """The same way through nodes that do nothing: LangGraph's own share."""

    async def think(state: Any) -> Command[str]:
        state["turn"][0] += 1
        return Command(goto="act" if state["turn"][0] < 2 else END)

    async def act(state: Any) -> Command[str]:
        return Command(goto="think")

    async def first(state: Any) -> str:
        return "think"

    graph = StateGraph(State)
    graph.add_node("think", think, destinations=("act", END))
    graph.add_node("act", act, destinations=("think",))
    graph.add_conditional_edges(START, first, ["think"])
    return graph.compile()


async def main(turns: int) -> None:
    """Measure and print."""
    look: list[Chunk] = [calls("get_time_slots", project_id="410001", date="2026-03-16")]
    answer = [*says(ANSWER, 4), Tokens(100, 25)]
    tokens_300: list[Chunk] = [*says("This is a sentence of the kind. " * 40, 4), Tokens(100, 300)]
    bare = empty_graph()
    short, long = World(), World(history=history(20))
    rows = {
        "the graph alone, think act think": lambda: bare.ainvoke({"turn": [0]}, {"recursion_limit": 100}),
        "one tool call, 28 pieces of text": lambda: a_turn(short, look, answer),
        "the same after 20 turns": lambda: a_turn(long, look, answer),
        "one model call only": lambda: a_turn(short, answer),
        "one model call, 320 pieces of text": lambda: a_turn(short, tokens_300),
    }
    for name, once in rows.items():
        print(f"{name:<40} {await cpu_ms(turns, once):6.2f} ms CPU")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400))
