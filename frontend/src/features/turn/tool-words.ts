import type { ToolCall, ToolState } from "@/shared/turn";

/** What a call is to a person, while it runs, once it is done, and when it failed. */
type Words = Readonly<Record<ToolState, string>>;

const WORDS: Readonly<Record<string, Words>> = {
  list_projects: words("Looking up your projects", "Looked up your projects", "Could not look up your projects"),
  get_available_dates: words("Looking for open dates", "Found open dates", "Found no open dates"),
  get_time_slots: words("Looking for open times", "Found open times", "Found no open times"),
  confirm_appointment: words("Booking the appointment", "Booked the appointment", "Did not book the appointment"),
  reschedule_appointment: words("Moving the appointment", "Moved the appointment", "Did not move the appointment"),
  cancel_appointment: words("Cancelling the appointment", "Cancelled the appointment", "Did not cancel the appointment"),
  get_project_details: words("Reading the project", "Read the project", "Could not read the project"),
  get_appointment_status: words("Checking the appointment", "Checked the appointment", "Could not check the appointment"),
  get_working_hours: words("Checking opening hours", "Checked opening hours", "Could not check opening hours"),
  get_weather: words("Checking the weather", "Checked the weather", "Could not check the weather"),
  search_knowledge_base: words("Searching the documents", "Searched the documents", "Could not search the documents"),
  add_note: words("Saving the note", "Saved the note", "Did not save the note"),
  list_notes: words("Reading the notes", "Read the notes", "Could not read the notes"),
  optimize_route: words("Planning the route", "Planned the route", "Could not plan the route"),
  validate_projects: words("Checking the projects", "Checked the projects", "Could not check the projects"),
  detect_conflicts: words("Looking for conflicts", "Looked for conflicts", "Could not look for conflicts"),
  bulk_assign_teams: words("Assigning the projects", "Assigned the projects", "Did not assign the projects"),
  request_human: words("Asking for a callback", "Asked for a callback", "Could not ask for a callback"),
};

function words(running: string, done: string, failed: string): Words {
  return { running, done, failed };
}

/** One line about a call. A gated call that waits for a yes has done nothing yet, and the line says so. */
export function toolLine(call: ToolCall): string {
  if (call.status === "pending") return "Prepared for your decision";
  if (call.status === "unknown") return `${plainName(call.tool)}: the outcome is not known yet`;
  const known = WORDS[call.tool];
  if (isBrokenOff(call)) return `${known?.running ?? plainName(call.tool)}: broken off`;
  if (known) return known[call.state] + found(call);
  const state = { running: "running", done: "done", failed: "failed" }[call.state];
  return `${plainName(call.tool)}: ${state}`;
}

/** How many passages a search in documents kept. */
function found({ state, result }: ToolCall): string {
  if (state !== "done" || !Array.isArray(result?.passages)) return "";
  return `: ${passages(result.passages.length)}`;
}

export function passages(count: number): string {
  if (count === 0) return "nothing found";
  return count === 1 ? "1 passage" : `${count} passages`;
}

/** Whether the turn ended before the call did: that it found nothing cannot be said then. */
function isBrokenOff({ state, result }: ToolCall): boolean {
  return state === "failed" && (result === null || result.code === "stopped" || result.code === "interrupted");
}

function plainName(tool: string): string {
  const name = tool.replaceAll("_", " ");
  return name.charAt(0).toUpperCase() + name.slice(1);
}
