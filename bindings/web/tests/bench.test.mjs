// The measurements of the page `lab.html` in Node, on Dawn: a driver with f16, which Chromium's software GPU lacks.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_DAWN=DIR node --test bindings/web/tests/bench.test.mjs

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { FIXTURES, PACKAGE, ROOT, compareReports, packageOf } from "./support.mjs";

const { Bench, CPU, PRECISIONS, ratio } = await import(join(PACKAGE, "../site/bench.js"));
const { verdict } = await import(join(PACKAGE, "../site/verdict.js"));
const dawn = process.env.VECTILE_DAWN ? await packageOf(process.env.VECTILE_DAWN, "webgpu") : null;
let gpu;
if (dawn) {
    Object.assign(globalThis, dawn.globals);
    gpu = dawn.create(["backend=vulkan"]);
}
const model = join(FIXTURES, "bert_mean_norm");
const list = readFileSync(join(ROOT, "examples/collection.txt"), "utf8").split("\n").filter(Boolean);
const facts = { vectile: "0.1.0", label: "Node", host: { os: "linux", arch: "wasm32", cpu: null, threads: 1, debug_build: false }, name: "bert_mean_norm", adapterName: "a GPU" };

// Dawn keeps Node alive.
after(() => setTimeout(() => process.exit(), 100).unref());

function bench(options, events = {}) {
    const quiet = { step() {}, progress() {}, change() {}, ...events };
    const usual = { model, from: { gpu }, precisions: [...PRECISIONS, CPU], texts: { name: "built-in", list }, quick: true, rounds: 2, signal: new AbortController().signal };
    return new Bench({ ...usual, ...options }, quiet);
}

test("a ratio has the median of rounds, and the spread of all pairs", () => {
    assert.deepEqual(ratio([10, 11, 12], [24, 22, 23]), { median: 2, low: 22 / 12, high: 2.4 });
});

test("every precision of the adapter is measured, and the report is one of vectile bench", { skip: !dawn && "VECTILE_DAWN names no directory with the package webgpu" }, async (t) => {
    const one = bench({});
    await one.run();
    const names = one.entrants.map(({ name }) => name);
    t.diagnostic(`${names.join(", ")}; refused: ${one.refused.map(({ title, reason }) => `${title}: ${reason}`).join("; ") || "none"}`);
    assert.deepEqual(names, ["f32", "f16", "packed_f16", "packed_bf16", "cpu"]);
    const worst = { f32: 0, f16: 5e-3, packed_f16: 5e-3, packed_bf16: 2e-2, cpu: 2e-6 };
    for (const entrant of one.entrants) {
        const { accuracy, title, name } = entrant;
        t.diagnostic(`${title}: max abs ${accuracy.max_abs.toExponential(1)}, min cosine ${accuracy.min_cosine.toFixed(8)}, ${one.cell(entrant, 1).texts_per_s.toFixed(0)} texts/s`);
        assert.ok(accuracy.max_abs <= worst[name] && accuracy.min_cosine > 0.999, `${name}: ${JSON.stringify(accuracy)}`);
        if (name !== "f32") assert.ok(accuracy.max_abs > 0, `${name} has the vectors of f32`);
    }
    const said = verdict(one, { name: "Dawn", f16: true });
    t.diagnostic([said.headline, ...said.sentences].join(" "));
    assert.match(said.headline, /^(Yes|No): f16 is .* here.*, and its vectors are right\.$/);
    const report = await one.report(facts);
    assert.equal(report.model.sha256, createHash("sha256").update(readFileSync(join(model, "model.safetensors"))).digest("hex"));
    assert.deepEqual(report.adapters.map(({ precisions }) => precisions.map(({ name }) => name)), [["f32", "f16", "packed_f16", "packed_bf16"], ["f32"]]);
    for (const { cells, latency } of report.adapters.flatMap(({ precisions }) => precisions)) {
        assert.deepEqual(cells.map(({ text_tokens, rounds_s }) => [text_tokens, rounds_s.length]), [[16, 2], [128, 2]]);
        assert.ok(cells.every(({ tokens, texts, text_tokens }) => tokens <= texts * text_tokens && tokens > (texts * text_tokens) / 2));
        assert.equal(latency.samples, 20);
    }
    compareReports(t, report);
});

test("wrong vectors are refused, and are not timed", async () => {
    // The CPU stands for f16, with texts of which it embeds none but the first.
    const one = bench({ precisions: [CPU, { ...CPU, name: "f16", title: "f16" }] }, {
        step(text) {
            const second = text === "Vectors of f16" && one.entrants[1];
            if (!second) return;
            const { embedder } = second;
            const embed = embedder.embed.bind(embedder);
            embedder.embed = (texts, options) => embed(texts.map(() => texts[0]), options);
        },
    });
    await one.run();
    assert.deepEqual(one.entrants.map(({ name }) => name), ["cpu"]);
    assert.match(one.refused[0].reason, /its vectors are wrong: their smallest cosine with those of f32 is -?0\.\d+/);
    assert.match(verdict(one, { name: "a GPU", f16: true }).headline, /^No: the vectors of f16 are wrong/);
});

test("a stop keeps the whole rounds", async () => {
    const stop = new AbortController();
    const one = bench({ precisions: [CPU], rounds: 5, signal: stop.signal }, { change: () => one.round === 2 && stop.abort() });
    await assert.rejects(one.run(), { name: "AbortError" });
    assert.equal(one.round, 2);
    assert.equal((await one.report(facts)).adapters[0].precisions[0].cells[0].rounds_s.length, 2);
});
