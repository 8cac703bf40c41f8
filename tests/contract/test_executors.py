"""What every executor promises: the same call has the same result, the same refusals, limits and effects, wherever
it runs.

Each test runs on every row of `shelf_rows.ROWS`, against real servers and processes. Where executors may differ, a row
says so by a flag, and the test of that difference stands at the end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from agent.effects import run_effect
from agent.ports import EffectKey, TurnInput, TurnWork
from agent.turn import Turn
from tests.contract.shelf_rows import ELSEWHERE, HERE_ROWS, ROWS, Bench, Harness
from tests.doubles import shelf
from tests.doubles.shelf_actions import ACTIONS
from tests.doubles.talk import DEFINITION
from tests.doubles.world import MemoryLedger
from tools.contract import (
    Executor,
    Identity,
    InvalidArguments,
    JsonObject,
    Prepared,
    ToolContext,
    ToolError,
    ToolResult,
)
from tools.errors import UnknownOutcome, UpstreamUnavailable
from tools.toolbox import in_one

pytestmark = pytest.mark.asyncio(loop_scope="module")
everywhere = pytest.mark.parametrize("bench", ROWS, indirect=True)
elsewhere = pytest.mark.parametrize("bench", ELSEWHERE, indirect=True)
here = pytest.mark.parametrize("bench", HERE_ROWS, indirect=True)

THING = {"shelf_id": "north", "thing": "teapot", "count": 3}
ECHO: JsonObject = {"text": "hello", "whole": 1}
SHORT_S = 0.8  # a limit that a test waits for, in which a call or two must be over

TEXTS = (
    *(
        "",
        " ",
        "  padded  ",
        "two\nlines",
        "tab\there",
        "\u2028",
        "😀 e\u0301 é 日本語",
        "%2F",
        "../../etc",
        "a/b?c#d&e=f",
    ),
    *("a+b", '"quoted"', "it's", "back\\slash", "<b>&amp;</b>", "${x}", "12", "007", "1.50", "true", "False", "null"),
    *("[1, 2]", '{"a": 1}', "[a, b]", "{a=1}", "NaN", "1e3", "x" * 500),
)
VALUES: dict[str, tuple[Any, ...]] = {
    "text": TEXTS,
    "whole": (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    "number": (0, -1.5, 1e-9, 1e21, 0.1, 3, 2.0, -0.0),
    "flag": (True, False),
    "day": ("2026-03-16", "0001-01-01"),
    "kind": ("small", "10", "null"),
    "tags": ([], ["a"], ["1", "true", "null", ""], ["a,b", "c; d"], list(TEXTS)),
    "size": ({"width": 3, "label": ""}, {"width": -1, "label": "7"}),
    "maybe": ("", "null", "None", None),
    "either": (5, "5", "five", "", "null", 2**53 + 1),
    "config": TEXTS,
    "self": TEXTS,
}
# Other notations of the same values, as models write them.
LENIENT: dict[str, tuple[tuple[Any, Any], ...]] = {
    "whole": (("5", 5), (5.0, 5)),
    "number": (("2.5", 2.5), ("3", 3)),
    "flag": (("true", True), ("false", False)),
}
# A call that is refused before it is sent, and the field that is named.
REFUSED: tuple[tuple[JsonObject, str], ...] = (
    ({**ECHO, "colour": "red"}, "colour"),
    ({**ECHO, "customer_id": "7000102"}, "customer_id"),
    ({**ECHO, "request_id": "1"}, "request_id"),
    ({"text": "hello"}, "whole"),
    ({"whole": 1}, "text"),
    ({**ECHO, "whole": "many"}, "whole"),
    ({**ECHO, "whole": 1.5}, "whole"),
    ({**ECHO, "whole": None}, "whole"),
    ({**ECHO, "number": "much"}, "number"),
    ({**ECHO, "flag": "perhaps"}, "flag"),
    ({**ECHO, "tags": "a"}, "tags"),
    ({**ECHO, "text": ["a"]}, "text"),
    ({**ECHO, "kind": "giant"}, "kind"),
    ({**ECHO, "tags": ["a", {}]}, "tags.1"),
    ({**ECHO, "size": {"width": "wide", "label": ""}}, "size.width"),
    ({**ECHO, "size": {"width": 1}}, "size"),
    ({**ECHO, "either": [1]}, "either"),
)
UNTYPED = ("kind", "tags.1")  # what function details cannot say


@pytest_asyncio.fixture(loop_scope="module")
async def h(bench: Bench) -> AsyncIterator[Harness]:
    harness = Harness(bench)
    yield harness
    harness.shelf.release()


async def call(
    h: Harness, executor: Executor, name: str, args: JsonObject, ctx: ToolContext | None = None
) -> ToolResult:
    ctx = ctx or h.context(effect_key=uuid4().hex if name in ("put", "stow") else "")
    return await executor.execute(await executor.prepare(name, args, ctx), ctx)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def told(result: ToolResult) -> str:
    """All that a model or a person could see, without what everything here leaves: no internals."""
    text = json.dumps(result.data)
    assert not any(each in text for each in ("hunter2", "/srv", "Traceback", ".py"))
    return text


def failed(result: ToolResult, *, retryable: bool | None = None) -> str:
    """The code of an error in the form that models see."""
    told(result)
    assert (result.status, result.data["ok"]) == ("error", False)
    assert isinstance(result.data["user_hint"], str)
    assert result.data["user_hint"]
    assert retryable in (None, result.data["retryable"])
    code: str = result.data["code"]
    return code


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 2 is 2.0, and 1 is not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


# --- what is offered, and what arrives ------------------------------------------------------------------------------


@everywhere
async def test_the_same_tools_are_offered(h: Harness) -> None:
    """By name, effect, parameters and which of these are required; what only the session fills in is not among them."""
    offered = {each.spec.name: each for each in (await h.executor()).offered()}
    assert list(offered) == [each.name for each in ACTIONS]
    for action in ACTIONS:
        found, wanted = offered[action.name].spec, action.spec
        assert offered[action.name].roles == action.roles
        assert (found.description, found.effect, found.group) == (wanted.description, wanted.effect, wanted.group)
        assert set(found.parameters["properties"]) == set(wanted.parameters["properties"]) - set(h.row.lacks)
        assert set(found.parameters["required"]) == set(wanted.parameters["required"])
        assert found.parameters["additionalProperties"] is False


@everywhere
async def test_arguments_arrive_as_they_were_given(h: Harness) -> None:
    """Every type, and every text that could be taken for something else."""
    executor = await h.executor()
    for name, values in VALUES.items():
        for value in values if name not in h.row.lacks else ():
            given = {**ECHO, name: value}
            expected = {key: each for key, each in given.items() if each is not None}
            result = await call(h, executor, "echo", given)
            assert (result.status, set(result.data)) == ("ok", {"ok", "got"}), (given, result)
            assert same(result.data["got"], expected), (given, result.data)


@everywhere
async def test_notations_of_models_are_understood(h: Harness) -> None:
    """A number as text is a number where one is wanted."""
    executor = await h.executor()
    for name, pairs in LENIENT.items():
        for written, meant in pairs:
            result = await call(h, executor, "echo", {**ECHO, name: written})
            assert same(result.data.get("got"), {**ECHO, name: meant}), (name, written, result)


@everywhere
async def test_calls_that_run_at_once_get_their_own_answers(h: Harness) -> None:
    """Fifty of them, as many side by side as the executor takes."""
    executor = await h.executor()
    room = asyncio.Semaphore(h.row.at_once)

    async def one(n: int) -> ToolResult:
        async with room:
            return await call(h, executor, "echo", {"text": f"number {n}", "whole": n})

    results = await asyncio.gather(*map(one, range(50)))
    assert [each.data["got"] for each in results] == [{"text": f"number {n}", "whole": n} for n in range(50)]


# --- what is refused before anything is sent ------------------------------------------------------------------------


@everywhere
async def test_unusable_arguments_are_refused_here(h: Harness) -> None:
    """The error names the field; nothing is sent."""
    executor = await h.executor()
    for args, field in REFUSED:
        if any(name in args for name in h.row.lacks) or (h.row.lacks and field in UNTYPED):
            continue
        with pytest.raises(InvalidArguments) as caught:
            await call(h, executor, "echo", args)
        named = {each["field"] for each in caught.value.facts["errors"]}
        assert any(each == field or each.startswith(f"{field}.") for each in named), (args, named)
        assert all(each["message"] for each in caught.value.facts["errors"])
    assert h.shelf.calls() == 0


@everywhere
async def test_unknown_tools_and_other_roles_are_refused_here(h: Harness) -> None:
    """In the same words."""
    executor = await h.executor()
    nobody = replace(h.context(), identity=Identity("anonymous", h.customer_id))
    for name, asking in (("levitate", h.context()), ("look", nobody)):
        with pytest.raises(ToolError) as caught:
            await executor.prepare(name, {"shelf_id": "north"}, asking)
        assert (caught.value.code, caught.value.user_hint) == ("unknown_tool", "That is not something I can do here.")
    assert h.shelf.calls() == 0


@everywhere
@pytest.mark.parametrize("tool", ["look", "put"])
async def test_a_stored_call_of_another_session_is_not_run(h: Harness, tool: str) -> None:
    """Whoever has got hold of it; neither caller's shelf hears of it."""
    executor, other = await h.executor(), Harness(h.bench)
    theirs = await executor.prepare(tool, _args(tool, "teapot"), other.context())
    before = other.shelf.calls()
    result = await executor.execute(theirs, h.context(effect_key="k"))
    assert failed(result, retryable=False) == "invalid_arguments"
    assert [each["field"] for each in result.data["errors"]] == ["customer_id"]
    assert (h.shelf.calls(), other.shelf.calls(), other.shelf.effects()) == (0, before, [])


@everywhere
@pytest.mark.parametrize("tool", ["look", "put"])
async def test_nothing_is_begun_when_the_turn_has_no_time_left(h: Harness, tool: str) -> None:
    """A retryable error, at once."""
    executor = await h.executor()
    prepared = await executor.prepare(tool, _args(tool, "teapot"), h.context())
    before = h.shelf.calls()
    result = await executor.execute(prepared, h.context(effect_key="k", deadline=time.monotonic() - 0.001))
    assert failed(result, retryable=True) == "upstream_unavailable"
    assert (h.shelf.calls(), h.shelf.effects()) == (before, [])


# --- how calls end --------------------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("tool", ["look", "put", "stow"])
async def test_a_refusal_is_an_error_and_nothing_was_done(h: Harness, tool: str) -> None:
    """With a code, a sentence, and no internals."""
    executor = await h.executor()
    result = await call(h, executor, tool, _args(tool, shelf.REFUSE))
    assert failed(result, retryable=False) in ("not_allowed", "action_failed", "refused", "conflict")
    assert shelf.HINT in told(result)
    assert h.shelf.effects() == []


@everywhere
@pytest.mark.parametrize("tool", ["put", "stow"])
async def test_an_effect_happens_once_and_says_so(h: Harness, tool: str) -> None:
    """Under the key it was given."""
    executor = await h.executor()
    result = await call(h, executor, tool, THING, h.context(effect_key="k1"))
    assert (result.status, result.data) == ("ok", {"ok": True, "put": "teapot"})
    assert h.shelf.effects() == [{"key": "k1", **THING}]


@everywhere
async def test_a_read_ends_with_the_turn(h: Harness) -> None:
    """A retryable error; what it called has not even answered yet, and the next call is none the worse."""
    executor = await h.executor()
    await call(h, executor, "look", {"shelf_id": "north"})
    ctx = h.context(deadline=time.monotonic() + SHORT_S / 2)
    result = await call(h, executor, "look", {"shelf_id": shelf.SLOW}, ctx)
    assert failed(result, retryable=not h.row.asks_again) in ("upstream_unavailable", "unanswered")
    assert (await call(h, executor, "look", {"shelf_id": "north"})).status == "ok"


@everywhere
async def test_a_cancelled_read_ends_at_once_and_leaves_nothing_behind(h: Harness) -> None:
    """No task, and no trouble for the next call."""
    executor = await h.executor(failures=1)
    await call(h, executor, "look", {"shelf_id": "north"})
    before, calls = asyncio.all_tasks(), h.shelf.calls()
    running = asyncio.create_task(call(h, executor, "look", {"shelf_id": shelf.SLOW}))
    await until(lambda: h.shelf.calls() > calls)
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()
    await until(lambda: asyncio.all_tasks() <= before)
    assert (await call(h, executor, "look", {"shelf_id": "north"})).status == "ok"


# --- effects through the ledger -------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("tool", ["put", "stow"])
async def test_the_same_effect_again_is_its_first_result(h: Harness, tool: str) -> None:
    """Nothing is sent a second time."""
    executor, ledger = await h.executor(), MemoryLedger()
    prepared = await executor.prepare(tool, THING, h.context())
    first = await through(h, executor, ledger, prepared)
    calls = h.shelf.calls()
    assert await through(h, executor, ledger, prepared) == first
    assert (first.status, h.shelf.calls(), len(h.shelf.effects())) == ("ok", calls, 1)


@everywhere
async def test_an_effect_that_died_after_it_is_found(h: Harness) -> None:
    """The intent is on record, the outcome is not: reading back settles it, and it is not done again."""
    executor = await h.executor()
    prepared = await died_after_it(h, executor, "stow")
    found = await through(h, executor, _interrupted(h, prepared), prepared)
    assert (found.status, found.data) == ("ok", {"ok": True, "put": "teapot"})
    assert len(h.shelf.effects()) == 1


@everywhere
async def test_an_effect_that_died_before_it_is_done_once(h: Harness) -> None:
    """A person has said yes, and it surely did not happen."""
    executor = await h.executor(timeout_s=SHORT_S)
    prepared = await executor.prepare("stow", THING, h.context())
    found = await through(h, executor, _interrupted(h, prepared), prepared)
    assert (found.status, found.data) == ("ok", {"ok": True, "put": "teapot"})
    assert len(h.shelf.effects()) == 1


@everywhere
async def test_an_effect_that_cannot_be_read_back_stays_unknown(h: Harness) -> None:
    """It is never sent again: a client alone is asked what it did, for it is asked once whatever happens."""
    executor = await h.executor()
    prepared = await died_after_it(h, executor, "put")
    found = await through(h, executor, _interrupted(h, prepared), prepared)
    assert found.status == ("ok" if h.row.asks_again else "unknown")
    assert len(h.shelf.effects()) == 1


async def through(h: Harness, executor: Executor, ledger: MemoryLedger, prepared: Prepared) -> ToolResult:
    """Put a thing there through the ledger, as the agent does after a yes."""
    ctx = h.context()
    given = TurnInput("acme", UUID(h.conversation_id), uuid4(), uuid4(), "yes", (), (), ctx, ledger, clients=h.client)
    turn = Turn(DEFINITION, None, in_one(executor), given, TurnWork(), lambda _: "chitchat")
    return await run_effect(turn, prepared, _effect(h, prepared))


async def died_after_it(h: Harness, executor: Executor, tool: str) -> Prepared:
    """Do it; nobody writes the outcome down."""
    prepared = await executor.prepare(tool, THING, h.context())
    result = await executor.execute(prepared, h.context(effect_key=_effect(h, prepared).key))
    assert result.status == "ok"
    return prepared


def _interrupted(h: Harness, prepared: Prepared) -> MemoryLedger:
    effect = _effect(h, prepared)
    return MemoryLedger(intents={effect.key: effect})


def _effect(h: Harness, prepared: Prepared) -> EffectKey:
    name = prepared.spec.name
    return EffectKey(f"{name}-{h.customer_id}", name, prepared.args, "call-1", "basis", UUID(int=1))


# --- what only executors have that call something -------------------------------------------------------------------


@elsewhere
async def test_a_read_that_crashes_there_is_an_error(h: Harness) -> None:
    """It shows nothing of the crash, and the next call is none the worse."""
    executor = await h.executor()
    failed(await call(h, executor, "look", {"shelf_id": shelf.CRASH}))
    assert (await call(h, executor, "look", {"shelf_id": "north"})).status == "ok"


@elsewhere
@pytest.mark.parametrize("how", [shelf.GARBAGE, shelf.LARGE])
async def test_an_unusable_answer_to_a_read_is_an_error(h: Harness, how: str) -> None:
    """Garbage, or more than a result may hold."""
    code = failed(await call(h, await h.executor(), "look", {"shelf_id": how}), retryable=False)
    assert code == {shelf.GARBAGE: "bad_answer", shelf.LARGE: "result_too_large"}[how]


@elsewhere
@pytest.mark.parametrize("how", [shelf.CRASH, shelf.CRASH_AFTER, shelf.SLOW_AFTER, shelf.GARBAGE, shelf.LARGE])
async def test_an_effect_without_a_usable_answer_is_unknown(h: Harness, how: str) -> None:
    """It is sent once. An executor that knows nevertheless may say what it knows, and never that nothing happened."""
    executor = await h.executor(timeout_s=SHORT_S if how == shelf.SLOW_AFTER else 20.0)
    result = await call(h, executor, "put", {**THING, "thing": how})
    told(result)
    done = len(h.shelf.effects())
    assert done == (how != shelf.CRASH)
    if how == shelf.LARGE and result.status == "ok":  # a function of ours knows that it is done
        assert result.data["code"] == "result_too_large"
    else:
        assert (result.status, result.data["code"]) == ("unknown", "unknown_outcome")


@elsewhere
@pytest.mark.parametrize("how", [shelf.CRASH_AFTER, shelf.SLOW_AFTER, shelf.GARBAGE])
async def test_a_keyed_effect_without_a_usable_answer_is_looked_for(h: Harness, how: str) -> None:
    """By its key; it is found where it can be, and nowhere done twice."""
    executor = await h.executor(timeout_s=SHORT_S if how == shelf.SLOW_AFTER else 20.0)
    result = await call(h, executor, "stow", {**THING, "thing": how})
    if h.row.finds:
        assert (result.status, result.data) == ("ok", {"ok": True, "put": how})
    else:
        assert (result.status, result.data["code"]) == ("unknown", "unknown_outcome")
    assert len(h.shelf.effects()) == 1


@elsewhere
async def test_a_keyed_effect_that_may_still_take_place_is_unknown(h: Harness) -> None:
    """It is late, and not there yet: that says nothing. Whatever becomes of it, it is there once at most."""
    executor = await h.executor(timeout_s=SHORT_S / 2)
    result = await call(h, executor, "stow", {**THING, "thing": shelf.SLOW})
    assert (result.status, result.data["code"]) == ("unknown", "unknown_outcome")
    assert h.shelf.effects() == []
    h.shelf.release()
    if h.row.goes_on:
        await until(lambda: len(h.shelf.effects()) == 1)
    assert len(h.shelf.effects()) <= 1


@elsewhere
async def test_a_keyed_effect_that_crashed_before_it_is_never_told_as_done(h: Harness) -> None:
    """Nothing happened; at worst nobody can tell."""
    result = await call(h, await h.executor(), "stow", {**THING, "thing": shelf.CRASH})
    told(result)
    assert result.status in ("error", "unknown")
    assert h.shelf.effects() == []


@elsewhere
async def test_an_upstream_that_fails_repeatedly_is_left_alone_for_a_while(h: Harness) -> None:
    """Nothing is sent while its circuit is open; one good answer closes it."""
    executor = await h.executor(failures=3, reset_s=0.5)
    for _ in range(3):
        await call(h, executor, "look", {"shelf_id": shelf.CRASH})
    calls = h.shelf.calls()
    for tool in ("look", "put"):
        prepared = Prepared(_spec(executor, tool), {**_args(tool, "teapot"), "customer_id": h.customer_id})
        result = await executor.execute(prepared, h.context(effect_key="k"))
        assert failed(result, retryable=True) == "upstream_unavailable"
    assert (h.shelf.calls(), h.shelf.effects()) == (calls, [])

    async with asyncio.timeout(30):
        while (await call(h, executor, "look", {"shelf_id": "north"})).status != "ok":
            await asyncio.sleep(0.02)
    assert (await call(h, executor, "look", {"shelf_id": "north"})).status == "ok"


@elsewhere
async def test_refusals_open_no_circuit(h: Harness) -> None:
    """A refusal is an answer."""
    executor = await h.executor(failures=2)
    for _ in range(4):
        failed(await call(h, executor, "look", {"shelf_id": shelf.REFUSE}), retryable=False)
    assert (await call(h, executor, "look", {"shelf_id": "north"})).status == "ok"


# --- what is different in this process ------------------------------------------------------------------------------


@here
@pytest.mark.parametrize("tool", ["look", "put"])
async def test_here_a_crash_is_a_bug_and_raises(h: Harness, tool: str) -> None:
    """The turn fails, loudly; the ledger has the intent, and the effect is looked for later."""
    with pytest.raises(RuntimeError, match="hunter2"):
        await call(h, await h.executor(), tool, _args(tool, shelf.CRASH))
    assert h.shelf.effects() == []


@here
async def test_here_an_effect_that_has_begun_is_not_cut(h: Harness) -> None:
    """Its client has its own limits, and knows how to settle it; the end of the turn does not stop it."""
    executor = await h.executor()
    ctx = h.context(effect_key="k", deadline=time.monotonic() + 0.1)
    running = asyncio.create_task(call(h, executor, "put", {**THING, "thing": shelf.SLOW_AFTER}, ctx))
    await until(lambda: time.monotonic() > (ctx.deadline or 0) and bool(h.shelf.effects()))
    assert not running.done()
    h.shelf.release()
    assert (await running).status == "ok"


@here
async def test_here_what_cannot_be_read_back_says_so(h: Harness) -> None:
    """An action without a hook that reads back."""
    with pytest.raises(UnknownOutcome):
        await (await h.executor()).reconcile("put", {**THING, "customer_id": h.customer_id}, h.context())


@here
async def test_here_preparing_ends_with_the_turn_too(h: Harness) -> None:
    """It may ask upstream, and has no effect."""
    with pytest.raises(UpstreamUnavailable):
        await (await h.executor()).prepare("stow", THING, h.context(deadline=time.monotonic() - 0.001))


def _args(tool: str, how: str) -> JsonObject:
    return {"shelf_id": how} if tool == "look" else {**THING, "thing": how}


def _spec(executor: Executor, name: str) -> Any:
    return next(each.spec for each in executor.offered() if each.spec.name == name)
