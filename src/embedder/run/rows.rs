//! Holds the rows of a batch after they are read back from the device.

use crate::batch::PackedBatch;
use crate::convert;
use crate::dtype::Storage;
use crate::embedder::model::Model;
use crate::error::Error;
use crate::gpu::executor::Outcome;
use crate::kernels::Activations;

/// The maximum allowed difference between a normalised row's length and 1. The limit is far above the rounding errors
/// of f32 (1e-6), and far below the difference that results if a kernel did not run.
const LENGTH_TOLERANCE: f64 = 1e-3;

/// The output rows of a batch, one for each text. If the model computes a row for each token, the row of a text is the
/// concatenation of the rows of its tokens.
#[derive(Debug, Default)]
pub(in crate::embedder) struct BatchRows {
    values: Vec<f32>,
    /// For each text, the index in `values` at which the text's row ends.
    ends: Vec<usize>,
    /// The indices of the texts with an activation beyond the range of its storage type, or with a value that is not
    /// finite.
    pub suspects: Vec<usize>,
}

impl BatchRows {
    /// Returns the rows that the result of a batch's graph contains.
    pub fn new(
        model: &Model,
        batch: &PackedBatch,
        output: &Activations,
        outcome: &Outcome,
    ) -> Self {
        let padded = convert::decode(Storage::F32, &outcome.output);
        let by_token = model.config.kind.by_token();
        let width = output.width4 * 4;
        let mut rows = BatchRows::default();
        for (text, span) in batch.texts.iter().enumerate() {
            let tokens = span.range();
            let own = if by_token { tokens.clone() } else { text..text + 1 };
            let start = rows.values.len();
            for row in padded[own.start * width..own.end * width].chunks_exact(width) {
                rows.values.extend_from_slice(&row[..model.dimension]);
            }
            let overflowed = outcome.overflowed[tokens].contains(&true);
            if overflowed || rows.values[start..].iter().any(|value| !value.is_finite()) {
                rows.suspects.push(text);
            }
            rows.ends.push(rows.values.len());
        }
        rows
    }

    /// Checks that rows have length one, for a model whose last module is Normalize. Texts that will be run again are
    /// not checked. If `zeros` is true, rows of zeros are accepted too.
    ///
    /// # Errors
    /// Returns [`Error::DeviceFault`] with the length of a row if this length is not one.
    pub fn check_length_one(
        &self,
        dimension: usize,
        zeros: bool,
        adapter: &str,
    ) -> Result<(), Error> {
        for text in (0..self.ends.len()).filter(|text| !self.suspects.contains(text)) {
            for row in self.row(text).chunks_exact(dimension.max(1)) {
                let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
                let length = squares.sqrt();
                // `contains` is false for NaN, so a row with NaN fails this check.
                let allowed = 1.0 - LENGTH_TOLERANCE..=1.0 + LENGTH_TOLERANCE;
                if !(allowed.contains(&length) || zeros && squares == 0.0) {
                    let problem = format!(
                        "the model returned a normalised vector with the length {length:.4} \
                         instead of 1, so the vector is discarded; update the driver or use \
                         another adapter"
                    );
                    return Err(Error::device_fault(adapter, problem));
                }
            }
        }
        Ok(())
    }

    /// Returns the row of a text.
    pub fn row(&self, text: usize) -> &[f32] {
        &self.values[self.range(text)]
    }

    /// Replaces the row of a text.
    pub fn replace(&mut self, text: usize, row: &[f32]) {
        let range = self.range(text);
        self.values[range].copy_from_slice(row);
    }

    /// Returns the rows, in the order of the texts.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.ends.len()).map(|text| self.row(text))
    }

    fn range(&self, text: usize) -> std::ops::Range<usize> {
        let start = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[text]
    }
}
