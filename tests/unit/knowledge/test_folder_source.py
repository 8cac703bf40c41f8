"""What a folder gives, and what it does not, whoever made the files in it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from knowledge_base.documents import Found
from knowledge_base.errors import Refused, SourceUnavailable
from knowledge_base.sources.folder import Folder, shipped

MAX_BYTES = 5_000_000


def folder_of(path: Path) -> Folder:
    return Folder(path, max_bytes=MAX_BYTES)


async def listed(source: Folder) -> list[Found]:
    return [found async for found in source.list()]


async def reasons(source: Folder) -> dict[str, str]:
    """Why each document is refused, "" for one that is read."""
    said = {}
    for found in await listed(source):
        try:
            await source.read(found)
            said[found.doc_id] = ""
        except Refused as refused:
            said[found.doc_id] = refused.reason
    return said


async def test_links_pipes_and_devices_are_refused_each_for_itself(tmp_path: Path) -> None:
    """Listed, so that nobody takes them for gone; never followed, never waited for."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    (inside / "good.md").write_text("good")
    (inside / "link.md").symlink_to(outside / "secret.md")
    (inside / "near.md").symlink_to(inside / "good.md")
    (inside / "broken.md").symlink_to(inside / "nothing")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(inside / "socket.md"))
        assert await reasons(folder_of(inside)) == {
            "good.md": "",
            **dict.fromkeys(("link.md", "near.md", "broken.md", "folder"), "symlink"),
            **dict.fromkeys(("pipe.md", "socket.md"), "special"),
        }


async def test_hidden_files_and_sidecars_are_no_documents(tmp_path: Path) -> None:
    """A sidecar comes with its document, and changes its stamp."""
    for name in (".hidden.md", ".git/config.md", "a.md", "a.md.metadata.json", "gone.md.metadata.json", "b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    source = folder_of(tmp_path)
    a, b = await listed(source)
    assert (a.doc_id, b.doc_id) == ("a.md", "b.md")
    assert (await source.read(a)).sidecar == b"a.md.metadata.json"
    assert (await source.read(b)).sidecar is None

    def stamp() -> str:
        return next(source._walk([])).stamp

    await until(lambda: stamp() != "")
    before = stamp()
    (tmp_path / "a.md.metadata.json").write_text("{}")
    await until(lambda: stamp() not in ("", before))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_file_that_is_written_to_meanwhile_is_refused(tmp_path: Path) -> None:
    """What was read is never half of one version and half of another."""
    path = tmp_path / "a.md"
    path.write_bytes(b"a" * MAX_BYTES)
    stop = threading.Event()

    def keep_writing() -> None:
        with path.open("r+b") as file:
            while not stop.is_set():
                file.seek(0)
                file.write(b"b")
                file.flush()

    source = folder_of(tmp_path)
    (found,) = await listed(source)
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        reason = await first_refusal(source, found)
    finally:
        stop.set()
        writer.join()
    assert reason == "changed"
    assert (await source.read(found)).content == b"b" + b"a" * (MAX_BYTES - 1)


async def first_refusal(source: Folder, found: Found) -> str:
    for _ in range(200):
        try:
            await source.read(found)
        except Refused as refused:
            return refused.reason
    return "never"


@pytest.mark.parametrize("doc_id", ["../secret.md", "/etc/passwd", "sub/../../secret.md", "", ".", "a//b"])
async def test_no_name_leads_out(tmp_path: Path, doc_id: str) -> None:
    """Whoever asks for it, by whatever name."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.md").write_text("secret")
    with pytest.raises(Refused) as refused:
        await folder_of(tmp_path / "in").read(Found(doc_id, "", "", None, ""))
    assert refused.value.reason == "outside"


async def test_a_folder_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    """Also between list and read."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.md").write_text("good")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.md").write_text("secret")
    source = folder_of(tmp_path / "in")
    (found,) = await listed(source)
    (tmp_path / "in" / "sub").rename(tmp_path / "in" / "old")
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "out")
    with pytest.raises(Refused) as refused:
        await source.read(found)
    assert refused.value.reason == "symlink"


async def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """And their listing can be stored."""
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("x")
    (found,) = await listed(folder_of(tmp_path))
    found.doc_id.encode()
    assert found.uri.endswith("caf%E9.md")
    assert await reasons(folder_of(tmp_path)) == {"caf\ufffd.md": "bad_name"}


async def test_what_cannot_be_listed_is_said_after_the_rest(tmp_path: Path) -> None:
    """So that the rest is loaded, and nothing below it is taken for gone."""
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "sub" / "z").mkdir(parents=True)
    (tmp_path / "sub" / "b.md").write_text("b")
    source = folder_of(tmp_path)
    before = source._folder

    def refusing(parts: tuple[str, ...]) -> object:
        if parts == ("sub", "z"):
            raise PermissionError(13, "Permission denied")
        return before(parts)

    source._folder = refusing  # type: ignore[assignment, method-assign] # root may read everything
    walk = source.list()
    assert [(await anext(walk)).doc_id, (await anext(walk)).doc_id] == ["a.md", "sub/b.md"]
    with pytest.raises(SourceUnavailable, match=r"sub/z \(Permission denied\)"):
        await anext(walk)
    with pytest.raises(SourceUnavailable, match="No such file"):
        await listed(folder_of(tmp_path / "missing"))


async def test_a_single_file_is_a_source_too(tmp_path: Path) -> None:
    """And nothing beside it."""
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "b.md").write_text("b")
    (tmp_path / "a.md.metadata.json").write_text("{}")
    source = folder_of(tmp_path / "a.md")
    (found,) = await listed(source)
    raw = await source.read(found)
    assert (found.doc_id, raw.content, raw.sidecar) == ("a.md", b"a", b"{}")
    assert source.name == (tmp_path / "a.md").as_uri() != folder_of(tmp_path).name


async def test_the_shipped_folder_does_not_tell_where_it_is(tmp_path: Path) -> None:
    """Its addresses come in citations."""
    (tmp_path / "a b.md").write_text("a")
    source = shipped(tmp_path, max_bytes=MAX_BYTES)
    (found,) = await listed(source)
    assert (source.name, found.uri) == ("content", "content:/a%20b.md")
