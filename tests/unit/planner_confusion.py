"""Prints what the planner gets wrong in the utterance bank: `uv run python -m tests.unit.planner_confusion`.

`--held-back` lists the misses of the part that tuning must not look at, too.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from tests.unit.planner_bank import Bank, Ear, Reading, Utterance, faults

Row = tuple[Utterance, Reading, list[str]]


def _miss(row: Row) -> str:
    utterance, reading, wrong = row
    top = ", ".join(f"{g.intent.name} {g.score:.2f}" for g in reading.guesses[:3])
    after = f"[{utterance.after}] " if utterance.after else ""
    wanted = "/".join(utterance.want) or f"never {'/'.join(utterance.never)}"
    extra = f" then {'/'.join(utterance.then)}" if utterance.then else ""
    held = [f"{k}={v}" for w in reading.wishes for k, v in w.values.items()] if wrong[0] != "intent" else []
    return (
        f"{after}{utterance.say!r}\n"
        f"    {', '.join(wrong)}: wanted {wanted}{extra}, got {' + '.join(reading.intents)} ({top}) {' '.join(held)}"
    )


def _share(rows: list[Row]) -> str:
    right = sum(not wrong for _, _, wrong in rows)
    return f"{right}/{len(rows)} = {100 * right / max(len(rows), 1):.1f} %"


async def main() -> None:
    """Read the whole bank and report."""
    bank, ear = Bank(), Ear()
    rows: list[Row] = []
    for utterance in (*bank.utterances, *bank.safety):
        reading = await ear.read(utterance, bank.openings)
        rows.append((utterance, reading, faults(utterance, reading)))
    safety, rows = rows[len(bank.utterances) :], rows[: len(bank.utterances)]
    shown = rows if "--held-back" in sys.argv else [r for r in rows if not r[0].held_back]
    for row in (*shown, *safety):
        if row[2]:
            print(_miss(row))
    print("\nby intent (expected: right of all)")
    seen, right = Counter(r[0].want[0] for r in rows), Counter(r[0].want[0] for r in rows if not r[2])
    print("  " + ", ".join(f"{name} {right[name]}/{n}" for name, n in seen.most_common()))
    print(f"all {_share(rows)}; tuned on {_share([r for r in rows if not r[0].held_back])}; ", end="")
    print(f"held back {_share([r for r in rows if r[0].held_back and r[0].part == 'first'])}; safety {_share(safety)}")
    print(f"first {_share([r for r in rows if not r[0].after and r[0].part == 'first'])}; ", end="")
    print(f"second {_share([r for r in rows if r[0].part == 'second'])}; ", end="")
    print(f"third {_share([r for r in rows if r[0].part == 'third'])}; ", end="")
    print(f"follow-ups {_share([r for r in rows if r[0].after])}; Spanish {_share([r for r in rows if r[0].es])}")


if __name__ == "__main__":
    asyncio.run(main())
