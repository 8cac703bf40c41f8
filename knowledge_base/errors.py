"""What can go wrong here, each with a code, and a message that names the field or document and the fix."""

from __future__ import annotations

from typing import ClassVar


class KnowledgeError(Exception):
    """Base of all below. `str()` may be shown to whoever asked: it holds no secret and no path of ours."""

    code: ClassVar[str] = "knowledge_error"


class InvalidRequest(KnowledgeError):
    """A search, filter or setting that cannot be meant so; `field` names it with dots."""

    code = "invalid_request"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotFound(KnowledgeError):
    """No such knowledge base, document or job for this tenant."""

    code = "not_found"


class Refused(KnowledgeError):
    """One document is not taken; the run goes on with the others.

    `reason` is a stable word for programs: too_large, too_long, empty, corrupt, encrypted, bomb, binary, unsupported,
    outside, symlink, special, bad_name, duplicate, private_address, unreachable, changed, bad_metadata, timeout,
    duplicate_name.
    """

    code = "refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class IndexMismatch(KnowledgeError):
    """The index was made with another embedding model or dimension; the message holds the command that mends it."""

    code = "index_mismatch"


class TooManyDeletions(KnowledgeError):
    """A sync would delete more than the protection allows. Nothing was deleted."""

    code = "too_many_deletions"


class SourceUnavailable(KnowledgeError):
    """A source cannot be listed, or not to its end. Nothing is deleted on the word of such a list."""

    code = "source_unavailable"


class SourceBusy(KnowledgeError):
    """Another job loads the same source just now."""

    code = "source_busy"


class EmbeddingFailed(KnowledgeError):
    """The embedding model did not answer, or not with vectors of its dimension."""

    code = "embedding_failed"


class TextTooLong(EmbeddingFailed):
    """One text is longer than the model reads; the others can be embedded without it."""


class StoreUnreachable(KnowledgeError):
    """PostgreSQL or Chroma did not answer, or lacks something (the message says what, and the fix)."""

    code = "store_unreachable"
