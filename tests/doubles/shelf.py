"""A shelf that things are put on: one small domain behind every kind of executor, told by its arguments how to behave.

What really happened stands in files below `SHELF_STORE`, a folder for each customer, so that it can be counted from
another process than the one that it happened in. Imports nothing of the product: foreign servers are made of it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STORE = "SHELF_STORE"
SECRET = "password=hunter2 in /srv/shelf.py"
HINT = "That shelf is locked."
HUGE = "x" * 70_000
LONGEST_WAIT_S = 30.0

# What a `shelf_id` that is read, or a `thing` that is put, makes the shelf do.
REFUSE, CRASH, SLOW = "refuse", "crash", "slow"
GARBAGE, LARGE, CRASH_AFTER, SLOW_AFTER = "garbage", "large", "crash after it", "slow after it"


class Refused(Exception):
    """The shelf will not do that, and did nothing."""


class Garbage(Exception):
    """The shelf did it, and wants to answer with something that makes no sense."""


class Shelf:
    """What happened to one customer's shelf."""

    def __init__(self, customer_id: str) -> None:
        self._folder = Path(os.environ[STORE]) / customer_id
        self._folder.mkdir(exist_ok=True)

    def note_call(self, tool: str) -> None:
        """A call arrived."""
        self._write("calls", {"tool": tool})

    def calls(self) -> int:
        """How many arrived. A call that is noted on its way as well counts more than once."""
        return len(self._read("calls"))

    def put(self, key: str, args: Mapping[str, Any]) -> None:
        """The effect."""
        self._write("effects", {"key": key, **args})

    def put_once(self, key: str, args: Mapping[str, Any]) -> None:
        """The effect, unless it took place under this key."""
        try:
            (self._folder / f"key {key}").touch(exist_ok=False)
        except FileExistsError:
            return
        self.put(key, args)

    def effects(self) -> list[dict[str, Any]]:
        """What was put there, each with the `key` that it came under."""
        return self._read("effects")

    def release(self) -> None:
        """Let go of everything that is slow, from now on."""
        (self._folder / "released").touch()

    async def released(self) -> None:
        """Be slow."""
        async with asyncio.timeout(LONGEST_WAIT_S):
            while not (self._folder / "released").exists():
                await asyncio.sleep(0.01)

    def _write(self, name: str, line: dict[str, Any]) -> None:
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self._folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def run(tool: str, args: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Run one tool with its arguments, among them `customer_id`; an effect under its key."""
    told = {name: value for name, value in args.items() if name != "customer_id"}
    shelf = Shelf(str(args["customer_id"]))
    shelf.note_call(tool)
    if tool == "echo":
        return {"got": {name: value for name, value in told.items() if value is not None}}
    how = told["shelf_id"] if tool == "look" else told["thing"]
    if tool == "stow" and any(each["key"] == key for each in shelf.effects()):
        return {"put": how}
    if how == REFUSE:
        raise Refused(HINT)
    if how == CRASH:
        raise RuntimeError(SECRET)
    if how == SLOW:
        await shelf.released()
    if tool == "put":
        shelf.put(key, told)
    if tool == "stow":
        shelf.put_once(key, told)
    if how == CRASH_AFTER:
        raise RuntimeError(SECRET)
    if how == SLOW_AFTER:
        await shelf.released()
    if how == GARBAGE:
        raise Garbage
    return {"put" if tool != "look" else "found": HUGE if how == LARGE else how}
