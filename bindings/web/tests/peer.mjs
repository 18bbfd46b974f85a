// Compares the package with transformers.js in headless Chromium: the same page, texts and weights, in alternating rounds.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_CLIENTS=DIR VECTILE_TEST_MODEL=DIR node bindings/web/tests/peer.mjs [JSON]
//
// `benches/peers/setup.sh transformers.js` installs transformers.js and exports the model to ONNX. Without a GPU, WebGPU
// runs on SwiftShader. VECTILE_CHROMIUM_ARGS replaces the arguments that select it. VECTILE_PEER_DEVICES may be `cpu` or
// `webgpu` to measure only one of them.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

import { FIXTURES, MODEL, PACKAGE, ROOT, distance, packageOf, tensor, texts } from "./support.mjs";
import { serve } from "./server.mjs";

const PEERS = resolve(process.env.VECTILE_PEERS ?? join(ROOT, ".vectile/peers"));
const MODULES = join(PEERS, "web/node_modules");
const ONNX = join(PEERS, "onnx/model");
const FIRST_ROUNDS = 3;
const QUERY = "Where can I park near the station?";

// The reference texts that are measured. transformers.js takes seconds for a sentence on a software adapter, so fewer
// texts run with WebGPU.
function chosen() {
    const all = texts().map((text, index) => ({ text, index, words: text.split(/\s+/).length }));
    // Only ASCII letters: the texts of other scripts have few words and many tokens.
    const plain = all.filter(({ text }) => /^[\x20-\x7e]+$/.test(text) && /[a-z]{3}/.test(text));
    const sentences = plain.filter(({ words }) => words >= 4 && words <= 40);
    const passages = plain.filter(({ words }) => words >= 100 && words <= 210);
    return {
        cpu: { sentences: sentences.slice(0, 32), passages: passages.slice(0, 6), rounds: 5, queries: 15 },
        webgpu: { sentences: sentences.slice(0, 8), passages: passages.slice(0, 1), rounds: 3, queries: 3 },
    };
}

const LIBRARIES = ["vectile", "transformers.js"];
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const version = (file) => JSON.parse(readFileSync(file)).version;

const { default: playwright } = await packageOf(join(process.env.VECTILE_CLIENTS ?? ".", "node"), "playwright-core");
const profile = mkdtempSync(join(tmpdir(), "vectile-peer-"));
const directories = { package: PACKAGE, model: MODEL, modules: MODULES };
// transformers.js asks for the model at hub/model/.
const server = await serve({ ...directories, hub: join(ONNX, "..") }, { "/": readFileSync(join(import.meta.dirname, "peer.html"), "utf8") });
server.cacheControl = "max-age=3600";
const software = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const args = ["--headless=new", "--no-sandbox", ...(process.env.VECTILE_CHROMIUM_ARGS?.split(" ") ?? software)];
const context = await playwright.chromium.launchPersistentContext(profile, { executablePath: process.env.VECTILE_CHROMIUM ?? "/usr/bin/chromium", headless: false, args });

async function open() {
    const page = await context.newPage();
    page.setDefaultTimeout(0);
    page.on("pageerror", (error) => console.error(`page: ${error}`));
    await page.goto(server.url);
    await page.waitForFunction(() => window.ready);
    return page;
}

const say = (text) => console.error(`${new Date().toISOString().slice(11, 19)} ${text}`);
const rows = {};
const row = (library, device) => (rows[`${library} ${device}`] ??= { library, device, first: [], sentences: {}, passages: {}, query: {} });
const DEVICES = (process.env.VECTILE_PEER_DEVICES ?? "cpu,webgpu").split(",");

// The first load downloads the models, and each later one is in a new tab.
const weights = () => server.log.filter(({ path }) => /model\.(onnx|safetensors)$/.test(path)).length;
for (let round = 0; round <= FIRST_ROUNDS; round++) {
    const before = weights();
    for (const device of DEVICES) {
        for (const library of LIBRARIES) {
            const page = await open();
            const found = await page.evaluate((call) => window.first(...call), [library, device, QUERY]);
            await page.close();
            if (round > 0) row(library, device).first.push(found);
            row(library, device).precision = found.precision;
            say(`first vector, round ${round}: ${library} ${device} ${found.milliseconds} ms ${JSON.stringify(found.steps)}`);
        }
    }
    if (round > 0 && weights() !== before) throw new Error("a load from the cache requested weights");
}

// All models in one page.
const page = await open();
const reference = tensor(join(FIXTURES, "minilm/reference.safetensors"), "embeddings").values;
const work = chosen();
for (const device of DEVICES) for (const library of LIBRARIES) await page.evaluate((call) => window.first(...call), [library, device, QUERY]);
const measured = {};
for (const device of DEVICES) {
    const { sentences, passages, rounds, queries } = work[device];
    for (const [kind, some] of Object.entries({ sentences, passages })) {
        const expected = some.flatMap(({ index }) => Array.from(reference.subarray(index * 384, (index + 1) * 384)));
        for (let round = -1; round < rounds; round++) {
            for (const library of LIBRARIES) {
                const found = await page.evaluate((call) => window.measure(...call), [`${library} ${device}`, some.map(({ text }) => text)]);
                const into = row(library, device)[kind];
                // The first round compiles shaders and makes buffers.
                if (round < 0) Object.assign(into, { texts: some.length, max_abs: distance(found.rows.flat(), expected, 384).maxAbs, texts_per_second: [] });
                else into.texts_per_second.push((some.length * 1000) / found.milliseconds);
                say(`${kind}, round ${round + 1}: ${library} ${device} ${found.milliseconds.toFixed(0)} ms`);
            }
        }
    }
    for (let round = 0; round < queries; round++) {
        for (const library of LIBRARIES) {
            const { milliseconds } = await page.evaluate((call) => window.measure(...call), [`${library} ${device}`, [QUERY]]);
            (row(library, device).query.milliseconds ??= []).push(milliseconds);
        }
    }
}
const auto = await page.evaluate(async () => {
    const { Embedder } = await import("/package/index.js");
    const model = await Embedder.load(`${location.origin}/model/`, { dtype: "float32", optimizeFor: "single" });
    return model.precision.choice;
});
const browser = context.browser()?.version() ?? (await page.evaluate(() => navigator.userAgent));
const adapter = await page.evaluate(async () => {
    const { vendor, architecture, description } = (await navigator.gpu.requestAdapter()).info;
    return [vendor, architecture, description].filter(Boolean).join(" ");
});
await context.close();
await server.close();
rmSync(profile, { recursive: true, force: true });

for (const one of Object.values(rows)) {
    one.first_ms = median(one.first.map(({ milliseconds }) => milliseconds));
    for (const kind of ["sentences", "passages"]) one[kind].median = median(one[kind].texts_per_second);
    one.query.p50_ms = median(one.query.milliseconds);
}
const gzipped = (files) => files.reduce((all, file) => all + gzipSync(readFileSync(file)).byteLength, 0);
const dist = join(MODULES, "onnxruntime-web/dist");
const git = (...args) => execFileSync("git", ["-C", ROOT, ...args], { encoding: "utf8" }).trim();
const report = {
    schema: 1,
    machine: { date: new Date().toISOString(), cpu: cpus()[0].model, cores: cpus().length, kernel: release(), load_after: loadavg()[0], commit: git("rev-parse", "HEAD"), changed_files: git("status", "--porcelain").split("\n").filter(Boolean).length },
    versions: { chromium: browser, adapter, vectile: version(join(PACKAGE, "package.json")), "transformers.js": version(join(MODULES, "@huggingface/transformers/package.json")), "onnxruntime-web": version(join(MODULES, "onnxruntime-web/package.json")) },
    settings: { model: "all-MiniLM-L6-v2", dtype: "float32", batch: 32, first_rounds: FIRST_ROUNDS, query: QUERY, texts: Object.fromEntries(DEVICES.map((device) => [device, Object.fromEntries(["sentences", "passages"].map((kind) => [kind, work[device][kind].map(({ index }) => index)]))])) },
    gzip_bytes: {
        vectile: gzipped([join(PACKAGE, "vectile_web_bg.wasm"), join(PACKAGE, "vectile_web.js"), join(PACKAGE, "index.js")]),
        "transformers.js": gzipped([join(MODULES, "@huggingface/transformers/dist/transformers.min.js"), join(dist, "ort-wasm-simd-threaded.asyncify.wasm"), join(dist, "ort-wasm-simd-threaded.asyncify.mjs")]),
    },
    auto,
    rows: Object.values(rows),
};
const number = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
console.log("| runs on | library | sentences/s | passages/s | one query, p50 | first vector | largest error |\n|---|---|---|---|---|---|---|");
for (const device of DEVICES) {
    for (const library of LIBRARIES) {
        const one = rows[`${library} ${device}`];
        const error = Math.max(one.sentences.max_abs, one.passages.max_abs);
        console.log(`| ${device === "cpu" ? "CPU" : "WebGPU"} | ${library} | ${number(one.sentences.median)} | ${number(one.passages.median)} | ${number(one.query.p50_ms)} ms | ${(one.first_ms / 1000).toFixed(2)} s | ${error.toExponential(1)} |`);
    }
}
console.log(`auto: ${auto.text}`);
if (process.argv[2]) writeFileSync(process.argv[2], `${JSON.stringify(report, null, 1)}\n`);
