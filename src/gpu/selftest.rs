//! A known-answer test of `SHADER_F16` on the adapter itself, before any model trusts it.
//!
//! Drivers exist that announce f16 and compute it wrongly. A small pass through every kernel that
//! stores f16 is compared with the plain-Rust references; the verdict is kept by adapter, driver and
//! version of Vectile.

use std::path::Path;

use crate::convert;
use crate::dtype::{CheckpointDtype, FloatDtype, Precision, ShaderF16, Storage};
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::device::Gpu;
use crate::gpu::executor::Executor;
use crate::gpu::graph::Source;
use crate::kernels::{
    Activation, Activations, Builder, attention, layer_norm, lookup, matmul, pool, reference,
};

const TOKENS: usize = 21;
const WIDTH: usize = 32;
const HEADS: usize = 2;
/// The largest error that passes: some eight times what rounding each step to f16 was measured to
/// make.
pub const TOLERANCE: f64 = 2e-3;

/// What an adapter's f16 is worth: opens it and runs a known-answer test, unless `cache_dir` holds
/// the verdict of an earlier one.
///
/// # Errors
/// [`Error::Adapter`] where there is no such adapter or it does not open.
pub async fn check_shader_f16(
    adapter: &AdapterChoice,
    cache_dir: Option<&Path>,
) -> Result<ShaderF16, Error> {
    let mut executor = Executor::new(Gpu::open(adapter, &[]).await?);
    shader_f16(&mut executor, cache_dir).await
}

/// What the open device's f16 is worth.
///
/// Looks the verdict up in `cache`, a directory, where given; runs the test and keeps its verdict
/// there where it is not known yet. A cache that cannot be written is no error.
///
/// # Errors
/// Those of running a graph.
pub(crate) async fn shader_f16(
    executor: &mut Executor,
    cache: Option<&Path>,
) -> Result<ShaderF16, Error> {
    if executor.gpu.withheld.contains(&Feature::ShaderF16) {
        return Ok(ShaderF16::Withheld);
    }
    if !executor.gpu.has_shader_f16() {
        return Ok(ShaderF16::Absent);
    }
    // A device that computes nothing cannot answer.
    if executor.gpu.is_noop() {
        return Ok(ShaderF16::Passed);
    }
    let key = format!("{} | vectile {}", executor.gpu.adapter.key(), env!("CARGO_PKG_VERSION"));
    if let Some(verdict) = cache.and_then(|cache| crate::files::read_verdict(cache, &key)) {
        return Ok(if verdict { ShaderF16::Passed } else { ShaderF16::FailedSelfTest });
    }
    let worst = match run(executor, Storage::F16).await {
        // A driver that announces f16 and does not compile it has failed too.
        Err(Error::Internal(problem)) => {
            tracing::warn!(problem, "SHADER_F16 self-test");
            f64::INFINITY
        }
        result => result?,
    };
    let passed = worst <= TOLERANCE;
    tracing::info!(adapter = %executor.gpu.adapter, worst, passed, "SHADER_F16 self-test");
    if let Some(cache) = cache {
        crate::files::write_verdict(cache, &key, passed);
    }
    Ok(if passed { ShaderF16::Passed } else { ShaderF16::FailedSelfTest })
}

/// Runs embedding, norm, linear, attention and pooling in a storage; returns the largest error
/// against the references, infinite where a value is not a number or a token was marked.
///
/// # Errors
/// Those of running a graph.
pub async fn run(executor: &mut Executor, storage: Storage) -> Result<f64, Error> {
    let precision = Precision {
        requested: Default::default(),
        checkpoint: CheckpointDtype {
            dtype: FloatDtype::Float16,
            source: "self-test".to_owned(),
            reasons: Vec::new(),
        },
        weights: storage,
        activations: storage,
        weight_bytes: 0,
        reasons: Vec::new(),
    };
    let mut builder = Builder::new(executor.gpu.plan(), &precision);
    let (y, expected) = pass(&mut builder, storage);
    builder.graph.output = Some(y.id);
    builder.graph.tokens = TOKENS;
    let outcome = executor.run(&builder.graph).await?;
    if outcome.overflowed.contains(&true) {
        return Ok(f64::INFINITY);
    }
    let got = convert::decode(Storage::F32, &outcome.output);
    let worst = got.iter().zip(&expected).map(|(g, e)| {
        let error = (f64::from(*g) - e).abs();
        if error.is_nan() { f64::INFINITY } else { error }
    });
    Ok(worst.fold(0.0, f64::max))
}

/// A value in [-1, 1) for each index, the same everywhere.
fn noise(seed: u32, index: usize) -> f32 {
    let mut h = (index as u32 + 1).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    (h ^ (h >> 15)) as f32 / 2f32.powi(31) - 1.0
}

fn values(seed: u32, count: usize, scale: f32, storage: Storage) -> Vec<f32> {
    let raw: Vec<f32> = (0..count).map(|i| noise(seed, i) * scale).collect();
    let mut bytes = Vec::new();
    convert::encode(storage, &raw, &mut bytes);
    convert::decode(storage, &bytes)
}

/// The graph, and what the references make of the same inputs.
fn pass(builder: &mut Builder, storage: Storage) -> (Activations, Vec<f64>) {
    let as_f32 = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    let tables = [1, 2, 3].map(|seed| values(seed, 8 * WIDTH, 1.0, storage));
    let rows: Vec<[u32; 4]> =
        (0..TOKENS as u32).map(|t| [t * 5 % 8, t % 8, t * 3 % 8, 0]).collect();
    let ids = [0, 1, 2].map(|t: usize| encoded(builder, &tables[t], storage));
    let x = lookup::lookup(builder, &rows, ids, WIDTH);
    let expected = reference::lookup(&rows, [&tables[0], &tables[1], &tables[2]], WIDTH);

    let (weight, bias) = (values(4, WIDTH, 1.5, Storage::F32), values(5, WIDTH, 0.5, Storage::F32));
    let norm = [builder.input("weight", &weight), builder.input("bias", &bias)];
    let x = layer_norm::layer_norm_of(builder, x, Some(x), norm, 1e-5);
    let expected = as_f32(expected);
    let normed = reference::layer_norm(&expected, Some(&expected), &weight, &bias, 1e-5);
    let expected = as_f32(normed);

    let w = values(6, 3 * WIDTH * WIDTH, 0.3, storage);
    let bias = values(7, 3 * WIDTH, 0.3, Storage::F32);
    let mut packed = vec![0.0; w.len()];
    for (at, value) in w.iter().enumerate() {
        packed[at % WIDTH * 3 * WIDTH + at / WIDTH] = *value;
    }
    let linear = [encoded(builder, &packed, storage), builder.input("bias", &bias)];
    let columns = [3 * WIDTH, 3 * WIDTH / 4];
    let qkv = matmul::matmul_of(builder, "qkv", x, linear, columns, Activation::Gelu, None);
    let expected = as_f32(reference::matmul(&expected, &w, &bias, Activation::Gelu, None));

    let texts = [[0, 9], [9, 12]];
    let context = attention::attention(builder, qkv, &texts, HEADS, WIDTH / HEADS);
    let expected = as_f32(reference::attention(&expected, &texts, HEADS, WIDTH / HEADS));

    let spans = [[0, 9, 0, 0], [9, 12, 0, 0]];
    let pooled = pool::pool(builder, context, &spans, &[2]);
    let expected = spans.iter().flat_map(|span| reference::pool(&expected, WIDTH, *span, 2));
    (pooled, expected.collect())
}

fn encoded(builder: &mut Builder, values: &[f32], storage: Storage) -> crate::gpu::graph::TensorId {
    let mut bytes = Vec::new();
    convert::encode(storage, values, &mut bytes);
    builder.graph.add("values", bytes.len() as u64, Source::Input(bytes))
}
