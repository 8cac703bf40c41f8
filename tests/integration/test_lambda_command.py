"""`outcrop lambda serve` as a process of its own, and `outcrop lambda invoke` on it and by itself."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from backend.cli.commands import app
from backend.cli.lambda_serve import Asked, functions
from tests.integration.lambda_service import client, write_handlers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_handlers(tmp_path_factory.mktemp("functions"))


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine's, and what boto3 wants before it sends anything."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("AWS_", "PF360_", "DIRECTORY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its URL and what it said at start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backend", "lambda", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests' / 'loopback_only'}{os.pathsep}{ROOT}"},
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        urls = [line.split("=", 1)[1] for line in said if line.strip().startswith("AWS_ENDPOINT_URL_LAMBDA=")]
        assert urls, process.communicate()
        yield process, urls[0], said
    finally:
        process.kill()
        process.communicate()


def invoke(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["lambda", "invoke", *arguments], input=stdin)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_serve_says_what_it_serves_and_stops_with_its_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PF360_JWT_SECRET", "a secret of ours")
    monkeypatch.setenv("AWS_PROFILE_HINT", "not printed")
    options = ["--function", f"hello={folder}:app.tell", "--function", f"say={folder}:app.say"]
    with served(*options, "--env", "TOKEN=hidden", "--timeout", "7") as (process, url, said):
        text = "\n".join(said)
        assert "arn:aws:lambda:us-east-1:000000000000:function:hello" in text
        assert f"app.tell in {folder}; 7 s, 512 MB" in text
        assert f'boto3.client("lambda", endpoint_url="{url}"' in text
        assert "TOKEN" in text
        assert "hidden" not in text
        assert "not printed" not in text

        aws = client(url)
        told = json.loads(aws.invoke(FunctionName="hello")["Payload"].read())
        assert told["environment"]["TOKEN"] == "hidden"
        assert "PF360_JWT_SECRET" not in told["environment"]
        aws.invoke(FunctionName="say", Payload=b'{"text": "for the operator"}')

        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "[say] for the operator\n" in stderr
        assert "Traceback" not in stderr
        assert not psutil.pid_exists(told["pid"])


def test_groups_get_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from `.env`, and in the one spelling that handlers read; a command line has the last word."""
    Path(".env").write_text("PF360_API_URL=http://127.0.0.1:9/api\nPF360_ADMIN_SECRET=steers\nPF360_READ_RETRIES=3\n")
    monkeypatch.setenv("CONFIRM_SCHEDULE_FLAG", "false")
    monkeypatch.setenv("UNRELATED", "kept here")
    with functions(Asked(("notes",), env=("PF360_READ_RETRIES=0",))) as [notes]:
        given = dict(notes.environment)
        offices = json.loads(Path(given.pop("DIRECTORY_JSON")).read_text())
    assert offices["locations"]
    expected = {
        "PF360_API_URL": "http://127.0.0.1:9/api",
        "PF360_READ_RETRIES": "0",
        "CONFIRM_SCHEDULE_FLAG": "0",
    }
    assert {name: value for name, value in given.items() if name.startswith(("PF360", "CONFIRM", "UN"))} == expected


def test_workers_die_with_a_killed_service(folder: Path) -> None:
    with served("--function", f"hello={folder}:app.tell") as (process, url, _):
        pid = json.loads(client(url).invoke(FunctionName="hello")["Payload"].read())["pid"]
        worker = psutil.Process(pid)
        process.kill()
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["other"], "There is no group 'other' with a handler."),
        (["--function", "hello"], "write NAME=PATH:HANDLER"),
        (["--function", "hello=/nowhere"], "Function hello: there is no folder /nowhere."),
        (["--function", "hello=.", "--host", "192.0.2.1"], "loopback only, not on 192.0.2.1"),
        (["--function", "hello=.", "--env", "UNSET_HERE"], "--env UNSET_HERE: it is not set here."),
    ],
)
def test_serve_refuses_in_one_line(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["lambda", "serve", *arguments])
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_runtime_serve_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "awslambdaric" else found(name))
    result = CliRunner().invoke(app, ["lambda", "serve", "--function", "hello=."])
    assert result.exit_code == 1
    assert result.stderr == (
        "The AWS runtime for Python is not installed. Get it: pip install 'outcrop[lambda]'\n"
    )  # fmt: skip


def test_invoke_prints_the_answer_and_the_log(folder: Path) -> None:
    hello = ["echo", "--function", f"echo={folder}:app.echo"]
    result = invoke(*hello, "--payload", '{"a": ["ü"]}')
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"a": ["ü"]}
    assert "loading the handlers\nSTART RequestId: " in result.stderr
    assert json.loads(invoke(*hello, "--payload", "-", stdin="[1]").stdout) == [1]
    Path("event.json").write_text('{"from": "a file"}')
    assert json.loads(invoke(*hello, "--payload", "@event.json").stdout) == {"from": "a file"}


def test_invoke_fails_when_the_function_does(folder: Path) -> None:
    result = invoke("boom", "--function", f"boom={folder}:app.boom")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errorMessage"] == "no such order"
    assert "[ERROR] ValueError: no such order" in result.stderr


def test_invoke_makes_the_event_of_an_agent() -> None:
    """On a real group, unmodified: it answers in the style in which it was asked."""
    for style in ("function", "openapi"):
        result = invoke("information", "--action", "get_working_hours", "--event-style", style)
        assert result.exit_code == 0, result.stderr
        response = json.loads(result.stdout)["response"]
        if style == "function":
            body = response["functionResponse"]["responseBody"]["TEXT"]["body"]
        else:
            assert response["apiPath"] == "/get-working-hours"
            body = response["responseBody"]["application/json"]["body"]
        assert json.loads(body)["ok"] is True


def test_invoke_sends_the_arguments_and_the_session(folder: Path) -> None:
    attributes = {"customer_id": "c-1", "clients": ["a"]}
    result = invoke(
        "notes", "--function", f"notes={folder}:app.echo", "--action", "add_note",
        "--args", '{"project_id": "1", "note_text": "Gate code 12"}', "--session", json.dumps(attributes),
    )  # fmt: skip
    event = json.loads(result.stdout)
    assert (event["actionGroup"], event["function"]) == ("notes", "add_note")
    assert {each["name"]: each["value"] for each in event["parameters"]} == {
        "project_id": "1",
        "note_text": "Gate code 12",
    }
    assert event["sessionAttributes"] == {"customer_id": "c-1", "clients": '["a"]'}


def test_invoke_calls_a_service_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served("--function", f"echo={folder}:app.echo") as (_, url, _):
        assert invoke("echo", "--endpoint-url", url, "--payload", "1").stdout == "1\n"
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        assert invoke("echo", "--payload", "2").stdout == "2\n"
        missing = invoke("other")
    assert missing.exit_code == 1
    assert "ResourceNotFoundException" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["other"], "other is no group of this checkout"),
        (["notes", "--payload", "{a}"], "--payload is not JSON"),
        (["notes", "--payload", "@missing.json"], "--payload @missing.json: "),
        (["notes", "--payload", "{}", "--action", "add_note"], "exclude each other"),
        (["notes", "--action", "add_note", "--args", "[]"], "--args must be a JSON object"),
        (["notes", "--action", "add_note", "--session", "x"], "--session is not JSON"),
        (["notes", "--endpoint-url", "http://127.0.0.1:9"], "notes at http://127.0.0.1:9: Could not connect"),
        (["notes", "--endpoint-url", "nonsense"], "notes at nonsense: "),
    ],
)
def test_invoke_refuses_in_one_line(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
