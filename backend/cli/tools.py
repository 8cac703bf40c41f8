"""`outcrop tools …`: what the agent's action groups offer, as a list, as schemas and as pages."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """What a schema is written for."""

    FUNCTION = "function"
    OPENAPI = "openapi"
    MODEL = "model"
    MCP = "mcp"


app = typer.Typer(help="See what action groups offer, and write their schemas and pages.", no_args_is_help=True)


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="the same as JSON, with the arguments' schemas")] = False,
) -> None:
    """List the tools of the agent in AGENT_DIR, by group."""
    from backend.cli.tool_documents import listing

    sys.exit(listing(as_json=as_json))


@app.command()
def schema(
    group: Annotated[str, typer.Argument(help="an action group of ours")],
    as_: Annotated[
        list[Form],
        typer.Option("--as", help="function: Bedrock function details; openapi: OpenAPI 3.0; model: tools of Chat "
                     "Completions; mcp: tools of MCP. Several give one object with each"),
    ],
    out: Annotated[Path | None, typer.Option(help="file to write; YAML when it ends in .yaml")] = None,
) -> None:  # fmt: skip
    """Write the schema of a group, without anything that only the session may fill in. 1 when it is beyond limits."""
    from backend.cli.tool_documents import schemas

    sys.exit(schemas(group, tuple(as_), out))


@app.command()
def parity(
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="how far back")] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="the same as JSON")] = False,
) -> None:
    """Compare the two executors of groups that are moved by shares: calls, failures, times, differences."""
    from backend.cli.parity import report

    sys.exit(report(hours, as_json=as_json))


@app.command()
def docs(
    group: Annotated[str | None, typer.Argument(help="an action group of ours; all without it")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for a page of each group; else they are printed")] = None,
) -> None:
    """Write the page of a group, in Markdown."""
    from backend.cli.tool_documents import pages

    sys.exit(pages(group, out))
