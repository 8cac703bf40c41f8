import { useEffect } from "react";

/** What outlives a reload: the conversation in the address, the identity in the browser. */

const PREFIX = "#/conversations/";
const IDENTITY = "outcrop.identity";

export function conversationInAddress(): string | null {
  const { hash } = window.location;
  return hash.startsWith(PREFIX) ? decodeURIComponent(hash.slice(PREFIX.length)) : null;
}

export function writeAddress(conversationId: string | null): void {
  if (conversationInAddress() === conversationId) return;
  const { pathname, search } = window.location;
  const hash = conversationId === null ? "" : PREFIX + encodeURIComponent(conversationId);
  window.history.pushState(null, "", pathname + search + hash);
}

/** Call back when the person goes back or forward, or edits the address. */
export function useAddressChange(onChange: () => void): void {
  useEffect(() => {
    window.addEventListener("popstate", onChange);
    return () => window.removeEventListener("popstate", onChange);
  }, [onChange]);
}

export function rememberedIdentity(): string | null {
  try {
    return window.localStorage.getItem(IDENTITY);
  } catch {
    return null; // storage is switched off
  }
}

export function rememberIdentity(key: string): void {
  try {
    window.localStorage.setItem(IDENTITY, key);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
}
