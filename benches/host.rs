//! Measures the host's work for a batch: time by phase, objects made on the device, and heap allocations. See
//! `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use support::{ADAPTER, adapter, built, fixture, root, test_model};
use vectile::gpu::adapter::NoopAdapter;
use vectile::gpu::inject::{Call, Fault, FaultPlan};
use vectile::gpu::trace::{Measure, Phase, Trace};
use vectile::{AdapterChoice, Embedder, ModelFiles, block_on};

/// Counts the heap allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PHASES: [(Phase, &str); 6] = [
    (Phase::Pack, "graph"),
    (Phase::Upload, "upload"),
    (Phase::Encode, "encode"),
    (Phase::Submit, "submit"),
    (Phase::Wait, "wait"),
    (Phase::ReadBack, "rows"),
];

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let (rounds, batches) = if whole { (9, 100) } else { (1, 2) };
    let noop = NoopAdapter {
        shader_f16: true,
        subgroup_size: Some(32),
        webgpu_default_limits: false,
        max_binding_bytes: None,
        software: false,
    };
    let mut adapters = vec![AdapterChoice::Noop(Box::new(noop))];
    if std::env::var_os(ADAPTER).is_some() {
        adapters.push(adapter());
    }
    for choice in adapters {
        measure(choice, rounds, batches);
    }
}

/// Prints the host's work for batches of one text and of 32 texts.
fn measure(choice: AdapterChoice, rounds: usize, batches: usize) {
    let directory = test_model().unwrap_or_else(|| fixture("bert_mean_norm"));
    let files = ModelFiles::from_directory(&directory).unwrap();
    let plan = Arc::<FaultPlan>::default();
    let builder = Embedder::builder(files).adapter(choice).inject(plan.clone());
    let Some(embedder) = built(block_on(builder.build())) else { return };
    let dispatches = block_on(embedder.inspect()).graph.len();
    println!("\n{}: {}, {dispatches} dispatches", embedder.adapter(), directory.display());
    println!("medians of {rounds} rounds of {batches} batches; µs per batch, and counts per batch");
    print!("{:>6} {:>9}", "texts", "texts/s");
    PHASES.iter().for_each(|(_, name)| print!(" {name:>7}"));
    println!(" {:>7} {:>7} {:>7} {:>7}", "groups", "buffers", "writes", "allocs");
    let collection = std::fs::read_to_string(root().join("examples/collection.txt")).unwrap();
    for texts in [1, 32] {
        let texts: Vec<&str> = collection.lines().take(texts).collect();
        row(&embedder, &plan, &texts, rounds, batches);
    }
}

fn row(embedder: &Embedder, plan: &FaultPlan, texts: &[&str], rounds: usize, batches: usize) {
    let embed = || block_on(embedder.embed(texts)).unwrap();
    // The first batches compile kernels and make buffers.
    (0..3).for_each(|_| drop(embed()));
    let mut rates = Vec::new();
    let mut phases = vec![Vec::new(); PHASES.len()];
    for _ in 0..rounds {
        let since = Instant::now();
        (0..batches).for_each(|_| drop(embed()));
        rates.push((texts.len() * batches) as f64 / since.elapsed().as_secs_f64());
        block_on(embedder.measure(Some(Measure::Host)));
        (0..batches).for_each(|_| drop(embed()));
        let trace: Trace = block_on(embedder.measure(None)).unwrap();
        for ((phase, _), times) in PHASES.iter().zip(&mut phases) {
            times.push(trace.phase(*phase).as_secs_f64() * 1e6 / trace.batches as f64);
        }
    }
    print!("{:6} {:9.0}", texts.len(), median(rates));
    phases.into_iter().for_each(|times| print!(" {:7.1}", median(times)));
    for call in [Call::BindGroup, Call::Buffer, Call::Write] {
        // No call has this number, so the plan only counts.
        plan.arm_only(call, Fault::Refusal, u64::MAX);
        embed();
        plan.disarm();
        print!(" {:7}", plan.calls());
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    embed();
    println!(" {:7}", ALLOCATIONS.load(Ordering::Relaxed) - before);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
