"""Models in Amazon Bedrock: our transcript as Converse takes it, what Bedrock's errors mean, is the model there."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial

from agent.errors import (
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelUnavailable,
)
from agent.providers.base import Capabilities, ModelRequest, Probe, Provider, Where
from agent.providers.bedrock_models import is_about_the_model, what_to_do
from agent.providers.converse_wire import (
    CONVERSE_ERRORS,
    BedrockConfig,
    ConverseWire,
    Guardrail,
    OutOfContext,
    StoppedByRule,
    Unusable,
    region_of,
)
from agent.providers.history import NO_TEXT, Answered, Said, Step, entries, taking_turns
from agent.providers.http import HttpFault, NotTheApi, classify
from agent.providers.prompt import facts_text, instructions, result_text
from agent.transcript import JsonObject
from tools.contract import ToolSpec
from tools.executors.aws import AwsError, AwsUnreachable

__all__ = ["BEDROCK", "BedrockConfig", "Guardrail", "bedrock", "classify_converse", "render_converse"]

BEDROCK = Capabilities(prompt_caching=True, guardrails=True, max_context_tokens=200_000)
CACHE_POINT: JsonObject = {"cachePoint": {"type": "default"}}


def bedrock(config: BedrockConfig, name: str = "bedrock", capabilities: Capabilities = BEDROCK) -> Provider:
    """A model in Bedrock. Its API key, if it is used with one, may stand in AWS_BEARER_TOKEN_BEDROCK as for boto3."""
    config = replace(config, api_key=config.api_key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK", ""))
    wire = ConverseWire(
        config,
        streams=capabilities.streams,
        streams_tool_calls=capabilities.streams_tool_calls,
        max_output_tokens=capabilities.max_output_tokens,
    )
    able = replace(capabilities, prompt_caching=config.prompt_caching and capabilities.prompt_caching)
    return Provider(
        name=name,
        kind="bedrock",
        model=config.model,
        wire=wire,
        render=partial(render_converse, name=name, model=config.model, able=able),
        classify=partial(_classify, wire=wire, config=config),
        raises=CONVERSE_ERRORS,
        capabilities=capabilities,
        probe=partial(_probe, wire, config),
    )


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_converse(
    request: ModelRequest, name: str = "", model: str = "", able: Capabilities = Capabilities()
) -> JsonObject:
    """`{system, messages, toolConfig}` of a request.

    What is the same in every turn (tools, instructions) stands before a cache point, where the model knows them.
    Thoughts go back to the model that had them, within the turn, before the calls they led to.
    """
    history = taking_turns(entries(request.messages, name, plain=request.plain))
    cache_point = [CACHE_POINT] if able.prompt_caching else []
    offers = bool(request.tools) and able.tools
    turn = max((n for n, entry in enumerate(history) if isinstance(entry, Said)), default=-1)
    conversation = _Conversation()
    for position, entry in enumerate(history):
        if isinstance(entry, Said):
            conversation.add("user", {"text": entry.text})
        elif entry.calls and not offers:
            conversation.tell(entry)
        else:
            for step in [entry] if able.parallel_tool_calls else _one_by_one(entry):
                conversation.take(step, _thoughts(step, model) if position > turn else [])
    text = instructions(request)
    known = {"text": facts_text(request.facts)}
    payload: JsonObject = {"system": [{"text": text}, *cache_point, known] if text else [known]}
    payload["messages"] = conversation.ended()
    if offers:
        payload["toolConfig"] = {"tools": [*map(_tool, request.tools), *cache_point]}
    return payload


def _one_by_one(step: Step) -> list[Step]:
    """The calls of a step one after the other, for models that make one at a time."""
    if len(step.calls) < 2:
        return [step]
    first, *others = step.calls
    return [Step(step.text, (first,), step.state), *(Step("", (call,)) for call in others)]


class _Conversation:
    """Messages of the two sides in turns; blocks of one side that follow each other share a message."""

    def __init__(self) -> None:
        self._messages: list[JsonObject] = []

    def add(self, role: str, *blocks: JsonObject) -> None:
        """Say these; none of them may be empty."""
        if not self._messages and role == "assistant":
            self._messages.append({"role": "user", "content": [{"text": NO_TEXT}]})
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"] += blocks
        else:
            self._messages.append({"role": role, "content": list(blocks)})

    def take(self, step: Step, thoughts: list[JsonObject]) -> None:
        """A step of the assistant: thoughts, text, calls; then what came of these."""
        text = [{"text": step.text}] if step.text else []
        calls = [{"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.args}} for call in step.calls]
        if text or calls:
            self.add("assistant", *thoughts, *text, *calls)
        if calls:
            self.add("user", *map(_result, step.calls))

    def tell(self, step: Step) -> None:
        """The same without calls, which are not taken where no tools are offered."""
        names = ", ".join(dict.fromkeys(call.name for call in step.calls))
        self.add("assistant", {"text": step.text or f"(Looked up with {names}.)"})
        self.add("user", *({"text": f"(Result of {call.name}: {result_text(call.result)})"} for call in step.calls))

    def ended(self) -> list[JsonObject]:
        """The messages, of which the last has to be the user's."""
        if not self._messages or self._messages[-1]["role"] == "assistant":
            self.add("user", {"text": NO_TEXT})
        return self._messages


def _result(call: Answered) -> JsonObject:
    result = {"toolUseId": call.id, "content": [{"text": result_text(call.result)}]}
    return {"toolResult": result if call.ok else {**result, "status": "error"}}


def _thoughts(step: Step, model: str) -> list[JsonObject]:
    if not step.calls or not step.state or step.state.get("model") != model:
        return []
    return [{"reasoningContent": block} for block in step.state.get("blocks", ())]


def _tool(spec: ToolSpec) -> JsonObject:
    described = {"description": spec.description} if spec.description else {}
    return {
        "toolSpec": {"name": spec.name, **described, "inputSchema": {"json": {"type": "object", **spec.parameters}}}
    }


# --- what errors mean -----------------------------------------------------------------------------------------------

RULE_HINT = "That was stopped by a rule on content. Please put it another way."
_BUSY = ("ThrottlingException", "TooManyRequestsException", "ModelNotReadyException", "ServiceQuotaExceededException")
_FAILED = ("ModelErrorException", "ModelStreamErrorException", "DependencyFailedException", "BadGatewayException")
_WHO_ASKS = {
    "ExpiredTokenException": ("the AWS session has expired", "Sign in again, for example with aws sso login."),
    "UnrecognizedClientException": ("AWS does not know these credentials", "Check {key}."),
    "InvalidClientTokenId": ("AWS does not know these credentials", "Check {key}."),
    "MissingAuthenticationTokenException": ("AWS got no credentials", "Check {key}."),
    "IncompleteSignatureException": ("AWS refuses the signature", "Check {key}."),
    "InvalidSignatureException": ("AWS refuses the signature", "Check the secret of {key}, and this machine's clock."),
    "SignatureDoesNotMatch": ("AWS refuses the signature", "Check the secret of {key}, and this machine's clock."),
    "AccessDeniedException": (
        "AWS does not let these credentials use the model",
        "Allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream on it, see that the account has access to "
        "the model, and check {key}.",
    ),
}
_TOO_LONG = ("input tokens", "maxlength", "exceeds the maximum number of tokens")
_NOT_SUPPORTED = re.compile(r"doesn.t support")


def _classify(error: Exception, *, wire: ConverseWire, config: BedrockConfig) -> ModelError:
    return classify_converse(error, config.where, config.model, _region(wire, config))


def classify_converse(error: Exception, where: Where, model: str = "", region: str = "") -> ModelError:
    """What an error of the wire means. The text is for logs and holds no secret."""
    match error:
        case AwsUnreachable():
            return ModelUnavailable(str(error))
        case AwsError():
            return ModelRejected(str(error), user_hint=_hint(403, where))
        case StoppedByRule():
            return ModelRejected(str(error), user_hint=RULE_HINT)
        case OutOfContext():
            return ContextExceeded(str(error))
        case Unusable():
            return ModelMisbehaved(str(error))
        case HttpFault():
            return _refusal(error, where, model, region)
    return classify(error, where)


def _refusal(fault: HttpFault, where: Where, model: str, region: str) -> ModelError:
    words = fault.message.lower()
    if fault.code in _BUSY:
        return ModelBusy(str(fault), user_hint=_hint(429, where), retry_after_s=fault.retry_after_s)
    if fault.code in _FAILED:
        return ModelUnavailable(str(fault))
    if fault.code in _WHO_ASKS:
        return ModelRejected(str(fault), user_hint=_hint(403, where))
    if fault.status in (400, 404) and is_about_the_model(words):
        said = f"{fault} ({where.model} {model}: {what_to_do(model, region, words)})"
        return ModelRejected(said, user_hint=_hint(404, where))
    if fault.status == 400 and any(part in words for part in _TOO_LONG):
        return ContextExceeded(str(fault))
    meant = classify(fault, where)
    # Where no other form of the conversation would help:
    if isinstance(meant, HistoryRejected) and _NOT_SUPPORTED.search(words):
        return ModelRejected(f"{fault} (what a model cannot do belongs under its capabilities)")
    if isinstance(meant, HistoryRejected) and "guardrail" in words:
        return ModelRejected(str(fault))
    return meant


def _hint(status: int, where: Where) -> str:
    """What people are told of such a refusal, by whatever server."""
    return classify(HttpFault(status, ""), where).user_hint


def _region(wire: ConverseWire, config: BedrockConfig) -> str:
    return wire.aws.region or config.region or region_of(config.model) or ""


# --- is it there at all ---------------------------------------------------------------------------------------------


async def _probe(wire: ConverseWire, config: BedrockConfig) -> Probe:
    """Credentials, region, and a call that asks for one token: nothing less shows that the model can be used."""
    try:
        await wire.try_out()
    except CONVERSE_ERRORS as error:
        return Probe(False, *_unusable(error, wire, config))
    return Probe(True, f"{config.model} answers in {_region(wire, config)} (asked for one token)")


def _unusable(error: Exception, wire: ConverseWire, config: BedrockConfig) -> tuple[str, str]:
    where, region = config.where, _region(wire, config)
    match error:
        case AwsError():
            cause, _, fix = str(error).partition("; ")
            return cause, f"{fix[:1].upper()}{fix[1:]}." if fix else "Try again in a moment."
        case HttpFault(code=code) if code in _WHO_ASKS:
            cause, fix = _WHO_ASKS[code]
            return f"{cause} ({error.status}: {error.message})", fix.format(key=where.key)
        case HttpFault() if is_about_the_model(error.message):
            fix = what_to_do(config.model, region, error.message)
            return f"{config.model} is refused in {region}: {error.message}", f"{where.model}: {fix}."
        case HttpFault(code=code) if code in _BUSY:
            return f"{config.model} is throttled: {error.message}", "Wait, or ask AWS for a higher quota of this model."
        case HttpFault() | NotTheApi():
            return f"{wire.aws.url} does not answer as Bedrock: {error}", f"Check {where.url} and {where.model}."
    cause = f"{wire.aws.url} cannot be reached ({type(error).__name__})"
    return cause, f"Check the network, and {where.url}: not every region has Bedrock."
