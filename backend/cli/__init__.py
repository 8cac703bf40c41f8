"""The command `outcrop`. Each subcommand imports what it needs when it runs."""


def main() -> None:
    """Entry point of the console script."""
    from backend.cli.commands import app

    app()
