import { useCallback, useEffect, useMemo, useReducer, useRef } from "react";

import { change, EMPTY, type Change, type Conversation } from "@/app/conversation-state";
import type { OpenQuestion, TurnEvent } from "@/shared/api-types";
import { asProblem, type Client, type Decision, isAbort, Problem } from "@/shared/client";
import { type Source, wholeTurn } from "@/shared/event-stream";
import { turnsOf } from "@/shared/history";
import { newTurn, type Question, type Turn } from "@/shared/turn";

const DECISION_WORDS: Record<Decision, string> = { confirm: "Confirm", decline: "Decline" };

export interface ConversationActions {
  send: (message: string) => void;
  decide: (question: Question, decision: Decision) => void;
  retry: (turn: Turn) => void;
  stop: () => void;
  open: (id: string) => void;
  clear: () => void;
}

/** The turn that runs. `turnId` is not known before its first event, so a wish to stop it may have to wait. */
interface Running {
  turnId: string | null;
  stop: boolean;
}

/** One conversation and what can be done with it. `onTurnEnd` is called whenever a turn has ended. */
export function useConversation(client: Client, onTurnEnd: () => void): [Conversation, ConversationActions] {
  const [conversation, dispatch] = useReducer(change, EMPTY);
  const connection = useRef<AbortController | null>(null);
  const running = useRef<Running | null>(null);
  const requests = useRef(new Map<string, (signal: AbortSignal) => Source>()); // how to send a turn again, by its key
  const idRef = useRef<string | null>(null);

  useEffect(() => {
    idRef.current = conversation.id;
  }, [conversation.id]);
  useEffect(() => () => connection.current?.abort(), []);

  const start = useCallback(() => {
    connection.current?.abort();
    connection.current = new AbortController();
    running.current = null;
    return connection.current.signal;
  }, []);

  /** Tell the server that the turn shall end. Until it can be told, or when it could not be, the button may be pressed again. */
  const halt = useCallback(
    async (turn: Running) => {
      try {
        // The turn of a button is told only when it is over; the conversation knows it before.
        const id = idRef.current;
        const turnId = turn.turnId ?? (id === null ? null : (await client.conversation(id)).running_turn_id);
        if (turnId !== null) await client.cancel(turnId);
        else dispatch({ type: "not_stopped" });
      } catch {
        dispatch({ type: "not_stopped" });
      }
    },
    [client],
  );

  /** Apply a turn's events as they come, then ask which questions are open. */
  const follow = useCallback(
    async (key: string, source: Source, signal: AbortSignal) => {
      const tell = (what: Change) => {
        if (!signal.aborted) dispatch(what);
      };
      const turn: Running = { turnId: null, stop: false };
      if (!signal.aborted) running.current = turn;
      try {
        for await (const event of wholeTurn(watched(source, () => tell({ type: "resuming" })))) {
          tell({ type: "event", key, event });
          if (event.type === "turn_started" && !signal.aborted) idRef.current = event.conversation_id;
          const isNamed = turn.turnId === null;
          turn.turnId = event.turn_id;
          if (isNamed && turn.stop) void halt(turn);
        }
      } catch (error) {
        if (!isAbort(error)) tell({ type: "turn_lost", key, problem: asProblem(error) });
      }
      if (signal.aborted) return;
      running.current = null;
      onTurnEnd();
      if (idRef.current === null) return;
      // What a turn asked stands in its events; what is still open of earlier questions only the server knows.
      const view = await client.conversation(idRef.current, signal).catch(() => null);
      if (view) tell({ type: "questions", open: view.pending_actions.map(question) });
    },
    [client, halt, onTurnEnd],
  );

  const stop = useCallback(() => {
    const turn = running.current;
    if (turn === null) return;
    turn.stop = true;
    dispatch({ type: "stopping" });
    void halt(turn);
  }, [halt]);

  const begin = useCallback(
    (key: string, userText: string, source: (signal: AbortSignal) => Source) => {
      requests.current.set(key, source);
      dispatch({ type: "turn_added", turn: newTurn(key, userText) });
      const signal = start();
      void follow(key, source(signal), signal);
    },
    [follow, start],
  );

  const send = useCallback(
    (message: string) => {
      const key = crypto.randomUUID();
      const sessionId = idRef.current;
      begin(key, message, (signal) => sourceOf(client, signal, () => client.send(message, sessionId, key, signal)));
    },
    [begin, client],
  );

  const decide = useCallback(
    (asked: Question, decision: Decision) => {
      const sessionId = idRef.current;
      if (sessionId === null) return;
      const key = crypto.randomUUID();
      begin(key, DECISION_WORDS[decision], (signal) =>
        sourceOf(client, signal, async function* () {
          // A stop may have left the question open, and then the same press would be a new one.
          if (running.current?.stop) throw stoppedUnseen();
          const turnId = await client.decide(sessionId, asked.pendingId, decision, signal);
          yield* client.follow(turnId, -1, signal);
        }),
      );
    },
    [begin, client],
  );

  const retry = useCallback(
    (turn: Turn) => {
      // What the server took is followed, what it may not have taken is sent again under the same key, and only a turn
      // that failed there is asked anew: a second try never does a thing twice.
      const { turnId } = turn;
      const request = requests.current.get(turn.key);
      if (turnId !== null && turn.error?.code === "unreachable") {
        begin(turn.key, turn.userText, (signal) => sourceOf(client, signal, () => client.follow(turnId, -1, signal)));
      } else if (turnId === null && request) begin(turn.key, turn.userText, request);
      else send(turn.userText);
    },
    [begin, client, send],
  );

  const open = useCallback(
    (id: string) => {
      const signal = start();
      dispatch({ type: "opening", id });
      void (async () => {
        try {
          const [view, messages] = await Promise.all([client.conversation(id, signal), allMessages(client, id, signal)]);
          const turns = turnsOf(messages);
          const runningId = view.running_turn_id;
          const past = turns.filter((turn) => turn.turnId !== runningId);
          const current = turns.find((turn) => turn.turnId === runningId);
          if (signal.aborted) return;
          dispatch({ type: "opened", turns: past, open: view.pending_actions.map(question) });
          if (runningId === null) return;
          dispatch({ type: "turn_added", turn: { ...newTurn(runningId, current?.userText ?? ""), turnId: runningId } });
          const again = () => client.follow(runningId, -1, signal);
          await follow(runningId, sourceOf(client, signal, again), signal);
        } catch (error) {
          if (!isAbort(error)) dispatch({ type: "not_opened", problem: asProblem(error) });
        }
      })();
    },
    [client, follow, start],
  );

  const clear = useCallback(() => {
    start();
    requests.current.clear();
    dispatch({ type: "cleared" });
  }, [start]);

  const actions = useMemo(() => ({ send, decide, retry, stop, open, clear }), [send, decide, retry, stop, open, clear]);
  return [conversation, actions];
}

function stoppedUnseen(): Problem {
  return new Problem("The connection was lost after you had stopped this.", { code: "stopped" });
}

function question(pending: OpenQuestion): Question {
  const { pending_id: pendingId, tool, summary, expires_at: expiresAt } = pending;
  return { pendingId, tool, summary, expiresAt };
}

async function allMessages(client: Client, id: string, signal: AbortSignal) {
  const found = [];
  for (let after = 0; ; ) {
    const page = await client.messages(id, after, signal);
    found.push(...page.messages);
    if (page.next === null) return found;
    after = page.next;
  }
}

function sourceOf(client: Client, signal: AbortSignal, open: () => AsyncGenerator<TurnEvent>): Source {
  return {
    open,
    reopen: (turnId, after) => client.follow(turnId, after, signal),
    survives: (error) => !isAbort(error) && asProblem(error).code === "unreachable",
    wait: (attempt) => pause(Math.min(150 * 2 ** attempt, 3000), signal),
  };
}

function watched(source: Source, onDrop: () => void): Source {
  return {
    ...source,
    wait: (attempt) => {
      onDrop();
      return source.wait(attempt);
    },
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
