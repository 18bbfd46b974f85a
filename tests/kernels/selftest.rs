//! The self-test passes in every storage that the adapter holds, and can fail.

use pollster::block_on;
use vectile::gpu::selftest;

use crate::{bench, storages};

#[test]
fn every_storage_passes() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for storage in storages(executor) {
            let worst = block_on(selftest::run(executor, storage)).unwrap();
            // A bf16 rounds eight times as coarsely as the f16 that the tolerance is made for.
            let most = if storage == vectile::Storage::PackedBf16 { 8.0 } else { 1.0 };
            assert!(worst > 0.0 && worst <= most * selftest::TOLERANCE, "{storage}: {worst}");
            eprintln!("{storage}: {worst:e}");
        }
    }
}
