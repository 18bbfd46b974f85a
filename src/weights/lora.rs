//! Adapters of low rank that a checkpoint holds for tasks beside its own weights (Hu et al. 2021,
//! <https://arxiv.org/abs/2106.09685>), as torch's parametrizations name them: `x.weight` is then
//! `x.parametrizations.weight.original`, and `….weight.0.lora_A` and `lora_B` hold one pair a task.

use crate::error::Error;
use crate::weights::{TensorEntry, WeightFiles};

/// The adapter that is added to every matrix and table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lora {
    /// Which of the tasks.
    pub task: usize,
    /// Tasks that there are.
    pub tasks: usize,
    pub rank: usize,
    /// What the product of the pair is multiplied by.
    pub scale: f32,
}

/// One weight's pair for the task: `left` is `[rows, rank]`, `right` `[rank, width]`.
#[derive(Debug)]
pub(super) struct LoraPair {
    rank: usize,
    width: usize,
    scale: f32,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Lora {
    /// The pair of a weight under the name it has in the file. A table's are the other way round.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the weight has no pair, or one of another shape.
    pub(super) fn pair(
        &self,
        files: &WeightFiles,
        name: &str,
        entry: &TensorEntry,
        table: bool,
    ) -> Result<LoraPair, Error> {
        let &[rows, width] = &entry.shape[..] else {
            return Err(Error::tensor(files.file_of(entry), name, "is no matrix"));
        };
        let Some(base) = name.strip_suffix("original") else {
            let problem = "has no adapters for tasks, and others of the file have";
            return Err(Error::tensor(files.file_of(entry), name, problem));
        };
        let part = |part: &str, shape: [usize; 2]| {
            let (name, entry) = files.find(&format!("{base}0.{part}"))?;
            let expected = [self.tasks, shape[0], shape[1]];
            if entry.shape != expected {
                let problem = format!(
                    "has shape {:?} and {} calls for {expected:?}; they are of different models",
                    entry.shape,
                    files.config()
                );
                return Err(Error::tensor(files.file_of(entry), name, problem));
            }
            let count = shape[0] * shape[1];
            files.values(&name, entry, self.task * count, count)
        };
        let (left, right) = if table { ("lora_A", "lora_B") } else { ("lora_B", "lora_A") };
        Ok(LoraPair {
            rank: self.rank,
            width,
            scale: self.scale,
            left: part(left, [rows, self.rank])?,
            right: part(right, [self.rank, width])?,
        })
    }
}

impl LoraPair {
    /// Adds scale · left · right to rows of the weight, of which `first` is the first.
    pub fn add(&self, first: usize, values: &mut [f32]) {
        for (row, values) in values.chunks_exact_mut(self.width).enumerate() {
            let left = &self.left[(first + row) * self.rank..][..self.rank];
            for (column, value) in values.iter_mut().enumerate() {
                let product: f32 = left
                    .iter()
                    .enumerate()
                    .map(|(k, l)| l * self.right[k * self.width + column])
                    .sum();
                *value += product * self.scale;
            }
        }
    }
}
