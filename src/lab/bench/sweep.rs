//! Every kernel by itself, at the shapes that the model gives it, in each storage and each of its variants.
//!
//! The variants that the adapter does not take by itself are run on the same texts, and what they make of them is
//! compared before anything is timed.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::gpu::shader::Lanes;
use crate::gpu::trace::{DispatchSizes, DispatchTime, Measure};
use crate::kernels::KernelPlan;
use crate::kernels::matmul::Variant;
use crate::lab::accuracy::cosine;
use crate::lab::report::{KernelCase, Ratio};

use super::context::Context;
use super::entrant::Entrant;
use super::texts;

/// Tokens of a batch at which kernels of the other family are timed, at most: a family is slow on adapters that
/// it was not made for.
const FOREIGN_TOKENS: usize = 256;

/// Below this cosine two variants of a kernel do not compute the same.
const SAME: f64 = 0.999;

/// A kernel's dispatches that do the same work.
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

/// What the dispatches of a key took in each round.
#[derive(Debug, Clone, Default)]
struct Times {
    dispatches: usize,
    flops: u64,
    bytes: u64,
    rounds_ns: Vec<f64>,
}

/// Times the kernels of every entrant by turns. `most` is the number of tokens of the largest batch.
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
        let batch = texts::of_length(
            &entrants[0].embedder,
            &context.corpus,
            length,
            (tokens / length).max(1),
        )?;
        for (plan_number, plan) in plans.iter().enumerate() {
            if plan.software != own.software && tokens > FOREIGN_TOKENS {
                continue;
            }
            for entrant in entrants.iter_mut() {
                context.describe(&format!(
                    "kernels in {}, {tokens} tokens: {}",
                    entrant.name,
                    variant(plan)
                ));
                entrant.embedder.set_batch_tokens(most);
                let expected = entrant.embedder.embed(&batch).await?;
                entrant.embedder.set_plan(Some(plan.clone())).await;
                let got = entrant.embedder.embed(&batch).await;
                entrant.embedder.set_plan(None).await;
                let got = got?;
                let rows = expected.rows().zip(got.rows());
                let worst = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
                if worst < SAME {
                    return Err(Error::Internal(format!(
                        "kernels ({}) make other vectors than those this adapter takes: a cosine of \
                         {worst:.4} in {}",
                        variant(plan),
                        entrant.name
                    )));
                }
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

/// The adapter's own variants first, then those it could run too.
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

fn variant(plan: &KernelPlan) -> String {
    let family = if plan.software { "software" } else { "gpu" };
    format!("{family}, {}", lanes_name(plan.lanes))
}

fn lanes_name(lanes: Lanes) -> String {
    match lanes {
        Lanes::Alone => "alone".to_owned(),
        Lanes::Subgroup(size) => format!("subgroups of {size}"),
    }
}

fn add_round(
    found: &mut BTreeMap<Key, Times>,
    tokens: usize,
    plan: usize,
    dispatches: Vec<DispatchTime>,
) {
    let mut round: BTreeMap<Key, (usize, u64, u64, u64)> = BTreeMap::new();
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
        let sum = round.entry(key).or_default();
        sum.0 += 1;
        sum.1 += dispatch.ns;
        sum.2 += dispatch.flops;
        sum.3 += dispatch.bytes;
    }
    for (key, (dispatches, ns, flops, bytes)) in round {
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
        for (key, times) in own {
            // A kernel that a plan does not change has been told of under the first.
            let told = own.keys().any(|other| {
                other.plan == 0
                    && key.plan != 0
                    && (other.kernel, other.subgroup, other.variant)
                        == (key.kernel, key.subgroup, key.variant)
            });
            if told {
                continue;
            }
            // Tensors in f32 have other sizes than those in 16 bits: cases are matched by their steps.
            let like = |other: &Key| {
                (other.tokens, other.plan, other.kernel, other.step, other.subgroup)
                    == (key.tokens, key.plan, key.kernel, key.step, key.subgroup)
            };
            let in_f32 = base.iter().find(|(other, _)| like(other)).map(|(_, times)| times);
            let n = times.dispatches.max(1) as f64;
            let total = Ratio::over(times.rounds_ns.clone());
            let a_dispatch = |ns: f64| ns / n / 1e6;
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
                    None => variant(&KernelPlan { lanes, ..plans[key.plan].clone() }),
                },
                used: key.plan == 0,
                dispatches: times.dispatches,
                ms: Ratio {
                    median: a_dispatch(total.median),
                    low: a_dispatch(total.low),
                    high: a_dispatch(total.high),
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
