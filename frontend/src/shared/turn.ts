import type { ConfirmationRequired, JsonObject, ToolFinished, TurnEvent } from "@/shared/api-types";

export type ToolState = "running" | "done" | "failed";

/** One tool call of a turn, as far as it got. */
export interface ToolCall {
  callId: string;
  tool: string;
  state: ToolState;
  status: ToolFinished["status"] | null;
  args: JsonObject;
  result: JsonObject | null;
  part: string | null;
  durationMs: number | null;
}

export type TurnState = "running" | "waiting" | "completed" | "failed" | "cancelled";

/** A pending action that a person has to answer. */
export interface Question {
  pendingId: string;
  tool: string;
  summary: string;
  expiresAt: string;
}

export interface TurnError {
  sentence: string;
  code: string;
  retryable: boolean;
  correlationId: string | null;
}

/** One turn on screen: what the person said and all that came of it. */
export interface Turn {
  key: string; // stable while the turn is on screen, known before the server has named it
  turnId: string | null;
  conversationId: string | null;
  userText: string;
  state: TurnState;
  text: string;
  calls: ToolCall[];
  questions: Question[];
  brain: Brain | null;
  error: TurnError | null;
  lastSeq: number;
  stepStart: number; // length of `text` when the current model call began
}

/** Which model answers. */
export interface Brain {
  provider: string;
  model: string;
}

export function newTurn(key: string, userText: string): Turn {
  return {
    key,
    turnId: null,
    conversationId: null,
    userText,
    state: "running",
    text: "",
    calls: [],
    questions: [],
    brain: null,
    error: null,
    lastSeq: -1,
    stepStart: 0,
  };
}

/** The turn after one more event. Events that were applied before change nothing, so a replay is harmless. */
export function applyEvent(turn: Turn, event: TurnEvent): Turn {
  if (event.seq <= turn.lastSeq) return turn;
  const next = { ...turn, turnId: event.turn_id, lastSeq: event.seq };
  switch (event.type) {
    case "turn_started":
      return { ...next, conversationId: event.conversation_id };
    case "model_started":
      return { ...next, brain: { provider: event.provider, model: event.model }, stepStart: turn.text.length };
    case "text_delta":
      return { ...next, text: turn.text + event.text };
    case "tool_requested":
      return { ...next, calls: withCall(turn.calls, event.call_id, { tool: event.tool, args: event.args }) };
    case "tool_started":
      return { ...next, calls: withCall(turn.calls, event.call_id, { tool: event.tool, args: event.args }) };
    case "client_action_required":
      return { ...next, calls: withCall(turn.calls, event.call_id, { tool: event.tool, args: event.args }) };
    case "tool_finished":
      return { ...next, calls: withCall(turn.calls, event.call_id, finished(event)) };
    case "confirmation_required":
      return { ...next, questions: [...turn.questions, question(event)] };
    case "route_changed": {
      const brain = { provider: event.provider, model: event.model };
      return { ...next, brain, text: event.restarts ? turn.text.slice(0, turn.stepStart) : turn.text };
    }
    case "turn_completed":
      return { ...next, state: event.status, text: event.text, calls: settled(turn.calls) };
    case "turn_failed": {
      const error = { sentence: event.user_hint, code: event.code, retryable: event.retryable, correlationId: null };
      return { ...next, state: "failed", error, calls: settled(turn.calls) };
    }
    case "turn_cancelled":
      return { ...next, state: "cancelled", text: event.text, calls: settled(turn.calls) };
    // Nothing of these is on the page yet.
    case "reasoning_delta":
    case "retrieval_finished":
    case "citation":
    case "usage":
      return next;
  }
}

function question(event: ConfirmationRequired): Question {
  return { pendingId: event.pending_id, tool: event.tool, summary: event.summary, expiresAt: event.expires_at };
}

function finished(event: ToolFinished): Partial<ToolCall> & { tool: string; args: JsonObject } {
  return {
    tool: event.tool,
    args: event.args,
    state: event.status === "ok" || event.status === "pending" ? "done" : "failed",
    status: event.status,
    result: event.result,
    part: event.part,
    durationMs: event.duration_ms,
  };
}

function withCall(calls: ToolCall[], callId: string, change: Partial<ToolCall> & { tool: string; args: JsonObject }): ToolCall[] {
  const known = calls.find((call) => call.callId === callId);
  if (known) return calls.map((call) => (call === known ? { ...call, ...change } : call));
  const fresh = { callId, state: "running", status: null, result: null, part: null, durationMs: null } as const;
  return [...calls, { ...fresh, ...change }];
}

/** A turn that has ended runs nothing any more. */
function settled(calls: ToolCall[]): ToolCall[] {
  return calls.map((call) => (call.state === "running" ? { ...call, state: "failed" } : call));
}
