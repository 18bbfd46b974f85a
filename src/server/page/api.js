// Requests to the server, and how its errors are shown. The pages make no other requests.

const KEY = "vectile-api-key";
let key = sessionStorage.getItem(KEY) ?? "";

/** An error of the server, with its message. */
export class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

/** The headers of every request: the key, if one was entered. */
export function headers() {
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** Sends JSON by POST, or a GET without a body. Returns the JSON of the response, or throws `Refused`. */
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
    throw new Refused(0, "Cannot reach the server. Is it still running?");
  }
  let json;
  try { json = JSON.parse(text); } catch { json = undefined; }
  if (answer.ok && json !== undefined) return json;
  if (answer.status === 401) askForKey();
  throw new Refused(answer.status, json?.error?.message ?? (text || answer.statusText), answer.headers.get("retry-after"));
}

/** Shows and focuses the input for the key. */
export function askForKey() {
  const place = document.getElementById("key");
  if (place.hidden) {
    place.hidden = false;
    place.querySelector("input").focus();
  }
}

/** Calls `again` whenever a key is entered. */
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

/** Creates an element with attributes and children. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(attribute, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Shows an error in `place`, or clears it without one. */
export function say(place, error) {
  if (!error) {
    place.replaceChildren();
    return;
  }
  const title = error.status === 0 ? "No response" : `${error.status}`;
  const after = error.after ? make("div", { class: "faint" }, `Retry after ${error.after} s.`) : null;
  place.replaceChildren(make("div", { class: "wrong" }, make("strong", {}, title), ` ${error.message}`, after));
}
