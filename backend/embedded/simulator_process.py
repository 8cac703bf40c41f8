"""The PF360 simulator as a child process, beside the embedded stores."""

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.embedded.data_folder import LOOPBACK, choose_port, owned_folder, remembered, writing_to
from backend.embedded.process import Command, child_process

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
async def simulator(data_dir: Path, clock: str) -> AsyncIterator[Simulator]:
    """Run the simulator until the block ends; its state and its secrets stay in `data_dir`.

    Args:
        data_dir: The data folder. One simulator runs in it at a time.
        clock: `live` shifts the fixture's dates to this week, `fixture` freezes its clock.

    Raises:
        EmbeddedError: the folder has a running simulator, is not writable, or the simulator does not start.
    """
    with owned_folder(data_dir, "simulator") as folder:
        known = remembered(
            folder / "simulator.json",
            lambda: {"admin_secret": secrets.token_urlsafe(24), "jwt_secret": secrets.token_urlsafe(36)},
        )
        with writing_to(folder):
            (folder / "simulator").mkdir(mode=0o700, exist_ok=True)
        environment = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            "PF360_PORT": str(choose_port(folder, "simulator")),
            "PF360_JWT_SECRET": known["jwt_secret"],
            "PF360_ADMIN_SECRET": known["admin_secret"],
            "PF360_CLOCK": clock,
            # One per clock: their dates differ.
            "PF360_STATE_FILE": str(folder / "simulator" / f"{clock}.json"),
        }
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(CHECKOUT), environment.get("PYTHONPATH")) if part
        )
        command = Command("simulator", [sys.executable, "-m", MODULE], folder, environment)
        async with child_process(command) as said:
            url = f"http://{LOOPBACK}:{said['port']}"
            yield Simulator(url, url, known["admin_secret"], known["jwt_secret"])
