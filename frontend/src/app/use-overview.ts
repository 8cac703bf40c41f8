import { useCallback, useEffect, useState } from "react";

import type { Client, Readiness } from "@/shared/client";
import type { ConversationView } from "@/shared/api-types";

/** What stands around a conversation. `ready` is null until the server has answered. */
export interface Overview {
  conversations: ConversationView[];
  ready: Readiness["status"] | null;
}

/** The caller's conversations and the server's state; read at the start and whenever `refresh` is called. */
export function useOverview(client: Client): [Overview, () => void] {
  const [overview, setOverview] = useState<Overview>({ conversations: [], ready: null });
  const [reads, setReads] = useState(0);

  useEffect(() => {
    let current = true;
    const tell = (found: Partial<Overview>) => {
      if (current) setOverview((now) => ({ ...now, ...found }));
    };
    // The list is beside the point while a conversation goes on: when it cannot be read, the last one stays.
    client.conversations().then((found) => tell({ conversations: found.conversations }), () => undefined);
    client.readiness().then((found) => tell({ ready: found.status }), () => tell({ ready: "unavailable" }));
    return () => {
      current = false;
    };
  }, [client, reads]);

  const refresh = useCallback(() => setReads((count) => count + 1), []);
  return [overview, refresh];
}
