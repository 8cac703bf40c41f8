"""The PF360 simulator as a child process, beside the embedded stores; started again when it dies."""

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.embedded.data_folder import (
    LOOPBACK,
    EmbeddedError,
    choose_port,
    is_free,
    owned_folder,
    remembered,
    write_private,
    writing_to,
)
from backend.embedded.process import Command, child_process, stop_leftover

MODULE = "backend.embedded.pf360_simulator"
CHECKOUT = Path(__file__).parents[2]
PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH")


@dataclass(frozen=True)
class Simulator:
    """Where the simulator is. Both URLs end before the path: `{api_url}/dashboard…`, `{admin_url}/_sim/…`."""

    api_url: str
    admin_url: str
    admin_secret: str
    jwt_secret: str


@asynccontextmanager
async def simulator(
    data_dir: Path,
    clock: str,
    *,
    port: int | None = None,
    admin_secret: str | None = None,
    jwt_secret: str | None = None,
) -> AsyncIterator[Simulator]:
    """Run the simulator until the block ends; its state stays in `data_dir`, and so do generated secrets.

    Args:
        data_dir: The data folder. One simulator runs in it at a time.
        clock: `live` shifts the fixture's dates to this week, `fixture` freezes its clock.
        port: Where it listens; without it, on the port of the last time or another free one.
        admin_secret: Used in place of the generated one, and not kept; `jwt_secret` likewise.

    Raises:
        EmbeddedError: the folder has a running simulator, is not writable, the port is taken, or it does not start.
    """
    with owned_folder(data_dir, "simulator") as folder:
        known = remembered(
            folder / "simulator.json",
            lambda: {"admin_secret": secrets.token_urlsafe(24), "jwt_secret": secrets.token_urlsafe(36)},
        )
        admin_secret, jwt_secret = admin_secret or known["admin_secret"], jwt_secret or known["jwt_secret"]
        with writing_to(folder):
            (folder / "simulator").mkdir(mode=0o700, exist_ok=True)
        environment = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            "PF360_JWT_SECRET": jwt_secret,
            "PF360_ADMIN_SECRET": admin_secret,
            "PF360_CLOCK": clock,
            # One per clock: their dates differ.
            "PF360_STATE_FILE": str(folder / "simulator" / f"{clock}.json"),
        }
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(CHECKOUT), environment.get("PYTHONPATH")) if part
        )
        command = Command("simulator", [sys.executable, "-m", MODULE], folder, environment)
        await stop_leftover(command)  # it may hold the port
        environment["PF360_PORT"] = str(choose_port(folder, "simulator") if port is None else _take(folder, port))
        async with child_process(command) as said:
            url = f"http://{LOOPBACK}:{said['port']}"
            yield Simulator(url, url, admin_secret, jwt_secret)


def _take(folder: Path, port: int) -> int:
    """The port that was asked for, remembered as a chosen one is."""
    if not is_free(port):
        raise EmbeddedError(
            f"Port {port}, which PF360_ADMIN_URL names for the simulator, is taken.",
            "Stop what uses it, or name another; with PF360_API_URL set, no simulator is started.",
        )
    write_private(folder / "simulator.port", str(port))
    return port
