import type { Decision } from "@/shared/client";
import { moment } from "@/shared/dates";
import type { Question } from "@/shared/turn";

interface Props {
  question: Question;
  disabled: boolean;
  onDecide: (question: Question, decision: Decision) => void;
}

/** A pending action: nothing happens before one of its buttons, or a yes in words. */
export function QuestionCard({ question, disabled, onDecide }: Props) {
  return (
    <div className="question" role="group" aria-label="Waiting for your decision">
      <p className="question-label">Nothing happens before you confirm</p>
      <p className="question-summary">{question.summary}</p>
      <div className="question-actions">
        <button type="button" className="primary" disabled={disabled} onClick={() => onDecide(question, "confirm")}>
          Confirm
        </button>
        <button type="button" disabled={disabled} onClick={() => onDecide(question, "decline")}>
          Decline
        </button>
        <p className="question-expiry">Open until {moment(question.expiresAt)}</p>
      </div>
    </div>
  );
}
