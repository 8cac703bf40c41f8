"""Proof that nothing leaves this machine: every attempt to reach beyond loopback raises in place of connecting.

It is an audit hook of the interpreter, so that it sees what any library does through Python's sockets. For a child
process put `tests/loopback_only` on its PYTHONPATH: the `sitecustomize.py` in it installs the same hook.
"""

import ipaddress
import sys


class BeyondLoopback(RuntimeError):
    """A test, or the code under test, tried to reach another machine."""


def refuse_beyond_loopback() -> None:
    """From now on, in this process and for good, refuse sockets and name look-ups beyond loopback."""
    sys.addaudithook(_check)


def _check(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_local(str(address[0])):
            raise BeyondLoopback(f"refused: {event} to {address[0]}:{address[1]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local(str(name)):
            raise BeyondLoopback(f"refused: look-up of {name}")


def _is_local(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
