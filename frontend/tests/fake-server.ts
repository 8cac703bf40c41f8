import { vi } from "vitest";

import type { ConversationView, MessageView, TurnEvent } from "@/shared/api-types";

export const CONVERSATION = "0192aaaa-0000-7000-8000-000000000001";
export const TURN = "0192bbbb-0000-7000-8000-000000000001";

export interface Call {
  method: string;
  path: string;
  headers: Headers;
  body: Record<string, unknown> | null;
}

type Answer = (call: Call) => Response | Promise<Response>;

type Fields<T> = T extends TurnEvent ? Omit<T, "turn_id" | "seq" | "at"> : never;

/** Events of one turn, numbered from 0. */
export function turnEvents(...bodies: Fields<TurnEvent>[]): TurnEvent[] {
  return bodies.map((body, seq) => ({ turn_id: TURN, seq, at: "2026-03-11T13:30:00Z", ...body }));
}

export const STARTED = { type: "turn_started", conversation_id: CONVERSATION, agent: "scheduling", agent_version: "1" } as const;

export function completed(text: string, status: "completed" | "waiting" = "completed"): Fields<TurnEvent> {
  return { type: "turn_completed", status, text, specialist: "scheduling", usage: {}, timings: {} };
}

/** The wire form of events; `broken` ends the body with a network error. */
export function eventStream(events: TurnEvent[], broken = false): Response {
  const encoded = events.map((event) => `event: ${event.type}\nid: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(`: ping\n\n${encoded.join("")}`));
    },
    pull(controller) {
      if (broken) controller.error(new TypeError("network error"));
      else controller.close();
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

export function json(body: unknown, status = 200): Response {
  return Response.json(body, { status });
}

export function view(facts: Partial<ConversationView> = {}): ConversationView {
  return {
    session_id: CONVERSATION,
    status: "idle",
    pending_actions: [],
    agent: "scheduling",
    title: "hello",
    created_at: "2026-03-11T13:30:00Z",
    updated_at: "2026-03-11T13:30:00Z",
    turns: 1,
    messages: 2,
    running_turn_id: null,
    ...facts,
  };
}

/** Stands in for `fetch`: routes are `METHOD /path`, later ones first, and every call is kept. */
export class FakeServer {
  readonly calls: Call[] = [];
  private readonly routes = new Map<string, Answer>();

  constructor() {
    const who = { role: "customer", customer_type: "B2C", locations: ["Brookhaven Office"] };
    this.on("GET /api/v1/identities", () =>
      json({
        identities: [
          { key: "c1", default: true, label: "Customer One", ...who },
          { key: "c2", default: false, label: "Customer Two", ...who },
        ],
        agent: "scheduling",
        answered_by: "offline planner",
      }),
    );
    this.on("GET /readyz", () => json({ status: "ok" }));
    this.on("GET /api/v1/conversations", () => json({ conversations: [], next: null }));
    this.on(`GET /api/v1/sessions/${CONVERSATION}`, () => json(view()));
    vi.stubGlobal("fetch", (path: string, init: RequestInit = {}) => this.answer(path, init));
  }

  on(route: string, answer: Answer): void {
    this.routes.set(route, answer);
  }

  storedMessages(messages: MessageView[]): void {
    const page = { session_id: CONVERSATION, message_count: messages.length, messages, next: null };
    this.on(`GET /api/v1/sessions/${CONVERSATION}/messages`, () => json(page));
  }

  sent(route: string): Call[] {
    return this.calls.filter((call) => route === `${call.method} ${call.path.split("?")[0] ?? ""}`);
  }

  private async answer(path: string, init: RequestInit): Promise<Response> {
    const method = init.method ?? "GET";
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as Record<string, unknown>) : null;
    const call = { method, path, headers: new Headers(init.headers), body };
    this.calls.push(call);
    const answer = this.routes.get(`${method} ${path.split("?")[0] ?? ""}`);
    if (!answer) throw new Error(`no route for ${method} ${path}`);
    return answer(call);
  }
}
