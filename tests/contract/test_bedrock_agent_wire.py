"""A managed Bedrock agent over InvokeAgent, on real sockets, against the scripted model server."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agent.errors import (
    ModelBusy,
    ModelError,
    ModelRejected,
    ModelUnavailable,
)
from agent.providers import base
from agent.providers.base import (
    Chunk,
    Cited,
    ModelRequest,
    Note,
    Provider,
    Reasoning,
    Searched,
    Text,
    Tokens,
    TurnFacts,
    Where,
)
from agent.providers.bedrock_agent import BedrockAgentConfig, bedrock_agent
from agent.routing.config import ModelsError
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.model_service import Call, Lane, ModelService, Quirk, Reply, Usage
from tests.doubles.model_service import event_stream as scripted
from tests.doubles.world import CUSTOMER, NOW, SPECS
from tools.contract import ToolSpec

SECRET = "do-not-show-me"
TURN = f"{'a' * 32}.{'b' * 32}"
WHERE = Where("the credentials of providers.desk", "providers.desk.base_url", "providers.desk.model")
STREAM = "application/vnd.amazon.eventstream"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def desk(lane: Lane, **config: Any) -> Provider:
    """The agent that this lane plays."""
    given = {"region": "eu-west-1", "endpoint_url": lane.url("bedrock-agent"), "where": WHERE, **config}
    return bedrock_agent(BedrockAgentConfig(agent_id="AGENT12345", alias_id="ALIAS12345", **given), "desk")


def request(*messages: Message, tools: tuple[ToolSpec, ...] = SPECS) -> ModelRequest:
    """A call of a turn."""
    facts = TurnFacts(NOW, CUSTOMER, ())
    return ModelRequest("Be kind.", messages or (UserMessage("hi"),), tools, facts, turn_key=TURN)


async def ask(provider: Provider, asked: ModelRequest | None = None) -> list[Chunk]:
    """All chunks of one call; the wire's errors as the typed ones."""
    try:
        return [c async for c in provider.wire.stream(provider.render(asked or request()), deadline_s=5)]
    except provider.raises as error:
        raise provider.classify(error) from error
    finally:
        await provider.wire.close()


async def test_an_answer_with_its_traces_and_citations(models: ModelService) -> None:
    """Thoughts, look-ups and functions in AWS, text in pieces, where it is from, and what it cost in all."""
    lookup = {"knowledgeBaseId": "KB", "text": "warranty of floors"}
    own = {"actionGroupName": "stock", "function": "count", "executionType": "LAMBDA"}
    found = {"retrievedReferences": [{"content": {"text": "x"}}, {"content": {"text": "y"}}]}
    traces = (
        {
            "preProcessingTrace": {
                "modelInvocationOutput": {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 2}}}
            }
        },
        {"orchestrationTrace": {"invocationInput": {"knowledgeBaseLookupInput": lookup}}},
        {"orchestrationTrace": {"observation": {"knowledgeBaseLookupOutput": found}}},
        {"orchestrationTrace": {"invocationInput": {"actionGroupInvocationInput": own}}},
        {"guardrailTrace": {"action": "NONE"}},
    )
    part = {"text": "Two years.", "span": {"start": 0, "end": 9}}
    references = [
        {
            "location": {"type": "S3", "s3Location": {"uri": "s3://docs/warranty.pdf"}},
            "metadata": {"x-amz-bedrock-kb-document-page-number": 3.0, "score": 0.7},
        },
        {"location": {"type": "WEB", "webLocation": {"url": "https://a.example/w"}}, "metadata": {"title": "Floors"}},
    ]
    citations = ({"generatedResponsePart": {"textResponsePart": part}, "retrievedReferences": references},)
    reply = Reply(
        ("Hello – ", "Two years."), reasoning="They ask.", traces=traces, citations=citations, usage=Usage(11, 7)
    )
    lane = await models.lane(reply, wire="bedrock-agent")
    assert await ask(desk(lane)) == [
        Searched("warranty of floors", 2),
        Reasoning("(Runs stock count.)\n"),
        Reasoning("They ask."),
        Text("Hello – "),
        Text("Two years."),
        Cited("s3://docs/warranty.pdf", "page 3", 8, 18, 0.7, "Two years."),
        Cited("https://a.example/w", "Floors", 8, 18, text="Two years."),
        Tokens(16, 9),
    ]


async def test_the_request_is_signed_traced_and_of_this_turn(models: ModelService) -> None:
    """A session id of the turn; the same call again is the same; facts stand apart from the person's words."""
    lane = await models.lane(Reply("Hi."), repeat_last=True)
    provider = desk(lane, session_attributes={"customer": "customer_id", "day": "today"})
    for _ in range(2):
        await ask(provider)
    await ask(provider, request(UserMessage("something else")))
    first, again, other = await lane.requests()
    assert first.path == again.path != other.path
    assert first.path.startswith(f"/agents/AGENT12345/agentAliases/ALIAS12345/sessions/{TURN}.")
    assert "/eu-west-1/bedrock/aws4_request" in first.headers["authorization"]
    assert first.body["enableTrace"] is True
    assert first.body["streamingConfigurations"] == {"streamFinalResponse": True}
    assert first.body["inputText"] == "hi"
    state = first.body["sessionState"]
    assert state["sessionAttributes"] == {"customer": "7000101", "day": "2026-03-11"}
    assert state["promptSessionAttributes"]["instructions"] == "Be kind."
    assert "March 11, 2026" in state["promptSessionAttributes"]["facts"]


async def test_returned_control_is_proposed_and_answered_in_the_same_session(models: ModelService) -> None:
    """Texts become the types of our schemas; results name group and function; failed ones go to the agent as well."""
    calls = (
        Call("get_time_slots", {"project_id": "410001", "date": "2026-03-16"}, group="scheduling"),
        Call("not_a_tool", {"n": 2}, group="elsewhere"),
    )
    lane = await models.lane(Reply(calls=calls), Reply("Eight it is."), wire="bedrock-agent")
    provider = desk(lane)
    slots, unknown, note, _ = await ask(provider)
    assert slots == base.Call(ToolCall("", "get_time_slots", {"project_id": "410001", "date": "2026-03-16"}))
    assert isinstance(unknown, base.Call)
    assert unknown.call.name == "not_a_tool"
    assert isinstance(note, Note)
    done = (
        UserMessage("hi"),
        AssistantMessage(
            "", (ToolCall("x", "get_time_slots", {}), ToolCall("y", "not_a_tool", {})), "desk", note.state
        ),
        ToolMessage("x", "get_time_slots", {"ok": True, "slots": ["8:00 AM"]}),
        ToolMessage("y", "not_a_tool", {"ok": False, "code": "unknown_tool"}, ok=False),
    )
    assert (await ask(desk(lane), request(*done)))[0] == Text("Eight it is.")
    first, second = await lane.requests()
    assert (second.path, second.problems) == (first.path, [])
    assert "inputText" not in second.body
    fine, failed = (each["functionResult"] for each in second.body["sessionState"]["returnControlInvocationResults"])
    assert "8:00 AM" in fine["responseBody"]["TEXT"]["body"]
    assert "responseState" not in fine
    assert failed["responseState"] == "REPROMPT"
    assert "unknown_tool" in failed["responseBody"]["TEXT"]["body"]


async def test_values_that_come_as_text_get_the_types_of_our_schema(models: ModelService) -> None:
    """Also those that the agent took for texts; what does not fit stays as it is, for the gate to refuse."""
    properties = {
        "n": {"type": "integer"},
        "fine": {"type": "boolean"},
        "of": {"type": "array"},
        "x": {"type": "number"},
    }
    schema: JsonObject = {"type": "object", "properties": properties}
    spec = ToolSpec("count", "Counts.", schema, "read", "scheduling")
    sent = {"n": "2", "fine": True, "of": ["a", "b"], "x": "many"}
    lane = await models.lane(Reply(calls=(Call("count", sent),)))
    call = (await ask(desk(lane), request(tools=(spec,))))[0]
    assert call == base.Call(ToolCall("", "count", {"n": 2, "fine": True, "of": ["a", "b"], "x": "many"}))


def returned(*inputs: JsonObject) -> Reply:
    """A return of control as it is."""
    body = {"invocationId": "inv-1", "invocationInputs": list(inputs)}
    return Reply(raw=scripted.event("returnControl", body), raw_type=STREAM)


async def test_api_style_calls_and_confirmations_are_understood(models: ModelService) -> None:
    """Path and body of an operation; what the agent would run itself after a yes is refused by a reason and a DENY."""
    date = {"name": "date", "type": "string", "value": "2026-03-16"}
    api = {
        "actionGroup": "scheduling",
        "apiPath": "/get-time-slots",
        "httpMethod": "POST",
        "parameters": [{"name": "project_id", "type": "string", "value": "410001"}],
        "requestBody": {"content": {"application/json": {"properties": [date]}}},
    }
    own = {"actionGroup": "g", "function": "cancel_appointment", "parameters": []}
    own["actionInvocationType"] = "USER_CONFIRMATION"
    lane = await models.lane(returned({"apiInvocationInput": api}, {"functionInvocationInput": own}))
    provider = desk(lane)
    slots, cancel, note, _ = await ask(provider)
    assert slots == base.Call(ToolCall("", "get_time_slots", {"project_id": "410001", "date": "2026-03-16"}))
    assert isinstance(cancel, base.Call)
    assert "run this itself" in (cancel.error or "")
    assert isinstance(note, Note)
    calls = (ToolCall("x", "get_time_slots", {}), ToolCall("y", "cancel_appointment", {}))
    body = provider.render(
        request(
            UserMessage("hi"),
            AssistantMessage("", calls, "desk", note.state),
            ToolMessage("x", "get_time_slots", {"ok": True}),
            ToolMessage("y", "cancel_appointment", {"ok": False}, ok=False),
        )
    )["body"]
    api_result, own_result = body["sessionState"]["returnControlInvocationResults"]
    assert api_result["apiResult"]["apiPath"] == "/get-time-slots"
    assert api_result["apiResult"]["httpStatusCode"] == 200
    assert "application/json" in api_result["apiResult"]["responseBody"]
    assert own_result["functionResult"]["confirmationState"] == "DENY"


@pytest.mark.parametrize(
    ("reply", "kind", "hint"),
    [
        (Reply(status=401), ModelRejected, "the credentials of providers.desk"),
        (Reply(error="forbidden"), ModelRejected, "the credentials of providers.desk"),
        (Reply(error="unknown_model"), ModelRejected, "providers.desk.agent_id, providers.desk.alias_id"),
        (Reply(status=409), ModelBusy, ""),
        (Reply(error="quota"), ModelBusy, ""),
        (Reply(error="not_ready"), ModelBusy, ""),
        (Reply(error="model_error"), ModelUnavailable, ""),
        (Reply(error="unavailable"), ModelUnavailable, ""),
    ],
    ids=lambda value: "" if not isinstance(value, Reply) else value.kind,
)
async def test_failures_are_typed_before_the_stream_and_in_it(
    models: ModelService, reply: Reply, kind: type[ModelError], hint: str
) -> None:
    """As a status or as an exception event: the same class, the same hint, sent once, no secret."""
    in_stream = Reply("A long enough text.", error=reply.kind, fault_in_stream=1)
    for each in (reply, in_stream) if reply.status is None else (reply,):
        lane = await models.lane(each, Reply("For whoever asks again."))
        with pytest.raises(kind) as caught:
            await ask(desk(lane))
        assert hint in caught.value.user_hint
        assert SECRET not in str(caught.value)
        assert await lane.left() == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=scripted.event("trace", {"trace": {}}), raw_type=STREAM),
        Reply(raw=scripted.event("chunk", {"bytes": "SGk="})[:-5], raw_type=STREAM),
        Reply(raw=scripted.event("chunk", {"bytes": "%%%"}), raw_type=STREAM),
        Reply(raw=scripted.event("returnControl", {"invocationId": "i", "invocationInputs": []}), raw_type=STREAM),
        returned({"functionInvocationInput": {"actionGroup": "g"}}),
    ],
    ids=["only traces", "within a frame", "no base64", "no calls", "a call of nothing"],
)
async def test_a_broken_answer_is_unavailable(models: ModelService, reply: Reply) -> None:
    """Nothing of it is taken for an answer."""
    lane = await models.lane(reply)
    with pytest.raises(ModelUnavailable):
        await ask(desk(lane))


async def test_pieces_may_be_cut_anywhere_and_unknown_events_pass(models: ModelService) -> None:
    """Frames in bits, characters in halves, events that we do not know; without traces the usage is estimated."""
    halves = "é".encode()
    chunks = [scripted.event("chunk", {"bytes": base64.b64encode(half).decode()}) for half in (halves[:1], halves[1:])]
    lane = await models.lane(
        Reply(raw=b"".join(chunks), raw_type=STREAM),
        Reply("Hello there.", write_size=7, usage=None, quirks={Quirk.UNKNOWN_EVENTS}),
    )
    assert (await ask(desk(lane)))[0] == Text("é")
    said = await ask(desk(lane))
    assert said[0] == Text("Hello there.")
    assert isinstance(said[-1], Tokens)
    assert said[-1].estimated


async def test_traces_are_passed_on_up_to_a_limit(models: ModelService) -> None:
    """However much an agent thinks and searches."""
    thought = {"orchestrationTrace": {"rationale": {"text": "hm " * 5000}}}
    search: JsonObject = {"orchestrationTrace": {"observation": {"knowledgeBaseLookupOutput": {}}}}
    lane = await models.lane(Reply("Hi.", traces=(thought,) * 3 + (search,) * 30))
    chunks = await ask(desk(lane))
    assert sum(len(chunk.text) for chunk in chunks if isinstance(chunk, Reasoning)) == 20_000
    assert sum(isinstance(chunk, Searched) for chunk in chunks) == 20


def test_a_configuration_that_cannot_work_is_told_with_its_fix() -> None:
    """Every fault at once, each under its key."""
    config = BedrockAgentConfig(
        agent_id="arn:aws:bedrock:x", alias_id="not an id", session_attributes={"who": "password"}
    )
    with pytest.raises(ModelsError) as caught:
        bedrock_agent(config, "desk")
    told = dict(caught.value.problems)
    assert list(told) == [f"providers.desk.{key}" for key in ("agent_id", "alias_id", "session_attributes.who")]
    assert "customer_id" in told["providers.desk.session_attributes.who"]
