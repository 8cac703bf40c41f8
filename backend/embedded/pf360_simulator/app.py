"""The HTTP surface: an ASGI application that routes, applies latency and faults, and logs each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from .admin import answer_admin
from .call import Call, Router
from .faults import HTTP_MODES, TIMEOUT_S, Fault, drift
from .fixture import Json
from .operations import DATES, OPERATIONS, SLOTS, Endpoint
from .refusal import Refusal, malformed, rate_limited
from .simulator import Config, Simulator

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ABORT_EXTENSION = "pf360.abort"
BODY_LIMIT = 1_000_000
JSON_TYPE = (b"content-type", b"application/json")
ROUTER = Router(OPERATIONS)


class ConnectionDropped(ConnectionAbortedError):
    """Raised instead of an answer where no socket can be cut, as under an in-process transport."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)


def refused(refusal: Refusal) -> Answer:
    body = {"status": "error", "code": refusal.code, "message": refusal.message}
    return Answer(refusal.status, orjson.dumps(body), (JSON_TYPE, *refusal.headers))


def create_app(config: Config) -> App:
    """A simulator of its own behind an ASGI interface."""
    return App(Simulator(config))


class App:
    """ASGI application of the simulated API; and of the admin API beside it."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        path = scope["path"]
        call = Call(
            sim=self.sim,
            method=scope["method"],
            path=path,
            params={},
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"))) if scope["query_string"] else {},
            headers=dict(scope["headers"]),
        )
        if path.startswith("/_sim/"):
            await _send(send, await self._answer_admin(call, receive))
            return
        started = time.perf_counter()
        answer, endpoint, fault = await self._answer(call, receive)
        self._log(call, endpoint, fault, answer, started)
        if answer is None:
            await _drop(scope, receive)
        else:
            await _send(send, answer)

    async def _answer_admin(self, call: Call, receive: Receive) -> Answer:
        try:
            call.body = await _read_body(receive)
            return Answer(200, orjson.dumps(answer_admin(call)))
        except Refusal as refusal:
            return refused(refusal)

    async def _answer(self, call: Call, receive: Receive) -> tuple[Answer | None, str, str | None]:
        """The answer (None: cut the connection), the endpoint's name and the mode of the fault that acted."""
        name = "-"
        try:
            endpoint, call.params = ROUTER.find(call.method, call.path)
            if endpoint is DATES and "request_id" in call.query:
                endpoint = SLOTS
            name = endpoint.name
            call.body = await _read_body(receive)
            if self.sim.over_rate(call.client_header):
                raise rate_limited()
            delay, unavailable = self.sim.latency.draw(endpoint.kind)
            if delay:
                await self.sim.pause(delay)
            if unavailable:
                raise Refusal(503, "unavailable", "Service unavailable")
            fault = self._pick_fault(name, call) if self.sim.faults.armed else None
            if fault is None:
                return self._carry_out(endpoint, call), name, None
            return await self._carry_out_badly(endpoint, call, fault, receive), name, fault.mode
        except Refusal as refusal:
            return refused(refusal), name, None

    def _pick_fault(self, name: str, call: Call) -> Fault | None:
        return self.sim.faults.pick(name, call.path, {"client_id": call.client_header} | call.query | call.params)

    def _carry_out(self, endpoint: Endpoint, call: Call, reshape: Callable[[str, Json], Json] | None = None) -> Answer:
        """Run the handler and save what it changed. Nothing is awaited here, so no other request comes between."""
        try:
            body = endpoint.handler(call)
        except Refusal as refusal:
            return refused(refusal)
        finally:
            self.sim.save_if_changed()
        return Answer(200, orjson.dumps(reshape(endpoint.name, body) if reshape else body))

    async def _carry_out_badly(self, endpoint: Endpoint, call: Call, fault: Fault, receive: Receive) -> Answer | None:
        before = _before_handling(fault)
        if before is not None:
            fault.effects += fault.mode != "flap"
            return before
        match fault.mode:
            case "timeout":
                fault.effects += 1
                return await self._hang(receive)
            case "slow":
                fault.effects += 1
                await self.sim.pause(fault.delay_s)
                return self._carry_out(endpoint, call)
            case "stale_read":
                return self._carry_out_stale(endpoint, call, fault)
            case "slot_taken":
                fault.effects += 1
                call.steal_slot = True
                return self._carry_out(endpoint, call)
            case "schema_drift":
                fault.effects += 1
                return self._carry_out(endpoint, call, drift)
        answer = self._carry_out(endpoint, call)
        if answer.status != 200:
            # Refused all the same: there is nothing whose answer could be lost.
            return answer
        fault.effects += 1
        return _after_handling(fault, answer)

    def _carry_out_stale(self, endpoint: Endpoint, call: Call, fault: Fault) -> Answer:
        """Serve E1 as before the customer's last write; counts only once there is something to hide."""
        if call.params.get("customer_id") in self.sim.state.before_last_write:
            fault.effects += 1
            call.stale = True
        return self._carry_out(endpoint, call)

    async def _hang(self, receive: Receive) -> Answer | None:
        """Keep silent for two minutes, or until the client has gone or the simulator closes."""
        ends = {asyncio.ensure_future(receive()), asyncio.ensure_future(self.sim.closing.wait())}
        try:
            ended, _ = await asyncio.wait(ends, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in ends:
                waiter.cancel()
        return None if ended else refused(Refusal(504, "timeout", "Timed out"))

    def _log(self, call: Call, endpoint: str, fault: str | None, answer: Answer | None, started: float) -> None:
        self.sim.log.append(
            {
                "at": self.sim.clock.now().isoformat(),
                "time": time.time(),
                "method": call.method,
                "path": call.path,
                "query": call.query,
                "endpoint": endpoint,
                "status": answer.status if answer else None,
                "fault": fault,
                "caller": call.caller_json(),
                "client_id": call.client_header or None,
                "ms": round((time.perf_counter() - started) * 1000, 3),
            }
        )


def _before_handling(fault: Fault) -> Answer | None:
    """Answers that come from in front of the upstream: nothing is carried out."""
    if fault.mode in HTTP_MODES:
        status, code = HTTP_MODES[fault.mode]
        retry = ((b"retry-after", b"1"),) if status == 429 else ()
        return refused(Refusal(status, code, "Simulated failure", retry))
    if fault.mode == "flap":
        return refused(Refusal(503, "unavailable", "Simulated failure"))
    if fault.mode == "error_in_200":
        return Answer(200, orjson.dumps({"error": "Something went wrong"}))
    if fault.mode == "html_error":
        page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
        return Answer(502, page, ((b"content-type", b"text/html"),))
    return None


def _after_handling(fault: Fault, answer: Answer) -> Answer | None:
    """Answers that get lost or damaged on the way back: what was asked has been carried out."""
    if fault.mode == "commit_then_drop":
        return None
    if fault.mode == "commit_then_500":
        return refused(Refusal(500, "internal", "Simulated failure"))
    if fault.mode == "malformed_json":
        return Answer(200, answer.body[: max(1, len(answer.body) // 2)])
    return Answer(200, b"")


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise malformed("The client went away")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_LIMIT:
            raise Refusal(413, "validation", "The body is too large")
    return body


async def _send(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _drop(scope: Scope, receive: Receive) -> None:
    """Cut the connection without a byte of an answer."""
    abort = (scope.get("extensions") or {}).get(ABORT_EXTENSION)
    if abort is None:
        raise ConnectionDropped("The simulator dropped the connection")
    abort()
    while (await receive())["type"] != "http.disconnect":
        continue
