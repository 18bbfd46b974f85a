// A server for the tests in a browser: directories below names, with Range, ETags, and faults on request.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html", ".wasm": "application/wasm", ".json": "application/json", ".css": "text/css" };

// Serves `directories` (name → directory) and `pages` (path → HTML). `log` gets every request. `cut(path)` may return the
// number of bytes after which the connection breaks.
export async function serve(directories, pages = {}) {
    const server = { log: [], cut: () => null, ranges: true, offline: false, cacheControl: "no-store" };
    const http = createServer((request, response) => {
        const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
        server.log.push({ path, range: request.headers.range ?? null });
        if (server.offline) return response.destroy();
        if (pages[path] !== undefined) return response.writeHead(200, { "content-type": "text/html" }).end(pages[path]);
        const [, name, ...rest] = path.split("/");
        const file = directories[name] && join(directories[name], normalize(rest.join("/")));
        const stat = file?.startsWith(directories[name]) && statSync(file, { throwIfNoEntry: false });
        if (!stat?.isFile()) return response.writeHead(404).end();
        const tag = `"${stat.size}-${stat.mtimeMs}"`;
        const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", etag: tag, "cache-control": server.cacheControl };
        const from = server.ranges && request.headers["if-range"] === tag ? Number(/^bytes=(\d+)-$/.exec(request.headers.range)?.[1] ?? 0) : 0;
        if (from > 0) headers["content-range"] = `bytes ${from}-${stat.size - 1}/${stat.size}`;
        headers["content-length"] = stat.size - from;
        response.writeHead(from > 0 ? 206 : 200, headers);
        const most = server.cut(path);
        const stream = createReadStream(file, { start: from });
        if (most !== null) {
            let sent = 0;
            stream.on("data", (chunk) => {
                response.write(chunk);
                if ((sent += chunk.length) >= most) {
                    stream.destroy();
                    response.destroy();
                }
            });
        } else {
            stream.pipe(response);
        }
    });
    await new Promise((done) => http.listen(0, "127.0.0.1", done));
    server.url = `http://localhost:${http.address().port}`;
    server.close = () => new Promise((done) => (http.closeAllConnections(), http.close(done)));
    return server;
}
