"""One running turn: the object that the graph's nodes change in place, and the events they emit through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agent.citing import Ground, quote
from agent.confirmation import Verdict
from agent.definition import AgentDefinition
from agent.events import Citation, RetrievalFinished, TextDelta, ToolFinished, ToolStatus, TurnEvent
from agent.long_results import READ
from agent.passages import PART, Passages, sources_in
from agent.ports import CallRecord, PendingAction, PendingChange, TurnInput, TurnWork
from agent.providers.base import Call, Provider
from agent.routing.plan import Candidate, Plan
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage
from tools.contract import Toolbox, ToolResult, ToolSpec


@dataclass(frozen=True, slots=True)
class Outcome:
    """An effect that this turn ran, or found already run, and how it ended."""

    tool: str
    args: JsonObject
    facts: JsonObject  # what a person had read before the yes; empty for an ungated write
    result: ToolResult

    @property
    def was_only_tried(self) -> bool:
        """Whether the system behind runs in test mode: all went well, and nothing was sent."""
        return bool(self.result.data.get("test_mode"))


@dataclass(slots=True)
class Seen:
    """A call that this turn made already: what the model was shown then, and how often it asked again."""

    status: ToolStatus
    result: JsonObject
    effect: str
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the reply, to which it can be taken back."""

    shown: int
    segment: int
    at_paragraph: bool
    blanks: str
    cited: int


class Turn:
    """State of one turn. `work` is filled as things happen, so that a turn that dies leaves what it did."""

    def __init__(
        self,
        definition: AgentDefinition,
        plan: Plan | None,
        toolbox: Toolbox,
        given: TurnInput,
        work: TurnWork,
        classify: Callable[[str], str],
    ) -> None:
        self.definition = definition
        self._plan = plan
        self.candidate = plan.candidates[0] if plan else None  # who is asked now
        self.toolbox = toolbox
        self.given = given
        self.work = work
        self.classify = classify
        earlier = [m.text for m in reversed(given.history) if isinstance(m, UserMessage)]
        self.wording = definition.wording_for([given.text, *earlier])
        self.policy = definition.file.knowledge.policy
        self.tool_list = tuple(
            spec
            for spec in toolbox.specs(definition.action_groups, given.tools.identity)
            if self.policy != "off" or spec.part != PART
        )
        self.specs: dict[str, ToolSpec] = {spec.name: spec for spec in (*self.tool_list, READ)}
        self.events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        self.started = time.perf_counter()
        self.tools = replace(
            given.tools,
            conversation_id=str(given.conversation_id),
            said=given.text,
            deadline=time.monotonic() + definition.file.limits.deadline_s,
        )

        self.verdict: Verdict | None = None
        self.open: list[PendingAction] = list(given.pending)  # stored ones that are still open
        self.proposed: list[PendingAction] = []  # stored by this turn's calls
        self.outcomes: list[Outcome] = []
        self.hints: list[str] = []  # why calls of the last step did not come about, for people
        self.seen: dict[str, Seen] = {}
        self.calls: list[Call] = []  # proposed by the last step, not run yet
        self.model_calls = 0
        self.faulty_steps = 0  # how often the model made calls that no schema allows
        self.correction: str | None = None
        self.corrected = False  # one re-ask a turn
        self.usage_estimated = False
        self.cited = 0
        self.passages = Passages(given.history)
        self.found: JsonObject | None = None  # what code looked up for the message
        self.has_looked_up = False
        self.took_back = False  # a text that may have told outcomes was taken back
        self.is_degraded = False  # no model answers any more: the planner does
        self.amended: list[PendingAction] = []  # stored ones of which the person changes a detail
        self.untold: list[Outcome] = []  # outcomes that no sentence shown since has been about
        self.asked = False  # the reply ends with the runtime's question
        self.unsettled: set[str] = set()  # keys of effects that run now

        self._seq = given.first_seq
        self._call_ids = 0
        self._shown: list[str] = []  # the reply so far
        self._segment: list[str] = []  # the part of it that no message in `work` holds yet
        self._grounds: list[JsonObject] = []  # what that part rests on
        self._numbers: dict[int, int] = {}  # passage -> its place among those that the reply rests on
        self._at_paragraph = True
        self._blanks = ""  # said at the end of the last text, not shown yet
        self._specialist: str | None = None
        self._sealed = False

    # --- what leaves the turn

    def emit(self, kind: Callable[..., TurnEvent], **fields: Any) -> None:
        """Stamp an event and hand it to whoever reads the turn."""
        self.events.put_nowait(kind(turn_id=self.given.turn_id, seq=self._seq, at=datetime.now(UTC), **fields))
        self._seq += 1

    def say(self, text: str) -> None:
        """Add text to the reply. Blanks at its end wait for more text, so that no reply ends in them."""
        body = text.rstrip()
        if self._at_paragraph:
            body = body.lstrip()
        if not body:
            self._blanks += text
            return
        lead = ("\n\n" if self._shown else "") if self._at_paragraph else self._blanks
        self._at_paragraph, self._blanks = False, text[len(text.rstrip()) :]
        self._shown.append(lead + body)
        self._segment.append(lead + body)
        self.emit(TextDelta, text=lead + body)

    def start_paragraph(self) -> None:
        """Whatever is said next stands in a paragraph of its own."""
        self._at_paragraph, self._blanks = True, ""

    def mark(self) -> Mark:
        """Where the reply stands now; see `void`."""
        return Mark(len(self._shown), len(self._segment), self._at_paragraph, self._blanks, self.cited)

    def void(self, mark: Mark) -> bool:
        """Take back what was said since; False when nothing was. Whoever follows the turn has to be told."""
        said = len(self._shown) > mark.shown or self.cited > mark.cited
        del self._shown[mark.shown :], self._segment[mark.segment :]
        self._at_paragraph, self._blanks, self.cited = mark.at_paragraph, mark.blanks, mark.cited
        return said

    def say_paragraph(self, text: str) -> None:
        """Add the runtime's own words as a paragraph."""
        self.start_paragraph()
        self.say(text)

    @property
    def text(self) -> str:
        """The reply so far."""
        return "".join(self._shown)

    @property
    def segment(self) -> str:
        """The part of the reply that is not in a message yet."""
        return "".join(self._segment).strip()

    # --- what it records

    def cite(self, grounds: Sequence[Ground], may_show: Callable[[str], bool]) -> None:
        """Say what spans of the reply rest on. They belong to the message that is recorded next.

        Words of a passage that `may_show` does not let pass are not quoted.
        """
        for ground in grounds:
            source, words = ground.passage, quote(ground, self.text)
            cited: JsonObject = {
                "document_id": source.document_id,
                "section": source.section,
                "start": source.start,
                "end": source.end,
                "score": source.score,
                "text_start": ground.start,
                "text_end": ground.end,
                "number": self._numbers.setdefault(source.number, len(self._numbers) + 1),
                "title": source.title,
                "page": source.page,
                "version": source.version,
                "uri": source.uri,
                "quote": words if may_show(words) else "",
                "marked": ground.marked,
            }
            self.cited += 1
            self._grounds.append(cited)
            self.emit(Citation, **cited)

    def take_found(self, query: str, result: JsonObject, duration_ms: float, call_id: str | None) -> JsonObject:
        """What a search found, numbered for this conversation; whoever follows is told. `call_id` None: code asked."""
        numbered = self.passages.take(result)
        sources = sources_in(numbered)
        failed = result.get("ok") is False
        reason = result.get("code") if failed else result.get("reason")
        explanation = result.get("user_hint") if failed else result.get("explanation")
        documents = [each["document_id"] for each in sources]
        self.note("searched", query=query, documents=documents, reason=reason, automatic=call_id is None)
        self.emit(
            RetrievalFinished,
            query=query,
            passages=len(sources),
            reason=None if sources else str(reason or "no_match"),
            explanation="" if sources else str(explanation or ""),
            knowledge_base=str(result.get("knowledge_base") or ""),
            sources=sources,
            automatic=call_id is None,
            call_id=call_id,
            duration_ms=duration_ms,
        )
        return numbered

    def record_step(self, calls: tuple[ToolCall, ...], state: JsonObject | None) -> None:
        """Close the segment as an assistant message of the provider."""
        text, grounds = self.segment, tuple(self._grounds)
        self._segment.clear()
        self._grounds.clear()
        if text or calls or state is not None:
            self.work.messages.append(AssistantMessage(text, calls, self.provider.name, state, grounds))

    def record_own_text(self) -> None:
        """Close the segment as the runtime's own words, joined to the reply that stands before it."""
        text = self.segment
        self._segment.clear()
        if not text:
            return
        last = self.work.messages[-1] if self.work.messages else None
        if isinstance(last, AssistantMessage) and not last.tool_calls:
            joined = f"{last.text}\n\n{text}" if last.text else text
            self.work.messages[-1] = replace(last, text=joined)
        else:
            self.work.messages.append(AssistantMessage(text))

    def record_call(
        self,
        call: ToolCall,
        status: ToolStatus,
        result: JsonObject,
        *,
        args: JsonObject | None = None,
        started: tuple[datetime, float] | None = None,
        upstream_status: int | None = None,
        effect_key: str | None = None,
    ) -> None:
        """Write down how a call ended, for the model, the client and the record. `args` are the effective ones."""
        spec = self.specs.get(call.name)
        effective = call.args if args is None else args
        at, clock = started or (datetime.now(UTC), time.perf_counter())
        duration_ms = (time.perf_counter() - clock) * 1000
        part = spec.part if spec and status == "ok" else None
        self.work.calls.append(
            CallRecord(
                call_id=call.id,
                tool=call.name,
                effect=spec.effect if spec else "unknown",
                args=effective,
                status=status,
                result=result,
                part=part,
                started_at=at,
                duration_ms=duration_ms,
                upstream_status=upstream_status,
                effect_key=effect_key,
            )
        )
        self.work.tools_ms += duration_ms
        self.work.messages.append(ToolMessage(call.id, call.name, result, effective, ok=status in ("ok", "pending")))
        self.emit(
            ToolFinished,
            call_id=call.id,
            tool=call.name,
            args=effective,
            status=status,
            result=result,
            part=part,
            duration_ms=duration_ms,
        )

    def change(self, pending: PendingAction, state: Any) -> None:
        """Take a stored pending action out of the open state."""
        self.open.remove(pending)
        self.work.changed.append(PendingChange(pending.pending_id, state))

    def note(self, kind: str, /, **facts: Any) -> None:
        """Leave a trace for the audit."""
        self.work.audit.append({"type": kind, **facts})

    def seal(self) -> None:
        """Leave the record whole however the turn ended: the text said, and a result for every call. Once."""
        if self._sealed:
            return
        self._sealed = True
        self.close_calls()
        self.record_own_text()
        self.work.text = self.text
        self.work.specialist = self.specialist
        if self._plan and self.candidate:
            provider = self.candidate.provider
            self.work.provider, self.work.model = provider.name, provider.model
            self.work.route, self.work.arm = self._plan.route, self.candidate.arm

    def close_calls(self) -> None:
        """Give every call a result that has none, since it will not be made any more."""
        answered = {m.call_id for m in self.work.messages if isinstance(m, ToolMessage)}
        for message in tuple(self.work.messages):
            for call in message.tool_calls if isinstance(message, AssistantMessage) else ():
                if call.id not in answered:
                    stopped = {"ok": False, "code": "stopped", "user_hint": "The turn ended before this call."}
                    self.work.messages.append(ToolMessage(call.id, call.name, stopped, call.args, ok=False))

    # --- what it knows

    @property
    def plan(self) -> Plan:
        """Who may answer; a turn that only makes a direct call has nobody."""
        if self._plan is None:
            raise RuntimeError("no model answers in this turn")
        return self._plan

    @property
    def asked_now(self) -> Candidate:
        """Who is asked now."""
        if self.candidate is None:
            raise RuntimeError("no model answers in this turn")
        return self.candidate

    @property
    def provider(self) -> Provider:
        """The model that is asked now."""
        return self.asked_now.provider

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript as the model is to see it now."""
        return (*self.given.history, UserMessage(self.given.text), *self.work.messages)

    @property
    def remaining_s(self) -> float:
        """Seconds left of the turn's budget."""
        return self.definition.file.limits.deadline_s - (time.perf_counter() - self.started)

    @property
    def specialist(self) -> str:
        """Who answered: as the provider says, else by the first tool used, else by the message."""
        file = self.definition.file
        if self._specialist:
            return self._specialist
        used = [record.tool for record in self.work.calls]
        if not used and self.verdict and self.verdict.kind in ("confirm", "decline", "hold", "amend"):
            used = [pending.tool for pending in self.given.pending]
        for tool in used:
            if (spec := self.specs.get(tool)) and spec is not READ:
                return self.definition.specialist_of(spec.group)
        return self.classify(self.given.text) or file.default_specialist

    @specialist.setter
    def specialist(self, name: str) -> None:
        self._specialist = self._specialist or name

    @property
    def committed(self) -> frozenset[str]:
        """Tools whose effect is on the ledger as done in this turn, and really was."""
        return frozenset(o.tool for o in self.outcomes if o.result.status == "ok" and not o.was_only_tried)

    @property
    def usage(self) -> JsonObject:
        """Tokens of all model calls of the turn."""
        return {
            "input_tokens": self.work.input_tokens,
            "output_tokens": self.work.output_tokens,
            "model_calls": self.model_calls,
            "estimated": self.usage_estimated,
            "cost_usd": round(self.work.cost_usd, 6),
        }

    @property
    def timings(self) -> JsonObject:
        """Milliseconds spent so far."""
        total = (time.perf_counter() - self.started) * 1000
        work = self.work
        return {"total_ms": round(total, 3), "model_ms": round(work.model_ms, 3), "tools_ms": round(work.tools_ms, 3)}

    def new_call_id(self) -> str:
        """An id for a call that came without a usable one."""
        self._call_ids += 1
        return f"call_{self.given.turn_id.hex[-12:]}_{self._call_ids}"
