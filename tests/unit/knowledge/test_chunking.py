"""Chunks: spans of the parsed text, none lost, none too long, cut where a reader would."""

import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.chunking import ChunkingConfig, chunk
from knowledge_base.chunking.config import KINDS
from knowledge_base.documents import Chunk, Page, Parsed, embedded_text
from knowledge_base.errors import InvalidRequest
from knowledge_base.parsing.markdown import find_headings

LINES = st.sampled_from(
    [
        "# One",
        "## Two words",
        "### Three",
        "Under\n=====",
        "",
        "",
        "- an item of a list",
        "1. first",
        "  - nested",
        "| a | b |",
        "```",
        "A sentence. Another one! And, e.g. this? Yes.",
        "word " * 60,
        "x" * 300,
        "这是一个句子。这是另一个！还有吗？" * 12,
        "هل هذا سؤال؟ نعم، هذا جواب. " * 8,
        "e\u0301" * 90,
        "👩‍👩‍👧‍👦🇩🇪🇫🇷👍🏽" * 12,
    ]
)
TEXTS = st.one_of(st.lists(LINES, max_size=40).map("\n".join), st.text(max_size=900))
CONFIGS = st.builds(
    ChunkingConfig,
    kind=st.sampled_from(KINDS),
    max_chars=st.sampled_from([100, 137, 400, 1000]),
    overlap_chars=st.sampled_from([None, 0, 20, 50]),
)


def parsed(text: str, **more: object) -> Parsed:
    return Parsed(text, "Title", "text/markdown", headings=tuple(find_headings(text)), **more)  # type: ignore[arg-type]


def cut(text: str, max_chars: int = 1000, kind: str = "sections", overlap: int | None = None) -> list[Chunk]:
    return chunk(parsed(text), ChunkingConfig(kind, max_chars, overlap))  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, config=CONFIGS)
def test_chunks_are_ordered_spans_that_hold_all_and_are_not_too_long(text: str, config: ChunkingConfig) -> None:
    """Whatever the text and the kind."""
    chunks = chunk(parsed(text), config)

    held: set[int] = set()
    for n, each in enumerate(chunks):
        assert each.ordinal == n
        assert each.text == text[each.start : each.end]
        assert each.text == each.text.strip() != ""
        assert each.end - each.start <= config.max_chars
        if each.parent:
            assert each.parent[0] <= each.start < each.end <= each.parent[1]
            assert each.parent[1] - each.parent[0] <= config.max_chars
        held.update(range(each.start, each.end))
    assert [i for i, character in enumerate(text) if not character.isspace() and i not in held] == []
    assert all(a.start <= b.start and a.end < b.end for a, b in pairwise(chunks))
    assert len({each.key("d") for each in chunks}) == len(chunks)
    assert all((each.parent is not None) == (config.kind == "hierarchical") for each in chunks)


@settings(max_examples=60, deadline=None)
@given(above=st.lists(LINES, max_size=12).map("\n".join), config=CONFIGS)
def test_a_chapter_above_changes_no_key_below(above: str, config: ChunkingConfig) -> None:
    """What stands in a chapter that is longer than a chunk is cut the same, whatever stands in the chapters above."""
    if config.kind == "fixed" or above.count("```") % 2:
        return
    words = [f"Sentence {n} of the last chapter speaks of subject {n * 7}." for n in range(40)]
    last = "# Last chapter\n\n" + " ".join(words)
    before = chunk(parsed(last), config)

    after = chunk(parsed(f"# First chapter\n\n{above}\n\n{'It has some text. ' * 60}\n\n{last}"), config)

    assert [each.key("d") for each in after[-len(before) :]] == [each.key("d") for each in before]


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(["e\u0301", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "\u1112\u1161\u11ab", "a"]), min_size=80, max_size=400
    ).map("".join)
)
def test_what_is_seen_as_one_character_is_not_cut(text: str) -> None:
    """Accents, joined emoji, flags, skin tones and syllables stay whole even without blanks."""
    for config in (ChunkingConfig("sections", 100), ChunkingConfig("fixed", 100, 0)):
        for each in chunk(parsed(text), config):
            assert not unicodedata.combining(each.text[0])
            assert each.text[0] not in "\u200d👍🏽\u1161\u11ab"[1:].replace("👍", "")
            assert each.text[-1] != "\u200d"
            flags = re.findall("[\U0001f1e6-\U0001f1ff]+", each.text)
            assert all(len(flag) % 2 == 0 for flag in flags)


def test_a_short_document_is_one_chunk() -> None:
    """A few headings do not tear apart what fits."""
    text = "# Moving a visit\n\nIt is free.\n\n## When\n\nUntil 24 hours before.\n\n## How\n\nAsk the assistant."

    assert [each.text for each in cut(text)] == [text]


def test_sections_are_chunks_of_their_own_unless_they_are_tiny() -> None:
    """So that each can be cited by its name; tiny ones share a chunk."""
    text = "\n\n".join(f"## Part {n}\n\n" + "Here are some words that say it. " * 8 for n in range(3))
    assert [each.section for each in cut(text)] == ["Part 0", "Part 1", "Part 2"]

    tiny = "\n\n".join(f"## Part {n}\n\n" + "Here are some words that say it. " * 4 for n in range(8))
    assert 2 <= len(cut(tiny)) <= 3


def test_sections_carry_the_path_of_their_headings() -> None:
    """Of the section that is most of a chunk, else of what holds for all of it."""
    long = "Some words of a sentence. " * 30
    tail = "## After\n\nShort.\n\n## Later\n\nBrief.\n\n## Last\n\nSmall."
    text = f"# Guide\n\n## Before\n\n{long}\n\n### Tools\n\n{long}\n\n{tail}"

    assert [each.section for each in cut(text)] == ["Guide > Before", "Guide > Before > Tools", "Guide"]


def test_a_heading_does_not_stand_alone() -> None:
    """It goes with the first of its text, also where that is as long as a chunk."""
    text = (
        "# Head\n\n" + "Some words of a sentence here. " * 31 + "\n\n## Next\n\n" + "Other words of a sentence. " * 37
    )

    chunks = cut(text)

    assert any(each.text.startswith("## Next\n\nOther words") for each in chunks)
    assert chunks[0].text.startswith("# Head\n\nSome words")


def test_lists_and_tables_stay_together_where_they_fit() -> None:
    """And are cut between their items and rows where they do not."""
    items = "\n".join(f"- item {n} with a few words" for n in range(12))
    text = "Words before it. " * 45 + "\n\n" + items + "\n\nAfter."

    together = cut(text)
    assert any(items in each.text for each in together)

    rows = "\n".join(["| a | b |", "| --- | --- |", *(f"| row {n} | value {n} |" for n in range(100))])
    for each in cut(rows, 300):
        assert all(line.startswith("|") and line.endswith("|") for line in each.text.split("\n"))


@pytest.mark.parametrize(
    "sentences",
    [
        ["这里是第一句话。", "第二句话在这里！", "第三句话是什么？"],
        ["هل يمكن تغيير الموعد؟ ", "نعم، يمكن ذلك. ", "اتصل بنا اليوم! "],
        ["क्या यह संभव है? ", "हाँ, यह संभव है। "],
        ["Dr. Smith comes at 5 p.m. on Monday. ", "J. R. Miller, e.g. from the office, calls. ", "Is it so? "],
    ],
)
def test_cuts_fall_between_sentences_of_any_script(sentences: list[str]) -> None:
    """No chunk begins or ends inside one."""
    text = "".join(sentences * 12)

    for each in cut(text, 100):
        assert any(each.text.startswith(sentence.strip()) for sentence in sentences)
        assert any(each.text.endswith(sentence.strip()) for sentence in sentences)


def test_a_tiny_last_piece_is_not_left_over() -> None:
    """It takes from the one before."""
    text = " ".join(f"Sentence number {n:03d} is here." for n in range(36)) + " The end comes now. And so."

    lengths = [len(each.text) for each in cut(text)]

    assert len(lengths) == 2
    assert min(lengths) > 400


def test_overlap_repeats_words_within_a_section_only() -> None:
    """A chunk that begins with a heading repeats nothing."""
    text = "# A\n\n" + "alpha beta gamma delta. " * 80 + "\n\n# B\n\n" + "other words are here. " * 80
    chunks = cut(text, 500, overlap=100)

    assert sum(b.start < a.end for a, b in pairwise(chunks)) == len(chunks) - 2
    assert all(text[each.start - 1].isspace() for each in chunks[1:])
    assert all("# B" in each.text[:3] or "# B" not in each.text for each in chunks)


def test_children_are_small_and_show_their_parent() -> None:
    """A quarter of what is shown."""
    text = "# A\n\n" + "Some words of a sentence. " * 100
    chunks = cut(text, 1000, "hierarchical")

    assert max(len(each.text) for each in chunks) <= 250
    assert len({each.parent for each in chunks}) == 3
    assert {each.section for each in chunks} == {"A"}


def test_pages_and_context_are_of_the_place() -> None:
    """The page where a chunk begins; attributes to embed stand in what is embedded."""
    text = "first page. " * 60 + "\n\n" + "second page. " * 60
    document = parsed(text, pages=(Page(0, 1), Page(text.index("second"), 2)), context="region: EU")
    chunks = chunk(document, ChunkingConfig(max_chars=400))

    assert chunks[0].page == 1
    assert chunks[-1].page == 2
    assert embedded_text("Title", chunks[0]).startswith("Title\nregion: EU\nfirst page.")


def test_equal_texts_have_different_keys_by_their_count() -> None:
    """Not by their place: so nothing that stands above changes them."""
    text = "\n\n".join("Same words again and again. " * 20 for _ in range(3))
    chunks = cut(text, 600)

    assert [each.occurrence for each in chunks] == [0, 1, 2]
    assert len({each.key("d") for each in chunks}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "Some words. Others here.\n" * 40_000,
        "." * 10**6,
        "e" + "\u0301" * 10**6,
        "a" + " " * 10**6 + "b",
        "- a\n" * 250_000,
    ],
    ids=["prose", "dots", "accents", "blanks", "items"],
)
def test_a_megabyte_takes_no_more_than_its_length_says(text: str) -> None:
    """CPU time: generous against a loaded machine, far below what a quadratic step would take (minutes)."""
    begun = time.process_time()
    cut(text)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("made", "field"),
    [
        ({"kind": "tokens"}, "chunking.kind"),
        ({"max_chars": 50}, "chunking.max_chars"),
        ({"overlap_chars": 501}, "chunking.overlap_chars"),
        ({"overlap_chars": -1}, "chunking.overlap_chars"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(made: dict[str, object], field: str) -> None:
    """By the name of the field."""
    with pytest.raises(InvalidRequest) as refused:
        ChunkingConfig(**made)  # type: ignore[arg-type]
    assert refused.value.field == field
