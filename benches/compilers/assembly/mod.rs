//! Counts instructions in the assembly that a driver returns for a pipeline.

mod amd;
mod nvidia;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The unit that an instruction occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Multiplies matrices.
    Matrix,
    /// Multiplies and adds values of f32 or pairs of f16.
    Fma,
    /// Loads from workgroup memory.
    WorkgroupLoad,
    /// Stores to workgroup memory.
    WorkgroupStore,
    /// Reads or writes global or private memory.
    Global,
    /// Computes in vector registers.
    Vector,
    /// Computes in scalar registers, or loads into them.
    Scalar,
    Branch,
    Wait,
    Barrier,
    /// Hints to the scheduler, which take no time of their own.
    Hint,
}

/// The numbers of instructions of each kind in a piece of code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub matrix: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fma: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workgroup_loads: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workgroup_stores: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub global: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vector: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scalar: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub branches: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub barriers: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Mix {
    fn of(units: impl Iterator<Item = Unit>) -> Self {
        let mut mix = Mix::default();
        for unit in units {
            let count = match unit {
                Unit::Matrix => &mut mix.matrix,
                Unit::Fma => &mut mix.fma,
                Unit::WorkgroupLoad => &mut mix.workgroup_loads,
                Unit::WorkgroupStore => &mut mix.workgroup_stores,
                Unit::Global => &mut mix.global,
                Unit::Vector => &mut mix.vector,
                Unit::Scalar => &mut mix.scalar,
                Unit::Branch => &mut mix.branches,
                Unit::Wait => &mut mix.waits,
                Unit::Barrier => &mut mix.barriers,
                Unit::Hint => continue,
            };
            *count += 1;
        }
        mix
    }

    /// The number of issued instructions.
    pub fn issued(&self) -> u32 {
        let work = self.matrix + self.fma + self.vector + self.scalar;
        let memory = self.workgroup_loads + self.workgroup_stores + self.global;
        work + memory + self.branches + self.waits + self.barriers
    }

    /// Issued instructions for each matrix instruction; `None` without any.
    pub fn issued_per_matrix(&self) -> Option<f64> {
        (self.matrix > 0).then(|| f64::from(self.issued()) / f64::from(self.matrix))
    }

    /// The share of issued instructions that multiply and add; `None` if there are no such instructions.
    pub fn fma_share(&self) -> Option<f64> {
        (self.fma > 0).then(|| f64::from(self.fma) / f64::from(self.issued()))
    }

    /// FMA instructions for each load from workgroup memory; `None` if there are no such loads.
    pub fn fma_per_load(&self) -> Option<f64> {
        let both = self.fma > 0 && self.workgroup_loads > 0;
        both.then(|| f64::from(self.fma) / f64::from(self.workgroup_loads))
    }
}

/// The counts of a pipeline's code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// All instructions. Each instruction is counted once, even if it is in a loop.
    pub whole: Mix,
    /// The loop with the most matrix instructions, or else with the most FMA. An inner loop is counted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_loop: Option<Mix>,
    /// Issued instructions outside the main loop.
    pub outside: u32,
}

/// The counts of the assembly that RADV prints for AMD's GPUs; `None` if the text has no instructions.
pub fn of_amd(text: &str) -> Option<Counts> {
    amd::parse(text).counts()
}

/// The counts of the assembly that NVK prints for NVIDIA's GPUs; `None` if the text has no instructions.
pub fn of_nvidia(text: &str) -> Option<Counts> {
    nvidia::parse(text).counts()
}

/// The instructions of a program, and the sets of instructions that form its loops.
struct Code {
    units: Vec<Unit>,
    loops: Vec<BTreeSet<usize>>,
}

impl Code {
    fn counts(&self) -> Option<Counts> {
        if self.units.is_empty() {
            return None;
        }
        let whole = Mix::of(self.units.iter().copied());
        let mixes = self.loops.iter().map(|at| Mix::of(at.iter().map(|at| self.units[*at])));
        // Loops outside and inside the main loop may have the same matrix instructions; the smallest one counts.
        let main_loop = mixes
            .filter(|mix| mix.matrix > 0 || mix.fma > 8)
            .max_by_key(|mix| (mix.matrix, mix.fma, std::cmp::Reverse(mix.issued())));
        let outside = whole.issued() - main_loop.as_ref().map_or(0, Mix::issued);
        Some(Counts { whole, main_loop, outside })
    }
}
