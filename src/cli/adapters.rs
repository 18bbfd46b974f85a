//! `vectile adapters`: lists the adapters of this machine, including the CPU, and their features.

use std::fmt::Write;

use indicatif::BinaryBytes;
use serde::Serialize;
use vectile::{AdapterChoice, AdapterSummary, ShaderF16, block_on};

use super::args::AdaptersArgs;
use super::failure::Failure;
use super::message::say;
use super::model;
use super::stdout::{print, to_json};

/// An adapter and the result of its f16 self-test.
#[derive(Serialize)]
struct AdapterReport {
    #[serde(flatten)]
    adapter: AdapterSummary,
    /// The result of the self-test, such as `passed`, `absent` or `failed_self_test`, or the error that stopped the
    /// test.
    shader_f16_verdict: serde_json::Value,
    #[serde(skip)]
    verdict: String,
}

pub fn run(args: &AdaptersArgs) -> Result<(), Failure> {
    let found: Vec<AdapterReport> =
        block_on(vectile::adapters()).into_iter().map(examine).collect();
    if found.iter().all(|report| report.adapter.is_cpu()) {
        say(format_args!(
            "no GPU was found, so models run on the CPU; to use a GPU, install its Vulkan driver"
        ));
    }
    if args.json {
        return print(&to_json(&found)?);
    }
    let blocks: Vec<String> = found.iter().map(describe).collect();
    match blocks.is_empty() {
        true => Ok(()),
        false => print(&blocks.join("\n")),
    }
}

/// Runs the self-test for f16 in shaders on an adapter, or reads the cached result of an earlier self-test.
fn examine(adapter: AdapterSummary) -> AdapterReport {
    let choice = AdapterChoice::Index(adapter.index);
    match block_on(vectile::check_shader_f16(&choice, model::cache_dir().as_deref())) {
        Ok(verdict) => AdapterReport {
            shader_f16_verdict: serde_json::to_value(verdict).unwrap_or_default(),
            verdict: match verdict {
                ShaderF16::Absent if adapter.lacks_dxc() => {
                    "no, because wgpu did not find Microsoft's shader compiler for DX12; put \
                     dxcompiler.dll beside the program"
                }
                ShaderF16::Passed => "yes, self-test passed",
                ShaderF16::Absent => "no",
                ShaderF16::NoShaders => "no, because the CPU runs no shaders",
                ShaderF16::Disabled => "disabled",
                ShaderF16::FailedSelfTest => {
                    "not used, because it FAILED its self-test (wrong results)"
                }
            }
            .to_owned(),
            adapter,
        },
        Err(error) => AdapterReport {
            adapter,
            shader_f16_verdict: serde_json::Value::String(error.to_string()),
            verdict: format!("unknown, because the self-test did not run: {error}"),
        },
    }
}

fn describe(report: &AdapterReport) -> String {
    let adapter = &report.adapter;
    let software = if adapter.is_software() { " (software)" } else { "" };
    let subgroups = match adapter.subgroup_sizes {
        None => "none".to_owned(),
        Some((minimum, maximum)) if minimum == maximum => format!("{minimum} invocations"),
        Some((minimum, maximum)) => format!("{minimum} to {maximum} invocations"),
    };
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    let matrices = match adapter.cooperative_matrix {
        None => "no cooperative matrices with f16 values and f32 sums".to_owned(),
        Some(size) => format!("matrices of {size} × {size}, with f16 values and f32 sums"),
    };
    if adapter.is_cpu() {
        let features = adapter.driver_info.as_str();
        return format!("{}: {}\n   {:<12} {features}\n", adapter.index, adapter.name, "native");
    }
    let rows = [
        ("type", format!("{}{software}", adapter.device_type)),
        ("backend", adapter.backend.clone()),
        ("driver", driver.trim().to_owned()),
        ("SHADER_F16", report.verdict.clone()),
        ("subgroups", subgroups),
        ("coop. matrix", matrices),
        ("buffer", format!("up to {}", BinaryBytes(adapter.max_buffer_bytes))),
        ("binding", format!("up to {}", BinaryBytes(adapter.max_binding_bytes))),
        (
            "workgroup",
            format!(
                "up to {} invocations with up to {} of shared memory",
                adapter.workgroup_invocations,
                BinaryBytes(u64::from(adapter.workgroup_memory_bytes))
            ),
        ),
    ];
    let mut block = format!("{}: {}\n", adapter.index, adapter.name);
    for (name, value) in rows {
        // Writing to a string cannot fail, so the result is ignored.
        let _ = writeln!(block, "   {name:<12} {value}");
    }
    block
}
