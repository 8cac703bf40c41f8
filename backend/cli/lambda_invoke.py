"""`outcrop lambda invoke`: one call of a function, wherever it runs."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from backend.cli.lambda_serve import Asked, functions
from backend.cli.serve import complain
from backend.cli.tool_documents import Unusable, own_groups
from backend.lambdas.functions import DEFAULT_REGION, UnusableFunction, groups
from backend.lambdas.service import CannotServe, LocalLambda
from backend.settings import SettingsError, is_loopback
from tools.action import Action
from tools.lambda_events import Operation, Session, event_for, path_of

ENDPOINT = "AWS_ENDPOINT_URL_LAMBDA"


class BadCall(Exception):
    """The command line makes no call; the message names the option and the fix."""


@dataclass(frozen=True)
class Call:
    """What to send: a payload as written, or an action with its arguments and session."""

    function: str
    payload: str | None
    action: str | None
    args: str
    session: str
    event_style: Literal["function", "openapi"]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    payload: bytes
    failed: bool
    log_tail: str


def run(call: Call, *, endpoint_url: str | None, code: str | None, env: tuple[str, ...], timeout_s: float) -> int:
    """Make the call and print what comes back. Returns the exit code: 1 when the function, or the call, failed."""
    if importlib.util.find_spec("botocore") is None:
        return complain("The AWS client library is not installed. Get it: pip install 'outcrop[lambda]'")
    try:
        payload = _payload(call)
        endpoint = endpoint_url or (None if code else os.environ.get(ENDPOINT))
        if endpoint:
            answer = _invoke(endpoint, call.function, payload, timeout_s)
        else:
            answer = asyncio.run(_invoke_here(call.function, payload, code, env, timeout_s))
    except (BadCall, UnusableFunction, CannotServe) as error:
        return complain(str(error))
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    sys.stderr.write(answer.log_tail)
    sys.stderr.flush()
    print(answer.payload.decode(errors="replace"))
    return 1 if answer.failed else 0


async def _invoke_here(name: str, payload: bytes, code: str | None, env: tuple[str, ...], timeout_s: float) -> Answer:
    """Serve that one function for this one call."""
    if not code and name not in groups():
        raise BadCall(
            f"{name} is no group of this checkout ({', '.join(groups()) or 'which has none'}). Say where it runs with "
            f"--endpoint-url or {ENDPOINT}, or what to run here with --function {name}=PATH:HANDLER."
        )
    asked = Asked(() if code else (name,), (code,) if code else (), env, timeout_s)
    with functions(asked) as served:
        async with LocalLambda(served, concurrency=1) as service:
            return await asyncio.to_thread(_invoke, service.url, name, payload, timeout_s)


def _invoke(endpoint: str, name: str, payload: bytes, timeout_s: float) -> Answer:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import get_session

    try:
        here = is_loopback(urlsplit(endpoint).hostname or "")
    except ValueError as error:
        raise BadCall(f"{name} at {endpoint}: {error}") from error
    # A service on this machine checks no signature, but the client makes one in any case.
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if here else {}
    session = get_session()
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION") or DEFAULT_REGION
    patience = Config(read_timeout=timeout_s + 30, retries={"total_max_attempts": 1})
    try:
        client = session.create_client("lambda", region, endpoint_url=endpoint, config=patience, **keys)
        answer = client.invoke(FunctionName=name, Payload=payload, LogType="Tail")
        body: bytes = answer["Payload"].read()
    except (BotoCoreError, ClientError, ValueError) as error:
        raise BadCall(f"{name} at {endpoint}: {error}") from error
    log_tail = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    return Answer(body, "FunctionError" in answer, log_tail)


def _payload(call: Call) -> bytes:
    if call.action:
        if call.payload is not None:
            raise BadCall("--payload and --action exclude each other: an action's event is made from --args.")
        return json.dumps(_event(call, call.action)).encode()
    if call.payload == "-":
        text = sys.stdin.buffer.read().decode(errors="surrogateescape")
    elif call.payload and call.payload.startswith("@"):
        try:
            text = Path(call.payload[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadCall(f"--payload {call.payload}: {error}") from error
    else:
        text = call.payload or "{}"
    try:
        json.loads(text)
        return text.encode()
    except ValueError as error:  # bytes that are no UTF-8 among them
        raise BadCall(f"--payload is not JSON: {error}") from error


def _event(call: Call, name: str) -> dict[str, Any]:
    """The event that an agent would send for this action."""
    action = next((each for each in _known() if each.name == name), None)
    args = _json_object("--args", call.args)
    attributes = {
        key: each if isinstance(each, str) else json.dumps(each)
        for key, each in _json_object("--session", call.session).items()
    }
    group = action.spec.group if action else call.function
    if call.event_style == "openapi":
        operation = Operation(group, path=path_of(name))
    else:
        operation = Operation(group, function=name)
    schema = action.spec.parameters if action else {}
    return event_for(operation, args, schema, Session(session_id="outcrop-lambda-invoke", attributes=attributes))


def _known() -> list[Action]:
    """The actions of the agent's own groups."""
    try:
        return [each for actions in own_groups().actions.values() for each in actions]
    except Unusable as error:
        raise BadCall(str(error)) from error


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadCall(f"{option} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCall(f'{option} must be a JSON object, such as {{"project_id": "1"}}.')
    return value
