//! Compares two runs, pipeline by pipeline.

use comfy_table::Table;

use crate::report::{OfPipeline, Report};

/// A figure's name, and its value for a pipeline.
type Figure = (&'static str, fn(&OfPipeline) -> Option<f64>);

/// The figures that are compared. For each figure except occupancy and the share of FMA, a larger value is worse.
pub const FIGURES: [Figure; 10] = [
    ("registers", |one| one.figures.registers.map(|n| n as f64)),
    ("spills", |one| one.figures.spills.map(|n| n as f64)),
    ("occupancy", |one| one.figures.occupancy.map(|n| n as f64)),
    ("workgroup memory", |one| Some(one.figures.workgroup_memory as f64)),
    ("instructions", |one| one.figures.instructions.map(|n| n as f64)),
    ("issued per matrix", |one| main_loop(one)?.issued_per_matrix()),
    ("FMA share", |one| main_loop(one)?.fma_share()),
    ("FMA per load", |one| main_loop(one)?.fma_per_load()),
    ("issued in the loop", |one| Some(f64::from(main_loop(one)?.issued()))),
    ("issued outside", |one| Some(f64::from(one.figures.counts.as_ref()?.outside))),
];

fn main_loop(one: &OfPipeline) -> Option<&crate::assembly::Mix> {
    one.figures.counts.as_ref()?.main_loop.as_ref()
}

/// Returns a table of the figures that differ, and lists of the pipelines that only one run has.
pub fn compare(before: &Report, after: &Report) -> String {
    let mut text = String::new();
    for gpu in &after.gpus {
        text += &format!("{} ({})\n", gpu.gpu, gpu.product);
        let Some(old) = before.gpus.iter().find(|one| one.gpu == gpu.gpu) else {
            text += "  only in the second file\n";
            continue;
        };
        for (file, problem) in [("first", &old.problem), ("second", &gpu.problem)] {
            if let Some(problem) = problem {
                text += &format!("  not measured in the {file} file: {problem}\n");
            }
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let mut same = 0;
        for pipeline in &gpu.pipelines {
            let name = pipeline.name();
            let Some(other) = old.pipelines.iter().find(|one| one.name() == name) else {
                table.add_row([name, "only in the second file".to_owned()]);
                continue;
            };
            let differing: Vec<String> = FIGURES
                .iter()
                .filter_map(|(figure, value)| {
                    let (old, new) = (value(other), value(pipeline));
                    let show = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), rounded);
                    (old != new).then(|| format!("{figure} {} → {}", show(old), show(new)))
                })
                .collect();
            if differing.is_empty() {
                same += 1;
            } else {
                table.add_row([name, differing.join(", ")]);
            }
        }
        for other in &old.pipelines {
            if !gpu.pipelines.iter().any(|one| one.name() == other.name()) {
                table.add_row([other.name(), "only in the first file".to_owned()]);
            }
        }
        text += &format!("{table}\n  {same} pipelines have the same figures\n\n");
    }
    text
}

/// Returns a number with at most two digits after the point.
pub fn rounded(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
