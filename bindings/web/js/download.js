// Downloads a model, and stores it in the browser's private file system where there is one. A download that was cut is
// resumed, and a stored model is loaded without any request.

import { fault } from "./errors.js";
import { ofBytes } from "./sources.js";
import { store } from "./store.js";

// The files that a model may have in its directory and in the directory of a module.
const SETTINGS = [
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "router_config.json",
    "artifact.metadata",
];
const MODULE = ["config.json"];
const HEADS = ["colbert_linear.safetensors", "sparse_linear.safetensors"];
// Connections that break are tried again after these pauses, in milliseconds.
const PAUSES = [200, 1000, 3000, 8000];

const aborted = () => fault("aborted", "the load was stopped");
const isName = (text) => /^[\w.-]+\/[\w.-]+$/.test(text);

// The URL of a model's directory.
export function directory(model, { revision = "main", host = "https://huggingface.co" } = {}) {
    if (isName(model)) return `${host.replace(/\/$/, "")}/${model}/resolve/${encodeURIComponent(revision)}/`;
    const base = typeof location === "undefined" ? undefined : location.href;
    let url;
    try {
        url = new URL(model, base);
    } catch {
        throw fault("option", `model: \`${model}\` is no Hub name (owner/name), no URL and no directory`);
    }
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    return url.href;
}

// Fetches with new tries. Returns `null` for a file that the server does not have.
async function request(url, init, signal) {
    for (let attempt = 0; ; attempt++) {
        if (signal?.aborted) throw aborted();
        let problem;
        try {
            const response = await fetch(url, { ...init, signal });
            if (response.status === 404 || response.status === 410) return null;
            if (response.ok) return response;
            problem = `the server answered ${response.status} ${response.statusText}`.trim();
            if (response.status === 401 || response.status === 403) {
                throw fault("hub", `${url}: ${problem}; the model may be private, or its name misspelt`);
            }
            if (response.status < 500 && response.status !== 429) throw fault("hub", `${url}: ${problem}`);
        } catch (error) {
            if (error.code === "hub") throw error;
            if (signal?.aborted) throw aborted();
            problem = error.message;
        }
        if (attempt === PAUSES.length) throw fault("hub", `${url}: ${problem}; check the connection and load again`);
        await new Promise((done) => setTimeout(done, PAUSES[attempt]));
    }
}

// Where the bytes of a download go: a stored file, or memory.
async function target(kept, url, size) {
    const stored = await kept?.writer(url);
    if (stored) return stored;
    let bytes = new Uint8Array(size ?? 0);
    let length = 0;
    return {
        length: () => length,
        tag: null,
        append(chunk) {
            if (length + chunk.byteLength > bytes.byteLength) {
                const grown = new Uint8Array(Math.max(length + chunk.byteLength, bytes.byteLength * 2));
                grown.set(bytes.subarray(0, length));
                bytes = grown;
            }
            bytes.set(chunk, length);
            length += chunk.byteLength;
        },
        restart() {
            length = 0;
        },
        async finish() {},
        close() {},
        file: async (name) => ofBytes(name, bytes.subarray(0, length)),
    };
}

// Downloads one file. A part that is there is completed by a request for the rest, if the server's file is the same.
async function fetchFile(kept, base, name, { signal, report }) {
    const url = base + name;
    const whole = await kept?.whole(url, name);
    if (whole) {
        report(name, whole.size, whole.size);
        return whole;
    }
    let into = null;
    let failures = 0;
    try {
        for (;;) {
            const from = into?.length() ?? (await kept?.part(url)) ?? 0;
            const tag = into?.tag ?? (await kept?.tag(url)) ?? null;
            const headers = from > 0 && tag ? { Range: `bytes=${from}-`, "If-Range": tag } : {};
            const response = await request(url, { headers }, signal);
            if (!response) return null;
            const resumed = response.status === 206;
            const announced = Number(response.headers.get("content-length"));
            const encoded = response.headers.get("content-encoding");
            const size = announced && !encoded ? announced + (resumed ? from : 0) : null;
            into ??= await target(kept, url, size);
            if (!resumed && into.length() > 0) into.restart();
            // A weak tag does not promise the same bytes, so a part of such a file is not resumed.
            const strong = response.headers.get("etag");
            into.tag = strong && !strong.startsWith("W/") ? strong : null;
            await into.begin?.(into.tag, size);
            try {
                const reader = response.body.getReader();
                for (;;) {
                    const { done, value } = await reader.read();
                    if (done) break;
                    into.append(value);
                    report(name, into.length(), size);
                }
                if (size !== null && into.length() !== size) throw new Error(`${into.length()} of ${size} bytes arrived`);
                await into.finish(size);
                return await into.file(name);
            } catch (error) {
                if (signal?.aborted) throw aborted();
                if (error.code) throw error;
                if (error.name === "QuotaExceededError") {
                    throw fault("quota", `${url}: the browser has no space left to store the model; free space, or load it with cache: "none"`);
                }
                if (failures === PAUSES.length) {
                    throw fault("hub", `${url}: the connection was lost (${error.message}); load again to resume`);
                }
                await new Promise((done) => setTimeout(done, PAUSES[failures++]));
            }
        }
    } finally {
        into?.close();
    }
}

const text = (file) => new TextDecoder().decode(file.read(0, file.size));

function parsed(file) {
    try {
        return JSON.parse(text(file));
    } catch {
        // The library reads the file again and describes what is wrong with it.
        return null;
    }
}

// Downloads the files of a model in a directory of a server.
export async function download(model, options = {}) {
    const opened = [];
    try {
        return await downloadAll(model, options, opened);
    } catch (error) {
        // Files that are open would keep other tabs from writing them.
        for (const file of opened) file.release?.();
        throw error;
    }
}

async function downloadAll(model, options, opened) {
    const base = directory(model, options);
    const { cache = "auto", signal, onProgress } = options;
    if (!["auto", "none", "reload"].includes(cache)) {
        throw fault("option", `cache: \`${cache}\` is unknown; use auto, reload or none`);
    }
    const kept = cache === "none" ? null : await store();
    if (cache === "reload") await kept?.forget(base);
    const seen = new Map();
    const report = (name, done, total) => {
        seen.set(name, { done, total: total ?? done });
        let [all, of] = [0, 0];
        for (const file of seen.values()) [all, of] = [all + file.done, of + file.total];
        onProgress?.({ stage: "download", file: name, done: all, total: of });
    };
    const get = async (name) => {
        const file = await fetchFile(kept, base, name, { signal, report });
        if (file) opened.push(file);
        return file;
    };
    const described = (files) => ({ label: model, files, identity: base, choices: kept?.choices(base) });
    // A stored list of files makes a second load independent of the network.
    const known = await kept?.list(base);
    if (known) {
        const files = await Promise.all(known.map(get));
        return described(files.filter(Boolean));
    }
    const files = (await Promise.all(SETTINGS.map(get))).filter(Boolean);
    const modules = files.find((file) => file.name === "modules.json");
    const list = modules ? parsed(modules) : null;
    const path = (module) => (typeof module?.path === "string" ? module.path.replace(/\/+$/, "") : "");
    const paths = Array.isArray(list) ? [...new Set(list.map(path).filter(Boolean))] : [];
    const inside = await Promise.all(paths.flatMap((path) => [...MODULE, ...(path.startsWith("0") ? SETTINGS : [])].map((name) => get(`${path}/${name}`))));
    files.push(...new Map(inside.filter(Boolean).map((file) => [file.name, file])).values());
    for (const prefix of ["", ...paths.map((path) => `${path}/`)]) {
        // Pooling and Normalize have no weights; asking for them costs one request.
        const single = await get(`${prefix}model.safetensors`);
        if (single) {
            files.push(single);
            continue;
        }
        const index = await get(`${prefix}model.safetensors.index.json`);
        if (!index) continue;
        files.push(index);
        const shards = new Set(Object.values(parsed(index)?.weight_map ?? {}).map(String));
        for (const shard of shards) {
            const file = await get(prefix + shard);
            if (file) files.push(file);
        }
    }
    if (!files.some((file) => file.name.endsWith(".safetensors")) && !files.some((file) => file.name.endsWith("config.json"))) {
        throw fault("hub", `${base}: has no config.json and no model.safetensors; is it the directory of a model?`);
    }
    const kind = parsed(files.find((file) => file.name === "config.json") ?? ofBytes("", new Uint8Array()));
    if (kind && !modules) for (const head of HEADS) files.push(...[await get(head)].filter(Boolean));
    await kept?.remember(base, files.map((file) => file.name));
    return described(files);
}
