// Runs a model in several precisions, round by round, and compares speed and vectors. This file has no page: `lab.js` shows
// the results. The report has the schema of `vectile bench --json`, whose fields are described in `src/lab/report.rs`.

import { Embedder } from "./vectile/index.js";

// The precisions in which a GPU may run a model: the name in reports, the name on the page, and the options that ask for it.
export const PRECISIONS = [
    { name: "f32", title: "f32", note: "weights and arithmetic in 32 bits", options: { dtype: "float32", halfFallback: "error" } },
    { name: "f16", title: "f16", note: "weights and arithmetic in 16 bits", options: { dtype: "float16", halfFallback: "error" } },
    { name: "packed_f16", title: "packed f16", note: "weights in 16 bits, arithmetic in 32", options: { dtype: "float16", halfFallback: "packed", disable: ["shader-f16"] } },
    { name: "packed_bf16", title: "packed bf16", note: "weights in bfloat16, arithmetic in 32 bits", options: { dtype: "bfloat16", halfFallback: "error" } },
];
export const CPU = { name: "cpu", title: "CPU", note: "f32 in WebAssembly on one core, without the GPU", options: { dtype: "float32" }, cpu: true };

// Vectors with a smaller cosine are wrong, and not only rounded.
const RIGHT = 0.95;
// A run lasts about this long, and has at most this number of tokens.
const RUN_SECONDS = 0.3;
const RUN_TOKENS = 1 << 18;
const QUERY_TOKENS = 8;
const SAMPLES = 10;
const TOP = 10;

const seconds = (since) => (performance.now() - since) / 1000;
// Lets the page handle its events.
const pause = () => new Promise((done) => setTimeout(done));

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The speed of `own` relative to `base`, from the rates of their rounds. The median is over rounds of the same number; the
// spread is over every pair of rounds.
export function ratio(base, own) {
    const rounds = Math.min(base.length, own.length);
    if (rounds === 0 || base === own) return { median: 1, low: 1, high: 1 };
    const pairs = Array.from({ length: rounds }, (_, at) => own[at] / base[at]);
    return { median: median(pairs), low: Math.min(...own) / Math.max(...base), high: Math.max(...own) / Math.min(...base) };
}

function cosine(a, b, from, dimension) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let at = from; at < from + dimension; at++) {
        dot += a[at] * b[at];
        aa += a[at] * a[at];
        bb += b[at] * b[at];
    }
    if (aa === 0 || bb === 0) return aa === bb ? 1 : 0;
    return dot / Math.sqrt(aa * bb);
}

// For each row, the indices of the nearest other rows by cosine.
async function neighbours({ values, dimension, length }) {
    const unit = new Float64Array(values);
    for (let row = 0; row < length; row++) {
        const own = unit.subarray(row * dimension, (row + 1) * dimension);
        const norm = Math.sqrt(own.reduce((sum, value) => sum + value * value, 0)) || 1;
        for (let at = 0; at < dimension; at++) own[at] /= norm;
    }
    const found = [];
    let since = performance.now();
    for (let row = 0; row < length; row++) {
        const near = [];
        for (let other = 0; other < length; other++) {
            if (other === row) continue;
            let dot = 0;
            for (let at = 0; at < dimension; at++) dot += unit[row * dimension + at] * unit[other * dimension + at];
            near.push([dot, other]);
        }
        near.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
        found.push(new Set(near.slice(0, TOP).map(([, other]) => other)));
        if (performance.now() - since > 10) {
            await pause();
            since = performance.now();
        }
    }
    return found;
}

// The differences between rows and the f32 rows of the same texts.
async function accuracy(base, own) {
    let [maxAbs, sum, min] = [0, 0, 1];
    for (let at = 0; at < own.values.length; at++) {
        const difference = Math.abs(base.values[at] - own.values[at]);
        // A NaN counts as wrong, because no comparison with it is true.
        if (!(difference <= maxAbs)) maxAbs = difference;
    }
    for (let row = 0; row < own.length; row++) {
        const one = base === own ? 1 : Math.min(1, cosine(base.values, own.values, row * own.dimension, own.dimension));
        sum += one;
        if (!(one >= min)) min = one;
    }
    let overlap = 1;
    if (base !== own) {
        base.near ??= await neighbours(base);
        const near = await neighbours(own);
        const all = base.near.reduce((all, { size }) => all + size, 0);
        const both = base.near.reduce((both, one, row) => both + [...one].filter((other) => near[row].has(other)).length, 0);
        overlap = all === 0 ? 1 : both / all;
    }
    return { texts: own.length, min_cosine: min, mean_cosine: sum / own.length, max_abs: maxAbs, top10_overlap: overlap, spearman: null };
}

// Texts of a number of tokens, made of consecutive words of a corpus, as `vectile bench` makes them.
async function ofLength(embedder, corpus, tokens, count) {
    const words = corpus.flatMap((text) => text.split(/\s+/)).filter(Boolean);
    if (words.length === 0) throw new Error("The texts have no words; give texts with at least one word.");
    const distinct = Math.min(count, words.length, 256);
    // The step is prime, so that texts start at different words.
    const run = (text, length) => Array.from({ length }, (_, at) => words[(text * 7919 + at) % words.length]).join(" ");
    // The maximum number of words that fit, by bisection. Each word has at least one token.
    const [fits, many] = [Array(distinct).fill(1), Array(distinct).fill(tokens + 1)];
    for (;;) {
        const open = fits.map((_, text) => text).filter((text) => many[text] - fits[text] > 1);
        if (open.length === 0) break;
        const middle = (text) => (fits[text] + many[text]) >> 1;
        const lengths = (await embedder.tokenize(open.map((text) => run(text, middle(text))))).map(({ length }) => length);
        open.forEach((text, at) => (lengths[at] <= tokens ? (fits[text] = middle(text)) : (many[text] = middle(text))));
    }
    return fits.map((length, text) => run(text, length));
}

const repeated = (texts, count) => Array.from({ length: count }, (_, at) => texts[at % texts.length]);

// Loads a model in one precision. Throws with a reason if it would run in another one.
async function load(model, precision, { signal, onProgress, from, until }) {
    let started = performance.now();
    const loading = Embedder.load(model, {
        ...from,
        ...precision.options,
        adapter: precision.cpu ? "cpu" : "webgpu",
        signal,
        onProgress(progress) {
            // The worker ends a load that was stopped only after its shaders.
            if (signal.aborted) return;
            // A download is not a part of the load.
            if (progress.stage === "download") started = performance.now();
            onProgress(progress);
        },
    });
    const embedder = await until(loading).catch((error) => {
        // A load that was stopped may still end with a model.
        if (signal.aborted) loading.then((late) => late.close(), () => {});
        throw error;
    });
    const { weights, activations } = embedder.precision;
    const usual = weights === "f16" ? "f16" : "f32";
    const runs = activations === usual ? weights : `${weights}/${activations}`;
    if (weights !== (precision.cpu ? "f32" : precision.name)) {
        await embedder.close();
        throw Object.assign(new Error(`it would run with ${embedder.precision}`), { code: "option" });
    }
    const title = activations === usual ? precision.title : `${precision.title}, activations ${activations}`;
    return { ...precision, runs, title, embedder, load_s: seconds(started), cells: [], latency: [], rows: null };
}

// The number of texts whose run takes long enough to be timed.
async function suitable(embed, texts, tokens) {
    const most = Math.max(1, Math.floor(RUN_TOKENS / tokens));
    let count = 1;
    await embed(repeated(texts, count));
    for (;;) {
        const since = performance.now();
        await embed(repeated(texts, count));
        const took = seconds(since);
        if (took >= RUN_SECONDS || count === most) return count;
        count = Math.min(most, Math.max(count + 1, Math.min(count * 8, Math.ceil((count * RUN_SECONDS * 1.2) / Math.max(took, 1e-4)))));
    }
}

export class Bench {
    // `options`: model, from, precisions, texts ({ name, list }), quick, rounds, signal.
    // `events`: step(text, done, all), progress(progress), change().
    constructor(options, events) {
        Object.assign(this, options, { events, entrants: [], refused: [], round: 0, started: new Date() });
        this.lengths = options.texts.name === "built-in" ? (this.quick ? [16, 128] : [16, 64, 256]) : [0];
        this.all = this.precisions.length * 2;
        this.done = 0;
        this.stopped = new Promise((_, stop) => this.signal.addEventListener("abort", () => stop(this.signal.reason), { once: true }));
        this.stopped.catch(() => {});
        this.pending = null;
    }

    // Waits for a call, but not beyond a stop: a batch, or the shaders of a model, may take seconds.
    #until(call) {
        this.pending = call;
        return Promise.race([call, this.stopped]);
    }

    #embed({ embedder }, texts) {
        return this.#until(embedder.embed(texts, { signal: this.signal }));
    }

    // The seconds that a run takes.
    async #timed(entrant, texts) {
        const since = performance.now();
        await this.#embed(entrant, texts);
        return seconds(since);
    }

    // The entrants of the GPU, and those of the CPU. Each group has its own f32.
    groups() {
        return [this.entrants.filter(({ cpu }) => !cpu), this.entrants.filter(({ cpu }) => cpu)].filter((group) => group.length > 0);
    }

    base(entrant) {
        return this.groups().find((group) => group.includes(entrant))[0];
    }

    #step(text) {
        this.signal.throwIfAborted();
        this.events.step(text, this.done++, Math.max(this.all, this.done));
    }

    // A precision that cannot run is refused with the reason. An abort, and a failure of the first one, end the bench.
    async #attempt(precision, work) {
        try {
            return await work();
        } catch (error) {
            this.signal.throwIfAborted();
            if (this.entrants.length === 0 || this.entrants[0].name === precision.name) throw error;
            this.#refuse(precision, error);
        }
    }

    #refuse({ name, title, cpu, embedder }, { message, wrong = false }) {
        this.refused.push({ name, title, cpu, reason: message, wrong });
        this.entrants = this.entrants.filter((one) => one.name !== name);
        embedder?.close();
        this.events.change();
    }

    async run() {
        try {
            for (const precision of this.precisions) {
                this.#step(`Loading ${precision.title}`);
                await this.#attempt(precision, async () => {
                    const entrant = await load(this.model, precision, { ...this, onProgress: this.events.progress, until: (call) => this.#until(call) });
                    this.entrants.push(entrant);
                    await this.#cold(entrant);
                });
            }
            await this.#facts();
            await this.#accuracies();
            await this.#prepare();
            this.all = this.done + this.rounds * this.entrants.length * (this.lengths.length + 1);
            for (; this.round < this.rounds; ) await this.#round();
        } finally {
            this.wall_s = (Date.now() - this.started) / 1000;
            // A call that was stopped still uses its model, so the models close after it.
            const close = () => this.entrants.forEach(({ embedder }) => embedder.close());
            Promise.resolve(this.pending).then(close, close);
        }
    }

    async #cold(entrant) {
        const few = this.texts.list.slice(0, 8);
        const first = await this.#timed(entrant, few);
        entrant.cold = { load_s: entrant.load_s, pipelines_s: 0, first_batch_s: first, warm_batch_s: await this.#timed(entrant, few), first_vector_s: entrant.load_s + first };
        this.events.change();
    }

    async #facts() {
        for (const entrant of this.entrants) entrant.facts = await entrant.embedder.inspect();
        const [{ embedder }] = this.entrants;
        this.#step("Hashing the weights");
        this.sha256 = await embedder.weightsSha256({ signal: this.signal });
        // Lengths beyond the model's maximum would be the same texts again.
        const most = embedder.maxSeqLength ?? 512;
        this.lengths = [...new Set(this.lengths.map((length) => Math.min(length, most)))];
    }

    async #accuracies() {
        const texts = this.texts.list.slice(0, this.quick ? 48 : 500);
        for (const entrant of [...this.entrants]) {
            this.#step(`Vectors of ${entrant.title}`);
            await this.#attempt(entrant, async () => {
                entrant.rows = await this.#embed(entrant, texts);
                const first = this.entrants[0].rows;
                entrant.accuracy = await accuracy(first, entrant.rows);
                if (!(entrant.accuracy.min_cosine >= RIGHT)) {
                    const problem = `its vectors are wrong: their smallest cosine with those of f32 is ${entrant.accuracy.min_cosine.toFixed(4)}`;
                    throw Object.assign(new Error(problem), { wrong: true });
                }
                this.events.change();
            });
        }
    }

    // Makes the texts of each cell, and runs them once: pipelines are compiled before anything is timed.
    async #prepare() {
        const [first] = this.entrants;
        this.query = await ofLength(first.embedder, this.texts.list, QUERY_TOKENS, 1);
        const counts = new Map();
        for (const [at, length] of this.lengths.entries()) {
            const texts = length === 0 ? this.texts.list : await ofLength(first.embedder, this.texts.list, length, 256);
            for (const entrant of [...this.entrants]) {
                this.#step(`Warming up ${entrant.title}`);
                await this.#attempt(entrant, async () => {
                    const key = `${this.base(entrant).name} ${at}`;
                    if (!counts.has(key)) counts.set(key, await suitable((some) => this.#embed(entrant, some), texts, length || 64));
                    const run = repeated(texts, counts.get(key));
                    const { tokens } = await this.#embed(entrant, run);
                    entrant.queryTokens = (await this.#embed(entrant, this.query)).tokens;
                    entrant.cells[at] = { length, run, texts: run.length, tokens, rounds_s: [] };
                });
            }
        }
    }

    async #round() {
        const name = `Round ${this.round + 1} of ${this.rounds}`;
        // Each round begins with another precision, so that none always runs on a GPU that just rested.
        const order = this.entrants.map((_, at) => this.entrants[(at + this.round) % this.entrants.length]);
        const cells = new Map(order.map((entrant) => [entrant, []]));
        const short = new Map(order.map((entrant) => [entrant, []]));
        for (const at of this.lengths.keys()) {
            for (const entrant of order) {
                if (!this.entrants.includes(entrant)) continue;
                this.#step(`${name}: ${entrant.title}`);
                await this.#attempt(entrant, async () => cells.get(entrant).push(await this.#timed(entrant, entrant.cells[at].run)));
            }
        }
        for (let sample = 0; sample < SAMPLES; sample++) {
            for (const entrant of order) {
                if (!this.entrants.includes(entrant)) continue;
                if (sample === 0) this.#step(`${name}: one short text, ${entrant.title}`);
                await this.#attempt(entrant, async () => short.get(entrant).push((await this.#timed(entrant, this.query)) * 1000));
            }
        }
        // A round counts as a whole, so that every precision has the same number of rounds.
        for (const entrant of this.entrants) {
            cells.get(entrant).forEach((time, at) => entrant.cells[at].rounds_s.push(time));
            entrant.latency.push(short.get(entrant));
        }
        this.round++;
        this.events.change();
    }

    // The results of a cell, once there is a round.
    cell(entrant, at) {
        const cell = entrant.cells[at];
        if (!cell || cell.rounds_s.length === 0) return null;
        const rates = (one) => one.cells[at].rounds_s.map((time) => one.cells[at].tokens / time);
        const middle = median(cell.rounds_s);
        const against = (base) => (base === entrant ? { median: 1, low: 1, high: 1 } : ratio(rates(base), rates(entrant)));
        return { ...cell, texts_per_s: cell.texts / middle, tokens_per_s: cell.tokens / middle, speedup: against(this.base(entrant)), overall: against(this.entrants[0]) };
    }

    short(entrant) {
        const times = entrant.latency.flat().sort((a, b) => a - b);
        if (times.length === 0) return null;
        const rates = (one) => one.latency.map((round) => 1 / median(round));
        const base = this.base(entrant);
        return {
            tokens: entrant.queryTokens,
            samples: times.length,
            p50_ms: median(times),
            p95_ms: times[Math.ceil(times.length * 0.95) - 1],
            speedup: base === entrant ? { median: 1, low: 1, high: 1 } : ratio(rates(base), rates(entrant)),
        };
    }

    // The report, as `vectile bench --compare` reads it. `facts`: vectile (the version), label, host, name (of the model).
    async report({ vectile, label, host, name, adapterName }) {
        const [{ facts, embedder }] = this.entrants;
        const adapters = [];
        for (const group of this.groups()) {
            const { adapter, kernels } = group[0].facts;
            const precisions = [];
            for (const entrant of group) precisions.push(await this.#precision(entrant, group[0]));
            const refused = this.refused.filter(({ cpu }) => !!cpu === !!group[0].cpu).map(({ name, reason }) => ({ precision: name, reason }));
            adapters.push({
                adapter: { ...adapter, name: adapter.name || adapterName },
                disabled: [],
                timestamps: false,
                kernels: kernels.family === "gpu" ? "gpu" : "software",
                precisions,
                refused,
                kernel_sweep: [],
            });
        }
        return {
            schema: "vectile-bench/1",
            vectile,
            date: this.started.toISOString(),
            label,
            host,
            model: {
                name,
                model_type: facts.model_type,
                modules: facts.modules.map(({ kind, settings }) => `${kind}: ${settings}`),
                sha256: this.sha256,
                dimension: embedder.dimension,
                max_seq_length: embedder.maxSeqLength,
            },
            settings: { quick: this.quick, rounds: this.round, texts: this.texts.name, accuracy_texts: this.entrants[0].rows.length, pairs: null },
            adapters,
            wall_s: this.wall_s,
        };
    }

    async #precision(entrant, base) {
        const { precision, kernels, activation_bytes, batch_tokens } = entrant.facts;
        const cells = this.lengths.map((length, at) => {
            const { texts, tokens, rounds_s, texts_per_s, tokens_per_s, speedup } = this.cell(entrant, at);
            return { batch_tokens, text_tokens: length, texts, tokens, rounds_s, texts_per_s, tokens_per_s, speedup };
        });
        const last = cells.at(-1);
        return {
            name: entrant.runs,
            precision,
            weights: precision.weights,
            activations: precision.activations,
            kernels: `${kernels.family}, matmul by ${kernels.matmul}${kernels.because ? ` (${kernels.because})` : ""}`,
            weight_bytes: precision.weight_bytes,
            peak_activation_bytes: activation_bytes,
            accuracy: entrant.accuracy && (await accuracy(base.rows, entrant.rows)),
            cold: entrant.cold,
            latency: this.short(entrant),
            cells,
            // A page sees no phases of a run, and no time of the GPU.
            host: { batches: 0, tokens: last.tokens, tokenize_ms: 0, pack_ms: 0, upload_ms: 0, encode_ms: 0, submit_ms: 0, wait_ms: 0, read_back_ms: 0, total_ms: median(last.rounds_s) * 1000 },
            gpu: null,
        };
    }
}
