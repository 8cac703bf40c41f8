import { useId } from "react";

import type { DemoIdentity } from "@/shared/api-types";

interface Props {
  identities: DemoIdentity[];
  current: string | null;
  onChoose: (key: string) => void;
}

/** Whom the page speaks for, where the server runs with demo identities. */
export function IdentityChoice({ identities, current, onChoose }: Props) {
  const note = useId();
  if (identities.length === 0) return null;
  const locations = identities.find((each) => each.key === current)?.locations ?? [];
  return (
    <div className="identity">
      <label>
        <span>Demo identity</span>
        <select aria-describedby={note} value={current ?? ""} onChange={(event) => onChoose(event.target.value)}>
          {identities.map((each) => (
            <option key={each.key} value={each.key}>
              {each.label}
            </option>
          ))}
        </select>
      </label>
      <p id={note}>{locations.join(", ")}</p>
    </div>
  );
}
