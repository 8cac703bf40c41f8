"""The scripted model server as clients that others wrote see it; so its wires are no mirror image of our adapters."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import boto3
import ollama
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.doubles.model_service import Call, Lane, ModelService, Quirk, Reply, ScriptError, Usage, Wire
from tests.doubles.model_service.history_rules import (
    check_anthropic,
    check_converse,
    check_invoke_agent,
    check_ollama,
    check_openai,
    signature_of,
)
from tests.doubles.model_service.quirks import WIRES_OF, rewritten
from tests.doubles.model_service.server import FORMS
from tests.doubles.model_service.wire import Ask

CALLS = (Call("find_order", {"number": 7, "city": "Köln"}), Call("find_slots", {"day": "2026-01-05"}))
FULL = Reply("I will look at both.", CALLS, reasoning="Two questions, two tools.", usage=Usage(20, 9, 4, 0))
WANTED = [("find_order", {"number": 7, "city": "Köln"}), ("find_slots", {"day": "2026-01-05"})]
PARAMETERS = {"type": "object", "properties": {}}
HELLO: Any = [{"role": "user", "content": "Hello"}]
AWS = boto3.Session("of-no-account", "of-no-account", region_name="us-east-1")


def openai_client(lane: Lane, **more: Any) -> openai.AsyncOpenAI:
    """Without retries, so that a fault is seen once."""
    return openai.AsyncOpenAI(base_url=lane.url("openai"), api_key="k", max_retries=0, **more)


def anthropic_client(lane: Lane) -> anthropic.AsyncAnthropic:
    """Without retries."""
    return anthropic.AsyncAnthropic(base_url=lane.url("anthropic"), api_key="k", max_retries=0)


def aws_client(lane: Lane, name: str = "bedrock-runtime") -> Any:
    """Without retries."""
    wire: Wire = "bedrock" if name == "bedrock-runtime" else "bedrock-agent"
    config = Config(retries={"total_max_attempts": 1}, read_timeout=5)
    return AWS.client(name, endpoint_url=lane.url(wire), config=config)


OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": n, "parameters": PARAMETERS}} for n, _ in WANTED]
ANTHROPIC_TOOLS: Any = [{"name": name, "input_schema": PARAMETERS} for name, _ in WANTED]
CONVERSE_TOOLS = {"tools": [{"toolSpec": {"name": n, "inputSchema": {"json": PARAMETERS}}} for n, _ in WANTED]}

# --- the answers, and the history that goes back --------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_openai_client_reads_an_answer_and_sends_it_back(models: ModelService, streamed: bool) -> None:
    """Text, two calls, reasoning and usage; its own message objects are history that the server accepts."""
    lane = await models.lane(FULL, Reply("Done."))
    client = openai_client(lane, organization="org-7")
    if streamed:
        options: Any = {"include_usage": True}
        async with client.chat.completions.stream(
            model="model-1",
            messages=HELLO,
            tools=OPENAI_TOOLS,
            stream_options=options,
        ) as stream:
            completion: Any = await stream.get_final_completion()
    else:
        completion = await client.chat.completions.create(model="model-1", messages=HELLO, tools=OPENAI_TOOLS)
    choice = completion.choices[0]
    assert choice.message.content == "I will look at both."
    assert [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls] == WANTED
    assert choice.message.reasoning_content == "Two questions, two tools."
    assert choice.finish_reason == "tool_calls"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (24, 9)
    assert completion.usage.prompt_tokens_details.cached_tokens == 4

    said: Any = {
        "role": "assistant",
        "content": None,
        "tool_calls": [c.model_dump() for c in choice.message.tool_calls],
    }
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    results = [{"role": "tool", "tool_call_id": c.id, "content": "ok"} for c in choice.message.tool_calls]
    history: Any = [*HELLO, said, *results]
    again = await client.chat.completions.create(model="model-1", messages=history)
    assert again.choices[0].message.content == "Done."
    assert (await lane.requests())[0].headers["openai-organization"] == "org-7"
    assert [model.id async for model in client.models.list()] == ["model-1"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_ollama_client_reads_an_answer_and_sends_it_back(models: ModelService, streamed: bool) -> None:
    """Thinking, text, calls without ids, counts."""
    lane = await models.lane(FULL, Reply("Done."))
    client = ollama.AsyncClient(host=lane.url("ollama"))
    if streamed:
        parts = [part async for part in await client.chat("model-1", HELLO, tools=OPENAI_TOOLS, stream=True)]
    else:
        parts = [await client.chat("model-1", HELLO, tools=OPENAI_TOOLS)]
    assert "".join(part.message.content or "" for part in parts) == "I will look at both."
    assert "".join(part.message.thinking or "" for part in parts) == "Two questions, two tools."
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == WANTED
    assert (parts[-1].prompt_eval_count, parts[-1].eval_count, parts[-1].done_reason) == (24, 9, "stop")

    message = ollama.Message(role="assistant", content="", tool_calls=calls)
    results = [{"role": "tool", "content": "ok", "tool_name": call.function.name} for call in calls]
    assert (await client.chat("model-1", [*HELLO, message, *results])).message.content == "Done."
    assert [model.model for model in (await client.list()).models] == ["model-1"]
    assert "tools" in ((await client.show("model-1")).capabilities or ())


@pytest.mark.parametrize("streamed", [False, True])
async def test_boto3_converses_and_sends_it_back(models: ModelService, streamed: bool) -> None:
    """Blocks in order, signed reasoning, usage with what the cache gave; then results."""
    lane = await models.lane(FULL, Reply("Done."))
    client = aws_client(lane)
    question = {"role": "user", "content": [{"text": "Hello"}]}
    request = {"modelId": "us.model-1:0", "messages": [question], "toolConfig": CONVERSE_TOOLS}
    if streamed:
        events = await asyncio.to_thread(lambda: list(client.converse_stream(**request)["stream"]))
        message, stop, usage = converse_message(events)
    else:
        whole = await asyncio.to_thread(lambda: client.converse(**request))
        message, stop, usage = whole["output"]["message"], whole["stopReason"], whole["usage"]
    reasoning, text, *uses = message["content"]
    assert reasoning["reasoningContent"]["reasoningText"]["text"] == "Two questions, two tools."
    assert text == {"text": "I will look at both."}
    assert [(use["toolUse"]["name"], use["toolUse"]["input"]) for use in uses] == WANTED
    assert stop == "tool_use"
    assert (usage["inputTokens"], usage["outputTokens"], usage["cacheReadInputTokens"]) == (20, 9, 4)

    results = [{"toolResult": {"toolUseId": use["toolUse"]["toolUseId"], "content": [{"text": "ok"}]}} for use in uses]
    history = [question, message, {"role": "user", "content": results}]
    again = await asyncio.to_thread(lambda: client.converse(**{**request, "messages": history}))
    assert again["output"]["message"]["content"] == [{"text": "Done."}]
    assert (await lane.requests())[-1].path == "/model/us.model-1%3A0/converse"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_anthropic_client_reads_an_answer_and_sends_it_back(models: ModelService, streamed: bool) -> None:
    """Its own blocks, signature included, are history that the server accepts."""
    lane = await models.lane(FULL, Reply("Done."))
    client = anthropic_client(lane)
    request: Any = {"model": "model-1", "max_tokens": 2000, "tools": ANTHROPIC_TOOLS}
    request["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    if streamed:
        async with client.messages.stream(**request, messages=HELLO) as stream:
            message: Any = await stream.get_final_message()
    else:
        message = await client.messages.create(**request, messages=HELLO)
    thinking, text, *uses = message.content
    assert thinking.thinking == "Two questions, two tools."
    assert text.text == "I will look at both."
    assert [(use.name, use.input) for use in uses] == WANTED
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) == (20, 9, 4)

    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "ok"} for use in uses]
    blocks = [block.model_dump(include=set(KEPT[block.type])) for block in message.content]
    history: Any = [*HELLO, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    assert (await client.messages.create(**request, messages=history)).content[0].text == "Done."
    assert [model.id async for model in client.models.list()] == ["model-1"]


KEPT: Mapping[str, tuple[str, ...]] = {
    "thinking": ("type", "thinking", "signature"),
    "text": ("type", "text"),
    "tool_use": ("type", "id", "name", "input"),
}


async def test_boto3_invokes_an_agent(models: ModelService) -> None:
    """Traces, return of control, results, and at last an answer with its citation."""
    citation = {"generatedResponsePart": {"textResponsePart": {"text": "On Monday.", "span": {"start": 0, "end": 9}}}}
    lane = await models.lane(FULL, Reply(("On ", "Monday."), citations=(citation,)))
    client = aws_client(lane, "bedrock-agent-runtime")
    agent = {"agentId": "AGENT12345", "agentAliasId": "TSTALIASID", "sessionId": "session-1"}

    def invoke(**more: Any) -> list[dict[str, Any]]:
        return list(client.invoke_agent(**agent, **more)["completion"])

    *traces, control = await asyncio.to_thread(lambda: invoke(inputText="When?", enableTrace=True))
    steps = [trace["trace"]["trace"]["orchestrationTrace"] for trace in traces]
    assert steps[0]["modelInvocationOutput"]["metadata"]["usage"] == {"inputTokens": 24, "outputTokens": 9}
    assert steps[1]["rationale"]["text"] == "Two questions, two tools."
    inputs = [one["functionInvocationInput"] for one in control["returnControl"]["invocationInputs"]]
    assert [one["function"] for one in inputs] == ["find_order", "find_slots"]
    assert {p["name"]: p["value"] for p in inputs[0]["parameters"]} == {"number": "7", "city": "Köln"}

    results = [
        {
            "functionResult": {
                "actionGroup": one["actionGroup"],
                "function": one["function"],
                "responseBody": {"TEXT": {"body": "ok"}},
            }
        }
        for one in inputs
    ]
    state = {"invocationId": control["returnControl"]["invocationId"], "returnControlInvocationResults": results}
    (chunk,) = await asyncio.to_thread(lambda: invoke(sessionState=state))
    assert chunk["chunk"]["bytes"] == b"On Monday."
    assert chunk["chunk"]["attribution"]["citations"][0]["generatedResponsePart"]["textResponsePart"]["text"]
    with pytest.raises(ClientError, match="invocationId"):  # it does not wait any more
        await asyncio.to_thread(lambda: invoke(sessionState=state))


def converse_message(events: list[dict[str, Any]]) -> tuple[dict[str, Any], str, dict[str, int]]:
    """The message, stop reason and usage of a stream, put together from the official event names."""
    blocks: dict[int, dict[str, Any]] = {}
    stop, usage = "", {}
    for event in events:
        match event:
            case {"contentBlockStart": {"contentBlockIndex": index, "start": {"toolUse": use}}}:
                blocks[index] = {"toolUse": {**use, "input": ""}}
            case {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": text}}}:
                blocks.setdefault(index, {"text": ""})["text"] += text
            case {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"toolUse": use}}}:
                blocks[index]["toolUse"]["input"] += use["input"]
            case {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"reasoningContent": thought}}}:
                block = blocks.setdefault(index, {"reasoningContent": {"reasoningText": {"text": ""}}})
                said = block["reasoningContent"]["reasoningText"]
                said["text"] += thought.get("text", "")
                said |= {"signature": thought["signature"]} if "signature" in thought else {}
            case {"messageStop": ended}:
                stop = ended["stopReason"]
            case {"metadata": about}:
                usage = about["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": [blocks[index] for index in sorted(blocks)]}, stop, usage


# --- what each client makes of a failure ----------------------------------------------------------------------------

FAILURES: tuple[Any, ...] = ("throttled", "context_too_long", "auth", "unknown_model", "unavailable")


async def test_every_client_raises_its_own_class_for_each_error(models: ModelService) -> None:
    """What a status, a code and a header stand for is for the client to say."""
    replies = [Reply(error=kind, retry_after_s=2) for kind in FAILURES]
    lane = await models.lane(*replies)
    chat = openai_client(lane)
    seen = [await failure(chat.chat.completions.create(model="m", messages=HELLO)) for _ in FAILURES]
    assert [type(error).__name__ for error in seen] == [
        "RateLimitError",
        "BadRequestError",
        "AuthenticationError",
        "NotFoundError",
        "InternalServerError",
    ]
    assert seen[0].response.headers["retry-after"] == "2"
    assert [error.code for error in seen[1:3]] == ["context_length_exceeded", "invalid_api_key"]

    await lane.script(*replies)
    messages = anthropic_client(lane).messages
    seen = [await failure(messages.create(model="m", max_tokens=9, messages=HELLO)) for _ in FAILURES]
    assert [type(error).__name__ for error in seen] == [
        "RateLimitError",
        "BadRequestError",
        "AuthenticationError",
        "NotFoundError",
        "OverloadedError",
    ]

    await lane.script(*replies)
    client = aws_client(lane)
    turn = [{"role": "user", "content": [{"text": "Hello"}]}]
    seen = [await failure(asyncio.to_thread(client.converse, modelId="m", messages=turn)) for _ in FAILURES]
    assert [type(error).__name__ for error in seen] == [
        "ThrottlingException",
        "ValidationException",
        "ClientError",
        "ResourceNotFoundException",
        "ServiceUnavailableException",
    ]
    assert seen[2].response["Error"]["Code"] == "UnrecognizedClientException"

    await lane.script(*replies)
    seen = [await failure(ollama.AsyncClient(lane.url("ollama")).chat("m", HELLO)) for _ in FAILURES]
    assert [error.status_code for error in seen] == [429, 400, 401, 404, 503]


async def failure(work: Any) -> Any:
    """The exception that this ends with."""
    with pytest.raises(Exception) as caught:
        await work
    return caught.value


async def test_errors_in_mid_stream_reach_every_client(models: ModelService) -> None:
    """After two pieces, in each wire's own form."""
    broken = Reply(("one ", "two ", "three"), fault_in_stream=2, error="throttled")
    lane = await models.lane(broken, repeat_last=True)
    chat = openai_client(lane).chat.completions
    said, error = await until_failure(await chat.create(model="m", messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in said] == ["", "one ", "two "]
    assert isinstance(error, openai.APIError)

    async with anthropic_client(lane).messages.stream(model="m", max_tokens=9, messages=HELLO) as stream:
        _, error = await until_failure(stream)
    assert isinstance(error, anthropic.APIStatusError)
    assert "rate_limit_error" in str(error.body)

    parts = await ollama.AsyncClient(lane.url("ollama")).chat("m", HELLO, stream=True)
    said, error = await until_failure(parts)
    assert [part.message.content for part in said] == ["one ", "two "]
    assert isinstance(error, ollama.ResponseError)

    turn = [{"role": "user", "content": [{"text": "Hello"}]}]
    events = aws_client(lane).converse_stream(modelId="m", messages=turn)["stream"]
    with pytest.raises(EventStreamError, match="throttlingException"):
        await asyncio.to_thread(lambda: list(events))


async def until_failure(stream: Any) -> tuple[list[Any], Any]:
    """What came before it, and the exception."""
    said: list[Any] = []

    async def read() -> None:
        async for part in stream:
            said.append(part)

    return said, await failure(read())


async def test_a_cut_connection_and_a_client_that_leaves(models: ModelService) -> None:
    """A cut answer breaks off; silence lasts until the client goes, and that is counted."""
    lane = await models.lane(Reply(("one ", "two "), cut_after=1), Reply(("one ", "two "), hang_after=1))
    chat = openai_client(lane).chat.completions
    said, error = await until_failure(await chat.create(model="m", messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in said] == ["", "one "]
    assert isinstance(error, openai.APIConnectionError)
    await lane.until(finished=1, cut_off=0)

    stream: Any = await chat.create(model="m", messages=HELLO, stream=True)
    chunks: AsyncIterator[Any] = aiter(stream)
    assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "one "]
    assert (await lane.open_streams()).open == 1
    await stream.close()
    await lane.until(open=0, cut_off=1)


async def test_a_wrong_key_and_a_wrong_history_use_up_no_reply(models: ModelService) -> None:
    """Both are refused in the provider's own way, and recorded."""
    lane = await models.lane(Reply("Hi."), api_key="right")
    with pytest.raises(openai.AuthenticationError):
        await openai_client(lane).models.list()
    client = openai_client(lane).with_options(api_key="right")
    orphan: Any = [*HELLO, {"role": "tool", "tool_call_id": "call_1", "content": "ok"}]
    with pytest.raises(openai.BadRequestError, match="must be a response"):
        await client.chat.completions.create(model="m", messages=orphan)
    answered = await client.chat.completions.create(model="m", messages=HELLO)
    assert answered.choices[0].message.content == "Hi."
    refused, accepted = await lane.requests()
    assert len(refused.problems) == 1
    assert accepted.problems == []
    with pytest.raises(openai.APIStatusError, match="no reply left") as caught:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.status_code == 501


# --- the script -----------------------------------------------------------------------------------------------------


async def test_one_script_serves_several_conversations(models: ModelService) -> None:
    """By what the last message says; the last reply of each stays if it repeats."""
    lane = await models.lane(
        Reply("a", matching="apple"), Reply("b1", matching="bear"), Reply("b2", matching="bear"), repeat_last=True
    )
    client = ollama.AsyncClient(lane.url("ollama"))
    said = ("bear", "apple", "bear", "apple", "bear")
    answers = [(await client.chat("m", [{"role": "user", "content": f"A {word}?"}])).message.content for word in said]
    assert answers == ["b1", "a", "b2", "a", "b2"]


async def test_what_makes_no_sense_is_refused_where_it_is_scripted(models: ModelService) -> None:
    """A quirk without what it needs or on a wire that has it not, two faults, more pieces than there are."""
    for wrong, words in (
        ({"quirks": {"no_such"}}, "unknown quirk"),
        ({"quirks": {Quirk.INDEX_MISSING}}, "needs a reply with calls"),
        ({"calls": CALLS, "quirks": {Quirk.IDS_GIVEN, Quirk.INDEX_MISSING}}, "no wire has all"),
        ({"cut_after": 1, "hang_after": 2}, "one fault"),
        ({"status": 200}, "no error"),
    ):
        with pytest.raises(ScriptError, match=words):
            Reply(**wrong)
    with pytest.raises(ScriptError, match="makes no sense on the wire 'bedrock'"):
        await models.lane(Reply("x", quirks={Quirk.NO_DONE}), wire="bedrock")
    lane = await models.lane(Reply("x", quirks={Quirk.UNKNOWN_EVENTS}), Reply("x", cut_after=9))
    chat = openai_client(lane).chat.completions
    for words in ("makes no sense on the wire 'openai'", "has 1 pieces"):
        with pytest.raises(openai.APIStatusError, match=words):
            await chat.create(model="m", messages=HELLO, stream=True)


async def test_quirks_change_the_wire_and_nothing_else(models: ModelService) -> None:
    """Each defect as it was reported, seen in the raw stream."""
    lane = await models.lane(wire="openai")
    both = Reply("x", CALLS)

    async def deltas(reply: Reply) -> list[dict[str, Any]]:
        await lane.script(reply)
        chat = openai_client(lane).chat.completions
        stream: Any = await chat.create(model="m", messages=HELLO, stream=True)
        chunks = [chunk.to_dict() async for chunk in stream]
        return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]

    def quirky(*quirks: Quirk) -> Reply:
        return Reply("x", CALLS, quirks=quirks)

    def parts(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [call for delta in found for call in delta.get("tool_calls", ())]

    assert {part.get("index") for part in parts(await deltas(both))} == {0, 1}
    assert {part.get("index") for part in parts(await deltas(quirky(Quirk.INDEX_ALL_ZERO)))} == {0}
    assert {part.get("index") for part in parts(await deltas(quirky(Quirk.INDEX_MISSING)))} == {None}
    named = parts(await deltas(quirky(Quirk.NAME_IN_EACH_PIECE)))
    assert {part["function"].get("name") for part in named} == {"find_order", "find_slots"}
    assert not [part for part in parts(await deltas(quirky(Quirk.ID_MISSING))) if "id" in part]
    torn = [part["function"]["arguments"] for part in parts(await deltas(quirky(Quirk.ARGUMENTS_SPLIT_IN_ESCAPE)))]
    assert any(text.endswith("\\u00") for text in torn)
    text = "".join(delta.get("content") or "" for delta in await deltas(quirky(Quirk.CALL_AS_TOOL_CALL_TAG)))
    assert text.count("<tool_call>") == 2
    parted = parts(await deltas(quirky(Quirk.NAME_IN_PARTS, Quirk.ID_LATE)))
    assert "".join(part["function"].get("name", "") for part in parted) == "find_orderfind_slots"
    assert [part["id"] is None for part in parted if "id" in part] == [True, False, True, False]
    assert json.loads(text.split("<tool_call>")[1].split("</tool_call>")[0]) == {
        "name": "find_order",
        "arguments": WANTED[0][1],
    }


def test_no_quirk_is_without_effect() -> None:
    """On each wire that has it, the stream is another one with the quirk than without it."""
    ask = Ask("m", {"enableTrace": True, "stream_options": {"include_usage": True}}, True, "seed", AGENT)
    plain = Reply(("one ", "two "), CALLS, reasoning="Hm.")
    without_effect = [
        (quirk, wire)
        for quirk in Quirk
        for wire in WIRES_OF[quirk]
        if FORMS[wire].stream(rewritten(replace(plain, quirks={quirk})), ask) == FORMS[wire].stream(plain, ask)
    ]
    assert without_effect == []


AGENT = {"agent": "A", "alias": "B", "session": "s-1"}


async def test_the_server_dies_with_the_process_that_started_it() -> None:
    """However that ends."""
    code = (
        "from tests.doubles.model_service import model_service_process as start\n"
        "import time\n"
        "with start() as port:\n"
        "    print(port, flush=True)\n"
        "    time.sleep(60)\n"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, cwd=Path(__file__).parents[2])
    assert owner.stdout is not None
    port = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    async with asyncio.timeout(5):
        while await asyncio.to_thread(is_open, port):
            await asyncio.sleep(0.01)


def is_open(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# --- what is refused in a history -----------------------------------------------------------------------------------

USE = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"text": "ok"}]}}
SAID = {"text": "Hello"}
A_USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
A_RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
A_TOOLS = [{"name": "f", "input_schema": PARAMETERS}]


def chat(*messages: dict[str, Any], **more: Any) -> list[str]:
    """What Chat Completions would say."""
    return check_openai({"model": "m", "messages": [*HELLO, *messages], **more})


def call(call_id: str = "c1", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    """A call as Chat Completions has it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    """A message that makes them."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answer(call_id: str = "c1") -> dict[str, Any]:
    """A result."""
    return {"role": "tool", "tool_call_id": call_id, "content": "ok"}


def converse(*contents: list[Any], tools: bool = True, **more: Any) -> list[str]:
    """What Converse would say to these contents, of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    config = {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": PARAMETERS}}}]}}
    return check_converse({"messages": messages, **(config if tools else {}), **more}, "m")


def claude(*contents: Any, **more: Any) -> list[str]:
    """What Messages would say to these contents, of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    return check_anthropic({"model": "m", "max_tokens": 2000, "tools": A_TOOLS, "messages": messages, **more})


def thought(wire: str, model: str = "m") -> str:
    """A signature that this wire gave to that model for "Hm."."""
    return signature_of(wire, model, "Hm.")


def reasoned(signature: str) -> dict[str, Any]:
    """A block of Converse."""
    return {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": signature}}}


THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
ACCEPTED: dict[str, Callable[[], list[str]]] = {
    "openai calls": lambda: chat(calling(call("c1"), call("c2")), answer("c2"), answer("c1")),
    "openai text": lambda: chat({"role": "assistant", "content": "Hi"}, *HELLO, *HELLO),
    "converse calls": lambda: converse([SAID], [SAID, USE], [RESULT, SAID]),
    "converse reasoning": lambda: converse([SAID], [reasoned(thought("bedrock")), USE], [RESULT]),
    "anthropic calls": lambda: claude("Hello", [A_USE], [A_RESULT]),
    "anthropic neighbours": lambda: check_anthropic({"model": "m", "max_tokens": 9, "messages": [*HELLO, *HELLO]}),
    "ollama calls": lambda: check_ollama(
        {
            "model": "m",
            "messages": [
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
                {"role": "tool", "tool_name": "f", "content": "ok"},
            ],
        }
    ),
}
REFUSED: dict[str, tuple[Callable[[], list[str]], str]] = {
    "openai no answer": (lambda: chat(calling(call("c1"), call("c2")), answer("c1")), "must be followed"),
    "openai late answer": (lambda: chat(calling(call()), *HELLO, answer()), "must be followed"),
    "openai orphan": (lambda: chat(answer()), "must be a response"),
    "openai twice": (lambda: chat(calling(call()), answer(), answer()), "must be a response"),
    "openai same ids": (lambda: chat(calling(call(), call()), answer()), "Duplicate"),
    "openai long id": (lambda: chat(calling(call("c" * 41)), answer("c" * 41)), "maximum length 40"),
    "openai name": (lambda: chat(calling(call(name="a b")), answer()), "does not match pattern"),
    "openai arguments": (lambda: chat(calling(call(arguments={})), answer()), "expected a string"),
    "openai empty": (lambda: chat({"role": "assistant", "content": None}), "got null"),
    "openai no calls": (lambda: chat({"role": "assistant", "content": "x", "tool_calls": []}), "empty array"),
    "openai options": (lambda: chat(stream_options={"include_usage": True}), "'stream' is enabled"),
    "ollama text arguments": (
        lambda: check_ollama(
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]}
        ),
        "cannot unmarshal string",
    ),
    "ollama parts": (
        lambda: check_ollama({"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        "cannot unmarshal array",
    ),
    "converse first": (
        lambda: check_converse({"messages": [{"role": "assistant", "content": [SAID]}]}, "m"),
        "must start with a user",
    ),
    "converse last": (lambda: converse([SAID], [SAID]), "must end with a user"),
    "converse roles": (
        lambda: check_converse({"messages": [{"role": "user", "content": [SAID]}] * 2}, "m"),
        "must alternate",
    ),
    "converse no result": (lambda: converse([SAID], [USE], [SAID]), "Expected toolResult blocks"),
    "converse late result": (lambda: converse([SAID], [USE], [SAID], [SAID], [RESULT]), "Expected toolResult blocks"),
    "converse orphan": (lambda: converse([RESULT]), "exceeds the number"),
    "converse twice": (lambda: converse([SAID], [USE], [RESULT, RESULT]), "exceeds the number"),
    "converse other id": (
        lambda: converse([SAID], [{"toolUse": {**USE["toolUse"], "toolUseId": "t2"}}], [RESULT]),
        "Expected toolResult blocks",
    ),
    "converse same id later": (lambda: converse([SAID], [USE], [RESULT], [USE], [RESULT]), "duplicate Ids"),
    "converse blank": (lambda: converse([{"text": " "}]), "is blank"),
    "converse empty": (lambda: converse([]), "is empty"),
    "converse empty result": (
        lambda: converse([SAID], [USE], [{"toolResult": {"toolUseId": "t1", "content": []}}]),
        "is empty",
    ),
    "converse list result": (
        lambda: converse([SAID], [USE], [{"toolResult": {"toolUseId": "t1", "content": [{"json": []}]}}]),
        "Provide a json object",
    ),
    "converse id": (
        lambda: converse([SAID], [{"toolUse": {**USE["toolUse"], "toolUseId": "a|b"}}], [RESULT]),
        "regular expression",
    ),
    "converse no tools": (lambda: converse([SAID], [USE], [RESULT], tools=False), "toolConfig field must be defined"),
    "converse text first": (lambda: converse([SAID], [USE], [SAID, RESULT]), "must come before text"),
    "converse other model's reasoning": (
        lambda: converse([SAID], [reasoned(thought("bedrock", "other")), USE], [RESULT]),
        "Invalid `signature`",
    ),
    "converse other wire's reasoning": (
        lambda: converse([SAID], [reasoned(thought("anthropic")), USE], [RESULT]),
        "Invalid `signature`",
    ),
    "converse unsigned": (lambda: converse([SAID], [reasoned(""), USE], [RESULT]), "is required"),
    "converse lacks reasoning": (
        lambda: converse([SAID], [USE], [RESULT], additionalModelRequestFields=THINKING),
        "start with a thinking block",
    ),
    "converse two members": (lambda: converse([{**SAID, **RESULT}]), "exactly one member"),
    "anthropic no result": (lambda: claude("Hello", [A_USE], "Well?"), "immediately after"),
    "anthropic orphan": (lambda: claude([A_RESULT]), "unexpected `tool_use_id`"),
    "anthropic twice": (lambda: claude("Hello", [A_USE], [A_RESULT, A_RESULT]), "single result"),
    "anthropic id": (
        lambda: claude("Hello", [{**A_USE, "id": "functions.f:0"}], [{**A_RESULT, "tool_use_id": "functions.f:0"}]),
        "should match pattern",
    ),
    "anthropic empty error": (
        lambda: claude("Hello", [A_USE], [{**A_RESULT, "content": "", "is_error": True}]),
        "cannot be empty",
    ),
    "anthropic blank": (lambda: claude([{"type": "text", "text": ""}]), "non-empty"),
    "anthropic other signature": (
        lambda: claude(
            "Hello", [{"type": "thinking", "thinking": "Hm.", "signature": thought("bedrock")}, A_USE], [A_RESULT]
        ),
        "Invalid `signature`",
    ),
    "anthropic lacks thinking": (lambda: claude("Hello", [A_USE], [A_RESULT], **THINKING), "start with a thinking"),
    "anthropic no tools": (lambda: claude("Hello", [A_USE], [A_RESULT], tools=[]), "must define tools"),
    "agent": (
        lambda: check_invoke_agent({"inputText": "x"}, {"agent": "A", "alias": "B", "session": "a b"}),
        "sessionId",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_history_is_accepted(name: str) -> None:
    """Strict is not the same as deaf."""
    assert ACCEPTED[name]() == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_history_is_refused(name: str) -> None:
    """With words that name what is wrong."""
    check, words = REFUSED[name]
    problems = check()
    assert words.lower() in " ".join(problems).lower()
