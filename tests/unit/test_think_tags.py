"""Thoughts in the text are told from it, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.providers.base import Text
from agent.providers.http import StreamBroken
from agent.providers.think_tags import ThinkTags


def split(text: str, size: int, *, thinks: bool = False) -> tuple[str, str]:
    """Text and thoughts of a message that comes in pieces of this size."""
    tags = ThinkTags(thinks=thinks)
    found = [chunk for at in range(0, len(text), size) for chunk in tags.feed(text[at : at + size])]
    found += tags.settle()
    said = "".join(chunk.text for chunk in found if isinstance(chunk, Text))
    return said, "".join(chunk.text for chunk in found if not isinstance(chunk, Text))


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("Hello.", "Hello.", ""),
        ("<think>\nhm\n</think>\n\nHello.", "Hello.", "\nhm\n"),
        ("  <think></think>\nHello.", "  Hello.", ""),
        ("<think>one</think>A <thinking>two</thinking> B", "A  B", "onetwo"),
        ("[THINK]hm[/THINK]Hello.", "Hello.", "hm"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello.", "Hello.", "hm"),
        ("Hello.<|im_end|>", "Hello.", ""),
        ("<think>never ends", "", "never ends"),
        ("1 < 2, [x], <thin", "1 < 2, [x], <thin", ""),
        ("<tool_call>{}</tool_call>", "<tool_call>{}</tool_call>", ""),
    ],
)  # fmt: skip
def test_any_cut_gives_the_same(text: str, said: str, thought: str) -> None:
    """Tags of several families, control tokens, and what only looks like them."""
    for size in range(1, len(text) + 1):
        assert split(text, size) == (said, thought), size


def test_without_an_opening_tag_it_depends_on_the_model() -> None:
    """One that thinks first had its tag in the prompt; of any other there is nothing to take back."""
    for size in (1, 4, 50):
        assert split("hm\n</think>\n\nHello.", size, thinks=True) == ("Hello.", "hm\n")
        assert split("<think>hm</think>Hello.", size, thinks=True) == ("Hello.", "hm")
        assert split("No thought.", size, thinks=True) == ("No thought.", "")
        assert split("hm</think>Hello.", size) == ("hmHello.", "")


@given(st.text(alphabet="<>/think[]TH |a", max_size=40), st.integers(1, 9), st.booleans())
def test_nothing_is_lost_or_made_up(text: str, size: int, thinks: bool) -> None:
    """What is neither thought nor text are tags and the blanks beside them."""
    said, thought = split(text, size, thinks=thinks)
    whole = split(text, max(1, len(text)), thinks=thinks)
    assert (said, thought) == whole
    if "think" not in text.lower():
        assert said == text


@pytest.mark.parametrize(("opening", "thinks"), [("<think>", False), ("", True)])
def test_thoughts_that_do_not_end_are_given_up(opening: str, thinks: bool) -> None:
    """Shown as they come, or held back since they may be text."""
    with pytest.raises(StreamBroken, match="do not end"):
        split(opening + "x" * 210_000, 10_000, thinks=thinks)
