import type { Readiness } from "@/shared/client";

interface Props {
  answeredBy: string;
  ready: Readiness["status"] | null; // null: not known yet
  resuming: boolean;
}

const TROUBLE: Partial<Record<Readiness["status"], string>> = {
  degraded: "the service works, but slower than usual",
  unavailable: "the service is not available just now",
};

/** Which brain answers, and whether it can. */
export function StatusLine({ answeredBy, ready, resuming }: Props) {
  const trouble = ready === null ? undefined : TROUBLE[ready];
  const state = resuming || trouble ? "troubled" : ready === null ? "unknown" : "ready";
  return (
    <p className="status" role="status" aria-label="Service" data-state={state}>
      {resuming ? "Connection lost, picking up the reply again" : `Answered by ${answeredBy}${trouble ? `; ${trouble}` : ""}`}
    </p>
  );
}
