// Counts what one short text costs in calls of WebGPU, and times it: node costs.mjs [MODEL]
//
// with the variables of node.test.mjs. On a software driver the time is that of the driver; the counts are the same everywhere.

import { join } from "node:path";

import { MODEL, PACKAGE, packageOf } from "./support.mjs";

const { Embedder } = await import(join(PACKAGE, "index.js"));
const dawn = await packageOf(process.env.VECTILE_DAWN ?? ".", "webgpu");
Object.assign(globalThis, dawn.globals);
const gpu = dawn.create(["backend=vulkan"]);

const COUNTED = {
    GPUDevice: ["createShaderModule", "createComputePipeline", "createBuffer", "createBindGroup", "createCommandEncoder"],
    GPUQueue: ["writeBuffer", "submit"],
    GPUComputePassEncoder: ["dispatchWorkgroups"],
    GPUBuffer: ["mapAsync"],
};
const counts = {};
for (const [type, names] of Object.entries(COUNTED)) {
    for (const name of names) {
        const original = globalThis[type].prototype[name];
        globalThis[type].prototype[name] = function (...args) {
            counts[name] = (counts[name] ?? 0) + 1;
            return original.apply(this, args);
        };
    }
}
const taken = () => {
    const now = { ...counts };
    for (const name of Object.keys(counts)) delete counts[name];
    return now;
};

let started = performance.now();
const embedder = await Embedder.load(process.argv[2] ?? MODEL, { adapter: "webgpu", dtype: "float32", gpu });
const rows = { load: { ms: Math.round(performance.now() - started), ...taken() } };
for (const name of ["first text", "second text"]) {
    started = performance.now();
    await embedder.embed("A cat sat on the roof.");
    rows[name] = { ms: Math.round(performance.now() - started), ...taken() };
}
const times = [];
for (let round = 0; round < 15; round++) {
    started = performance.now();
    await embedder.embed("A cat sat on the roof.");
    times.push(performance.now() - started);
}
times.sort((a, b) => a - b);
console.log(`${embedder.adapter.name}; ${embedder.precision}`);
console.table(rows);
console.log(`one short text: p50 ${times[7].toFixed(1)} ms (${times[0].toFixed(1)} to ${times.at(-1).toFixed(1)})`);
process.exit();
