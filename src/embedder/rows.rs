//! The rows of a batch as the device gave them.

use crate::batch::PackedBatch;
use crate::convert;
use crate::dtype::Storage;
use crate::embedder::run::Model;
use crate::gpu::executor::Outcome;
use crate::kernels::Activations;

/// A row for each text: of a model whose rows are the tokens', all of these one after the other.
#[derive(Debug, Default)]
pub(super) struct Rows {
    values: Vec<f32>,
    /// Where the row of each text ends.
    ends: Vec<usize>,
    /// Texts with an activation out of range or a value that is not finite.
    pub suspects: Vec<usize>,
}

impl Rows {
    /// Those in what a graph gave.
    pub fn of(model: &Model, batch: &PackedBatch, output: &Activations, outcome: &Outcome) -> Self {
        let filled = convert::decode(Storage::F32, &outcome.output);
        let by_token = model.config.kind.by_token();
        let width = output.width4 * 4;
        let mut rows = Rows::default();
        for (text, [first, tokens, _]) in batch.texts.iter().enumerate() {
            let tokens = *first as usize..(first + tokens) as usize;
            let own = if by_token { tokens.clone() } else { text..text + 1 };
            let start = rows.values.len();
            for row in filled[own.start * width..own.end * width].chunks_exact(width) {
                rows.values.extend_from_slice(&row[..model.dimension]);
            }
            let marked = outcome.overflowed[tokens].contains(&true);
            if marked || rows.values[start..].iter().any(|value| !value.is_finite()) {
                rows.suspects.push(text);
            }
            rows.ends.push(rows.values.len());
        }
        rows
    }

    /// The row of a text.
    pub fn row(&self, text: usize) -> &[f32] {
        &self.values[self.place(text)]
    }

    /// Puts the row of a text of another batch in the place of its row in this one.
    pub fn replace(&mut self, text: usize, row: &[f32]) {
        let place = self.place(text);
        self.values[place].copy_from_slice(row);
    }

    /// The rows, in the order of the texts.
    pub fn each(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.ends.len()).map(|text| self.row(text))
    }

    fn place(&self, text: usize) -> std::ops::Range<usize> {
        let start = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[text]
    }
}
