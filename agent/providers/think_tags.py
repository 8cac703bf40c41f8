"""Thoughts and control tokens that a model's server left in the text: told apart while the text streams.

Some servers have no parser for the way in which a model marks what it thinks, and pass it on as it is.
"""

from __future__ import annotations

import re

from agent.providers.base import Reasoning, Text
from agent.providers.http import MAX_THOUGHTS, Endless

_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)
# They end a message, or say that the answer begins; a closing tag may come without its opening one, which some chat
# templates put before what the model writes.
_NOISE = (
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
    "<|return|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    *(closing for _, closing in _PAIRS),
)
_CLOSING = dict(_PAIRS)
_MARKERS = (*_CLOSING, *_NOISE)
_LONGEST = max(map(len, _MARKERS))
_ANY = re.compile("|".join(map(re.escape, sorted(_MARKERS, key=len, reverse=True))))


class ThinkTags:
    """Splits the text of one message, whatever the pieces it comes in. Text without `<` and `[` passes as it is.

    Some chat templates put the opening tag before what the model writes. Of a model that thinks first (`thinks`) the
    text is therefore held until a tag or the end says what it was, or the caller knows (`settle`).

    Thoughts of a message are bounded here, whichever way they come: `feed` and `think` raise `StreamBroken`.
    """

    def __init__(self, *, thinks: bool = False) -> None:
        """Nothing is read yet."""
        self._unsure = thinks
        self._held = ""  # may be the beginning of a marker, or all so far
        self._closing = ""  # what ends the thoughts that are being read
        self._said = False  # there was text that is not blank
        self._trims = False  # blanks between thoughts and text are neither
        self._room = MAX_THOUGHTS

    @property
    def is_idle(self) -> bool:
        """Whether a text without `<` and `[` can go past."""
        return not (self._held or self._closing or self._trims or self._unsure)

    def think(self, text: str) -> Reasoning:
        """A thought that did not come in the text."""
        self._room -= len(text)
        if self._room < 0:
            raise Endless("the thoughts do not end")
        return Reasoning(text)

    def feed(self, text: str) -> list[Text | Reasoning]:
        """What is known to be text or thought by now."""
        found: list[Text | Reasoning] = []
        known, text, self._held = len(self._held), self._held + text, ""
        if self._unsure:
            first = _ANY.search(text, max(0, known - _LONGEST))
            if first is None:
                if len(text) > self._room:
                    raise Endless("the thoughts do not end")
                self._held = text
                return []
            self._unsure = False
            if first[0] in _CLOSING.values():
                found.append(self.think(text[: first.start()]))
                text = text[first.start() :]
        while text:
            if self._closing:
                end = text.find(self._closing)
                if end < 0:
                    text = self._hold(text, (self._closing,))
                    self._add(found, text)
                    break
                self._add(found, text[:end])
                text, self._closing = text[end + len(self._closing) :], ""
                continue
            marker = _ANY.search(text)
            if marker is None:
                self._add(found, self._hold(text, _MARKERS))
                break
            self._add(found, text[: marker.start()])
            self._closing, self._trims = _CLOSING.get(marker[0], ""), not self._said
            text = text[marker.end() :]
        return found

    def settle(self) -> list[Text | Reasoning]:
        """What was held back for nothing: no thoughts come without an opening tag, or the message is over."""
        found: list[Text | Reasoning] = []
        self._add(found, self._held)
        self._held, self._unsure = "", False
        return found

    def _hold(self, text: str, markers: tuple[str, ...]) -> str:
        """The text without a tail that may grow to a marker, which is kept."""
        begin = max(0, len(text) - _LONGEST)
        for at in range(begin, len(text)):
            if text[at] in "<[" and any(marker.startswith(text[at:]) for marker in markers):
                self._held = text[at:]
                return text[:at]
        return text

    def _add(self, found: list[Text | Reasoning], text: str) -> None:
        if self._closing:
            if text:
                found.append(self.think(text))
            return
        if self._trims:
            text = text.lstrip()
        if text:
            self._said, self._trims = self._said or not text.isspace(), False
            found.append(Text(text))
