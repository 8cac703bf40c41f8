"""A run as a job: it tells how far it is, ends when somebody asks, and leaves on record how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from knowledge_base.errors import KnowledgeError
from knowledge_base.loading.jobs import HEARTBEAT_S, Running, State
from knowledge_base.loading.report import Report

Watch = Callable[[Report], None]


class Cancelled(KnowledgeError):
    """Somebody asked that the job ends. What it had stored is stored."""

    code = "cancelled"


class _Failed(KnowledgeError):
    """A fault of ours; the log has it."""

    code = "internal_error"


async def run_as_job(
    running: Running, source: str, work: Callable[[Watch], Awaitable[Report]], watch: Watch | None = None
) -> Report:
    """Do `work`, which is given what to call with its report as it grows; the last report.

    Raises what the work raises, after it is on record.
    """
    latest = [Report(source)]

    def watched(report: Report) -> None:
        latest[0] = report
        if watch:
            watch(report)

    task = asyncio.ensure_future(work(watched))
    try:
        is_wanted = True
        while is_wanted and not task.done():
            await asyncio.wait({task}, timeout=HEARTBEAT_S)
            is_wanted = task.done() or await running.tell(latest[0])
        report = task.result() if is_wanted else latest[0]
        if not is_wanted:
            report.error = Cancelled("the job was cancelled; what it had stored is stored")
    except asyncio.CancelledError:
        await asyncio.shield(running.let_go(latest[0]))
        raise
    except KnowledgeError as error:
        await running.end(latest[0], "failed", error)
        raise
    except Exception:
        await running.end(latest[0], "failed", _Failed("an error of ours ended it; the log has it"))
        raise
    finally:
        task.cancel()
        await asyncio.wait({task})
    report.job = running.id
    await running.end(report, _state(report), report.error)
    return report


def _state(report: Report) -> State:
    if isinstance(report.error, Cancelled):
        return "cancelled"
    return "failed" if report.error else "done"
