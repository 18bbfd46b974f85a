// The pipelines of transformers.js that this package has: a program changes its import line.

import { fault } from "./errors.js";
import { Embedder, Reranker } from "./index.js";

// The result of a pipeline.
export class Tensor {
    constructor(data, dims) {
        Object.assign(this, { type: "float32", data, dims, size: data.length });
    }

    tolist() {
        const nest = (data, [first, ...rest]) => {
            if (rest.length === 0) return Array.from(data);
            const step = data.length / first;
            return Array.from({ length: first }, (_, at) => nest(data.subarray(at * step, (at + 1) * step), rest));
        };
        return nest(this.data, this.dims);
    }
}

const DEVICES = { webgpu: "webgpu", gpu: "webgpu", wasm: "cpu", cpu: "cpu", auto: "auto" };
const DTYPES = { fp32: "float32", fp16: "float16", bf16: "bfloat16" };

function loadOptions({ device = "auto", dtype = "auto", progress_callback, revision, ...rest }) {
    const adapter = DEVICES[device];
    if (!adapter) throw fault("option", `device: \`${device}\` is unknown; use webgpu, wasm or auto`);
    return { adapter, dtype: DTYPES[dtype] ?? dtype, revision, onProgress: progress_callback, ...rest };
}

// The step of a model by which its tokens' vectors become one, and whether the model normalizes.
async function stepsOf(model) {
    const { modules } = await model.inspect();
    const pooling = modules.find((module) => module.kind === "Pooling")?.settings.split(",")[0];
    return { pooling, normalizes: modules.at(-1)?.kind === "Normalize" };
}

async function featureExtraction(name, options) {
    const model = await Embedder.load(name, loadOptions(options));
    const steps = await stepsOf(model);
    const extract = async (texts, { pooling = "none", normalize = false } = {}) => {
        const asked = pooling === "last_token" ? "lasttoken" : pooling;
        if (asked !== steps.pooling) {
            throw fault("option", `pooling: is \`${pooling}\`, but this model pools by \`${steps.pooling}\`; pass { pooling: "${steps.pooling}" }`);
        }
        if (steps.normalizes && !normalize) {
            throw fault("option", "normalize: is false, but this model normalizes its vectors; pass { normalize: true }");
        }
        const rows = await model.embed(texts, { normalize });
        return new Tensor(rows.values, [rows.length, rows.dimension]);
    };
    return Object.assign(extract, { model, dispose: () => model.close() });
}

async function textClassification(name, options) {
    const model = await Reranker.load(name, loadOptions(options));
    const classify = async (texts, { text_pair } = {}) => {
        const first = [texts].flat();
        const second = text_pair === undefined ? undefined : [text_pair].flat();
        if (!second) throw fault("option", "text_pair: is missing; a reranker scores pairs of texts");
        if (second.length !== first.length) throw fault("option", `text_pair: has ${second.length} texts for ${first.length} texts`);
        const scores = await model.predict(first.map((text, at) => [text, second[at]]));
        const best = (row) => row.reduce((best, score, at) => (score > row[best] ? at : best), 0);
        return Array.from(scores, (row) => ({ label: `LABEL_${best(row)}`, score: row[best(row)] }));
    };
    return Object.assign(classify, { model, dispose: () => model.close() });
}

// Loads a model for a task: "feature-extraction", or "text-classification" for rerankers.
export async function pipeline(task, model, options = {}) {
    if (task === "feature-extraction") return featureExtraction(model, options);
    if (task === "text-classification") return textClassification(model, options);
    throw fault("option", `task: \`${task}\` is unknown; use feature-extraction or text-classification`);
}
