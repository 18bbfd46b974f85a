//! Defines the results of a run, which `--json` writes as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use vectile::gpu::shader::Lanes;
use vectile::kernels::matmul::{WeightShape, Work};
use vectile::kernels::{KernelPlan, attention};
use vectile::{AdapterSummary, Storage};

use crate::assembly::Counts;
use crate::gpus::Vendor;
use crate::work::Pipeline;

/// A run of the bench.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub vectile: String,
    /// The commit of the kernels, with `+` after it if files differ from the commit.
    pub commit: String,
    pub date: String,
    pub gpus: Vec<OfGpu>,
}

impl Report {
    /// The report as JSON, with a line for each pipeline.
    pub fn to_json(&self) -> String {
        let Report { vectile, commit, date, gpus } = self;
        let head = serde_json::json!({ "vectile": vectile, "commit": commit, "date": date });
        let mut text = head.to_string();
        text.pop();
        text.push_str(",\"gpus\":[");
        for (at, gpu) in gpus.iter().enumerate() {
            let alone = OfGpu { pipelines: Vec::new(), ..gpu.clone() };
            let mut head = serde_json::to_string(&alone).unwrap_or_default();
            // The text ends with an empty list of pipelines, which is the last field.
            head.truncate(head.len() - "]}".len());
            let lines =
                gpu.pipelines.iter().map(|one| serde_json::to_string(one).unwrap_or_default());
            let lines: Vec<String> = lines.collect();
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\n{head}\n{}]}}", lines.join(",\n"));
        }
        text + "]}\n"
    }
}

/// The pipelines of a GPU, or the reason why there are none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OfGpu {
    pub gpu: String,
    pub product: String,
    pub adapter: Option<AdapterSummary>,
    pub variants: Option<Variants>,
    pub problem: Option<String>,
    pub pipelines: Vec<OfPipeline>,
}

/// The variants that the library chooses for an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variants {
    /// The minimum size of a subgroup; `None` if kernels do not use subgroups.
    pub subgroup: Option<u32>,
    /// The variant of a matmul of many rows in f32, for example `tile 128x64`.
    pub matmul_f32: String,
    /// The same as `matmul_f32`, for f16 weights and activations; `None` without f16.
    pub matmul_f16: Option<String>,
    /// The kernel of attention with heads of 64 values in f32.
    pub attention_f32: String,
    /// The same as `attention_f32`, for f16 activations.
    pub attention_f16: Option<String>,
}

impl Variants {
    /// The variants that a plan chooses.
    pub fn of(plan: &KernelPlan, shader_f16: bool) -> Self {
        let matmul = |storage: Storage| {
            let weight = WeightShape { inner4: 1024, columns4: 1024 };
            let storages = (storage, storage);
            plan.matmul(&Work { storages, rows: 1 << 15, weight, experts: false }).name()
        };
        let attention = |storage| {
            match plan.attention(16, storage, false) {
                attention::Variant::Lane => "lane",
                attention::Variant::Tile(_) => "tile",
                attention::Variant::Cooperative { .. } => "cooperative",
            }
            .to_owned()
        };
        Variants {
            subgroup: match plan.lanes {
                Lanes::Alone => None,
                Lanes::Subgroup(size) => Some(size),
            },
            matmul_f32: matmul(Storage::F32),
            matmul_f16: shader_f16.then(|| matmul(Storage::F16)),
            attention_f32: attention(Storage::F32),
            attention_f16: shader_f16.then(|| attention(Storage::F16)),
        }
    }
}

/// The figures of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfPipeline {
    pub kernel: String,
    /// The variant, for example `cooperative 128x64` or `heads of 64`.
    pub form: String,
    /// The overrides that are not zero, for example `GATED`.
    pub branch: String,
    /// The storage types of weights and activations on which the WGSL source depends.
    pub storages: String,
    /// True if a model runs this variant without `vectile tune`.
    pub by_default: bool,
    /// The message of naga or of the driver, if the pipeline did not compile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(flatten)]
    pub figures: Figures,
}

impl OfPipeline {
    /// A pipeline without figures.
    pub fn of(pipeline: &Pipeline) -> Self {
        OfPipeline {
            kernel: pipeline.kernel.name.to_owned(),
            form: pipeline.form.clone(),
            branch: pipeline.branch.clone(),
            storages: pipeline.storages.clone(),
            by_default: pipeline.by_default,
            problem: None,
            figures: Figures::default(),
        }
    }

    /// Returns the name of the pipeline: the kernel with its variant, branch and storage types.
    pub fn name(&self) -> String {
        let parts = [&self.kernel, &self.form, &self.branch, &self.storages];
        let parts: Vec<&str> =
            parts.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }
}

/// The figures of a compiled pipeline. A figure that the driver does not report is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Vector registers of an invocation, each of 32 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registers: Option<u64>,
    /// Vector registers that are spilled to memory. On Adreno, the number of stores that spill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spills: Option<u64>,
    /// The number of subgroups that run at once on a SIMD unit (AMD), a multiprocessor (NVIDIA) or a core (Adreno). For
    /// Apple, the maximum number of invocations in a workgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<u64>,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_bytes: Option<u64>,
    pub compile_ms: f64,
    pub subgroup_size: u32,
    /// Counts of the assembly, for AMD and NVIDIA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

impl Figures {
    /// Fills the fields that have different names in different drivers.
    pub fn of(
        vendor: Vendor,
        statistics: &BTreeMap<String, f64>,
        workgroup_memory: u64,
    ) -> Figures {
        let get = |name: &str| statistics.get(name).map(|value| *value as u64);
        // The names of registers, spills to memory, occupancy and instructions. Registers that are spilled to other
        // registers do not count as spills.
        let [registers, spills, occupancy, instructions] = match vendor {
            Vendor::Amd => ["VGPRs", "Spilled VGPRs", "Subgroups per SIMD", "Instructions"],
            Vendor::Nvidia => {
                ["Number of GPRs", "Spills to memory", "Max warps/SM", "Instruction count"]
            }
            Vendor::Qualcomm => {
                ["Registers used", "STP Count", "Max Waves Per Core", "Instruction Count"]
            }
            Vendor::Apple => ["GPRs", "Spills", "Threads", "Instructions"],
        };
        let registers = get(registers).map(|count| match vendor {
            Vendor::Amd | Vendor::Nvidia => count,
            // Adreno's registers have four components of 32 bits, and Apple's have 16 bits.
            Vendor::Qualcomm => count * 4,
            Vendor::Apple => count.div_ceil(2),
        });
        Figures {
            registers,
            spills: get(spills),
            occupancy: get(occupancy),
            instructions: get(instructions),
            code_bytes: get("Code size"),
            workgroup_memory,
            ..Figures::default()
        }
    }
}
