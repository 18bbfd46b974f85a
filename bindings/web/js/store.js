// Files of models in the browser's private file system, which only this site can read. Each file has a note with its
// ETag, its size and whether it is whole.

import { fault } from "./errors.js";
import { ofBlob } from "./sources.js";

const DIRECTORY = "vectile";

async function nameOf(url) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, 40);
}

// Returns the store, or `null` where there is none: outside workers, in Node, and on pages without HTTPS.
export async function store() {
    const sync = typeof FileSystemFileHandle !== "undefined" && "createSyncAccessHandle" in FileSystemFileHandle.prototype;
    if (!sync || typeof FileReaderSync === "undefined" || !globalThis.crypto?.subtle) return null;
    try {
        const root = await navigator.storage.getDirectory();
        return new Store(await root.getDirectoryHandle(DIRECTORY, { create: true }));
    } catch {
        // Private windows of some browsers have no file system.
        return null;
    }
}

// The bytes that all models of this site take, and removal of all of them.
export async function storedBytes() {
    const root = await navigator.storage.getDirectory();
    let bytes = 0;
    try {
        const directory = await root.getDirectoryHandle(DIRECTORY);
        for await (const handle of directory.values()) bytes += (await handle.getFile()).size;
    } catch {
        // Nothing is stored yet.
    }
    return bytes;
}

export async function clearStored() {
    const root = await navigator.storage.getDirectory();
    await root.removeEntry(DIRECTORY, { recursive: true }).catch(() => {});
}

// A stored file. While a model loads, an open handle reads into one buffer, so that no buffers pile up. Another tab may
// hold the file, and a device that was lost reads it again later: then its slices are read.
async function stored(name, handle) {
    const file = await ofBlob(name, await handle.getFile());
    let access = await handle.createSyncAccessHandle({ mode: "read-only" }).catch(() => null);
    let buffer = new Uint8Array(0);
    return {
        ...file,
        read(offset, length) {
            if (!access) return file.read(offset, length);
            if (buffer.byteLength < length) buffer = new Uint8Array(length);
            const count = access.read(buffer.subarray(0, length), { at: offset });
            return buffer.subarray(0, count);
        },
        release() {
            access?.close();
            access = null;
            buffer = new Uint8Array(0);
        },
    };
}

class Store {
    constructor(directory) {
        this.directory = directory;
    }

    async #read(name) {
        const handle = await this.directory.getFileHandle(name).catch(() => null);
        return handle?.getFile() ?? null;
    }

    async #note(url) {
        const file = await this.#read(`${await nameOf(url)}.json`);
        try {
            return file ? JSON.parse(await file.text()) : null;
        } catch {
            return null;
        }
    }

    async #write(name, value) {
        const handle = await this.directory.getFileHandle(name, { create: true });
        const access = await handle.createSyncAccessHandle();
        try {
            access.truncate(0);
            access.write(new TextEncoder().encode(JSON.stringify(value)), { at: 0 });
            access.flush();
        } finally {
            access.close();
        }
    }

    // The file at this URL, if all of it is stored.
    async whole(url, name) {
        const note = await this.#note(url);
        if (!note?.whole) return null;
        const handle = await this.directory.getFileHandle(`${await nameOf(url)}.bin`).catch(() => null);
        const size = handle && (await handle.getFile()).size;
        return size === note.size ? stored(name, handle) : null;
    }

    // The bytes of a part that can be resumed.
    async part(url) {
        const note = await this.#note(url);
        return note?.tag ? ((await this.#read(`${await nameOf(url)}.bin`))?.size ?? 0) : 0;
    }

    async tag(url) {
        return (await this.#note(url))?.tag ?? null;
    }

    // Opens a file for appending. Returns `null` if another tab writes it at this moment; this tab then keeps its own copy.
    async writer(url) {
        const name = await nameOf(url);
        const handle = await this.directory.getFileHandle(`${name}.bin`, { create: true });
        let access;
        try {
            access = await handle.createSyncAccessHandle();
        } catch {
            return null;
        }
        let length = access.getSize();
        const write = (note) => this.#write(`${name}.json`, note);
        return {
            tag: null,
            length: () => length,
            begin: (tag, size) => write({ url, tag, size, whole: false }),
            append(chunk) {
                if (access.write(chunk, { at: length }) !== chunk.byteLength) {
                    throw fault("quota", `${url}: the browser has no space left to store the model; free space, or load it with cache: "none"`);
                }
                length += chunk.byteLength;
            },
            restart() {
                access.truncate(0);
                length = 0;
            },
            async finish() {
                access.flush();
                await write({ url, size: length, whole: true });
            },
            close: () => access.close(),
            async file(named) {
                access.close();
                return stored(named, handle);
            },
        };
    }

    async list(base) {
        return (await this.#note(`${base} list`))?.names ?? null;
    }

    async remember(base, names) {
        await this.#write(`${await nameOf(`${base} list`)}.json`, { base, names });
    }

    // The measurements by which `adapter: "auto"` chose, beside the model: see choose.js.
    choices(base) {
        const url = `${base} choices`;
        return {
            read: async () => (await this.#note(url))?.choices ?? {},
            write: async (choices) => this.#write(`${await nameOf(url)}.json`, { base, choices }),
        };
    }

    // Removes the notes of a directory, so that its files are asked for again.
    async forget(base) {
        const names = (await this.list(base)) ?? [];
        for (const url of [`${base} list`, `${base} choices`, ...names.map((name) => base + name)]) {
            await this.directory.removeEntry(`${await nameOf(url)}.json`).catch(() => {});
            await this.directory.removeEntry(`${await nameOf(url)}.bin`).catch(() => {});
        }
    }
}
