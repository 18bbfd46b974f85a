// Calls of the server, and how what it says is shown. The page asks for nothing else.

const KEY = "vectile-api-key";
let key = sessionStorage.getItem(KEY) ?? "";

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

/** The headers of every call: the key, where one was given. */
export function headers() {
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** Sends JSON (or asks, without a body) and gives the JSON of the answer; throws `Refused`. */
export async function call(path, body, signal) {
  const asked = { headers: { ...headers() }, signal };
  if (body !== undefined) {
    asked.method = "POST";
    asked.headers["content-type"] = "application/json";
    asked.body = JSON.stringify(body);
  }
  let answer;
  let text;
  try {
    answer = await fetch(path, asked);
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached: is it still running?");
  }
  let json;
  try { json = JSON.parse(text); } catch { json = undefined; }
  if (answer.ok && json !== undefined) return json;
  if (answer.status === 401) wantKey();
  throw new Refused(answer.status, json?.error?.message ?? (text || answer.statusText), answer.headers.get("retry-after"));
}

/** Shows the field for the key. */
export function wantKey() {
  const place = document.getElementById("key");
  if (place.hidden) {
    place.hidden = false;
    place.querySelector("input").focus();
  }
}

/** Calls `again` whenever a key was put in. */
export function onKey(again) {
  const place = document.getElementById("key");
  place.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = place.querySelector("input").value.trim();
    sessionStorage.setItem(KEY, key);
    place.hidden = true;
    again();
  });
}

/** An element with text or children. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(attribute, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Says in `place` what was refused; with nothing, says nothing. */
export function say(place, error) {
  if (!error) {
    place.replaceChildren();
    return;
  }
  const title = error.status === 0 ? "No answer" : `${error.status}`;
  const after = error.after ? make("div", { class: "faint" }, `The server asks to wait ${error.after} s.`) : null;
  place.replaceChildren(make("div", { class: "wrong" }, make("strong", {}, title), ` ${error.message}`, after));
}
