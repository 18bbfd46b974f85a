// Errors with a `code`, as the library's own errors have one.

export function fault(code, message) {
    const error = new Error(message);
    error.code = code;
    if (code === "aborted") error.name = "AbortError";
    return error;
}

// The fields of an error that a worker can send, and the error made of them again.
export function pack(error) {
    const { name, message, code = "internal", text } = error ?? {};
    return { name, message: message ?? String(error), code, text };
}

export function unpack({ name, message, code, text }) {
    const error = fault(code, message);
    if (name && name !== "Error") error.name = name;
    if (text !== undefined) error.text = text;
    return error;
}
