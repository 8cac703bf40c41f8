"""The shipped documents: complete, in form, with the facts they must state and no figure that contradicts another."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.definition import load_definition

CONTENT = Path(__file__).parents[3] / "knowledge_base" / "content"
IDS = [f"faq-{n:02}" for n in range(1, 17)] + [f"pol-{n:02}" for n in range(1, 9)]
FIELDS = {"doc_id", "title", "audience", "locations", "valid_from", "source"}

# Each document, and patterns of what it has to say.
FACTS = {
    "faq-01": [
        "assistant",
        "portal",
        "project, then the date, then the time, and last you confirm",
        "earliest.*tomorrow",
        "book nothing before your yes",
    ],
    "faq-02": [
        "free until 24 hours before it starts",
        "old slot next to the new slot",
        "confirm the new slot first",
        "Later than that, only the office",
    ],
    "faq-03": [
        "free until 24 hours before the start",
        "asks once for a short reason",
        "stays open and can be booked again",
    ],
    "faq-04": ["60-minute arrival window", "calls or texts you on the way"],
    "faq-05": [
        "flooring, clear the rooms of furniture and breakables",
        "between 65 and 80 °F for 48 hours before",
        "windows and doors, keep 3 feet clear on both sides",
        "take the blinds off",
        "roofing and gutters, move all vehicles.*ladders have access",
        "fence.*utility lines marked.*property line",
        "cabinets, empty",
        "HVAC.*3 feet clear around the unit",
        "Secure your pets.*indoors and outdoors",
    ],
    "faq-06": [
        "adult of 18 or older.*at the start and at the end",
        "key under the mat or a door code does not replace",
        "outdoor work.*access was agreed in a note",
    ],
    "faq-07": [
        "measurement takes 1 hour",
        "flooring installation takes 4 to 6 hours",
        "windows takes 4 hours",
        "doors takes 2 hours",
        "HVAC. takes 2 hours",
        "Gutter work takes 3 hours",
        "roof repair takes 3 hours",
        "deck repair takes 2 hours",
        "fence takes 6 hours",
        "cabinets takes 8 hours",
        "carpet installation takes 5 hours",
        "Signage takes 2 hours",
    ],
    "faq-08": [
        "Ready To Schedule means.*can be booked",
        "Tentatively Scheduled means.*slot is held.*office reviews",
        "1 business day, and then the project shows Scheduled",
        "Pending Reschedule.*released.*new slot",
        "On Hold.*Waiting.*office or a supplier has to act first",
        "Completed means that the work is done",
    ],
    "faq-09": [
        "a permit, a product, a measurement or the contract",
        "crew is fully booked in the weeks that were searched",
        "later range",
        "callback note",
        "office",
    ],
    "faq-10": [
        "roofing, gutters, decks, fences, windows and doors",
        "shows you the forecast",
        "for the office to decide",
    ],
    "faq-11": [
        "access, pets, parking, or how you wish to be contacted",
        "up to 500 characters",
        "The office and the technician see",
        "cannot be edited or deleted by the assistant",
        "add a correction",
    ],
    "faq-12": ["as a note", "office confirms the change within 1 business day", "date and time of your visit stay"],
    "faq-13": [
        "phone number and the hours of your office",
        "Outside opening hours, leave a callback note",
        "answered by the end of the next business day",
    ],
    "faq-14": ["tell us in a note", "free parking within 100 feet", "visible only to the office and the technician"],
    "faq-15": [
        "several locations",
        "default location",
        "Name a location",
        "ask for all locations",
        "may see only the locations",
    ],
    "faq-16": ["conversation for 90 days", "audit record of changes.*400 days", "no card data", "ask for deletion"],
    "pol-01": [
        "no fee.*with at least 24 hours' notice",
        "Less than 24 hours before.*only the office can change",
        "office also tells you about any cost",
        "measured to the start time",
    ],
    "pol-02": [
        "waits 15 minutes and calls you once",
        "counts as missed",
        "After 2 missed visits, only the office books",
    ],
    "pol-03": [
        "from tomorrow to 60 days ahead",
        "working days of your location",
        "first search.*10 days",
        "extended to 21 days",
    ],
    "pol-04": [
        "office decides by 5 PM the day before",
        "calls you",
        "that move is free",
        "does not count as a change by the customer",
    ],
    "pol-05": [
        "your own projects only",
        "Business users see only.*their own locations",
        "logs mask personal data.*30 days",
        "Conversations are kept for 90 days",
        "audit record.*400 days",
    ],
    "pol-06": [
        "automated assistant",
        "human is available on request during the opening hours",
        "upset.*offers you a person",
    ],
    "pol-07": [
        "booking, every move and every cancellation needs your explicit yes",
        "full restatement",
        "office review follows",
        "no exception on request",
    ],
    "pol-08": [
        "prices",
        "invoices",
        "contracts",
        "warranty",
        "advice on products",
        "Complaints about workmanship",
        "New orders",
        "office",
    ],
}

# A figure with its unit may only say this, wherever it stands.
FIGURES = {
    "hours": {"24", "48", "1", "2", "3", "4", "5", "6", "8"},
    "days": {"10", "21", "30", "60", "90", "400"},
    "business day": {"1"},
    "minutes": {"15", "60"},
    "feet": {"3", "100"},
    "characters": {"500"},
    "missed visits": {"2"},
}
# What is said in more than one document: how a sentence about it is recognised, and the one figure it may hold.
SAID_TWICE = {
    r"(?:fee|free|notice|cancel|chang|mov).*\bhours\b": "24",
    r"[Cc]onversation.*\bkept\b|keeps your conversation": "90",
    r"[Aa]udit record": "400",
    r"\blogs\b": "30",
    r"ahead\b.*\bdays\b|days ahead": "60",
    r"technician waits": "15",
    r"arrival window": "60",
    r"confirms the change|office reviews it": "1",
}


@cache
def documents() -> dict[str, tuple[dict[str, Any], str]]:
    """Front matter and body (without line breaks inside paragraphs) by file."""
    found = {}
    for path in sorted(CONTENT.glob("*.md")):
        _, front, body = path.read_text("utf-8").split("---\n", 2)
        found[path.stem] = (yaml.safe_load(front), body)
    return found


def body_of(doc_id: str) -> str:
    """The body of a document, on one line."""
    (body,) = (" ".join(body.split()) for front, body in documents().values() if front["doc_id"] == doc_id)
    return body


def sentences() -> list[tuple[str, str]]:
    """Every sentence, list item and heading, with the document it stands in."""
    return [
        (front["doc_id"], " ".join(sentence.split()))
        for front, body in documents().values()
        for block in re.split(r"\n\n|\n(?=[-#])", body)
        for sentence in re.split(r"(?<=[.?!;])\s+", block)
        if sentence.strip()
    ]


def test_there_are_the_24_documents_each_under_its_id() -> None:
    """Ids are complete, unique, and begin the file's name."""
    assert [front["doc_id"] for front, _ in documents().values()] == IDS
    assert all(name.startswith(front["doc_id"] + "-") for name, (front, _) in documents().items())


@pytest.mark.parametrize("doc_id", IDS)
def test_a_document_is_in_form_and_states_its_facts(doc_id: str) -> None:
    """Front matter, length, headings, and every fact of the outline."""
    ((front, body),) = (each for each in documents().values() if each[0]["doc_id"] == doc_id)
    assert set(front) == FIELDS
    assert isinstance(front["audience"], list)
    assert isinstance(front["locations"], list)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", front["valid_from"])
    assert 80 <= len(body.split()) <= 250
    assert 1 <= len(re.findall(r"^## ", body, re.MULTILINE)) <= 3
    assert not re.search(r"^# ", body, re.MULTILINE)
    text = body_of(doc_id)
    assert [fact for fact in FACTS[doc_id] if not re.search(fact, text)] == []


def test_figures_with_a_unit_are_those_of_the_outline() -> None:
    """No document has a figure of its own for hours, days, minutes, feet, characters or visits."""
    for doc_id in IDS:
        for unit, allowed in FIGURES.items():
            singular = unit.removesuffix("s") + "s?"
            found = set(re.findall(rf"(\d+)[ -](?:{singular})\b", body_of(doc_id)))
            assert found <= allowed, (doc_id, unit)


def test_what_several_documents_say_has_one_figure() -> None:
    """Notice, retention, booking window, waiting time: the same wherever they are told."""
    for about, figure in SAID_TWICE.items():
        told = [
            (doc_id, found)
            for doc_id, sentence in sentences()
            if doc_id not in ("faq-05", "faq-07") and re.search(about, sentence)
            for found in re.findall(r"(\d+)[ -](?:hour|minute|day|business)", sentence)
        ]
        assert told, about
        assert {found for _, found in told} == {figure}, (about, told)


def test_no_document_holds_what_only_tools_know() -> None:
    """Neither prices, phone numbers, opening hours nor dates: only the one hour by which the office decides."""
    for doc_id in IDS:
        text = body_of(doc_id)
        assert not re.search(r"[$€£]\s*\d|\d\s*(?:dollars|USD|%)", text), doc_id
        assert not re.search(r"\d{3}[ .-]?\d{4}|\+\d{6,}", text), doc_id
        assert not re.search(r"\b\d{1,2}:\d\d\b|\b20\d\d\b|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b", text), (
            doc_id
        )
        hours = re.findall(r"\b\d{1,2} ?[AP]M\b", text)
        assert hours == (["5 PM"] if doc_id == "pol-04" else []), doc_id


def test_no_sentence_could_be_taken_for_a_claim_of_something_done() -> None:
    """The assistant quotes these sentences; its own guard against false claims must let every one pass."""
    definition = load_definition()
    never = [re.compile(pattern, re.IGNORECASE) for pattern in definition.file.never_say]
    for doc_id, sentence in sentences():
        assert [tool for tool, claim in definition.claims if claim.search(sentence)] == [], (doc_id, sentence)
        assert not any(pattern.search(sentence) for pattern in never), (doc_id, sentence)
