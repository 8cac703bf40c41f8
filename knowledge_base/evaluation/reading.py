"""The documents of a set, one at a time: lines of a file, or files of a folder as a load would read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from knowledge_base.documents import Found, Parsed, Raw
from knowledge_base.errors import Refused
from knowledge_base.evaluation.run import Document
from knowledge_base.evaluation.sets import Record, read_records
from knowledge_base.parsing import Limits, Parser
from knowledge_base.sources.folder import Folder

STEP = 200  # lines read before others get their turn


def documents_of(path: Path, limits: Limits, refused: Callable[[str], None]) -> AsyncIterator[Document]:
    """All of them; `BadSet` for a bad line. A file that cannot be parsed is told to `refused`, and left out."""
    return _files(path, limits, refused) if path.is_dir() else _lines(path)


def size_of(path: Path) -> int:
    """Bytes, about: for progress."""
    return (
        sum(each.stat().st_size for each in path.rglob("*") if each.is_file()) if path.is_dir() else path.stat().st_size
    )


async def _lines(path: Path) -> AsyncIterator[Document]:
    for number, record in enumerate(read_records(path)):
        if number % STEP == 0:
            await asyncio.sleep(0)
        yield _as_document(record)


async def _files(path: Path, limits: Limits, refused: Callable[[str], None]) -> AsyncIterator[Document]:
    folder = Folder(path, max_bytes=limits.max_bytes)
    async with Parser(limits) as parser:
        async for found in folder.list():
            try:
                raw = await folder.read(found)
                parsed = await parser.parse(raw)
            except Refused as error:
                refused(f"{found.doc_id} is left out: {error}")
                continue
            yield raw, parsed


def _as_document(record: Record) -> Document:
    """As if it had been parsed: plain text under its title."""
    content = f"{record.title}\n{record.text}".encode()
    found = Found(record.doc_id, f"set:{record.doc_id}", record.doc_id, len(content), str(len(content)))
    return Raw(found, content, "text/plain"), Parsed(record.text, record.title, "text/plain")
