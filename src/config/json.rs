//! Reads JSON files and gives typed access to their fields. Errors name the file and the field.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::files::{ModelFiles, sniff};

/// The maximum size of a JSON file in bytes. Published configurations are far smaller.
pub(super) const MAX_JSON: u64 = 10_000_000;
/// The maximum width of a vector. Published models have vectors of fewer than ten thousand values.
const MAX_WIDTH: usize = 1 << 20;

/// A JSON object and the name of its file. A field with the value `null` is treated as absent.
#[derive(Clone, Debug)]
pub(crate) struct JsonFile {
    /// The file's name, relative to the model's directory.
    pub name: String,
    pub map: Map<String, Value>,
    /// The path of the object in the file, which error messages put before field names. The path is empty, or `outer.`
    /// for a nested object.
    prefix: String,
    /// The paths of the fields that were read. The path of a nested object ends with a dot. Nested objects and clones
    /// share this set.
    read: Arc<Mutex<BTreeSet<String>>>,
}

/// Returns the JSON value in a file. Returns `None` if the file does not exist.
///
/// If an object has a key twice, the last value is used, as in Python.
pub(crate) fn load_value(
    files: &ModelFiles,
    name: &str,
    limit: u64,
) -> Result<Option<Value>, Error> {
    let Some(contents) = files.read(name, limit)? else { return Ok(None) };
    let text = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
    if text.trim_ascii().is_empty() {
        return Err(Error::file(name, "is empty; download the model again"));
    }
    let value = serde_json::from_slice(text).map_err(|error| {
        let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
        let hint = if has(b"NaN") || has(b"Infinity") {
            " (NaN and Infinity, which Python writes, are not JSON)"
        } else {
            ""
        };
        match sniff(text) {
            Some(what) => Error::file(name, what),
            None => Error::file(name, format!("is not valid JSON: {error}{hint}")),
        }
    })?;
    Ok(Some(value))
}

impl JsonFile {
    /// Returns the JSON object in a file. Returns `None` if the file does not exist.
    pub fn load(files: &ModelFiles, name: &str) -> Result<Option<Self>, Error> {
        Self::load_large(files, name, MAX_JSON)
    }

    /// Returns the JSON object in a file like [`JsonFile::load`], with `limit` as the maximum size of the file in
    /// bytes.
    pub fn load_large(files: &ModelFiles, name: &str, limit: u64) -> Result<Option<Self>, Error> {
        match load_value(files, name, limit)? {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self::new(name, map))),
            Some(other) => {
                let problem = format!("holds {}; expected a JSON object", kind(&other));
                Err(Error::file(name, problem))
            }
        }
    }

    pub fn new(name: impl Into<String>, map: Map<String, Value>) -> Self {
        JsonFile { name: name.into(), map, prefix: String::new(), read: Arc::default() }
    }

    /// Returns a field's value if the field exists and is not `null`. Records the field as read.
    pub fn raw(&self, field: &str) -> Option<&Value> {
        self.mark_read(&[field]);
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// Returns true if a field exists and is `null`. Records the field as read.
    pub fn is_null(&self, field: &str) -> bool {
        self.mark_read(&[field]);
        self.map.get(field).is_some_and(Value::is_null)
    }

    /// Records fields as read. Call this function for fields that are irrelevant because of the values of other fields.
    pub fn mark_read(&self, fields: &[&str]) {
        let paths = fields.iter().map(|field| format!("{}{field}", self.prefix));
        self.read.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    /// Returns the path and the value of each field that is not `null` and was not read. If a nested object was read
    /// through [`JsonFile::object`], its unread fields are listed one by one. Any other nested object is one entry of
    /// the list.
    pub fn unread(&self) -> Vec<(String, &Value)> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unread = Vec::new();
        let mut objects = vec![(self.prefix.clone(), &self.map)];
        while let Some((prefix, map)) = objects.pop() {
            for (field, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{prefix}{field}");
                let inside = format!("{path}.");
                match value {
                    Value::Object(map) if read.contains(&inside) => objects.push((inside, map)),
                    value if !read.contains(&path) => unread.push((path, value)),
                    _ => {}
                }
            }
        }
        unread
    }

    pub fn has(&self, field: &str) -> bool {
        self.raw(field).is_some()
    }

    /// Returns an error about a field, with the path of the field in the file.
    pub fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::config(&self.name, format!("{}{field}", self.prefix), problem)
    }

    /// Returns the error for a field whose value Vectile does not support.
    pub fn unsupported(&self, field: &str, supported: impl Into<String>) -> Error {
        let value = self.raw(field).map_or_else(|| "null".to_string(), brief);
        Error::unsupported(&self.name, format!("{}{field}", self.prefix), value, supported)
    }

    fn wrong(&self, field: &str, value: &Value, expected: &str) -> Error {
        self.error(field, format!("is {}; expected {expected}", brief(value)))
    }

    pub fn usize(&self, field: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| self.wrong(field, value, "a whole number that is not negative"))
    }

    pub fn required_usize(&self, field: &str) -> Result<usize, Error> {
        self.usize(field)?.ok_or_else(|| self.error(field, "is missing; expected a whole number"))
    }

    /// Returns a field's value like [`JsonFile::required_usize`], but the value must be at least 1.
    pub fn required_size(&self, field: &str) -> Result<usize, Error> {
        match self.required_usize(field)? {
            0 => Err(self.error(field, "is 0; expected at least 1")),
            size => Ok(size),
        }
    }

    /// Returns a field's value like [`JsonFile::required_size`], but the value must not exceed `MAX_WIDTH`, the maximum
    /// width of a vector.
    pub fn required_width(&self, field: &str) -> Result<usize, Error> {
        match self.required_size(field)? {
            width if width > MAX_WIDTH => {
                Err(self.error(field, format!("is {width}; expected at most {MAX_WIDTH}")))
            }
            width => Ok(width),
        }
    }

    pub fn f64(&self, field: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(field, value, "a number"))
    }

    pub fn bool(&self, field: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(field, value, "true or false"))
    }

    pub fn str(&self, field: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(field, value, "a string"))
    }

    pub fn strings(&self, field: &str) -> Result<Option<Vec<&str>>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.wrong(field, value, "a list of strings"))
    }

    /// Returns the nested object in a field. Errors about its fields name a field as `outer.inner`.
    pub fn object(&self, field: &str) -> Result<Option<JsonFile>, Error> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(field, value, "an object"))?;
        self.mark_read(&[&format!("{field}.")]);
        Ok(Some(JsonFile {
            name: self.name.clone(),
            map: map.clone(),
            prefix: format!("{}{field}.", self.prefix),
            read: self.read.clone(),
        }))
    }
}

/// Returns a value as text for a message, shortened and on one line.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
