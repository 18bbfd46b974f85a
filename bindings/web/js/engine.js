// Runs models where this file is loaded: in a worker, on a page, or in Node.

import init, * as wasm from "./vectile_web.js";
import { OPTIMIZE_FOR, choose } from "./choose.js";
import { fault } from "./errors.js";
import { inNode, open } from "./sources.js";

let ready = null;

// Node has no WebGPU of its own. The package `webgpu` (Dawn) gives it one, if it is installed.
async function prepareNode(gpu) {
    if (!gpu && globalThis.navigator?.gpu) gpu = globalThis.navigator.gpu;
    if (!gpu) {
        try {
            const dawn = await import(/* @vite-ignore */ "webgpu");
            Object.assign(globalThis, dawn.globals);
            gpu = dawn.create([]);
        } catch {
            // Without the package, models run on the CPU.
        }
    }
    // The library looks for WebGPU in a window's navigator. Node 20 has no navigator.
    if (!globalThis.navigator) Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
    if (gpu && navigator.gpu !== gpu) Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
    globalThis.Window ??= class Window {};
}

async function start({ gpu, wasm: module } = {}) {
    if (inNode) {
        await prepareNode(gpu);
        const { readFile } = await import(/* @vite-ignore */ "node:fs/promises");
        module ??= await readFile(new URL("./vectile_web_bg.wasm", import.meta.url));
    }
    await init({ module_or_path: module ?? new URL("./vectile_web_bg.wasm", import.meta.url) });
}

// The bytes of weights that are hashed at once, and after which the worker reads its messages.
const PIECE = 4 << 20;

// The SHA-256 of a model's weight files, in the order in which `vectile bench` hashes them: the transformer's files by
// their names, and then those of the modules.
async function weightsSha256(files, stopped) {
    const depth = ({ name }) => (name.includes("/") ? 1 : 0);
    const shards = new Set();
    for (const { name, size, read } of files.filter(({ name }) => name.endsWith("model.safetensors.index.json"))) {
        const listed = JSON.parse(new TextDecoder().decode(read(0, size))).weight_map;
        for (const shard of Object.values(listed)) shards.add(name.replace("model.safetensors.index.json", shard));
    }
    // A directory may hold other files of this format too, which are no weights.
    const weights = files.filter(({ name }) => shards.has(name) || /(^|\/)(model|colbert_linear|sparse_linear)\.safetensors$/.test(name));
    weights.sort((a, b) => depth(a) - depth(b) || (a.name < b.name ? -1 : 1));
    const hash = new wasm.Hash();
    try {
        for (const { size, read } of weights) {
            for (let at = 0; at < size; at += PIECE) {
                hash.update(read(at, Math.min(PIECE, size - at)));
                await new Promise((done) => setTimeout(done));
                if (stopped?.()) throw fault("aborted", "the call was stopped");
            }
        }
        return hash.finish();
    } finally {
        hash.free();
    }
}

const KINDS = ["Embedder", "Reranker", "SparseEncoder", "MultiVectorEncoder"];

export class Engine {
    #models = new Map();
    #last = 0;

    async #start(options) {
        ready ??= start(options).catch((error) => {
            ready = null;
            throw fault(error.code ?? "internal", `the WebAssembly module could not be started: ${error.message}`);
        });
        await ready;
    }

    async adapters(options) {
        await this.#start(options);
        return JSON.parse(await wasm.adapters());
    }

    // Loads a model. The last argument says where it comes from, and `options` says how it runs.
    async load(kind, model, { adapter = "auto", optimizeFor = "batch", ...options }, { signal, onProgress, gpu, wasm: module, ...from }) {
        if (!KINDS.includes(kind)) throw fault("internal", `${kind} is no kind of model`);
        if (!OPTIMIZE_FOR.includes(optimizeFor)) throw fault("option", `optimizeFor: \`${optimizeFor}\` is unknown; use ${OPTIMIZE_FOR.join(" or ")}`);
        await this.#start({ gpu, wasm: module });
        const opened = await open(model, { ...from, signal, onProgress });
        // Loads the model on one adapter. If the model is loaded `parts` times, progress counts this load as `part`.
        const loadOn = (adapter, part = 0, parts = 1) => {
            if (signal?.aborted) throw fault("aborted", "the load was stopped");
            const files = new wasm.Files(opened.label);
            for (const { name, size, read } of opened.files) files.add(name, size, read);
            const progress = onProgress && ((done, total) => onProgress({ stage: "load", done: part * total + done, total: parts * total }));
            return wasm[kind].load(files, JSON.stringify({ ...options, adapter }), progress);
        };
        let held;
        try {
            if (adapter === "auto" || adapter === "mixed") {
                const machine = { adapters: JSON.parse(await wasm.adapters()), version: wasm.version() };
                held = await choose({ kind, requested: adapter, optimizeFor, options, opened, loadOn, machine });
            } else held = { model: await loadOn(adapter) };
        } catch (error) {
            opened.close?.();
            throw error;
        } finally {
            for (const file of opened.files) file.release?.();
        }
        const id = ++this.#last;
        this.#models.set(id, { ...held, files: opened.files, close: opened.close });
        const about = JSON.parse(held.model.describe());
        if (held.choice) {
            about.precision.choice = held.choice;
            about.precision.reasons.push(held.choice.text);
            about.precisionText += `; ${held.choice.text}`;
        }
        return { id, about };
    }

    // Calls a method of a loaded model. `stopped` is asked between batches.
    async call(id, method, args, stopped) {
        const held = this.#models.get(id);
        if (!held) throw fault("option", "the model is closed");
        if (method === "inspect") {
            const about = JSON.parse(await held.model.inspect());
            return held.choice ? { ...about, choice: held.choice } : about;
        }
        if (method === "weightsSha256") return weightsSha256(held.files, stopped);
        if (!["embed", "predict", "encode"].includes(method)) return held.model[method](...args);
        // All arguments before the options are texts.
        const model = held.pick ? held.both[held.pick(args.slice(0, -1).flat())] : held.model;
        return model[method](...args, stopped);
    }

    close(id) {
        const held = this.#models.get(id);
        this.#models.delete(id);
        if (!held) return;
        for (const model of held.both ? Object.values(held.both) : [held.model]) model.free();
        held.close?.();
    }
}
