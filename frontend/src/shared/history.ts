import type { MessageView } from "@/shared/resources";
import { newTurn, type ToolCall, type Turn } from "@/shared/turn";

/** The turns of a stored conversation, in order. A turn begins with its user message. */
export function turnsOf(messages: MessageView[]): Turn[] {
  const turns = new Map<string, Turn>();
  for (const message of messages) {
    turns.set(message.turn_id, withMessage(turns.get(message.turn_id) ?? stored(message.turn_id), message));
  }
  return [...turns.values()];
}

function stored(turnId: string): Turn {
  return { ...newTurn(turnId, ""), turnId, state: "completed" };
}

function withMessage(turn: Turn, message: MessageView): Turn {
  switch (message.role) {
    case "user":
      return { ...turn, userText: message.content ?? "" };
    case "assistant":
      return { ...turn, text: [turn.text, message.content].filter(Boolean).join("\n\n") };
    case "tool":
      return { ...turn, calls: [...turn.calls, storedCall(message)] };
    default:
      return turn;
  }
}

/** A call from its result: the record holds one for every call, whatever became of it. */
function storedCall({ seq, tool, args, ok, result }: MessageView): ToolCall {
  return {
    callId: String(seq),
    tool: tool ?? "",
    state: ok ? "done" : "failed",
    status: result?.status === "confirmation_required" ? "pending" : null,
    args: args ?? {},
    result: result ?? null,
    part: null,
    durationMs: null,
  };
}
