"""Whole turns of ours that a managed Bedrock agent answers: what it hands back goes the way of every model's call."""

from __future__ import annotations

import pytest

from agent.events import Citation, ConfirmationRequired, RetrievalFinished, RouteChanged, TextDelta, TurnCompleted
from agent.graph import run_turn
from agent.ports import TurnWork
from agent.providers.base import Provider
from agent.providers.bedrock_agent import BedrockAgentConfig, bedrock_agent
from agent.routing.plan import Candidate, Plan
from tests.doubles.model_service import Call, Lane, ModelService, Reply
from tests.doubles.scripted_model import calls, says, scripted
from tests.doubles.talk import DEFINITION, Talk
from tests.doubles.world import World

BOOK = Call("confirm_appointment", {"project_id": "SO-26-1001_1", "date": "2026-03-16", "time": "10:00"})
BOOKED = ("confirm_appointment", {"project_id": "410001", "date": "2026-03-16", "time": "10:00"})
SLOTS = Call("get_time_slots", {"project_id": "SO-26-1001_1", "date": "2026-03-16"})


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def desk(lane: Lane) -> Provider:
    """The agent that this lane plays."""
    url = lane.url("bedrock-agent")
    return bedrock_agent(BedrockAgentConfig(agent_id="AGENT1", alias_id="TSTALIASID", region="x", endpoint_url=url))


async def test_a_yes_runs_what_the_agent_proposed_and_nothing_before_it(models: ModelService) -> None:
    """A look-up in one session, a gated call that ends the turn, a yes that code carries out, and the agent's words."""
    lane = await models.lane(
        Reply(calls=(SLOTS,)), Reply(calls=(BOOK,)), Reply("All set for Monday."), wire="bedrock-agent"
    )
    talk = Talk(desk(lane))
    asked = await talk.say("book my flooring on monday at 10")
    assert asked.tools == [("get_time_slots", "ok"), ("confirm_appointment", "pending")]
    assert asked.status == "waiting"
    assert any(isinstance(event, ConfirmationRequired) for event in asked.events)
    assert talk.world.writes == []

    done = await talk.say("yes")
    assert talk.world.writes == [BOOKED]
    assert "All set for Monday." in done.text
    first, second, third = await lane.requests()
    assert first.path == second.path != third.path
    state = third.body["sessionState"]
    assert [m["role"] for m in state["conversationHistory"]["messages"]] == ["user", "assistant"]
    assert "confirmation_required" in str(state["conversationHistory"])
    assert third.body["inputText"].startswith("yes\n\n(Looked up with confirm_appointment.")
    assert "carried out" in state["promptSessionAttributes"]["facts"]


async def test_a_claim_of_what_nobody_did_is_withheld_and_told_to_a_new_session(models: ModelService) -> None:
    """The guards hold for an agent too; asked again, it knows why, and is not sent stale results."""
    lane = await models.lane(Reply(calls=(SLOTS,)), Reply("Your appointment is booked."), Reply("10:00 AM is free."))
    reply = await Talk(desk(lane)).say("is monday at 10 free?")
    assert reply.faults() == ["claim"]
    assert reply.text == "10:00 AM is free."
    _, results, again = await lane.requests()
    assert results.path != again.path
    assert "not shown" in again.body["sessionState"]["promptSessionAttributes"]["facts"]


async def test_what_an_agent_calls_that_is_no_tool_of_ours_is_refused(models: ModelService) -> None:
    """It is told so, and can go on."""
    lane = await models.lane(Reply(calls=(Call("transfer_money", {"amount": 5}),)), Reply("I cannot do that."))
    talk = Talk(desk(lane))
    reply = await talk.say("send me money")
    assert reply.tools == [("transfer_money", "refused")]
    assert reply.text == "I cannot do that."
    assert talk.world.writes == []
    (result,) = (await lane.bodies())[1]["sessionState"]["returnControlInvocationResults"]
    assert "unknown_tool" in result["functionResult"]["responseBody"]["TEXT"]["body"]


async def test_look_ups_and_citations_are_events_of_the_turn(models: ModelService) -> None:
    """What the agent found in its knowledge base, and what of the answer rests on it."""
    found = {"retrievedReferences": [{"content": {"text": "x"}}]}
    traces = (
        {"orchestrationTrace": {"invocationInput": {"knowledgeBaseLookupInput": {"text": "warranty"}}}},
        {"orchestrationTrace": {"observation": {"knowledgeBaseLookupOutput": found}}},
    )
    said = {"text": "Two years.", "span": {"start": 0, "end": 10}}
    source = {"location": {"type": "S3", "s3Location": {"uri": "s3://docs/w.pdf"}}}
    citation = {"generatedResponsePart": {"textResponsePart": said}, "retrievedReferences": [source]}
    lane = await models.lane(Reply("Two years.", traces=traces, citations=(citation,)))
    reply = await Talk(desk(lane)).say("how long is the warranty?")
    (search,) = [e for e in reply.events if isinstance(e, RetrievalFinished)]
    (cited,) = [e for e in reply.events if isinstance(e, Citation)]
    assert (search.query, search.passages) == ("warranty", 1)
    assert (cited.document_id, cited.text_start, cited.text_end) == ("s3://docs/w.pdf", 0, 10)


async def test_either_side_takes_over_from_the_other_in_the_middle_of_a_turn(models: ModelService) -> None:
    """After a look-up was answered, the next call fails: whoever goes on knows the result, and needs no session."""
    scripted_slots = calls("get_time_slots", project_id="410001", date="2026-03-16")
    for agent_first in (True, False):
        fails = Reply(status=503)
        lane = await models.lane(*((Reply(calls=(SLOTS,)), fails) if agent_first else (Reply("10:00 AM is free."),)))
        other, wire = scripted(
            *([says("10:00 AM is free.")] if agent_first else [[scripted_slots], [ConnectionError("gone")]])
        )
        both = (desk(lane), other) if agent_first else (other, desk(lane))
        world, work = World(), TurnWork()
        plan = Plan(tuple(Candidate(provider) for provider in both))
        turn = world.turn("is monday at 10 free?")
        stream = run_turn(DEFINITION, plan, world.toolbox, turn, work, lambda text: "chitchat")
        events = [event async for event in stream]
        assert isinstance(events[-1], TurnCompleted)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "10:00 AM is free."
        assert any(isinstance(event, RouteChanged) for event in events)
        last = wire.requests[-1].messages[-1] if agent_first else (await lane.bodies())[-1]["inputText"]
        assert "10:00 AM" in str(last)


async def test_a_return_of_control_that_aws_forgot_is_told_anew(models: ModelService) -> None:
    """The session is gone when the results come: the same turn goes on in another one, with the results as text."""
    lane = await models.lane(
        Reply(calls=(SLOTS,)), Reply(status=400, error_message="unknown invocationId"), Reply("10:00 AM is free.")
    )
    reply = await Talk(desk(lane)).say("is monday at 10 free?")
    assert reply.text == "10:00 AM is free."
    _, lost, anew = await lane.requests()
    assert lost.path != anew.path
    assert "Looked up with get_time_slots" in anew.body["inputText"]
