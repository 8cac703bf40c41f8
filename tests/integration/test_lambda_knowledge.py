"""The knowledge group as a function: Bedrock's Retrieve over a real socket, and the same results as in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.doubles.documents import Library, Section, shipped
from tests.doubles.world import CUSTOMER, OFFICES, World
from tests.integration.test_lambda_handlers import serve_of
from tools.contract import JsonObject
from tools.in_process import InProcess
from tools.knowledge import ACTIONS
from tools.lambda_events import Operation, Session, event_for, read_response
from tools.lambda_handler import attributes_of

BASE = "KB12345678"
QUESTION = {"query": "is there a fee for cancelling?", "max_results": 3}


@dataclass
class Service:
    """Answers Retrieve from a library, or with what it is told to say."""

    library: Library = field(default_factory=lambda: Library(shipped()))
    says: tuple[int, bytes] | None = None
    asked: list[tuple[web.BaseRequest, bytes]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.asked.append((request, body))
        if self.says is not None:
            return web.Response(status=self.says[0], body=self.says[1])
        wanted = json.loads(body)
        search = wanted["retrievalConfiguration"]["vectorSearchConfiguration"]
        query = wanted["retrievalQuery"]["text"]
        found = await self.library.search(query, search["numberOfResults"], None)
        return web.json_response(
            {
                "retrievalResults": [_result(each) for each in found["passages"]],
                "reason": found["reason"],
                "explanation": found["explanation"],
            }
        )


def _result(passage: JsonObject) -> JsonObject:
    metadata = {**passage["attributes"], **{key: passage[key] for key in passage if key not in ("text", "attributes")}}
    location = {"type": "CUSTOM", "customDocumentLocation": {"id": passage["document_id"]}}
    content = {"type": "TEXT", "text": passage["text"]}
    return {"content": content, "location": location, "metadata": metadata, "score": passage["score"]}


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Service]:
    found = Service()
    runner = web.ServerRunner(web.Server(found.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (tmp_path / "directory.json").write_text(json.dumps(OFFICES.to_json()))
    monkeypatch.setenv("DIRECTORY_JSON", str(tmp_path / "directory.json"))
    monkeypatch.setenv("KNOWLEDGE_BASE_URL", found.url)
    monkeypatch.setenv("KNOWLEDGE_BASE_ID", BASE)
    yield found
    await runner.cleanup()


async def call(args: JsonObject, **prompt: str) -> Any:
    """The body of the function's answer to one event of Bedrock, for a private customer."""
    attributes = attributes_of(World().context())
    session = Session("s-1", "hello", attributes, prompt)
    schema = {"properties": {"query": {"type": "string"}, "max_results": {"type": "integer"}}}
    event = event_for(Operation("knowledge", "search_knowledge_base"), args, schema, session)
    return read_response(await serve_of("knowledge")(event)).body


async def test_the_function_finds_what_the_tool_finds_here(service: Service) -> None:
    """For Bedrock at one go, for us step by step: the same passages in the same form."""
    ctx = replace(World().context(), knowledge=service.library)
    here = InProcess(ACTIONS)
    prepared = await here.prepare("search_knowledge_base", QUESTION, ctx)
    expected = (await here.execute(prepared, ctx)).data
    assert len(expected["passages"]) == 3
    for body in (await call(QUESTION), (await call(QUESTION, outcrop_operation="execute"))["data"]):
        assert _alike(body) == _alike(expected)
    request, body = service.asked[0]
    assert (request.method, request.path) == ("POST", f"/knowledgebases/{BASE}/retrieve")
    assert "authorization" not in request.headers
    assert json.loads(body)["retrievalQuery"] == {"text": QUESTION["query"]}


def _alike(result: JsonObject) -> JsonObject:
    return {key: value for key, value in result.items() if key not in ("milliseconds", "knowledge_base")}


async def test_documents_for_others_take_no_place(service: Service) -> None:
    """A base that cannot be told who reads is asked for more, until there are enough for the caller."""
    staff = [Section(f"staff-{n}", "Fees", "Fees", "Fee for cancelling.", {"audience": "staff"}) for n in range(12)]
    text = "There is no fee for cancelling early, nor for moving."
    service.library = Library([*staff, Section("own", "Fees", "Fees", text, {"audience": ["Customer"]})])
    found = await call(QUESTION)
    assert [each["document_id"] for each in found["passages"]] == ["own"]
    counts = [
        json.loads(body)["retrievalConfiguration"]["vectorSearchConfiguration"]["numberOfResults"]
        for _, body in service.asked
    ]
    assert counts == [3, 9, 27]


async def test_requests_are_signed_where_that_is_wanted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """As botocore signs them; a token takes the place of a signature."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "se/cret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("KNOWLEDGE_BASE_SIGN", "1")
    await call(QUESTION)
    request, body = service.asked[-1]
    signed = {name: request.headers[name] for name in ("content-type", "host", "x-amz-date")}
    theirs = AWSRequest("POST", f"{service.url}{request.path}", headers=signed, data=body)
    theirs.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials("AKID", "se/cret"), "bedrock", "eu-west-1")
    proof = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert request.headers["authorization"].endswith(f"Signature={proof}")
    monkeypatch.setenv("KNOWLEDGE_BASE_TOKEN", "a-token")
    await call(QUESTION)
    assert service.asked[-1][0].headers["authorization"] == "Bearer a-token"


async def test_a_base_of_amazons_is_read_as_it_comes(service: Service) -> None:
    """Its metadata has other names, and no spans; a score may be missing."""
    uri = "s3://docs/guides/fees.pdf"
    metadata = {"x-amz-bedrock-kb-source-uri": uri, "x-amz-bedrock-kb-document-page-number": 3.0, "audience": "all"}
    location = {"type": "S3", "s3Location": {"uri": uri}}
    result = {"content": {"text": "No fee."}, "location": location, "metadata": metadata}
    service.says = 200, json.dumps({"retrievalResults": [result, "odd"]}).encode()
    (passage,) = (await call(QUESTION))["passages"]
    assert (passage["document_id"], passage["title"], passage["page"]) == (uri, "fees.pdf", 3)
    assert (passage["start"], passage["end"], passage["version"], passage["uri"]) == (0, 7, None, "")


@pytest.mark.parametrize(
    "says", [(500, b"oops"), (403, b'{"message": "no"}'), (200, b"not json"), (200, b"[1]"), (302, b"")]
)
async def test_a_base_that_gives_no_answer_is_an_error_that_models_understand(
    service: Service, says: tuple[int, bytes]
) -> None:
    """No internals, no exception: the agent goes on without it."""
    service.says = says
    body = await call(QUESTION)
    assert (body["ok"], body["code"], body["retryable"]) == (False, "knowledge_unavailable", True)
    assert service.url not in json.dumps(body)


async def test_without_a_base_or_with_nobody_there_the_answer_is_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is named, or nobody listens."""
    monkeypatch.setenv("KNOWLEDGE_BASE_URL", "http://127.0.0.1:9")
    assert (await call(QUESTION))["code"] == "knowledge_unavailable"
    monkeypatch.delenv("KNOWLEDGE_BASE_URL")
    assert (await call(QUESTION))["code"] == "knowledge_unavailable"
    assert CUSTOMER.client_id in OFFICES.locations
