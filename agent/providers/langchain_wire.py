"""A LangChain chat model as a wire: its stream of message chunks made into ours.

Integrations without async code of their own (langchain-aws among them) run in threads of this wire: LangChain would
put them into the event loop's default pool, of processors + 4 threads, which everything else in the process shares.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from agent.providers.arguments import read_arguments
from agent.providers.base import Begun, Call, Chunk, Tokens
from agent.providers.http import MAX_ARGUMENTS, MAX_NAME, MAX_PARTS, Endless, HttpFault, StreamBroken, counted, dict_of
from agent.providers.think_tags import ThinkTags
from agent.transcript import JsonObject, ToolCall

# What integrations call the reason for which a model stopped.
_ENDS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")


class LangChainFault(Exception):
    """The integration raised; its own exception is the cause."""


class LangChainWire:
    """One chat model. Payloads are `{messages, tools}` as `agent.providers.langchain` renders them."""

    def __init__(self, model: BaseChatModel, *, options: JsonObject, threads: int) -> None:
        """`options` are passed with each call; at most `threads` calls of a blocking integration run at once."""
        self._model = model
        self._options = options
        self._in_threads = _blocks(type(model))
        self._free = asyncio.Semaphore(threads)
        self._tools: list[JsonObject] = []
        self._bound: Runnable[Any, AIMessage] = model
        self._says_why = False

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Ask and yield chunks; raises `LangChainFault`, `StreamBroken`, or `HttpFault` for a model without tools."""
        source = self._threaded if self._in_threads else self._native
        reader = _Reader()
        async with aclosing(source(self._knowing(payload["tools"]), payload["messages"])) as messages:
            async for message in messages:
                for chunk in reader.pieces(message):
                    yield chunk
        # Not every integration says why the model stopped. One that does is cut off when it does not.
        if self._says_why and not reader.ended:
            raise StreamBroken("the answer broke off")
        self._says_why = reader.ended
        for chunk in reader.end(payload["messages"]):
            yield chunk

    async def close(self) -> None:
        """Nothing: the model owns its connections, and has no way to close them."""

    def _knowing(self, tools: list[JsonObject]) -> Runnable[Any, AIMessage]:
        """The model with these tools, made anew only when they are others."""
        if tools != self._tools:
            try:
                bound = self._model.bind_tools(tools) if tools else self._model
            except NotImplementedError as error:
                raise HttpFault(400, f"{type(self._model).__name__} does not support tools") from error
            self._tools, self._bound = tools, bound
        return self._bound

    async def _native(
        self, model: Runnable[Any, AIMessage], messages: Sequence[BaseMessage]
    ) -> AsyncGenerator[AIMessage, None]:
        stream = cast(AsyncGenerator[AIMessage, None], model.astream(messages, **self._options))
        us = asyncio.current_task()
        cancelled = us.cancelling() if us else 0
        async with aclosing(stream):
            while True:
                try:
                    message = await anext(stream)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    raise LangChainFault(type(error).__name__) from error
                # An integration that waits by `asyncio.wait_for` may swallow it, in Python 3.11.
                if us and us.cancelling() > cancelled:
                    raise asyncio.CancelledError
                yield message

    async def _threaded(
        self, model: Runnable[Any, AIMessage], messages: Sequence[BaseMessage]
    ) -> AsyncGenerator[AIMessage, None]:
        """A thread reads the whole answer. One whose reader is gone ends with the next piece, or with the time-out."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[AIMessage | Exception | None] = asyncio.Queue()
        unwanted = threading.Event()
        await self._free.acquire()

        def tell(act: Callable[..., None], *given: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(act, *given)

        def end(error: Exception | None) -> None:
            # In one step: whoever has seen the end may close the loop, and nobody would give the thread back.
            self._free.release()
            arrived.put_nowait(error)

        def read() -> None:
            failure: Exception | None = None
            try:
                with closing(cast(Any, model.stream(messages, **self._options))) as stream:
                    for message in stream:
                        if unwanted.is_set():
                            break
                        tell(arrived.put_nowait, message)
            except Exception as error:  # noqa: BLE001 (told to the reader, who raises it)
                failure = error
            finally:
                tell(end, failure)

        # A daemon: a server that is silent does not hold up the end of the process.
        threading.Thread(target=read, name="langchain-call", daemon=True).start()
        try:
            while (message := await arrived.get()) is not None:
                if isinstance(message, Exception):
                    raise LangChainFault(type(message).__name__) from message
                yield message
        finally:
            unwanted.set()


def _blocks(kind: type[BaseChatModel]) -> bool:
    """Whether the class has no async code for what it is asked."""
    if kind._astream is not BaseChatModel._astream:
        return False
    return kind._stream is not BaseChatModel._stream or kind._agenerate is BaseChatModel._agenerate


# --- its messages as chunks -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Partial:
    """A tool call of which pieces are still to come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, call_id: str, name: str, arguments: str) -> None:
        self.id = self.id or call_id
        # Some servers repeat the whole name with every piece.
        if name != self.name:
            self.name += name
        self.arguments.append(arguments)
        self.size += len(arguments)
        if self.size > MAX_ARGUMENTS or len(self.name) > MAX_NAME:
            raise Endless("a call does not end")


class _Reader:
    """Makes chunks of one answer's messages."""

    def __init__(self) -> None:
        self.ended = False
        self._partials: dict[Any, _Partial] = {}
        self._last: Any = None
        self._whole: list[Call] = []
        self._begun = False  # it has been told that there are some
        self._usage: Tokens | None = None
        self._characters = 0
        self._tags = ThinkTags()

    def pieces(self, message: AIMessage) -> Iterator[Chunk]:
        """The text and the thoughts of a message; calls are kept until the end."""
        for text, is_thought in _said(message):
            self._characters += len(text)
            if is_thought:
                yield self._tags.think(text)
            else:
                yield from self._tags.feed(text)
        if isinstance(message, AIMessageChunk):
            for piece in message.tool_call_chunks:
                self._piece(piece.get("index"), piece.get("id") or "", piece.get("name") or "", piece.get("args") or "")
        else:
            self._take_whole(message)
        if (self._partials or self._whole) and not self._begun:
            self._begun = True
            yield Begun()
        if len(self._partials) + len(self._whole) > MAX_PARTS:
            raise Endless(f"more than {MAX_PARTS} calls")
        if usage := message.usage_metadata:
            # Integrations tell what came since the last time, and LangChain itself adds that up.
            self._usage = _sum(self._usage, cast(JsonObject, usage))
        self.ended = self.ended or any(message.response_metadata.get(key) for key in _ENDS)

    def end(self, messages: Sequence[BaseMessage]) -> Iterator[Chunk]:
        """What is left of the text, the calls and the usage."""
        yield from self._tags.settle()
        for partial in self._partials.values():
            args, problem = read_arguments("".join(partial.arguments))
            yield Call(ToolCall(partial.id, partial.name, args), problem)
        yield from self._whole
        if self._usage is not None:
            yield self._usage
            return
        # About four characters a token, where an integration does not count.
        written = self._characters + sum(partial.size for partial in self._partials.values())
        given = sum(len(str(message.content)) for message in messages)
        yield Tokens(given // 4, -(-written // 4), estimated=True)

    def _take_whole(self, message: AIMessage) -> None:
        """The calls of an answer that was not streamed."""
        self._whole += [Call(ToolCall(call["id"] or "", call["name"], call["args"])) for call in message.tool_calls]
        for bad in message.invalid_tool_calls:
            args, problem = read_arguments(bad["args"] or "")
            self._whole.append(Call(ToolCall(bad["id"] or "", bad["name"] or "", args), problem))

    def _piece(self, index: Any, call_id: str, name: str, arguments: str) -> None:
        """Add a piece to the call of its index; without one, to that of its id, or to the last if it begins none."""
        key = index
        if index is None:
            goes_on = self._last is not None and not name
            key = call_id or (self._last if goes_on else len(self._partials))
        elif (known := self._partials.get(index)) is not None and call_id and known.id not in ("", call_id):
            key = (index, call_id)  # a server that numbers all its calls alike
        elif not call_id and isinstance(self._last, tuple) and self._last[0] == index:
            key = self._last
        self._last = key
        self._partials.setdefault(key, _Partial()).add(call_id, name, arguments)


def _said(message: AIMessage) -> Iterator[tuple[str, bool]]:
    """Each text of a message, and whether it is a thought, in any of the forms that integrations have for it."""
    thought = message.additional_kwargs.get("reasoning_content")
    if isinstance(thought, str) and thought:
        yield thought, True
    content = [message.content] if isinstance(message.content, str) else message.content
    for block in content:
        text, is_thought = (block, False) if isinstance(block, str) else _block(block)
        if text:
            yield text, is_thought
    refusal = message.additional_kwargs.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield refusal, False


def _block(block: JsonObject) -> tuple[str, bool]:
    match block.get("type"):
        case "text":
            return _text(block.get("text")), False
        case "refusal":
            return _text(block.get("refusal")), False
        case "thinking":
            return _text(block.get("thinking")), True
        case "reasoning":
            return _text(block.get("reasoning")) or _text(block.get("summary")), True
        case "reasoning_content":
            return _text(block.get("reasoning_content")), True
    return "", False


def _text(value: Any) -> str:
    """A text as it is, in an object, or in a list of them."""
    if isinstance(value, list):
        return "".join(map(_text, value))
    return _text(value.get("text")) if isinstance(value, dict) else value if isinstance(value, str) else ""


def _sum(so_far: Tokens | None, usage: JsonObject) -> Tokens | None:
    before = so_far or Tokens(0, 0)
    given = counted(usage.get("input_tokens"), before.input_tokens)
    made = counted(usage.get("output_tokens"), before.output_tokens)
    if given is None or made is None:
        return so_far
    details = dict_of(usage.get("input_token_details"))
    read = counted(details.get("cache_read"), before.cache_read_tokens)
    wrote = counted(details.get("cache_creation"), before.cache_write_tokens)
    return Tokens(
        given,
        made,
        cache_read_tokens=before.cache_read_tokens if read is None else read,
        cache_write_tokens=before.cache_write_tokens if wrote is None else wrote,
    )
