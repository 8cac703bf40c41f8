"""Tool calls that a model printed as text, in the dialects that models fall into.

XML blocks (`<tool_call>{…}</tool_call>`, `<function=name>…`, `<invoke name="…">…`, keys and values in tags), JSON
objects (fenced or bare), a name and an object with a model's control tokens between them (Mistral, DeepSeek, Kimi,
gpt-oss), Python calls (`name(arg="x")`, `[name(…), name(…)]`), `call:name{…}` and "Action: … Action Input: …". Reading
is pure and never guesses: what is not a whole call of a known tool is no call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson

from agent.transcript import JsonObject

Found = tuple[str, JsonObject]
Span = tuple[int, int, list[Found]]
# Characters that are gone over in search of closing braces; a text of braces alone is no call.
MAX_SCANNED = 200_000
MAX_BEFORE = 120

_TAG = (
    r"</?(?:\w+:)?(?:__|start_|end_|[|｜]DSML[|｜])?(?:tool|function|invoke|parameter|arg|action|python|call)[\w:.-]*"
    r"(?:[\s=>/|]|$)"
)
_MARK = r"<[|｜][^>\n]{0,40}>"
_NAMED_BLOCK = re.compile(
    r"<(?:\w+:)?(?:invoke|function|tool|tool_use|tool_call)(?:=|\s+name=)[\"']?([\w.-]+)[\"']?[^>]*>"
    r"(.*?)(?:</(?:\w+:)?(?:invoke|function|tool|tool_use|tool_call)>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_PARAMETER = re.compile(
    r"<(?:\w+:)?(?:parameter|arg)(?:=|\s+name=)[\"']?([\w.-]+)[\"']?[^>]*>(.*?)"
    r"(?:</(?:\w+:)?(?:parameter|arg)>|(?=<(?:\w+:)?(?:parameter|arg)(?:=|\s+name=)))",
    re.DOTALL | re.IGNORECASE,
)
_PARAMETER_BEGINS = re.compile(r"<(?:\w+:)?(?:parameter|arg)(?:=|\s+name=)", re.IGNORECASE)
_BEFORE_NAME = re.compile(
    rf"(?:(?:{_MARK}|assistant|analysis|commentary|\s)*to=|function{_MARK}|>>>\s*)?(?:functions\.)?\Z"
)
# What some dialects put into every tag.
_DECORATION = re.compile(r"(</?)(?:[|｜]DSML[|｜]|__)(?=[a-z])", re.IGNORECASE)
_KEYS_AND_VALUES = re.compile(
    r"<tool_call>\s*([\w.-]+)\s*((?:<arg_key>[^<>]*</arg_key>\s*<arg_value>(?:(?!</?arg_).)*</arg_value>\s*)*)</tool_call>",
    re.DOTALL,
)
_KEY_AND_VALUE = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_PAIR = r"[\w.-]+:(?:<escape>(?:(?!<escape>).)*<escape>|<\|\"\|>(?:(?!<\|\"\|>).)*<\|\"\|>|[^,{}<]*)"
_PAIR_PARTS = re.compile(r"([\w.-]+):(?:(<escape>|<\|\"\|>)(.*?)\2|([^,{}<]*))", re.DOTALL)
_CALL_OF_PAIRS = re.compile(rf"call:([\w.-]+)\{{((?:{_PAIR}(?:,|(?=\}})))*)\}}", re.DOTALL)
_REACT = re.compile(r"Action:\s*([\w.-]+)\s*\n?\s*Action Input:\s*(?=\{)", re.IGNORECASE)
_NAME_KEYS = ("name", "tool", "tool_name", "function", "action", "recipient_name")
_ARGS_KEYS = ("arguments", "parameters", "args", "input", "action_input", "params")
_DEBRIS = re.compile(rf"{_TAG}[^>]*>?|<[|｜][^>\n]*>|```\w*|\[/?TOOL_CALLS\]|functools", re.IGNORECASE)
_BRACKETS = re.compile(r"^[ \t]*[\[\](),;]+[ \t]*$", re.MULTILINE)


# Whatever `trigger` finds holds one of these characters; plain sentences hold none, and are told apart much quicker.
MARKS = re.compile(r"[<`{\[(:>=]")


@lru_cache(maxsize=64)
def trigger(names: tuple[str, ...]) -> re.Pattern[str]:
    """Where text may turn into tool syntax: from here on it is held back."""
    called = "|".join(re.escape(name) for name in names) or r"(?!)"
    return re.compile(
        rf"{_TAG}|<[|｜]|```|(?:\b(?:{called})\s*)?\{{\s*(?:[\"'\w]|$)|\[\s*(?:\{{|/?TOOL_CALLS|(?:{called})\s*\(|$)"
        rf"|\bfunctools\[|\b(?:{called})(?:\.call)?\s*[\[(]|>>>\s*(?:{called})\b|\bAction:\s*(?:{called})\b"
        rf"|\b(?:(?:assistant|analysis|commentary)\s*){{0,3}}to=functions\b|\bcall:(?:{called})\b|\btool_code\b",
        re.IGNORECASE,
    )


def read_calls(text: str, names: Sequence[str]) -> tuple[list[Found], str]:
    """The whole calls of known tools in a text, in order, and what remains of the text without them."""
    spans: list[Span] = []
    text = _DECORATION.sub(r"\1", text)
    readers = (
        _named_blocks(text),
        _keys_and_values(text),
        _calls_of_pairs(text),
        _react(text),
        _named_objects(text, names),
        _json_calls(text, names),
        _python_calls(text, names),
    )
    for start, end, calls in chain.from_iterable(readers):
        known = [call for call in calls if call[0] in names]
        if known and not any(s < end and start < e for s, e, _ in spans):
            spans.append((start, end, known))
    spans.sort(key=lambda span: span[0])
    rest, at = [], 0
    for start, end, _ in spans:
        rest.append(text[at:start])
        at = end
    rest.append(text[at:])
    remainder = "".join(rest)
    if spans:
        remainder = _BRACKETS.sub("", _DEBRIS.sub("", remainder))
    return [call for _, _, calls in spans for call in calls], remainder


def _named_blocks(text: str) -> Iterator[Span]:
    for block in _NAMED_BLOCK.finditer(text):
        given: JsonObject = {m[1]: _literal(m[2].strip()) for m in _PARAMETER.finditer(block[2])}
        if len(given) < len(_PARAMETER_BEGINS.findall(block[2])):
            continue  # the last one is cut off
        if not given and (body := block[2].strip()):
            given = _object(body) or {}
            given = next((given[k] for k in _ARGS_KEYS if isinstance(given.get(k), dict)), given)
        yield block.start(), block.end(), [(block[1], given)]


def _keys_and_values(text: str) -> Iterator[Span]:
    for match in _KEYS_AND_VALUES.finditer(text):
        given = {m[1].strip(): _literal(m[2].strip()) for m in _KEY_AND_VALUE.finditer(match[2])}
        yield match.start(), match.end(), [(match[1], given)]


def _calls_of_pairs(text: str) -> Iterator[Span]:
    for match in _CALL_OF_PAIRS.finditer(text):
        pairs = _PAIR_PARTS.findall(match[2])
        given = {key: text if quote else _literal(bare.strip()) for key, quote, text, bare in pairs}
        yield match.start(), match.end(), [(match[1], given)]


@lru_cache(maxsize=64)
def _name_before_object(names: tuple[str, ...]) -> re.Pattern[str]:
    """A known name, what a model's control tokens put after it, and then the arguments."""
    called = "|".join(re.escape(name) for name in names)
    return re.compile(rf"(?<![\w\"'])({called})(?::\d+)?(?:\s|{_MARK}|\[ARGS\]|\[CALL_ID\]\w+|```\w*|json\b)*(?=\{{)")


def _named_objects(text: str, names: Sequence[str]) -> Iterator[Span]:
    if not names:
        return
    scanned = 0
    for match in _name_before_object(tuple(names)).finditer(text):
        end = _balanced(text, match.end(), "{", "}")
        scanned += (end or len(text)) - match.end()
        if scanned > MAX_SCANNED:
            return
        if end and (given := _object(text[match.end() : end])) is not None:
            before = _BEFORE_NAME.search(text, max(0, match.start() - MAX_BEFORE), match.start())
            yield before.start() if before else match.start(), end, [(match[1], given)]


def _react(text: str) -> Iterator[Span]:
    for match in _REACT.finditer(text):
        end = _balanced(text, match.end(), "{", "}")
        if end and (given := _object(text[match.end() : end])) is not None:
            yield match.start(), end, [(match[1], given)]


def _json_calls(text: str, names: Sequence[str]) -> Iterator[Span]:
    at, scanned = text.find("{"), 0
    while at >= 0 and scanned <= MAX_SCANNED:
        end = _balanced(text, at, "{", "}")
        scanned += (end or len(text)) - at
        body = _object(text[at:end]) if end else None
        calls = list(_calls_in(body, names)) if body is not None else []
        if end and calls:
            yield at, end, calls
        at = text.find("{", end if calls and end else at + 1)


def _calls_in(body: Any, names: Sequence[str]) -> Iterator[Found]:
    """Calls in one JSON value, whichever wrapper it has."""
    if isinstance(body, list):
        for each in body:
            yield from _calls_in(each, names)
        return
    if not isinstance(body, dict):
        return
    for wrapper in ("tool_calls", "calls", "tools", "tool_uses"):
        if isinstance(body.get(wrapper), list):
            yield from _calls_in(body[wrapper], names)
            return
    inner = body.get("function")
    if isinstance(inner, dict):
        yield from _calls_in(inner, names)
        return
    name = next((body[k] for k in _NAME_KEYS if isinstance(body.get(k), str)), None)
    if name is None:
        # {"name": {…}}
        yield from (
            (key, given) for key, given in body.items() if len(body) == 1 and key in names and _is_object(given)
        )
        return
    given: Any = next((body[k] for k in _ARGS_KEYS if k in body), {})
    if isinstance(given, str):
        given = _object(given)
    if isinstance(given, dict):
        yield name.removeprefix("functions."), given


def _python_calls(text: str, names: Sequence[str]) -> Iterator[Span]:
    if not names:
        return
    called = "|".join(map(re.escape, names))
    for match in re.finditer(rf"(print\(\s*)?(?:default_api\.|\b)({called})(?:\.call)?\s*(?=\()", text):
        end = _balanced(text, match.end(), "(", ")")
        if end is None:
            continue
        try:
            call = ast.parse(text[match.start(2) : end], mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                continue
            given = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if match[1] and (closing := re.compile(r"\s*\)").match(text, end)):
            end = closing.end()
        yield match.start(), end, [(match[2], given)]


def _balanced(text: str, start: int, opening: str, closing: str) -> int | None:
    """Index after the bracket that closes the one at `start`, heeding quoted strings; None when it stays open."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char == '"' or (char == "'" and opening == "("):
            quote = char
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return None


def _object(text: str) -> JsonObject | None:
    start = text.find("{")
    end = _balanced(text, start, "{", "}") if start >= 0 else None
    if end is None:
        return None
    try:
        body = orjson.loads(text[start:end])
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _literal(text: str) -> Any:
    """A parameter's value: JSON where it is JSON (numbers stay text, ids look like numbers)."""
    if text[:1] in "[{" or text in ("true", "false", "null"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
