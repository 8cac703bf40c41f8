import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";

import { App } from "@/app/App";
import type { ToolFinished } from "@/shared/api-types";

import { completed, CONVERSATION, eventStream, FakeServer, json, STARTED, TURN, turnEvents, view } from "./fake-server";

const STREAM = "POST /api/v1/chat/stream";
const CONFIRM = "POST /api/v1/chat/confirm";
const PROJECT = { category: "Flooring", type: "Installation", order_number: "SO-26-1001_1", address: "12 Sample Ln" };
const SUMMARY = "Book Flooring Installation for Monday, March 16 at 10:00 AM.";
const PENDING = { pending_id: "p1", tool: "confirm_appointment", args: {}, summary: SUMMARY, expires_at: "2026-03-11T14:00:00Z" };
const DATES: Omit<ToolFinished, "turn_id" | "seq" | "at"> = {
  type: "tool_finished",
  call_id: "a",
  tool: "get_available_dates",
  args: { project_id: "410001" },
  status: "ok",
  result: { project: PROJECT, dates: [{ date: "2026-03-13", weekday: "Friday" }, { date: "2026-03-16", weekday: "Monday" }] },
  part: "dates",
  duration_ms: 20,
};

let server: FakeServer;
beforeEach(() => {
  server = new FakeServer();
});

async function openPage() {
  const user = userEvent.setup();
  render(<App />);
  const input = await screen.findByRole("textbox", { name: "Message" });
  return { user, input, say: (text: string) => user.type(input, `${text}{Enter}`) };
}

async function reply() {
  const replies = await screen.findAllByRole("article", { name: "Assistant" });
  return within(replies[replies.length - 1] ?? document.body);
}

describe("a conversation", () => {
  it("says that it is an automated assistant and who answers", async () => {
    await openPage();
    expect(screen.getByText(/This is an automated assistant/)).toBeTruthy();
    expect(screen.getByText("Answered by offline planner")).toBeTruthy();
  });

  it("streams a reply with its tool calls, and sends a pressed date as a message", async () => {
    server.on(STREAM, () => eventStream(turnEvents(STARTED, DATES, completed("**Friday** or Monday?"))));
    const { say, user } = await openPage();
    await say("book my flooring");

    const first = await reply();
    expect(await first.findByRole("group", { name: "Found open dates" })).toBeTruthy();
    expect((await first.findByText("Friday")).tagName).toBe("STRONG");
    await user.click(first.getByRole("button", { name: "Mon, Mar 16" }));

    const sent = server.sent(STREAM).map((call) => call.body);
    expect(sent).toEqual([
      { message: "book my flooring" },
      { message: "Monday, March 16", session_id: CONVERSATION },
    ]);
    expect(server.sent(STREAM)[0]?.headers.get("x-demo-identity")).toBe("c1");
    expect(window.location.hash).toBe(`#/conversations/${CONVERSATION}`);
  });

  it("asks for a decision, carries it out and shows the receipt", async () => {
    const asked = { type: "confirmation_required", call_id: "b", ...PENDING } as const;
    server.on(STREAM, () => eventStream(turnEvents(STARTED, asked, completed(`${SUMMARY} Shall I?`, "waiting"))));
    server.on(`GET /api/v1/sessions/${CONVERSATION}`, () => json(view({ pending_actions: [PENDING] })));
    const { say, user } = await openPage();
    await say("10 please");
    const question = await screen.findByRole("group", { name: "Waiting for your decision" });
    expect(within(question).getByText(SUMMARY)).toBeTruthy();

    const slot = { date: "2026-03-16", weekday: "Monday", time: "10:00 AM", status: "Tentatively Scheduled" };
    const booked = { ...DATES, tool: "confirm_appointment", part: "appointment", result: { project: PROJECT, ...slot } };
    server.on(CONFIRM, () => json({ turn_id: TURN }));
    server.on(`GET /api/v1/turns/${TURN}/events`, () => eventStream(turnEvents(STARTED, booked, completed("Booked."))));
    server.on(`GET /api/v1/sessions/${CONVERSATION}`, () => json({ detail: "Not now." }, 503));
    await user.click(within(question).getByRole("button", { name: "Confirm" }));

    const receipt = await screen.findByRole("group", { name: "Receipt" });
    expect(within(receipt).getByText("Monday, March 16, 10:00 AM")).toBeTruthy();
    expect(screen.queryByRole("group", { name: "Waiting for your decision" })).toBeNull();
    expect(server.sent(CONFIRM).map((call) => call.body)).toEqual([
      { session_id: CONVERSATION, pending_id: "p1", decision: "confirm" },
    ]);
  });

  it("goes on with the same turn when the connection drops", async () => {
    const events = turnEvents(STARTED, { type: "text_delta", text: "Half" }, completed("Half and whole."));
    server.on(STREAM, () => eventStream(events.slice(0, 2), true));
    server.on(`GET /api/v1/turns/${TURN}/events`, (call) => {
      expect(call.path).toContain("?after=1");
      return eventStream(events.slice(2));
    });
    const { say } = await openPage();
    await say("hello");
    expect(await (await reply()).findByText("Half and whole.", {}, { timeout: 3000 })).toBeTruthy();
    expect(server.sent(STREAM)).toHaveLength(1);
  });

  it("follows a turn again on request, and never sends a message twice that was taken", async () => {
    const events = turnEvents(STARTED, completed("Booked, once."));
    const lost = () => Promise.reject(new TypeError("network error"));
    server.on(STREAM, () => eventStream(events.slice(0, 1), true));
    server.on(`GET /api/v1/turns/${TURN}/events`, lost);
    const { say, user } = await openPage();
    await say("book it");
    const alert = await screen.findByRole("alert", {}, { timeout: 15_000 }); // after all its own attempts

    server.on(`GET /api/v1/turns/${TURN}/events`, () => eventStream(events));
    await user.click(within(alert).getByRole("button", { name: "Try again" }));
    expect(await (await reply()).findByText("Booked, once.")).toBeTruthy();
    expect(server.sent(STREAM)).toHaveLength(1);
  }, 20_000);

  it("shows a refusal as a sentence with its reference, and sends the very same request again", async () => {
    const busy = { code: "conversation_busy", detail: "One moment.", retryable: true, correlation_id: "abc123" };
    server.on(STREAM, () => json(busy, 409));
    const { say, user } = await openPage();
    await say("hello");
    const alert = await screen.findByRole("alert");
    expect(within(alert).getByText("One moment.")).toBeTruthy();
    expect(within(alert).getByText("abc123")).toBeTruthy();

    server.on(STREAM, () => eventStream(turnEvents(STARTED, completed("Here I am."))));
    await user.click(within(alert).getByRole("button", { name: "Try again" }));
    expect(await (await reply()).findByText("Here I am.")).toBeTruthy();
    const keys = server.sent(STREAM).map((call) => call.headers.get("idempotency-key"));
    expect(keys[0]).toBe(keys[1]);
    expect(screen.getAllByText("hello")).toHaveLength(1);
  });

  it("shows HTML of a reply as text and refuses script addresses", async () => {
    const nasty = "<img src=x onerror=alert(1)> [press](javascript:alert(1)) ![p](https://elsewhere.example/p.png)";
    server.on(STREAM, () => eventStream(turnEvents(STARTED, completed(nasty))));
    const { say } = await openPage();
    await say("hello");
    const shown = await (await reply()).findByText(/press/);
    expect(document.querySelector("img")).toBeNull();
    expect(shown.closest("a")?.getAttribute("href") ?? "").not.toContain("javascript");
  });
});

describe("the record", () => {
  const message = { created_at: "2026-03-11T13:30:00Z", turn_id: TURN };
  const STORED = [
    { ...message, seq: 1, role: "user", body: { text: "book my flooring" } },
    { ...message, seq: 2, role: "assistant", body: { text: "", tool_calls: [{ id: "a", name: DATES.tool, args: {} }] } },
    { ...message, seq: 3, role: "tool", body: { call_id: "a", name: DATES.tool, args: {}, ok: true, result: DATES.result } },
    { ...message, seq: 4, role: "assistant", body: { text: "Friday or Monday?" } },
  ];

  it("is shown as it was when a conversation is opened again", async () => {
    server.storedMessages(STORED);
    server.on("GET /api/v1/conversations", () => json({ conversations: [view({ title: "book my flooring" })], next: null }));
    server.on(`GET /api/v1/sessions/${CONVERSATION}`, () => json(view({ pending_actions: [PENDING] })));
    const { user } = await openPage();
    await user.click(await screen.findByRole("button", { name: /book my flooring/ }));
    expect(await screen.findByText("Friday or Monday?", { selector: "article p" })).toBeTruthy();
    expect(screen.getByRole("button", { name: "Fri, Mar 13" })).toBeTruthy();
    expect(screen.getByRole("button", { name: "Confirm" })).toBeTruthy();
  });

  it("leads on to the reply that is still being made", async () => {
    window.history.replaceState(null, "", `/#/conversations/${CONVERSATION}`);
    server.storedMessages(STORED.slice(0, 1));
    server.on(`GET /api/v1/sessions/${CONVERSATION}`, () => json(view({ running_turn_id: TURN })));
    server.on(`GET /api/v1/turns/${TURN}/events`, () => eventStream(turnEvents(STARTED, DATES, completed("Friday?"))));
    await openPage();
    expect(await (await reply()).findByText("Friday?")).toBeTruthy();
    expect(screen.getByText("book my flooring")).toBeTruthy();
    expect(await screen.findByRole("button", { name: "Fri, Mar 13" })).toBeTruthy();
  });

  it("belongs to one identity: choosing another starts afresh", async () => {
    server.on(STREAM, () => eventStream(turnEvents(STARTED, completed("Hello."))));
    const { say, user } = await openPage();
    await say("hello");
    await (await reply()).findByText("Hello.");
    await user.selectOptions(screen.getByRole("combobox", { name: "Demo identity" }), "c2");
    expect(await screen.findByText(/This is an automated assistant/)).toBeTruthy();
    expect(window.location.hash).toBe("");
    await waitFor(() => expect(server.calls.at(-1)?.headers.get("x-demo-identity")).toBe("c2"));
  });
});
