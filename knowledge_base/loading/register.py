"""What is stored of a source before a run, and which documents of it the run has met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from knowledge_base.documents import Found
from knowledge_base.errors import NotFound, Refused, TooManyDeletions
from knowledge_base.stores.base import Known, Store

FEW = 3  # as many may go, unless these are all
ALL_PERCENT = 100.0


class Register:
    """Live documents by id and by address, claims of this run, and what has gone. Bound by the number of documents."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.is_first = False  # the knowledge base holds nothing yet
        self._live: dict[str, Known] = {}
        self._by_uri: dict[str, list[Known]] = {}
        self._listed: set[str] = set()  # addresses of stored documents that this run has seen
        self._kept: set[str] = set()  # further ones that are known to be there
        self._others: dict[str, str] = {}  # live documents of other sources, and which
        self._claimed: dict[str, str] = {}
        self._met: set[str] = set()

    @classmethod
    async def of(cls, store: Store, source: str) -> Register:
        """As the store knows it now."""
        register = cls(source)
        async for known in store.known():
            if known.state == "live":
                register._add(known)
        register.is_first = not register._live and not register._others
        return register

    @classmethod
    async def among(cls, store: Store, source: str, doc_ids: Sequence[str]) -> Register:
        """The same of a few documents: a base may hold a hundred thousand others."""
        register = cls(source)
        for doc_id in doc_ids:
            with suppress(NotFound):
                found = await store.document(doc_id)
                if found.state == "live":
                    known = Known(doc_id, found.source, "", found.content_hash, found.version, "live", found.uri)
                    register._add(known)
        return register

    def known(self, found: Found) -> Known | None:
        """The document as it was loaded before: by its address, since the file itself may name another id.

        A file that took another id has left the one before under its address too; the stamp tells them apart.
        """
        stored = self._by_uri.get(found.uri, ())
        same = (each for each in stored if each.stamp and each.stamp == found.stamp)
        return next(same, None) or next(iter(stored), None) or self._live.get(found.doc_id)

    def listed(self, found: Found) -> None:
        """The source has it."""
        if found.uri in self._by_uri:
            self._listed.add(found.uri)

    def keep(self, uris: Iterable[str]) -> None:
        """These addresses are there, though this run does not come by them."""
        self._kept.update(uris)

    def rival(self, doc_id: str, uri: str, *, is_whole: bool) -> str | None:
        """Where that id was loaded from, when that is elsewhere and this run has not come by it yet.

        `is_whole`: everything that is there was listed.
        """
        holder = self._live.get(doc_id)
        if holder is None or holder.uri == uri or doc_id in self._claimed or doc_id in self._met:
            return None
        return None if is_whole and holder.uri not in self._listed else holder.uri

    def live(self, doc_id: str) -> Known | None:
        """The stored document of that id, of this source."""
        return self._live.get(doc_id)

    def claim(self, doc_id: str, uri: str) -> None:
        """`doc_id` is that document's in this run; `Refused` (duplicate) when it is another's.

        Whoever has it stored keeps it for as long as it is there and names it; a `rival` has to be waited for.
        """
        if doc_id in self._others:
            raise Refused(
                "duplicate", f"{doc_id!r} is a document of {self._others[doc_id]} already: rename one of them"
            )
        first = self._claimed.get(doc_id)
        if first is None and (holder := self._live.get(doc_id)):
            is_there = doc_id in self._met or holder.uri in self._kept
            first = holder.uri if is_there else None
        if first not in (None, uri):
            raise Refused("duplicate", f"{doc_id!r} is {first} already: give one of the two another name or doc_id")
        self._claimed[doc_id] = uri
        self._met.add(doc_id)

    def spare(self, found: Found) -> bool:
        """It is there, though it was not taken; whether an older version of it is stored."""
        known = self.known(found)
        stored = self._by_uri.get(found.uri) or ([known] if known else [])
        self._met.update(each.doc_id for each in stored)
        if not stored:
            self._met.add(found.doc_id)
        return bool(stored)

    def gone(self, percent: float, *, listed: int) -> list[str]:
        """Documents that the source has no more; `TooManyDeletions` when these are too many to be believed."""
        gone = [doc_id for doc_id in self._live if doc_id not in self._met]
        if not gone or percent >= ALL_PERCENT:
            return gone
        way_out = "Nothing was deleted; --allow-delete-percent 100 deletes them."
        if not listed:
            raise TooManyDeletions(f"{self.source} lists nothing, and has {len(gone)} documents here. {way_out}")
        share = len(gone) / len(self._live) * 100
        is_all = len(gone) == len(self._live) and not self._listed
        if is_all or (len(gone) > FEW and not share <= percent):
            raise TooManyDeletions(
                f"{len(gone)} of {len(self._live)} documents of {self.source} are gone, {share:.0f} %, "
                f"and up to {percent:g} % may go. {way_out}"
            )
        return gone

    def _add(self, known: Known) -> None:
        if known.source != self.source:
            self._others[known.doc_id] = known.source
            return
        self._live[known.doc_id] = known
        self._by_uri.setdefault(known.uri, []).append(known)
