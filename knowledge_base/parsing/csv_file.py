"""Comma-separated values, by whatever they are separated."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from knowledge_base.parsing.draft import Body, Draft
from knowledge_base.parsing.rows import write_rows

SEPARATORS = ",;\t|"
SAMPLED_ROWS = 50
SAMPLE = 64 * 1024

csv.field_size_limit(sys.maxsize)


def read_csv(name: str, text: str, max_chars: int) -> Body:
    """Every row as a line with the names of its columns; blocks of rows are the pages."""
    separator, text = _told_separator(text)
    separator = separator or ("\t" if name.lower().endswith(".tsv") else _separator(text))
    warnings: list[str] = []
    quoting = csv.QUOTE_MINIMAL
    if not _quotes_close(text, separator):
        quoting = csv.QUOTE_NONE
        warnings.append("a quotation mark is never closed, so all were read as plain characters")
    draft = Draft(name, max_chars)
    ragged = write_rows(draft, _rows(text, separator, quoting), paged=True)
    if ragged:
        warnings.append(f"{ragged} rows have more cells than the header names")
    return draft.body(warnings=warnings)


def _told_separator(text: str) -> tuple[str, str]:
    """Excel's first line `sep=;`."""
    first, _, rest = text.partition("\n")
    told = first.strip().strip('"')
    return (told[4], rest) if len(told) == 5 and told.lower().startswith("sep=") else ("", text)


def _separator(text: str) -> str:
    """The one by which most rows have the same number of cells, and many of them."""
    sample = text[:SAMPLE]

    def share(separator: str) -> float:
        widths = Counter(len(row) for row in islice(_rows(sample, separator), SAMPLED_ROWS) if row)
        if not widths:
            return 0.0
        width, count = widths.most_common(1)[0]
        return 0.0 if width < 2 else count / widths.total() + min(width, 20) / 1000

    return max(SEPARATORS, key=share)


def _quotes_close(text: str, separator: str) -> bool:
    if text.count('"') % 2 == 0:
        return True
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            pass
    except csv.Error:
        return False
    return True


def _rows(text: str, separator: str, quoting: int = csv.QUOTE_MINIMAL) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, skipinitialspace=True)  # type: ignore[arg-type]
