"""What somebody who is not at this machine may have loaded, and the source it means."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from knowledge_base.errors import InvalidRequest
from knowledge_base.sources.base import Source
from knowledge_base.sources.bucket import Bucket
from knowledge_base.sources.folder import shipped
from knowledge_base.sources.pages import Pages
from knowledge_base.sources.uploads import NAME as UPLOADS
from knowledge_base.sources.uploads import Upload, Uploads

OrderKind = Literal["uploads", "urls", "s3", "content"]
MAX_URLS = 1000
MAX_UPLOADS = 100


@dataclass(frozen=True, slots=True)
class Order:
    """What to load. `target`: addresses (urls), one `s3://…` (s3), else nothing. `InvalidRequest` when it cannot be.

    `prune`, `full` and `allow_delete_percent` are as in `Loader.sync`; only a bucket and the content folder can be
    synchronised, since of the others nobody knows what is missing.
    """

    kind: OrderKind
    target: tuple[str, ...] = ()
    prune: bool = False
    full: bool = False
    allow_delete_percent: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(OrderKind):
            raise InvalidRequest("source.kind", f"must be one of {', '.join(get_args(OrderKind))}")
        if self.kind == "urls" and not 1 <= len(self.target) <= MAX_URLS:
            raise InvalidRequest("source.urls", f"must name 1 to {MAX_URLS} addresses")
        if self.kind == "s3" and len(self.target) != 1:
            raise InvalidRequest("source.url", "must be one s3://bucket/folder")
        if self.prune and self.kind not in ("s3", "content"):
            raise InvalidRequest("prune", f"needs a source that lists all it has; {self.kind} does not")
        if self.allow_delete_percent is not None and not 0 <= self.allow_delete_percent <= 100:
            raise InvalidRequest("allow_delete_percent", "must be 0 to 100")

    def as_json(self) -> dict[str, Any]:
        """Inverse of `read_order`."""
        return asdict(self)


def read_order(body: dict[str, Any]) -> Order:
    """An order as it was stored."""
    return Order(**{**body, "target": tuple(body["target"])})


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Where orders may lead: no folder of this machine but `content`, no private host but those allowed."""

    max_bytes: int
    content: Path | None = None
    allowed_hosts: Collection[str] = ()

    def source(self, order: Order, uploads: Sequence[Upload] = ()) -> Source:
        """The source of an order; `InvalidRequest` names what is wrong with it. Nothing is reached yet."""
        match order.kind:
            case "s3":
                return Bucket(order.target[0], max_bytes=self.max_bytes)
            case "urls":
                return Pages(order.target, max_bytes=self.max_bytes, allowed_hosts=self.allowed_hosts, name="urls")
            case "content":
                if self.content is None:
                    raise InvalidRequest("source.kind", "content is not configured here (KB_CONTENT)")
                return shipped(self.content, max_bytes=self.max_bytes)
        return Uploads(uploads, max_bytes=self.max_bytes, name=UPLOADS)
