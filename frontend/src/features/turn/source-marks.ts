import type { Source } from "@/shared/turn";

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** The reply with the numbers of its sources raised behind what rests on them. */
export function marked(text: string, sources: Source[]): string {
  if (sources.length === 0) return text;
  const numbers = new Map<number, Set<number>>();
  for (const { textEnd, number } of sources) {
    if (number > 0 && textEnd > 0) numbers.set(textEnd, (numbers.get(textEnd) ?? new Set()).add(number));
  }
  // Offsets count characters; the string counts UTF-16 units.
  const characters = Array.from(text);
  const pieces: string[] = [];
  let from = 0;
  for (const [end, found] of [...numbers].sort(([a], [b]) => a - b)) {
    if (end > characters.length) continue;
    pieces.push(characters.slice(from, end).join(""), [...found].map(raised).join("\u2009"));
    from = end;
  }
  return pieces.join("") + characters.slice(from).join("");
}

function raised(number: number): string {
  return String(number).replace(/\d/g, (digit) => RAISED.charAt(Number(digit)));
}
