//! Reads the headers of safetensors files, and the index of a sharded checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::config::JsonFile;
use crate::error::Error;
use crate::files::{ModelFile, ModelFiles, sniff};
use crate::weights::WeightFiles;

/// The maximum size of a header in bytes. Headers of published files have about 100 bytes per tensor. The format itself
/// allows headers of 100 MB.
const MAX_HEADER: u64 = 16 << 20;
/// The maximum number of tensors in a file. A 400-layer model with experts has about ten thousand tensors.
const MAX_TENSORS: usize = 100_000;
const MAX_RANK: usize = 4;

/// The header of one safetensors file.
pub(super) struct Header {
    /// The offset in the file at which the tensor data begin.
    pub start: u64,
    /// The name and the description of each tensor, in the order of the file.
    pub tensors: Vec<(String, TensorInfo)>,
}

/// Reads the header of a file and checks it. The offsets must cover the file exactly, without gaps or overlaps. No name
/// may occur twice, and no size may exceed its maximum.
pub(super) fn header(source: &ModelFile) -> Result<Header, Error> {
    let wrong = |problem: String| {
        let mut head = vec![0; source.len().min(512) as usize];
        let known = source.read_at(0, &mut head).ok().and_then(|()| sniff(&head));
        Error::file(source.name(), known.map_or(problem, str::to_owned))
    };
    let mut size = [0; 8];
    if source.len() < 8 {
        return Err(wrong(format!(
            "has only {} bytes, so it is not a safetensors file; download the file again",
            source.len()
        )));
    }
    source.read_at(0, &mut size)?;
    let size = u64::from_le_bytes(size);
    if size > source.len() - 8 {
        return Err(wrong(format!(
            "is incomplete or not safetensors: its header should take {size} bytes, but the file \
             has {} bytes; download the file again",
            source.len()
        )));
    }
    if size > MAX_HEADER {
        return Err(wrong(format!("has a header of {size} bytes; the maximum is {MAX_HEADER}")));
    }
    let mut bytes = vec![0; size as usize];
    source.read_at(8, &mut bytes)?;
    let metadata: Metadata = serde_json::from_slice(&bytes)
        .map_err(|e| wrong(format!("its safetensors header is wrong: {e}")))?;
    if let Some(name) = repeated_key(&bytes) {
        return Err(Error::tensor(
            source.name(),
            name,
            "occurs twice in the header of the file; save the model again",
        ));
    }
    let end = (8 + size).saturating_add(metadata.data_len() as u64);
    if end != source.len() {
        return Err(wrong(format!(
            "has {} bytes, but its header describes {end} bytes; the file is incomplete or has \
             extra bytes; download the file again",
            source.len()
        )));
    }
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        if info.shape.len() > MAX_RANK {
            let problem = format!("has {} dimensions; the maximum is {MAX_RANK}", info.shape.len());
            return Err(Error::tensor(source.name(), name, problem));
        }
        tensors.push((name, info.clone()));
    }
    if tensors.len() > MAX_TENSORS {
        return Err(wrong(format!("has {} tensors; the maximum is {MAX_TENSORS}", tensors.len())));
    }
    Ok(Header { start: 8 + size, tensors })
}

/// Returns the first key that occurs twice in a JSON object. Some parsers return the first of the two values and others
/// the last, so programs would read such a file differently.
fn repeated_key(json: &[u8]) -> Option<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = BTreeSet::new();
            let mut repeated = None;
            while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(key.clone()) {
                    repeated.get_or_insert(key);
                }
            }
            Ok(repeated)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Keys).ok().flatten()
}

/// The index of a sharded checkpoint, `model.safetensors.index.json`.
pub(super) struct Index {
    /// The name of the index file, for messages.
    pub file: String,
    /// For each tensor, the name of the shard that holds it.
    weight_map: BTreeMap<String, String>,
}

/// Returns the index in a module's directory; `None` if the directory has no index.
pub(super) fn read(files: &ModelFiles, prefix: &str) -> Result<Option<Index>, Error> {
    let file = format!("{prefix}model.safetensors.index.json");
    let Some(json) = JsonFile::load(files, &file)? else { return Ok(None) };
    let Some(map) = json.raw("weight_map").and_then(|map| map.as_object()) else {
        return Err(Error::config(
            file,
            "weight_map",
            "is missing or not an object; expected: an object that gives the file of each tensor",
        ));
    };
    if map.is_empty() {
        return Err(Error::config(file, "weight_map", "is empty; save the model again"));
    }
    let mut weight_map = BTreeMap::new();
    for (tensor, shard) in map {
        let name = shard.as_str().unwrap_or_default();
        // A shard must be in the same directory as the index. A name with a path separator could point outside the
        // model's directory.
        if !name.ends_with(".safetensors") || name.contains(['/', '\\', ':', '\0']) {
            let problem = format!("names {shard}; expected: a .safetensors file beside the index");
            return Err(Error::config(file, format!("weight_map.{tensor}"), problem));
        }
        weight_map.insert(tensor.clone(), name.to_owned());
    }
    Ok(Some(Index { file, weight_map }))
}

impl Index {
    /// Returns the names of the shards, without duplicates.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Checks that every tensor that the index lists is in its shard, and that every tensor of the shards is listed. An
    /// unlisted tensor is an error because other programs would ignore it.
    pub fn check(&self, prefix: &str, weights: &WeightFiles) -> Result<(), Error> {
        for (tensor, shard) in &self.weight_map {
            let entry = weights.tensors.get(tensor);
            let name = format!("{prefix}{shard}");
            if entry.is_none_or(|entry| weights.file_of(entry) != name) {
                let problem = format!(
                    "is not in this file, but {} says that it is; download the model again",
                    self.file
                );
                return Err(Error::tensor(name, tensor, problem));
            }
        }
        match weights.tensors.iter().find(|(name, _)| !self.weight_map.contains_key(*name)) {
            None => Ok(()),
            Some((name, entry)) => {
                let problem = format!(
                    "is in this file, but {} does not list it; save the model again",
                    self.file
                );
                Err(Error::tensor(weights.file_of(entry), name, problem))
            }
        }
    }
}
