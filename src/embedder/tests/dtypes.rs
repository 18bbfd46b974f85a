//! Tests the dtype policy for every family: `auto` selects the checkpoint's own dtype, and some families' f16
//! activations count as unsafe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::{auto, entries};
use crate::config::ModelKind;
use crate::convert;
use crate::dtype::{FloatDtype, Reason, Storage};
use crate::embedder::load::read_model;
use crate::embedder::model::Model;
use crate::files::ModelFiles;
use crate::models::model_types;

/// Each `model_type` whose activations exceed f16, or that gave wrong vectors in f16. All other types are assumed to
/// be safe until a text overflows.
const UNSAFE: [&str; 9] =
    ["gemma3_text", "gte", "modernbert", "mt5", "new", "qwen2", "qwen3", "t5", "umt5"];
/// Each `model_type` without a fixture of its own. The fixture of another `model_type` tests the code that reads it.
const SAME_AS_ANOTHER: [&str; 1] = ["mt5"];

type Files = BTreeMap<String, Vec<u8>>;

fn files(directory: &Path) -> Files {
    let mut files = Files::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().replace('\\', "/");
            if name != "reference.safetensors" {
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

fn read(files: &Files) -> Model {
    read_model(ModelFiles::from_bytes(files.clone()).unwrap(), ModelKind::Dense, None, None)
        .unwrap()
}

fn double(bytes: &[u8]) -> f32 {
    f64::from_le_bytes(bytes.try_into().unwrap()) as f32
}

/// Converts the floats of a safetensors file to `storage`.
fn stored_as(bytes: &[u8], name: &str, storage: Storage) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
    let mut stored = Vec::new();
    for (_, entry) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let old = &data[at(0)..at(1)];
        let values = match entry["dtype"].as_str().unwrap() {
            "F32" => Some(convert::decode(Storage::F32, old)),
            "F16" => Some(convert::decode(Storage::PackedF16, old)),
            "BF16" => Some(convert::decode(Storage::PackedBf16, old)),
            "F64" => Some(old.chunks_exact(8).map(double).collect()),
            _ => None,
        };
        let start = stored.len();
        match values {
            Some(values) => {
                convert::encode(storage, &values, &mut stored);
                entry["dtype"] = name.into();
            }
            None => stored.extend_from_slice(old),
        }
        entry["data_offsets"] = json!([start, stored.len()]);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&stored);
    bytes
}

/// The expected weights and activations under `auto`, on an adapter with f16 in shaders and on one without.
fn expected(dtype: FloatDtype, unsafe_in_f16: bool) -> [[Storage; 2]; 2] {
    use Storage::{F16, F32, PackedBf16};
    match (dtype, unsafe_in_f16) {
        (FloatDtype::Float32, _) => [[F32, F32]; 2],
        (FloatDtype::Bfloat16, _) => [[PackedBf16, F32]; 2],
        (FloatDtype::Float16, false) => [[F16, F16], [F32, F32]],
        (FloatDtype::Float16, true) => [[F16, F32], [F32, F32]],
    }
}

#[test]
fn the_checkpoints_own_dtype_is_honoured_for_every_family() {
    let dtypes = [
        (FloatDtype::Float32, "float32", "F32", Storage::F32),
        (FloatDtype::Float16, "float16", "F16", Storage::PackedF16),
        (FloatDtype::Bfloat16, "bfloat16", "BF16", Storage::PackedBf16),
    ];
    let mut seen = BTreeSet::new();
    for directory in entries("fixtures/families") {
        let files = files(&directory);
        let config = files
            .get("config.json")
            .map_or(json!({}), |bytes| serde_json::from_slice::<Value>(bytes).unwrap());
        let model_type = config["model_type"].as_str().unwrap_or("none").to_owned();
        let unsafe_in_f16 = UNSAFE.contains(&model_type.as_str());
        assert_eq!(
            read(&files).transformer.facts().f16.activations_unsafe,
            unsafe_in_f16,
            "{model_type}"
        );
        for (dtype, named, tensor, storage) in dtypes {
            // If config.json names the dtype, in `dtype` or in the older `torch_dtype`, that dtype is expected.
            // Otherwise the dtype of the tensors is expected.
            for field in [Some("dtype"), Some("torch_dtype"), None] {
                let mut files = files.clone();
                let mut config = config.clone();
                for field in ["dtype", "torch_dtype"] {
                    config.as_object_mut().unwrap().remove(field);
                }
                match field {
                    Some(field) => config[field] = named.into(),
                    None => {
                        for (name, bytes) in &mut files {
                            if name.ends_with(".safetensors") {
                                *bytes = stored_as(bytes, tensor, storage);
                            }
                        }
                    }
                }
                // A static model has no config.json, and model2vec may write one without a dtype.
                if files.contains_key("config.json") {
                    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
                } else if field.is_some() {
                    continue;
                }
                let model = read(&files);
                let what = format!("{}, {named} by {field:?}", directory.display());
                assert_eq!(model.checkpoint_dtype().dtype, dtype, "{what}");
                let got = auto(&model);
                let stores =
                    got.each_ref().map(|precision| [precision.weights, precision.activations]);
                assert_eq!(stores, expected(dtype, unsafe_in_f16), "{what}");
                let distrusted = unsafe_in_f16 && dtype == FloatDtype::Float16;
                let reasons = &got[0].reasons;
                assert_eq!(reasons.contains(&Reason::ActivationsUnsafeInF16), distrusted, "{what}");
            }
        }
        seen.insert(model_type);
    }
    for model_type in model_types() {
        assert!(
            seen.contains(model_type) || SAME_AS_ANOTHER.contains(&model_type),
            "{model_type} has no fixture"
        );
    }
}
