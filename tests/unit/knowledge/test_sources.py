"""What holds for every source, on real files, a real S3 server and a real web server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from knowledge_base.documents import Found
from knowledge_base.errors import Refused
from knowledge_base.sources.base import NotChanged, Source
from tests.unit.knowledge.source_stands import (
    MAX_BYTES,
    BucketStand,
    FolderStand,
    PagesStand,
    Stand,
    UploadsStand,
    s3_server,
    serving,
)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


KINDS = ("folder", "bucket", "pages", "uploads")


@pytest.fixture(params=KINDS)
async def stand(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        if request.param == "folder":
            yield FolderStand(tmp_path)
        elif request.param == "bucket":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            bucket = BucketStand(request.getfixturevalue("s3_url"))
            await bucket.make()
            yield bucket
        elif request.param == "pages":
            yield PagesStand(await stack.enter_async_context(serving()))
        else:
            yield UploadsStand()


async def listed(source: Source) -> list[Found]:
    return [found async for found in source.list()]


async def test_everything_is_listed_and_read(stand: Stand) -> None:
    """Names with spaces and of any script, in folders, each once, in the same order every time; byte for byte."""
    contents = {"a.md": b"A", "sub/b & c+d.txt": b"\x00B\xff", "über/ж.md": "Grüße".encode(), "empty.md": b""}
    for name, content in contents.items():
        await stand.put(name, content)
    source = stand.source()
    try:
        found = await listed(source)
        assert found == await listed(source)
        assert {(await source.read(each)).content for each in found} == set(contents.values())
        assert len({each.doc_id for each in found}) == len({each.uri for each in found}) == len(contents)
        assert {each.name for each in found} >= {"a.md", "empty.md"}
    finally:
        await source.close()
    assert source.name == stand.source().name


async def test_what_is_read_says_when_it_changes(stand: Stand) -> None:
    """The stamp of what was read: equal while nothing changed, and another one afterwards."""
    await stand.put("a.md", b"first")
    source = stand.source()
    try:
        (found,) = await listed(source)
        first = (await source.read(found)).found.stamp
        again = await seen(source, first)
        assert again in (first, "")
        await stand.put("a.md", b"second!")
        if not isinstance(stand, UploadsStand):  # these are new each time
            assert first
            assert await seen(source, first) != first
    finally:
        await source.close()


async def seen(source: Source, known: str) -> str:
    """What a run would go by: the listed stamp, or that of a conditional read."""
    (found,) = await listed(source)
    try:
        return found.stamp or (await source.read(found, known_stamp=known)).found.stamp
    except NotChanged:
        return known


async def test_what_is_too_large_is_listed_and_refused(stand: Stand) -> None:
    """And so is nothing else."""
    await stand.put("big.md", b"x" * (MAX_BYTES + 1))
    await stand.put("fits.md", b"x" * MAX_BYTES)
    source = stand.source()
    try:
        big, fits = await listed(source)
        with pytest.raises(Refused) as refused:
            await source.read(big)
        assert refused.value.reason == "too_large"
        assert len((await source.read(fits)).content) == MAX_BYTES
    finally:
        await source.close()


@pytest.mark.parametrize("stand", KINDS[:3], indirect=True)
async def test_what_goes_between_list_and_read_is_refused(stand: Stand) -> None:
    """It is said, and is no error of the source."""
    await stand.put("a.md", b"A")
    source = stand.source()
    try:
        (found,) = await listed(source)
        await stand.remove("a.md")
        with pytest.raises(Refused) as refused:
            await source.read(found)
        assert refused.value.reason in ("changed", "unreachable")
    finally:
        await source.close()
