// The package's interface. The models run in a worker: see host.js.

import { fault } from "./errors.js";
import { host } from "./host.js";

export { clearStored, storedBytes } from "./store.js";
export { pipeline, Tensor } from "./pipeline.js";

// Options that say where a model comes from. All others say how it runs.
const FROM = ["revision", "host", "cache", "signal", "onProgress", "gpu", "wasm"];

// The adapters of this browser, best first.
export function adapters({ worker, ...options } = {}) {
    return host(worker).adapters(options);
}

function textsOf(texts) {
    const list = typeof texts === "string" ? [texts] : [...texts];
    const wrong = list.findIndex((text) => typeof text !== "string");
    if (wrong >= 0) throw fault("option", `texts: text ${wrong} is no string (${typeof list[wrong]})`);
    return list;
}

// Rows of typed arrays in one buffer.
export class Embeddings {
    constructor({ values, dimension, truncated, retried, halved, tokens }) {
        Object.assign(this, { values, dimension, truncated, retried, halved, tokens });
    }

    get length() {
        return this.dimension ? this.values.length / this.dimension : 0;
    }

    row(index) {
        return this.values.subarray(index * this.dimension, (index + 1) * this.dimension);
    }

    *[Symbol.iterator]() {
        for (let index = 0; index < this.length; index++) yield this.row(index);
    }

    tolist() {
        return Array.from(this, (row) => Array.from(row));
    }
}

class Model {
    #host;
    #id;

    constructor(host, id, about) {
        this.#host = host;
        this.#id = id;
        const { precisionText, ...facts } = about;
        const precision = { ...facts.precision, toString: () => precisionText };
        Object.assign(this, facts, { precision });
    }

    // Loads a model: a Hub name, the URL of a directory, a FileList, a directory handle, or the bytes of its files.
    static async load(model, { worker, ...options } = {}) {
        const from = {};
        for (const name of FROM) if (options[name] !== undefined) from[name] = options[name];
        const rest = Object.fromEntries(Object.entries(options).filter(([name]) => !FROM.includes(name)));
        if (from.signal?.aborted) throw fault("aborted", "the load was stopped");
        const at = host(worker);
        const source = model instanceof URL ? model.href : model;
        const { id, about } = await at.load(this.kind, source, rest, from);
        return new this(at, id, about);
    }

    _call(method, args, signal) {
        if (signal?.aborted) return Promise.reject(fault("aborted", "the call was stopped"));
        return this.#host.call(this.#id, method, args, signal);
    }

    // Describes the model, its tensors and the kernels that it runs.
    inspect() {
        return this._call("inspect", []);
    }

    // The SHA-256 of the weights, which identifies the checkpoint.
    weightsSha256({ signal } = {}) {
        return this._call("weightsSha256", [], signal);
    }

    // Frees the model's memory.
    async close() {
        await this.#host.close(this.#id);
    }
}

const half = (values) => (typeof Float16Array === "undefined" ? values : new Float16Array(values.buffer));

export class Embedder extends Model {
    static kind = "Embedder";

    // One row for each text.
    async embed(texts, { signal, ...options } = {}) {
        const found = await this._call("embed", [textsOf(texts), JSON.stringify(options)], signal);
        if (options.precision === "float16" && found.values instanceof Uint16Array) found.values = half(found.values);
        return new Embeddings(found);
    }

    // Rows of any number of texts, a batch at a time.
    async *embedStream(texts, { batchSize = 256, ...options } = {}) {
        let batch = [];
        for await (const text of texts) {
            batch.push(text);
            if (batch.length < batchSize) continue;
            yield await this.embed(batch, options);
            batch = [];
        }
        if (batch.length > 0) yield await this.embed(batch, options);
    }

    tokenize(texts, options = {}) {
        return this._call("tokenize", [textsOf(texts), JSON.stringify(options)]);
    }

    // The similarity of each row of `a` with each row of `b`, as rows of scores.
    async similarity(a, b) {
        if (a.dimension !== b.dimension) throw fault("option", `embeddings: rows have ${a.dimension} and ${b.dimension} values; embed both with the same truncateDim`);
        const values = await this._call("similarity", [a.values, b.values, a.dimension]);
        return new Embeddings({ values, dimension: b.length });
    }

    // The nearest rows of a corpus for each query, best first.
    semanticSearch(queries, corpus, options = {}) {
        if (queries.dimension !== corpus.dimension) return Promise.reject(fault("option", `embeddings: rows have ${queries.dimension} and ${corpus.dimension} values; embed both with the same truncateDim`));
        return this._call("search", [queries.values, corpus.values, corpus.dimension, JSON.stringify(options)]);
    }
}

export class Reranker extends Model {
    static kind = "Reranker";

    // The scores of pairs `[query, document]`.
    async predict(pairs, { signal, ...options } = {}) {
        const list = [...pairs];
        const [first, second] = [0, 1].map((side) => textsOf(list.map((pair) => pair?.[side])));
        return new Embeddings(await this._call("predict", [first, second, JSON.stringify(options)], signal));
    }

    // The documents in order of their relevance to a query, as `{ index, score }`.
    async rank(query, documents, { topK, ...options } = {}) {
        await this._call("checkRanks", []);
        const scores = await this.predict([...documents].map((document) => [query, document]), options);
        const ranked = Array.from(scores.values, (score, index) => ({ index, score }));
        return ranked.sort((a, b) => b.score - a.score).slice(0, topK);
    }
}

export class SparseEncoder extends Model {
    static kind = "SparseEncoder";

    // The vectors of texts, as `{ indices, values }`.
    async encode(texts, { signal, ...options } = {}) {
        const { values, ...counts } = await this._call("encode", [textsOf(texts), JSON.stringify(options)], signal);
        return Object.assign(values, counts);
    }

    tokens(indices) {
        return this._call("tokens", [Uint32Array.from(indices)]);
    }

    similarity(a, b) {
        return this._call("similarity", [a.indices, a.values, b.indices, b.values]);
    }
}

export class MultiVectorEncoder extends Model {
    static kind = "MultiVectorEncoder";

    // The vectors of each text's tokens.
    async encode(texts, { signal, ...options } = {}) {
        const { values, dimension } = await this._call("encode", [textsOf(texts), JSON.stringify(options)], signal);
        return values.map((values) => new Embeddings({ values, dimension }));
    }

    // The score of a query and a document, each an element of `encode`'s result.
    similarity(query, document) {
        return this._call("similarity", [query.values, document.values]);
    }
}

// An `Embeddings` of LangChain.js.
export class LangChainEmbeddings {
    constructor(embedder, { batchSize = 256, ...options } = {}) {
        Object.assign(this, { embedder, batchSize, options });
    }

    async embedDocuments(texts) {
        const rows = [];
        const options = { as: "document", ...this.options, batchSize: this.batchSize };
        for await (const batch of this.embedder.embedStream(texts, options)) rows.push(...batch.tolist());
        return rows;
    }

    async embedQuery(text) {
        return (await this.embedder.embed([text], { as: "query", ...this.options })).tolist()[0];
    }
}
