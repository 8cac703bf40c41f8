import { useEffect, useRef } from "react";

import { type Conversation, isBusy } from "@/app/conversation-state";
import { QuestionCard } from "@/features/turn/QuestionCard";
import { TurnView } from "@/features/turn/TurnView";
import type { Decision } from "@/shared/client";
import type { Question, Turn } from "@/shared/turn";

const OPENINGS = ["Show me my projects", "I'd like to book a visit", "When is my next appointment?"];
const NEAR_END_PX = 120;

interface Props {
  conversation: Conversation;
  onSend: (message: string) => void;
  onDecide: (question: Question, decision: Decision) => void;
  onRetry: (turn: Turn) => void;
}

/** The log of a conversation, the questions that are open, and, before there is one, how to begin. */
export function ConversationLog({ conversation, onSend, onDecide, onRetry }: Props) {
  const { turns, open, loading, problem } = conversation;
  const busy = isBusy(conversation);
  const last = turns.at(-1);
  const scroller = useKeptAtEnd(conversation);

  return (
    <div className="scroller" ref={scroller} tabIndex={-1}>
      <div className="log" role="log" aria-label="Conversation" aria-live="off" aria-busy={busy}>
        {turns.map((turn) => (
          <TurnView
            key={turn.key}
            turn={turn}
            onChoose={turn === last && !busy ? onSend : null}
            onRetry={turn === last && !busy ? onRetry : null}
          />
        ))}
      </div>
      {!busy &&
        open.map((question) => (
          <QuestionCard key={question.pendingId} question={question} disabled={busy} onDecide={onDecide} />
        ))}
      {problem && (
        <div className="failure" role="alert">
          <p>{problem.message}</p>
          {problem.correlationId !== null && (
            <p className="correlation">
              Reference <code>{problem.correlationId}</code>
            </p>
          )}
        </div>
      )}
      {turns.length === 0 && !loading && <Welcome onSend={onSend} />}
      <p className="visually-hidden" role="status" aria-label="Latest reply">
        {last && last.state !== "running" ? last.text : ""}
      </p>
    </div>
  );
}

function Welcome({ onSend }: Pick<Props, "onSend">) {
  return (
    <section className="welcome" aria-labelledby="welcome-title">
      <h2 id="welcome-title">What can be arranged for you?</h2>
      <p>
        This is an automated assistant. It looks up your projects, finds dates and times, and books, moves or cancels
        visits. Before anything changes it repeats the details and asks for your yes.
      </p>
      <ul className="choices" aria-label="Ways to begin">
        {OPENINGS.map((message) => (
          <li key={message}>
            <button type="button" className="choice" onClick={() => onSend(message)}>
              {message}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Keeps the end in view while it grows, unless the person has scrolled up to read. */
function useKeptAtEnd(conversation: Conversation) {
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const count = useRef(0);

  useEffect(() => {
    const element = scroller.current;
    if (!element) return undefined;
    const onScroll = () => {
      atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX;
    };
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => element.removeEventListener("scroll", onScroll);
  }, []);

  useEffect(() => {
    const element = scroller.current;
    const grown = conversation.turns.length !== count.current;
    count.current = conversation.turns.length;
    if (element && (atEnd.current || grown)) element.scrollTop = element.scrollHeight;
  }, [conversation]);

  return scroller;
}
