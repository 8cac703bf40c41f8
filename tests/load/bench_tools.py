"""What a tool call costs: in this process, and in a Lambda function beside a bare boto3 invoke.

    uv run python -m tests.load.bench_tools [--quick] [--json PATH]

The function is a server in a process of its own that answers at once, or after 200 ms; so what is left is the caller's
own work. CPU is that of this process. Both callers take turns, in rounds; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import boto3
import psutil
import uvloop
from botocore.config import Config

from agent.definition import load_definition
from agent.ports import TurnInput, TurnWork
from agent.providers.base import Call
from agent.tool_call import run_proposed
from agent.transcript import ToolCall
from agent.turn import Turn
from tests.doubles.world import CUSTOMER, NOW, OFFICES, FixedClock, MemoryLedger, NoCallbacks
from tests.load.processes import started
from tests.ports import free_port
from tools.action import action
from tools.arguments import BookingDate, Choice
from tools.breaker import Breaker
from tools.contract import JsonObject, Prepared, ToolContext, ToolState
from tools.errors import UpstreamUnavailable
from tools.executors.config import LambdaGroup
from tools.executors.lambda_function import ForeignLambda
from tools.executors.lambda_wire import LambdaWire
from tools.executors.mounted import Mounted
from tools.in_process import InProcess
from tools.lambda_events import Operation, Session, event_for
from tools.toolbox import in_one

DELAY_MS = 200
MANY = 200
BREAKER = Breaker("bench")


@action(group="information", effect="read")
async def find_parts(words: Choice, ctx: ToolContext, day: BookingDate | None = None, limit: int = 10) -> JsonObject:
    """Find parts.

    Args:
        words: What to look for.
        day: In stock on that day.
        limit: How many at most.
    """
    async with BREAKER.guard(UpstreamUnavailable):
        return {"parts": [{"id": f"P-{n}", "name": words, "stock": n} for n in range(limit)]}


def context() -> ToolContext:
    return ToolContext(CUSTOMER, OFFICES, FixedClock(), ToolState(), None, NoCallbacks(), conversation_id="c", said="x")


def a_turn(toolbox: Any, definition: Any) -> Turn:
    from uuid import uuid4

    given = TurnInput("default", uuid4(), uuid4(), uuid4(), "find hinges", (), (), context(), MemoryLedger())
    return Turn(definition, None, toolbox, given, TurnWork(), lambda _: "information")


async def in_process(calls: int) -> dict[str, float]:
    """CPU ms of one proposed read: checked, validated, run under a breaker, recorded, its events emitted."""
    toolbox, definition = in_one(InProcess([find_parts])), load_definition()
    bare = []
    whole = []
    for _ in range(5):
        turns = [a_turn(toolbox, definition) for _ in range(calls)]
        proposals = [
            Call(ToolCall(str(n), "find_parts", {"words": "hinge", "limit": 5, "day": "2026-03-16"}))
            for n in range(calls)
        ]
        began = time.process_time()
        for turn, proposal in zip(turns, proposals, strict=True):
            await run_proposed(turn, proposal)
        whole.append((time.process_time() - began) / calls * 1000)
        ctx, day = context(), NOW.date()
        began = time.process_time()
        for _ in range(calls):
            await find_parts.run(words="hinge", limit=5, day=day, ctx=ctx)
        bare.append((time.process_time() - began) / calls * 1000)
    return {"whole_ms": median(whole), "function_ms": median(bare), "overhead_ms": median(whole) - median(bare)}


async def functions(rounds: int, calls: int, folder: Path) -> dict[str, Any]:
    """Our executor beside boto3, one call after the other, and 200 at once."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}
    quick, slow = free_port(), free_port()
    async with (
        started(["tests.load.fake_lambda", str(quick), "0"], folder / "quick.log"),
        started(["tests.load.fake_lambda", str(slow), str(DELAY_MS)], folder / "slow.log"),
    ):
        await asyncio.gather(_listening(quick), _listening(slow))
        one_by_one = await _sequential(quick, rounds, calls, folder)
        return {"one_by_one": one_by_one, "at_once": await _at_once(slow, rounds, folder)}


async def _listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def mounted(port: int, folder: Path) -> tuple[Mounted, Prepared]:
    path = folder / "functions.json"
    path.write_text(
        json.dumps(
            {
                "functions": [
                    {
                        "name": "find",
                        "description": "Find.",
                        "parameters": {"words": {"type": "string", "required": True}},
                    }
                ]
            }
        )
    )
    config = LambdaGroup(executor="lambda", function="parts", functions=path, default_effect="read")
    wire = LambdaWire("parts", region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}")
    executor = Mounted("parts", config, ForeignLambda("parts", wire, functions=path), Breaker("parts"), name="lambda")
    await executor.open()
    return executor, await executor.prepare("find", {"words": "hinge"}, context())


def boto(port: int, connections: int = 10) -> Any:
    return boto3.client(
        "lambda",
        region_name="eu-west-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(max_pool_connections=connections, retries={"total_max_attempts": 1}),
    )


PAYLOAD = json.dumps(
    event_for(Operation("parts", "find"), {"words": "hinge"}, {"properties": {"words": {"type": "string"}}}, Session())
).encode()


def bare_invoke(client: Any) -> Any:
    """What a program does without us: invoke, read, parse."""
    answer = client.invoke(FunctionName="parts", Payload=PAYLOAD)
    return json.loads(
        json.loads(answer["Payload"].read())["response"]["functionResponse"]["responseBody"]["TEXT"]["body"]
    )


async def _sequential(port: int, rounds: int, calls: int, folder: Path) -> dict[str, Any]:
    executor, prepared = await mounted(port, folder)
    ctx, client = context(), boto(port)

    async def ours() -> None:
        assert (await executor.execute(prepared, ctx)).status == "ok"

    async def theirs() -> None:
        assert bare_invoke(client)["parts"]

    found: dict[str, list[tuple[float, float]]] = {"ours": [], "boto3": []}
    for n in range(rounds + 1):
        order: list[tuple[str, Callable[[], Awaitable[None]]]] = [("ours", ours), ("boto3", theirs)]
        for name, call in order if n % 2 else reversed(order):
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(calls):
                await call()
            if n:  # the first one warms
                found[name].append(
                    ((time.process_time() - cpu) / calls * 1000, (time.perf_counter() - wall) / calls * 1000)
                )
    await executor.close()
    pairs = list(zip(found["ours"], found["boto3"], strict=True))
    return {
        "ours_cpu_ms": median(cpu for cpu, _ in found["ours"]),
        "boto3_cpu_ms": median(cpu for cpu, _ in found["boto3"]),
        "cpu_ratio": median(a[0] / b[0] for a, b in pairs),
        "ours_wall_ms": median(wall for _, wall in found["ours"]),
        "boto3_wall_ms": median(wall for _, wall in found["boto3"]),
        "wall_ratio": median(a[1] / b[1] for a, b in pairs),
    }


class Lag:
    """How late the event loop comes to a timer of 5 ms, again and again."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        task = asyncio.ensure_future(self._watch())
        yield
        task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            self.late_ms.append((time.perf_counter() - due) * 1000)


async def _at_once(port: int, rounds: int, folder: Path) -> dict[str, Any]:
    """200 calls of a function that takes 200 ms: wall time, CPU, and how long the loop had no time for others."""
    executor, prepared = await mounted(port, folder)
    ctx, client = context(), boto(port, MANY)
    loop = asyncio.get_running_loop()
    found: dict[str, list[tuple[float, float, float]]] = {
        "ours": [],
        "boto3 in 200 threads": [],
        "boto3 in the default threads": [],
    }
    with ThreadPoolExecutor(MANY) as threads:

        async def pooled(pool: ThreadPoolExecutor | None) -> None:
            await asyncio.gather(*(loop.run_in_executor(pool, bare_invoke, client) for _ in range(MANY)))

        async def ours() -> None:
            results = await asyncio.gather(*(executor.execute(prepared, ctx) for _ in range(MANY)))
            assert all(each.status == "ok" for each in results)

        async def default_threads() -> None:
            await pooled(None)

        async def many_threads() -> None:
            await pooled(threads)

        ways = dict(zip(found, (ours, many_threads, default_threads), strict=True))
        for n in range(rounds + 1):
            for name, run in ways.items():
                lag = Lag()
                cpu, wall = time.process_time(), time.perf_counter()
                with lag.watched():
                    await run()
                if n:
                    late = quantiles(lag.late_ms, n=100)[98] if len(lag.late_ms) > 1 else max(lag.late_ms, default=0.0)
                    found[name].append(((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000, late))
    await executor.close()
    return {
        name: dict(
            zip(
                ("wall_ms", "cpu_ms", "loop_late_p99_ms"),
                (median(column) for column in zip(*rows, strict=True)),
                strict=True,
            )
        )
        for name, rows in found.items()
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as lines."""
    here, lambda_ = figures["in_process"], figures["functions"]
    one, many = lambda_["one_by_one"], lambda_["at_once"]
    lines = [
        f"In this process: {here['whole_ms']:.3f} ms CPU a call, {here['overhead_ms']:.3f} beside the function's own",
        f"Lambda, one by one: {one['ours_cpu_ms']:.2f} ms CPU a call, bare boto3 {one['boto3_cpu_ms']:.2f} (ratio "
        f"{one['cpu_ratio']:.2f}); wall {one['ours_wall_ms']:.2f} against {one['boto3_wall_ms']:.2f} "
        f"({one['wall_ratio']:.2f})",
    ]
    lines += [
        f"Lambda, {MANY} at once, {DELAY_MS} ms each, {name}: {row['wall_ms']:.0f} ms, {row['cpu_ms']:.0f} ms CPU, "
        f"loop late by {row['loop_late_p99_ms']:.1f} ms (p99)"
        for name, row in many.items()
    ]
    return "\n".join(lines)


async def measure(rounds: int, calls: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="outcrop-bench-") as name:
        folder = Path(name)
        return {
            "cores": psutil.cpu_count(),
            "in_process": await in_process(calls),
            "functions": await functions(rounds, calls, folder),
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what a tool call costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--rounds", type=int, help="how many")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures, beside PATH as *.tools.json")
    given = parser.parse_args()
    figures = uvloop.run(measure(given.rounds or (3 if given.quick else 9), 200 if given.quick else 500))
    print(report(figures))
    if given.json:
        given.json.with_suffix(".tools.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
