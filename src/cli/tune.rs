//! `vectile tune`: times the matmul variants at a model's weight shapes, and caches which variant is the fastest.

use std::fmt::Write;

use vectile::block_on;
use vectile::dtype::DtypeOptions;
use vectile::lab::tune::{TuneAdapter, TuneOptions, Tuning, tune, tune_adapter};

use super::args::TuneArgs;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::report_file::{self, is_stdout};
use super::stdout::{print, to_json};
use super::table::number_table;
use super::{model, progress};

pub fn run(args: &TuneArgs) -> Result<(), Failure> {
    // Tuning takes minutes, so the output file is checked first.
    if let Some(path) = &args.json {
        report_file::check_writable(path)?;
    }
    let options = TuneOptions {
        most_rows: args.rows.get(),
        runs: args.runs.get() + 1,
        ..TuneOptions::default()
    };
    let steps = progress::steps(!args.quiet);
    let (json, text) = match &args.model {
        Some(model) => {
            let mut builder = model::builder(&args.model(model))?;
            if args.gpu_kernels {
                builder = builder.gpu_kernels();
            }
            let _interrupt = Interrupt::watch_with_outcome(
                "interrupted before all kernel variants were timed; nothing was cached",
            );
            let found = block_on(tune(builder, &options, steps))?;
            (to_json(&found)?, describe(&found))
        }
        None => {
            let adapter = TuneAdapter {
                adapter: args.run.adapter.clone().unwrap_or_default(),
                disabled: args.run.disable.clone(),
                cache_dir: model::cache_dir(),
                gpu_kernels: args.gpu_kernels,
            };
            let dtype = DtypeOptions {
                dtype: args.run.dtype,
                half_fallback: args.run.half_fallback,
                activations: args.run.activations,
            };
            let _interrupt =
                Interrupt::watch_with_outcome("interrupted before all kernel variants were timed");
            let found = block_on(tune_adapter(&adapter, dtype, &options, steps))?;
            let text: Vec<String> = found.iter().map(describe).collect();
            (to_json(&found)?, text.join("\n"))
        }
    };
    if let Some(path) = &args.json {
        report_file::write(path, &(json + "\n"))?;
    }
    match args.json.as_deref().is_some_and(is_stdout) {
        true => Ok(()),
        false => print(&text),
    }
}

fn describe(found: &Tuning) -> String {
    let mut out = String::new();
    let how_timed = match found.timestamps {
        true => "times are measured on the GPU",
        false => {
            "times are measured on the host over whole runs, because the adapter has no timestamps"
        }
    };
    // Writing to a string cannot fail, so the result is ignored.
    let _ = writeln!(out, "adapter      {}", found.adapter);
    let (weights, activations) = (found.weights, found.activations);
    let _ = writeln!(out, "precision    {weights} weights, {activations} activations; {how_timed}");
    for problem in &found.left_out {
        let _ = writeln!(out, "left out     {problem}");
    }
    let mut table =
        number_table(["matrix", "rows", "variant", "ms", "min", "max", "GFLOP/s", "chosen"]);
    for case in &found.cases {
        for variant in &case.variants {
            let mut chosen = Vec::new();
            if variant.variant == case.chosen {
                chosen.push("after tuning");
            }
            if variant.variant == case.untuned {
                chosen.push("before tuning");
            }
            table.add_row([
                format!("{} → {}", case.inner, case.columns),
                case.rows.to_string(),
                variant.variant.clone(),
                format!("{:.3}", variant.ms),
                format!("{:.3}", variant.spread_ms[0]),
                format!("{:.3}", variant.spread_ms[1]),
                format!("{:.1}", variant.gflops),
                chosen.join(", "),
            ]);
        }
    }
    let _ = writeln!(out, "{table}");
    let _ = match &found.kept {
        Some(path) => {
            writeln!(
                out,
                "the results are cached in {}; later loads on this adapter use them",
                path.display()
            )
        }
        None => {
            writeln!(out, "the results are not cached, because this user has no cache directory")
        }
    };
    out
}
