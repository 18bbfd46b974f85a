//! Finds and replaces unpaired surrogate escapes in JSON, such as half of an emoji.
//!
//! JavaScript's `slice` cuts strings between UTF-16 units, so half of an emoji can be sent as `\ud83d` alone. JSON's
//! grammar allows this escape. The escape alone is not a character, so a Rust string cannot hold it.

use std::borrow::Cow;

/// Length of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// Returns the first unpaired surrogate escape, as the client wrote it.
pub(super) fn first_unpaired(json: &[u8]) -> Option<String> {
    let at = unpaired(json, 0)?;
    Some(String::from_utf8_lossy(&json[at..at + ESCAPE]).into_owned())
}

/// Replaces every unpaired surrogate escape, and every byte sequence that is not UTF-8, by U+FFFD.
pub(super) fn replace_invalid(json: &[u8]) -> Cow<'_, [u8]> {
    let mut text = match String::from_utf8_lossy(json) {
        Cow::Borrowed(_) => Cow::Borrowed(json),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    let mut from = 0;
    while let Some(at) = unpaired(&text, from) {
        // The replacement `\ufffd` is as long as the escape.
        text.to_mut()[at + 2..at + ESCAPE].copy_from_slice(b"fffd");
        from = at + ESCAPE;
    }
    text
}

/// Returns the position of the first unpaired surrogate escape at or after `from`. `from` must not be
/// inside an escape.
fn unpaired(json: &[u8], mut from: usize) -> Option<usize> {
    // In valid JSON, a backslash occurs only in strings, so escapes can be found without parsing.
    while let Some(next) = json.get(from..)?.iter().position(|byte| *byte == b'\\') {
        let at = from + next;
        match code_unit(json, at) {
            Some(0xd800..=0xdbff) => match code_unit(json, at + ESCAPE) {
                Some(0xdc00..=0xdfff) => from = at + 2 * ESCAPE,
                _ => return Some(at),
            },
            Some(0xdc00..=0xdfff) => return Some(at),
            Some(_) => from = at + ESCAPE,
            // An escape other than `\u` consists of the backslash and one more byte.
            None => from = at + 2,
        }
    }
    None
}

/// Returns the UTF-16 unit of the escape `\uXXXX` at a position.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let escape = json.get(at..at + ESCAPE)?;
    let digits = escape.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpaired_escapes_are_found_and_pairs_are_not() {
        let first = |json: &str| first_unpaired(json.as_bytes());
        for (json, escape) in [
            (r#""\ud83d""#, r"\ud83d"),
            (r#""\uD83D and more""#, r"\uD83D"),
            (r#""\ude00""#, r"\ude00"),
            (r#""\ude00\ud83d""#, r"\ude00"),
            (r#""\ud83d\ud83d\ude00""#, r"\ud83d"),
            (r#""\ud83d\n""#, r"\ud83d"),
            (r#""\\\ud83d""#, r"\ud83d"),
            (r#""\ud83d\ude00\udcf0""#, r"\udcf0"),
        ] {
            assert_eq!(first(json).as_deref(), Some(escape), "{json}");
        }
        for json in [
            "",
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00 \u00e4""#,
            r#""\\ud83d""#,
            r#""\\\\ud83d""#,
            r#""\ud83""#,
            r#""\u+83d""#,
            r#""\""#,
            r#""\"#,
            "\"😀\"",
        ] {
            assert_eq!(first(json), None, "{json}");
        }
    }

    #[test]
    fn unpaired_escapes_and_invalid_utf8_become_u_fffd() {
        let replaced = |json: &[u8]| {
            let text = replace_invalid(json);
            serde_json::from_slice::<String>(&text).unwrap()
        };
        assert_eq!(replaced(br#""cut \ud83d""#), "cut \u{fffd}");
        assert_eq!(replaced(br#""\ud83d\ud83d\ude00\ude00""#), "\u{fffd}\u{1f600}\u{fffd}");
        assert_eq!(replaced(br#""\\ud83d""#), r"\ud83d");
        assert_eq!(replaced(b"\"a\xffb \\udcf0\""), "a\u{fffd}b \u{fffd}");
        assert!(matches!(replace_invalid(br#""\ud83d\ude00""#), Cow::Borrowed(_)));
    }
}
