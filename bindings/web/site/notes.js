// Embeds notes as they arrive, and searches them as the user types.

import { Embedder } from "./vectile/index.js";

const $ = (id) => document.getElementById(id);
const notes = []; // { text, from, row }
let embedder = null;
let busy = Promise.resolve();
let asked = 0;

function say(text, wrong = false) {
    $("status").textContent = text;
    $("status").classList.toggle("error", wrong);
}

function count(noun, number) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

async function load(event) {
    event.preventDefault();
    if ($("load").disabled) return;
    $("load").disabled = true;
    // Notes that are being added were asked for from the model that is loaded.
    await busy;
    $("progress").hidden = false;
    $("work").inert = true;
    try {
        await embedder?.close();
        embedder = null;
        const onProgress = ({ stage, done, total }) => {
            $("progress").value = total ? done / total : 0;
            say(`${stage === "download" ? "Downloading" : "Loading"}: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
        };
        embedder = await Embedder.load($("model").value.trim(), { onProgress });
        say(`Ready on ${embedder.adapter.name || embedder.adapter.backend}: ${embedder.precision}`);
        $("work").hidden = $("work").inert = false;
        const again = notes.splice(0);
        if (again.length > 0) await add(again.map(({ text, from }) => ({ text, from })));
        $("text").focus();
    } catch (error) {
        $("work").hidden = true;
        say(error.message, true);
    }
    $("progress").hidden = true;
    $("load").disabled = false;
}

// Splits a text at empty lines.
const split = (text, from) =>
    text
        .split(/\n\s*\n/)
        .map((part) => part.trim())
        .filter(Boolean)
        .map((text) => ({ text, from }));

function add(parts) {
    busy = busy.then(async () => {
        const started = performance.now();
        try {
            for (let at = 0; at < parts.length; at += 64) {
                const some = parts.slice(at, at + 64);
                const rows = await embedder.embed(some.map(({ text }) => text), { as: "document" });
                some.forEach((note, index) => notes.push({ ...note, row: rows.row(index) }));
                $("count").textContent = count("note", notes.length);
                say(`Embedded ${at + some.length} of ${count("note", parts.length)}…`);
            }
            const took = performance.now() - started;
            say(`Embedded ${count("note", parts.length)} in ${took < 1000 ? `${took.toFixed(0)} ms` : `${(took / 1000).toFixed(1)} s`}.`);
        } catch (error) {
            say(error.message, true);
        }
        $("export").disabled = $("clear").disabled = notes.length === 0;
        await search();
    });
    return busy;
}

async function search() {
    const query = $("query").value.trim();
    const turn = ++asked;
    if (!query || notes.length === 0 || !embedder) return $("hits").replaceChildren();
    try {
        const dimension = notes[0].row.length;
        const values = new Float32Array(notes.length * dimension);
        notes.forEach(({ row }, at) => values.set(row, at * dimension));
        const [found] = await embedder.semanticSearch(await embedder.embed(query, { as: "query" }), { values, dimension }, { topK: 10 });
        // A later search has begun in the meantime.
        if (turn !== asked) return;
        $("hits").replaceChildren(
            ...found.map(({ index, score }) => {
                const [item, number, body, text, from] = ["li", "span", "div", "div", "div"].map((tag) => document.createElement(tag));
                number.className = "score";
                number.title = `${embedder.similarityName} similarity`;
                number.textContent = score.toFixed(3);
                text.textContent = notes[index].text.slice(0, 600);
                text.className = "text";
                from.className = "from";
                from.textContent = notes[index].from;
                body.append(text, from);
                item.append(number, body);
                return item;
            }),
        );
    } catch (error) {
        say(error.message, true);
    }
}

async function read(files) {
    const parts = [];
    for (const file of files) parts.push(...split(await file.text(), file.name));
    if (parts.length === 0) return say("These files hold no text.", true);
    await add(parts);
}

$("open").addEventListener("submit", load);
$("add").addEventListener("click", () => {
    const parts = split($("text").value, "typed");
    $("text").value = "";
    if (parts.length > 0) add(parts);
});
$("query").addEventListener("input", search);
$("clear").addEventListener("click", () => {
    busy = busy.then(() => {
        notes.length = 0;
        $("count").textContent = "";
        $("export").disabled = $("clear").disabled = true;
        say("All notes are removed.");
        return search();
    });
});
$("pick").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => read($("files").files));
for (const name of ["dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(name, (event) => {
        event.preventDefault();
        $("drop").classList.toggle("over", name === "dragover");
        if (name === "drop") read(event.dataTransfer.files);
    });
}
$("export").addEventListener("click", () => {
    const lines = notes.map(({ text, from, row }) => JSON.stringify({ text, from, embedding: Array.from(row) }));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines.map((line) => `${line}\n`), { type: "application/jsonl" }));
    link.download = "notes.jsonl";
    link.click();
    URL.revokeObjectURL(link.href);
});
const named = new URLSearchParams(location.search).get("model");
if (named) $("model").value = named;
