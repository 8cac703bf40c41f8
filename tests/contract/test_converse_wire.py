"""Converse and ConverseStream against a server on real sockets that is as strict as Bedrock."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import tracemalloc
import zlib
from contextlib import aclosing
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from botocore.config import Config

from agent.errors import (
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers.base import Call, Capabilities, Chunk, ModelRequest, Note, Reasoning, Text, Tokens, TurnFacts
from agent.providers.bedrock import BEDROCK, RULE_HINT, BedrockConfig, Guardrail, bedrock
from agent.providers.event_stream import split
from agent.providers.http import StreamBroken
from agent.transcript import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.model_service import Call as Scripted
from tests.doubles.model_service import Lane, ModelService, Quirk, Reply, Request, Usage, event_stream
from tests.doubles.world import CUSTOMER, NOW, SPECS

MODEL = "eu.anthropic.claude-sonnet-4-v1:0"
ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"
SECRET = "do/not+show+me"
LOOK = Scripted("list_projects", {"status": "open"})
STREAM = event_stream.CONTENT_TYPE


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a session, so that its token has to be signed too."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")


def provider_of(lane: Lane, able: Capabilities = BEDROCK, **config: Any) -> Any:
    """A provider that asks this lane."""
    known = {"model": MODEL, "region": "eu-west-1", "endpoint_url": lane.url("bedrock"), **config}
    return bedrock(BedrockConfig(**known), capabilities=able)


def request(*messages: Message, tools: bool = True) -> ModelRequest:
    """A request that ends with these messages."""
    facts = TurnFacts(now=NOW, identity=CUSTOMER, locations=())
    return ModelRequest("Be kind.", messages or (UserMessage("hi"),), SPECS if tools else (), facts)


async def ask(provider: Any, asked: ModelRequest | None = None) -> list[Chunk]:
    """All chunks of one call; library errors as the typed ones."""
    try:
        async with aclosing(provider.wire.stream(provider.render(asked or request()), deadline_s=5)) as stream:
            return [chunk async for chunk in stream]
    except provider.raises as error:
        raise provider.classify(error) from error


async def answer(models: ModelService, *replies: Reply, able: Capabilities = BEDROCK, **config: Any) -> list[Chunk]:
    """What comes of these replies to one call."""
    provider = provider_of(await models.lane(*replies, wire="bedrock"), able, **config)
    try:
        return await ask(provider)
    finally:
        await provider.wire.close()


def text_of(chunks: list[Chunk]) -> str:
    """What a person would read."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Text))


def calls_in(chunks: list[Chunk]) -> list[tuple[str, dict[str, Any], str | None]]:
    """(name, args, error) of every call."""
    return [(c.call.name, c.call.args, c.error) for c in chunks if isinstance(c, Call)]


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 17])
async def test_text_thoughts_calls_and_usage_stream(models: ModelService, size: int | None) -> None:
    """In whatever pieces the bytes come; input counts what the cache gave and took."""
    reply = Reply(
        "Grüße, 10 €.", (LOOK, Scripted("get_working_hours", {})), "Let me see.",
        usage=Usage(11, 7, cache_read=100, cache_write=20), write_size=size, quirks=["unknown_events"],
    )  # fmt: skip
    chunks = await answer(models, reply)
    assert text_of(chunks) == "Grüße, 10 €."
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Reasoning)) == "Let me see."
    assert calls_in(chunks) == [("list_projects", {"status": "open"}, None), ("get_working_hours", {}, None)]
    assert Tokens(131, 7, cache_read_tokens=100, cache_write_tokens=20) in chunks


@pytest.mark.parametrize(
    "able", [replace(BEDROCK, streams=False), replace(BEDROCK, streams_tool_calls=False)], ids=["never", "with tools"]
)
async def test_a_model_that_does_not_stream_is_asked_for_the_whole(models: ModelService, able: Capabilities) -> None:
    """The same chunks come of it."""
    lane = await models.lane(Reply("Hello.", (LOOK,), "Hm."), Reply("Hello."), wire="bedrock")
    provider = provider_of(lane, able)
    chunks = await ask(provider)
    assert (text_of(chunks), calls_in(chunks)) == ("Hello.", [("list_projects", {"status": "open"}, None)])
    assert chunks[0] == Reasoning("Hm.")
    assert Tokens(11, 7) in chunks
    await ask(provider, request(tools=False))
    await provider.wire.close()
    whole, later = [each.path.rpartition("/")[2] for each in await lane.requests()]
    assert (whole, later) == ("converse", "converse" if not able.streams else "converse-stream")


@pytest.mark.parametrize("quirk", ["two_text_blocks", "text_after_calls", "stop_with_calls", "id_repeated"])
async def test_answers_in_other_orders_are_read_all_the_same(models: ModelService, quirk: str) -> None:
    """Blocks after others, a wrong reason to stop, the same id twice."""
    chunks = await answer(models, Reply("Hello you.", (LOOK, LOOK), quirks=[quirk]))
    assert text_of(chunks) == "Hello you."
    assert calls_in(chunks) == [("list_projects", {"status": "open"}, None)] * 2


async def test_thoughts_written_into_the_text_are_told_apart(models: ModelService) -> None:
    """Some models mark them with tags."""
    chunks = await answer(models, Reply("Hello.", reasoning="Hm.", quirks=[Quirk.THINK_TAGS]))
    assert text_of(chunks) == "Hello."
    assert Reasoning in map(type, chunks)


async def test_arguments_that_were_cut_off_are_an_error_of_the_call(models: ModelService) -> None:
    """Also where what there is of them could be read: nothing is guessed."""
    for reply in (
        Reply(calls=(LOOK,), quirks=[Quirk.ARGUMENTS_CUT_OFF]),
        Reply(calls=(LOOK,), stop="max_tokens"),
        Reply(calls=(Scripted("list_projects", raw_arguments=""),), stop="max_tokens"),
    ):
        ((name, args, error),) = calls_in(await answer(models, reply))
        assert (name, args) == ("list_projects", {})
        assert error


STOPS: list[tuple[Reply, str | type[ModelError]]] = [
    (Reply("It is cut", stop="max_tokens"), "It is cut …"),
    (Reply("", stop="max_tokens"), ModelMisbehaved),
    (Reply("<thinking>It is all thought", stop="max_tokens"), ModelMisbehaved),
    (Reply("Never.", (LOOK,), stop="guardrail"), "Never."),
    (Reply("", stop="guardrail"), ModelRejected),
    (Reply("So far", stop="content_filter"), "So far …"),
    (Reply("", stop="content_filter"), ModelMisbehaved),
    (Reply("So far", stop="context_exceeded"), ContextExceeded),
    (Reply("", (LOOK,), stop="malformed_tool_use"), ModelMisbehaved),
    (Reply("x", stop="malformed_output"), ModelMisbehaved),
]


@pytest.mark.parametrize(("reply", "told"), STOPS, ids=lambda each: getattr(each, "stop", ""))
async def test_why_a_model_stopped_decides_what_is_made_of_it(
    models: ModelService, reply: Reply, told: str | type[ModelError]
) -> None:
    """What a guardrail says in the answer's place is shown, and no call of such an answer is made."""
    if isinstance(told, str):
        chunks = await answer(models, reply)
        assert (text_of(chunks), calls_in(chunks)) == (told, [])
        return
    with pytest.raises(told) as caught:
        await answer(models, reply)
    if reply.stop == "guardrail":
        assert caught.value.user_hint == RULE_HINT


# --- thoughts -------------------------------------------------------------------------------------------------------

THINKS = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}}}


async def test_thoughts_go_back_with_their_signature_and_thinking_ends_where_they_are_missing(
    models: ModelService,
) -> None:
    """The server checks the signature; a turn that another model began cannot be thought on."""
    lane = await models.lane(Reply("", (LOOK,), "Let me see."), Reply("There."), Reply("There."), wire="bedrock")
    provider = provider_of(lane, options=THINKS)
    (note,) = [chunk for chunk in await ask(provider) if isinstance(chunk, Note)]
    for state in (note.state, None):
        step = AssistantMessage("", (ToolCall("c", "list_projects", {}),), "bedrock", state)
        result = ToolMessage("c", "list_projects", {"ok": True})
        assert text_of(await ask(provider, request(UserMessage("hi"), step, result))) == "There."
    await provider.wire.close()
    _, thinking, not_thinking = await lane.bodies()
    assert thinking["additionalModelRequestFields"] == THINKS["additionalModelRequestFields"]
    assert next(iter(thinking["messages"][1]["content"][0])) == "reasoningContent"
    assert "thinking" not in not_thinking["additionalModelRequestFields"]


# --- what is sent ---------------------------------------------------------------------------------------------------


async def test_options_and_guardrail_are_sent(models: ModelService) -> None:
    """How a guardrail reads a stream is said of streams only; an answer has a limit unless options set another."""
    lane = await models.lane(Reply("Hello."), repeat_last=True, wire="bedrock")
    guardrail = Guardrail(id="g1", version="3", trace="enabled", stream_mode="async")
    options = {"inferenceConfig": {"temperature": 0}, "performanceConfig": {"latency": "optimized"}}
    for able in (BEDROCK, replace(BEDROCK, streams=False)):
        provider = provider_of(lane, able, guardrail=guardrail, options=options)
        await ask(provider)
        await provider.wire.close()
    streamed, whole = await lane.bodies()
    expected = {"guardrailIdentifier": "g1", "guardrailVersion": "3", "trace": "enabled"}
    assert streamed["guardrailConfig"] == {**expected, "streamProcessingMode": "async"}
    assert whole["guardrailConfig"] == expected
    assert streamed["inferenceConfig"] == {"maxTokens": 4096, "temperature": 0}
    assert streamed["performanceConfig"] == {"latency": "optimized"}


REFUSALS = [
    (403, "You invoked an unsupported model or your request did not allow prompt caching.", "cachePoint"),
    (400, "Malformed input request: #/toolConfig/tools/12: extraneous key [cachePoint] is not permitted", "tools"),
    (400, "This model doesn't support the status field in toolResult.", "'status'"),
    (400, "This model doesn't support tool use in streaming mode.", "converse-stream"),
    (400, "The model is unsupported for streaming.", "converse-stream"),
]


@pytest.mark.parametrize(("status", "words", "part"), REFUSALS)
async def test_what_a_model_does_not_know_is_left_out_from_then_on(
    models: ModelService, status: int, words: str, part: str
) -> None:
    """The call is made again without it, and later calls never have it."""
    lane = await models.lane(Reply(status=status, error_message=words), Reply("A."), Reply("B."), wire="bedrock")
    provider = provider_of(lane)
    step = AssistantMessage("", (ToolCall("c", "list_projects", {}),))
    asked = request(UserMessage("hi"), step, ToolMessage("c", "list_projects", {"ok": False}, ok=False))
    assert [text_of(await ask(provider, asked)) for _ in range(2)] == ["A.", "B."]
    await provider.wire.close()

    def holds(sent: Request) -> bool:
        if part == "tools":
            return "cachePoint" in str(sent.body["toolConfig"])
        return part in sent.path + str(sent.body)

    requests = await lane.requests()
    assert [holds(sent) for sent in requests] == [True, False, False]
    if part == "tools":
        assert all("cachePoint" in str(sent.body["system"]) for sent in requests)


def signature_of(sent: Request, base: str, body: bytes) -> str:
    """What AWS computes of a request as it came, written down from AWS's description of Signature Version 4."""
    scope, signed = sent.headers["authorization"].split("Credential=")[1].split(", SignedHeaders=")
    names = signed.split(",")[0]
    _, *rest = scope.split("/")
    path = (base + sent.path).replace("%", "%25")
    headers = "".join(f"{name}:{sent.headers[name].strip()}\n" for name in names.split(";"))
    canonical = f"POST\n{path}\n\n{headers}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{sent.headers['x-amz-date']}\n{'/'.join(rest)}\n{hashed}"

    def mac(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    return mac(reduce(mac, rest, f"AWS4{SECRET}".encode()), to_sign).hex()


@pytest.mark.parametrize("model", [ARN, "a b/é+~._-x"])
async def test_paths_are_written_and_requests_signed_as_boto3_does(models: ModelService, model: str) -> None:
    """The same path for names with colons and slashes; both signatures are what AWS would compute."""
    lane = await models.lane(Reply("Hello."), repeat_last=True, wire="bedrock", api_key="AKIDEXAMPLE")
    provider = provider_of(lane, replace(BEDROCK, streams=False), model=model)
    await ask(provider)
    await provider.wire.close()
    settings = Config(region_name="eu-west-1", retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-runtime", endpoint_url=lane.url("bedrock"), config=settings)
    await asyncio.to_thread(client.converse, modelId=model, messages=[{"role": "user", "content": [{"text": "hi"}]}])
    ours, theirs = await lane.requests()
    assert ours.path == theirs.path
    base = f"/{lane.id}/bedrock"
    compact = json.dumps(ours.body, separators=(",", ":"), ensure_ascii=False).encode()
    for sent, body in ((theirs, json.dumps(theirs.body).encode()), (ours, compact)):
        assert "x-amz-security-token" in sent.headers["authorization"]
        assert "/eu-west-1/bedrock/aws4_request" in sent.headers["authorization"]
        assert sent.headers["authorization"].endswith(f"Signature={signature_of(sent, base, body)}")


async def test_an_api_key_takes_the_place_of_a_signature(models: ModelService, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the variable that boto3 reads; never without TLS to another machine."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", SECRET)
    lane = await models.lane(Reply(status=403, error_message=f"Bad key {SECRET}"), wire="bedrock")
    provider = provider_of(lane)
    with pytest.raises(ModelRejected) as caught:
        await ask(provider)
    await provider.wire.close()
    assert (await lane.requests())[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(caught.value) + repr(provider)
    far = bedrock(BedrockConfig(model=MODEL, region="eu-west-1", endpoint_url="http://models.example"))
    with pytest.raises(ModelRejected, match="use https"):
        await ask(far)


# --- errors ---------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Reply, type[ModelError], str]] = [
    (Reply(error="not_ready"), ModelBusy, ""),
    (Reply(error="quota"), ModelBusy, ""),
    (Reply(error="model_error"), ModelUnavailable, ""),
    (Reply(error="timeout"), ModelTimeout, ""),
    (Reply(status=400, error_message="Input Tokens Exceeded: exceeds maximum length."), ContextExceeded, ""),
    (Reply(error="invalid_model_id"), ModelRejected, "LLM_MODEL"),
    (Reply(error="needs_profile"), ModelRejected, "LLM_MODEL"),
    (Reply(error="unknown_model"), ModelRejected, "LLM_MODEL"),
    (Reply(error="auth"), ModelRejected, "AWS_PROFILE"),
    (Reply(error="forbidden"), ModelRejected, "AWS_PROFILE"),
    (Reply(status=400, error_message="The guardrail identifier does not exist."), ModelRejected, ""),
    (Reply(raw=b"<html>", raw_type="text/html"), ModelRejected, "AWS_REGION"),
    (Reply(raw=b"{}"), ModelRejected, "AWS_REGION"),
]


@pytest.mark.parametrize(("reply", "kind", "hint"), ERRORS, ids=lambda each: getattr(each, "error", None) or "")
async def test_refusals_are_typed(models: ModelService, reply: Reply, kind: type[ModelError], hint: str) -> None:
    """Exactly so, since it decides who takes over; what an operator can mend is named."""
    with pytest.raises(ModelError) as caught:
        await answer(models, reply)
    assert type(caught.value) is kind
    assert hint in caught.value.user_hint


DAMAGED = bytearray(event_stream.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}))
DAMAGED[-8] ^= 1
IN_STREAM: list[tuple[Reply, type[ModelError]]] = [
    (Reply("Hello.", error="model_error", fault_in_stream=1), ModelUnavailable),
    (Reply("Hello.", error="internal", fault_in_stream=0), ModelUnavailable),
    (Reply("Hello.", error="bad_request", fault_in_stream=0), HistoryRejected),
    (Reply(raw=event_stream.event("messageStart", {"role": "assistant"}), raw_type=STREAM), ModelUnavailable),
    (Reply(raw=bytes(DAMAGED), raw_type=STREAM), ModelUnavailable),
    (Reply(raw=bytes(DAMAGED[:40]), raw_type=STREAM), ModelUnavailable),
    (Reply(raw=b"data: this is no frame at all\n\n", raw_type=STREAM), ModelUnavailable),
]


@pytest.mark.parametrize(("reply", "kind"), IN_STREAM)
async def test_a_stream_that_dies_is_typed_and_not_repeated(
    models: ModelService, reply: Reply, kind: type[ModelError]
) -> None:
    """An exception in it, a cut, an end too soon, damaged bytes."""
    lane = await models.lane(reply, repeat_last=True, wire="bedrock")
    provider = provider_of(lane)
    with pytest.raises(ModelError) as caught:
        await ask(provider)
    await provider.wire.close()
    assert type(caught.value) is kind
    assert len(await lane.requests()) == 1


def test_headers_that_are_no_text_are_passed_over() -> None:
    """All types of header values, before the one that counts; lengths beyond the frame are refused."""
    values = b"".join(
        bytes([1]) + b"a" + bytes([kind]) + value
        for kind, value in (
            (0, b""),
            (2, b"x"),
            (3, b"xx"),
            (4, b"x" * 4),
            (5, b"x" * 8),
            (6, b"\0\1x"),
            (9, b"x" * 16),
        )
    )
    name = b":event-type"
    frame = framed(values + bytes([len(name)]) + name + b"\7\0\4ping", b"{}")
    assert split(frame + frame[:5]) == ([("event", "ping", b"{}")], frame[:5])
    with pytest.raises(StreamBroken):
        split(framed(bytes([200]) + b"a", b""))


def test_headers_without_measure_are_not_kept() -> None:
    """The usual ones are, for each event of a stream comes with the same."""
    tracemalloc.start()
    try:
        for n in range(40):
            text = b"%60000d" % n
            split(framed(b"\1x\7" + len(text).to_bytes(2, "big") + text, b""))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def framed(headers: bytes, payload: bytes) -> bytes:
    """A message with these headers."""
    lengths = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = lengths + zlib.crc32(lengths).to_bytes(4, "big") + headers + payload
    return message + zlib.crc32(message).to_bytes(4, "big")


async def test_without_region_or_credentials_it_is_said_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To whoever runs it; nothing is sent."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    cases = {
        "no region": BedrockConfig(model=MODEL),
        "no AWS credentials": BedrockConfig(model=ARN),
        "profile (nobody) could not be found": BedrockConfig(model=MODEL, region="eu-west-1", profile="nobody"),
    }
    for words, config in cases.items():
        provider = bedrock(config)
        with pytest.raises(ModelRejected) as caught:
            await ask(provider)
        assert words in str(caught.value)
        assert "AWS_PROFILE" in caught.value.user_hint
        assert provider.probe
        found = await provider.probe()
        assert words in found.cause
        assert found.fix


# --- connections ----------------------------------------------------------------------------------------------------


async def test_a_connection_serves_again(models: ModelService) -> None:
    """After an answer that was read to its end."""
    lane = await models.lane(Reply("Hello."), repeat_last=True, wire="bedrock")
    provider = provider_of(lane)
    for _ in range(3):
        await ask(provider)
    connector = provider.wire._server._session.connector
    assert len(connector._conns) == 1
    assert sum(map(len, connector._conns.values())) == 1
    await provider.wire.close()


# --- is it there at all ---------------------------------------------------------------------------------------------

PROBES: list[tuple[Reply, Literal["cause", "fix"], str]] = [
    (Reply(error="needs_profile"), "fix", "eu.anthropic.claude-x-v1:0 or global.anthropic.claude-x-v1:0"),
    (Reply(error="forbidden"), "fix", "bedrock:InvokeModelWithResponseStream"),
    (Reply(error="auth"), "fix", "AWS_PROFILE"),
    (Reply(error="throttled"), "cause", "throttled"),
    (Reply(error="unknown_model"), "fix", "LLM_MODEL"),
    (Reply(raw=b"<html>", raw_type="text/html"), "fix", "AWS_REGION"),
    (Reply(error="bad_request"), "cause", "The request is not valid"),
]


async def test_probe_asks_for_one_token(models: ModelService) -> None:
    """And says so."""
    lane = await models.lane(Reply("Hi"), wire="bedrock")
    provider = provider_of(lane, options=THINKS)
    found = await provider.probe()
    await provider.wire.close()
    assert found.ok
    assert "one token" in found.cause
    (body,) = await lane.bodies()
    assert body["inferenceConfig"] == {"maxTokens": 1}


@pytest.mark.parametrize(("reply", "part", "words"), PROBES, ids=lambda each: getattr(each, "error", None) or "")
async def test_probe_says_cause_and_fix(
    models: ModelService, reply: Reply, part: Literal["cause", "fix"], words: str
) -> None:
    """Each has its own words."""
    provider = provider_of(await models.lane(reply, wire="bedrock"), model="anthropic.claude-x-v1:0")
    found = await provider.probe()
    await provider.wire.close()
    assert not found.ok
    assert words in getattr(found, part)
    assert found.fix
    assert SECRET not in found.cause + found.fix
