"""What commands for operators share: whose word it is, and tables that a terminal does not obey."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

LONGEST_NAME = 100


def operator_name(by: str | None) -> str:
    """Who decides: the given name, else the user of this shell; `BadParameter` when that is no name."""
    name = (by if by is not None else _user()).strip()
    if not 0 < len(name) <= LONGEST_NAME:
        raise typer.BadParameter(f"--by takes 1 to {LONGEST_NAME} characters.")
    return shown(name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in some containers
        raise typer.BadParameter("This shell's user has no name: give yours with --by.") from None


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be."""
    lines = [heads, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(heads))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def at(moment: datetime | None) -> str:
    """A moment in UTC, to the second; `no` without one."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "no"


def shown(text: str) -> str:
    """What people wrote, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
