//! Selects the known-answer tests that a model needs. The selected tests cover the kernels that the model runs, and the
//! branches of these kernels that the model executes. Compiling the other tests would take most of the time of a first
//! load.

use std::collections::BTreeSet;

use crate::gpu::executor::PipelineKey;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::ShaderVariant;

/// Branches of kernels that some models never execute. Each branch has the name of a pipeline constant (WGSL
/// `override`), which is 0 if the pipeline does not execute the branch.
const BRANCHES: &[&str] = &["EXPERTS", "GATED", "ROTARY", "RELATIVE"];

/// Is true if a model with these pipelines runs the kernel in any variant and executes all branches of `variant`.
/// Different pipelines of the model may execute different branches.
pub(super) fn needs(model: &[PipelineKey], kernel: &Kernel, variant: &ShaderVariant) -> bool {
    let variants = || model.iter().filter(|key| function(key.kernel) == function(kernel));
    variants().next().is_some()
        && taken(variant)
            .all(|branch| variants().any(|key| taken(&key.variant).any(|b| b == branch)))
}

/// Returns the names of the kernels and branches of a model. Models with the same names need the same known-answer
/// tests.
pub(super) fn names(model: &[PipelineKey]) -> String {
    let mut names = BTreeSet::new();
    for PipelineKey { kernel, variant } in model {
        names.insert(function(kernel).to_owned());
        names.extend(taken(variant).map(|branch| format!("{} {branch}", function(kernel))));
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Returns the branches that a variant executes.
fn taken(variant: &ShaderVariant) -> impl Iterator<Item = &'static str> + '_ {
    let taken = |(name, value): &&(&str, u32)| *value != 0 && BRANCHES.contains(name);
    variant.overrides.iter().filter(taken).map(|(name, _)| *name)
}

/// Returns the common name of the kernels that compute the same function. The adapter and the number of rows choose
/// among these kernels.
fn function(kernel: &Kernel) -> &'static str {
    let name = kernel.name;
    ["matmul", "attention"].into_iter().find(|function| name.starts_with(function)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Storage;
    use crate::gpu::executor::pipelines_of;
    use crate::gpu::graph::Graph;
    use crate::kernels::KernelPlan;
    use crate::kernels::answers::{ANSWERS, Family};
    use crate::selftest::question::Question;

    const F16: (Storage, Storage) = (Storage::F16, Storage::F16);

    fn questions(plan: &KernelPlan) -> Vec<Question> {
        let of_plan = ANSWERS.iter().filter(|answer| answer.family.is_of(plan));
        of_plan.filter_map(|a| Some(Question::new(a, a.family.plan(plan, F16)?, F16))).collect()
    }

    /// Returns the pipelines of an imaginary model, which consists of the first known-answer run of each of these
    /// kernels.
    fn model(plan: &KernelPlan, kernels: &[&str]) -> Vec<PipelineKey> {
        let questions = questions(plan);
        let of = |name: &&str| questions.iter().find(|q| q.answer.kernel.name == *name).unwrap();
        let graphs: Vec<&Graph> = kernels.iter().map(|name| &of(name).runs[0].0).collect();
        pipelines_of(graphs.into_iter())
    }

    /// Returns the number of runs of each kernel that a model needs.
    fn left(plan: &KernelPlan, model: &[PipelineKey]) -> Vec<(&'static str, usize)> {
        let needed = questions(plan).into_iter().filter_map(|question| question.of_model(model));
        needed.map(|question| (question.answer.kernel.name, question.runs.len())).collect()
    }

    #[test]
    fn a_model_needs_the_answers_of_its_kernels_and_branches() {
        for software in [false, true] {
            let plan = KernelPlan { software, cooperative: None, ..KernelPlan::of_gpu() };
            let variant = if software { "lane" } else { "tile" };
            let kernels = ["matmul", "attention"].map(|function| format!("{function}_{variant}"));
            let mut plain = model(&plan, &["lookup", &kernels[0], &kernels[1], "pool"]);
            let got = left(&plan, &plain);
            let matmuls: &[_] = match software {
                true => &[("matmul_lane", 2)],
                false => &[("matmul_tile", 2), ("matmul_few", 2)],
            };
            let attention = if software { "attention_lane" } else { "attention_tile" };
            let expected = [&[("lookup", 1)], matmuls, &[(attention, 2)], &[("pool", 1)]].concat();
            assert_eq!(got, expected);
            assert_eq!(names(&plain), "attention, lookup, matmul, pool");

            // The next lines set GATED in one pipeline, so that the model also needs the known-answer run with a gate.
            let matmul = plain.iter_mut().find(|key| key.kernel.name == kernels[0]).unwrap();
            matmul.variant.overrides.iter_mut().find(|(name, _)| *name == "GATED").unwrap().1 = 1;
            assert_eq!(names(&plain), "attention, lookup, matmul, matmul GATED, pool");
            let got = left(&plan, &plain);
            assert!(
                matmuls.iter().all(|(kernel, runs)| got.contains(&(kernel, runs + 1))),
                "{got:?}"
            );
        }
    }

    /// A branch whose name is misspelt, or that no run executes, would never be tested.
    #[test]
    fn every_branch_is_in_a_run() {
        let plan = KernelPlan { cooperative: None, ..KernelPlan::of_gpu() };
        let questions = questions(&plan);
        for branch in BRANCHES {
            let takes = |q: &Question| {
                let own = |(graph, _): &(Graph, _)| {
                    graph.dispatches.iter().any(|d| taken(&d.variant).any(|b| b == *branch))
                };
                q.runs.iter().any(own) && q.answer.family == Family::Gpu
            };
            assert!(questions.iter().any(takes), "{branch}");
        }
    }
}
