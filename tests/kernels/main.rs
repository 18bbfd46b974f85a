//! Compares every kernel with its plain-Rust reference, with odd sizes and in all storage types, on a real adapter
//! (which may be software Vulkan).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod attention;
mod cooperative;
mod experts;
mod layer_norm;
mod lookup;
mod matmul;
mod normalize_l2;
mod pool;
mod range;
mod receipt;
mod rms_norm;
mod rope;
mod search;
mod selftest;
mod shapes;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Mutex, MutexGuard, OnceLock};

use pollster::block_on;
use vectile::convert;
use vectile::dtype::Storage;
use vectile::executor::Executor;
use vectile::gpu::adapter::Feature;
use vectile::gpu::executor::Outcome;
use vectile::gpu::graph::TensorSource;
use vectile::kernels::{Activations, Builder, KernelPlan, pad_rows};

pub use support::{noise, precision, storable as values};

/// Sizes that are smaller than, equal to, and larger than tiles and subgroups.
pub const RAGGED: &[usize] = &[1, 3, 63, 64, 65, 257];

/// The executors of the adapter with and without subgroups, or of the CPU with several threads and with one. Each
/// executor is opened once, and tests take turns in using it.
pub struct Bench {
    pub executors: Vec<Executor>,
}

/// Returns the executors that all tests share. Without an adapter, returns `None` and prints that the test is skipped.
pub fn bench() -> Option<MutexGuard<'static, Bench>> {
    static BENCH: OnceLock<Option<Mutex<Bench>>> = OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        let whole = support::open(&[], Some(3))?;
        let bare = support::open(&[Feature::Subgroups], Some(1))?;
        let adapter = whole.adapter();
        eprintln!("adapter: {adapter}, subgroups {:?}", adapter.subgroup_sizes);
        Some(Mutex::new(Bench { executors: vec![whole, bare] }))
    });
    if bench.is_none() {
        support::skip(support::REQUIRE_ADAPTER, "there is no GPU adapter");
    }
    bench.as_ref().map(|bench| bench.lock().unwrap_or_else(|e| e.into_inner()))
}

/// If this variable is set, a test fails if the adapter has no cooperative matrices. Tests then cover
/// only kernels with cooperative matrices.
pub const REQUIRE_COOPERATIVE: &str = "VECTILE_REQUIRE_COOPERATIVE";

pub fn only_matrices() -> bool {
    support::must_have(REQUIRE_COOPERATIVE)
}

/// Returns the plan that models use on an adapter.
pub fn own_plan(executor: &Executor) -> KernelPlan {
    executor.plan()
}

/// Returns the plans that a test runs on an adapter: both families of kernels, and cooperative matrices if the adapter
/// has them.
pub fn plans(executor: &Executor) -> Vec<KernelPlan> {
    let own = own_plan(executor);
    let mut plans = vec![
        KernelPlan { software: true, ..own.clone() },
        KernelPlan { software: false, cooperative: None, ..own.clone() },
    ];
    if only_matrices() {
        plans.clear();
    }
    if own.cooperative.is_some() {
        plans.push(KernelPlan { software: false, ..own.clone() });
    }
    plans
}

/// Returns the storage types of activations that an adapter supports.
pub fn storages(executor: &Executor) -> Vec<Storage> {
    if executor.is_cpu() {
        return vec![Storage::F32];
    }
    Storage::ALL
        .into_iter()
        .filter(|s| *s != Storage::F16 || executor.has_shader_f16())
        .filter(|s| *s == Storage::F16 || !only_matrices())
        .collect()
}

/// Returns the storage types of weights that an adapter supports.
pub fn weight_storages(executor: &Executor) -> Vec<Storage> {
    if executor.is_cpu() { Storage::ALL.to_vec() } else { storages(executor) }
}

/// Returns values as a tensor of activations `[rows, width]`.
pub fn activations(
    builder: &mut Builder,
    name: &'static str,
    values: &[f32],
    width: usize,
    storage: Storage,
) -> Activations {
    let padded = pad_rows(values, width);
    let mut bytes = Vec::new();
    convert::encode(storage, &padded, &mut bytes);
    let rows = values.len() / width;
    let id = builder.graph.add(name, bytes.len() as u64, TensorSource::Input(bytes));
    Activations { id, rows, width, width4: width.div_ceil(4), storage }
}

/// Runs a graph. Returns the values of `y` without padding, and the outcome of the run.
pub fn run(executor: &mut Executor, mut builder: Builder, y: Activations) -> (Vec<f32>, Outcome) {
    builder.graph.output = Some(y.id);
    builder.graph.tokens = builder.graph.tokens.max(y.rows);
    let outcome = block_on(executor.run(&builder.graph)).expect("the graph runs");
    let padded = convert::decode(y.storage, &outcome.output);
    // A small tensor lies in a larger buffer, so only its own rows are taken.
    let rows = padded
        .chunks_exact(y.width4 * 4)
        .take(y.rows)
        .flat_map(|row| row[..y.width].to_vec())
        .collect();
    (rows, outcome)
}

/// Returns the maximum error of storing a value near x.
pub fn rounding(storage: Storage, x: f64) -> f64 {
    let bits = match storage {
        Storage::F32 => 24,
        Storage::F16 | Storage::PackedF16 => 11,
        Storage::PackedBf16 => 8,
    };
    // This is the distance between neighbouring values of the storage type, since some drivers truncate when they store
    // a value.
    x.abs().max(6.2e-5) * 2f64.powi(1 - bits)
}

/// Asserts that every value is within `tolerance` of its expected value, plus the error of storing the value.
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], storage: Storage, tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs();
        let allowed = tolerance + rounding(storage, *e);
        assert!(error <= allowed, "{what}: value {i} is {g}, should be {e}, off by {error:e}");
    }
}
