//! Reads the text of a JSON object, and the fields that are copied to the output.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::chunk::{Chunk, ReadOptions};
use super::encoding::utf8;
use super::jsonl::{is_object, members, replace_lone_surrogates, text_of, without_nonfinite};
use crate::cli::carried::{CarriedRow, CarriedValue};

/// Reads the fields of JSON objects.
pub struct ObjectFields {
    options: ReadOptions,
    /// The names of fields by position. Most objects have the same fields, so rows share these names.
    names: Vec<Arc<str>>,
}

impl ObjectFields {
    pub fn new(options: &ReadOptions) -> Self {
        ObjectFields { options: options.clone(), names: Vec::new() }
    }

    /// Adds an object to a chunk: its text, or the reason why it has no text, and the fields that are copied.
    pub fn push(&mut self, chunk: &mut Chunk, number: u64, object: &[u8]) {
        let (text, row) = match utf8(object, self.options.lossy) {
            Ok(json) => self.read(&json),
            Err(problem) => (Err(problem), CarriedRow::new()),
        };
        chunk.push(number, text, object.len());
        if !self.options.carry.is_none() {
            chunk.carry(row);
        }
    }

    fn read(&mut self, json: &str) -> (Result<String, String>, CarriedRow) {
        let json = match self.options.lossy {
            true => replace_lone_surrogates(json),
            false => Cow::Borrowed(json),
        };
        let strict = without_nonfinite(&json);
        let text = text_of(&strict, &self.options.field);
        // A line that is not a valid object has no fields that `--carry` could copy.
        let carries = !self.options.carry.is_none() && is_object(&strict);
        (text, if carries { self.carried(&json) } else { CarriedRow::new() })
    }

    fn carried(&mut self, object: &str) -> CarriedRow {
        let mut row = CarriedRow::new();
        // The place of each name in the row. A search through the row would take minutes for an object with a hundred
        // thousand fields.
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for (at, (name, json)) in members(object).enumerate() {
            if !self.options.carry.takes(&name) {
                continue;
            }
            let name = match self.names.get(at) {
                Some(known) if **known == *name => known.clone(),
                _ => {
                    let name: Arc<str> = Arc::from(&*name);
                    self.names.resize_with(self.names.len().max(at + 1), || name.clone());
                    self.names[at] = name.clone();
                    name
                }
            };
            // If a field occurs twice, the last value counts, as in Python.
            let value = CarriedValue::Json(json.to_owned());
            match places.entry(name) {
                Entry::Occupied(place) => row[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    row.push((place.key().clone(), value));
                    place.insert(row.len() - 1);
                }
            }
        }
        row
    }
}
