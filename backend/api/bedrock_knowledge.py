"""Retrieve, RetrieveAndGenerate and its streaming form, as clients of Amazon Bedrock call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.citations import Shown
from agent.errors import Forbidden, InvalidRequest, OutcropError
from agent.routing.plan import Plan
from backend.answering.generation import Piece, answer
from backend.answering.prompt import Question
from backend.answering.reading import Reader
from backend.answering.session import AnswerSession, open_session, remember
from backend.api.bedrock import errors, event_stream, pages, requests, results
from backend.api.bedrock.requests import AnswerRequest, Retrieval
from backend.api.bedrock.results import CitedPart
from backend.api.caller import Backend, Caller, Parts
from backend.identity.principal import Principal
from knowledge_base.bases import KnowledgeBase
from knowledge_base.filters import to_json
from knowledge_base.retrieval.base import Passage, SearchResult

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

SESSION_HEADER = "x-amzn-bedrock-knowledge-base-session-id"
HEARTBEAT_S = 10.0
WAITING = 16  # pieces that are made before one of them is read


@router.post("/knowledgebases/{knowledge_base_id:path}/retrieve")
async def retrieve(knowledge_base_id: str, request: Request, caller: Caller, parts: Parts) -> Response:
    """One page of passages."""
    asked = requests.read_retrieve(await request.body())
    base = await parts.knowledge.open(caller.tenant, requests.knowledge_base(knowledge_base_id))
    how = asked.retrieval
    where = to_json(how.where) if how.where else None
    question = [caller.tenant, caller.subject, how.user, base.id, asked.query, how.k, how.mode, where]
    shown = pages.read(asked.next_token, question) if asked.next_token else []
    # One more than is shown tells whether there is another page.
    wanted = min(len(shown) + how.k + 1, requests.MAX_RESULTS)
    reader = Reader(_reads_as(parts, caller, how).identity, parts.directory)
    found = await _search(reader, base, asked.query, wanted, how)
    fresh = [each for each in found.passages if each.chunk not in shown]
    page, token = fresh[: how.k], None
    if len(fresh) > len(page):
        token = pages.write([*shown, *(each.chunk for each in page)], question)
    return _json(results.retrieved(found, page, token))


@router.post("/retrieveAndGenerate")
async def retrieve_and_generate(request: Request, caller: Caller, parts: Parts) -> Response:
    """An answer, and what each part of it rests on."""
    asked = await _prepared(parts, caller, requests.read_answer(await request.body()))
    said = _Said(asked.question.passages)
    async with aclosing(answer(asked.plan, asked.question)) as pieces:
        async for piece in pieces:
            said.take(piece)
    await remember(parts.sessions, asked.session, asked.question.text, said.text)
    return _json(results.answered(asked.session.id, said.text, said.parts))


@router.post("/retrieveAndGenerateStream")
async def retrieve_and_generate_stream(request: Request, caller: Caller, parts: Parts) -> Response:
    """The same as it comes. What fails before the first piece has a status of its own."""
    asked = await _prepared(parts, caller, requests.read_answer(await request.body()))
    under_way = _UnderWay(parts, asked)
    try:
        await under_way.begin()
    except BaseException:
        await under_way.stop()
        raise
    return _Frames(under_way, {SESSION_HEADER: asked.session.id, **errors.request_id()})


# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    plan: Plan
    question: Question
    session: AnswerSession


async def _prepared(parts: Backend, caller: Principal, asked: AnswerRequest) -> _Asked:
    """Everything but the answer. A question that finds nothing by itself is tried together with the one before."""
    base = await parts.knowledge.open(caller.tenant, asked.base)
    who, how = _reads_as(parts, caller, asked.retrieval), asked.retrieval
    session = await open_session(parts.sessions, caller.tenant, caller.subject, who.subject, base.id, asked.session_id)
    plan = _plan(parts, caller, asked.model, session.key)
    reader = Reader(who.identity, parts.directory)
    found = await _search(reader, base, asked.text, how.k, how)
    if not found.passages and session.history:
        together = f"{session.history[-1].question}\n{asked.text}"
        found = await _search(reader, base, together, how.k, how)
    question = Question(
        text=asked.text,
        passages=found.passages,
        identity=reader.identity,
        now=datetime.now(ZoneInfo(parts.directory.timezone)),
        template=asked.template,
        history=session.history,
    )
    return _Asked(plan, question, session)


def _plan(parts: Backend, caller: Principal, model: str, key: UUID) -> Plan:
    plan = parts.models.named(requests.model_name(model), caller, key)
    if plan is None:
        place = "retrieveAndGenerateConfiguration.knowledgeBaseConfiguration.modelArn"
        hint = f"names no model that is configured here; there are {', '.join(parts.models.names)}"
        raise InvalidRequest(f"unknown model {model[:100]!r}", field=place, user_hint=hint)
    return plan


def _reads_as(parts: Backend, caller: Principal, how: Retrieval) -> Principal:
    """Who reads: the caller, or whom they act for. An operator may act for anybody."""
    if how.user is None:
        return caller
    other = parts.identities.identities.get(how.user)
    if other is None:
        raise InvalidRequest("unknown user", field="userContext.userId", user_hint="is nobody who is known here")
    if caller.identity.role != "operator" and other.subject != caller.subject:
        raise Forbidden("somebody else", field="userContext.userId", user_hint="is somebody else")
    return other


async def _search(reader: Reader, base: KnowledgeBase, query: str, k: int, how: Retrieval) -> SearchResult:
    if how.mode == "vector" and base.embedder is None:
        hint = "SEMANTIC is not offered: this knowledge base has no embedding model"
        raise InvalidRequest("no embedding model", field="overrideSearchType", user_hint=hint)
    return await reader.search(base, query, k=k, mode=how.mode, where=how.where)


# --- what is answered -------------------------------------------------------------------------------------------------


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), headers=errors.request_id(), media_type="application/json")


@dataclass(slots=True)
class _Said:
    """An answer, as far as it goes."""

    passages: tuple[Passage, ...]
    text: str = ""
    parts: list[CitedPart] = field(default_factory=list)

    def take(self, piece: Piece) -> CitedPart | None:
        """Add a piece; the citation that it is, if it is one."""
        if isinstance(piece, Shown):
            self.text += piece.text
            return None
        rests_on = tuple(self.passages[n - 1] for n in piece.numbers)
        part = CitedPart(piece.start, piece.end, self.text[piece.start : piece.end], rests_on)
        self.parts.append(part)
        return part


class _Silent:
    """Nothing came for a while."""


class _UnderWay:
    """An answer that is being made, by a task of its own, no further ahead of its reader than `WAITING` pieces."""

    def __init__(self, parts: Backend, asked: _Asked) -> None:
        self._parts = parts
        self._asked = asked
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue(WAITING)
        self._first: Piece | None = None
        self._task = asyncio.create_task(self._make())

    async def begin(self) -> None:
        """Wait for the first piece, for a while; raises what went wrong before it."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                first = await self._pieces.get()
        except TimeoutError:
            return
        if isinstance(first, Exception):
            raise first
        self._first = first

    async def frames(self) -> AsyncIterator[bytes]:
        """The messages of the stream; one that clients skip, while the model is silent."""
        said = _Said(self._asked.question.passages)
        piece = self._first or await self._next()
        while piece is not None:
            if isinstance(piece, _Silent):
                yield event_stream.event("ping", {})
            elif isinstance(piece, Exception):
                yield errors.message(errors.error_of(piece))
            elif (part := said.take(piece)) is not None:
                yield event_stream.event("citation", results.citation_event(part))
            elif isinstance(piece, Shown):
                yield event_stream.event("output", {"text": piece.text})
            piece = await self._next()

    async def stop(self) -> None:
        """End the model call, if it still goes on."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _next(self) -> Piece | Exception | _Silent | None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await self._pieces.get()
        except TimeoutError:
            return _Silent()

    async def _make(self) -> None:
        asked, text = self._asked, ""
        try:
            async with aclosing(answer(asked.plan, asked.question)) as pieces:
                async for piece in pieces:
                    text += piece.text if isinstance(piece, Shown) else ""
                    await self._pieces.put(piece)
            await remember(self._parts.sessions, asked.session, asked.question.text, text)
        except OutcropError as error:
            log.info("answer_failed", code=error.code, reason=str(error)[:300])
            await self._pieces.put(error)
        except Exception as error:  # outermost: the status has been sent, so the stream has to say it
            log.exception("answer_crashed")
            await self._pieces.put(error)
        await self._pieces.put(None)


class _Frames(StreamingResponse):
    """Streams what is under way; when nobody reads any more, it ends."""

    def __init__(self, under_way: _UnderWay, headers: dict[str, str]) -> None:
        super().__init__(under_way.frames(), headers=headers, media_type=event_stream.CONTENT_TYPE)
        self._under_way = under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._under_way.stop()
