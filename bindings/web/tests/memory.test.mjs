// A checkpoint of 600 MB in headless Chromium: the page's process stays small while the weights go to the GPU.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_CLIENTS=DIR node bindings/web/tests/memory.test.mjs
//
// Linux only: the memory of Chromium's processes is read from /proc.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { FIXTURES, PACKAGE, packageOf } from "./support.mjs";
import { serve } from "./server.mjs";

const MOST = 250 * 1024 * 1024;
const [HIDDEN, LAYERS, INNER] = [1024, 12, 4096];

// Writes a BERT of 12 wide layers with the tokenizer and the modules of a fixture.
function write(directory) {
    cpSync(join(FIXTURES, "bert_mean_norm"), directory, { recursive: true });
    const change = (name, fields) => {
        const file = join(directory, name);
        writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file)), ...fields }));
    };
    change("config.json", { hidden_size: HIDDEN, intermediate_size: INNER, num_hidden_layers: LAYERS, num_attention_heads: 16 });
    const pooling = JSON.parse(readFileSync(join(directory, "1_Pooling/config.json")));
    change("1_Pooling/config.json", Object.fromEntries(Object.keys(pooling).filter((key) => key.endsWith("embedding_dimension")).map((key) => [key, HIDDEN])));
    const small = readFileSync(join(directory, "model.safetensors"));
    const length = Number(small.readBigUInt64LE(0));
    const { __metadata__, ...tensors } = JSON.parse(small.subarray(8, 8 + length).toString());
    const config = JSON.parse(readFileSync(join(FIXTURES, "bert_mean_norm/config.json")));
    const wider = (size) => ({ [config.hidden_size]: HIDDEN, [config.intermediate_size]: INNER })[size] ?? size;
    const header = {};
    let end = 0;
    const add = (name, shape) => {
        const bytes = shape.reduce((all, one) => all * one, 4);
        header[name] = { dtype: "F32", shape, data_offsets: [end, (end += bytes)] };
    };
    for (const [name, { shape }] of Object.entries(tensors)) {
        const of = /(.*layer\.)(\d+)(\..*)/.exec(name);
        // The first dimension of an embedding table counts rows, which stay.
        const wide = name.includes("embeddings.") && shape.length === 2 ? [shape[0], wider(shape[1])] : shape.map(wider);
        if (!of) add(name, wide);
        else if (of[2] === "0") for (let layer = 0; layer < LAYERS; layer++) add(of[1] + layer + of[3], wide);
    }
    const json = Buffer.from(JSON.stringify(header));
    const file = openSync(join(directory, "model.safetensors"), "w");
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(json.length));
    writeSync(file, Buffer.concat([size, json]));
    const values = new Float32Array(1 << 20).map((_, at) => (((at * 7919) % 4093) / 4093 - 0.5) / 16);
    for (let left = end; left > 0; left -= values.byteLength) writeSync(file, new Uint8Array(values.buffer, 0, Math.min(left, values.byteLength)));
    return end;
}

// The largest anonymous memory of a renderer of this browser, and its largest memory with shared pages.
function renderers(profile) {
    const found = { anonymous: 0, all: 0 };
    for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
        try {
            const command = readFileSync(`/proc/${id}/cmdline`, "utf8");
            if (!command.includes("--type=renderer") || !command.includes(profile)) continue;
            const status = readFileSync(`/proc/${id}/status`, "utf8");
            const of = (name) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1024;
            found.anonymous = Math.max(found.anonymous, of("RssAnon"));
            found.all = Math.max(found.all, of("VmRSS"));
        } catch {
            // The process has ended.
        }
    }
    return found;
}

test("the page's memory stays under 250 MiB", { skip: process.platform !== "linux", timeout: 500_000 }, async () => {
    const playwright = await packageOf(join(process.env.VECTILE_CLIENTS ?? ".", "node"), "playwright-core");
    assert.ok(playwright, "VECTILE_CLIENTS/node has no playwright-core");
    const model = mkdtempSync(join(tmpdir(), "vectile-model-"));
    const profile = mkdtempSync(join(tmpdir(), "vectile-browser-"));
    const bytes = write(model);
    const page = `<!doctype html><script type="module">import { Embedder } from "/package/index.js"; window.Embedder = Embedder; window.ready = true;</script>`;
    const server = await serve({ package: PACKAGE, model }, { "/": page });
    const args = ["--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
    const context = await playwright.default.chromium.launchPersistentContext(profile, { executablePath: process.env.VECTILE_CHROMIUM ?? "/usr/bin/chromium", headless: false, args });
    try {
        const tab = await context.newPage();
        await tab.goto(server.url);
        await tab.waitForFunction(() => window.ready);
        const most = { anonymous: 0, all: 0 };
        const watch = setInterval(() => {
            const now = renderers(profile);
            for (const name of Object.keys(most)) most[name] = Math.max(most[name], now[name]);
        }, 50);
        const found = await tab.evaluate(async (url) => {
            const embedder = await Embedder.load(url, { adapter: "webgpu", dtype: "float32" });
            const rows = await embedder.embed("a text");
            return { dimension: rows.dimension, finite: rows.values.every(Number.isFinite), memory: embedder.memory };
        }, `${server.url}/model/`);
        clearInterval(watch);
        assert.deepEqual([found.dimension, found.finite], [HIDDEN, true]);
        const mib = (bytes) => `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
        console.log(`a checkpoint of ${mib(bytes)}: the page took at most ${mib(most.anonymous)} (${mib(most.all)} with shared pages)`);
        assert.ok(bytes > 600e6 && most.anonymous > 0 && most.anonymous < MOST, JSON.stringify(most));
    } finally {
        await context.close();
        await server.close();
        rmSync(model, { recursive: true, force: true });
        rmSync(profile, { recursive: true, force: true });
    }
});
