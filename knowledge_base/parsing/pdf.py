"""Pdf by its text layer, page by page."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pypdf import PdfReader
from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

from knowledge_base.errors import Refused
from knowledge_base.parsing.deadline import Deadline
from knowledge_base.parsing.draft import Body, Draft, one_line, squeeze
from knowledge_base.parsing.limits import Limits

# What pypdf raises over files that are not as they should be, its own errors apart.
BROKEN = (
    *(PyPdfError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    *(NotImplementedError, RecursionError, EOFError, OSError, struct.error, zlib.error),
)
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010]\n(?=[^\W\d_A-Z])")
_NO_TITLE = re.compile(r"untitled|microsoft word|\.\w{2,4}$", re.I)
MANY = 10

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every oddity; what matters is refused or told


def read_pdf(name: str, content: bytes, limits: Limits) -> Body:
    """The text of every page; `Refused` when there is a password, no text, or no end."""
    deadline = Deadline(name, limits.seconds)
    draft = Draft(name, limits.max_chars)
    with _broken(name):
        reader = PdfReader(io.BytesIO(content), strict=False)
        locked = reader.is_encrypted and not reader.decrypt("")
    if locked:
        raise _encrypted(name)
    with _broken(name):
        pages = len(reader.pages)
    if pages > limits.max_pages:
        raise Refused(
            "too_long", f"{name}: has {pages} pages, more than {limits.max_pages}; split it, or raise KB_MAX_PAGES"
        )
    silent = []
    for number in range(1, pages + 1):
        deadline.check()
        with _broken(name):
            text = reader.pages[number - 1].extract_text()
        draft.page(number)
        before = len(draft)
        draft.block(_HYPHEN.sub("", squeeze(text)))
        if len(draft) == before:
            silent.append(str(number))
    if not len(draft):
        raise Refused("empty", f"{name}: has no text layer on its {pages} pages, only images; run it through OCR first")
    with _broken(name):
        told = reader.metadata.title if reader.metadata else None
        language = reader.trailer["/Root"].get("/Lang")  # type: ignore[attr-defined]
    title = one_line(told) if isinstance(told, str) and not _NO_TITLE.search(told) else ""
    warnings = [f"no text on {len(silent)} of {pages} pages: {', '.join(silent[:MANY])}"] if silent else []
    return draft.body(title=title, language=str(language or ""), warnings=warnings)


@contextmanager
def _broken(name: str) -> Iterator[None]:
    """What the library raises, as what it means."""
    try:
        yield
    except DependencyError:
        raise _encrypted(name) from None
    except LimitReachedError:
        raise Refused("bomb", f"{name}: unpacks to far more than it should hold; leave it out") from None
    except BROKEN as error:
        what = type(error).__name__
        raise Refused("corrupt", f"{name}: is no sound pdf ({what}); get it anew, or print it to a new pdf") from None


def _encrypted(name: str) -> Refused:
    return Refused("encrypted", f"{name}: is protected by a password; save it without one")
