"""Our transcript as Ollama's and Anthropic's messages: whatever happened in it, a history that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.providers.anthropic import render_messages
from agent.providers.base import ModelRequest
from agent.providers.ollama import render_ollama
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage
from tests.contract.model_calls import request
from tests.doubles.model_service.history_rules import check_anthropic, check_ollama, signature_of

CALL = ToolCall("c1", "list_projects", {"status": "open"})
OTHER = ToolCall("c2", "get_working_hours", {})


def test_results_come_before_what_the_person_says_next() -> None:
    """An interrupted turn: one call failed, one has no result; both results and the next words are one message."""
    history = (
        UserMessage("one"),
        AssistantMessage("Let me look.", (CALL, OTHER)),
        ToolMessage("c1", "list_projects", {"ok": False}, ok=False),
        UserMessage("two"),
    )
    person, assistant, answer = render_messages(request(*history))["messages"]
    assert person == {"role": "user", "content": [{"type": "text", "text": "one"}]}
    assert assistant["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call00001", "name": "list_projects", "input": {"status": "open"}},
        {"type": "tool_use", "id": "call00002", "name": "get_working_hours", "input": {}},
    ]
    assert [(b["type"], b.get("tool_use_id"), b.get("is_error")) for b in answer["content"]] == [
        ("tool_result", "call00001", True),
        ("tool_result", "call00002", True),
        ("text", None, None),
    ]
    roles = [m["role"] for m in render_ollama(request(*history))["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "user"]


def test_what_changes_is_kept_apart_from_what_is_cached() -> None:
    """The instructions are marked, what is so just now is not; without marks nothing is."""
    asked = request(UserMessage("hi"))
    payload = render_messages(asked, caches=True)
    assert [("cache_control" in part, "It is" in part["text"]) for part in payload["system"]] == [
        (True, False),
        (False, True),
    ]
    assert ["cache_control" in tool for tool in payload["tools"]] == [False] * (len(asked.tools) - 1) + [True]
    assert "cache_control" not in str(render_messages(asked))
    assert len(render_messages(replace(asked, instructions=" "))["system"]) == 1


def test_a_request_without_tools() -> None:
    """Anthropic wants tools beside a history with calls, so they are named and cannot be called; Ollama gets none."""
    history = (UserMessage("hi"), AssistantMessage("", (CALL,)), ToolMessage("c1", "list_projects", {"ok": True}))
    asked = replace(request(*history), tools=())
    payload = render_messages(asked)
    assert [tool["name"] for tool in payload["tools"]] == ["list_projects"]
    assert payload["tool_choice"] == {"type": "none"}
    assert "tools" not in render_messages(replace(request(), tools=()))
    assert "tools" not in render_ollama(asked)
    assert "tools" not in render_ollama(request(), takes_tools=False)


def test_what_came_at_the_yes_of_a_person_has_no_thoughts() -> None:
    """Code made that call; so the model is not told to think, which it would have had to do before it."""
    made = replace(CALL, by_runtime=True)
    history = (UserMessage("yes"), AssistantMessage("", (made,)), ToolMessage("c1", "list_projects", {"ok": True}))
    assert render_messages(request(*history), thinks=True)["thinking"] == {"type": "disabled"}
    assert "thinking" not in render_messages(request(UserMessage("hi")), thinks=True)


IDS = st.sampled_from(["", "a", "b", "c" * 80, "ü/1"])
CALLS = st.builds(ToolCall, IDS, st.sampled_from(["list_projects", "", "a b!"]), st.just({}))
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": signature_of("anthropic", "m", "hm")}
STATES = st.sampled_from(
    [None, {}, {"model": "m", "blocks": [THOUGHT]}, {"model": "n", "blocks": [{}]}, {"model": "m", "thinking": "hm"}]
)
MESSAGES = st.one_of(
    st.builds(UserMessage, st.text(max_size=5)),
    st.builds(
        AssistantMessage,
        st.text(max_size=5),
        st.lists(CALLS, max_size=3, unique_by=lambda call: call.id).map(tuple),
        st.sampled_from(["p", "other"]),
        STATES,
    ),
    st.builds(ToolMessage, IDS, st.just("list_projects"), st.just({"ok": True}), ok=st.booleans()),
)


def _anthropic(asked: ModelRequest) -> list[str]:
    payload: JsonObject = render_messages(asked, "p", "m", caches=True, thinks=True)
    thinking = {"type": "enabled", "budget_tokens": 2000}
    return check_anthropic({"model": "m", "max_tokens": 4096, "thinking": thinking, **payload})


def _ollama(asked: ModelRequest) -> list[str]:
    return check_ollama({"model": "m", **render_ollama(asked, "p", "m")})


@pytest.mark.parametrize("problems", [_anthropic, _ollama])
@given(messages=st.lists(MESSAGES, max_size=12), plain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_transcript_renders_to_a_history_that_is_taken(
    problems: Callable[[ModelRequest], list[str]], messages: list[Message], plain: bool
) -> None:
    """By the rules of the strict server."""
    assert problems(request(*messages, plain=plain)) == []
