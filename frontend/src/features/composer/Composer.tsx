import { type KeyboardEvent, type RefObject, type SubmitEvent, useState } from "react";

const MAX_CHARACTERS = 2000;
const COUNT_FROM = 1800;

interface Props {
  busy: boolean;
  running: boolean;
  stopping: boolean;
  inputRef: RefObject<HTMLTextAreaElement | null>;
  onSend: (message: string) => void;
  onStop: () => void;
}

/**
 * Where a message is written. Enter sends, Shift+Enter starts a new line; a reply that still runs keeps it back, and can
 * be stopped.
 */
export function Composer({ busy, running, stopping, inputRef, onSend, onStop }: Props) {
  const [draft, setDraft] = useState("");
  const message = draft.trim();
  const length = Array.from(message).length; // characters as the server counts them
  const sendable = !busy && length > 0 && length <= MAX_CHARACTERS;

  const submit = () => {
    if (!sendable) return;
    onSend(message);
    setDraft("");
  };
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    submit();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  };

  return (
    <form className="composer" aria-label="Write a message" onSubmit={onSubmit}>
      <div className="composer-box">
        <textarea
          ref={inputRef}
          aria-label="Message"
          aria-describedby="composer-note"
          placeholder="Write a message"
          rows={1}
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {running ? (
          <button key="stop" type="button" disabled={stopping} title="Escape" onClick={onStop}>
            {stopping ? "Stopping" : "Stop"}
          </button>
        ) : (
          <button key="send" type="submit" className="primary" disabled={!sendable}>
            Send
          </button>
        )}
      </div>
      <p id="composer-note" className="composer-note" data-counting={length > COUNT_FROM}>
        {length > COUNT_FROM
          ? `${length} of ${MAX_CHARACTERS} characters`
          : "An automated assistant answers here. It changes nothing without your yes."}
      </p>
    </form>
  );
}
