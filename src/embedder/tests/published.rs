//! Tests with files like those of published models, without weights. Each file of `tests/published` holds the fields
//! of a model's files, the names and shapes of its tensors, and the expected result. Most files were written from
//! memory, as their field `source` says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{auto, entries, tests};
use crate::config::{KindConfig, ModelKind};
use crate::embedder::load::read_model;
use crate::embedder::memory::{self, TokenBudget};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::kernels::KernelPlan;
use crate::models;
use crate::weights::WeightFiles;

#[derive(Deserialize)]
pub(super) struct Published {
    model: String,
    /// Says whether the fields were copied from the repository or written from memory.
    source: String,
    /// The kind of model: `embed`, `score`, `sparse` or `multi`.
    loads: String,
    /// The name of a tokenizer of the same kind, which replaces the model's own.
    tokenizer: String,
    files: BTreeMap<String, Value>,
    weights: Option<Weights>,
    expect: Value,
}

#[derive(Deserialize)]
struct Weights {
    dtype: String,
    /// The tensors by name. {0..11} in a name stands for every number in that range.
    tensors: Map<String, Value>,
    /// The directory of the weights, within the model's directory.
    #[serde(default)]
    at: String,
}

fn bytes_of(dtype: &str) -> u64 {
    if dtype == "F32" { 4 } else { 2 }
}

/// Writes a safetensors file of zeros that takes almost no space on the disk.
fn write_weights(path: &Path, dtype: &str, tensors: &[(String, Vec<u64>)]) {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<u64>() * bytes_of(dtype);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

impl Weights {
    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let mut tensors = Vec::new();
        for (name, shape) in &self.tensors {
            let shape: Vec<u64> =
                shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            match name.split_once("{0..") {
                None => tensors.push((name.clone(), shape)),
                Some((before, rest)) => {
                    let (last, after) = rest.split_once('}').unwrap();
                    for i in 0..=last.parse::<u32>().unwrap() {
                        tensors.push((format!("{before}{i}{after}"), shape.clone()));
                    }
                }
            }
        }
        tensors
    }
}

impl Published {
    /// Writes the model into a directory.
    pub(super) fn write(&self, directory: &Path) {
        for (name, contents) in &self.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, contents.to_string()).unwrap();
            if name.contains("_Dense") {
                let size = |field: &str| contents[field].as_u64().unwrap();
                let (inner, columns) = (size("in_features"), size("out_features"));
                let mut tensors = vec![("linear.weight".to_owned(), vec![columns, inner])];
                if contents["bias"] == true {
                    tensors.push(("linear.bias".to_owned(), vec![columns]));
                }
                let file = path.with_file_name("model.safetensors");
                write_weights(&file, "F32", &tensors);
            }
        }
        let at = self.weights.as_ref().map_or("", |weights| weights.at.as_str());
        fs::create_dir_all(directory.join(at)).unwrap();
        let from = match self.tokenizer.as_str() {
            "word_piece" => "fixtures/tokenizer.json".to_owned(),
            other => format!("fixtures/{other}/tokenizer.json"),
        };
        fs::copy(tests(&from), directory.join(at).join("tokenizer.json")).unwrap();
        if let Some(weights) = &self.weights {
            let path = directory.join(at).join("model.safetensors");
            write_weights(&path, &weights.dtype, &weights.tensors());
        }
    }

    /// Returns the facts about the model that need no device, or the error that refuses the model.
    fn outcome(&self, directory: &Path) -> Result<Value, Error> {
        let files = ModelFiles::from_directory(directory)?;
        let kind = match self.loads.as_str() {
            "embed" => ModelKind::Dense,
            "score" => ModelKind::Reranker,
            "sparse" => ModelKind::Sparse,
            "multi" => ModelKind::MultiVector,
            other => panic!("{}: loads {other}", self.model),
        };
        let model = read_model(files, kind, None, None)?;
        if kind == ModelKind::Reranker {
            model.tokenizer.check_pairs()?;
        }
        let modules: Vec<String> = model
            .summaries()
            .into_iter()
            .map(|module| format!("{}: {}", module.kind, module.settings))
            .collect();
        let precisions = auto(&model);
        // The memory estimate finds every tensor, checks its shape, and builds the passes over full batches,
        // without reading a value. The adapter has only the limits that WebGPU promises.
        let plan =
            KernelPlan { max_flops: 20_000_000_000, cooperative: None, ..KernelPlan::of_gpu() };
        let budget = TokenBudget { tokens: 2048, fixed: true };
        let memory =
            memory::fit(&model, &precisions[1], &plan, &AdapterSummary::webgpu(), None, budget)?
                .memory;
        assert_eq!(models::unused_tensors(&model.weights)?, None, "{}", self.model);
        let listed = std::iter::once(&model.weights).chain(model.module_weights.iter().flatten());
        let ignored: Vec<String> = listed
            .flat_map(WeightFiles::listing)
            .filter(|(.., used)| !used)
            .map(|(name, ..)| name)
            .collect();
        let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20)).round() as u64;
        let stores: Vec<String> = precisions
            .iter()
            .map(|precision| format!("{}/{}", precision.weights, precision.activations))
            .collect();
        let prompts: BTreeMap<&String, &String> =
            model.config.prompts.iter().filter(|(_, prompt)| !prompt.is_empty()).collect();
        let checkpoint = model.checkpoint_dtype();
        // The logits of two answers become one score, so the dimension is 1.
        let dimension = match &model.config.kind {
            KindConfig::Reranker(scoring) if scoring.answers.is_some() => 1,
            _ => model.dimension,
        };
        Ok(json!({
            "modules": modules,
            "dimension": dimension,
            "max_seq_length": model.tokenizer.limit(),
            "prompts": prompts,
            "default_prompt_name": model.config.default_prompt_name,
            "checkpoint": format!("{} ({})", checkpoint.dtype.name(), checkpoint.source),
            "auto": stores,
            "f16_unsafe": model.transformer.facts().f16.activations_unsafe,
            "ignored": ignored,
            "mib": {"device": mib(memory.weights), "host": mib(memory.host_tables)},
        }))
    }

    /// Compares an outcome with the expected one. An expected sentence may end in …, where a list of supported names
    /// follows. The list is not compared, because it grows.
    fn expects(&self, outcome: &Value) -> bool {
        let said = |value: &Value| value["refused"].as_str().map(str::to_owned);
        match (said(&self.expect), said(outcome)) {
            (Some(expected), Some(said)) => match expected.strip_suffix('…') {
                Some(beginning) => said.starts_with(beginning),
                None => said == expected,
            },
            _ => *outcome == self.expect,
        }
    }
}

/// If `VECTILE_PUBLISHED=MiniLM` is set, the test is limited to files whose name contains this text.
#[test]
fn files_written_like_those_of_published_models_are_read_or_refused_as_expected() {
    let only = std::env::var("VECTILE_PUBLISHED").unwrap_or_default();
    let (mut models, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    let is_json = |file: &std::path::PathBuf| file.extension().is_some_and(|end| end == "json");
    for file in entries("published").into_iter().filter(is_json) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".json") || !name.contains(&only) {
            continue;
        }
        let published: Published = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(name, format!("{}.json", published.model.replace('/', "--")));
        assert!(!published.source.is_empty(), "{name}");
        let directory = tempfile::tempdir().unwrap();
        published.write(directory.path());
        let outcome = match published.outcome(directory.path()) {
            Err(error) => {
                assert!(error.is_user_error(), "{name}: {error}");
                refused += 1;
                json!({"refused": error.to_string()})
            }
            Ok(outcome) => outcome,
        };
        if !published.expects(&outcome) {
            wrong.push(format!("{name} {outcome}"));
        }
        models += 1;
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    if only.is_empty() {
        assert!(models >= 59 && refused >= 8, "{models}, {refused} refused");
    }
}
