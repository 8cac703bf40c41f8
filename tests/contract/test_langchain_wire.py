"""LangChain chat models as a provider, against the scripted model server: one with async code, one without."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from agent.errors import (
    ContextExceeded,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers import base, kinds
from agent.providers.base import Capabilities, Chunk, ModelRequest, Provider, Reasoning, Text, Tokens, TurnFacts, Where
from agent.providers.langchain import LANGCHAIN, LangChainConfig, langchain
from agent.providers.langchain_errors import Secrets, classify
from agent.providers.langchain_wire import LangChainFault
from agent.routing.config import ModelsError, read
from agent.transcript import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tests.doubles.model_service import Call, Lane, ModelService, Quirk, Reply
from tests.doubles.world import CUSTOMER, NOW, SPECS
from tools.contract import ToolSpec

KEY = "sk-do-not-show-me"
WHERE = Where("MY_KEY", "my.url", "my.model")
CLAUDE = "anthropic.claude-sonnet-4-20250514-v1:0"
Make = Callable[..., Provider]
HISTORY: tuple[Message, ...] = (
    UserMessage("hi"),
    AssistantMessage("", (ToolCall("x", "list_projects", {}), ToolCall("y", "get_working_hours", {}))),
    ToolMessage("x", "list_projects", {"ok": True}),
    ToolMessage("y", "get_working_hours", {"ok": False, "code": "not_found"}, ok=False),
    UserMessage("and now?"),
)


def chat_openai(lane: Lane, capabilities: Capabilities = LANGCHAIN, **more: Any) -> Provider:
    """langchain-openai, which is async."""
    given = {"base_url": lane.url("openai"), "api_key": KEY, **more}
    config = LangChainConfig(factory="langchain_openai:ChatOpenAI", model="m", arguments=given, where=WHERE)
    return langchain(config, "chain", capabilities)


def chat_bedrock(lane: Lane, capabilities: Capabilities = LANGCHAIN, threads: int = 4, **more: Any) -> Provider:
    """langchain-aws, which waits in threads."""
    given = {
        "base_url": lane.url("bedrock"),
        "region_name": "us-east-1",
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": KEY,
        **more,
    }
    config = LangChainConfig(
        factory="langchain_aws:ChatBedrockConverse", model=CLAUDE, arguments=given, where=WHERE, threads=threads
    )
    return langchain(config, "chain", capabilities)


# Making this one takes most of a second, so the tests share one and script its lane anew.
_SHARED: dict[str, tuple[str, Provider]] = {}


async def ready(models: ModelService, make: Make, *replies: Reply) -> tuple[Lane, Provider]:
    """A provider as it is by default, and the lane that it asks."""
    if make is chat_openai:
        lane = await models.lane(*replies)
        return lane, make(lane)
    if models.url not in _SHARED:
        lane = await models.lane()
        _SHARED[models.url] = lane.id, make(lane)
    lane_id, provider = _SHARED[models.url]
    lane = Lane(models, lane_id, None)
    await lane.script(*replies)
    return lane, provider


BOTH = pytest.mark.parametrize("make", [chat_openai, chat_bedrock])


def request(*messages: Message, tools: tuple[ToolSpec, ...] = SPECS) -> ModelRequest:
    """A request, with all tools of the small world."""
    return ModelRequest("Be kind.", messages or (UserMessage("hi"),), tools, TurnFacts(NOW, CUSTOMER, ()))


async def ask(provider: Provider, *messages: Message, tools: tuple[ToolSpec, ...] = SPECS) -> list[Chunk]:
    """All chunks of one call; the integration's errors as the typed ones."""
    try:
        return [
            chunk
            async for chunk in provider.wire.stream(provider.render(request(*messages, tools=tools)), deadline_s=5)
        ]
    except provider.raises as error:
        raise provider.classify(error) from error


def said(chunks: list[Chunk]) -> str:
    """The text of them."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Text))


def calls_in(chunks: list[Chunk]) -> list[tuple[str, dict[str, Any], str | None]]:
    """(name, args, error) of every call."""
    return [(c.call.name, c.call.args, c.error) for c in chunks if isinstance(c, base.Call)]


async def test_thoughts_are_no_text_and_a_failed_result_is_marked(models: ModelService) -> None:
    """Content blocks of reasoning; Converse's own place for the status of a result."""
    lane, provider = await ready(models, chat_bedrock, Reply("Hello.", reasoning="They greet me."))
    chunks = await ask(provider, *HISTORY)
    assert "".join(c.text for c in chunks if isinstance(c, Reasoning)) == "They greet me."
    assert said(chunks) == "Hello."
    body = (await lane.bodies())[-1]
    results = [
        block["toolResult"]["status"] for m in body["messages"] for block in m["content"] if "toolResult" in block
    ]
    assert results == ["success", "error"]


@BOTH
async def test_a_model_without_tools_is_told_of_calls_in_words(models: ModelService, make: Make) -> None:
    """Of its own provider or another one's, where nothing is offered that it could call."""
    lane, provider = await ready(models, make, Reply("They are open."))
    assert said(await ask(provider, *HISTORY, tools=())) == "They are open."
    asked = (await lane.requests())[-1]
    assert asked.problems == []
    assert "Looked up with list_projects" in str(asked.body["messages"])
    assert not {"tools", "toolConfig"} & asked.body.keys()


@BOTH
async def test_an_answer_that_is_not_streamed_is_understood(models: ModelService, make: Make) -> None:
    """As the capabilities say, here of a model that does not stream its calls."""
    lane = await models.lane(Reply("One moment.", (Call("list_projects"),)))
    chunks = await ask(make(lane, Capabilities(streams_tool_calls=False)))
    assert (said(chunks), calls_in(chunks)) == ("One moment.", [("list_projects", {}, None)])
    (asked,) = await lane.requests()
    assert not asked.body.get("stream")
    assert not asked.path.endswith("-stream")


@pytest.mark.parametrize(
    "quirk", [Quirk.INDEX_ALL_ZERO, Quirk.INDEX_MISSING, Quirk.NAME_IN_EACH_PIECE, Quirk.ID_IN_EACH_PIECE]
)
async def test_calls_of_careless_servers_are_put_together(models: ModelService, quirk: Quirk) -> None:
    """By index and id, whichever of them there is."""
    calls = (Call("get_time_slots", {"project_id": "1", "date": "x"}), Call("list_projects", {"a": 1}))
    lane = await models.lane(Reply(calls=calls, quirks={quirk}))
    assert calls_in(await ask(chat_openai(lane))) == [
        ("get_time_slots", {"project_id": "1", "date": "x"}, None),
        ("list_projects", {"a": 1}, None),
    ]


@pytest.mark.parametrize("able", [LANGCHAIN, Capabilities(streams=False)])
async def test_unreadable_arguments_are_an_error_of_the_call(models: ModelService, able: Capabilities) -> None:
    """Repaired as everywhere where no doubt is left; else refused with a reason, never guessed."""
    lane = await models.lane(Reply(calls=(Call("a", raw_arguments='{"x": 1,}'), Call("b", raw_arguments='{"x": "cut'))))
    (_, args, fine), (_, none, problem) = calls_in(await ask(chat_openai(lane, able)))
    assert (args, fine, none) == ({"x": 1}, None, {})
    assert problem


async def test_an_answer_that_ends_without_a_reason_is_not_taken_for_one(models: ModelService) -> None:
    """Of a class that has given one before."""
    piece = (
        b'data: {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hel"}}]}'
    )
    ended = Reply(raw=piece + b"\n\ndata: [DONE]\n\n", raw_type="text/event-stream")
    provider = chat_openai(await models.lane(ended, Reply("Hello."), ended))
    assert said(await ask(provider)) == "Hel"
    assert said(await ask(provider)) == "Hello."
    with pytest.raises(ModelUnavailable):
        await ask(provider)


def looks(name: str, **members: Any) -> Exception:
    """An exception of some library, by its looks."""
    error: Exception = type(name, (Exception,), members)("said so")
    return error


def chained(error: Exception, cause: Exception) -> Exception:
    """The first, raised from the second."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (looks("ResourceExhausted", code=429), ModelBusy),
        (looks("DeadlineExceeded"), ModelTimeout),
        (looks("APIStatusError", status_code=200, body={"error": {"type": "overloaded_error"}}), ModelBusy),
        (looks("APIStatusError", status_code=200, body={"error": {"type": "api_error"}}), ModelUnavailable),
        (looks("APITimeoutError"), ModelTimeout),
        (looks("NoCredentialsError"), ModelRejected),
        (looks("ContextOverflowError"), ContextExceeded),
        (looks("EventStreamError", response={"Error": {"Code": "modelTimeoutException"}}), ModelTimeout),
        (chained(ValueError("wrapped"), looks("RateLimitError", status_code=429)), ModelBusy),
        (chained(RuntimeError("wrapped"), looks("RemoteProtocolError")), ModelUnavailable),
        (ValueError("No generation chunks were returned"), ModelUnavailable),
        (ValueError("what is this"), ModelMisbehaved),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_libraries_that_are_not_there_are_told_by_their_look(
    error: Exception, kind: type[ModelError]
) -> None:
    """By status, name and code, of the exception or of what it came of."""
    meant = classify(chained(LangChainFault(type(error).__name__), error), WHERE, Secrets(frozenset()))
    assert type(meant) is kind


async def test_no_secret_is_shown_wherever_it_came_from(models: ModelService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the arguments, or of the environment, which the class reads by itself."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for given in (KEY, None):
        lane = await models.lane(Reply(status=401, error_message=f"Incorrect API key provided: {KEY}"))
        provider = chat_openai(lane, api_key=given)
        with pytest.raises(ModelRejected) as caught:
            await ask(provider)
        assert KEY not in f"{caught.value} {caught.value.user_hint} {provider}"
        assert "***" in str(caught.value)


async def test_whatever_an_argument_of_the_environment_is_called_it_is_a_secret(models: ModelService) -> None:
    """Also one that no name gives away, where the words of an error are cut."""
    lane = await models.lane(Reply(status=400, error_message=f"{'x' * 270} no such organization {KEY}"))
    entry: dict[str, Any] = {"kind": "langchain", "factory": "langchain_openai:ChatOpenAI", "model": "m"}
    entry |= {
        "arguments": {"base_url": lane.url("openai"), "api_key": "of-no-account"},
        "arguments_env": {"organization": "MINE"},
    }
    file = {"providers": {"chain": entry}, "routes": {"default": {"primary": "chain"}}}
    provider = kinds.make("chain", read(json.dumps(file), {"MINE": KEY}).providers["chain"], {"MINE": KEY})
    with pytest.raises(ModelError) as caught:
        await ask(provider)
    assert "xxx" in str(caught.value)
    assert KEY[:5] not in f"{caught.value} {provider}"


async def test_blocking_calls_keep_to_their_own_threads(models: ModelService) -> None:
    """As many at once as configured, the others wait; none of them in the event loop's pool."""
    lane = await models.lane(Reply("Hi.", delay_first_s=0.1), repeat_last=True)
    provider, most = chat_bedrock(lane, threads=2), 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, sum(thread.name == "langchain-call" for thread in threading.enumerate()))
            await asyncio.sleep(0.005)

    before = {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")}
    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(ask(provider) for _ in range(5)))
    watching.cancel()
    assert [said(answer) for answer in answers] == ["Hi."] * 5
    assert 1 <= most <= 2
    assert {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")} <= before


class Echo(BaseChatModel):
    """A class of one's own: it does not stream, and takes no tools."""

    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, messages: list[BaseMessage], *_: Any, **more: Any) -> ChatResult:
        if self.fails:
            raise KeyError("choices")
        said = AIMessage(f"{messages[-1].content} {more.get('mood')}")
        return ChatResult(generations=[ChatGeneration(message=said)])


def echo(**more: Any) -> Provider:
    """The class above, as configured by its name."""
    config = LangChainConfig(factory=f"{__name__}:Echo", model="echo", arguments=more, options={"mood": "gladly"})
    return langchain(config)


async def test_any_class_will_do() -> None:
    """Without streams, async code, usage; what it has no idea of is told by its kind."""
    chunks = await ask(echo(), tools=())
    assert chunks[0] == Text("hi gladly")
    assert isinstance(chunks[1], Tokens)
    assert chunks[1].estimated
    with pytest.raises(ModelRejected, match="does not support tools"):
        await ask(echo())
    with pytest.raises(ModelMisbehaved, match="KeyError"):
        await ask(echo(fails=True), tools=())


class Pieces(Echo):
    """Streams, without async code; thinks in each of the forms that integrations have; counts as it goes."""

    def _stream(self, messages: list[BaseMessage], *_: Any, **more: Any) -> Iterator[ChatGenerationChunk]:
        blocks: list[Any] = [
            {"type": "thinking", "thinking": "a"},
            {"type": "reasoning", "reasoning": "b"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "c"}]},
            {"type": "reasoning_content", "reasoning_content": {"text": "d"}},
            {"type": "image", "url": "x"},
            {"type": "text", "text": "Hi"},
            "!",
        ]
        begin = UsageMetadata(input_tokens=5, output_tokens=1, total_tokens=6)
        rest = UsageMetadata(input_tokens=0, output_tokens=3, total_tokens=3)
        yield ChatGenerationChunk(message=AIMessageChunk(content=blocks, usage_metadata=begin))
        thought = {"reasoning_content": "e"}
        yield ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs=thought, usage_metadata=rest))


async def test_thoughts_and_usage_come_in_the_forms_of_several_integrations() -> None:
    """Thoughts apart from the text; usage told bit by bit is added up."""
    chunks = await ask(langchain(LangChainConfig(factory=f"{__name__}:Pieces", model="m")), tools=())
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Reasoning)) == "abcde"
    assert said(chunks) == "Hi!"
    assert chunks[-1] == Tokens(5, 4)


class Miscounts(Echo):
    """Streams, and counts what cannot be."""

    def _stream(self, messages: list[BaseMessage], *_: Any, **more: Any) -> Iterator[ChatGenerationChunk]:
        wrong = UsageMetadata(input_tokens=-5, output_tokens=2**64, total_tokens=0)
        yield ChatGenerationChunk(message=AIMessageChunk(content="Hi", usage_metadata=wrong))


async def test_counts_that_cannot_be_are_estimated() -> None:
    """LangChain lets a negative number pass, and any great one."""
    *_, tokens = await ask(langchain(LangChainConfig(factory=f"{__name__}:Miscounts", model="m")), tools=())
    assert isinstance(tokens, Tokens)
    assert (tokens.estimated, tokens.output_tokens) == (True, 1)


class Endless(Echo):
    """Thinks without end, or calls."""

    calls: bool = False

    def _stream(self, messages: list[BaseMessage], *_: Any, **more: Any) -> Iterator[ChatGenerationChunk]:
        for n in range(65 if self.calls else 4):
            call = ToolCallChunk(name="list_projects", args="{}", id=str(n), index=n)
            thought = {} if self.calls else {"reasoning_content": "x" * 60_000}
            calls = [call] if self.calls else []
            message = AIMessageChunk(content="", additional_kwargs=thought, tool_call_chunks=calls)
            yield ChatGenerationChunk(message=message)


@pytest.mark.parametrize("calls", [True, False])
async def test_what_does_not_end_is_given_up(calls: bool) -> None:
    """Thoughts after 200,000 characters, calls after 64."""
    config = LangChainConfig(factory=f"{__name__}:Endless", model="m", arguments={"calls": calls})
    with pytest.raises(ModelMisbehaved, match="more than 64 calls" if calls else "do not end"):
        await ask(langchain(config), tools=())


def problems() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Configurations that cannot work, the path of the fault, and words of the fix."""
    yield {"factory": "langchain_nowhere.chat:Chat"}, "providers.x.factory", "pip install langchain-nowhere"
    yield {"factory": "langchain_openai:ChatNothing"}, "providers.x.factory", "no chat model class"
    yield {"factory": "langchain_openai:OpenAIEmbeddings"}, "providers.x.factory", "no chat model class"
    wrong = {"api_key": KEY, "temperature": f"hot {KEY}"}
    yield {"factory": "langchain_openai:ChatOpenAI", "arguments": wrong}, "providers.x.arguments.temperature", "number"
    no_region = {"aws_access_key_id": "A", "aws_secret_access_key": KEY}
    yield {"factory": "langchain_aws:ChatBedrockConverse", "arguments": no_region}, "providers.x.arguments", "region"


@pytest.mark.parametrize(("config", "path", "words"), list(problems()))
def test_a_configuration_that_cannot_work_is_told_with_its_fix(
    config: dict[str, Any], path: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing package, wrong class, wrong or missing arguments; no value of them is repeated."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ModelsError) as caught:
        langchain(LangChainConfig(**{"model": "m", **config}), "x")
    ((told, what),) = caught.value.problems
    assert told == path
    assert words in what
    assert KEY not in what
