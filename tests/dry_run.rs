//! Runs every fixture on devices that compute nothing but enforce their limits. The devices have WebGPU's default
//! limits or small bindings, each subgroup size, and f16 or no f16. No GPU is needed.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use support::{directories, model_files};
use vectile::gpu::adapter::NoopAdapter;
use vectile::{
    ActivationsRequest, AdapterChoice, DtypeRequest, Embedder, EmbedderBuilder, Error, Feature,
    HalfFallback, LoadProgress, Reason, Storage, block_on,
};

const DTYPES: [DtypeRequest; 4] =
    [DtypeRequest::Auto, DtypeRequest::Float32, DtypeRequest::Float16, DtypeRequest::Bfloat16];

fn names() -> Vec<String> {
    directories("", "bert_", 24)
}

/// Returns a GPU with WebGPU's default limits and f16, without subgroups.
fn plain() -> NoopAdapter {
    NoopAdapter {
        shader_f16: true,
        subgroup_size: None,
        webgpu_default_limits: true,
        max_binding_bytes: None,
        software: false,
    }
}

fn builder(name: &str, adapter: NoopAdapter) -> EmbedderBuilder {
    let files = model_files(name);
    Embedder::builder(files).adapter(AdapterChoice::Noop(Box::new(adapter)))
}

fn build(name: &str, adapter: NoopAdapter) -> Embedder {
    block_on(builder(name, adapter).build()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns texts of many lengths, up to the limit and beyond it.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = (0..150).step_by(7).map(|words| "a ".repeat(words)).collect();
    texts.push("Something else, with words.".into());
    texts
}

/// Asserts that rows of the right shape come back, and that every dispatch is within WebGPU's limit. A batch of the
/// maximum size must pass too.
fn check(what: &str, embedder: &Embedder) {
    let texts = texts();
    let got = block_on(embedder.embed(&texts)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((got.len(), got.dim), (texts.len(), embedder.dimension()), "{what}");
    assert!(got.values.iter().all(|value| *value == 0.0), "{what}");
    let inspection = block_on(embedder.inspect());
    assert!(!inspection.graph.is_empty(), "{what}");
    for dispatch in &inspection.graph {
        let [x, y, z] = dispatch.workgroups;
        assert!([x, y, z].iter().all(|n| (1..=65_535).contains(n)), "{what}: {dispatch:?}");
    }
}

#[test]
fn every_fixture_under_webgpu_default_limits() {
    for name in names() {
        for shader_f16 in [false, true] {
            for software in [false, true] {
                let adapter = NoopAdapter { shader_f16, software, ..plain() };
                check(&format!("{name} {adapter:?}"), &build(&name, adapter));
            }
        }
    }
}

#[test]
fn every_subgroup_size() {
    for name in ["bert_mean_norm", "bert_ragged", "bert_dense_residual", "bert_concat"] {
        for subgroup_size in [None, Some(4), Some(8), Some(16), Some(32), Some(64), Some(128)] {
            for software in [false, true] {
                let adapter = NoopAdapter { subgroup_size, software, ..plain() };
                let what = format!("{name} {adapter:?}");
                check(&what, &build(name, adapter.clone()));
                let disabled = builder(name, adapter).disable(vec![Feature::Subgroups]);
                check(&what, &block_on(disabled.build()).unwrap());
            }
        }
    }
}

/// Returns the storage types of weights and activations that the dtype policy chooses; `None` if the policy returns an
/// error.
fn expected(
    dtype: DtypeRequest,
    checkpoint: DtypeRequest,
    fallback: HalfFallback,
    f16: bool,
) -> Option<(Storage, Storage)> {
    let wanted = if dtype == DtypeRequest::Auto { checkpoint } else { dtype };
    match (wanted, f16, fallback) {
        (DtypeRequest::Float16, true, _) => Some((Storage::F16, Storage::F16)),
        (DtypeRequest::Float16, false, HalfFallback::F32) => Some((Storage::F32, Storage::F32)),
        (DtypeRequest::Float16, false, HalfFallback::Packed) => {
            Some((Storage::PackedF16, Storage::F32))
        }
        (DtypeRequest::Float16, false, HalfFallback::Error) => None,
        (DtypeRequest::Bfloat16, ..) => Some((Storage::PackedBf16, Storage::F32)),
        _ => Some((Storage::F32, Storage::F32)),
    }
}

#[test]
fn every_dtype_and_fallback() {
    for (name, checkpoint) in [
        ("bert_mean_norm", DtypeRequest::Float32),
        ("bert_f16", DtypeRequest::Float16),
        ("bert_bf16", DtypeRequest::Bfloat16),
    ] {
        for dtype in DTYPES {
            for fallback in [HalfFallback::F32, HalfFallback::Packed, HalfFallback::Error] {
                for shader_f16 in [true, false] {
                    for disable in [false, true] {
                        let adapter = NoopAdapter { shader_f16, ..plain() };
                        let what = format!("{name} {dtype:?} {fallback:?} {shader_f16} {disable}");
                        let disabled = if disable { vec![Feature::ShaderF16] } else { vec![] };
                        let builder = builder(name, adapter)
                            .dtype(dtype)
                            .half_fallback(fallback)
                            .disable(disabled);
                        let f16 = shader_f16 && !disable;
                        let built = block_on(builder.build());
                        match (expected(dtype, checkpoint, fallback, f16), built) {
                            (Some((weights, activations)), Ok(embedder)) => {
                                let precision = embedder.precision();
                                let chosen = (precision.weights, precision.activations);
                                assert_eq!(chosen, (weights, activations), "{what}");
                                assert_eq!(precision.requested, dtype, "{what}");
                                check(&what, &embedder);
                            }
                            (None, Err(Error::Option { option, problem })) => {
                                assert_eq!(option, "dtype", "{what}");
                                assert!(problem.contains("float16"), "{what}: {problem}");
                            }
                            (expected, built) => panic!("{what}: {expected:?}, not {built:?}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn forced_activations() {
    for (shader_f16, narrow) in [(true, Storage::F16), (false, Storage::PackedF16)] {
        for (asked, stored) in
            [(ActivationsRequest::F32, Storage::F32), (ActivationsRequest::F16, narrow)]
        {
            for dtype in DTYPES {
                let adapter = NoopAdapter { shader_f16, ..plain() };
                let builder = builder("bert_dense", adapter).dtype(dtype).activations(asked);
                let embedder = block_on(builder.build()).unwrap();
                assert_eq!(embedder.precision().activations, stored);
                assert!(embedder.precision().reasons.contains(&Reason::ActivationsRequested));
                check(&format!("{dtype:?} {asked:?}"), &embedder);
            }
        }
    }
}

#[test]
fn sixteen_bits_take_half_the_memory_of_tables_and_matrices() {
    let bytes = |dtype| {
        let builder = builder("bert_mean_norm", plain()).dtype(dtype);
        block_on(builder.build()).unwrap().precision().weight_bytes
    };
    let [wide, f16, bf16] =
        [DtypeRequest::Float32, DtypeRequest::Float16, DtypeRequest::Bfloat16].map(bytes);
    assert_eq!(f16, bf16);
    // Biases and norms stay f32, so the weights take slightly more than half the bytes.
    assert!(f16 < wide * 52 / 100 && f16 >= wide / 2, "{f16} of {wide}");
}

#[test]
fn a_table_beyond_one_binding_is_gathered_on_the_host() {
    // The table has 512 rows of 48 values, 96 KiB; the largest matrix takes 48 KiB without its bias.
    for name in ["bert_mean_norm", "bert_bf16", "bert_f16", "bert_ragged"] {
        for dtype in DTYPES {
            let wide = block_on(builder(name, plain()).dtype(dtype).build()).unwrap();
            let adapter = NoopAdapter { max_binding_bytes: Some(30 << 10), ..plain() };
            let builder = builder(name, adapter).dtype(dtype).batch_tokens(40);
            let embedder = block_on(builder.build()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(embedder.adapter().max_binding_bytes, 30 << 10);
            let texts = ["One.", "", "Three words here."];
            let got = block_on(embedder.embed(&texts)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((got.len(), got.dim), (3, wide.dimension()), "{name} {dtype:?}");
            let bytes = |embedder: &Embedder| embedder.precision().weight_bytes;
            assert_eq!(bytes(&embedder), bytes(&wide), "{name} {dtype:?}");
        }
    }
}

#[test]
fn bindings_too_small_for_a_matrix_are_refused_by_name() {
    let adapter = NoopAdapter { max_binding_bytes: Some(2 << 10), ..plain() };
    match block_on(builder("bert_mean_norm", adapter).build()) {
        Err(Error::Adapter { problem, .. }) => {
            assert!(problem.contains("encoder.layer.0."), "{problem}");
            assert!(problem.contains("2048") && problem.contains("16-bit"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_too_long_for_small_bindings_are_refused_and_others_are_not() {
    let adapter = NoopAdapter { max_binding_bytes: Some(30 << 10), ..plain() };
    let embedder = build("bert_mean_norm", adapter);
    // The queries, keys and values of 130 tokens take 75 KB, which is more than a binding.
    match block_on(embedder.embed(&["a ".repeat(130)])) {
        Err(Error::Adapter { problem, .. }) => {
            assert!(problem.contains("30720") && problem.contains("batch"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(block_on(embedder.embed(&["a short text", "b"])).unwrap().len(), 2);
    assert!(block_on(embedder.inspect()).batch_tokens < 130);
}

#[test]
fn any_budget_of_tokens() {
    for tokens in [1, 2, 3, 129, 130, 131, 1 << 20, usize::MAX] {
        for software in [false, true] {
            let adapter = NoopAdapter { software, ..plain() };
            let embedder =
                block_on(builder("bert_prompts", adapter).batch_tokens(tokens).build()).unwrap();
            assert!(block_on(embedder.inspect()).batch_tokens <= 32_768);
            check(&format!("{tokens}"), &embedder);
        }
    }
    match block_on(builder("bert_prompts", plain()).batch_tokens(0).build()) {
        Err(Error::Option { option, .. }) => assert_eq!(option, "batch_tokens"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_largest_batch_is_within_the_limits() {
    for software in [false, true] {
        for subgroup_size in [None, Some(4), Some(32)] {
            let adapter = NoopAdapter { software, subgroup_size, ..plain() };
            let builder = builder("bert_dense", adapter).batch_tokens(usize::MAX);
            let embedder = block_on(builder.build()).unwrap();
            // With texts of two tokens, a batch has the maximum number of texts.
            let got = block_on(embedder.embed(&vec![""; 20_000])).unwrap();
            assert_eq!(got.len(), 20_000);
            let long = vec!["a ".repeat(128); 300];
            assert_eq!(block_on(embedder.embed(&long)).unwrap().len(), 300);
        }
    }
}

#[test]
fn a_model_above_its_memory_limit_is_refused_with_both_numbers() {
    let free = build("bert_mean_norm", plain()).memory();
    assert!(free.weights > 100_000 && free.batch > 1 << 20, "{free:?}");
    let allow = |bytes| block_on(builder("bert_mean_norm", plain()).max_memory(bytes).build());
    // The model fits if the limit is exactly the memory that it needs. With a limit of one byte less, batches get
    // smaller until the model fits.
    assert_eq!(allow(free.peak()).unwrap().memory(), free);
    let smaller = allow(free.peak() - 1).unwrap().memory();
    let rest = |memory: &vectile::MemoryEstimate| (memory.weights, memory.host_tables);
    assert_eq!(rest(&smaller), rest(&free));
    assert!(smaller.batch_tokens < free.batch_tokens && smaller.peak() < free.peak());
    for bytes in [0, 1, free.weights, free.weights + free.loading - 1] {
        let Err(Error::TooLarge { adapter, needed, available, problem }) = allow(bytes) else {
            panic!("{bytes} are enough")
        };
        assert_eq!(available, bytes);
        assert!(needed > bytes && !adapter.is_empty());
        let sizes = [needed, bytes].map(|bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0));
        for part in ["bert_mean_norm", "max_memory", "16-bit", &sizes[0], &sizes[1]] {
            assert!(problem.contains(part), "{problem}");
        }
    }
    // If the caller sets the batch size, it is not reduced.
    let fixed = builder("bert_mean_norm", plain()).batch_tokens(free.batch_tokens);
    let refused = block_on(fixed.max_memory(free.peak() - 1).build());
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
}

#[test]
fn a_text_above_the_remaining_memory_is_refused_and_others_are_not() {
    let one = || builder("bert_mean_norm", plain()).dtype(DtypeRequest::Bfloat16).batch_tokens(1);
    let least = block_on(one().build()).unwrap().memory();
    let embedder = block_on(one().max_memory(least.peak()).build()).unwrap();
    assert_eq!(block_on(embedder.embed(&["a", "b c"])).unwrap().len(), 2);
    match block_on(embedder.embed(&["a ".repeat(128)])) {
        Err(Error::OutOfMemory { bytes, advice, .. }) => {
            let left = least.peak() - least.weights;
            assert!(bytes > left && advice.contains(&left.to_string()), "{bytes}: {advice}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(block_on(embedder.embed(&["a"])).unwrap().len(), 1);
}

#[test]
fn loading_reports_its_progress() {
    let told: Arc<Mutex<Vec<LoadProgress>>> = Arc::default();
    let teller = told.clone();
    for name in ["bert_mean_norm", "bert_dense_residual"] {
        told.lock().unwrap().clear();
        let teller = teller.clone();
        let builder =
            builder(name, plain()).on_progress(move |load| teller.lock().unwrap().push(load));
        let embedder = block_on(builder.build()).unwrap();
        let told = told.lock().unwrap();
        assert!(told.len() > 10);
        assert!(told.windows(2).all(|pair| pair[0].done < pair[1].done));
        let bytes = embedder.precision().weight_bytes;
        assert!(told.iter().all(|load| load.total == bytes), "{name}");
        assert_eq!(told.last().unwrap().done, bytes, "{name}");
    }
}

#[test]
fn more_texts_than_a_window() {
    let embedder = build("bert_mean_norm", plain());
    let texts: Vec<String> = (0..2500).map(|i| format!("text {i}")).collect();
    let got = block_on(embedder.embed(&texts)).unwrap();
    assert_eq!(got.len(), 2500);
    assert!(block_on(embedder.embed::<&str>(&[])).unwrap().is_empty());
}

#[test]
fn inspection_serialises_and_is_repeatable() {
    for name in names() {
        let (first, second) = (build(&name, plain()), build(&name, plain()));
        let inspection = block_on(first.inspect());
        assert_eq!(inspection.graph, block_on(second.inspect()).graph, "{name}");
        assert_eq!(inspection.to_string(), block_on(second.inspect()).to_string(), "{name}");
        let json = serde_json::to_value(&inspection).unwrap();
        assert_eq!(json, serde_json::to_value(block_on(second.inspect())).unwrap(), "{name}");
        for field in ["model", "modules", "precision", "adapter", "graph", "tensors", "notes"] {
            assert!(json.get(field).is_some(), "{name}: no {field}");
        }
        // The inspection is the same after texts were embedded.
        block_on(first.embed(&texts())).unwrap();
        assert_eq!(inspection, block_on(first.inspect()), "{name}");
    }
}

#[test]
fn dispatches_name_their_layer() {
    let graph = block_on(build("bert_dense", plain()).inspect()).graph;
    let layers: Vec<Option<usize>> = graph.iter().map(|dispatch| dispatch.layer).collect();
    let count = |layer| layers.iter().filter(|found| **found == layer).count();
    // Both layers have seven kernels. Two kernels come before the layers, and the modules after them.
    assert_eq!([count(Some(0)), count(Some(1)), count(Some(2))], [7, 7, 0]);
    assert_eq!(layers[..2], [None, None]);
    assert!(layers[16..].iter().all(|layer| layer.is_none()) && layers.len() > 17);
}

#[test]
fn inspection_counts_unused_tensors() {
    for name in names() {
        let inspection = block_on(build(&name, plain()).inspect());
        let stray = |t: &&vectile::TensorSummary| {
            !t.used && !["pooler", "cls.", "position_ids"].iter().any(|part| t.name.contains(part))
        };
        let strays: Vec<_> = inspection.tensors.iter().filter(stray).collect();
        assert!(strays.is_empty(), "{name}: {strays:?}");
    }
}

#[test]
fn a_lost_device_is_opened_again() {
    let embedder = build("bert_dense", plain());
    for _ in 0..3 {
        block_on(embedder.lose_device());
        assert_eq!(block_on(embedder.embed(&["one", "two"])).unwrap().len(), 2);
    }
}
