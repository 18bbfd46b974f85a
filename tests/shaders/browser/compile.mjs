// Compiles variants of kernels with Dawn: node compile.mjs DIRECTORY FILE
//
// DIRECTORY has the package webgpu in node_modules. FILE is a JSON array of variants; `Sent` in browser.rs has the fields.
// Prints what Dawn says about each variant that it refuses, and how many it accepts.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, file] = process.argv.slice(2);
const found = createRequire(join(resolve(directory), "here.js")).resolve("webgpu");
const { create, globals } = await import(pathToFileURL(found));
Object.assign(globalThis, globals);
const gpu = create(["backend=null"]);

// One device for each set of features, with default limits.
const devices = new Map();
async function deviceWith(features) {
    const key = features.join(" ");
    if (!devices.has(key)) {
        const adapter = await gpu.requestAdapter();
        if (!adapter) throw new Error("Dawn has no null adapter");
        const device = await adapter.requestDevice({ requiredFeatures: features });
        device.addEventListener("uncapturederror", (event) => {
            throw new Error(event.error.message);
        });
        devices.set(key, { device, modules: new Map() });
    }
    return devices.get(key);
}

// Returns the first error about a text, or null. Each text is compiled once for each set of features.
async function refusal({ device, modules }, text) {
    if (!modules.has(text)) {
        device.pushErrorScope("validation");
        const module = device.createShaderModule({ code: text });
        const scope = await device.popErrorScope();
        const { messages } = await module.getCompilationInfo();
        const first = messages.find((message) => message.type === "error");
        const line = first && `line ${first.lineNum}: ${first.message}\n    ${text.split("\n")[first.lineNum - 1]}`;
        modules.set(text, { module, error: line ?? scope?.message ?? null });
    }
    return modules.get(text);
}

async function compile(variant) {
    const made = await deviceWith(variant.features);
    const { module, error } = await refusal(made, variant.text);
    if (error) return error;
    const { device } = made;
    const visibility = GPUShaderStage.COMPUTE;
    const buffers = variant.writes.map((writes) => (writes ? "storage" : "read-only-storage"));
    const layouts = [[...buffers, "uniform"], ["storage"]].map((types) =>
        device.createBindGroupLayout({
            entries: types.map((type, binding) => ({ binding, visibility, buffer: { type } })),
        }),
    );
    device.pushErrorScope("validation");
    device.createComputePipeline({
        layout: device.createPipelineLayout({ bindGroupLayouts: layouts }),
        compute: { module, entryPoint: variant.entry, constants: variant.overrides },
    });
    return (await device.popErrorScope())?.message ?? null;
}

const variants = JSON.parse(readFileSync(file, "utf8"));
const faulty = await refusal(
    await deviceWith([]),
    "@compute @workgroup_size(64) fn f(@builtin(local_invocation_index) i: u32) { if i < 3u { workgroupBarrier(); } }",
);
if (!faulty.error) throw new Error("Dawn accepted a barrier that only some invocations reach");

let accepted = 0;
const refused = new Map();
for (const variant of variants) {
    const error = await compile(variant);
    if (!error) accepted += 1;
    else refused.set(error, [...(refused.get(error) ?? []), variant.name]);
}
for (const [error, names] of refused) {
    console.log(`refused, ${names.length} variants, such as ${names[0]}: ${error}`);
}
console.log(`${accepted} of ${variants.length} variants accepted`);
// Dawn keeps the process alive.
process.exit(refused.size === 0 ? 0 : 1);
