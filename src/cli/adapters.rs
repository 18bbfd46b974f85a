//! `vectile adapters`: the GPU adapters of this machine and what they can do.

use std::fmt::Write;

use indicatif::BinaryBytes;
use serde::Serialize;
use vectile::{AdapterChoice, AdapterSummary, ShaderF16, block_on};

use super::args::AdaptersArgs;
use super::failure::Failure;
use super::inspect::to_json;
use super::table::Plain;
use super::{model, say};

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    adapter: AdapterSummary,
    /// `passed`, `absent`, `failed_self_test`, or why the test could not be run.
    shader_f16_verdict: serde_json::Value,
    #[serde(skip)]
    verdict: String,
}

pub fn run(args: &AdaptersArgs) -> Result<(), Failure> {
    let found: Vec<Found> = block_on(vectile::adapters()).into_iter().map(examine).collect();
    if found.is_empty() {
        say(format_args!(
            "no GPU adapter was found; install a driver for your GPU, or a software one (Debian: \
             mesa-vulkan-drivers)"
        ));
    }
    if args.json {
        return Plain::new().whole(&to_json(&found)?);
    }
    let blocks: Vec<String> = found.iter().map(describe).collect();
    match blocks.is_empty() {
        true => Ok(()),
        false => Plain::new().whole(&blocks.join("\n")),
    }
}

/// Runs the self-test of f16 in shaders on an adapter, or finds what it gave before.
fn examine(adapter: AdapterSummary) -> Found {
    let choice = AdapterChoice::Index(adapter.index);
    match block_on(vectile::check_shader_f16(&choice, model::cache_dir().as_deref())) {
        Ok(verdict) => Found {
            adapter,
            shader_f16_verdict: serde_json::to_value(verdict).unwrap_or_default(),
            verdict: match verdict {
                ShaderF16::Passed => "yes, self-test passed",
                ShaderF16::Absent => "no",
                ShaderF16::Disabled => "disabled",
                ShaderF16::FailedSelfTest => "not used: self-test FAILED (wrong answers)",
            }
            .to_owned(),
        },
        Err(error) => Found {
            adapter,
            shader_f16_verdict: serde_json::Value::String(error.to_string()),
            verdict: format!("not known: the self-test did not run: {error}"),
        },
    }
}

fn describe(found: &Found) -> String {
    let adapter = &found.adapter;
    let software = if adapter.is_software() { " (software)" } else { "" };
    let subgroups = match adapter.subgroup_sizes {
        None => "none".to_owned(),
        Some((least, most)) if least == most => format!("of {least}"),
        Some((least, most)) => format!("of {least} to {most}"),
    };
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    let matrices = match adapter.cooperative_matrix {
        None => "none of f16 with f32 sums".to_owned(),
        Some(side) => format!("of {side} × {side}, f16 with f32 sums"),
    };
    let rows = [
        ("type", format!("{}{software}", adapter.device_type)),
        ("backend", adapter.backend.clone()),
        ("driver", driver.trim().to_owned()),
        ("SHADER_F16", found.verdict.clone()),
        ("subgroups", subgroups),
        ("matrices", matrices),
        ("buffer", format!("up to {}", BinaryBytes(adapter.max_buffer_bytes))),
        ("binding", format!("up to {}", BinaryBytes(adapter.max_binding_bytes))),
        (
            "workgroup",
            format!(
                "up to {} invocations, {} of memory",
                adapter.workgroup_invocations,
                BinaryBytes(u64::from(adapter.workgroup_memory_bytes))
            ),
        ),
    ];
    let mut block = format!("{}: {}\n", adapter.index, adapter.name);
    for (name, value) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(block, "   {name:<11} {value}");
    }
    block
}
