// Says in sentences which precision is fastest, and whether its vectors are right. This file needs no page.

import { number } from "./number.js";

// Vectors whose smallest cosine with f32 is above this are called right: the order of search results hardly depends on them.
const EXACT = 0.999;

// Ratios have two decimals, and small ones two digits.
const short = (value) => value.toFixed(value < 0.1 ? 3 : 2);
export const times = (ratio) => `${short(ratio.median)}×`;
export const spread = (ratio) => `${short(ratio.low)}–${short(ratio.high)}`;
export const power = (value) => (value === 0 ? "0" : value.toExponential(1).replace(/e([+-])(\d+)/, (_, sign, digits) => ` × 10${sign === "-" ? "⁻" : ""}${[...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`));

// A cosine rounded down to its first digits that are not 9, so that "at least" holds.
export function floor(cosine) {
    const away = 1 - cosine;
    if (away <= 1e-12) return "1";
    const digits = Math.min(12, Math.max(2, Math.ceil(-Math.log10(away))));
    return (Math.floor(cosine * 10 ** digits) / 10 ** digits).toFixed(digits);
}

// The texts of a cell, in words.
export function sized(length) {
    if (length === 0) return "your texts";
    return `texts of ${length} tokens`;
}

// Whether a precision is faster over all pairs of rounds.
function speedOf({ overall, rounds_s }) {
    if (rounds_s.length < 2) return "unknown";
    if (overall.low > 1) return "faster";
    if (overall.high < 1) return "slower";
    return "unclear";
}

// A precision as the subject or object of a sentence.
const named = ({ cpu, title }) => (cpu ? "the CPU" : title);
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function accuracyOf({ accuracy: { min_cosine, max_abs } }) {
    if (floor(min_cosine) === "1") return `its vectors are those of f32 up to ${power(max_abs)}`;
    return `the cosine of each of its vectors with that of f32 is at least ${floor(min_cosine)}`;
}

// How f16 compares with f32: the short answer, and the sentences with the numbers.
function answer(f16, cell, texts, on) {
    const { overall } = cell;
    const exact = f16.accuracy.min_cosine >= EXACT;
    const speed = speedOf(cell);
    const found = {
        faster: `f16 is ${times(overall)} as fast as f32 here`,
        slower: `f16 is slower than f32 here, at ${times(overall)} its speed`,
        unclear: "f16 is neither clearly faster nor slower than f32 here",
        unknown: `f16 was ${times(overall)} as fast as f32 here, in one round`,
    }[speed];
    const yes = { faster: exact ? "Yes: " : "Faster, but not exact: ", slower: "No: ", unclear: "No: ", unknown: "" }[speed];
    const neighbours = (f16.accuracy.top10_overlap * 100).toFixed(1);
    return {
        headline: `${yes}${found}, and its vectors are ${exact ? "right" : "visibly different"}.`,
        sentences: [
            `On ${on}, f16 has ${times(overall)} (${spread(overall)}) the speed of f32 on ${texts}; ${accuracyOf(f16)}.`,
            `Of the ten nearest texts of each text, ${neighbours}% are the same as in f32.`,
        ],
    };
}

// The answer to the page's question, and sentences about the other precisions. `gpu` has a name and says whether the GPU
// has f16; it is null without a GPU.
export function verdict(bench, gpu) {
    const last = bench.lengths.length - 1;
    const texts = sized(bench.lengths[last]);
    const [base] = bench.entrants;
    const cell = (entrant) => bench.cell(entrant, last);
    const f16 = bench.entrants.find(({ name }) => name === "f16");
    const refused = bench.refused.find(({ name }) => name === "f16");
    const rest = [];
    let found = { headline: "f16 was not chosen.", sentences: [] };
    if (!gpu) found = { headline: "Without WebGPU, f16 cannot be compared here.", sentences: [] };
    else if (f16) found = answer(f16, cell(f16), texts, gpu.name);
    else if (refused && !gpu.f16) found = { headline: "f16 cannot run here: this GPU, or this browser, has no f16 in shaders.", sentences: ["Packed f16 and packed bf16 store weights in 16 bits, and compute in 32 bits."] };
    else if (refused?.wrong) found = { headline: "No: the vectors of f16 are wrong here.", sentences: [sentence(`f16 was not timed, because ${refused.reason}`)] };
    else if (refused) found = { headline: "f16 did not run here.", sentences: [] };
    if (bench.entrants.length > 1) {
        const fastest = bench.entrants.reduce((best, one) => (cell(one).tokens_per_s > cell(best).tokens_per_s ? one : best));
        const { overall, texts_per_s } = cell(fastest);
        if (fastest === base) rest.push(sentence(`${named(base)} is the fastest on ${texts}, with ${number(texts_per_s)} texts per second`));
        else if (fastest !== f16 || speedOf(cell(f16)) !== "faster") {
            const lead = speedOf(cell(fastest)) === "faster" ? "is the fastest" : "has the highest median speed, but no clear lead,";
            rest.push(sentence(`${named(fastest)} ${lead} on ${texts}, at ${times(overall)} (${spread(overall)}) the speed of ${named(base)}; ${accuracyOf(fastest)}`));
        }
        const quickest = bench.entrants.reduce((best, one) => (bench.short(one).p50_ms < bench.short(best).p50_ms ? one : best));
        rest.push(sentence(`${named(quickest)} is the quickest for one short text, with a median of ${number(bench.short(quickest).p50_ms)} ms`));
    } else {
        rest.push(sentence(`${named(base)} embeds ${number(cell(base).texts_per_s)} ${texts} per second`));
    }
    if (bench.round < bench.rounds) rest.push(`Only ${bench.round} of ${bench.rounds} rounds have run.`);
    return { headline: found.headline, sentences: [...found.sentences, ...rest] };
}
