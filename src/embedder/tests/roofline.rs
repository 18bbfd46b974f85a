//! Tests that the tables in `docs/roofline.md` are the predictions of `lab::roofline`.

use std::fmt::Write;

use serde::Deserialize;

use super::published::Published;
use super::tests;
use crate::batch::PackedBatch;
use crate::config::ModelKind;
use crate::dtype::{DtypeOptions, DtypeRequest, HalfFallback, ShaderF16, resolve};
use crate::embedder::assembly::Assembly;
use crate::embedder::load::read_model;
use crate::embedder::model::Model;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::kernels::KernelPlan;
use crate::lab::roofline::{KnownGpu, shortest_seconds};
use crate::weights::Destination;

/// The number of tokens in the texts of the tables, and the number of texts.
const BATCH: (usize, usize) = (128, 128);

/// The models of the tables: the heading, and the file with the shapes of the tensors.
const MODELS: [(&str, &str); 5] = [
    ("all-MiniLM-L6-v2", "sentence-transformers--all-MiniLM-L6-v2"),
    ("BERT-base (bge-base-en-v1.5)", "BAAI--bge-base-en-v1.5"),
    ("ModernBERT-base (gte-modernbert-base)", "Alibaba-NLP--gte-modernbert-base"),
    ("Qwen3-Embedding-0.6B", "Qwen--Qwen3-Embedding-0.6B"),
    ("Mistral-7B (e5-mistral-7b-instruct)", "intfloat--e5-mistral-7b-instruct"),
];

#[derive(Deserialize)]
struct Recorded {
    gpu: String,
    product: String,
    adapter: AdapterSummary,
}

/// Returns the predicted tokens per second in f32, f16 or packed f16; `None` if the GPU has no f16 in shaders or not
/// enough memory.
fn tokens_per_s(model: &Model, known: &KnownGpu, gpu: &Recorded, column: usize) -> Option<f64> {
    let (dtype, shader_f16, half_fallback) = [
        (DtypeRequest::Float32, ShaderF16::Absent, HalfFallback::F32),
        (DtypeRequest::Float16, ShaderF16::Passed, HalfFallback::F32),
        (DtypeRequest::Float16, ShaderF16::Absent, HalfFallback::Packed),
    ][column];
    if column == 1 && !gpu.adapter.shader_f16 {
        return None;
    }
    let options = DtypeOptions { dtype, half_fallback, ..DtypeOptions::default() };
    let facts = model.transformer.facts();
    let checkpoint = model.checkpoint_dtype();
    let precision = resolve(options, checkpoint, shader_f16, facts.f16, None).unwrap();
    let mut counting = Destination::counting(&gpu.adapter);
    let assembly = match Assembly::load(model, precision.weights, &mut counting) {
        Err(Error::Adapter { .. }) => return None,
        loaded => loaded.unwrap(),
    };
    let weights = counting.finish().unwrap().device;
    if weights as f64 > known.memory_gb * 1e9 {
        return None;
    }
    let (length, texts) = BATCH;
    let batch = PackedBatch::uniform(length, texts);
    let plan = KernelPlan::of_known(&gpu.adapter);
    let graph = assembly.graph(&plan, &precision, &batch).graph;
    Some((length * texts) as f64 / shortest_seconds(known, &graph))
}

/// Formats a number with three significant digits, and with commas between groups of three digits.
fn three_digits(number: f64) -> String {
    let unit = 10_f64.powi((number.log10().floor() as i32 - 2).max(0));
    let digits = format!("{:.0}", (number / unit).round() * unit);
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

fn model_table(name: &str, file: &str, gpus: &[Recorded]) -> String {
    let text = std::fs::read(tests(&format!("published/{file}.json"))).unwrap();
    let published: Published = serde_json::from_slice(&text).unwrap();
    let directory = tempfile::tempdir().unwrap();
    published.write(directory.path());
    let files = ModelFiles::from_directory(directory.path()).unwrap();
    let model = read_model(files, ModelKind::Dense, None, None).unwrap();
    let mut table = format!("### {name}\n\n| GPU | product | f32 | f16 | packed f16 |\n");
    table += "| --- | --- | --- | --- | --- |\n";
    let known = KnownGpu::all();
    for gpu in gpus {
        let known = known.iter().find(|known| known.gpu == gpu.gpu).unwrap();
        let cells = [0, 1, 2].map(|column| {
            tokens_per_s(&model, known, gpu, column).map_or_else(|| "–".to_owned(), three_digits)
        });
        writeln!(table, "| `{}` | {} | {} |", gpu.gpu, gpu.product, cells.join(" | ")).unwrap();
    }
    table
}

#[test]
fn the_page_of_the_roofline_has_the_predictions() {
    let root = tests("..");
    let adapters = std::fs::read(root.join("benches/compilers/adapters.json")).unwrap();
    let gpus: Vec<Recorded> = serde_json::from_slice(&adapters).unwrap();
    let mut tables: Vec<String> =
        MODELS.iter().map(|(name, file)| model_table(name, file, &gpus)).collect();
    tables.push(KnownGpu::table());
    let page = std::fs::read_to_string(root.join("docs/roofline.md")).unwrap();
    let missing: Vec<&String> = tables.iter().filter(|table| !page.contains(*table)).collect();
    assert!(missing.is_empty(), "docs/roofline.md needs these tables:\n\n{}", tables.join("\n"));
}
