// The API page: shows the server's OpenAPI document, with a form to try each route.

import { askForKey, call, headers, make, onKey, say } from "./api.js";
import { fields, prose, resolve, type } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
// Number of values shown of a list of numbers.
const NUMBERS = 8;
const SHOWN_HEADERS = ["content-type", "retry-after", "x-request-id"];
let served = [];

async function load() {
  const place = document.getElementById("calls");
  let api;
  try {
    api = await call("openapi.json");
    served = (await call("info").catch(() => ({ models: [] }))).models ?? [];
  } catch (error) {
    say(place, error);
    return;
  }
  const groups = grouped(api);
  place.replaceChildren(about(api), ...groups.flatMap(([name, calls]) => [make("h2", {}, name), ...calls.map((one) => described(api, one))]));
  document.getElementById("index").replaceChildren(...groups.flatMap(([name, calls]) => [
    make("h2", {}, name),
    make("ul", {}, ...calls.map((one) => make("li", {}, make("a", { href: `#${one.id}` }, method(one), one.path)))),
  ]));
  open();
}

/** Routes by their first tag, in the order of the document's tags. */
function grouped(api) {
  const groups = new Map((api.tags ?? []).map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const name of METHODS.filter((one) => item[one])) {
      const what = item[name];
      const group = what.tags?.[0] ?? "Other";
      if (!groups.has(group)) groups.set(group, []);
      const id = `${name}${path.replace(/[^A-Za-z0-9]+/g, "-")}`.replace(/-$/, "");
      groups.get(group).push({ name, path, id, what, parameters: [...(item.parameters ?? []), ...(what.parameters ?? [])] });
    }
  }
  return [...groups].filter(([, calls]) => calls.length);
}

function about(api) {
  const raw = make("p", { class: "faint" }, "OpenAPI document, for client generators: ", make("a", { href: "openapi.json" }, "openapi.json"), ".");
  return make("div", { class: "about" }, make("h2", {}, `${api.info.title} ${api.info.version}`), ...prose(api.info.description), raw);
}

const method = (one) => make("span", { class: `method ${one.name}` }, one.name.toUpperCase());

function described(api, one) {
  const inside = make("div", { class: "inside" });
  const place = make("details", { class: "call", id: one.id },
    make("summary", {}, method(one), make("code", {}, one.path), make("span", { class: "faint" }, ...prose(one.what.summary, "span"))), inside);
  place.addEventListener("toggle", () => {
    if (place.open && !inside.firstChild) inside.append(...content(api, one));
  });
  return place;
}

function content(api, one) {
  const { what } = one;
  const parts = [];
  if (what.description) parts.push(make("div", { class: "prose" }, ...prose(what.description)));
  const parameters = one.parameters.map((parameter) => resolve(api, parameter));
  if (parameters.length) {
    const properties = parameters.map((parameter) => [parameter.name, { ...parameter.schema, description: parameter.description }]);
    const required = parameters.filter((parameter) => parameter.required).map((parameter) => parameter.name);
    parts.push(block("Parameters", fields(api, { properties: Object.fromEntries(properties), required })));
  }
  const [kind, body] = Object.entries(resolve(api, what.requestBody).content ?? {})[0] ?? [];
  if (body) parts.push(block("Body", fields(api, body.schema) ?? make("p", { class: "faint" }, type(api, body.schema)), kind));
  const answers = Object.entries(what.responses ?? {}).map(([status, answer]) => [status, resolve(api, answer)]);
  const good = answers.find(([status]) => status.startsWith("2"))?.[1].content?.["application/json"];
  const table = good && fields(api, good.schema);
  if (table) parts.push(block("Response", table));
  const statuses = answers.map(([status, answer]) => make("div", {}, make("dt", {}, status === "default" ? "error" : status), make("dd", {}, ...prose(answer.description, "span"))));
  if (statuses.some((one) => one.lastChild.textContent)) parts.push(block("Statuses", make("dl", { class: "responses" }, ...statuses)));
  parts.push(trial(api, one, parameters, body));
  return parts;
}

const block = (title, inner, note) => make("div", {}, make("h3", {}, title, note ? make("span", { class: "faint" }, ` ${note}`) : null), inner);

/** An example body, whose model is a served one. */
function example(api, one, body) {
  const named = Object.values(body.examples ?? {})[0];
  const schema = resolve(api, body.schema);
  const found = structuredClone(body.example ?? (named && resolve(api, named).value) ?? schema.example ?? schema.examples?.[0] ?? {});
  if (found.model !== undefined) {
    const kind = /rerank|predict/.test(one.path) ? "reranker" : one.path.includes("sparse") ? "sparse" : "embedding";
    found.model = served.find((each) => each.kind === kind)?.id ?? found.model;
  }
  return JSON.stringify(found, null, 2);
}

function trial(api, one, parameters, body) {
  const preset = (parameter) => (parameter.name === "model" ? served[0]?.id : null) ?? parameter.example ?? parameter.schema?.default ?? "";
  const inputs = parameters.map((parameter) => ({ parameter, input: make("input", { required: parameter.required ? "" : null, value: preset(parameter) }) }));
  const text = body ? make("textarea", { id: `${one.id}-body`, spellcheck: "false", rows: Math.min(16, example(api, one, body).split("\n").length + 1) }) : null;
  if (text) text.value = example(api, one, body);
  const status = make("div", { class: "line", role: "status" });
  const shown = make("div", { class: "answer" });
  const curl = make("pre", { tabindex: "0", "aria-label": "As a curl command" });
  const send = make("button", { class: "main" }, "Send");
  const form = make("form", { class: "try", "aria-label": `Try ${one.name.toUpperCase()} ${one.path}` },
    inputs.length ? make("div", { class: "row" }, ...inputs.map(({ parameter, input }) => make("label", {}, parameter.name, input))) : null,
    text ? make("div", {}, make("label", { for: text.id }, "Body to send"), text) : null,
    make("div", { class: "row" }, send, status),
    shown,
    make("details", {}, make("summary", {}, "As a curl command"), curl));

  const address = () => {
    const query = new URLSearchParams();
    let path = one.path;
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (parameter.in === "query" && input.value) query.set(parameter.name, input.value);
    }
    return `.${path}${query.size ? `?${query}` : ""}`;
  };
  const command = () => {
    const quoted = (words) => `'${words.replaceAll("'", "'\\''")}'`;
    const parts = [`curl ${quoted(new URL(address(), document.baseURI).href)}`];
    if (headers().authorization) parts.push("-H \"authorization: Bearer $API_KEY\"");
    if (text) parts.push("-H 'content-type: application/json'", `-d ${quoted(compact(text.value))}`);
    else if (one.name !== "get") parts.push(`-X ${one.name.toUpperCase()}`);
    curl.textContent = parts.join(" \\\n  ");
  };
  form.addEventListener("input", command);
  command();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (send.getAttribute("aria-busy")) return;
    send.setAttribute("aria-busy", "true");
    status.textContent = "Sending…";
    const started = performance.now();
    try {
      const asked = { method: one.name.toUpperCase(), headers: headers() };
      if (text) {
        asked.headers["content-type"] = "application/json";
        asked.body = text.value;
      }
      const answer = await fetch(address(), asked);
      const got = await answer.text();
      if (answer.status === 401) askForKey();
      const line = [`${Math.round(performance.now() - started)} ms`, `${got.length} characters`];
      for (const name of SHOWN_HEADERS) if (answer.headers.has(name)) line.push(`${name}: ${answer.headers.get(name)}`);
      status.replaceChildren(make("strong", { class: answer.ok ? null : "bad" }, `${answer.status} ${answer.statusText}`), ` · ${line.join(" · ")}`);
      shown.replaceChildren(make("pre", { tabindex: "0", "aria-label": "Response" }, readable(got)));
    } catch {
      status.replaceChildren(make("strong", { class: "bad" }, "No response"), " Cannot reach the server. Is it still running?");
      shown.replaceChildren();
    }
    send.removeAttribute("aria-busy");
  });
  return form;
}

function compact(text) {
  try { return JSON.stringify(JSON.parse(text)); } catch { return text; }
}

/** Indented JSON with long lists of numbers shortened; other text unchanged. */
function readable(text) {
  let json;
  try { json = JSON.parse(text); } catch { return text || "(empty)"; }
  const cut = (value) => {
    if (Array.isArray(value) && value.length && value.every((one) => typeof one === "number")) {
      const rest = value.length - NUMBERS;
      return `\u0000[${value.slice(0, NUMBERS).join(", ")}${rest > 0 ? `, … ${rest} more` : ""}]\u0000`;
    }
    if (typeof value === "string" && value.length > 400) return `${value.slice(0, 200)}… ${value.length - 200} more characters`;
    if (Array.isArray(value)) return value.map(cut);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, cut(inner)]));
    return value;
  };
  return JSON.stringify(cut(json), null, 2).replace(/"\\u0000(.*?)\\u0000"/g, "$1");
}

/** Opens the route named by the URL's fragment. */
function open() {
  const place = document.getElementById(location.hash.slice(1));
  if (place?.matches("details.call")) {
    place.open = true;
    place.scrollIntoView();
    place.querySelector("summary").focus({ preventScroll: true });
  }
}

addEventListener("hashchange", open);
document.getElementById("index").addEventListener("click", (event) => {
  // A click on the present fragment fires no hashchange, but should open the route.
  if (event.target.closest("a")?.hash === location.hash) open();
});
onKey(load);
load();
