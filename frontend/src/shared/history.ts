import type { JsonObject, MessageView } from "@/shared/api-types";
import { object, objects, text, whole } from "@/shared/json";
import { newTurn, type Source, type ToolCall, type Turn } from "@/shared/turn";

/** The turns of a stored conversation, in order. A turn begins with its user message. */
export function turnsOf(messages: MessageView[]): Turn[] {
  const turns = new Map<string, Turn>();
  for (const { turn_id: turnId, role, body } of messages) {
    const turn = turns.get(turnId) ?? { ...newTurn(turnId, ""), turnId, state: "completed" };
    turns.set(turnId, withMessage(turn, role, body));
  }
  return [...turns.values()];
}

function withMessage(turn: Turn, role: string, body: JsonObject): Turn {
  switch (role) {
    case "user":
      return { ...turn, userText: text(body.text) ?? "" };
    case "assistant": {
      const said = [turn.text, text(body.text)].filter(Boolean).join("\n\n");
      return {
        ...turn,
        text: said,
        calls: [...turn.calls, ...objects(body.tool_calls).map(proposed)],
        sources: [...turn.sources, ...objects(body.citations).map(cited)],
      };
    }
    case "tool":
      return { ...turn, calls: withResult(turn.calls, body) };
    default:
      return turn;
  }
}

function cited(citation: JsonObject): Source {
  return {
    number: whole(citation.number) ?? 0,
    documentId: text(citation.document_id) ?? "",
    title: text(citation.title) ?? "",
    section: text(citation.section) ?? "",
    page: whole(citation.page),
    uri: text(citation.uri) ?? "",
    quote: text(citation.quote) ?? "",
    textStart: whole(citation.text_start) ?? 0,
    textEnd: whole(citation.text_end) ?? 0,
  };
}

function proposed(call: JsonObject): ToolCall {
  return {
    callId: text(call.id) ?? "",
    tool: text(call.name) ?? "",
    state: "failed", // until its result is read
    status: null,
    args: object(call.args) ?? {},
    result: null,
    part: null,
    durationMs: null,
  };
}

function withResult(calls: ToolCall[], body: JsonObject): ToolCall[] {
  const known = calls.find((call) => call.callId === body.call_id);
  const result = object(body.result);
  const call: ToolCall = {
    ...(known ?? proposed({ id: body.call_id ?? "", name: body.name ?? "" })),
    state: body.ok === true ? "done" : "failed",
    status: result?.status === "confirmation_required" ? "pending" : null,
    args: object(body.args) ?? known?.args ?? {},
    result,
  };
  return known ? calls.map((each) => (each === known ? call : each)) : [...calls, call];
}
