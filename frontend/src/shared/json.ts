import type { JsonObject, JsonValue } from "@/shared/api-types";

/** Reading what a schema leaves open: a wrong or missing value is null, never an exception. */

export function text(value: JsonValue | undefined): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

export function whole(value: JsonValue | undefined): number | null {
  return typeof value === "number" && Number.isInteger(value) ? value : null;
}

export function object(value: JsonValue | undefined): JsonObject | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
}

export function objects(value: JsonValue | undefined): JsonObject[] {
  return list(value).flatMap<JsonObject>((each) => object(each) ?? []);
}

export function texts(value: JsonValue | undefined): string[] {
  return list(value).flatMap<string>((each) => text(each) ?? []);
}

function list(value: JsonValue | undefined): JsonValue[] {
  return Array.isArray(value) ? value : [];
}
