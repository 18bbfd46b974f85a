//! One field of a JSON object, the others passed over.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

/// The string that `line`, a JSON object, has in `field`. Where the field comes twice the last one
/// counts, as in Python.
///
/// # Errors
/// What is wrong with the line, with its column.
pub fn text_of(line: &str, field: &str) -> Result<String, String> {
    let mut json = serde_json::Deserializer::from_str(line);
    let read = json.deserialize_any(Object { field }).and_then(|text| json.end().map(|()| text));
    read.map_err(|error| {
        let message = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let problem = match message.strip_suffix(&at).unwrap_or(&message) {
            "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
                "a \\u escape is one half of a surrogate pair, which is no character; write both"
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
        write!(f, "an object with the field `{}` (one object a line)", self.field)
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
                "the object has no field `{field}`; name the field that holds the text with --field"
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

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn the_field_is_found_among_others() {
        assert_eq!(text_of(r#"{"text":"a\n\u00e9"}"#, "text").unwrap(), "a\né");
        assert_eq!(text_of(r#" {"id":[{}],"body":"b","x":"\ud800"} "#, "body").unwrap(), "b");
        assert_eq!(text_of(r#"{"text":"a","text":"b"}"#, "text").unwrap(), "b");
        assert_eq!(text_of(r#"{"text":"\ud83d\ude00"}"#, "text").unwrap(), "😀");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_column() {
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
    fn deep_nesting_in_other_fields_is_no_stack_overflow() {
        let deep = format!(r#"{{"x":{}{},"text":"a"}}"#, "[".repeat(200_000), "]".repeat(200_000));
        // Whether it is read or refused does not matter.
        let _ = text_of(&deep, "text");
    }
}
