//! The encoding of text files: UTF-8, with or without a byte order mark.

use std::io::BufRead;
use std::path::Path;

use super::file::{Compression, InputFile, TextBytes};
use crate::cli::failure::Failure;

const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Skips the byte order mark of UTF-8 at the start of a file.
///
/// # Errors
/// Fails if the file is UTF-16. The message contains the command that converts it.
pub fn skip_byte_order_mark(reader: &mut TextBytes, file: &InputFile) -> Result<(), Failure> {
    let start = reader.fill_buf().map_err(|e| Failure::file(&file.path, "read", &e))?;
    if let Some(encoding) = utf_16(start) {
        return Err(Failure::user(format!(
            "{}: line 1: the file is UTF-16; {}",
            file.name,
            conversion(file, encoding)
        )));
    }
    if start.starts_with(UTF_8_MARK) {
        reader.consume(UTF_8_MARK.len());
    }
    Ok(())
}

/// Returns `iconv`'s name for the encoding of a file that starts with these bytes, or `None` if the file is not UTF-16.
/// A UTF-16 file is recognised with and without a byte order mark.
fn utf_16(start: &[u8]) -> Option<&'static str> {
    let ascii = |byte: u8| byte.is_ascii() && byte != 0;
    match *start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, 0, b, 0, ..] if ascii(a) && ascii(b) => Some("UTF-16LE"),
        [0, a, 0, b, ..] if ascii(a) && ascii(b) => Some("UTF-16BE"),
        _ => None,
    }
}

/// Returns the command that converts a file to UTF-8, as advice to the user.
fn conversion(file: &InputFile, encoding: &str) -> String {
    let iconv = format!("iconv -f {encoding} -t UTF-8");
    if &*file.name == "stdin" {
        return format!("pipe the text through `{iconv}` first");
    }
    let (_, plain) = Compression::of(&file.path);
    let extension = plain.extension().unwrap_or_default().to_string_lossy();
    let converted = quoted(&plain.with_extension(format!("utf8.{extension}")));
    let path = quoted(&file.path);
    let command = match file.compression {
        None => format!("{iconv} {path} > {converted}"),
        Some(Compression::Gzip) => format!("gzip -dc {path} | {iconv} > {converted}"),
        Some(Compression::Zstd) => format!("zstd -dc {path} | {iconv} > {converted}"),
    };
    format!("convert it to UTF-8: `{command}`")
}

/// Returns a path as one word of a shell command, in quotes if needed.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\:._-+".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// Returns the bytes as text. If `lossy` is set, U+FFFD replaces bytes that are not UTF-8.
///
/// # Errors
/// Fails if bytes are not UTF-8 and `lossy` is not set. The message names the first such byte.
pub fn utf8(bytes: &[u8], lossy: bool) -> Result<String, String> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(error) => Err(format!(
            "byte {} is not UTF-8; convert the file (for example `iconv -f WINDOWS-1252 -t UTF-8`), or replace \
             such bytes with --lossy",
            error.valid_up_to() + 1
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_is_recognised_with_and_without_a_mark() {
        assert_eq!(utf_16(b"\xff\xfea\0"), Some("UTF-16"));
        assert_eq!(utf_16(b"\xfe\xff\0a"), Some("UTF-16"));
        assert_eq!(utf_16(b"i\0d\0"), Some("UTF-16LE"));
        assert_eq!(utf_16(b"\0i\0d"), Some("UTF-16BE"));
        for other in [&b""[..], b"id", b"id,text", b"\xef\xbb\xbfid", b"\0\0\0\0", b"a\0\0\0"] {
            assert_eq!(utf_16(other), None, "{other:?}");
        }
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("data/a-1.txt")), "data/a-1.txt");
        assert_eq!(quoted(Path::new("my notes.txt")), "'my notes.txt'");
        assert_eq!(quoted(Path::new("it's.txt")), r"'it'\''s.txt'");
    }
}
