// The start page: served models, texts, the matrix of their cosines, and a search over them.

import { Refused, call, make, onKey, say } from "./api.js";
import { cosine, show } from "./matrix.js";

const get = (id) => document.getElementById(id);
// Number of texts per request, unless the server's maximum is smaller.
const AT_ONCE = 64;
// Maximum number of lines in the matrix: more cells are hard to read and slow to lay out.
const MAX_COMPARED = 150;
const FOUND = 20;
const KINDS = { reranker: "Reranker", sparse: "Sparse encoder", "multi-vector": "Multi-vector encoder" };

const EXAMPLE = `A loaf of bread keeps best in a paper bag.
Store bread at room temperature, wrapped in paper.
Fresh basil wilts quickly in the refrigerator.
The train to the coast leaves at half past nine.
When does the next train depart?
How do I reset my password?
I cannot log in to my account any more.
The cat slept on the warm roof all afternoon.`;

let info;
let model;

async function learn() {
  try {
    info = await call("info");
  } catch (error) {
    get("facts").replaceChildren(fact("Server", error.message));
    // The server may be starting or restarting.
    if (error.status === 503 || error.status === 0) setTimeout(learn, 1000);
    return;
  }
  const embedders = info.models.filter((one) => one.kind === "embedding");
  model = embedders.find((one) => one.id === model?.id) ?? embedders[0];
  facts(embedders);
  if (info.models.some((one) => !one.ready)) setTimeout(learn, 1000);
}

function fact(name, value, kind) {
  return make("div", { class: kind }, make("dt", {}, name), make("dd", {}, value));
}

function facts(embedders) {
  const others = info.models.filter((one) => one.kind !== "embedding").map((one) => fact(KINDS[one.kind] ?? "Model", one.id));
  if (!model) {
    const words = "No embedding model is served, so this page cannot compare texts. The API page lists all routes.";
    get("facts").replaceChildren(...others, fact("Texts", words));
    return;
  }
  let name = model.id;
  if (embedders.length > 1) {
    name = make("select", { "aria-label": "Model" }, ...embedders.map((one) => make("option", {}, one.id)));
    name.value = model.id;
    name.addEventListener("change", () => {
      model = embedders.find((one) => one.id === name.value);
      facts(embedders);
      get("facts").querySelector("select").focus();
    });
  }
  const { adapter, precision } = model;
  get("facts").replaceChildren(
    fact("Model", name),
    fact("Dimensions", `${model.dimensions}`),
    fact("Longest text", model.max_tokens ? `${model.max_tokens} tokens` : "no limit"),
    fact("Adapter", [adapter.name, adapter.driver, adapter.backend].filter(Boolean).join(", ")),
    ...others,
    ...(model.ready ? [] : [fact("State", "Not ready yet")]),
    fact("Precision", precision.sentence, "long"),
  );
}

/** The lines that are not empty, with their line numbers. */
function lines() {
  return get("texts").value.split("\n").map((text, i) => ({ text: text.trim(), line: i + 1 })).filter((one) => one.text);
}

function count() {
  const { length } = lines();
  get("count").textContent = length === 1 ? "1 text" : `${length} texts`;
}

/** The vectors of texts, in order, bit-identical to the server's. */
async function embed(texts, options, signal, progress) {
  const vectors = [];
  const step = Math.min(AT_ONCE, info?.max_client_batch_size ?? AT_ONCE);
  for (let start = 0; start < texts.length; start += step) {
    if (texts.length > step) progress?.(start);
    const asked = { model: model?.id, input: texts.slice(start, start + step), encoding_format: "base64", ...options };
    const { data } = await call("v1/embeddings", asked, signal);
    for (const one of data) {
      const bytes = Uint8Array.from(atob(one.embedding), (byte) => byte.charCodeAt(0));
      vectors[start + one.index] = new Float32Array(bytes.buffer);
    }
  }
  return vectors;
}

/** Returns a click handler that runs `work`; a second click aborts the first run. */
function task(name, button, work) {
  let running;
  return async () => {
    running?.abort();
    const own = (running = new AbortController());
    const status = get(`${name}-status`);
    const started = performance.now();
    say(get(`${name}-error`));
    button.setAttribute("aria-busy", "true");
    try {
      const show = (words) => { if (own === running) status.textContent = words; };
      const done = await work(own.signal, show, () => own === running);
      show(done ? `${done} in ${seconds(performance.now() - started)}.` : "");
    } catch (error) {
      if (own !== running) return;
      status.textContent = "";
      say(get(`${name}-error`), error);
      if (!(error instanceof Refused)) throw error;
    } finally {
      if (own === running) button.removeAttribute("aria-busy");
    }
  };
}

const seconds = (time) => (time < 1000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`);
const mistake = (message) => new Refused("", message);

const compare = task("compare", get("compare"), async (signal, status, current) => {
  const texts = lines().map((one) => one.text);
  if (texts.length < 2) throw mistake("Enter at least two lines.");
  if (texts.length > MAX_COMPARED) throw mistake(`A matrix of ${texts.length} lines is too large to show; the maximum is ${MAX_COMPARED}.`);
  status(`Embedding ${texts.length} texts…`);
  const vectors = await embed(texts, {}, signal, (done) => status(`Embedding: ${done} of ${texts.length} texts…`));
  if (!current()) return "";
  show(texts, vectors);
  get("compared").hidden = false;
  return `${texts.length} texts, ${(texts.length * (texts.length - 1)) / 2} pairs,`;
});

const search = task("search", get("search-go"), async (signal, status, current) => {
  const query = get("query").value;
  const passages = lines();
  if (!query.trim()) throw mistake("Enter a query.");
  if (!passages.length) throw mistake("There are no lines to search. Enter texts first.");
  status(`Searching ${passages.length} lines…`);
  const [asked] = await embed([query], { input_type: "query" }, signal);
  const vectors = await embed(passages.map((one) => one.text), { input_type: "document" }, signal, (done) => status(`Embedding: ${done} of ${passages.length} lines…`));
  if (!current()) return "";
  const found = passages.map((one, i) => ({ ...one, score: cosine(asked, vectors[i]) }));
  found.sort((a, b) => b.score - a.score);
  get("found").replaceChildren(...found.slice(0, FOUND).map(result));
  const rest = found.length > FOUND ? `, showing the first ${FOUND},` : "";
  return `${found.length === 1 ? "1 line" : `${found.length} lines`}${rest}`;
});

function result({ text, line, score }, i) {
  const bar = make("i");
  bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  return make("li", {},
    make("span", { class: "rank" }, `${i + 1}`),
    make("span", { class: "score" }, score.toFixed(4)),
    make("span", { class: "text", title: `Line ${line}` }, text),
    make("span", { class: "bar", "aria-hidden": "true" }, bar));
}

get("texts").addEventListener("input", count);
get("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    compare();
  }
});
get("example").addEventListener("click", () => {
  get("texts").value = EXAMPLE;
  if (!get("query").value) get("query").value = "Where should I keep my bread?";
  count();
});
get("compare").addEventListener("click", compare);
get("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
onKey(learn);
count();
learn();
