"""Lambda functions as tools: what is sent, and what is made of every kind of answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from tools.breaker import Breaker
from tools.contract import Directory, Identity, InvalidArguments, JsonObject, ToolContext, ToolResult, ToolState
from tools.errors import OutcomeUncertain, RateLimited, UpstreamUnavailable
from tools.executors.config import ExecutorError, LambdaGroup
from tools.executors.lambda_function import ForeignLambda
from tools.executors.lambda_wire import Invoked, LambdaWire
from tools.executors.mounted import ForeignTool, Mounted
from tools.lambda_events import MAX_RESPONSE_BYTES

FUNCTIONS = {
    "functions": [
        {"name": "find", "description": "Find parts.", "parameters": {"words": {"type": "string", "required": True}}},
        {
            "name": "order",
            "description": "Order a part.",
            "requireConfirmation": "ENABLED",
            "parameters": {
                "part": {"type": "string", "required": True},
                "count": {"type": "integer", "required": True},
                "customer_id": {"type": "string", "required": True},
            },
        },
    ]
}


class Script:
    """A wire that answers as told and keeps what it was sent."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.events: list[JsonObject] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def invoke(self, payload: bytes, limit: int) -> Invoked:
        self.events.append(json.loads(payload))
        answer = self.answer(self.events[-1]) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer if isinstance(answer, Invoked) else Invoked(json.dumps(answer).encode())


def text(body: Any, **inner: Any) -> JsonObject:
    return {"response": {"functionResponse": {"responseBody": {"TEXT": {"body": body}}, **inner}}}


def http(status: int, body: Any) -> JsonObject:
    return {"response": {"httpStatusCode": status, "responseBody": {"application/json": {"body": json.dumps(body)}}}}


def context(customer_id: str = "7") -> ToolContext:
    identity = Identity("customer", customer_id, "B2C", "20OC01BK", ("20OC01BK",))
    return ToolContext(
        identity, Directory({}), cast(Any, None), ToolState(), None, cast(Any, None),
        conversation_id="conversation-1", said="order two", effect_key="key-1",
    )  # fmt: skip


async def mounted(wire: Any, folder: Path, **config: Any) -> Mounted:
    path = folder / "functions.json"
    path.write_text(json.dumps(FUNCTIONS))
    tools = {"find": {"effect": "read"}, **config.pop("tools", {})}
    group = LambdaGroup(executor="lambda", function="parts", functions=path, tools=tools, timeout_s=0.3, **config)
    found = Mounted(
        "parts", group, ForeignLambda("parts", wire, functions=path), Breaker("parts", fail_max=3), name="lambda"
    )
    await found.open()
    return found


async def run(executor: Mounted, ctx: ToolContext, name: str, **args: Any) -> ToolResult:
    return await executor.execute(await executor.prepare(name, args, ctx), ctx)


# --- what is sent ---------------------------------------------------------------------------------------------------


async def test_a_foreign_function_is_called_as_bedrock_calls_it(tmp_path: Path) -> None:
    """The event in full: values as text, the caller in session attributes, the customer's id filled in."""
    wire = Script(text('{"order": "P-1"}'))
    result = await run(await mounted(wire, tmp_path), context(), "order", part="hinge", count="2")
    assert result.data == {"ok": True, "order": "P-1"}
    (event,) = wire.events
    assert (event["function"], event["sessionId"], event["inputText"]) == ("order", "conversation-1", "order two")
    assert event["parameters"] == [
        {"name": "part", "type": "string", "value": "hinge"},
        {"name": "count", "type": "integer", "value": "2"},
        {"name": "customer_id", "type": "string", "value": "7"},
    ]
    assert event["sessionAttributes"]["customer_id"] == "7"
    assert "authorization" not in event["sessionAttributes"]
    assert event["promptSessionAttributes"] == {"effect_key": "key-1"}


async def test_no_model_sees_or_sets_what_the_session_holds(tmp_path: Path) -> None:
    """Nor an argument that does not exist; nothing is sent."""
    wire = Script(text("x"))
    executor = await mounted(wire, tmp_path)
    order = next(each.spec for each in executor.offered() if each.spec.name == "order")
    assert (list(order.parameters["properties"]), order.effect) == (["part", "count"], "gated")
    for extra in ({"customer_id": "8"}, {"request_id": "1"}, {"colour": "red"}):
        with pytest.raises(InvalidArguments):
            await executor.prepare("order", {"part": "hinge", "count": 2, **extra}, context())
    assert wire.events == []


async def test_stored_arguments_of_another_session_are_not_run(tmp_path: Path) -> None:
    """Whoever has got hold of them."""
    wire = Script(text("x"))
    executor = await mounted(wire, tmp_path)
    prepared = await executor.prepare("order", {"part": "hinge", "count": 2}, context("7"))
    assert (await executor.execute(prepared, context("8"))).data["code"] == "invalid_arguments"
    assert wire.events == []


async def test_attributes_come_back_with_the_next_call(tmp_path: Path) -> None:
    """Those of the session are kept, those of the prompt for this turn; who the caller is, no function can change."""
    kept = {"cart": "3", "customer_id": "666", "role": "coordinator"}
    wire = Script({**text("x"), "sessionAttributes": kept, "promptSessionAttributes": {"mood": "good"}})
    executor, ctx = await mounted(wire, tmp_path), context()
    await run(executor, ctx, "find", words="a")
    await run(executor, ctx, "find", words="b")
    attributes = wire.events[1]["sessionAttributes"]
    assert (attributes["cart"], attributes["customer_id"], attributes["role"]) == ("3", "7", "customer")
    assert wire.events[1]["promptSessionAttributes"]["mood"] == "good"
    later = replace(ctx, state=ToolState(json.loads(json.dumps(ctx.state.values))))
    await run(executor, later, "find", words="c")
    assert wire.events[2]["sessionAttributes"]["cart"] == "3"
    assert "mood" not in wire.events[2]["promptSessionAttributes"]


# --- what is made of answers ----------------------------------------------------------------------------------------

GARBAGE = {
    "no response": {"statusCode": 200, "body": "{}"},
    "a list": [],
    "no JSON": Invoked(b"<html>"),
    "too much": text("x" * MAX_RESPONSE_BYTES),
    "a crash": Invoked(b'{"errorMessage": "secret-7", "stackTrace": ["/var/task/x.py"]}', "Unhandled"),
    "a late end": Invoked(b'{"errorType":"Sandbox.Timedout","errorMessage":"x"}', "Unhandled"),
    "a trace as text": text('Traceback (most recent call last):\n  File "/var/task/x.py", line 3\nKeyError: secret-7'),
    "a server error": http(500, {"error": "secret-7"}),
    "no answer in time": 5.0,
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
async def test_a_bad_answer_is_an_error_that_shows_nothing(answer: Any, tmp_path: Path) -> None:
    """A read failed; of an effect nobody knows; the third one in a row opens the circuit."""
    wire = Script(answer)
    executor = await mounted(wire, tmp_path)
    read = await run(executor, context(), "find", words="x")
    assert (read.status, read.data["ok"]) == ("error", False)
    effect = await run(executor, context(), "order", part="hinge", count=2)
    assert (effect.status, effect.data["code"]) == ("unknown", "unknown_outcome")
    assert "secret-7" not in json.dumps([read.data, effect.data])
    assert "/var/task" not in json.dumps([read.data, effect.data])
    await run(executor, context(), "find", words="x")
    sent = len(wire.events)
    shut = await run(executor, context(), "order", part="hinge", count=2)
    assert (shut.status, shut.data["code"]) == ("error", "upstream_unavailable")
    assert len(wire.events) == sent == 3


async def test_a_function_that_never_started_has_done_nothing(tmp_path: Path) -> None:
    """An error of the runtime before the handler is no unknown outcome."""
    wire = Script(Invoked(b'{"errorType": "Runtime.ImportModuleError", "errorMessage": "x"}', "Unhandled"))
    result = await run(await mounted(wire, tmp_path), context(), "order", part="hinge", count=2)
    assert (result.status, result.data["code"]) == ("error", "upstream_unavailable")


async def test_a_failure_that_the_function_declares_is_told(tmp_path: Path) -> None:
    """With its reason, for the model to act on."""
    wire = Script(text("out of stock", responseState="FAILURE"))
    result = await run(await mounted(wire, tmp_path), context(), "order", part="hinge", count=2)
    assert (result.status, result.data["code"], result.data["said"]) == ("error", "action_failed", "out of stock")


@pytest.mark.parametrize(("means", "status"), [(None, "unknown"), ("ok", "ok"), ("error", "error")])
async def test_reprompt_says_of_an_effect_what_the_definition_says(
    means: str | None, status: str, tmp_path: Path
) -> None:
    """Public functions answer so after success as well as before; a read has simply its text."""
    tools = {"order": {"reprompt": means}} if means else {}
    executor = await mounted(Script(text("which colour?", responseState="REPROMPT")), tmp_path, tools=tools)
    assert (await run(executor, context(), "order", part="hinge", count=2)).status == status
    assert (await run(executor, context(), "find", words="x")).data == {"ok": True, "result": "which colour?"}


async def test_a_4xx_is_information(tmp_path: Path) -> None:
    """The body goes to the model; nothing was done, and the circuit counts an answer."""
    executor = await mounted(Script(http(404, {"message": "no such part"})), tmp_path)
    for _ in range(5):
        result = await run(executor, context(), "order", part="hinge", count=2)
        assert (result.status, result.data["message"], result.upstream_status) == ("error", "no such part", 404)


async def test_a_success_that_says_it_is_none_is_an_error(tmp_path: Path) -> None:
    """Whatever its status says; its own words are kept."""
    executor = await mounted(Script(text('{"ok": false, "reason": "out of stock"}')), tmp_path)
    result = await run(executor, context(), "order", part="hinge", count=2)
    assert (result.status, result.data["reason"], result.data["code"]) == ("error", "out of stock", "action_failed")


async def test_what_is_not_json_text_is_still_a_result(tmp_path: Path) -> None:
    """Words, a list, nothing at all."""
    for body, result in (("done", "done"), ([1, 2], [1, 2]), (None, None)):
        found = await run(await mounted(Script(text(body)), tmp_path), context(), "find", words="x")
        assert found.data == {"ok": True, "result": result}


async def test_an_idempotent_effect_is_sent_again_under_its_key(tmp_path: Path) -> None:
    """Once, after an answer that got lost; and a look after a crash is the same call again."""
    answers = iter([OutcomeUncertain("lost"), text('{"order": "P-1"}'), text('{"order": "P-1"}')])
    wire = Script(lambda _: next(answers))
    executor = await mounted(wire, tmp_path, tools={"order": {"idempotent": True}})
    ctx = context()
    prepared = await executor.prepare("order", {"part": "hinge", "count": 2}, ctx)
    assert (await executor.execute(prepared, ctx)).data == {"ok": True, "order": "P-1"}
    found = await executor.reconcile("order", prepared.args, ctx)
    assert found
    assert found.status == "ok"
    assert {event["promptSessionAttributes"]["effect_key"] for event in wire.events} == {"key-1"}


# --- the wire -------------------------------------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server
    yield f"http://127.0.0.1:{cast(Any, site._server).sockets[0].getsockname()[1]}"
    await runner.cleanup()


@asynccontextmanager
async def wire_to(handler: Handler, function: str = "parts") -> AsyncIterator[LambdaWire]:
    async with endpoint(handler) as url:
        wire = LambdaWire(function, region="eu-west-1", endpoint_url=url)
        await wire.open()
        yield wire
        await wire.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")


async def test_calls_are_signed_and_name_the_function_as_it_is_written() -> None:
    """An ARN keeps its colons, encoded once; the scope names service and region."""
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"ok": 1})

    arn = "arn:aws:lambda:eu-west-1:123456789012:function:parts:live"
    async with wire_to(answer, arn) as wire:
        assert await wire.invoke(b"{}") == Invoked(b'{"ok": 1}')
    raw, headers = seen[0].raw_path, seen[0].headers
    assert raw == f"/2015-03-31/functions/{arn.replace(':', '%3A')}/invocations"
    assert "/eu-west-1/lambda/aws4_request" in headers["Authorization"]
    assert "SignedHeaders=content-type;host;x-amz-date" in headers["Authorization"]


async def test_only_a_throttled_call_is_sent_again() -> None:
    """It was never run. Then it is a refusal, and no failure."""
    calls = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"Type": "User", "message": "Rate exceeded"}, status=429)

    async with wire_to(answer) as wire:
        with pytest.raises(RateLimited):
            await wire.invoke(b"{}")
    assert calls == 3


@pytest.mark.parametrize(
    ("status", "error", "exactly"),
    [(404, UpstreamUnavailable, False), (403, UpstreamUnavailable, False), (413, UpstreamUnavailable, False),
     (500, OutcomeUncertain, True), (502, OutcomeUncertain, True), (302, OutcomeUncertain, True)],
)  # fmt: skip
async def test_what_lambda_itself_answers(status: int, error: type[Exception], exactly: bool) -> None:
    """A refusal of the call is surely not run; a server's error may be."""
    calls = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=status, text="no", headers={"location": "/"})

    async with wire_to(answer) as wire:
        with pytest.raises(error) as raised:
            await wire.invoke(b"{}")
    assert isinstance(raised.value, OutcomeUncertain) is exactly
    assert calls == 1


async def test_a_dropped_connection_may_have_run_and_a_refused_one_has_not() -> None:
    """Only the latter is sure."""

    async def drop(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.close()
        return web.Response()

    async with wire_to(drop) as wire:
        with pytest.raises(OutcomeUncertain):
            await wire.invoke(b"{}")
    gone = LambdaWire("parts", region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    await gone.open()
    with pytest.raises(UpstreamUnavailable) as raised:
        await gone.invoke(b"{}")
    assert not isinstance(raised.value, OutcomeUncertain)
    await gone.close()


async def test_no_more_is_read_than_may_be() -> None:
    """A gigabyte is not kept in memory to be refused."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(2000):
            await response.write(b"x" * 65_536)
        return response

    async with wire_to(flood) as wire:
        assert len((await wire.invoke(b"{}", limit=1000)).body) == 1001


async def test_without_region_or_credentials_it_does_not_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both are told, with what to do."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ExecutorError, match="no region; set `region`"):
        await LambdaWire("parts").open()
    with pytest.raises(ExecutorError, match="no AWS credentials; set AWS_PROFILE"):
        await LambdaWire("parts", region="eu-west-1").open()


# --- what no answer and no schema may do ----------------------------------------------------------------------------


async def test_the_refusal_of_a_repeat_settles_nothing(tmp_path: Path) -> None:
    """It may be because of the first call, which is done, or still under way."""
    for refusal in (http(404, {"message": "gone"}), text("in progress", responseState="FAILURE")):
        answers = iter([OutcomeUncertain("lost"), refusal])
        wire = Script(lambda _, answers=answers: next(answers))
        executor = await mounted(wire, tmp_path, tools={"order": {"idempotent": True}})
        result = await run(executor, context(), "order", part="hinge", count=2)
        assert (result.status, len(wire.events)) == ("unknown", 2)


async def test_one_functions_prompt_attributes_are_not_anothers(tmp_path: Path) -> None:
    """Nor does an effect's key that is echoed go with a later call."""
    wire = Script(
        lambda event: {**text("x"), "promptSessionAttributes": {**event["promptSessionAttributes"], "a": "1"}}
    )
    executor, ctx = await mounted(wire, tmp_path), context()
    await run(executor, ctx, "order", part="hinge", count=2)
    await run(executor, replace(ctx, effect_key=""), "find", words="x")
    assert wire.events[1]["promptSessionAttributes"] == {"a": "1"}
    path = tmp_path / "functions.json"
    config = LambdaGroup(executor="lambda", function="other", functions=path, default_effect="read")
    theirs: Any = Script(text("x"))
    other = Mounted("other", config, ForeignLambda("other", theirs, functions=path), Breaker("other"), name="lambda")
    await other.open()
    await run(other, replace(ctx, effect_key=""), "find", words="x")
    assert theirs.events[0]["promptSessionAttributes"] == {}


async def test_a_function_cannot_make_up_who_the_caller_is(tmp_path: Path) -> None:
    """Also where the session holds no such value, as a coordinator's has no customer."""
    kept = {"customer_id": "666", "user_id": "K-9", "cart": "1"}
    wire = Script({**text("x"), "sessionAttributes": kept})
    executor = await mounted(wire, tmp_path, roles=["coordinator"])
    ctx = replace(context(), identity=Identity("coordinator", client_id="20OC01BK", clients=("20OC01BK",)))
    await run(executor, ctx, "find", words="a")
    await run(executor, ctx, "find", words="b")
    attributes = wire.events[1]["sessionAttributes"]
    assert attributes["cart"] == "1"
    assert not {"customer_id", "user_id"} & set(attributes)


@pytest.mark.parametrize("reference", ["http://169.254.169.254/x.json", "file:///etc/hosts", "#/$defs/missing"])
async def test_a_schema_that_refers_out_of_itself_is_refused_at_start(reference: str, tmp_path: Path) -> None:
    """Nothing is fetched, then or later."""

    class Referring(ForeignLambda):
        async def open(self) -> list[ForeignTool]:
            return [ForeignTool("find", "Find.", {"type": "object", "properties": {"a": {"$ref": reference}}})]

    config = LambdaGroup(executor="lambda", function="parts", functions=tmp_path / "x")
    wire: Any = Script(text("x"))
    executor = Mounted("parts", config, Referring("parts", wire), Breaker("parts"), name="lambda")
    with pytest.raises(ExecutorError, match="nothing is fetched"):
        await executor.open()
