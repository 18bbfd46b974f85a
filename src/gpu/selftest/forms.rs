//! Whether the forms of the matmul that rows pick among, tiles or matrices, give the same bits on a device. They add the same
//! products in the same order; a driver that fuses a product and a sum in one of them and not in another
//! would break the promise that a text's vector does not depend on its batch.

use std::path::Path;

use super::{key, precision};
use crate::convert;
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::graph::Source;
use crate::kernels::forms::{Form, Tile};
use crate::kernels::matmul::{matmul_of, stride4};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

/// True where they do, in these storages. Looks the verdict up in `cache`, where given, and keeps it there.
///
/// # Errors
/// Those of running a graph.
pub(crate) async fn forms_are_alike(
    executor: &mut Executor,
    storages: (Storage, Storage),
    cache: Option<&Path>,
) -> Result<bool, Error> {
    if executor.gpu.is_noop() {
        return Ok(true);
    }
    let (weights, activations) = storages;
    let key = format!("{} | forms of the matmul in {weights}, {activations}", key(executor));
    if let Some(alike) = cache.and_then(|cache| crate::files::read_verdict(cache, &key)) {
        return Ok(alike);
    }
    let forms = executor.gpu.plan().alike(false);
    let plain = Form::Tile(Tile::PLAIN);
    let other = forms_that_differ(executor, storages, plain, &forms).await?;
    let adapter = &executor.gpu.adapter;
    if !other.is_empty() {
        tracing::warn!(%adapter, ?other, "forms of the matmul give other bits and are not used");
    }
    if let Some(cache) = cache {
        crate::files::write_verdict(cache, &key, other.is_empty());
    }
    Ok(other.is_empty())
}

/// Of `forms` those that do not give the bits of `plain`: more than a tile of rows, columns and
/// depth, each with a part of a tile.
///
/// # Errors
/// Those of running a graph, apart from what a driver says of one form: that form differs.
pub async fn forms_that_differ(
    executor: &mut Executor,
    storages: (Storage, Storage),
    plain: Form,
    forms: &[Form],
) -> Result<Vec<Form>, Error> {
    let plain = bits(executor, storages, plain).await?;
    let mut other = Vec::new();
    for form in forms {
        match bits(executor, storages, *form).await {
            Ok(bits) if bits == plain => {}
            Ok(_) | Err(Error::Internal(_)) => other.push(*form),
            Err(error) => return Err(error),
        }
    }
    Ok(other)
}

/// What a form makes of the same work.
async fn bits(
    executor: &mut Executor,
    storages: (Storage, Storage),
    form: Form,
) -> Result<Vec<u8>, Error> {
    let (rows, inner, columns) = (137, 84, 148);
    let value = |seed: usize, at: usize| ((at * seed) % 8191) as f32 / 4096.0 - 0.93;
    let encoded = |seed: usize, count: usize, storage| {
        let values: Vec<f32> = (0..count).map(|at| value(seed, at)).collect();
        let mut bytes = Vec::new();
        convert::encode(storage, &values, &mut bytes);
        bytes
    };
    let plan = KernelPlan { software: false, forced: Some(form), ..executor.gpu.plan() };
    let mut builder = Builder::new(&plan, &precision(storages));
    let (weights, storage) = storages;
    let bytes = encoded(4507, rows * inner, storage);
    let id = builder.graph.add("x", bytes.len() as u64, Source::Input(bytes));
    let x = Activations { id, rows, width: inner, width4: inner / 4, storage };
    let cells = columns / 4;
    let w = encoded(5501, inner * stride4(cells) * 4, weights);
    let linear = [builder.input("w", &w), builder.input("bias", &vec![0.25f32; columns])];
    let y = matmul_of(&mut builder, "y", x, linear, [columns, cells], Activation::Gelu, None);
    builder.graph.output = Some(y.id);
    builder.graph.tokens = rows;
    Ok(executor.run(&builder.graph).await?.output)
}
