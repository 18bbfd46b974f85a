//! Times every kernel by itself, at the shapes that occur in the model, in each storage type and each variant.
//!
//! The sweep also runs variants that the adapter does not use by default. Before such a variant is timed, its vectors
//! are compared with the vectors of the default variant on the same texts.

use std::collections::BTreeMap;

use super::context::Context;
use super::entrant::Entrant;
use super::texts;
use crate::embedder::tolerance::cosine;
use crate::error::Error;
use crate::gpu::shader::Lanes;
use crate::gpu::trace::{DispatchSizes, DispatchTime, Measure};
use crate::kernels::KernelPlan;
use crate::kernels::matmul::Variant;
use crate::lab::report::{KernelCase, Ratio};

/// The maximum number of tokens in a batch when a software adapter runs kernels for GPUs, or a GPU runs kernels for
/// software adapters. Such kernels are slow.
const FOREIGN_TOKENS: usize = 256;

/// The minimum cosine between a text's vectors from two variants. A smaller cosine means that a variant computes wrong
/// results.
const SAME: f64 = 0.999;

/// Identifies a group of dispatches that do the same work. The dispatches of a group are measured together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tokens: usize,
    plan: usize,
    kernel: &'static str,
    step: &'static str,
    sizes: DispatchSizes,
    subgroup: u32,
    variant: Option<Variant>,
}

/// The number of operations, the bytes and the times of all dispatches with one key.
#[derive(Debug, Clone, Default)]
struct Times {
    dispatches: usize,
    flops: u64,
    bytes: u64,
    rounds_ns: Vec<f64>,
}

/// The number of dispatches with one key in one round, and the sums of their times, operations and bytes.
#[derive(Debug, Clone, Copy, Default)]
struct RoundSums {
    dispatches: usize,
    ns: u64,
    flops: u64,
    bytes: u64,
}

/// Times the kernels of every entrant. In each round, every entrant runs once. `most` is the number of tokens in the
/// largest batch.
pub(super) async fn sweep(
    context: &mut Context<'_>,
    entrants: &mut [Entrant],
    most: usize,
) -> Result<Vec<KernelCase>, Error> {
    let Some(first) = entrants.first() else { return Ok(Vec::new()) };
    let (_, own) = first.embedder.abilities().await;
    let plans = plans(&own);
    let longest = first.embedder.max_seq_length().unwrap_or(128).min(128);
    let mut sizes = vec![16.min(most), FOREIGN_TOKENS.min(most), most];
    sizes.dedup();
    let mut found: Vec<BTreeMap<Key, Times>> = vec![BTreeMap::new(); entrants.len()];
    for tokens in sizes {
        let length = longest.min(tokens);
        let count = (tokens / length).max(1);
        let batch = texts::of_length(&entrants[0].embedder, &context.corpus, length, count)?;
        for (plan_number, plan) in plans.iter().enumerate() {
            if plan.software != own.software && tokens > FOREIGN_TOKENS {
                continue;
            }
            for entrant in entrants.iter_mut() {
                let kernels = plan_name(plan);
                context.describe(&format!(
                    "timing kernels in precision {}, on batches of {tokens} tokens: {kernels}",
                    entrant.name
                ));
                entrant.embedder.set_batch_tokens(most);
                check(entrant, plan, &batch).await?;
            }
            for _ in 0..context.options.rounds() {
                for (entrant, found) in entrants.iter().zip(&mut found) {
                    entrant.embedder.set_plan(Some(plan.clone())).await;
                    entrant.embedder.measure(Some(Measure::Gpu)).await;
                    let run = entrant.embedder.embed(&batch).await;
                    let trace = entrant.embedder.measure(None).await;
                    entrant.embedder.set_plan(None).await;
                    let tokens = run?.tokens;
                    add_round(found, tokens, plan_number, trace.map_or(vec![], |t| t.dispatches));
                }
            }
        }
    }
    let names: Vec<String> = entrants.iter().map(|entrant| entrant.name.to_string()).collect();
    let bytes: Vec<u64> = entrants.iter().map(|e| e.name.activations.bytes()).collect();
    Ok(cases(&names, &bytes, &found, &plans))
}

/// Compares the vectors that the kernels of `plan` give with the vectors that the adapter's default kernels give.
async fn check(entrant: &Entrant, plan: &KernelPlan, batch: &[String]) -> Result<(), Error> {
    let expected = entrant.embedder.embed(batch).await?;
    entrant.embedder.set_plan(Some(plan.clone())).await;
    let got = entrant.embedder.embed(batch).await;
    entrant.embedder.set_plan(None).await;
    let got = got?;
    let rows = expected.rows().zip(got.rows());
    let worst = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
    if worst < SAME {
        return Err(Error::Internal(format!(
            "the kernel variants `{}` give other vectors than this adapter's usual variants: in \
             precision {}, the smallest cosine of a text's two vectors is {worst:.4}",
            plan_name(plan),
            entrant.name
        )));
    }
    Ok(())
}

/// Returns the plan with the adapter's default kernels first, and then plans with other kernel variants that the
/// adapter can run.
fn plans(own: &KernelPlan) -> Vec<KernelPlan> {
    let mut plans = vec![own.clone()];
    if own.lanes != Lanes::Alone {
        plans.push(KernelPlan { lanes: Lanes::Alone, ..own.clone() });
    }
    if !own.software && own.cooperative.is_some() {
        plans.push(KernelPlan { cooperative: None, ..own.clone() });
    }
    plans.push(KernelPlan { software: !own.software, ..own.clone() });
    plans
}

/// Returns the family of a plan's kernels, and how the lanes of these kernels share work.
fn plan_name(plan: &KernelPlan) -> String {
    let family = if plan.software { "software" } else { "gpu" };
    match plan.lanes {
        Lanes::Alone => format!("{family}, alone"),
        Lanes::Subgroup(size) => format!("{family}, subgroups of {size}"),
    }
}

fn add_round(
    found: &mut BTreeMap<Key, Times>,
    tokens: usize,
    plan: usize,
    dispatches: Vec<DispatchTime>,
) {
    let mut round: BTreeMap<Key, RoundSums> = BTreeMap::new();
    for dispatch in dispatches {
        let subgroup = match dispatch.variant.lanes {
            Lanes::Alone => 0,
            Lanes::Subgroup(size) => size,
        };
        let key = Key {
            tokens,
            plan,
            kernel: dispatch.kernel.name,
            step: dispatch.writes,
            sizes: dispatch.sizes,
            subgroup,
            variant: Variant::of(dispatch.kernel, &dispatch.variant),
        };
        let sums = round.entry(key).or_default();
        sums.dispatches += 1;
        sums.ns += dispatch.ns;
        sums.flops += dispatch.flops;
        sums.bytes += dispatch.bytes;
    }
    for (key, RoundSums { dispatches, ns, flops, bytes }) in round {
        let times = found.entry(key).or_default();
        (times.dispatches, times.flops, times.bytes) = (dispatches, flops, bytes);
        times.rounds_ns.push((ns as f64).max(1.0));
    }
}

fn cases(
    names: &[String],
    activation_bytes: &[u64],
    found: &[BTreeMap<Key, Times>],
    plans: &[KernelPlan],
) -> Vec<KernelCase> {
    let mut cases = Vec::new();
    let Some(base) = found.first() else { return cases };
    for ((name, bytes), own) in names.iter().zip(activation_bytes).zip(found) {
        for (key, times) in own.iter().filter(|(key, _)| !is_repeated(key, own)) {
            // A tensor has different sizes in f32 and in 16 bits, so cases are matched by kernel and step instead of
            // bytes.
            let like = |other: &Key| {
                (other.tokens, other.plan, other.kernel, other.step, other.subgroup)
                    == (key.tokens, key.plan, key.kernel, key.step, key.subgroup)
            };
            let in_f32 = base.iter().find(|(other, _)| like(other)).map(|(_, times)| times);
            let dispatches = times.dispatches.max(1) as f64;
            let total = Ratio::over(times.rounds_ns.clone());
            let ms_of_one = |ns: f64| ns / dispatches / 1e6;
            let width = |size: u64| match size % (key.tokens as u64 * bytes) {
                0 => (size / (key.tokens as u64 * bytes)) as usize,
                _ => 0,
            };
            let lanes = match key.subgroup {
                0 => Lanes::Alone,
                size => Lanes::Subgroup(size),
            };
            cases.push(KernelCase {
                kernel: key.kernel.to_owned(),
                step: key.step.to_owned(),
                tokens: key.tokens,
                widths: [width(key.sizes.first), width(key.sizes.written)],
                precision: name.clone(),
                variant: match key.variant.filter(|variant| !matches!(variant, Variant::Lane(_))) {
                    Some(variant) => format!("gpu, {variant}"),
                    None => plan_name(&KernelPlan { lanes, ..plans[key.plan].clone() }),
                },
                used: key.plan == 0,
                dispatches: times.dispatches,
                ms: Ratio {
                    median: ms_of_one(total.median),
                    low: ms_of_one(total.low),
                    high: ms_of_one(total.high),
                },
                gflops: (times.flops > 0).then(|| times.flops as f64 / total.median),
                gbytes: times.bytes as f64 / total.median,
                speedup: in_f32
                    .filter(|_| name != &names[0])
                    .map(|base| Ratio::of(&base.rounds_ns, &times.rounds_ns)),
            });
        }
    }
    cases
}

/// Returns true if a dispatch of another plan runs a kernel variant that the default plan runs too. `own` contains the
/// keys of all plans, so this variant was already measured.
fn is_repeated(key: &Key, own: &BTreeMap<Key, Times>) -> bool {
    let same = |other: &Key| {
        (other.kernel, other.subgroup, other.variant) == (key.kernel, key.subgroup, key.variant)
    };
    key.plan != 0 && own.keys().any(|other| other.plan == 0 && same(other))
}
