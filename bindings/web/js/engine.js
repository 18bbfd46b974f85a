// Runs models where this file is loaded: in a worker, on a page, or in Node.

import init, * as wasm from "./vectile_web.js";
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

    // Loads a model. `host` options say where it comes from, and `options` how it runs.
    async load(kind, model, options, { signal, onProgress, gpu, wasm: module, ...from }) {
        if (!KINDS.includes(kind)) throw fault("internal", `${kind} is no kind of model`);
        await this.#start({ gpu, wasm: module });
        const opened = await open(model, { ...from, signal, onProgress });
        let loaded;
        try {
            if (signal?.aborted) throw fault("aborted", "the load was stopped");
            const files = new wasm.Files(opened.label);
            for (const { name, size, read } of opened.files) files.add(name, size, read);
            const progress = onProgress && ((done, total) => onProgress({ stage: "load", done, total }));
            loaded = await wasm[kind].load(files, JSON.stringify(options), progress);
        } catch (error) {
            opened.close?.();
            throw error;
        } finally {
            for (const file of opened.files) file.release?.();
        }
        const id = ++this.#last;
        this.#models.set(id, { model: loaded, close: opened.close });
        return { id, about: JSON.parse(loaded.describe()) };
    }

    // Calls a method of a loaded model. `stopped` is asked between batches.
    async call(id, method, args, stopped) {
        const held = this.#models.get(id);
        if (!held) throw fault("option", "the model is closed");
        if (method === "inspect") return JSON.parse(await held.model.inspect());
        const takesStop = ["embed", "predict", "encode"].includes(method);
        return held.model[method](...args, ...(takesStop ? [stopped] : []));
    }

    close(id) {
        const held = this.#models.get(id);
        this.#models.delete(id);
        held?.model.free();
        held?.close?.();
    }
}
