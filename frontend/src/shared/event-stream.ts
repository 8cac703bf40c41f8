import { EventSourceParserStream } from "eventsource-parser/stream";

import type { TurnEvent } from "@/shared/api-types";

/** The turn events of a `text/event-stream` body, in order. Ends when the body ends, whether or not the turn did. */
export async function* readEvents(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<TurnEvent> {
  const reader = body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (value.event !== undefined && value.data !== "") yield JSON.parse(value.data) as TurnEvent;
    }
  } finally {
    // Closing our end never stops the turn: it runs on the server, and can be followed again.
    await reader.cancel().catch(() => undefined);
  }
}

export function isFinal(event: TurnEvent): boolean {
  return event.type === "turn_completed" || event.type === "turn_failed" || event.type === "turn_cancelled";
}

/** Where a turn's events come from: opened once, and again from `after` on when the connection drops. */
export interface Source {
  open: () => AsyncGenerator<TurnEvent>;
  reopen: (turnId: string, after: number) => AsyncGenerator<TurnEvent>;
  /** Whether it makes sense to ask again after this error. */
  survives: (error: unknown) => boolean;
  wait: (attempt: number) => Promise<void>;
}

const ATTEMPTS = 6;

/**
 * All events of one turn up to its final one, each once, over as many connections as it takes. Before the first event
 * `open` is repeated, which the idempotency key makes safe; after it the turn is followed by its id. Throws the last
 * error when `ATTEMPTS` connections in a row bring nothing new.
 */
export async function* wholeTurn(source: Source): AsyncGenerator<TurnEvent> {
  let last = null as TurnEvent | null;
  for (let attempt = 0; ; ) {
    let failure: unknown = null;
    try {
      const events = last ? source.reopen(last.turn_id, last.seq) : source.open();
      for await (const event of events) {
        if (last && event.seq <= last.seq) continue;
        last = event;
        attempt = 0;
        yield event;
        if (isFinal(event)) return;
      }
    } catch (error) {
      if (!source.survives(error)) throw error;
      failure = error;
    }
    attempt += 1;
    if (attempt >= ATTEMPTS) throw failure instanceof Error ? failure : new Error("the turn's events ended early");
    await source.wait(attempt);
  }
}
