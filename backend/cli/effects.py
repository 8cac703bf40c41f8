"""`outcrop effects …`: effects whose outcome needs a person; look at them, and put on record how they ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.database import with_database
from backend.cli.terminal import at, operator_name, print_table, shown

if TYPE_CHECKING:
    from backend.records.database import Database
    from backend.records.effects import AuditEntry, Effect
    from backend.settings import Settings

BRIEF = 60
LONGEST_NOTE = 2000
HEADS = ("ID", "WHEN (UTC)", "TOOL", "STATUS", "CONVERSATION", "WHO", "ARGUMENTS", "LOOKS")

app = typer.Typer(
    help="Effects whose outcome needs a person: look at them, and put on record how they ended. Nothing is ever sent.",
    no_args_is_help=True,
)


class Status(StrEnum):
    """Which effects to list."""

    unknown = "unknown"
    intended = "intended"
    error = "error"
    ok = "ok"
    all = "all"


class Outcome(StrEnum):
    """How an effect ended, as a person found out."""

    done = "done"
    not_done = "not-done"


Id = Annotated[str, typer.Argument(metavar="ID", help="an effect's id, or its last digits as the list shows them")]
Json = Annotated[bool, typer.Option("--json", help="JSON in place of text")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="all of a status; without it, what needs a person")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many at most, newest first")] = 50,
    as_json: Json = False,
) -> None:
    """Show effects, newest first: those that need a person, or all of a status."""

    async def work(db: Database, settings: Settings) -> int:
        from backend.records import effects

        if status is None:
            found = await effects.for_a_person(db, settings.tenant, limit, _min_age_s(settings))
        else:
            found = await effects.by_status(db, settings.tenant, status.value, limit)
        if as_json:
            print(_json([_plain(effect) for effect in found]))
        elif found:
            print_table(HEADS, [_row(effect) for effect in found])
        else:
            print(f"No effect has status {status.value}." if status else "No effect needs a person.")
        return 0

    sys.exit(with_database(work))


@app.command()
def show(effect_id: Id, as_json: Json = False) -> None:
    """Show one effect: arguments, outcome, and what the audit says of it."""

    async def work(db: Database, settings: Settings) -> int:
        from backend.records import effects

        effect = await effects.one(db, settings.tenant, effect_id)
        entries = await effects.audit(db, effect)
        if as_json:
            print(_json({**_plain(effect), "audit": [asdict(entry) for entry in entries]}))
        else:
            _print_effect(effect, entries)
        return 0

    sys.exit(with_database(work))


@app.command()
def resolve(
    effect_id: Id,
    outcome: Annotated[Outcome, typer.Option("--as", help="whether it was done, as you found out upstream")],
    note: Annotated[str, typer.Option(help="how you know; kept in the audit")],
    by: Annotated[str | None, typer.Option(help="your name for the audit; the user of this shell without it")] = None,
) -> None:
    """Put on record how an effect ended. Sends nothing."""
    name = operator_name(by)
    if not 0 < len(note.strip()) <= LONGEST_NOTE:
        raise typer.BadParameter(f"--note takes 1 to {LONGEST_NOTE} characters.")

    async def work(db: Database, settings: Settings) -> int:
        from backend.conversations.reconciler import Pace
        from backend.records import effects

        effect = await effects.resolve(
            db,
            settings.tenant,
            effect_id,
            done=outcome is Outcome.done,
            note=note.strip(),
            by=name,
            min_age_s=_min_age_s(settings),
            looks=Pace().looks,
        )
        print(f"{effect.short_id} {effect.tool}: recorded as {outcome.value}, by {shown(name)}. Nothing was sent.")
        return 0

    sys.exit(with_database(work))


def _min_age_s(settings: Settings) -> float:
    """As long as an effect may still be on its way: the reconciler's patience."""
    return settings.pf360_write_timeout_seconds + settings.pf360_settle_seconds


def _row(effect: Effect) -> tuple[str, ...]:
    return (
        effect.short_id,
        at(effect.started_at),
        effect.tool,
        _state(effect),
        effect.conversation_id.hex[-8:],
        effect.who,
        _brief(effect.args),
        str(effect.looks),
    )


def _print_effect(effect: Effect, entries: Sequence[AuditEntry]) -> None:
    facts = {
        "id": effect.id,
        "tool": effect.tool,
        "status": _state(effect),
        "began": at(effect.started_at),
        "settled": at(effect.settled_at),
        "who": f"{effect.who} ({effect.owner})",
        "conversation": effect.conversation_id,
        "turn": effect.turn_id,
        "confirmed as": effect.pending_id or "no question: a write that needs no yes",
        "arguments": json.dumps(effect.args, ensure_ascii=False),
        "result": json.dumps(effect.result, ensure_ascii=False) if effect.result else "none on record",
        "upstream": effect.upstream_status or "no answer on record",
        "effect key": effect.effect_key,
        "looks": f"{effect.looks}, next {at(effect.next_look_at)}" if effect.looked_for else effect.looks,
    }
    for name, value in facts.items():
        print(f"{name:<14}{shown(str(value))}")
    print("audit" if entries else "audit         nothing yet")
    for entry in entries:
        body = {key: value for key, value in entry.body.items() if key not in ("args", "effect_key", "tool")}
        print(f"  {entry.seq:>4}  {at(entry.at)}  {shown(entry.actor)}  {entry.type}  {shown(json.dumps(body))}")


def _state(effect: Effect) -> str:
    return "unfinished" if effect.status == "error" and effect.needs_a_person else effect.status


def _brief(args: dict[str, Any]) -> str:
    text = ", ".join(f"{key}={value}" for key, value in args.items() if value is not None)
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"


def _plain(effect: Effect) -> dict[str, Any]:
    return {**asdict(effect), "short_id": effect.short_id, "needs_a_person": effect.needs_a_person}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)
