"""Become another program whose life is tied to the process that started it. Run by path, with the bare interpreter.

    python -I -S tied_exec.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT...]

UID and GID of -1 keep the account. On Linux the kernel sends SIGNAL when the parent dies, however it dies; elsewhere
the servers of a killed owner are found and stopped at the next start. The death signal is set after the change of
account, because changing it clears the signal.
"""

import signal

# Python would only note a Ctrl-C, and the note is lost when another program takes over.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import ctypes  # noqa: E402 - before the change of account, which may not be able to read it
import os  # noqa: E402
import sys  # noqa: E402

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Drop the account, tie the life, replace the image; does not return."""
    parent, signal_number, uid, gid = (int(value) for value in sys.argv[1:5])
    program = sys.argv[5:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was set
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - replacing the image is what this file is for


if __name__ == "__main__":
    main()
