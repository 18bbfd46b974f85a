//! Tests that batches of a known shape make nothing on the device again, and that the memory for this is bounded.

use std::sync::Arc;

use pollster::block_on;

use super::skip::skip;
use super::tests;
use crate::embedder::{Embedder, TextModel};
use crate::error::Error;
use crate::executor::Executor;
use crate::files::ModelFiles;
use crate::gpu::adapter::{AdapterChoice, NoopAdapter};
use crate::gpu::inject::{Call, Fault, FaultPlan};

/// The maximum number of bind groups that an executor may cache.
const MOST_GROUPS: usize = 2048;

fn build(adapter: AdapterChoice, plan: &Arc<FaultPlan>) -> Result<Embedder, Error> {
    let files = ModelFiles::from_directory(tests("fixtures/bert_mean_norm")).unwrap();
    block_on(Embedder::builder(files).adapter(adapter).inject(plan.clone()).build())
}

/// Returns an embedder on a device that computes nothing.
fn silent(plan: &Arc<FaultPlan>) -> Embedder {
    let noop = NoopAdapter {
        shader_f16: true,
        subgroup_size: None,
        webgpu_default_limits: true,
        max_binding_bytes: None,
        software: false,
    };
    build(AdapterChoice::Noop(Box::new(noop)), plan).unwrap()
}

/// Returns the number of calls of each kind that a batch makes: bind groups, buffers and writes.
fn calls(embedder: &Embedder, plan: &FaultPlan, texts: &[&str]) -> [u64; 3] {
    [Call::BindGroup, Call::Buffer, Call::Write].map(|call| {
        // No call has this number, so the plan only counts.
        plan.arm_only(call, Fault::Refusal, u64::MAX);
        block_on(embedder.embed(texts)).unwrap();
        assert_eq!(plan.disarm(), None);
        plan.calls()
    })
}

#[test]
fn a_batch_of_a_known_shape_makes_no_bind_groups_and_no_buffers() {
    let plan = Arc::<FaultPlan>::default();
    let embedder = silent(&plan);
    let (short, long) = (["a b c"], ["a b c d e f g h", "a b"]);
    let count = |call| {
        plan.arm_only(call, Fault::Refusal, u64::MAX);
        block_on(embedder.embed(&short)).unwrap();
        plan.disarm();
        plan.calls()
    };
    assert!(count(Call::BindGroup) > 10, "the first batch makes its bind groups");
    let [groups, buffers, writes] = calls(&embedder, &plan, &short);
    assert_eq!((groups, buffers), (0, 0));
    block_on(embedder.embed(&long)).unwrap();
    // The parameters of another shape are written, and those of a known shape are on the device.
    block_on(embedder.embed(&short)).unwrap();
    block_on(embedder.embed(&long)).unwrap();
    plan.arm_only(Call::Write, Fault::Refusal, u64::MAX);
    block_on(embedder.embed(&short)).unwrap();
    plan.disarm();
    assert_eq!(
        plan.calls(),
        writes + 1,
        "a batch after one of another shape writes its parameters"
    );
    let [groups, buffers, again] = calls(&embedder, &plan, &short);
    assert_eq!((groups, buffers, again), (0, 0, writes));
}

#[test]
fn a_thousand_shapes_keep_to_the_bound() {
    let plan = Arc::<FaultPlan>::default();
    let embedder = silent(&plan);
    let mut largest = 0;
    for shape in 0..1000 {
        let text = "a ".repeat(1 + shape % 40);
        let texts = vec![text.as_str(); 1 + shape / 40];
        block_on(embedder.embed(&texts)).unwrap();
        let runtime = block_on(embedder.runner().runtime.lock());
        let Executor::Gpu(executor) = &runtime.executor else { panic!("the device is no GPU") };
        largest = largest.max(executor.cached_bind_groups());
    }
    assert!((10..=MOST_GROUPS).contains(&largest), "{largest} bind groups");
}

/// Rows of batches whose bind groups and parameters come from earlier batches, and from batches of other shapes.
#[test]
fn rows_do_not_depend_on_the_batches_before() {
    let plan = Arc::<FaultPlan>::default();
    let load = || match build(AdapterChoice::Gpu, &plan) {
        Ok(embedder) => Some(embedder),
        Err(Error::Adapter { adapter, problem }) if adapter == "none" => {
            skip("VECTILE_REQUIRE_ADAPTER", &problem);
            None
        }
        Err(error) => panic!("{error}"),
    };
    let long = "words and more ".repeat(30);
    let batches: [&[&str]; 4] =
        [&["A text."], &["B text."], &[long.as_str(), "Another.", ""], &["One", "two", "three"]];
    let mut expected = Vec::new();
    for texts in batches {
        let Some(fresh) = load() else { return };
        expected.push(block_on(fresh.embed(texts)).unwrap().values);
    }
    let Some(embedder) = load() else { return };
    for at in [0, 0, 1, 2, 0, 3, 2, 1, 3, 0] {
        let rows = block_on(embedder.embed(batches[at])).unwrap().values;
        assert!(rows == expected[at], "batch {at}");
    }
    // A bind group or parameters that the device refused are not used again.
    for call in [Call::BindGroup, Call::Write] {
        block_on(embedder.embed(batches[0])).unwrap();
        plan.arm_only(call, Fault::Refusal, 1);
        let refused = block_on(embedder.embed(&["a text of a new number of tokens here"]));
        assert_eq!(plan.disarm(), Some(call));
        assert!(refused.is_err(), "{call:?}");
        for at in [0, 2] {
            let rows = block_on(embedder.embed(batches[at])).unwrap().values;
            assert!(rows == expected[at], "batch {at} after a refused {call:?}");
        }
    }
}
