"""Bedrock's own client asks our knowledge bases, with nothing changed but where it connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
import pytest
import yaml
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError

from backend.api import bedrock_knowledge
from tests.doubles.model_service import ModelService, Reply
from tests.integration.knowledge_service import DOCUMENTS, OPS, knowing

T = TypeVar("T")
ARN = "arn:aws:bedrock:eu-west-1:123456789012:knowledge-base/{}"
QUESTION = "A window visit takes 4 hours?"
READABLE = set(DOCUMENTS) - {"staff/margins.md"}


@cache
def session() -> boto3.Session:
    """One for all tests: it reads the service's model once."""
    return boto3.Session()


def aws(client: httpx.AsyncClient, key: str = "AKIAIOSFODNN7EXAMPLE") -> Any:
    """Bedrock's client; `key` is its access key."""
    return session().client(
        "bedrock-agent-runtime",
        region_name="eu-west-1",
        endpoint_url=str(client.base_url),
        aws_access_key_id=key,
        aws_secret_access_key="nobody checks it",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
    )


async def call(work: Callable[..., T], **arguments: Any) -> T:
    """A blocking call, beside the server."""
    return await asyncio.to_thread(work, **arguments)


async def base_id(client: httpx.AsyncClient) -> str:
    return str((await client.get("/api/v1/kb")).json()["knowledge_bases"][0]["id"])


def vector(**more: Any) -> dict[str, Any]:
    return {"vectorSearchConfiguration": more}


def asking(base: str, text: str = QUESTION, model: str = "offline", **more: Any) -> dict[str, Any]:
    """The arguments of RetrieveAndGenerate; what is more belongs to the knowledge base's configuration."""
    inner = {"knowledgeBaseId": base, "modelArn": model, **more}
    configuration = {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": inner}
    return {"input": {"text": text}, "retrieveAndGenerateConfiguration": configuration}


def uris(answer: dict[str, Any]) -> list[str]:
    return [each["metadata"]["document_id"] for each in answer["retrievalResults"]]


async def refused(work: Callable[..., Any], code: str, said: str = "", **arguments: Any) -> ClientError:
    """The error of a call, which has to be this one."""
    with pytest.raises(ClientError) as error:
        await call(work, **arguments)
    found: Any = error.value.response
    assert found["Error"]["Code"] == code, found
    assert said in found["Error"]["Message"]
    assert found["ResponseMetadata"]["RequestId"].count("-") == 4
    return error.value


async def test_retrieve_answers_bedrocks_client(database_url: str, redis_url: str) -> None:
    """By id and ARN, with filters and pages, as whom one is; and errors are the client's own classes."""
    async with knowing(database_url, redis_url, kb_embedding="embedded") as client:
        base, runtime = await base_id(client), aws(client)
        query = {"text": QUESTION}
        found = await call(runtime.retrieve, knowledgeBaseId=base, retrievalQuery=query)
        best = found["retrievalResults"][0]
        assert best["metadata"]["document_id"] == "guides/windows.md"
        assert best["location"] == {"type": "CUSTOM", "customDocumentLocation": {"id": "guides/windows.md"}}
        assert "4 hours" in best["content"]["text"]
        assert 0 < best["score"] <= 1
        assert best["metadata"]["audience"] == ["residential"]
        same = await call(runtime.retrieve, knowledgeBaseId=ARN.format(base), retrievalQuery=query)
        assert same["retrievalResults"] == found["retrievalResults"]

        everything: dict[str, Any] = {"knowledgeBaseId": base, "retrievalQuery": {"text": "visit"}}
        older = {"lessThan": {"key": "year", "value": 2026}}
        both = {"andAll": [older, {"equals": {"key": "topic", "value": "duration"}}]}
        hybrid = vector(filter=both, overrideSearchType="HYBRID", numberOfResults=10)
        assert uris(await call(runtime.retrieve, **everything, retrievalConfiguration=hybrid)) == ["guides/fences.md"]
        meant = {"knowledgeBaseId": base, "retrievalQuery": {"text": "keeping dogs and cats away"}}
        semantic = vector(overrideSearchType="SEMANTIC", numberOfResults=1)
        assert uris(await call(runtime.retrieve, **meant, retrievalConfiguration=semantic)) == ["pets.md"]
        pager, one = runtime.get_paginator("retrieve"), vector(numberOfResults=1)
        pages = await call(lambda: list(pager.paginate(**everything, retrievalConfiguration=one)))
        assert [len(page["retrievalResults"]) for page in pages] == [1, 1, 1]
        assert {uri for page in pages for uri in uris(page)} == READABLE
        operator = aws(client, "ops")
        assert set(uris(await call(operator.retrieve, **everything))) == set(DOCUMENTS)
        as_customer = await call(operator.retrieve, **everything, userContext={"userId": "c1"})
        assert set(uris(as_customer)) == READABLE

        token = pages[0]["nextToken"]
        for changed in (
            {"nextToken": token[:-4] + "AAAA"},
            {"nextToken": token, "retrievalConfiguration": vector(numberOfResults=2)},
        ):
            arguments: dict[str, Any] = {**everything, "retrievalConfiguration": one, **changed}
            await refused(runtime.retrieve, "ValidationException", "nextToken", **arguments)
        nowhere = {**everything, "knowledgeBaseId": "ABCDE12345"}
        error = await refused(runtime.retrieve, "ResourceNotFoundException", **nowhere)
        assert isinstance(error, runtime.exceptions.ResourceNotFoundException)
        for more, field in (
            ({"retrievalConfiguration": vector(numberOfResults=101)}, "numberOfResults"),
            ({"retrievalConfiguration": vector(overrideSearchType="BEST")}, "overrideSearchType"),
            ({"retrievalConfiguration": vector(filter={"lessThan": {"key": "a", "value": "x"}})}, "lessThan.value"),
            ({"guardrailConfiguration": {"guardrailId": "a1", "guardrailVersion": "1"}}, "guardrailConfiguration"),
            ({"userContext": {"userId": "nobody"}}, "userContext.userId"),
        ):
            arguments = {**everything, **more}
            error = await refused(runtime.retrieve, "ValidationException", field, **arguments)
            assert isinstance(error, runtime.exceptions.ValidationException)
        error = await refused(runtime.retrieve, "AccessDeniedException", **everything, userContext={"userId": "c2"})
        assert isinstance(error, runtime.exceptions.AccessDeniedException)


async def test_answers_without_a_model_are_sentences_of_the_documents(database_url: str, redis_url: str) -> None:
    """Cited to the character; only what is cited is returned; a session knows its caller and its base."""
    async with knowing(database_url, redis_url) as client:
        base, runtime = await base_id(client), aws(client)
        answer = await call(runtime.retrieve_and_generate, **asking(base))
        text = answer["output"]["text"]
        assert "4 hours" in text
        assert answer["citations"]
        for citation in answer["citations"]:
            part = citation["generatedResponsePart"]["textResponsePart"]
            assert text[part["span"]["start"] : part["span"]["end"] + 1] == part["text"]
            (reference,) = citation["retrievedReferences"]
            assert part["text"] in reference["content"]["text"]
        nothing = await call(runtime.retrieve_and_generate, **asking(base, "zebra quantum entanglement"))
        assert nothing["citations"] == []
        assert nothing["output"]["text"].startswith("Sorry")

        mine = answer["sessionId"]
        again = await call(runtime.retrieve_and_generate, **asking(base, "And fences?"), sessionId=mine)
        assert again["sessionId"] == mine
        stranger = aws(client, "c2")
        for who, session_id in ((stranger, mine), (runtime, "made-up")):
            arguments = {**asking(base), "sessionId": session_id}
            await refused(who.retrieve_and_generate, "ValidationException", "sessionId", **arguments)
        operator = aws(client, "ops")
        for user, said in (("ops", ""), ("coord", "margin")):
            staff = await call(
                operator.retrieve_and_generate,
                **asking(base, "What margin does a window visit cost the office?"),
                userContext={"userId": user},
            )
            assert said in staff["output"]["text"]
            arguments = {**asking(base), "sessionId": staff["sessionId"], "userContext": {"userId": "c1"}}
            await refused(operator.retrieve_and_generate, "ValidationException", "sessionId", **arguments)
            same = {**arguments, "userContext": {"userId": user}}
            assert (await call(operator.retrieve_and_generate, **same))["sessionId"] == staff["sessionId"]
        unknown = asking(base, model="arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2")
        await refused(runtime.retrieve_and_generate, "ValidationException", "there are default, offline", **unknown)
        semantic = asking(base, retrievalConfiguration=vector(overrideSearchType="SEMANTIC"))
        await refused(runtime.retrieve_and_generate, "ValidationException", "no embedding model", **semantic)
        missing = asking("ABCDE12345")
        await refused(runtime.retrieve_and_generate, "ResourceNotFoundException", **missing)
        await refused(runtime.retrieve_and_generate_stream, "ResourceNotFoundException", **missing)
        stream = await call(runtime.retrieve_and_generate_stream, **asking(base))
        whole, citations, failure = await read(stream)
        assert (whole, failure) == (text, None)
        assert [each["citation"] for each in citations] == answer["citations"]


async def read(stream: dict[str, Any]) -> tuple[str, list[dict[str, Any]], str | None]:
    """Text and citations of a stream, and the code of the error that it ended with."""

    def to_its_end() -> tuple[str, list[dict[str, Any]], str | None]:
        text, citations = "", []
        try:
            for event in stream["stream"]:
                text += event.get("output", {}).get("text", "")
                citations += [event["citation"]] if "citation" in event else []
        except EventStreamError as error:
            return text, citations, str(error.response["Error"]["Code"])
        return text, citations, None

    return await asyncio.to_thread(to_its_end)


@asynccontextmanager
async def modelled(
    database_url: str, redis_url: str, folder: Path, url: str, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose models file names one model, `large`."""
    path = folder / "models.yaml"
    entry = {"kind": "local", "model": "amazon.nova-pro-v1:0", "base_url": url, "price": "free", **more}
    body = {"providers": {"large": entry}, "routes": {"default": {"primary": "large"}}}
    path.write_text(yaml.safe_dump(body), "utf-8")
    async with knowing(database_url, redis_url, models_file=path) as client:
        yield client


async def test_a_model_answers_and_code_says_what_it_rests_on(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """By name or ARN; its marks become citations; what was said before is shown to it; a template is the caller's."""
    busy = Reply(status=429)  # a busy model is asked once more
    replies = (Reply("A window visit takes 4 hours [1]. Nothing else [9]."), Reply("Six [1]."), Reply("Brief [1]."))
    lane = await models.lane(*replies, busy, busy, Reply(status=401))
    async with modelled(database_url, redis_url, tmp_path, lane.url("openai")) as client:
        base, runtime = await base_id(client), aws(client)
        arn = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0"
        answer = await call(runtime.retrieve_and_generate, **asking(base, model=arn))
        assert answer["output"]["text"] == "A window visit takes 4 hours. Nothing else."
        (citation,) = answer["citations"]
        assert citation["generatedResponsePart"]["textResponsePart"]["span"] == {"start": 0, "end": 28}
        assert citation["retrievedReferences"][0]["metadata"]["document_id"] == "guides/windows.md"

        follow = asking(base, "And fences?", model="large")
        await call(runtime.retrieve_and_generate, **follow, sessionId=answer["sessionId"])
        template = {"promptTemplate": {"textPromptTemplate": "As a pirate: $search_results$ $query$"}}
        await call(runtime.retrieve_and_generate, **asking(base, model="default", generationConfiguration=template))
        told = [request.body["messages"] for request in await lane.requests()]
        assert "Keep three feet clear" in told[0][-1]["content"]
        assert "margin" not in str(told)
        assert [each["role"] for each in told[1]] == ["system", "user", "assistant", "user"]
        assert told[1][2]["content"] == answer["output"]["text"]
        assert told[2][-1]["content"].startswith("As a pirate: <data>")
        assert "write its number in brackets" not in str(told[2])
        await refused(runtime.retrieve_and_generate, "ThrottlingException", **asking(base, model="large"))
        await refused(runtime.retrieve_and_generate, "DependencyFailedException", **asking(base, model="large"))
        assert 'provider="large"' in (await client.get("/metrics")).text


async def test_a_stream_is_bedrocks(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text as it comes, citations after their text; errors before it have a status, later ones are its last event.

    While a model is silent something is sent that clients leave aside; who leaves ends the model call.
    """
    words = ("Windows take 4 ", "hours [", "1]. ", "Free.")
    broken = Reply(words, delay_between_s=0.05, fault_in_stream=2)
    hanging, busy = Reply(words, hang_after=2), Reply(status=429)
    slow = Reply("Slowly [1].", delay_first_s=0.4)
    lane = await models.lane(Reply(words), broken, busy, busy, slow, hanging)
    async with modelled(database_url, redis_url, tmp_path, lane.url("openai")) as client:
        base, runtime = await base_id(client), aws(client)
        stream = await call(runtime.retrieve_and_generate_stream, **asking(base, model="large"))
        text, citations, failure = await read(stream)
        assert (text, failure) == ("Windows take 4 hours. Free.", None)
        (event,) = citations
        cited = event["generatedResponsePart"]["textResponsePart"]
        assert cited == {"text": "Windows take 4 hours.", "span": {"start": 0, "end": 20}}
        assert event["citation"]["generatedResponsePart"]["textResponsePart"] == cited
        assert event["retrievedReferences"] == event["citation"]["retrievedReferences"]
        assert len(stream["sessionId"]) == 36
        arguments = {**asking(base, model="large"), "sessionId": stream["sessionId"]}
        text, _, failure = await read(await call(runtime.retrieve_and_generate_stream, **arguments))
        assert text.startswith("Windows take")
        assert failure == "badGatewayException"
        await refused(runtime.retrieve_and_generate_stream, "ThrottlingException", **asking(base, model="large"))

        monkeypatch.setattr(bedrock_knowledge, "HEARTBEAT_S", 0.05)
        patient = await client.post("/retrieveAndGenerateStream", json=asking(base, model="large"))
        assert patient.content.count(b"ping") >= 3
        buffer = EventStreamBuffer()
        buffer.add_data(patient.content)
        assert [each.headers[":event-type"] for each in buffer][-2:] == ["output", "citation"]

        before = await lane.open_streams()
        url, body = "/retrieveAndGenerateStream", asking(base, model="large")
        async with client.stream("POST", url, json=body) as begun:
            assert begun.headers["content-type"] == "application/vnd.amazon.eventstream"
            assert begun.headers["transfer-encoding"] == "chunked"
            async for _ in begun.aiter_bytes():
                break
        await lane.until(open=0, cut_off=before.cut_off + 1)


RAW: list[tuple[bytes, str]] = [
    (b"{", "application/json"),
    (b"[]", "application/json"),
    (b"\xff\xfe", "application/json"),
    (b"{}", "text/plain"),
    (b'{"retrievalQuery": {"text": "\\u0000"}, "input": {"text": "\\u0000"}}', "application/json"),
    (b'{"retrievalQuery": {"text": "' + b"x" * 300_000 + b'"}}', "application/json"),
    (
        b'{"retrievalQuery": {"text": "a"}, "retrievalConfiguration": {"vectorSearchConfiguration": {"filter": '
        b'{"equals": {"key": "a", "value": 1e999}}}}}',
        "application/json",
    ),
]


async def test_no_bytes_get_another_answer_than_bedrocks(database_url: str, redis_url: str) -> None:
    """Whatever comes: its shape, its header, a 4xx."""
    async with knowing(database_url, redis_url, loaded=False) as client:
        base = await base_id(client)
        paths = [f"/knowledgebases/{base}/retrieve", "/retrieveAndGenerate", "/retrieveAndGenerateStream"]
        for path in paths:
            for content, media_type in RAW:
                answer = await client.post(path, content=content, headers={"content-type": media_type})
                is_wire_error(answer, 400, "ValidationException")
        is_wire_error(await client.get(paths[0]), 404, "UnknownOperationException")
        is_wire_error(await client.post("/knowledgebases/x/y", json={}), 404, "UnknownOperationException")
        question = {"retrievalQuery": {"text": "visit"}}
        is_wire_error(await client.post("/knowledgebases/x/retrieve", json=question), 400, "ValidationException")
        foreign = {"host": "evil.example"}
        is_wire_error(await client.post(paths[0], json={}, headers=foreign), 403, "AccessDeniedException")
        empty = (await client.post(paths[0], json=question, headers=OPS)).json()
        assert empty["retrievalResults"] == []
        assert empty["reason"] != "ok"


def is_wire_error(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (status, code), answer.text
    assert set(answer.json()) == {"message"}
    assert answer.headers["x-amzn-requestid"]
