//! Makes the tables of a report's results on one adapter.

use maud::{Markup, html};

use crate::lab::html::facts;
use crate::lab::html::number::{
    bytes, cosine, count, data, number, optional, percent, ratio, spread,
};
use crate::lab::html::table::{table, word, yes};
use crate::lab::report::{AdapterReport, Cell, GpuTime, KernelCase, KernelTime, PrecisionReport};

/// Returns the tables of all results of one adapter, with headings.
pub(super) fn results(report: &AdapterReport) -> Markup {
    let precisions = &report.precisions;
    html! {
        @if !precisions.is_empty() {
            h3 { "Accuracy and memory" }
            (accuracy(precisions))
            h3 { "Throughput" }
            (throughput(precisions))
            h3 { "Latency" }
            (latency(precisions))
            h3 { "First use" }
            (cold(precisions))
            h3 { "Host time" }
            (host(precisions))
            h3 { "GPU time" }
            @if precisions.iter().all(|precision| precision.gpu.is_none()) {
                p {
                    "GPU time was not measured"
                    @if !report.timestamps { ": this adapter has no timestamps" } "."
                }
            } @else {
                (gpu(precisions))
                (times("GPU time by kernel", "kernel", precisions, |gpu| &gpu.kernels))
                details {
                    summary { "GPU time by step: each step has the name of the tensor that it writes" }
                    (times("GPU time by step", "tensor", precisions, |gpu| &gpu.steps))
                }
            }
        }
        @if !report.kernel_sweep.is_empty() {
            h3 { "Single kernels" }
            (sweep(&report.kernel_sweep))
        }
        @if !report.refused.is_empty() {
            h3 { "Not timed" }
            ul { @for refused in &report.refused { li { strong { (refused.precision) } ": " (refused.reason) } } }
        }
        h3 { "Adapter and precisions" }
        (facts::adapter(report))
        @for precision in precisions {
            details {
                summary { (format!("Why {} was chosen, and how it runs", precision.name)) }
                (facts::precision(precision))
            }
        }
    }
}

fn accuracy(precisions: &[PrecisionReport]) -> Markup {
    let rows: Vec<Vec<Markup>> = precisions
        .iter()
        .map(|precision| {
            let accuracy = &precision.accuracy;
            vec![
                word(&precision.name),
                cosine(accuracy.min_cosine),
                cosine(accuracy.mean_cosine),
                data(accuracy.max_abs, &format!("{:.2e}", accuracy.max_abs)),
                percent(accuracy.top10_overlap),
                optional_spearman(accuracy.spearman),
                count(accuracy.texts),
                bytes(precision.weight_bytes),
                bytes(precision.peak_activation_bytes),
            ]
        })
        .collect();
    table(
        "Accuracy against f32 on this adapter, and memory",
        &[
            "precision",
            "smallest cosine",
            "mean cosine",
            "largest difference",
            "top 10 overlap",
            "Spearman × 100",
            "texts",
            "weights",
            "peak activations",
        ],
        &rows,
    )
}

fn optional_spearman(value: Option<f64>) -> Markup {
    value.map_or_else(|| word("–"), |rho| data(rho, &format!("{rho:.4}")))
}

fn throughput(precisions: &[PrecisionReport]) -> Markup {
    let most = precisions.iter().map(|precision| precision.cells.len()).max().unwrap_or(0);
    let rows: Vec<Vec<Markup>> = (0..most)
        .flat_map(|at| {
            precisions
                .iter()
                .filter_map(move |p| p.cells.get(at).map(|cell| of_cell(&p.name, cell)))
        })
        .collect();
    table(
        "Throughput: the speed is relative to the first precision, as a median with its minimum and maximum",
        &[
            "precision",
            "maximum tokens per batch",
            "tokens per text",
            "speed",
            "tokens/s",
            "predicted maximum, tokens/s",
            "texts/s",
            "texts per run",
            "tokens per run",
            "seconds of each round",
        ],
        &rows,
    )
}

fn of_cell(precision: &str, cell: &Cell) -> Vec<Markup> {
    vec![
        word(precision),
        count(cell.batch_tokens),
        data(
            cell.text_tokens as f64,
            &match cell.text_tokens {
                0 => "as given".to_owned(),
                tokens => tokens.to_string(),
            },
        ),
        ratio(cell.speedup),
        number(cell.tokens_per_s),
        cell.predicted_tokens_per_s.map_or_else(|| word("–"), number),
        number(cell.texts_per_s),
        count(cell.texts),
        count(cell.tokens),
        html! {
            @for (round, seconds) in cell.rounds_s.iter().enumerate() {
                @if round > 0 { ", " }
                (number(*seconds))
            }
        },
    ]
}

fn latency(precisions: &[PrecisionReport]) -> Markup {
    let rows: Vec<Vec<Markup>> = precisions
        .iter()
        .map(|precision| {
            let latency = &precision.latency;
            vec![
                word(&precision.name),
                number(latency.p50_ms),
                number(latency.p95_ms),
                ratio(latency.speedup),
                count(latency.tokens),
                count(latency.samples),
            ]
        })
        .collect();
    let head = ["precision", "median, ms", "95th percentile, ms", "speed", "tokens", "runs"];
    table("Latency of one short text", &head, &rows)
}

fn cold(precisions: &[PrecisionReport]) -> Markup {
    let rows: Vec<Vec<Markup>> = precisions
        .iter()
        .map(|precision| {
            let cold = &precision.cold;
            vec![
                word(&precision.name),
                number(cold.first_vector_s),
                number(cold.load_s),
                number(cold.pipelines_s),
                number(cold.first_batch_s),
                number(cold.warm_batch_s),
            ]
        })
        .collect();
    let head = [
        "precision",
        "first vector, s",
        "load, s",
        "pipelines, s",
        "first batch, without compiling pipelines, s",
        "second run of the same batch, s",
    ];
    table("The first use of the model", &head, &rows)
}

fn host(precisions: &[PrecisionReport]) -> Markup {
    let rows: Vec<Vec<Markup>> = precisions
        .iter()
        .map(|precision| {
            let host = &precision.host;
            vec![
                word(&precision.name),
                count(host.batches),
                count(host.tokens),
                number(host.tokenize_ms),
                number(host.pack_ms),
                number(host.upload_ms),
                number(host.encode_ms),
                number(host.submit_ms),
                number(host.wait_ms),
                number(host.read_back_ms),
                number(host.total_ms),
            ]
        })
        .collect();
    table(
        "Time of each step from texts to vectors, in ms, for a run of the last size measured",
        &[
            "precision",
            "batches",
            "tokens",
            "tokenize",
            "pack",
            "upload",
            "encode",
            "submit",
            "wait",
            "read back",
            "total",
        ],
        &rows,
    )
}

fn gpu(precisions: &[PrecisionReport]) -> Markup {
    let measured = precisions.iter().filter_map(|p| p.gpu.as_ref().map(|gpu| (p, gpu)));
    let rows: Vec<Vec<Markup>> = measured
        .map(|(p, gpu)| vec![word(&p.name), number(gpu.total_ms), percent(gpu.accounted)])
        .collect();
    let head = ["precision", "total, ms", "share in kernels"];
    table("GPU time of a run of the last size measured", &head, &rows)
}

fn times(
    caption: &str,
    what: &str,
    precisions: &[PrecisionReport],
    of: impl Fn(&GpuTime) -> &Vec<KernelTime>,
) -> Markup {
    let mut rows = Vec::new();
    for precision in precisions {
        for time in precision.gpu.iter().flat_map(&of) {
            rows.push(vec![
                word(&precision.name),
                word(&time.name),
                number(time.ms),
                percent(time.share),
                count(time.dispatches),
                optional(time.gflops),
                number(time.gbytes),
            ]);
        }
    }
    table(caption, &["precision", what, "ms", "share", "dispatches", "GFLOP/s", "GB/s"], &rows)
}

fn sweep(cases: &[KernelCase]) -> Markup {
    let rows: Vec<Vec<Markup>> = cases
        .iter()
        .map(|case| {
            vec![
                word(&case.kernel),
                word(&case.step),
                count(case.tokens),
                html! { (count(case.widths[0])) " → " (count(case.widths[1])) },
                word(&case.precision),
                word(&case.variant),
                yes(case.used),
                spread(case.ms),
                case.speedup.map_or_else(|| word("–"), ratio),
                optional(case.gflops),
                number(case.gbytes),
                count(case.dispatches),
            ]
        })
        .collect();
    table(
        "Time of each kernel with the shapes of the model's tensors, in each storage type and variant",
        &[
            "kernel",
            "tensor",
            "tokens",
            "widths",
            "precision",
            "variant",
            "used by models",
            "ms",
            "speed",
            "GFLOP/s",
            "GB/s",
            "dispatches",
        ],
        &rows,
    )
}
