"""`LocalLambda` in a thread of its own, so that tests can call it with blocking clients; and functions to call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from backend.lambdas.functions import Function
from backend.lambdas.service import LocalLambda

HANDLERS = '''
import os, subprocess, time

print("loading the handlers")
calls = 0


def echo(event, context):
    return event


def tell(event, context):
    global calls
    calls += 1
    return {
        "calls": calls,
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "log_group": context.log_group_name,
        "left_ms": context.get_remaining_time_in_millis(),
        "custom": context.client_context.custom if context.client_context else None,
    }


def say(event, context):
    print(event["text"])


def boom(event, context):
    raise ValueError("no such order")


def nap(event, context):
    """Say that it runs, by a file; wait until another file appears."""
    open(event["until"] + "." + context.aws_request_id, "w").close()
    while not os.path.exists(event["until"]):
        time.sleep(0.01)
    return os.getpid()


def leave(event, context):
    """Start a process, say who it is, and end."""
    child = subprocess.Popen(["sleep", "600"])
    with open(event["tell"], "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    if event["how"] == "hang":
        time.sleep(600)
    os._exit(event["how"])


def flood(event, context):
    while True:
        os.write(1, b"x" * 60000 + b"\\n")


def huge(event, context):
    return "x" * event["size"]


def append(event, context):
    with open(event["file"], "a") as file:
        file.write(f"{context.aws_request_id}\\n")
'''


def write_handlers(folder: Path) -> Path:
    """A folder with `app.py` and two modules that cannot be loaded."""
    (folder / "app.py").write_text(HANDLERS)
    (folder / "broken.py").write_text("raise RuntimeError('at import')\n")
    (folder / "quitter.py").write_text("import os\nos._exit(7)\n")
    return folder


def function(folder: Path, handler: str, **more: Any) -> Function:
    """A function of `app.py`, named as its handler."""
    module, _, name = handler.rpartition(".")
    return Function(name, folder, f"{module or 'app'}.{name}", **more)


@contextmanager
def running(functions: list[Function], **options: Any) -> Iterator[LocalLambda]:
    """The service, until the block ends; its thread lives as long, since workers are tied to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    service = LocalLambda(functions, **options)
    try:
        asyncio.run_coroutine_threadsafe(service.__aenter__(), loop).result(30)
        try:
            yield service
        finally:
            asyncio.run_coroutine_threadsafe(service.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client(url: str) -> Any:
    """An unmodified boto3 client that does not try again, so that a test sees the first answer."""
    once = Config(retries={"total_max_attempts": 1}, read_timeout=30, max_pool_connections=64)
    return boto3.client("lambda", endpoint_url=url, config=once)
