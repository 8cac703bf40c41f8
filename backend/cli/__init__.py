"""The command `outcrop`. Each subcommand imports what it needs when it runs."""

import sys


def main() -> None:
    """Entry point of the console script."""
    from backend.cli.commands import app

    try:
        app()
    except TypeError as error:
        from tools.action import InvalidAction

        if not isinstance(error, InvalidAction):
            raise
        print(f"An action cannot be offered: {error}", file=sys.stderr)
        sys.exit(1)
