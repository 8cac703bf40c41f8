import type { JsonObject, JsonValue } from "@/shared/api-types";
import type { ToolCall } from "@/shared/turn";
import { text } from "@/shared/json";
import { toolLine } from "./tool-words";

/** One tool call inside an assistant turn: running, done or failed. What went in and came out can be unfolded. */
export function ToolCallCard({ call }: { call: ToolCall }) {
  const line = toolLine(call);
  const reason = call.state === "failed" && call.result ? text(call.result.user_hint) : null;
  return (
    <div className="call" role="group" data-state={call.state} aria-label={line} aria-busy={call.state === "running"}>
      <details>
        <summary>
          <Mark state={call.state} />
          <span className="call-line">{line}</span>
          {call.durationMs !== null && <span className="call-time">{duration(call.durationMs)}</span>}
        </summary>
        <div className="call-body">
          <Values title="Given" value={call.args} />
          {call.result && <Values title="Returned" value={call.result} />}
        </div>
      </details>
      {reason !== null && <p className="call-reason">{reason}</p>}
    </div>
  );
}

const SHAPES = { running: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5", done: "M3 8.5l3.2 3.2L13 5", failed: "M4 4l8 8M12 4l-8 8" };

function Mark({ state }: { state: ToolCall["state"] }) {
  return (
    <svg className="call-mark" viewBox="0 0 16 16" aria-hidden="true">
      <path d={SHAPES[state]} />
    </svg>
  );
}

function Values({ title, value }: { title: string; value: JsonObject }) {
  if (Object.keys(value).length === 0) return null;
  return (
    <div>
      <p className="call-title">{title}</p>
      <pre tabIndex={0} aria-label={title}>
        {written(value)}
      </pre>
    </div>
  );
}

/** JSON without its brackets and quotes: one value a line, indented. */
function written(value: JsonValue, depth = 0): string {
  const indent = "  ".repeat(depth);
  if (value === null) return `${indent}none`;
  if (typeof value !== "object") return indent + String(value);
  const entries: [string, JsonValue][] = Array.isArray(value)
    ? value.map((each, index) => [String(index + 1), each])
    : Object.entries(value);
  if (entries.length === 0) return `${indent}none`;
  return entries
    .map(([key, each]) =>
      typeof each === "object" && each !== null && Object.keys(each).length > 0
        ? `${indent}${key}\n${written(each, depth + 1)}`
        : `${indent}${key}: ${written(each)}`,
    )
    .join("\n");
}

function duration(ms: number): string {
  return ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}
