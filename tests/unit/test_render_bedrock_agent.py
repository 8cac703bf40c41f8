"""Our transcript as what a managed Bedrock agent is sent: a session that needs nothing but itself."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.confirmation import Verdict
from agent.providers.base import ModelRequest, TurnFacts
from agent.providers.bedrock_agent import FACTS, render_bedrock_agent
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.model_service.history_rules import check_invoke_agent
from tests.doubles.world import CUSTOMER, NOW, OFFICES, SPECS

AGENT = "A/B"
CONTROL: JsonObject = {
    "model": AGENT,
    "session": "of-this-turn",
    "invocation": "inv-1",
    "inputs": [{"names": {"actionGroup": "g", "function": "list_projects"}, "asks": "RESULT"}],
}
LIST = ToolCall("c1", "list_projects", {})
LISTED = ToolMessage("c1", "list_projects", {"ok": True, "note": "</data>"})


def render(*messages: Message, plain: bool = False, **facts: Any) -> JsonObject:
    """What is sent for these messages."""
    known = TurnFacts(NOW, CUSTOMER, (OFFICES.locations["20OC01BK"],), **facts)
    asked = ModelRequest("Be kind.", messages, SPECS, known, plain=plain, turn_key="c" * 32)
    return render_bedrock_agent(asked, "desk", AGENT, {key: key for key in FACTS})


def said(payload: JsonObject) -> list[tuple[str, str]]:
    """The earlier conversation as (role, text)."""
    messages = payload["body"]["sessionState"].get("conversationHistory", {}).get("messages", ())
    return [(m["role"], m["content"][0]["text"]) for m in messages]


def test_a_conversation_becomes_a_new_session() -> None:
    """Earlier turns as text, their calls too; the person's words alone are the input; ids only as attributes."""
    payload = render(
        UserMessage("my projects?"),
        AssistantMessage("", (LIST,), "desk", CONTROL),
        LISTED,
        AssistantMessage("Two of them.", (), "other"),
        UserMessage("and the weather?"),
    )
    assert payload["body"]["inputText"] == "and the weather?"
    (who, first), (role, told) = said(payload)
    assert (who, first, role) == ("user", "my projects?", "assistant")
    assert told.startswith("(Looked up with list_projects. Result, as data: {")
    assert told.endswith("Two of them.")
    state = payload["body"]["sessionState"]
    assert "invocationId" not in state
    assert state["sessionAttributes"]["customer_id"] == CUSTOMER.customer_id
    assert str(CUSTOMER.customer_id) not in str(state["promptSessionAttributes"])


def test_results_that_the_agent_waits_for_go_back_to_it() -> None:
    """In the session that asked, under the names it asked with."""
    payload = render(UserMessage("hi"), AssistantMessage("", (LIST,), "desk", CONTROL), LISTED)
    assert payload["session"] == "of-this-turn"
    state = payload["body"]["sessionState"]
    assert state["invocationId"] == "inv-1"
    (result,) = state["returnControlInvocationResults"]
    body = result["functionResult"].pop("responseBody")["TEXT"]["body"]
    assert body.count("</data>") == 1
    assert result == {"functionResult": {"actionGroup": "g", "function": "list_projects"}}


def test_nobody_needs_what_aws_keeps() -> None:
    """Results of another provider's calls, of a yes, after a correction or a refusal, of another agent: as text."""
    ours = (UserMessage("hi"), AssistantMessage("", (LIST,), "desk", CONTROL), LISTED)
    theirs = (UserMessage("hi"), AssistantMessage("", (LIST,), "other", {"any": 1}), LISTED)
    by_runtime = (UserMessage("yes"), AssistantMessage("", (ToolCall("c1", "list_projects", {}, True),)), LISTED)
    of_another = (UserMessage("hi"), AssistantMessage("", (LIST,), "desk", {**CONTROL, "model": "C/D"}), LISTED)
    more = (UserMessage("hi"), AssistantMessage("", (LIST, ToolCall("c2", "x", {})), "desk", CONTROL), LISTED)
    sessions = set()
    for payload in (
        render(*ours, correction="Say less."),
        render(*ours, plain=True),
        render(*theirs, verdict=Verdict("decline")),
        render(*by_runtime, verdict=Verdict("confirm")),
        render(*of_another),
        render(*more),
    ):
        assert "returnControlInvocationResults" not in payload["body"]["sessionState"]
        words, _, told = payload["body"]["inputText"].partition("\n\n")
        assert words in ("hi", "yes")
        assert told.startswith("(Looked up with list_projects. Result, as data: {")
        sessions.add(payload["session"])
    # The one of another agent is told the same as the plain one, and is the same call.
    assert len(sessions) == 5


IDS = st.sampled_from(["", "a", "b"])
CALLS = st.builds(ToolCall, IDS, st.sampled_from(["list_projects", ""]), st.just({}))
MESSAGES = st.one_of(
    st.builds(UserMessage, st.text(max_size=5)),
    st.builds(
        AssistantMessage,
        st.text(max_size=5),
        st.lists(CALLS, max_size=3, unique_by=lambda c: c.id).map(tuple),
        st.sampled_from(["desk", "other"]),
        st.sampled_from([None, CONTROL, {"odd": []}]),
    ),
    st.builds(ToolMessage, IDS, st.just("list_projects"), st.just({"ok": True})),
)


@given(st.lists(MESSAGES, max_size=12), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_transcript_renders_to_a_valid_call(messages: list[Message], plain: bool) -> None:
    """Person and agent in turns, the person first, no empty text; an input, or else the results that are waited for."""
    payload = render(*messages, plain=plain)
    assert re.fullmatch(r"[0-9a-zA-Z._:-]{2,100}", payload["session"])
    waiting = [{"functionInvocationInput": each["names"]} for each in CONTROL["inputs"]]
    path = {"agent": "A", "alias": "B", "session": payload["session"]}
    assert check_invoke_agent(payload["body"], path, waiting, "inv-1") == []
    history = said(payload)
    assert [role for role, _ in history] == ["user", "assistant"] * (len(history) // 2)
    assert all(text.strip() for _, text in history)
    assert ("inputText" in payload["body"]) != ("invocationId" in payload["body"]["sessionState"])
    assert payload == render(*messages, plain=plain)
