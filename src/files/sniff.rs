//! Recognises files whose contents do not match their names.

/// Returns a message that names the format which the first bytes of a file indicate, and that tells the user what to
/// do.
///
/// Returns `None` if the file could be safetensors or JSON. `head` is the beginning of the file; 512 bytes suffice.
pub(crate) fn sniff(head: &[u8]) -> Option<&'static str> {
    // A safetensors file begins with the header's length in eight bytes, followed by `{`. This length can equal the
    // magic number of another format.
    if matches!(head.get(8), Some(b'{' | b' ')) {
        return None;
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"version https://git-lfs.github.com/spec") {
        return Some(
            "is a git-lfs pointer, not the file itself; run `git lfs pull` in the model's directory",
        );
    }
    let lower = text[..text.len().min(16)].to_ascii_lowercase();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
        return Some(
            "is an HTML page, probably an error page saved by a failed download; download the file again",
        );
    }
    let known: [(&[u8], &str); 7] = [
        (
            b"PK\x03\x04",
            "is a zip archive (a PyTorch checkpoint?), not safetensors; save the model with `safe_serialization=True`",
        ),
        (b"\x1f\x8b", "is gzip-compressed; unpack it with `gunzip`"),
        (b"\x28\xb5\x2f\xfd", "is zstd-compressed; unpack it with `unzstd`"),
        (b"GGUF", "is a GGUF file, not safetensors; use the original model's files"),
        (
            b"\x89HDF",
            "is an HDF5 file (TensorFlow weights), not safetensors; use the model's model.safetensors",
        ),
        (b"\x7fELF", "is a program, not a model file; download the file again"),
        (b"\xfd7zXZ", "is xz-compressed; unpack it with `unxz`"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(what);
    }
    if head.len() >= 2 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return Some(
            "is a Python pickle, which can run code when it is opened; save the model with `safe_serialization=True`",
        );
    }
    None
}
