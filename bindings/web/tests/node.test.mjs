// The package in Node, on Dawn: parity with sentence-transformers, bit identity, options, and errors.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_DAWN=DIR VECTILE_TEST_MODEL=DIR node --test bindings/web/tests/node.test.mjs

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { FIXTURES, MODEL, PACKAGE, distance, packageOf, tensor, texts } from "./support.mjs";

const { Embedder, Reranker, SparseEncoder, MultiVectorEncoder, LangChainEmbeddings, adapters, pipeline } = await import(join(PACKAGE, "index.js"));
const dawn = process.env.VECTILE_DAWN ? await packageOf(process.env.VECTILE_DAWN, "webgpu") : null;
let gpu;
if (dawn) {
    Object.assign(globalThis, dawn.globals);
    gpu = dawn.create(["backend=vulkan"]);
}
const onGpu = { adapter: "webgpu", gpu };
const fixture = (name) => join(FIXTURES, name);

// Dawn keeps Node alive.
after(() => setTimeout(() => process.exit(), 100).unref());

async function refusal(promise) {
    let error = null;
    await promise.catch((thrown) => (error = thrown));
    assert.ok(error instanceof Error, "the call did not fail");
    return error;
}

test("the GPU is found", { skip: !dawn && "VECTILE_DAWN names no directory with the package webgpu" }, async () => {
    const found = await adapters({ gpu });
    console.log(found.map((one) => `${one.name} (${one.backend})`).join(", "));
    assert.ok(found.some((one) => one.backend === "BrowserWebGpu"), JSON.stringify(found));
    assert.ok(found.some((one) => one.backend === "Native"));
});

// The gates are those of tests/golden/minilm.rs.
const GATES = [
    ["float32", { dtype: "float32" }, "f32", 0.9999999, 2e-6],
    ["float16 in shaders", { dtype: "float16", halfFallback: "error" }, "f16", 0.99999, 1e-3],
    ["packed float16", { dtype: "float16", halfFallback: "packed", disable: ["shader-f16"] }, "packed_f16", 0.99999, 1e-3],
    ["bfloat16", { dtype: "bfloat16" }, "packed_bf16", 0.9998, 5e-3],
];

describe("all-MiniLM-L6-v2 on the GPU", { skip: (!MODEL && "VECTILE_TEST_MODEL names no model") || (!dawn && "no Dawn") }, () => {
    const { shape, values: expected } = tensor(fixture("minilm/reference.safetensors"), "embeddings");
    for (const [name, options, storage, cosine, maxAbs] of GATES) {
        test(`${name} agrees with the reference on 236 texts`, async () => {
            const embedder = await Embedder.load(MODEL, { ...onGpu, ...options });
            assert.equal(embedder.adapter.backend, "BrowserWebGpu");
            assert.equal(embedder.precision.weights, storage, String(embedder.precision));
            const rows = await embedder.embed(texts());
            assert.deepEqual([rows.length, rows.dimension], shape);
            const d = distance(rows.values, expected, rows.dimension);
            console.log(`${embedder.precision}: max abs ${d.maxAbs.toExponential(2)}, min cosine ${d.minCosine.toFixed(8)}`);
            assert.ok(d.minCosine >= cosine && d.maxAbs <= maxAbs, JSON.stringify(d));
            await embedder.close();
        });
    }
});

describe("all-MiniLM-L6-v2 on the CPU", { skip: !MODEL && "VECTILE_TEST_MODEL names no model" }, () => {
    test("float32 agrees with the reference on 236 texts", async () => {
        const { values: expected } = tensor(fixture("minilm/reference.safetensors"), "embeddings");
        const embedder = await Embedder.load(MODEL, { adapter: "cpu" });
        const rows = await embedder.embed(texts());
        const d = distance(rows.values, expected, rows.dimension);
        console.log(`${embedder.adapter.driver_info}: max abs ${d.maxAbs.toExponential(2)}`);
        assert.ok(d.minCosine >= 0.9999999 && d.maxAbs <= 2e-6, JSON.stringify(d));
        await embedder.close();
    });
});

// Every test below runs on both executors.
for (const adapter of dawn ? ["webgpu", "cpu"] : ["cpu"]) {
    const on = { adapter, gpu };
    describe(`a small model on ${adapter}`, () => {
        let embedder;
        before(async () => (embedder = await Embedder.load(fixture("bert_mean_norm"), on)));
        after(() => embedder.close());

        test("a row is bit-identical alone and in any batch", async () => {
            const some = texts().slice(0, 40);
            const rows = await embedder.embed(some);
            for (const at of [0, 7, 39]) {
                const alone = await embedder.embed(some[at]);
                assert.deepEqual(alone.row(0), rows.row(at));
            }
            const turned = await embedder.embed(some.toReversed?.() ?? [...some].reverse());
            assert.deepEqual(turned.row(39), rows.row(0));
        });

        test("options of a call", async () => {
            const all = await embedder.embed(["a text"]);
            const cut = await embedder.embed(["a text"], { truncateDim: 4 });
            assert.deepEqual([cut.dimension, cut.length], [4, 1]);
            assert.deepEqual(cut.row(0), all.row(0).slice(0, 4));
            const bits = await embedder.embed(["a text"], { precision: "ubinary" });
            assert.ok(bits.values instanceof Uint8Array);
            assert.equal(bits.dimension, Math.ceil(all.dimension / 8));
            const ids = await embedder.tokenize(["a text"]);
            assert.ok(ids[0].length >= 3);
            const none = await embedder.embed([]);
            assert.equal(none.length, 0);
        });

        test("errors have the library's sentence and a code", async () => {
            const error = await refusal(embedder.embed(["a"], { promptName: "nothing" }));
            assert.equal(error.code, "option");
            assert.match(error.message, /nothing/);
            const unknown = await refusal(embedder.embed(["a"], { promptname: "query" }));
            assert.equal(unknown.code, "option");
            assert.match(unknown.message, /promptname/);
            const long = await refusal(embedder.embed(["a", "word ".repeat(2000)], { onTooLong: "error" }));
            assert.deepEqual([long.code, long.text], ["too-long", 1]);
            const wrong = await refusal(embedder.embed(["a", 7]));
            assert.match(wrong.message, /text 1 is no string/);
        });

        test("a call can be stopped", async () => {
            const stop = new AbortController();
            const running = embedder.embed(Array(400).fill("a text of some words"), { signal: stop.signal });
            stop.abort();
            assert.equal((await refusal(running)).name, "AbortError");
            assert.equal((await embedder.embed(["still works"])).length, 1);
        });

        test("streams, similarity and search", async () => {
            const some = texts().filter((text) => text.length > 20).slice(0, 10);
            const rows = await embedder.embed(some);
            let at = 0;
            for await (const part of embedder.embedStream(some, { batchSize: 4 })) {
                for (const row of part) assert.deepEqual(row, rows.row(at++));
            }
            assert.equal(at, 10);
            const scores = await embedder.similarity(rows, rows);
            assert.ok(Math.abs(scores.row(3)[3] - 1) < 1e-6);
            const hits = await embedder.semanticSearch(rows, rows, { topK: 2 });
            assert.deepEqual(hits.map((hits) => hits[0].index), [...Array(10).keys()]);
            const chain = new LangChainEmbeddings(embedder);
            assert.deepEqual((await chain.embedDocuments(some))[9], Array.from(rows.row(9)));
            assert.equal((await chain.embedQuery("a")).length, rows.dimension);
        });

        test("inspect tells the modules and the dispatches", async () => {
            const about = await embedder.inspect();
            assert.equal(about.modules.at(-1).kind, "Normalize");
            assert.ok(about.graph.length > 5);
        });

        test("a pipeline gives the same rows in transformers.js's shape", async () => {
            const extract = await pipeline("feature-extraction", fixture("bert_mean_norm"), { device: adapter, gpu });
            const out = await extract(["one", "two"], { pooling: "mean", normalize: true });
            assert.deepEqual(out.dims, [2, embedder.dimension]);
            assert.deepEqual(out.tolist()[1], Array.from((await embedder.embed(["two"])).row(0)));
            assert.match((await refusal(extract("one", { normalize: true }))).message, /pools by `mean`/);
            assert.match((await refusal(extract("one", { pooling: "mean" }))).message, /normalize: true/);
            await extract.dispose();
        });
    });
}

test("a lost device is opened again, and the batch is repeated", { skip: !dawn && "no Dawn" }, async () => {
    const devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...args) {
        devices.push(await requestDevice.apply(this, args));
        return devices.at(-1);
    };
    const embedder = await Embedder.load(fixture("bert_mean_norm"), onGpu);
    const some = texts().slice(0, 40);
    const before = await embedder.embed(some);
    assert.equal(devices.length, 1);
    // The device is lost before a call that does not know it, before a call that knows it, and while a call runs.
    devices.at(-1).destroy();
    assert.deepEqual((await embedder.embed(some)).values, before.values);
    assert.equal(devices.length, 2);
    devices.at(-1).destroy();
    await devices.at(-1).lost;
    assert.deepEqual((await embedder.embed(some)).values, before.values);
    assert.equal(devices.length, 3);
    const running = embedder.embed(some);
    devices.at(-1).destroy();
    assert.deepEqual((await running).values, before.values);
    assert.equal(devices.length, 4);
    await embedder.close();
    GPUAdapter.prototype.requestDevice = requestDevice;
});

const { faster, predictor } = await import(join(PACKAGE, "choose.js"));

test("the faster executor is predicted from the measured times", () => {
    const times = { webgpu: { single: 9, batch: 20 }, cpu: { single: 3, batch: 60 } };
    assert.deepEqual([faster(times, "single"), faster(times, "batch")], ["cpu", "webgpu"]);
    const pick = predictor(times);
    assert.deepEqual([pick(["short"]), pick(["a query of a few words"]), pick(Array(20).fill("a text of some words"))], ["cpu", "cpu", "webgpu"]);
    // The GPU's batch was not run, because one text alone was slower than the batch on the CPU.
    const slow = { webgpu: { single: 90, batch: null }, cpu: times.cpu };
    assert.equal(faster(slow, "batch"), "cpu");
    assert.equal(predictor(slow)(Array(500).fill("a text of some words")), "cpu");
});

describe("the choice between the GPU and the CPU", { skip: !dawn && "no Dawn" }, () => {
    const name = fixture("bert_mean_norm");
    const some = texts().slice(0, 12);
    const rowsOn = async (adapter) => {
        const embedder = await Embedder.load(name, { adapter, gpu });
        const rows = Array.from(await embedder.embed(some), (row) => Array.from(row));
        await embedder.close();
        return rows;
    };

    test("`auto` measures once, keeps one executor, and says so", async () => {
        const progress = [];
        const first = await Embedder.load(name, { gpu, onProgress: (one) => progress.push(one) });
        const { choice } = first.precision;
        console.log(choice.text);
        assert.equal(choice.measured, "now");
        for (const [executor, { single, batch }] of Object.entries(choice.milliseconds)) {
            assert.ok(single > 0 && (batch === null || batch > 0), executor);
        }
        assert.equal(choice.executor, faster(choice.milliseconds, "batch"));
        assert.equal(first.adapter.backend, choice.executor === "cpu" ? "Native" : "BrowserWebGpu");
        assert.ok(String(first.precision).endsWith(choice.text) && first.precision.reasons.includes(choice.text));
        assert.deepEqual((await first.inspect()).choice, choice);
        assert.ok(progress.every(({ done }, at) => at === 0 || done >= progress[at - 1].done), "the progress goes back");
        assert.equal(progress.at(-1).done, progress.at(-1).total);
        const rows = Array.from(await first.embed(some), (row) => Array.from(row));
        assert.deepEqual(rows, await rowsOn(choice.executor));
        await first.close();

        for (const optimizeFor of ["batch", "single"]) {
            const again = await Embedder.load(name, { gpu, optimizeFor });
            const later = again.precision.choice;
            assert.equal(later.measured, "earlier");
            assert.deepEqual(later.milliseconds, choice.milliseconds);
            assert.equal(later.executor, faster(choice.milliseconds, optimizeFor));
            await again.close();
        }
        // Other options run other kernels, so they are measured too.
        const other = await Embedder.load(name, { gpu, dtype: "float16" });
        assert.equal(other.precision.choice.measured, "now");
        await other.close();
        const wrong = await refusal(Embedder.load(name, { gpu, optimizeFor: "speed" }));
        assert.deepEqual([wrong.code, /`speed` is unknown; use single or batch/.test(wrong.message)], ["option", true]);
    });

    test("`mixed` runs every call on one executor, and both agree", async () => {
        const mixed = await Embedder.load(name, { adapter: "mixed", gpu });
        const { choice } = mixed.precision;
        console.log(choice.text);
        assert.equal(choice.executor, "both");
        assert.ok(choice.difference <= 5e-7, String(choice.difference));
        assert.match(String(mixed.precision), /may differ in its last bits/);
        const [onGpu, onCpu] = [await rowsOn("webgpu"), await rowsOn("cpu")];
        const pick = predictor(choice.milliseconds);
        const expected = { webgpu: onGpu, cpu: onCpu };
        const rows = Array.from(await mixed.embed(some), (row) => Array.from(row));
        assert.deepEqual(rows, expected[pick(some)]);
        for (const at of [0, 5]) assert.deepEqual(Array.from((await mixed.embed(some[at])).row(0)), expected[pick([some[at]])][at]);
        assert.notDeepEqual(onGpu, onCpu);
        await mixed.close();
    });

    test("`mixed` refuses executors that disagree", async () => {
        const error = await refusal(Embedder.load(name, { adapter: "mixed", gpu, dtype: "float16" }));
        assert.equal(error.code, "unsupported");
        assert.match(error.message, /they differ by [\d.]+e-\d/);
    });

    test("`auto` uses the GPU where the CPU cannot run the model", async () => {
        const embedder = await Embedder.load(name, { gpu, dtype: "float16", halfFallback: "error" });
        assert.equal(embedder.adapter.backend, "BrowserWebGpu");
        assert.match(embedder.precision.choice.reason, /cannot run on the CPU/);
        await embedder.close();
    });

    test("every kind of model runs with `auto` or `mixed`", async () => {
        const first = (directory) => join(directory, readdirSync(fixture(directory)).sort().find((one) => existsSync(join(fixture(directory), one, "model.safetensors"))));
        const kinds = [[Reranker, "rerankers/bert", "auto"], [SparseEncoder, first("sparse"), "mixed"], [MultiVectorEncoder, first("multi_vector"), "auto"]];
        for (const [Kind, directory, adapter] of kinds) {
            const model = await Kind.load(fixture(directory), { adapter, gpu });
            const { choice } = model.precision;
            console.log(`${directory}: ${choice.text}`);
            assert.equal(choice.requested, adapter);
            if (adapter === "mixed") assert.ok(choice.difference > 0 && choice.difference <= 5e-7, String(choice.difference));
            const result = Kind === Reranker ? await model.predict([["a query", "a text"]]) : await model.encode(["a text"], { as: "query" });
            assert.equal(result.length, 1);
            await model.close();
        }
    });
});

// A thread has its own copy of the package, and finds no package webgpu beside it.
test("without WebGPU, a model runs on the CPU", async () => {
    const code = `import { parentPort, workerData } from "node:worker_threads";
        const { Embedder } = await import(workerData.package);
        const embedder = await Embedder.load(workerData.model);
        const refused = await Embedder.load(workerData.model, { adapter: "webgpu" }).catch((error) => [error.code, error.message]);
        const { reason } = embedder.precision.choice;
        parentPort.postMessage({ reason, backend: embedder.adapter.backend, rows: (await embedder.embed("a")).length, refused });`;
    const workerData = { package: String(pathToFileURL(join(PACKAGE, "index.js"))), model: fixture("bert_mean_norm") };
    const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData });
    const found = await new Promise((resolve, reject) => thread.on("message", resolve).on("error", reject));
    assert.deepEqual([found.backend, found.rows, found.refused[0]], ["Native", 1, "adapter"]);
    assert.match(found.refused[1], /no GPU adapter was found/);
    assert.match(found.reason, /no WebGPU/);
});

test("bytes, and a file that is wrong", async () => {
    const files = {};
    for (const name of readdirSync(fixture("bert_mean_norm"), { recursive: true })) {
        const path = join(fixture("bert_mean_norm"), name);
        if (/\.(json|safetensors)$/.test(name)) files[name.replaceAll("\\", "/")] = readFileSync(path);
    }
    const progress = [];
    const embedder = await Embedder.load(files, { adapter: "cpu", onProgress: (one) => progress.push(one) });
    const { done, total } = progress.at(-1);
    assert.equal(done, total);
    assert.equal((await embedder.embed("a")).length, 1);
    await embedder.close();
    const broken = await refusal(Embedder.load({ ...files, "config.json": new TextEncoder().encode("{") }, { adapter: "cpu" }));
    assert.match(broken.message, /config\.json/);
    const cut = await refusal(Embedder.load({ ...files, "model.safetensors": files["model.safetensors"].subarray(0, 900) }, { adapter: "cpu" }));
    assert.equal(cut.code, "file");
    assert.match(cut.message, /model\.safetensors/);
    assert.equal((await refusal(Embedder.load(7))).code, "option");
    assert.equal((await refusal(Embedder.load(files, { dtype: "int3" }))).code, "option");
    assert.equal((await refusal(embedder.embed("a"))).message, "the model is closed");
});

// The other kinds of model, against the vectors of sentence-transformers.
test("rerankers, sparse encoders and multi-vector encoders load and run", async () => {
    const reranker = await Reranker.load(fixture("rerankers/bert"), { adapter: "cpu" });
    const ranked = await reranker.rank("Where is the cat?", ["A cat sat.", "The dog ran.", "Rain."], { topK: 2 });
    assert.equal(ranked.length, 2);
    assert.ok(ranked[0].score >= ranked[1].score);
    await reranker.close();
    const kinds = [
        [SparseEncoder, "sparse"],
        [MultiVectorEncoder, "multi_vector"],
    ];
    for (const [Kind, name] of kinds) {
        const first = readdirSync(fixture(name)).sort().find((one) => existsSync(join(fixture(name), one, "model.safetensors")));
        const model = await Kind.load(join(fixture(name), first), { adapter: "cpu" });
        const [one, two] = await model.encode(["A cat sat.", "The dog ran."], { as: "document" });
        assert.ok(one.values.length > 0 && two.values.length > 0);
        assert.ok((await model.similarity(one, one)) >= (await model.similarity(one, two)));
        await model.close();
    }
});
