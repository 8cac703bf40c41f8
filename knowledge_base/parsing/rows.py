"""Rows of a table as lines that can be understood alone: `column: value; column: value`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knowledge_base.parsing.draft import Draft, one_line

PER_BLOCK = 100
MOST_ALONE = 20  # rows of one cell above a table; more of them are a table of one column
SHORT = 60  # characters of a line that may be a header's cell


def write_rows(draft: Draft, rows: Iterable[Sequence[str]], *, paged: bool = False) -> int:
    """Write rows of cells in blocks; how many had more cells than the header.

    The first row with several cells is the header, if its cells look like names: short texts, each once. Single cells
    above it are paragraphs. When `paged`, every block is a page, numbered by its first row (1: below the header).
    """
    names: list[str] | None = None
    alone: list[str] = []  # rows of a single cell, as long as there are no others
    block: list[str] = []
    number, ragged = 0, 0
    for row in rows:
        cells = [one_line(cell) for cell in row]
        held = [cell for cell in cells if cell]
        if not held:
            continue
        if names is None:
            if len(held) == 1 and len(alone) < MOST_ALONE:
                alone.append(held[0])
                continue
            names = _begun(draft, alone, cells)
            if names:
                continue
        if not block and paged:
            draft.page(number + 1)
        number += 1
        ragged += bool(names) and len(cells) > len(names) and any(cells[len(names) :])
        block.append(line(cells, names))
        if len(block) == PER_BLOCK:
            draft.block("\n".join(block))
            block.clear()
    block += [f"- {cell}" for cell in alone] if names is None else []
    draft.block("\n".join(block))
    if number == 0 and names:
        draft.block(f"- {'; '.join(name for name in names if name)}")
    return ragged


def _begun(draft: Draft, alone: list[str], cells: list[str]) -> list[str]:
    """Names of columns, if the first row of several cells has such; what stands above it is written."""
    if len(alone) == MOST_ALONE:
        draft.block("\n".join(f"- {cell}" for cell in alone))
        return []
    for each in alone:
        draft.block(each)
    return cells if is_header(cells) else []


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first row names columns."""
    held = [cell for cell in cells if cell]
    named = all(len(cell) <= SHORT and any(letter.isalpha() for letter in cell) for cell in held)
    return named and len(held) * 2 > len(cells) and len(set(held)) == len(held)


def line(cells: Sequence[str], names: Sequence[str]) -> str:
    """One row; a column without a name has its number, a single column needs none."""
    if len(cells) == 1 and len(names) < 2:
        return f"- {cells[0]}"
    held = []
    for n, cell in enumerate(cells):
        if cell:
            name = names[n] if n < len(names) and names[n] else f"column {n + 1}"
            held.append(f"{name}: {cell}")
    return f"- {'; '.join(held)}"
