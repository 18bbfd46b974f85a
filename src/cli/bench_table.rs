//! Formats the report of `vectile bench` as tables.

use std::fmt::Write;

use indicatif::BinaryBytes;
use vectile::lab::report::{AdapterReport, KernelTime, PrecisionReport, Ratio, Report};

use super::table::number_table;

/// Returns all tables of a report.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail, so the result is ignored.
    let _ = writeln!(
        out,
        "{model} ({model_type}) · vectile {version} · {date} · measured in {seconds:.0} s",
        model = report.model.name,
        model_type = report.model.model_type,
        version = report.vectile,
        date = report.date,
        seconds = report.wall_s
    );
    for adapter in &report.adapters {
        out.push('\n');
        out.push_str(&adapter_tables(report, adapter));
    }
    out
}

fn adapter_tables(report: &Report, adapter: &AdapterReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", adapter.adapter);
    if !adapter.disabled.is_empty() {
        let _ = writeln!(out, "disabled: {}", adapter.disabled.join(", "));
    }
    let _ = writeln!(out, "\nSpeed and accuracy compared with f32, and memory");
    out.push_str(&overview(report, adapter));
    let _ = writeln!(
        out,
        "\nTokens per second, and how many times as fast as f32 (in brackets, the lowest and highest ratio of two rounds)"
    );
    out.push_str(&cells(adapter));
    let mut timed = adapter.precisions.iter().flat_map(|precision| &precision.cells);
    if timed.any(|cell| cell.predicted_tokens_per_s.is_some()) {
        let _ = writeln!(
            out,
            "\"of N\": the predicted maximum on this GPU, which is not a measurement (docs/roofline.md)"
        );
    }
    let _ = writeln!(
        out,
        "\nTime to the first vector, and time of each step that the host takes in a run, in ms"
    );
    out.push_str(&host(adapter));
    match adapter.timestamps {
        true => {
            let _ = writeln!(out, "\nGPU time per kernel, in a run of the last size measured");
            out.push_str(&kernels(adapter));
        }
        false => {
            let _ = writeln!(
                out,
                "\nGPU time per kernel: not measured, because this adapter has no timestamps"
            );
        }
    }
    if !adapter.kernel_sweep.is_empty() {
        let _ = writeln!(
            out,
            "\nTime of one dispatch of each kernel, with the shapes of the model's tensors"
        );
        out.push_str(&sweep(adapter));
    }
    for refused in &adapter.refused {
        let _ = writeln!(out, "not timed: {}: {}", refused.precision, refused.reason);
    }
    out
}

fn ratio(ratio: Ratio) -> String {
    format!("{:.2}× ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
}

/// Formats a cosine with seven digits, because cosines near 1 differ only in their last digits.
fn cosine(cosine: f64) -> String {
    format!("{cosine:.7}")
}

/// Returns the speed-up over f32 in the last measurement, which has the largest batches.
fn last_speed(precision: &PrecisionReport) -> String {
    precision.cells.last().map_or_else(String::new, |cell| ratio(cell.speedup))
}

fn overview(report: &Report, adapter: &AdapterReport) -> String {
    let pairs = report.settings.pairs.is_some();
    let mut header = vec![
        "precision",
        "speed",
        "p50 ms",
        "p95 ms",
        "min cosine",
        "mean cosine",
        "max abs",
        "top-10",
        "weights",
        "activations",
    ];
    if pairs {
        header.push("Spearman");
    }
    let mut table = number_table(header);
    for precision in &adapter.precisions {
        let accuracy = &precision.accuracy;
        let mut row = vec![
            precision.name.clone(),
            last_speed(precision),
            format!("{:.2}", precision.latency.p50_ms),
            format!("{:.2}", precision.latency.p95_ms),
            cosine(accuracy.min_cosine),
            cosine(accuracy.mean_cosine),
            format!("{:.1e}", accuracy.max_abs),
            format!("{:.1}%", accuracy.top10_overlap * 100.0),
            BinaryBytes(precision.weight_bytes).to_string(),
            BinaryBytes(precision.peak_activation_bytes).to_string(),
        ];
        if pairs {
            row.push(accuracy.spearman.map_or_else(|| "–".to_owned(), |rho| format!("{rho:.4}")));
        }
        table.add_row(row);
    }
    format!("{table}\n")
}

fn cells(adapter: &AdapterReport) -> String {
    let Some(first) = adapter.precisions.first() else { return String::new() };
    let mut header = vec!["batch".to_owned(), "texts".to_owned()];
    header.extend(adapter.precisions.iter().map(|precision| precision.name.clone()));
    let mut table = number_table(header);
    for (at, cell) in first.cells.iter().enumerate() {
        let texts = match cell.text_tokens {
            0 => "unchanged".to_owned(),
            n => format!("{n} tokens"),
        };
        let mut row = vec![cell.batch_tokens.to_string(), texts];
        for precision in &adapter.precisions {
            row.push(precision.cells.get(at).map_or_else(String::new, |cell| {
                let predicted = cell.predicted_tokens_per_s;
                let most = predicted.map_or_else(String::new, |most| format!(" of {most:.0}"));
                match precision.name == first.name {
                    true => format!("{:.0}{most}", cell.tokens_per_s),
                    false => format!("{:.0}{most}  {}", cell.tokens_per_s, ratio(cell.speedup)),
                }
            }));
        }
        table.add_row(row);
    }
    format!("{table}\n")
}

fn host(adapter: &AdapterReport) -> String {
    let mut table = number_table([
        "precision",
        "first vector",
        "load",
        "pipelines",
        "first batch",
        "warm",
        "tokens of the run",
        "tokenize",
        "pack",
        "upload",
        "encode",
        "submit",
        "wait",
        "read back",
        "total",
    ]);
    for precision in &adapter.precisions {
        let (cold, host) = (&precision.cold, &precision.host);
        let s = |seconds: f64| format!("{:.0}", seconds * 1e3);
        let ms = |ms: f64| format!("{ms:.2}");
        table.add_row([
            precision.name.clone(),
            s(cold.first_vector_s),
            s(cold.load_s),
            s(cold.pipelines_s),
            s(cold.first_batch_s),
            s(cold.warm_batch_s),
            host.tokens.to_string(),
            ms(host.tokenize_ms),
            ms(host.pack_ms),
            ms(host.upload_ms),
            ms(host.encode_ms),
            ms(host.submit_ms),
            ms(host.wait_ms),
            ms(host.read_back_ms),
            ms(host.total_ms),
        ]);
    }
    format!("{table}\n")
}

fn kernels(adapter: &AdapterReport) -> String {
    let mut table =
        number_table(["precision", "kernel", "dispatches", "ms", "share", "GFLOP/s", "GB/s"]);
    for precision in &adapter.precisions {
        let Some(gpu) = &precision.gpu else { continue };
        for kernel in &gpu.kernels {
            table.add_row(kernel_row(&precision.name, kernel));
        }
        table.add_row([
            precision.name.clone(),
            "the sum of all kernels, and its share of the GPU time".to_owned(),
            String::new(),
            format!("{:.2}", gpu.total_ms),
            format!("{:.1}%", gpu.accounted * 100.0),
            String::new(),
            String::new(),
        ]);
    }
    format!("{table}\n")
}

fn kernel_row(precision: &str, kernel: &KernelTime) -> [String; 7] {
    [
        precision.to_owned(),
        kernel.name.clone(),
        kernel.dispatches.to_string(),
        format!("{:.2}", kernel.ms),
        format!("{:.1}%", kernel.share * 100.0),
        kernel.gflops.map_or_else(String::new, |rate| format!("{rate:.1}")),
        format!("{:.2}", kernel.gbytes),
    ]
}

fn sweep(adapter: &AdapterReport) -> String {
    let mut table = number_table([
        "kernel",
        "writes",
        "tokens",
        "row",
        "variant",
        "precision",
        "ms",
        "GFLOP/s",
        "GB/s",
        "times f32",
    ]);
    for case in &adapter.kernel_sweep {
        let [read, written] = case.widths;
        let mark = if case.used { "" } else { " (not used here)" };
        table.add_row([
            case.kernel.clone(),
            case.step.clone(),
            case.tokens.to_string(),
            if read * written == 0 { String::new() } else { format!("{read} → {written}") },
            format!("{}{mark}", case.variant),
            case.precision.clone(),
            format!("{:.3} ({:.3}–{:.3})", case.ms.median, case.ms.low, case.ms.high),
            case.gflops.map_or_else(String::new, |rate| format!("{rate:.1}")),
            format!("{:.2}", case.gbytes),
            case.speedup.map_or_else(String::new, ratio),
        ]);
    }
    format!("{table}\n")
}
