//! Tests matmul variants on a device. The number of rows selects among these variants, so they must be bit-identical.
//! The variants add the same products in the same order. If a driver fused multiplication and addition in only some of
//! the variants, a text's vector would depend on its batch.

use std::path::Path;

use super::question::precision;
use super::verdicts;
use crate::convert;
use crate::dtype::Storage;
use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::graph::Graph;
use crate::kernels::matmul::{CooperativeTile, LinearTensors, OutputTile, RowSize, Variant};
use crate::kernels::matmul::{matmul_of, stride4};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

/// Is true if all matmul variants without cooperative matrices are bit-identical with these storage types. These
/// variants are the tiles of all sizes, and `matmul_few` for few rows. The result is cached in the directory `cache`.
///
/// # Errors
/// Returns the errors of running a graph.
pub(crate) async fn variants_are_bit_identical(
    executor: &mut Executor,
    storages: (Storage, Storage),
    cache: Option<&Path>,
) -> Result<bool, Error> {
    let (weights, activations) = storages;
    let variants = executor.plan().bit_identical_variants(false);
    let what =
        format!("variants of the matmul with {weights} weights and {activations} activations");
    are_bit_identical(executor, &what, storages, Variant::Tile(OutputTile::PLAIN), &variants, cache)
        .await
}

/// Is true if the matmul variants with cooperative matrices, whose tiles have different sizes, are bit-identical. The
/// result is cached in the directory `cache`.
///
/// # Errors
/// Returns the errors of running a graph.
pub(crate) async fn matrix_tiles_are_bit_identical(
    executor: &mut Executor,
    tile: CooperativeTile,
    cache: Option<&Path>,
) -> Result<bool, Error> {
    let [plain, others @ ..] = tile.sizes().map(Variant::Cooperative);
    let what =
        format!("tiles of the matmul with cooperative matrices of {0} × {0}", tile.matrices.side);
    are_bit_identical(executor, &what, (Storage::F16, Storage::F16), plain, &others, cache).await
}

/// Is true if all `variants` are bit-identical to the variant `plain`. `what` is the name of the test in the cache.
async fn are_bit_identical(
    executor: &mut Executor,
    what: &str,
    storages: (Storage, Storage),
    plain: Variant,
    variants: &[Variant],
    cache: Option<&Path>,
) -> Result<bool, Error> {
    if executor.is_noop() {
        return Ok(true);
    }
    let key = format!("{} | {what}", verdicts::key(executor));
    if let Some(identical) = cache.and_then(|cache| verdicts::read(cache, &key)) {
        return Ok(identical);
    }
    let other = differing_variants(executor, storages, plain, variants).await?;
    if !other.is_empty() {
        let adapter = executor.adapter();
        tracing::warn!(%adapter, ?other, "{what}: the variants listed in `other` are not \
                                          bit-identical and are not used");
    }
    if let Some(cache) = cache {
        verdicts::write(cache, &key, other.is_empty());
    }
    Ok(other.is_empty())
}

/// Returns the variants that are not bit-identical to `plain`. The matmul of this test is larger than one tile in rows,
/// columns and depth, and its last tile is partial in each of them.
///
/// # Errors
/// Returns the errors of running a graph. A variant that the driver refuses counts as not bit-identical.
pub async fn differing_variants(
    executor: &mut Executor,
    storages: (Storage, Storage),
    plain: Variant,
    variants: &[Variant],
) -> Result<Vec<Variant>, Error> {
    let own = executor.plan();
    // Kernels with cooperative matrices have a variant for rows that consist of whole slices. A slice has 32 or 64
    // values: neither size divides 84, only 32 divides 96, and both divide 128.
    let inners = if plain.is_cooperative() { &[84, 96, 128][..] } else { &[84] };
    let mut other = Vec::new();
    for inner in inners {
        let same_work = |variant: &Variant| same_work(&own, storages, *inner, *variant);
        let plain = same_work(&plain);
        let graphs: Vec<_> = variants.iter().map(same_work).collect();
        executor.make_ahead(graphs.iter().chain([&plain])).await;
        let plain = executor.run(&plain).await?.output;
        for (variant, graph) in variants.iter().zip(&graphs) {
            if other.contains(variant) {
                continue;
            }
            match executor.run(graph).await {
                Ok(outcome) if outcome.output == plain => {}
                Ok(_) | Err(Error::Internal(_) | Error::DeviceFault { .. }) => other.push(*variant),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(other)
}

/// Builds a graph with the same matmul for any variant. `inner` is the number of values in a row of x.
fn same_work(
    own: &KernelPlan,
    storages: (Storage, Storage),
    inner: usize,
    variant: Variant,
) -> Graph {
    let size = [137, inner, 148];
    let value = |seed: usize, at: usize| ((at * seed) % 8191) as f32 / 4096.0 - 0.93;
    let encoded = |seed: usize, count: usize, storage| {
        let values: Vec<f32> = (0..count).map(|at| value(seed, at)).collect();
        let mut bytes = Vec::new();
        convert::encode(storage, &values, &mut bytes);
        bytes
    };
    let plan = KernelPlan { software: false, forced: Some(variant), ..own.clone() };
    let (weights, activations) = storages;
    let x = encoded(4507, size[0] * size[1], activations);
    let w = encoded(5501, weight_values(size), weights);
    multiplication(&plan, storages, size, &x, &w)
}

/// Returns the number of values of a repacked matrix, for the sizes `[rows, inner, columns]`.
pub(super) fn weight_values([_, inner, columns]: [usize; 3]) -> usize {
    inner * stride4(columns / 4) * 4
}

/// Builds the graph of GELU(x · w + ¼) for the sizes `[rows, inner, columns]`. Inner and columns must be multiples of
/// four.
pub(super) fn multiplication(
    plan: &KernelPlan,
    storages: (Storage, Storage),
    [rows, inner, columns]: [usize; 3],
    x: &[u8],
    w: &[u8],
) -> Graph {
    let mut builder = Builder::new(plan, &precision(storages));
    let id = builder.input("x", x);
    let x = Activations { id, rows, width: inner, width4: inner / 4, storage: storages.1 };
    let weight = builder.input("w", w);
    let linear = LinearTensors { weight, bias: builder.input("bias", &vec![0.25f32; columns]) };
    let size = RowSize::of(columns);
    let y = matmul_of(&mut builder, "y", x, linear, size, Activation::Gelu, None);
    builder.graph.output = Some(y.id);
    builder.graph.tokens = rows;
    builder.graph
}
