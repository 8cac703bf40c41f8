"""What a model wrote, checked sentence by sentence before anybody sees it.

Withheld are: claims of a write that this turn has not committed, tool syntax, internal ids and names, phone numbers,
links and references that no tool gave, pieces of the instructions. Text flows on at sentence ends; from the first
question or the first sign of tool syntax on it waits for the end of the model's message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import orjson

from agent.dates import DateMention, find_dates, find_times
from agent.passages import PART
from agent.pending import moments
from agent.tool_syntax import MARKS, Found, read_calls, trigger
from agent.transcript import AssistantMessage, JsonObject, ToolMessage, UserMessage
from agent.turn import Turn

Fault = Literal["claim", "syntax", "private", "ungrounded", "forbidden"]

# Past this, text without a sentence end is checked as it is, and tool syntax that does not close is dropped.
MAX_UNIT = 1_500
MAX_HELD = 16_000
# A claim may be spread over sentences ("I've" / "booked it"); this much of what was shown is looked at again.
LOOK_BACK = 80
# So many words in a row from the instructions are a quotation of them.
QUOTED_WORDS = 8

_END = re.compile(r"[.!?…][\"'”’)\]*_]*\s+|[。！？]|\n+")
_SOFTENED = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "*": None, "`": None, "~": None})
_URL = re.compile(r"https?://[^\s)>\]\"']+|\bwww\.[^\s)>\]\"']+", re.IGNORECASE)
_PRIVATE = re.compile(
    r"\breq(?:uest)?[_-][a-z0-9]"
    r"|\b(?:session|request|customer|client|conversation|tenant|user)[ _-]?id\b[^.!?\n]{0,12}\d"
    r"|\b(?:customer|client|request|session|conversation)_id\b"
    r"|\bbearer\s+[a-z0-9._-]{8,}|\beyJ[\w-]{8,}|\bsk-[\w-]{8,}"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\w-])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{3}\)|\d{3})[ .-]?\d{3}[ .-]?\d{4}(?!\w)"
    r"|(?<![\w-])\d{3}[ .-]\d{4}(?![\w-])"
)
_QUOTE = re.compile(r'"([^"]{3,600})"')
_DIGIT = re.compile(r"\d")
_GAP = re.compile(r"(?<=\d)[\s.,-]+(?=\d)")
_WORD = re.compile(r"[^\W_]+")
_IF = (
    r"(?:once|until|till|before|if|when|whenever|after|unless|whether|as soon as)\s+"
    r"(?:(?:it|this|that|they|everything|all)\s+|(?:your|the|this|that|a|an)\s+(?:\w+\s+){0,3})?$"
)
_CONDITION = re.compile(_IF, re.IGNORECASE)
_NOTHING = re.compile(r"\b(?:nothing|none|neither|no (?:\w+ ){1,2})\s*(?:else |yet |so far )?$", re.IGNORECASE)
_PASSIVE = re.compile(r"(?:is|are|was|were|has|have|had|will|gets?|been)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A sentence that was not shown, and why."""

    fault: Fault
    text: str


class Rules:
    """What may be said in one turn; asked anew for every sentence, since a call may have committed meanwhile."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._definition = turn.definition
        self.names = tuple(turn.specs)
        self._trigger = trigger(self.names)
        self._inside = _inside(self.names)
        self._never = _patterns(turn.definition.file.never_say)
        self._grounded = _patterns(tuple(turn.definition.file.grounded.values()))
        self._quotable = _shingles(turn.definition.file.instructions)
        self._secrets: set[str] = _secrets(turn)
        self._secrets_read = 0
        self.claimed: set[str] = set()  # tools of which a true claim was shown
        self._said = ""
        self._results = ""
        self._messages_read = 0

    def syntax(self, sentence: str) -> re.Match[str] | None:
        """Where a sentence may turn into tool syntax."""
        return self._trigger.search(sentence) if MARKS.search(sentence) else None

    def fault(self, sentence: str, before: str) -> Fault | None:
        """Why a sentence must not be shown after `before`, or None."""
        plain = _plain(sentence)
        if not plain or plain.isspace():
            return None
        if any(pattern.search(plain) for pattern in self._never):
            return "forbidden"
        if self._claims(plain, before):
            return "claim"
        if self._shows_inside(plain):
            return "private"
        return self._ungrounded(plain)

    def lets_show(self, words: str) -> bool:
        """Whether words that no model wrote may stand beside a reply: a document is held to what a model is."""
        return self.syntax(words) is None and self.fault(words, "") is None

    def quotes(self, words: list[str]) -> bool:
        """Whether words in a row, lower case, hold a piece of the instructions."""
        return any(tuple(words[i : i + QUOTED_WORDS]) in self._quotable for i in range(len(words) - QUOTED_WORDS + 1))

    def _claims(self, plain: str, before: str) -> bool:
        """Whether the sentence says that a write was done which was not, or not like that.

        Tools share words of success ("all set for Monday"): a claim is true if any committed tool owns its words.
        """
        plain = plain.strip()
        lowered = plain.lower()
        if not any(stem in lowered for stem in self._definition.claim_stems):
            return False
        plain = _QUOTE.sub(self._without_data, plain)
        window = f"{before} {plain}" if before else plain
        fresh = len(window) - len(plain)
        made: list[tuple[str, int, int]] = []
        for tool, pattern in self._definition.claims:
            for text, offset in ((window, 0), (plain, fresh)) if before else ((plain, 0),):
                match = pattern.search(text)
                if match and match.end() + offset > fresh and not _hypothetical(text, match):
                    made.append((tool, match.start() + offset, match.end() + offset))
        if not made:
            return False
        true = [(start, end) for tool, start, end in made if tool in self._turn.committed]
        if not all(any(s < end and start < e for s, e in true) for _, start, end in made):
            return True
        if not self._true_of_effects(plain):
            return True
        self.claimed |= {tool for tool, _, _ in made}
        return False

    def _without_data(self, quotation: re.Match[str]) -> str:
        """Nothing, for a quotation of what a tool or the person said; anything else may be the model's own words."""
        return "" if self._known(quotation[1].strip(), by_person=True) else quotation[0]

    def _true_of_effects(self, plain: str) -> bool:
        """Whether days and times in a claim are those of what was committed."""
        if not _DIGIT.search(plain):
            return True
        today = self._turn.given.tools.clock.now().date()
        days, times = moments([[o.args, o.facts, o.result.data] for o in self._turn.outcomes])
        said_days = {m.start for m in find_dates(plain, today) if isinstance(m, DateMention) and m.kind == "day"}
        said_times = {m.start for m in find_times(plain) if m.kind == "point" and m.explicit}
        return said_days <= days and said_times <= times

    def _shows_inside(self, plain: str) -> bool:
        if _PRIVATE.search(plain) or ("_" in plain and self._inside.search(plain)):
            return True
        if not _DIGIT.search(plain):
            return False
        self._learn_secrets()
        without_links = _URL.sub(" ", plain)
        joined = _GAP.sub("", without_links)
        return any(secret in without_links or secret in joined for secret in self._secrets)

    def _learn_secrets(self) -> None:
        """Ids in the effective arguments of calls, but those that the person wrote; coordinators work with such ids."""
        messages = self._turn.messages
        if self._secrets_read < len(messages) and self._turn.given.tools.identity.role != "coordinator":
            written = " ".join(m.text for m in messages if isinstance(m, UserMessage))
            for message in messages[self._secrets_read :]:
                if isinstance(message, ToolMessage):
                    self._secrets |= {i for i in _ids(message.args) if i not in written}
            self._secrets_read = len(messages)

    def _ungrounded(self, plain: str) -> Fault | None:
        for url in _URL.findall(plain):
            if not self._known(url.rstrip(".,;:!?"), by_person=False):
                return "ungrounded"
        if not _DIGIT.search(plain):
            return None
        for pattern in self._grounded:
            if not all(self._known(reference, by_person=True) for reference in pattern.findall(plain)):
                return "ungrounded"
        text = _URL.sub(" ", plain)
        for pattern in self._grounded:
            text = pattern.sub(" ", text)
        numbers = self._numbers()
        for phone in _PHONE.findall(text):
            if re.sub(r"\D", "", phone) not in numbers and not self._known(phone.strip(), by_person=False):
                return "ungrounded"
        return None

    def _numbers(self) -> frozenset[str]:
        directory, identity = self._turn.given.tools.directory, self._turn.given.tools.identity
        return frozenset(
            re.sub(r"\D", "", place.support_number)
            for client_id, place in directory.locations.items()
            if place.support_number and client_id in (identity.clients or (identity.client_id,))
        )

    def _known(self, reference: str, *, by_person: bool) -> bool:
        """Whether a reference stands in a tool result or an earlier reply, or (`by_person`) was written by them."""
        self._read_messages()
        reference = reference.lower()
        return reference in self._results or (by_person and reference in self._said)

    def _read_messages(self) -> None:
        """Take in the messages that came since the last look."""
        messages = self._turn.messages
        if self._messages_read == 0:
            self._results = " ".join(p.summary for p in self._turn.given.pending).lower()
        results, said = [self._results], [self._said]
        for message in messages[self._messages_read :]:
            match message:
                case UserMessage(text=text):
                    said.append(text.lower())
                case AssistantMessage(text=text):
                    results.append(text.lower())
                # Anybody may have written a document: its numbers and links are nothing that we know.
                case ToolMessage(result=result) if PART not in result:
                    results.append(orjson.dumps(result).decode().lower())
        self._results, self._said = " ".join(results), " ".join(said)
        self._messages_read = len(messages)


class StreamGuard:
    """Holds a model's text until it may be shown. One per model call."""

    def __init__(self, rules: Rules, shown: str) -> None:
        self._rules = rules
        self._buffer = ""
        self._before = _plain(shown[-LOOK_BACK:])
        self.taken = 0  # characters read
        self._words: list[str] = []  # the last ones of the message
        self._held: str | None = None  # from the first sign of tool syntax on
        self.tail: list[str] = []  # from the first question on
        self.calls: list[Found] = []
        self.withheld: list[Withheld] = []

    def feed(self, text: str) -> str:
        """Take more text; returns what may be shown now."""
        if self._held is not None:
            if len(self._held) < MAX_HELD:
                self._held += text
            return ""
        start = max(0, len(self._buffer) - 4)
        self._buffer += text
        end = 0
        for match in _END.finditer(self._buffer, start):
            end = match.end()
        if not end and len(self._buffer) > MAX_UNIT:
            end = self._buffer.rfind(" ") + 1 or len(self._buffer)
        if not end:
            return ""
        unit, self._buffer = self._buffer[:end], self._buffer[end:]
        return self._check(unit)

    def finish(self) -> str:
        """The end of the message; returns what may be shown now. `tail`, `calls` and `withheld` are then complete."""
        unit, self._buffer = self._buffer, ""
        shown = self._check(unit) if self._held is None else ""
        if self._held is None:
            return shown
        held, self._held = self._held, None
        self.calls, rest = read_calls(held, self._rules.names)
        return shown + "".join(self._pass(s, leaked=bool(self.calls)) for s in _sentences(rest))

    def _check(self, unit: str) -> str:
        shown = []
        sentences = _sentences(unit)
        for sentence in sentences:
            sign = self._rules.syntax(sentence)
            if sign:
                shown.append(self._pass(sentence[: sign.start()]))
                self._held = "".join((sentence[sign.start() :], *sentences, self._buffer))
                self._buffer = ""
                break
            shown.append(self._pass(sentence))
        return "".join(shown)

    def _pass(self, sentence: str, *, leaked: bool = False) -> str:
        """Show, hold or withhold one sentence. Of what is left of leaked syntax, whatever looks like it goes."""
        if not sentence.strip():
            return self._keep(sentence)
        if self._rules.syntax(sentence):
            if not leaked:
                self.withheld.append(Withheld("syntax", sentence))
            return ""
        fault = self._rules.fault(sentence, self._before)
        # Line by line a quotation would be too short to be seen, so what came before counts, shown or not.
        words = [*self._words, *(word.lower() for word in _WORD.findall(sentence))]
        self._words = words[1 - QUOTED_WORDS :]
        if fault is None and self._rules.quotes(words):
            fault = "forbidden"
        if fault is not None:
            self.withheld.append(Withheld(fault, sentence))
            return ""
        return self._keep(sentence)

    def _keep(self, sentence: str) -> str:
        self._before = (self._before + _plain(sentence))[-LOOK_BACK:].strip()
        if self.tail or is_question(sentence):
            self.tail.append(sentence)
            return ""
        return sentence


def is_question(sentence: str) -> bool:
    """Whether a sentence asks something."""
    return sentence.rstrip(" \n\t\"'”’)]*_").endswith(("?", "？"))


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a text with their trailing blanks; an iterator, so that a reader can stop and take the rest."""
    at = 0
    for match in _END.finditer(text):
        yield text[at : match.end()]
        at = match.end()
    if at < len(text):
        yield text[at:]


def _plain(text: str) -> str:
    """Without markup, typographic quotes and look-alike letters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return text.translate(_SOFTENED)


def _hypothetical(text: str, match: re.Match[str]) -> bool:
    """Whether a claim's words stand under "once", "if", "nothing" and the like, right before them."""
    before = text[: match.start()]
    if _CONDITION.search(before):
        return True
    return bool(_PASSIVE.match(match[0]) and _NOTHING.search(before))


def _secrets(turn: Turn) -> set[str]:
    """Ids that nobody needs to read: of the session, the caller and the locations."""
    given, identity = turn.given, turn.given.tools.identity
    found = {str(given.conversation_id), given.conversation_id.hex, *given.tools.directory.locations, *identity.clients}
    found |= {i for i in (identity.customer_id, identity.user_id, identity.client_id) if i}
    return {secret for secret in found if len(secret) >= 4}


def _ids(args: JsonObject) -> Iterator[str]:
    for key, value in args.items():
        if key.endswith("_id") and isinstance(value, str) and _DIGIT.search(value):
            yield value


@lru_cache(maxsize=64)
def _inside(names: tuple[str, ...]) -> re.Pattern[str]:
    """Names of tools with an underscore in them: no plain words."""
    inside = "|".join(re.escape(name) for name in names if "_" in name) or r"(?!)"
    return re.compile(rf"\b(?:{inside})\b", re.IGNORECASE)


@lru_cache(maxsize=64)
def _patterns(texts: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text, re.IGNORECASE) for text in texts)


@lru_cache(maxsize=16)
def _shingles(instructions: str) -> frozenset[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(instructions)]
    return frozenset(tuple(words[i : i + QUOTED_WORDS]) for i in range(len(words) - QUOTED_WORDS + 1))
