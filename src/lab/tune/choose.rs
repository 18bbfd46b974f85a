//! Chooses a variant for each shape and number of rows, from the measured times.

use serde::Serialize;

use super::timing::Times;
use crate::kernels::matmul::tuned::Choice;
use crate::kernels::matmul::{Variant, Work};

/// The maximum ratio of a variant's time to the time of the default variant. With a larger ratio, the variant does not
/// replace the default.
const WORTH: f64 = 0.95;

/// The times of all variants of the matmul, for one shape of weight matrix and one number of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuneCase {
    /// The number of values in a row of the input.
    pub inner: usize,
    /// The number of values in a row of the output.
    pub columns: usize,
    /// The number of rows of the input.
    pub rows: usize,
    /// The times of all variants, with the fastest variant first.
    pub variants: Vec<VariantTime>,
    /// The name of the variant that is used without tuning.
    pub untuned: String,
    /// The name of the variant that later loads use.
    pub chosen: String,
}

/// The time of one variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantTime {
    /// The name of the variant.
    pub variant: String,
    /// The median time of a dispatch over the runs, in milliseconds.
    pub ms: f64,
    /// The minimum and maximum time of a dispatch over the runs, in milliseconds.
    pub spread_ms: [f64; 2],
    /// The rate in 10⁹ floating-point operations per second.
    pub gflops: f64,
}

/// The measurements for one number of rows.
pub(super) struct RowTimes {
    pub work: Work,
    /// The variant that would be used without tuning if the device had no cooperative matrices.
    pub untuned_tiles: Variant,
    /// The variant that is used on this device without tuning.
    pub untuned: Variant,
    pub times: Vec<(Variant, Times)>,
}

impl RowTimes {
    /// Returns the fastest variant of the same kind as `untuned`, and the time of this variant in nanoseconds. If the
    /// fastest variant is only slightly faster than `untuned`, returns `untuned` instead.
    fn best(&self, untuned: Variant) -> (Variant, f64) {
        let own = self.times.iter().find(|(other, _)| *other == untuned).map(|(_, t)| t.median);
        let same_kind =
            self.times.iter().filter(|(variant, _)| is_matrices(*variant) == is_matrices(untuned));
        let fastest = same_kind.min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        match (own, fastest.map(|(variant, time)| (*variant, time.median))) {
            (Some(own), Some((variant, ns))) if ns < own * WORTH => (variant, ns),
            (Some(own), _) => (untuned, own),
            (None, Some((variant, ns))) => (variant, ns),
            (None, None) => (untuned, f64::INFINITY),
        }
    }

    fn choice(&self, rows: Option<usize>, variant: Variant) -> Choice {
        Choice {
            weights: self.work.storages.0.name().to_owned(),
            activations: self.work.storages.1.name().to_owned(),
            inner4: self.work.weight.inner4,
            columns4: self.work.weight.columns4,
            rows,
            variant: variant.name(),
        }
    }

    fn case(mut self, chosen: Variant) -> TuneCase {
        self.times.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let (inner, columns) = (self.work.weight.inner4 * 4, self.work.weight.columns4 * 4);
        let flops = (2 * self.work.rows * inner * columns) as f64;
        let time = |(variant, time): &(Variant, Times)| VariantTime {
            variant: variant.to_string(),
            ms: time.median / 1e6,
            spread_ms: [time.minimum / 1e6, time.maximum / 1e6],
            gflops: flops / time.median,
        };
        TuneCase {
            inner,
            columns,
            rows: self.work.rows,
            variants: self.times.iter().map(time).collect(),
            untuned: self.untuned.to_string(),
            chosen: chosen.to_string(),
        }
    }
}

fn is_matrices(variant: Variant) -> bool {
    variant.is_cooperative()
}

/// Returns the chosen variants for a shape, and adds a case for each number of rows to `cases`. The number of rows
/// selects only among bit-identical variants. Cooperative matrices round differently from other variants, so they are
/// used for all numbers of rows or for none. The times at the largest number of rows decide whether cooperative
/// matrices are used.
pub(super) fn choices(cases: &mut Vec<TuneCase>, timed: Vec<RowTimes>) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut uses_matrices = false;
    if let Some(largest) = timed.last().filter(|rows| is_matrices(rows.untuned)) {
        let (tile, tile_ns) = largest.best(largest.untuned_tiles);
        let (matrices, matrices_ns) = largest.best(largest.untuned);
        // Cooperative matrices are the choice without tuning, so tiles replace them only if tiles are clearly faster.
        uses_matrices = matrices_ns * WORTH <= tile_ns;
        choices.push(largest.choice(None, if uses_matrices { matrices } else { tile }));
    }
    for rows in timed {
        let untuned = if uses_matrices { rows.untuned } else { rows.untuned_tiles };
        let (chosen, _) = rows.best(untuned);
        choices.push(rows.choice(Some(rows.work.rows), chosen));
        cases.push(rows.case(chosen));
    }
    choices
}
