"""What functions may be called, how they are named on a command line, and what of our environment reaches them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backend.lambdas.errors import InvalidParameter, ResourceNotFound
from backend.lambdas.functions import (
    CHECKOUT,
    Function,
    UnusableFunction,
    group_folder,
    groups,
    named_environment,
    parse_function,
    passed_environment,
    resolve,
)
from backend.lambdas.invocation import exited, timed_out


def test_every_group_of_the_checkout_has_a_handler() -> None:
    assert {"scheduling", "information", "notes"} <= set(groups())
    assert group_folder("notes") == CHECKOUT / "lambda" / "notes"
    with pytest.raises(UnusableFunction, match=r"no group 'other' with a handler\. There are: .*notes"):
        group_folder("other")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65])
def test_a_name_must_be_one_that_an_arn_can_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableFunction, match="is no function name"):
        Function(name, tmp_path)


def test_what_cannot_be_run_is_said_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnusableFunction, match="Function hello: there is no folder"):
        Function("hello", tmp_path / "missing")
    with pytest.raises(UnusableFunction, match=r"Function hello: 'handler' is no handler; write MODULE.FUNCTION"):
        Function("hello", tmp_path, "handler")
    with pytest.raises(UnusableFunction, match="time-out"):
        Function("hello", tmp_path, timeout_s=0)


def test_a_function_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_function("hello=code:app.main") == ("hello", tmp_path / "code", "app.main")
    assert parse_function("hello=/opt/code") == ("hello", Path("/opt/code"), "handler.handler")
    for text in ("hello", "hello="):
        with pytest.raises(UnusableFunction, match="write NAME=PATH:HANDLER"):
            parse_function(text)


def test_the_environment_is_passed_by_name_only() -> None:
    ours = {
        "PATH": "/bin",
        "PF360_API_URL": "http://127.0.0.1:1",
        "PF360_JWT_SECRET": "signs",
        "PF360_ADMIN_SECRET": "steers",
        "CONFIRM_SCHEDULE_FLAG": "0",
        "AWS_PROFILE": "p",
        "DATABASE_URL": "postgresql://",
        "LLM_API_KEY": "k",
        "EXTRA": "e",
    }
    assert passed_environment(ours) == {
        "PATH": "/bin",
        "PF360_API_URL": "http://127.0.0.1:1",
        "CONFIRM_SCHEDULE_FLAG": "0",
        "AWS_PROFILE": "p",
    }
    assert named_environment(ours, ["EXTRA", "ADDED=a=b", "EMPTY="]) == {"EXTRA": "e", "ADDED": "a=b", "EMPTY": ""}
    with pytest.raises(UnusableFunction, match="--env OTHER: it is not set here"):
        named_environment(ours, ["OTHER"])


def test_what_the_platform_sets_cannot_be_overridden(tmp_path: Path) -> None:
    given = {"AWS_LAMBDA_FUNCTION_NAME": "other", "AWS_REGION": "eu-west-1", "PYTHONPATH": "/more", "TZ": "UTC"}
    environment = Function("hello", tmp_path, environment=given).process_environment("127.0.0.1:1")
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "hello"
    assert environment["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:1"
    assert (environment["AWS_REGION"], environment["AWS_DEFAULT_REGION"]) == ("eu-west-1", "eu-west-1")
    assert environment["TZ"] == "UTC"
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), str(CHECKOUT), "/more"]


def test_the_environment_is_in_no_representation(tmp_path: Path) -> None:
    assert "hidden" not in repr(Function("hello", tmp_path, environment={"TOKEN": "hidden"}))


def test_names_resolve_to_a_function_and_a_qualifier(tmp_path: Path) -> None:
    hello = Function("hello", tmp_path)
    known = {"hello": hello}
    assert resolve(known, "hello", None) == (hello, None)
    assert resolve(known, "hello:live", "live") == (hello, "live")
    assert resolve(known, "function:hello", None) == (hello, None)
    assert resolve(known, "arn:aws-cn:lambda:cn-north-1:123456789012:function:hello:7", None) == (hello, "7")
    with pytest.raises(ResourceNotFound, match="function:world"):
        resolve(known, "world", None)
    for reference in ("arn:aws:lambda:hello", "hello:a:b", "hello:$OLD", "hel lo", ""):
        with pytest.raises((InvalidParameter, ResourceNotFound)):
            resolve(known, reference, None)


def test_how_a_process_ended_is_said_as_aws_says_it() -> None:
    assert b"Runtime exited with error: exit status 3" in exited("1", 3)
    assert b"Runtime exited with error: signal: 9" in exited("1", -9)
    assert b"Runtime exited without providing a reason" in exited("1", 0)
    assert b"RequestId: 1 Error: Task timed out after 3.00 seconds" in timed_out("1", 3)
