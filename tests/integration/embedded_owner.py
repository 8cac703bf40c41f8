"""A process that owns embedded stores: says where they are, then waits until it is told to stop, or killed.

    python -m tests.integration.embedded_owner DATA_DIR

Its last line of output is JSON: `database_url`, `redis_url` and `pids` (server name to pid), or `error`.
"""

import asyncio
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.embedded import EmbeddedError, embedded_stores

CHECKOUT = Path(__file__).parents[2]
MARK = "said: "


@dataclass(frozen=True)
class Owner:
    """The running process and what it said."""

    process: "subprocess.Popen[str]"
    said: dict[str, Any]


@contextmanager
def owner(data_dir: Path, *, ordinary_user: bool = False) -> Iterator[Owner]:
    """Run an owner of `data_dir` in a process of its own, if need be as a user that is not root."""
    prefix = without_root() if ordinary_user and os.geteuid() == 0 else []
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.integration.embedded_owner", str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdin
    assert process.stdout
    try:
        answer = next((line for line in process.stdout if line.startswith(MARK)), None)
        assert answer is not None, "the owner ended without a word"
        yield Owner(process, json.loads(answer.removeprefix(MARK)))
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def without_root() -> list[str]:
    """A command prefix that drops root.

    Where the interpreter lies below a closed folder (`/root`), the capability to read is kept; to write never.
    """
    nobody = pwd.getpwnam("nobody")
    user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    readable = subprocess.run(["test", "-x", sys.executable], cwd="/", check=False, **user).returncode == 0  # type: ignore[call-overload]
    keep = [] if readable else ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", *ids, *keep, "--"]


async def own(data_dir: Path) -> None:
    """Hold the stores until standard input closes."""
    try:
        async with embedded_stores(data_dir, database_url=None, redis_url=None) as stores:
            pids = {path.stem: json.loads(path.read_text())["pid"] for path in (data_dir / "run").glob("*.json")}
            say({"database_url": stores.database_url, "redis_url": stores.redis_url, "pids": pids})
            await asyncio.to_thread(sys.stdin.read)
    except EmbeddedError as error:
        say({"error": str(error)})


def say(answer: dict[str, Any]) -> None:
    """One line to whoever started us."""
    print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(own(Path(sys.argv[1])))
