// Describes schemas of the OpenAPI document in words.

import { make } from "./api.js";

/** The target of a `$ref`; other values unchanged. */
export function resolve(document, schema) {
  let found = schema;
  while (found?.$ref) {
    found = found.$ref.slice(2).split("/").reduce((at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], document);
  }
  return found ?? {};
}

/** The type of a value in a few words: `string`, `list of numbers`, `"float" or "base64"`. */
export function type(document, schema, depth = 0) {
  const found = resolve(document, schema);
  const many = found.oneOf ?? found.anyOf;
  if (many) {
    const named = many.map((one) => resolve(document, one)).filter((one) => one.type !== "null");
    return [...new Set(named.map((one) => type(document, one, depth)))].join(" or ");
  }
  if (found.allOf?.length === 1) return type(document, found.allOf[0], depth);
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.enum) return found.enum.filter((value) => value !== null).map((value) => JSON.stringify(value)).join(" or ");
  const name = [found.type].flat().filter((one) => one && one !== "null").join(" or ");
  if (name === "array") return depth > 2 ? "list" : `list of ${plural(type(document, found.items ?? {}, depth + 1))}`;
  return name || "any value";
}

function plural(name) {
  if (name.startsWith("list of")) return name.replace("list", "lists");
  return / or |"/.test(name) ? name : `${name}s`;
}

/** Renders paragraphs and `code` of a text; no other Markdown. */
export function prose(text, name = "p") {
  return (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => {
    const pieces = part.trim().split(/`([^`]+)`/);
    return make(name, {}, ...pieces.map((piece, i) => (i % 2 ? make("code", {}, piece) : piece)));
  });
}

/** The fields of an object as a table. Fields of inner objects follow their field, indented. */
export function fields(document, schema) {
  const rows = [];
  collect(document, resolve(document, schema), 0, rows);
  return rows.length ? make("table", { class: "fields" }, make("tbody", {}, ...rows)) : null;
}

function collect(document, schema, depth, rows) {
  const required = new Set(schema.required);
  for (const part of schema.allOf ?? []) collect(document, resolve(document, part), depth, rows);
  for (const [name, value] of Object.entries(schema.properties ?? {})) {
    const found = resolve(document, value);
    const notes = prose(value.description ?? found.description, "span");
    const set = value.default ?? found.default;
    if (set !== undefined && set !== null) notes.push(make("span", { class: "faint" }, ` Default ${JSON.stringify(set)}.`));
    const limits = bounds(found);
    if (limits) notes.push(make("span", { class: "faint" }, ` ${limits}`));
    rows.push(make("tr", {},
      make("th", { scope: "row", class: depth ? "in" : null }, make("code", {}, name), required.has(name) ? make("span", { class: "must" }, "required") : null),
      make("td", {}, type(document, value)),
      make("td", {}, ...notes)));
    const inner = within(document, found);
    if (inner && depth < 1) collect(document, inner, depth + 1, rows);
  }
}

/** The object inside a field or its list, if there is one. */
function within(document, schema) {
  if (schema.properties) return schema;
  if (schema.items) return within(document, resolve(document, schema.items));
  return (schema.oneOf ?? schema.anyOf ?? []).map((part) => resolve(document, part)).find((part) => part.properties);
}

function bounds(schema) {
  const { minimum, maximum, minItems, maxItems } = schema;
  const parts = [];
  if (minimum) parts.push(`at least ${minimum}`);
  if (maximum !== undefined) parts.push(`at most ${maximum}`);
  if (minItems) parts.push(`${minItems} or more`);
  if (maxItems !== undefined) parts.push(`${maxItems} or fewer`);
  return parts.length ? `${parts.join(", ")}.` : "";
}
