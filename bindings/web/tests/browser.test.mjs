// The package in headless Chromium, on SwiftShader: parity, the worker, the store, and what a page sees of errors.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_CLIENTS=DIR VECTILE_TEST_MODEL=DIR node --test bindings/web/tests/browser.test.mjs

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { FIXTURES, MODEL, PACKAGE, compareReports, distance, packageOf, tensor, texts } from "./support.mjs";
import { serve } from "./server.mjs";

const playwright = await packageOf(join(process.env.VECTILE_CLIENTS ?? ".", "node"), "playwright-core");
assert.ok(playwright, "VECTILE_CLIENTS/node has no playwright-core");
assert.ok(MODEL, "VECTILE_TEST_MODEL names no model");

const PAGE = `<!doctype html><meta charset="utf-8"><title>test</title><script type="module">
import * as vectile from "/package/index.js";
Object.assign(window, vectile, { models: {}, ready: true });
</script>`;

const profile = mkdtempSync(join(tmpdir(), "vectile-browser-"));
let server, context, page;

before(async () => {
    server = await serve({ package: PACKAGE, model: MODEL, fixtures: FIXTURES, site: join(PACKAGE, "../site") }, { "/": PAGE });
    const launch = { executablePath: process.env.VECTILE_CHROMIUM ?? "/usr/bin/chromium", headless: false };
    const args = ["--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
    context = await playwright.default.chromium.launchPersistentContext(profile, { ...launch, args });
    page = await context.newPage();
    page.on("pageerror", (error) => console.error(`page: ${error}`));
    page.on("console", (message) => message.type() === "error" && console.error(`console: ${message.text()}`));
    await page.goto(server.url);
    await page.waitForFunction(() => window.ready);
});

after(async () => {
    await context?.close();
    await server?.close();
    rmSync(profile, { recursive: true, force: true });
});

const run = (work, argument) => page.evaluate(work, argument);

test("30 reference texts of all-MiniLM-L6-v2 in float32", { timeout: 400_000 }, async () => {
    // The shortest texts, because SwiftShader computes 0.25 GFLOP/s.
    const all = texts();
    const order = all.map((_, at) => at).sort((a, b) => all[a].length - all[b].length);
    const some = order.filter((at) => all[at].trim()).slice(0, 30);
    const expected = tensor(join(FIXTURES, "minilm/reference.safetensors"), "embeddings").values;
    const found = await run(
        async ([list, url]) => {
            const progress = [];
            let started = performance.now();
            const embedder = await Embedder.load(url, { adapter: "webgpu", dtype: "float32", onProgress: (one) => progress.push(one) });
            const load = performance.now() - started;
            started = performance.now();
            const rows = await embedder.embed(list);
            const took = performance.now() - started;
            const alone = await embedder.embed(list[3]);
            const same = alone.row(0).every((value, at) => value === rows.row(3)[at]);
            const { adapter, precision } = embedder;
            await embedder.close();
            return { values: Array.from(rows.values), dimension: rows.dimension, same, adapter, precision: String(precision), load, took, last: progress.at(-1), stages: [...new Set(progress.map((one) => one.stage))] };
        },
        [some.map((at) => all[at]), `${server.url}/model/`],
    );
    assert.equal(found.adapter.backend, "BrowserWebGpu");
    const reference = some.flatMap((at) => Array.from(expected.subarray(at * 384, (at + 1) * 384)));
    const d = distance(found.values, reference, found.dimension);
    console.log(`${found.adapter.name || "WebGPU"}; ${found.precision}: max abs ${d.maxAbs.toExponential(2)}, min cosine ${d.minCosine.toFixed(9)}; load ${(found.load / 1000).toFixed(1)} s, 30 texts ${(found.took / 1000).toFixed(1)} s`);
    assert.ok(d.minCosine >= 0.9999999 && d.maxAbs <= 2e-6, JSON.stringify(d));
    assert.ok(found.same, "a row differs alone and in a batch");
    assert.deepEqual(found.stages, ["download", "load"]);
    assert.equal(found.last.done, found.last.total);
});

// The tolerances are those of tests/golden.
test("rerankers, sparse and multi-vector encoders agree with sentence-transformers", { timeout: 400_000 }, async () => {
    const read = (name, file) => JSON.parse(readFileSync(join(FIXTURES, name, file)));
    const expected = (name, what) => tensor(join(FIXTURES, name, "reference.safetensors"), what).values;
    const found = (kind, name, inputs) =>
        run(
            async ([kind, url, inputs]) => {
                const results = {};
                for (const adapter of ["webgpu", "cpu"]) {
                    const model = await window[kind].load(url, { adapter, dtype: "float32" });
                    if (kind === "Reranker") results[adapter] = Array.from((await model.predict(inputs)).values);
                    else if (kind === "MultiVectorEncoder") results[adapter] = (await model.encode(inputs, { as: "document" })).flatMap(({ values }) => Array.from(values));
                    else {
                        results[adapter] = (await model.encode(inputs)).flatMap(({ indices, values }) => {
                            const row = new Array(model.dimension).fill(0);
                            indices.forEach((index, at) => (row[index] = values[at]));
                            return row;
                        });
                    }
                    await model.close();
                }
                return results;
            },
            [kind, `${server.url}/fixtures/${name}/`, inputs],
        );
    const kinds = [
        ["Reranker", "rerankers/bert", "pairs.json", "scores", 2e-5],
        ["SparseEncoder", "sparse/bert", "texts.json", "embeddings", 2e-5],
        ["MultiVectorEncoder", "multi_vector/bert", "texts.json", "document.vectors", 1e-5],
    ];
    for (const [kind, name, inputs, what, tolerance] of kinds) {
        const reference = expected(name, what);
        for (const [adapter, values] of Object.entries(await found(kind, name, read(name, inputs)))) {
            assert.equal(values.length, reference.length, `${kind} on ${adapter}`);
            const worst = values.reduce((most, value, at) => Math.max(most, Math.abs(value - reference[at]) / Math.max(1, Math.abs(reference[at]))), 0);
            console.log(`${kind} on ${adapter}: largest difference ${worst.toExponential(1)}`);
            assert.ok(worst <= tolerance, `${kind} on ${adapter}: ${worst}`);
        }
    }
});

test("a second load makes no request for the model, even offline", async () => {
    await page.reload();
    await page.waitForFunction(() => window.ready);
    // The worker's own files are requested now, so that only the model is left.
    await run(() => adapters());
    server.log.length = 0;
    server.offline = true;
    const rows = await run(async (url) => {
        const embedder = await Embedder.load(url, { adapter: "cpu" });
        const rows = await embedder.embed("a text");
        await embedder.close();
        return rows.dimension;
    }, `${server.url}/model/`);
    server.offline = false;
    assert.equal(rows, 384);
    assert.deepEqual(server.log.filter(({ path }) => path.startsWith("/model")), []);
});

test("a download that is cut is resumed", async () => {
    await run(() => clearStored());
    server.log.length = 0;
    let cuts = 0;
    server.cut = (path) => (path.endsWith("model.safetensors") && path.split("/").length === 3 && cuts++ < 2 ? 20_000_000 : null);
    const values = await run(async (url) => {
        const embedder = await Embedder.load(url, { adapter: "cpu" });
        const rows = await embedder.embed("a text");
        await embedder.close();
        return rows.values.length;
    }, `${server.url}/model/`);
    server.cut = () => null;
    assert.equal(values, 384);
    const ranges = server.log.filter(({ path }) => path === "/model/model.safetensors").map(({ range }) => Number(/\d+/.exec(range ?? "0")));
    assert.equal(ranges.length, 3, JSON.stringify(ranges));
    assert.ok(ranges[0] === 0 && ranges[1] >= 1_000_000 && ranges[2] > ranges[1], JSON.stringify(ranges));
});

// Runs in a worker of the test's own, in which devices can be destroyed and models are stored.
const LOSSES = (base) => `
    import { Embedder } from "${base}/package/index.js";
    const devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...args) {
        devices.push(await requestDevice.apply(this, args));
        return devices.at(-1);
    };
    const embedder = await Embedder.load("${base}/fixtures/bert_mean_norm/", { adapter: "webgpu", worker: false });
    const texts = ["A cat sat on the roof.", "Rain."];
    const rows = [await embedder.embed(texts)];
    devices.at(-1).destroy();
    rows.push(await embedder.embed(texts));
    const running = embedder.embed(texts);
    devices.at(-1).destroy();
    rows.push(await running);
    postMessage({ rows: rows.map(({ values }) => Array.from(values)), devices: devices.length });`;

test("a lost device is opened again, and the batch is repeated", { timeout: 200_000 }, async () => {
    server.log.length = 0;
    const found = await run(async (code) => {
        const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
        const worker = new Worker(url, { type: "module" });
        const answer = await new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => resolve(data);
            worker.onerror = (event) => reject(new Error(event.message));
        });
        worker.terminate();
        return answer;
    }, LOSSES(server.url));
    assert.equal(found.devices, 3);
    assert.ok(found.rows[0].length > 0);
    assert.deepEqual(found.rows[1], found.rows[0]);
    assert.deepEqual(found.rows[2], found.rows[0]);
    // The weights were read again from the browser's store.
    assert.equal(server.log.filter(({ path }) => path.endsWith("bert_mean_norm/model.safetensors")).length, 1);
});

test("`auto` measures once, and a later visit uses the same executor", async () => {
    await run(() => clearStored());
    const visit = async (options) => {
        await page.reload();
        await page.waitForFunction(() => window.ready);
        return run(
            async ([url, options]) => {
                const embedder = await Embedder.load(url, options);
                const rows = await embedder.embed("a text");
                const { choice } = embedder.precision;
                const { backend } = embedder.adapter;
                const inspected = (await embedder.inspect()).choice;
                await embedder.close();
                return { choice, backend, inspected, row: Array.from(rows.row(0)) };
            },
            [`${server.url}/fixtures/bert_mean_norm/`, options],
        );
    };
    const first = await visit({});
    console.log(first.choice.text);
    assert.deepEqual([first.choice.measured, first.inspected], ["now", first.choice]);
    // SwiftShader computes on the CPU, through one more layer.
    assert.deepEqual([first.choice.executor, first.backend], ["cpu", "Native"]);
    const later = await visit({});
    assert.deepEqual([later.choice.measured, later.choice.milliseconds], ["earlier", first.choice.milliseconds]);
    assert.deepEqual(later.row, first.row);
    const mixed = await visit({ adapter: "mixed" });
    console.log(mixed.choice.text);
    assert.ok(mixed.choice.executor === "both" && mixed.choice.difference <= 5e-7, JSON.stringify(mixed.choice));
});

test("a server without ranges works, and a page may store nothing", async () => {
    server.ranges = false;
    let cuts = 0;
    server.cut = (path) => (path.endsWith("bert_mean_norm/model.safetensors") && cuts++ < 1 ? 10_000 : null);
    const found = await run(async (url) => {
        await clearStored();
        const embedder = await Embedder.load(url, { adapter: "cpu", cache: "none" });
        const rows = await embedder.embed(["a text", "another"]);
        await embedder.close();
        return { rows: rows.length, stored: await storedBytes() };
    }, `${server.url}/fixtures/bert_mean_norm/`);
    server.ranges = true;
    server.cut = () => null;
    assert.deepEqual(found, { rows: 2, stored: 0 });
});

test("files of a page, on its own thread and in the worker", async () => {
    const rows = await run(async (base) => {
        const names = ["config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json", "model.safetensors"];
        const bytes = {};
        for (const name of names) bytes[name] = new Uint8Array(await (await fetch(base + name)).arrayBuffer());
        const blobs = Object.entries(bytes).map(([name, content]) => {
            const file = new File([content], name.split("/").at(-1));
            Object.defineProperty(file, "webkitRelativePath", { value: `picked/${name}` });
            return file;
        });
        const found = [];
        for (const [source, worker] of [[bytes, true], [bytes, false], [blobs, false]]) {
            const embedder = await Embedder.load(source, { adapter: "cpu", worker });
            found.push(Array.from((await embedder.embed("a text")).row(0)));
            await embedder.close();
        }
        return found;
    }, `${server.url}/fixtures/bert_mean_norm/`);
    assert.deepEqual(rows[0], rows[1]);
    assert.deepEqual(rows[0], rows[2]);
});

test("errors keep their code, and a load can be stopped", async () => {
    const found = await run(async (base) => {
        const errors = [];
        const of = (promise) => promise.catch((error) => errors.push([error instanceof Error, error.name, error.code, error.message]));
        await of(Embedder.load(`${base}/nothing/`));
        await of(Embedder.load("a b c"));
        await of(Embedder.load(`${base}/fixtures/rerankers/bert/`, { adapter: "cpu" }));
        const stop = new AbortController();
        const loading = of(Embedder.load(`${base}/model/`, { signal: stop.signal, cache: "none" }));
        stop.abort();
        await loading;
        return errors;
    }, server.url);
    assert.deepEqual(found.map(([is, , code]) => [is, code]), [[true, "hub"], [true, "hub"], [true, found[2][2]], [true, "aborted"]], JSON.stringify(found));
    assert.match(found[0][3], /config\.json/);
    assert.equal(found[3][1], "AbortError");
    assert.ok(["config", "unsupported", "file"].includes(found[2][2]), JSON.stringify(found[2]));
});

test("the page's thread stays free while a model runs", async () => {
    const longest = await run(async (base) => {
        const embedder = await Embedder.load(`${base}/model/`, { adapter: "cpu" });
        let [last, longest, running] = [performance.now(), 0, true];
        const tick = () => {
            const now = performance.now();
            longest = Math.max(longest, now - last);
            last = now;
            if (running) setTimeout(tick, 5);
        };
        tick();
        await embedder.embed(Array(32).fill("A sentence of some words that takes the model a while to read."));
        running = false;
        await embedder.close();
        return longest;
    }, server.url);
    console.log(`longest pause of the page: ${longest.toFixed(0)} ms`);
    assert.ok(longest < 1000, `${longest} ms`);
});

// A page fits its width in both themes. VECTILE_SCREENSHOTS names a directory for pictures.
async function looks(page, name) {
    for (const width of [1280, 390, 320]) {
        for (const scheme of ["light", "dark"]) {
            await page.setViewportSize({ width, height: 800 });
            await page.emulateMedia({ colorScheme: scheme });
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} is wider than ${width}`);
            if (process.env.VECTILE_SCREENSHOTS) await page.screenshot({ path: join(process.env.VECTILE_SCREENSHOTS, `${name}-${width}-${scheme}.png`), fullPage: true });
        }
    }
}

test("the page that searches notes", async () => {
    const notes = await context.newPage();
    const problems = [];
    notes.on("pageerror", (error) => problems.push(String(error)));
    const asked = [];
    notes.on("request", (request) => asked.push(new URL(request.url()).origin));
    await notes.goto(`${server.url}/site/notes.html?model=${encodeURIComponent(`${server.url}/fixtures/nothing/`)}`);
    await notes.click("#load");
    await notes.waitForSelector("#status.error");
    await notes.fill("#model", `${server.url}/fixtures/bert_mean_norm/`);
    await notes.press("#model", "Enter");
    await notes.waitForSelector("#work:not([hidden])", { timeout: 120_000 });
    await notes.fill("#text", "The cat sleeps on the roof.\n\nRain fell all day.\n\nA train left at noon.");
    await notes.click("#add");
    await notes.setInputFiles("#files", { name: "more.md", mimeType: "text/markdown", buffer: Buffer.from("One more note.\n\nAnd another.") });
    await notes.waitForFunction(() => document.getElementById("count").textContent === "5 notes");
    await notes.fill("#query", "Rain fell all day.");
    await notes.waitForFunction(() => document.querySelectorAll("#hits li").length === 5);
    assert.match(await notes.textContent("#hits li"), /Rain fell all day/);
    const [download] = await Promise.all([notes.waitForEvent("download"), notes.click("#export")]);
    assert.equal(download.suggestedFilename(), "notes.jsonl");
    assert.deepEqual(new Set(asked.filter((origin) => origin.startsWith("http"))), new Set([server.url]));
    await looks(notes, "notes");
    assert.deepEqual(problems, []);
    await notes.close();
});

test("the page that compares precisions", { timeout: 600_000 }, async (t) => {
    const lab = await context.newPage();
    const problems = [];
    lab.on("pageerror", (error) => problems.push(String(error)));
    const asked = [];
    lab.on("request", (request) => asked.push(new URL(request.url()).origin));
    const status = (pattern, timeout = 300_000) => lab.waitForFunction((source) => new RegExp(source).test(document.getElementById("status").textContent), pattern, { timeout });
    await lab.goto(`${server.url}/site/lab.html?model=${encodeURIComponent(`${server.url}/fixtures/nothing/`)}`);
    await lab.waitForSelector("#run:not([disabled])");
    // SwiftShader has no f16, and the page says so before anything runs.
    assert.match(await lab.textContent("#machine"), /swiftshader.*f16 cannot run here.*software/is);
    await lab.press("#model", "Enter");
    await lab.waitForSelector("#status.error");
    assert.match(await lab.textContent("#status"), /has no config\.json/);

    await lab.fill("#model", `${server.url}/fixtures/bert_mean_norm/`);
    await lab.check('input[value="pasted"]');
    await lab.click("#run");
    await lab.waitForSelector("#status.error");
    assert.match(await lab.textContent("#status"), /There are no texts/);
    await lab.fill("#text", Array.from({ length: 16 }, (_, at) => `Text ${at} is about the weather of day ${at * 7}, and nothing else.`).join("\n"));
    await lab.uncheck("#run-packed_bf16");
    await lab.click("#run");
    await status("^Loading");
    await lab.click("#stop");
    await status("^Stopped before the first round");
    assert.ok(await lab.isHidden("#results"));

    await lab.evaluate(() => {
        let last = performance.now();
        window.late = [];
        setInterval(() => {
            const now = performance.now();
            window.late.push(now - last);
            last = now;
        }, 20);
    });
    await lab.press("#model", "Enter");
    await status("^Done: 3 rounds");
    // A busy machine delays a few ticks of a page that has nothing to do, so the longest one tells nothing.
    const usual = await lab.evaluate(() => window.late.sort((a, b) => a - b)[Math.floor(window.late.length * 0.9)]);
    t.diagnostic(`nine of ten ticks of the page come within ${usual.toFixed(0)} ms`);
    assert.ok(usual < 250, `${usual} ms`);
    const said = `${await lab.textContent("#headline")} ${await lab.textContent("#verdict")}`;
    t.diagnostic(said);
    assert.match(said, /^f16 cannot run here/);
    assert.match(said, /(is the fastest|has the highest median speed).* on your texts/);
    const rows = await lab.locator("figure").first().locator("tbody tr").allTextContents();
    assert.deepEqual(rows.map((row) => /^(f32|packed f16|CPU)[\d.,]+/.exec(row)?.[1]), ["f32", "packed f16", "CPU"], JSON.stringify(rows));
    assert.equal(await lab.locator("figure svg").count(), 3);
    assert.equal(await lab.locator("figure").first().locator("circle").count(), 9);
    const [download] = await Promise.all([lab.waitForEvent("download"), lab.click("#save")]);
    const report = JSON.parse(readFileSync(await download.path(), "utf8"));
    assert.equal(report.schema, "vectile-bench/1");
    assert.deepEqual(report.adapters.map(({ precisions, refused }) => [precisions.map(({ name }) => name), refused.map(({ precision }) => precision)]), [[["f32", "packed_f16"], ["f16"]], [["f32"], []]]);
    const [, packed] = report.adapters[0].precisions;
    assert.ok(packed.accuracy.max_abs > 0 && packed.accuracy.max_abs < 5e-3 && packed.accuracy.min_cosine > 0.999, JSON.stringify(packed.accuracy));
    compareReports(t, report);
    assert.deepEqual(new Set(asked.filter((origin) => origin.startsWith("http"))), new Set([server.url]));
    await looks(lab, "lab");
    assert.deepEqual(problems, []);
    await lab.close();
});
