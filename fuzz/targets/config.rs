//! The target `config`: reads the JSON files of a model of any architecture, and plans its load.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use super::edits;
use crate::config::ModelKind;
use crate::embedder::plan_without_device;
use crate::files::{ModelFiles, ReadAt};
use crate::gpu::shader::resolve_imports;

/// The maximum number of workgroups in a dimension of a dispatch, in WebGPU.
const MOST_WORKGROUPS: u32 = 65_535;

/// A valid model, whose files the target changes.
pub struct Base {
    /// The directory's name, for messages of tests.
    #[cfg(test)]
    name: String,
    kind: ModelKind,
    /// The JSON files, by name.
    json: BTreeMap<String, Value>,
    others: BTreeMap<String, Arc<dyn ReadAt>>,
    /// The headers of the safetensors files, by name.
    weights: BTreeMap<String, Map<String, Value>>,
    /// The unchanged files by name, so that an input only has to write the files that it changes.
    unchanged: BTreeMap<String, Arc<dyn ReadAt>>,
}

/// A file with the bytes `head`, followed by zeros. The zeros stand for the weights' values, which planning does not
/// read.
struct Zeros {
    head: Vec<u8>,
    size: u64,
}

impl ReadAt for Zeros {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::result::Result<(), String> {
        let start = self.head.len().min(offset as usize);
        let known = (self.head.len() - start).min(into.len());
        into[..known].copy_from_slice(&self.head[start..start + known]);
        into[known..].fill(0);
        Ok(())
    }
}

/// Returns every model of the fixtures, with a small tokenizer. The fixtures are read once.
pub fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut bases = Vec::new();
        for group in ["", "families", "rerankers", "sparse", "multi_vector"] {
            let entries = std::fs::read_dir(root.join(group)).expect("the fixtures are readable");
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                bases.extend(Base::read(&root.join(group).join(name)));
            }
        }
        bases
    })
}

impl Base {
    fn read(directory: &Path) -> Option<Self> {
        let mut base = Base {
            #[cfg(test)]
            name: directory.display().to_string(),
            kind: ModelKind::Dense,
            json: BTreeMap::new(),
            others: BTreeMap::new(),
            weights: BTreeMap::new(),
            unchanged: BTreeMap::new(),
        };
        if !["config.json", "modules.json"].iter().any(|file| directory.join(file).exists()) {
            return None;
        }
        base.add(directory, "");
        for (name, value) in &base.json {
            base.unchanged.insert(name.clone(), Arc::new(value.to_string().into_bytes()));
        }
        for (name, header) in &base.weights {
            base.unchanged.insert(name.clone(), Arc::new(zeros(header)));
        }
        let group = directory.parent()?.file_name()?;
        let files = base.files();
        base.kind = match group.to_str()? {
            "sparse" => ModelKind::Sparse,
            "multi_vector" => ModelKind::MultiVector,
            "rerankers" => ModelKind::Reranker,
            _ => ModelKind::of(&files).ok()?,
        };
        Some(base)
    }

    fn add(&mut self, directory: &Path, prefix: &str) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.map(|entry| entry.unwrap()) {
            let file = entry.file_name().to_string_lossy().into_owned();
            let name = format!("{prefix}{file}");
            if entry.path().is_dir() {
                self.add(&entry.path(), &format!("{name}/"));
                continue;
            }
            let content = std::fs::read(entry.path()).unwrap();
            match &*file {
                "reference.safetensors" | "fixture.json" | "texts.json" | "pairs.json" => {}
                "tokenizer.json" => drop(self.json.insert(name, tokenizer())),
                _ if file.ends_with(".json") => {
                    let value = serde_json::from_slice(&content).expect("a fixture is JSON");
                    self.json.insert(name, value);
                }
                _ if file.ends_with(".safetensors") => {
                    let size = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
                    let header = serde_json::from_slice(&content[8..8 + size]).unwrap();
                    self.weights.insert(name, header);
                }
                _ => drop(self.others.insert(name, Arc::new(content))),
            }
        }
    }

    /// Returns the unchanged files.
    fn files(&self) -> ModelFiles {
        self.with(BTreeMap::new())
    }

    /// Returns the files with some of them changed. A changed file that is `None` is left out.
    fn with(&self, mut changed: BTreeMap<String, Option<Arc<dyn ReadAt>>>) -> ModelFiles {
        let mut files: Vec<(String, Arc<dyn ReadAt>)> = Vec::new();
        for (name, file) in self.unchanged.iter().chain(&self.others) {
            match changed.remove(name) {
                None => files.push((name.clone(), file.clone())),
                Some(file) => files.extend(file.map(|file| (name.clone(), file))),
            }
        }
        files.extend(changed.into_iter().filter_map(|(name, file)| Some((name, file?))));
        ModelFiles::from_sources("fuzz", files).expect("the names of a fixture's files are valid")
    }
}

/// Returns a safetensors file with this header. Its offsets are computed from the shapes.
fn zeros(header: &Map<String, Value>) -> Zeros {
    let mut header = header.clone();
    let mut at = 0u64;
    for (name, entry) in &mut header {
        if name == "__metadata__" {
            continue;
        }
        let size = match entry["dtype"].as_str() {
            Some("F64" | "I64") => 8,
            Some("F32" | "I32" | "U32") => 4,
            Some("F16" | "BF16") => 2,
            _ => 1,
        };
        let shape = entry["shape"].as_array().cloned().unwrap_or_default();
        let sizes = shape.iter().map(|size| size.as_u64().unwrap_or(1));
        let bytes = sizes.fold(size, |bytes: u64, size| bytes.saturating_mul(size)).min(1 << 40);
        entry["data_offsets"] = json!([at, at + bytes]);
        at += bytes;
    }
    let header = Value::Object(header).to_string();
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend_from_slice(header.as_bytes());
    Zeros { size: head.len() as u64 + at, head }
}

/// Returns a tokenizer of a few words, which loads fast.
fn tokenizer() -> Value {
    let words = [
        "[UNK]",
        "[PAD]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "<s>",
        "</s>",
        "<pad>",
        "<unk>",
        "<mask>",
        "yes",
        "no",
        "a",
        "b",
        "[unused0]",
        "[unused1]",
        "[Q] ",
        "[D] ",
        "<|endoftext|>",
        "<eos>",
        "<bos>",
    ];
    let vocabulary: Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [{"id": 4, "content": "[MASK]", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    })
}

/// Returns the names of all fields in the fixtures, so that an edit can give a model a field of another one.
fn field_names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let files = bases().iter().flat_map(|base| &base.json);
        let configs = files.filter(|(name, _)| !name.ends_with("tokenizer.json"));
        let objects = configs.filter_map(|(_, value)| value.as_object());
        let mut names: Vec<&str> = objects.flat_map(Map::keys).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    })
}

/// The target `config`. The first byte chooses a fixture, and the second chooses between the model's own kind and
/// another kind. If the third byte is 0, the other bytes replace the fixture's `config.json`. If it is 1, they replace
/// `modules.json`. Otherwise they choose mistakes in the model's files.
pub fn config(data: &[u8]) {
    let Some((&[base, kind, mode], data)) = data.split_first_chunk() else { return };
    let base = &bases()[usize::from(base) % bases().len()];
    let kind = match kind {
        0..4 => ModelKind::ALL[usize::from(kind)],
        _ => base.kind,
    };
    let files = match mode {
        0 | 1 => {
            let name = ["config.json", "modules.json"][usize::from(mode)].to_owned();
            let file: Arc<dyn ReadAt> = Arc::new(data.to_vec());
            base.with([(name, Some(file))].into())
        }
        _ => edited(&mut Unstructured::new(data), base).unwrap_or_else(|_| base.files()),
    };
    check(files, kind, data.last().is_some_and(|last| last % 128 == 1));
}

/// Returns the files of a base with mistakes in one or two JSON files, and sometimes in the shapes of tensors.
fn edited(u: &mut Unstructured, base: &Base) -> Result<ModelFiles> {
    let mut changed: BTreeMap<String, Option<Arc<dyn ReadAt>>> = BTreeMap::new();
    for _ in 0..u.int_in_range(1..=2)? {
        let names: Vec<&String> = base.json.keys().collect();
        let name = *u.choose(&names)?;
        let mut value = base.json[name].clone();
        edits::edit(u, &mut value, field_names())?;
        let text = edits::text(u, &value)?;
        let left_out = u.ratio(1, 40)?;
        changed.insert(name.clone(), (!left_out).then(|| Arc::new(text) as Arc<dyn ReadAt>));
    }
    if u.ratio(1, 4)? {
        let names: Vec<&String> = base.weights.keys().collect();
        let name = *u.choose(&names)?;
        let mut header = base.weights[name].clone();
        let tensors: Vec<String> = header.keys().cloned().collect();
        if !tensors.is_empty() {
            let tensor = u.choose(&tensors)?;
            match u.int_in_range(0..=3)? {
                0 => drop(header.remove(tensor)),
                1 => {
                    let entry = header[tensor].clone();
                    header.insert(format!("model.{tensor}"), entry);
                }
                _ => edits::edit(u, &mut header[tensor], &["shape", "dtype"])?,
            }
        }
        changed.insert(name.clone(), Some(Arc::new(zeros(&header))));
    }
    Ok(base.with(changed))
}

/// Plans a model. If it is accepted, checks that its graph fits every adapter and that its shaders can be resolved.
pub fn check(files: ModelFiles, kind: ModelKind, resolves: bool) -> bool {
    let Ok(model) = plan_without_device(files, kind) else { return false };
    assert!(model.dimension > 0, "an accepted model gives rows without values");
    assert!(model.memory.peak() > 0 && model.memory.batch_tokens > 0, "{:?}", model.memory);
    let graph = &model.graph;
    let output = &graph.tensors[graph.output.expect("the graph has an output").0];
    // The graph computes one token, so its output is one row. A tensor has at least 16 bytes.
    let row = (model.dimension.next_multiple_of(4) * 4).max(16) as u64;
    assert_eq!(output.bytes, row, "the row has another width than {}", model.dimension);
    for dispatch in &graph.dispatches {
        let name = dispatch.kernel.name;
        assert_eq!(dispatch.bindings.len(), dispatch.kernel.bindings.len(), "{name}");
        assert_eq!(dispatch.params.len(), dispatch.kernel.params.len() * 4, "{name}");
        let sides = dispatch.workgroups.to_array();
        assert!(sides.iter().all(|side| (1..=MOST_WORKGROUPS).contains(side)), "{name}: {sides:?}");
        for id in &dispatch.bindings {
            let tensor = &graph.tensors[id.0];
            assert!(
                tensor.bytes <= 128 << 20,
                "{name}: {} has {} bytes",
                tensor.name,
                tensor.bytes
            );
        }
        if resolves {
            let text = resolve_imports(dispatch.kernel.source, &dispatch.variant);
            let text = text.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(text.len() < 1 << 20, "{name}: {} bytes of WGSL", text.len());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_that_the_target_changes_are_accepted() {
        let refused: Vec<&str> = bases()
            .iter()
            .filter(|base| !check(base.files(), base.kind, true))
            .map(|base| &*base.name)
            .collect();
        assert!(bases().len() > 90, "{}", bases().len());
        assert!(refused.is_empty(), "{refused:?}");
    }
}
