import { type KeyboardEvent, useCallback, useEffect, useRef, useState } from "react";

import { ConversationLog } from "@/app/ConversationLog";
import { isBusy, isRunning } from "@/app/conversation-state";
import { conversationInAddress, useAddressChange, writeAddress } from "@/app/place";
import { useConversation } from "@/app/use-conversation";
import { useOverview } from "@/app/use-overview";
import { Composer } from "@/features/composer/Composer";
import { ConversationList } from "@/features/conversations/ConversationList";
import { IdentityChoice } from "@/features/identity/IdentityChoice";
import { StatusLine } from "@/features/status/StatusLine";
import type { Client } from "@/shared/client";
import type { IdentityList } from "@/shared/api-types";
import type { Brain } from "@/shared/turn";

interface Props {
  client: Client;
  known: IdentityList;
  identity: string | null;
  onChooseIdentity: (key: string) => void;
}

/** Everything one identity sees: its conversations beside the one that is open. */
export function Workspace({ client, known, identity, onChooseIdentity }: Props) {
  const [overview, refresh] = useOverview(client);
  const [conversation, { send, decide, retry, stop, open, clear }] = useConversation(client, refresh);
  const [menuOpen, setMenuOpen] = useState(false);
  const inputRef = useRef<HTMLTextAreaElement>(null);
  const menuButton = useRef<HTMLButtonElement>(null);
  const busy = isBusy(conversation);
  const running = isRunning(conversation);
  const brain = conversation.turns.findLast((turn) => turn.brain)?.brain;

  const followAddress = useCallback(() => {
    const id = conversationInAddress();
    if (id === null) clear();
    else open(id);
  }, [clear, open]);
  useAddressChange(followAddress);
  useEffect(() => {
    if (conversationInAddress() !== null) followAddress();
  }, [followAddress]);
  useEffect(() => {
    if (conversation.id !== null) writeAddress(conversation.id);
  }, [conversation.id]);

  useEscape(running, stop);

  const go = (act: () => void) => {
    setMenuOpen(false);
    act();
    inputRef.current?.focus();
  };
  const closeOnEscape = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !menuOpen) return;
    event.preventDefault(); // it means the menu, not the reply
    setMenuOpen(false);
    menuButton.current?.focus();
  };
  const startAnew = () => {
    writeAddress(null);
    clear();
  };

  return (
    <div className="workspace" data-menu={menuOpen ? "open" : "closed"}>
      <header className="rail" onKeyDown={closeOnEscape}>
        <div className="rail-head">
          <Brand />
          <button
            ref={menuButton}
            type="button"
            className="menu-button"
            aria-expanded={menuOpen}
            aria-controls="menu"
            onClick={() => setMenuOpen((now) => !now)}
          >
            Menu
          </button>
        </div>
        <div className="rail-body" id="menu">
          <button type="button" className="new-conversation" onClick={() => go(startAnew)}>
            New conversation
          </button>
          <IdentityChoice identities={known.identities} current={identity} onChoose={onChooseIdentity} />
          <ConversationList
            conversations={overview.conversations}
            currentId={conversation.id}
            onOpen={(id) => go(() => open(id))}
          />
        </div>
      </header>
      <main className="main">
        <ConversationLog
          conversation={conversation}
          onSend={(message) => go(() => send(message))}
          onDecide={(question, decision) => go(() => decide(question, decision))}
          onRetry={retry}
        />
        <div className="foot">
          <Composer
            busy={busy}
            running={running}
            stopping={conversation.stopping}
            inputRef={inputRef}
            onSend={send}
            onStop={() => go(stop)}
          />
          <StatusLine
            answeredBy={brain ? answeredBy(brain) : known.answered_by}
            ready={overview.ready}
            resuming={conversation.resuming}
          />
        </div>
      </main>
    </div>
  );
}

/** Call this for Escape, wherever on the page, unless something nearer took it. */
function useEscape(enabled: boolean, act: () => void) {
  useEffect(() => {
    if (!enabled) return;
    const onKeyDown = (event: globalThis.KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented && !event.isComposing) act();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [enabled, act]);
}

function answeredBy({ provider, model }: Brain): string {
  return provider === "offline" ? "the offline planner, not a language model" : `${model} (${provider})`;
}

function Brand() {
  return (
    <div className="brand">
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path className="stratum" d="M2 20.5h20" />
        <path className="stratum" d="M2 15.5h5l3-5h4l3 5h5" />
        <path className="surface" d="M2 10.5h3.5l4-7h5l4 7H22" />
      </svg>
      <div>
        <h1>Outcrop</h1>
        <p>Automated assistant</p>
      </div>
    </div>
  );
}
