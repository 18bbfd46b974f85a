//! Parses JSON to request types. Errors name the field or the item.

use axum::http::StatusCode;
use serde::de::value::Error as ProbeError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::error::Category;
use serde_path_to_error::Track;

use super::ApiRequest;
use crate::server::routes::error::ApiError;
use crate::server::routes::surrogates;

/// Mistakes in requests that the server accepts if an option is set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leniency {
    /// Unknown fields are ignored in every API, not only in those whose own server ignores them.
    pub ignore_unknown_fields: bool,
    /// Unpaired surrogates and invalid UTF-8 are replaced by U+FFFD.
    pub lossy: bool,
}

/// Parses a body, which must be one JSON object.
pub(super) fn parse<T: ApiRequest>(bytes: &[u8], leniency: Leniency) -> Result<T, ApiError> {
    let repaired;
    let bytes = match leniency.lossy {
        true => {
            repaired = surrogates::replace_invalid(bytes);
            &*repaired
        }
        false => bytes,
    };
    // serde would accept a list and read its items as the fields of the object, so lists are refused here.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let any = serde_json::from_slice::<IgnoredAny>(bytes);
        any.map_err(|error| not_json(bytes, &error, ""))?;
        return Err(T::DIALECT.wrong("the body is JSON, but not an object; send an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let mut unknown = None;
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    let value = value.map_err(|error: serde_json::Error| {
        let path = track.path().to_string();
        match error.classify() {
            Category::Data => wrong_shape::<T>(&error, &path),
            _ => not_json(bytes, &error, &path),
        }
    })?;
    json.end().map_err(|error| not_json(bytes, &error, ""))?;
    match unknown {
        Some(field) if !T::DIALECT.ignores_unknown_fields() && !leniency.ignore_unknown_fields => {
            Err(unknown_field::<T>(&field))
        }
        _ => Ok(value),
    }
}

/// Returns the error for a body that is not JSON. `path` is the path of the value that could not be read.
fn not_json(bytes: &[u8], error: &serde_json::Error, path: &str) -> ApiError {
    let invalid = |message: String| {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
        if is_field(path) { error.param(path) } else { error }
    };
    let message = error.to_string();
    let item = if is_field(path) { path } else { "the body" };
    if bytes.is_empty() {
        return invalid("the body is empty; send a JSON object".to_owned());
    }
    // At the first unpaired surrogate, serde_json stops with a message that contains one of these two phrases.
    if (message.contains("surrogate") || message.contains("hex escape"))
        && let Some(escape) = surrogates::first_unpaired(bytes)
    {
        return invalid(format!(
            "{item}: contains `{escape}`, half of a character such as an emoji; its other half was cut \
             off. Cut texts between characters, or start the server with --lossy to replace such halves by \
             U+FFFD"
        ));
    }
    if std::str::from_utf8(bytes).is_err() && message.contains("unicode code point") {
        return invalid(format!(
            "{item}: is not UTF-8; encode the body as UTF-8, or start the server with --lossy to replace \
             invalid bytes by U+FFFD"
        ));
    }
    invalid(format!("the body is not JSON: {error}"))
}

/// Returns true if a path names a field, and not the whole body.
fn is_field(path: &str) -> bool {
    !matches!(path, "." | "" | "?")
}

fn unknown_field<T: ApiRequest>(path: &str) -> ApiError {
    // serde_ignored adds `?` to the path for an optional value, so `?` is removed here.
    let path = path.replace(".?", "");
    let mut message = format!("unknown field `{path}`");
    if !path.contains('.') {
        let known: Vec<String> = field_names::<T>().iter().map(|n| format!("`{n}`")).collect();
        message += &format!("; known fields: {}", known.join(", "));
    }
    message += "; with --ignore-unknown-fields the server ignores unknown fields";
    T::DIALECT.wrong(message).param(path)
}

/// Returns the error for JSON that does not fit the request type. `path` is the path of the wrong value. If a field of
/// the body itself is missing or duplicate, only serde's message names the field.
fn wrong_shape<T: ApiRequest>(error: &serde_json::Error, path: &str) -> ApiError {
    let message = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"];
    let named = named.iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
    let param = match named {
        Some(field) if !is_field(path) => field,
        _ => path,
    }
    .to_owned();
    if !is_field(&param) {
        return T::DIALECT.wrong(message);
    }
    let message = if named.is_some() { message } else { format!("{param}: {message}") };
    T::DIALECT.wrong(message).param(param)
}

/// Returns the names of an object's fields, aliases included, in the order of declaration.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // `FieldProbe` stores the field names and then always fails, so the error is ignored.
    let _ = T::deserialize(FieldProbe(&mut names));
    names
}

struct FieldProbe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = ProbeError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ProbeError> {
        Err(ProbeError::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ProbeError> {
        *self.0 = fields;
        Err(ProbeError::custom(
            "parsing stops here, because only the names of the fields are needed",
        ))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::server::routes::error::Dialect;

    #[derive(Debug, Deserialize)]
    struct Sample {
        number: u8,
        #[serde(default)]
        list: Vec<String>,
        #[expect(
            dead_code,
            reason = "declared so that this field can have fields of its own; its value is not read"
        )]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(
            dead_code,
            reason = "declared so that the parser knows this field; its value is not read"
        )]
        known: Option<u8>,
    }

    /// The fields of `Sample`, for an API that refuses unknown fields.
    #[derive(Debug, Deserialize)]
    #[serde(transparent)]
    struct Strict(Sample);

    impl ApiRequest for Sample {
        const DIALECT: Dialect = Dialect::Tei;
    }

    impl ApiRequest for Strict {
        const DIALECT: Dialect = Dialect::OpenAi;
    }

    fn read<T: ApiRequest>(body: &[u8]) -> Result<T, ApiError> {
        parse(body, Leniency::default())
    }

    fn error_object(error: ApiError) -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&error.json()).unwrap()["error"].clone()
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_body() {
        let good: Sample = read(br#" {"number": 3, "list": ["\u00e4"]} "#).unwrap();
        assert_eq!((good.number, good.list), (3, vec!["\u{e4}".to_owned()]));
        let syntax: &[&[u8]] = &[
            b"",
            b"{",
            br#"{"number": 3}{}"#,
            br#"{"number": NaN}"#,
            br#"{"number": 1e999}"#,
            br#"{"number": 3,}"#,
            br#"{"number": 3, "list": ["\ud800"]}"#,
            br#"{"number": 3, "list": ["\udc00\ud800"]}"#,
            b"{\"number\": 3, \"list\": [\"\xff\"]}",
            b"\xef\xbb\xbf{\"number\": 3}",
            &[b'['; 100_000],
        ];
        for body in syntax {
            let error = read::<Sample>(body).unwrap_err();
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{start}");
            assert_eq!(error.code(), "invalid_json", "{start}");
        }
        let shapes = [
            ("{}", "number"),
            (r#"{"number": 3, "number": 3}"#, "number"),
            (r#"{"number": 300}"#, "number"),
            (r#"{"number": 3, "list": ["a", 5]}"#, "list[1]"),
        ];
        for (body, param) in shapes {
            let error = read::<Sample>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert_eq!(error_object(error)["param"], param, "{body}");
        }
        let null = read::<Sample>(b"null").unwrap_err();
        assert_eq!(null.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn unknown_fields_are_refused_by_name_or_ignored() {
        for (body, param) in [
            (r#"{"number": 3, "other": 1}"#, "other"),
            (r#"{"other": {"a": [1]}, "number": 3}"#, "other"),
            (r#"{"number": 3, "inner": {"known": 1, "unknown": 2}}"#, "inner.unknown"),
        ] {
            let error = read::<Strict>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{body}");
            let object = error_object(error);
            assert_eq!(object["param"], param, "{body}");
            let message = object["message"].as_str().unwrap();
            assert!(message.contains("--ignore-unknown-fields"), "{message}");
            assert_eq!(message.contains("`list`"), !param.contains('.'), "{message}");
            // TEI's own server ignores unknown fields, so this server must accept them too.
            assert_eq!(read::<Sample>(body.as_bytes()).unwrap().number, 3);
            let lenient = Leniency { ignore_unknown_fields: true, lossy: false };
            assert_eq!(parse::<Strict>(body.as_bytes(), lenient).unwrap().0.number, 3);
        }
    }

    #[test]
    fn half_a_character_is_named_by_item_or_replaced() {
        for (body, param, escape) in [
            (&br#"{"number": 3, "list": ["a", "cut \ud83d"]}"#[..], "list[1]", r"\ud83d"),
            (br#"{"number": 3, "list": ["\ude00", "\ud83d\ude00"]}"#, "list[0]", r"\ude00"),
            (br#"{"number": 3, "list": ["\ud83d\ud83d\ude00"]}"#, "list[0]", r"\ud83d"),
        ] {
            let object = error_object(read::<Sample>(body).unwrap_err());
            assert_eq!(
                (&object["param"], &object["code"]),
                (&param.into(), &"invalid_json".into())
            );
            let message = object["message"].as_str().unwrap();
            assert!(message.contains(escape.trim_start_matches('\\')), "{message}");
            assert!(message.contains("--lossy"), "{message}");
            let lossy = Leniency { lossy: true, ignore_unknown_fields: false };
            let replaced = parse::<Sample>(body, lossy).unwrap();
            assert!(replaced.list.iter().any(|text| text.contains('\u{fffd}')), "{replaced:?}");
        }
        let object =
            error_object(read::<Sample>(b"{\"number\": 3, \"list\": [\"\xff\"]}").unwrap_err());
        assert_eq!(object["param"], "list[0]");
        assert!(object["message"].as_str().unwrap().contains("UTF-8"));
    }
}
