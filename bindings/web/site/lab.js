// The page: takes a model and texts, shows the results of `bench.js` while it runs, and says which precision is fastest.

import { adapters } from "./vectile/index.js";
import { Bench, CPU, PRECISIONS } from "./bench.js";
import { machine } from "./machine.js";
import { number } from "./number.js";
import { powers, strips } from "./plots.js";
import { floor, power, sized, spread, times, verdict } from "./verdict.js";

const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const ALL = [...PRECISIONS, CPU];
const color = ({ name }) => ALL.findIndex((one) => one.name === name);

let gpu = null; // the adapter of WebGPU, or null
let picked = null; // files of a directory, or null
let bench = null;
let stop = null;

// An element with attributes and children.
function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

function say(text, wrong = false) {
    $("status").textContent = text;
    $("status").classList.toggle("error", wrong);
}

const mib = (bytes) => number(bytes / 2 ** 20);
function table(head, rows) {
    const cells = (tag, row) => row.map((one) => element(tag, tag === "th" ? { scope: "col" } : {}, ...[one].flat()));
    const body = rows.map(([{ title, ...entrant }, ...row]) => element("tr", {}, element("th", { scope: "row" }, element("span", { class: `key c${color(entrant)}` }), title), ...cells("td", row)));
    return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...cells("th", head))), element("tbody", {}, ...body)));
}

const block = (title, plot, made, note) => element("figure", {}, element("h3", {}, title), ...(plot ? [plot] : []), made, ...(note ? [element("figcaption", { class: "soft small" }, note)] : []));
const small = (text) => element("span", { class: "soft small range" }, text);

function speedBlock(length, at) {
    const found = bench.entrants.map((entrant) => ({ entrant, ...bench.cell(entrant, at) }));
    const series = found.map(({ entrant, rounds_s, texts, texts_per_s }) => ({ title: entrant.title, color: color(entrant), values: rounds_s.map((time) => texts / time), median: texts_per_s }));
    const label = `Texts per second: ${found.map(({ entrant, texts_per_s }) => `${entrant.title} ${number(texts_per_s)}`).join(", ")}`;
    const rows = found.map(({ entrant, texts_per_s, tokens_per_s, overall }) => [entrant, number(texts_per_s), number(tokens_per_s), entrant === bench.entrants[0] ? "1" : [times(overall), small(`(${spread(overall)})`)]]);
    const counts = [...new Set(found.map(({ texts }) => texts))].join(" or ");
    return block(`Speed on ${sized(length)}`, strips(series, label), table(["", "texts/s", "tokens/s", `× ${bench.entrants[0].title}`], rows), `Texts per second. Each point is a round of ${counts} text${counts === "1" ? "" : "s"}, and the line is their median.`);
}

function shortBlock() {
    const rows = bench.entrants.map((entrant) => {
        const { p50_ms, p95_ms } = bench.short(entrant);
        const { weights, host_tables, batch } = entrant.embedder.memory;
        return [entrant, number(p50_ms), number(p95_ms), mib(weights + host_tables), mib(batch)];
    });
    const found = bench.entrants.map((entrant) => ({ title: entrant.title, color: color(entrant), values: entrant.latency.flat(), median: bench.short(entrant).p50_ms }));
    const label = `Milliseconds for one short text: ${found.map(({ title, median }) => `${title} ${number(median)}`).join(", ")}`;
    return block("One short text, and memory", strips(found, label), table(["", "median, ms", "95%, ms", "weights, MiB", "full batch, MiB"], rows), `Milliseconds for a text of ${bench.short(bench.entrants[0]).tokens} tokens; each point is a run. Memory is computed from the sizes of all buffers.`);
}

function accuracyBlock() {
    const entrants = bench.entrants.filter(({ accuracy }) => accuracy);
    const rows = entrants.map((entrant, at) => {
        const { max_abs, min_cosine, top10_overlap } = entrant.accuracy;
        return at === 0 ? [entrant, "0", "1", "100%"] : [entrant, power(max_abs), floor(min_cosine), `${(top10_overlap * 100).toFixed(1)}%`];
    });
    const series = entrants.slice(1).map((entrant) => ({ title: entrant.title, color: color(entrant), value: entrant.accuracy.max_abs }));
    const label = `Largest difference from f32: ${series.map(({ title, value }) => `${title} ${power(value)}`).join(", ")}`;
    const plot = series.length > 0 ? powers(series, label) : null;
    return block(`Accuracy against ${bench.entrants[0].title}`, plot, table(["", "largest difference", "cosine, at least", "neighbours"], rows), `Over ${entrants[0].accuracy.texts} texts. Neighbours: the share of the ten nearest texts of each text that is the same.`);
}

function show() {
    // The headline says already that f16 is missing on this GPU.
    const refused = bench.refused.filter(({ name }) => name !== "f16" || gpu.shader_f16);
    $("refused").replaceChildren(...refused.map(({ title, reason }) => element("li", {}, element("b", {}, `${title} was not timed: `), `${reason.replace(/\.$/, "")}.`)));
    if (bench.round === 0) return;
    const { headline, sentences } = verdict(bench, gpu && { name: machine.name(gpu), f16: gpu.shader_f16 });
    $("headline").textContent = headline;
    $("verdict").replaceChildren(...sentences.map((sentence) => element("p", {}, sentence)));
    $("blocks").replaceChildren(...bench.lengths.map(speedBlock), ...(bench.entrants.length > 1 ? [accuracyBlock()] : []), shortBlock());
    $("results").hidden = false;
}

async function builtIn() {
    const answer = await fetch("texts.txt");
    if (!answer.ok) throw new Error("The built-in texts (texts.txt) are missing beside this page.");
    return (await answer.text()).split("\n");
}

async function textsToRun() {
    const name = chosen("texts");
    const list = (name === "built-in" ? await builtIn() : $("text").value.split("\n")).map((line) => line.trim()).filter(Boolean);
    if (list.length === 0) throw new Error("There are no texts: paste some, one a line, or choose the built-in passages.");
    return { name, list };
}

async function run(event) {
    event.preventDefault();
    if (stop) return;
    stop = new AbortController();
    $("run").disabled = true;
    $("stop").disabled = false;
    $("save").disabled = true;
    $("results").hidden = true;
    $("refused").replaceChildren();
    $("progress").hidden = false;
    $("progress").value = 0;
    let doing = "";
    const events = {
        step(text, done, all) {
            doing = text;
            $("progress").value = done / all;
            say(`${text}…`);
        },
        progress({ stage, done, total }) {
            const verb = stage === "download" ? "downloading" : "loading";
            say(`${doing}: ${verb} ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
        },
        change: show,
    };
    const quick = chosen("depth") === "quick";
    const precisions = ALL.filter(({ name }) => $(`run-${name}`).checked);
    bench = null;
    try {
        const texts = await textsToRun();
        bench = new Bench({ model: picked?.files ?? $("model").value.trim(), precisions, texts, quick, rounds: quick ? 3 : 7, signal: stop.signal }, events);
        await bench.run();
        const { wall_s, round } = bench;
        say(`Done: ${round} rounds in ${wall_s.toFixed(0)} s.`);
    } catch (error) {
        if (stop.signal.aborted) say(bench?.round > 0 ? `Stopped after ${bench.round} of ${bench.rounds} rounds.` : "Stopped before the first round was done.");
        else say(error.message, true);
    }
    if (bench?.round > 0) {
        show();
        $("save").disabled = false;
        $("results").scrollIntoView({ block: "nearest" });
    }
    $("progress").hidden = true;
    $("stop").disabled = true;
    $("run").disabled = false;
    stop = null;
}

function modelName() {
    if (picked) return picked.name;
    const name = $("model").value.trim();
    // Of a URL, the report has the last part only, because a report may be published.
    return name.includes("://") || name.startsWith("/") ? name.split("/").filter(Boolean).at(-1) : name;
}

async function save() {
    const { version } = await (await fetch("vectile/package.json")).json();
    const report = await bench.report({ vectile: version, label: machine.browser(), host: machine.host(), name: modelName(), adapterName: gpu ? machine.name(gpu) : "CPU" });
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(report, null, 2)}\n`], { type: "application/json" }));
    element("a", { href: url, download: "browser.json" }).click();
    URL.revokeObjectURL(url);
}

function usePicked(name, files) {
    picked = files ? { name, files } : null;
    $("picked").textContent = picked ? `${name}: ${files.length} files.` : "Or drop a model's directory here,";
    $("model").disabled = !!picked;
    $("pick").hidden = !!picked;
    $("unpick").hidden = !picked;
}

// Files keep their path in their name, because a worker does not get the path otherwise.
const pathed = (file, path) => new File([file], path);

async function filesOf(entry, path = entry.name) {
    if (entry.isFile) return [pathed(await new Promise((done, failed) => entry.file(done, failed)), path)];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (some.length === 0) return found;
        for (const one of some) if (!one.name.startsWith(".")) found.push(...(await filesOf(one, `${path}/${one.name}`)));
    }
}

async function drop(event) {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    try {
        const files = (await Promise.all(entries.map((entry) => filesOf(entry)))).flat();
        if (files.length > 0) usePicked(entries.length === 1 ? entries[0].name : "dropped files", files);
    } catch (error) {
        say(`The files cannot be read: ${error.message}`, true);
    }
}

function listPrecisions() {
    const rows = ALL.map(({ name, title, note, cpu }) => {
        const box = element("input", { type: "checkbox", id: `run-${name}` });
        const missing = !cpu && !gpu ? "needs WebGPU" : name === "f16" && !gpu.shader_f16 ? "not available here" : null;
        // f16 stays chosen where it is missing, so that the results give the reason.
        box.checked = cpu || !!gpu;
        // Everything is compared with the first precision.
        box.disabled = name === "f32" || (!cpu && !gpu) || (cpu && !gpu);
        return element("label", { class: "inline" }, box, element("span", {}, title, element("span", { class: "soft small" }, missing ? `${note}; ${missing}` : note)));
    });
    $("precisions").replaceChildren(...rows);
}

async function look() {
    try {
        const found = await adapters();
        gpu = found.find(({ backend }) => backend !== "Native") ?? null;
    } catch (error) {
        say(error.message, true);
    }
    if (gpu) await machine.look();
    $("machine").replaceChildren(...machine.facts(gpu).map(({ text, missing }) => element("li", missing ? { class: "missing" } : {}, text)));
    listPrecisions();
    $("run").disabled = false;
}

$("form").addEventListener("submit", run);
$("stop").addEventListener("click", () => stop?.abort());
$("save").addEventListener("click", () => save().catch((error) => say(error.message, true)));
$("pick").addEventListener("click", () => $("files").click());
$("unpick").addEventListener("click", () => usePicked());
$("files").addEventListener("change", () => {
    const files = [...$("files").files];
    if (files.length > 0) usePicked(files[0].webkitRelativePath.split("/")[0], files.map((file) => pathed(file, file.webkitRelativePath)));
});
for (const radio of document.querySelectorAll('input[name="texts"]')) {
    radio.addEventListener("change", () => {
        $("text").hidden = chosen("texts") === "built-in";
        if (!$("text").hidden) $("text").focus();
    });
}
for (const name of ["dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(name, (event) => {
        event.preventDefault();
        $("drop").classList.toggle("over", name === "dragover");
        if (name === "drop") drop(event);
    });
}
const given = new URLSearchParams(location.search).get("model");
if (given) $("model").value = given;
look();
