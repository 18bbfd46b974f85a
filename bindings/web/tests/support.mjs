// What the tests share: the package under test, the fixtures, and distances.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
export const FIXTURES = join(ROOT, "tests/fixtures");

// The directory of the package that is tested.
export const PACKAGE = resolve(process.env.VECTILE_WEB_PACKAGE ?? join(ROOT, "dist/web"));
export const MODEL = process.env.VECTILE_TEST_MODEL && resolve(process.env.VECTILE_TEST_MODEL);

// A package of another directory, or null if it is not installed there.
export async function packageOf(directory, name) {
    const require = createRequire(join(resolve(directory), "here.js"));
    try {
        return await import(pathToFileURL(require.resolve(name)));
    } catch (error) {
        if (error.code === "MODULE_NOT_FOUND") return null;
        throw error;
    }
}

const lines = (file) =>
    readFileSync(file, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line));

// The 236 reference texts.
export const texts = () => lines(join(FIXTURES, "minilm/texts.jsonl")).map((line) => line.text);

// A tensor of f32 or f64 in a safetensors file.
export function tensor(file, name) {
    const bytes = readFileSync(file);
    const length = Number(bytes.readBigUInt64LE(0));
    const entry = JSON.parse(bytes.subarray(8, 8 + length).toString())[name];
    const Values = { F32: Float32Array, F64: Float64Array }[entry?.dtype];
    if (!Values) throw new Error(`${file} has no tensor ${name} of f32 or f64`);
    const data = bytes.subarray(8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1]);
    return { shape: entry.shape, values: new Values(data.buffer.slice(data.byteOffset, data.byteOffset + data.length)) };
}

// The largest difference of a value, and the smallest cosine of a row.
export function distance(got, expected, dimension) {
    if (got.length !== expected.length) throw new Error(`${got.length} values instead of ${expected.length}`);
    let maxAbs = 0;
    let minCosine = 1;
    for (let start = 0; start < got.length; start += dimension) {
        let [dot, a, b] = [0, 0, 0];
        for (let at = start; at < start + dimension; at++) {
            const difference = Math.abs(got[at] - expected[at]);
            // A NaN fails, because no comparison with it is true.
            if (!(difference <= maxAbs)) maxAbs = difference;
            dot += got[at] * expected[at];
            a += got[at] ** 2;
            b += expected[at] ** 2;
        }
        const cosine = dot / Math.sqrt(a * b);
        if (!(cosine >= minCosine)) minCosine = cosine;
    }
    return { maxAbs, minCosine };
}

// Lets `vectile bench --compare` read a report. The program is VECTILE_PROGRAM, or one that is built in this checkout.
export function compareReports(t, report) {
    const built = ["release", "debug"].map((profile) => join(ROOT, "target", profile, "vectile"));
    const program = [process.env.VECTILE_PROGRAM, ...built].find((path) => path && existsSync(path));
    if (!program) return t.diagnostic("SKIPPED: `vectile bench --compare` (no program is built; VECTILE_PROGRAM names one)");
    const directory = mkdtempSync(join(tmpdir(), "vectile-reports-"));
    try {
        const files = ["one.json", "two.json"].map((name) => join(directory, name));
        for (const file of files) writeFileSync(file, JSON.stringify(report));
        const { status, stdout, stderr } = spawnSync(program, ["bench", "--compare", ...files], { encoding: "utf8" });
        assert.equal(status, 0, stderr);
        for (const { precisions } of report.adapters) for (const { name } of precisions) assert.match(stdout, new RegExp(`^${name}, `, "m"));
    } finally {
        rmSync(directory, { recursive: true });
    }
}
