"""What a turn costs, beside two bare apps in the same run on the same machine.

    uv run python -m tests.load.bench [--quick] [--rounds N] [--json PATH]

One turn: a user's message, one call of a read tool, its result, an answer of 20 tokens; two model calls. The model is
a script without delay. Everything is real: sockets, PostgreSQL with flushed commits, Redis, the simulator. How to read
the figures: `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import orjson
import psutil
import uvloop

from backend.embedded.data_folder import owned_folder
from backend.embedded.postgres import EmbeddedPostgres
from backend.embedded.redis import EmbeddedRedis
from backend.embedded.simulator_process import Simulator, simulator
from backend.records.migrate import upgrade
from tests.load.fake_model import ANSWER, MODEL, TOOL
from tests.load.processes import cpu_s, memory_mib, started
from tests.ports import free_port

MESSAGE = "When are you open?"
BASE = "bare httpx"
# A conversation is measured from this many turns before its 200th on to as many after it, spread over the rounds.
LONG = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    fresh: int  # turns a round, each the first of a conversation
    late: int  # turns a round around turn 200 of one conversation
    warm: int


DEFAULT = Plan(rounds=5, fresh=80, late=20, warm=60)
QUICK = Plan(rounds=2, fresh=40, late=20, warm=30)


@dataclass(slots=True)
class Peer:
    """One server under measurement; several may be the same process with other requests."""

    name: str
    url: str
    pid: int
    start_s: float
    database: str
    ours: bool
    uses_model: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    idle_mib: float = 0.0
    goes_long: bool = True
    figures: dict[str, list[float]] = field(default_factory=dict)
    long: dict[bool, str | None] = field(default_factory=dict)  # the long conversation, by whether it is streamed
    rows: float = 0.0
    commits: float = 0.0
    log_kb: float = 0.0

    def note(self, figure: str, value: float) -> None:
        """Keep one round's figure."""
        self.figures.setdefault(figure, []).append(value)

    def at(self, figure: str) -> float:
        """The median over the rounds."""
        return median(self.figures[figure])

    def ratio(self, figure: str, base: Peer) -> float:
        """The median of the ratios within each round."""
        return median(mine / theirs for mine, theirs in zip(self.figures[figure], base.figures[figure], strict=True))


@dataclass(frozen=True, slots=True)
class Stack:
    """What all peers share."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    simulator: Simulator
    model_url: str
    folder: Path
    beside: Mapping[str, tuple[int, ...]]  # processes that are no peer's own, by kind


class WrongAnswer(Exception):
    """A peer did not do what a turn is: the figures would mean nothing."""


class Person:
    """Sends messages one after the other and checks every answer."""

    def __init__(self, client: aiohttp.ClientSession, peer: Peer) -> None:
        self._client = client
        self._peer = peer
        path = "/api/v1/chat" if peer.ours else "/chat"
        self._url = {False: f"{peer.url}{path}", True: f"{peer.url}{path}/stream"}

    async def say(self, conversation: str | None, *, streamed: bool) -> tuple[str, float]:
        """One turn: the conversation's id and the milliseconds to the end of the answer."""
        body: dict[str, Any] = {"message": MESSAGE}
        if not self._peer.ours:
            conversation = conversation or uuid4().hex
        if conversation:
            body["session_id"] = conversation
        began = time.perf_counter()
        headers = {"content-type": "application/json", **self._peer.headers}
        async with self._client.post(self._url[streamed], data=orjson.dumps(body), headers=headers) as response:
            answer = await response.read()
            took_ms = (time.perf_counter() - began) * 1000
            self._check(response.status, answer, streamed)
            known = response.headers.get("x-session-id")
        if self._peer.ours:
            conversation = known or orjson.loads(answer)["session_id"]
        assert conversation
        return conversation, took_ms

    def _check(self, status: int, answer: bytes, streamed: bool) -> None:
        if status != 200:
            raise WrongAnswer(f"{self._peer.name}: HTTP {status}: {answer[:500]!r}")
        if streamed:
            lines = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
            events = [orjson.loads(line) for line in lines]
            text = "".join(event["text"] for event in events if event.get("type", "text_delta") == "text_delta")
        else:
            text = orjson.loads(answer)["text"]
        if (text != ANSWER) if self._peer.uses_model else ("8:00 AM" not in text):
            raise WrongAnswer(f"{self._peer.name}: {text!r}")
        if self._peer.ours and TOOL.encode() not in answer:
            raise WrongAnswer(f"{self._peer.name}: no call of {TOOL}: {answer[:500]!r}")


class Bench:
    """All peers, one round after the other."""

    def __init__(self, stack: Stack, peers: list[Peer], plan: Plan, client: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._peers = peers
        self._plan = plan
        self._client = client
        self._people = {peer.name: Person(client, peer) for peer in peers}

    async def prepare(self) -> None:
        """Warm up, count what a turn writes, and bring one conversation of each kind near its 200th turn."""
        before = LONG - self._plan.rounds * self._plan.late // 2
        for peer in self._peers:
            say = self._people[peer.name].say
            for turn in range(self._plan.warm):
                await say(None, streamed=turn % 2 == 0)
            await self._count_writes(peer)
            for streamed in (False, True) if peer.goes_long else ():
                peer.long[streamed] = None
                for _ in range(before):
                    peer.long[streamed], _ms = await say(peer.long[streamed], streamed=streamed)
            if peer.uses_model and peer.goes_long:
                await self._check_context(peer)

    async def _count_writes(self, peer: Peer) -> None:
        """Rows inserted, writing transactions committed and bytes of log, per first turn of a conversation."""
        turns = 20
        database = await asyncpg.connect(peer.database, ssl=False)
        try:
            before = await _written(database)
            for _ in range(turns):
                await self._people[peer.name].say(None, streamed=False)
            after = await _written(database)
        finally:
            await database.close()
        peer.rows, peer.commits, peer.log_kb = ((b - a) / turns for a, b in zip(before, after, strict=True))
        peer.log_kb /= 1024

    async def _check_context(self, peer: Peer) -> None:
        await self._people[peer.name].say(peer.long[False], streamed=False)
        async with self._client.get(self._stack.model_url.removesuffix("/v1") + "/last") as response:
            sent = orjson.loads(await response.read())["messages"]
        if sent < 80:
            raise WrongAnswer(f"{peer.name}: the model was sent {sent} messages after a long conversation")

    async def round(self, number: int) -> None:
        """Each peer once; who begins changes from round to round."""
        shift = number % len(self._peers)
        for peer in (*self._peers[shift:], *self._peers[:shift]):
            for streamed in (False, True):
                kind = "streamed" if streamed else "json"
                await self._measure(peer, f"turn 1, {kind}", self._plan.fresh, streamed, long=False)
                if peer.goes_long:
                    await self._measure(peer, f"turn {LONG}, {kind}", self._plan.late, streamed, long=True)

    async def _measure(self, peer: Peer, figure: str, turns: int, streamed: bool, *, long: bool) -> None:
        say = self._people[peer.name].say
        conversation = peer.long[streamed] if long else None
        beside = {kind: cpu_s(pids) for kind, pids in self._stack.beside.items()}
        began = cpu_s([peer.pid])
        times = [(await say(conversation, streamed=streamed))[1] for _ in range(turns)]
        peer.note(f"cpu, {figure}", (cpu_s([peer.pid]) - began) / turns * 1000)
        peer.note(f"wall, {figure}", median(times))
        for kind, pids in self._stack.beside.items():
            peer.note(f"{kind} cpu, {figure}", (cpu_s(pids) - beside[kind]) / turns * 1000)


async def _written(database: asyncpg.Connection[asyncpg.Record]) -> tuple[float, float, float]:
    """Rows in all tables, the next transaction id (writing transactions use one each), bytes of log ever written."""
    names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await database.fetchval(f'SELECT count(*) FROM "{each["tablename"]}"') for each in names]  # noqa: S608
    xid = await database.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    log = await database.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
    return float(sum(rows)), float(xid), float(log)


# --- what is started ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def shared(folder: Path) -> AsyncIterator[Stack]:
    """Stores, simulator and model, outside of every peer."""
    port = free_port()
    ourselves = psutil.Process()
    with owned_folder(folder / "data", "stores") as data:
        postgres, redis = EmbeddedPostgres(data), EmbeddedRedis(data)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(postgres.stop)
            await postgres.start()
            stack.push_async_callback(redis.stop)
            await redis.start()
            before = {child.pid for child in ourselves.children()}
            office = await stack.enter_async_context(simulator(folder / "data", "live"))
            simulator_pids = {child.pid for child in ourselves.children()} - before
            log = folder / "model.log"
            healthy = f"http://127.0.0.1:{port}/last"
            argv = ["tests.load.fake_model", str(port)]
            await stack.enter_async_context(started(argv, log, healthy=healthy))
            assert postgres.pid
            assert redis.pid
            beside = {"postgres": (postgres.pid,), "redis": (redis.pid,), "simulator": tuple(simulator_pids)}
            yield Stack(postgres, redis, office, f"http://127.0.0.1:{port}/v1", folder, beside)


async def new_database(stack: Stack, name: str) -> str:
    """An empty database of the application's role."""
    admin = await asyncpg.connect(stack.postgres.admin_url, ssl=False)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" OWNER outcrop')
    finally:
        await admin.close()
    return stack.postgres.url.rsplit("/", 1)[0] + f"/{name}"


@asynccontextmanager
async def bare(stack: Stack, name: str, module: str) -> AsyncIterator[Peer]:
    """One bare app."""
    database, port = await new_database(stack, module), free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [f"tests.load.{module}", str(port), database, stack.model_url]
    async with started(argv, stack.folder / f"{module}.log", healthy=f"{url}/healthz") as (pid, start_s):
        yield Peer(name, url, pid, start_s, database, ours=False)


@asynccontextmanager
async def ours(stack: Stack, name: str, redis_number: int, provider: Mapping[str, str]) -> AsyncIterator[Peer]:
    """Our server over stores that run already. Its demo identity leaves the tool nothing to ask upstream."""
    label = "bench_" + name.replace(" ", "_").replace(",", "")
    database, port = await new_database(stack, label), free_port()
    await upgrade(database)  # once in a database's life, and no part of an ordinary start
    url = f"http://127.0.0.1:{port}"
    environment = {
        "DATABASE_URL": database,
        "REDIS_URL": f"{stack.redis.url.rsplit('/', 1)[0]}/{redis_number}",
        "PF360_API_URL": stack.simulator.api_url,
        "PF360_JWT_SECRET": stack.simulator.jwt_secret,
        "OUTCROP_DATA_DIR": str(stack.folder / label),
        **provider,
    }
    argv = ["backend", "serve", "--port", str(port)]
    log = stack.folder / f"{label}.log"
    async with started(argv, log, healthy=f"{url}/healthz", more_env=environment) as (pid, start_s):
        yield Peer(name, url, pid, start_s, database, ours=True, headers={"x-demo-identity": "biz_all"})


def local(stack: Stack) -> dict[str, str]:
    """The model's script as the provider."""
    return {"LLM_PROVIDER": "local", "LLM_API_URL": stack.model_url, "LLM_MODEL": MODEL}


@asynccontextmanager
async def all_peers(stack: Stack) -> AsyncIterator[list[Peer]]:
    """Every server that is compared, running."""
    async with AsyncExitStack() as running:
        enter = running.enter_async_context
        by_model = await enter(ours(stack, "outcrop", 1, local(stack)))
        planner = await enter(ours(stack, "outcrop, offline planner", 2, {"LLM_PROVIDER": "offline"}))
        planner.uses_model = False
        httpx_app = await enter(bare(stack, BASE, "bare_httpx"))
        aiohttp_app = await enter(bare(stack, "bare aiohttp", "bare_aiohttp"))
        await asyncio.sleep(1.0)
        for peer in (by_model, planner, httpx_app, aiohttp_app):
            peer.idle_mib = memory_mib([peer.pid])
        upstream = Peer(
            "outcrop, tool asks PF360", by_model.url, by_model.pid, by_model.start_s, by_model.database, ours=True,
            headers={"x-demo-identity": "c1"}, goes_long=False, idle_mib=by_model.idle_mib,
        )  # fmt: skip
        yield [by_model, upstream, planner, httpx_app, aiohttp_app]


async def whole_starts(folder: Path) -> dict[str, float]:
    """`outcrop serve` with all it brings: an empty data folder, then the same folder again; memory by kind."""
    figures: dict[str, float] = {}
    for which in ("first", "second"):
        port = free_port()
        environment = {"OUTCROP_DATA_DIR": str(folder / "whole"), "LLM_PROVIDER": "offline"}
        argv, log = ["backend", "serve", "--port", str(port)], folder / "whole.log"
        healthy = f"http://127.0.0.1:{port}/healthz"
        async with started(argv, log, healthy=healthy, more_env=environment) as (pid, start_s):
            figures[f"{which} start, s"] = start_s
            await asyncio.sleep(1.0)
            figures["whole, MiB"] = memory_mib([pid])
            children = psutil.Process(pid).children()
            figures["server alone, MiB"] = figures["whole, MiB"] - memory_mib(child.pid for child in children)
    return figures


# --- the report -----------------------------------------------------------------------------------------------------

CASES = ("turn 1, json", "turn 1, streamed", f"turn {LONG}, json", f"turn {LONG}, streamed")


def table(title: str, rows: list[tuple[str, ...]]) -> str:
    """Rows under a heading row, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join((row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))))
        for row in rows
    ]
    return "\n".join((title, *lines, ""))


def report(peers: list[Peer], starts: Mapping[str, float]) -> str:
    """All tables."""
    base = next(peer for peer in peers if peer.name == BASE)

    def cell(peer: Peer, figure: str) -> str:
        if figure not in peer.figures:
            return "-"
        return f"{peer.at(figure):.2f} ({peer.ratio(figure, base):.2f}x)"

    def per_case(kind: str) -> list[tuple[str, ...]]:
        return [("", *CASES), *((p.name, *(cell(p, f"{kind}, {case}") for case in CASES)) for p in peers)]

    def beside(peer: Peer) -> tuple[str, ...]:
        kinds = ("postgres", "redis", "simulator")
        return tuple(f"{peer.at(f'{kind} cpu, turn 1, json'):.2f}" for kind in kinds)

    writes: list[tuple[str, ...]] = [
        ("", "postgres cpu ms", "redis cpu ms", "simulator cpu ms", "rows", "commits", "log kB"),
        *((p.name, *beside(p), f"{p.rows:.1f}", f"{p.commits:.1f}", f"{p.log_kb:.1f}") for p in peers),
    ]
    life: list[tuple[str, ...]] = [
        ("", "start s", "idle MiB"),
        *((p.name, f"{p.start_s:.2f}", f"{p.idle_mib:.0f}") for p in peers),
    ]
    return "\n".join(
        (
            table(f"CPU ms a turn of the server's processes (ratio to {BASE})", per_case("cpu")),
            table(f"Wall ms a turn, p50, one user (ratio to {BASE})", per_case("wall")),
            table("Beside the server, per first turn", writes),
            table("Start to the first healthy answer, and memory at idle, over running stores", life),
            table("outcrop serve with everything it starts", [(key, f"{value:.2f}") for key, value in starts.items()]),
        )
    )


def as_json(peers: list[Peer], starts: Mapping[str, float], plan: Plan, other_cores: float) -> dict[str, Any]:
    """The same for machines: medians, and each round's figures."""
    base = next(peer for peer in peers if peer.name == BASE)
    return {
        "cores": psutil.cpu_count(),
        "other_cores": round(other_cores, 2),
        "rounds": plan.rounds,
        "whole": dict(starts),
        "peers": {
            peer.name: {
                "start_s": peer.start_s,
                "idle_mib": peer.idle_mib,
                "rows": peer.rows,
                "commits": peer.commits,
                "log_kb": peer.log_kb,
                "median_ms": {key: round(peer.at(key), 3) for key in peer.figures},
                "ratio": {
                    key: round(peer.ratio(key, base), 3) for key in peer.figures if key.startswith(("cpu", "wall"))
                },
                "rounds_ms": {key: [round(value, 3) for value in values] for key, values in peer.figures.items()},
            }
            for peer in peers
        },
    }


def _busy_s() -> float:
    """CPU seconds that the whole machine has worked."""
    now = psutil.cpu_times()
    return sum(now) - now.idle - getattr(now, "iowait", 0.0) - getattr(now, "guest", 0.0)


async def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """Start everything, measure, print the tables; returns the figures."""
    starts = await whole_starts(folder)
    async with shared(folder) as stack, all_peers(stack) as peers, aiohttp.ClientSession() as client:
        bench = Bench(stack, peers, plan, client)
        await bench.prepare()
        here = psutil.Process().pid
        began, busy, own = time.perf_counter(), _busy_s(), cpu_s([here])
        for number in range(plan.rounds):
            await bench.round(number)
        others_s = (_busy_s() - busy) - (cpu_s([here]) - own)
        other_cores = max(others_s / (time.perf_counter() - began), 0.0)
        print(report(peers, starts))
        print(f"{plan.rounds} rounds; {psutil.cpu_count()} cores, other work took {other_cores:.1f} of them")
        return as_json(peers, starts, plan, other_cores)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what a turn costs, beside two bare apps.")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--rounds", type=int, help="more rounds, steadier medians")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures as JSON")
    given = parser.parse_args()
    plan = QUICK if given.quick else DEFAULT
    with tempfile.TemporaryDirectory(prefix="outcrop-bench-", dir="/tmp") as name:  # short, for the stores' sake
        folder = Path(name)
        folder.chmod(0o711)  # so that the account root's PostgreSQL runs as can reach its data
        figures = uvloop.run(measure(replace(plan, rounds=given.rounds or plan.rounds), folder))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
