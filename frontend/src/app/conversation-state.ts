import type { TurnEvent } from "@/shared/api-types";
import type { Problem } from "@/shared/client";
import { isFinal } from "@/shared/event-stream";
import { applyEvent, type Question, type Turn } from "@/shared/turn";

/** The conversation on screen. `open` are the questions that wait for a yes, as the server last told. */
export interface Conversation {
  id: string | null;
  turns: Turn[];
  open: Question[];
  loading: boolean;
  stopping: boolean; // the person wants the running turn to end, and it has not yet
  resuming: boolean; // the connection dropped and the turn is being followed again
  problem: Problem | null; // it could not be opened
}

export type Change =
  | { type: "cleared" }
  | { type: "opening"; id: string }
  | { type: "opened"; turns: Turn[]; open: Question[] }
  | { type: "not_opened"; problem: Problem }
  | { type: "turn_added"; turn: Turn }
  | { type: "event"; key: string; event: TurnEvent }
  | { type: "turn_lost"; key: string; problem: Problem }
  | { type: "stopping" }
  | { type: "not_stopped" }
  | { type: "resuming" }
  | { type: "questions"; open: Question[] };

export const EMPTY: Conversation = {
  id: null,
  turns: [],
  open: [],
  loading: false,
  stopping: false,
  resuming: false,
  problem: null,
};

/** The conversation after one change. */
export function change(now: Conversation, what: Change): Conversation {
  switch (what.type) {
    case "cleared":
      return EMPTY;
    case "opening":
      return { ...EMPTY, id: what.id, loading: true };
    case "opened":
      return { ...now, turns: what.turns, open: what.open, loading: false };
    case "not_opened":
      return { ...EMPTY, problem: what.problem };
    case "turn_added": {
      const turns = [...now.turns.filter((turn) => turn.key !== what.turn.key), what.turn];
      return { ...now, turns, stopping: false, resuming: false, problem: null };
    }
    case "event":
      return withEvent(now, what.key, what.event);
    case "turn_lost":
      return { ...updated(now, what.key, (turn) => lost(turn, what.problem)), stopping: false, resuming: false };
    case "stopping":
      return { ...now, stopping: true };
    case "not_stopped":
      return { ...now, stopping: false };
    case "resuming":
      return { ...now, resuming: true };
    case "questions":
      return { ...now, open: what.open };
  }
}

export function isBusy(conversation: Conversation): boolean {
  return conversation.loading || isRunning(conversation);
}

/** Whether a reply is being made. */
export function isRunning(conversation: Conversation): boolean {
  return conversation.turns.some((turn) => turn.state === "running");
}

function withEvent(now: Conversation, key: string, event: TurnEvent): Conversation {
  const stopping = now.stopping && !isFinal(event);
  const next = { ...updated(now, key, (turn) => applyEvent(turn, event)), stopping, resuming: false };
  if (event.type === "turn_started") return { ...next, id: event.conversation_id };
  if (event.type === "turn_completed") return { ...next, open: next.turns.find((turn) => turn.key === key)?.questions ?? [] };
  return next;
}

function updated(now: Conversation, key: string, update: (turn: Turn) => Turn): Conversation {
  return { ...now, turns: now.turns.map((turn) => (turn.key === key ? update(turn) : turn)) };
}

function lost(turn: Turn, problem: Problem): Turn {
  const { message: sentence, code, retryable, correlationId } = problem;
  return { ...turn, state: "failed", error: { sentence, code, retryable, correlationId } };
}
