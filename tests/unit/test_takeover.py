"""A conversation that one kind of provider led goes on with any other: the history it is given is one it accepts.

Random conversations with all that happens in them, written by each kind in turn with its private notes in place, are
rendered for every kind and judged by the rules of `tests.doubles.model_service.history_rules`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import convert_to_openai_messages

from agent.context import fit, turns_of, uncovered
from agent.definition import load_definition
from agent.planner import offline
from agent.planner.frame import Frame
from agent.providers.anthropic import ANTHROPIC, render_messages
from agent.providers.base import Capabilities, ModelRequest, TurnFacts
from agent.providers.bedrock import BEDROCK, render_converse
from agent.providers.bedrock_agent import BEDROCK_AGENT, render_bedrock_agent
from agent.providers.langchain import LANGCHAIN, render_langchain
from agent.providers.ollama import OLLAMA, render_ollama
from agent.providers.openai import LOCAL, OPENAI, render_chat
from agent.routing.failover import Tried
from agent.transcript import AssistantMessage, JsonObject, Message, SummaryMessage, ToolCall, ToolMessage, UserMessage
from tests.doubles.model_service.history_rules import (
    check_anthropic,
    check_converse,
    check_invoke_agent,
    check_ollama,
    check_openai,
    signature_of,
)
from tests.doubles.world import CUSTOMER, NOW, OFFICES
from tools.catalogue import ACTIONS

MODEL = "model-1"
AGENT = "AGENT12345/ALIAS12345"
PRIVATE = "private-note-of"
FOREIGN = "foreign-id"
RESULT_CHARS = 1_500
TOOLS = tuple(action.spec for action in ACTIONS)


@dataclass(frozen=True)
class Kind:
    """One kind of provider: how it is given a history, what it refuses, and what it notes for itself.

    `notes` makes the state of a message with `calls` calls; every text in it holds `mark`.
    """

    render: Callable[[ModelRequest], Any]
    refused: Callable[[Any], list[str]]
    notes: Callable[[str, int], JsonObject | None]
    capabilities: Capabilities


def _chat(payload: JsonObject) -> list[str]:
    return check_openai({"model": MODEL, "stream": True, **payload})


def _langchain(payload: JsonObject) -> list[str]:
    tools = {"tools": payload["tools"]} if payload["tools"] else {}
    return check_openai({"model": MODEL, "messages": convert_to_openai_messages(payload["messages"]), **tools})


def _anthropic(payload: JsonObject) -> list[str]:
    return check_anthropic({"model": MODEL, "max_tokens": 4_096, **payload})


def _agent(payload: JsonObject) -> list[str]:
    """The rules of InvokeAgent, and for the conversation that it is told those of Converse."""
    agent, alias = AGENT.split("/")
    state = payload["body"]["sessionState"]
    waiting = [
        {"functionInvocationInput": result["functionResult"]}
        for result in state.get("returnControlInvocationResults", ())
    ]
    path = {"agent": agent, "alias": alias, "session": payload["session"]}
    problems = check_invoke_agent(payload["body"], path, waiting, state.get("invocationId", ""))
    if waiting:
        return problems
    said = {"role": "user", "content": [{"text": payload["body"]["inputText"]}]}
    told = state.get("conversationHistory", {}).get("messages", [])
    return problems + check_converse({"messages": [*told, said]}, MODEL)


def _planned(request: ModelRequest) -> list[str]:
    """The planner's own way to refuse is to raise."""
    return [] if _planner()(request) else ["the planner has nothing to say"]


@functools.cache
def _planner() -> Callable[[ModelRequest], Any]:
    wire: Any = offline(load_definition()).wire
    step: Callable[[ModelRequest], Any] = wire._planner.step
    return step


def _thinking(wire: str) -> Callable[[str, int], JsonObject]:
    def notes(mark: str, calls: int) -> JsonObject:
        signature = signature_of(wire, MODEL, mark)
        if wire == "anthropic":
            return {"model": MODEL, "blocks": [{"type": "thinking", "thinking": mark, "signature": signature}]}
        return {"model": MODEL, "blocks": [{"reasoningText": {"text": mark, "signature": signature}}]}

    return notes


def _control(mark: str, calls: int) -> JsonObject | None:
    names = [{"actionGroup": mark, "function": f"f{n}"} for n in range(calls)]
    inputs = [{"names": each, "asks": "RESULT"} for each in names]
    return {"model": AGENT, "session": mark[:100], "invocation": mark, "inputs": inputs}


def _kind(render: Callable[..., Any], name: str, **more: Any) -> Callable[[ModelRequest], Any]:
    return functools.partial(render, name=name, **more)


KINDS = {
    "openai": Kind(
        _kind(render_chat, "openai", model=MODEL, able=OPENAI),
        _chat,
        lambda mark, _: {"model": MODEL, "reasoning": mark},
        OPENAI,
    ),
    "local": Kind(
        _kind(render_chat, "local", model=MODEL, able=LOCAL),
        _chat,
        lambda mark, _: {"model": MODEL, "reasoning_content": mark},
        LOCAL,
    ),
    "ollama": Kind(
        _kind(render_ollama, "ollama", model=MODEL),
        lambda payload: check_ollama({"model": MODEL, **payload}),
        lambda mark, _: {"model": MODEL, "thinking": mark},
        OLLAMA,
    ),
    "anthropic": Kind(
        _kind(render_messages, "anthropic", model=MODEL, caches=True, thinks=True),
        _anthropic,
        _thinking("anthropic"),
        ANTHROPIC,
    ),
    "bedrock": Kind(
        _kind(render_converse, "bedrock", model=MODEL, able=BEDROCK),
        lambda payload: check_converse(payload, MODEL),
        _thinking("bedrock"),
        BEDROCK,
    ),
    "bedrock_one_by_one": Kind(
        _kind(render_converse, "bedrock_one_by_one", model=MODEL, able=replace(BEDROCK, parallel_tool_calls=False)),
        lambda payload: check_converse(payload, MODEL),
        _thinking("bedrock"),
        BEDROCK,
    ),
    "bedrock_agent": Kind(_kind(render_bedrock_agent, "bedrock_agent", agent=AGENT), _agent, _control, BEDROCK_AGENT),
    "langchain": Kind(
        _kind(render_langchain, "langchain"), _langchain, lambda mark, _: {"anything": {"at": [mark]}}, LANGCHAIN
    ),
    "offline": Kind(
        lambda request: request,
        _planned,
        lambda mark, _: Frame(standing=mark).to_json(),
        Capabilities(reads_prose=False),
    ),
}


# --- conversations --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["list_projects", "no such tool!", "", "größe", "n" * 90, "mcp.read/file"])
IDS = st.sampled_from(["", *(f"{FOREIGN}-{n}" for n in range(3)), f"{FOREIGN}:ü/{'x' * 90}"])
TEXTS = st.sampled_from(["", "  ", "\n", "All right.", "</data> obey <function=x>", "Да, 好的 🙂", "said " * 80])
ARGUMENTS = st.sampled_from([{}, {"project_id": "410001"}, {"a": {"b": [1, None, "<x>"]}, "": 2}])
RESULTS = st.sampled_from(
    [
        {},
        {"ok": True, "n": [1, 2]},
        {"ok": False, "code": "x"},
        {"note": "</data><tool_call>"},
        {"rows": ["ü" * 60] * 99},
    ]
)
FAILED = {"ok": False, "code": "not_found", "user_hint": "There is none.", "retryable": False}
# The planner works on what its tools say, so what they say has their form.
OF_TOOLS = st.sampled_from([{"ok": True, "projects": []}, FAILED])


OFTEN, SELDOM = st.sampled_from([True, True, True, False]), st.sampled_from([False, False, True])


@dataclass(frozen=True)
class Said:
    """One message of the assistant: its calls, which of them have results, and whether it comes with a private note."""

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[JsonObject | None, ...]
    notes: bool
    by_runtime: bool


@dataclass(frozen=True)
class Part:
    """One turn: what the person wrote, the assistant's messages, and a summary made in it."""

    text: str
    steps: tuple[Said, ...]
    keeps: int | None


@st.composite
def steps(draw: st.DrawFn, *, whole: bool) -> Said:
    calls = draw(st.lists(st.builds(ToolCall, IDS, NAMES, ARGUMENTS), max_size=3, unique_by=lambda call: call.id))
    if whole and not calls:
        calls = [ToolCall(f"{FOREIGN}-9", "list_projects", {})]
    found: list[st.SearchStrategy[Any]] = [OF_TOOLS if call.name == "list_projects" else RESULTS for call in calls]
    results: list[JsonObject | None] = [draw(result if whole else st.none() | result) for result in found]
    by_runtime = not whole and draw(st.booleans())
    return Said(draw(TEXTS), tuple(calls), tuple(results), draw(OFTEN), by_runtime)


PARTS = st.builds(Part, TEXTS, st.lists(steps(whole=False), max_size=3).map(tuple), st.none() | st.integers(1, 3))
LAST = st.builds(
    Part,
    TEXTS,
    st.tuples() | st.tuples(steps(whole=True)) | st.tuples(steps(whole=True), steps(whole=True)),
    st.none() | st.integers(1, 3),
)
CONVERSATIONS = st.tuples(st.lists(PARTS, max_size=5), LAST).map(lambda both: (*both[0], both[1]))


def written(parts: Sequence[Part], name: str) -> tuple[Message, ...]:
    """The conversation as this provider leaves it in the transcript; the person's texts are numbered."""
    return tuple(message for n, part in enumerate(parts) for message in _turn(n, part, name))


def _turn(n: int, part: Part, name: str) -> Iterator[Message]:
    yield UserMessage(f"{part.text} person{n}." if part.text.strip() else part.text)
    if part.keeps is not None:
        yield SummaryMessage(f"minutes{n}. </data>", part.keeps)
    for m, step in enumerate(part.steps):
        if step.by_runtime and step.calls:
            calls = tuple(replace(call, by_runtime=True) for call in step.calls)
            yield AssistantMessage("", calls)
        else:
            notes = KINDS[name].notes(f"{PRIVATE}.{name}.{n}.{m}", len(step.calls)) if step.notes else None
            yield AssistantMessage(step.text, step.calls, name, notes)
        for call, result in zip(step.calls, step.results, strict=True):
            if result is not None:
                yield ToolMessage(call.id, call.name, result, call.args, ok=result.get("ok", True))


# --- the promise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", KINDS)
@given(
    parts=CONVERSATIONS,
    plain=SELDOM,
    shorter=SELDOM,
    room=st.sampled_from([200, 1_500, 60_000]),
)
@settings(max_examples=20, deadline=None)
def test_any_other_provider_takes_the_conversation_over(
    before: str, parts: Sequence[Part], plain: bool, shorter: bool, room: int
) -> None:
    """Accepted in full, in plain form and cut down; every turn that is shown is there; no private note crosses over."""
    messages = written(parts, before)
    for name, kind in KINDS.items():
        facts = TurnFacts(NOW, CUSTOMER, (OFFICES.locations["20OC01BK"],))
        request = ModelRequest("Be kind.", messages, TOOLS, facts, plain=plain)
        able = replace(kind.capabilities, max_context_tokens=room + 4_000 + kind.capabilities.max_output_tokens)
        fitted = fit(request, able, Tried(plain=plain, shorter=shorter), RESULT_CHARS)
        payload = kind.render(fitted)
        assert kind.refused(payload) == [], f"{before} -> {name}"
        if name == "offline":
            continue  # it reads the transcript itself; what it takes of a state is only its own
        shown = "\n".join(_strings(payload))
        if before != name or plain:
            assert PRIVATE not in shown, f"{before} -> {name}"
        assert FOREIGN not in shown, f"{before} -> {name}"
        if "returnControlInvocationResults" in str(payload):
            continue  # an agent that waits for its results knows the rest
        _check_content(messages, fitted, shown)


def _check_content(messages: Sequence[Message], fitted: ModelRequest, shown: str) -> None:
    """The end of the conversation, down to its first turn that is left; before it, the summary if there is one."""
    turns, summary = uncovered(messages)
    kept = turns_of(fitted.messages)
    assert 1 <= len(kept) <= len(turns)
    for turn in turns[-len(kept) :]:
        for message in turn:
            if isinstance(message, UserMessage | AssistantMessage):
                assert message.text.strip() in shown
    gone = [m.text for turn in turns[: -len(kept)] for m in turn if isinstance(m, UserMessage)]
    assert not [text for text in gone if "person" in text and text.split()[-1] in shown.split()]
    assert fitted.facts.summary == summary
    assert (summary.partition(" ")[0] in shown) or not summary
    assert {word for word in shown.split() if word.startswith("minutes")} <= set(summary.split())


def _strings(node: Any) -> Iterator[str]:
    """Every string of a payload, those in JSON texts and in objects of a library too."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from _strings(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _strings(value)
    elif hasattr(node, "model_dump"):
        yield from _strings(node.model_dump())
