// Every architecture in Node on Dawn, in every storage: the directories of tests/fixtures/families.
//
//     VECTILE_WEB_PACKAGE=dist/web VECTILE_DAWN=DIR node --test bindings/web/tests/families.test.mjs
//
// The gates are those of tests/golden/families.rs.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { FIXTURES, PACKAGE, distance, packageOf, tensor } from "./support.mjs";

const { Embedder } = await import(join(PACKAGE, "index.js"));
const dawn = await packageOf(process.env.VECTILE_DAWN ?? ".", "webgpu");
assert.ok(dawn, "VECTILE_DAWN names no directory with the package webgpu");
Object.assign(globalThis, dawn.globals);
const gpu = dawn.create(["backend=vulkan"]);
after(() => setTimeout(() => process.exit(), 100).unref());

const EXACT = { cosine: 0.999999, relative: 2e-5 };
const HALF = { cosine: 0.999, relative: 3e-2 };
const STORAGES = [
    ["float32", { dtype: "float32" }, "", EXACT],
    ["packed float16", { dtype: "float16", halfFallback: "packed", disable: ["shader-f16"] }, ".float16", EXACT],
    ["packed bfloat16", { dtype: "bfloat16" }, ".bfloat16", EXACT],
    ["float16 weights and activations", { dtype: "float16", halfFallback: "packed", activations: "f16" }, "", HALF],
];

const only = process.env.VECTILE_FAMILY ?? "";
const families = readdirSync(join(FIXTURES, "families")).filter((name) => name.includes(only) && existsSync(join(FIXTURES, "families", name, "fixture.json")));
assert.ok(families.length >= (only ? 1 : 40));

for (const [storage, options, suffix, gate] of STORAGES) {
    test(`${storage}: ${families.length} families`, async () => {
        let worst = 0;
        for (const name of families) {
            const directory = join(FIXTURES, "families", name);
            const encode = JSON.parse(readFileSync(join(directory, "fixture.json"))).tensors.embeddings.encode;
            const { prompt_name: promptName, prompt } = encode;
            const list = JSON.parse(readFileSync(join(directory, "texts.json")));
            const embedder = await Embedder.load(directory, { adapter: "webgpu", gpu, ...options });
            const call = { ...(promptName && { promptName }), ...(prompt !== undefined && { prompt }) };
            const rows = await embedder.embed(list, call);
            const { shape, values } = tensor(join(directory, "reference.safetensors"), `embeddings${suffix}`);
            assert.deepEqual([rows.length, rows.dimension], shape, name);
            const d = distance(rows.values, values, rows.dimension);
            const relative = d.maxAbs / values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
            worst = Math.max(worst, relative);
            assert.ok(d.minCosine >= gate.cosine && relative <= gate.relative, `${name}: ${JSON.stringify({ ...d, relative })}`);
            const at = list.length - 1;
            assert.deepEqual((await embedder.embed([list[at]], call)).row(0), rows.row(at), `${name}: alone and in a batch`);
            await embedder.close();
        }
        console.log(`${storage}: largest relative error ${worst.toExponential(1)}`);
    });
}
