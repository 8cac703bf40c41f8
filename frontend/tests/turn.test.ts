import { describe, expect, it } from "vitest";

import { applyEvent, newTurn, type Turn } from "@/shared/turn";

import { completed, CONVERSATION, STARTED, TURN, turnEvents } from "./fake-server";

const CALL = { call_id: "a", tool: "get_available_dates", args: { project_id: "1" } };
const EFFECTIVE = { project_id: "410001" };

function fold(...events: Parameters<typeof turnEvents>): Turn {
  return turnEvents(...events).reduce(applyEvent, newTurn("key", "hello"));
}

describe("applyEvent", () => {
  it("makes a reply of its deltas", () => {
    const turn = fold(STARTED, { type: "text_delta", text: "Good " }, { type: "text_delta", text: "morning." });
    expect(turn).toMatchObject({ text: "Good morning.", state: "running", conversationId: CONVERSATION, turnId: TURN });
  });

  it("changes nothing when events come twice", () => {
    const events = turnEvents(STARTED, { type: "text_delta", text: "once" }, completed("once"));
    const once = events.reduce(applyEvent, newTurn("key", "hello"));
    expect([...events, ...events].reduce(applyEvent, newTurn("key", "hello"))).toEqual(once);
  });

  it("follows a tool call from the proposal to its result", () => {
    const finished = { type: "tool_finished", ...CALL, args: EFFECTIVE, status: "ok", part: "dates", duration_ms: 12 } as const;
    const running = fold(STARTED, { type: "tool_requested", ...CALL }, { type: "tool_started", ...CALL, args: EFFECTIVE });
    expect(running.calls).toMatchObject([{ state: "running", args: EFFECTIVE }]);
    const done = fold(STARTED, { type: "tool_requested", ...CALL }, { ...finished, result: { ok: true } });
    expect(done.calls).toMatchObject([{ state: "done", part: "dates", result: { ok: true }, durationMs: 12 }]);
    const refused = fold(STARTED, { ...finished, status: "refused", part: null, result: { user_hint: "No." } });
    expect(refused.calls).toMatchObject([{ state: "failed", status: "refused" }]);
  });

  it("leaves no call running when the turn has ended", () => {
    const failed = { type: "turn_failed", code: "model_timeout", user_hint: "Too slow.", retryable: true } as const;
    const turn = fold(STARTED, { type: "tool_requested", ...CALL }, failed);
    expect(turn.calls).toMatchObject([{ state: "failed" }]);
    expect(turn).toMatchObject({ state: "failed", error: { sentence: "Too slow.", retryable: true } });
  });

  it("keeps the question a pending action hangs on", () => {
    const question = { pending_id: "p1", summary: "Book it.", expires_at: "2026-03-11T14:00:00Z" };
    const turn = fold(STARTED, { type: "confirmation_required", ...CALL, ...question }, completed("Book it. Yes?", "waiting"));
    expect(turn.state).toBe("waiting");
    expect(turn.questions).toEqual([
      { pendingId: "p1", tool: CALL.tool, summary: "Book it.", expiresAt: question.expires_at },
    ]);
  });

  it("voids only the current message when another model starts it again", () => {
    const first = { type: "model_started", provider: "local", model: "a", step: 1 } as const;
    const turn = fold(
      STARTED,
      first,
      { type: "text_delta", text: "Kept. " },
      { ...first, step: 2 },
      { type: "text_delta", text: "Half a sen" },
      { type: "route_changed", provider: "offline", model: "planner", reason: "timeout", restarts: true },
      { type: "text_delta", text: "Whole." },
    );
    expect(turn).toMatchObject({ text: "Kept. Whole.", brain: { provider: "offline", model: "planner" } });
  });
});
