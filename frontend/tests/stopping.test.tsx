import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";

import { App } from "@/app/App";
import type { TurnEvent } from "@/shared/api-types";

import { completed, CONVERSATION, eventStream, FakeServer, json, STARTED, TURN, turnEvents, view } from "./fake-server";

const STREAM = "POST /api/v1/chat/stream";
const CANCEL = `POST /api/v1/turns/${TURN}/cancel`;
const SESSION = `GET /api/v1/sessions/${CONVERSATION}`;
const CANCELLED = { type: "turn_cancelled", reason: "user", specialist: "", usage: {}, timings: {} } as const;

let server: FakeServer;
beforeEach(() => {
  server = new FakeServer();
  server.on(CANCEL, () => json({ session_id: CONVERSATION, turn_id: TURN, status: "running" }, 202));
});

/** A stream that stays open: events are said when the test says so. */
function heldStream() {
  const pipe = new TransformStream<Uint8Array, Uint8Array>();
  const writer = pipe.writable.getWriter();
  const say = async (...events: TurnEvent[]) => {
    for (const event of events) {
      await writer.write(new TextEncoder().encode(`event: ${event.type}\nid: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`));
    }
  };
  const response = new Response(pipe.readable, { headers: { "content-type": "text/event-stream" } });
  return { response, say };
}

async function openPage() {
  const user = userEvent.setup();
  render(<App />);
  const input = await screen.findByRole("textbox", { name: "Message" });
  return { user, input, say: (text: string) => user.type(input, `${text}{Enter}`) };
}

async function newestReply() {
  const replies = await screen.findAllByRole("article", { name: "Assistant" });
  return within(replies[replies.length - 1] ?? document.body);
}

describe("a reply that is being made", () => {
  const events = turnEvents(STARTED, { type: "text_delta", text: "Half a" }, { ...CANCELLED, text: "Half a" });

  it("is stopped with the button, stays as far as it came, and says so", async () => {
    const stream = heldStream();
    server.on(STREAM, () => stream.response);
    const { say, user, input } = await openPage();
    expect(screen.queryByRole("button", { name: "Stop" })).toBeNull();
    await say("hello");
    await stream.say(...events.slice(0, 2));
    expect(await (await newestReply()).findByText("Half a")).toBeTruthy();

    await user.click(screen.getByRole("button", { name: "Stop" }));
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Stopping" }).disabled).toBe(true);
    expect(document.activeElement).toBe(input);
    await waitFor(() => expect(server.sent(CANCEL)).toHaveLength(1));
    expect(server.sent(CANCEL)[0]?.headers.get("content-type")).toBe("application/json");

    await stream.say(...events.slice(2));
    const reply = await newestReply();
    expect(await reply.findByText("Stopped.")).toBeTruthy();
    expect(reply.getByText("Half a")).toBeTruthy();
    expect(screen.getByRole("button", { name: "Send" })).toBeTruthy();
    expect(screen.getByRole("status", { name: "Latest reply" }).textContent).toBe("Half a Stopped.");
  });

  it("says of a lookup that it was broken off, not that it found nothing", async () => {
    const lookup = { type: "tool_started", call_id: "a", tool: "get_available_dates", args: {} } as const;
    server.on(STREAM, () => eventStream(turnEvents(STARTED, lookup, { ...CANCELLED, text: "" })));
    const { say } = await openPage();
    await say("when?");
    expect(await (await newestReply()).findByRole("group", { name: "Looking for open dates: broken off" })).toBeTruthy();
  });

  it("is stopped with Escape, also before the server has named it", async () => {
    const stream = heldStream();
    server.on(STREAM, () => stream.response);
    const { say, user } = await openPage();
    await say("hello");
    await user.keyboard("{Escape}");
    expect(server.sent(CANCEL)).toHaveLength(0);
    await stream.say(...events.slice(0, 1));
    await waitFor(() => expect(server.sent(CANCEL)).toHaveLength(1));
  });

  it("can be stopped again when the server could not be told", async () => {
    const stream = heldStream();
    server.on(STREAM, () => stream.response);
    server.on(CANCEL, () => json({ detail: "Not now." }, 503));
    const { say, user } = await openPage();
    await say("hello");
    await stream.say(...events.slice(0, 2));
    await user.click(await screen.findByRole("button", { name: "Stop" }));
    expect(await screen.findByRole("button", { name: "Stop" })).toBeTruthy();
    await user.keyboard("{Escape}");
    await waitFor(() => expect(server.sent(CANCEL)).toHaveLength(2));
  });

  it("does not press the button anew when the connection drops after a stop", async () => {
    const pending = { pending_id: "p1", tool: "confirm_appointment", args: {}, summary: "Book Monday.", expires_at: "2026-03-11T14:00:00Z" };
    const asked = { type: "confirmation_required", call_id: "b", ...pending } as const;
    server.on(STREAM, () => eventStream(turnEvents(STARTED, asked, completed("Book Monday. Shall I?", "waiting"))));
    server.on(SESSION, () => json(view({ pending_actions: [pending], running_turn_id: TURN })));
    const drops: (() => void)[] = [];
    const dropped = new Promise<Response>((_, reject) => drops.push(() => reject(new TypeError("network error"))));
    server.on("POST /api/v1/chat/confirm", () => dropped);
    const { say, user } = await openPage();
    await say("monday");
    await user.click(await screen.findByRole("button", { name: "Confirm" }));
    await user.click(await screen.findByRole("button", { name: "Stop" }));
    await waitFor(() => expect(server.sent(CANCEL)).toHaveLength(1));
    drops[0]?.();
    expect(await screen.findByRole("alert")).toBeTruthy();
    expect(server.sent("POST /api/v1/chat/confirm")).toHaveLength(1);
  });

  it("is found by its conversation when a button under a question began it", async () => {
    const pending = { pending_id: "p1", tool: "confirm_appointment", args: {}, summary: "Book Monday.", expires_at: "2026-03-11T14:00:00Z" };
    const asked = { type: "confirmation_required", call_id: "b", ...pending } as const;
    server.on(STREAM, () => eventStream(turnEvents(STARTED, asked, completed("Book Monday. Shall I?", "waiting"))));
    server.on(SESSION, () => json(view({ pending_actions: [pending] })));
    const { say, user } = await openPage();
    await say("monday");
    server.on("POST /api/v1/chat/confirm", () => new Promise<Response>(() => undefined));
    await user.click(await screen.findByRole("button", { name: "Confirm" }));
    server.on(SESSION, () => json(view({ running_turn_id: TURN })));
    await user.click(await screen.findByRole("button", { name: "Stop" }));
    await waitFor(() => expect(server.sent(CANCEL)).toHaveLength(1));
  });
});
