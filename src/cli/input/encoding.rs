//! Bytes as UTF-8 text.

/// The byte order mark of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes as text. Under `lossy`, bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// Names the first byte that is not UTF-8.
pub fn utf8(bytes: &[u8], lossy: bool) -> Result<String, String> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(error) => Err(format!(
            "byte {} is not UTF-8; convert the file (iconv -t UTF-8) or replace such bytes with --lossy",
            error.valid_up_to() + 1
        )),
    }
}
