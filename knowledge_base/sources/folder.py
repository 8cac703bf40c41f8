"""Files below a folder. Nothing outside it is ever read, whatever links, names or races say."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from knowledge_base.documents import Found, Raw
from knowledge_base.errors import Refused, SourceUnavailable
from knowledge_base.sources.base import MAX_SIDECAR, SIDECAR

AT_ONCE = 500  # files listed per step off the loop
PIECE = 1 << 20
UNREADABLE = "\ufffd"  # stands in a name for what is not UTF-8
# A write within the same tick of the file system's clock leaves the same time stamp.
FINE_TICK_NS = 50_000_000
COARSE_TICK_NS = 2_000_000_000
# `list` is the name of a method below.
Names = list[str]
Folders = list[tuple[str, ...]]
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """All files below `path`, but hidden ones and sidecars; `doc_id` is the relative path, with `/`.

    `path` may be a single file, too. `name` is the source's, else its `file://` address; `base_uri` is what the
    addresses of documents begin with, else that of the folder.
    """

    def __init__(self, path: Path, *, max_bytes: int, name: str = "", base_uri: str = "") -> None:
        whole = path.resolve()
        self.name = name or whole.as_uri()
        self._only = whole.name if whole.is_file() else ""
        self._root = whole.parent if self._only else whole
        self._max_bytes = max_bytes
        self._base_uri = (base_uri or self._root.as_uri()).rstrip("/")

    async def list(self) -> AsyncIterator[Found]:
        """In order of the names. Folders that cannot be listed are said at the end, in one `SourceUnavailable`."""
        closed: Names = []
        walk = self._walk(closed)
        while some := await asyncio.to_thread(lambda: list(islice(walk, AT_ONCE))):
            for found in some:
                yield found
        if closed:
            raise SourceUnavailable(f"cannot be listed: {'; '.join(closed[:3])}{'; …' if len(closed) > 3 else ''}")

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """The file and its sidecar, both as they are at one moment."""
        return await asyncio.to_thread(self._read, found)

    async def close(self) -> None:
        """Nothing is held open."""

    def _walk(self, closed: Names) -> Iterator[Found]:
        waiting: Folders = [()]  # the next one last
        while waiting:
            parts = waiting.pop()
            try:
                with self._folder(parts) as folder, os.scandir(folder) as entries:
                    inside = sorted(entries, key=lambda entry: os.fsencode(entry.name))
                    names = {entry.name for entry in inside}
                    folders: Folders = []
                    files = []
                    for entry in inside:
                        if entry.name != self._only if self._only else entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append((*parts, entry.name))
                        elif not entry.name.endswith(SIDECAR):
                            files.append(self._found((*parts, entry.name), folder, entry.name + SIDECAR in names))
            except OSError as error:
                closed.append(f"{_text('/'.join(parts)) or 'the folder'} ({error.strerror})")
                continue
            yield from files
            waiting += reversed(folders)

    def _found(self, parts: tuple[str, ...], folder: int, has_sidecar: bool) -> Found:
        doc_id = "/".join(parts)
        uri = f"{self._base_uri}/{quote(os.fsencode(doc_id))}"
        try:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            beside = os.stat(parts[-1] + SIDECAR, dir_fd=folder, follow_symlinks=False) if has_sidecar else None
        except FileNotFoundError:  # it has just gone, which reading will say
            return Found(_text(doc_id), uri, _text(parts[-1]), None, "")
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return Found(_text(doc_id), uri, _text(parts[-1]), size, _stamp(status, beside))

    def _read(self, found: Found) -> Raw:
        if UNREADABLE in found.doc_id:
            raise Refused("bad_name", "the file's name is not UTF-8; rename it")
        parts = tuple(found.doc_id.split("/"))
        if any(part in ("", ".", "..") for part in parts):
            raise Refused("outside", "the path leads out of the folder")
        try:
            with self._folder(parts[:-1]) as folder:
                content, status = self._content(folder, parts[-1], self._max_bytes)
                sidecar, beside = None, None
                try:
                    sidecar, beside = self._content(folder, parts[-1] + SIDECAR, MAX_SIDECAR)
                except FileNotFoundError:
                    pass
                except Refused as refused:
                    raise Refused(refused.reason, f"its sidecar {parts[-1]}{SIDECAR}: {refused}") from refused
        except OSError as error:
            raise _refusal(error) from error
        return Raw(replace(found, size=len(content), stamp=_stamp(status, beside)), content, sidecar=sidecar)

    @contextmanager
    def _folder(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of a folder below ours. Each step is opened for itself and follows no link."""
        descriptor = os.open(self._root, _DIRECTORY)
        try:
            for part in parts:
                deeper = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)

    def _content(self, folder: int, name: str, max_bytes: int) -> tuple[bytes, os.stat_result]:
        # To open a device can do something to it; what is opened is looked at again.
        _must_be_file(os.stat(name, dir_fd=folder, follow_symlinks=False))
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            before = os.fstat(descriptor)
            _must_be_file(before)
            if before.st_size > max_bytes:
                raise Refused("too_large", f"{before.st_size} bytes; up to {max_bytes} are taken")
            pieces, size = [], 0
            while piece := os.read(descriptor, PIECE):
                size += len(piece)
                if size > before.st_size:
                    break
                pieces.append(piece)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if size != before.st_size or _moment(before) != _moment(after):
            raise Refused("changed", "the file changed while it was read; the next run takes it")
        return b"".join(pieces), after


def shipped(path: Path, *, max_bytes: int) -> Folder:
    """The folder that a base is filled from at start. Its documents' addresses do not tell where it lies."""
    return Folder(path, max_bytes=max_bytes, name="content", base_uri="content:")


def _stamp(status: os.stat_result, sidecar: os.stat_result | None) -> str:
    """Times and size of both files; empty while a further write could leave the same ones."""
    if not stat.S_ISREG(status.st_mode) or any(map(_is_fresh, filter(None, (status, sidecar)))):
        return ""
    return " ".join("-".join(map(str, _moment(each))) for each in (status, sidecar) if each)


def _must_be_file(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Refused("symlink", "a symbolic link; links are not followed: put the file itself there")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("special", "not a regular file but a pipe, socket or device")


def _moment(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _is_fresh(status: os.stat_result) -> bool:
    latest = max(status.st_mtime_ns, status.st_ctime_ns)
    tick = FINE_TICK_NS if status.st_ctime_ns % 1_000_000 else COARSE_TICK_NS
    return abs(time.time_ns() - latest) < tick


def _text(name: str) -> str:
    """A file's name as text that can be stored; what is not UTF-8 becomes the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


def _refusal(error: OSError) -> Refused:
    match error.errno:
        case errno.ELOOP | errno.ENOTDIR:
            return Refused("symlink", "a symbolic link, or below one; links are not followed")
        case errno.ENOENT:
            return Refused("changed", "it went while it was read; the next run sees whether it is gone")
        case errno.ENXIO | errno.ENODEV:
            return Refused("special", "not a regular file but a pipe, socket or device")
        case errno.EACCES | errno.EPERM:
            return Refused("unreachable", "may not be read by the user who runs this")
    return Refused("unreachable", f"cannot be read: {error.strerror}")
