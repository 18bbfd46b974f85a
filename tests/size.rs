//! Tests models with the width of real ones. This file makes their weights from a hash, shard by shard.
//! `scripts/wide_model.py` made the same weights to compute reference hidden states with transformers. The files take
//! 1.1 GB and 0.4 GB.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use support::{build, cosine, distance, peak_memory, read_json, tensor};
use vectile::{
    DtypeRequest, Embedder, EmbedderBuilder, Error, HalfFallback, LoadProgress, ModelFiles,
    block_on,
};

/// The tests measure the memory of the whole process, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fixture(name: &str) -> PathBuf {
    support::fixture("wide").join(name)
}

/// Returns eight bytes of a tensor. They come from splitmix64, applied to a counter and the tensor's number.
fn hashed(tensor: u64, word: u64) -> [u8; 8] {
    let z = ((tensor << 40) + word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Returns the bf16 value that each byte of a tensor stands for. If `kind` is `"norm"`, values are 0.75 … 1.24.
/// Otherwise the signed bytes are divided by 2 to the power of `kind`.
fn values_of_bytes(kind: &Value) -> [u16; 256] {
    let value = |byte: u8| match kind.as_i64() {
        None => f32::from(96 + (byte & 63)) / 128.0,
        Some(power) => f32::from(byte.cast_signed()) * 2f32.powi(-power as i32),
    };
    std::array::from_fn(|byte| (value(byte as u8).to_bits() >> 16) as u16)
}

/// Writes the model's weights beside its other files, and returns their size in bytes.
fn write_weights(name: &str, into: &Path) -> u64 {
    let listed: Vec<(String, Vec<u64>, Value, String)> =
        read_json(&fixture(name).join("tensors.json"));
    let mut shards: Vec<&String> = listed.iter().map(|tensor| &tensor.3).collect();
    shards.sort();
    shards.dedup();
    let mut total = 0;
    for shard in shards {
        let here = || (1..).zip(&listed).filter(|(_, tensor)| tensor.3 == *shard);
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (_, (tensor, shape, _, _)) in here() {
            let begin = end;
            end += 2 * shape.iter().product::<u64>();
            let about = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
            header.insert(tensor.clone(), about);
        }
        total += end;
        let header = Value::Object(header).to_string();
        let mut file = BufWriter::new(std::fs::File::create(into.join(shard)).unwrap());
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        for (number, (_, shape, kind, _)) in here() {
            let values_of = values_of_bytes(kind);
            let words = shape.iter().product::<u64>() / 8;
            let mut values = vec![0u16; 8 << 16];
            for first in (0..words).step_by(1 << 16) {
                let count = (words - first).min(1 << 16);
                for (word, values) in (first..first + count).zip(values.chunks_exact_mut(8)) {
                    let bytes = hashed(number, word);
                    for i in 0..8 {
                        values[i] = values_of[usize::from(bytes[i])];
                    }
                }
                let values = &values[..8 * count as usize];
                file.write_all(bytemuck::cast_slice(values)).unwrap();
            }
        }
        file.flush().unwrap();
    }
    total
}

/// Makes the whole model in a temporary directory, and returns the size of its weights in bytes.
fn model(name: &str) -> (tempfile::TempDir, u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for file in [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    ] {
        let to = directory.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture(name).join(file), to).unwrap();
    }
    let begun = Instant::now();
    let bytes = write_weights(name, directory.path());
    eprintln!("{name}: {bytes} bytes of weights written in {:?}", begun.elapsed());
    (directory, bytes)
}

fn builder(directory: &Path) -> EmbedderBuilder {
    Embedder::builder(ModelFiles::from_directory(directory).unwrap()).or_adapter(support::adapter())
}

/// Compares the hidden states of the fixture's text with those of transformers. Also compares the vector with the
/// pooled hidden states of transformers.
fn check(name: &str, embedder: &Embedder, pool: fn(&[f64], usize) -> Vec<f64>, relative: f64) {
    let texts: Vec<String> = read_json(&fixture(name).join("texts.json"));
    let reference = fixture(name).join("reference.safetensors");
    let (_, ids) = tensor(&reference, "input_ids");
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    assert_eq!(embedder.tokenize(&texts, &Default::default()).unwrap(), [ids]);
    let (shape, expected) = tensor(&reference, "hidden");
    let width = shape[1];
    let got = block_on(embedder.hidden_states(&texts[0])).unwrap();
    let error = distance(&got, &expected, width).relative;
    let vector = block_on(embedder.embed(&texts)).unwrap().values;
    let pooled = pool(&expected, width);
    let cosine = cosine(&vector, &pooled);
    eprintln!(
        "{name}: {}: relative {error:.1e}, 1 - cosine {:.1e}",
        embedder.precision(),
        1.0 - cosine
    );
    assert!(error <= relative, "{error}");
    assert!(cosine >= if relative < 1e-4 { 0.999_999 } else { 0.999 }, "{cosine}");
}

fn last(hidden: &[f64], width: usize) -> Vec<f64> {
    hidden[hidden.len() - width..].to_vec()
}

fn mean(hidden: &[f64], width: usize) -> Vec<f64> {
    (0..width).map(|i| hidden.iter().skip(i).step_by(width).sum()).collect()
}

#[test]
fn two_layers_of_mistral_7b_load_within_weights_plus_one_gibibyte() {
    let _alone = alone();
    let (directory, weights) = model("mistral");
    assert!(weights > 1_100_000_000);
    for (dtype, relative) in [(DtypeRequest::Auto, 2e-5), (DtypeRequest::Float16, 3e-2)] {
        peak_memory(true);
        let told: Arc<Mutex<Vec<LoadProgress>>> = Arc::default();
        let teller = told.clone();
        let builder = builder(directory.path())
            .dtype(dtype)
            .half_fallback(HalfFallback::Packed)
            .on_progress(move |load| teller.lock().unwrap().push(load));
        let begun = Instant::now();
        let Some(embedder) = build(builder) else { return };
        let loaded = begun.elapsed();
        assert_eq!(embedder.precision().weights.bytes(), 2, "{}", embedder.precision());
        check("mistral", &embedder, last, relative);
        let peak = peak_memory(false);
        eprintln!(
            "{weights} bytes of weights, {} estimated, {} expected at most, peak {peak:?}, loaded in {loaded:?}",
            embedder.memory(),
            embedder.memory().peak(),
        );
        if embedder.adapter().is_software()
            && let Some(peak) = peak
        {
            assert!(peak < weights + (1 << 30), "{peak} of {weights}");
            // The estimate is for a full batch. The program and its driver need up to 340 MB more if the driver
            // compiles kernels that are not in its cache.
            assert!(peak < embedder.memory().peak() + (400 << 20), "{peak}");
        }
        // The progress is reported in order, in small steps, and to the end.
        let told = told.lock().unwrap();
        assert!(told.windows(2).all(|pair| pair[0].done < pair[1].done));
        assert!(told.windows(2).all(|pair| pair[1].done - pair[0].done <= 32 << 20));
        let end = told.last().unwrap();
        assert_eq!((end.done, end.total), (end.total, embedder.precision().weight_bytes));
    }
    // If a model does not fit, it is refused before any of it is loaded.
    let begun = Instant::now();
    let error = block_on(builder(directory.path()).max_memory(1 << 30).build()).unwrap_err();
    let Error::TooLarge { needed, available, problem, .. } = &error else { panic!("{error}") };
    assert_eq!(*available, 1 << 30);
    assert!(*needed > weights && *needed < weights + (1 << 30), "{needed}");
    assert!(problem.contains("GiB") && problem.contains("1.00 GiB"), "{problem}");
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn a_table_of_250002_rows_works_with_bindings_of_128_mib() {
    let _alone = alone();
    let (directory, weights) = model("xlm_roberta");
    let builder = builder(directory.path()).max_binding_bytes(128 << 20);
    let Some(embedder) = build(builder) else { return };
    assert!(embedder.adapter().max_binding_bytes <= 128 << 20);
    assert_eq!(embedder.memory().host_tables, 250_002 * 768 * 2);
    assert!(embedder.precision().weight_bytes >= weights);
    check("xlm_roberta", &embedder, mean, 2e-5);
}
