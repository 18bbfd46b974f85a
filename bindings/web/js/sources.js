// The files of a model. Every source becomes a list of files `{ name, size, read(offset, length) }`, where `read` returns
// an `Uint8Array` at once. Only the pieces that are being converted are then in memory.

import { download } from "./download.js";
import { fault } from "./errors.js";

export const inNode = typeof process === "object" && !!process.versions?.node;

// A file whose bytes are in memory.
export function ofBytes(name, bytes) {
    return { name, size: bytes.byteLength, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

// A file of the browser. A worker reads its slices at once; a page cannot, and holds the file in memory.
export async function ofBlob(name, blob) {
    if (typeof FileReaderSync === "undefined") return ofBytes(name, new Uint8Array(await blob.arrayBuffer()));
    const reader = new FileReaderSync();
    const read = (offset, length) => new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset, offset + length)));
    return { name, size: blob.size, read };
}

// The files of a list, with names relative to the model's directory.
async function ofList(list) {
    const files = [...list];
    const path = (file) => file.webkitRelativePath || file.name;
    // A directory that was picked or dropped comes before each name.
    const inDirectory = files.length > 0 && files.every((file) => path(file).includes("/"));
    const name = (file) => (inDirectory ? path(file).slice(path(file).indexOf("/") + 1) : path(file));
    return Promise.all(files.map((file) => ofBlob(name(file), file)));
}

async function ofHandle(handle, prefix = "") {
    const found = [];
    for await (const [name, entry] of handle.entries()) {
        if (entry.kind === "file") found.push(await ofBlob(prefix + name, await entry.getFile()));
        // Modules have directories of one level: `1_Pooling`.
        else if (prefix === "" && !name.startsWith(".")) found.push(...(await ofHandle(entry, `${name}/`)));
    }
    return found;
}

async function ofDirectory(path) {
    const fs = await import(/* @vite-ignore */ "node:fs");
    const { join } = await import(/* @vite-ignore */ "node:path");
    const found = [];
    const opened = [];
    const walk = (directory, prefix) => {
        for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
            const here = join(directory, entry.name);
            const stat = fs.statSync(here, { throwIfNoEntry: false });
            if (stat?.isDirectory() && prefix === "" && !entry.name.startsWith(".")) walk(here, `${entry.name}/`);
            if (!stat?.isFile()) continue;
            let file;
            const read = (offset, length) => {
                if (file === undefined) opened.push((file = fs.openSync(here, "r")));
                const bytes = new Uint8Array(length);
                const count = fs.readSync(file, bytes, 0, length, offset);
                return count === length ? bytes : bytes.subarray(0, count);
            };
            found.push({ name: prefix + entry.name, size: stat.size, read });
        }
    };
    walk(path, "");
    return { label: path, identity: path, files: found, close: () => opened.splice(0).forEach((file) => fs.closeSync(file)) };
}

async function directoryOf(model) {
    if (!inNode) return null;
    const fs = await import(/* @vite-ignore */ "node:fs");
    const { fileURLToPath } = await import(/* @vite-ignore */ "node:url");
    const path = model.startsWith("file:") ? fileURLToPath(model) : model;
    if (fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
    if (model.startsWith("file:")) throw fault("file", `${path}: there is no such directory`);
    return null;
}

const isBytes = (value) => value instanceof Uint8Array || value instanceof ArrayBuffer;

// Opens a model's files. `options` has `revision`, `cache`, `host`, `signal` and `onProgress`.
export async function open(model, options) {
    if (typeof model === "string" || model instanceof URL) {
        const directory = await directoryOf(String(model));
        return directory ? ofDirectory(directory) : download(String(model), options);
    }
    if (typeof FileSystemDirectoryHandle !== "undefined" && model instanceof FileSystemDirectoryHandle) {
        return { label: model.name, files: await ofHandle(model) };
    }
    const list = Array.isArray(model) || (typeof FileList !== "undefined" && model instanceof FileList);
    if (list && typeof Blob !== "undefined" && [...model].every((file) => file instanceof Blob && file.name)) {
        return { label: "files", files: await ofList(model) };
    }
    const entries = model instanceof Map ? [...model] : model?.constructor === Object ? Object.entries(model) : null;
    if (entries && entries.length > 0 && entries.every(([, bytes]) => isBytes(bytes))) {
        return { label: "bytes", files: entries.map(([name, bytes]) => ofBytes(name, new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, bytes.byteLength))) };
    }
    throw fault(
        "option",
        "model: is no source of a model; give a Hub name, the URL of a directory, a FileList, a directory handle, or an object with the bytes of each file",
    );
}
