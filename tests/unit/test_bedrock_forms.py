"""Bedrock's knowledge base operations: bodies read, results and frames written; held against botocore's own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import orjson
import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel, Shape
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import InvalidRequest, ModelBusy, ModelTimeout, ModelUnavailable, StoreUnavailable
from backend.api.bedrock import errors, event_stream, pages, requests, results
from knowledge_base import errors as kb
from knowledge_base.filters import Leaf
from knowledge_base.retrieval.base import Passage, SearchResult

AWS: ServiceModel = botocore.session.get_session().get_service_model("bedrock-agent-runtime")
ARN = "arn:aws:bedrock:eu-west-1:123456789012:knowledge-base/ABCDE12345"
PASSAGE = Passage(
    "faq-01", 3, "s3://docs/faq-01.md", "Booking", "Booking > How", 2, 10, 30, "Ask the assistant.", 0.75,
    "00112233445566ff", {"audience": ["residential"], "year": 2026, "chunk": "theirs"}, "s3://docs", {"lexical": 0.7},
)  # fmt: skip


def retrieve_body(**more: Any) -> dict[str, Any]:
    return {"retrievalQuery": {"text": "When?"}, **more}


def vector(**more: Any) -> dict[str, Any]:
    return retrieve_body(retrievalConfiguration={"vectorSearchConfiguration": more})


def answer_body(generation: Any = None, base: Any = None, **more: Any) -> dict[str, Any]:
    inner = {"knowledgeBaseId": "ABCDE12345", "modelArn": "offline", **(base or {})}
    if generation is not None:
        inner["generationConfiguration"] = generation
    configuration = {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": inner}
    return {"input": {"text": "When?"}, "retrieveAndGenerateConfiguration": configuration, **more}


def sampling(**more: Any) -> dict[str, Any]:
    return answer_body({"inferenceConfig": {"textInferenceConfig": more}})


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_whole_body_of_retrieve_is_read() -> None:
    """With what AWS leaves open: five results, words and meaning; unknown members are left aside."""
    assert requests.read_retrieve(orjson.dumps(retrieve_body(new="member"))).retrieval == requests.Retrieval()
    where = {"equals": {"key": "year", "value": 2026}}
    body = vector(numberOfResults=100, overrideSearchType="SEMANTIC", filter=where) | {
        "nextToken": "abc", "userContext": {"userId": "c2"}, "retrievalQuery": {"text": "When?", "type": "TEXT"},
    }  # fmt: skip
    read = requests.read_retrieve(orjson.dumps(body))
    assert (read.query, read.next_token) == ("When?", "abc")
    assert read.retrieval == requests.Retrieval(100, "vector", Leaf("equals", "year", 2026), "c2")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "retrievalQuery"),
        ({"retrievalQuery": "When?"}, "retrievalQuery"),
        ({"retrievalQuery": {}}, "retrievalQuery.text"),
        ({"retrievalQuery": {"text": " "}}, "retrievalQuery.text"),
        ({"retrievalQuery": {"text": "a\x00b"}}, "body"),
        ({"retrievalQuery": {"text": "x" * 20_001}}, "retrievalQuery.text"),
        ({"retrievalQuery": {"type": "IMAGE", "image": {"format": "png"}}}, "retrievalQuery.image"),
        (vector(numberOfResults=0), "retrievalConfiguration.vectorSearchConfiguration.numberOfResults"),
        (vector(numberOfResults=101), "retrievalConfiguration.vectorSearchConfiguration.numberOfResults"),
        (vector(numberOfResults="5"), "retrievalConfiguration.vectorSearchConfiguration.numberOfResults"),
        (vector(overrideSearchType="LEXICAL"), "retrievalConfiguration.vectorSearchConfiguration.overrideSearchType"),
        (vector(filter={}), "retrievalConfiguration.vectorSearchConfiguration.filter"),
        (vector(filter={"andAll": [{"equals": {"key": "a", "value": 1}}]}),
         "retrievalConfiguration.vectorSearchConfiguration.filter.andAll"),
        (vector(filter={"greaterThan": {"key": "a", "value": "1"}}),
         "retrievalConfiguration.vectorSearchConfiguration.filter.greaterThan.value"),
        (vector(rerankingConfiguration={"type": "BEDROCK_RERANKING_MODEL"}),
         "retrievalConfiguration.vectorSearchConfiguration.rerankingConfiguration"),
        (vector(implicitFilterConfiguration={}),
         "retrievalConfiguration.vectorSearchConfiguration.implicitFilterConfiguration"),
        (retrieve_body(retrievalConfiguration={"managedSearchConfiguration": {}}),
         "retrievalConfiguration.managedSearchConfiguration"),
        (retrieve_body(guardrailConfiguration={"guardrailId": "a", "guardrailVersion": "1"}), "guardrailConfiguration"),
        (retrieve_body(nextToken="x" * 2049), "nextToken"),
        (retrieve_body(userContext={}), "userContext.userId"),
    ],
)  # fmt: skip
def test_what_cannot_be_retrieved_names_its_field(body: Any, field: str) -> None:
    assert refused_field(requests.read_retrieve, orjson.dumps(body)) == field


def refused_field(read: Callable[[bytes], object], body: bytes) -> str | None:
    """Which field is refused, if one is."""
    try:
        read(body)
    except (InvalidRequest, kb.InvalidRequest) as error:
        return error.field or "unnamed"
    return None


KB = "retrieveAndGenerateConfiguration.knowledgeBaseConfiguration"
GENERATION = f"{KB}.generationConfiguration"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": {"text": "x" * 1001}}, "input.text"),
        ({"input": {"text": "When?"}}, "retrieveAndGenerateConfiguration"),
        (answer_body(sessionConfiguration={"kmsKeyArn": "arn"}), "sessionConfiguration"),
        (answer_body(sessionId="a b"), "sessionId"),
        ({"input": {"text": "a"}, "retrieveAndGenerateConfiguration": {
            "type": "EXTERNAL_SOURCES", "externalSourcesConfiguration": {"modelArn": "a", "sources": []}}},
         "retrieveAndGenerateConfiguration.externalSourcesConfiguration"),
        ({"input": {"text": "a"}, "retrieveAndGenerateConfiguration": {"type": "KNOWLEDGE_BASE"}}, KB),
        (answer_body(base={"knowledgeBaseId": "short"}), f"{KB}.knowledgeBaseId"),
        (answer_body(base={"modelArn": None}), f"{KB}.modelArn"),
        (answer_body(base={"orchestrationConfiguration": {
            "queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"}}}), f"{KB}.orchestrationConfiguration"),
        (answer_body(base={"retrievalConfiguration": {"vectorSearchConfiguration": {"numberOfResults": 0}}}),
         f"{KB}.retrievalConfiguration.vectorSearchConfiguration.numberOfResults"),
        (answer_body({"guardrailConfiguration": {}}), f"{GENERATION}.guardrailConfiguration"),
        (answer_body({"performanceConfig": {"latency": "optimized"}}), f"{GENERATION}.performanceConfig.latency"),
        (answer_body({"additionalModelRequestFields": {"top_k": 5}}), f"{GENERATION}.additionalModelRequestFields"),
        (sampling(temperature=0.1), f"{GENERATION}.inferenceConfig.textInferenceConfig.temperature"),
        (sampling(maxTokens=5), f"{GENERATION}.inferenceConfig.textInferenceConfig.maxTokens"),
        (answer_body({"promptTemplate": {"textPromptTemplate": "Be brief. $query$"}}),
         f"{GENERATION}.promptTemplate.textPromptTemplate"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_names_its_field(body: Any, field: str) -> None:
    """What AWS knows and is not offered here is never left aside in silence."""
    assert refused_field(requests.read_answer, orjson.dumps(body)) == field


def test_what_changes_nothing_is_taken() -> None:
    """Empty parts, null, the usual latency, an ARN in place of the id."""
    body = answer_body(
        {"performanceConfig": {"latency": "standard"}, "inferenceConfig": {"textInferenceConfig": {"topP": None}},
         "additionalModelRequestFields": {}, "promptTemplate": {"textPromptTemplate": "$search_results$"}},
        {"knowledgeBaseId": ARN}, sessionId=None, userContext={"userId": "c1"},
    )  # fmt: skip
    read = requests.read_answer(orjson.dumps(body))
    assert (read.base, read.template, read.retrieval.user) == ("ABCDE12345", "$search_results$", "c1")


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0", "eu.amazon.nova-pro-v1:0"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("large", "large"),
    ],
)
def test_a_model_is_named_by_its_arn_or_by_itself(arn: str, name: str) -> None:
    assert requests.model_name(arn) == name


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["retrievalQuery", "text", "retrievalConfiguration", "vectorSearchConfiguration", "filter", "andAll",
                 "equals", "key", "value", "input", "retrieveAndGenerateConfiguration", "knowledgeBaseConfiguration",
                 "type", "nextToken", "numberOfResults", "generationConfiguration", "promptTemplate", "userContext"]
            ),
            inner, max_size=4,
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_no_body_breaks_the_reader(body: Any) -> None:
    """It is read, or refused by name; nothing else."""
    for read in (requests.read_retrieve, requests.read_answer):
        assert refused_field(read, orjson.dumps(body)) != "unnamed"


DEEP = [b"[" * 5000 + b"]" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"null", *DEEP])
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        requests.read_retrieve(raw)


# --- results ----------------------------------------------------------------------------------------------------------


def parsed(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """A body as botocore gives it to its caller, once every member has the type that its model says."""
    shape = AWS.operation_model(operation).output_shape
    assert shape is not None
    assert list(strangers(shape, body)) == []
    response = {"body": orjson.dumps(body), "headers": {}, "status_code": 200}
    return create_parser("rest-json").parse(response, shape)  # type: ignore[no-any-return]


def strangers(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """Members that are missing, or not of their shape's type. Ours beside them (at the top) are let be."""
    kinds: dict[str, Any] = {
        "structure": dict, "map": dict, "list": list, "string": str, "integer": int, "double": float, "float": float,
    }  # fmt: skip
    kind = shape.type_name
    if getattr(shape, "is_document_type", False):
        return
    if not isinstance(value, kinds[kind]):
        yield f"{path}: {value!r} is no {kind}"
    elif kind == "structure":
        members: Any = shape.members
        yield from (f"{path}.{name} is missing" for name in shape.required_members if name not in value)
        for name, each in value.items():
            if name in members:
                yield from strangers(members[name], each, f"{path}.{name}")
            elif path:
                yield f"{path}.{name} is not in the model"
    elif kind == "list":
        for n, each in enumerate(value):
            yield from strangers(shape.member, each, f"{path}[{n}]")


def test_what_was_retrieved_has_the_shape_of_the_model() -> None:
    found = SearchResult("When?", "hybrid", (PASSAGE,), "ok", "")
    body = parsed("Retrieve", results.retrieved(found, found.passages, "token"))
    (result,) = body["retrievalResults"]
    assert body["nextToken"] == "token"
    assert result["content"] == {"type": "TEXT", "text": PASSAGE.text}
    assert result["location"] == {"type": "S3", "s3Location": {"uri": PASSAGE.uri}}
    assert (result["score"], result["documentId"]) == (0.75, "faq-01")
    metadata = result["metadata"]
    assert (metadata["audience"], metadata["year"]) == (["residential"], 2026)
    # What we say of a passage outdoes an attribute of the same name.
    assert metadata["chunk"] == metadata["x-amz-bedrock-kb-chunk-id"] == PASSAGE.chunk
    assert metadata["x-amz-bedrock-kb-source-uri"] == PASSAGE.uri
    assert metadata["x-amz-bedrock-kb-document-page-number"] == metadata["page"] == 2
    assert len(metadata["x-amz-bedrock-kb-data-source-id"]) == 10
    assert (metadata["start"], metadata["end"], metadata["version"]) == (10, 30, 3)


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("https://a.example/b", {"type": "WEB", "webLocation": {"url": "https://a.example/b"}}),
        ("upload:faq-01", {"type": "CUSTOM", "customDocumentLocation": {"id": "faq-01"}}),
        ("file:///srv/faq-01.md", {"type": "CUSTOM", "customDocumentLocation": {"id": "faq-01"}}),
    ],
)
def test_where_a_document_is_goes_by_its_address(uri: str, location: Any) -> None:
    passage = Passage("faq-01", 1, uri, "", "", None, 0, 4, "text", 0.5, "00" * 8)
    assert results.location(passage) == location
    assert "x-amz-bedrock-kb-document-page-number" not in results.metadata(passage)


def test_an_answer_has_the_shape_of_the_model() -> None:
    """The last character of a span is counted in, as AWS does."""
    text = "It is free. Ask us."
    part = results.CitedPart(0, 11, "It is free.", (PASSAGE,))
    body = parsed("RetrieveAndGenerate", results.answered("s-1", text, [part]))
    assert (body["sessionId"], body["output"]["text"]) == ("s-1", text)
    (citation,) = body["citations"]
    cited = citation["generatedResponsePart"]["textResponsePart"]
    assert cited == {"text": "It is free.", "span": {"start": 0, "end": 10}}
    assert text[cited["span"]["start"] : cited["span"]["end"] + 1] == cited["text"]
    assert citation["retrievedReferences"][0]["content"]["text"] == PASSAGE.text


def test_a_citation_in_a_stream_is_in_both_forms() -> None:
    event = results.citation_event(results.CitedPart(0, 2, "It", (PASSAGE,)))
    shape = AWS.shape_for("CitationEvent")
    assert list(strangers(shape, event, "citation")) == []
    assert event["citation"] == {key: event[key] for key in ("generatedResponsePart", "retrievedReferences")}


# --- frames -----------------------------------------------------------------------------------------------------------


def test_the_worked_example_comes_out_to_the_byte() -> None:
    """Checksums and lengths as AWS writes them, in the order of headers that botocore reads."""
    message = event_stream.event("chunk", {"bytes": "SGVsbG8="})
    assert message[:8].hex(" ") == f"00 00 00 {len(message):02x} 00 00 00 4b"
    (frame,) = read_frames(message)
    headers = {":event-type": "chunk", ":message-type": "event", ":content-type": "application/json"}
    assert frame == (headers, b'{"bytes":"SGVsbG8="}')


def read_frames(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """Messages as botocore's parser reads them; it verifies both checksums."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(each.headers, each.payload) for each in buffer]


def test_frames_are_read_by_botocore_wherever_they_are_cut() -> None:
    sent = event_stream.event("output", {"text": "Ärger 需要"}) + event_stream.exception("throttlingException", "busy")
    buffer = EventStreamBuffer()
    found = []
    for n in range(len(sent)):
        buffer.add_data(sent[n : n + 1])
        found += [(each.headers, orjson.loads(each.payload)) for each in buffer]
    assert [body for _, body in found] == [{"text": "Ärger 需要"}, {"message": "busy"}]
    assert found[1][0][":message-type"] == "exception"
    assert found[1][0][":exception-type"] == "throttlingException"


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_good_for_its_question_only() -> None:
    keys = [f"{n:016x}" for n in range(100)]
    token = pages.write(keys, ["When?", 5])
    assert len(token) <= 2048
    assert pages.read(token, ["When?", 5]) == keys
    changed = ("B" if token[0] == "A" else "A") + token[1:]
    bad: list[tuple[str, list[Any]]] = [(token, ["When?", 6]), (changed, ["When?", 5]), (token[:-12], ["When?", 5])]
    for other, question in (*bad, ("", []), ("%", [])):
        with pytest.raises(InvalidRequest) as wrong:
            pages.read(other, question)
        assert wrong.value.field == "nextToken"


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x", field="a"), "ValidationException"),
        (kb.InvalidRequest("filter", "is odd"), "ValidationException"),
        (kb.NotFound("no base"), "ResourceNotFoundException"),
        (kb.IndexMismatch("other model"), "ConflictException"),
        (kb.StoreUnreachable("gone"), "BadGatewayException"),
        (kb.EmbeddingFailed("gone"), "DependencyFailedException"),
        (kb.TextTooLong("long"), "ValidationException"),
        (ModelBusy(), "ThrottlingException"),
        (ModelUnavailable(), "BadGatewayException"),
        (ModelTimeout(), "DependencyFailedException"),
        (StoreUnavailable("secret host"), "InternalServerException"),
        (ZeroDivisionError("secret"), "InternalServerException"),
    ],
)
def test_errors_have_codes_of_the_model(error: Exception, code: str) -> None:
    """Each is one that the operations declare; what nobody foresaw says nothing of itself."""
    told = errors.error_of(error)
    assert told.code == code
    shapes = AWS.operation_model("Retrieve").error_shapes
    declared = {each.name: each.metadata["error"]["httpStatusCode"] for each in shapes}
    assert errors.STATUS[code] == declared[code]
    assert "secret" not in told.message
