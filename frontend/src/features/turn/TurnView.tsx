import { memo } from "react";

import { PartCard } from "./PartCard";
import { partOf } from "./parts";
import { SearchCard } from "./SearchCard";
import { Sources } from "./Sources";
import { marked } from "./source-marks";
import { ToolCallCard } from "./ToolCallCard";
import { Markdown } from "@/shared/Markdown";
import type { Turn } from "@/shared/turn";

interface Props {
  turn: Turn;
  onChoose: ((message: string) => void) | null;
  onRetry: ((turn: Turn) => void) | null;
}

/** One turn: what the person said, what the assistant did, what it answered. */
export const TurnView = memo(function TurnView({ turn, onChoose, onRetry }: Props) {
  const waitsForFirstWord = turn.state === "running" && turn.text === "" && turn.calls.every((call) => call.state !== "running");
  return (
    <>
      {turn.userText !== "" && (
        <article className="said" aria-label="You">
          <p>{turn.userText}</p>
        </article>
      )}
      <article className="reply" aria-label="Assistant" aria-busy={turn.state === "running"}>
        {turn.searches.map((search) => (
          <SearchCard key={search.query} search={search} />
        ))}
        {turn.calls.map((call) => (
          <ToolCallCard key={call.callId} call={call} />
        ))}
        {waitsForFirstWord && <p className="thinking">Working on it</p>}
        {turn.text !== "" && (
          <div className="prose">
            <Markdown text={marked(turn.text, turn.sources)} />
          </div>
        )}
        <Sources sources={turn.sources} />
        {turn.state !== "running" && <Parts turn={turn} onChoose={onChoose} />}
        {turn.state === "cancelled" && <p className="ended">Stopped.</p>}
        {turn.error && <TurnFailure turn={turn} onRetry={onRetry} />}
      </article>
    </>
  );
});

function Parts({ turn, onChoose }: Pick<Props, "turn" | "onChoose">) {
  return turn.calls.map((call, index) => {
    const part = partOf(call);
    // The same search made twice in a turn is shown once, as it stood last.
    const isLast = !turn.calls.slice(index + 1).some((later) => later.tool === call.tool && partOf(later) !== null && call.tool.startsWith("get_"));
    return part && isLast ? <PartCard key={call.callId} part={part} told={turn.text} onChoose={onChoose} /> : null;
  });
}

function TurnFailure({ turn, onRetry }: Pick<Props, "turn" | "onRetry">) {
  const { error } = turn;
  if (!error) return null;
  return (
    <div className="failure" role="alert">
      <p>{error.sentence}</p>
      {error.correlationId !== null && (
        <p className="correlation">
          Reference <code>{error.correlationId}</code>
        </p>
      )}
      {error.retryable && onRetry && (
        <button type="button" onClick={() => onRetry(turn)}>
          Try again
        </button>
      )}
    </div>
  );
}
