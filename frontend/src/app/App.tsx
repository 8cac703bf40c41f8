import { useCallback, useEffect, useMemo, useState } from "react";

import { rememberedIdentity, rememberIdentity, writeAddress } from "@/app/place";
import { Workspace } from "@/app/Workspace";
import { asProblem, Client, isAbort, type Problem } from "@/shared/client";
import type { IdentityList } from "@/shared/api-types";

/** Finds out who may be chosen, then shows the workspace of one identity. */
export function App() {
  const [known, setKnown] = useState<IdentityList | null>(null);
  const [chosen, setChosen] = useState<string | null>(rememberedIdentity);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    let current = true;
    new Client(null)
      .identities()
      .then((found) => {
        if (!current) return;
        setKnown(found);
        setProblem(null);
      })
      .catch((error: unknown) => {
        if (current && !isAbort(error)) setProblem(asProblem(error));
      });
    return () => {
      current = false;
    };
  }, [attempt]);

  const offered = known?.identities ?? [];
  const identity = offered.find((each) => each.key === chosen) ?? offered.find((each) => each.default);
  const key = identity?.key ?? null; // null: identity is proven otherwise
  const client = useMemo(() => new Client(key), [key]);
  const choose = useCallback((next: string) => {
    rememberIdentity(next);
    writeAddress(null); // conversations belong to one identity
    setChosen(next);
  }, []);

  if (problem) return <NotThere problem={problem} onRetry={() => setAttempt((count) => count + 1)} />;
  if (!known) return <main aria-busy="true" aria-label="Loading" />;
  return <Workspace key={key} client={client} known={known} identity={key} onChooseIdentity={choose} />;
}

function NotThere({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  return (
    <main className="not-there">
      <h1>Outcrop</h1>
      <div className="failure" role="alert">
        <p>{problem.message}</p>
        {problem.correlationId !== null && (
          <p className="correlation">
            Reference <code>{problem.correlationId}</code>
          </p>
        )}
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      </div>
    </main>
  );
}
