// The matrix of cosines as a heat map with arrow-key navigation.

import { make } from "./api.js";
import { colour, onTheme, ramp } from "./scale.js";

const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

/** `a · b / (|a| |b|)`, summed in float64 as in the program; 0 if one of them is zero. */
export function cosine(a, b) {
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  return lengths === 0 ? 0 : dot(a, b) / lengths;
}

const place = document.getElementById("matrix-scroll");
const readout = document.getElementById("readout");
const stretch = document.getElementById("stretch");
let texts = [];
let rows = [];
let cells = [];

/** Shows the cosines of every pair. */
export function show(lines, vectors) {
  texts = lines;
  rows = vectors.map((a) => vectors.map((b) => cosine(a, b)));
  const head = make("tr", {}, make("td", { role: "presentation" }), ...texts.map((_, i) => make("th", { scope: "col" }, `${i + 1}`)));
  // Shows -0.00 as 0.00.
  const short = (value) => value.toFixed(2).replace("-0.00", "0.00");
  const cell = (value, i, j) => make("td", { tabindex: -1, "aria-label": `${i + 1} and ${j + 1}: ${value.toFixed(4)}` }, short(value));
  cells = rows.map((row, i) => row.map((value, j) => cell(value, i, j)));
  const named = (text, i) => make("th", { scope: "row", title: text }, make("span", {}, make("b", {}, `${i + 1}`), make("em", {}, text)));
  const body = texts.map((text, i) => make("tr", {}, named(text, i), ...cells[i]));
  const table = make("table", { class: "matrix", role: "grid", "aria-label": "Cosines of all pairs" }, make("thead", {}, head), make("tbody", {}, ...body));
  // A small matrix does not fill the page.
  table.style.maxWidth = `${16 + 5 * texts.length}rem`;
  table.addEventListener("focusin", (event) => pointAt(event.target));
  table.addEventListener("pointerover", (event) => pointAt(event.target));
  table.addEventListener("pointerleave", () => point(...(at(document.activeElement) ?? nearest())));
  table.addEventListener("keydown", walk);
  place.replaceChildren(table);
  paint();
  const [i, j] = nearest();
  cells[i][j].tabIndex = 0;
  point(i, j);
}

/** The row and column of a cell; undefined for other elements. */
function at(element) {
  const i = cells.findIndex((row) => row.includes(element));
  return i < 0 ? undefined : [i, cells[i].indexOf(element)];
}

function pointAt(element) {
  const where = at(element);
  if (where) point(...where);
}

/** The pair of different lines with the largest cosine. */
function nearest() {
  let best = [0, 1];
  rows.forEach((row, j) => row.slice(0, j).forEach((value, i) => {
    if (value > rows[best[0]][best[1]]) best = [i, j];
  }));
  return best;
}

function walk(event) {
  const from = at(event.target);
  if (!from) return;
  const last = cells.length - 1;
  const [i, j] = from;
  const to = {
    ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
    Home: event.ctrlKey ? [0, 0] : [i, 0], End: event.ctrlKey ? [last, last] : [i, last],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  const cell = cells[to[0]]?.[to[1]];
  if (!cell) return;
  cells[i][j].tabIndex = -1;
  cell.tabIndex = 0;
  cell.focus();
}

/** Shows two lines and their cosine. */
function point(i, j) {
  for (const marked of place.querySelectorAll(".here")) marked.classList.remove("here");
  const table = place.firstElementChild;
  cells[i][j].classList.add("here");
  table.tBodies[0].rows[i].cells[0].classList.add("here");
  table.tHead.rows[0].cells[j + 1].classList.add("here");
  const [a, b] = nearest();
  const isNearest = (i === a && j === b) || (i === b && j === a);
  const what = i === j ? "a line with itself" : isNearest ? "the nearest pair" : "cosine";
  const line = (k) => make("li", {}, make("b", {}, `${k + 1}`), texts[k]);
  readout.replaceChildren(
    make("div", { class: "pair" }, make("div", { class: "score" }, rows[i][j].toFixed(4)), make("div", { class: "what" }, what)),
    make("ol", {}, line(i), ...(i === j ? [] : [line(j)])),
  );
}

function paint() {
  if (!rows.length) return;
  const others = rows.flatMap((row, i) => row.filter((_, j) => i !== j));
  const ends = stretch.checked ? [Math.min(...others), Math.max(...others)] : undefined;
  rows.forEach((row, i) => row.forEach((value, j) => {
    const { paper, ink } = colour(value, ends);
    cells[i][j].style.backgroundColor = paper;
    cells[i][j].style.color = ink;
  }));
  document.getElementById("ramp").style.backgroundImage = ramp(ends);
  const words = ends ? [ends[0].toFixed(2), ends[1].toFixed(2)] : ["−1", "0", "1"];
  document.getElementById("ramp-ends").replaceChildren(...words.map((word) => make("span", {}, word)));
}

stretch.addEventListener("change", paint);
onTheme(paint);
