"""A person books an appointment in a browser, on the service as it comes."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.e2e.conftest import Service, Visit

BOOKED = ("410001", "Tentatively Scheduled", "2026-03-16T10:00:00")


async def ask_for_monday_at_ten(visit: Visit) -> None:
    """Up to the question that only a yes answers."""
    await visit.page.get_by_role("combobox", name="Demo identity").select_option(label="Customer One")
    await visit.say("I'd like to get my flooring put in")
    await visit.say("monday works")
    await visit.say("10 please")


async def test_a_visit_is_booked_by_talking_and_one_press(service: Service, visit: Visit) -> None:
    """Confirm books once, the receipt says what, and the page stays accessible from the first screen to the last."""
    page = visit.page
    await expect(page.get_by_text("This is an automated assistant.")).to_be_visible()
    assert await visit.serious_violations() == []
    await ask_for_monday_at_ten(visit)
    question = page.get_by_role("group", name="Waiting for your decision")
    await expect(question).to_contain_text("Flooring Installation")
    await expect(question).to_contain_text("Monday, March 16 at 10:00 AM")
    assert service.commits() == []
    assert await visit.serious_violations() == []

    await question.get_by_role("button", name="Confirm").click()

    receipt = page.get_by_role("group", name="Receipt")
    await expect(receipt).to_contain_text("Appointment booked")
    await expect(receipt).to_contain_text("Monday, March 16, 10:00 AM")
    await expect(receipt).to_contain_text("12 Sample Ln")
    await expect(receipt).to_contain_text("Tentatively Scheduled")
    await expect(question).to_have_count(0)
    assert "March 16" in await visit.last_reply()
    assert await visit.serious_violations() == []
    assert booked(service) == [BOOKED]


async def test_a_declined_question_changes_nothing(service: Service, visit: Visit) -> None:
    """Decline puts the question away, and nothing reaches the office, also after a later thank you."""
    await ask_for_monday_at_ten(visit)
    await visit.page.get_by_role("button", name="Decline").click()
    await visit.settled()
    await expect(visit.page.get_by_role("group", name="Waiting for your decision")).to_have_count(0)
    await visit.say("great thank you")
    assert service.commits() == []


async def test_a_reload_loses_neither_the_conversation_nor_the_question(service: Service, visit: Visit) -> None:
    """Reloaded between two messages and before the yes, the page shows what was said and goes on from there."""
    page = visit.page
    await visit.say("I'd like to get my flooring put in")
    await visit.say("monday works")
    offered = await visit.last_reply()
    await page.reload()
    await expect(page.get_by_text("I'd like to get my flooring put in").first).to_be_visible()
    assert (await visit.last_reply()).split("\n")[-1] == offered.split("\n")[-1]

    await page.get_by_role("button", name="10:00 AM").click()
    await expect(page.get_by_role("group", name="Waiting for your decision")).to_be_visible()
    await page.reload()
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.get_by_role("group", name="Receipt")).to_be_visible()
    assert booked(service) == [BOOKED]


async def test_an_earlier_conversation_is_opened_again(service: Service, visit: Visit) -> None:
    """New conversation puts it away; its entry in the list, found by how it began, brings it back."""
    page = visit.page
    await visit.say("I'd like to get my flooring put in")
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.get_by_role("article", name="You")).to_have_count(0)
    mine = page.get_by_role("navigation", name="My conversations")
    await mine.get_by_role("button", name="I'd like to get my flooring put in").first.click()
    await expect(page.get_by_role("article", name="You")).to_have_text("I'd like to get my flooring put in")
    await page.get_by_role("button", name="Mon, Mar 16").click()
    await expect(page.get_by_role("group", name="Open times, Mon, Mar 16")).to_be_visible()


async def test_a_reload_picks_up_the_reply_that_is_being_made(service: Service, visit: Visit) -> None:
    """The message is sent once; after the reload its reply arrives whole."""
    page = visit.page
    service.office.post("/_sim/latency", json={"profile": "slow"}).raise_for_status()
    box = page.get_by_role("textbox", name="Message")
    await box.fill("which dates are open for my flooring?")
    await box.press("Enter")
    await expect(page).to_have_url(re.compile(r"#/conversations/"))
    await expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
    await page.reload()
    await expect(page.get_by_role("article", name="Assistant")).to_contain_text("March 13")
    await expect(page.get_by_role("article", name="You")).to_have_count(1)
    await visit.settled()


async def test_a_booking_under_way_is_told_and_another_reply_is_stopped(service: Service, visit: Visit) -> None:
    """Stop after the yes comes too late, and the reply says that it is booked; Escape leaves a lookup."""
    page = visit.page
    await ask_for_monday_at_ten(visit)
    delays = [{"endpoint": "schedule", "mode": "slow:1500"}, {"endpoint": "*", "mode": "slow:6000"}]
    service.office.post("/_sim/faults", json=delays[0]).raise_for_status()
    box, reply = page.get_by_role("textbox", name="Message"), page.get_by_role("article", name="Assistant").last
    await box.fill("yes")
    await box.press("Enter")
    await expect(page.get_by_role("group", name="Booking the appointment")).to_be_visible()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("group", name="Receipt")).to_contain_text("Appointment booked")
    await expect(reply).to_contain_text("What had been done by then stays done.")
    assert booked(service) == [BOOKED]

    service.office.post("/_sim/faults", json=delays[1]).raise_for_status()
    await box.fill("which dates are open for my windows measurement?")
    await box.press("Enter")
    await expect(page.get_by_role("group", name="Looking for open dates")).to_be_visible()
    await box.press("Escape")
    await expect(reply.get_by_text("Stopped.", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


def booked(service: Service) -> list[tuple[str, str, str]]:
    """Project, status and start after each change that was committed upstream."""
    return [(each["project_id"], each["after"]["status"], each["after"]["start"]) for each in service.commits()]
