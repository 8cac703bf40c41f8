"""A managed Bedrock agent does the whole turn, through InvokeAgent; our transcript stays the truth.

Nothing rests on what AWS keeps: each turn is an AWS session of its own, which is given the conversation as text. An
agent proposes through return of control what is to run here, and that goes the way of every model's call: gate, ledger,
ownership. What it runs in AWS is outside of all that; see `docs/models.md`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import orjson

from agent.errors import ModelBusy, ModelError, ModelRejected, ModelUnavailable
from agent.providers.base import Capabilities, ModelRequest, Probe, Provider, TurnFacts, Where
from agent.providers.bedrock import classify_converse
from agent.providers.bedrock_agent_wire import AGENT_ERRORS, BedrockAgentConfig, InvokeAgentWire
from agent.providers.history import NO_TEXT, Answered, Entry, Said, Step, entries, taking_turns, told
from agent.providers.http import HttpFault, advice
from agent.providers.prompt import facts_text, instructions, result_text
from agent.routing.config import ModelsError
from agent.transcript import JsonObject
from tools.executors.aws import AwsError

__all__ = ["BEDROCK_AGENT", "FACTS", "BedrockAgentConfig", "bedrock_agent", "render_bedrock_agent"]

BEDROCK_AGENT = Capabilities(managed=True, guardrails=True, max_context_tokens=200_000)
_ID = re.compile(r"[0-9a-zA-Z]{1,10}")

# What of a turn may become a session attribute, by the name that the configuration uses. No credential is among it.
FACTS: Mapping[str, Callable[[TurnFacts], str | None]] = {
    "now": lambda facts: facts.now.isoformat(),
    "today": lambda facts: facts.now.date().isoformat(),
    "role": lambda facts: facts.identity.role,
    "customer_id": lambda facts: facts.identity.customer_id,
    "customer_type": lambda facts: facts.identity.customer_type,
    "client_id": lambda facts: facts.identity.client_id,
    "user_id": lambda facts: facts.identity.user_id,
    "office": lambda facts: ", ".join(place.label for place in facts.locations),
}


def bedrock_agent(
    config: BedrockAgentConfig, name: str = "bedrock_agent", capabilities: Capabilities = BEDROCK_AGENT
) -> Provider:
    """An alias of an agent; `ModelsError` names what of the configuration cannot be."""
    if problems := _problems(config, f"providers.{name}"):
        raise ModelsError(problems)
    wire = InvokeAgentWire(config, streams=capabilities.streams)
    agent = f"{config.agent_id}/{config.alias_id}"
    return Provider(
        name=name,
        kind="bedrock_agent",
        model=config.model,
        wire=wire,
        render=partial(render_bedrock_agent, name=name, agent=agent, attributes=config.session_attributes),
        classify=partial(_classify, config=config),
        raises=AGENT_ERRORS,
        capabilities=capabilities,
        probe=partial(_probe, wire, config),
    )


def _problems(config: BedrockAgentConfig, path: str) -> list[tuple[str, str]]:
    ids = {"agent_id": config.agent_id, "alias_id": config.alias_id}
    found = [
        (f"{path}.{key}", f"{value!r} is no id; give the 1 to 10 letters and digits that AWS shows, not a name or ARN")
        for key, value in ids.items()
        if not _ID.fullmatch(value)
    ]
    return found + [
        (f"{path}.session_attributes.{key}", f"there is no fact {fact!r}; there are {', '.join(FACTS)}")
        for key, fact in config.session_attributes.items()
        if fact not in FACTS
    ]


# --- our transcript as a session ------------------------------------------------------------------------------------


def render_bedrock_agent(
    request: ModelRequest, name: str = "", agent: str = "", attributes: Mapping[str, str] | None = None
) -> JsonObject:
    """`{agent, session, tools, body}`: a new session with the conversation as text, or the results one waits for.

    The id of a new session is made of the turn and of what is sent, so that the same call sent again is the same, and
    any other one has nothing to do with it. `tools` are the schemas of ours by name.
    """
    history = entries(request.messages, name, plain=request.plain)
    state: JsonObject = {"promptSessionAttributes": _told_to_the_agent(request)}
    known = {key: FACTS[fact](request.facts) for key, fact in (attributes or {}).items()}
    if given := {key: value for key, value in known.items() if value}:
        state["sessionAttributes"] = given
    payload: JsonObject = {"agent": agent, "tools": {spec.name: spec.parameters for spec in request.tools}}
    if (waiting := _waits_for(history, request, agent)) is not None:
        control = waiting.state or {}
        results = map(_result, control["inputs"], waiting.calls)
        state |= {"invocationId": control["invocation"], "returnControlInvocationResults": list(results)}
        return {**payload, "session": control["session"], "body": {"sessionState": state}}
    earlier, said = _as_text(history)
    if earlier:
        state["conversationHistory"] = {"messages": earlier}
    body = {"inputText": said, "sessionState": state}
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return {**payload, "session": f"{request.turn_key or 'call'}.{digest}", "body": body}


def _told_to_the_agent(request: ModelRequest) -> dict[str, str]:
    """What stands in an agent's prompt beside its own instruction, where the person's words cannot pass for it."""
    texts = {"instructions": instructions(request), "facts": facts_text(request.facts)}
    return {key: text for key, text in texts.items() if text}


def _waits_for(history: Sequence[Entry], request: ModelRequest, agent: str) -> Step | None:
    """The step by which the agent returned control, if its results are what is sent now.

    After a correction the agent has had them already; it begins anew, and is told them as text.
    """
    last = history[-1] if history else None
    if request.facts.correction or not isinstance(last, Step) or not last.state or last.state.get("model") != agent:
        return None
    return last if len(last.calls) == len(last.state.get("inputs", ())) > 0 else None


def _result(asked: JsonObject, call: Answered) -> JsonObject:
    """One result, in the form that was asked for. A failed one goes to the agent too, which can then do otherwise."""
    names, text = asked["names"], result_text(call.result)
    is_api = "apiPath" in names
    result = {**names, "responseBody": {"application/json" if is_api else "TEXT": {"body": text}}}
    if is_api:
        result["httpStatusCode"] = 200 if call.ok else 422
    if not call.ok:
        result["responseState"] = "REPROMPT"  # FAILURE would end the agent's turn with an error
    if asked["asks"] != "RESULT":
        result["confirmationState"] = "CONFIRM" if call.ok else "DENY"
    return {"apiResult" if is_api else "functionResult": result}


def _as_text(history: Sequence[Entry]) -> tuple[list[JsonObject], str]:
    """What was said before, the person and the agent in turns, and what is asked now with what was found since."""
    spoken = taking_turns([entry if isinstance(entry, Said) else Step(told(entry)) for entry in history])
    now = max((n for n, entry in enumerate(spoken) if isinstance(entry, Said)), default=len(spoken))
    earlier = [
        {"role": "user" if isinstance(entry, Said) else "assistant", "content": [{"text": entry.text}]}
        for entry in spoken[:now]
    ]
    if earlier and earlier[0]["role"] == "assistant":
        earlier.insert(0, {"role": "user", "content": [{"text": NO_TEXT}]})
    return earlier, "\n\n".join(entry.text for entry in spoken[now:]) or NO_TEXT


# --- errors ---------------------------------------------------------------------------------------------------------


def _classify(error: Exception, config: BedrockAgentConfig) -> ModelError:
    if isinstance(error, HttpFault):
        if error.code == "ResourceNotFoundException":
            return ModelRejected(str(error), user_hint=_unknown(config.where))
        if error.status == 409:  # the session's last call still runs
            return ModelBusy(str(error), retry_after_s=error.retry_after_s)
        if error.status == 424 and error.code != "ModelNotReadyException":
            return ModelUnavailable(str(error))
    return classify_converse(error, config.where)


def _unknown(where: Where) -> str:
    part = where.model.removesuffix("model") if where.model.endswith(".model") else ""
    return (
        "AWS knows no such agent or alias here. Whoever runs this service should check "
        f"{part}agent_id, {part}alias_id and {part}region."
    )


async def _probe(wire: InvokeAgentWire, config: BedrockAgentConfig) -> Probe:
    """Greet the agent, and go when it begins: nothing less shows that it may be called. Costs what a greeting costs."""
    digest = hashlib.sha256(f"{config.agent_id}/{config.alias_id}".encode()).hexdigest()[:16]
    payload = {"agent": "", "session": f"probe.{digest}", "tools": {}, "body": {"inputText": "Hello."}}
    stream = wire.stream(payload, deadline_s=config.idle_timeout_s)
    name = f"agent {config.agent_id}, alias {config.alias_id}"
    try:
        await anext(stream)
    except AwsError as error:
        cause, _, fix = str(error).partition("; ")
        return Probe(False, cause, fix)
    except AGENT_ERRORS as error:
        meant = _classify(error, config)
        return Probe(False, f"{name} at {wire.aws.url}: {meant}", advice(meant, config.where))
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
    return Probe(True, f"{name} answers")
