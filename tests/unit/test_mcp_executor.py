"""Tools of MCP servers, against real ones: started over stdio, and on a socket of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.doubles.world import CUSTOMER, World
from tests.ports import free_port, wait_until_listening
from tools.breaker import Breaker
from tools.contract import InvalidArguments, Prepared, ToolContext, ToolResult
from tools.errors import UnknownOutcome
from tools.executors.config import ExecutorError, McpGroup
from tools.executors.mcp import McpTransport
from tools.executors.mounted import Mounted

DOUBLES = Path(__file__).parents[1] / "doubles"
SERVER, RUDE = str(DOUBLES / "mcp_server.py"), str(DOUBLES / "rude_mcp_server.py")
READS = (
    *("add", "say", "fail", "picture", "crash", "wait", "big"),
    *("breaks_its_schema", "refuse", "environment", "ask_back", "who_asks"),
)

Mount = Callable[..., Awaitable[Mounted]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "calls"
    path.touch()
    return path


@pytest.fixture
async def mount() -> AsyncIterator[Mount]:
    opened: list[Mounted] = []

    async def mounted(headers: dict[str, str] | None = None, **config: Any) -> Mounted:
        group = McpGroup(executor="mcp", **config)
        transport = McpTransport("doors", group, environ={"PASSED_ON": "1", "KEPT_BACK": "2"}, headers=headers)
        executor = Mounted("doors", group, transport, Breaker("doors", fail_max=100), name="mcp")
        await executor.open()
        opened.append(executor)
        return executor

    yield mounted
    for each in opened:
        await each.close()


def program(log: Path, **more: Any) -> dict[str, Any]:
    command = (sys.executable, SERVER, str(log))
    return {"stdio": {"command": command, **more}, "tools": {name: {"effect": "read"} for name in READS}}


def rude() -> dict[str, Any]:
    return {"stdio": {"command": (sys.executable, RUDE)}, "default_effect": "read"}


@contextmanager
def served(*arguments: str) -> Iterator[None]:
    """A server; the last argument is its port."""
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        wait_until_listening(process, int(arguments[-1]))
        yield
    finally:
        process.kill()
        process.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


def context(**more: Any) -> ToolContext:
    base = World().context()
    return ToolContext(CUSTOMER, base.directory, base.clock, base.state, None, base.callbacks, **more)


async def call(executor: Mounted, name: str, ctx: ToolContext | None = None, **args: Any) -> ToolResult:
    ctx = ctx or context()
    return await executor.execute(await executor.prepare(name, args, ctx), ctx)


def calls(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def test_all_pages_are_listed_and_their_hints_are_not_believed(mount: Mount, log: Path) -> None:
    """Thirteen tools of three pages; all call themselves read-only, and what the definition does not know is gated."""
    executor = await mount(**{**program(log), "tools": {"add": {"effect": "read"}}})
    offered = {each.spec.name: each.spec for each in executor.offered()}
    assert len(offered) == 13
    assert offered["add"].effect == "read"
    assert {spec.effect for name, spec in offered.items() if name != "add"} == {"gated"}
    assert "customer_id" not in offered["site_door_unlock"].parameters["properties"]


async def test_structured_content_comes_first_and_text_is_read(mount: Mount, log: Path) -> None:
    """An object is the result, also when it is spelled as text; other text stands under `result`."""
    executor = await mount(**program(log))
    assert (await call(executor, "add", a=1, b=2)).data == {"ok": True, "sum": 3}
    assert (await call(executor, "say", text='{"spelled": [1]}')).data == {"ok": True, "spelled": [1]}
    assert (await call(executor, "say", text="[1]")).data == {"ok": True, "result": "[1]"}
    assert (await call(executor, "say", text="hello")).data == {"ok": True, "result": "hello"}


async def test_pictures_and_resources_are_named_and_not_shown(mount: Mount, log: Path) -> None:
    """A model gets to know that there is one."""
    executor = await mount(**program(log))
    data = (await call(executor, "picture")).data
    assert data["result"] == "The plan."
    assert data["attachments"] == [
        {"type": "image", "mime_type": "image/png"},
        {"type": "resource", "uri": "file:///plan.pdf", "name": "plan", "mime_type": None},
    ]


async def test_a_failure_is_told_without_its_stack_trace(mount: Mount, log: Path) -> None:
    """`isError` and refusals of the protocol are failures with a reason; nothing of the server's inside is in it."""
    executor = await mount(**program(log))
    failed = await call(executor, "fail")
    assert (failed.status, failed.data["code"], failed.data["said"]) == ("error", "action_failed", "The door is stuck.")
    quiet = await call(executor, "say", text='{"ok": false, "error": "door_not_found"}')
    assert (quiet.status, quiet.data["code"], quiet.data["error"]) == ("error", "action_failed", "door_not_found")
    refused = await call(executor, "refuse")
    assert (refused.data["code"], refused.data["said"]) == ("action_failed", "No such door.")


async def test_too_much_is_refused_and_the_connection_stays(mount: Mount, log: Path) -> None:
    """A result has 64 KiB at most."""
    executor = await mount(**program(log))
    assert (await call(executor, "big", bytes=200_000)).data["code"] == "result_too_large"
    assert (await call(executor, "big", bytes=20_000)).status == "ok"


async def test_a_result_that_breaks_the_tools_own_schema_is_no_answer(mount: Mount, log: Path) -> None:
    """Its output schema is checked."""
    executor = await mount(**program(log))
    assert (await call(executor, "breaks_its_schema")).data["code"] == "bad_answer"


async def test_values_of_the_session_are_filled_in_and_never_taken(mount: Mount, log: Path) -> None:
    """A model that supplies one, or a stored call of somebody else, is refused before anything is sent."""
    executor = await mount(**program(log))
    with pytest.raises(InvalidArguments):
        await executor.prepare("site_door_unlock", {"door": "north", "customer_id": "7000102"}, context())
    prepared = await executor.prepare("site_door_unlock", {"door": "north"}, context())
    strangers = Prepared(prepared.spec, {**prepared.args, "customer_id": "7000102"})
    assert (await executor.execute(strangers, context())).data["code"] == "invalid_arguments"
    assert calls(log) == []
    await executor.execute(prepared, context(effect_key="k1"))
    (sent,) = calls(log)
    assert sent["tool"] == "site.door/unlock"
    assert sent["args"] == {"door": "north", "customer_id": "7000101"}
    assert sent["meta"] == {"outcrop/effect_key": "k1"}


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(mount: Mount, log: Path) -> None:
    """The time limit is ours; the server gets to know that nobody waits any more, and the connection stays."""
    executor = await mount(**program(log), timeout_s=1)  # in which a call is over on a busy machine, too
    assert (await call(executor, "wait")).data["code"] == "upstream_unavailable"
    await until(lambda: told_of_cancellation(log))
    assert (await call(executor, "add", a=1, b=2)).status == "ok"


async def test_a_cancelled_turn_cancels_its_call(mount: Mount, log: Path) -> None:
    """The same for a task that is cancelled from outside."""
    executor = await mount(**program(log))
    waiting = asyncio.create_task(call(executor, "wait"))

    async def arrived() -> bool:
        return bool(calls(log))

    await until(arrived)
    waiting.cancel()
    await until(lambda: told_of_cancellation(log))


async def told_of_cancellation(log: Path) -> bool:
    return {"cancelled": True} in calls(log)


async def test_what_a_server_asks_of_us_is_declined(mount: Mount, log: Path) -> None:
    """It gets neither our model nor anything else, and the call goes on."""
    executor = await mount(**program(log))
    assert "declined" in (await call(executor, "ask_back")).data["result"]


async def test_a_started_server_sees_what_the_definition_names(mount: Mount, log: Path) -> None:
    """Nothing of our own environment but that."""
    executor = await mount(**program(log, environment={"GIVEN": "x"}, environment_from=("PASSED_ON",)))
    names = set((await call(executor, "environment")).data["names"])
    assert names - {"LC_CTYPE"} == {"GIVEN", "PASSED_ON"}


async def test_a_server_that_dies_is_started_again(mount: Mount, log: Path) -> None:
    """What was on its way is uncertain, what comes before it is back surely did nothing, and then all is well."""
    executor = await mount(**program(log))
    effect = await executor.prepare("site_door_unlock", {"door": "north"}, context())
    waiting = asyncio.create_task(call(executor, "wait"))

    async def arrived() -> bool:
        return bool(calls(log))

    await until(arrived)
    os.kill(calls(log)[0]["pid"], signal.SIGKILL)
    assert (await waiting).data["code"] == "upstream_unavailable"
    meanwhile = await executor.execute(effect, context(effect_key="k1"))
    assert (meanwhile.status, meanwhile.data["code"]) == ("error", "upstream_unavailable")

    async def back() -> bool:
        return (await call(executor, "add", a=1, b=2)).status == "ok"

    await until(back)
    assert [each["tool"] for each in calls(log) if "tool" in each].count("site.door/unlock") == 0


async def test_an_effect_whose_server_dies_is_unknown(mount: Mount, log: Path) -> None:
    """It was sent, and nobody can tell."""
    config = program(log)
    config["tools"]["crash"] = {"effect": "gated"}
    executor = await mount(**config)
    assert (await call(executor, "crash", context(effect_key="k1"))).status == "unknown"
    with pytest.raises(UnknownOutcome):
        await executor.reconcile("crash", {}, context(effect_key="k1"))


async def test_closing_stops_the_server(mount: Mount, log: Path) -> None:
    """No process stays behind."""
    executor = await mount(**program(log))
    await call(executor, "say", text="hello")
    pid = calls(log)[0]["pid"]
    await executor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_started_server_dies_with_a_killed_owner(log: Path) -> None:
    """kill -9 of us leaves no server, although this one was sent to sleep and reads nothing."""
    owner = f"""
import asyncio, sys
from tests.unit import test_mcp_executor as t
async def main():
    from pathlib import Path
    log = Path({str(log)!r})
    config = t.McpGroup(executor="mcp", **t.program(log))
    executor = t.Mounted("doors", config, t.McpTransport("doors", config), t.Breaker("doors"), name="mcp")
    await executor.open()
    await t.call(executor, "say", text="hello")
    print("ready", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", owner, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    pid = calls(log)[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    process.kill()
    await process.wait()

    async def gone() -> bool:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE if psutil.pid_exists(pid) else True

    await until(gone)


async def test_a_command_that_is_none_names_the_fix(mount: Mount) -> None:
    """Each way in which a server is of no use says which group, which server, and what to do."""
    with pytest.raises(ExecutorError, match=r"doors: .*there is no program no-such-server; run the command by hand"):
        await mount(stdio={"command": ("no-such-server",)})
    with pytest.raises(ExecutorError, match=r"doors: the MCP server .* is of no use: .*; run the command by hand"):
        await mount(stdio={"command": (sys.executable, "-c", "raise SystemExit(1)")})
    with pytest.raises(ExecutorError, match=r"doors: NOT_SET is not set"):
        await mount(stdio={"command": (sys.executable,), "environment_from": ("NOT_SET",)})
    address = f"http://127.0.0.1:{free_port()}/mcp"
    with pytest.raises(ExecutorError, match=rf"doors: the MCP server {address} .*cannot be reached.*check `url`"):
        await mount(url=address)


async def test_garbage_is_a_bad_answer_and_chatter_is_none(mount: Mount) -> None:
    """An old server that prints between its messages works; results that are none are no answer; secrets stay out."""
    executor = await mount(**rude())
    assert (await call(executor, "chatter")).data == {"ok": True, "worked": True}
    assert (await call(executor, "nothing")).data == {"ok": True}
    for name in ("garbage", "unknown_content", "internal_error"):
        result = await call(executor, name)
        assert result.data["code"] == "bad_answer", name
        assert "hunter2" not in str(result.data)


async def test_over_http_a_restarted_server_is_found_again(mount: Mount, log: Path) -> None:
    """Who we are goes along; without a server nothing is sent; a new server that knows nothing of us serves us."""
    port = free_port()
    config = {**program(log), "stdio": None, "url": f"http://127.0.0.1:{port}/mcp"}
    with served(SERVER, str(log), str(port)):
        executor = await mount(headers={"authorization": "Bearer abc"}, **config)
        assert (await call(executor, "add", a=1, b=2)).data["sum"] == 3
        assert (await call(executor, "who_asks")).data["authorization"] == "Bearer abc"
    effect = await executor.prepare("site_door_unlock", {"door": "north"}, context())
    meanwhile = await executor.execute(effect, context(effect_key="k1"))
    assert (meanwhile.status, meanwhile.data["code"]) == ("error", "upstream_unavailable")
    with served(SERVER, str(log), str(port)):

        async def back() -> bool:
            return (await call(executor, "add", a=1, b=2)).status == "ok"

        await until(back)
    assert "site.door/unlock" not in [each["tool"] for each in calls(log)]


async def test_over_http_a_server_that_dies_leaves_an_effect_unknown(mount: Mount, log: Path) -> None:
    """The request was on its way when the connection broke; other calls are not held up by it."""
    port = free_port()
    config = {**program(log), "stdio": None, "url": f"http://127.0.0.1:{port}/mcp"}
    config["tools"]["crash"] = {"effect": "gated"}
    with served(SERVER, str(log), str(port)):
        executor = await mount(**config)
        assert (await call(executor, "crash", context(effect_key="k1"))).status == "unknown"


async def test_over_http_a_late_call_is_cancelled_at_the_server(mount: Mount, log: Path) -> None:
    """As over stdio."""
    port = free_port()
    with served(SERVER, str(log), str(port)):
        executor = await mount(**{**program(log), "stdio": None}, url=f"http://127.0.0.1:{port}/mcp", timeout_s=0.3)
        assert (await call(executor, "wait")).data["code"] == "upstream_unavailable"
        await until(lambda: told_of_cancellation(log))


async def test_over_http_a_session_that_was_forgotten_is_begun_anew(mount: Mount) -> None:
    """The server refuses the old one with 404: the call surely did nothing, and the next ones work."""
    port = free_port()
    with served(RUDE, str(port)):
        executor = await mount(url=f"http://127.0.0.1:{port}/mcp", default_effect="gated")
        effect = await executor.prepare("chatter", {}, context())
        assert (await executor.execute(effect, context(effect_key="k1"))).data == {"ok": True, "worked": True}
        refused = await executor.execute(effect, context(effect_key="k2"))
        assert (refused.status, refused.data["code"]) == ("error", "upstream_unavailable")

        async def back() -> bool:
            return (await executor.execute(effect, context(effect_key="k3"))).status == "ok"

        await until(back)


async def test_over_http_a_body_without_end_is_no_answer(mount: Mount) -> None:
    """It is not read to its end."""
    port = free_port()
    with served(RUDE, str(port)):
        executor = await mount(url=f"http://127.0.0.1:{port}/mcp", default_effect="read")
        assert (await call(executor, "endless")).data["code"] == "bad_answer"
