"""`python -m backend.embedded.pf360_simulator`: settings from the environment and the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .server import HOST, Watch, listen, run
from .simulator import Config

CLOCKS = ("fixture", "live")
EXIT_USAGE = 2


class BadSettings(ValueError):
    """Settings the simulator cannot start with; one line per mistake."""


def read_settings(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[Config, int, Watch]:
    """Configuration, port and watch. Secrets come from the environment only: a command line is public."""
    parser = argparse.ArgumentParser(prog="pf360_simulator", description="A stand-in for the PF360 scheduling API.")
    parser.add_argument("--port", help="loopback port, 0 for a free one (PF360_PORT)")
    parser.add_argument("--clock", help="fixture or live (PF360_CLOCK)")
    parser.add_argument("--state-file", help="keep all changes in this file (PF360_STATE_FILE)")
    parser.add_argument("--parent-pid", type=int, help="exit when this process ends")
    parser.add_argument("--watch-stdin", action="store_true", help="exit when standard input ends")
    options = parser.parse_args(arguments)
    port = options.port or env.get("PF360_PORT") or "0"
    clock = options.clock or env.get("PF360_CLOCK") or "live"
    state_file = options.state_file or env.get("PF360_STATE_FILE")
    mistakes = [
        f"{name} is not set: it must hold {what}"
        for name, what in (
            ("PF360_JWT_SECRET", "the secret that signs callers' tokens"),
            ("PF360_ADMIN_SECRET", "the secret of the admin API"),
        )
        if not env.get(name)
    ]
    if not port.isdigit() or int(port) > 65535:
        mistakes.append(f"PF360_PORT must be 0 to 65535, not {port!r}")
    if clock not in CLOCKS:
        mistakes.append(f"PF360_CLOCK must be fixture or live, not {clock!r}")
    if state_file and not Path(state_file).absolute().parent.is_dir():
        mistakes.append(f"PF360_STATE_FILE: its folder {Path(state_file).absolute().parent} does not exist")
    if mistakes:
        raise BadSettings("\n".join(mistakes))
    config = Config(
        jwt_secret=env["PF360_JWT_SECRET"],
        admin_secret=env["PF360_ADMIN_SECRET"],
        clock="fixture" if clock == "fixture" else "live",
        state_file=Path(state_file).absolute() if state_file else None,
    )
    return config, int(port), Watch(options.parent_pid, options.watch_stdin)


def main() -> int:
    try:
        config, port, watch = read_settings(sys.argv[1:], os.environ)
        listener = listen(port)
    except BadSettings as error:
        print(f"pf360_simulator cannot start:\n{error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except OSError as error:
        print(f"pf360_simulator cannot listen on {HOST}:{port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    run(config, listener, watch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
