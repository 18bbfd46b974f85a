// transformers.js in headless Chromium as a peer: `node transformers_js_peer.mjs NODE_MODULES MODELS CHROMIUM wasm|webgpu`, where MODELS/model
// is the output of export_onnx.py. The protocol is that of protocol.rs. A local server provides all files of the page, so the page needs no network.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const [modules, models, chromium, device] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), 'here.js'));
const { chromium: browsers } = require('playwright-core');
const here = import.meta.dirname;
const types = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };
const roots = { modules, models };

// Only with both of these headers may the page use threads.
const server = http.createServer((request, response) => {
    const [, root, ...rest] = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).split('/');
    const file = root === '' ? path.join(here, 'transformers_js_page.html') : path.join(roots[root] ?? here, ...rest);
    const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
    if (!roots[root] && root !== '' || rest.includes('..') || !fs.existsSync(file) || !fs.statSync(file).isFile()) {
        response.writeHead(404, headers).end();
        return;
    }
    response.writeHead(200, { ...headers, 'Content-Type': types[path.extname(file)] ?? 'application/octet-stream', 'Content-Length': fs.statSync(file).size });
    fs.createReadStream(file).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'peer-browser-'));
const context = await browsers.launchPersistentContext(profile, { executablePath: chromium, headless: false, args: ['--headless=new', '--no-sandbox', '--enable-unsafe-webgpu'] });
const page = await context.newPage();
page.setDefaultTimeout(0);
page.on('console', (message) => process.stderr.write(`page: ${message.text()}\n`));
await page.goto(`http://127.0.0.1:${server.address().port}/`);

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const version = (name) => JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'))).version;
const about = await page.evaluate(([device, threads]) => globalThis.load(device, threads), [device, os.cpus().length]);
say({ versions: { 'transformers.js': version('@huggingface/transformers'), 'onnxruntime-web': version('onnxruntime-web'), chromium: context.browser()?.version() ?? about.browser }, device: about.device });

function npy(file, rows, values) {
    let header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${values.length / 4 / rows}), }`;
    header = header.padEnd(header.length + 63 - (10 + header.length) % 64) + '\n';
    const length = Buffer.alloc(2);
    length.writeUInt16LE(header.length);
    fs.writeFileSync(file, Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, Buffer.from(header), values]));
}

for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
        const request = JSON.parse(line);
        const texts = fs.readFileSync(request.texts, 'utf8').split('\n').filter((text) => text !== '');
        const seconds = [];
        let tokens = 0;
        for (let i = 0; i < (request.repeat ?? 1); i++) {
            const answer = await page.evaluate((texts) => globalThis.embed(texts), texts);
            seconds.push(answer.seconds);
            tokens = answer.tokens;
            if (i === 0 && request.npy) npy(request.npy, texts.length, Buffer.from(answer.values, 'base64'));
        }
        say({ seconds, tokens });
    } catch (error) {
        say({ error: String(error) });
    }
}
await context.close();
server.close();
fs.rmSync(profile, { recursive: true, force: true });
