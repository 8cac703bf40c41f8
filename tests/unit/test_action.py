"""`@action`: what a signature and a docstring become, and what is refused at import."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, cast

import pytest

from tools.action import Action, FromSession, InvalidAction, Preparation, Resolved, Run, action, by_name
from tools.arguments import BookingDate, NoteText, SlotTime, read_time
from tools.catalogue import ACTIONS
from tools.contract import Directory, Identity, InvalidArguments, JsonObject, ToolContext, ToolResult, ToolState
from tools.errors import NotFound, UnknownOutcome
from tools.in_process import InProcess


async def upper(value: str, ctx: ToolContext) -> str:
    if value == "nobody":
        raise NotFound("Nobody of that name.")
    return value.upper()


Name = Annotated[str, Resolved(upper)]


@action(group="greetings", effect="gated", part="greeting")
async def greet(
    customer_id: Annotated[str, FromSession()],
    name: Name,
    day: BookingDate,
    ctx: ToolContext,
    at: SlotTime | None = None,
    loud: bool = False,
) -> JsonObject:
    """Greet somebody.

    The second paragraph belongs to the description, too.

    Args:
        name: Whom
            to greet.
        day: When.
        at: At what time.
        loud: Whether to shout.

    Returns:
        Nothing of interest to a model.
    """
    if name == "GHOST":
        raise UnknownOutcome("Perhaps.")
    if name == "BUG":
        raise RuntimeError("a bug")
    return {"greeted": name, "types": [type(day).__name__, type(at).__name__], "customer": customer_id, "loud": loud}


@greet.prepares
async def _restate(
    customer_id: str, name: str, day: date, ctx: ToolContext, at: time | None, loud: bool
) -> Preparation:
    return Preparation(args={"loud": True} if name == "GRANDMA" else {}, restatement={"name": name, "day": str(day)})


@greet.reconciles
async def _look(customer_id: str, name: str, ctx: ToolContext, **_: Any) -> ToolResult | None:
    return ToolResult("ok", {"ok": True}) if name == "ALICE" else None


class Now:
    def now(self) -> datetime:
        return datetime(2026, 3, 11, 9, 30)


def context(customer_id: str = "7") -> ToolContext:
    identity = Identity(role="customer", customer_id=customer_id)
    return ToolContext(identity, Directory({}), Now(), ToolState(), pf360=None, callbacks=cast(Any, None))


TOOLBOX = InProcess([greet])
GREETING = {"name": "alice", "day": "2026-03-16"}


def test_signature_and_docstring_are_the_schema() -> None:
    """Session values, context, titles and nulls are in no schema; optional values may simply be left out."""
    assert greet.spec.description == "Greet somebody. The second paragraph belongs to the description, too."
    assert greet.spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "day"],
        "properties": {
            "name": {"type": "string", "description": "Whom to greet."},
            "day": {"type": "string", "format": "date", "description": "When."},
            "at": {"type": "string", "format": "time", "description": "At what time."},
            "loud": {"type": "boolean", "default": False, "description": "Whether to shout."},
        },
    }
    assert (greet.spec.group, greet.spec.effect, greet.spec.part) == ("greetings", "gated", "greeting")


async def test_prepare_resolves_fills_in_and_restates() -> None:
    """Effective arguments are JSON values, with what the session holds; what was not given is left out."""
    prepared = await TOOLBOX.prepare("greet", {**GREETING, "at": "1:00 PM"}, context())
    assert prepared.args == {"customer_id": "7", "name": "ALICE", "day": "2026-03-16", "at": "13:00"}
    assert prepared.restatement == {"name": "ALICE", "day": "2026-03-16"}


async def test_a_hook_may_change_arguments() -> None:
    """What it adds is executed."""
    prepared = await TOOLBOX.prepare("greet", {**GREETING, "name": "grandma"}, context())
    assert prepared.args["loud"] is True
    assert (await TOOLBOX.execute(prepared, context())).data["loud"] is True


async def test_execute_gets_python_values_from_stored_ones() -> None:
    """Arguments may come back from a database."""
    prepared = await TOOLBOX.prepare("greet", {**GREETING, "at": "13:00:00"}, context())
    result = await TOOLBOX.execute(prepared, context())
    assert result.data == {"ok": True, "greeted": "ALICE", "types": ["date", "time"], "customer": "7", "loud": False}


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({**GREETING, "customer_id": "7"}, "customer_id"),
        ({**GREETING, "request_id": "x"}, "request_id"),
        ({**GREETING, "shout": True}, "shout"),
        ({"name": "alice"}, "day"),
        ({**GREETING, "day": "16.3."}, "day"),
        ({**GREETING, "day": "2026-02-30"}, "day"),
        ({**GREETING, "at": "noonish"}, "at"),
        ({**GREETING, "name": 7}, "name"),
        ({**GREETING, "name": None}, "name"),
    ],
)
async def test_bad_arguments_are_named(args: JsonObject, field: str) -> None:
    """One error per field, with words a model can act on."""
    with pytest.raises(InvalidArguments) as refusal:
        await TOOLBOX.prepare("greet", args, context())
    assert [error["field"] for error in refusal.value.facts["errors"]] == [field]


async def test_refusals_become_results_and_bugs_do_not() -> None:
    """`UnknownOutcome` is neither success nor failure."""
    prepared = await TOOLBOX.prepare("greet", {**GREETING, "name": "ghost"}, context())
    assert (await TOOLBOX.execute(prepared, context())).status == "unknown"
    prepared.args["name"] = "BUG"
    with pytest.raises(RuntimeError):
        await TOOLBOX.execute(prepared, context())
    assert (await TOOLBOX.execute(prepared, context("8"))).data["code"] == "invalid_arguments"


async def test_reconcile_reads_back() -> None:
    """None when it did not happen."""
    assert await TOOLBOX.reconcile("greet", {**GREETING, "name": "ALICE", "customer_id": "7"}, context()) is not None
    assert await TOOLBOX.reconcile("greet", {**GREETING, "name": "BOB", "customer_id": "7"}, context()) is None


def _undocumented() -> Run:
    async def f(ctx: ToolContext) -> JsonObject:
        return {}

    return f


def _without_entry() -> Run:
    async def f(name: str, ctx: ToolContext) -> JsonObject:
        """Do it."""
        return {}

    return f


def _with_surplus_entry() -> Run:
    async def f(ctx: ToolContext) -> JsonObject:
        """Do it.

        Args:
            name: Of nobody.
        """
        return {}

    return f


def _describing_the_session() -> Run:
    async def f(customer_id: Annotated[str, FromSession()], ctx: ToolContext) -> JsonObject:
        """Do it.

        Args:
            customer_id: Not for models.
        """
        return {}

    return f


def _without_context() -> Run:
    async def f() -> JsonObject:
        """Do it."""
        return {}

    return f


def _untyped() -> Run:
    async def f(name, ctx: ToolContext) -> JsonObject:  # type: ignore[no-untyped-def]
        """Do it.

        Args:
            name: Untyped.
        """
        return {}

    return f


def _not_async() -> Run:
    def f(ctx: ToolContext) -> JsonObject:
        """Do it."""
        return {}

    return cast(Run, f)


@pytest.mark.parametrize(
    "make",
    [
        _undocumented,
        _without_entry,
        _with_surplus_entry,
        _describing_the_session,
        _without_context,
        _untyped,
        _not_async,
    ],
)
def test_actions_that_cannot_be_offered_fail_at_import(make: Callable[[], Run]) -> None:
    """With the action's name in the message."""
    with pytest.raises(InvalidAction, match=r"test_action\.py:\d+: f: .+"):
        action(group="x", effect="read")(make())


def test_names_are_unique() -> None:
    """Across all groups of a catalogue."""
    with pytest.raises(InvalidAction, match="greet"):
        by_name([greet, greet])


def test_the_catalogue_has_the_customers_and_the_coordinators_tools() -> None:
    """Fourteen and four; six of them may change anything, four only after a yes."""
    effects = {each.name: each.spec.effect for each in ACTIONS}
    assert len(effects) == 18
    assert [each.name for each in ACTIONS if each.roles == {"coordinator"}] == list(effects)[14:]
    assert [name for name, effect in effects.items() if effect == "gated"] == [
        "confirm_appointment",
        "reschedule_appointment",
        "cancel_appointment",
        "bulk_assign_teams",
    ]
    assert [name for name, effect in effects.items() if effect == "write"] == ["add_note", "request_human"]


@pytest.mark.parametrize("each", ACTIONS, ids=lambda each: each.name)
def test_no_schema_of_the_catalogue_shows_session_values(each: Action) -> None:
    """And every effect can be read back."""
    assert not {"customer_id", "request_id"} & set(each.spec.parameters["properties"])
    assert (each.reconcile is not None) == (each.spec.effect != "read")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10:00", time(10)),
        ("08:00:00", time(8)),
        ("1:00 PM", time(13)),
        ("1 p.m.", time(13)),
        ("12:30 AM", time(0, 30)),
        ("12 pm", time(12)),
        ("08:00-12:00", time(8)),
        ("1-3 PM", time(13)),
        ("10 AM to 1 PM", time(10)),
        ("10-1 PM", time(10)),
        ("8:00 AM – 10:00 AM", time(8)),
    ],
)
def test_times_are_read_as_people_and_upstream_write_them(written: str, meant: time) -> None:
    """Of a range the start counts."""
    assert read_time(written) == meant


@pytest.mark.parametrize("written", ["10", "25:00", "13 PM", "0 AM", "8:70", "morning", "", 8, None])
def test_other_times_are_refused(written: Any) -> None:
    """A bare number could be either half of the day."""
    with pytest.raises(ValueError):
        read_time(written)


def test_note_text_is_plain() -> None:
    """Control characters have no place in a note."""

    @action(group="x", effect="read")
    async def echo(text: NoteText, ctx: ToolContext) -> JsonObject:
        """Echo.

        Args:
            text: What.
        """
        return {"text": text}

    assert echo.read({"text": " gate\x00 code\x1b[31m 12 "}) == {"text": "gate  code [31m 12"}


@pytest.mark.parametrize("each", ACTIONS, ids=lambda each: each.name)
def test_the_documented_catalogue_is_the_real_one(each: Action) -> None:
    """docs/tools.md names every tool with its effect, arguments and description."""
    required = each.spec.parameters.get("required", [])
    names = each.spec.parameters["properties"]
    args = ", ".join(f"`{name}`{'' if name in required else '?'}" for name in names)
    row = f"| `{each.name}` | {each.spec.effect} | {args} | {each.spec.description} |"
    assert row in (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
