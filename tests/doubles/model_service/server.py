"""The server: lanes are opened and read under `/_lanes`, every wire of a lane is under `/{lane}/{wire}`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.model_service import (
    anthropic_form,
    converse_form,
    embedding_form,
    invoke_agent_form,
    ollama_form,
    openai_form,
)
from tests.doubles.model_service.lanes import ServerLane
from tests.doubles.model_service.quirks import Quirk, refuse_on, rewritten
from tests.doubles.model_service.script import Reply, ScriptError, Wire
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal

FORMS: dict[Wire, Form] = {
    form.wire: form
    for form in (openai_form.FORM, ollama_form.FORM, converse_form.FORM, anthropic_form.FORM, invoke_agent_form.FORM)
}
UNSCRIPTED = 501  # the test's own mistake; no provider answers so
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ModelServer:
    """All lanes of one process."""

    def __init__(self) -> None:
        """No lanes yet."""
        self.lanes: dict[str, ServerLane] = {}
        self._ids = itertools.count(1)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/_lanes", self._open)
        app.router.add_put("/_lanes/{lane}", self._script)
        app.router.add_get("/_lanes/{lane}", self._state)
        app.router.add_put("/_lanes/{lane}/vectors", self._script_vectors)
        for path, wire, streamed in (
            ("openai/v1/chat/completions", "openai", None),
            ("ollama/api/chat", "ollama", None),
            ("anthropic/v1/messages", "anthropic", None),
            ("bedrock/model/{model:.+}/converse", "bedrock", False),
            ("bedrock/model/{model:.+}/converse-stream", "bedrock", True),
            ("bedrock-agent/agents/{agent}/agentAliases/{alias}/sessions/{session}/text", "bedrock-agent", True),
        ):
            app.router.add_post(f"/{{lane}}/{path}", self._answering(wire, streamed))  # type: ignore[arg-type]
        vectors = self._making_vectors
        app.router.add_post("/{lane}/openai/v1/embeddings", vectors("openai", embedding_form.openai_answer))
        app.router.add_post(
            "/{lane}/bedrock/model/{model:.+}/invoke", vectors("bedrock", embedding_form.bedrock_answer)
        )
        app.router.add_get("/{lane}/openai/v1/models", self._listing("openai", _openai_models))
        app.router.add_get("/{lane}/anthropic/v1/models", self._listing("anthropic", _anthropic_models))
        app.router.add_get("/{lane}/ollama/api/tags", self._listing("ollama", _ollama_tags))
        app.router.add_post("/{lane}/ollama/api/show", self._listing("ollama", _ollama_show))
        return app

    async def _open(self, request: web.Request) -> web.Response:
        said = orjson.loads(await request.read())
        lane = ServerLane(f"l{next(self._ids)}", said["strict"], tuple(said["models"]), said["api_key"])
        self.lanes[lane.id] = lane
        return web.json_response({"id": lane.id})

    async def _script(self, request: web.Request) -> web.Response:
        lane, said = self._lane(request), orjson.loads(await request.read())
        lane.replies = [Reply.from_json(reply) for reply in said["replies"]]
        lane.repeat_last = said["repeat_last"]
        return web.json_response({})

    async def _script_vectors(self, request: web.Request) -> web.Response:
        lane, said = self._lane(request), orjson.loads(await request.read())
        lane.vectors.answers = [embedding_form.Vectors.from_json(answer) for answer in said["answers"]]
        return web.json_response({})

    async def _state(self, request: web.Request) -> web.Response:
        lane = self._lane(request)
        streams = {"open": lane.open, "cut_off": lane.cut_off, "finished": lane.finished}
        state: dict[str, Any] = {"streams": streams, "left": len(lane.replies)}
        state["most_at_once"] = lane.vectors.most_at_once
        if "requests" in request.query:
            state["requests"] = lane.requests
        return web.Response(body=orjson.dumps(state), content_type="application/json")

    def _lane(self, request: web.Request) -> ServerLane:
        lane = self.lanes.get(request.match_info["lane"])
        if lane is None:
            raise web.HTTPNotFound(text=f"no lane {request.match_info['lane']!r}")
        return lane

    def _listing(self, wire: Wire, say: Callable[[ServerLane, Any], Refusal | dict[str, Any]]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            lane, form = self._lane(request), FORMS[wire]
            data = await request.read()
            body = orjson.loads(data) if data else None
            _record(lane, wire, request, body)
            if wrong := _wrong_key(lane, form, request):
                return wrong
            said = say(lane, body)
            return _refusal(said) if isinstance(said, Refusal) else web.json_response(said)

        return answer

    def _answering(self, wire: Wire, streamed: bool | None) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            lane, form = self._lane(request), FORMS[wire]
            data = await request.read()
            try:
                body = orjson.loads(data)
            except ValueError:
                _record(lane, wire, request, data.decode(errors="replace"))
                return _refusal(form.refuse(Fault("bad_request", message="The body is not valid JSON.")))
            entry = _record(lane, wire, request, body)
            lane.numbered += 1
            path = {k: v for k, v in request.match_info.items() if k != "lane"}
            streams = bool(body.get("stream", wire == "ollama")) if streamed is None else streamed
            model = path.get("model") or str(body.get("model", ""))
            ask = Ask(model, body, streams, f"{lane.id}/{lane.numbered}", path)
            if wrong := _wrong_key(lane, form, request):
                return wrong
            entry["problems"] = lane.check(wire, ask)
            if lane.strict and entry["problems"]:
                fault = Fault("bad_request", message="; ".join(entry["problems"]), model=model)
                return _refusal(form.refuse(fault))
            reply = lane.take(body)
            if reply is None:
                return _unscripted(form, "the script of this lane has no reply left for such a request")
            try:
                return await self._deliver(lane, form, reply, ask, request)
            except ScriptError as error:
                return _unscripted(form, str(error))

        return answer

    def _making_vectors(self, wire: Wire, answer: embedding_form.Answer) -> Handler:
        async def respond(request: web.Request) -> web.StreamResponse:
            lane, form = self._lane(request), FORMS[wire]
            body = orjson.loads(await request.read())
            _record(lane, wire, request, body)
            if wrong := _wrong_key(lane, form, request):
                return wrong
            return await answer(lane.vectors, request, body)

        return respond

    async def _deliver(
        self, lane: ServerLane, form: Form, reply: Reply, ask: Ask, request: web.Request
    ) -> web.StreamResponse:
        if problem := refuse_on(form.wire, reply.quirks):
            raise ScriptError(problem)
        reply = rewritten(reply)
        fault = Fault(reply.kind, None, reply.error_message, reply.retry_after_s, ask.model)
        if reply.fails_at_once or (reply.fault_in_stream is not None and not ask.streamed):
            await asyncio.sleep(reply.delay_first_s)
            return _refusal(form.refuse(replace(fault, status=reply.status)))
        if reply.raw is not None:
            parts = (reply.raw,) if isinstance(reply.raw, bytes) else reply.raw
            kind, events = reply.raw_type, [Event(part, content=True) for part in parts]
        elif ask.streamed:
            kind, events = form.stream_type, list(form.stream(reply, ask))
        else:
            kind, (reply, events) = "application/json", _halves(reply, orjson.dumps(form.whole(reply, ask)))
        plan = Plan(reply, events, form.fault_event(fault))
        _remember(lane, form, reply, ask)
        with _counted(lane):
            return await _write(plan, kind, ask, request)


def _halves(reply: Reply, body: bytes) -> tuple[Reply, list[Event]]:
    """An answer that is not streamed: it is cut off, or falls silent, at its beginning or in its middle."""
    middle = len(body) // 2
    faults = {
        name: min(after, 1) for name in ("cut_after", "hang_after") if (after := getattr(reply, name)) is not None
    }
    return replace(reply, **faults), [Event(body[:middle], content=True), Event(body[middle:])]


class Plan:
    """Bytes to send, and where the sending goes wrong."""

    def __init__(self, reply: Reply, events: Sequence[Event], fault: bytes) -> None:
        """`ScriptError` if it is to go wrong after more pieces than there are."""
        self.reply, self.events, self.fault = reply, events, fault
        pieces = sum(event.content for event in events)
        for name in ("fault_in_stream", "cut_after", "hang_after"):
            if (after := getattr(reply, name)) is not None and after > pieces:
                raise ScriptError(f"{name}={after}, but this answer has {pieces} pieces")

    def steps(self) -> Iterator[tuple[str, bytes]]:
        """`write`, `pause`, and at the end perhaps `fault`, `cut` or `hang`."""
        pieces = 0
        for event in self.events:
            if event.content:
                if end := self._end(pieces):
                    yield end
                    return
                if pieces:
                    yield "pause", b""
                pieces += 1
            yield "write", event.data
            if event.content and pieces == self._last and (end := self._end(pieces)):
                yield end
                return
        if end := self._end(pieces):
            yield end

    @property
    def _last(self) -> int:
        return sum(event.content for event in self.events)

    def _end(self, pieces: int) -> tuple[str, bytes] | None:
        if self.reply.fault_in_stream == pieces:
            return "fault", self.fault
        if self.reply.cut_after == pieces:
            return "cut", b""
        return ("hang", b"") if self.reply.hang_after == pieces else None


async def _write(plan: Plan, kind: str, ask: Ask, request: web.Request) -> web.StreamResponse:
    reply, size = plan.reply, plan.reply.write_size
    await asyncio.sleep(reply.delay_first_s)
    response = web.StreamResponse(headers={"content-type": kind, **_agent_headers(ask)})
    if not ask.streamed:
        response.content_length = sum(len(event.data) for event in plan.events)
    await response.prepare(request)
    for step, data in plan.steps():
        match step:
            case "write" | "fault":
                for i in range(0, len(data), size or len(data)):
                    await response.write(data[i : i + (size or len(data))])
                    # Without a turn of the loop in between, the parts would go out as one.
                    await asyncio.sleep(0)
            case "pause":
                await asyncio.sleep(reply.delay_between_s)
            case "cut":
                if request.transport is not None:
                    request.transport.abort()
                return response
            case _:
                await asyncio.Event().wait()
    if ask.streamed and Quirk.STAYS_OPEN in reply.quirks:
        await asyncio.Event().wait()
    await response.write_eof()
    return response


def _agent_headers(ask: Ask) -> dict[str, str]:
    if "session" not in ask.path:
        return {"x-amzn-requestid": ask.make_id("")} if "model" in ask.path else {}
    return {
        "x-amzn-bedrock-agent-content-type": "text/plain",
        "x-amz-bedrock-agent-session-id": ask.path["session"],
        "x-amzn-requestid": ask.make_id(""),
    }


@contextmanager
def _counted(lane: ServerLane) -> Iterator[None]:
    """An answer that is being written; ended by the client if it is cancelled or its connection is gone."""
    lane.open += 1
    try:
        yield
        lane.finished += 1
    except (asyncio.CancelledError, ConnectionError):
        lane.cut_off += 1
        raise
    finally:
        lane.open -= 1


def _remember(lane: ServerLane, form: Form, reply: Reply, ask: Ask) -> None:
    """What a later request is checked against."""
    if reply.reasoning_signature:
        lane.signatures.add(reply.reasoning_signature)
    if form.wire == "bedrock-agent":
        session = ask.path["session"]
        lane.controls.pop(session, None)
        if reply.calls:
            inputs = [{"functionInvocationInput": {"actionGroup": c.group, "function": c.name}} for c in reply.calls]
            lane.controls[session] = (invoke_agent_form.invocation_id(ask), inputs)


def _record(lane: ServerLane, wire: Wire, request: web.Request, body: Any) -> dict[str, Any]:
    path = request.rel_url.raw_path_qs.removeprefix(f"/{lane.id}/{wire}")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return lane.record(wire, request.method, path, headers, body)


def _wrong_key(lane: ServerLane, form: Form, request: web.Request) -> web.Response | None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if lane.api_key is None or form.key_of(headers) == lane.api_key:
        return None
    return _refusal(form.refuse(Fault("auth")))


def _unscripted(form: Form, why: str) -> web.Response:
    return _refusal(form.refuse(Fault("bad_request", UNSCRIPTED, f"The test's script cannot be followed: {why}")))


def _refusal(refusal: Refusal) -> web.Response:
    return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)


def _openai_models(lane: ServerLane, _: Any) -> dict[str, Any]:
    data = [{"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "scripted"} for name in lane.models]
    return {"object": "list", "data": data}


def _anthropic_models(lane: ServerLane, _: Any) -> dict[str, Any]:
    at = "2026-01-01T00:00:00Z"
    data = [{"type": "model", "id": name, "display_name": name, "created_at": at} for name in lane.models]
    return {"data": data, "has_more": False, "first_id": lane.models[0], "last_id": lane.models[-1]}


def _ollama_tags(lane: ServerLane, _: Any) -> dict[str, Any]:
    at = "2026-01-01T00:00:00Z"
    return {
        "models": [
            {"name": name, "model": name, "modified_at": at, "size": 1, "digest": "0" * 64, "details": _DETAILS}
            for name in lane.models
        ]
    }


def _ollama_show(lane: ServerLane, body: Any) -> Refusal | dict[str, Any]:
    name = body.get("model") or body.get("name")
    if name not in lane.models:
        return ollama_form.refuse(Fault("unknown_model", model=name))
    capabilities = ["completion", "tools", "thinking"]
    info = {"general.architecture": "llama", "llama.context_length": 32768}
    return {"details": _DETAILS, "model_info": info, "capabilities": capabilities, "template": "{{ .Prompt }}"}


_DETAILS = {"format": "gguf", "family": "llama", "parameter_size": "8B", "quantization_level": "Q4_K_M"}
