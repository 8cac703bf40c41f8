"""The API over a real socket: shapes, bad input, strangers, streams, the prototype's paths."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.running_server import serving, settings
from tests.integration.scripted import ScriptedAgent

UNKNOWN = str(uuid4())


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
async def client(database_url: str, redis_url: str, agent: ScriptedAgent) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings(database_url, redis_url), agent.run) as running:
        yield running


async def chat(client: httpx.AsyncClient, text: str = "hello", session: str | None = None, **headers: str) -> Any:
    body = {"message": text} | ({"session_id": session} if session else {})
    answer = await client.post("/api/v1/chat", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(text: str) -> list[dict[str, Any]]:
    """Parse Server-Sent Events."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            body = json.loads(fields["data"])
            assert (body["type"], str(body["seq"])) == (fields["event"], fields["id"])
            found.append(body)
    return found


def is_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    if field:
        assert field in [each["field"] for each in body["errors"]]


async def test_an_answer_has_its_whole_shape(client: httpx.AsyncClient) -> None:
    """Every key of the contract, and the conversation goes on by its session id."""
    first = await chat(client, "write a note")
    assert set(first) == {
        "session_id", "turn_id", "status", "text", "specialist", "tool_calls", "pending_actions", "client_actions",
        "citations", "parts", "usage", "timings",
    }  # fmt: skip
    assert first["tool_calls"] == [{"tool": "confirm_appointment", "args": {"project_id": "410001"}, "status": "ok"}]
    assert first["parts"][0]["type"] == "receipt"
    assert first["timings"]["total_ms"] > 0
    asked = await chat(client, "ask", first["session_id"])
    assert asked["status"] == "waiting"
    (question,) = asked["pending_actions"]
    assert set(question) == {"pending_id", "tool", "args", "summary", "expires_at"}
    assert asked["tool_calls"][0]["status"] == "pending"


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"message": ""}, 422, "invalid_request", "message"),
        ({"message": "  \n"}, 422, "invalid_request", "message"),
        ({"message": "x" * 2001}, 422, "invalid_request", "message"),
        ({"message": 5}, 422, "invalid_request", "message"),
        ({"message": None}, 422, "invalid_request", "message"),
        ({"message": ["a"]}, 422, "invalid_request", "message"),
        ({"message": "a\x00b"}, 422, "invalid_request", "message"),
        ({}, 422, "invalid_request", "message"),
        ([], 422, "invalid_request", "body"),
        ("hello", 422, "invalid_request", "body"),
        ({"message": "a", "customer_id": "7000102"}, 422, "invalid_request", "customer_id"),
        ({"message": "a", "session_id": "nonsense"}, 422, "invalid_request", "session_id"),
        ({"message": "a", "session_id": 5}, 422, "invalid_request", "session_id"),
        ({"message": "a", "session_id": UNKNOWN}, 404, "not_found", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/chat/stream"])
async def test_a_bad_body_is_refused_by_field(
    client: httpx.AsyncClient, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    """A problem document, before any stream begins."""
    is_problem(await client.post(path, json=body), status, code, field)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code", "field"),
    [
        (b'{"message": "a"', "application/json", 400, "malformed_body", "body"),
        (b"", "application/json", 422, "invalid_request", "body"),
        (b'{"message": "\xff\xfe"}', "application/json", 400, "malformed_body", "body"),
        (b'{"message": "\\ud800"}', "application/json", 422, "invalid_request", "message"),
        (b"[" * 20_000, "application/json", 400, "malformed_body", "body"),
        (b'{"message": "a"}', "text/plain", 415, "unsupported_media_type", "content-type"),
        (b'{"message": "a"}', "application/json; charset=utf-16", 415, "unsupported_media_type", "content-type"),
        (b"message=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type", "content-type"),
        (b'{"message": "' + b"x" * 70_000 + b'"}', "application/json", 413, "body_too_large", "body"),
    ],
)
async def test_bytes_that_are_no_request_are_refused(
    client: httpx.AsyncClient, content: bytes, content_type: str, status: int, code: str, field: str
) -> None:
    """Never a 5xx."""
    answer = await client.post("/api/v1/chat", content=content, headers={"content-type": content_type})
    is_problem(answer, status, code, field)


async def test_a_long_body_without_a_length_is_cut_off(client: httpx.AsyncClient) -> None:
    """Chunked transfer."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = await client.post("/api/v1/chat", content=body(), headers={"content-type": "application/json"})
    is_problem(answer, 413, "body_too_large", "body")


async def test_headers_are_checked(client: httpx.AsyncClient) -> None:
    """Identity, idempotency key, host and origin; each refusal names the header."""

    async def send(**headers: str) -> httpx.Response:
        return await client.post("/api/v1/chat", json={"message": "a"}, headers=headers)

    unknown = await send(**{"x-demo-identity": "nobody"})
    is_problem(unknown, 422, "invalid_request", "x-demo-identity")
    assert "biz_lm" in unknown.json()["detail"]
    is_problem(await send(**{"idempotency-key": "x" * 201}), 422, "invalid_request", "Idempotency-Key")
    is_problem(await send(host="evil.example"), 403, "forbidden", "host")
    is_problem(await send(origin="http://evil.example"), 403, "forbidden", "origin")
    is_problem(await send(origin="null"), 403, "forbidden", "origin")
    is_problem(await send(**{"sec-fetch-site": "cross-site"}), 403, "forbidden", "origin")
    assert (await send(origin=str(client.base_url).rstrip("/"))).status_code == 200


async def test_an_idempotency_key_is_good_for_one_message(client: httpx.AsyncClient, agent: ScriptedAgent) -> None:
    """The same turn for the same body, 422 for another."""
    first = await chat(client, "hello", **{"idempotency-key": "k"})
    assert await chat(client, "hello", **{"idempotency-key": "k"}) == first
    assert len(agent.turns) == 1
    answer = await client.post("/api/v1/chat", json={"message": "other"}, headers={"idempotency-key": "k"})
    is_problem(answer, 422, "idempotency_mismatch", "Idempotency-Key")


async def test_a_second_message_while_one_runs_is_refused(client: httpx.AsyncClient, agent: ScriptedAgent) -> None:
    """409, and the first is answered."""
    first = await chat(client)
    held = asyncio.create_task(chat(client, "hold", first["session_id"]))
    agent.started.clear()
    await agent.started.wait()
    body = {"message": "two", "session_id": first["session_id"]}
    is_problem(await client.post("/api/v1/chat", json=body), 409, "conversation_busy")
    shown = (await client.get(f"/api/v1/sessions/{first['session_id']}")).json()
    assert shown["status"] == "running"
    agent.gate.set()
    assert (await held)["turn_id"] == shown["running_turn_id"]


async def test_a_failed_turn_is_a_problem_that_names_it(client: httpx.AsyncClient) -> None:
    """Status and code of the error; the message is on record."""
    answer = await client.post("/api/v1/chat", json={"message": "model down"})
    is_problem(answer, 503, "model_unavailable")
    session = answer.json()["session_id"]
    stored = (await client.get(f"/api/v1/sessions/{session}/messages")).json()
    assert stored["messages"][0]["body"]["text"] == "model down"
    keyed = [
        await client.post("/api/v1/chat", json={"message": "model"}, headers={"idempotency-key": "k"}) for _ in "ab"
    ]
    is_problem(keyed[1], 503, "model_unavailable")
    assert keyed[1].json()["turn_id"] == keyed[0].json()["turn_id"]
    streamed = await client.post("/api/v1/chat/stream", json={"message": "crash", "session_id": session})
    assert events(streamed.text)[-1]["type"] == "turn_failed"
    assert "ZeroDivision" not in streamed.text


async def test_a_dropped_stream_goes_on_where_it_broke(client: httpx.AsyncClient, agent: ScriptedAgent) -> None:
    """Read two events, drop the connection, go on by `after`, by `Last-Event-ID`, and by the idempotency key."""
    body, key = {"message": "hold"}, {"idempotency-key": "k"}
    async with client.stream("POST", "/api/v1/chat/stream", json=body, headers=key) as stream:
        turn_id = stream.headers["x-turn-id"]
        seen = ""
        async for text in stream.aiter_text():
            seen += text
            if len(events(seen)) >= 2:
                break
    last = events(seen)[-1]["seq"]
    rest = asyncio.create_task(client.get(f"/api/v1/turns/{turn_id}/events", params={"after": last}))
    again = {**key, "last-event-id": str(last)}
    repeated = asyncio.create_task(client.post("/api/v1/chat/stream", json=body, headers=again))
    await asyncio.sleep(0.05)
    agent.gate.set()
    after = events((await rest).text)
    assert [each["seq"] for each in events(seen) + after] == list(range(after[-1]["seq"] + 1))
    assert after[-1]["type"] == "turn_completed"
    assert events((await repeated).text) == after
    replay = await client.get(f"/api/v1/turns/{turn_id}/events", headers={"last-event-id": str(last)})
    assert events(replay.text) == after
    assert len(agent.turns) == 1
    text = "".join(each["text"] for each in events(seen) + after if each["type"] == "text_delta")
    assert text.startswith("One You said: hold")


async def test_a_button_settles_its_question(client: httpx.AsyncClient, agent: ScriptedAgent) -> None:
    """Twice is once; the other button, another session and an unknown question are refused."""
    asked = await chat(client, "ask")
    body = {"session_id": asked["session_id"], "pending_id": asked["pending_actions"][0]["pending_id"]}
    first = await client.post("/api/v1/chat/confirm", json={**body, "decision": "confirm"})
    assert first.json()["pending_actions"] == []
    second = await client.post("/api/v1/chat/confirm", json={**body, "decision": "confirm"})
    assert second.json() == first.json()
    assert len(agent.effects) == 1
    late = await client.post("/api/v1/chat/confirm", json={**body, "decision": "decline"})
    is_problem(late, 409, "pending_settled", "pending_id")
    for wrong in ({"pending_id": UNKNOWN}, {"session_id": UNKNOWN}):
        answer = await client.post("/api/v1/chat/confirm", json={**body, "decision": "confirm", **wrong})
        is_problem(answer, 404, "not_found")
    maybe = await client.post("/api/v1/chat/confirm", json={**body, "decision": "maybe"})
    is_problem(maybe, 422, "invalid_request", "decision")


async def test_a_stranger_finds_nothing(client: httpx.AsyncClient) -> None:
    """Every route that takes an id of c1 answers others as if it did not exist; all routes are known here."""
    asked = await chat(client, "ask")
    session, turn = asked["session_id"], asked["turn_id"]
    pending = asked["pending_actions"][0]["pending_id"]
    decision = {"session_id": session, "pending_id": pending, "decision": "confirm"}
    requests: dict[str, tuple[str, str, Any]] = {
        "/api/v1/chat": ("POST", "/api/v1/chat", {"message": "a", "session_id": session}),
        "/api/v1/chat/stream": ("POST", "/api/v1/chat/stream", {"message": "a", "session_id": session}),
        "/api/v1/chat/confirm": ("POST", "/api/v1/chat/confirm", decision),
        "/api/v1/chat/client-actions": (
            "POST",
            "/api/v1/chat/client-actions",
            {"session_id": session, "action_id": pending, "result": {"ok": True}},
        ),
        "/api/v1/turns/{turn_id}/cancel": ("POST", f"/api/v1/turns/{turn}/cancel", {}),
        "/api/v1/turns/{turn_id}/events": ("GET", f"/api/v1/turns/{turn}/events", None),
        "/api/v1/sessions/{session_id}": ("GET", f"/api/v1/sessions/{session}", None),
        "/api/v1/sessions/{session_id}/messages": ("GET", f"/api/v1/sessions/{session}/messages", None),
    }
    open_to_all = {"/api/v1/conversations", "/api/v1/identities", "/api/chat", "/api/healthz"}
    open_to_all |= {"/healthz", "/readyz", "/metrics"}
    described = (await client.get("/openapi.json")).json()["paths"]
    of_a_tenant = {path for path in described if path.startswith("/api/v1/kb")}  # see test_knowledge_api.py
    assert set(described) - of_a_tenant == set(requests) | open_to_all
    for stranger in ("c2", "biz", "coord", "ops", "anon"):
        headers = {"x-demo-identity": stranger}
        for method, path, body in requests.values():
            is_problem(await client.request(method, path, json=body, headers=headers), 404, "not_found")
        assert (await client.get("/api/v1/conversations", headers=headers)).json()["conversations"] == []
    # The same name of a prototype session leads everyone to a conversation of their own.
    mine = {"message": "a", "session_id": "7", "customer_id": "7000101"}
    theirs = {**mine, "customer_id": "7000102"}
    assert (await client.post("/api/chat", json=mine)).status_code == 200
    assert (await client.post("/api/chat", json=theirs, headers={"x-demo-identity": "c2"})).status_code == 200
    for key in ("c1", "c2"):
        found = (await client.get("/api/v1/conversations", headers={"x-demo-identity": key})).json()["conversations"]
        assert found[0]["turns"] == 1


async def test_conversations_and_messages_come_in_pages(client: httpx.AsyncClient) -> None:
    """Pages join without gaps; a cursor of one's own making is refused; private state is not shown."""
    first = await chat(client)
    for _ in range(2):
        await chat(client, "more", first["session_id"])
    for _ in range(2):
        await chat(client)
    seen, cursor = [], None
    while True:
        page = await client.get("/api/v1/conversations", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [each["session_id"] for each in page.json()["conversations"]]
        if not (cursor := page.json()["next"]):
            break
    assert len(seen) == len(set(seen)) == 3
    is_problem(await client.get("/api/v1/conversations", params={"cursor": "%%"}), 422, "invalid_request", "cursor")
    is_problem(await client.get("/api/v1/conversations", params={"limit": 0}), 422, "invalid_request", "limit")

    path, after, numbers = f"/api/v1/sessions/{first['session_id']}/messages", 0, []
    while after is not None:
        answer = (await client.get(path, params={"after": after, "limit": 4})).json()
        numbers += [each["seq"] for each in answer["messages"]]
        assert all("state" not in each["body"] for each in answer["messages"])
        after = answer["next"]
    assert numbers == list(range(1, answer["message_count"] + 1))


async def test_the_prototype_is_answered_in_its_own_shapes(client: httpx.AsyncClient) -> None:
    """Both request shapes, its error shape, and no identity but the caller's."""
    assert (await client.get("/api/healthz")).json() == {"status": "ok"}
    old = {"session_id": 12, "message": "hello", "customer_id": 7000101, "client_name": "brookhaven"}
    headers = {"authorization": "Bearer x", "client_id": "20OC01BK"}
    answer = (await client.post("/api/chat", json=old, headers=headers)).json()
    assert (answer["response"], answer["session_id"]) == ("You said: hello", 12)
    newer = {
        "message": "ask", "session_id": "12", "customer_id": "7000101", "client_id": "20OC01BK", "customer_type": "B2C",
        "available_clients": [{"client_id": "20OC01BK", "client_name": "brookhaven", "is_primary": True}],
    }  # fmt: skip
    answer = (await client.post("/api/chat", json=newer)).json()
    assert answer["intent"] == "chitchat"
    assert answer["metadata"]["clarification_needed"] is True
    assert (await client.get("/api/v1/conversations")).json()["conversations"][0]["turns"] == 2

    for change in ({"customer_id": "7000102"}, {"client_id": "20OC02LM"}, {"client_name": "lakemont"}):
        refused = await client.post("/api/chat", json={**newer, **change})
        assert refused.status_code == 403
        assert isinstance(refused.json()["detail"], str)
    other_header = await client.post("/api/chat", json=old, headers={"client_id": "20OC02LM"})
    assert other_header.status_code == 403
    invalid = await client.post("/api/chat", json={**old, "message": ""})
    assert invalid.status_code == 422
    assert invalid.json()["detail"][0]["loc"] == ["body", "message"]
    assert (
        await client.post("/api/chat", content=b"{", headers={"content-type": "application/json"})
    ).status_code == 400


async def test_operations_say_how_things_are(client: httpx.AsyncClient) -> None:
    """Live, ready, described, and a page, all without another host."""
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["status"] == "ok"
    for path in ("/docs", "/docs.js", "/"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "https://" not in answer.text.replace("https://www.w3.org", "")
    schema = (await client.get("/openapi.json")).json()
    assert "turn_completed" in json.dumps(schema["components"]["schemas"]["TurnCompleted"])
    is_problem(await client.get("/api/v1/nothing"), 404, "not_found")
    is_problem(await client.get("/api/v1/chat"), 405, "method_not_allowed")
    identities = (await client.get("/api/v1/identities")).json()["identities"]
    assert [each["key"] for each in identities if each["default"]] == ["c1"]


async def test_readiness_follows_the_stores(database_url: str, agent: ScriptedAgent) -> None:
    """Without Redis the service is degraded and still answers."""
    async with serving(settings(database_url, "redis://127.0.0.1:9/0"), agent.run) as client:
        assert (await client.get("/readyz")).json()["checks"] == {"postgres": "ok", "redis": "unreachable"}
        assert (await chat(client))["status"] == "completed"
