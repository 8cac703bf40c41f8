import type { JsonObject } from "@/shared/api-types";
import { longDay, shortDay } from "@/shared/dates";
import { object, objects, text, texts } from "@/shared/json";
import type { ToolCall } from "@/shared/turn";

/** Something to press: `label` is read, `message` is sent. */
export interface Choice {
  label: string;
  message: string;
}

export interface ProjectLine {
  orderNumber: string;
  title: string;
  status: string;
  place: string | null;
  appointment: string | null;
  message: string | null; // null: there is nothing to book
}

/** A tool's result as a card. */
export type Part =
  | { kind: "projects"; projects: ProjectLine[] }
  | { kind: "choices"; label: string; choices: Choice[] }
  | { kind: "route"; label: string; stops: { id: string; line: string }[]; total: string }
  | { kind: "receipt"; heading: string; rows: { name: string; value: string }[]; link: string | null };

/** Tools whose result makes a card, for conversations read from the record, where only the tool's name is known. */
const PART_OF: Readonly<Record<string, string>> = {
  list_projects: "projects",
  get_available_dates: "dates",
  get_time_slots: "slots",
  confirm_appointment: "appointment",
  reschedule_appointment: "appointment",
  cancel_appointment: "appointment",
  optimize_route: "route",
  bulk_assign_teams: "assignment",
};

const RECEIPTS: Readonly<Record<string, string>> = {
  confirm_appointment: "Appointment booked",
  reschedule_appointment: "Appointment moved",
  cancel_appointment: "Appointment cancelled",
};

/** The card of a call that went well; null when there is nothing to show. */
export function partOf(call: ToolCall): Part | null {
  if (call.state !== "done" || call.status === "pending" || !call.result) return null;
  switch (call.part ?? PART_OF[call.tool]) {
    case "projects":
      return projects(call.result);
    case "dates":
      return dates(call.result);
    case "slots":
      return slots(call.result);
    case "appointment":
      return receipt(call.tool, call.result);
    case "route":
      return route(call.result);
    case "assignment":
      return assignment(call.result);
    default:
      return null;
  }
}

function projects(result: JsonObject): Part | null {
  const lines = objects(result.projects).flatMap((each) => projectLine(each) ?? []);
  return lines.length > 0 ? { kind: "projects", projects: lines } : null;
}

function projectLine(project: JsonObject): ProjectLine | null {
  const orderNumber = text(project.order_number);
  if (orderNumber === null) return null;
  const title = titleOf(project);
  return {
    orderNumber,
    title,
    status: text(project.status) ?? "",
    place: text(project.address),
    appointment: slotText(object(project.appointment)),
    message: project.schedulable === true ? `Find dates for ${title}, order ${orderNumber}` : null,
  };
}

function dates(result: JsonObject): Part | null {
  const open = objects(result.dates);
  const days = (open.length > 0 ? open : objects(result.nearest)).flatMap((each) => text(each.date) ?? []);
  const choices = days.map((day) => ({ label: shortDay(day), message: longDay(day) }));
  return choices.length > 0 ? { kind: "choices", label: "Open dates", choices } : null;
}

function slots(result: JsonObject): Part | null {
  const day = text(result.date);
  const choices = texts(result.slots).map((time) => ({ label: time, message: time }));
  return choices.length > 0 ? { kind: "choices", label: `Open times${day ? `, ${shortDay(day)}` : ""}`, choices } : null;
}

function receipt(tool: string, result: JsonObject): Part | null {
  const heading = RECEIPTS[tool];
  const project = object(result.project);
  if (heading === undefined || !project) return null;
  const rows = [
    { name: "Project", value: titleOf(project) },
    { name: "Order", value: text(project.order_number) },
    { name: "Before", value: slotText(object(result.old)) },
    { name: tool === "cancel_appointment" ? "Was" : "When", value: slotText(result) },
    { name: "Where", value: text(project.address) },
    { name: "Status", value: text(result.status) ?? text(project.status) },
  ];
  return {
    kind: "receipt",
    heading,
    rows: rows.flatMap((row) => (row.value === null ? [] : [{ name: row.name, value: row.value }])),
    link: text(project.link),
  };
}

function route(result: JsonObject): Part | null {
  const stops = objects(result.optimized_route).flatMap((stop) => {
    const id = text(stop.project_id);
    return id === null ? [] : { id, line: [id, text(stop.category), text(stop.arrival_time)].filter(Boolean).join(" · ") };
  });
  const day = text(result.date);
  const metrics = object(result.metrics);
  const [miles, minutes] = [metrics?.total_distance_miles, metrics?.total_drive_time_minutes];
  if (stops.length === 0 || typeof miles !== "number" || typeof minutes !== "number") return null;
  const total = `${miles} miles, ${minutes} minutes of driving`;
  return { kind: "route", label: day ? `Route, ${shortDay(day)}` : "Route", stops, total };
}

function assignment(result: JsonObject): Part | null {
  const summary = object(result.summary);
  const team = summary && text(summary.team);
  const asked = result.requested_count;
  if (!team || typeof asked !== "number" || result.test_mode === true) return null;
  const done = objects(result.assignments).filter((each) => each.status === "assigned");
  const rows = done.flatMap((each) => {
    const [name, day, time] = [text(each.project_id), text(each.scheduled_date), text(each.time)];
    return name && day ? [{ name, value: time ? `${shortDay(day)}, ${time}` : shortDay(day) }] : [];
  });
  const heading = `${done.length} of ${asked} assigned to ${team}`;
  return { kind: "receipt", heading, rows, link: null };
}

function titleOf(project: JsonObject): string {
  const title = text(project.title);
  if (title !== null) return title;
  return [text(project.category), text(project.type)].filter(Boolean).join(" ");
}

/** `{date, time | start}` in words; null without a date. */
function slotText(slot: JsonObject | null): string | null {
  const day = slot && text(slot.date);
  if (!slot || !day) return null;
  const time = text(slot.time) ?? text(slot.start);
  return time ? `${longDay(day)}, ${time}` : longDay(day);
}
