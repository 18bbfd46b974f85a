//! Tests the receipt of a batch: if any kernel stops computing, the receipt of the same batch shows it.

use pollster::block_on;
use vectile::executor::Executor;
use vectile::gpu::executor::StoppingKernel;
use vectile::gpu::graph::Graph;
use vectile::gpu::kernel::Kernel;
use vectile::kernels::answers::{ANSWERS, Family};
use vectile::kernels::{ALL, Builder, KernelPlan};
use vectile::{Embedder, EmbedderBuilder, Error};

use crate::support::{build, lacks_shaders, model_files, open};
use crate::{bench, own_plan, plans, precision, storages};

/// Returns a separate executor, since a stopped kernel stays stopped in its executor.
fn executor() -> Option<Executor> {
    drop(bench()?);
    if lacks_shaders() { None } else { open(&[], None) }
}

/// Returns the graph of every known-answer test that the adapter can run, with the name of its kernel.
fn graphs(executor: &Executor) -> Vec<(&'static str, Graph)> {
    let storage = storages(executor)[0];
    let mut graphs = Vec::new();
    for answer in ANSWERS {
        let own = KernelPlan {
            cooperative: own_plan(executor).cooperative,
            ..plans(executor)[0].clone()
        };
        let Some(plan) = answer.family.plan(&own, (storage, storage)) else { continue };
        for run in answer.runs {
            let mut builder = Builder::new(&plan, &precision(storage, storage));
            let made = run(&mut builder);
            builder.graph.output = Some(made.y.id);
            builder.graph.tokens = made.y.rows;
            graphs.push((answer.kernel.name, builder.graph));
        }
    }
    graphs
}

#[test]
fn every_kernel_signs_its_batch_and_is_missed_when_it_stops() {
    let Some(mut executor) = executor() else { return };
    let graphs = graphs(&executor);
    assert!(graphs.iter().any(|(kernel, _)| *kernel == "matmul_tile"));
    assert!(ANSWERS.iter().all(|answer| answer.family == Family::Cooperative
        || graphs.iter().any(|(kernel, _)| *kernel == answer.kernel.name)));
    for (kernel, graph) in graphs {
        block_on(executor.run(&graph)).unwrap();
        executor.stop_kernel(StoppingKernel { kernel, after: 0 });
        let error = block_on(executor.run(&graph)).unwrap_err();
        assert!(matches!(error, Error::DeviceFault { .. }), "{kernel}: {error}");
        assert!(error.to_string().contains("dispatches of a batch ran"), "{kernel}: {error}");
        executor.stop_kernel(StoppingKernel { kernel: "none", after: 0 });
        block_on(executor.run(&graph)).unwrap();
    }
}

/// In gfx-rs/wgpu#1582, results are right at first and zero later.
#[test]
fn a_kernel_that_stops_after_ten_batches_is_noticed_in_the_eleventh() {
    let Some(mut executor) = executor() else { return };
    let (_, graph) = graphs(&executor).into_iter().find(|(name, _)| *name == "pool").unwrap();
    executor.stop_kernel(StoppingKernel { kernel: "pool", after: 10 });
    for batch in 1..=12 {
        let outcome = block_on(executor.run(&graph));
        assert_eq!(outcome.is_ok(), batch <= 10, "batch {batch}: {outcome:?}");
    }
}

#[test]
fn each_graph_in_flight_has_its_own_receipt() {
    let Some(mut executor) = executor() else { return };
    let graphs = graphs(&executor);
    for pair in graphs.windows(2) {
        let [(_, first), (_, second)] = pair else { continue };
        let one = block_on(executor.start(first)).unwrap();
        let two = block_on(executor.start(second)).unwrap();
        block_on(executor.finish(first, one)).unwrap();
        block_on(executor.finish(second, two)).unwrap();
    }
}

fn builder() -> EmbedderBuilder {
    Embedder::builder(model_files("bert_mean_norm"))
}

/// In ggml-org/llama.cpp#6874 and #29216, every row is wrong from some batch on, until the server restarts.
#[test]
fn a_model_returns_no_row_once_any_of_its_kernels_stops() {
    if lacks_shaders() {
        return;
    }
    let Some(model) = build(builder()) else { return };
    let dispatches = block_on(model.inspect()).graph;
    let runs = |kernel: &&&Kernel| dispatches.iter().any(|one| one.kernel == kernel.name);
    let kernels: Vec<&'static str> = ALL.iter().filter(runs).map(|kernel| kernel.name).collect();
    assert!(kernels.len() >= 6, "{kernels:?}");
    let expected = block_on(model.embed(&["a text"])).unwrap();
    for kernel in kernels {
        let model = build(builder().stop_kernel(StoppingKernel { kernel, after: 10 })).unwrap();
        for batch in 1..=12 {
            match block_on(model.embed(&["a text"])) {
                Ok(rows) => assert!(batch <= 10 && rows == expected, "{kernel}: batch {batch}"),
                Err(Error::DeviceFault { .. }) if batch > 10 => {}
                Err(error) => panic!("{kernel}: batch {batch}: {error}"),
            }
        }
    }
}

#[test]
fn a_normalised_model_returns_only_rows_of_length_one() {
    if lacks_shaders() {
        return;
    }
    let scaled: [fn(String) -> String; 2] = [
        |wgsl| wgsl.replace("/ max(norm, 1e-12)", "/ max(norm, 1e-12) * 1.01"),
        |wgsl| wgsl.replace("/ max(norm, 1e-12)", "* 0.0"),
    ];
    for edit in scaled {
        let Some(model) = build(builder().edit_shader(("normalize_l2", edit))) else { return };
        let error = block_on(model.embed(&["a text"])).unwrap_err();
        assert!(matches!(error, Error::DeviceFault { .. }), "{error}");
        assert!(error.to_string().contains("instead of 1"), "{error}");
    }
}
