"""The subcommands and their options. Bodies live in modules of their own, imported when they are called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from backend.cli import effects, kb, lambdas, models, new, routes, tools

app = typer.Typer(
    name="outcrop",
    help="A conversational-agent backend: the model proposes, code disposes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(lambdas.app, name="lambda")
app.add_typer(models.app, name="models")
app.add_typer(routes.app, name="routes")
app.add_typer(effects.app, name="effects")
app.add_typer(kb.app, name="kb")
app.add_typer(tools.app, name="tools")
app.add_typer(new.app, name="new")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="loopback address to listen on (HOST)")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on (PORT, 8000)")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="where embedded stores keep their data (OUTCROP_DATA_DIR)")
    ] = None,
) -> None:
    """Run the service, with the stores and the simulator that no URL is given for. Ctrl-C stops it all."""
    from backend.cli.serve import run

    sys.exit(run(host=host, port=port, data_dir=data_dir))


@app.command()
def chat(
    as_: Annotated[str, typer.Option("--as", help="demo identity, for instance c1, biz, coord, anon")] = "c1",
    url: Annotated[str | None, typer.Option(help="a running server; without it, the local one or a new one")] = None,
    session: Annotated[str | None, typer.Option(help="id of a conversation to go on with")] = None,
) -> None:
    """Talk to the assistant in the terminal."""
    from backend.cli.chat import run

    sys.exit(run(identity=as_, url=url, session=session))


@app.command()
def doctor() -> None:
    """Check every dependency and say what is wrong and how to mend it."""
    from backend.cli.doctor import run

    sys.exit(run())


@app.command()
def migrate() -> None:
    """Bring the database at DATABASE_URL to the newest schema."""
    from backend.cli.doctor import migrate

    sys.exit(migrate())


@app.command(
    "eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def evaluate(context: typer.Context) -> None:
    """Run scenario files against isolated stacks and judge every conversation."""
    from backend.evaluation.command import main

    sys.exit(main(context.args))
