"""Recording model calls and answering from the recording: keys, order, errors, and what is not on the tape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args
from uuid import uuid4

import pytest

from agent.confirmation import Verdict
from agent.errors import HistoryRejected, ModelBusy, ModelError, ModelTimeout, ModelUnavailable, NotOnTape
from agent.providers.base import (
    Begun,
    Call,
    Chunk,
    Cited,
    ModelRequest,
    Note,
    Provider,
    Reasoning,
    Searched,
    Text,
    Tokens,
    TurnFacts,
)
from agent.providers.tape import Recorder, TapeError, read_tape, recording, replaying
from agent.providers.tape_key import asked
from agent.transcript import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.scripted_model import scripted
from tools.contract import Identity, ToolSpec

NOW = datetime(2026, 3, 11, 13, 30, tzinfo=UTC)
TOOL = ToolSpec("list_projects", "Lists projects.", {"type": "object", "properties": {}}, "read", "scheduling")
SEEN = ToolCall("x1", "list_projects", {"n": 1})


def request(*messages: Message, **changes: object) -> ModelRequest:
    """What a model is asked; the person says hello unless something else is given."""
    facts = TurnFacts(now=NOW, identity=Identity("customer", "c-1"), locations=())
    made = ModelRequest("Be brief.", messages or (UserMessage("hello"),), (TOOL,), facts)
    return replace(made, **changes)  # type: ignore[arg-type]


def one_run() -> ModelRequest:
    """A conversation as one run makes it: the ids of calls, turns and questions are new each time."""
    turn, question, callback = uuid4(), uuid4(), uuid4()
    call = f"call_{turn.hex[-12:]}_1"
    messages = (
        UserMessage("what do I have?"),
        AssistantMessage("", (ToolCall(call, "list_projects", {}),), "scripted"),
        ToolMessage(call, "list_projects", {"ok": True, "ticket": str(callback), "again": callback.hex}),
        AssistantMessage("A deck.", (), "scripted"),
        UserMessage("cancel it"),
    )
    facts = TurnFacts(NOW, Identity("customer", "c-1"), (), verdict=Verdict("hold", (question,)))
    return request(*messages, facts=facts)


def key(made: ModelRequest) -> str:
    return asked("scripted", "script-1", made).key


async def ask(provider: Provider, made: ModelRequest) -> list[Chunk]:
    """All chunks of one call."""
    return [chunk async for chunk in provider.wire.stream(provider.render(made), deadline_s=5.0)]


def record(tape: Path, provider: Provider, scope: str = "file.T1") -> Provider:
    return recording(provider, Recorder(tape), lambda: scope)


def replay(tape: Path, provider: Provider, scope: str = "file.T1") -> Provider:
    return replaying(provider, read_tape(tape), lambda: scope)


def test_runs_alike_ask_the_same() -> None:
    """Ids that each run makes anew count by where they appear, and the time that is left is no part of the question."""
    assert key(one_run()) == key(one_run())
    assert key(replace(one_run(), deadline_s=1.0)) == key(one_run())


def test_the_same_id_twice_is_not_two_ids() -> None:
    """Which result belongs to which call is a part of the question."""

    def two(first: str, second: str) -> ModelRequest:
        calls = (ToolCall("a", "list_projects", {}), ToolCall("b", "list_projects", {}))
        results = (ToolMessage(first, "list_projects", {"n": 1}), ToolMessage(second, "list_projects", {"n": 2}))
        return request(UserMessage("hello"), AssistantMessage("", calls), *results)

    assert key(two("a", "b")) != key(two("b", "a"))


@pytest.mark.parametrize(
    "changed",
    [
        request(UserMessage("hullo")),
        request(UserMessage("hello"), AssistantMessage("Hi."), UserMessage("hello")),
        request(instructions="Be long."),
        request(tools=()),
        request(plain=True),
        request(facts=replace(request().facts, now=NOW + timedelta(days=1))),
        request(facts=replace(request().facts, correction="a date is wrong")),
    ],
)
def test_whatever_the_model_is_shown_counts(changed: ModelRequest) -> None:
    """Each part of it makes another call."""
    assert key(changed) != key(request())


def test_another_model_is_another_call() -> None:
    """By its own name, or by that of its provider."""
    keys = {asked(*who, request()).key for who in (("a", "m"), ("a", "n"), ("b", "m"))}
    assert len(keys) == 3


async def test_every_kind_of_chunk_comes_back(tmp_path: Path) -> None:
    """As it was, in its order, without the model being asked again."""
    everything: Sequence[Chunk] = (
        Reasoning("hm"),
        Text("Yes, "),
        Text("señor \ud800"),
        Call(SEEN),
        Begun(),
        Call(ToolCall("", "book", {}), "no JSON"),
        Searched("opening hours", 3),
        Cited("faq", "2", 0, 4, 0.5),
        Note({"frame": {"a": [1]}}, "scheduling"),
        Tokens(10, 20, True, 3, 4),
    )
    assert {type(chunk) for chunk in everything} == set(get_args(Chunk))
    provider, wire = scripted(everything)
    assert await ask(record(tmp_path / "t.jsonl", provider), request()) == [*everything]
    again = replay(tmp_path / "t.jsonl", provider)
    assert await ask(again, request()) == [*everything]
    assert len(wire.requests) == 1
    assert (again.name, again.model, again.capabilities) == (provider.name, provider.model, provider.capabilities)


async def test_the_same_question_gets_its_answers_in_their_order(tmp_path: Path) -> None:
    """Once each; there is no third answer to what was asked twice."""
    provider, _ = scripted([Text("one")], [Text("two")])
    recorder = record(tmp_path / "t.jsonl", provider)
    for _ in range(2):
        await ask(recorder, request())
    again = replay(tmp_path / "t.jsonl", provider)
    assert [await ask(again, request()) for _ in range(2)] == [[Text("one")], [Text("two")]]
    with pytest.raises(NotOnTape, match="no further answer"):
        await ask(again, request())


async def test_conversations_that_begin_alike_keep_their_own_answers(tmp_path: Path) -> None:
    """In whichever order they are held; one that the tape does not know takes what fits."""
    provider, _ = scripted([Text("for A")], [Text("for B")])
    for scope, name in (("f.A", "1.jsonl"), ("f.B", "2.jsonl")):
        await ask(record(tmp_path / name, provider, scope), request())
    tape = read_tape(tmp_path)
    answers = [await ask(replaying(provider, tape, lambda s=s: s), request()) for s in ("f.B", "f.A", "unknown")]  # type: ignore[misc]
    assert answers == [[Text("for B")], [Text("for A")], [Text("for A")]]


@pytest.mark.parametrize(
    ("raised", "comes_back"),
    [
        (ModelBusy("slow down", retry_after_s=1.5), ModelBusy),
        (HistoryRejected("roles must alternate"), HistoryRejected),
        (ConnectionError("reset by peer"), ModelError),
    ],
)
async def test_errors_are_recorded_as_they_were_understood(
    tmp_path: Path, raised: Exception, comes_back: type[ModelError]
) -> None:
    """Class and message, after what had arrived; a library's own error as the provider translates it."""
    provider, _ = scripted([Text("Well, "), raised])
    for kind in (record, replay):
        made = kind(tmp_path / "t.jsonl", provider)
        arrived: list[Chunk] = []
        with pytest.raises(type(raised) if kind is record else comes_back, match=str(raised)) as found:  # noqa: PT012
            async for chunk in made.wire.stream(made.render(request()), deadline_s=5.0):
                arrived.append(chunk)
        assert arrived == [Text("Well, ")]
        assert getattr(found.value, "retry_after_s", None) == getattr(raised, "retry_after_s", None)


async def test_a_call_that_was_given_up_ends_so_again(tmp_path: Path) -> None:
    """With what had arrived, and at once."""
    provider, _ = scripted([Text("one "), Text("two")])
    made = record(tmp_path / "t.jsonl", provider)
    async with aclosing(made.wire.stream(made.render(request()), deadline_s=5.0)) as stream:  # type: ignore[type-var]
        await anext(stream)
    again = replay(tmp_path / "t.jsonl", provider)
    stream = again.wire.stream(again.render(request()), deadline_s=5.0)
    assert await anext(stream) == Text("one ")
    with pytest.raises(ModelTimeout, match="given up"):
        await anext(stream)


async def test_a_call_that_is_not_on_the_tape_says_where_and_what_changed(tmp_path: Path) -> None:
    """Scenario, turn, call, the person's words, and the parts that are different now; nothing live is asked."""
    provider, wire = scripted([Text("Hi.")])
    before = (UserMessage("hello"), AssistantMessage("Hi."), UserMessage("and now?"), AssistantMessage("", (SEEN,)))
    await ask(record(tmp_path / "t.jsonl", provider), request(*before, ToolMessage("x1", "list_projects", {"n": 1})))
    again = replay(tmp_path / "t.jsonl", provider)
    changed = request(*before, ToolMessage("x1", "list_projects", {"n": 2}), instructions="Be long.")
    with pytest.raises(NotOnTape) as found:
        await ask(again, changed)
    said = found.value.user_hint
    assert "file.T1, turn 2, model call 2 ('and now?')" in said
    assert "has changed since the recording: instructions, message 5 (the result of list_projects)" in said
    with pytest.raises(NotOnTape, match="was not asked here"):
        await ask(again, request())
    with pytest.raises(NotOnTape, match="no call of scripted/other"):
        await ask(replay(tmp_path / "t.jsonl", replace(provider, model="other")), changed)
    assert len(wire.requests) == 1


async def test_a_tape_holds_no_question_and_survives_a_kill(tmp_path: Path) -> None:
    """Hashes and the beginning of the person's message, not the prompt; a line cut off at the end is passed over."""
    provider, _ = scripted([Text("Hi."), Tokens(1, 2)])
    path = tmp_path / "t.jsonl"
    await ask(record(path, provider), request(UserMessage("hello " * 100), instructions="The secret is 4711."))
    (line,) = path.read_text().splitlines()
    assert "4711" not in line
    assert len(json.loads(line)["said"]) == 200
    path.write_text(f"{line}\n{line[:100]}")
    assert len(read_tape(path)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [("nonsense\n", "line 1"), ('{"tape": 2}\n', "its form is 2"), ('{"tape": 1}\n', "line 1"), (None, "No such file")],
)
def test_what_is_no_tape_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    """With the file, the line and the reason."""
    path = tmp_path / "t.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TapeError, match=says):
        read_tape(path)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """Not after the first call was paid for."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TapeError, match="cannot be written"):
        Recorder(tmp_path / "file" / "t.jsonl")


async def test_a_failure_before_the_first_chunk_is_on_the_tape(tmp_path: Path) -> None:
    """And the try after it: a failed call and its repetition ask the same."""
    provider, _ = scripted([ModelUnavailable("down")], [Text("up")])
    for kind in (record, replay):
        made = kind(tmp_path / "t.jsonl", provider)
        with pytest.raises(ModelUnavailable, match="down"):
            await ask(made, request())
        assert await ask(made, request()) == [Text("up")]


def test_a_tape_is_for_its_owner_alone(tmp_path: Path) -> None:
    """From the beginning, for it quotes conversations."""
    Recorder(tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").stat().st_mode & 0o777 == 0o600
