//! Whether an adapter's cooperative matrices are to be trusted: an experimental feature of wgpu over young
//! parts of drivers.

use std::path::Path;

use super::{check, forms_that_differ, key, precision};
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::graph::Source;
use crate::kernels::answers::{ANSWERS, Family};
use crate::kernels::forms::{Cooperative, Form};
use crate::kernels::matmul::{matmul_of, stride4};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

/// True where cooperative matrices give the same bits in tiles of all sizes. Looks the verdict up in `cache`,
/// where given, and keeps it there.
///
/// # Errors
/// Those of running a graph.
pub(crate) async fn matrices_are_alike(
    executor: &mut Executor,
    matrices: Cooperative,
    cache: Option<&Path>,
) -> Result<bool, Error> {
    let key = format!("{} | sizes of cooperative matrices of {}", key(executor), matrices.side);
    if let Some(alike) = cache.and_then(|cache| crate::files::read_verdict(cache, &key)) {
        return Ok(alike);
    }
    let [plain, others @ ..] = matrices.sizes().map(Form::Cooperative);
    let f16 = (Storage::F16, Storage::F16);
    let other = forms_that_differ(executor, f16, plain, &others).await?;
    if !other.is_empty() {
        let adapter = &executor.gpu.adapter;
        tracing::warn!(%adapter, ?other, "tiles of matrices give other bits and are not used");
    }
    if let Some(cache) = cache {
        crate::files::write_verdict(cache, &key, other.is_empty());
    }
    Ok(other.is_empty())
}

/// What is wrong with cooperative matrices on the open device: they do not compile or give wrong answers, or
/// a row's bits depend on its place. Looks the verdict up in `cache`, where given, and keeps it there.
///
/// # Errors
/// Those of running a graph, a lost device among them; the verdict kept is then that something is wrong.
pub(crate) async fn cooperative_fault(
    executor: &mut Executor,
    plan: &KernelPlan,
    matrices: Cooperative,
    cache: Option<&Path>,
) -> Result<Option<String>, Error> {
    if executor.gpu.is_noop() {
        return Ok(None);
    }
    let key = format!("{} | cooperative matrices of {}", key(executor), matrices.side);
    match cache.and_then(|cache| crate::files::read_verdict(cache, &key)) {
        Some(true) => return Ok(None),
        Some(false) => return Ok(Some("an earlier self-test failed".to_owned())),
        None => {}
    }
    let keep = |passed| {
        if let Some(cache) = cache {
            crate::files::write_verdict(cache, &key, passed);
        }
    };
    // A driver that ends the program or loses the device in the test is not asked again.
    keep(false);
    let fault = fault(executor, plan).await?;
    keep(fault.is_none());
    let adapter = &executor.gpu.adapter;
    match &fault {
        None => tracing::info!(%adapter, "cooperative matrices passed their self-test"),
        Some(fault) => tracing::warn!(%adapter, fault, "cooperative matrices are not used"),
    }
    Ok(fault)
}

async fn fault(executor: &mut Executor, plan: &KernelPlan) -> Result<Option<String>, Error> {
    let storages = (Storage::F16, Storage::F16);
    for answer in ANSWERS.iter().filter(|answer| answer.family == Family::Cooperative) {
        let Some(plan) = answer.family.plan(plan, storages) else { continue };
        let check = check(executor, answer, &plan, storages).await?;
        if !check.passed {
            return Ok(Some(match (check.problem, check.error) {
                (Some(problem), _) => format!("self-test failed: {problem}"),
                (None, Some(error)) => format!("self-test failed: answers are off by {error:.1e}"),
                (None, None) => "self-test failed".to_owned(),
            }));
        }
    }
    let same = rows_have_same_bits(executor, plan).await?;
    Ok((!same).then(|| "self-test failed: a row's bits depend on its place".to_owned()))
}

/// One row at every place of two tiles and a part of one.
async fn rows_have_same_bits(executor: &mut Executor, plan: &KernelPlan) -> Result<bool, Error> {
    let (rows, inner, columns) = (135, 72, 72);
    let value =
        |seed: usize, at: usize| half::f16::from_f32(((at * seed) % 97) as f32 / 53.0 - 0.9);
    let row: Vec<half::f16> = (0..inner).map(|k| value(31, k)).collect();
    let x: Vec<half::f16> = (0..rows).flat_map(|_| row.iter().copied()).collect();
    let cells = columns / 4;
    let w: Vec<half::f16> = (0..inner * stride4(cells) * 4).map(|at| value(41, at)).collect();
    let mut builder = Builder::new(plan, &precision((Storage::F16, Storage::F16)));
    let bytes: Vec<u8> = bytemuck::cast_slice(&x).to_vec();
    let id = builder.graph.add("x", bytes.len() as u64, Source::Input(bytes));
    let storage = Storage::F16;
    let x = Activations { id, rows, width: inner, width4: inner / 4, storage };
    let linear = [builder.input("w", &w), builder.input("bias", &vec![0.25f32; columns])];
    let y = matmul_of(&mut builder, "y", x, linear, [columns, cells], Activation::Gelu, None);
    builder.graph.output = Some(y.id);
    builder.graph.tokens = rows;
    let outcome = executor.run(&builder.graph).await?;
    let mut rows = outcome.output.chunks_exact(columns * 2);
    let first = rows.next();
    Ok(rows.all(|row| Some(row) == first))
}
