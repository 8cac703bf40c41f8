"""The prototype's two paths, for clients that exist: both of its request shapes, its own error shape."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from agent.errors import Forbidden
from backend.api.bodies import PrototypeMessageIn
from backend.api.caller import Backend, Caller, Parts
from backend.api.chat import json, whole
from backend.conversations.answer import Source
from backend.conversations.service import TurnRequest
from backend.identity.principal import Principal

STOPPED = "The reply was stopped."

router = APIRouter(prefix="/api", tags=["prototype"])


@router.get("/healthz")
async def health() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.post("/chat")
async def chat(
    message: PrototypeMessageIn,
    caller: Caller,
    parts: Parts,
    client_id: Annotated[str | None, Header(alias="client_id", convert_underscores=False)] = None,
) -> Response:
    """One message. `session_id` is of the client's choosing; whom the body speaks of must be who is signed in."""
    started = time.perf_counter()
    _refuse_other_identity(caller, parts, message, client_id)
    request = TurnRequest(message.message, external_id=str(message.session_id))
    result = await whole(await parts.service.submit(caller, request))
    asks = bool(result.pending_actions)
    body: dict[str, Any] = {
        "response": result.text or (STOPPED if result.status == "cancelled" else ""),
        "session_id": message.session_id,
        "intent": result.specialist,
        "metadata": {
            "tools_executed": [call.tool for call in result.tool_calls if call.status in ("ok", "unknown")],
            "clarification_needed": asks,
            "next_expected_intent": "confirmation" if asks else None,
            "citations": [_source(each) for each in result.citations],
            "processing_time_ms": round((time.perf_counter() - started) * 1000),
        },
    }
    return json(body)


def _source(cited: Source) -> dict[str, Any]:
    """A passage that the response rests on."""
    return {name: getattr(cited, name) for name in ("document_id", "title", "section", "page", "quote", "score", "uri")}


def _refuse_other_identity(
    caller: Principal, parts: Backend, message: PrototypeMessageIn, client_header: str | None
) -> None:
    """The body may repeat who is signed in, and must not say otherwise."""
    who = caller.identity
    named = {each.client_id for each in message.available_clients or ()}
    named.update(client for client in (message.client_id, client_header) if client)
    if str(message.customer_id) != who.customer_id:
        raise Forbidden("customer_id is not the caller's", field="customer_id")
    if not named <= set(who.clients):
        raise Forbidden("client_id is not one of the caller's", field="client_id")
    slugs = {parts.directory.locations[client].name for client in who.clients if client in parts.directory.locations}
    if message.client_name and message.client_name not in slugs:
        raise Forbidden("client_name is not one of the caller's", field="client_name")
