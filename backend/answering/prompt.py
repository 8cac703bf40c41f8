"""What a model is told when it is to answer from passages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.citations import INSTRUCTIONS, numbered
from agent.providers.base import ModelRequest, TurnFacts
from agent.transcript import AssistantMessage, Message, UserMessage
from knowledge_base.retrieval.base import Passage
from tools.contract import Identity

SYSTEM = """
You answer questions from documents that you are given with each question, in the language of the question, in a few
plain sentences.
""".strip()
USUAL = """
$output_format_instructions$

$search_results$

Question: $query$
""".strip()
_PLACEHOLDER = re.compile(r"\$(query|search_results|output_format_instructions|current_time)\$")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question of the same session, and how it was answered."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered, from what, for whom. `template` takes the place of the usual prompt."""

    text: str
    passages: tuple[Passage, ...]
    identity: Identity
    now: datetime
    template: str | None = None
    history: Sequence[Exchange] = ()


def request_of(question: Question, deadline_s: float) -> ModelRequest:
    """The model call: what was said before, and the prompt with the passages as the person's message."""
    messages: list[Message] = []
    for each in question.history:
        messages += [UserMessage(each.question), AssistantMessage(each.answer)]
    return ModelRequest(
        instructions=SYSTEM,
        messages=(*messages, UserMessage(prompt_of(question))),
        tools=(),
        facts=TurnFacts(question.now, question.identity, ()),
        deadline_s=deadline_s,
    )


def prompt_of(question: Question) -> str:
    """The template, filled in at once: what stands in a passage or question is no placeholder.

    A template that does not say where the question belongs has it at the end. One without
    `$output_format_instructions$` does not ask for marks, and so gets no citations.
    """
    values = {
        "query": question.text,
        "search_results": numbered((each.title, each.section, each.text) for each in question.passages),
        "output_format_instructions": INSTRUCTIONS,
        "current_time": question.now.isoformat(timespec="minutes"),
    }
    template = question.template or USUAL
    if "$query$" not in template:
        template += "\n\n$query$"
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
