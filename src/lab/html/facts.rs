//! Makes tables of facts about the run, the adapter, and the choice of a precision.

use maud::{Markup, html};
use serde_json::Value;

use crate::lab::html::number::{bytes, count, data, number};
use crate::lab::html::table::{facts, or_none, word, yes};
use crate::lab::report::{AdapterReport, PrecisionReport, Report};

/// Returns the tables about the run: model, settings, machine and program.
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
                ("texts for accuracy", count(settings.accuracy_texts)),
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
                ("duration, s", number(report.wall_s)),
            ]))
        }
    }
}

/// Returns the table of the adapter and its limits.
pub(super) fn adapter(report: &AdapterReport) -> Markup {
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
                "subgroup size",
                match adapter.subgroup_sizes {
                    Some((minimum, maximum)) => {
                        html! { (count(minimum as usize)) " to " (count(maximum as usize)) " invocations" }
                    }
                    None => word("none"),
                },
            ),
            (
                "cooperative matrices",
                match adapter.cooperative_matrix {
                    Some(side) => {
                        html! { (count(side as usize)) " × " (count(side as usize)) }
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

/// Returns a table of the `Precision` that `inspect --json` writes, with one row for each value.
pub(super) fn precision(report: &PrecisionReport) -> Markup {
    let mut rows = vec![
        ("weights".to_owned(), word(&report.weights)),
        ("activations".to_owned(), word(&report.activations)),
        ("kernels".to_owned(), word(&report.kernels)),
    ];
    leaves("precision", &report.precision, &mut rows);
    let rows: Vec<(&str, Markup)> =
        rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts(&format!("Precision {}", report.name), &rows)
}

/// Adds one row for each scalar inside a JSON value. The name of a row is the path to the scalar.
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
