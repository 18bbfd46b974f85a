//! Prints the figures of a GPU as a table.

use comfy_table::{CellAlignment, Table};

use crate::report::{OfGpu, OfPipeline};

const HEADER: [&str; 20] = [
    "kernel",
    "variant",
    "storages",
    "default",
    "regs",
    "spills",
    "occup.",
    "LDS",
    "instr.",
    "bytes",
    "ms",
    "issued",
    "matrix",
    "FMA",
    "LDS ld/st",
    "global",
    "vector",
    "scalar",
    "per matrix",
    "FMA share, per ld",
];

/// The heading and the table of a GPU.
pub fn of(gpu: &OfGpu) -> String {
    let mut text = format!("{} ({})", gpu.gpu, gpu.product);
    if let Some(problem) = &gpu.problem {
        return format!("{text}: NOT MEASURED: {problem}\n");
    }
    if let Some(adapter) = &gpu.adapter {
        text += &format!(": {} ({} {})", adapter.name, adapter.driver, adapter.driver_info);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(HEADER);
    for at in 4..HEADER.len() {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for pipeline in &gpu.pipelines {
        table.add_row(row(pipeline));
    }
    let failed = gpu.pipelines.iter().filter(|one| one.problem.is_some()).count();
    let spilling = gpu.pipelines.iter().filter(|one| one.figures.spills > Some(0)).count();
    format!(
        "{text}\n{table}\n{} pipelines, {spilling} with spills, {failed} that do not compile\n",
        gpu.pipelines.len()
    )
}

fn row(pipeline: &OfPipeline) -> Vec<String> {
    let form = format!("{} {}", pipeline.form, pipeline.branch).trim().to_owned();
    let mut row = vec![
        pipeline.kernel.clone(),
        form,
        pipeline.storages.clone(),
        if pipeline.by_default { "yes" } else { "" }.to_owned(),
    ];
    if let Some(problem) = &pipeline.problem {
        row.push(format!("DOES NOT COMPILE: {}", problem.lines().next().unwrap_or_default()));
        return row;
    }
    let figures = &pipeline.figures;
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    row.extend([
        number(figures.registers),
        number(figures.spills),
        number(figures.occupancy),
        figures.workgroup_memory.to_string(),
        number(figures.instructions),
        number(figures.code_bytes),
        format!("{:.0}", figures.compile_ms),
    ]);
    if let Some(mix) = figures.counts.as_ref().and_then(|counts| counts.main_loop.as_ref()) {
        let or = |value: Option<f64>, digits: usize| {
            value.map_or_else(String::new, |value| format!("{value:.digits$}"))
        };
        let share = or(mix.fma_share().map(|share| share * 100.0), 0);
        row.extend([
            mix.issued().to_string(),
            mix.matrix.to_string(),
            mix.fma.to_string(),
            format!("{}/{}", mix.workgroup_loads, mix.workgroup_stores),
            mix.global.to_string(),
            mix.vector.to_string(),
            mix.scalar.to_string(),
            or(mix.issued_per_matrix(), 1),
            if share.is_empty() {
                String::new()
            } else {
                format!("{share}% {}", or(mix.fma_per_load(), 1))
            },
        ]);
    }
    row
}
