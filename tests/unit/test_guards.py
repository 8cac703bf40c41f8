"""What a model may say: claims, tool syntax, ids, phone numbers; and that text still streams."""

from __future__ import annotations

import random

import pytest

from agent.providers.base import Text
from agent.tool_syntax import read_calls
from agent.transcript import ToolMessage, UserMessage
from tests.doubles.scripted_model import calls, says, scripted
from tests.doubles.talk import DEFINITION, Reply, Talk
from tests.doubles.world import World
from tools.contract import ToolResult

BOOK = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="10:00")
NAMES = ("list_projects", "get_time_slots", "confirm_appointment", "add_note")


async def said(text: str, *, user: str = "hello", size: int = 7, world: World | None = None) -> Reply:
    """What becomes of a model's text; its second try is "Understood."."""
    provider, _ = scripted(says(text, size), says("Understood."))
    return await Talk(provider, world or World()).say(user)


@pytest.mark.parametrize(
    "claim",
    [
        "I've booked your flooring for Monday.",
        "I have just booked it!",
        "Your appointment is confirmed.",
        "Your visit is now scheduled for Monday, March 16.",
        "It has been booked.",
        "You're all set for Monday at 10 AM.",
        "Booked!",
        "Done — you are booked.",
        "All done, it’s **booked** for you.",
        "I went ahead and scheduled the visit.",
        "The appointment has been moved to Thursday.",
        "We've rescheduled you.",
        "I have cancelled the visit.",
        "Your appointment is canceled.",
        "The visit was successfully cancelled.",
        "I've saved a note for the technician.",
        "Your note has been added.",
        "No problem, I have booked it.",
        "I've\nbooked it for you.",
        "Sure thing. Everything has been confirmed and booked.",
        "I booked it.",
        "Your slot got booked.",
        "Your booking went through.",
        "I've checked, and cancelled the gutters.",
        "ok, your flooring's booked",
        "Su cita ha sido reservada.",
        "He cancelado la visita.",
    ],
)
async def test_a_claim_without_the_deed_is_never_shown(claim: str) -> None:
    """No call, no claim; whatever the wording and the pieces it arrives in."""
    for size in (1, 5, 400):
        reply = await said(claim, size=size)
        assert "claim" in reply.faults(), claim
        assert "ooked" not in reply.text
        assert "cita" not in reply.text
        assert "Understood." in reply.text


@pytest.mark.parametrize(
    "honest",
    [
        "Nothing is booked until you say yes.",
        "Nothing has been changed.",
        "It is not booked yet.",
        "Once it is booked, the office reviews it.",
        "I can book Monday at 10:00 AM for you.",
        "The visit could not be moved.",
        "I haven't cancelled anything.",
        "Your windows visit is scheduled for Wednesday, March 18.",
        "That day is fully taken.",
        "Your projects:\n1. Flooring Installation\n2. Windows Installation",
        "Would you like to have it moved or cancelled?",
        "After your appointment is confirmed, the technician calls you.",
        "The status is Ready To Schedule.",
        "I can add a note for the technician.",
        "It costs nothing if you cancel 24 hours before.",
    ],
)
async def test_honest_sentences_pass(honest: str) -> None:
    """Offers, refusals, conditions, lists and facts are no claims."""
    reply = await said(honest)
    assert reply.faults() == [], reply.work.audit
    assert reply.text == honest


async def test_what_others_wrote_is_no_claim_of_ours() -> None:
    """A note read out in quotation marks says what it says; made-up quotations are the model's own words."""
    world = World()
    result = {"ok": True, "notes": [{"note_text": "The painter has been moved to Thursday."}]}
    world.history = [UserMessage("notes?"), ToolMessage("c", "list_notes", result)]
    assert (await said('Your note says: "The painter has been moved to Thursday."', world=world)).faults() == []
    assert (await said('It says: "Your visit has been moved to Thursday."', world=world)).faults() == ["claim"]


async def test_a_claim_may_be_made_once_the_deed_is_done_and_only_of_that_deed() -> None:
    """After the yes the booking may be told; another day, hour or deed may not."""
    for text, passes in [
        ("It is booked for Monday, March 16 at 10:00 AM.", True),
        ("You're all set for Monday at 10 AM.", True),
        ("It is booked for Tuesday, March 17 at 10:00 AM.", False),
        ("It is booked for Monday, March 16 at 3 PM.", False),
        ("I've cancelled your windows visit.", False),
    ]:
        provider, _ = scripted([BOOK], says(text))
        talk = Talk(provider)
        await talk.say("book monday at 10")
        reply = await talk.say("yes")
        assert (text in reply.text) is passes, text
        assert "booked for Monday" in reply.text or passes


async def test_after_an_unknown_or_failed_deed_no_claim_passes() -> None:
    """Trying is not doing."""
    for result in (ToolResult("unknown", {"ok": False}), ToolResult("error", {"ok": False, "user_hint": "Taken."})):
        provider, _ = scripted([BOOK], says("Your visit is booked."))
        talk = Talk(provider)
        talk.world.toolbox.outcome = lambda *_, r=result: r
        await talk.say("book monday at 10")
        reply = await talk.say("yes")
        assert "is booked" not in reply.text
        assert reply.status == "completed"


@pytest.mark.parametrize(
    "text",
    [
        "Your customer id: 7000101.",
        "You are number 7 000 101 with us.",
        "You are at client 20OC01BK today.",
        "Your request is req_83ab2.",
        "The session id is 12af.",
        "Use Bearer abcdef123456 to call.",
        "Token eyJhbGciOiJIUzI1NiJ9 works.",
        "Ask for 123e4567-e89b-42d3-a456-426614174000 there.",
        "I will use get_available_dates now.",
        "Call us at 555-0199 any time.",
        "Call +1 (800) 555-0123 any time.",
        "The other office has 555-0122.",
        "Your neighbour's order is SO-26-2001_1.",
        "See https://example.com/pay for more.",
        "Just say yes and it happens.",
        "My instructions say: be nice.",
        "You help customers of a home-improvement service company with the visits to their projects.",
    ],
)
async def test_what_nobody_may_read_is_withheld(text: str) -> None:
    """Ids, keys, tool names, unknown numbers, links and orders, the instructions."""
    for size in (1, 6, 300):
        reply = await said(f"Hello there. {text} Goodbye.", size=size)
        assert len(reply.faults()) == 1, text
        assert text not in reply.text
        assert reply.text.startswith("Hello there. Goodbye.")


async def test_what_tools_and_people_said_may_be_repeated() -> None:
    """The office's own number, an order in a result, the person's own order number, a link from a result."""
    world = World()
    link = "https://brookhaven.cx-portal.dev.projectsforce.com/details/410001"
    result = {"ok": True, "projects": [{"order_number": "SO-26-1001_1", "link": link}]}
    world.history = [UserMessage("my projects"), ToolMessage("c", "list_projects", result, {"project_id": "410001"})]
    text = f"[SO-26-1001_1]({link}) is yours. I can't find SO-26-9999_1. The office has 555-0111."
    reply = await said(text, user="what about SO-26-9999_1", world=world)
    assert reply.faults() == []
    assert reply.text == text
    reply = await said("It is project 410001.", world=world)
    assert reply.faults() == ["private"]


LEAKS = [
    '<tool_call>{"name": "list_projects", "arguments": {}}</tool_call>',
    '<function_calls>\n<invoke name="list_projects">\n</invoke>\n</function_calls>',
    "<function=list_projects>{}</function>",
    '```json\n{"tool": "list_projects", "args": {}}\n```',
    '{"name": "list_projects", "arguments": "{}"}',
    '{"tool_calls": [{"function": {"name": "list_projects", "arguments": "{}"}}]}',
    "list_projects()",
    "[list_projects()]",
    '[TOOL_CALLS][{"name": "list_projects", "arguments": {}}]',
    '<|python_tag|>{"type": "function", "name": "list_projects", "parameters": {}}',
    "Action: list_projects\nAction Input: {}",
    '{"list_projects": {}}',
    "<tool_call>\n<function=list_projects>\n</function>\n</tool_call>",
    "<tool_call>list_projects\n</tool_call>",
    "<__function=list_projects></__function>",
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="list_projects">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>list_projects<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>list_projects\n```json\n{}\n```<｜tool▁call▁end｜>",
    "<|tool_call_begin|>functions.list_projects:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
    "<|start|>assistant<|channel|>commentary to=functions.list_projects <|constrain|>json<|message|>{}<|call|>",
    "commentary to=functions.list_projects json{}",
    "[TOOL_CALLS]list_projects[CALL_ID]x1y2[ARGS]{}",
    "list_projects[ARGS]{}",
    "<|tool_call>call:list_projects{}<tool_call|>",
    "<start_function_call>call:list_projects{}<end_function_call>",
    "```tool_code\nprint(default_api.list_projects())\n```",
    "<|python_tag|>list_projects.call()",
    'functools[{"name": "list_projects", "arguments": {}}]',
]


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_call_printed_as_text_is_made_and_not_shown(leak: str) -> None:
    """Every dialect, in pieces of any size, goes the ordinary way of a call."""
    for size in (1, 8, 500):
        provider, _ = scripted(says(f"Let me look.\n{leak}", size), says("You have two projects."))
        reply = await Talk(provider).say("my projects")
        assert reply.tools == [("list_projects", "ok")], leak
        assert reply.text == "Let me look.\n\nYou have two projects."


@pytest.mark.parametrize(
    "leak",
    ['<tool_call>{"name": "list_pro', '{"oops": [1, 2', "<invoke name=", "```\nwhatever {", '{"a": 1}', "{" * 4000],
)
async def test_syntax_that_is_no_call_is_withheld_and_asked_again(leak: str) -> None:
    """Nothing of it is shown."""
    reply = await said(f"Sure.\n{leak}")
    assert reply.text == "Sure.\n\nUnderstood."
    assert "syntax" in reply.faults()


async def test_a_gated_call_printed_as_text_waits_for_a_yes_like_any_other() -> None:
    """The dialect gives no way round."""
    args = '{"project_id":"410001","date":"2026-03-16","time":"10:00"}'
    leak = f'<tool_call>{{"name":"confirm_appointment","arguments":{args}}}'
    provider, _ = scripted(says(leak + "</tool_call>\nYou are booked!"))
    talk = Talk(provider)
    reply = await talk.say("book monday 10")
    assert talk.world.writes == []
    assert reply.status == "waiting"
    assert "You are booked" not in reply.text


def test_calls_are_read_with_their_arguments() -> None:
    """Python, XML parameters and several at once; unknown names are no calls."""
    assert read_calls('get_time_slots(project_id="1", date="2026-03-16")', NAMES)[0] == [
        ("get_time_slots", {"project_id": "1", "date": "2026-03-16"})
    ]
    xml = '<invoke name="add_note"><parameter name="note_text">ring (twice)</parameter></invoke>'
    assert read_calls(f"{xml} bye", NAMES) == ([("add_note", {"note_text": "ring (twice)"})], " bye")
    glm = "<tool_call>add_note\n<arg_key>note_text</arg_key>\n<arg_value>two\nlines</arg_value>\n</tool_call>"
    assert read_calls(glm, NAMES) == ([("add_note", {"note_text": "two\nlines"})], "")
    pairs = '<|tool_call>call:add_note{note_text:<|"|>a {b}, c<|"|>,copies:2}<tool_call|>'
    assert read_calls(pairs, NAMES)[0] == [("add_note", {"note_text": "a {b}, c", "copies": "2"})]
    kimi = '<|tool_call_begin|>functions.add_note:3<|tool_call_argument_begin|>{"note_text": "x"}<|tool_call_end|>'
    assert read_calls(kimi, NAMES)[0] == [("add_note", {"note_text": "x"})]
    unclosed = "<function=add_note><parameter=project_id>410001\n<parameter=note_text> ring twi"
    assert read_calls(unclosed, NAMES)[0] == []
    both = '[{"name": "list_projects", "arguments": {}}, {"name": "get_time_slots", "arguments": {"date": "x"}}]'
    assert [name for name, _ in read_calls(both, NAMES)[0]] == ["list_projects", "get_time_slots"]
    assert read_calls('{"name": "rm_rf", "arguments": {}}', NAMES)[0] == []


async def test_text_flows_on_at_sentence_ends() -> None:
    """The first sentence is shown before the second is complete; questions wait for the end."""
    shown: list[str] = []
    provider, _ = scripted([Text("One."), Text(" Two"), Text(" is here. "), Text("Three? "), Text("Four.")])
    reply = await Talk(provider).say("hello")
    shown = [e.text for e in reply.events if e.type == "text_delta"]
    assert shown == ["One.", " Two is here.", " Three?", " Four."]


async def test_any_cut_of_a_text_gives_the_same_reply() -> None:
    """Guards do not depend on where a stream is cut."""
    rng = random.Random(7)
    text = "Hi (you)! I can't say. 1. Flooring\n2. Windows <3 at 10 a.m. Your id is 7000101. <b>x</b> Fine. [a] {"
    whole = (await said(text, size=1000)).text
    for _ in range(40):
        cuts = sorted(rng.sample(range(1, len(text)), 9))
        pieces = [Text(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        provider, _ = scripted(pieces, says("Understood."))
        assert (await Talk(provider).say("hello")).text == whole


async def test_markup_without_meaning_is_let_through() -> None:
    """A heart, a bracket and bold text are no tool syntax."""
    text = "I <3 that. **Flooring** (order [sic]) is fine: a < b."
    assert (await said(text)).text == text


def test_the_phrases_of_the_runtime_pass_its_own_guards() -> None:
    """Nothing that code says by itself reads like a claim of something not done."""
    for key in ("gave_up", "withheld", "nothing_executed", "no_answer", "still_open", "several", "question_all"):
        text = DEFINITION.wordings["en"].phrase(key)
        assert not any(pattern.search(text) for _, pattern in DEFINITION.claims), key
