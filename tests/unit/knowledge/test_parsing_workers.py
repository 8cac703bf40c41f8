"""Documents read in other processes: one that hangs, dies or grows is one refusal."""

import asyncio
import os
import signal

import psutil
import pytest

from knowledge_base.errors import Refused
from knowledge_base.parsing import Limits, Parser
from tests.unit.knowledge.files import pdf, raw, saved, word

MB = 2**20
DEEP = "<div>" * 60_000  # minutes of a parser's time


def workers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "knowledge_base.parsing.worker" in each.cmdline()]


async def refusal(parser: Parser, name: str, content: bytes | str) -> Refused:
    with pytest.raises(Refused) as refused:
        await parser.parse(raw(name, content))
    return refused.value


async def test_documents_are_read_by_workers_that_stay() -> None:
    """Several at once, by no more processes than allowed, which are gone when the parser is closed."""
    document = word()
    document.add_heading("Guide", 1)
    document.add_paragraph("Words.")
    made = {
        "a.docx": saved(document),
        "a.pdf": pdf(["Page one.", "Page two."]),
        "a.html": b"<h1>Hi</h1>",
        "a.md": b"# Hi",
    }
    async with Parser(workers=2) as parser:
        parsed = await asyncio.gather(*(parser.parse(raw(name, made[name])) for name in [*made] * 5))
        assert {each.text for each in parsed} == {"# Guide\n\nWords.", "Page one.\n\nPage two.", "# Hi"}
        assert [page.number for page in parsed[1].pages] == [1, 2]
        assert (await refusal(parser, "b.pdf", b"%PDF-1.4 nonsense")).reason == "corrupt"
        large = "word " * 50_000
        assert (await parser.parse(raw("a.txt", large))).text == large.rstrip()
        running = workers()
        assert 1 <= len(running) <= 2
        assert all("DATABASE_URL" not in each.environ() and "HOME" not in each.environ() for each in running)
    assert not any(each.is_running() for each in running)


async def test_one_that_takes_too_long_is_refused_and_the_next_is_read() -> None:
    """Its process is killed."""
    async with Parser(Limits(seconds=0.7), workers=1) as parser:
        await parser.parse(raw("a.html", "<p>x"))
        (late,) = workers()
        assert (await refusal(parser, "a.html", DEEP)).reason == "timeout"
        assert not late.is_running()
        assert (await parser.parse(raw("a.html", "<p>x"))).text == "x"


async def test_one_that_kills_its_worker_is_refused_and_the_next_is_read() -> None:
    """Whatever ended the process."""
    async with Parser(workers=1) as parser:
        await parser.parse(raw("a.html", "<p>x"))
        (worker,) = workers()
        reading = asyncio.create_task(refusal(parser, "a.html", DEEP))
        while worker.status() != psutil.STATUS_RUNNING:
            await asyncio.sleep(0.01)
        os.kill(worker.pid, signal.SIGSEGV)
        assert (await reading).reason == "corrupt"
        assert (await parser.parse(raw("a.html", "<p>x"))).text == "x"


async def test_one_that_wants_all_memory_is_refused() -> None:
    """The worker may hold no more than it is allowed."""
    async with Parser(Limits(memory_bytes=160 * MB), workers=1) as parser:
        assert (await refusal(parser, "a.json", '[{"a": 1}' + ", [[]]" * 1_000_000 + "]")).reason == "too_large"
        assert (await parser.parse(raw("a.html", "<p>x"))).text == "x"


async def test_who_stops_waiting_leaves_no_worker_busy() -> None:
    """A cancelled reading ends its process."""
    async with Parser(workers=1) as parser:
        await parser.parse(raw("a.html", "<p>x"))
        (worker,) = workers()
        reading = asyncio.create_task(parser.parse(raw("a.html", DEEP)))
        await asyncio.sleep(0)  # the reading begins: before, there is nothing to end
        while worker.status() != psutil.STATUS_RUNNING:
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not worker.is_running()


async def test_a_fault_of_ours_costs_one_small_document_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does where a worker reads: it is refused, by the name of the error."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("somewhere")

    async with Parser() as parser:
        with monkeypatch.context() as patch:
            patch.setattr("knowledge_base.parsing.parser.parse", broken)
            refused = await refusal(parser, "a.md", "text")
        assert (refused.reason, "ZeroDivisionError" in str(refused)) == ("corrupt", True)
        assert (await parser.parse(raw("a.md", "text"))).text == "text"
