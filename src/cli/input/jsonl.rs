//! The text field of a JSON object, and all its fields as they were written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

/// The string in `field` of a JSON object. If the field occurs twice, the last one counts, as in Python.
///
/// # Errors
/// Describes the problem and its column.
pub fn text_of(line: &str, field: &str) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let read = json.deserialize_any(Object { field }).and_then(|text| json.end().map(|()| text));
    read.map_err(|error| {
        let message = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let problem = match message.strip_suffix(&at).unwrap_or(&message) {
            "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
                "a \\u escape is half of a surrogate pair, which is not a character; write both halves"
            }
            problem => problem,
        };
        format!("column {}: {problem}", error.column().max(1))
    })
}

struct Object<'a> {
    field: &'a str,
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
                text = Some(map.next_value_seed(Text { field: self.field })?);
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

impl Visitor<'_> for Text<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string in the field `{}`", self.field)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Whether a line is a valid JSON object, with any fields.
pub fn is_object(line: &str) -> bool {
    line.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(line).is_ok()
}

/// The names of an object's fields, and their values as they were written.
///
/// The line must pass [`is_object`].
pub fn members(line: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let inside = line.trim_ascii().trim_start_matches('{');
    let mut rest = inside.strip_suffix('}').unwrap_or(inside);
    std::iter::from_fn(move || {
        let (name, after) = value(rest)?;
        let (value, after) = value(after.trim_ascii_start().strip_prefix(':')?)?;
        rest = after.trim_ascii_start().strip_prefix(',').unwrap_or_default();
        // A name with half of a surrogate pair stays as it was written.
        let name = serde_json::from_str::<String>(name).map_or(Cow::Borrowed(name), Cow::Owned);
        Some((name, value))
    })
}

/// Splits off the JSON value at the start of `json`, which ends before a comma or colon.
fn value(json: &str) -> Option<(&str, &str)> {
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
    use super::{is_object, members, text_of};

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
            (r#"{"text":null}"#, "invalid type: null, expected a string"),
            (r#"{"text":["a"]}"#, "sequence, expected a string"),
            (r#"{"text":"a"#, "EOF"),
            (r#"{"text":"a"} {"text":"b"}"#, "column 14: trailing characters"),
            (r#"{"text":"\ud800"}"#, "half of a surrogate pair"),
            (r#"{"text":"\ud800 \ud800"}"#, "half of a surrogate pair"),
            (r#"{"text":"\udc00"}"#, "half of a surrogate pair"),
        ] {
            let problem = text_of(line, "text").unwrap_err();
            assert!(problem.contains(words) && problem.starts_with("column "), "{line}: {problem}");
            assert!(!problem.contains("at line"), "{line}: {problem}");
        }
    }

    #[test]
    fn deep_nesting_in_other_fields_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"x":{}{},"text":"a"}}"#, "[".repeat(200_000), "]".repeat(200_000));
        // Either result is fine; a stack overflow would abort the test.
        let _ = text_of(&deep, "text");
    }
}
