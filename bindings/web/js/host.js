// Where models run: in one worker for all models of a page, or in the caller's own thread.

import { fault, unpack } from "./errors.js";
import { inNode } from "./sources.js";

function newWorker() {
    const here = new URL(import.meta.url);
    if (typeof location === "undefined" || here.origin === location.origin || here.protocol === "blob:") {
        // Bundlers look for this form. They would inline the file as data if its URL were made elsewhere.
        return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "vectile" });
    }
    // Browsers start no worker from another site, but a worker may import a module from one.
    const text = `import ${JSON.stringify(new URL("worker.js", here).href)};`;
    return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module", name: "vectile" });
}

class InWorker {
    #worker = newWorker();
    #calls = new Map();
    #last = 0;

    constructor() {
        this.#worker.addEventListener("message", ({ data }) => {
            const call = this.#calls.get(data.call);
            if (data.progress) return call?.onProgress?.(data.progress);
            this.#calls.delete(data.call);
            if (data.error) call?.reject(unpack(data.error));
            else call?.resolve(data.result);
        });
        this.#worker.addEventListener("error", (event) => {
            const error = fault("internal", `the worker failed: ${event.message || "it could not be loaded"}`);
            for (const call of this.#calls.values()) call.reject(error);
            this.#calls.clear();
        });
    }

    #send(type, args, { signal, onProgress } = {}) {
        const call = ++this.#last;
        const stop = () => this.#worker.postMessage({ call, type: "abort" });
        return new Promise((resolve, reject) => {
            this.#calls.set(call, { resolve, reject, onProgress });
            try {
                this.#worker.postMessage({ call, type, args });
            } catch (error) {
                this.#calls.delete(call);
                reject(fault("option", `the arguments cannot be sent to the worker: ${error.message}`));
            }
            signal?.addEventListener("abort", stop, { once: true });
        }).finally(() => signal?.removeEventListener("abort", stop));
    }

    adapters() {
        return this.#send("adapters", [{}]);
    }

    load(kind, model, options, { signal, onProgress, ...from }) {
        return this.#send("load", [kind, model, options, { ...from, progress: !!onProgress }], { signal, onProgress });
    }

    call(id, method, args, signal) {
        return this.#send("call", [id, method, args], { signal });
    }

    close(id) {
        return this.#send("close", [id]);
    }
}

class Here {
    #engine = import("./engine.js").then(({ Engine }) => new Engine());

    async adapters(options) {
        return (await this.#engine).adapters(options);
    }

    async load(...args) {
        return (await this.#engine).load(...args);
    }

    async call(id, method, args, signal) {
        return (await this.#engine).call(id, method, args, () => signal?.aborted);
    }

    async close(id) {
        return (await this.#engine).close(id);
    }
}

const hosts = {};

// The host of models. Browsers use a worker unless `worker` is false; Node has none.
export function host(worker = !inNode && typeof Worker !== "undefined") {
    return worker ? (hosts.worker ??= new InWorker()) : (hosts.here ??= new Here());
}
