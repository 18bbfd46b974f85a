//! Every number of a report in tables.

use maud::{Markup, html};
use serde_json::Value;

use crate::lab::html::number::{
    bytes, cosine, count, data, number, optional, percent, ratio, spread,
};
use crate::lab::report::{
    AdapterReport, Cell, GpuTime, KernelCase, KernelTime, PrecisionReport, Report,
};

/// A table in a box of its own that scrolls. The first column names rows.
fn table(caption: &str, head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A table of names and what they stand for.
fn facts(caption: &str, rows: &[(&str, Markup)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td.text { (value) } } } }
            }
        }
    }
}

fn word(text: &str) -> Markup {
    html! { (text) }
}

fn yes(value: bool) -> Markup {
    word(if value { "yes" } else { "no" })
}

fn or_none(value: Option<&str>) -> Markup {
    word(value.filter(|text| !text.is_empty()).unwrap_or("–"))
}

/// What was run, on what machine, and how.
pub(super) fn run(report: &Report) -> Markup {
    let (host, model, settings) = (&report.host, &report.model, &report.settings);
    html! {
        section aria-labelledby="run" {
            h2 id="run" { "The run" }
            (facts("Model", &[
                ("name", word(&model.name)),
                ("model_type", word(&model.model_type)),
                ("SHA-256 of the weights", word(&model.sha256)),
                ("modules", html! { @for module in &model.modules { div { (module) } } }),
                ("dimension", count(model.dimension)),
                ("max_seq_length", model.max_seq_length.map_or_else(|| word("–"), count)),
            ]))
            (facts("Settings", &[
                ("quick", yes(settings.quick)),
                ("rounds", count(settings.rounds)),
                ("texts", word(&settings.texts)),
                ("texts of the accuracy", count(settings.accuracy_texts)),
                ("scored pairs", match &settings.pairs {
                    Some((file, pairs)) => html! { (file) ", " (count(*pairs)) " pairs" },
                    None => word("–"),
                }),
            ]))
            (facts("Machine and program", &[
                ("label", or_none(report.label.as_deref())),
                ("date", word(&report.date)),
                ("vectile", word(&report.vectile)),
                ("schema", word(&report.schema)),
                ("build", word(if host.debug_build { "debug" } else { "release" })),
                ("system", html! { (host.os) ", " (host.arch) }),
                ("processor", or_none(host.cpu.as_deref())),
                ("threads", count(host.threads)),
                ("seconds of the whole run", number(report.wall_s)),
            ]))
        }
    }
}

/// Everything that was found on an adapter.
pub(super) fn adapter(report: &AdapterReport) -> Markup {
    let precisions = &report.precisions;
    html! {
        @if !precisions.is_empty() {
            h3 { "Accuracy and memory" }
            (accuracy(precisions))
            h3 { "Throughput" }
            (throughput(precisions))
            h3 { "Latency" }
            (latency(precisions))
            h3 { "From nothing to vectors" }
            (cold(precisions))
            h3 { "What the host does" }
            (host(precisions))
            h3 { "What the GPU does" }
            @if precisions.iter().all(|precision| precision.gpu.is_none()) {
                p {
                    "GPU time is not measured here"
                    @if !report.timestamps { ": this adapter has no timestamps" } "."
                }
            } @else {
                (gpu(precisions))
                (times("GPU time by kernel", "kernel", precisions, |gpu| &gpu.kernels))
                details {
                    summary { "By step: the tensor that is written" }
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
        (about(report))
        @for precision in precisions {
            details {
                summary { "How " (precision.name) " was chosen and runs" }
                (chosen(precision))
            }
        }
    }
}

fn about(report: &AdapterReport) -> Markup {
    let adapter = &report.adapter;
    facts(
        "Adapter",
        &[
            ("index", count(adapter.index)),
            ("name", word(&adapter.name)),
            ("type", word(&adapter.device_type)),
            ("backend", word(&adapter.backend)),
            ("driver", or_none(Some(&adapter.driver))),
            ("driver version", or_none(Some(&adapter.driver_info))),
            ("SHADER_F16", yes(adapter.shader_f16)),
            (
                "subgroups",
                match adapter.subgroup_sizes {
                    Some((least, most)) => {
                        html! { "of " (count(least as usize)) " to " (count(most as usize)) }
                    }
                    None => word("none"),
                },
            ),
            (
                "cooperative matrices",
                match adapter.cooperative_matrix {
                    Some(side) => {
                        html! { "of " (count(side as usize)) " by " (count(side as usize)) }
                    }
                    None => word("none"),
                },
            ),
            ("largest buffer", bytes(adapter.max_buffer_bytes)),
            ("largest binding", bytes(adapter.max_binding_bytes)),
            ("workgroup memory", bytes(u64::from(adapter.workgroup_memory_bytes))),
            ("workgroup invocations", count(adapter.workgroup_invocations as usize)),
            ("features disabled", or_none(Some(&report.disabled.join(", ")))),
            ("timestamps", yes(report.timestamps)),
            ("kernels", word(&report.kernels)),
        ],
    )
}

/// The `Precision` as `inspect --json` gives it, a row for each of its values.
fn chosen(precision: &PrecisionReport) -> Markup {
    let mut rows = vec![
        ("weights".to_owned(), word(&precision.weights)),
        ("activations".to_owned(), word(&precision.activations)),
        ("kernels".to_owned(), word(&precision.kernels)),
    ];
    leaves("precision", &precision.precision, &mut rows);
    let rows: Vec<(&str, Markup)> =
        rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts(&format!("Precision {}", precision.name), &rows)
}

fn leaves(name: &str, value: &Value, rows: &mut Vec<(String, Markup)>) {
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(field, value)| leaves(&format!("{name}.{field}"), value, rows));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, value)| leaves(&format!("{name}.{at}"), value, rows));
        }
        Value::Number(value) => {
            let shown = value.to_string();
            let cell = value.as_f64().map_or_else(|| word(&shown), |number| data(number, &shown));
            rows.push((name.to_owned(), cell));
        }
        Value::String(text) => rows.push((name.to_owned(), word(text))),
        Value::Bool(value) => rows.push((name.to_owned(), yes(*value))),
        Value::Null => rows.push((name.to_owned(), word("–"))),
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
        "Vectors against those of f32 on this adapter, and memory",
        &[
            "precision",
            "smallest cosine",
            "mean cosine",
            "largest difference",
            "top 10 kept",
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
        "Throughput: speed is a median over the rounds, with the least and the largest",
        &[
            "precision",
            "tokens a batch, at most",
            "tokens a text",
            "speed",
            "tokens/s",
            "texts/s",
            "texts a run",
            "tokens a run",
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
                0 => "as they are".to_owned(),
                tokens => tokens.to_string(),
            },
        ),
        ratio(cell.speedup),
        number(cell.tokens_per_s),
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
    table("One short text, again and again", &head, &rows)
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
        "rest of the first batch, s",
        "the same batch, warm, s",
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
        "Milliseconds of a run of the last size, from texts to rows",
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
    let head = ["precision", "total, ms", "of which in kernels"];
    table("GPU time of a run of the last size", &head, &rows)
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
                word(&case.form),
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
        "Each kernel at the model's shapes, in each storage and form",
        &[
            "kernel",
            "tensor",
            "tokens",
            "widths",
            "precision",
            "form",
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
