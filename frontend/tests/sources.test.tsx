import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { marked } from "@/features/turn/source-marks";
import { TurnView } from "@/features/turn/TurnView";
import { turnsOf } from "@/shared/history";
import { applyEvent, newTurn, type Turn } from "@/shared/turn";

import { completed, STARTED, turnEvents } from "./fake-server";

const TEXT = "😀 Moving is free. So is cancelling.";
const FREE = {
  type: "citation", document_id: "pol-01", section: "Notice", start: 5, end: 60, score: 0.8, text_start: 2, text_end: 17, number: 1,
  title: "Change policy", page: null, version: 1, uri: "", quote: "There is no fee.", marked: true,
} as const; // prettier-ignore
const ALSO = { ...FREE, document_id: "faq-03", title: "Cancelling", text_start: 18, text_end: 35, number: 2, quote: "Free." } as const;
const SEARCHED = {
  type: "retrieval_finished", query: "fee?", passages: 0, reason: "no_match", explanation: "No passage fits.", knowledge_base: "default",
  sources: [] as never[], automatic: true, call_id: null, duration_ms: 3,
} as const; // prettier-ignore

function fold(...events: Parameters<typeof turnEvents>): Turn {
  return turnEvents(...events).reduce(applyEvent, newTurn("key", "hello"));
}

describe("the sources of a reply", () => {
  it("stand behind what rests on them, counted in characters", () => {
    const { sources } = fold(STARTED, { type: "text_delta", text: TEXT }, FREE, ALSO, completed(TEXT));
    expect(marked(TEXT, sources)).toBe("😀 Moving is free.¹ So is cancelling.²");
    expect(marked("short", sources)).toBe("short");
  });

  it("open with the keyboard to the words that are quoted, each document once", async () => {
    const again = { ...FREE, text_start: 18, text_end: 35, quote: "Later there is." };
    render(<TurnView turn={fold(STARTED, { type: "text_delta", text: TEXT }, FREE, FREE, again, ALSO, completed(TEXT))} onChoose={null} onRetry={null} />);
    const group = screen.getByRole("group", { name: "Sources" });
    expect(group.querySelectorAll("summary")).toHaveLength(2);
    await userEvent.tab();
    expect(document.activeElement?.tagName).toBe("SUMMARY");
    const quoted = [...group.querySelectorAll("blockquote")].map((each) => each.textContent);
    expect(quoted).toEqual(["There is no fee.", "Later there is.", "Free."]);
  });

  it("are there again when the conversation is loaded", () => {
    const [turn] = turnsOf([
      { seq: 1, turn_id: "t", role: "assistant", created_at: "2026-03-11T14:00:00Z", body: { text: TEXT, citations: [{ ...FREE }] } },
    ]);
    expect(turn?.sources).toMatchObject([{ documentId: "pol-01", number: 1, textEnd: 17, quote: "There is no fee." }]);
  });

  it("go with the message that another model begins anew", () => {
    const started = { type: "model_started", provider: "a", model: "m", step: 1 } as const;
    const changed = { type: "route_changed", provider: "b", model: "n", reason: "timeout", restarts: true } as const;
    expect(fold(STARTED, started, { type: "text_delta", text: TEXT }, FREE, changed).sources).toEqual([]);
  });

  it("are looked for in plain sight, with the reason when there are none", () => {
    render(<TurnView turn={fold(STARTED, SEARCHED, completed("I do not know."))} onChoose={null} onRetry={null} />);
    expect(screen.getByRole("group", { name: "Searched the documents: nothing found" }).textContent).toContain("No passage fits.");
  });
});
