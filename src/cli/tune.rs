//! `vectile tune`: the fastest form of the matmul at the shapes of a model, measured and kept.

use std::fmt::Write;
use std::path::Path;

use vectile::block_on;
use vectile::dtype::DtypeOptions;
use vectile::lab::tune::{TuneAdapter, TuneOptions, Tuning, tune, tune_adapter};

use super::args::TuneArgs;
use super::bench::{writable, write};
use super::bench_table::{lines, new_table};
use super::failure::Failure;
use super::inspect::to_json;
use super::interrupt::Interrupt;
use super::table::Plain;
use super::{model, progress};

pub fn run(args: &TuneArgs) -> Result<(), Failure> {
    // What cannot be written is known before minutes are spent.
    if let Some(path) = &args.json {
        writable(path)?;
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
            let _interrupt = Interrupt::watch_saying("before all was timed; nothing was kept");
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
            let _interrupt = Interrupt::watch_saying("before all was timed");
            let found = block_on(tune_adapter(&adapter, dtype, &options, steps))?;
            let text: Vec<String> = found.iter().map(describe).collect();
            (to_json(&found)?, text.join("\n"))
        }
    };
    if let Some(path) = &args.json {
        write(path, &(json + "\n"))?;
    }
    match args.json.as_deref() == Some(Path::new("-")) {
        true => Ok(()),
        false => Plain::new().whole(&text),
    }
}

fn describe(found: &Tuning) -> String {
    let mut out = String::new();
    let clock = match found.timestamps {
        true => "times are the GPU's own",
        false => "times are the host's, over whole runs: the adapter has no timestamps",
    };
    // Writing to a string does not fail.
    let _ = writeln!(out, "adapter      {}", found.adapter);
    let (weights, activations) = (found.weights, found.activations);
    let _ = writeln!(out, "precision    {weights} weights, {activations} activations; {clock}");
    for problem in &found.left_out {
        let _ = writeln!(out, "left out     {problem}");
    }
    let mut table =
        new_table(["matrix", "rows", "form", "ms", "least", "most", "GFLOP/s", "taken"]);
    for case in &found.cases {
        for form in &case.forms {
            let mut taken = Vec::new();
            if form.form == case.chosen {
                taken.push("now");
            }
            if form.form == case.untuned {
                taken.push("before");
            }
            table.add_row([
                format!("{} → {}", case.inner, case.columns),
                case.rows.to_string(),
                form.form.clone(),
                format!("{:.3}", form.ms),
                format!("{:.3}", form.spread_ms[0]),
                format!("{:.3}", form.spread_ms[1]),
                format!("{:.1}", form.gflops),
                taken.join(", "),
            ]);
        }
    }
    out.push_str(&lines(&table));
    let _ = match &found.kept {
        Some(path) => {
            writeln!(out, "kept in {}; later loads on this adapter take it", path.display())
        }
        None => writeln!(out, "not kept: there is no cache directory"),
    };
    out
}
