"""`outcrop tools parity`: how the two executors of a group compare, for whoever decides about the share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from backend.cli.database import with_database

if TYPE_CHECKING:
    from backend.records.database import Database
    from backend.records.parity import Parity
    from backend.settings import Settings


def report(hours: int, *, as_json: bool) -> int:
    """Print what turns noted in the last `hours`; the exit code."""

    async def work(db: Database, settings: Settings) -> int:
        from backend.records.parity import parity

        found = await parity(db, settings.tenant, hours)
        print(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode() if as_json else written(found, hours))
        return 0

    return with_database(work)


def written(found: Parity, hours: int) -> str:
    """The report as text."""
    if not found.runs:
        return (
            f"No group has had two executors in the last {hours} h (a `trial` in action_groups.yaml gives it a second)."
        )
    runs = [
        (
            row["tool"],
            row["executor"],
            str(row["calls"]),
            f"{100 * row['ok'] / row['calls']:.1f} %",
            _ms(row["p50_ms"]),
            _ms(row["p95_ms"]),
            ", ".join(filter(None, row["codes"] or ())),
        )
        for row in found.runs
    ]
    lines = [_table(("TOOL", "EXECUTOR", "CALLS", "OK", "P50", "P95", "OTHERWISE"), runs)]
    if found.comparisons:
        compared = [
            (row["tool"], str(row["compared"]), f"{100 * row['same'] / row['compared']:.1f} %", _ms(row["slower_ms"]))
            for row in found.comparisons
        ]
        lines += ["", _table(("COMPARED", "READS", "SAME", "THE OTHER SLOWER BY"), compared)]
    if found.differences:
        differ = [(row["tool"], row["path"], str(row["times"])) for row in found.differences]
        lines += ["", _table(("DIFFERS", "WHERE", "TIMES"), differ)]
    return "\n".join(lines)


def _ms(value: Any) -> str:
    return "" if value is None else f"{value:.0f} ms"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]
    return "\n".join(line.rstrip() for line in lines)
