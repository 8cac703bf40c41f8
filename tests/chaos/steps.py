"""The steps of a change, in their order, and for each a point right after it: the server is brought there, and waits.

What brings it there are slow answers of the simulator, and table locks that hold its next statement back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.chaos.scene import Scene

Point = Callable[[Scene], AbstractAsyncContextManager[None]]
ACCEPT, INTEND, CLOSE = "INSERT INTO turns", "FOR SHARE", "SET state = $4"
SETTLE = "AND effect_key = $2 AND status IN"
# How late upstream carries something out: in any case before somebody else may conclude that it never will, and here
# long after the look of one who only waits for a write to show up.
SOON_MS, LATE_MS = 900, 4200


@asynccontextmanager
async def before_it_was_accepted(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("turns", ACCEPT) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def accepted_without_knowing(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("turns", ACCEPT, undone=False) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def before_the_intent(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("tool_calls", INTEND) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def before_it_was_sent(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm("dashboard", "slow:3000", times=1)
    scene.begin()
    await scene.intended()
    await scene.met("dashboard", "slow:3000")
    yield


@asynccontextmanager
async def swallowed_on_its_way(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "timeout", times=1)  # taken, never answered, nothing changed
    scene.begin()
    await scene.met(scene.change.endpoint, "timeout")
    yield


@asynccontextmanager
async def _under_way(scene: Scene, endpoint: str, late_ms: int, commits: int) -> AsyncIterator[None]:
    scene.simulator.arm(endpoint, f"slow:{late_ms}", times=1)
    scene.begin()
    await scene.met(endpoint, f"slow:{late_ms}")
    assert len(scene.simulator.changes()) == commits
    yield


def while_upstream_works(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _under_way(scene, scene.change.endpoint, SOON_MS, 0)


def while_upstream_works_long(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _under_way(scene, scene.change.endpoint, LATE_MS, 0)


def after_the_release(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _under_way(scene, "schedule", SOON_MS, 1)


@asynccontextmanager
async def before_the_function_answered(scene: Scene) -> AsyncIterator[None]:
    """Upstream has done it and has told the function, which reads once more what it is going to answer."""
    scene.simulator.arm("dashboard", "slow:1", times=1)
    scene.simulator.arm("dashboard", "slow:3000", times=1)
    scene.begin()
    await scene.met("dashboard", "slow:3000")
    assert tuple(scene.simulator.changes()) == scene.change.commits
    yield


@asynccontextmanager
async def while_it_reads_back(scene: Scene) -> AsyncIterator[None]:
    """Upstream has done it, and has told nobody."""
    scene.simulator.arm(scene.change.endpoint, "commit_then_drop", times=1)
    scene.simulator.arm("dashboard", "stale_read")
    scene.begin()
    await scene.committed()
    yield
    scene.simulator.disarm()


@asynccontextmanager
async def before_the_outcome(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("tool_calls", SETTLE) as reached:
        await reached()
        assert tuple(scene.simulator.changes()) == scene.change.commits
        yield


@asynccontextmanager
async def before_the_end(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("messages", CLOSE) as reached:
        await reached()
        assert await scene.effect() == "ok"
        yield


@asynccontextmanager
async def ended_without_knowing(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("messages", CLOSE, undone=False) as reached:
        await reached()
        yield


@dataclass(frozen=True)
class Step:
    """What has happened last when the kill comes, and what brings a server there.

    `only`: the one executor that has the step, or for which it stands where no executor has a part in it.
    """

    name: str
    point: Point
    only: str | None = None

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


STEPS = (
    Step("yes received", before_it_was_accepted),
    Step("turn accepted and nobody told", accepted_without_knowing, "in_process"),
    Step("turn accepted", before_the_intent),
    Step("intent committed", before_it_was_sent, "in_process"),
    # In a function, between "turn accepted" and this: it has not heard of it yet; see `test_kill_functions`.
    Step("invocation received", before_it_was_sent, "lambda"),
    Step("request in flight", while_upstream_works),
    Step("upstream committed and function told", before_the_function_answered, "lambda"),
    # Between these two: the function has answered and our process has not heard of it; see `test_kill_functions`.
    Step("upstream committed and nobody told", while_it_reads_back),
    Step("answer received", before_the_outcome),
    Step("outcome committed", before_the_end),
    Step("turn closed and client not told", ended_without_knowing, "in_process"),
)
STEP = {(step.name, step.only): step for step in STEPS}
