"""What `outcrop new action-group` writes. `$name`: the group; `$words`: its name as words.

Lines that hold the name leave room for a long one, so that every group is formatted as the linter wants it.
"""

from __future__ import annotations

MODULE = '''\
"""The $words group: entries that customers add and look up again.

An example that needs nothing upstream: entries are kept in the working state of the conversation, and go with it. To
make it yours, call your own system where `_entries` is called.
"""

from __future__ import annotations

from tools.action import Preparation, action
from tools.arguments import ShortText
from tools.contract import JsonObject, ToolContext, ToolError, ToolResult

GROUP = "$name"


class AlreadyThere(ToolError):
    """The same text was added before; facts: `entry`."""

    code = "already_there"


@action(group=GROUP, effect="read")
async def list_$name(ctx: ToolContext, containing: ShortText | None = None) -> JsonObject:
    """List what was added to $words in this conversation, oldest first.

    Args:
        containing: Only entries that hold this text. Leave out for all.
    """
    wanted = (containing or "").casefold()
    found = [_shown(each) for each in _entries(ctx) if wanted in each["text"].casefold()]
    return {"count": len(found), "entries": found}


@action(group=GROUP, effect="gated")
async def add_to_$name(text: ShortText, ctx: ToolContext) -> JsonObject:
    """Add an entry to $words. Needs the customer's yes to its text.

    Args:
        text: What the entry says, in the customer's words.

    Raises:
        AlreadyThere: the same text was added before; say so, and do not add it again.
    """
    entry = _done_already(ctx)
    if entry is None:
        # The key names this effect: whoever asks again with it gets what was done, and nothing is done twice.
        entry = {"text": text, "added_at": ctx.clock.now().isoformat(timespec="minutes"), "key": ctx.effect_key}
        _entries(ctx).append(entry)
    return {"entry": _shown(entry)}


@add_to_$name.prepares
async def _prepare_adding(text: str, ctx: ToolContext) -> Preparation:
    """Refuses what must not be asked for; what it returns is read to the person before the yes."""
    for each in _entries(ctx):
        if each["text"].casefold() == text.casefold():
            raise AlreadyThere("That has been added already.", entry=_shown(each))
    return Preparation(restatement={"text": text})


@add_to_$name.reconciles
async def _look_for_added(text: str, ctx: ToolContext) -> ToolResult | None:
    """Asked when nobody knows whether it was done; None: it was not."""
    entry = _done_already(ctx)
    return None if entry is None else ToolResult("ok", {"ok": True, "entry": _shown(entry)})


def _entries(ctx: ToolContext) -> list[JsonObject]:
    entries: list[JsonObject] = ctx.state.values.setdefault(f"{GROUP}_entries", [])
    return entries


def _done_already(ctx: ToolContext) -> JsonObject | None:
    return next((each for each in _entries(ctx) if each["key"] == ctx.effect_key), None)


def _shown(entry: JsonObject) -> JsonObject:
    return {"text": entry["text"], "added_at": entry["added_at"]}


ACTIONS = (
    list_$name,
    add_to_$name,
)
'''

HANDLER = '''\
"""The $words group as a Lambda function."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tools.$name import ACTIONS
from tools.lambda_handler import respond, tool_context


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Entry point: `handler.handler`."""
    return asyncio.run(serve(event))


async def serve(event: dict[str, Any]) -> dict[str, Any]:
    """Answer one event; HTTP clients live as long as its event loop."""
    async with tool_context(event, os.environ) as ctx:
        return await respond(event, ACTIONS, ctx)
'''

TEST = '''\
"""The $words group: in this process, as a Lambda function, and its schemas."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.cli.tool_documents import in_forms
from tools.$name import ACTIONS, GROUP
from tools.contract import Directory, Identity, JsonObject, ToolContext, ToolError, ToolState
from tools.in_process import InProcess
from tools.lambda_events import Operation, Session, event_for, path_of, read_response
from tools.lambda_handler import EventClock, NoCallbacks

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests" / "unit" / "snapshots" / f"{GROUP}.json"
HANDLER = ROOT / "lambda" / GROUP / "handler.py"
LIST, ADD = (each.name for each in ACTIONS)
SCHEMAS = {each.name: each.spec.parameters for each in ACTIONS}


@pytest.fixture
def ctx() -> ToolContext:
    """A customer's conversation that has just begun."""
    clock = EventClock(datetime(2026, 3, 11, 9, 30, tzinfo=UTC), "UTC")
    who = Identity(role="customer", customer_id="7")
    return ToolContext(who, Directory({}), clock, ToolState(), pf360=None, callbacks=NoCallbacks(), effect_key="first")


async def test_what_was_added_is_listed(ctx: ToolContext) -> None:
    """It is restated before, and the same text is refused after."""
    toolbox = InProcess(ACTIONS)
    prepared = await toolbox.prepare(ADD, {"text": "  a box of tiles "}, ctx)
    assert prepared.restatement == {"text": "a box of tiles"}
    added = await toolbox.execute(prepared, ctx)
    assert added.data == {"ok": True, "entry": {"text": "a box of tiles", "added_at": "2026-03-11T09:30+00:00"}}

    listed = await toolbox.execute(await toolbox.prepare(LIST, {"containing": "TILES"}, ctx), ctx)
    assert listed.data == {"ok": True, "count": 1, "entries": [added.data["entry"]]}
    other = await toolbox.execute(await toolbox.prepare(LIST, {"containing": "grout"}, ctx), ctx)
    assert other.data["count"] == 0
    with pytest.raises(ToolError) as refusal:
        await toolbox.prepare(ADD, {"text": "A box of tiles"}, ctx)
    assert refusal.value.code == "already_there"


async def test_an_effect_happens_once_and_can_be_read_back(ctx: ToolContext) -> None:
    """By its key: a second try changes nothing, and another effect is another matter."""
    toolbox = InProcess(ACTIONS)
    prepared = await toolbox.prepare(ADD, {"text": "tiles"}, ctx)
    assert await toolbox.reconcile(ADD, prepared.args, ctx) is None
    first = await toolbox.execute(prepared, ctx)
    assert await toolbox.execute(prepared, ctx) == first
    assert await toolbox.reconcile(ADD, prepared.args, ctx) == first
    assert await toolbox.reconcile(ADD, prepared.args, replace(ctx, effect_key="second")) is None


@pytest.mark.parametrize("style", ["function", "openapi"])
def test_the_lambda_function_does_the_same(style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events as Bedrock sends them, in both styles; the state travels in the session attributes."""
    directory = tmp_path / "directory.json"
    directory.write_text(json.dumps(Directory({}).to_json()), "utf-8")
    monkeypatch.setenv("DIRECTORY_JSON", str(directory))
    handler = runpy.run_path(str(HANDLER))["handler"]

    def call(name: str, args: JsonObject, attributes: dict[str, str]) -> tuple[JsonObject, dict[str, str]]:
        operation = Operation(GROUP, function=name) if style == "function" else Operation(GROUP, path=path_of(name))
        event = event_for(operation, args, SCHEMAS[name], Session("one", attributes=attributes))
        answer = read_response(handler(event, None))
        return answer.body, dict(answer.attributes or {})

    added, attributes = call(ADD, {"text": "12"}, {"customer_id": "7"})
    assert added["entry"]["text"] == "12"
    listed, _ = call(LIST, {}, attributes)
    assert listed == {"ok": True, "count": 1, "entries": [added["entry"]]}


def test_the_schemas_are_those_that_were_agreed_upon() -> None:
    """After a change that is meant, from the checkout's folder (in one line):

    outcrop tools schema $name --as function --as model
        --out tests/unit/snapshots/$name.json
    """
    assert in_forms(GROUP, ACTIONS, ("function", "model")) == json.loads(SNAPSHOT.read_text("utf-8"))
'''

CONFIG = """\
$name:
  executor: in_process
  module: tools.$name
  tools:
    add_to_$name:
      verbs: [add]
      restate: 'Add to $words: "{{ text }}".'
      question: Shall I add it?
      done: 'Added to $words: "{{ text }}".'
"""
