//! Times every kernel at the sizes of a small model, in every storage type. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench fails by panicking, prints what it skips, and its macros make items"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{encoded, open, precision, storable as values};
use vectile::convert;
use vectile::executor::Executor;
use vectile::gpu::graph::{TensorId, TensorSource};
use vectile::gpu::trace::{Measure, Trace};
use vectile::kernels::matmul::{OutputTile, Variant};
use vectile::kernels::{
    ALL, Activation, Activations, Builder, KernelPlan, attention, combine, group_rows, layer_norm,
    lookup, matmul, normalize_l2, pad_rows, pool, reference, rms_norm, rope, route, similarity,
    top_k,
};
use vectile::{Precision, SimilarityFunction, Storage, block_on};

const HIDDEN: usize = 384;
const INNER: usize = 1536;
const HEADS: usize = 12;
const EXPERTS: usize = 8;
/// The number of experts that each token uses.
const TOP: usize = 2;

/// The output tensor of a run, and its expected values.
type Run = (Activations, Vec<f64>);

type Make = fn(&mut Builder, usize) -> Run;

/// Names of kernels without the family (such as `matmul`), each with a function that builds a run for a number of
/// tokens.
const CASES: &[(&str, Make)] = &[
    ("lookup", lookup_run),
    ("layer_norm", layer_norm_run),
    ("rms_norm", rms_norm_run),
    ("matmul", matmul_run),
    ("matmul_experts", matmul_experts_run),
    ("route", route_run),
    ("group_rows", group_rows_run),
    ("combine", combine_run),
    ("rope", rope_run),
    ("attention", attention_run),
    ("pool", pool_run),
    ("normalize_l2", normalize_run),
    ("similarity", similarity_run),
    ("top_k", top_k_run),
];

fn stored(builder: &mut Builder, values: &[f32], storage: Storage) -> TensorId {
    let bytes = encoded(values, storage);
    builder.graph.add("values", bytes.len() as u64, TensorSource::Input(bytes))
}

fn rows_of(builder: &mut Builder, values: &[f32], width: usize, storage: Storage) -> Activations {
    let id = stored(builder, &pad_rows(values, width), storage);
    Activations { id, rows: values.len() / width, width, width4: width.div_ceil(4), storage }
}

/// Returns a tensor of random activations `[tokens, width]`, and its values.
fn activations(
    builder: &mut Builder,
    seed: u32,
    tokens: usize,
    width: usize,
) -> (Activations, Vec<f32>) {
    let storage = builder.activations;
    let x = values(seed, tokens * width, 1.0, storage);
    (rows_of(builder, &x, width, storage), x)
}

/// Returns a tensor for an f32 vector such as a bias, and its values.
fn vector(builder: &mut Builder, seed: u32, width: usize) -> (TensorId, Vec<f32>) {
    let x = values(seed, width, 1.0, Storage::F32);
    (stored(builder, &x, Storage::F32), x)
}

fn lookup_run(builder: &mut Builder, tokens: usize) -> Run {
    let storage = builder.weights;
    let tables = [1, 2, 3].map(|seed| values(seed, 1000 * HIDDEN, 1.0, storage));
    let rows: Vec<[u32; 4]> =
        (0..tokens as u32).map(|t| [t * 37 % 1000, t % 512, t % 2, 0]).collect();
    let ids = tables.each_ref().map(|table| stored(builder, table, storage));
    let y = lookup::lookup(builder, &rows, ids, HIDDEN);
    (y, reference::lookup(&rows, [&tables[0], &tables[1], &tables[2]], HIDDEN))
}

fn layer_norm_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 4, tokens, HIDDEN);
    let (residual, residual_values) = activations(builder, 5, tokens, HIDDEN);
    let (weight, weights) = vector(builder, 6, HIDDEN);
    let (bias, biases) = vector(builder, 7, HIDDEN);
    let y = layer_norm::layer_norm_of(builder, x, Some(residual), [weight, bias], 1e-5);
    (y, reference::layer_norm(&x_values, Some(&residual_values), &weights, &biases, 1e-5))
}

fn rms_norm_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 8, tokens, HIDDEN);
    let (weight, weights) = vector(builder, 9, HIDDEN);
    let y = rms_norm::rms_norm_of(builder, x, weight, 1e-5, None);
    (y, reference::rms_norm(&x_values, &weights, 1e-5, None))
}

fn matmul_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 10, tokens, HIDDEN);
    let storage = builder.weights;
    let w = values(11, INNER * HIDDEN, 0.1, storage);
    let packed = matmul::repacked(&w, INNER);
    let weight = stored(builder, &packed, storage);
    let (bias, biases) = vector(builder, 12, INNER);
    let linear = matmul::LinearTensors { weight, bias };
    let size = matmul::RowSize::of(INNER);
    let y = matmul::matmul_of(builder, "up", x, linear, size, Activation::Gelu, None);
    (y, reference::matmul(&x_values, &w, &biases, Activation::Gelu, None))
}

/// Returns two experts for each token, in an irregular pattern.
fn experts(tokens: usize) -> Vec<usize> {
    let first = |token: usize| (token * 5 + token / 7) % EXPERTS;
    (0..tokens).flat_map(|t| [first(t), (first(t) + 1 + t % (EXPERTS - 1)) % EXPERTS]).collect()
}

fn choices(builder: &mut Builder, tokens: usize) -> (route::Choices, Vec<f32>) {
    let pairs: Vec<f32> = experts(tokens).iter().flat_map(|e| [*e as f32, 0.25]).collect();
    let rows = rows_of(builder, &pairs, 2 * TOP, Storage::F32);
    (route::Choices { pairs: rows, top: TOP, experts: EXPERTS }, pairs)
}

/// Builds a matmul for a mixture of experts. The host groups the rows by expert, so that only the matmul is timed.
fn matmul_experts_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 18, tokens, HIDDEN);
    let storage = builder.weights;
    let w = values(19, EXPERTS * INNER * HIDDEN, 0.1, storage);
    let packed: Vec<f32> =
        w.chunks_exact(INNER * HIDDEN).flat_map(|matrix| matmul::repacked(matrix, INNER)).collect();
    let weight = stored(builder, &packed, storage);
    let (bias, biases) = vector(builder, 20, INNER);
    let of_row = experts(tokens);
    let tile = if builder.plan.software { 16 } else { 64 };
    let slots = group_rows::slots(of_row.len(), EXPERTS, tile);
    let order = reference::group_rows(&of_row, EXPERTS, tile, slots);
    let order: Vec<f32> = order.into_iter().map(|value| value as f32).collect();
    let order = stored(builder, &order, Storage::F32);
    let grouped = group_rows::Grouped { order, slots, rows: of_row.len(), top: TOP };
    let linear = matmul::LinearTensors { weight, bias };
    let (size, gelu) = (matmul::RowSize::of(INNER), Activation::Gelu);
    let y = matmul::matmul_experts_of(builder, "up", x, linear, size, gelu, &grouped);
    (y, reference::matmul_experts(&x_values, &w, &biases, gelu, &of_row, TOP))
}

fn route_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 21, tokens, HIDDEN);
    let storage = builder.weights;
    let w = values(22, EXPERTS * HIDDEN, 0.1, storage);
    let router = stored(builder, &matmul::repacked(&w, EXPERTS), storage);
    let y = route::route_of(builder, x, router, EXPERTS, TOP).pairs;
    (y, reference::route(&x_values, &w, EXPERTS, TOP))
}

fn group_rows_run(builder: &mut Builder, tokens: usize) -> Run {
    let (choices, _) = choices(builder, tokens);
    let (y, grouped) = group_rows::group_rows_of(builder, &choices, 16);
    (y, reference::group_rows(&experts(tokens), EXPERTS, 16, grouped.slots))
}

fn combine_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, x_values) = activations(builder, 23, tokens * TOP, HIDDEN);
    let (choices, pairs) = choices(builder, tokens);
    let (bias, biases) = vector(builder, 24, HIDDEN);
    let y = combine::combine(builder, x, &choices, bias);
    (y, reference::combine(&x_values, &pairs, TOP, &biases))
}

fn rope_run(builder: &mut Builder, tokens: usize) -> Run {
    let head = HIDDEN / HEADS;
    let turns = rope::Rope { heads: HEADS, kv_heads: HEADS, head };
    let frequencies: Vec<f64> =
        (0..head / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / head as f64)).collect();
    let positions: Vec<u32> = (0..tokens as u32).map(|t| t % 128).collect();
    let angles = rope::angles(&frequencies, 1.0, 128);
    let (x, x_values) = activations(builder, 13, tokens, 2 * HIDDEN);
    let table = rope::Angles::new(builder, &positions, &angles, head / 2);
    let (weight, weights) = vector(builder, 25, 2 * head);
    let y = rope::rope(builder, x, &table, &turns, rope::HeadNorm { weight, eps: 1e-6 });
    let expected =
        reference::rope(&x_values, &positions, (&angles, head / 2), &turns, (&weights, 1e-6));
    (y, expected)
}

/// Returns texts of 128 tokens, of which the last is shorter.
fn texts(tokens: usize) -> Vec<attention::TextSpan> {
    let text = |first: usize| {
        let length = 128.min(tokens - first) as u32;
        attention::TextSpan::whole(first as u32, length)
    };
    (0..tokens).step_by(128).map(text).collect()
}

fn attention_run(builder: &mut Builder, tokens: usize) -> Run {
    let (qkv, values) = activations(builder, 14, tokens, 3 * HIDDEN);
    let y = attention::attention(builder, qkv, &texts(tokens), HEADS, HIDDEN / HEADS);
    (y, reference::attention(&values, &texts(tokens), HEADS, HIDDEN / HEADS))
}

fn pool_run(builder: &mut Builder, tokens: usize) -> Run {
    let (x, values) = activations(builder, 16, tokens, HIDDEN);
    let spans: Vec<[u32; 4]> =
        texts(tokens).iter().map(|text| [text.first, text.tokens, 0, 0]).collect();
    let y = pool::pool(builder, x, &spans, &[2]);
    let expected = spans.iter().flat_map(|span| reference::pool(&values, HIDDEN, *span, 2));
    (y, expected.collect())
}

fn normalize_run(builder: &mut Builder, tokens: usize) -> Run {
    let x = values(17, tokens * HIDDEN, 1.0, Storage::F32);
    let rows = rows_of(builder, &x, HIDDEN, Storage::F32);
    (normalize_l2::normalize_l2(builder, rows), reference::normalize_l2(&x, HIDDEN))
}

/// Builds a comparison of one query with one row for each token.
fn similarity_run(builder: &mut Builder, tokens: usize) -> Run {
    let storage = builder.weights;
    let x = values(20, tokens * HIDDEN, 0.05, storage);
    let query = values(21, HIDDEN, 0.05, Storage::F32);
    let rows = rows_of(builder, &x, HIDDEN, storage);
    let query_t = rows_of(builder, &query, HIDDEN, Storage::F32);
    let dot = SimilarityFunction::Dot;
    let y = similarity::similarity(builder, rows, query_t, dot);
    (y, reference::similarity(&x, &query, HIDDEN, dot))
}

/// Builds a selection of the ten best scores of each tile, with one score for each token.
fn top_k_run(builder: &mut Builder, tokens: usize) -> Run {
    let scores = values(22, tokens, 1.0, Storage::F32);
    let row = rows_of(builder, &scores, tokens, Storage::F32);
    (top_k::pass(builder, row, 10, false), reference::top_k(&scores, tokens, 64, 10))
}

/// Returns the precision that the dtype policy chooses by default for weights of this storage type.
fn usual_precision(weights: Storage) -> Precision {
    precision(weights, if weights == Storage::F16 { Storage::F16 } else { Storage::F32 })
}

/// Checks that every value differs from its expected value by no more than the rounding of the storage type.
fn assert_right(executor: &mut Executor, name: &str, builder: &Builder, (y, expected): &Run) {
    let outcome = block_on(executor.run(&builder.graph)).unwrap();
    let filled = convert::decode(y.storage, &outcome.output);
    let got = filled.chunks_exact(y.width4 * 4).take(y.rows).flat_map(|row| &row[..y.width]);
    let rounding = if y.storage == Storage::F32 { 2e-5 } else { 2e-3 };
    let mut compared = 0;
    for (got, expected) in got.zip(expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= rounding * expected.abs().max(1.0), "{name}: {got}, expected {expected}");
        compared += 1;
    }
    assert_eq!(compared, expected.len(), "{name}");
}

/// Returns each storage type with the kernel plans to run: first the plan that the adapter uses, then plans with the
/// other kernels that the adapter can run. The matmul of a layer runs in every tile size.
fn runs(executor: &Executor, case: &str) -> Vec<(Storage, KernelPlan)> {
    let own = executor.plan();
    let other = KernelPlan { software: !own.software, cooperative: None, ..own.clone() };
    let matrices = KernelPlan { software: false, ..own.clone() };
    let mut plans = vec![own.clone(), other, matrices];
    if case == "matmul" {
        let tile = |tile| KernelPlan { forced: Some(Variant::Tile(tile)), ..own.clone() };
        plans.extend(OutputTile::ALL.map(tile));
    }
    Storage::ALL
        .into_iter()
        .filter(|storage| *storage != Storage::F16 || executor.has_shader_f16())
        .flat_map(|storage| {
            plans.iter().map(move |plan| (storage, plan.clone())).collect::<Vec<_>>()
        })
        .collect()
}

fn kernels(criterion: &mut Criterion) {
    let Some(mut executor) = open(&[], None) else { return };
    println!(
        "adapter: {}; times are {}",
        executor.adapter(),
        match executor.has_timestamps() {
            true => "the GPU's own",
            false => "those of the whole run, including upload and read-back",
        }
    );
    let named = |kernel: &str| CASES.iter().any(|(case, _)| kernel.starts_with(case));
    assert!(ALL.iter().all(|kernel| named(kernel.name)), "a kernel has no bench");
    let whole = std::env::args().any(|arg| arg == "--bench");
    let tokens = if whole { 512 } else { 19 };
    for (case, make) in CASES {
        let mut seen = Vec::new();
        for (storage, plan) in runs(&executor, case) {
            let mut builder = Builder::new(&plan, &usual_precision(storage));
            let run = make(&mut builder, tokens);
            builder.graph.output = Some(run.0.id);
            builder.graph.tokens = tokens;
            let kernel = builder.graph.dispatches[0].kernel;
            let reads =
                kernel.reads_weights || (storage == Storage::F16 && kernel.reads_activations);
            let variant = plan.forced.map_or(String::new(), |variant| format!("/{variant}"));
            let name = format!("{}/{}{variant}", kernel.name, storage.name());
            if (storage != Storage::F32 && !reads) || seen.contains(&name) {
                continue;
            }
            seen.push(name.clone());
            assert_right(&mut executor, &name, &builder, &run);
            let mut group = criterion.benchmark_group(*case);
            group.sample_size(20).measurement_time(Duration::from_secs(2));
            group.throughput(Throughput::Elements(tokens as u64));
            group.bench_function(&name, |bencher| {
                bencher.iter_custom(|runs| (0..runs).map(|_| time(&mut executor, &builder)).sum());
            });
            group.finish();
        }
    }
}

/// Returns the time of the kernel by the GPU's timestamps, or the time of the whole run if the GPU has no timestamps.
fn time(executor: &mut Executor, builder: &Builder) -> Duration {
    executor.measure(Some(Trace::new(Measure::Gpu)));
    let since = Instant::now();
    block_on(executor.run(&builder.graph)).unwrap();
    let wall = since.elapsed();
    let ns: u64 = executor.measure(None).map_or(0, |t| t.dispatches.iter().map(|d| d.ns).sum());
    // Some timestamps are too coarse for a short kernel, but criterion needs a time above zero.
    if executor.has_timestamps() { Duration::from_nanos(ns.max(1)) } else { wall }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
