/** Text embeddings in the browser, with WebGPU. The vectors are those of sentence-transformers. */

/**
 * Where a model's files are: a Hub name (`owner/name`), the URL of a directory, a picked or dropped directory, a
 * directory handle, or the bytes of each file by its name. In Node it may be the path of a directory.
 */
export type ModelSource =
    | string
    | URL
    | FileList
    | File[]
    | FileSystemDirectoryHandle
    | Map<string, Uint8Array | ArrayBuffer>
    | Record<string, Uint8Array | ArrayBuffer>;

/** Bytes of a download or of weights that are loaded. */
export interface Progress {
    stage: "download" | "load";
    /** The file that is downloaded. */
    file?: string;
    done: number;
    total: number;
}

export interface LoadOptions {
    /** `auto`, the default, is the checkpoint's own dtype. */
    dtype?: "auto" | "float32" | "float16" | "bfloat16";
    /** How `float16` runs on an adapter without f16 in shaders. */
    halfFallback?: "f32" | "packed" | "error";
    /** How activations are stored, instead of the default. */
    activations?: "auto" | "f32" | "f16";
    /**
     * `auto`, the default, runs the model on WebGPU or on the CPU. The first load measures which one is faster here, and
     * later loads use the same one. Weights above 128 MiB are not measured and use the best adapter. `mixed` uses the
     * faster one for each call; a text's vector then depends on the call in its last bits. Any other text is a part of
     * an adapter's name.
     */
    adapter?: "auto" | "mixed" | "webgpu" | "cpu" | (string & {});
    /** The work that must be fast with `adapter: "auto"`: one short text, or a batch (the default). */
    optimizeFor?: "single" | "batch";
    /** Runs as if the adapter did not have these features. */
    disable?: ("shader-f16" | "subgroups" | "timestamp-query")[];
    /** The maximum number of tokens in a batch. Vectors do not depend on it. */
    batchTokens?: number;
    /** The maximum bytes of memory that the model may take. A larger model is refused before it is loaded. */
    maxMemory?: number;
    /** The task whose LoRA is merged into the weights. */
    loraTask?: string;
    /** The branch, tag or commit of a Hub repository. The default is `main`. */
    revision?: string;
    /** The server of Hub names. */
    host?: string;
    /**
     * `auto` stores the model in the browser, and loads it without requests the next time. `reload` downloads it again.
     * `none` stores nothing.
     */
    cache?: "auto" | "reload" | "none";
    onProgress?: (progress: Progress) => void;
    /** Stops the download. */
    signal?: AbortSignal;
    /** False runs the model in the calling thread. Browsers use a worker by default. */
    worker?: boolean;
    /** In Node: the WebGPU to use, instead of the one in the package `webgpu`. */
    gpu?: unknown;
    /** The WebAssembly module: its URL, its bytes or a compiled module. The default is the package's own file. */
    wasm?: string | URL | BufferSource | WebAssembly.Module;
}

export interface Adapter {
    index: number;
    name: string;
    device_type: string;
    backend: string;
    shader_f16: boolean;
    max_buffer_bytes: number;
    max_binding_bytes: number;
    [fact: string]: unknown;
}

/** Milliseconds of one short text and of a batch. A batch that was certainly slower has `null`. */
export interface Timing {
    single: number;
    batch: number | null;
}

/** The executor that `adapter: "auto"` or `"mixed"` uses, and the reason. */
export interface Choice {
    requested: "auto" | "mixed";
    optimizeFor: "single" | "batch";
    /** `both` with `mixed`. `best` is the best adapter, for a model that was not measured. */
    executor: "webgpu" | "cpu" | "both" | "best";
    milliseconds: { webgpu: Timing; cpu: Timing } | null;
    /** With `mixed`: the largest difference between the executors, in the texts that the load checked. */
    difference: number | null;
    /** Whether this load or an earlier one measured the times. */
    measured: "now" | "earlier" | null;
    /** The reason for a choice without a measurement. */
    reason: string | null;
    /** The choice as a sentence. */
    text: string;
}

/** How a model runs: the request, the choice and the reasons. `toString()` gives one sentence. */
export interface Precision {
    requested: string;
    weights: string;
    activations: string;
    reasons: string[];
    /** The choice of `adapter: "auto"` or `"mixed"`. */
    choice?: Choice;
    toString(): string;
    [fact: string]: unknown;
}

/** Rows of values, one for each text, in one buffer. */
export class Embeddings<Values extends ArrayLike<number> = Float32Array> implements Iterable<Values> {
    readonly values: Values;
    /** The number of values in a row. */
    readonly dimension: number;
    /** The number of rows. */
    readonly length: number;
    /** Indices of the texts that were cut to the model's maximum length. */
    readonly truncated: Uint32Array;
    /** The number of tokens of all texts. */
    readonly tokens: number;
    /** The number of texts that were run again with f32 activations. */
    readonly retried: number;
    /** The number of batches that ran out of memory and were split. */
    readonly halved: number;
    row(index: number): Values;
    [Symbol.iterator](): IterableIterator<Values>;
    tolist(): number[][];
}

export interface EmbedOptions {
    /** The role of the texts, which selects the model's prompt for it. */
    as?: "query" | "document";
    /** The name of the model's prompt to put before each text. */
    promptName?: string;
    /** The prompt itself. The empty string disables the default prompt. */
    prompt?: string;
    /** Cuts vectors to this number of values. */
    truncateDim?: number;
    /** Scales vectors to length one. */
    normalize?: boolean;
    /** Cuts texts to this number of tokens instead of the model's own maximum. */
    maxSeqLength?: number;
    /** The treatment of texts that are too long. */
    onTooLong?: "truncate" | "error";
    /** The number format of the rows. `float16` gives a `Float16Array` where the browser has it, and its bits otherwise. */
    precision?: "float32" | "float16" | "int8" | "uint8" | "binary" | "ubinary";
    /** Stops the call between batches. */
    signal?: AbortSignal;
}

declare class Model {
    readonly adapter: Adapter;
    readonly precision: Precision;
    readonly notes: string[];
    /** The bytes that the model takes, and the maximum number of tokens in a batch. */
    readonly memory: { weights: number; host_tables: number; loading: number; batch: number; batch_tokens: number };
    /** Describes the model, its tensors and the kernels that it runs, and the choice of `adapter: "auto"`. */
    inspect(): Promise<Record<string, unknown> & { choice?: Choice }>;
    /** The SHA-256 of the weight files, in hexadecimal digits. All bytes of the weights are read. */
    weightsSha256(options?: { signal?: AbortSignal }): Promise<string>;
    /** Frees the model's memory. */
    close(): Promise<void>;
}

/** Turns texts into vectors. */
export class Embedder extends Model {
    static load(model: ModelSource, options?: LoadOptions): Promise<Embedder>;
    readonly dimension: number;
    readonly maxSeqLength: number | null;
    readonly prompts: Record<string, string>;
    readonly defaultPromptName: string | null;
    /** The name of the function that compares vectors. */
    readonly similarityName: "cosine" | "dot" | "euclidean" | "manhattan";
    embed(texts: string | Iterable<string>, options: EmbedOptions & { precision: "int8" | "binary" }): Promise<Embeddings<Int8Array>>;
    embed(texts: string | Iterable<string>, options: EmbedOptions & { precision: "uint8" | "ubinary" }): Promise<Embeddings<Uint8Array>>;
    embed(texts: string | Iterable<string>, options: EmbedOptions & { precision: "float16" }): Promise<Embeddings<ArrayLike<number>>>;
    embed(texts: string | Iterable<string>, options?: EmbedOptions): Promise<Embeddings>;
    /** Rows of any number of texts, `batchSize` texts at a time. */
    embedStream(texts: Iterable<string> | AsyncIterable<string>, options?: EmbedOptions & { batchSize?: number }): AsyncGenerator<Embeddings>;
    tokenize(texts: string | Iterable<string>, options?: EmbedOptions): Promise<Uint32Array[]>;
    /** The similarity of each row of `a` with each row of `b`, by the model's function. */
    similarity(a: Embeddings, b: Embeddings): Promise<Embeddings>;
    /** The nearest rows of a corpus for each query, best first. The search is exact and runs on the adapter. */
    semanticSearch(queries: Embeddings, corpus: Embeddings, options?: { topK?: number }): Promise<{ index: number; score: number }[][]>;
}

export interface RerankOptions {
    promptName?: string;
    prompt?: string;
    /** Returns logits, without the model's activation function. */
    logits?: boolean;
    maxLength?: number;
    onTooLong?: "truncate" | "error";
    signal?: AbortSignal;
}

/** Scores pairs of texts. */
export class Reranker extends Model {
    static load(model: ModelSource, options?: LoadOptions): Promise<Reranker>;
    readonly labels: number;
    readonly maxSeqLength: number | null;
    /** The scores of pairs `[query, document]`, one row for each pair. */
    predict(pairs: Iterable<[string, string]>, options?: RerankOptions): Promise<Embeddings>;
    /** The documents in order of their relevance, the most relevant first. */
    rank(query: string, documents: Iterable<string>, options?: RerankOptions & { topK?: number }): Promise<{ index: number; score: number }[]>;
}

export interface SparseVector {
    /** Token ids, ascending. */
    indices: Uint32Array;
    values: Float32Array;
}

/** Turns texts into weights of tokens. */
export class SparseEncoder extends Model {
    static load(model: ModelSource, options?: LoadOptions): Promise<SparseEncoder>;
    readonly dimension: number;
    encode(texts: string | Iterable<string>, options?: Omit<EmbedOptions, "precision">): Promise<SparseVector[]>;
    tokens(indices: Iterable<number>): Promise<(string | null)[]>;
    similarity(a: SparseVector, b: SparseVector): Promise<number>;
}

/** Turns texts into vectors of their tokens. */
export class MultiVectorEncoder extends Model {
    static load(model: ModelSource, options?: LoadOptions): Promise<MultiVectorEncoder>;
    readonly dimension: number;
    encode(texts: string | Iterable<string>, options?: Omit<EmbedOptions, "precision">): Promise<Embeddings[]>;
    /** The `MaxSim` score of a query and a document. */
    similarity(query: Embeddings, document: Embeddings): Promise<number>;
}

/** An `Embeddings` of LangChain.js. */
export class LangChainEmbeddings {
    constructor(embedder: Embedder, options?: EmbedOptions & { batchSize?: number });
    embedDocuments(texts: string[]): Promise<number[][]>;
    embedQuery(text: string): Promise<number[]>;
}

/** The result of a pipeline, in the shape of transformers.js. */
export class Tensor {
    readonly type: "float32";
    readonly dims: number[];
    readonly data: Float32Array;
    readonly size: number;
    tolist(): any[];
}

export interface PipelineOptions extends Omit<LoadOptions, "dtype" | "adapter" | "onProgress"> {
    device?: "webgpu" | "gpu" | "wasm" | "cpu" | "auto";
    dtype?: "auto" | "fp32" | "fp16" | "bf16";
    progress_callback?: (progress: Progress) => void;
}

export interface FeatureExtraction {
    (texts: string | string[], options: { pooling: string; normalize?: boolean }): Promise<Tensor>;
    readonly model: Embedder;
    dispose(): Promise<void>;
}

export interface TextClassification {
    (texts: string | string[], options: { text_pair: string | string[] }): Promise<{ label: string; score: number }[]>;
    readonly model: Reranker;
    dispose(): Promise<void>;
}

/** The pipelines of transformers.js that this package has. */
export function pipeline(task: "feature-extraction", model: ModelSource, options?: PipelineOptions): Promise<FeatureExtraction>;
export function pipeline(task: "text-classification", model: ModelSource, options?: PipelineOptions): Promise<TextClassification>;

/** The adapters of this browser, best first. */
export function adapters(options?: Pick<LoadOptions, "worker" | "gpu" | "wasm">): Promise<Adapter[]>;

/** The bytes that models take in this site's storage. */
export function storedBytes(): Promise<number>;

/** Removes all stored models of this site. */
export function clearStored(): Promise<void>;

/**
 * The `code` of an error: `file`, `config`, `unsupported`, `tensor`, `tokenizer`, `option`, `too-long`, `non-finite`,
 * `adapter`, `out-of-memory`, `too-large`, `device-lost`, `device-fault`, `hub`, `quota`, `aborted` or `internal`.
 */
export interface VectileError extends Error {
    code: string;
    /** The index of the text that the error is about. */
    text?: number;
}
