import { useLayoutEffect, useRef } from "react";

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
        {last && last.state !== "running" ? spoken(last) : ""}
      </p>
    </div>
  );
}

function spoken(turn: Turn): string {
  return turn.state === "cancelled" ? `${turn.text} Stopped.`.trim() : turn.text;
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

/** Keeps the end in view while the conversation grows, unless the person has scrolled up to read. */
function useKeptAtEnd(conversation: Conversation) {
  const scroller = useRef<HTMLDivElement>(null);
  const before = useRef({ height: 0, turns: 0 });

  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const { height, turns } = before.current;
    // What was the end before this change may lie above or, when something was taken away, below the end now.
    const wasAtEnd = element.scrollTop + element.clientHeight >= Math.min(height, element.scrollHeight) - NEAR_END_PX;
    if (wasAtEnd || conversation.turns.length !== turns) element.scrollTop = element.scrollHeight;
    before.current = { height: element.scrollHeight, turns: conversation.turns.length };
  }, [conversation]);

  return scroller;
}
