"""What a function is, how clients may name one, and what its process finds in its environment."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backend.lambdas.errors import InvalidParameter, ResourceNotFound

CHECKOUT = Path(__file__).parents[2]
GROUPS_FOLDER = CHECKOUT / "lambda"
GROUP_HANDLER = "handler.handler"
# Not an agent's: a state machine calls it, and it ships `knowledge_base` in place of `tools`.
NOT_A_GROUP = "knowledge_loading"
ACCOUNT = "000000000000"  # no account of anyone's
VERSION = "$LATEST"
DEFAULT_REGION = "us-east-1"
PASSED_PREFIXES = ("PF360_", "CONFIRM_SCHEDULE_", "CANCEL_SCHEDULE_", "DIRECTORY_", "AWS_")
PASSED_NAMES = ("PATH", "HOME", "TZ", "LANG", "CONFIRM_SCHEDULE_FLAG", "CANCEL_SCHEDULE_FLAG")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)
_HANDLER = re.compile(r"[\w/.-]+\.\w+")


class UnusableFunction(Exception):
    """A function that was asked for cannot be served; the message names it and the fix."""


@dataclass(frozen=True)
class Function:
    """One function: a folder, what to call in it, and what it is given.

    `environment` holds what a deployment would configure; `timeout_s` bounds one invocation; `memory_mb` is told to the
    function and not enforced.
    """

    name: str
    folder: Path
    handler: str = GROUP_HANDLER
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    timeout_s: float = 30.0
    memory_mb: int = 512

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UnusableFunction(f"{self.name!r} is no function name: use up to 64 letters, digits, '-' and '_'.")
        if not self.folder.is_dir():
            raise UnusableFunction(f"Function {self.name}: there is no folder {self.folder}.")
        if not _HANDLER.fullmatch(self.handler):
            raise UnusableFunction(f"Function {self.name}: {self.handler!r} is no handler; write MODULE.FUNCTION.")
        if not 0 < self.timeout_s < math.inf:
            raise UnusableFunction(f"Function {self.name}: the time-out must be more than 0 s, and end.")

    @property
    def region(self) -> str:
        """The region its ARN and environment name."""
        given = self.environment
        return given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or DEFAULT_REGION

    def arn(self, qualifier: str | None = None) -> str:
        """Its ARN, of an account that does not exist."""
        unqualified = f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.name}"
        return f"{unqualified}:{qualifier}" if qualifier else unqualified

    def process_environment(self, runtime_api: str) -> dict[str, str]:
        """Everything its process finds in its environment; `runtime_api` is `host:port`.

        The folder comes first on the path, so that an unpacked archive runs on what it brings; the checkout after it,
        so that a handler of the source tree finds the packages it will be deployed with.
        """
        path = [str(self.folder), str(CHECKOUT), self.environment.get("PYTHONPATH", "")]
        return {
            "AWS_EC2_METADATA_DISABLED": "true",  # else a client without credentials waits for a host that is not there
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            **self.environment,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": VERSION,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[{VERSION}]",
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "LAMBDA_TASK_ROOT": str(self.folder),
            "LAMBDA_RUNTIME_DIR": str(self.folder),
            "_HANDLER": self.handler,
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "PYTHONUNBUFFERED": "1",
        }


def passed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What functions get by themselves of the environment they are started from."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_NAMES or (name.startswith(PASSED_PREFIXES) and not _is_ours_alone(name))
    }


def named_environment(environment: Mapping[str, str], entries: Iterable[str]) -> dict[str, str]:
    """What entries `NAME=VALUE`, or `NAME` for the value it has here, add to that.

    Raises:
        UnusableFunction: a name without a value is not set here.
    """
    named: dict[str, str] = {}
    for entry in entries:
        name, given, value = entry.partition("=")
        if not given and name not in environment:
            raise UnusableFunction(f"--env {name}: it is not set here. Set it, or write --env {name}=VALUE.")
        named[name] = value if given else environment[name]
    return named


def _is_ours_alone(name: str) -> bool:
    """Secrets of the scheduling API sign tokens and steer the simulator; a function gets its caller's token instead."""
    return name.startswith("PF360_") and name.endswith("_SECRET")


def groups() -> list[str]:
    """The action groups of this checkout that have a handler, by name."""
    names = (path.parent.name for path in GROUPS_FOLDER.glob("*/handler.py"))
    return sorted(name for name in names if name != NOT_A_GROUP)


def group_folder(group: str) -> Path:
    """Where the handler of a group is; `UnusableFunction` names the groups there are."""
    known = groups()
    if group not in known:
        there = f"There are: {', '.join(known)}." if known else f"There is none in {GROUPS_FOLDER}."
        raise UnusableFunction(f"There is no group {group!r} with a handler. {there}")
    return GROUPS_FOLDER / group


def parse_function(text: str) -> tuple[str, Path, str]:
    """`NAME=PATH:HANDLER` as name, folder and handler; without `:HANDLER` it is `handler.handler`."""
    name, given, where = text.partition("=")
    if not given or not where:
        raise UnusableFunction(f"--function {text}: write NAME=PATH:HANDLER, for instance hello=./hello:app.handler")
    path, colon, handler = where.rpartition(":")
    folder, handler = (path, handler) if colon else (where, GROUP_HANDLER)
    return name, Path(folder).resolve(), handler


def resolve(functions: Mapping[str, Function], reference: str, qualifier: str | None) -> tuple[Function, str | None]:
    """The function that a name, `name:alias`, partial or full ARN means, and the qualifier it was called by.

    There is one version of each function here, so that every alias means it.

    Raises:
        InvalidParameter: it is no name or ARN of a function, or names another qualifier than `qualifier`.
        ResourceNotFound: there is no function of that name.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidParameter(f"{reference!r} is neither the name nor the ARN of a function")
    derived = match["qualifier"]
    if derived and qualifier and derived != qualifier:
        raise InvalidParameter("The derived qualifier from the function name does not match the specified qualifier.")
    if match["name"] not in functions:
        arn = f"arn:aws:lambda:{DEFAULT_REGION}:{ACCOUNT}:function:{match['name']}"
        raise ResourceNotFound(f"Function not found: {arn}")
    return functions[match["name"]], derived or qualifier
