"""The Lambda API of `LocalLambda`, called with unmodified boto3; the functions run under the runtime that AWS uses."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from backend.lambdas.functions import Function, UnusableFunction
from backend.lambdas.service import CannotServe, LocalLambda
from tests.integration.lambda_service import client, function, running, write_handlers

ARN = "arn:aws:lambda:us-east-1:000000000000:function:tell"


@pytest.fixture(scope="module", autouse=True)
def aws_environment() -> Iterator[None]:
    """What boto3 wants before it sends anything."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_handlers(tmp_path_factory.mktemp("functions"))


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalLambda]:
    functions = [
        *(function(folder, name) for name in ("echo", "say", "boom", "nap", "huge", "append")),
        function(folder, "tell", environment={"GREETING": "hello", "TZ": "America/Chicago"}, memory_mb=256),
        function(folder, "leave", timeout_s=0.5),
        function(folder, "flood", timeout_s=0.5),
        function(folder, "missing"),
        function(folder, "broken.handler"),
        Function("quitter", folder, "quitter.handler"),
        Function("nowhere", folder, "nowhere.handler"),
    ]
    with running(functions, concurrency=2, event_queue=3) as service:
        yield service


@pytest.fixture(scope="module")
def aws(service: LocalLambda) -> Any:
    return client(service.url)


def call(aws: Any, name: str, event: Any = None, **more: Any) -> Any:
    """The decoded payload of one call."""
    return json.loads(aws.invoke(FunctionName=name, Payload=json.dumps(event), **more)["Payload"].read())


def refusal(aws: Any, **arguments: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        aws.invoke(**arguments)
    return caught.value


def wait_until(condition: Any, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# The call and its answer


def test_a_call_returns_what_the_handler_returned(aws: Any) -> None:
    answer = aws.invoke(FunctionName="echo", Payload=json.dumps({"text": "größer", "n": [1, None]}))

    assert json.loads(answer["Payload"].read()) == {"text": "größer", "n": [1, None]}
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["ResponseMetadata"]["RequestId"])


def test_no_payload_is_an_empty_object(aws: Any) -> None:
    assert json.loads(aws.invoke(FunctionName="echo")["Payload"].read()) == {}


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("tell", ARN),
        ("tell:live", f"{ARN}:live"),
        ("tell:$LATEST", f"{ARN}:$LATEST"),
        ("000000000000:function:tell", ARN),
        (ARN, ARN),
        (f"{ARN}:live", f"{ARN}:live"),
        ("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:tell", ARN),
    ],
)
def test_a_function_is_called_by_every_form_of_its_name(aws: Any, name: str, arn: str) -> None:
    assert call(aws, name)["arn"] == arn


def test_a_qualifier_is_part_of_the_arn_that_the_handler_sees(aws: Any) -> None:
    assert call(aws, "tell", Qualifier="blue")["arn"] == f"{ARN}:blue"
    error = refusal(aws, FunctionName="tell:green", Qualifier="blue")
    assert error.response["Error"]["Code"] == "InvalidParameterValueException"


def test_the_context_and_the_environment_are_those_of_a_function(aws: Any, folder: Path) -> None:
    answer = aws.invoke(FunctionName="tell", ClientContext=base64.b64encode('{"custom":{"a":"ä"}}'.encode()).decode())
    told = json.loads(answer["Payload"].read())

    assert told["request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert (told["name"], told["version"], told["memory"]) == ("tell", "$LATEST", "256")
    assert (told["cwd"], told["custom"]) == (str(folder), {"a": "ä"})
    assert 29_000 < told["left_ms"] <= 30_000
    expected = {
        "GREETING": "hello",
        "TZ": "America/Chicago",
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "tell",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/tell",
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": "app.tell",
    }
    assert expected.items() <= told["environment"].items()
    assert told["environment"]["PYTHONPATH"].startswith(str(folder))
    assert "AWS_SECRET_ACCESS_KEY" not in told["environment"]  # ours, and nobody passed it on


def test_a_worker_is_used_again(aws: Any) -> None:
    first, second = call(aws, "tell"), call(aws, "tell")
    assert second["pid"] == first["pid"]
    assert second["calls"] == first["calls"] + 1


def test_the_log_tail_is_the_end_of_this_calls_output(aws: Any) -> None:
    log = [
        base64.b64decode(
            aws.invoke(FunctionName="say", Payload=json.dumps({"text": text}), LogType="Tail")["LogResult"]
        )
        for text in ("first", "second", "x" * 6000 + "end")
    ]
    assert b"loading the handlers\nSTART RequestId: " in log[0]
    assert b"Version: $LATEST\nfirst\nEND RequestId: " in log[0]
    assert b"Init Duration: " in log[0]
    assert log[1].startswith(b"START RequestId: ")
    assert b"\nsecond\nEND RequestId: " in log[1]
    assert b"Memory Size: 512 MB\tMax Memory Used: " in log[1]
    assert len(log[2]) == 4096
    assert b"xxend\nEND RequestId: " in log[2]


def test_a_dry_run_runs_nothing(aws: Any, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    answer = aws.invoke(FunctionName="append", InvocationType="DryRun", Payload=json.dumps({"file": str(file)}))
    assert answer["StatusCode"] == 204
    call(aws, "append", {"file": str(file)})
    assert len(file.read_text().split()) == 1


# Functions that fail


def test_an_exception_is_a_function_error_with_its_traceback(aws: Any) -> None:
    answer = aws.invoke(FunctionName="boom", LogType="Tail")
    body = json.loads(answer["Payload"].read())

    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (body["errorType"], body["errorMessage"]) == ("ValueError", "no such order")
    assert "in boom" in body["stackTrace"][-1]
    assert body["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert b"[ERROR] ValueError: no such order\nTraceback" in base64.b64decode(answer["LogResult"])


@pytest.mark.parametrize(
    ("name", "error_type", "words"),
    [
        ("nowhere", "Runtime.ImportModuleError", "No module named 'nowhere'"),
        ("missing", "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'app'"),
        ("handler", "RuntimeError", "at import"),
        ("quitter", "Runtime.ExitError", "Runtime exited with error: exit status 7"),
    ],
)
def test_a_handler_that_cannot_be_loaded_is_a_function_error(aws: Any, name: str, error_type: str, words: str) -> None:
    for _ in range(2):  # the next call tries to load it again
        answer = aws.invoke(FunctionName=name)
        body = json.loads(answer["Payload"].read())
        assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
        assert body["errorType"] == error_type
        assert words in body["errorMessage"]


@pytest.mark.parametrize(
    ("how", "error_type", "words"),
    [
        ("hang", "Sandbox.Timedout", "Error: Task timed out after 0.50 seconds"),
        (3, "Runtime.ExitError", "Error: Runtime exited with error: exit status 3"),
        (0, "Runtime.ExitError", "Error: Runtime exited without providing a reason"),
    ],
)
def test_a_worker_that_hangs_or_ends_takes_along_what_it_started(
    aws: Any, tmp_path: Path, how: object, error_type: str, words: str
) -> None:
    answer = aws.invoke(FunctionName="leave", Payload=json.dumps({"how": how, "tell": str(tmp_path / "pids")}))
    body = json.loads(answer["Payload"].read())

    assert answer["FunctionError"] == "Unhandled"
    assert body == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {answer['ResponseMetadata']['RequestId']} {words}",
    }
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_until(lambda pid=pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_a_function_that_prints_without_end_is_stopped_as_any_other(aws: Any) -> None:
    with ThreadPoolExecutor(1) as threads:
        flood = threads.submit(aws.invoke, FunctionName="flood", LogType="Tail")
        assert call(aws, "echo", "meanwhile") == "meanwhile"
        answer = flood.result(timeout=60)
    assert json.loads(answer["Payload"].read())["errorType"] == "Sandbox.Timedout"
    assert 0 < len(base64.b64decode(answer["LogResult"])) <= 4096


def test_an_answer_of_more_than_six_megabytes_is_a_function_error(aws: Any) -> None:
    answer = aws.invoke(FunctionName="huge", Payload=json.dumps({"size": 6_291_556}))
    body = json.loads(answer["Payload"].read())
    assert answer["FunctionError"] == "Unhandled"
    assert body["errorType"] == "Function.ResponseSizeTooLarge"
    assert "6291558 bytes" in body["errorMessage"]

    # The runtime ends itself over it; the next call does not notice.
    assert len(call(aws, "huge", {"size": 6_291_554})) == 6_291_554


def test_a_worker_killed_between_two_calls_is_replaced_unseen(aws: Any) -> None:
    first = call(aws, "tell")["pid"]
    worker = psutil.Process(first)
    worker.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    second = aws.invoke(FunctionName="tell")
    assert "FunctionError" not in second
    assert json.loads(second["Payload"].read())["pid"] != first


def test_a_worker_that_cannot_be_started_is_our_own_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running([function(folder, "echo")]) as service:
        aws = client(service.url)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            error = refusal(aws, FunctionName="echo")
        assert isinstance(error, aws.exceptions.ServiceException)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert (error.response["Type"], call(aws, "echo", 1)) == ("Service", 1)


# Calls that are refused


def test_what_is_not_json_is_refused(aws: Any) -> None:
    for payload in (b"{'a': 1}", b'{"a": NaN}', b'{"a": "\xff"}'):
        error = refusal(aws, FunctionName="echo", Payload=payload)
        assert isinstance(error, aws.exceptions.InvalidRequestContentException)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert error.response["Error"]["Message"].startswith("Could not parse request body into json: ")
        assert error.response["Type"] == "User"


@pytest.mark.parametrize("context", ["no base64!", base64.b64encode(b"[1]").decode(), base64.b64encode(b"{").decode()])
def test_a_client_context_that_is_no_object_is_refused(aws: Any, context: str) -> None:
    error = refusal(aws, FunctionName="echo", ClientContext=context)
    assert error.response["Error"]["Code"] == "InvalidRequestContentException"


def test_an_unknown_function_is_not_found(aws: Any) -> None:
    for name in ("other", ARN.replace("tell", "other"), "other:live"):
        error = refusal(aws, FunctionName=name)
        assert isinstance(error, aws.exceptions.ResourceNotFoundException)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert "function:other" in error.response["Message"]
        assert error.response["Type"] == "User"


@pytest.mark.parametrize("name", ["a/b", "../tell", "arn:aws:s3:::tell", "te ll"])
def test_what_is_no_function_name_is_refused(aws: Any, name: str) -> None:
    assert refusal(aws, FunctionName=name).response["Error"]["Code"] == "InvalidParameterValueException"


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 1024 * 1024)])
def test_a_payload_has_a_limit(aws: Any, kind: str, limit: int) -> None:
    payload = b'"' + b"x" * (limit - 2) + b'"'
    assert aws.invoke(FunctionName="echo", InvocationType=kind, Payload=payload)["StatusCode"] in (200, 202)
    error = refusal(aws, FunctionName="echo", InvocationType=kind, Payload=payload + b" ")
    assert isinstance(error, aws.exceptions.RequestTooLargeException)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert str(limit) in error.response["Error"]["Message"]


def test_more_calls_than_workers_are_refused_and_run_when_one_is_free(aws: Any, tmp_path: Path) -> None:
    event = {"until": str(tmp_path / "go")}
    with ThreadPoolExecutor(2) as threads:
        busy = [threads.submit(call, aws, "nap", event) for _ in range(2)]
        try:
            wait_until(lambda: len(list(tmp_path.glob("go.*"))) == 2)
            error = refusal(aws, FunctionName="nap", Payload=json.dumps(event))
            assert isinstance(error, aws.exceptions.TooManyRequestsException)
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert error.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
            assert call(aws, "echo", 1) == 1  # another function has workers of its own
        finally:
            (tmp_path / "go").touch()
        pids = {future.result() for future in busy}
    assert len(pids) == 2
    assert call(aws, "nap", event) in pids


def test_an_unknown_invocation_type_or_path_is_refused(service: LocalLambda) -> None:
    base = f"{service.url}/2015-03-31/functions"
    answer = httpx.post(f"{base}/echo/invocations", headers={"X-Amz-Invocation-Type": "Later"})
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
    for method, path in (("POST", "/echo"), ("DELETE", "/echo"), ("POST", "/echo/invocations/more"), ("GET", "/a/b/c")):
        answer = httpx.request(method, base + path)
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    "headers", [{"host": "functions.example"}, {"host": "[::"}, {"origin": "https://page.example"}, {"origin": "null"}]
)
def test_calls_from_pages_and_under_other_names_are_refused(service: LocalLambda, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{service.url}/2015-03-31/functions/echo/invocations", headers=headers)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


# Events


def test_an_event_is_accepted_at_once_and_run_later(aws: Any, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    answer = aws.invoke(FunctionName="append", InvocationType="Event", Payload=json.dumps({"file": str(file)}))

    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
    wait_until(file.exists)
    wait_until(lambda: file.read_text() == answer["ResponseMetadata"]["RequestId"] + "\n")


def test_events_wait_for_a_worker_in_a_bounded_queue(aws: Any, tmp_path: Path) -> None:
    event = {"FunctionName": "nap", "InvocationType": "Event", "Payload": json.dumps({"until": str(tmp_path / "go")})}
    answers: list[Any] = []

    def accepts() -> bool:
        try:
            answers.append(aws.invoke(**event))
        except aws.exceptions.TooManyRequestsException:
            return False
        return True

    wait_until(lambda: not accepts())
    assert 3 <= len(answers) <= 5  # three wait, and up to two run by now
    assert refusal(aws, **event).response["Reason"] == "CallerRateLimitExceeded"
    (tmp_path / "go").touch()
    wait_until(accepts)


# Reads


def test_functions_can_be_listed_and_read(aws: Any) -> None:
    listed = aws.list_functions()["Functions"]
    assert {"echo", "tell", "leave"} <= {each["FunctionName"] for each in listed}
    configuration = aws.get_function(FunctionName=ARN)["Configuration"]
    assert (configuration["FunctionArn"], configuration["MemorySize"], configuration["Timeout"]) == (ARN, 256, 30)
    assert "hello" not in json.dumps(configuration, default=str)
    assert aws.get_function_configuration(FunctionName="tell")["Handler"] == "app.tell"
    aws.get_waiter("function_active_v2").wait(FunctionName="echo")
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function(FunctionName="other")


# Load, and the life of workers


def test_many_sleeping_calls_leave_the_service_responsive(folder: Path, tmp_path: Path) -> None:
    """200 calls, of which as many run as there are workers: the others are refused, and reads answered meanwhile."""
    with running([function(folder, "nap")], concurrency=8) as service:
        asyncio.run(_crowd(service, tmp_path / "go"))


async def _crowd(service: LocalLambda, go: Path) -> None:
    url = f"{service.url}/2015-03-31/functions"
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=30.0, limits=limits, trust_env=False) as http:
        sent = [
            asyncio.create_task(http.post(f"{url}/nap/invocations", json={"until": str(go)})) for _ in range(200)
        ]  # fmt: skip
        while sum(task.done() for task in sent) < 192:
            await asyncio.sleep(0.005)
        began = time.monotonic()
        for _ in range(20):
            assert (await http.get(f"{url}/")).status_code == 200
        assert time.monotonic() - began < 5.0
        await asyncio.to_thread(go.touch)
        answers = [await task for task in sent]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (8, 192)
    assert len({answer.json() for answer in answers if answer.status_code == 200}) == 8


def test_idle_workers_are_stopped_and_started_again_on_demand(folder: Path) -> None:
    with running([function(folder, "tell")], idle_s=0.1) as service:
        aws = client(service.url)
        first = call(aws, "tell")["pid"]
        wait_until(lambda: not service.pools["tell"].pids and not psutil.pid_exists(first))
        assert call(aws, "tell")["pid"] != first


def test_the_end_of_the_service_kills_its_workers_and_answers_their_calls(folder: Path, tmp_path: Path) -> None:
    with running([function(folder, "leave"), function(folder, "tell")], stop_grace_s=0.2) as service:
        aws = client(service.url)
        pids = [call(aws, "tell")["pid"]]
        answers: list[Any] = []
        event = {"how": "hang", "tell": str(tmp_path / "pids")}
        thread = threading.Thread(target=lambda: answers.append(call(aws, "leave", event)))
        thread.start()
        wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    thread.join()
    pids += map(int, (tmp_path / "pids").read_text().split())
    assert answers[0]["errorType"] == "Runtime.ExitError"
    for pid in pids:
        wait_until(lambda pid=pid: not psutil.pid_exists(pid))


def test_all_that_functions_print_reaches_the_sink(folder: Path) -> None:
    printed: list[tuple[str, bytes]] = []
    with running([function(folder, "say")], log_sink=lambda name, text: printed.append((name, text))) as service:
        call(client(service.url), "say", {"text": "for the operator"})
    assert {name for name, _ in printed} == {"say"}
    assert b"\nfor the operator\n" in b"".join(text for _, text in printed)


# What cannot be served


def test_only_loopback_is_served(folder: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "functions.example"):  # noqa: S104 (refused)
        with pytest.raises(CannotServe, match="loopback only"):
            LocalLambda([function(folder, "echo")], host=host)


def test_a_taken_port_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=rf"Cannot listen on 127.0.0.1:{port}: .* --port"), running([], port=port):
            pass


def test_names_are_unique(folder: Path) -> None:
    with pytest.raises(UnusableFunction, match="same name"):
        LocalLambda([function(folder, "echo"), function(folder, "echo")])
