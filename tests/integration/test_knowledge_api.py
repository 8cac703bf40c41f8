"""Knowledge bases over HTTP: who may do what, searches, documents and their stages, jobs, bad input."""

from __future__ import annotations

import base64
from json import dumps
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tests.integration.knowledge_service import DOCUMENTS, OPS, WINDOWS, ended, knowing, upload

SEARCH, KB = "/api/v1/kb/search", "/api/v1/kb/default"


def is_problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field:
        assert field in [each["field"] for each in answer.json()["errors"]]


async def test_a_search_finds_what_is_for_its_caller(database_url: str, redis_url: str) -> None:
    """With a whole citation; another's documents are not there, whatever the filter; filters and thresholds hold."""
    async with knowing(database_url, redis_url) as client:

        async def search(who: str = "c1", **more: Any) -> dict[str, Any]:
            body = {"query": "A window visit takes 4 hours?", **more}
            answer = await client.post(SEARCH, json=body, headers={"x-demo-identity": who})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        found = await search()
        assert (found["knowledge_base"], found["reason"]) == ("default", "ok")
        first = found["passages"][0]
        parsed = (await client.get(f"{KB}/documents/guides/windows.md/stages/parsed", headers=OPS)).text
        assert first["document_id"] == "guides/windows.md"
        assert parsed[first["start"] : first["end"]] == first["text"]
        inside = [(each["uri"], each["source"], each["attributes"]) for each in found["passages"]]
        assert (first["version"], set(map(str, inside))) == (1, {"('', '', {})"})
        (windows,) = (each for each in (await search("ops"))["passages"] if each["document_id"] == "guides/windows.md")
        assert (windows["attributes"]["year"], windows["source"]) == (2026, "uploads")
        assert windows["uri"].endswith("guides/windows.md")
        assert 0 < first["score"] <= 1
        assert first["legs"]
        for who, ids in (("c1", set(DOCUMENTS) - {"staff/margins.md"}), ("anon", None), ("ops", set(DOCUMENTS))):
            seen = {
                each["document_id"] for each in (await search(who, k=100, mode="lexical", query="visit"))["passages"]
            }
            assert seen == (ids or set(DOCUMENTS) - {"staff/margins.md"})
        staff_only = {"listContains": {"key": "audience", "value": "staff"}}
        assert (await search(filter=staff_only))["passages"] == []
        assert [each["document_id"] for each in (await search("ops", filter=staff_only))["passages"]] == [
            "staff/margins.md"
        ]
        older = await search(filter={"lessThan": {"key": "year", "value": 2026}})
        assert {each["document_id"] for each in older["passages"]} <= {"guides/fences.md", "pets.md"}
        nothing = await search(query="zebra quantum")
        assert nothing["passages"] == []
        assert nothing["reason"] != "ok"
        assert nothing["explanation"]
        bases = (await client.get("/api/v1/kb")).json()["knowledge_bases"]
        assert [each["name"] for each in bases] == ["default"]
        by_id = await search(knowledge_base=bases[0]["id"])
        assert by_id["passages"] == found["passages"]


async def test_only_operators_look_after_a_base(database_url: str, redis_url: str) -> None:
    """Everybody else gets 403 for every route of the description but the two that all may use."""
    async with knowing(database_url, redis_url, loaded=False) as client:
        described = (await client.get("/openapi.json")).json()["paths"]
        routes = [(method, path) for path in described if path.startswith("/api/v1/kb") for method in described[path]]
        assert len(routes) == 15
        open_to_all = {("post", SEARCH), ("get", "/api/v1/kb")}
        values = {"base": "default", "doc_id": "x", "job_id": "x"}
        for method, path in set(routes) - open_to_all:
            for who in ("c1", "biz", "coord", "anon") if path.endswith("/documents") else ("c1",):
                headers = {"x-demo-identity": who}
                answer = await client.request(
                    method, path.format(**values), json=None if method in ("get", "delete") else {}, headers=headers
                )
                is_problem(answer, 403, "forbidden")


async def test_another_tenants_base_is_not_there(database_url: str, redis_url: str) -> None:
    async with knowing(database_url, redis_url, loaded=False) as client:
        mine = (await client.get("/api/v1/kb")).json()["knowledge_bases"][0]["id"]
        async with knowing(database_url, redis_url, loaded=False, tenant="other") as stranger:
            assert (await stranger.get("/api/v1/kb")).json()["knowledge_bases"][0]["id"] != mine
            is_problem(await stranger.post(SEARCH, json={"query": "a", "knowledge_base": mine}), 404, "not_found")
            for path in ("", "/documents", "/documents/x", "/documents/x/stages/raw", "/jobs"):
                is_problem(await stranger.get(f"/api/v1/kb/{mine}{path}", headers=OPS), 404, "not_found")
            job = await upload(client, {"name": "a.md", "content": "Words."})
            is_problem(await stranger.get(f"{KB}/jobs/{job}", headers=OPS), 404, "not_found")
            is_problem(await stranger.post(f"{KB}/jobs/{job}/cancel", json={}, headers=OPS), 404, "not_found")


async def test_documents_are_listed_shown_and_deleted_truly(database_url: str, redis_url: str) -> None:
    """Pages join without gaps; every stage is there, none is shown by a browser; a deletion leaves a mark alone."""
    async with knowing(database_url, redis_url) as client:
        get = client.get
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
            page = (await get(f"{KB}/documents", params=params, headers=OPS)).json()
            seen += [each["doc_id"] for each in page["documents"]]
            if not (cursor := page["next"]):
                break
        assert seen == sorted(DOCUMENTS)
        folder = (await get(f"{KB}/documents", params={"prefix": "guides/"}, headers=OPS)).json()["documents"]
        assert [each["doc_id"] for each in folder] == ["guides/fences.md", "guides/windows.md"]
        shown = (await get(f"{KB}/documents/guides/windows.md", headers=OPS)).json()
        assert (shown["version"], shown["state"], shown["size"]) == (1, "live", len(WINDOWS))
        assert shown["attributes"]["topic"] == "duration"
        raw = await get(f"{KB}/documents/guides/windows.md/stages/raw", headers=OPS)
        assert raw.content == WINDOWS.encode()
        assert raw.headers["content-type"] == "application/octet-stream"
        assert raw.headers["content-disposition"].startswith("attachment;")
        assert raw.headers["x-content-type-options"] == "nosniff"
        assert raw.headers["content-length"] == str(len(raw.content))
        chunks = (await get(f"{KB}/documents/guides/windows.md/stages/chunks", headers=OPS)).json()
        assert chunks["chunks"]
        assert chunks["next"] is None
        summary = (await get(KB, headers=OPS)).json()
        assert (summary["documents"], summary["deleted"], summary["name"]) == (4, 0, "default")

        gone = f"{KB}/documents/guides/windows.md"
        assert (await client.delete(gone, headers=OPS)).json() == {"doc_id": "guides/windows.md", "deleted": True}
        assert (await client.delete(gone, headers=OPS)).json() == {"doc_id": "guides/windows.md", "deleted": False}
        is_problem(await get(f"{gone}/stages/raw", headers=OPS), 404, "not_found")
        is_problem(await client.delete(f"{KB}/documents/never", headers=OPS), 404, "not_found")
        marks = (await get(f"{KB}/documents", params={"state": "deleted"}, headers=OPS)).json()["documents"]
        assert [(each["doc_id"], each["state"], each["version"]) for each in marks] == [
            ("guides/windows.md", "deleted", 2)
        ]
        found = (await client.post(SEARCH, json={"query": "window", "mode": "lexical"}, headers=OPS)).json()
        assert "guides/windows.md" not in [each["document_id"] for each in found["passages"]]


async def test_uploads_are_jobs(database_url: str, redis_url: str) -> None:
    """The same key is the same job; a new content a new version; what cannot be read is said of that document alone."""
    async with knowing(database_url, redis_url, loaded=False) as client:
        body = {"name": "a.md", "content": "# A\n\nThe first words."}
        job = await upload(client, body, **{"idempotency-key": "k"})
        assert await upload(client, body, **{"idempotency-key": "k"}) == job
        assert await upload(client, {**body, "content": "other"}, **{"idempotency-key": "k"}) != job
        assert (await ended(client, job))["job"]["counts"]["new"] == 1
        binary = {
            "name": "b.html",
            "base64": base64.b64encode(b"<p>Hello <script>alert(1)</script>you").decode(),
            "doc_id": "pages/b",
        }
        assert (await ended(client, await upload(client, binary)))["job"]["counts"]["new"] == 1
        parsed = await client.get(f"{KB}/documents/pages/b/stages/parsed", headers=OPS)
        assert "alert" not in parsed.text
        assert parsed.headers["content-type"] == "text/plain; charset=utf-8"
        broken = await ended(client, await upload(client, {"name": "c.pdf", "content": "no pdf at all"}))
        assert broken["job"]["counts"]["refused"] == 1
        (problem,) = broken["documents"]
        assert (problem["doc_id"], problem["outcome"]) == ("c.pdf", "refused")
        assert problem["reason"]
        assert problem["message"]
        private = {"source": {"urls": ["http://127.0.0.1:9/x.html"]}}
        started = await client.post(f"{KB}/jobs", json=private, headers=OPS)
        assert started.status_code == 202, started.text
        refused = await ended(client, started.json()["job_id"])
        assert refused["documents"][0]["reason"] == "private_address"
        jobs = (await client.get(f"{KB}/jobs", params={"limit": 2}, headers=OPS)).json()
        assert jobs["jobs"][0]["job_id"] == started.json()["job_id"]
        rest = (await client.get(f"{KB}/jobs", params={"cursor": jobs["next"]}, headers=OPS)).json()
        assert len({each["job_id"] for each in jobs["jobs"] + rest["jobs"]}) == 5
        over = await client.post(f"{KB}/jobs/{job}/cancel", json={}, headers=OPS)
        assert (over.status_code, over.json()["state"]) == (200, "done")


BAD: list[tuple[str, str, Any, int, str, str | None]] = [
    ("POST", SEARCH, {}, 422, "invalid_request", "query"),
    ("POST", SEARCH, {"query": " "}, 422, "invalid_request", "query"),
    ("POST", SEARCH, {"query": "a\x00"}, 422, "invalid_request", "query"),
    ("POST", SEARCH, {"query": "x" * 2001}, 422, "invalid_request", "query"),
    ("POST", SEARCH, {"query": "a", "k": 0}, 422, "invalid_request", "k"),
    ("POST", SEARCH, {"query": "a", "k": 101}, 422, "invalid_request", "k"),
    ("POST", SEARCH, {"query": "a", "k": "5"}, 422, "invalid_request", "k"),
    ("POST", SEARCH, {"query": "a", "mode": "best"}, 422, "invalid_request", "mode"),
    ("POST", SEARCH, {"query": "a", "mode": "vector"}, 422, "invalid_request", "mode"),
    ("POST", SEARCH, {"query": "a", "min_score": 2}, 422, "invalid_request", "min_score"),
    ("POST", SEARCH, {"query": "a", "min_score": True}, 422, "invalid_request", "min_score"),
    ("POST", SEARCH, {"query": "a", "limit": 2}, 422, "invalid_request", "limit"),
    ("POST", SEARCH, {"query": "a", "knowledge_base": "nope"}, 404, "not_found", None),
    ("POST", SEARCH, {"query": "a", "knowledge_base": "../x"}, 422, "invalid_request", "knowledge_base"),
    ("POST", SEARCH, {"query": "a", "filter": {}}, 422, "invalid_request", "filter"),
    ("POST", SEARCH, {"query": "a", "filter": []}, 422, "invalid_request", "filter"),
    ("POST", SEARCH, {"query": "a", "filter": {"equal": {"key": "a", "value": 1}}}, 422, "invalid_request", "filter"),
    ("POST", SEARCH, {"query": "a", "filter": {"orAll": [{"in": {"key": "a", "value": "b"}}, {}]}}, 422,
     "invalid_request", "filter.orAll[0].in.value"),
    ("POST", SEARCH, {"query": "a", "filter": {"equals": {"key": "a", "value": 10**30}}}, 422,
     "invalid_request", "filter"),
    ("POST", "/api/v1/kb", {"name": "a b"}, 422, "invalid_request", "name"),
    ("POST", "/api/v1/kb", {"name": "ABCDE12345"}, 422, "invalid_request", "name"),
    ("POST", f"{KB}/documents", {"name": "a.md"}, 422, "invalid_request", "body"),
    ("POST", f"{KB}/documents", {"name": "a.md", "content": "a", "base64": "YQ=="}, 422, "invalid_request", "body"),
    ("POST", f"{KB}/documents", {"name": "a.md", "content": "\ud800"}, 422, "invalid_request", "content"),
    ("POST", f"{KB}/documents", {"name": "\ud800.md", "content": "a"}, 422, "invalid_request", "name"),
    ("POST", f"{KB}/documents", {"name": "a.md", "base64": "%%"}, 422, "invalid_request", "base64"),
    ("POST", f"{KB}/documents", {"name": "a.md", "content": "a", "doc_id": "../a"}, 422, "invalid_request", "doc_id"),
    ("POST", f"{KB}/documents", {"name": "a.md", "content": "a", "doc_id": "/etc/a"}, 422, "invalid_request", "doc_id"),
    ("POST", f"{KB}/documents", {"name": "a\x00.md", "content": "a"}, 422, "invalid_request", "name"),
    ("POST", f"{KB}/documents", {"name": "a.md", "content": "a", "attributes": 5}, 422, "invalid_request",
     "attributes"),
    ("POST", "/api/v1/kb/nope/documents", {"name": "a.md", "content": "a"}, 404, "not_found", None),
    ("POST", f"{KB}/jobs", {}, 422, "invalid_request", "source"),
    ("POST", f"{KB}/jobs", {"source": {}}, 422, "invalid_request", "source"),
    ("POST", f"{KB}/jobs", {"source": {"folder": "/etc"}}, 422, "invalid_request", "source.folder"),
    ("POST", f"{KB}/jobs", {"source": {"s3": "nonsense"}}, 422, "invalid_request", "source.s3"),
    ("POST", f"{KB}/jobs", {"source": {"urls": []}}, 422, "invalid_request", "source.urls"),
    ("POST", f"{KB}/jobs", {"source": {"urls": ["https://a.example/"]}, "prune": True}, 422, "invalid_request",
     "prune"),
    ("POST", f"{KB}/jobs", {"source": {"s3": "s3://b/p"}, "allow_delete_percent": 101}, 422, "invalid_request",
     "allow_delete_percent"),
    ("GET", f"{KB}/documents?cursor=%25%25", None, 422, "invalid_request", "cursor"),
    ("GET", f"{KB}/documents?cursor=_w==", None, 422, "invalid_request", "cursor"),
    ("GET", f"{KB}/documents?limit=0", None, 422, "invalid_request", "limit"),
    ("GET", f"{KB}/documents?state=odd", None, 422, "invalid_request", "state"),
    ("GET", f"{KB}/documents?prefix=%00", None, 422, "invalid_request", "prefix"),
    ("GET", f"{KB}/documents/nope", None, 404, "not_found", None),
    ("GET", f"{KB}/documents/%00", None, 422, "invalid_request", "doc_id"),
    ("GET", f"{KB}/documents/nope/stages/vectors", None, 404, "not_found", None),
    ("GET", f"{KB}/documents/nope/stages/chunks?after=99999999999", None, 422, "invalid_request", "after"),
    ("GET", f"{KB}/jobs/nope?after=99999999999", None, 422, "invalid_request", "after"),
    ("GET", "/api/v1/kb/a%00b", None, 422, "invalid_request", "base"),
    ("GET", f"{KB}/jobs?cursor=YQ==", None, 422, "invalid_request", "cursor"),
    ("GET", f"{KB}/jobs/nope", None, 404, "not_found", None),
    ("POST", f"{KB}/jobs/nope/cancel", {}, 404, "not_found", None),
    ("PUT", f"{KB}/documents/a", {}, 405, "method_not_allowed", None),
]  # fmt: skip


async def test_bad_input_is_refused_by_field(database_url: str, redis_url: str) -> None:
    """All of it 4xx, none changes anything; and so is what nobody thought of."""
    async with knowing(database_url, redis_url, loaded=False) as client:
        as_json = {**OPS, "content-type": "application/json"}
        for method, path, body, status, code, field in BAD:
            sent = None if body is None else dumps(body)  # httpx itself cannot send half a surrogate pair
            is_problem(await client.request(method, path, content=sent, headers=as_json), status, code, field)
        too_long = {"name": "a.md", "content": "x" * 9_000_000}
        is_problem(await client.post(f"{KB}/documents", json=too_long, headers=OPS), 413, "body_too_large", "body")
        is_problem(await client.post(SEARCH, json={"query": "a", "x": "y" * 70_000}), 413, "body_too_large", "body")
        form = {"content-type": "multipart/form-data; boundary=x"}
        answer = await client.post(f"{KB}/documents", content=b"--x--", headers={**OPS, **form})
        is_problem(answer, 415, "unsupported_media_type", "content-type")
        assert (await client.get(f"{KB}/jobs", headers=OPS)).json()["jobs"] == []

        values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        anything = st.recursive(
            values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
        )
        bodies: list[Any] = []

        @effort(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.dictionaries(NAMES, anything, max_size=5))
        def draw(body: Any) -> None:
            bodies.append(body)

        draw()
        for n, body in enumerate(bodies):
            path = (SEARCH, f"{KB}/documents", f"{KB}/jobs")[n % 3]
            content = httpx.Request("POST", client.base_url, json=body).content if finite(body) else b"NaN"
            answer = await client.post(path, content=content, headers={**OPS, "content-type": "application/json"})
            assert answer.status_code < 500, (path, body, answer.text)


NAMES = st.sampled_from(
    ["query", "k", "mode", "filter", "equals", "andAll", "key", "value", "name", "content", "base64", "attributes",
     "doc_id", "source", "urls", "s3", "prune", "knowledge_base", "min_score", "\x00", "ü"]
)  # fmt: skip


def finite(body: Any) -> bool:
    """Whether it can be written as JSON."""
    try:
        httpx.Request("POST", "http://x", json=body)
    except ValueError:
        return False
    return True


async def test_a_name_with_odd_characters_is_kept_as_it_is(database_url: str, redis_url: str) -> None:
    async with knowing(database_url, redis_url, loaded=False) as client:
        name = "Häuser & Gärten/été #1?.md"
        await ended(client, await upload(client, {"name": name, "content": "Wörter."}))
        path = f"{KB}/documents/{quote(name)}"
        assert (await client.get(path, headers=OPS)).json()["doc_id"] == name
        raw = await client.get(f"{path}/stages/raw", headers=OPS)
        assert raw.content == "Wörter.".encode()
