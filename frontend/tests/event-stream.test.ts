import { describe, expect, it } from "vitest";

import type { TurnEvent } from "@/shared/api-types";
import { readEvents, type Source, wholeTurn } from "@/shared/event-stream";

import { completed, eventStream, STARTED, turnEvents } from "./fake-server";

const EVENTS = turnEvents(STARTED, { type: "text_delta", text: "naïve ✓" }, completed("naïve ✓"));

async function all(events: AsyncIterable<TurnEvent>): Promise<TurnEvent[]> {
  const found: TurnEvent[] = [];
  for await (const event of events) found.push(event);
  return found;
}

function bytesOf(response: Response, size: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    async start(controller) {
      const whole = new Uint8Array(await response.arrayBuffer());
      for (let at = 0; at < whole.length; at += size) controller.enqueue(whole.slice(at, at + size));
      controller.close();
    },
  });
}

describe("readEvents", () => {
  it.each([1, 7, 10_000])("reads events whole, however the bytes arrive (%i at a time)", async (size) => {
    expect(await all(readEvents(bytesOf(eventStream(EVENTS), size)))).toEqual(EVENTS);
  });
});

/** A source whose connections end after as many events as `lengths` says. */
function brittle(lengths: number[], drop: Error | null): Source & { opened: string[] } {
  const opened: string[] = [];
  async function* connection(from: number): AsyncGenerator<TurnEvent> {
    const length = lengths[opened.length - 1] ?? EVENTS.length;
    for (const event of EVENTS.slice(from, from + length)) {
      await Promise.resolve();
      yield event;
    }
    if (drop && from + length < EVENTS.length) throw drop;
  }
  return {
    opened,
    open: () => (opened.push("open"), connection(0)),
    reopen: (_turnId, after) => (opened.push(`after ${after}`), connection(after)), // sends the last one again
    survives: (error) => error instanceof TypeError,
    wait: () => Promise.resolve(),
  };
}

describe("wholeTurn", () => {
  it.each([null, new TypeError("network")])("goes on where the connection ended (%s)", async (drop) => {
    const source = brittle([1, 2], drop);
    expect(await all(wholeTurn(source))).toEqual(EVENTS);
    expect(source.opened).toEqual(["open", "after 0", "after 1"]);
  });

  it("repeats the request itself while no event has come", async () => {
    const source = brittle([0, 0], null);
    expect(await all(wholeTurn(source))).toEqual(EVENTS);
    expect(source.opened).toEqual(["open", "open", "open"]);
  });

  it("gives up after a while, with the last error", async () => {
    const source = brittle(Array<number>(20).fill(0), new TypeError("network"));
    await expect(all(wholeTurn(source))).rejects.toThrow("network");
    expect(source.opened).toHaveLength(6);
  });

  it("does not repeat what was refused", async () => {
    const source = brittle([0], new Error("refused"));
    await expect(all(wholeTurn(source))).rejects.toThrow("refused");
    expect(source.opened).toEqual(["open"]);
  });
});
