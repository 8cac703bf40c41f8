import type { Citation, ConfirmationRequired, JsonObject, RetrievalFinished, ToolFinished, TurnEvent } from "@/shared/api-types";
import { objects, text } from "@/shared/json";

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

/** A span of the reply and the passage of a document that it rests on. Offsets count characters, not UTF-16 units. */
export interface Source {
  number: number;
  documentId: string;
  title: string;
  section: string;
  page: number | null;
  uri: string;
  quote: string;
  textStart: number;
  textEnd: number;
}

/** A search in documents that nobody called for: code did, before the model was asked. */
export interface Search {
  query: string;
  passages: number;
  explanation: string;
  titles: string[];
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
  sources: Source[];
  searches: Search[];
  questions: Question[];
  brain: Brain | null;
  error: TurnError | null;
  lastSeq: number;
  stepStart: number; // length of `text` when the current model call began
  stepSources: number; // and how many sources there were
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
    sources: [],
    searches: [],
    questions: [],
    brain: null,
    error: null,
    lastSeq: -1,
    stepStart: 0,
    stepSources: 0,
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
      return {
        ...next,
        brain: { provider: event.provider, model: event.model },
        stepStart: turn.text.length,
        stepSources: turn.sources.length,
      };
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
      if (!event.restarts) return { ...next, brain };
      return { ...next, brain, text: turn.text.slice(0, turn.stepStart), sources: turn.sources.slice(0, turn.stepSources) };
    }
    case "turn_completed":
      return { ...next, state: event.status, text: event.text, calls: settled(turn.calls) };
    case "turn_failed": {
      const error = { sentence: event.user_hint, code: event.code, retryable: event.retryable, correlationId: null };
      return { ...next, state: "failed", error, calls: settled(turn.calls) };
    }
    case "turn_cancelled":
      return { ...next, state: "cancelled", text: event.text, calls: settled(turn.calls) };
    case "citation":
      return { ...next, sources: [...turn.sources, source(event)] };
    case "retrieval_finished":
      // What a model called for is shown with its call.
      return event.automatic ? { ...next, searches: [...turn.searches, search(event)] } : next;
    // Nothing of these is on the page yet.
    case "reasoning_delta":
    case "usage":
      return next;
  }
}

function source(event: Citation): Source {
  return {
    number: event.number,
    documentId: event.document_id,
    title: event.title,
    section: event.section,
    page: event.page,
    uri: event.uri,
    quote: event.quote,
    textStart: event.text_start,
    textEnd: event.text_end,
  };
}

function search(event: RetrievalFinished): Search {
  const titles = objects(event.sources).flatMap((each) => text(each.title) ?? text(each.document_id) ?? []);
  return { query: event.query, passages: event.passages, explanation: event.explanation, titles: [...new Set(titles)] };
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
