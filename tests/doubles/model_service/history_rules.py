"""What each provider refuses in the history it is given: pure functions, an empty list when all is well.

The rules are those the providers state or were seen to apply; where one is lenient on some models and strict on
others, the strict one stands here. The messages name the place as the provider does, in words near to its own.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CONVERSE_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]+")
SESSION_ID = re.compile(r"[0-9a-zA-Z._:-]{2,100}")
# Some models take 64 by now, and some no limit at all; the smallest one is safe everywhere.
OPENAI_ID_LENGTH = 40
CACHE_POINTS = 4

Body = Mapping[str, Any]


def signature_of(wire: str, model: str, reasoning: str) -> str:
    """The signature that the server of this wire puts under a model's reasoning."""
    return "sig-" + hashlib.sha256(f"{wire}/{model}/{reasoning}".encode()).hexdigest()


# --- OpenAI ---------------------------------------------------------------------------------------------------------


def check_openai(body: Body) -> list[str]:
    """Chat Completions: every call answered right after it, nothing empty, ids and names of the right form."""
    messages = body.get("messages")
    if not isinstance(body.get("model"), str) or not body["model"]:
        return ["you must provide a model parameter"]
    if not isinstance(messages, list) or not messages:
        return ["Invalid 'messages': empty array. Expected an array with minimum length 1."]
    problems = list(_openai_options(body))
    for n, message in enumerate(messages):
        problems += _openai_message(n, message)
    return problems or list(_openai_pairing(messages))


def _openai_options(body: Body) -> Iterator[str]:
    tools = body.get("tools")
    if tools == []:
        yield "Invalid 'tools': empty array. Expected an array with minimum length 1."
    for n, tool in enumerate(tools or ()):
        if not NAME.fullmatch(tool.get("function", {}).get("name") or ""):
            yield _openai_pattern(f"tools[{n}].function.name")
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in body and not tools:
            yield f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."


def _openai_message(n: int, message: Body) -> Iterator[str]:
    role, content, at = message.get("role"), message.get("content"), f"messages[{n}]"
    if role not in ("system", "developer", "user", "assistant", "tool"):
        yield f"Invalid value: {role!r}. Supported values are: 'system', 'assistant', 'user', 'tool', 'developer'."
        return
    calls = message.get("tool_calls")
    if role == "assistant":
        if calls == []:
            yield f"Invalid '{at}.tool_calls': empty array. Expected an array with minimum length 1."
        if not calls and content in (None, "", []):
            yield f"Invalid value for 'content': expected a string, got null. ({at})"
        yield from _openai_calls(at, calls or ())
        return
    if calls is not None:
        yield f"Invalid '{at}': 'tool_calls' belongs to the role 'assistant'."
    if not isinstance(content, (str, list)) or content == []:
        yield f"Invalid value for 'content': expected a string, got {_kind(content)}. ({at})"
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield f"Missing required parameter: '{at}.tool_call_id'."


def _openai_calls(at: str, calls: Sequence[Body]) -> Iterator[str]:
    seen: set[str] = set()
    for n, call in enumerate(calls):
        where, call_id, function = f"{at}.tool_calls[{n}]", call.get("id"), call.get("function") or {}
        if call.get("type") != "function":
            yield f"Missing required parameter: '{where}.type'."
        if not isinstance(call_id, str) or not call_id:
            yield f"Missing required parameter: '{where}.id'."
        elif len(call_id) > OPENAI_ID_LENGTH:
            yield (
                f"Invalid '{where}.id': string too long. Expected a string with maximum length {OPENAI_ID_LENGTH}, "
                f"but got a string with length {len(call_id)} instead."
            )
        elif call_id in seen:
            yield f"Duplicate value for 'tool_call_id' of '{call_id}' in {at}."
        seen.add(str(call_id))
        if not NAME.fullmatch(function.get("name") or ""):
            yield _openai_pattern(f"{where}.function.name")
        if not isinstance(function.get("arguments"), str):
            kind = _kind(function.get("arguments"))
            yield f"Invalid type for '{where}.function.arguments': expected a string, but got {kind} instead."


def _openai_pattern(where: str) -> str:
    return (
        f"Invalid '{where}': string does not match pattern. Expected a string that matches '^[a-zA-Z0-9_-]{{1,64}}$'."
    )


def _openai_pairing(messages: Sequence[Body]) -> Iterator[str]:
    open_ids: set[str] = set()
    for n, message in enumerate([*messages, {"role": "end"}]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                yield (
                    f"Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    f"'tool_calls'. (messages[{n}])"
                )
            open_ids.discard(message["tool_call_id"])
            continue
        if open_ids:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. These have no response: {', '.join(sorted(open_ids))}"
            )
        open_ids = {call["id"] for call in message.get("tool_calls") or ()}


# --- Ollama ---------------------------------------------------------------------------------------------------------


def check_ollama(body: Body) -> list[str]:
    """Ollama decodes into fixed types and is lenient otherwise: results need no ids, and `tool_name` may be there."""
    if not body.get("model"):
        return ["model is required"]
    field = "json: cannot unmarshal {} into Go struct field ChatRequest.messages.{}"
    problems: list[str] = []
    for message in body.get("messages") or ():
        if message.get("role") not in ("system", "user", "assistant", "tool"):
            problems.append(f"invalid role: {message.get('role')!r}")
        if not isinstance(message.get("content"), (str, type(None))):
            problems.append(field.format(_kind(message["content"]), "content of type string"))
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            if not isinstance(function.get("arguments"), dict):
                where = "tool_calls.function.arguments of type api.ToolCallFunctionArguments"
                problems.append(field.format(_kind(function.get("arguments")), where))
            if not isinstance(function.get("name"), str) or not function["name"]:
                problems.append("a tool call has no function name")
    return problems


# --- Bedrock Converse -----------------------------------------------------------------------------------------------


def check_converse(body: Body, model: str, issued: Collection[str] = ()) -> list[str]:
    """Converse: roles alternate, every `toolUse` has one `toolResult` in the very next message, nothing is blank.

    Args:
        model: The model id of the path; its reasoning comes back with its own signatures.
        issued: Further signatures that were handed out.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return ["The messages field must not be empty."]
    problems = list(_converse_options(body, messages))
    for n, message in enumerate(messages):
        problems += _converse_message(n, message, model, issued)
    return problems or list(_converse_order(body, messages))


def _converse_options(body: Body, messages: Sequence[Body]) -> Iterator[str]:
    config = body.get("toolConfig")
    uses_tools = any("toolUse" in block or "toolResult" in block for block in _all_blocks(messages))
    if uses_tools and not config:
        yield "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    tools = (config or {}).get("tools")
    if config is not None and not tools:
        yield "The tools field of toolConfig must have at least one member."
    names = [tool["toolSpec"].get("name") or "" for tool in tools or () if "toolSpec" in tool]
    for n, name in enumerate(names):
        if not NAME.fullmatch(name):
            yield (
                f"1 validation error detected: Value {name!r} at 'toolConfig.tools.{n + 1}.member.toolSpec.name' "
                "failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"
            )
    for n, tool in enumerate(tools or ()):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})
        if schema.get("type") != "object":
            yield f"The value at toolConfig.tools.{n}.toolSpec.inputSchema.json.type must be: object."
    for name, times in Counter(names).items():
        if times > 1:
            yield f"The tool name {name} is there {times} times in toolConfig; names must be unique."
    for n, part in enumerate(body.get("system") or ()):
        if "text" in part and not part["text"].strip():
            yield f"The text field in the system content at system.{n} is blank. Add text to it, and try again."
    points = [block for block in (*_all_blocks(messages), *(body.get("system") or ())) if "cachePoint" in block]
    points += [tool for tool in tools or () if "cachePoint" in tool]
    if len(points) > CACHE_POINTS:
        yield f"A maximum of {CACHE_POINTS} cache points is allowed, found {len(points)}."


def _converse_message(n: int, message: Body, model: str, issued: Collection[str]) -> Iterator[str]:
    role, content, at = message.get("role"), message.get("content"), f"messages.{n}"
    if role not in ("user", "assistant"):
        yield f"Value {role!r} at '{at}.role' failed to satisfy constraint: must be one of [user, assistant]"
        return
    if not isinstance(content, list) or not content:
        yield f"The content field in the Message object at {at} is empty. Add a ContentBlock object, and try again."
        return
    for m, block in enumerate(content):
        where = f"{at}.content.{m}"
        if len(block) != 1:
            yield f"The ContentBlock object at {where} must set exactly one member, found {len(block)}."
            continue
        ((kind, value),) = block.items()
        match kind:
            case "text":
                if not isinstance(value, str) or not value.strip():
                    yield f"The text field in the ContentBlock object at {where} is blank. Add text, and try again."
            case "toolUse":
                yield from _converse_use(role, where, value)
            case "toolResult":
                yield from _converse_result(role, where, value)
            case "reasoningContent":
                yield from _converse_reasoning(role, where, value, model, issued)
    if role == "user":
        kinds = [next(iter(block)) for block in content]
        if "toolResult" in kinds and "text" in kinds[: len(kinds) - kinds[::-1].index("toolResult")]:
            yield f"toolResult blocks must come before text at {at}.content."


def _converse_use(role: str, where: str, value: Body) -> Iterator[str]:
    if role != "assistant":
        yield f"The toolUse block at {where} is only allowed in a message of the assistant."
    if not isinstance(value.get("input"), dict):
        yield f"The format of the value at {where}.toolUse.input is invalid. Provide a json object for the field."
    yield from _converse_constraint(f"{where}.toolUse.toolUseId", value.get("toolUseId"), CONVERSE_ID)
    yield from _converse_constraint(f"{where}.toolUse.name", value.get("name"), NAME)


def _converse_result(role: str, where: str, value: Body) -> Iterator[str]:
    if role != "user":
        yield f"The toolResult block at {where} is only allowed in a message of the user."
    yield from _converse_constraint(f"{where}.toolResult.toolUseId", value.get("toolUseId"), CONVERSE_ID)
    content = value.get("content")
    if not isinstance(content, list) or not content:
        yield f"The content field in the ToolResultBlock object at {where}.toolResult is empty."
        return
    for n, part in enumerate(content):
        if "text" in part and not part["text"].strip():
            yield f"The text field in the ToolResultContentBlock at {where}.toolResult.content.{n} is blank."
        if "json" in part and not isinstance(part["json"], dict):
            yield f"The format of the value at {where}.toolResult.content.{n}.json is invalid. Provide a json object."
    if value.get("status", "success") not in ("success", "error"):
        yield f"The value at {where}.toolResult.status must be one of: success, error."


def _converse_constraint(where: str, value: Any, pattern: re.Pattern[str]) -> Iterator[str]:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        yield (
            f"1 validation error detected: Value {value!r} at '{where}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern.pattern}"
        )


def _converse_reasoning(role: str, where: str, value: Body, model: str, issued: Collection[str]) -> Iterator[str]:
    if role != "assistant":
        yield f"The reasoningContent block at {where} is only allowed in a message of the assistant."
    said = value.get("reasoningText")
    if said is None:
        yield f"The redacted content at {where}.reasoningContent was not made by this model."
    elif not said.get("signature"):
        yield f"The signature field at {where}.reasoningContent.reasoningText is required."
    elif said["signature"] not in (signature_of("bedrock", model, said.get("text") or ""), *issued):
        yield f"{where}: Invalid `signature` in `thinking` block"


def _converse_order(body: Body, messages: Sequence[Body]) -> Iterator[str]:
    if messages[0]["role"] != "user":
        yield "A conversation must start with a user message. Try again with a conversation that does."
    if messages[-1]["role"] != "user":
        yield "This model does not take a prefilled answer. The conversation must end with a user message."
    for n, (before, after) in enumerate(pairwise(messages), 1):
        if before["role"] == after["role"]:
            yield f"A conversation must alternate between user and assistant roles. (messages.{n})"
    known: set[str] = set()
    for n, message in enumerate(messages):
        asked = [b["toolUse"]["toolUseId"] for b in message["content"] if "toolUse" in b]
        if repeated := _repeated(asked, known):
            yield f"The toolUse blocks at messages.{n}.content contain duplicate Ids: {', '.join(repeated)}"
        known.update(asked)
        previous = messages[n - 1]["content"] if n else ()
        wanted = [b["toolUse"]["toolUseId"] for b in previous if "toolUse" in b]
        given = [b["toolResult"]["toolUseId"] for b in message["content"] if "toolResult" in b]
        if missing := [tool_id for tool_id in wanted if tool_id not in given]:
            yield f"Expected toolResult blocks at messages.{n}.content for the following Ids: {', '.join(missing)}"
        if len(given) > len(wanted):
            yield (
                f"The number of toolResult blocks at messages.{n}.content exceeds the number of toolUse blocks of "
                "previous turn."
            )
        elif extra := [tool_id for tool_id in given if tool_id not in wanted] + _repeated(given, set()):
            yield f"Unexpected toolResult blocks at messages.{n}.content for the Ids: {', '.join(extra)}"
    thinking = (body.get("additionalModelRequestFields") or {}).get("thinking") or {}
    if thinking.get("type") == "enabled" and _lacks_thinking(messages, "toolUse", "reasoningContent"):
        yield _THINKING_FIRST


# --- Anthropic Messages ---------------------------------------------------------------------------------------------

_THINKING_FIRST = (
    "Expected `thinking` or `redacted_thinking`, but found another block. When `thinking` is enabled, a final "
    "`assistant` message must start with a thinking block."
)


def check_anthropic(body: Body, issued: Collection[str] = ()) -> list[str]:
    """Messages: as Converse in its own form; neighbours of one role count as one message."""
    if not body.get("model"):
        return ["model: Field required"]
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return ["messages: at least one message is required"]
    problems = list(_anthropic_options(body, messages))
    for n, message in enumerate(messages):
        problems += _anthropic_message(n, message, body["model"], issued)
    return problems or list(_anthropic_order(body, messages))


def _anthropic_options(body: Body, messages: Sequence[Body]) -> Iterator[str]:
    limit, thinking = body.get("max_tokens"), body.get("thinking") or {}
    if not isinstance(limit, int):
        yield "max_tokens: Field required"
    elif thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens", 0)
        if budget < 1024:
            yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if budget >= limit:
            yield "`max_tokens` must be greater than `thinking.budget_tokens`."
        if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
            yield "Thinking may not be enabled when tool_choice forces tool use."
        if body.get("temperature", 1) != 1:
            yield "`temperature` may only be set to 1 when thinking is enabled."
    blocks = [block for block in _all_blocks(messages) if block.get("type") in ("tool_use", "tool_result")]
    if blocks and not body.get("tools"):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools"
    for n, tool in enumerate(body.get("tools") or ()):
        if not NAME.fullmatch(tool.get("name") or ""):
            yield f"tools.{n}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
        if "type" not in tool and tool.get("input_schema", {}).get("type") != "object":
            yield f"tools.{n}.custom.input_schema.type: Input should be 'object'"
    if body.get("tool_choice") and not body.get("tools"):
        yield "tool_choice: may only be specified while providing tools"
    system = body.get("system")
    parts = system if isinstance(system, list) else []
    if any(part.get("type") == "text" and not (part.get("text") or "").strip() for part in parts):
        yield "system: text content blocks must be non-empty"
    marked = [part for part in (*_all_blocks(messages), *parts, *(body.get("tools") or ())) if "cache_control" in part]
    if len(marked) > CACHE_POINTS:
        yield f"A maximum of {CACHE_POINTS} blocks with cache_control may be provided. Found {len(marked)}."


def _anthropic_message(n: int, message: Body, model: str, issued: Collection[str]) -> Iterator[str]:
    role, content, at = message.get("role"), message.get("content"), f"messages.{n}"
    if role not in ("user", "assistant"):
        yield f"messages: Unexpected role {role!r}. Allowed roles are 'user' or 'assistant'."
        return
    if not content:
        yield f"{at}: all messages must have non-empty content except for the optional final assistant message"
        return
    if isinstance(content, str):
        if not content.strip():
            yield f"{at}: text content blocks must contain non-whitespace text"
        return
    for m, block in enumerate(content):
        where, kind = f"{at}.content.{m}", block.get("type")
        if kind in ("tool_use", "thinking", "redacted_thinking") and role == "user":
            yield f"{at}: `{kind}` blocks can only be in `assistant` messages"
        match kind:
            case "text":
                if not (block.get("text") or "").strip():
                    yield f"{at}: text content blocks must be non-empty"
            case "tool_use":
                if not isinstance(block.get("input"), dict):
                    yield f"{where}.tool_use.input: Input should be a valid dictionary"
                if not ANTHROPIC_ID.fullmatch(block.get("id") or ""):
                    yield f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
                if not NAME.fullmatch(block.get("name") or ""):
                    yield f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            case "tool_result":
                yield from _anthropic_result(role, at, where, block)
            case "thinking":
                valid = signature_of("anthropic", model, block.get("thinking") or "")
                if block.get("signature") not in (valid, *issued):
                    yield f"{where}: Invalid `signature` in `thinking` block"
            case "redacted_thinking":
                yield f"{where}: Invalid `data` in `redacted_thinking` block"
            case "image" | "document" | "search_result":
                pass
            case _:
                yield f"{where}: Input tag {kind!r} does not match any of the expected tags"
    kinds = [block.get("type") for block in content]
    if "tool_result" in kinds and "text" in kinds[: len(kinds) - kinds[::-1].index("tool_result")]:
        yield f"{at}: `tool_result` blocks must come before other content"


def _anthropic_result(role: str, at: str, where: str, block: Body) -> Iterator[str]:
    if role == "assistant":
        yield f"{at}: `tool_result` blocks can only be in `user` messages"
    if not ANTHROPIC_ID.fullmatch(block.get("tool_use_id") or ""):
        yield f"{where}.tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    content = block.get("content")
    if block.get("is_error") and not content:
        yield f"{where}.tool_result: content cannot be empty if `is_error` is true"
    if isinstance(content, list) and any(
        p.get("type") == "text" and not (p.get("text") or "").strip() for p in content
    ):
        yield f"{at}: text content blocks must be non-empty"


def _anthropic_order(body: Body, messages: Sequence[Body]) -> Iterator[str]:
    joined = _joined(messages)
    if joined[0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    if joined[-1]["role"] != "user":
        yield "This model does not support assistant message prefill. The conversation must end with a user message."
    known: set[str] = set()
    for n, message in enumerate(joined):
        asked = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if _repeated(asked, known):
            yield f"messages.{n}: `tool_use` ids must be unique"
        known.update(asked)
        before = joined[n - 1]["content"] if n else ()
        wanted = [block["id"] for block in before if block["type"] == "tool_use"]
        given = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if missing := [tool_id for tool_id in wanted if tool_id not in given]:
            yield (
                f"messages.{n - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding one in the next message."
            )
        if extra := [tool_id for tool_id in given if tool_id not in wanted]:
            yield (
                f"messages.{n}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(extra)}. Each must "
                "have a corresponding `tool_use` block in the previous message."
            )
        elif _repeated(given, set()):
            yield f"messages.{n}: each tool_use must have a single result. Found multiple `tool_result` blocks."
    if (body.get("thinking") or {}).get("type") == "enabled" and _lacks_thinking(joined, "tool_use", "thinking"):
        yield _THINKING_FIRST


def _joined(messages: Sequence[Body]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"] += blocks
        else:
            joined.append({"role": message["role"], "content": blocks})
    return joined


# --- InvokeAgent ----------------------------------------------------------------------------------------------------


def check_invoke_agent(
    body: Body, path: Mapping[str, str], waiting: Sequence[Body] = (), waits_for: str = ""
) -> list[str]:
    """InvokeAgent: a session id of the right form; results only for the inputs of the return of control that waits.

    Args:
        path: `agent`, `alias` and `session` of the path.
        waiting: The `invocationInputs` that this session was given last; `waits_for` is their invocation id.
    """
    problems: list[str] = []
    if not SESSION_ID.fullmatch(path["session"]):
        problems.append("Value at 'sessionId' failed to satisfy constraint: [0-9a-zA-Z._:-]{2,100}")
    for name in ("agent", "alias"):
        if not re.fullmatch(r"[0-9a-zA-Z]{1,10}", path[name]):
            problems.append(f"Value at '{name}Id' failed to satisfy constraint: [0-9a-zA-Z]{{1,10}}")
    state = body.get("sessionState") or {}
    results = state.get("returnControlInvocationResults")
    if results is None:
        if not body.get("inputText") and not body.get("endSession"):
            problems.append("inputText is required when there are no results of a return of control")
        return problems
    if not 1 <= len(results) <= 5:
        problems.append("returnControlInvocationResults must have 1 to 5 members")
    if not waits_for or state.get("invocationId") != waits_for:
        problems.append("The invocationId is not that of the return of control that waits in this session.")
        return problems
    asked = Counter(_function(one["functionInvocationInput"]) for one in waiting)
    given = Counter(_function(one.get("functionResult") or {}) for one in results)
    if asked != given:
        problems.append(f"Results are needed for {sorted(asked)}, and came for {sorted(given)}.")
    return problems


def _function(one: Body) -> str:
    return f"{one.get('actionGroup')}/{one.get('function')}"


# --- shared ---------------------------------------------------------------------------------------------------------


def _all_blocks(messages: Sequence[Body]) -> Iterator[Body]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from content


def _repeated(ids: Sequence[str], known: Collection[str]) -> list[str]:
    return [one for one, times in Counter(ids).items() if times > 1 or one in known]


def _lacks_thinking(messages: Sequence[Body], call: str, thought: str) -> bool:
    """Whether the last turn of the assistant calls tools and does not begin with its thoughts."""
    last: list[Body] = next(
        (message["content"] for message in reversed(messages) if message["role"] == "assistant"), []
    )
    kinds = [block.get("type") or next(iter(block)) for block in last]
    return call in kinds and kinds[0] != thought


def _kind(value: Any) -> str:
    names = {str: "string", list: "array", dict: "object", type(None): "null", bool: "bool", int: "number"}
    return names.get(type(value), "number")
