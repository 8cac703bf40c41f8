"""Become an MCP server whose life is tied to the process that started it. Run by path, with the bare interpreter.

    python -I -S mcp_child.py PARENT_PID NAMES PROGRAM [ARGUMENT...]

NAMES are the variables, joined by commas, that the server may have; every other one is dropped. On Linux the kernel
kills the server when the parent dies, however it dies; elsewhere it is left with a closed standard input.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie the life, drop what was inherited, replace the image; does not return."""
    parent, names, program = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was set
            sys.exit(1)
    environment = {name: os.environ[name] for name in names if name in os.environ}
    os.execve(program[0], program, environment)  # noqa: S606 - replacing the image is what this file is for


if __name__ == "__main__":
    main()
