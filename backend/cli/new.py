"""`outcrop new …`: starts something that works at once, to be changed from there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Start something new in a checkout.", no_args_is_help=True)


@app.callback()
def _new() -> None:
    """Start something new in a checkout."""


@app.command("action-group")
def action_group(
    name: Annotated[str, typer.Argument(help="what it is called: a Python name in lower case, such as refunds")],
    dir_: Annotated[Path, typer.Option("--dir", help="the checkout")] = Path(),
) -> None:
    """Write an action group with two example actions, their tests and a Lambda handler. Nothing is overwritten."""
    from backend.cli.action_group import create

    sys.exit(create(name, dir_))
