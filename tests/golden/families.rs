//! Tests every architecture: the directories of `tests/fixtures/families`, in every storage type and with both families
//! of kernels. In f32 every directory is tested. In 16 bits one directory of each architecture is tested, to save time.
//! `VECTILE_FAMILY=roberta` tests the directories whose names contain `roberta`, in every storage type. An empty
//! `VECTILE_FAMILY=` tests all directories in every storage type.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::Value;
use vectile::{
    ActivationsRequest, DtypeRequest, EmbedOptions, Embedder, EmbedderBuilder, Feature,
    HalfFallback, ModelFiles, block_on,
};

use crate::fixtures::options;
use crate::support::{Distance, build, directories, distance, fixture, read_json, tensor};

/// The maximum differences of vectors and hidden states from those computed in float64.
struct Tolerance {
    /// The suffix of the reference tensor: empty, or `.float16` or `.bfloat16` for weights rounded to that dtype.
    reference: &'static str,
    cosine: f64,
    /// The largest error of vectors and hidden states, relative to the largest value.
    relative: f64,
}

/// The largest 1 - cosine between vectors with weights rounded to 16 bits and float64 vectors with the checkpoint's own
/// weights. If random layers amplify the rounding, the limit is the distance of the vectors that float64 arithmetic
/// gives with the rounded weights.
const ROUNDED: f64 = 1e-3;

const EXACT: Tolerance = Tolerance { reference: "", cosine: 0.999_999, relative: 2e-5 };

struct Family {
    name: String,
    directory: PathBuf,
    texts: Vec<String>,
    /// The reference tensors of embeddings, with the options that made them.
    cases: Vec<(String, EmbedOptions)>,
    /// The relative error of torch in f32.
    torch: f64,
    /// The measured errors of torch, by the name of the arithmetic.
    measured: Value,
}

/// The first family of each architecture, or all families if `VECTILE_FAMILY` is set.
fn one_of_each_architecture() -> Vec<Family> {
    let mut families = families();
    if std::env::var_os("VECTILE_FAMILY").is_none() {
        let mut seen = HashSet::new();
        families.retain(|family| seen.insert(family.architecture()));
    }
    families
}

fn families() -> Vec<Family> {
    let only = std::env::var("VECTILE_FAMILY").unwrap_or_default();
    let mut names = directories("families", "", 13);
    names.retain(|name| name.contains(&only));
    assert!(!names.is_empty(), "VECTILE_FAMILY: no family's name contains {only:?}");
    names
        .into_iter()
        .map(|name| {
            let directory = fixture("families").join(&name);
            let about: Value = read_json(&directory.join("fixture.json"));
            let cases = about["tensors"].as_object().unwrap().iter();
            let measured = about["measured_against_reference"].clone();
            Family {
                texts: read_json(&directory.join("texts.json")),
                cases: cases.map(|(name, how)| (name.clone(), options(&how["encode"]))).collect(),
                torch: measured["float32"]["relative"].as_f64().unwrap(),
                measured,
                name,
                directory,
            }
        })
        .collect()
}

impl Family {
    fn builder(&self) -> EmbedderBuilder {
        Embedder::builder(ModelFiles::from_directory(&self.directory).unwrap())
    }

    /// The `model_type` and the custom code in `config.json`, which together name the architecture.
    fn architecture(&self) -> (String, String) {
        let config = std::fs::read(self.directory.join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_slice(&config).unwrap_or_default();
        (config["model_type"].to_string(), config["auto_map"].to_string())
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        tensor(&self.directory.join("reference.safetensors"), name)
    }

    /// Checks vectors and bit-identical rows, and hidden states where the reference has the same arithmetic.
    fn check(&self, embedder: &Embedder, tolerance: &Tolerance) {
        let precision = embedder.precision();
        let what = format!(
            "{} in {} weights, {} activations",
            self.name, precision.weights, precision.activations
        );
        let mut worst = Distance { min_cosine: 1.0, ..Distance::default() };
        let mut rounded = String::new();
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
            if !tolerance.reference.is_empty() {
                let lost = self.rounding_distance(&got.values, got.dim, tolerance.reference, &what);
                rounded = format!(", {lost:.1e} from the checkpoint's own weights");
            }
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
            "{what}: 1 - cosine {:.1e}{rounded}, relative {:.1e} (torch in f32 {:.1e})",
            1.0 - worst.min_cosine,
            worst.relative,
            self.torch
        );
    }

    /// Returns 1 - the smallest cosine with float64 vectors of the checkpoint's own weights.
    fn rounding_distance(&self, got: &[f32], width: usize, rounding: &str, what: &str) -> f64 {
        let (_, exact) = self.tensor("embeddings");
        let lost = 1.0 - distance(got, &exact, width).min_cosine;
        let name = format!("{}_weights", &rounding[1..]);
        let torch = self.measured[name]["one_minus_min_cosine"].as_f64().unwrap();
        let allowed = ROUNDED.max(1.01 * torch);
        assert!(lost <= allowed, "{what}: {lost:e} from float64, more than {allowed:e}");
        lost
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

fn check_all(
    families: Vec<Family>,
    precision: impl Fn(EmbedderBuilder) -> EmbedderBuilder,
    tolerance: &Tolerance,
) {
    for family in families {
        let Some(embedder) = build(precision(family.builder())) else { return };
        family.check(&embedder, tolerance);
    }
}

fn packed(builder: EmbedderBuilder) -> EmbedderBuilder {
    builder
        .dtype(DtypeRequest::Float16)
        .disable(vec![Feature::ShaderF16])
        .half_fallback(HalfFallback::Packed)
}

#[test]
fn float32() {
    check_all(families(), |builder| builder.dtype(DtypeRequest::Float32), &EXACT);
}

#[test]
fn float32_by_the_kernels_for_gpus() {
    check_all(families(), |builder| builder.dtype(DtypeRequest::Float32).gpu_kernels(), &EXACT);
}

#[test]
fn packed_f16_weights_are_as_exact_as_their_rounding() {
    check_all(one_of_each_architecture(), packed, &Tolerance { reference: ".float16", ..EXACT });
}

#[test]
fn packed_bf16_weights_are_as_exact_as_their_rounding() {
    let bf16 = |builder: EmbedderBuilder| builder.dtype(DtypeRequest::Bfloat16).gpu_kernels();
    check_all(one_of_each_architecture(), bf16, &Tolerance { reference: ".bfloat16", ..EXACT });
}

/// Hidden states differ more than vectors where activations are rounded.
const HALF: Tolerance = Tolerance { reference: "", cosine: 0.999, relative: 3e-2 };

#[test]
fn float16_weights_and_activations() {
    let forced = |builder: EmbedderBuilder| {
        builder
            .dtype(DtypeRequest::Float16)
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16)
    };
    check_all(one_of_each_architecture(), forced, &HALF);
}

#[test]
fn packed_f16_weights_and_activations() {
    check_all(
        one_of_each_architecture(),
        |builder| packed(builder).activations(ActivationsRequest::F16),
        &HALF,
    );
}

/// Errors of a window show at its edges. The fixtures must have texts as long as the window and twice as long, and
/// texts one token shorter and longer than these. The fixtures of models with a two-sided window must have texts of
/// these lengths for each side.
#[test]
fn fixtures_have_texts_at_the_edges_of_windows() {
    let mut windows = 0;
    for family in families() {
        let config = std::fs::read(family.directory.join("config.json")).unwrap_or_default();
        let Ok(config) = serde_json::from_slice::<Value>(&config) else { continue };
        let of = |field: &str| config[field].as_u64().filter(|window| *window > 0);
        let sizes: Vec<u64> = match (of("local_attention"), of("sliding_window")) {
            (Some(both), _) => vec![both / 2, both],
            (None, Some(window)) if config["use_bidirectional_attention"] == true => {
                vec![window / 2, window]
            }
            (None, Some(window)) => vec![window],
            (None, None) => continue,
        };
        let (_, ends) = family.tensor("offsets");
        let lengths: Vec<u64> = ends.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect();
        for edge in sizes.iter().flat_map(|size| [*size, 2 * size]) {
            for length in [edge - 1, edge, edge + 1] {
                let name = &family.name;
                assert!(lengths.contains(&length), "{name}: no text of {length} tokens");
            }
        }
        windows += 1;
    }
    assert!(windows >= 7 || std::env::var_os("VECTILE_FAMILY").is_some());
}

#[test]
fn tables_larger_than_a_binding_give_bit_identical_rows() {
    // The token tables of these models have 512 rows of 32 values and are their largest bindings.
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
