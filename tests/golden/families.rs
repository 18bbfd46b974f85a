//! Every architecture: each directory of `tests/fixtures/families` in every storage and by both sorts
//! of kernels. `VECTILE_FAMILY=roberta` runs the directories whose name has that in it.

use std::path::PathBuf;

use serde_json::Value;
use vectile::{
    ActivationsRequest, DtypeRequest, EmbedOptions, Embedder, EmbedderBuilder, Feature,
    HalfFallback, ModelFiles, block_on,
};

use crate::fixtures::options;
use crate::{Distance, build, distance, fixture, tensor};

/// How close vectors and hidden states must be to float64 arithmetic.
struct Tolerance {
    /// `embeddings`, or those of float64 arithmetic on weights rounded to `.float16` or `.bfloat16`.
    reference: &'static str,
    cosine: f64,
    /// Largest error over the largest value, of vectors and of hidden states.
    relative: f64,
}

const EXACT: Tolerance = Tolerance { reference: "", cosine: 0.999_999, relative: 2e-5 };

struct Family {
    name: String,
    directory: PathBuf,
    texts: Vec<String>,
    /// The tensors of embeddings and the options that made them.
    cases: Vec<(String, EmbedOptions)>,
    /// What torch was measured to reach in f32.
    torch: f64,
}

fn families() -> Vec<Family> {
    let only = std::env::var("VECTILE_FAMILY").unwrap_or_default();
    let entries = std::fs::read_dir(fixture("families")).unwrap();
    let mut directories: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(directories.len() >= 13);
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let wanted = directories.into_iter().filter(|path| named(path).contains(&only));
    wanted
        .map(|directory| {
            let read = |file: &str| std::fs::read(directory.join(file)).unwrap();
            let about: Value = serde_json::from_slice(&read("fixture.json")).unwrap();
            let cases = about["tensors"].as_object().unwrap().iter();
            let measured = &about["measured_against_reference"]["float32"];
            Family {
                name: named(&directory),
                texts: serde_json::from_slice(&read("texts.json")).unwrap(),
                cases: cases.map(|(name, how)| (name.clone(), options(&how["encode"]))).collect(),
                torch: measured["relative"].as_f64().unwrap(),
                directory,
            }
        })
        .collect()
}

impl Family {
    fn builder(&self) -> EmbedderBuilder {
        Embedder::builder(ModelFiles::from_directory(&self.directory).unwrap())
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        tensor(&self.directory.join("reference.safetensors"), name)
    }

    /// Vectors, bits, and where the arithmetic is that of the reference also hidden states.
    fn check(&self, embedder: &Embedder, tolerance: &Tolerance) {
        let precision = embedder.precision();
        let what = format!(
            "{} in {} weights, {} activations",
            self.name, precision.weights, precision.activations
        );
        let mut worst = Distance { min_cosine: 1.0, ..Distance::default() };
        let mut hold = |part: &str, got: &[f32], expected: &[f64], width: usize| {
            let d = distance(got, expected, width);
            let good = d.min_cosine >= tolerance.cosine && d.relative <= tolerance.relative;
            assert!(good, "{what}: {part}: {d:?}, torch in f32 {:e}", self.torch);
            worst.relative = worst.relative.max(d.relative);
            worst.min_cosine = worst.min_cosine.min(d.min_cosine);
        };
        for (name, options) in &self.cases {
            if !tolerance.reference.is_empty() && name != "embeddings" {
                continue;
            }
            let got = block_on(embedder.embed_with(&self.texts, options)).unwrap();
            let (shape, expected) = self.tensor(&format!("{name}{}", tolerance.reference));
            assert_eq!([got.len(), got.dim], shape[..], "{what}: {name}");
            hold(name, &got.values, &expected, got.dim);
            self.check_ids(embedder, name, options);
            if name == "embeddings" {
                for (i, row) in got.rows().enumerate().rev() {
                    let alone = block_on(embedder.embed_with(&self.texts[i..=i], options)).unwrap();
                    assert_eq!(alone.row(0), row, "{what}: text {i} alone and in a batch");
                }
            }
        }
        if tolerance.reference.is_empty() {
            for (i, text) in self.texts.iter().enumerate().filter(|(i, _)| [0, 5, 10].contains(i)) {
                let name = format!("hidden.{i}");
                if !self.has(&name) {
                    continue;
                }
                let (shape, expected) = self.tensor(&name);
                let got = block_on(embedder.hidden_states(text)).unwrap();
                hold(&name, &got, &expected, shape[1]);
            }
        }
        eprintln!(
            "{what}: 1 - cosine {:.1e}, relative {:.1e} (torch in f32 {:.1e})",
            1.0 - worst.min_cosine,
            worst.relative,
            self.torch
        );
    }

    fn has(&self, name: &str) -> bool {
        let bytes = std::fs::read(self.directory.join("reference.safetensors")).unwrap();
        safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(name).is_ok()
    }

    fn check_ids(&self, embedder: &Embedder, name: &str, options: &EmbedOptions) {
        let suffix = name.strip_prefix("embeddings").unwrap();
        let (_, expected) = self.tensor(&format!("input_ids{suffix}"));
        let (_, offsets) = self.tensor(&format!("offsets{suffix}"));
        let ids = embedder.tokenize(&self.texts, options).unwrap();
        for (i, (ids, ends)) in ids.iter().zip(offsets.windows(2)).enumerate() {
            let ids: Vec<f64> = ids.iter().copied().map(f64::from).collect();
            let expected = &expected[ends[0] as usize..ends[1] as usize];
            assert_eq!(ids, expected, "{} {name}: token ids of text {i}", self.name);
        }
    }
}

fn check_all(precision: impl Fn(EmbedderBuilder) -> EmbedderBuilder, tolerance: &Tolerance) {
    for family in families() {
        let Some(embedder) = build(precision(family.builder())) else { return };
        family.check(&embedder, tolerance);
    }
}

fn packed(builder: EmbedderBuilder) -> EmbedderBuilder {
    builder
        .dtype(DtypeRequest::Float16)
        .withhold(vec![Feature::ShaderF16])
        .half_fallback(HalfFallback::Packed)
}

#[test]
fn float32() {
    check_all(|builder| builder.dtype(DtypeRequest::Float32), &EXACT);
}

#[test]
fn float32_by_the_kernels_for_gpus() {
    check_all(|builder| builder.dtype(DtypeRequest::Float32).gpu_kernels(), &EXACT);
}

#[test]
fn packed_f16_weights_are_as_exact_as_their_rounding() {
    check_all(packed, &Tolerance { reference: ".float16", ..EXACT });
}

#[test]
fn packed_bf16_weights_are_as_exact_as_their_rounding() {
    let bf16 = |builder: EmbedderBuilder| builder.dtype(DtypeRequest::Bfloat16).gpu_kernels();
    check_all(bf16, &Tolerance { reference: ".bfloat16", ..EXACT });
}

/// Hidden states stray further than vectors where activations are rounded.
const HALF: Tolerance = Tolerance { reference: "", cosine: 0.999, relative: 3e-2 };

#[test]
fn float16_weights_and_activations() {
    let forced = |builder: EmbedderBuilder| {
        builder
            .dtype(DtypeRequest::Float16)
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16)
    };
    check_all(forced, &HALF);
}

#[test]
fn packed_f16_weights_and_activations() {
    check_all(|builder| packed(builder).activations(ActivationsRequest::F16), &HALF);
}

#[test]
fn tables_beyond_a_binding_are_gathered_to_the_same_bits() {
    // Their token tables are of 512 rows of 32 values, and nothing else they bind is as large.
    let wanted = ["roberta", "static", "model2vec_int8"];
    for family in families().iter().filter(|family| wanted.contains(&family.name.as_str())) {
        for precision in [DtypeRequest::Float32, DtypeRequest::Bfloat16] {
            let builder = || family.builder().dtype(precision);
            let Some(whole) = build(builder()) else { return };
            let bytes = 512 * 32 * whole.precision().weights.bytes() - 1;
            let gathered = build(builder().max_binding_bytes(bytes)).unwrap();
            let [whole, gathered] =
                [&whole, &gathered].map(|e| block_on(e.embed(&family.texts)).unwrap().values);
            assert_eq!(whole, gathered, "{}", family.name);
        }
    }
}
