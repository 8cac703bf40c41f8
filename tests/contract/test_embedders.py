"""Every kind of embedding model keeps the same promises; then what each does when its server or its files do not."""

from __future__ import annotations

import asyncio
import hashlib
import math
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web

from knowledge_base.embedding import weights
from knowledge_base.embedding.base import Embedder
from knowledge_base.embedding.bedrock import BedrockEmbedder
from knowledge_base.embedding.cached import CachedEmbedder, forget, text_hash
from knowledge_base.embedding.calls import Pace
from knowledge_base.embedding.onnx import OnnxEmbedder
from knowledge_base.embedding.openai import OpenAIEmbedder
from knowledge_base.embedding.opening import EmbeddingConfig, keeping, make_embedder
from knowledge_base.embedding.prefixes import prefixes_of
from knowledge_base.errors import EmbeddingFailed, StoreUnreachable, TextTooLong
from tests.doubles.model_service import Lane, ModelService, Vectors
from tests.doubles.model_service.embedding_form import vector_of
from tests.doubles.tiny_onnx import table, write_encoder

QUICK = Pace(concurrent=3, first_pause_s=0.001, tries=3)
TITAN, COHERE3, COHERE4 = "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3", "eu.cohere.embed-v4:0"
KEY = "sk-secret-0123456789"


@pytest_asyncio.fixture
async def lane(models: ModelService) -> Lane:
    """A lane that answers with vectors of eight numbers."""
    return await models.lane()


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to an empty database."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as opened:
        yield opened


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without anything of AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


OPEN: list[Embedder] = []
Kind = TypeVar("Kind", bound=Embedder)


@pytest_asyncio.fixture(autouse=True)
async def closed_at_the_end() -> AsyncIterator[None]:
    """Connections of every embedder that a test made."""
    yield
    while OPEN:
        await OPEN.pop().close()


def closed_later(embedder: Kind) -> Kind:
    """The same, to be closed when the test ends."""
    OPEN.append(embedder)
    return embedder


def openai(lane: Lane, model: str = "model-1", **options: Any) -> OpenAIEmbedder:
    """Of this lane."""
    return closed_later(OpenAIEmbedder(model, url=lane.url("openai"), **{"pace": QUICK, **options}))


def bedrock(lane: Lane, model: str = TITAN, **options: Any) -> BedrockEmbedder:
    """Of this lane."""
    return closed_later(BedrockEmbedder(model, endpoint_url=lane.url("bedrock"), **{"pace": QUICK, **options}))


def onnx(folder: Path, **options: Any) -> OnnxEmbedder:
    """Of the weights in a folder."""
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    return OnnxEmbedder(str(folder), digest, data_dir=folder, **options)


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["embedded", "openai", "titan", "cohere3", "cohere4", "onnx", "kept"])
def embedder(request: pytest.FixtureRequest, lane: Lane, tmp_path: Path, no_credentials: None) -> Embedder:
    """One of each kind."""
    match request.param:
        case "embedded":
            return made(EmbeddingConfig("embedded"))
        case "openai":
            return openai(lane)
        case "titan":
            return bedrock(lane, dimensions=256)
        case "cohere3":
            return bedrock(lane, COHERE3)
        case "cohere4":
            return bedrock(lane, COHERE4, dimensions=512)
        case "onnx":
            return onnx(write_encoder(tmp_path))
    return CachedEmbedder(openai(lane), request.getfixturevalue("pool"), "default")


def made(config: EmbeddingConfig) -> Embedder:
    """What a configuration gives, which must not be nothing."""
    embedder = make_embedder(config)
    assert embedder is not None
    return closed_later(embedder)


async def test_embedder_keeps_its_promises(embedder: Embedder) -> None:
    """Unit vectors of the model's dimension in the texts' order, the same alone and among others, near when alike."""
    model = await embedder.identify()
    assert model == embedder.model == await embedder.identify()
    assert model.name
    assert model.dimension > 1

    texts = ["the refund takes days", "a new roof", "a new window", "the refund takes days"] + ["roof"] * 70
    vectors = await embedder.documents(texts)
    assert vectors.shape == (len(texts), model.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[3], atol=1e-3)
    assert not np.allclose(vectors[0], vectors[1], atol=0.1)
    assert np.allclose(await embedder.documents([texts[1]]), vectors[1:2], atol=2e-3)
    assert (await embedder.documents([])).shape == (0, model.dimension)

    question = await embedder.query("the refund days")
    assert question.shape == (model.dimension,)
    assert question.dtype == np.float32
    assert np.isclose(np.linalg.norm(question), 1, atol=1e-5)
    assert int(np.argmax(vectors @ question)) in (0, 3)

    side_by_side = await asyncio.gather(*(embedder.query(text) for text in texts[:3]))
    assert np.allclose(side_by_side[0], await embedder.query(texts[0]), atol=1e-3)
    await embedder.close()
    await embedder.close()


# --- servers that speak OpenAI's API --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Vectors(status=429, headers={"retry-after": "0"}),
        Vectors(status=429),
        Vectors(status=500),
        Vectors(status=503, error="loading"),
        Vectors(cut=True),
    ],
    ids=["throttled", "throttled without a word", "failed", "loading", "cut off"],
)
async def test_passing_fault_is_tried_again(lane: Lane, fault: Vectors) -> None:
    """Twice not, then vectors: nobody hears of it."""
    await lane.script_vectors(fault, fault, Vectors())
    vectors = await openai(lane).documents(["a roof", "a window"])
    wanted = np.array([vector_of(text, 8) / np.linalg.norm(vector_of(text, 8)) for text in ("a roof", "a window")])
    assert np.allclose(vectors, wanted, atol=1e-5)
    assert len(await lane.requests()) == 3


@pytest.mark.parametrize(
    ("answer", "words", "tries"),
    [
        (Vectors(status=500), "fails, 3 times in a row (500", 3),
        (Vectors(status=429), "throttling, 3 times", 3),
        (Vectors(status=429, headers={"retry-after": "3600"}), "throttling, 1 times", 1),
        (Vectors(status=429, error={"message": "no money", "code": "insufficient_quota"}), "quota is used up", 1),
        (Vectors(status=401, error=f"Incorrect API key provided: {KEY}"), "check KB_EMBEDDING_KEY", 1),
        (Vectors(status=404, error="model not found"), "KB_EMBEDDING_MODEL, and that KB_EMBEDDING_URL", 1),
        (Vectors(status=400, error=f"odd header Bearer {KEY}"), "odd header Bearer …", 1),
        (Vectors(status=301), "refuses (301", 1),
        (Vectors(cut=True), "the connection failed", 3),
        (Vectors(missing=1), "for 1 places of 2 texts", 1),
        (Vectors(missing=1, without_index=True), "for 1 places of 2 texts", 1),
        (Vectors(numbers=("nan",) * 8), "NaN", 1),
        (Vectors(numbers=("inf",) * 8), "NaN or infinity", 1),
        (Vectors(numbers=("nan",) * 8, takes=()), "NaN", 2),
        (Vectors(numbers=(0.0,) * 8), "zeros", 1),
        (Vectors(numbers=(1.0,) * 5), "no equally long lists of numbers", 1),
        (Vectors(raw="<html>"), "does not answer as OpenAI does; check KB_EMBEDDING_URL", 1),
        (Vectors(raw='{"data": [1]}'), "does not answer as OpenAI does", 1),
        (Vectors(raw='{"data": [{"embedding": "?"}, {"embedding": "?"}]}'), "does not answer as OpenAI does", 1),
    ],
)
async def test_lasting_fault_is_told(lane: Lane, answer: Vectors, words: str, tries: int) -> None:
    """The message names the server and the fix, and the key is nowhere."""
    await lane.script_vectors(answer)
    embedder = openai(lane, key=KEY)
    with pytest.raises(EmbeddingFailed) as failed:
        await embedder.documents(["a roof", "a window"])
    message = str(failed.value)
    assert words in message
    assert "http://127.0.0.1:" in message
    assert lane.id not in message  # no path of an address, which may hold a secret
    told = "".join(str(each) + repr(each) for each in (failed.value, failed.value.__cause__, embedder))
    assert KEY not in told
    requests = await lane.requests()
    assert len(requests) == tries
    assert requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_silent_and_absent_servers_are_told(lane: Lane) -> None:
    """One that does not answer in time, and one that is not there."""
    await lane.script_vectors(Vectors(delay_s=30))
    slow = openai(lane, pace=Pace(tries=1, timeout_s=0.05))
    with pytest.raises(EmbeddingFailed, match=r"did not answer within 0\.05 s, 1 times; see that it runs"):
        await slow.documents(["a"])
    absent = closed_later(OpenAIEmbedder("m", url="http://user:hidden@127.0.0.1:1/v1", pace=QUICK))
    with pytest.raises(EmbeddingFailed, match=r"http://127\.0\.0\.1:1 cannot be used") as failed:
        await absent.query("a")
    assert "hidden" not in str(failed.value)


async def test_vectors_are_put_in_order(lane: Lane) -> None:
    """Servers may answer in any order; the index says which is which."""
    texts = [f"text {n}" for n in range(20)]
    in_order = await openai(lane).documents(texts)
    await lane.script_vectors(Vectors(shuffled=True))
    assert np.allclose(await openai(lane).documents(texts), in_order)


async def test_dimension_is_learned_once_and_held_to(lane: Lane) -> None:
    """Nothing is asked before somebody wants to know; a server that changes its model is found out."""
    embedder = openai(lane)
    assert await lane.requests() == []
    with pytest.raises(EmbeddingFailed, match="not asked yet"):
        _ = embedder.model
    assert (await embedder.identify()).dimension == 8
    await embedder.identify()
    assert len(await lane.requests()) == 1
    await lane.script_vectors(Vectors(dimension=5))
    with pytest.raises(EmbeddingFailed, match="vectors of 5 numbers, not 8; another model than model-1 answers there"):
        await embedder.documents(["a"])


async def test_dimension_of_known_models_needs_no_call(lane: Lane) -> None:
    """OpenAI's own, and any when the length is asked for; whoever does not shorten is told."""
    assert (await openai(lane, "text-embedding-3-small").identify()).dimension == 1536
    shortened = openai(lane, dimensions=4)
    assert (await shortened.identify()).dimension == 4
    assert await lane.requests() == []
    assert (await shortened.documents(["a"])).shape == (1, 4)
    assert (await lane.bodies())[0]["dimensions"] == 4
    await lane.script_vectors(Vectors(shortens=False))
    with pytest.raises(EmbeddingFailed, match="8 numbers, not 4"):
        await shortened.documents(["a"])


async def test_servers_that_know_less_are_asked_for_less(lane: Lane) -> None:
    """Numbers as text where base64 is not known; halves where fewer texts are taken, also from then on."""
    await lane.script_vectors(Vectors(takes=(), most_texts=5))
    embedder = openai(lane, pace=Pace(concurrent=1))
    texts = [f"text {n}" for n in range(12)]
    await lane.script_vectors(Vectors(takes=(), most_texts=5))
    first = await embedder.documents(texts)
    wanted = np.array([vector_of(text, 8) for text in texts])
    assert np.allclose(first, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)
    before = len(await lane.requests())
    assert np.allclose(await embedder.documents(texts), first)
    later = (await lane.bodies())[before:]
    assert [len(body["input"]) for body in later] == [3, 3, 3, 3]
    assert not any("encoding_format" in body for body in later)


async def test_too_long_text_is_told_apart(lane: Lane) -> None:
    """The loader can leave that document out and go on."""
    await lane.script_vectors(Vectors(longest=100))
    with pytest.raises(TextTooLong, match=r"longest has 300 characters: lower KB_CHUNK_CHARS"):
        await openai(lane).documents(["short", "x" * 300])


async def test_batches_are_bounded(lane: Lane) -> None:
    """By texts and by characters, and so many at once; more texts than one request takes come back in order."""
    texts = [f"text {n}" for n in range(200)] + ["x" * 75_000, "y" * 75_000]
    await lane.script_vectors(Vectors(delay_s=0.01))
    vectors = await openai(lane).documents(texts)
    sizes = [len(body["input"]) for body in await lane.bodies()]
    assert max(sizes) == 64
    assert sum(sizes) == len(texts)
    assert all(sum(map(len, body["input"])) <= 100_000 for body in await lane.bodies())
    assert await lane.most_at_once() <= 3
    wanted = vector_of(texts[150], 8)
    assert np.allclose(vectors[150], wanted / np.linalg.norm(wanted), atol=1e-5)


async def test_rate_is_held(lane: Lane) -> None:
    """Five requests at fifty a second cannot begin within less than four fiftieths."""
    embedder = openai(lane, pace=Pace(concurrent=5, requests_per_second=50))
    await embedder.identify()
    began = time.monotonic()
    await asyncio.gather(*(embedder.documents(["a"]) for _ in range(5)))
    assert time.monotonic() - began >= 0.08


async def test_question_waits_neither_for_a_load_nor_for_its_rate(lane: Lane) -> None:
    """It has a turn of its own, and is told when the server wants to be left alone."""
    slow = openai(lane, pace=Pace(concurrent=1, texts_per_second=0.1, tries=3))
    await slow.documents(["a"] * 64)
    assert (await slow.query("roof")).shape == (8,)
    await lane.script_vectors(Vectors(status=429, headers={"retry-after": "50"}), Vectors())
    busy = openai(lane, pace=Pace(tries=1))
    with pytest.raises(EmbeddingFailed, match="is throttling"):
        await busy.documents(["a"])
    with pytest.raises(EmbeddingFailed, match=r"is throttling.*wait for \d+ s"):
        await busy.query("roof")


async def test_failed_batch_ends_the_others(lane: Lane) -> None:
    """One error comes out, not a group, and nothing goes on behind it."""
    await lane.script_vectors(Vectors(delay_s=0.05), Vectors(status=400, error="no"), Vectors(delay_s=0.05))
    with pytest.raises(EmbeddingFailed, match="refuses"):
        await openai(lane).documents(["text"] * 640)
    assert len(await lane.requests()) <= 4


async def test_texts_get_the_prefix_of_their_model(lane: Lane) -> None:
    """By the model's name."""
    e5 = openai(lane, "intfloat/multilingual-e5-small")
    await e5.documents(["roof"])
    await e5.query("roof")
    assert [body["input"] for body in await lane.bodies()] == [["passage: roof"], ["query: roof"]]
    assert prefixes_of("nomic-embed-text:v1.5").document == "search_document: "
    assert prefixes_of("BAAI/bge-small-en-v1.5").query.startswith("Represent this sentence")
    assert prefixes_of("BAAI/bge-m3").query == prefixes_of("text-embedding-3-small").query == ""


# --- Bedrock --------------------------------------------------------------------------------------------------------


async def test_bedrock_requests_are_as_documented(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, no_credentials: None
) -> None:
    """Each family's body, signed for Bedrock, at an address whose colon is encoded."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    await bedrock(lane, dimensions=512).query("roof")
    await bedrock(lane, "amazon.titan-embed-text-v1").documents(["roof"])
    await bedrock(lane, COHERE3).documents(["roof", "window"])
    await bedrock(lane, COHERE4, dimensions=256).query("roof")
    requests = await lane.requests()
    common = {"truncate": "NONE", "embedding_types": ["float"]}
    assert [request.body for request in requests] == [
        {"inputText": "roof", "dimensions": 512, "normalize": True},
        {"inputText": "roof"},
        {"texts": ["roof", "window"], "input_type": "search_document", **common},
        {"texts": ["roof"], "input_type": "search_query", "output_dimension": 256, **common},
    ]
    assert requests[0].path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert "AKIDEXAMPLE/" in requests[0].headers["authorization"]
    assert "/us-east-1/bedrock/aws4_request" in requests[0].headers["authorization"]
    assert KEY not in str(requests)


async def test_bedrock_is_asked_as_boto3_asks(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, no_credentials: None
) -> None:
    """Path, and what is signed for whom."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    client = boto3.client("bedrock-runtime", endpoint_url=lane.url("bedrock"), region_name="eu-west-1")
    body = '{"inputText":"roof","dimensions":1024,"normalize":true}'
    await asyncio.to_thread(lambda: client.invoke_model(modelId=TITAN, body=body))
    await bedrock(lane).query("roof")
    theirs, ours = await lane.requests()
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    scope = "Credential=AKIDEXAMPLE/{}/eu-west-1/bedrock/aws4_request"
    for request in (theirs, ours):
        assert scope.format(request.headers["x-amz-date"][:8]) in request.headers["authorization"]


async def test_bedrock_faults_are_told(lane: Lane, no_credentials: None) -> None:
    """Throttling is waited for, what is wrong is named with its fix."""
    embedder = bedrock(lane)
    await lane.script_vectors(Vectors(status=429), Vectors(status=500), Vectors())
    assert (await embedder.documents(["roof"])).shape == (1, 1024)
    for answer, words in (
        (Vectors(status=429), "is throttling"),
        (Vectors(status=500), "fails, 3 times in a row"),
        (Vectors(status=403, error="not authorized"), "allow bedrock:InvokeModel on it"),
        (Vectors(status=400, error="The provided model identifier is invalid."), "see KB_EMBEDDING_MODEL"),
        (Vectors(raw='{"embedding": {}}'), "no equally long lists"),
        (Vectors(raw="{}"), "did not answer with vectors"),
        (Vectors(numbers=(0.0,) * 1024), "zeros"),
        (Vectors(numbers=(1.0,) * 7), "7 numbers, not 1024"),
    ):
        await lane.script_vectors(answer)
        with pytest.raises(EmbeddingFailed, match=words):
            await embedder.documents(["roof"])
    await lane.script_vectors(Vectors(longest=10))
    with pytest.raises(TextTooLong, match="longest has 40 characters: lower KB_CHUNK_CHARS"):
        await embedder.documents(["x" * 40])
    with pytest.raises(TextTooLong, match=r"3000 characters is too long for cohere\S+, which reads 2048"):
        await bedrock(lane, COHERE3).documents(["x" * 3000])


async def test_bedrock_needs_to_know_where_and_who(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, no_credentials: None
) -> None:
    """Models and dimensions that are not known, no region, an API key without TLS: each with its fix."""
    with pytest.raises(EmbeddingFailed, match=r"amazon\.nova-pro is no embedding model of Bedrock that is known here"):
        BedrockEmbedder("amazon.nova-pro")
    with pytest.raises(EmbeddingFailed, match="there are 1024, 512, 256"):
        BedrockEmbedder(TITAN, dimensions=300)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(EmbeddingFailed, match="no region; set AWS_REGION"):
        await BedrockEmbedder(TITAN).query("a")
    with pytest.raises(EmbeddingFailed, match="no AWS credentials; set AWS_PROFILE"):
        await BedrockEmbedder(TITAN, region="eu-west-1").query("a")
    with pytest.raises(EmbeddingFailed, match="an API key is not sent without TLS"):
        await BedrockEmbedder(TITAN, endpoint_url="http://example.com", key=KEY).query("a")
    await bedrock(lane, key=KEY).query("a")
    assert (await lane.requests())[0].headers["authorization"] == f"Bearer {KEY}"


# --- weights of one's own -------------------------------------------------------------------------------------------


async def test_onnx_vectors_are_the_mean_over_all_words(tmp_path: Path) -> None:
    """As computed by hand; of a text longer than the window, over all of its windows."""
    rows = table()
    embedder = onnx(write_encoder(tmp_path, window=6))
    expected = rows[[2, 4, 5, 3]].mean(axis=0)
    (short,) = await embedder.documents(["The refund"])
    assert np.allclose(short, expected / np.linalg.norm(expected), atol=1e-5)
    first, last = (await embedder.documents(["roof roof roof roof", "days days"]))[:2]
    (both,) = await embedder.documents(["roof roof roof roof days days"])
    expected = first * 6 + last * 4
    assert np.allclose(both, expected / np.linalg.norm(expected), atol=1e-5)


async def test_onnx_reads_the_output_that_is_meant(tmp_path: Path) -> None:
    """A vector of the text where the model gives one, and the first token's where the family wants that."""
    rows = table()
    (whole,) = await onnx(write_encoder(tmp_path / "a", output="sentence_embedding")).documents(["the refund"])
    expected = rows[[2, 4, 5, 3]].mean(axis=0)
    assert np.allclose(whole, expected / np.linalg.norm(expected), atol=1e-5)
    bge = onnx(write_encoder(tmp_path / "bge-small-en-v1.5"))
    (first,) = await bge.documents(["the refund"])
    assert np.allclose(first, rows[2] / np.linalg.norm(rows[2]), atol=1e-5)
    assert bge.model.name.endswith("+bge")


async def test_onnx_weights_are_checked_before_they_are_used(tmp_path: Path) -> None:
    """Another hash, no tokenizer, no weights, no model at all: each is told, and other files are another model."""
    folder = write_encoder(tmp_path)
    one = await onnx(folder).identify()
    with pytest.raises(EmbeddingFailed, match="and KB_EMBEDDING_SHA256 says 0000"):
        await OnnxEmbedder(str(folder), "0" * 64, data_dir=tmp_path).identify()
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    assert (await onnx(folder).identify()).name != one.name
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EmbeddingFailed, match=r"no tokenizer\.json beside model\.onnx"):
        await onnx(folder).identify()
    with pytest.raises(EmbeddingFailed, match="there is no other at that path"):
        await OnnxEmbedder(str(folder / "other"), "0" * 64, data_dir=tmp_path).identify()
    write_encoder(folder)
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EmbeddingFailed, match="cannot be loaded"):
        await onnx(folder).identify()


async def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmbeddingFailed, match=r"pip install 'outcrop\[onnx\]'"):
        await onnx(write_encoder(tmp_path)).identify()


@asynccontextmanager
async def serving(files: dict[str, bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server with these files, and what is asked of it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=files[request.path]) if request.path in files else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_weights_are_fetched_once(tmp_path: Path) -> None:
    """With the tokenizer of the folder above; later without the server."""
    made_here = write_encoder(tmp_path / "made")
    model, tokenizer = (made_here / name for name in ("model.onnx", "tokenizer.json"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    files = {"/hub/onnx/model.onnx": model.read_bytes(), "/hub/tokenizer.json": tokenizer.read_bytes()}
    async with serving(files) as (url, asked):
        first = OnnxEmbedder(f"{url}/hub/onnx/model.onnx", digest, data_dir=tmp_path)
        vectors = await first.documents(["the refund"])
        assert asked == ["/hub/onnx/tokenizer.json", "/hub/tokenizer.json", "/hub/onnx/model.onnx"]
    again = OnnxEmbedder(f"{url}/hub/onnx/model.onnx", digest, data_dir=tmp_path)
    assert np.array_equal(await again.documents(["the refund"]), vectors)
    assert np.array_equal(await onnx(made_here).documents(["the refund"]), vectors)


async def test_fetched_weights_that_are_not_the_ones_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hash, more than the limit, a page in place of the tokenizer, nothing there."""
    made_here = write_encoder(tmp_path / "made")
    model, tokenizer = (made_here / name for name in ("model.onnx", "tokenizer.json"))
    files = {"/model.onnx": model.read_bytes(), "/tokenizer.json": tokenizer.read_bytes()}

    async def refusal(sha256: str) -> str:
        with pytest.raises(EmbeddingFailed) as failed:
            await OnnxEmbedder(f"{url}/model.onnx?token=secret", sha256, data_dir=tmp_path).identify()
        assert "secret" not in str(failed.value)
        assert not list((tmp_path / "models").rglob("model.onnx"))
        assert not list((tmp_path / "models").rglob(".fetching-*"))
        return str(failed.value)

    async with serving(files) as (url, _):
        assert "KB_EMBEDDING_SHA256 says 1111" in await refusal("1" * 64)
        monkeypatch.setattr(weights, "MAX_WEIGHTS", 100)
        assert "is larger than" in await refusal("2" * 64)
        del files["/model.onnx"]
        assert "has no model.onnx" in await refusal("3" * 64)
        files["/tokenizer.json"] = b"<html>"
        assert "no tokenizer of the tokenizers library" in await refusal("4" * 64)
        del files["/tokenizer.json"]
        assert "has no tokenizer.json" in await refusal("5" * 64)
    assert "cannot be fetched" in await refusal("6" * 64)


# --- kept vectors ---------------------------------------------------------------------------------------------------


def kept(lane: Lane, pool: asyncpg.Pool[asyncpg.Record], tenant: str = "default", **options: Any) -> CachedEmbedder:
    """A new one over the lane."""
    model = options.pop("model", "model-1")
    return CachedEmbedder(openai(lane, model), pool, tenant, **options)


async def asked_for(lane: Lane) -> list[str]:
    """All texts that the server was asked for, but the first look at the dimension."""
    return [text for body in await lane.bodies() for text in body["input"] if not text.startswith("How long")]


async def test_kept_vectors_are_not_made_again(lane: Lane, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Not by another process, and not twice in one load; but for another tenant and for another model."""
    texts = ["roof", "window", "roof"]
    first = await kept(lane, pool).documents(texts)
    assert await asked_for(lane) == ["roof", "window"]
    assert np.array_equal(await kept(lane, pool).documents(texts), first)
    assert await asked_for(lane) == ["roof", "window"]
    await kept(lane, pool, "other").documents(["roof"])
    await kept(lane, pool, model="model-2").documents(["roof"])
    assert await asked_for(lane) == ["roof", "window", "roof", "roof"]


async def test_broken_load_does_not_pay_again(lane: Lane, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """What was made before the server failed is there afterwards."""
    texts = [f"text {n}" for n in range(300)]
    embedder = kept(lane, pool)
    await embedder.identify()
    await lane.script_vectors(*[Vectors()] * 4, Vectors(status=400, error="no"))
    with pytest.raises(EmbeddingFailed):
        await embedder.documents(texts)
    before = len(await asked_for(lane))
    await lane.script_vectors(Vectors())
    await kept(lane, pool).documents(texts)
    assert (await asked_for(lane))[before:] == texts[256:]


async def test_deleted_texts_are_forgotten(lane: Lane, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """In the transaction that deletes them: of this tenant, whatever the model."""
    for model in ("model-1", "model-2"):
        await kept(lane, pool, model=model).documents(["roof", "window"])
    await kept(lane, pool, "other").documents(["roof"])
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await forget(connection, "default", [text_hash("roof"), text_hash("never there")]) == 2
        await transaction.rollback()
        assert await connection.fetchval("SELECT count(*) FROM kb_embeddings") == 5
        async with connection.transaction():
            await forget(connection, "default", [text_hash("roof")])
        left = await connection.fetch("SELECT tenant, hash FROM kb_embeddings ORDER BY tenant, hash")
    assert {(row["tenant"], row["hash"]) for row in left} == {
        ("default", text_hash("window")),
        ("other", text_hash("roof")),
    }


async def test_what_is_kept_is_bounded(lane: Lane, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """What was not used for a month goes, and the longest unused where there is too much."""
    await kept(lane, pool).documents([f"old {n}" for n in range(5)] + ["used"])
    await pool.execute("UPDATE kb_embeddings SET used_on = current_date - 40")
    await kept(lane, pool).documents(["used", "new"])
    assert await pool.fetchval("SELECT count(*) FROM kb_embeddings") == 2
    await pool.execute("UPDATE kb_embeddings SET used_on = current_date - 3")
    room_for_four = 4 * (2 * 8 + 120)
    await kept(lane, pool, max_bytes=room_for_four).documents(["a", "b", "c"])
    left = {row["hash"] for row in await pool.fetch("SELECT hash FROM kb_embeddings")}
    assert len(left) == 4
    assert left >= {text_hash(text) for text in "abc"}


async def test_store_that_is_gone_is_told(lane: Lane, database_url: str) -> None:
    """As such, and not as the embedding server's fault."""
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=1)
    embedder = kept(lane, pool)
    await embedder.identify()
    await pool.close()
    with pytest.raises(StoreUnreachable, match="PostgreSQL does not answer"):
        await embedder.documents(["roof"])


# --- opening --------------------------------------------------------------------------------------------------------


async def test_configuration_chooses(lane: Lane, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> None:
    """Each kind by its name, what is missing by its key; vectors are kept where they cost something."""
    assert make_embedder(EmbeddingConfig("none")) is None
    assert keeping(None, EmbeddingConfig("none"), pool, "default") is None
    config = EmbeddingConfig("openai", "model-1", lane.url("openai"), KEY)
    assert KEY not in repr(config)
    embedder = made(config)
    assert isinstance(embedder, OpenAIEmbedder)
    assert isinstance(keeping(embedder, config, pool, "default"), CachedEmbedder)
    assert (await embedder.query("a")).shape == (8,)
    assert isinstance(make_embedder(EmbeddingConfig("bedrock", TITAN)), BedrockEmbedder)
    with pytest.raises(EmbeddingFailed, match="KB_EMBEDDING_MODEL is needed with KB_EMBEDDING=openai"):
        make_embedder(EmbeddingConfig("openai"))
    with pytest.raises(EmbeddingFailed, match="KB_EMBEDDING_SHA256 is needed"):
        make_embedder(EmbeddingConfig("onnx", str(tmp_path)))
    assert math.isclose(float(np.linalg.norm(await made(EmbeddingConfig("embedded")).query("a roof"))), 1, abs_tol=1e-5)
