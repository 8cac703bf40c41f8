"""What shadows came to, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.records.shadow_turns import ShadowReport


def written(found: ShadowReport) -> str:
    """A block for each route and shadow; the empty text when there was none."""
    return "\n\n".join(_block(row, found.differences) for row in found.shadows)


def _block(row: dict[str, Any], differences: Sequence[dict[str, Any]]) -> str:
    failed = f", {row['failed']} of them failed" if row["failed"] else ""
    lines = [
        f"{row['route']}: {row['turns']} turns run again by {row['provider']} ({row['model']}){failed}",
        f"  same calls {_share(row['calls_same'])}, same arguments {_share(row['args_same'])}, "
        f"same outcome {_share(row['outcome_same'])}",
        f"  texts: {_share(row['similarity'])} alike on average, {_share(row['similarity_p5'])} at the 5th percentile; "
        f"same dates, times and numbers {_share(row['facts_same'])}",
        *(f"  {line}" for line in _sides(row)),
    ]
    mine = [each for each in differences if all(each[key] == row[key] for key in ("route", "provider", "model"))]
    for each in mine:
        lines.append(f"  {each['turns']} x {each['difference']}, as in {', '.join(each['examples'])}")
    return "\n".join(lines)


def _sides(row: dict[str, Any]) -> list[str]:
    heads = ("", "P50", "P95", "FIRST SIGN", "COST")
    rows = [
        (
            side,
            *(_ms(row[f"{side}_{figure}_ms"]) for figure in ("p50", "p95", "first")),
            f"{row[f'{side}_usd']:.4f} USD",
        )
        for side in ("real", "shadow")
    ]
    widths = [max(len(each[n]) for each in (heads, *rows)) for n in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in (heads, *rows)
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
