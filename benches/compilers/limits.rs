//! Compares figures with the limits in `limits.json`.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use vectile::AdapterSummary;

use crate::compare::{FIGURES, rounded};
use crate::gpus::{GPUS, Gpu};
use crate::report::{OfGpu, OfPipeline, Report, Variants};

/// The version of the drivers with which the limits were measured. Another version may compile the same kernels in
/// another way. With another version, figures beyond their limits are therefore printed but do not fail the check.
const MEASURED_WITH: &str = "Mesa 26.1.6";

/// The facts about an adapter that `adapters.json` records.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    gpu: String,
    product: String,
    adapter: Option<AdapterSummary>,
    variants: Option<Variants>,
}

impl Recorded {
    pub fn of(gpu: &OfGpu) -> Self {
        let adapter = gpu.adapter.clone().map(|adapter| {
            // The facts should not depend on the driver's version.
            AdapterSummary { driver_info: String::new(), ..adapter }
        });
        let OfGpu { gpu, product, variants, .. } = gpu.clone();
        Recorded { gpu, product, adapter, variants }
    }
}

/// A limit on a figure. The limit applies to every pipeline of the GPU whose name contains all parts of `pipelines`
/// that have no minus sign, and none of the parts that have one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    gpu: String,
    /// Parts of the name of a pipeline, separated by commas: see [`OfPipeline::name`].
    pipelines: String,
    /// The name of a figure in [`FIGURES`].
    figure: String,
    #[serde(default)]
    most: Option<f64>,
    #[serde(default)]
    least: Option<f64>,
}

impl Limit {
    fn is_for(&self, pipeline: &OfPipeline) -> bool {
        let name = pipeline.name();
        let has = |part: &str| name.split(", ").any(|one| one == part);
        self.pipelines.split(", ").all(|part| match part.strip_prefix('-') {
            Some(part) => !has(part),
            None => has(part),
        })
    }
}

/// Returns true if a limit applies to this pipeline of a GPU.
pub fn concern(gpu: Gpu, pipeline: &OfPipeline) -> bool {
    limits().iter().any(|limit| limit.gpu == gpu.name && limit.is_for(pipeline))
}

fn limits() -> Vec<Limit> {
    serde_json::from_str(include_str!("limits.json")).unwrap()
}

/// Returns the GPUs that have limits.
pub fn gpus() -> Vec<Gpu> {
    let limits = limits();
    let has_limits = |gpu: &Gpu| limits.iter().any(|limit| limit.gpu == gpu.name);
    GPUS.into_iter().filter(has_limits).collect()
}

/// True if the driver of this GPU has the version with which the limits were measured.
fn has_measured_driver(gpu: &OfGpu) -> bool {
    gpu.adapter.as_ref().is_some_and(|adapter| adapter.driver_info.contains(MEASURED_WITH))
}

/// Prints each limit with the worst figure, and fails if a figure exceeds its limit. It also fails if a pipeline does
/// not compile, if a GPU was not measured, if no pipeline has the figure of a limit, or if `adapters.json` is wrong. With
/// another version of the drivers than [`MEASURED_WITH`], it fails only if a pipeline does not compile or a GPU was not
/// measured.
pub fn check(report: &Report) -> ExitCode {
    let mut failures = 0;
    let mut fail = |text: String| {
        println!("FAILED: {text}");
        failures += 1;
    };
    let differs = |text: String| {
        println!("DIFFERS, with another driver than {MEASURED_WITH}: {text}");
    };
    let recorded: Vec<Recorded> = serde_json::from_str(include_str!("adapters.json")).unwrap();
    for gpu in &report.gpus {
        let facts = Recorded::of(gpu);
        if gpu.problem.is_none() && !recorded.contains(&facts) {
            let text =
                format!("{}: adapters.json differs from the driver, which says {facts:?}", gpu.gpu);
            if has_measured_driver(gpu) { fail(text) } else { differs(text) }
        }
        if let Some(problem) = &gpu.problem {
            fail(format!("{} was not measured: {problem}", gpu.gpu));
        }
        for one in &gpu.pipelines {
            if let Some(problem) = &one.problem {
                fail(format!("{}: {} does not compile: {problem}", gpu.gpu, one.name()));
            }
        }
        println!("{}: {} pipelines", gpu.gpu, gpu.pipelines.len());
    }
    for limit in limits() {
        let Some(gpu) = report.gpus.iter().find(|one| one.gpu == limit.gpu) else { continue };
        let (_, value) = FIGURES
            .iter()
            .find(|(name, _)| *name == limit.figure)
            .unwrap_or_else(|| panic!("limits.json: `{}` is not a figure", limit.figure));
        let found: Vec<(f64, String)> = gpu
            .pipelines
            .iter()
            .filter(|one| limit.is_for(one))
            .filter_map(|one| Some((value(one)?, one.name())))
            .collect();
        let most = found.iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let least = found.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let mut fail =
            |text: String| if has_measured_driver(gpu) { fail(text) } else { differs(text) };
        let what = format!("{}, {}: {}", limit.gpu, limit.pipelines, limit.figure);
        match (most, least) {
            (Some(most), Some(least)) => {
                if let Some(limit) = limit.most {
                    let text = format!("{what} {} ≤ {}", rounded(most.0), rounded(limit));
                    if most.0 <= limit {
                        println!("{text}");
                    } else {
                        fail(format!("{text} ({})", most.1));
                    }
                }
                if let Some(limit) = limit.least {
                    let text = format!("{what} {} ≥ {}", rounded(least.0), rounded(limit));
                    if least.0 >= limit {
                        println!("{text}");
                    } else {
                        fail(format!("{text} ({})", least.1));
                    }
                }
            }
            _ => fail(format!("{what}: no pipeline has this figure")),
        }
    }
    let left: Vec<&str> = GPUS
        .iter()
        .map(|gpu| gpu.name)
        .filter(|name| !report.gpus.iter().any(|one| one.gpu == *name))
        .collect();
    if !left.is_empty() {
        println!("left out: {}", left.join(", "));
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{failures} checks failed; benches/README.md says how to change a limit");
        ExitCode::FAILURE
    }
}
