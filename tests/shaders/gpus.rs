//! Tests the tables in `docs/gpus.md`. They must agree with the facts that drivers without hardware report, and with
//! the dtype policy. `cargo bench --bench compilers` records the facts, and its `--check` compares them with the
//! drivers.

use serde::Deserialize;
use vectile::dtype::{DtypeOptions, F16Facts, resolve};
use vectile::{
    AdapterSummary, CheckpointDtype, DtypeRequest, FloatDtype, HalfFallback, ShaderF16, Storage,
};

use crate::support::root;

#[derive(Deserialize)]
struct Recorded {
    gpu: String,
    product: String,
    adapter: AdapterSummary,
    variants: Variants,
}

#[derive(Deserialize)]
struct Variants {
    subgroup: Option<u32>,
    matmul_f32: String,
    matmul_f16: Option<String>,
    attention_f32: String,
    attention_f16: Option<String>,
}

fn recorded() -> Vec<Recorded> {
    let text = std::fs::read(root().join("benches/compilers/adapters.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// Returns the table of features, limits and variants.
fn features(all: &[Recorded]) -> String {
    let head = [
        "GPU",
        "product",
        "f16",
        "subgroups",
        "matrices",
        "binding",
        "workgroup",
        "matmul, f32",
        "matmul, f16",
        "attention, f32",
        "attention, f16",
    ];
    let mut table = row(&head.map(str::to_owned)) + &row(&head.map(|_| "---".to_owned()));
    for Recorded { gpu, product, adapter, variants } in all {
        let sizes = match (adapter.subgroup_sizes, variants.subgroup) {
            (Some((least, most)), Some(_)) if least == most => least.to_string(),
            (Some((least, most)), Some(_)) => format!("{least} to {most}"),
            _ => "no".to_owned(),
        };
        let or_no = |text: &Option<String>| text.clone().unwrap_or_else(|| "no".to_owned());
        table += &row(&[
            format!("`{gpu}`"),
            product.clone(),
            if adapter.shader_f16 { "yes" } else { "no" }.to_owned(),
            sizes,
            adapter.cooperative_matrix.map_or("no".to_owned(), |side| format!("{side} × {side}")),
            format!("{} MiB", adapter.max_binding_bytes.div_ceil(1 << 20)),
            format!(
                "{} KiB, {} invocations",
                adapter.workgroup_memory_bytes / 1024,
                adapter.workgroup_invocations
            ),
            variants.matmul_f32.clone(),
            or_no(&variants.matmul_f16),
            variants.attention_f32.clone(),
            or_no(&variants.attention_f16),
        ]);
    }
    table
}

/// Returns the storage types that the policy chooses, for example `f16/f32`, or one name if those of weights and
/// activations are equal.
fn chosen(
    dtype: DtypeRequest,
    checkpoint: FloatDtype,
    f16: bool,
    fallback: HalfFallback,
) -> String {
    let options = DtypeOptions { dtype, half_fallback: fallback, ..DtypeOptions::default() };
    let checkpoint =
        CheckpointDtype { dtype: checkpoint, source: "a test".to_owned(), reasons: Vec::new() };
    let shader_f16 = if f16 { ShaderF16::Passed } else { ShaderF16::Absent };
    let precision = resolve(options, checkpoint, shader_f16, F16Facts::default(), None).unwrap();
    let name = |storage: Storage| storage.to_string();
    match (precision.weights, precision.activations) {
        (weights, activations) if weights == activations => name(weights),
        (weights, activations) => format!("{}, activations {}", name(weights), name(activations)),
    }
}

/// Returns the table of precisions. GPUs for which the policy chooses the same storage types share a row.
fn precisions(all: &[Recorded]) -> String {
    let head = ["GPUs", "`--dtype`", "f32 checkpoint", "f16 checkpoint", "bf16 checkpoint"];
    let mut table = row(&head.map(str::to_owned)) + &row(&head.map(|_| "---".to_owned()));
    let kinds = [
        (true, HalfFallback::F32, "with f16"),
        (false, HalfFallback::F32, "without f16"),
        (false, HalfFallback::Packed, "without f16, `--half-fallback packed`"),
    ];
    for (f16, fallback, kind) in kinds {
        let names: Vec<String> = all
            .iter()
            .filter(|one| one.adapter.shader_f16 == f16)
            .map(|one| format!("`{}`", one.gpu))
            .collect();
        assert!(!names.is_empty());
        let dtypes = [DtypeRequest::Auto, DtypeRequest::Float16, DtypeRequest::Bfloat16];
        for dtype in dtypes {
            let of = |checkpoint| chosen(dtype, checkpoint, f16, fallback);
            table += &row(&[
                format!("{kind}: {}", names.join(", ")),
                format!("`{}`", dtype.name()),
                of(FloatDtype::Float32),
                of(FloatDtype::Float16),
                of(FloatDtype::Bfloat16),
            ]);
        }
    }
    table
}

#[test]
fn the_page_of_gpus_has_the_recorded_facts() {
    let all = recorded();
    assert_eq!(all.len(), 18);
    let page = std::fs::read_to_string(root().join("docs/gpus.md")).unwrap();
    for table in [features(&all), precisions(&all)] {
        assert!(page.contains(&table), "docs/gpus.md needs this table:\n\n{table}");
    }
}
