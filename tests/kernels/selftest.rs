//! Tests that every kernel passes its known-answer test in every variant and storage type that the adapter supports,
//! and that a broken kernel fails its test.

use pollster::block_on;
use vectile::Storage;
use vectile::executor::Executor;
use vectile::kernels::ALL;
use vectile::selftest::{KernelCheck, STORAGES, check_all};

use crate::support::{lacks, lacks_shaders, open};
use crate::{bench, own_plan, storages, weight_storages};

fn checks(executor: &mut Executor) -> Vec<KernelCheck> {
    block_on(check_all(executor, |_, _| {})).unwrap()
}

#[test]
fn every_kernel_passes_in_every_variant_and_storage() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let held = weight_storages(executor);
        let checks = checks(executor);
        for check in &checks {
            eprintln!(
                "{} {} {:?} {:?} {:?} {:?}",
                check.kernel,
                check.variant,
                check.weights,
                check.activations,
                check.error,
                check.share
            );
            assert!(check.passed, "{check:?}");
            // Only these results can be exact: sums of f16 values in f32, positions of rows, which are integers, and scores
            // that are only sorted.
            let exact = ["group_rows", "top_k"].contains(&check.kernel)
                || check.kernel == "lookup" && check.activations == Some(Storage::F32);
            assert!(check.error.is_some_and(|error| error > 0.0 || exact), "{check:?}");
        }
        let matrices = own_plan(executor).cooperative.is_some();
        for kernel in ALL.iter().filter(|kernel| matrices || !kernel.cooperative) {
            let own: Vec<_> = checks.iter().filter(|c| c.kernel == kernel.name).collect();
            for storage in &held {
                let wanted = STORAGES.iter().any(|(w, a)| {
                    (!kernel.cooperative || (*w, *a) == (Storage::F16, Storage::F16))
                        && storages(executor).contains(a)
                        && ((kernel.reads_weights && w == storage)
                            || (kernel.reads_activations && a == storage))
                });
                let has = |c: &&&KernelCheck| {
                    c.weights == Some(*storage) || c.activations == Some(*storage)
                };
                assert_eq!(own.iter().any(|c| has(&c)), wanted, "{} {storage}", kernel.name);
            }
            assert!(!own.is_empty(), "{}", kernel.name);
        }
    }
}

/// Returns a separate executor, since an edited kernel stays in its executor.
fn executor() -> Option<Executor> {
    drop(bench()?);
    if lacks_shaders() { None } else { open(&[], None) }
}

#[test]
fn a_kernel_that_is_off_by_a_little_fails() {
    let Some(mut executor) = executor() else { return };
    executor.edit_shader(("layer_norm", |wgsl| {
        wgsl.replace("let scale = 1.0 /", "let scale = 1.003 /")
    }));
    for check in checks(&mut executor) {
        assert_eq!(check.passed, check.kernel != "layer_norm", "{check:?}");
    }
}

/// Drivers compute nothing (gfx-rs/wgpu#1881), only some of the values (gfx-rs/wgpu#1583), or with parameters that are
/// zero (gfx-rs/wgpu#2296).
#[test]
fn a_kernel_that_does_part_of_its_work_fails() {
    let edits: [fn(String) -> String; 3] = [
        |wgsl| wgsl.replace("= value[i];", "= 0.0;"),
        |wgsl| wgsl.replace("if column < params.width {", "if (column & 1u) == 0u {"),
        |wgsl| wgsl.replace("cell >= params.width4", "cell >= 0u"),
    ];
    for edit in edits {
        let Some(mut executor) = executor() else { return };
        executor.edit_shader(("pool", edit));
        for check in checks(&mut executor) {
            assert_eq!(check.passed, check.kernel != "pool", "{check:?}");
        }
    }
}

#[test]
fn a_kernel_that_is_wrong_only_in_f16_fails_only_there() {
    let Some(mut executor) = executor() else { return };
    if !executor.has_shader_f16() {
        lacks("the adapter has no SHADER_F16");
        return;
    }
    executor.edit_shader(("lookup", |wgsl| {
        wgsl.replace("return vec4<f16>(value);", "return vec4<f16>(value * 1.01);")
    }));
    for check in checks(&mut executor) {
        let wrong = check.kernel == "lookup" && check.activations == Some(Storage::F16);
        assert_eq!(check.passed, !wrong, "{check:?}");
    }
}

#[test]
fn a_kernel_that_does_not_compile_fails_with_the_drivers_message() {
    let Some(mut executor) = executor() else { return };
    executor.edit_shader(("pool", |wgsl| wgsl.replace("pooled[row + column]", "nowhere[row]")));
    for check in checks(&mut executor) {
        assert_eq!(check.passed, check.kernel != "pool", "{check:?}");
        let said = check.problem.as_deref().unwrap_or_default();
        assert_eq!(said.contains("nowhere"), check.kernel == "pool", "{check:?}");
    }
}
