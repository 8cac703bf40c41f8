"""Workbooks: sheets as pages, rows as lines with the names of their columns."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from itertools import chain, repeat
from typing import Any

import openpyxl
from openpyxl.utils.cell import column_index_from_string
from openpyxl.utils.exceptions import InvalidFileException

from knowledge_base.errors import Refused
from knowledge_base.parsing.deadline import Deadline
from knowledge_base.parsing.draft import Body, Draft, one_line
from knowledge_base.parsing.limits import Limits
from knowledge_base.parsing.package import look_through
from knowledge_base.parsing.rows import write_rows

# What openpyxl raises over files that are not as they should be (SyntaxError: of XML).
BROKEN = (
    *(InvalidFileException, SyntaxError, zipfile.BadZipFile, zlib.error, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, NotImplementedError, ArithmeticError, OSError),
)
Spans = dict[int, list[tuple[int, int]]]  # by column (from 0): first and last row (from 1) of merged cells
_RANGE = re.compile(r"([A-Z]+)(\d+):([A-Z]+)(\d+)")
ROWS_PER_CHECK = 500


def read_xlsx(name: str, content: bytes, limits: Limits) -> Body:
    """Visible sheets; a formula is its stored value, or itself where none is stored."""
    package = look_through(name, content, limits)
    deadline = Deadline(name, limits.seconds)
    draft = Draft(name, limits.max_chars)
    told: list[str] = []
    values = _opened(name, content, data_only=True)
    formulas = _opened(name, content, data_only=False) if package.formulas_without_value else None
    if formulas:
        told.append(f"{package.formulas_without_value} formulas have no stored value: open the file and save it anew")
    sheets = values.worksheets
    if len(sheets) > limits.max_pages:
        raise Refused("too_long", f"{name}: has {len(sheets)} sheets, more than {limits.max_pages}; split it")
    for number, sheet in enumerate(sheets, 1):
        if sheet.sheet_state != "visible":
            told.append(f"sheet {sheet.title!r} is hidden and was left out")
            continue
        other = formulas.worksheets[number - 1] if formulas else None
        merged = _merged(package.merged.get(getattr(sheet, "_worksheet_path", ""), []))
        rows = (row for row in _filled(_rows(name, sheet, other, deadline), merged) if any(row))
        first = next(rows, None)
        if first is not None:
            draft.page(number)
            draft.heading(2, sheet.title)
            write_rows(draft, chain([first], rows))
    title = values.properties.title
    return draft.body(title=one_line(title) if isinstance(title, str) else "", warnings=told)


def _opened(name: str, content: bytes, *, data_only: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions it does not know
            return openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only, keep_links=False)
    except BROKEN as error:
        raise _corrupt(name, error) from None


def _rows(name: str, sheet: Any, formulas: Any, deadline: Deadline) -> Iterator[list[str]]:
    # Declared dimensions may be wrong, or huge.
    sheet.reset_dimensions()
    rows = sheet.iter_rows(values_only=True)
    others: Iterator[Any] = repeat(None)
    if formulas is not None:
        formulas.reset_dimensions()
        others = formulas.iter_rows(values_only=True)
    number = 0
    while True:
        number += 1
        if number % ROWS_PER_CHECK == 0:
            deadline.check()
        try:
            row, other = next(rows, None), next(others, None)
        except BROKEN as error:
            raise _corrupt(name, error) from None
        if row is None:
            return
        if other is not None:
            row = tuple(value if value is not None else instead for value, instead in zip(row, other, strict=False))
        yield [shown(value) for value in row]


def _merged(ranges: list[str]) -> Spans:
    """Cells merged downwards: what stands in the first is meant of each."""
    held: Spans = {}
    for each in ranges:
        found = _RANGE.fullmatch(each)
        if found and int(found[4]) > int(found[2]):
            column = column_index_from_string(found[1]) - 1
            held.setdefault(column, []).append((int(found[2]), int(found[4])))
    for spans in held.values():
        spans.sort(reverse=True)
    return held


def _filled(rows: Iterator[list[str]], merged: Spans) -> Iterator[list[str]]:
    current: dict[int, tuple[int, str]] = {}  # by column: the last row, and the text, of the span we are in
    for number, row in enumerate(rows, 1):
        for column, spans in merged.items():
            while spans and spans[-1][0] <= number:
                first, last = spans.pop()
                if first == number and column < len(row):
                    current[column] = (last, row[column])
            last, text = current.get(column, (0, ""))
            if number <= last and any(row):
                row += [""] * (column + 1 - len(row))
                row[column] = row[column] or text
        yield row


def shown(value: Any) -> str:
    """A cell's value as text: dates as ISO has them, whole numbers without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.15g}" if abs(value) < 1e15 else repr(value)
    return str(value)


def _corrupt(name: str, error: BaseException) -> Refused:
    what = type(error).__name__
    return Refused("corrupt", f"{name}: is no sound workbook ({what}); open it and save it anew")
