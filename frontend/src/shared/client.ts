import type { ConversationList, ConversationView, IdentityList, MessageList, TurnEvent } from "@/shared/api-types";
import { readEvents } from "@/shared/event-stream";

/** What went wrong, as a sentence for people. `correlationId` finds it in the server's logs. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly correlationId: string | null;

  constructor(sentence: string, facts: { code: string; status?: number; retryable?: boolean; correlationId?: string | null }) {
    super(sentence);
    this.name = "Problem";
    this.code = facts.code;
    this.status = facts.status ?? 0;
    this.retryable = facts.retryable ?? false;
    this.correlationId = facts.correlationId ?? null;
  }
}

export type Decision = "confirm" | "decline";

/** Every call the page makes, in the name of one identity. Failures are `Problem`s; an abort stays an `AbortError`. */
export class Client {
  constructor(private readonly identity: string | null) {}

  identities(): Promise<IdentityList> {
    return this.json("/api/v1/identities");
  }

  readiness(): Promise<Readiness> {
    return this.request("/readyz", {}, [503]).then((response) => response.json() as Promise<Readiness>);
  }

  conversations(): Promise<ConversationList> {
    return this.json("/api/v1/conversations");
  }

  conversation(id: string, signal?: AbortSignal): Promise<ConversationView> {
    return this.json(`/api/v1/sessions/${encodeURIComponent(id)}`, signal);
  }

  messages(id: string, after: number, signal?: AbortSignal): Promise<MessageList> {
    return this.json(`/api/v1/sessions/${encodeURIComponent(id)}/messages?after=${after}&limit=200`, signal);
  }

  /** Send a message. The same `key` never starts a second turn: it attaches to the first. */
  send(message: string, sessionId: string | null, key: string, signal: AbortSignal): AsyncGenerator<TurnEvent> {
    return this.stream("/api/v1/chat/stream", signal, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify(sessionId === null ? { message } : { message, session_id: sessionId }),
    });
  }

  /** Answer a pending action, which counts once however often it is sent; resolves to the turn that carried it out. */
  async decide(sessionId: string, pendingId: string, decision: Decision, signal: AbortSignal): Promise<string> {
    const response = await this.request("/api/v1/chat/confirm", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ session_id: sessionId, pending_id: pendingId, decision }),
      signal,
    });
    const reply = (await response.json()) as { turn_id: string };
    return reply.turn_id;
  }

  /** Ask that a turn ends now; its own events tell how it did. */
  async cancel(turnId: string): Promise<void> {
    const headers = { "content-type": "application/json" };
    await this.request(`/api/v1/turns/${encodeURIComponent(turnId)}/cancel`, { method: "POST", headers });
  }

  /** Events of a turn numbered above `after`, also while it runs. */
  follow(turnId: string, after: number, signal: AbortSignal): AsyncGenerator<TurnEvent> {
    return this.stream(`/api/v1/turns/${encodeURIComponent(turnId)}/events?after=${after}`, signal, {});
  }

  private async *stream(path: string, signal: AbortSignal, init: RequestInit): AsyncGenerator<TurnEvent> {
    const headers = new Headers(init.headers);
    headers.set("accept", "text/event-stream");
    const response = await this.request(path, { ...init, headers, signal });
    if (!response.body) throw unreachable();
    yield* readEvents(response.body);
  }

  private async json<T>(path: string, signal?: AbortSignal): Promise<T> {
    const response = await this.request(path, signal ? { signal } : {});
    return (await response.json()) as T;
  }

  private async request(path: string, init: RequestInit, accepted: number[] = []): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.identity !== null) headers.set("x-demo-identity", this.identity);
    const response = await fetch(path, { ...init, headers }).catch((error: unknown) => {
      throw isAbort(error) ? error : unreachable();
    });
    if (response.ok || accepted.includes(response.status)) return response;
    throw await problemOf(response);
  }
}

/** `GET /readyz`: whether turns can be taken. */
export interface Readiness {
  status: "ok" | "degraded" | "unavailable";
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Anything thrown, as a `Problem`. */
export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : unreachable();
}

function unreachable(): Problem {
  return new Problem("The connection to the server was lost.", { code: "unreachable", retryable: true });
}

/** RFC 9457 `application/problem+json`, or whatever else came instead of it. */
async function problemOf(response: Response): Promise<Problem> {
  const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const text = (key: string): string | null => (typeof body[key] === "string" && body[key] !== "" ? body[key] : null);
  return new Problem(text("detail") ?? text("title") ?? "The server could not answer.", {
    code: text("code") ?? `http_${response.status}`,
    status: response.status,
    retryable: body.retryable === true || response.status >= 500,
    correlationId: text("correlation_id"),
  });
}
