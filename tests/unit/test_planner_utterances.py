"""The planner understands people it was not tuned on word by word."""

from __future__ import annotations

import time

import pytest

from tests.unit.planner_bank import Bank, Ear, Reading, Utterance, faults

FLOOR = 0.955  # of the whole bank; a point below what was reached
BANK = Bank()


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


async def test_most_of_the_bank_is_understood(ear: Ear) -> None:
    """Intent, record, day, time, text and number of wishes are right for nearly all of the bank."""
    rows = [(utterance, await ear.read(utterance, BANK.openings)) for utterance in BANK.utterances]
    misses = [_told(*row) for row in rows if faults(*row)]
    assert 1 - len(misses) / len(rows) >= FLOOR, "\n".join(misses)


@pytest.mark.parametrize("utterance", BANK.safety, ids=lambda u: u.say)
async def test_a_reading_that_would_do_harm_never_happens(ear: Ear, utterance: Utterance) -> None:
    """Talk about cancelling is no cancellation; internals and other people's data are recognised as such."""
    reading = await ear.read(utterance, BANK.openings)
    assert not faults(utterance, reading), _told(utterance, reading)


def test_every_intent_is_asked_for_often_enough() -> None:
    """An accuracy over a handful of messages says nothing."""
    wanted = [u.want[0] for u in BANK.utterances if u.after is None]
    assert {intent for intent in set(wanted) if wanted.count(intent) < 12} == set()


@pytest.mark.parametrize("part", ["a,", "maybe something, ", "what, which, have, you, ", "hm. ", "cancel it and "])
async def test_a_message_of_many_parts_is_read_in_bounded_time(ear: Ear, part: str) -> None:
    """Nobody can hold up the server with one message of the longest length; unbounded, this took minutes."""
    started = time.process_time()
    await ear.read(Utterance((part * 2000)[:2000], ()), BANK.openings)
    assert time.process_time() - started < 5


def _told(utterance: Utterance, reading: Reading) -> str:
    return f"{utterance.say!r}: wanted {utterance.want or utterance.never}, got {reading.intents}"
