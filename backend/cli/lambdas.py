"""`outcrop lambda …`: its subcommands and their options. Bodies are imported when they are called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="Run action groups as Lambda functions on this machine, and build what is deployed.", no_args_is_help=True
)

Groups = Annotated[list[str] | None, typer.Argument(help="action groups; all without any")]
Functions = Annotated[
    list[str] | None,
    typer.Option("--function", metavar="NAME=PATH:HANDLER", help="any other function; PATH is its folder"),
]
Environment = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME[=VALUE]", help="a variable for the functions; NAME alone passes ours"),
]


@app.command()
def serve(
    groups: Groups = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 9001,
    host: Annotated[str, typer.Option(help="loopback address to listen on")] = "127.0.0.1",
    function: Functions = None,
    env: Environment = None,
    timeout: Annotated[float, typer.Option(help="seconds that one call may take")] = 30.0,
    concurrency: Annotated[int, typer.Option(min=1, help="workers of each function; calls beyond them get 429")] = 10,
    memory: Annotated[int, typer.Option(help="MB that functions are told they have")] = 512,
) -> None:
    """Serve functions behind the Lambda Invoke API. Ctrl-C stops it and its workers."""
    from backend.cli.lambda_serve import Asked, run

    asked = Asked(tuple(groups or ()), tuple(function or ()), tuple(env or ()), timeout, memory)
    sys.exit(run(asked, host=host, port=port, concurrency=concurrency))


@app.command()
def invoke(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="name or ARN")],
    payload: Annotated[str | None, typer.Option(help="JSON, @FILE, or - for standard input")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="where it runs; without it, AWS_ENDPOINT_URL_LAMBDA, or it is run here")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="in place of a payload: the action that an agent would call")
    ] = None,
    args: Annotated[str, typer.Option(metavar="JSON", help="arguments of that action")] = "{}",
    session: Annotated[str, typer.Option(metavar="JSON", help="session attributes: who the caller is")] = "{}",
    event_style: Annotated[
        Literal["function", "openapi"], typer.Option(help="how the event names the action")
    ] = "function",
    code: Annotated[
        str | None,
        typer.Option("--function", metavar="NAME=PATH:HANDLER", help="what to run here, if no group of ours"),
    ] = None,
    env: Environment = None,
    timeout: Annotated[float, typer.Option(help="seconds that the call may take")] = 30.0,
) -> None:
    """Call a function once. Prints its answer, and the end of its log on standard error; 1 when it failed."""
    from backend.cli.lambda_invoke import Call, run

    call = Call(function, payload, action, args, session, event_style)
    sys.exit(run(call, endpoint_url=endpoint_url, code=code, env=tuple(env or ()), timeout_s=timeout))


@app.command()
def build(
    groups: Groups = None,
    out: Annotated[Path, typer.Option(help="folder for the archives")] = Path("dist/lambda"),
    arch: Annotated[Literal["arm64", "x86_64", "both"], typer.Option(help="processor they are for")] = "both",
    python: Annotated[Literal["3.11", "3.12", "3.13"], typer.Option(help="Python version they are for")] = "3.11",
) -> None:
    """Build a deployable archive of each group; the same bytes every time. 1 when one is too large or too slow."""
    from backend.cli.lambda_build import run

    sys.exit(run(tuple(groups or ()), out=out, arch=arch, python=python))
