"""Pages and buckets against servers that are not what one would wish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from knowledge_base.aws import Aws
from knowledge_base.documents import Found, Raw
from knowledge_base.errors import InvalidRequest, Refused, SourceUnavailable
from knowledge_base.sources.bucket import Bucket
from knowledge_base.sources.pages import Pages, read_list
from tests.unit.knowledge.source_stands import Site, gzipped, serving

MAX_BYTES = 100_000


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as made:
        yield made


async def fetched(url: str, **more: Any) -> Raw:
    """One page, read by a source of its own."""
    pages = Pages([url], **{"max_bytes": MAX_BYTES, "allowed_hosts": ["127.0.0.1"], **more})
    try:
        (found,) = [each async for each in pages.list()]
        return await pages.read(found)
    finally:
        await pages.close()


async def refusal(url: str, **more: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await fetched(url, **more)
    return refused.value


def answers(**given: Any) -> Any:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(**given)

    return answer


ODD = ("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.")


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *(*ODD, "127.0.0.1", "0.0.0.0", "localhost", "LOCALHOST"),  # noqa: S104
        *("10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[fe80::1]", "[fc00::1]", "[ff02::1]"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fd00:ec2::254]", "[fec0::1]", "192.88.99.1"),
    ],
)
async def test_no_private_address_is_asked_however_it_is_written(site: Site, host: str) -> None:
    """Unless it is listed; nothing is sent."""
    refused = await refusal(site.url.replace("127.0.0.1", host), allowed_hosts=[])
    assert refused.reason == ("bad_name" if host in ODD else "private_address")
    assert site.asked == []


async def test_what_a_name_resolves_to_is_what_is_checked_and_connected_to(site: Site) -> None:
    """One look-up a connection: a name that means something else the next time gains nothing."""
    asked = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.9.9.9"]

    site.pages["/a.md"] = b"A"
    url = site.url.replace("127.0.0.1", "docs.example") + "/a.md"
    assert (await fetched(url, allowed_hosts=["docs.example"], lookup=rebinding)).content == b"A"
    assert asked == ["docs.example"]
    assert site.asked[0][1]["host"].startswith("docs.example:")

    async def both(_host: str) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"]

    assert (await refusal(url, lookup=both)).reason == "private_address"
    assert len(site.asked) == 1


async def test_every_redirect_is_checked_like_the_first_address(site: Site) -> None:
    """Host, scheme and number; what is read is shown under the address that was listed."""
    port = site.url.rpartition(":")[2]
    targets = {
        "/good": "/page",
        "/private": f"http://localhost:{port}/page",
        "/file": "file:///etc/passwd",
        "/user": f"http://me:secret@127.0.0.1:{port}/page",
        "/round": "/round",
    }
    for path, target in targets.items():
        site.answers[path] = answers(status=302, headers={"location": target})
    site.pages["/page"] = b"P"
    good = await fetched(f"{site.url}/good")
    assert (good.content, good.found.uri) == (b"P", f"{site.url}/good")
    expected = {"/private": "private_address", "/file": "unsupported", "/user": "unsupported", "/round": "unreachable"}
    assert {path: (await refusal(site.url + path)).reason for path in expected} == expected
    assert len([path for path, _ in site.asked if path == "/round"]) == 6


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/a", "unsupported"),
        ("file:///etc/passwd", "unsupported"),
        ("nonsense", "unsupported"),
        ("http://", "unsupported"),
        ("http://[::1", "bad_name"),
        ("https://example.com/" + "a" * 2000, "bad_name"),
    ],
)
async def test_what_is_no_web_address_is_refused(url: str, reason: str) -> None:
    """One line of the list, and no more."""
    assert (await refusal(url)).reason == reason


async def test_a_password_in_an_address_is_refused_and_never_shown() -> None:
    """It would come in citations."""
    pages = Pages(["https://me:hunter2@example.com/a#top"], max_bytes=MAX_BYTES)
    (found,) = [each async for each in pages.list()]
    assert found.uri == found.doc_id == "https://***@example.com/a"
    with pytest.raises(Refused, match="user or password"):
        await pages.read(found)


async def test_a_page_is_read_to_its_limit_and_no_further(site: Site) -> None:
    """Whatever it says of its size, and however well it is compressed."""
    fits = b"x" * MAX_BYTES
    encoded = {"content-encoding": "gzip"}
    site.answers["/fits"] = answers(body=gzipped(fits), headers=encoded)
    site.answers["/large"] = answers(body=fits + b"x")
    site.answers["/bomb"] = answers(body=gzipped(bytes(200 * MAX_BYTES)), headers=encoded)
    site.answers["/cut"] = answers(body=gzipped(fits)[:50], headers=encoded)
    site.answers["/odd"] = answers(body=b"x", headers={"content-encoding": "br"})
    site.answers["/none"] = answers(status=404)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    site.answers["/endless"] = endless
    assert (await fetched(site.url + "/fits")).content == fits
    expected = {
        "/large": "too_large",
        "/bomb": "bomb",
        "/cut": "corrupt",
        "/odd": "unsupported",
        "/none": "unreachable",
        "/endless": "too_large",
    }
    assert {path: (await refusal(site.url + path)).reason for path in expected} == expected


async def test_a_page_that_does_not_come_is_refused_in_time(site: Site) -> None:
    """So is one whose server is not there."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.001)

    site.answers["/drip"] = drip
    assert (await refusal(site.url + "/drip", seconds=0.1, max_bytes=10**9)).reason == "timeout"
    assert (await refusal("http://127.0.0.1:9/")).reason == "unreachable"


def test_a_list_of_addresses_may_hold_remarks() -> None:
    """And empty lines."""
    assert read_list("# ours\n\nhttps://a.example/ \n  # more\nhttps://b.example/") == [
        "https://a.example/",
        "https://b.example/",
    ]


# --- buckets --------------------------------------------------------------------------------------------------------


def bucket(site: Site, path: str = "docs") -> Bucket:
    return Bucket(
        f"s3://bucket/{path}".rstrip("/"),
        max_bytes=MAX_BYTES,
        pauses_s=(0.001,) * 3,
        aws=Aws("s3", endpoint_url=site.url),
    )


async def listed(source: Bucket) -> list[Found]:
    try:
        return [found async for found in source.list()]
    finally:
        await source.close()


def page(*keys: str, more: str = "") -> str:
    contents = "".join(
        f'<Contents><Key>{key}</Key><Size>1</Size><ETag>"{n}"</ETag></Contents>' for n, key in enumerate(keys)
    )
    tail = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{contents}{tail}</ListBucketResult>'


async def test_a_bucket_is_listed_page_by_page(site: Site) -> None:
    """Only what lies in the folder; sidecars stay with their documents, also across pages, and other keys between."""
    pages = {
        "": page("docs", "docs-old/x.md", "docs/", "docs/.hidden", "docs/a.md", "docs/a.md.bak", more="t%2B1"),
        "t%2B1": page("docs/a.md.metadata.json", "docs/b+c%20d.md", "docs/only.metadata.json"),
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["prefix"] == "docs"
        return web.Response(text=pages[request.query.get("continuation-token", "")], content_type="application/xml")

    site.answers["/bucket/"] = answer
    found = await listed(bucket(site))
    assert [(each.doc_id, each.stamp) for each in found] == [
        ("docs", "0"), ("a.md.bak", "5"), ("a.md", "4 0"), ("b c d.md", "1")
    ]  # fmt: skip
    assert found[2].uri == "s3://bucket/docs/a.md"


async def test_a_bucket_that_is_busy_is_asked_again(site: Site) -> None:
    """But not for ever."""
    tries = []

    async def busy(_request: web.Request) -> web.StreamResponse:
        tries.append(1)
        if len(tries) == 3:
            return web.Response(text=page("docs/a.md"), content_type="application/xml")
        return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")

    site.answers["/bucket/"] = busy
    assert len(await listed(bucket(site))) == 1
    with pytest.raises(SourceUnavailable, match="too busy"):
        await listed(bucket(site))
    assert len(tries) == 3 + 4


@pytest.mark.parametrize(
    ("status", "code", "headers", "said"),
    [
        (404, "NoSuchBucket", {}, "no such bucket"),
        (403, "AccessDenied", {}, "s3:ListBucket"),
        (403, "InvalidAccessKeyId", {}, "AWS_ACCESS_KEY_ID"),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-3"}, "AWS_REGION=eu-west-3"),
        (400, "AuthorizationHeaderMalformed", {"x-amz-bucket-region": "eu-west-3"}, "AWS_REGION=eu-west-3"),
        (418, "", {}, "418"),
        (200, "", {}, "does not speak S3"),
    ],
)
async def test_a_bucket_that_cannot_be_listed_says_why(
    site: Site, status: int, code: str, headers: dict[str, str], said: str
) -> None:
    """With what to do."""
    site.answers["/bucket/"] = answers(status=status, headers=headers, text=f"<Error><Code>{code}</Code>")
    with pytest.raises(SourceUnavailable, match=said):
        await listed(bucket(site))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<Error><Code>None</Code></Error>", "does not speak S3"),
        ("<html><body>Welcome</body></html>", "does not speak S3"),
        (page("docs/a.md", more="x").replace(">x<", "><"), "breaks off"),
        (page("docs/a.md").replace("<Size>1", "<Size>zz"), "no size for 'docs/a.md'"),
    ],
)
async def test_what_is_no_whole_list_is_not_believed(site: Site, text: str, said: str) -> None:
    """An empty or short one would mean that documents are gone."""
    site.answers["/bucket/"] = answers(text=text, content_type="application/xml")
    with pytest.raises(SourceUnavailable, match=said):
        await listed(bucket(site))


async def test_an_object_that_may_not_be_read_is_refused_alone(site: Site) -> None:
    """With the right that is missing; and one that was replaced since it was listed, with that."""
    source = bucket(site)
    site.answers["/bucket/docs/a.md"] = answers(status=403, text="<Error><Code>AccessDenied</Code></Error>")
    site.answers["/bucket/docs/b.md"] = answers(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
    try:
        with pytest.raises(Refused, match="s3:GetObject"):
            await source.read(Found("a.md", "s3://bucket/docs/a.md", "a.md", 1, "1"))
        with pytest.raises(Refused, match="changed after it was listed"):
            await source.read(Found("b.md", "s3://bucket/docs/b.md", "b.md", 1, "1"))
    finally:
        await source.close()
    assert site.asked[-1][1]["if-match"] == '"1"'


@pytest.mark.parametrize("url", ["s3://", "s3://UPPER/x", "s3:/bucket", "bucket/x", "s3://a b/"])
def test_what_is_no_bucket_is_said_at_once(url: str) -> None:
    """With how one looks."""
    with pytest.raises(InvalidRequest, match="s3://bucket/folder"):
        Bucket(url, max_bytes=MAX_BYTES)
