"""What every provider promises: the same answers, refusals, limits and histories, whatever stands behind it.

Each test runs on every row of `provider_rows.ROWS`, made from its entry in `models.yaml`, over real sockets against a
server that is as strict as the real one. Habits of single servers are in the tests of each wire.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, cast

import psutil
import pytest
import pytest_asyncio
from yarl import URL

from agent.errors import (
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.events import ConfirmationRequired, ReasoningDelta
from agent.providers import kinds
from agent.providers.base import Begun, Chunk, Provider, Text
from agent.providers.base import Call as CalledChunk
from agent.providers.examination import CALL_TWICE, COUNT, examine
from agent.transcript import AssistantMessage, JsonObject, ToolCall, UserMessage
from tests.contract.model_calls import ask, calls_in, carried_on, request, text_in, thoughts_in, tokens_in
from tests.contract.provider_rows import AWS_ENVIRON, ENVIRON, KEY, NOWHERE, ROWS, Bench
from tests.doubles.model_service import Call, ModelService, Reply, Usage, connected
from tests.doubles.model_service.server import FORMS
from tests.doubles.talk import Talk
from tests.doubles.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

THOUGHT = "They greet me, and two tools will do."
TEXT = "Grüße! 10 € – \u2028e\u0301 😀"
NESTED: JsonObject = {
    "project_id": '{"a": "b"}',
    "date": "true",
    "deep": {"list": [1, {"none": None}, []], "größe": "\u2028😀"},
    "most": 2**63 - 1,
    "least": -(2**63),
    "half": 0.5,
}
CALLS = (Call("get_time_slots", NESTED), Call("list_projects"))


class Benches:
    """The rows of this module, each opened when it is first wanted."""

    def __init__(self, service: ModelService) -> None:
        self._service = service
        self._open: dict[str, Bench] = {}

    async def of(self, name: str) -> Bench:
        """The row of this name."""
        if name not in self._open:
            self._open[name] = await Bench.open(name, self._service)
        return self._open[name]

    async def close(self) -> None:
        """Close them all."""
        for bench in self._open.values():
            await bench.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def benches(model_service_port: int) -> AsyncIterator[Benches]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS_ENVIRON.items():
            patch.setenv(name, value)
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
            patch.delenv(name, raising=False)
        async with connected(model_service_port) as service:
            opened = Benches(service)
            yield opened
            await opened.close()


@pytest_asyncio.fixture(loop_scope="module", params=ROWS)
async def bench(request: pytest.FixtureRequest, benches: Benches) -> Bench:
    return await benches.of(request.param)


def stream_of(provider: Provider) -> AsyncGenerator[Chunk, None]:
    """The chunks of one call, to be closed."""
    return cast(AsyncGenerator[Chunk, None], provider.wire.stream(provider.render(request()), deadline_s=5))


def said(request_body: Any) -> str:
    """All that a request holds, as text that can be searched."""
    return json.dumps(request_body, ensure_ascii=False)


# --- answers --------------------------------------------------------------------------------------------------------


async def test_a_piece_is_passed_on_before_the_next_one_comes(bench: Bench) -> None:
    """The server still holds back the rest when the first text is there."""
    await bench.script(Reply(("Hello ", "there."), hang_after=1))
    # A thread that reads finds out that nobody wants the rest when its time is over.
    provider = bench.made(timeouts={"idle_s": 1}) if bench.row.in_threads else bench.provider
    async with aclosing(stream_of(provider)) as stream:
        assert await anext(stream) == Text("Hello ")
        assert (await bench.lane.open_streams()).open == 1
    await bench.lane.until(open=0)


async def test_a_call_is_told_of_while_it_is_written(bench: Bench) -> None:
    """Once, before there is all of it. What an agent hands back is there at once."""
    if bench.provider.capabilities.managed:
        assert Begun() not in await bench.answer(Reply("", CALLS))
        return
    provider = bench.made(timeouts={"idle_s": 1}) if bench.row.in_threads else bench.provider
    await bench.script(Reply("", CALLS, hang_after=1), Reply("Hello.", CALLS))
    async with aclosing(stream_of(provider)) as stream:
        assert await anext(stream) == Begun()
    await bench.lane.until(open=0)
    chunks = await ask(provider)
    assert [chunk for chunk in chunks if isinstance(chunk, Text | Begun)][-1:] == [Begun()]
    assert chunks.count(Begun()) == 1


@pytest.mark.parametrize("size", [None, 1, 7])
async def test_a_text_is_the_same_however_it_is_cut(bench: Bench, size: int | None) -> None:
    """One character a piece, and bytes that arrive in any portions."""
    assert text_in(await bench.answer(Reply(tuple(TEXT), write_size=size))) == TEXT


async def test_one_long_piece_comes_whole(bench: Bench) -> None:
    """A line, or a frame, of several hundred thousand characters."""
    assert text_in(await bench.answer(Reply(("word " * 60_000,)))) == "word " * 60_000


async def test_an_answer_that_is_not_streamed_is_the_same(bench: Bench) -> None:
    """As the record may say of a model; nothing is streamed then."""
    provider = bench.made(capabilities={"streams": False})
    await bench.script(Reply("I will look.", CALLS[1:]), Reply(TEXT, usage=Usage(5, 6)))
    chunks, told = await ask(provider), await ask(provider)
    assert calls_in(chunks) == [("list_projects", {})]
    assert (text_in(told), tokens_in(told).input_tokens) == (TEXT, 5)
    for asked in await bench.asked():
        final = asked.body.get("streamingConfigurations", {}).get("streamFinalResponse", False)
        assert (bool(asked.body.get("stream")), asked.path.endswith("-stream"), final) == (False, False, False)


async def test_calls_come_whole_and_their_results_are_accepted(bench: Bench) -> None:
    """Two at once, with whatever JSON may hold; the history with their results, one of them failed, is taken."""
    provider = bench.provider
    await bench.script(Reply("I will look.", CALLS), Reply("Done."))
    chunks = await ask(provider)
    assert calls_in(chunks) == [("get_time_slots", NESTED), ("list_projects", {})]
    assert text_in(chunks) == ("" if provider.capabilities.managed else "I will look.")
    assert text_in(await ask(provider, *carried_on(provider, "hi", chunks))) == "Done."
    _, second = await bench.asked()
    assert '\\"ok\\":true' in said(second.body)
    assert '\\"ok\\":false' in said(second.body)


async def test_thoughts_are_no_text_and_stay_in_their_turn(bench: Bench) -> None:
    """They go back to the model that had them beside the calls they led to, where its wire takes them; not later."""
    row, provider = bench.row, bench.thinking
    await bench.script(Reply("", CALLS, reasoning=THOUGHT), Reply("Done.", reasoning=THOUGHT), Reply("Done."))
    chunks = await ask(provider)
    history = carried_on(provider, "hi", chunks)
    answer = await ask(provider, *history)
    await ask(provider, *history, AssistantMessage("Done.", (), provider.name), UserMessage("and now?"))
    assert (text_in(chunks), text_in(answer)) == ("", "Done.")
    assert {thoughts_in(chunks), thoughts_in(answer)} == ({""} if row.thoughts == "dropped" else {THOUGHT})
    _, same, later = [said(each.body) for each in await bench.asked()]
    assert (THOUGHT in same) is (row.thoughts == "kept")
    assert THOUGHT not in later


async def test_usage_is_told_once_and_input_counts_what_came_from_a_cache(bench: Bench) -> None:
    """Where nothing is counted it is estimated, and said to be."""
    await bench.script(Reply("x" * 40, usage=Usage(5, 6, cache_read=30, cache_write=4)), Reply("x" * 40, usage=None))
    told, guessed = tokens_in(await ask(bench.provider)), tokens_in(await ask(bench.provider))
    assert (told.input_tokens, told.output_tokens, told.estimated) == (39, 6, False)
    assert told.cache_read_tokens == (30 if bench.row.cached else 0)
    assert told.cache_write_tokens == (4 if bench.row.writes_cached else 0)
    assert (guessed.estimated, guessed.output_tokens) == (True, 10)
    assert guessed.input_tokens > 30


@pytest.mark.parametrize("text", ["", " \n\n "])
async def test_an_answer_without_words_is_no_text_and_does_no_harm(bench: Bench, text: str) -> None:
    """It is an answer all the same, and the conversation goes on. A managed agent that says nothing has failed."""
    provider = bench.provider
    if not text and provider.capabilities.managed:
        assert type(await bench.failure(Reply(""))) is ModelUnavailable
        return
    await bench.script(Reply((text,) if text else ""), Reply("Yes."))
    chunks = await ask(provider)
    assert text_in(chunks).strip() == ""
    assert tokens_in(chunks).output_tokens == 7
    spoken = AssistantMessage(text_in(chunks), (), provider.name)
    assert text_in(await ask(provider, UserMessage("hi"), spoken, UserMessage("are you there?"))) == "Yes."
    await bench.asked()


async def test_the_record_is_what_the_examination_sees(bench: Bench) -> None:
    """Of a model that does just what its kind is taken to do."""
    record = bench.provider.capabilities
    words = tuple(Call("note_word", {"word": word}) for word in ("red", "blue"))
    await bench.script(
        Reply(
            ("one\n", "two\n"), matching=COUNT, usage=Usage() if record.reports_usage else None, delay_between_s=0.05
        ),
        Reply("", words if record.parallel_tool_calls else words[:1], matching=CALL_TWICE),
    )
    examined = await examine(bench.provider)
    assert [each for each in examined.seen if each.differs] == []
    await bench.asked()


async def test_a_model_without_tools_is_offered_none(bench: Bench) -> None:
    """And takes a history with calls of others. What a managed agent calls, AWS knows."""
    provider = bench.made(capabilities={"tools": False})
    history = carried_on(provider, "hi", [CalledChunk(ToolCall("c", "list_projects", {}))])
    await bench.script(Reply("Done."))
    assert text_in(await ask(provider, *history, UserMessage("and now?"))) == "Done."
    (asked,) = await bench.asked()
    if not provider.capabilities.managed:
        assert "get_working_hours" not in said(asked.body)


# --- failures -------------------------------------------------------------------------------------------------------

LONG = "A text of several pieces."
FAILURES: dict[str, tuple[Reply, type[ModelError]]] = {
    "throttled": (Reply(status=429, retry_after_s=2), ModelBusy),
    "unavailable": (Reply(status=503), ModelUnavailable),
    "internal": (Reply(error="internal"), ModelUnavailable),
    "unknown model": (Reply(error="unknown_model"), ModelRejected),
    "too long": (Reply(error="context_too_long"), ContextExceeded),
    "bad history": (Reply(error="bad_request"), HistoryRejected),
    "error in the stream": (Reply(LONG, error="internal", fault_in_stream=1), ModelUnavailable),
    "throttled in the stream": (Reply(LONG, error="throttled", fault_in_stream=1), ModelBusy),
    "cut": (Reply(LONG, cut_after=1), ModelUnavailable),
    "cut at once": (Reply(LONG, cut_after=0), ModelUnavailable),
}


@pytest.mark.parametrize("what", FAILURES)
async def test_failures_are_typed_and_leave_nothing_behind(bench: Bench, what: str) -> None:
    """Exactly so, since it decides who takes over; asked once, and the next call is answered."""
    reply, kind = FAILURES[what]
    error = await bench.failure(reply)
    assert type(error) is kind
    if isinstance(error, ModelBusy) and reply.retry_after_s:
        assert error.retry_after_s == reply.retry_after_s
    if what == "unknown model":
        assert f"providers.{bench.name}." in error.user_hint
    assert text_in(await ask(bench.provider)) == "For whoever asks again."


async def test_a_wrong_key_is_told_by_its_name_and_never_shown(bench: Bench) -> None:
    """Whatever the server repeats of it."""
    shown = f"Incorrect API key provided: {KEY}" if bench.row.key == KEY else None
    error = await bench.failure(Reply(error="auth", error_message=shown))
    assert type(error) is ModelRejected
    assert bench.row.blamed in error.user_hint
    bench.keeps_secrets(repr(bench.provider))


async def test_silence_ends_in_time(bench: Bench) -> None:
    """Before the first piece, after the time that is configured; some integrations know whole seconds only."""
    provider = bench.made(timeouts={"idle_s": 1 if bench.row.entry["kind"] == "langchain" else 0.2})
    assert type(await bench.failure(Reply(LONG, hang_after=0), provider)) is ModelTimeout


async def test_an_absent_server_is_unavailable(bench: Bench) -> None:
    """Nobody listens."""
    with pytest.raises(ModelUnavailable) as caught:
        await ask(bench.made(NOWHERE))
    assert type(caught.value) is ModelUnavailable


PAGE = Reply(raw=b"<!DOCTYPE html><html><body>Sign in</body></html>", raw_type="text/html")
NO_STREAMS = [
    b"",
    b"\0\xff\xfe no stream\n\n",
    b"data: [1]\n\n",
    b"data: {\n\n",
    b"{}\n",
    b"null\n",
    b"x" * 1_200_000,
]


async def test_what_is_no_answer_is_a_failure_of_a_kind(bench: Bench) -> None:
    """A page, bytes without sense, JSON of another form, a line without end: nothing of it is taken for an answer."""
    garbage = [Reply(raw=raw, raw_type=FORMS[bench.row.wire].stream_type) for raw in NO_STREAMS]
    for reply in (PAGE, *garbage):
        error = await bench.failure(reply)
        assert type(error) in (ModelRejected, ModelMisbehaved, ModelUnavailable)


# --- connections ----------------------------------------------------------------------------------------------------


async def test_whoever_stops_listening_stops_the_server(bench: Bench) -> None:
    """A task that is cancelled in the middle of an answer."""
    await bench.script(Reply(("word ",) * 500, delay_between_s=0.01))
    before = await bench.lane.open_streams()
    asking = asyncio.create_task(ask(bench.provider))
    await bench.lane.until(open=before.open + 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    await bench.lane.until(open=0, cut_off=before.cut_off + 1)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.closes])
async def test_closing_the_wire_closes_its_connections(benches: Benches, name: str) -> None:
    """Those that are kept for the next call. LangChain's models own theirs, and drop them when they are idle."""
    bench = await benches.of(name)
    port = URL(bench.service.url).port

    def connections() -> int:
        return sum(bool(c.raddr) and c.raddr.port == port for c in psutil.Process().net_connections("tcp4"))

    await bench.script(Reply("Hello."))
    provider, before = kinds.make(name, bench.entry(), ENVIRON), connections()
    await ask(provider)
    assert connections() == before + 1
    await provider.wire.close()
    async with asyncio.timeout(5):
        while connections() > before:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.in_threads])
async def test_many_streams_are_open_at_once_and_none_waits_for_a_thread(benches: Benches, name: str) -> None:
    """All have their first token while none has ended."""
    bench = await benches.of(name)
    lane = await bench.service.lane(Reply(LONG, hang_after=1), wire=bench.row.wire, repeat_last=True)
    provider = bench.made(lane.url(bench.row.wire))
    streams = [stream_of(provider) for _ in range(200 if name == "bedrock" else 100)]
    before = threading.active_count()
    async with asyncio.timeout(30):
        first = await asyncio.gather(*(anext(stream) for stream in streams))
    assert all(isinstance(chunk, Text) for chunk in first)
    assert (await lane.open_streams()).open == len(streams)
    assert threading.active_count() < before + len(streams) / 2  # libraries have some that find out about the machine
    await asyncio.gather(*(stream.aclose() for stream in streams))
    await lane.until(open=0, cut_off=len(streams))


# --- is it there at all ---------------------------------------------------------------------------------------------


async def test_a_probe_tells_what_is_wrong_and_which_key_to_change(bench: Bench) -> None:
    """There; a wrong key; an unknown model; nobody there."""
    await bench.script(Reply(LONG), Reply(error="auth"), Reply(error="unknown_model"))
    assert (await bench.probed(bench.provider)).ok
    if bench.row.lists_models:
        guarded = await bench.service.lane(wire=bench.row.wire, api_key="another")
        locked, strange = bench.made(guarded.url(bench.row.wire)), bench.made(model="model-2")
    else:
        locked = strange = bench.provider
    for provider, words in (
        (locked, bench.row.blamed),
        (strange, f"providers.{bench.name}."),
        (bench.made(NOWHERE), f"providers.{bench.name}."),
    ):
        found = await bench.probed(provider)
        assert not found.ok
        assert words in found.fix


# --- whole turns ----------------------------------------------------------------------------------------------------

SLOTS = Call("get_time_slots", {"project_id": "SO-26-1001_1", "date": "2026-03-16"})
BOOK = Call("confirm_appointment", {"project_id": "SO-26-1001_1", "date": "2026-03-16", "time": "10:00"})
FAILS = Call("get_time_slots", {"project_id": "SO-26-9999_1", "date": "2026-03-16"})


async def test_a_turn_looks_up_and_answers_and_a_gated_call_ends_in_a_question(bench: Bench) -> None:
    """With thoughts, which are shown as such and nowhere else."""
    await bench.script(
        Reply("", (SLOTS,), reasoning=THOUGHT), Reply("10:00 AM is free."), Reply("", (BOOK,)), Reply("It is booked.")
    )
    talk = Talk(bench.thinking)
    found = await talk.say("is monday at 10 free?")
    assert (found.text, found.tools, found.status) == ("10:00 AM is free.", [("get_time_slots", "ok")], "completed")
    thoughts = "".join(event.text for event in found.events if isinstance(event, ReasoningDelta))
    assert thoughts == ("" if bench.row.thoughts == "dropped" else THOUGHT)
    proposed = await talk.say("then book it")
    assert (proposed.tools, proposed.status) == ([("confirm_appointment", "pending")], "waiting")
    assert any(isinstance(event, ConfirmationRequired) for event in proposed.events)
    assert talk.world.writes == []
    assert len(await bench.asked()) == 3


@pytest.mark.parametrize("name", ROWS)
async def test_a_conversation_goes_on_with_any_other_provider(benches: Benches, name: str) -> None:
    """In the next turn, and in the middle of one: all that was said and found is told, and nothing private."""
    one = await benches.of(name)
    await one.script(Reply("I will look.", (Call("list_projects"), FAILS), reasoning=THOUGHT), Reply("It is Monday."))
    talk = Talk(one.thinking)
    first = await talk.say("what is free?")
    assert [tool for tool, _ in first.tools] == ["list_projects", "get_time_slots"]
    assert first.status == "completed"
    private = [THOUGHT, *_private_in(talk)]
    for other in [await benches.of(each) for each in ROWS if each != name]:
        await other.script(Reply("The floor."), Reply("Nothing."))
        reply = await Talk(other.provider, World(history=list(talk.world.history))).say("which one first?")
        assert reply.text == "The floor."
        assert text_in(await ask(other.provider, *talk.world.history[:-1])) == "Nothing."
        later, midway = [said(each.body) for each in await other.asked()]
        for told in ("what is free?", "Flooring Installation", "not_found", *_texts_in(talk)[:-1]):
            assert told in later
            assert told in midway
        assert "It is Monday." in later
        assert [each for each in private if each in later + midway] == []


def _texts_in(talk: Talk) -> list[str]:
    """What the assistant said."""
    return [m.text for m in talk.world.history if isinstance(m, AssistantMessage) and m.text]


def _private_in(talk: Talk) -> list[str]:
    """What the provider noted for itself: signatures, sessions; short words are names of things."""
    states = [m.state for m in talk.world.history if isinstance(m, AssistantMessage) and m.state]
    return [text for text in _leaves(states) if len(text) >= 20]


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
