//! Times the matmul of all-MiniLM-L6-v2's feed-forward layer, and the forward pass of whole texts, in every storage
//! type. The rates are relative to a native CPU matmul in the same run. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use support::{build, encoded, open, precision, read_json, root, test_model};
use vectile::convert;
use vectile::executor::Executor;
use vectile::kernels::matmul::{LinearTensors, RowSize};
use vectile::kernels::{Activation, Activations, Builder, matmul, reference};
use vectile::{
    DtypeRequest, Embedder, EmbedderBuilder, Feature, HalfFallback, ModelFiles, Precision, Storage,
    block_on,
};

const INNER: usize = 384;
const COLUMNS: usize = 1536;

/// The sizes of the bench: full under `cargo bench`, tiny under `cargo test`.
struct Size {
    rows: usize,
    rounds: usize,
    texts: usize,
}

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let size = if whole {
        Size { rows: 2048, rounds: 5, texts: usize::MAX }
    } else {
        Size { rows: 64, rounds: 1, texts: 4 }
    };
    let Some(mut executor) = open(&[], None) else { return };
    println!("adapter: {}", executor.adapter());
    println!(
        "vectile {}, rates in GFLOP per CPU-second, the best of {} rounds",
        env!("CARGO_PKG_VERSION"),
        size.rounds
    );
    let storages: Vec<Storage> = Storage::ALL
        .into_iter()
        .filter(|s| *s != Storage::F16 || executor.has_shader_f16())
        .collect();
    for storage in &storages {
        check(&mut executor, *storage);
    }
    // Each round measures every row of the table, so that a slow moment of the machine affects all rows.
    let mut native: f64 = 0.0;
    let mut rates = vec![0.0f64; storages.len()];
    for _ in 0..size.rounds {
        native = native.max(native_rate(size.rows));
        for (rate, storage) in rates.iter_mut().zip(&storages) {
            *rate = rate.max(kernel_rate(&mut executor, *storage, size.rows));
        }
    }
    println!("\nmatmul {}×{INNER}×{COLUMNS} + bias + GELU", size.rows);
    println!("  {:24} {native:8.1}", "matrixmultiply (CPU)");
    for (storage, rate) in storages.iter().zip(&rates) {
        println!("  {:24} {rate:8.1}   {:.3}× matrixmultiply", storage.to_string(), rate / native);
    }
    drop(executor);
    whole_texts(&size, &storages, &rates);
}

/// Returns the precision that the dtype policy chooses by default for weights of this storage type.
fn usual_precision(weights: Storage) -> Precision {
    precision(weights, if weights == Storage::F16 { Storage::F16 } else { Storage::F32 })
}

fn noise(i: usize) -> f32 {
    support::noise(0, i)
}

/// Returns a graph that contains the same matmul `repeats` times.
fn graph(
    executor: &Executor,
    weights: Storage,
    rows: usize,
    repeats: usize,
) -> (Builder, Activations) {
    let precision = usual_precision(weights);
    let storage = precision.activations;
    let mut builder = Builder::new(&executor.plan(), &precision);
    let x: Vec<f32> = (0..rows * INNER).map(noise).collect();
    let w: Vec<f32> = (0..INNER * COLUMNS).map(|i| noise(i + 7) * 0.05).collect();
    let x_id = builder.input("x", &encoded(&x, storage));
    let w_id = builder.input("w", &encoded(&w, weights));
    let bias = builder.input("bias", &vec![0.1f32; COLUMNS]);
    let x = Activations { id: x_id, rows, width: INNER, width4: INNER / 4, storage };
    let mut y = x;
    for _ in 0..repeats {
        let linear = LinearTensors { weight: w_id, bias };
        let size = RowSize::of(COLUMNS);
        y = matmul::matmul_of(&mut builder, "y", x, linear, size, Activation::Gelu, None);
    }
    builder.graph.output = Some(y.id);
    builder.graph.tokens = rows;
    (builder, y)
}

/// Checks the kernel's result before it is timed.
fn check(executor: &mut Executor, storage: Storage) {
    let rows = 5;
    let (builder, y) = graph(executor, storage, rows, 1);
    let outcome = block_on(executor.run(&builder.graph)).unwrap();
    let got = convert::decode(y.storage, &outcome.output);
    let x: Vec<f32> = (0..rows * INNER).map(noise).collect();
    // The reference takes weights in the layout of checkpoints: [columns, inner].
    let mut w = vec![0.0; INNER * COLUMNS];
    for (k, c) in (0..INNER).flat_map(|k| (0..COLUMNS).map(move |c| (k, c))) {
        w[c * INNER + k] = noise(k * COLUMNS + c + 7) * 0.05;
    }
    let expected = reference::matmul(&x, &w, &vec![0.1; COLUMNS], Activation::Gelu, None);
    let worst =
        got.iter().zip(&expected).map(|(g, e)| (f64::from(*g) - e).abs()).fold(0.0, f64::max);
    let allowed = if storage == Storage::F32 { 1e-4 } else { 5e-2 };
    assert!(worst <= allowed, "{storage}: off by {worst}");
}

fn kernel_rate(executor: &mut Executor, storage: Storage, rows: usize) -> f64 {
    let repeats = 4;
    let (builder, _) = graph(executor, storage, rows, repeats);
    block_on(executor.run(&builder.graph)).unwrap();
    let clock = Clock::start();
    block_on(executor.run(&builder.graph)).unwrap();
    (2 * repeats * rows * INNER * COLUMNS) as f64 / clock.seconds() / 1e9
}

fn native_rate(rows: usize) -> f64 {
    let x: Vec<f32> = (0..rows * INNER).map(noise).collect();
    let w: Vec<f32> = (0..INNER * COLUMNS).map(noise).collect();
    let mut y = vec![0.0f32; rows * COLUMNS];
    let repeats = 10;
    let clock = Clock::start();
    for _ in 0..repeats {
        let (m, k, n) = (rows, INNER, COLUMNS);
        let stride = |n: usize| n as isize;
        // SAFETY: the pointers and strides are those of the three row-major matrices above, so no access is out of
        // bounds.
        unsafe {
            matrixmultiply::sgemm(
                m,
                k,
                n,
                1.0,
                x.as_ptr(),
                stride(k),
                1,
                w.as_ptr(),
                stride(n),
                1,
                0.0,
                y.as_mut_ptr(),
                stride(n),
                1,
            );
        }
    }
    std::hint::black_box(&y);
    (2 * repeats * rows * INNER * COLUMNS) as f64 / clock.seconds() / 1e9
}

/// Times the embedding of whole texts with the model that `VECTILE_TEST_MODEL` names.
fn whole_texts(size: &Size, storages: &[Storage], matmul_rates: &[f64]) {
    let Some(directory) = test_model() else {
        println!("\nSKIPPED whole texts: VECTILE_TEST_MODEL does not name a model");
        return;
    };
    let file = std::env::var_os("VECTILE_BENCH_TEXTS")
        .map(PathBuf::from)
        .unwrap_or_else(|| root().join("examples/collection.txt"));
    let text = std::fs::read_to_string(&file).unwrap();
    let texts: Vec<&str> = text.lines().take(size.texts).collect();
    println!("\n{} texts of {}", texts.len(), file.file_name().unwrap().to_string_lossy());
    let mut base: Option<Vec<f32>> = None;
    for (storage, matmul_rate) in storages.iter().zip(matmul_rates) {
        let files = ModelFiles::from_directory(&directory).unwrap();
        let embedder = build(stored_as(*storage, Embedder::builder(files))).unwrap();
        assert_eq!(embedder.precision().weights, *storage, "the model runs in another storage");
        let warm = block_on(embedder.embed(&texts)).unwrap();
        let base = base.get_or_insert_with(|| warm.values.clone());
        let worst = warm.values.iter().zip(&*base).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-2, "{storage}: off by {worst}");
        let mut best = f64::MAX;
        for _ in 0..size.rounds.min(2) {
            let clock = Clock::start();
            block_on(embedder.embed(&texts)).unwrap();
            best = best.min(clock.seconds());
        }
        let options = vectile::EmbedOptions::default();
        let lengths: Vec<usize> =
            embedder.tokenize(&texts, &options).unwrap().iter().map(Vec::len).collect();
        let rate = model_flops(&directory, &lengths) / best / 1e9;
        println!(
            "  {:24} {rate:8.1}   {:.2}× the matmul   {:6.0} tokens per CPU-second",
            storage.to_string(),
            rate / matmul_rate,
            warm.tokens as f64 / best
        );
    }
}

fn stored_as(storage: Storage, builder: EmbedderBuilder) -> EmbedderBuilder {
    match storage {
        Storage::F32 => builder.dtype(DtypeRequest::Float32),
        Storage::F16 => builder.dtype(DtypeRequest::Float16),
        Storage::PackedBf16 => builder.dtype(DtypeRequest::Bfloat16),
        Storage::PackedF16 => builder
            .dtype(DtypeRequest::Float16)
            .disable(vec![Feature::ShaderF16])
            .half_fallback(HalfFallback::Packed),
    }
}

/// Returns the number of floating point operations in the linear layers and the attention of a BERT model.
fn model_flops(directory: &Path, lengths: &[usize]) -> f64 {
    let config: serde_json::Value = read_json(&directory.join("config.json"));
    let size = |key: &str| config[key].as_f64().unwrap();
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    let linear = 2.0 * (4.0 * hidden * hidden + 2.0 * hidden * inner);
    let flops_of_text = |n: &usize| *n as f64 * (linear + 4.0 * hidden * *n as f64);
    size("num_hidden_layers") * lengths.iter().map(flops_of_text).sum::<f64>()
}

/// A clock of this process's CPU time, or of wall-clock time if the system does not report CPU time.
struct Clock {
    wall: Instant,
    cpu: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Clock { wall: Instant::now(), cpu: cpu_seconds() }
    }

    fn seconds(&self) -> f64 {
        match (self.cpu, cpu_seconds()) {
            (Some(start), Some(end)) if end > start => end - start,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

/// Returns the user and system time of all threads in seconds, from Linux's `/proc`.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
