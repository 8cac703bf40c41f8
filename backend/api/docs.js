// Renders /openapi.json with nothing but the browser.
"use strict";

const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
};

const typeOf = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map(typeOf).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items)}[]`;
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  return [schema.type, schema.format].filter(Boolean).join(" ") || "any";
};

const table = (rows) => {
  const made = element("table");
  for (const row of rows) {
    const line = element("tr");
    for (const cell of row) line.append(element("td", cell));
    made.append(line);
  }
  return made;
};

const operation = (method, path, spec) => {
  const box = element("details");
  const head = element("summary");
  head.append(element("span", method.toUpperCase(), "method"), element("code", path));
  const body = element("div", "", "body");
  body.append(element("p", spec.description || spec.summary));
  const parameters = (spec.parameters || []).map((each) => [
    `${each.name} (${each.in})`, typeOf(each.schema), each.description || (each.required ? "required" : ""),
  ]);
  if (parameters.length) body.append(element("strong", "Parameters"), table(parameters));
  const sent = spec.requestBody?.content?.["application/json"]?.schema;
  if (sent) body.append(element("p", `Body: ${typeOf(sent)}`));
  body.append(table(Object.entries(spec.responses || {}).map(([status, answer]) => [
    status, Object.entries(answer.content || {}).map(([kind, each]) => `${kind}: ${typeOf(each.schema)}`).join(", "), answer.description || "",
  ])));
  box.append(head, body);
  return box;
};

const render = (document_) => {
  document.getElementById("about").innerHTML = "";
  document.getElementById("about").append(document_.info.description || "", " ", Object.assign(element("a", "openapi.json"), { href: "/openapi.json" }));
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths))
    for (const [method, spec] of Object.entries(methods)) {
      const tag = (spec.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(method, path, spec));
    }
  for (const [tag, operations] of groups) document.getElementById("paths").append(element("h2", tag), ...operations);
  for (const [name, schema] of Object.entries(document_.components?.schemas || {})) {
    const box = element("details");
    const head = element("summary");
    head.append(element("code", name));
    const rows = Object.entries(schema.properties || {}).map(([key, each]) => [
      key + ((schema.required || []).includes(key) ? "" : "?"), typeOf(each), each.description || "",
    ]);
    const body = element("div", "", "body");
    body.append(element("p", schema.description || ""), rows.length ? table(rows) : element("pre", JSON.stringify(schema, null, 2)));
    box.append(head, body);
    document.getElementById("schemas").append(box);
  }
};

fetch("/openapi.json").then((answer) => answer.json()).then(render).catch((error) => {
  document.getElementById("about").textContent = `The description could not be loaded: ${error}`;
});
