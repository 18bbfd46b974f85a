//! Tests whether an adapter's cooperative matrices compute correctly. Cooperative matrices are an experimental feature
//! of wgpu, and new in drivers.

use std::path::Path;

use super::bit_identity::{multiplication, weight_values};
use super::question::{Question, precision};
use super::verdicts;
use crate::dtype::Storage;
use crate::error::Error;
use crate::executor::Executor;
use crate::kernels::answers::{ANSWERS, Family};
use crate::kernels::attention::{self, Attention, Heads, TextSpan};
use crate::kernels::matmul::CooperativeTile;
use crate::kernels::{Activations, Builder, KernelPlan};

/// Tests cooperative matrices on this device and returns the fault, if any. It is a fault if the kernels with such
/// matrices do not compile or give wrong results. It is also a fault if the bits of a row depend on its position. The
/// result is cached in the directory `cache`.
///
/// # Errors
/// Returns the errors of running a graph, including a lost device. The cached result then says that the matrices are
/// faulty.
pub(crate) async fn cooperative_fault(
    executor: &mut Executor,
    plan: &KernelPlan,
    tile: CooperativeTile,
    cache: Option<&Path>,
) -> Result<Option<String>, Error> {
    if executor.is_noop() {
        return Ok(None);
    }
    let key =
        format!("{} | cooperative matrices of {}", verdicts::key(executor), tile.matrices.side);
    match cache.and_then(|cache| verdicts::read(cache, &key)) {
        Some(true) => return Ok(None),
        Some(false) => {
            return Ok(Some("an earlier self-test of cooperative matrices failed".to_owned()));
        }
        None => {}
    }
    let remember = |passed| {
        if let Some(cache) = cache {
            verdicts::write(cache, &key, passed);
        }
    };
    // Before the test runs, its result is cached as a failure. If the test crashes the program or loses the device,
    // this result remains, and later runs skip the test.
    remember(false);
    let fault = fault(executor, plan).await?;
    remember(fault.is_none());
    let adapter = executor.adapter();
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
        let check = Question::new(answer, plan, storages).ask(executor).await?;
        if !check.passed {
            return Ok(Some(format!("self-test failed: {}", check.describe())));
        }
    }
    // The matmul has a variant for rows that consist of whole slices, as with 128 values, and a variant for all others.
    let same = rows_are_bit_identical(executor, plan, 72).await?
        && rows_are_bit_identical(executor, plan, 128).await?
        && queries_are_bit_identical(executor, plan).await?;
    Ok((!same).then(|| {
        "self-test failed: the result of a row depends on the position of the row in the batch"
            .to_owned()
    }))
}

/// Returns whether a row gives bit-identical results at every position in a batch of two whole tiles and a partial
/// tile. `inner` is the number of values in the row.
async fn rows_are_bit_identical(
    executor: &mut Executor,
    plan: &KernelPlan,
    inner: usize,
) -> Result<bool, Error> {
    let size @ [rows, inner, columns] = [135, inner, 72];
    let value =
        |seed: usize, at: usize| half::f16::from_f32(((at * seed) % 97) as f32 / 53.0 - 0.9);
    let row: Vec<half::f16> = (0..inner).map(|k| value(31, k)).collect();
    let x: Vec<u8> = bytemuck::cast_slice(&row).repeat(rows);
    let w: Vec<half::f16> = (0..weight_values(size)).map(|at| value(41, at)).collect();
    let storages = (Storage::F16, Storage::F16);
    let w = bytemuck::cast_slice(&w);
    let graph = multiplication(plan, storages, size, &x, w);
    let output = executor.run(&graph).await?.output;
    let mut rows = output.chunks_exact(columns * 2);
    let first = rows.next();
    Ok(rows.all(|row| Some(row) == first))
}

/// Returns whether a query gives bit-identical results at every position in a text of two whole tiles and a partial
/// tile. The scores rise from key to key, so that the online softmax rescales its sums.
async fn queries_are_bit_identical(
    executor: &mut Executor,
    plan: &KernelPlan,
) -> Result<bool, Error> {
    let (tokens, head) = (135, 32);
    let value = |seed: usize, at: usize| ((at * seed) % 97) as f32 / 53.0 - 0.9;
    let tensor = |of: &dyn Fn(usize, usize) -> f32| -> Vec<half::f16> {
        let of_token = |token| (0..head).map(move |i| half::f16::from_f32(of(token, i)));
        (0..tokens).flat_map(of_token).collect()
    };
    let q = tensor(&|_, i| value(31, i));
    let k = tensor(&|token, i| value(31, i) * token as f32 / 32.0 + value(41, token * head + i));
    let v = tensor(&|token, i| value(43, token * head + i));
    let mut builder = Builder::new(plan, &precision((Storage::F16, Storage::F16)));
    let at = [q, k, v].map(|x| {
        let id = builder.input("heads", &x);
        let of =
            Activations { id, rows: tokens, width: head, width4: head / 4, storage: Storage::F16 };
        Heads { of, head: 0 }
    });
    let texts = [TextSpan::whole(0, tokens as u32)];
    let y = attention::attend(&mut builder, at, &texts, &Attention::new(1, head), None);
    builder.graph.output = Some(y.id);
    builder.graph.tokens = tokens;
    let output = executor.run(&builder.graph).await?.output;
    let mut rows = output.chunks_exact(head * 2);
    let first = rows.next();
    Ok(rows.all(|row| Some(row) == first))
}
