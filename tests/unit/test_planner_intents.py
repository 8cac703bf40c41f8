"""Likeness: what is masked, how the nearest wordings vote, and when their choice counts."""

from __future__ import annotations

import pytest

from agent.definition import load_definition
from agent.planner.intents import Classifier, Likeness, features, read_intents
from agent.planner.knowledge import Knowledge
from agent.planner.text import Lexicon

KNOWLEDGE = Knowledge(load_definition())
BARS = {"intent": 0.6, "voters": 5, "like": 0.3, "like_write": 0.9, "like_share": 0.5}
WORDINGS = {
    "ask": ["how do things stand", "where do things stand now"],
    "drop": ["take the whole thing away", "please take it all away"],
}
INTENTS = {
    "ask": {"specialist": "s", "goal": "read", "cues": [r"\bstatus\b"]},
    "drop": {"specialist": "s", "goal": "erase", "vetoes": [r"\bnot\b"]},
}


def classifier(**bars: float) -> Classifier:
    intents = read_intents(INTENTS, WORDINGS, writes={"erase"})
    return Classifier(intents, Lexicon({}, (), ()), {**BARS, **bars})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("is the carpet ready on friday at 3 pm", "is the zzcategory ready on zzwhen zzwhen"),
        ("the fence, april 6, 8am", "the zzcategory , zzwhen , zzwhen"),
        ("what about 412345", "what about zzreference"),
        ("the soonest you can come", "the soonest you can come"),  # a preference is part of the wish
        ("we have 3 cats", "we have zznumber cats"),
    ],
)
def test_records_days_times_and_numbers_are_masked(text: str, masked: str) -> None:
    assert KNOWLEDGE.masked(KNOWLEDGE.lexicon.mend(text)).split() == masked.split()


def test_what_differs_only_in_what_is_masked_is_voted_alike() -> None:
    one, two = (
        KNOWLEDGE.classifier.vote(KNOWLEDGE.lexicon.mend(t))
        for t in ("any gossip about the deck before friday", "any gossip about the carpet before monday")
    )
    assert one == two


def test_nothing_but_masks_is_like_nothing() -> None:
    assert KNOWLEDGE.classifier.vote(KNOWLEDGE.lexicon.mend("412345, friday")) == []


def test_the_text_with_more_rare_features_in_common_is_nearer() -> None:
    texts = [("a", features("the red house")), ("b", features("the blue boat")), ("c", features("the green boat"))]
    assert [label for label, _ in Likeness(texts).nearest(features("a blue boat"))][:2] == ["b", "c"]


def test_the_nearest_wordings_lead_where_cues_are_silent() -> None:
    best = classifier().rank("so where do things stand")[0]
    assert (best.intent.name, best.cue, best.voted) == ("ask", 0, True)
    assert best.score >= BARS["intent"]


def test_a_cue_that_decides_is_not_outvoted() -> None:
    best = classifier().rank("status , take the whole thing away")[0]
    assert (best.intent.name, best.voted) == ("ask", False)


def test_what_leads_to_a_change_must_be_more_alike() -> None:
    text = "take this whole thing away"
    assert classifier(like_write=0.5).rank(text)[0].intent.name == "drop"
    assert not classifier().rank(text)


@pytest.mark.parametrize("bars", [{"like": 0.99}, {"like_share": 1.1}])
def test_a_choice_under_the_thresholds_does_not_count(bars: dict[str, float]) -> None:
    assert not classifier(**bars).rank("so where do things stand")


def test_a_vetoed_intent_gets_no_votes() -> None:
    assert "drop" not in {g.intent.name for g in classifier(like_write=0.1).rank("do not take the whole thing away")}


def test_a_question_that_leads_to_a_change_counts_as_one() -> None:
    assert KNOWLEDGE.intents["cannot_make_it"].writes
    assert KNOWLEDGE.intents["cancel"].writes
    assert not KNOWLEDGE.intents["availability"].writes
    assert not KNOWLEDGE.intents["status"].writes


def test_every_group_of_examples_belongs_to_an_intent() -> None:
    assert set(KNOWLEDGE.block["examples"]) <= set(KNOWLEDGE.intents)
    assert all(isinstance(e, str) for examples in KNOWLEDGE.block["examples"].values() for e in examples)
