"""Defects of real servers, by name. Which wires have them, and what they do to a reply before a wire renders it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.doubles.model_service.script import Call, Reply, Wire


class Quirk(StrEnum):
    """One defect. The comment says what happens and where it was reported."""

    # The whole name again with every piece of arguments: NousResearch/hermes-agent#12230, CopilotKit/CopilotKit#1662.
    NAME_IN_EACH_PIECE = "name_in_each_piece"
    # The name twice in one, as proxies make it that add repeated names up: open-webui/open-webui#22177.
    NAME_DOUBLED = "name_doubled"
    # The name itself in two pieces, as Gemini does behind this API: continuedev/continue#5849.
    NAME_IN_PARTS = "name_in_parts"
    # The name alone, without `arguments`, and those in later pieces: vllm-project/vllm#9693.
    NAME_APART_FROM_ARGUMENTS = "name_apart_from_arguments"
    # Control tokens behind the name: vllm-project/vllm#32587.
    NAME_WITH_TOKENS = "name_with_tokens"
    # Parallel calls all at index 0: ollama/ollama#15457, ai-dynamo/dynamo#4723, InternLM/lmdeploy#3412.
    INDEX_ALL_ZERO = "index_all_zero"
    # No index at all: openai/openai-python#2806, ollama/ollama#7881, AstrBotDevs/AstrBot#6661.
    INDEX_MISSING = "index_missing"
    # No id: iOfficeAI/aionrs#99, anomalyco/opencode#25925, vllm-project/vllm#18412.
    ID_MISSING = "id_missing"
    # Null first, the real id with a later piece: Mintplex-Labs/anything-llm#5552.
    ID_LATE = "id_late"
    # One id for several calls: can1357/oh-my-pi#2055, HKUDS/nanobot#4473 (Messages), agno-agi/agno#2336 (Bedrock).
    ID_REPEATED = "id_repeated"
    # Longer than OpenAI takes back: earendil-works/pi#781, langgenius/dify#28987, microsoft/autogen#6377.
    ID_TOO_LONG = "id_too_long"
    # A character that Bedrock does not take back: earendil-works/pi#781.
    ID_ODD = "id_odd"
    # A form that Converse takes back and Messages does not: maximhq/bifrost#5097.
    ID_DOTTED = "id_dotted"
    # The id with every piece, so that a piece with an id need not begin a call: spring-projects/spring-ai#5973.
    ID_IN_EACH_PIECE = "id_in_each_piece"
    # Empty texts for id and name after the first piece: anomalyco/opencode#37841, InternLM/lmdeploy#3412.
    EMPTY_AFTER_FIRST = "call_empty_after_first"
    # An object in place of text: ggml-org/llama.cpp#20198, huggingface/text-generation-inference#2461.
    ARGUMENTS_AS_OBJECT = "arguments_as_object"
    # A piece ends inside a \u escape. No thread tells of it; it follows from pieces being cut by tokens.
    ARGUMENTS_SPLIT_IN_ESCAPE = "arguments_split_in_escape"
    # The end is missing, the stop reason says nothing of it: vllm-project/vllm#10781, #32152, #53269.
    ARGUMENTS_CUT_OFF = "arguments_cut_off"
    # No text where `{}` was meant: sigoden/aichat#1217, run-llama/llama_index#19084, microsoft/autogen#6979 (Bedrock).
    ARGUMENTS_EMPTY = "arguments_empty"
    # All of it once more at the end: vllm-project/vllm#10395, open-webui/open-webui#22235.
    ARGUMENTS_REPEATED = "arguments_repeated"
    # `<tool_call>{…}</tool_call>` in the text: vllm-project/vllm#47903, BerriAI/litellm#28596 (Converse).
    CALL_AS_TOOL_CALL_TAG = "call_as_tool_call_tag"
    # `<function_calls><invoke …>` in the text: langchain-ai/langchain-aws#521.
    CALL_AS_FUNCTION_CALLS = "call_as_function_calls"
    # `[name(key='value')]` in the text: vllm-project/vllm#22917, #56840.
    CALL_AS_PYTHONIC = "call_as_pythonic"
    # A fenced block of JSON: ollama/ollama#13519, openclaw/openclaw#53344.
    CALL_AS_JSON_FENCE = "call_as_json_fence"
    # Bare JSON with `parameters`: vllm-project/vllm#46890, #16214, sgl-project/sglang#3387.
    CALL_AS_JSON = "call_as_json"
    # Calls, and a stop reason without them: vllm-project/vllm#25054, maximhq/bifrost#5206 (Bedrock).
    STOP_WITH_CALLS = "stop_with_calls"
    # The stream ends without any stop reason: vllm-project/vllm#27572, openclaw/openclaw#4300.
    STOP_MISSING = "stop_missing"
    # A first chunk without choices: pydantic/pydantic-ai#164, langfuse/langfuse#2833.
    EMPTY_CHOICES = "empty_choices"
    # `delta` is null in the last chunk: microsoft/agent-framework#5734.
    DELTA_NULL = "delta_null"
    # No counts though they were asked for: vllm-project/vllm#7299, TheTom/vllm-swift#19.
    NO_USAGE = "no_usage"
    # Counts with every chunk, not to be added up: sgl-project/sglang#12241, open-webui/open-webui#29064.
    USAGE_IN_EVERY_CHUNK = "usage_in_every_chunk"
    # No `[DONE]`: ikawrakow/ik_llama.cpp#467.
    NO_DONE = "no_done"
    # Nor does the connection end: waybarrios/vllm-mlx#101, diegosouzapw/OmniRoute#6777.
    STAYS_OPEN = "stays_open"
    # Lines end in CR LF: farion1231/cc-switch#1787, hey-api/hey-api#3054.
    CRLF = "crlf"
    # No blank after `data:`: dataelement/Clawith#106, SamSaffron/term-llm#487.
    NO_SPACE = "no_space"
    # Comments as heartbeats: tmc/langchaingo#942, deepnoodle-ai/dive#206.
    COMMENT_LINES = "comment_lines"
    # The first chunk has a role and no content: the API allows it; awslabs/llmeter#17 fell over its like.
    ROLE_ONLY_FIRST = "role_only_first"
    # `content` is null beside other things: vllm-project/vllm-ascend#14501, triton-inference-server/perf_analyzer#386.
    NULL_CONTENT = "null_content"
    # `reasoning` in place of `reasoning_content`: vllm-project/vllm#27755, langgenius/dify-official-plugins#2740.
    REASONING_FIELD = "reasoning_field"
    # Thoughts in the text, between tags: langchain-ai/langchainjs#9726, vllm-project/vllm#45687.
    THINK_TAGS = "think_tags"
    # Thoughts in the text, with the closing tag only: vllm-project/vllm#13125.
    THINK_CLOSING_ONLY = "think_closing_only"
    # Newer Ollama gives ids and indexes, older ones do not: deepset-ai/haystack-core-integrations#3321.
    IDS_GIVEN = "ids_given"
    # Each call in a line of its own: BerriAI/litellm#11262.
    CALLS_APART = "calls_apart"
    # Text behind the calls: vllm-project/vllm#56263; on wires of blocks any order is allowed.
    TEXT_AFTER_CALLS = "text_after_calls"
    # The text in two blocks. No thread tells of it; the form allows it, and joining them is the client's business.
    TWO_TEXT_BLOCKS = "two_text_blocks"
    # Events that no client knows yet: anomalyco/opencode#13914, anomalyco/opencode#43767.
    UNKNOWN_EVENTS = "unknown_events"


Quirks = Collection[str]

_CHAT: tuple[Wire, ...] = ("openai",)
_TEXT: tuple[Wire, ...] = ("openai", "ollama", "bedrock", "anthropic")
_SSE: tuple[Wire, ...] = ("openai", "anthropic")
_BLOCKS: tuple[Wire, ...] = ("bedrock", "anthropic")
WIRES_OF: dict[Quirk, Sequence[Wire]] = {
    Quirk.NAME_IN_EACH_PIECE: _CHAT,
    Quirk.NAME_DOUBLED: _CHAT,
    Quirk.NAME_IN_PARTS: _CHAT,
    Quirk.NAME_APART_FROM_ARGUMENTS: _CHAT,
    Quirk.NAME_WITH_TOKENS: ("openai", "ollama"),
    Quirk.INDEX_ALL_ZERO: _CHAT,
    Quirk.INDEX_MISSING: _CHAT,
    Quirk.ID_MISSING: _CHAT,
    Quirk.ID_LATE: _CHAT,
    Quirk.ID_REPEATED: ("openai", "bedrock", "anthropic"),
    Quirk.ID_TOO_LONG: _CHAT,
    Quirk.ID_ODD: _CHAT,
    Quirk.ID_DOTTED: _CHAT,
    Quirk.ID_IN_EACH_PIECE: _CHAT,
    Quirk.EMPTY_AFTER_FIRST: _CHAT,
    Quirk.ARGUMENTS_AS_OBJECT: _CHAT,
    Quirk.ARGUMENTS_REPEATED: _CHAT,
    Quirk.ARGUMENTS_SPLIT_IN_ESCAPE: ("openai", "bedrock", "anthropic"),
    Quirk.ARGUMENTS_CUT_OFF: ("openai", "bedrock", "anthropic"),
    Quirk.ARGUMENTS_EMPTY: ("openai", "bedrock", "anthropic"),
    Quirk.CALL_AS_TOOL_CALL_TAG: _TEXT,
    Quirk.CALL_AS_FUNCTION_CALLS: _TEXT,
    Quirk.CALL_AS_PYTHONIC: _TEXT,
    Quirk.CALL_AS_JSON_FENCE: _TEXT,
    Quirk.CALL_AS_JSON: _TEXT,
    Quirk.STOP_WITH_CALLS: ("openai", "bedrock", "anthropic"),
    Quirk.STOP_MISSING: _CHAT,
    Quirk.EMPTY_CHOICES: _CHAT,
    Quirk.DELTA_NULL: _CHAT,
    Quirk.NO_USAGE: _TEXT,
    Quirk.USAGE_IN_EVERY_CHUNK: _CHAT,
    Quirk.NO_DONE: _CHAT,
    Quirk.STAYS_OPEN: _CHAT,
    Quirk.NO_SPACE: _CHAT,
    Quirk.CRLF: ("openai", "ollama", "anthropic"),
    Quirk.COMMENT_LINES: _SSE,
    Quirk.ROLE_ONLY_FIRST: _CHAT,
    Quirk.NULL_CONTENT: _CHAT,
    Quirk.REASONING_FIELD: _CHAT,
    Quirk.THINK_TAGS: _TEXT,
    Quirk.THINK_CLOSING_ONLY: _TEXT,
    Quirk.IDS_GIVEN: ("ollama",),
    Quirk.CALLS_APART: ("ollama",),
    Quirk.TEXT_AFTER_CALLS: _BLOCKS,
    Quirk.TWO_TEXT_BLOCKS: _BLOCKS,
    Quirk.UNKNOWN_EVENTS: ("bedrock", "anthropic", "bedrock-agent"),
}
_AS_TEXT = (
    Quirk.CALL_AS_TOOL_CALL_TAG,
    Quirk.CALL_AS_FUNCTION_CALLS,
    Quirk.CALL_AS_PYTHONIC,
    Quirk.CALL_AS_JSON_FENCE,
    Quirk.CALL_AS_JSON,
)
_PREFIXES = ("name_", "index_", "id_", "ids_", "call_", "calls_", "arguments_")
_NEED_CALLS = frozenset(quirk for quirk in Quirk if quirk.startswith(_PREFIXES)) | {
    Quirk.STOP_WITH_CALLS,
    Quirk.TEXT_AFTER_CALLS,
}
_NEED_TEXT = frozenset({Quirk.TWO_TEXT_BLOCKS, Quirk.TEXT_AFTER_CALLS})
_THINK = frozenset({Quirk.THINK_TAGS, Quirk.THINK_CLOSING_ONLY})
_NEED_REASONING = _THINK | {Quirk.REASONING_FIELD}


def refuse_senseless(quirks: Quirks, calls: Sequence[Call], has_text: bool, has_reasoning: bool) -> str | None:
    """Why these quirks cannot show in such a reply."""
    for names, there, what in (
        (_NEED_CALLS, bool(calls), "calls"),
        (_NEED_TEXT, has_text, "text"),
        (_NEED_REASONING, has_reasoning, "reasoning"),
    ):
        if not there and (useless := sorted(names.intersection(quirks))):
            return f"quirk {useless[0]!r} needs a reply with {what}"
    if len([name for name in _AS_TEXT if name in quirks]) > 1:
        return "calls can be written as text in one way only"
    if Quirk.ARGUMENTS_SPLIT_IN_ESCAPE in quirks and not any("\\u" in call.arguments for call in calls):
        return "quirk 'arguments_split_in_escape' needs an argument that is not ASCII"
    possible: set[Wire] = {*_TEXT, "bedrock-agent"}
    for quirk in sorted(quirks):
        possible &= set(WIRES_OF[Quirk(quirk)])
    return None if possible else f"no wire has all of these quirks: {', '.join(sorted(quirks))}"


def refuse_on(wire: str, quirks: Quirks) -> str | None:
    """Why these quirks cannot show on that wire."""
    for quirk in sorted(quirks):
        if wire not in WIRES_OF[Quirk(quirk)]:
            return f"quirk {str(quirk)!r} makes no sense on the wire {wire!r}; it is one of: " + ", ".join(
                WIRES_OF[Quirk(quirk)]
            )
    return None


def rewritten(reply: Reply) -> Reply:
    """The reply with those of its quirks carried out that are the same on every wire."""
    quirks = reply.quirks
    for quirk in _AS_TEXT:
        if quirk in quirks:
            said = (reply.text,) if isinstance(reply.text, str) else reply.text
            reply = replace(
                reply,
                text=(*filter(None, said), *_in_sevens(as_text(quirk, reply.calls))),
                calls=(),
                stop=reply.stop or "end",
                quirks=frozenset(quirks) - _NEED_CALLS,
            )
    if _THINK.intersection(quirks):
        opening = ("<think>\n",) if Quirk.THINK_TAGS in quirks else ()
        thought = (*opening, *reply.reasoning_pieces, "\n</think>\n\n")
        left = frozenset(reply.quirks) - _NEED_REASONING
        reply = replace(reply, text=(*thought, *reply.text_pieces), reasoning="", quirks=left)
    if Quirk.NO_USAGE in quirks:
        reply = replace(reply, usage=None)
    if Quirk.STOP_WITH_CALLS in quirks:
        reply = replace(reply, stop="end")
    return replace(reply, calls=tuple(_call(call, n, quirks) for n, call in enumerate(reply.calls)))


def _call(call: Call, n: int, quirks: Quirks) -> Call:
    if Quirk.NAME_DOUBLED in quirks:
        call = replace(call, name=call.name * 2)
    if Quirk.NAME_WITH_TOKENS in quirks:
        call = replace(call, name=f"{call.name}<|channel|>commentary")
    if Quirk.ID_REPEATED in quirks:
        call = replace(call, id="call_same")
    if Quirk.ID_TOO_LONG in quirks:
        call = replace(call, id=f"call_{n}_" + "x" * 80)
    if Quirk.ID_ODD in quirks:
        call = replace(call, id=f"call_{n}|fc_{n}")
    if Quirk.ID_DOTTED in quirks:
        call = replace(call, id=f"functions.{call.name}:{n}")
    if Quirk.ARGUMENTS_CUT_OFF in quirks:
        call = replace(call, raw_arguments=call.arguments[: max(1, len(call.arguments) * 2 // 3)])
    if Quirk.ARGUMENTS_EMPTY in quirks:
        call = replace(call, raw_arguments="")
    return call


def _in_sevens(text: str) -> list[str]:
    return [text[i : i + 7] for i in range(0, len(text), 7)]


def as_text(quirk: Quirk, calls: Sequence[Call]) -> str:
    """Calls written into the answer, in the form that models of one family or another have."""
    if quirk is Quirk.CALL_AS_TOOL_CALL_TAG:
        return "\n".join(f"<tool_call>\n{_as_json(call, 'arguments')}\n</tool_call>" for call in calls)
    if quirk is Quirk.CALL_AS_FUNCTION_CALLS:
        return "<function_calls>\n" + "".join(_invoke(call) for call in calls) + "</function_calls>"
    if quirk is Quirk.CALL_AS_PYTHONIC:
        return f"[{', '.join(_pythonic(call) for call in calls)}]"
    if quirk is Quirk.CALL_AS_JSON_FENCE:
        return "\n".join(f"```json\n{_as_json(call, 'arguments')}\n```" for call in calls)
    return "; ".join(_as_json(call, "parameters") for call in calls)


def _as_json(call: Call, key: str) -> str:
    return f'{{"name": {json.dumps(call.name)}, "{key}": {call.arguments}}}'


def _invoke(call: Call) -> str:
    lines = "".join(f'<parameter name="{k}">{_plain(v)}</parameter>\n' for k, v in (call.args or {}).items())
    return f'<invoke name="{call.name}">\n{lines}</invoke>\n'


def _pythonic(call: Call) -> str:
    return f"{call.name}({', '.join(f'{k}={v!r}' for k, v in (call.args or {}).items())})"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
