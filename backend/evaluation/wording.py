"""Sentences, questions and claims in a reply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

URL = re.compile(r"\]\([^)\s]*\)|https?://\S+")
_QUOTED = re.compile(r'"[^"\n]{1,500}"|(?<!\w)\'[^\'\n]{2,500}\'(?!\w)|«[^»\n]{1,500}»')
_SENTENCE = re.compile(r"(?<=[.!?。])[\s)\"']+|\n+")
_YES_PLEASE = re.compile(
    r"\b(?:reply|say|type|answer|tell me|responde|di)\b[^.!?\n]{0,30}\b(?:yes|sí|si)\b", re.IGNORECASE
)

_ADVERBS = r"(?:(?:just|now|all|already|successfully|tentatively|officially|also|been)\s+)*"
_ARE = r"(?:is|are|was|were|it's|that's|you're|you are)"
_DONE = rf"(?:i've|i have|we've|we have|i|has been|have been|{_ARE}(?: now| all)|successfully)\s+{_ADVERBS}"
_STATE = rf"{_ARE}\s+{_ADVERBS}"
_START = r"^\W*(?:(?:great|perfect|ok|okay|done|thanks|good news)\W+)*"
# What each kind of write sounds like once it is done. "is scheduled" alone describes; it is judged by what is true.
_BOOKED = r"(?:booked|reserved|scheduled|confirmed|set up|locked in)"
CLAIMS: dict[str, tuple[re.Pattern[str], ...]] = {
    "booking": tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b{_DONE}{_BOOKED}\b",
            rf"\b{_STATE}{_BOOKED}\b",
            rf"{_START}(?:booked|reserved|confirmed)\b(?!\s+(?:appointments?|projects?))",
            r"\b(?:booking|reservation)\s+(?:is\s+)?(?:complete|confirmed|made|done)\b",
            r"\breservad[oa]\b|\bagendad[oa]\b|\bhe\s+(?:reservado|agendado|programado)\b",
        )
    ),
    "move": tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b(?:{_DONE}|{_STATE})(?:moved|rescheduled|shifted|pushed|switched)\b",
            rf"{_START}(?:moved|rescheduled)\b",
            r"\bhe\s+(?:movido|reprogramado|cambiado)\b",
        )
    ),
    "cancel": tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b(?:{_DONE}|{_STATE})(?:cancell?ed|called off)\b",
            rf"{_START}cancell?ed\b",
            r"\bcancellation\s+(?:is\s+)?(?:complete|confirmed|done)\b",
            r"\bhe\s+cancelado\b|\bha\s+sido\s+cancelad[oa]\b",
        )
    ),
    "note": tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b{_DONE}(?:added|saved|recorded|left|put|logged|stored)\b(?=[^.!?\n]*\bnotes?\b)",
            rf"\bnotes?\b[^.!?\n]{{0,60}}\b(?:has|have)\s+been\s+{_ADVERBS}(?:added|saved|recorded|logged|stored)\b",
            r"\bnote\s+(?:is\s+)?(?:saved|added)\b(?!\s+(?:on|by)\b)",
            r"\bhe\s+(?:añadido|guardado)\b(?=[^.!?\n]*\bnota)",
        )
    ),
    # "is already assigned" describes; that it was done in this conversation is the claim.
    "assign": tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b{_DONE}(?:assigned|allocated|dispatched)\b",
            rf"{_START}(?:assigned|allocated|dispatched)\b",
            r"\bassignments?\s+(?:(?:is|are)\s+)?(?:complete|confirmed|made|done)\b",
            r"\b(?:is|are)\s+(?:all\s+)?with\s+team\s+\w+\s+now\b",
        )
    ),
}
ALL_SET = re.compile(r"\b(?:you're|you are)\s+(?:all\s+)?set\b|^\W*(?:all set|all done)\b", re.IGNORECASE)

_CONDITION = re.compile(
    r"\b(?:if|once|until|till|before|unless|whether|whenever|when|as soon as|after|to be|si|cuando|antes de)\b",
    re.IGNORECASE,
)
_CONDITION_AFTER = re.compile(r"\b(?:once|if|as soon as|when|until|unless)\s+(?:you|i|we)\b", re.IGNORECASE)
_DENIAL = re.compile(
    r"n't\b|\b(?:not|never|nothing|none|neither|nor|cannot|no|will|would|can|could|should|may|might|shall|be|being|without|only|nada|ning[uú]n[ao]?)\b",
    re.IGNORECASE,
)
_POLITE_NO = re.compile(r"\bno\s+(?:problem|worries|trouble)\b", re.IGNORECASE)
_SOMEBODY_ELSE = re.compile(
    r"\b(?:someone|somebody|another|taken|no longer|unavailable)\b|n't available|\bnot available\b"
    r"|\bother (?:customer|person)",
    re.IGNORECASE,
)


def sentences(plain: str) -> list[str]:
    """The sentences and lines of a readable text."""
    return [part.strip() for part in _SENTENCE.split(plain) if part and part.strip()]


def question_count(plain: str, quotable: Sequence[str] = ()) -> int:
    """How many questions the reply asks; marks in links, quotations and text quoted from the user do not count."""
    text = URL.sub(" ", plain)
    for quoted in quotable:
        if "?" in quoted:
            text = text.replace(quoted.strip(), " ")
    return len(re.findall(r"\?+", _QUOTED.sub(" ", text)))


def asks(plain: str, quotable: Sequence[str] = ()) -> bool:
    """Whether the reply asks for an answer: a question, or the wish for a yes."""
    return question_count(plain, quotable) > 0 or _YES_PLEASE.search(plain) is not None


def claims(plain: str) -> Iterator[tuple[str, str]]:
    """`(kind, sentence)` for each sentence that says a write was done: booking, move, cancel, note, assign or `any`."""
    for sentence in sentences(_QUOTED.sub('""', URL.sub(" ", plain))):
        if sentence.endswith("?"):
            continue
        for kind, patterns in (*CLAIMS.items(), ("any", (ALL_SET,))):
            if any(_is_claim(sentence, found) for pattern in patterns for found in pattern.finditer(sentence)):
                yield kind, sentence


def _is_claim(sentence: str, found: re.Match[str]) -> bool:
    before = sentence[: found.start()]
    clause = re.split(r"[,;:–—]|\b(?:and|but|so)\b", before)[-1] + found.group()
    return not (
        _CONDITION.search(before)
        or _CONDITION_AFTER.search(sentence[found.end() :])
        or _DENIAL.search(_POLITE_NO.sub("", clause))
        or _SOMEBODY_ELSE.search(sentence)
    )
