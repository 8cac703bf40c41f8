import type { Identity } from "@/shared/resources";

interface Props {
  identities: Identity[];
  current: string | null;
  onChoose: (key: string) => void;
}

/** Whom the page speaks for, where the server runs with demo identities. */
export function IdentityChoice({ identities, current, onChoose }: Props) {
  if (identities.length === 0) return null;
  return (
    <label className="identity">
      <span>Demo identity</span>
      <select value={current ?? ""} onChange={(event) => onChoose(event.target.value)}>
        {identities.map((each) => (
          <option key={each.id} value={each.id}>
            {optionText(each)}
          </option>
        ))}
      </select>
    </label>
  );
}

function optionText({ label, locations }: Identity): string {
  return locations.length > 0 ? `${label}, ${locations.length > 1 ? `${locations.length} offices` : locations[0]}` : label;
}
