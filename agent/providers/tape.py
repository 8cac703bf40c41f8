"""Recording what a model answers, and answering from the recording without it.

    provider = recording(provider, Recorder(path), scope)
    provider = replaying(provider, read_tape(path), scope)

A tape is a file of JSON lines, one a model call. It holds what came back, and of what was sent only hashes and the
beginning of the person's message. Calls are found by what the model was shown (`tape_key`), within a scope: a name for
the conversation, so that two that begin alike do not take each other's answers.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from agent.errors import ModelBusy, ModelError, ModelTimeout, NotOnTape
from agent.providers.base import Call, Chunk, Probe, Provider, Wire
from agent.providers.tape_key import Asked, asked
from agent.transcript import JsonObject, ToolCall

FORM = 1  # of the lines; another one cannot be read
KINDS: dict[str, type[Chunk]] = {kind.__name__.lower(): kind for kind in get_args(Chunk)}
Scope = Callable[[], str]


class TapeError(Exception):
    """The file is no tape, or cannot be used; says which line and why."""


@dataclass(frozen=True, slots=True)
class Take:
    """One recorded call. `error`: what it ended with, as `{class, message}`; `given_up`: nobody waited for its end."""

    scope: str
    asked: Asked
    chunks: tuple[Chunk, ...]
    error: JsonObject | None = None
    given_up: bool = False
    seconds: float = 0.0

    def to_line(self) -> bytes:
        """As it stands in the file."""
        body = {
            "tape": FORM,
            "scope": self.scope,
            **asdict(self.asked),
            "chunks": [_chunk_to_json(chunk) for chunk in self.chunks],
            "error": self.error,
            "given_up": self.given_up,
            "seconds": round(self.seconds, 4),
        }
        return json.dumps(body).encode() + b"\n"

    @classmethod
    def from_json(cls, body: JsonObject) -> Take:
        """Inverse of `to_line`; `ValueError`, `KeyError` or `TypeError` for anything else."""
        if body["tape"] != FORM:
            raise ValueError(f"its form is {body['tape']!r}, not {FORM}")
        names = Asked.__dataclass_fields__
        told = {name: body[name] for name in names} | {"messages": tuple((w, h) for w, h in body["messages"])}
        chunks = tuple(_chunk_from_json(chunk) for chunk in body["chunks"])
        return cls(body["scope"], Asked(**told), chunks, body["error"], body["given_up"], body["seconds"])


class Recorder:
    """Appends takes to a file, each as one locked write, so that processes may share it and none loses a line."""

    def __init__(self, path: Path) -> None:
        """`TapeError` when the file cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise TapeError(f"{path} cannot be written: {error.strerror}") from error

    def add(self, take: Take) -> None:
        """Write one call down; it is in the file when this returns."""
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(take.to_line())


class Tape:
    """Recorded calls, taken one after the other."""

    def __init__(self, takes: Iterable[Take], name: str = "the tape") -> None:
        """Answers come in the order of `takes`."""
        self._name = name
        self._takes = list(takes)
        self._scopes = {take.scope for take in self._takes}
        self._scoped: dict[tuple[str, str], deque[Take]] = defaultdict(deque)
        self._any: dict[str, deque[Take]] = defaultdict(deque)
        for take in self._takes:
            self._scoped[take.scope, take.asked.key].append(take)
            self._any[take.asked.key].append(take)

    def __len__(self) -> int:
        return len(self._takes)

    def next(self, scope: str, wanted: Asked) -> Take:
        """The next answer to this call: in its scope, or in any if the tape does not know the scope.

        Raises:
            NotOnTape: there is none, or none any more; says where the conversation stood and what has changed.
        """
        left = self._scoped.get((scope, wanted.key)) if scope in self._scopes else self._any.get(wanted.key)
        if left:
            return left.popleft()
        where = f"{scope or 'no scope'}, turn {wanted.turn}, model call {wanted.step} ({wanted.said!r})"
        what = f"{where}: {self._why(scope, wanted)}. Record it again; the tape is {self._name}."
        raise NotOnTape(what, user_hint=what)

    def _why(self, scope: str, wanted: Asked) -> str:
        who = f"{wanted.provider}/{wanted.model}"
        same = [take for take in self._takes if take.asked.is_of(wanted.provider, wanted.model)]
        if not same:
            return f"the tape has no call of {who}"
        near = [take for take in same if take.scope == scope] or (same if scope not in self._scopes else [])
        if any(take.asked.key == wanted.key for take in near):
            return f"the tape has no further answer of {who} to this"
        near = [take for take in near if (take.asked.turn, take.asked.step) == (wanted.turn, wanted.step)]
        if not near:
            return f"when it was recorded, {who} was not asked here"
        closest = min((take.asked.differences(wanted) for take in near), key=len)
        return f"what {who} is shown has changed since the recording: {', '.join(closest) or 'the request'}"


def read_tape(path: Path) -> Tape:
    """A file, or all `*.jsonl` of a folder in the order of their names. A torn line at a file's end is passed over.

    Raises:
        TapeError: there is nothing to read, or a line is none of ours.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return Tape([take for file in files for take in _takes(file)], str(path))


def recording(provider: Provider, recorder: Recorder, scope: Scope) -> Provider:
    """The same provider, of which every call is written down."""
    return replace(
        provider,
        wire=_RecordingWire(provider, recorder, scope),
        render=lambda request: (asked(provider.name, provider.model, request), provider.render(request)),
    )


def replaying(provider: Provider, tape: Tape, scope: Scope) -> Provider:
    """A provider of the same name, model and abilities that only knows the tape. It opens no connection."""
    return replace(
        provider,
        wire=_ReplayingWire(tape, scope, provider.wire),
        render=lambda request: asked(provider.name, provider.model, request),
        classify=lambda error: ModelError(str(error)),
        raises=(),
        probe=_is_there,
    )


class _RecordingWire:
    def __init__(self, provider: Provider, recorder: Recorder, scope: Scope) -> None:
        self._provider = provider
        self._recorder = recorder
        self._scope = scope

    async def stream(self, payload: tuple[Asked, Any], *, deadline_s: float) -> AsyncIterator[Chunk]:
        what, rendered = payload
        chunks: list[Chunk] = []
        error: ModelError | None = None
        given_up = True
        began = time.perf_counter()
        stream = cast(AsyncGenerator[Chunk, None], self._provider.wire.stream(rendered, deadline_s=deadline_s))
        try:
            async with aclosing(stream) as arriving:
                async for chunk in arriving:
                    chunks.append(chunk)
                    yield chunk
            given_up = False
        except ModelError as raised:
            error, given_up = raised, False
            raise
        except self._provider.raises as raised:
            error, given_up = self._provider.classify(raised), False
            raise
        finally:
            told = _error_to_json(error) if error else None
            seconds = time.perf_counter() - began
            self._recorder.add(Take(self._scope(), what, tuple(chunks), told, given_up, seconds))

    async def close(self) -> None:
        await self._provider.wire.close()


class _ReplayingWire:
    def __init__(self, tape: Tape, scope: Scope, unused: Wire) -> None:
        self._tape = tape
        self._scope = scope
        self._unused = unused

    async def stream(self, payload: Asked, *, deadline_s: float) -> AsyncIterator[Chunk]:
        take = self._tape.next(self._scope(), payload)
        for chunk in take.chunks:
            yield chunk
        if take.error is not None:
            raise _error_from_json(take.error)
        if take.given_up:
            raise ModelTimeout(f"when it was recorded, this call was given up after {take.seconds:.1f} s")

    async def close(self) -> None:
        await self._unused.close()


async def _is_there() -> Probe:
    return Probe(True, "answers from a tape")


def _takes(file: Path) -> Sequence[Take]:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise TapeError(f"{file} cannot be read: {error.strerror}") from error
    takes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            takes.append(Take.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not isinstance(error, KeyError):
                continue  # whoever wrote it was killed
            raise TapeError(f"{file}, line {number}: no recorded call ({error!r})") from error
    return takes


def _chunk_to_json(chunk: Chunk) -> JsonObject:
    return {"kind": type(chunk).__name__.lower(), **asdict(chunk)}


def _chunk_from_json(body: JsonObject) -> Chunk:
    fields = {name: value for name, value in body.items() if name != "kind"}
    if body["kind"] == "call":
        return Call(ToolCall(**fields["call"]), fields["error"])
    return KINDS[body["kind"]](**fields)


def _error_to_json(error: ModelError) -> JsonObject:
    told = {"class": type(error).__name__, "message": str(error)}
    return told | ({"retry_after_s": error.retry_after_s} if isinstance(error, ModelBusy) else {})


def _error_from_json(body: JsonObject) -> ModelError:
    """The same error again; one whose class is gone becomes a plain `ModelError`."""
    kind = _known().get(body["class"], ModelError)
    if issubclass(kind, ModelBusy):
        return kind(body["message"], retry_after_s=body.get("retry_after_s"))
    return kind(body["message"])


def _known(parent: type[ModelError] = ModelError) -> dict[str, type[ModelError]]:
    found = {parent.__name__: parent}
    for child in parent.__subclasses__():
        found |= _known(child)
    return found
