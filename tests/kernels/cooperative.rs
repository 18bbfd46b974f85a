//! Tests the matmul and attention by cooperative matrices, if the adapter has them. `scripts/test.sh` also runs these
//! tests on a newer Mesa. `matmul.rs`, `experts.rs` and `attention/` cover sizes and storages, since they walk every
//! plan.

use pollster::block_on;
use vectile::executor::Executor;
use vectile::gpu::adapter::Feature;
use vectile::gpu::device::CooperativeMatrices;
use vectile::kernels::attention::{self, Attention, Heads, TextSpan};
use vectile::kernels::matmul::{CooperativeTile, Variant};
use vectile::kernels::{Activation, Builder, KernelPlan, matmul};
use vectile::selftest::differing_variants;
use vectile::{DtypeRequest, Embedder, EmbedderBuilder, KernelChoice, Storage};

use crate::matmul::{Case, check_with};
use crate::support::{build, cosine, model_files, on_cpu, skip};
use crate::{REQUIRE_COOPERATIVE, activations, bench, own_plan, precision, run, values};

/// The plan for cooperative matrices. Returns `None`, with a loud skip, if the adapter has none.
fn plan(executor: &Executor) -> Option<KernelPlan> {
    let own = own_plan(executor);
    if own.cooperative.is_none() {
        let missing = format!("{} has no cooperative matrices", executor.adapter());
        skip(REQUIRE_COOPERATIVE, &missing);
        return None;
    }
    let plan = KernelPlan { software: false, ..own };
    let describe = |weights, activations| plan.describe((weights, activations));
    assert!(describe(Storage::F16, Storage::F16).starts_with("cooperative"));
    assert!(describe(Storage::F16, Storage::F32).starts_with("tiles"));
    assert!(describe(Storage::F32, Storage::F32).starts_with("tiles"));
    Some(plan)
}

/// The rows of the product of x and a fixed matrix.
fn product(executor: &mut Executor, plan: &KernelPlan, x: &[f32], inner: usize) -> Vec<Vec<f32>> {
    let columns = 76;
    let f16 = Storage::F16;
    let stride = matmul::stride4(columns / 4) * 4;
    let w = values(21, inner.next_multiple_of(4) * stride, 0.5, f16);
    let bytes = encoded(&w);
    let mut builder = Builder::new(plan, &precision(f16, f16));
    let weight = builder.input("w", &bytes);
    let linear =
        matmul::LinearTensors { weight, bias: builder.input("bias", &vec![0.5f32; columns]) };
    let x = activations(&mut builder, "x", x, inner, f16);
    let size = matmul::RowSize::of(columns);
    let y = matmul::matmul_of(&mut builder, "y", x, linear, size, Activation::Gelu, None);
    assert!(builder.graph.dispatches.iter().all(|d| d.kernel.name == "matmul_coop"));
    run(executor, builder, y).0.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_row_has_the_same_bits_among_any_others() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let Some(plan) = plan(executor) else { return };
    for (rows, inner) in [(150, 96), (65, 37)] {
        let x = values(20, rows * inner, 1.0, Storage::F16);
        let whole = product(executor, &plan, &x, inner);
        let cut = product(executor, &KernelPlan { max_flops: 1, ..plan.clone() }, &x, inner);
        assert_eq!(cut, whole, "in a dispatch a tile");
        for part in [0..1, 1..2, 7..16, 15..17, 31..64, 63..65, 1..rows, rows - 1..rows] {
            let alone = product(executor, &plan, &x[part.start * inner..part.end * inner], inner);
            assert_eq!(alone, whole[part.clone()], "rows {part:?} of {rows} × {inner}");
        }
    }
}

/// The plans for elements in workgroup memory with Vulkan and with Metal.
fn layouts(plan: &KernelPlan) -> [KernelPlan; 2] {
    let own = plan.cooperative.unwrap();
    [1, 4].map(|elements| {
        let matrices = CooperativeMatrices { elements, ..own.matrices };
        KernelPlan { cooperative: Some(CooperativeTile { matrices, ..own }), ..plan.clone() }
    })
}

/// Compares tiles of all sizes with the reference and bit by bit, for matrices that no tile divides.
#[test]
fn tiles_of_all_sizes_give_the_same_bits() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let Some(plan) = plan(executor) else { return };
    let [own, metal] = layouts(&plan).map(|plan| plan.cooperative.unwrap());
    let [small, tall, large] = own.sizes();
    let sizes = [small, tall, large, metal].map(Variant::Cooperative);
    let f16 = (Storage::F16, Storage::F16);
    let other = block_on(differing_variants(executor, f16, sizes[0], &sizes[1..])).unwrap();
    assert_eq!(other, []);
    drop(bench);
    for variant in sizes {
        // No slice divides 53 values, and all slices divide 64. Drivers take seconds to compile each variant.
        let inners: &[usize] = if variant == sizes[2] { &[53, 64] } else { &[53] };
        for &inner in inners {
            let case = Case {
                rows: 131,
                inner,
                columns: 141,
                activation: Activation::None,
                residual: false,
            };
            check_with(&case, Storage::F16, Storage::F16, Some(variant));
        }
    }
}

/// The rows of attention over one text, with a head of 32.
fn attended(executor: &mut Executor, plan: &KernelPlan, qkv: [&[f32]; 3]) -> Vec<Vec<f32>> {
    let f16 = Storage::F16;
    let mut builder = Builder::new(plan, &precision(f16, f16));
    let at = qkv.map(|x| Heads { of: activations(&mut builder, "heads", x, 32, f16), head: 0 });
    let tokens = (qkv[0].len() / 32) as u32;
    let texts = [TextSpan::whole(0, tokens)];
    let y = attention::attend(&mut builder, at, &texts, &Attention::new(1, 32), None);
    assert!(builder.graph.dispatches.iter().all(|d| d.kernel.name == "attention_coop"));
    run(executor, builder, y).0.chunks_exact(32).map(<[f32]>::to_vec).collect()
}

/// Sums are scaled if a score is far above the earlier ones. One, three or half of the queries have such scores; the
/// other queries keep their bits.
#[test]
fn a_query_has_the_same_bits_among_any_others() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let Some(plan) = plan(executor) else { return };
    for plan in layouts(&plan) {
        query_has_the_same_bits(executor, &plan);
    }
}

fn query_has_the_same_bits(executor: &mut Executor, plan: &KernelPlan) {
    let tokens = 150;
    let [q, noise, v] = [1, 2, 3].map(|seed| values(seed, tokens * 32, 1.0, Storage::F16));
    // The scores of a query with these values rise from key to key, up to 40.
    let steep = vec![1.0; 32];
    let k: Vec<f32> = (0..tokens * 32).map(|at| noise[at] + (at / 32) as f32 / 16.0).collect();
    let k = vectile::convert::decode(Storage::F16, &encoded(&k));
    let own = attended(executor, plan, [&q, &k, &v]);
    for steep_ones in [vec![7], vec![0, 64, 149], (0..tokens).step_by(2).collect()] {
        let mut others = q.clone();
        for at in &steep_ones {
            others[at * 32..][..32].copy_from_slice(&steep);
        }
        let rows = attended(executor, plan, [&others, &k, &v]);
        for at in (0..tokens).filter(|at| !steep_ones.contains(at)) {
            assert_eq!(rows[at], own[at], "query {at} beside {steep_ones:?}");
        }
        let rows_of_steep = steep_ones.iter().map(|at| &rows[*at]);
        assert!(rows_of_steep.clone().all(|row| row == &rows[steep_ones[0]]), "{steep_ones:?}");
    }
}

fn encoded(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    vectile::convert::encode(Storage::F16, values, &mut bytes);
    bytes
}

fn builder() -> EmbedderBuilder {
    let files = model_files("bert_f16");
    Embedder::builder(files).dtype(DtypeRequest::Float16).gpu_kernels()
}

/// The kernels that a model chooses, and the vectors of two texts in a batch and alone.
fn embed(builder: EmbedderBuilder) -> (KernelChoice, Vec<Vec<f32>>) {
    let embedder = build(builder).unwrap();
    let texts = ["A cat sat on the roof, and nobody knew why.", "A dog."];
    let both = block_on(embedder.embed(&texts)).unwrap();
    let rows: Vec<Vec<f32>> = both.rows().map(<[f32]>::to_vec).collect();
    for (text, row) in texts.iter().zip(&rows) {
        let alone = block_on(embedder.embed(&[text])).unwrap();
        assert_eq!(alone.row(0), row, "{text}: other bits alone");
    }
    (block_on(embedder.inspect()).kernels, rows)
}

/// Replaces text that a shader must contain.
fn replaced(wgsl: &str, text: &str, with: &str) -> String {
    assert!(wgsl.contains(text), "the shader has no {text}");
    wgsl.replace(text, with)
}

#[test]
fn a_model_runs_them_unless_they_are_disabled_or_wrong() {
    let Some(bench) = bench() else { return };
    if plan(&bench.executors[0]).is_none() {
        return;
    }
    drop(bench);
    let directory = std::env::temp_dir().join(format!("vectile-coop-{}", std::process::id()));
    let (choice, vectors) = embed(builder().cache_dir(directory.clone()));
    assert!(choice.matmul.starts_with("cooperative matrices of "), "{choice}");
    assert_eq!(choice.because, None);
    // The second load uses the cached verdict.
    let again = embed(builder().cache_dir(directory.clone()));
    assert_eq!(again, (choice, vectors.clone()));
    std::fs::remove_dir_all(&directory).unwrap();

    let (choice, tiles) = embed(builder().disable(vec![Feature::CooperativeMatrix]));
    assert!(choice.matmul.starts_with("tiles"), "{choice}");
    assert_eq!(choice.because.as_deref(), Some("cooperative matrices are disabled"));
    for (a, b) in vectors.iter().zip(&tiles) {
        assert!(cosine(a, b) > 0.9999, "{}", cosine(a, b));
    }
    for (wrong, said) in [
        (
            (
                "matmul_coop",
                (|wgsl| replaced(&wgsl, "ws[0u][3][0u]", "ws[0u][2][0u]")) as fn(String) -> _,
            ),
            "results differ from the expected values",
        ),
        (
            ("matmul_coop", |wgsl| replaced(&wgsl, "coopMultiplyAdd", "coopMultiply")),
            "coopMultiply",
        ),
        (
            ("attention_coop", |wgsl| replaced(&wgsl, "cells[3u][0u]", "cells[2u][0u]")),
            "results differ from the expected values",
        ),
        (
            ("attention_coop", |wgsl| replaced(&wgsl, "factor = 1.0;", "factor = 0.99;")),
            "results differ from the expected values",
        ),
    ] {
        let (choice, fallen_back) = embed(builder().edit_shader(wrong));
        assert!(choice.matmul.starts_with("tiles"), "{choice}");
        let because = choice.because.unwrap();
        assert!(because.contains("self-test failed") && because.contains(said), "{because}");
        assert_eq!(fallen_back, tiles);
    }
}

#[test]
fn software_adapters_keep_to_lanes() {
    let Some(bench) = bench() else { return };
    let own = own_plan(&bench.executors[0]);
    drop(bench);
    let files = model_files("bert_f16");
    let builder = Embedder::builder(files).dtype(DtypeRequest::Float16);
    let Some(embedder) = build(builder) else { return };
    let choice = block_on(embedder.inspect()).kernels;
    let lanes = own.software && !on_cpu();
    assert_eq!(choice.matmul.starts_with("lanes"), lanes, "{choice}");
}
