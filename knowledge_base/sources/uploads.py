"""Documents that came with a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from knowledge_base.documents import Found, Raw
from knowledge_base.errors import Refused

NAME = "uploads"


@dataclass(frozen=True, slots=True)
class Upload:
    """One document. `name` has the ending that says its kind; `sidecar` is JSON as in `<name>.metadata.json`."""

    doc_id: str
    name: str
    content: bytes
    media_type: str = ""
    sidecar: bytes | None = None


class Uploads:
    """A few documents in memory, under the ids that came with them, whatever their front matter says.

    What is not among them is not gone: such a source is loaded, never synchronised.
    """

    def __init__(self, documents: Sequence[Upload], *, max_bytes: int, name: str = NAME) -> None:
        self.name = name
        self._max_bytes = max_bytes
        self._documents: dict[str, Upload] = {}
        for n, each in enumerate(documents):
            uri = f"upload:{quote(each.doc_id)}"
            self._documents[uri if uri not in self._documents else f"{uri}#{n}"] = each

    @property
    def doc_ids(self) -> tuple[str, ...]:
        """Of all there are."""
        return tuple(dict.fromkeys(each.doc_id for each in self._documents.values()))

    async def list(self) -> AsyncIterator[Found]:
        """In the order given."""
        for uri, each in self._documents.items():
            yield Found(each.doc_id, uri, each.name, len(each.content), "")

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """As it was given."""
        each = self._documents[found.uri]
        if len(each.content) > self._max_bytes:
            raise Refused("too_large", f"{len(each.content)} bytes; up to {self._max_bytes} are taken")
        return Raw(found, each.content, each.media_type, each.sidecar)

    async def close(self) -> None:
        """Nothing is held open."""
