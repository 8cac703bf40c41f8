import { moment } from "@/shared/dates";
import type { ConversationView } from "@/shared/api-types";

interface Props {
  conversations: ConversationView[];
  currentId: string | null;
  onOpen: (id: string) => void;
}

/** My conversations, newest first. */
export function ConversationList({ conversations, currentId, onOpen }: Props) {
  return (
    <nav className="conversations" aria-label="My conversations">
      <h2>Conversations</h2>
      {conversations.length === 0 && <p className="none">None yet.</p>}
      <ul>
        {conversations.map((each) => (
          <li key={each.session_id}>
            <button
              type="button"
              aria-current={each.session_id === currentId ? "true" : undefined}
              onClick={() => onOpen(each.session_id)}
            >
              <span className="conversation-title">{each.title ?? moment(each.created_at)}</span>
              <span className="conversation-facts">{facts(each)}</span>
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function facts({ title, created_at: createdAt, turns }: ConversationView): string {
  const count = turns === 1 ? "1 message" : `${turns} messages`;
  return title ? `${moment(createdAt)} · ${count}` : count;
}
