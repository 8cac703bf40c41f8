"""Where the definition says `auto`: documents are searched for a message before the model is asked.

What is found stands in the prompt of this turn alone, delimited as data; nobody said it, so no later turn has it.
"""

from __future__ import annotations

import asyncio
import re
import time

from agent.call_context import call_context
from agent.passages import PART
from agent.transcript import JsonObject
from agent.turn import Turn
from tools.contract import ToolError, ToolSpec

# A message of fewer words asks nothing of documents, unless it is put as a question.
LEAST_WORDS = 4
LONGEST_S = 4.0  # who waits for a reply does not wait longer for this
QUERY_CHARS = 1_000
# How code has taken a message that says yes, no or something else about what waits, and nothing more.
_SETTLED = ("confirm", "decline", "hold", "amend", "address_correction")
_WORD = re.compile(r"[^\W\d_]{2,}")


async def look_up(turn: Turn) -> None:
    """Search for the person's message, once a turn, where the policy wants it and the message may be a question.

    What cannot be searched is left at that: the turn goes on.
    """
    if turn.has_looked_up or turn.policy != "auto":
        return
    turn.has_looked_up = True
    spec = next((spec for spec in turn.tool_list if spec.part == PART), None)
    query = _question(turn)
    if spec is None or not query or not turn.provider.capabilities.answers_anything:
        return
    began = time.perf_counter()
    result = await _search(turn, spec, query)
    found = turn.take_found(query, result, (time.perf_counter() - began) * 1000, call_id=None)
    if found.get(PART):
        turn.found = found


def _question(turn: Turn) -> str:
    """What of the message may be a question; "": nothing."""
    if turn.given.decision is not None:
        return ""
    verdict = turn.verdict
    text = turn.given.text if verdict is None or verdict.kind not in _SETTLED else verdict.rest
    asks = "?" in text or "？" in text or "؟" in text or not text.isascii()
    words = len(_WORD.findall(text))
    return text.strip()[:QUERY_CHARS] if words >= LEAST_WORDS or (asks and words) else ""


async def _search(turn: Turn, spec: ToolSpec, query: str) -> JsonObject:
    """The tool's result, wherever it runs; that of a failure when it does not answer in time."""
    try:
        async with asyncio.timeout(min(LONGEST_S, max(turn.remaining_s, 0.1))):
            prepared = await turn.toolbox.prepare(spec.name, {"query": query}, turn.tools)
            context = call_context(turn, "", spec.name, prepared.args)
            return (await turn.toolbox.execute(prepared, context)).data
    except ToolError as error:
        return error.result().data
    except TimeoutError:
        return {"ok": False, "code": "knowledge_unavailable", "user_hint": "The documents did not answer in time."}
