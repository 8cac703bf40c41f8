"""`outcrop lambda serve`: which functions, with what environment; then serve them until a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from backend.cli.serve import complain
from backend.identity.directory import load_deployment
from backend.lambdas.functions import (
    GROUP_HANDLER,
    PASSED_NAMES,
    Function,
    UnusableFunction,
    group_folder,
    groups,
    named_environment,
    parse_function,
    passed_environment,
)
from backend.lambdas.service import CannotServe, LocalLambda
from backend.settings import SettingsError, load_settings

DIRECTORY_VARIABLE = "DIRECTORY_JSON"


@dataclass(frozen=True)
class Asked:
    """The functions that a command line asks for. Without any, all groups."""

    groups: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()  # NAME=PATH:HANDLER
    env: tuple[str, ...] = ()  # NAME or NAME=VALUE
    timeout_s: float = 30.0
    memory_mb: int = 512


def run(asked: Asked, *, host: str, port: int, concurrency: int) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit code."""
    try:
        with functions(asked) as served:
            asyncio.run(_serve(served, host, port, concurrency))
    except (UnusableFunction, CannotServe) as error:
        return complain(str(error))
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    return 0


@contextmanager
def functions(asked: Asked) -> Iterator[list[Function]]:
    """What was asked for, with a directory of offices for the groups that lasts as long as the block.

    Raises:
        UnusableFunction: there is no such group, folder or variable.
        SettingsError: the offices cannot be read.
    """
    passed, explicit = passed_environment(os.environ), named_environment(os.environ, asked.env)
    environment = {**passed, **explicit}
    others = [parse_function(text) for text in asked.functions]
    named = asked.groups or (() if others else tuple(groups()))
    if not named and not others:
        raise UnusableFunction("There are no groups here. Run it in a checkout, or name functions with --function.")
    with TemporaryDirectory(prefix="outcrop-lambda-") as scratch:
        of_groups = {**passed, **_configuration(Path(scratch)), **explicit} if named else environment
        yield [
            *(
                Function(group, group_folder(group), GROUP_HANDLER, of_groups, asked.timeout_s, asked.memory_mb)
                for group in named
            ),
            *(
                Function(name, folder, handler, environment, asked.timeout_s, asked.memory_mb)
                for name, folder, handler in others
            ),
        ]


def _configuration(scratch: Path) -> dict[str, str]:
    """What this deployment's settings, also those in `.env`, say to a group; the offices as a file in `scratch`."""
    # A function gets its caller's token, and not the key that signs it.
    settings = load_settings(pf360_jwt_secret=SecretStr(token_hex()))
    given: dict[str, str] = {}
    for key in settings.model_fields_set:
        value = getattr(settings, key)
        if key.startswith(("pf360_", "confirm_schedule_", "cancel_schedule_")) and not isinstance(value, SecretStr):
            given[key.upper()] = str(int(value)) if isinstance(value, bool) else str(value)
    if DIRECTORY_VARIABLE not in os.environ:
        directory = load_deployment(settings.directory_file, settings.tenant).directory
        file = scratch / "directory.json"
        file.write_text(json.dumps(directory.to_json()), "utf-8")
        given[DIRECTORY_VARIABLE] = str(file)
    return given


async def _serve(served: list[Function], host: str, port: int, concurrency: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalLambda(served, host=host, port=port, concurrency=concurrency, log_sink=Lines()) as service:
        print("\n".join(_announcement(service, served)), flush=True)
        await stop.wait()


LONGEST_LINE = 65_536  # bytes kept of a line that does not end


class Lines:
    """Writes what functions print to standard error, line by line, each with its function's name before it."""

    def __init__(self) -> None:
        self._unfinished: dict[str, bytes] = {}

    def __call__(self, name: str, text: bytes) -> None:
        """Take a piece of output, which may end within a line."""
        *lines, rest = (self._unfinished.pop(name, b"") + text).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        if rest:
            self._unfinished[name] = rest
        sys.stderr.write("".join(f"[{name}] {line.decode(errors='replace')}\n" for line in lines if line))
        sys.stderr.flush()


def _announcement(service: LocalLambda, served: list[Function]) -> list[str]:
    first = served[0]
    given = {name for function in served for name in function.environment if name not in PASSED_NAMES}
    lines = [f"Lambda functions at {service.url} (loopback only; signatures are not checked):"]
    for function in served:
        lines.append(f"  {function.arn()}")
        lines.append(f"    {function.handler} in {function.folder}; {function.timeout_s:g} s, {function.memory_mb} MB")
    lines += [
        f"Passed on to them: {', '.join(sorted(given)) or 'nothing'}",
        "For clients that take their endpoint from the environment:",
        f"  AWS_ENDPOINT_URL_LAMBDA={service.url}",
        "For example:",
        f"  outcrop lambda invoke {first.name} --endpoint-url {service.url} --payload '{{}}'",
        f"  aws lambda invoke --endpoint-url {service.url} --region {first.region} --function-name {first.name} "
        "--cli-binary-format raw-in-base64-out --payload '{}' /dev/stdout",
        f'  boto3.client("lambda", endpoint_url="{service.url}", region_name="{first.region}")',
    ]
    if any(function.environment.get(DIRECTORY_VARIABLE) for function in served) and not any(
        function.environment.get("PF360_API_URL") for function in served
    ):
        lines.append("PF360_API_URL is not set: the tools will reach nothing. Give it: --env PF360_API_URL=http://…")
    return [*lines, "Ctrl-C stops it and its workers."]
