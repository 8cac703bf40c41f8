"""Operations of an HTTP API, called for real: what the server gets, what its answers mean, and what is never sent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.tool_cases import cases
from tools.breaker import Breaker
from tools.contract import (
    Directory,
    Identity,
    InvalidArguments,
    JsonObject,
    Prepared,
    ToolContext,
    ToolResult,
    ToolState,
)
from tools.errors import UnknownOutcome, UpstreamUnavailable
from tools.executors.config import Auth, ExecutorError, HttpGroup
from tools.executors.http import MAX_ANSWER_BYTES, HttpTransport
from tools.executors.mounted import Mounted

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
CUSTOMER = Identity("customer", customer_id="C1")
SECRET = "s3cret-value"
NO_LIMIT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Got:
    """One request as it came over the wire."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def segments(self) -> list[str]:
        return [unquote(each, errors="strict") for each in self.path.split("/")[1:]]

    def pairs(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True, strict_parsing=bool(self.query), errors="strict")


async def says_ok(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"done": True})


@dataclass
class Upstream:
    """A server on this machine that notes what it gets."""

    port: int = 0
    answers: list[Answer] = field(default_factory=list)  # one each; the last is kept
    got: list[Got] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path.partition("?")
        headers = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        self.got.append(Got(request.method, target[0], target[2], headers, await request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else next(iter(self.answers), says_ok)
        return await answer(request)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def mount(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Mounted]]]:
    """Mount a document on that server; keyword arguments go into the group's configuration."""
    opened: dict[str, Mounted] = {}

    async def make(paths: JsonObject, auth: str | None = None, server: str | None = None, **config: Any) -> Mounted:
        if (known := opened.get(key := repr((paths, auth, server, config)))) is not None:
            return known
        group = HttpGroup.model_validate(
            {
                "executor": "http",
                "openapi": "api.json",
                "hosts": [upstream.host],
                "default_effect": "read",
                "breaker_failures": 1000,
                **({"auth": Auth(header="X-Api-Key", value_from="KEY")} if auth else {}),
                **config,
            }
        )
        document = tmp_path / f"api-{len(opened)}.json"
        url = server or f"http://{upstream.host}/base/"
        document.write_text(json.dumps({"openapi": "3.1.0", "info": {}, "servers": [{"url": url}], "paths": paths}))
        transport = HttpTransport("shop", group, document, auth)
        mounted = Mounted("shop", group, transport, Breaker("shop", fail_max=group.breaker_failures), name="http")
        opened[key] = mounted
        await mounted.open()
        return mounted

    yield make
    for each in opened.values():
        await each.close()


def context(effect_key: str = "key-1") -> ToolContext:
    unused = cast(Any, None)
    return ToolContext(CUSTOMER, Directory({}), unused, ToolState(), None, unused, effect_key=effect_key)


async def call(mounted: Mounted, name: str, args: JsonObject) -> ToolResult:
    prepared = await mounted.prepare(name, args, context())
    return await mounted.execute(prepared, context())


def answer(status: int = 200, body: Any = None, **headers: str) -> Answer:
    async def respond(_: web.BaseRequest) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if any(each.lower() == "content_type" for each in headers) else {"Content-Type": "application/json"}
        return web.Response(
            status=status, body=raw, headers={**kind, **{key.replace("_", "-"): each for key, each in headers.items()}}
        )

    return respond


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def parameter(place: str, name: str, schema: JsonObject, **more: Any) -> JsonObject:
    return {"name": name, "in": place, "required": True, "schema": schema, **more}


def operation(*parameters: JsonObject, body: JsonObject | None = None, media: str = "application/json") -> JsonObject:
    found: JsonObject = {"operationId": "run", "description": "Run it.", "parameters": list(parameters)}
    if body is not None:
        found["requestBody"] = {"required": True, "content": {media: {"schema": body}}}
    return found


GET = {"/things": {"get": operation()}}
POST = {"/things": {"post": operation()}}

# --- what arrives -----------------------------------------------------------------------------------------------------

ODD = [
    *(
        "\u2028",
        "%2F",
        "%252F",
        "😀",
        '{"a": 1}',
        "[1]",
        "null",
        "true",
        "12",
        "a/b",
        "a\\b",
        "?x#y",
        "a;b=c",
        "a,b",
        "+ +",
    ),
    *(
        "..",
        ".",
        "../../admin",
        "..%2fadmin",
        "%2e%2e",
        "%252e%252e%252f",
        "...",
        "a..b",
        ".hidden",
        "a/../b",
        "a\\..\\b",
    ),
    *(
        "",
        " ",
        " lead",
        "tail ",
        "\t",
        "\r\nX-Evil: 1",
        "\x00",
        "\x7f",
        "\x85",
        "é",
        "\ufeff",
        "e\u0301",
        "~user",
        "a&b=c",
    ),
]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def climbs(value: str) -> bool:
    """Whether a server that decodes a path, however often, might see `.` or `..` between slashes."""
    while unquote(value) != value:
        value = unquote(value)
    return bool({".", ".."} & set(value.replace("\\", "/").split("/")))


@NO_LIMIT
@given(value=TEXTS)
async def test_a_value_stays_in_its_segment_of_the_path(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], value: str
) -> None:
    """It arrives as the one segment it is, or nothing is sent; it never becomes another address."""
    mounted = await mount({"/things/{id}/parts": {"get": operation(parameter("path", "id", {"type": "string"}))}})
    upstream.got.clear()
    result = await call(mounted, "run", {"id": value})
    if value == "" or climbs(value):
        assert result.data["code"] == "invalid_arguments"
        assert not upstream.got
    else:
        assert upstream.got[0].segments() == ["base", "things", value, "parts"]
        assert upstream.got[0].query == ""
        assert set(upstream.got[0].path) <= set("/%_.-~ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@NO_LIMIT
@given(value=TEXTS, many=st.lists(TEXTS, max_size=4), number=NUMBERS, flag=st.booleans())
async def test_values_arrive_in_the_query(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], value: str, many: list[str], number: float, flag: bool
) -> None:
    """Texts, numbers and truth values under their own names; a list as one pair for each entry."""
    kinds: dict[str, JsonObject] = {
        "q[from]": {"type": "string"},
        "self": {"type": "array", "items": {"type": "string"}},
    }
    kinds |= {"from": {"type": "number"}, "config": {"type": "boolean"}}
    mounted = await mount({"/things": {"get": operation(*(parameter("query", *each) for each in kinds.items()))}})
    upstream.got.clear()
    await call(mounted, "run", {"q_from": value, "self": many, "from": number, "config": flag})
    pairs = upstream.got[0].pairs()
    assert [each for name, each in pairs if name == "self"] == many
    rest = {name: each for name, each in pairs if name != "self"}
    assert rest == {"q[from]": value, "from": json.dumps(number), "config": json.dumps(flag)}


@NO_LIMIT
@given(value=TEXTS)
async def test_a_value_stays_in_its_header(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], value: str
) -> None:
    """It arrives whole, or is refused where a header cannot carry it; it never becomes a second header."""
    mounted = await mount({"/things": {"get": operation(parameter("header", "X-Note", {"type": "string"}))}})
    upstream.got.clear()
    result = await call(mounted, "run", {"X-Note": value})
    if value != value.strip(" ") or any(each < " " or each == "\x7f" for each in value):
        assert result.data["code"] == "invalid_arguments"
        assert not upstream.got
    else:
        assert upstream.got[0].header("X-Note") == value
        assert upstream.got[0].header("X-Evil") is None


@NO_LIMIT
@given(members=st.dictionaries(st.sampled_from(["self", "from", "config", "a b", "名前", "json"]), VALUES))
async def test_members_of_a_body_arrive_equal(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], members: JsonObject
) -> None:
    """Under the names that the document has, whatever the argument had to be called."""
    names = {"self": "self", "from": "from", "config": "config", "a b": "a_b", "名前": "argument", "json": "json"}
    body = {"type": "object", "properties": {name: {} for name in names}}
    mounted = await mount({"/things": {"post": operation(body=body)}})
    upstream.got.clear()
    await call(mounted, "run", {names[name]: value for name, value in members.items()})
    assert json.loads(upstream.got[0].body) == members
    assert upstream.got[0].header("content-type") == "application/json"


@NO_LIMIT
@given(value=VALUES)
async def test_a_body_that_is_no_list_of_members_arrives_equal(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], value: Any
) -> None:
    """It is one argument, `body`."""
    mounted = await mount({"/things": {"put": operation(body={})}})
    upstream.got.clear()
    await call(mounted, "run", {"body": value})
    assert json.loads(upstream.got[0].body) == value


@NO_LIMIT
@given(value=TEXTS, many=st.lists(TEXTS, max_size=3), number=NUMBERS)
async def test_a_form_arrives_equal(
    upstream: Upstream, mount: Callable[..., Awaitable[Mounted]], value: str, many: list[str], number: float
) -> None:
    """As `application/x-www-form-urlencoded`, a list as one pair for each entry."""
    kinds: JsonObject = {"a[b]": {"type": "string"}, "many": {"type": "array", "items": {"type": "string"}}}
    kinds["n"] = {"type": "number"}
    body = {"type": "object", "properties": kinds}
    mounted = await mount({"/things": {"post": operation(body=body, media="application/x-www-form-urlencoded")}})
    upstream.got.clear()
    await call(mounted, "run", {"a_b": value, "many": many, "n": number})
    wanted = [("a[b]", value), *(("many", each) for each in many), ("n", json.dumps(number))]
    assert parse_qsl(upstream.got[0].body.decode(), keep_blank_values=True, errors="strict") == wanted


async def test_public_kinds_of_calls_arrive_equal(upstream: Upstream, mount: Any) -> None:
    """Every case that all executors are tried with, as the body of an operation."""
    known = {each.name: each for each in cases()}
    paths = {
        f"/{name}": {"post": {**operation(body=each.parameters), "operationId": name}} for name, each in known.items()
    }
    mounted = await mount(paths)
    for name, each in known.items():
        upstream.got.clear()
        assert (await call(mounted, name, each.arguments)).status == "ok"
        assert json.loads(upstream.got[0].body or b"{}") == each.arguments


async def test_lists_in_a_path_and_a_header_are_joined(upstream: Upstream, mount: Any) -> None:
    """With commas; an entry with a comma of its own would be read as two, and is refused."""
    items = {"type": "array", "items": {"type": "integer"}}
    texts = {"type": "array", "items": {"type": "string"}}
    joined = parameter("query", "joined", texts, explode=False)
    mounted = await mount(
        {"/of/{ids}": {"get": operation(parameter("path", "ids", items), parameter("header", "X-Tags", texts), joined)}}
    )
    await call(mounted, "run", {"ids": [1, 2**63], "X-Tags": ["a", "é"], "joined": ["x&y", "z"]})
    assert upstream.got[0].segments() == ["base", "of", f"1,{2**63}"]
    assert upstream.got[0].header("X-Tags") == "a,é"
    assert upstream.got[0].query == "joined=x%26y,z"
    attempts: list[JsonObject] = [{"X-Tags": ["a,b"]}, {"joined": ["a,b"]}, {"joined": [""]}, {"ids": []}]
    for wrong in attempts:
        result = await call(mounted, "run", {"ids": [1], "X-Tags": [], "joined": [], **wrong})
        assert result.data["code"] == "invalid_arguments"
        assert result.data["errors"][0]["field"] == next(iter(wrong))
    assert len(upstream.got) == 1


async def test_parameters_with_json_content_arrive_as_json(upstream: Upstream, mount: Any) -> None:
    """Wherever they stand."""
    content = {"content": {"application/json": {"schema": {"type": "object"}}}}
    parameters = [
        {"name": name, "in": place, "required": True, **content} for place, name in (("query", "q"), ("header", "H"))
    ]
    mounted = await mount({"/things": {"get": operation(*parameters)}})
    value = {"a": [1, "\u2028\r\n😀"], "from": None}
    await call(mounted, "run", {"q": value, "H": value})
    assert json.loads(dict(upstream.got[0].pairs())["q"]) == value
    assert json.loads(upstream.got[0].header("H") or "") == value


async def test_what_is_left_out_or_null_is_not_sent(upstream: Upstream, mount: Any) -> None:
    """No empty parameter stands in for one; a body that must be there is an empty object."""
    q = {"name": "q", "in": "query", "schema": {"type": ["string", "null"]}}
    body = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    mounted = await mount({"/things": {"post": operation(q, body=body)}})
    await call(mounted, "run", {"q": None})
    await call(mounted, "run", {"a": None})
    assert [(each.query, each.body) for each in upstream.got] == [("", b"{}"), ("", b'{"a":null}')]


@pytest.mark.parametrize("value", ["\ud800", [["\udfff"]]])
async def test_half_a_character_is_refused(upstream: Upstream, mount: Any, value: Any) -> None:
    """It has no bytes that a server could read."""
    mounted = await mount({"/things": {"post": operation(body={})}})
    result = await call(mounted, "run", {"body": value})
    assert result.data["code"] == "invalid_arguments"
    assert not upstream.got


async def test_an_address_too_long_is_refused(upstream: Upstream, mount: Any) -> None:
    """Servers answer such a request in ways that say nothing."""
    mounted = await mount({"/things": {"get": operation(parameter("query", "q", {"type": "string"}))}})
    assert (await call(mounted, "run", {"q": "😀" * 1000})).data["code"] == "invalid_arguments"
    assert not upstream.got


# --- who it comes from ------------------------------------------------------------------------------------------------


async def test_unknown_and_session_arguments_are_refused_before_any_request(upstream: Upstream, mount: Any) -> None:
    """`customer_id` is the caller's own, wherever the document wants it, and a model cannot give one."""
    body = {"type": "object", "properties": {"customer_id": {"type": "string"}, "note": {"type": "string"}}}
    one = parameter("path", "customer_id", {"type": "string"})
    mounted = await mount({"/of/{customer_id}": {"post": operation(one, body=body)}})
    assert set(mounted.offered()[0].spec.parameters["properties"]) == {"note"}
    attempts: list[JsonObject] = [{"customer_id": "C2"}, {"admin": True}, {"note": 5.5}]
    for wrong in attempts:
        with pytest.raises(InvalidArguments):
            await mounted.prepare("run", {"note": "x", **wrong}, context())
    spec = mounted.offered()[0].spec
    stolen = await mounted.execute(Prepared(spec, {"customer_id": "C2", "note": "x"}), context())
    assert stolen.data["code"] == "invalid_arguments"
    assert not upstream.got
    await call(mounted, "run", {"note": "x"})
    assert upstream.got[0].segments() == ["base", "of", "C1"]
    assert json.loads(upstream.got[0].body) == {"customer_id": "C1", "note": "x"}


async def test_the_secret_is_sent_and_never_logged(
    upstream: Upstream, mount: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In the configured header alone; no argument can take its place."""
    caplog.set_level(logging.DEBUG)
    paths = {"/things": {"get": operation(parameter("header", "x-api-key", {"type": "string"}))}}
    mounted = await mount(paths, auth=SECRET)
    assert mounted.offered()[0].spec.parameters["properties"] == {}
    await call(mounted, "run", {})
    upstream.answers = [hang_up]
    result = await call(mounted, "run", {})
    assert upstream.got[0].header("x-api-key") == SECRET
    assert SECRET not in caplog.text + repr(result) + repr(vars(mounted))


async def test_no_cookie_goes_from_one_caller_to_another(upstream: Upstream, mount: Any) -> None:
    """The client is shared by all callers, so that nothing a server sets may stay in it."""
    upstream.answers = [answer(200, {}, Set_Cookie="session=of-somebody; Path=/")]
    mounted = await mount(GET)
    await call(mounted, "run", {})
    await call(mounted, "run", {})
    assert [each.header("cookie") for each in upstream.got] == [None, None]


async def test_effects_carry_their_key_and_reads_do_not(upstream: Upstream, mount: Any) -> None:
    """As `Idempotency-Key`, which a document may also describe: it is never an argument."""
    described = {"/things": {"post": operation(parameter("header", "Idempotency-Key", {"type": "string"}))}}
    for effect in ("read", "write", "gated"):
        mounted = await mount(described, default_effect=effect)
        await call(mounted, "run", {})
    assert [each.header("idempotency-key") for each in upstream.got] == [None, "key-1", "key-1"]


async def test_proxies_of_the_environment_are_not_used(
    upstream: Upstream, mount: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor credentials of a .netrc."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    mounted = await mount(GET)
    assert (await call(mounted, "run", {})).status == "ok"


# --- what answers mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "data"),
    [
        (answer(200, {"a": 1}), {"a": 1}),
        (answer(201, [1, 2]), {"result": [1, 2]}),
        (answer(200, 5), {"result": 5}),
        (answer(200, {"a": 1}, Content_Type="application/hal+json; charset=utf-8"), {"a": 1}),
        (answer(200, "grüße".encode(), Content_Type="text/plain; charset=utf-8"), {"result": "grüße"}),
        (answer(200, "grüße".encode("latin-1"), Content_Type="text/plain; charset=latin-1"), {"result": "grüße"}),
        (answer(204, b""), {}),
        (answer(200, b""), {}),
    ],
)
async def test_successes(upstream: Upstream, mount: Any, said: Answer, data: JsonObject) -> None:
    """JSON as it is, text under `result`, nothing as nothing."""
    upstream.answers = [said]
    result = await call(await mount(GET), "run", {})
    assert (result.status, result.data) == ("ok", {"ok": True, **data})
    assert result.upstream_status in (200, 201, 204)


UNUSABLE = [
    answer(200, b"<html>Log in</html>", Content_Type="text/html"),
    answer(200, b'{"a": '),
    answer(200, b'{"a": NaN}'),
    answer(200, b"[" * 100_000),
    answer(200, b"\xff\xfe", Content_Type="text/plain"),
    answer(200, b"x", Content_Type="text/plain; charset=nonsense"),
    answer(200, b"\x00\x01", Content_Type="application/octet-stream"),
    answer(200, b'{"a": 1}', Content_Encoding="br"),
    answer(200, {"n": 2**70}),
    answer(302, b"", Location="http://127.0.0.1:1/"),
    answer(307, b"", Location="/base/other"),
    answer(304, b""),
]


@pytest.mark.parametrize("said", UNUSABLE)
async def test_unusable_answers(upstream: Upstream, mount: Any, said: Answer) -> None:
    """A read has failed; of an effect nobody knows. Redirects are not followed, and nothing is asked twice."""
    upstream.answers = [said]
    read = await call(await mount(GET), "run", {})
    assert (read.status, read.data["code"]) == ("error", "bad_answer")
    effect = await call(await mount(POST, default_effect="write"), "run", {})
    assert (effect.status, effect.data["code"]) == ("unknown", "unknown_outcome")
    assert [each.path for each in upstream.got] == ["/base/things"] * 2


@pytest.mark.parametrize("encoding", ["identity", "chunked"])
async def test_an_endless_answer_is_not_read_to_its_end(upstream: Upstream, mount: Any, encoding: str) -> None:
    """The connection is closed as soon as there is more than anyone would be shown."""
    sent = 0
    closed = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if encoding == "identity":
            response.content_length = 10**9
        await response.prepare(request)
        try:
            while sent < 10**9:
                await response.write(b" " * 65_536)
                sent += 65_536
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            closed.set()
        return response

    upstream.answers = [endless]
    result = await call(await mount(GET), "run", {})
    assert result.data["code"] == "result_too_large"
    await asyncio.wait_for(closed.wait(), 10)
    assert sent < 20 * MAX_ANSWER_BYTES


async def test_more_than_a_model_is_shown_is_too_large(upstream: Upstream, mount: Any) -> None:
    """Though it was read whole."""
    upstream.answers = [answer(200, {"a": "x" * 100_000})]
    assert (await call(await mount(GET), "run", {})).data["code"] == "result_too_large"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, "invalid_arguments"), (422, "invalid_arguments"), (401, "forbidden"), (403, "forbidden")),
        *((404, "not_found"), (410, "not_found"), (409, "conflict"), (412, "conflict")),
        *((405, "action_failed"), (413, "action_failed"), (451, "action_failed")),
    ],
)
@pytest.mark.parametrize("effect", ["read", "write"])
async def test_refusals(upstream: Upstream, mount: Any, status: int, code: str, effect: str) -> None:
    """An error that a model can act on; nothing was done, so an effect is not unknown, and nothing is asked twice."""
    upstream.answers = [answer(status, {"message": "No."})]
    result = await call(await mount(POST, default_effect=effect), "run", {})
    assert (result.status, result.data["code"], result.upstream_status) == ("error", code, status)
    assert len(upstream.got) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "Room\n is taken."}, "Room is taken."),
        ({"detail": "Too late.", "title": "Conflict"}, "Too late."),
        ({"title": "Conflict"}, "Conflict"),
        ({"error": {"message": "Inner."}}, "Inner."),
        ({"message": "x" * 1000}, "x" * 300),
        ({"message": 'Traceback (most recent call last):\n  File "/srv/app.py", line 3'}, None),
        ({"message": "TypeError\n    at run (/srv/app.js:10:5)"}, None),
        ({"message": {"de": "Nein."}}, None),
        ({"message": "\ud800"}, "?"),
        (["Nein."], None),
        (b"<h1>Nein.</h1>", None),
    ],
)
async def test_the_reason_of_a_refusal(upstream: Upstream, mount: Any, body: Any, said: str | None) -> None:
    """A short sentence of the server's own is passed on; anything else is not."""
    upstream.answers = [answer(409, body)]
    result = await call(await mount(GET), "run", {})
    assert result.data.get("said") == said
    upstream.answers = [answer(422, body)]
    result = await call(await mount(GET), "run", {})
    assert result.data["errors"] == ([{"field": "", "message": said}] if said else [])


async def test_a_short_wait_is_waited_for_once(upstream: Upstream, mount: Any) -> None:
    """A rate limit turns a call away before anything is done, so that an effect is sent again too, with its key."""
    upstream.answers = [answer(429, {}, Retry_After="0"), says_ok]
    result = await call(await mount(POST, default_effect="write"), "run", {})
    assert (result.status, [each.header("idempotency-key") for each in upstream.got]) == ("ok", ["key-1", "key-1"])
    upstream.answers = [answer(429, {}, Retry_After="0")]
    result = await call(await mount(POST, default_effect="write"), "run", {})
    assert (result.status, result.data["code"], len(upstream.got)) == ("error", "rate_limited", 4)


@pytest.mark.parametrize("after", ["60", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_long_wait_is_not(upstream: Upstream, mount: Any, after: str) -> None:
    """It is told instead."""
    upstream.answers = [answer(429, {}, Retry_After=after)]
    result = await call(await mount(GET), "run", {})
    assert result.data["retry_after_s"] >= 60
    assert len(upstream.got) == 1


@pytest.mark.parametrize("failure", [answer(500, {}), answer(503, {}), answer(408, {}), hang_up])
async def test_an_effect_without_an_answer_is_unknown_and_sent_once(
    upstream: Upstream, mount: Any, failure: Answer
) -> None:
    """It may have happened."""
    upstream.answers = [failure]
    result = await call(await mount(POST, default_effect="gated"), "run", {})
    assert (result.status, len(upstream.got)) == ("unknown", 1)


async def test_an_idempotent_effect_is_sent_again_under_its_key(upstream: Upstream, mount: Any) -> None:
    """Where the definition says that the server does nothing twice for one key."""
    upstream.answers = [hang_up, says_ok]
    mounted = await mount(POST, default_effect="gated", tools={"run": {"idempotent": True}})
    result = await call(mounted, "run", {})
    assert (result.status, [each.header("idempotency-key") for each in upstream.got]) == ("ok", ["key-1", "key-1"])


@pytest.mark.parametrize("second", [answer(409, {}), answer(429, {}, Retry_After="60"), answer(500, {}), hang_up])
async def test_a_repeat_that_settles_nothing_is_unknown(upstream: Upstream, mount: Any, second: Answer) -> None:
    """A conflict may be one with the first call, which a server is still working at or has carried out."""
    upstream.answers = [hang_up, second]
    mounted = await mount(POST, default_effect="gated", tools={"run": {"idempotent": True}})
    result = await call(mounted, "run", {})
    assert (result.status, len(upstream.got)) == ("unknown", 2)
    upstream.answers = [answer(409, {})]
    with pytest.raises(UnknownOutcome):
        await mounted.reconcile("run", {}, context())


@pytest.mark.parametrize("failure", [answer(500, {}), hang_up])
async def test_a_read_is_made_once_more(upstream: Upstream, mount: Any, failure: Answer) -> None:
    """After a failure to answer, and not after two."""
    upstream.answers = [failure, says_ok]
    assert (await call(await mount(GET), "run", {})).status == "ok"
    upstream.answers = [failure]
    result = await call(await mount(GET), "run", {})
    assert (result.data["code"], result.data["retryable"]) == (UpstreamUnavailable.code, True)
    assert len(upstream.got) == 4


async def test_an_effect_that_never_left_is_an_error_not_an_unknown(upstream: Upstream, mount: Any) -> None:
    """Nobody listens there: surely nothing was done."""
    mounted = await mount(POST, default_effect="gated", server="http://127.0.0.1:1", hosts=["127.0.0.1:1"])
    result = await call(mounted, "run", {})
    assert (result.status, result.data["code"]) == ("error", "upstream_unavailable")


async def test_a_late_answer_is_not_waited_for(upstream: Upstream, mount: Any) -> None:
    """Of an effect that was sent, nobody knows."""
    never = asyncio.Event()

    async def late(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    upstream.answers = [late]
    result = await call(await mount(POST, default_effect="gated", timeout_s=0.2), "run", {})
    assert (result.status, len(upstream.got)) == ("unknown", 1)
    never.set()


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "hosts"),
    [
        ("https://api.example.com/v1", ["api.example.com"]),
        ("https://API.example.com", ["Api.Example.com"]),
        ("https://api.example.com:8443", ["api.example.com:8443"]),
        ("https://api.example.com:443", ["api.example.com"]),
        ("https://api.example.com", ["api.example.com:443"]),
        ("http://internal.example:8080", ["internal.example:8080"]),
        ("http://internal.example", ["internal.example:80"]),
        ("http://localhost", ["localhost"]),
        ("http://[::1]:8080/x", ["[::1]:8080"]),
    ],
)
async def test_hosts_that_may_be_called(mount: Any, server: str, hosts: Iterable[str]) -> None:
    """Those of the list; plain HTTP on this machine, or where the list names the port."""
    assert (await mount(GET, server=server, hosts=hosts)).offered()


@pytest.mark.parametrize(
    ("server", "hosts", "problem"),
    [
        ("https://api.example.com", ["example.com"], "not in `hosts`"),
        ("https://api.example.com.evil.example", ["api.example.com"], "not in `hosts`"),
        ("https://api.example.com:8443", ["api.example.com"], "not in `hosts`"),
        ("https://api.example.com:0", ["api.example.com"], "not in `hosts`"),
        ("https://127.1", ["127.0.0.1"], "not in `hosts`"),
        ("https://2130706433", ["127.0.0.1"], "not in `hosts`"),
        ("https://localhost.", ["localhost"], "not in `hosts`"),
        ("https://api.example.com@evil.example/", ["api.example.com"], "name or a password"),
        ("https://user:pass@api.example.com/", ["api.example.com"], "name or a password"),
        ("http://api.example.com", ["api.example.com"], "not encrypted"),
        ("http://169.254.169.254", ["169.254.169.254"], "not encrypted"),
        ("file:///etc/passwd", ["etc"], "no address of a server"),
        ("ftp://api.example.com", ["api.example.com"], "no address of a server"),
        ("/v1", ["api.example.com"], "set `base_url`"),
        ("//api.example.com/v1", ["api.example.com"], "set `base_url`"),
        ("https://api.example.com/?x=1", ["api.example.com"], "`?` or `#`"),
        ("https://api.example.com/#x", ["api.example.com"], "`?` or `#`"),
        ("https://[::1", ["api.example.com"], "no URL"),
        ("https://api.example.com", ["*.example.com"], "is no host"),
        ("https://api.example.com", ["https://api.example.com"], "is no host"),
        ("https://api.example.com", ["api.example.com/v1"], "is no host"),
        ("https://api.example.com", [""], "is no host"),
    ],
)
async def test_hosts_that_may_not(mount: Any, server: str, hosts: Iterable[str], problem: str) -> None:
    """The group, the address and the fix are named before anything is called."""
    with pytest.raises(ExecutorError, match=r"^action group shop: ") as caught:
        await mount(GET, server=server, hosts=hosts)
    assert problem in str(caught.value)


async def test_an_operation_may_have_a_server_of_its_own(upstream: Upstream, mount: Any) -> None:
    """It is checked as any other, and `base_url` outweighs all of them."""
    elsewhere = {"/things": {"get": {**operation(), "servers": [{"url": "https://other.example"}]}}}
    with pytest.raises(ExecutorError, match=r"other\.example is not in `hosts`"):
        await mount(elsewhere)
    mounted = await mount(elsewhere, base_url=f"http://{upstream.host}/v2")
    await call(mounted, "run", {})
    assert upstream.got[0].path == "/v2/things"


async def test_every_call_is_checked_against_the_list(upstream: Upstream, mount: Any, tmp_path: Path) -> None:
    """Also of a tool that this transport never offered."""
    mounted = await mount(GET)
    elsewhere = {"/things": {"get": {**operation(), "servers": [{"url": f"http://localhost:{upstream.port}"}]}}}
    other = await mount(elsewhere, hosts=[upstream.host, f"localhost:{upstream.port}"])
    mounted._tools = other._tools
    assert (await call(mounted, "run", {})).data["code"] == "forbidden"
    assert not upstream.got
    assert (await call(other, "run", {})).status == "ok"


@pytest.mark.parametrize("secret", ["two\nlines", " padded", "Größe"])
async def test_a_secret_that_no_header_can_carry(mount: Any, secret: str) -> None:
    """Is refused at the start, by the name of its variable and not by its value."""
    with pytest.raises(ExecutorError, match="the value of KEY cannot stand in a header") as caught:
        await mount(GET, auth=secret)
    assert secret not in str(caught.value)


async def test_only_names_the_operations_that_are_read(upstream: Upstream, mount: Any) -> None:
    """One that cannot be mounted is no obstacle to the others."""
    cookie = {"/bad": {"get": {**operation(parameter("cookie", "s", {"type": "string"})), "operationId": "bad"}}}
    with pytest.raises(ExecutorError, match="s is a cookie"):
        await mount({**GET, **cookie})
    assert [each.spec.name for each in (await mount({**GET, **cookie}, only=["run"])).offered()] == ["run"]
