//! Measures the time from texts to vectors in every precision that the adapter supports. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench fails by panicking, prints what it skips, and its macros make items"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{REQUIRE_ADAPTER, adapter, fixture, root, skip, test_model};
use vectile::lab::Combination;
use vectile::{Embedder, Error, ModelFiles, Precision, block_on};

/// Returns the directory of the model that `VECTILE_TEST_MODEL` names, or of a tiny model from the tests.
fn directory() -> PathBuf {
    test_model().unwrap_or_else(|| fixture("bert_mean_norm"))
}

/// Loads the model in a precision. Returns `None` if the adapter cannot run the precision as requested.
fn load(combination: Combination) -> Option<Embedder> {
    let files = ModelFiles::from_directory(directory()).unwrap();
    let built =
        block_on(combination.request(Embedder::builder(files), &[]).or_adapter(adapter()).build());
    let embedder = match built {
        Ok(embedder) => embedder,
        Err(Error::Option { .. }) => return None,
        Err(Error::Adapter { problem, .. }) => {
            skip(REQUIRE_ADAPTER, &problem);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let Precision { weights, activations, .. } = *embedder.precision();
    ((weights, activations) == (combination.weights, combination.activations)).then_some(embedder)
}

fn embed(criterion: &mut Criterion) {
    let collection = std::fs::read_to_string(root().join("examples/collection.txt")).unwrap();
    let texts: Vec<&str> = collection.lines().take(32).collect();
    let mut base: Option<Vec<f32>> = None;
    for combination in Combination::usual(false) {
        let Some(embedder) = load(combination) else {
            println!("SKIPPED: {combination} is not available here");
            continue;
        };
        let right = block_on(embedder.embed(&texts)).unwrap();
        let base = base.get_or_insert_with(|| right.values.clone());
        let worst = right.values.iter().zip(&*base).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-2, "{combination}: off by {worst}");

        let mut group = criterion.benchmark_group("embed");
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        group.throughput(Throughput::Elements(right.tokens as u64));
        group.bench_function(format!("{combination}/32 passages"), |bencher| {
            bencher.iter(|| block_on(embedder.embed(&texts)).unwrap());
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{combination}/one query"), |bencher| {
            bencher.iter(|| block_on(embedder.embed(&["what keeps bread fresh"])).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, embed);
criterion_main!(benches);
