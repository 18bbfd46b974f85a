//! Reads the text field of a JSON object, and returns the values of its other fields exactly as they were written.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Unexpected, Visitor};

/// Returns the string in `field` of a JSON object. If the field occurs twice, its last value counts, as in Python.
///
/// # Errors
/// Fails if the object has no such string. The message describes the problem and its column.
pub fn text_of(line: &str, field: &str) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let in_text = Cell::new(false);
    let read = json.deserialize_any(Object { field, in_text: &in_text });
    read.and_then(|text| json.end().map(|()| text)).map_err(|error| {
        let message = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let mut problem = message.strip_suffix(&at).unwrap_or(&message).to_owned();
        if matches!(
            &*problem,
            "unexpected end of hex escape" | "lone leading surrogate in hex escape"
        ) {
            let place = if in_text.get() { format!("the field `{field}`") } else { "a name".into() };
            problem = format!(
                "{place} has half of a surrogate pair (half an emoji), which is not a character; write both \
                 halves, or replace it with --lossy"
            );
        }
        format!("column {}: {problem}", error.column().max(1))
    })
}

struct Object<'a> {
    field: &'a str,
    /// Is true while the value of the text field is being read. If parsing fails, the error message uses this flag to
    /// say whether the error is in the text field.
    in_text: &'a Cell<bool>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field `{}` (one object per line)", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut text = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.field {
                self.in_text.set(true);
                text = Some(map.next_value_seed(Text { field: self.field })?);
                self.in_text.set(false);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        text.ok_or_else(|| {
            let field = self.field;
            A::Error::custom(format!(
                "the object has no field `{field}`; name the field of the text with --field"
            ))
        })
    }
}

struct Text<'a> {
    field: &'a str,
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<String, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string in the field `{}`", self.field)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    /// By default, pandas writes columns instead of rows. In a file of this layout, the text field holds an object.
    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(A::Error::custom(format!(
            "invalid type: map, expected a string in the field `{}`; if pandas wrote the file, write rows with \
             to_json(orient=\"records\")",
            self.field
        )))
    }

    /// The error does not quote the number, because the number may replace a `NaN` or `Infinity` of the file.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<String, E> {
        Err(E::invalid_type(Unexpected::Other("number"), &self))
    }
}

/// Returns true if a line is a valid JSON object, whatever its fields are.
pub fn is_object(line: &str) -> bool {
    line.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(line).is_ok()
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside of strings by numbers of the same length. Python writes these
/// values, but JSON does not allow them.
pub fn without_nonfinite(line: &str) -> Cow<'_, str> {
    if !line.contains("NaN") && !line.contains("Infinity") {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let (outside, after) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
        // A number replaces NaN, so a text field that holds NaN gives the same error as a text field that holds a
        // number.
        out.push_str(&outside.replace("NaN", "0e0").replace("Infinity", "0e000000"));
        let (string, after) = after.split_at(string_length(after));
        out.push_str(string);
        rest = after;
    }
    Cow::Owned(out)
}

/// Replaces each `\u` escape that is half of a surrogate pair by `\ufffd`.
pub fn replace_lone_surrogates(line: &str) -> Cow<'_, str> {
    let bytes = line.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 6)?;
        let hex = escape.strip_prefix(b"\\u")?;
        let digits = str::from_utf8(hex).ok().filter(|_| hex.iter().all(u8::is_ascii_hexdigit))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += offset;
        match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => at += 12,
            (Some(0xd800..0xe000), _) => {
                let out = out.get_or_insert_with(|| bytes.to_vec());
                out[at..at + 6].copy_from_slice(b"\\ufffd");
                at += 6;
            }
            (Some(_), _) => at += 6,
            // An escape other than `\u` consists of the backslash and one more byte, as in `\\`.
            (None, _) => at = (at + 2).min(bytes.len()),
        }
    }
    match out {
        // The loop replaces ASCII bytes by other ASCII bytes only, so the line is still UTF-8.
        Some(out) => Cow::Owned(String::from_utf8_lossy(&out).into_owned()),
        None => Cow::Borrowed(line),
    }
}

/// Returns the length of the string at the start of `json`, including its quotes. Returns the length of `json` if the
/// string has no end, and 0 if `json` does not start with a string.
fn string_length(json: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' if at > 0 => return at + 1,
            _ => {}
        }
    }
    json.len()
}

/// Returns the names of an object's fields, and the values of these fields exactly as they were written.
///
/// [`is_object`] must return true for the line after [`without_nonfinite`] has replaced its values.
pub fn members(line: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let inside = line.trim_ascii().trim_start_matches('{');
    let mut rest = inside.strip_suffix('}').unwrap_or(inside);
    std::iter::from_fn(move || {
        let (name, after) = split_value(rest)?;
        let (value, after) = split_value(after.trim_ascii_start().strip_prefix(':')?)?;
        rest = after.trim_ascii_start().strip_prefix(',').unwrap_or_default();
        // A name with an unpaired surrogate cannot be decoded, so the name keeps its escapes.
        let name = serde_json::from_str::<String>(name).map_or(Cow::Borrowed(name), Cow::Owned);
        Some((name, value))
    })
}

/// Splits `json` after its first value. The value ends before a comma, a colon or the end of `json`.
fn split_value(json: &str) -> Option<(&str, &str)> {
    let json = json.trim_ascii_start();
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let mut end = json.len();
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (value, rest) = json.split_at(end);
    (!value.is_empty()).then(|| (value.trim_ascii_end(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_they_were_written() {
        let line =
            r#" {"a" : 1.50 ,"b\u0021":"x,:}\"{", "c":[{"d":"]"},{}],"e":null , "f":-1e400} "#;
        assert!(is_object(line));
        let found: Vec<(String, &str)> = members(line).map(|(n, v)| (n.into_owned(), v)).collect();
        let expected = [
            ("a", "1.50"),
            ("b!", r#""x,:}\"{""#),
            ("c", r#"[{"d":"]"},{}]"#),
            ("e", "null"),
            ("f", "-1e400"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(members("{ }").count(), 0);
        for line in ["[1]", "{\"a\":1}{", "{\"a\"", "x", ""] {
            assert!(!is_object(line), "{line}");
        }
    }

    #[test]
    fn the_field_is_found_among_others() {
        assert_eq!(text_of(r#"{"text":"a\n\u00e9"}"#, "text").unwrap(), "a\né");
        assert_eq!(text_of(r#" {"id":[{}],"body":"b","x":"\ud800"} "#, "body").unwrap(), "b");
        assert_eq!(text_of(r#"{"text":"a","text":"b"}"#, "text").unwrap(), "b");
        assert_eq!(text_of(r#"{"text":"\ud83d\ude00"}"#, "text").unwrap(), "😀");
    }

    #[test]
    fn errors_name_the_column() {
        for (line, words) in [
            (r#"["a"]"#, "sequence, expected an object with the field `text`"),
            ("plain words", "column 1: expected"),
            (r#""a""#, "an object"),
            (r#"{"texts":"a"}"#, "column 13: the object has no field `text`; name the field"),
            (r#"{"text":5}"#, "column 9: invalid type: integer `5`, expected a string in the"),
            (r#"{"text":0.5}"#, "invalid type: number, expected a string in the field `text`"),
            (r#"{"text":null}"#, "invalid type: null, expected a string"),
            (r#"{"text":["a"]}"#, "sequence, expected a string"),
            (r#"{"text":"a"#, "EOF"),
            (r#"{"text":"a"} {"text":"b"}"#, "column 14: trailing characters"),
            (r#"{"text":"\ud800"}"#, "the field `text` has half of a surrogate pair"),
            (r#"{"text":"\ud800 \ud800"}"#, "half of a surrogate pair"),
            (r#"{"text":"\udc00"}"#, "half of a surrogate pair"),
            (r#"{"\udc00":1,"text":"a"}"#, "a name has half of a surrogate pair"),
        ] {
            let problem = text_of(line, "text").unwrap_err();
            assert!(problem.contains(words) && problem.starts_with("column "), "{line}: {problem}");
            assert!(!problem.contains("at line"), "{line}: {problem}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_replaced_outside_of_strings() {
        for (line, expected) in [
            (r#"{"a":NaN,"t":"NaN"}"#, r#"{"a":0e0,"t":"NaN"}"#),
            (r#"{"a":[-Infinity, Infinity]}"#, r#"{"a":[-0e000000, 0e000000]}"#),
            (r#"{"t":"\"NaN","a":NaN}"#, r#"{"t":"\"NaN","a":0e0}"#),
            (r#"{"NaN":"Infinity\\"}"#, r#"{"NaN":"Infinity\\"}"#),
            (r#"{"t":"NaN"#, r#"{"t":"NaN"#),
        ] {
            assert_eq!(without_nonfinite(line), expected);
        }
        let line = r#"{"text":"a","b":-NaN,"c":NaNs}"#;
        assert!(!is_object(&without_nonfinite(line)));
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced_and_whole_pairs_are_not() {
        for (line, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00 \ud83d\ude00""#, r#""\ufffd \ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \u00e9 \n""#, r#""\\ud83d \u00e9 \n""#),
            (r#""\ud83"#, r#""\ud83"#),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(replace_lone_surrogates(line), expected);
        }
    }

    #[test]
    fn deep_nesting_in_other_fields_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"x":{}{},"text":"a"}}"#, "[".repeat(200_000), "]".repeat(200_000));
        // The test accepts any result of `text_of`. It fails only if a stack overflow aborts the process.
        let _ = text_of(&deep, "text");
    }
}
