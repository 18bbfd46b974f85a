//! The target `index`: `model.safetensors.index.json` and the shards that it names.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use super::edits;
use super::weights::check_places;
use crate::files::ModelFiles;
use crate::weights::WeightFiles;

const SHARDS: [&str; 8] = [
    "a.safetensors",
    "b.safetensors",
    "c.safetensors",
    "../a.safetensors",
    "/a.safetensors",
    "x/../a.safetensors",
    "a.bin",
    "model.safetensors.index.json",
];

const TENSORS: [&str; 6] = ["t0", "t1", "t2", "t3", "__metadata__", ""];

const FIELDS: [&str; 3] = ["weight_map", "metadata", "total_size"];

/// The target `index`. If the first byte is odd, the other bytes choose shards and an index with plausible mistakes.
/// Otherwise they are the text of an index for two valid shards.
pub fn index(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let mut shards: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let listed = match mode % 2 {
        0 => {
            shards.insert("a.safetensors", shard(&["t0", "t1"]));
            shards.insert("b.safetensors", shard(&["t2"]));
            data.to_vec()
        }
        _ => model(&mut Unstructured::new(data), &mut shards).unwrap_or_default(),
    };
    let mut files: Vec<(String, Vec<u8>)> =
        shards.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
    files.push(("model.safetensors.index.json".to_owned(), listed.clone()));
    let files = ModelFiles::from_bytes(files).expect("the names of the shards are valid");
    let Ok(weights) = WeightFiles::open(&files, "") else { return };
    let used = check_index(&weights, &listed);
    let used: Vec<(&str, &[u8])> = shards
        .iter()
        .filter(|(name, _)| used.contains_key(**name))
        .map(|(n, c)| (*n, &c[..]))
        .collect();
    check_places(&weights, &used);
}

/// Checks that an accepted index lists each tensor of its shards once, in the shard that holds it. Returns the shards.
fn check_index(weights: &WeightFiles, listed: &[u8]) -> BTreeMap<String, usize> {
    let listed = listed.strip_prefix(b"\xef\xbb\xbf").unwrap_or(listed);
    let listed: Value = serde_json::from_slice(listed).expect("an accepted index is JSON");
    let map = listed["weight_map"].as_object().expect("an accepted index has a weight_map");
    let places = weights.places();
    let mut shards = BTreeMap::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().expect("a shard has a name");
        assert!(!shard.contains(['/', '\\']), "the index names {shard} outside the directory");
        *shards.entry(shard.to_owned()).or_insert(0) += 1;
        let place = places.iter().find(|place| place.name == *tensor);
        let place = place.unwrap_or_else(|| panic!("{tensor} is in the index but not found"));
        assert_eq!(place.file, shard, "{tensor} was read from another shard");
    }
    assert_eq!(places.len(), map.len(), "a shard has a tensor that the index does not list");
    shards
}

/// Returns a valid safetensors file with tensors of these names.
fn shard(tensors: &[&str]) -> Vec<u8> {
    let mut header = Map::new();
    for (at, name) in tensors.iter().enumerate() {
        let entry = json!({"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]});
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + tensors.len(), 7);
    file
}

/// Adds up to three shards, and returns an index that names their tensors, with some mistakes.
fn model(u: &mut Unstructured, shards: &mut BTreeMap<&str, Vec<u8>>) -> Result<Vec<u8>> {
    let mut map = Map::new();
    let mut left: &[&str] = &TENSORS[..4];
    for name in &SHARDS[..3] {
        let (own, rest) = left.split_at(u.int_in_range(0..=left.len().min(2))?);
        left = rest;
        let mut own = own.to_vec();
        map.extend(own.iter().map(|tensor| ((*tensor).to_owned(), Value::from(*name))));
        if u.ratio(1, 12)? {
            own.push(u.choose(&TENSORS[..4])?);
            own.dedup();
        }
        if !own.is_empty() && !u.ratio(1, 24)? {
            let mut content = shard(&own);
            if u.ratio(1, 24)? {
                content.truncate(u.choose_index(content.len())?);
            }
            shards.insert(name, content);
        }
    }
    for _ in 0..u.int_in_range(0..=2)? {
        if u.ratio(1, 2)? {
            let (tensor, shard) = (*u.choose(&TENSORS)?, *u.choose(&SHARDS)?);
            map.insert(tensor.to_owned(), shard.into());
        }
    }
    let mut listed = json!({"metadata": {"total_size": 4}, "weight_map": map});
    if u.ratio(1, 2)? {
        edits::edit(u, &mut listed, &FIELDS)?;
    }
    edits::text(u, &listed)
}
