// Chooses between the GPU and the CPU for a model: measures both once, and keeps the result for later loads.

import { fault } from "./errors.js";

export const OPTIMIZE_FOR = ["single", "batch"];

// The maximum size of the weights for a measurement. Larger weights are not loaded a second time for the CPU, so the
// page's memory stays small.
const MOST_BYTES = 128 << 20;

// With `mixed`, the maximum difference between a value on one executor and on the other, for vectors of length one.
const MOST_DIFFERENCE = 5e-7;

// Texts of several lengths and scripts. They are the batch of a measurement. With `mixed`, both executors must give nearly
// the same vectors for them.
const TEXTS = [
    "Where can I park near the station?",
    "a",
    "The museum opens at ten in the morning, except on Mondays, and the last tickets are sold at half past four in the afternoon.",
    "Der Zug nach Zürich fährt um 7:45 Uhr von Gleis 12 ab; bitte beachten Sie die Änderungen im Fahrplan der nächsten Woche.",
    "El café está cerrado. ¿Sabe usted dónde hay otro restaurante abierto a estas horas, cerca de la plaza y con terraza?",
    "const total = items.filter((item) => item.price > 0).reduce((sum, { price, count }) => sum + price * count, 0);",
    "図書館は月曜日に休みです。本を返すときは、入り口の横にある箱に入れてください。",
    "Water boils at 100 °C at sea level. At 3,000 m it boils at about 90 °C, so rice, beans and potatoes take longer to cook there.",
];
const SINGLE = TEXTS.slice(0, 1);

// The number of rounds of a measurement, and the milliseconds after which it starts no further round.
const ROUNDS = 7;
const LONGEST = 700;

const lengthOf = (texts) => texts.reduce((all, text) => all + text.length, 0);
const median = (times) => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];

// Runs texts on a model of any kind. Some models need to know whether a text is a query or a document. A reranker scores
// the pair of the first text and each text.
function run(kind, model, texts) {
    if (kind === "Reranker") return model.predict(texts.map(() => TEXTS[0]), texts, "{}", undefined);
    const options = JSON.stringify({ as: texts.length === 1 ? "query" : "document" });
    return kind === "Embedder" ? model.embed(texts, options, undefined) : model.encode(texts, options, undefined);
}

// The median milliseconds of each model for the same texts, in rounds that alternate between the models.
async function timed(kind, models, texts) {
    const times = Object.fromEntries(Object.keys(models).map((name) => [name, []]));
    for (const model of Object.values(models)) {
        // The first run makes buffers and compiles shaders.
        await run(kind, model, texts);
    }
    const started = performance.now();
    for (let round = 0; round < ROUNDS && (round === 0 || performance.now() - started < LONGEST); round++) {
        for (const [name, model] of Object.entries(models)) {
            const began = performance.now();
            await run(kind, model, texts);
            times[name].push(performance.now() - began);
        }
    }
    return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]));
}

// Measures both executors. On the same executor, a batch takes at least as long as its first text alone. If one executor
// takes longer for this text than the other takes for the batch, it does not run the batch, and its time is `null`.
async function measure(kind, models) {
    const single = await timed(kind, models, SINGLE);
    const [quick, slow] = Object.keys(models).sort((a, b) => single[a] - single[b]);
    let batch = await timed(kind, { [quick]: models[quick] }, TEXTS);
    if (batch[quick] > single[slow]) batch = await timed(kind, models, TEXTS);
    const times = (name) => ({ single: single[name], batch: batch[name] ?? null });
    return { webgpu: times("webgpu"), cpu: times("cpu") };
}

// The faster executor for one text or for a batch.
export function faster({ webgpu, cpu }, counts) {
    return (webgpu[counts] ?? Infinity) < (cpu[counts] ?? Infinity) ? "webgpu" : "cpu";
}

// Returns a function that names the faster executor for a call with these texts. It assumes that the
// time of a call grows linearly with the number of characters, through the measured times of one text and of a batch.
export function predictor(times) {
    const [few, many] = [lengthOf(SINGLE), lengthOf(TEXTS)];
    const predicted = ({ single, batch }, characters) => {
        if (batch === null) return Infinity;
        return single + ((batch - single) * Math.max(0, characters - few)) / (many - few);
    };
    return (texts) => {
        const characters = lengthOf(texts);
        return predicted(times.webgpu, characters) < predicted(times.cpu, characters) ? "webgpu" : "cpu";
    };
}

// Returns the rows of a result. A dense row is a list of values, and a sparse row is a map from index to value.
function rowsOf(result) {
    const rows = ({ values, dimension }) => Array.from({ length: values.length / dimension }, (_, at) => values.subarray(at * dimension, (at + 1) * dimension));
    if (!Array.isArray(result.values)) return rows(result);
    return result.values.flatMap((one) => (one.indices ? [new Map(Array.from(one.indices, (index, at) => [index, one.values[at]]))] : rows({ values: one, dimension: result.dimension })));
}

// Returns the largest difference between values of two results. The difference is divided by the row's length if the
// length exceeds one.
function differenceOf(one, other) {
    const [first, second] = [rowsOf(one), rowsOf(other)];
    if (first.length !== second.length) return Infinity;
    let largest = 0;
    first.forEach((row, at) => {
        const keys = new Set([...row.keys(), ...second[at].keys()]);
        const value = (from, key) => (from instanceof Map ? (from.get(key) ?? 0) : from[key]);
        let [apart, length] = [0, 0];
        for (const key of keys) {
            const difference = Math.abs(value(row, key) - value(second[at], key));
            // The comparison is negated so that a NaN counts as a difference: every comparison with NaN is false.
            if (!(difference <= apart)) apart = difference;
            length += value(row, key) ** 2;
        }
        const relative = apart / Math.max(1, Math.sqrt(length));
        if (!(relative <= largest)) largest = relative;
    });
    return largest;
}

// The largest difference between the vectors of two executors for the known texts.
//
// Fails if it exceeds the limit of `mixed`.
async function checkAgreement(kind, models) {
    const [gpu, cpu] = [await run(kind, models.webgpu, TEXTS), await run(kind, models.cpu, TEXTS)];
    const difference = differenceOf(gpu, cpu);
    if (!(difference <= MOST_DIFFERENCE)) {
        throw fault(
            "unsupported",
            `adapter: \`mixed\` needs vectors that differ by at most ${MOST_DIFFERENCE} between WebGPU and the CPU, but they differ by ${difference.toExponential(1)}; use adapter: "auto", or dtype: "float32"`,
        );
    }
    return difference;
}

// The measurements of models that are not in a store. They last as long as the page or process.
const choices = new Map();

// Returns where the measurements of one model are kept: beside the model in the store, or in memory. Models that are
// given as bytes have no name, so their measurements are not kept.
function keeperOf(opened) {
    if (opened.choices) return opened.choices;
    if (!opened.identity) return { read: async () => ({}), write: async () => {} };
    return {
        read: async () => choices.get(opened.identity) ?? {},
        write: async (found) => void choices.set(opened.identity, found),
    };
}

const bytesOf = (files) => files.filter(({ name }) => name.endsWith(".safetensors")).reduce((all, { size }) => all + size, 0);

// Returns the key under which a measurement is kept. It is used again for the same size of weights, adapter, version
// and options.
function keyOf({ kind, files, machine: { adapters, version }, options }) {
    const { name, vendor, device, driver_info, backend } = adapters.find((one) => one.backend === "BrowserWebGpu") ?? {};
    const cpu = adapters.find((one) => one.backend === "Native")?.driver_info;
    return JSON.stringify({ kind, bytes: bytesOf(files), gpu: [name, vendor, device, driver_info, backend], cpu, agent: globalThis.navigator?.userAgent, version, options });
}

const isMeasurable = (files) => bytesOf(files) <= MOST_BYTES;

const NAMES = { webgpu: "WebGPU", cpu: "the CPU" };
const milliseconds = (time) => `${time < 10 ? time.toFixed(1) : time.toFixed(0)} ms`;

function compared(times, counts) {
    const what = counts === "single" ? "one short text" : `a batch of ${TEXTS.length} texts`;
    const chosen = faster(times, counts);
    const other = chosen === "cpu" ? "webgpu" : "cpu";
    const slower = times[other][counts] === null ? `more than ${milliseconds(times[other].single)}` : milliseconds(times[other][counts]);
    return `${what} takes ${milliseconds(times[chosen][counts])} with ${NAMES[chosen]} and ${slower} with ${NAMES[other]}`;
}

// Returns the sentence about a choice, which `precision` contains.
function sentence({ requested, executor, optimizeFor, milliseconds: times, difference, measured, reason }) {
    const start = `adapter \`${requested}\``;
    if (reason) return `${start} uses ${executor === "best" ? "the best adapter without a measurement" : NAMES[executor]}, because ${reason}`;
    const when = measured === "earlier" ? " (measured at an earlier load)" : "";
    if (requested === "auto") return `${start} uses ${NAMES[executor]}: ${compared(times, optimizeFor)}${when}`;
    const bits = `a text's vector may differ in its last bits from call to call, by ${difference.toExponential(1)} in the ${TEXTS.length} texts that this load checked (allowed: ${MOST_DIFFERENCE})`;
    return `${start} uses WebGPU or the CPU for each call: ${compared(times, "single")}, ${compared(times, "batch")}${when}; ${bits}`;
}

// The codes of errors of the GPU. After such an error, `auto` and `mixed` use the CPU. Other errors are about the model
// or the options, and are passed on.
const GPU_FAILS = ["adapter", "device-fault", "device-lost", "out-of-memory", "too-large"];

// Loads a model with `auto` or `mixed`. `auto` keeps the executor that was measured to be faster, and `mixed` keeps both.
//
// The result has the `model`. With `mixed` it also has `both` models, and `pick(texts)`, which returns the name of the
// executor for a call.
export async function choose({ kind, requested, optimizeFor, options, opened, loadOn, machine }) {
    const about = { requested, optimizeFor, milliseconds: null, difference: null, measured: null, reason: null };
    const of = (facts) => {
        const choice = { ...about, ...facts };
        return { ...choice, text: sentence(choice) };
    };
    const cpuOnly = async (reason) => ({ model: await loadOn("cpu"), choice: of({ executor: "cpu", reason }) });
    const because = (name, { message }) => `the model cannot run on the ${name} (${message})`;
    const withoutGpu = (error) => {
        if (!GPU_FAILS.includes(error.code)) throw error;
        return cpuOnly(because("GPU", error));
    };

    if (!machine.adapters.some(({ backend }) => backend === "BrowserWebGpu")) return cpuOnly("there is no WebGPU here");
    if (requested === "auto" && !isMeasurable(opened.files)) {
        const model = await loadOn("auto");
        return { model, choice: of({ executor: "best", reason: "its weights take more than 128 MiB" }) };
    }
    const keeper = keeperOf(opened);
    const key = keyOf({ kind, files: opened.files, machine, options });
    const kept = (await keeper.read())[key] ?? null;
    if (requested === "auto" && kept) {
        const executor = faster(kept, optimizeFor);
        const choice = of({ executor, milliseconds: kept, measured: "earlier" });
        try {
            return { model: await loadOn(executor), choice };
        } catch (error) {
            if (executor === "cpu") throw error;
            return await withoutGpu(error);
        }
    }

    const both = {};
    try {
        try {
            both.webgpu = await loadOn("webgpu", 0, 2);
        } catch (error) {
            return await withoutGpu(error);
        }
        try {
            both.cpu = await loadOn("cpu", 1, 2);
        } catch (error) {
            if (requested === "mixed" || error.code === "aborted") throw error;
            return { model: both.webgpu, choice: of({ executor: "webgpu", reason: because("CPU", error) }) };
        }
        const difference = requested === "mixed" ? await checkAgreement(kind, both) : null;
        const milliseconds = kept ?? (await measure(kind, both));
        if (!kept) await keeper.write({ ...(await keeper.read()), [key]: milliseconds });
        const facts = { milliseconds, difference, measured: kept ? "earlier" : "now" };
        const executor = faster(milliseconds, requested === "mixed" ? "batch" : optimizeFor);
        if (requested === "mixed") return { model: both[executor], both, pick: predictor(milliseconds), choice: of({ ...facts, executor: "both" }) };
        both[executor === "cpu" ? "webgpu" : "cpu"].free();
        return { model: both[executor], choice: of({ ...facts, executor }) };
    } catch (error) {
        for (const model of Object.values(both)) model.free();
        throw error;
    }
}
