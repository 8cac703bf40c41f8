"""Forks servers that have imported everything already, so that a test can kill many in little time.

Reads one JSON object of environment keys a line, answers each with the pid of a process that runs `outcrop serve` with
them, and ends with its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module

from backend.cli import serve

FUNCTIONS = ("backend.lambdas.service", "tools.executors.lambda_function")  # what the application imports when needed


def main() -> None:
    """Serve until nobody asks any more."""
    serve._import_application()
    for module in FUNCTIONS:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # killed children leave no trace
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            be(json.loads(line))
        print(pid, flush=True)


def be(order: dict[str, str]) -> None:
    """Become a server; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(order)
    os._exit(serve.run())


if __name__ == "__main__":
    main()
