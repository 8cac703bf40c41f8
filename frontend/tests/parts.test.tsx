import { render, screen, within } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { PartCard } from "@/features/turn/PartCard";
import { partOf } from "@/features/turn/parts";
import type { JsonObject } from "@/shared/api-types";
import type { ToolCall } from "@/shared/turn";

function call(tool: string, result: JsonObject): ToolCall {
  return { callId: "a", tool, state: "done", status: "ok", args: {}, result, part: null, durationMs: 1 };
}

function show(tool: string, result: JsonObject): void {
  const part = partOf(call(tool, result));
  if (part === null) throw new Error(`no card for ${tool}`);
  render(<PartCard part={part} told="" onChoose={null} />);
}

const ROUTE: JsonObject = {
  date: "2026-03-12",
  optimized_route: [
    { sequence: 1, project_id: "500103", category: "Doors", arrival_time: "8:04 AM" },
    { sequence: 2, project_id: "500101", category: "Flooring", arrival_time: "9:10 AM" },
  ],
  metrics: { total_distance_miles: 7.2, total_drive_time_minutes: 14 },
};
const ASSIGNED: JsonObject = {
  requested_count: 3,
  assignments: [
    { project_id: "500101", scheduled_date: "2026-03-17", time: "8:00 AM", status: "assigned" },
    { project_id: "500103", scheduled_date: "2026-03-17", time: "10:00 AM", status: "failed" },
  ],
  summary: { team: "Team B" },
};

describe("a coordinator's cards", () => {
  it("lists the stops of a route in their order, with totals", () => {
    show("optimize_route", ROUTE);
    const card = screen.getByRole("group", { name: /^Route, .*12/ });
    expect(within(card).getAllByRole("listitem").map((each) => each.textContent)).toEqual([
      "500103 · Doors · 8:04 AM",
      "500101 · Flooring · 9:10 AM",
    ]);
    expect(within(card).getByText("7.2 miles, 14 minutes of driving")).toBeTruthy();
  });

  it("counts what was really assigned", () => {
    show("bulk_assign_teams", ASSIGNED);
    const card = screen.getByRole("group", { name: "Receipt" });
    expect(within(card).getByRole("heading").textContent).toBe("1 of 3 assigned to Team B");
    expect(within(card).getAllByRole("term").map((each) => each.textContent)).toEqual(["500101"]);
  });

  it("shows nothing of what was not sent or cannot be read", () => {
    expect(partOf(call("bulk_assign_teams", { ...ASSIGNED, test_mode: true }))).toBeNull();
    expect(partOf(call("bulk_assign_teams", { ok: true }))).toBeNull();
    expect(partOf(call("optimize_route", { ...ROUTE, metrics: null }))).toBeNull();
  });
});
