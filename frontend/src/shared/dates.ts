const LONG = new Intl.DateTimeFormat("en-US", { weekday: "long", month: "long", day: "numeric", timeZone: "UTC" });
const SHORT = new Intl.DateTimeFormat("en-US", { weekday: "short", month: "short", day: "numeric", timeZone: "UTC" });
const MOMENT = new Intl.DateTimeFormat("en-US", { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });

/** "2026-03-16" as "Monday, March 16". A calendar day has no zone, so it is read and written in UTC. */
export function longDay(iso: string): string {
  return written(LONG, iso);
}

/** "2026-03-16" as "Mon, Mar 16". */
export function shortDay(iso: string): string {
  return written(SHORT, iso);
}

/** A moment in the reader's own zone, "Mar 16, 2:05 PM". */
export function moment(iso: string): string {
  return written(MOMENT, iso);
}

function written(format: Intl.DateTimeFormat, iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : format.format(date);
}
