"""`python -m knowledge_base.loading`: `load` and `sync` where only this package and a database are."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from knowledge_base.bases import DEFAULT, opened
from knowledge_base.errors import KnowledgeError
from knowledge_base.loading.command import Request, as_json_of, carry_out, lines, summary
from knowledge_base.loading.environment import Environment, read_environment
from knowledge_base.loading.report import Report

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all well, 1 some documents not taken, 2 cannot run, 3 deletion refused, 130 Ctrl-C."""
    given = _parser().parse_args(arguments)
    try:
        environment = read_environment(os.environ)
        percent = given.allow_delete_percent
        request = Request(
            target=given.path,
            urls=given.urls,
            base=given.base,
            name=given.name,
            prune=given.command == "sync",
            full=given.full,
            reindex=given.reindex,
            delete_limit_percent=environment.kb_delete_percent if percent is None else percent,
        )
        report = asyncio.run(_run(request, environment))
    except KnowledgeError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("Interrupted. What was stored is stored; the next run goes on.")
        return INTERRUPTED
    tell(report, given.json)
    return report.exit_code


def tell(report: Report, is_json: bool) -> None:
    """The report for a person, or for a program."""
    if is_json:
        sys.stdout.write(json.dumps(as_json_of(report), ensure_ascii=False) + "\n")
        return
    for each in report.problems:
        _say(f"{each.outcome}: {each.doc_id}: {each.message} ({each.reason})")
    sys.stdout.write(summary(report) + "\n")
    if report.error:
        _say(str(report.error))


async def _run(request: Request, environment: Environment) -> Report:
    async with opened(environment.database_url or "", environment.config) as bases:
        return await carry_out(request, bases, environment.tenant, environment.limits, environment.policy, lines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m knowledge_base.loading", description="Load documents. KB_ keys apply.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("load", "load what is new or changed"), ("sync", "the same, and delete what is gone")):
        command = commands.add_parser(name, help=what)
        command.add_argument("path", nargs="?", help="a folder, a file or s3://bucket/folder")
        command.add_argument("--urls", type=Path, help="a file with one web address a line")
        command.add_argument("--base", default=DEFAULT, help="knowledge base; made if there is none")
        command.add_argument("--name", default="", help="of the source, in place of its address")
        command.add_argument("--full", action="store_true", help="read also what seems not to have changed")
        command.add_argument("--reindex", action="store_true", help="make a new index first, of what is stored")
        command.add_argument("--json", action="store_true", help="the report as JSON")
        command.add_argument("--allow-delete-percent", type=float, help="in place of KB_DELETE_PERCENT")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
