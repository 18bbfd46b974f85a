// The worker in which models run, so that a page never waits for them.

import { Engine } from "./engine.js";
import { pack } from "./errors.js";

const engine = new Engine();
const running = new Map();

// The buffers of a result, which move to the page instead of being copied.
function buffers(value, found = []) {
    if (ArrayBuffer.isView(value)) found.push(value.buffer);
    else if (Array.isArray(value)) value.forEach((one) => buffers(one, found));
    else if (value?.constructor === Object) Object.values(value).forEach((one) => buffers(one, found));
    return found;
}

async function answer(call) {
    const { type, args } = call;
    if (type === "adapters") return engine.adapters(...args);
    if (type === "close") return engine.close(...args);
    const stop = new AbortController();
    running.set(call.call, stop);
    try {
        if (type === "load") {
            const [kind, model, options, from] = args;
            const onProgress = from.progress ? (progress) => postMessage({ call: call.call, progress }) : undefined;
            return await engine.load(kind, model, options, { ...from, signal: stop.signal, onProgress });
        }
        return await engine.call(...args, () => stop.signal.aborted);
    } finally {
        running.delete(call.call);
    }
}

addEventListener("message", async ({ data }) => {
    if (data.type === "abort") return running.get(data.call)?.abort();
    try {
        const result = await answer(data);
        postMessage({ call: data.call, result }, [...new Set(buffers(result))]);
    } catch (error) {
        postMessage({ call: data.call, error: pack(error) });
    }
});
