//! Writes valid and invalid safetensors files.

use serde_json::Value;

use crate::Model;

pub(crate) const FILE: &str = "model.safetensors";
pub(crate) const WORDS: &str = "embeddings.word_embeddings.weight";
pub(crate) const QUERY: &str = "encoder.layer.0.attention.self.query.weight";
pub(crate) const NORM: &str = "encoder.layer.1.output.LayerNorm";

/// The tensors of a safetensors file, in file order.
pub(crate) struct Tensors(pub(crate) Vec<Entry>);

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Tensors {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
        let data = &bytes[8 + size..];
        let mut found: Vec<(usize, Entry)> = Vec::new();
        for (name, entry) in header.as_object().unwrap() {
            if name == "__metadata__" {
                continue;
            }
            let [from, to] = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
            let shape = entry["shape"].as_array().unwrap();
            let shape = shape.iter().map(|n| n.as_u64().unwrap() as usize).collect();
            let dtype = entry["dtype"].as_str().unwrap().to_owned();
            let data = data[from..to].to_vec();
            found.push((from, Entry { name: name.clone(), dtype, shape, data }));
        }
        found.sort_by_key(|(from, _)| *from);
        Tensors(found.into_iter().map(|(_, entry)| entry).collect())
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut at = 0;
        let mut entries = Vec::new();
        let mut data = Vec::new();
        for Entry { name, dtype, shape, data: bytes } in &self.0 {
            let to = at + bytes.len();
            entries.push(format!(
                r#"{}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{to}]}}"#,
                Value::from(name.as_str())
            ));
            data.extend_from_slice(bytes);
            at = to;
        }
        container(&format!("{{{}}}", entries.join(",")), &data)
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Entry {
        self.0.iter_mut().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn add(&mut self, name: &str, dtype: &str, shape: &[usize], data: Vec<u8>) {
        let (name, dtype) = (name.to_owned(), dtype.to_owned());
        self.0.push(Entry { name, dtype, shape: shape.to_vec(), data });
    }
}

/// Makes a safetensors file from a header and data.
pub(crate) fn container(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

pub(crate) fn original() -> Vec<u8> {
    Model::good().files[FILE].clone()
}

pub(crate) fn raw(contents: impl AsRef<[u8]>) -> Model {
    Model::good().file(FILE, contents)
}

/// Returns the valid model with changed tensors.
pub(crate) fn tensors(edit: impl FnOnce(&mut Tensors)) -> Model {
    let mut tensors = Tensors::read(&original());
    edit(&mut tensors);
    raw(tensors.write())
}

/// Returns the valid model with another header, of any length, before the same data.
pub(crate) fn header(edit: impl FnOnce(&mut Value)) -> Model {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    edit(&mut value);
    raw(container(&value.to_string(), &bytes[8 + size..]))
}
